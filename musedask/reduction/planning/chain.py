"""The state of a plan in the making, and the jobs of calibrations in it.

Jobs are made because something needs them: a calibration that no science frame
takes is not reduced. Each is made once, whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from musedask.config import ReductionConfig
from musedask.reduction.frames import Frame
from musedask.reduction.jobs import Job
from musedask.reduction.planning.picking import (
    WITHOUT_A_WORD,
    Lack,
    Pick,
    Shelf,
    Taken,
    pick_sequence,
    pick_table,
)
from musedask.reduction.planning.sequences import FIRST_IFU, ROLES, Sequence, role_of
from musedask.reduction.planning.static_tables import PAIR, epoch_of
from musedask.reduction.recipes import RECIPES, Recipe, parameters_for
from musedask.reduction.rules import RULES, USER_OF, Rule

T = TypeVar("T")
STEPS: Mapping[str, tuple[str, str]] = {
    "BIAS": ("muse_bias", "bias"),
    "DARK": ("muse_dark", "dark"),
    "FLAT": ("muse_flat", "flat"),
    "ARC": ("muse_wavecal", "wavecal"),
    "LSF_PROFILE": ("muse_lsf", "lsf"),
    "SKYFLAT": ("muse_twilight", "twilight"),
}
"""Role -> recipe and user among the rules, of calibrations that a single job makes."""
AFTER_BASIC: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "STD": ("muse_standard", "standard", ("FILTER_LIST",)),
    "SKY": ("muse_create_sky", "create_sky", ("SKY_CONTINUUM",)),
}
"""Role -> recipe that follows muse_scibasic, its user among the rules, and what it is not given."""
SKY_RULE = Rule("SKY_CONTINUUM", 1.0, same_mode=True)
"""A sky that was observed apart: the sky of another night is another sky."""
_MADE = frozenset(ROLES) | {"ILLUM"}


@dataclass(eq=False)
class Chain:
    """Jobs and notes so far, and what they are made from."""

    config: ReductionConfig
    """The configuration."""
    shelf: Shelf
    """All calibrations."""
    version: str = ""
    """Version of the pipeline."""
    jobs: dict[str, Job] = field(default_factory=dict)
    """Key -> job, in the order in which they were asked for."""
    notes: dict[str, None] = field(default_factory=dict)
    """What a user should know, each once."""
    without: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Tag and text of an optional calibration that is missing -> who goes without."""
    _once: dict[tuple[object, ...], object] = field(default_factory=dict)

    def once(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """Give what ``make`` gave the first time that it was asked for under this key."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]  # type: ignore[return-value]

    def add(self, job: Job) -> Job:
        """Take a job into the plan."""
        return self.jobs.setdefault(job.key, job)

    def ifus(self, sequence: Sequence) -> tuple[int, ...]:
        """IFUs of a sequence that are to be reduced."""
        wanted = set(self.config.ifus or sequence.ifus)
        if self.config.twilight and sequence.role in STEPS:
            wanted.add(FIRST_IFU)
        return tuple(ifu for ifu in sequence.ifus if ifu in wanted)

    def wants(self, tag: str) -> bool:
        """Whether the configuration uses this calibration at all."""
        switches = {"MASTER_DARK": "dark", "TWILIGHT_CUBE": "twilight", "ILLUM": "illum"}
        return tag not in switches or bool(getattr(self.config, switches[tag]))

    def parameters(self, recipe: Recipe, **planned: str) -> tuple[tuple[str, str], ...]:
        """Parameters of a job: the plan's, the user's and the chain's own."""
        return parameters_for(recipe, self.config.parameters_of(recipe.name), planned)

    def remember(self, user: Sequence, taken: Taken) -> None:
        """Note what is odd about the calibrations of something that is reduced."""
        for pick in taken.picks:
            if pick.note:
                self.notes[pick.note] = None
        for lack in taken.done_without:
            if lack.tag not in WITHOUT_A_WORD:
                names = self.without.setdefault((lack.tag, lack.text), [])
                name = f"{user.tag} {user.label}"
                if name not in names:
                    names.append(name)


def take(
    chain: Chain,
    recipe: Recipe,
    rules: Iterable[Rule],
    user: Sequence,
    ifus: tuple[int, ...],
    geometry: Frame | None = None,
) -> Taken:
    """Find all calibrations of one call, or say which are missing.

    Parameters
    ----------
    chain
        The plan in the making.
    recipe
        The recipe that is called; its order of tags is that of the SOF.
    rules
        What it takes: rules for other tags are passed over.
    user
        The frames that it works on.
    ifus
        IFUs that it works on.
    geometry
        The GEOMETRY_TABLE that has to be used, or to which the astrometry belongs.
    """
    by_tag = {rule.tag: rule for rule in rules}
    picks: list[Pick] = []
    lacks: list[Lack] = []
    for tag in recipe.takes:
        rule = by_tag.get(tag)
        if rule is None or not chain.wants(tag) or not rule.concerns(user.first):
            continue
        if tag == "GEOMETRY_TABLE" and geometry is not None:
            picks.append(Pick(tag, geometry, f"{tag} {geometry.name}: that of the science frames"))
            continue
        found = _pick(chain, rule, user, ifus, picks, geometry)
        if isinstance(found, Pick):
            picks.append(found)
        elif found is not None:
            lacks.append(found)
    free = [lack for lack in lacks if lack.optional or _dispensed(chain, recipe, lack)]
    return Taken(tuple(picks), tuple(x for x in lacks if x not in free), tuple(free))


def _pick(
    chain: Chain,
    rule: Rule,
    user: Sequence,
    ifus: tuple[int, ...],
    picks: list[Pick],
    geometry: Frame | None,
) -> Pick | Lack | None:
    if rule.tag not in _MADE:
        epoch = epoch_of(geometry) if rule.tag in PAIR and geometry is not None else None
        return pick_table(chain.shelf, rule, user, epoch)
    role = role_of(rule.tag)
    if role == "SKYFLAT":
        # Its cube is for the geometry of whoever takes it.
        found = next((pick.source for pick in picks if pick.tag == "GEOMETRY_TABLE"), None)
        geometry = found if isinstance(found, Frame) else None
    return pick_sequence(
        chain.shelf, rule, user, ifus, lambda found: missing_for(chain, role, found, geometry)
    )


def _dispensed(chain: Chain, recipe: Recipe, lack: Lack) -> bool:
    allowed = {role_of(tag) for tag in chain.config.allow_missing}
    dispensable = {role_of(tag) for tag in recipe.dispensable}
    return role_of(lack.tag) in dispensable & allowed


def missing_for(
    chain: Chain, role: str, sequence: Sequence, geometry: Frame | None
) -> tuple[Lack, ...]:
    """What a sequence lacks to be reduced; nothing if it can be, or was already."""
    if not sequence.is_raw or role == "ILLUM":
        return ()
    if role in AFTER_BASIC:
        taken = [basic_calibrations(chain, sequence), later_calibrations(chain, sequence)]
    else:
        taken = [calibrations(chain, role, sequence, geometry)]
    return tuple(lack for one in taken for lack in one.missing)


def calibrations(
    chain: Chain, role: str, sequence: Sequence, geometry: Frame | None = None
) -> Taken:
    """What the reduction of raw calibrations takes itself."""
    name, user = STEPS[role]
    key = ("calibrations", role, sequence, geometry and geometry.path)
    ifus = chain.ifus(sequence)
    return chain.once(
        key, lambda: take(chain, RECIPES[name], RULES[user], sequence, ifus, geometry)
    )


def basic_calibrations(chain: Chain, exposure: Sequence) -> Taken:
    """What muse_scibasic of an exposure (OBJECT, SKY, STD) takes."""
    rules, ifus = RULES[USER_OF[exposure.tag]], chain.ifus(exposure)
    recipe = RECIPES["muse_scibasic"]
    return chain.once(("basic", exposure), lambda: take(chain, recipe, rules, exposure, ifus))


def later_calibrations(chain: Chain, exposure: Sequence) -> Taken:
    """What muse_standard or muse_create_sky takes, after muse_scibasic of a STD or SKY."""
    name, user, unused = AFTER_BASIC[exposure.tag]
    rules = [rule for rule in RULES[user] if rule.tag not in unused]
    ifus = chain.ifus(exposure)
    return chain.once(
        ("later", exposure), lambda: take(chain, RECIPES[name], rules, exposure, ifus)
    )
