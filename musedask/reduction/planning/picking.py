"""One calibration for one frame: which one, why, or what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from musedask.reduction.frames import Frame
from musedask.reduction.planning.association import (
    ILLUM_WARM_C,
    Association,
    apart,
    best_illum,
    illum_reason,
)
from musedask.reduction.planning.choices import Choices, Chosen
from musedask.reduction.planning.sequences import ROLES, Sequence, role_of
from musedask.reduction.planning.static_tables import PAIR, StaticTables, epoch_of
from musedask.reduction.rules import Rule

WITHOUT_A_WORD = ("BADPIX_TABLE", "VIGNETTING_MASK", "TELLURIC_REGIONS")
"""Optional calibrations that nobody misses."""
ONLY_CHOSEN = ("SKY_MASK",)
"""Calibrations that are never looked for: they are for whom the user names."""
OLD_RESPONSE_DAYS = 30.0
"""A response may be of any date; that of one that is farther away is noted."""
_AS_ARCHIVE = "as the archive's association has it"
_ANY_IFUS = ("STD", "SKY")
"""Roles of calibrations that are for all IFUs, whichever they were made from."""


@dataclass(frozen=True)
class Pick:
    """A calibration that was found."""

    tag: str
    """Tag in the SOF."""
    source: Sequence | Frame
    """A sequence to reduce (or its product), or a static table."""
    reason: str
    """Why this one, as a line."""
    note: str = ""
    """What is odd about it; empty if nothing is."""


@dataclass(frozen=True)
class Lack:
    """A calibration that was not found."""

    tag: str
    """Tag in the SOF."""
    text: str
    """What is missing, and what there is instead."""
    optional: bool = False
    """Whether the frame can go without."""
    because: tuple[Lack, ...] = ()
    """What is missing for it, where its own raw frames are there."""

    @property
    def causes(self) -> tuple[Lack, ...]:
        """What really has to be added: itself, or what is missing for it."""
        if not self.because:
            return (self,)
        return tuple(dict.fromkeys(cause for lack in self.because for cause in lack.causes))


@dataclass(frozen=True)
class Taken:
    """All calibrations of one call."""

    picks: tuple[Pick, ...]
    """Those that were found."""
    missing: tuple[Lack, ...] = ()
    """Those that it cannot go without."""
    done_without: tuple[Lack, ...] = ()
    """Those that it goes without."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each was taken."""
        return tuple(pick.reason for pick in self.picks)

    def source(self, tag: str) -> Sequence | Frame | None:
        """What was found for a tag."""
        return next((pick.source for pick in self.picks if pick.tag == tag), None)


@dataclass(frozen=True)
class Shelf:
    """Everything that calibrations are picked from, and the user's wishes."""

    association: Association
    """Sequences and products."""
    tables: StaticTables
    """Static tables."""
    choices: Choices
    """What the user chose."""
    archive: Callable[[Sequence, str], tuple[str, ...]]
    """Names of files that the archive's association has for a frame and role."""
    windows: Callable[[Rule], float | None]
    """The window of a rule, days."""
    never_made: frozenset[str] = frozenset()
    """Roles that only products may play: nothing is made for them."""


def pick_table(
    shelf: Shelf, rule: Rule, user: Sequence, epoch: str | None = None
) -> Pick | Lack | None:
    """Pick a static table; None where the user wants none, or it is not to be looked for."""
    chosen = shelf.choices.find(user, rule.tag)
    if chosen is not None and not chosen.files:
        return _chosen_away(rule)
    if chosen is not None:
        table = chosen.files[0]
        if rule.tag in PAIR and epoch is not None and epoch_of(table) != epoch:
            return Lack(
                rule.tag,
                f"{table.name} was chosen, which is of another date than the GEOMETRY_TABLE: "
                "choose both",
            )
        return Pick(rule.tag, table, _reason(rule.tag, table.name, "chosen in musedask.toml"))
    if rule.tag in ONLY_CHOSEN:
        return None
    archives = _table_of_archive(shelf, rule, user, epoch)
    if archives is not None:
        return Pick(rule.tag, archives, _reason(rule.tag, archives.name, _AS_ARCHIVE))
    found, reason = shelf.tables.find(rule, user.first, epoch)
    if found is None:
        return Lack(rule.tag, reason, rule.optional)
    return Pick(rule.tag, found, _reason(rule.tag, found.name, reason))


def _table_of_archive(shelf: Shelf, rule: Rule, user: Sequence, epoch: str | None) -> Frame | None:
    """The table that the archive's association names, if it is there and fits.

    An astrometry has to be of the geometry's date, or that geometry the archive's choice too.
    """

    def named(tag: str) -> tuple[Frame, ...]:
        names = shelf.archive(user, tag)
        return shelf.tables.named(replace(rule, tag=tag), user.first, names)

    found = named(rule.tag)
    if rule.tag in PAIR and epoch is not None:
        (partner,) = set(PAIR) - {rule.tag}
        if all(epoch_of(table) != epoch for table in named(partner)):
            found = tuple(table for table in found if epoch_of(table) == epoch)
    return found[0] if found else None


def pick_sequence(
    shelf: Shelf,
    rule: Rule,
    user: Sequence,
    ifus: tuple[int, ...],
    missing_for: Callable[[Sequence], tuple[Lack, ...]],
) -> Pick | Lack | None:
    """Pick a calibration that is made from raw frames, or was already.

    Parameters
    ----------
    shelf
        What there is.
    rule
        What has to fit.
    user
        The frame (or sequence of frames) that it is for.
    ifus
        IFUs that it has to have.
    missing_for
        Says which calibrations a sequence lacks to be reduced itself.
    """
    role = role_of(rule.tag)
    chosen = shelf.choices.find(user, role)
    if chosen is not None and not chosen.files:
        return _chosen_away(rule)
    candidates, why = _candidates(shelf, rule, user, chosen)
    first: Lack | None = None
    for candidate in candidates:
        lack = _unfit(rule, user, candidate, ifus, missing_for)
        if lack is None:
            return _picked(rule, user.first, candidate, why, first)
        first = first or lack
    if first is not None:
        text = f"{_kind(rule, user.first, shelf)}; {first.text}"
        return replace(first, text=text, optional=rule.optional)
    return Lack(_name(rule), _nothing_near(shelf, rule, user.first, chosen), rule.optional)


def _unfit(
    rule: Rule,
    user: Sequence,
    candidate: Sequence,
    ifus: tuple[int, ...],
    missing_for: Callable[[Sequence], tuple[Lack, ...]],
) -> Lack | None:
    """Why a sequence cannot be taken; None if it can."""
    because: tuple[Lack, ...] = ()
    why = _misfit(rule, user, candidate, ifus)
    if not why:
        because = missing_for(candidate)
        why = "; ".join(dict.fromkeys(cause.text for lack in because for cause in lack.causes))
    if not why:
        return None
    return Lack(_name(rule), f"{candidate.label} cannot be used: {why}", because=because)


def _name(rule: Rule) -> str:
    """What a user has to add: raw frames, where it is made from such."""
    if rule.tag == "STD_TELLURIC":
        return rule.tag  # a STD that is near enough, where another may give the response
    return rule.raw or ROLES.get(rule.tag, rule.tag)


def _candidates(
    shelf: Shelf, rule: Rule, user: Sequence, chosen: Chosen | None
) -> tuple[Iterable[Sequence], str]:
    """Sequences to try, the best first, and why, where that is not the nearness in time."""
    role = role_of(rule.tag)
    if chosen is not None:
        names = [frame.name for frame in chosen.files]
        return shelf.association.holding(role, names, user.first), "chosen in musedask.toml"
    days = shelf.windows(rule)
    near = shelf.association.candidates(role, rule, user.first, days)
    if role in shelf.never_made:
        return (sequence for sequence in near if not sequence.is_raw), "nothing is made for it"
    if role == "ILLUM":
        near = iter(best_illum(near, user.first))
    of_archive = shelf.association.holding(role, shelf.archive(user, role), user.first)
    if of_archive:
        return of_archive, _AS_ARCHIVE
    return near, ""


def _misfit(rule: Rule, user: Sequence, candidate: Sequence, ifus: tuple[int, ...]) -> str:
    """Say why a sequence cannot serve, whoever chose it."""
    role, first = role_of(rule.tag), candidate.first
    if not candidate.is_raw and rule.tag not in candidate.tags:
        return f"it has no {rule.tag}"
    if rule.same_readout and first.readout not in ("", user.first.readout):
        return f"its read-out is {first.readout}, not {user.first.readout}"
    if rule.same_mode and role == "FLAT" and first.mode not in ("", user.first.mode):
        return f"its INS MODE is {first.mode}, not {user.first.mode}"
    if role not in _ANY_IFUS:
        absent = [str(ifu) for ifu in ifus if ifu not in candidate.ifus]
        if absent:
            return f"it has no IFU {', '.join(absent)}"
    return ""


def _picked(rule: Rule, user: Frame, source: Sequence, why: str, passed: Lack | None) -> Pick:
    note, role = _oddity(rule, user, source), role_of(rule.tag)
    reason = illum_reason(source.first, user) if role == "ILLUM" else apart(source.first, user)
    if not source.is_raw:
        reason += ", made already"
    parts = [reason, why, passed.text if passed else ""]
    return Pick(
        rule.tag, source, _reason(rule.tag, source.label, ", ".join(filter(None, parts))), note
    )


def _oddity(rule: Rule, user: Frame, source: Sequence) -> str:
    """What a user should know of a calibration that was taken; nothing if it is as it should be."""
    first, what = source.first, f"{user.name}: its {rule.tag} {source.label}"
    if rule.same_mode and first.mode not in ("", user.mode):
        return f"{what} is of INS MODE {first.mode}"
    warmer = abs(first.temperature_c - user.temperature_c)
    if rule.tag == "ILLUM" and warmer > ILLUM_WARM_C:
        return f"{what} is {warmer:.1f} degC away"
    if rule.tag == "STD_RESPONSE" and abs(first.mjd - user.mjd) > OLD_RESPONSE_DAYS:
        return f"{what} is {apart(first, user)}"
    if source.is_raw and 1 < len(source.frames) < first.template_size:
        n_frames = len(source.frames)
        return (
            f"{source.tag} {source.label}: {n_frames} of the {first.template_size} of its template"
        )
    return ""


def _reason(tag: str, label: str, why: str) -> str:
    return f"{tag} {label}: {why}"


def _chosen_away(rule: Rule) -> Lack | None:
    """Nothing, as the user wished; what cannot be done without is missing all the same."""
    if rule.optional:
        return None
    return Lack(rule.tag, f"no {rule.tag}, as musedask.toml has it ('none')")


def _kind(rule: Rule, user: Frame, shelf: Shelf) -> str:
    """Say what was looked for."""
    what = [user.mode] if rule.same_mode else []
    what += [user.readout] if rule.same_readout else []
    days = shelf.windows(rule)
    of = f" of {', '.join(what)}" if any(what) else ""
    within = "" if days is None else f" within {days:g} d"
    name = rule.tag if role_of(rule.tag) in shelf.never_made else _name(rule)
    return f"no {name}{of}{within}"


def _nothing_near(shelf: Shelf, rule: Rule, user: Frame, chosen: Chosen | None) -> str:
    if chosen is not None:
        return f"{chosen.choice.file} was chosen for {rule.tag}, but cannot be reduced"
    other, how = shelf.association.nearest_misfit(role_of(rule.tag), rule, user)
    found = f"; the nearest is {other.label}: {how}" if other else "; there is none at all"
    return _kind(rule, user, shelf) + found
