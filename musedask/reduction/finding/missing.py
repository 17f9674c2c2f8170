"""What frames lack for a reduction, by the windows and matches of the association's rules."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from musedask.reduction.frames import Frame, FrameList
from musedask.reduction.planning.sequences import product_sequences, raw_sequences, role_of
from musedask.reduction.rules import FRAMES_NEEDED, RULES, USER_OF, Rule

STEPS: Mapping[str, tuple[str, ...]] = {
    "FLAT": ("flat",),
    "ARC": ("wavecal",),
    "SKYFLAT": ("twilight",),
    "STD": ("std", "standard"),
    "SKY": ("sky", "create_sky"),
    "OBJECT": ("science", "scipost"),
}
"""Raw tag -> the users among the rules whose needs its frames have."""
CONSEQUENCES: Mapping[str, str] = {
    "ILLUM": "the slices' illumination is not corrected for the temperature",
    "TWILIGHT_CUBE": "the field's illumination is not corrected",
    "VIGNETTING_MASK": "the corner of the field stays vignetted",
    "FILTER_LIST": "there are images in white light only",
    "RAMAN_LINES": "the laser's Raman lines stay",
}
"""Optional calibration whose lack is worth a line -> what happens without it."""
_SOURCES: Mapping[str, tuple[str, ...]] = {"LSF_PROFILE": ("LSF_PROFILE", "ARC_LSF", "ARC")}
"""Calibration -> roles that can give it, where that is not only its own."""


@dataclass(frozen=True)
class Lack:
    """A calibration that frames need or could use, and that is not there."""

    tag: str
    """Tag of the calibration in a SOF."""
    wanted: str
    """What would do, in words."""
    users: tuple[tuple[str, int], ...]
    """Tags of the frames that want it, and how many there are of each."""
    nights: tuple[str, ...]
    """Their nights."""
    nearest_days: float = math.inf
    """How far away the nearest one is that would do but for its date; infinite if none is."""
    consequence: str = ""
    """What happens without it; empty where nothing goes without it."""

    def __str__(self) -> str:
        away = self.nearest_days
        near = f" (the nearest is {away:.1f} days away)" if math.isfinite(away) else ""
        users = ", ".join(f"{n} {tag}" for tag, n in self.users)
        end = f": {self.consequence}" if self.consequence else ""
        return f"no {self.wanted}{near} for {users}{_nights(self.nights)}{end}"


def _nights(nights: tuple[str, ...]) -> str:
    """Nights in words: each of a few, the first and the last of many."""
    if not nights:
        return ""
    if len(nights) <= 3:
        return f" of {', '.join(nights)}"
    return f" of {len(nights)} nights ({nights[0]} to {nights[-1]})"


def lacks(frames: FrameList) -> tuple[tuple[Lack, ...], tuple[str, ...]]:
    """Find what a reduction of frames would miss.

    Returns
    -------
    lacks
        What is needed first, then what is optional.
    notes
        Sequences that cannot be used, and why: two biases, arcs without one lamp.
    """
    sequences, notes = raw_sequences(frames)
    there: dict[str, list[Frame]] = defaultdict(list)
    for sequence in (*sequences, *product_sequences(frames)):
        there[sequence.role].append(sequence.first)
    for frame in frames.of_kind("static", "product"):
        if role_of(frame.tag) == frame.tag:
            there[frame.tag].append(frame)
    wanting: dict[tuple[Rule, str], list[tuple[Frame, int]]] = defaultdict(list)
    for user, n_frames in _users(frames):
        for rule in {rule: None for step in STEPS[user.tag] for rule in RULES[step]}:
            if _is_missing(rule, user, there):
                wanting[rule, _wanted(rule, user)].append((user, n_frames))
    found = [
        _lack(rule, wanted, users, _candidates(rule, there))
        for (rule, wanted), users in wanting.items()
    ]
    return tuple(sorted(found, key=lambda lack: (bool(lack.consequence), lack.wanted))), notes


def _lack(rule: Rule, wanted: str, users: list[tuple[Frame, int]], candidates: list[Frame]) -> Lack:
    counted: Counter[str] = Counter()
    for user, n_frames in users:
        counted[user.tag] += n_frames
    away = [
        abs(user.mjd - one.mjd)
        for user, _ in users
        for one in candidates
        if rule.days is not None and rule.fits(user, one, math.inf)
    ]
    nights = {user.night for user, _ in users} - {""}
    return Lack(
        rule.tag,
        wanted,
        tuple(sorted(counted.items())),
        tuple(sorted(nights)),
        min(away, default=math.inf),
        CONSEQUENCES.get(rule.tag, ""),
    )


def _users(frames: FrameList) -> Iterable[tuple[Frame, int]]:
    """The first frame of each template of a mode and read-out, and how many it stands for."""
    groups: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
    for frame in frames.of_tag(*STEPS):
        if frame.kind == "raw" and frame.tag in USER_OF:
            start = frame.template_start or frame.date_obs
            groups[frame.tag, start, frame.mode, frame.readout].append(frame)
    return [(group[0], len(group)) for group in groups.values()]


def _candidates(rule: Rule, there: Mapping[str, list[Frame]]) -> list[Frame]:
    roles = _SOURCES.get(rule.tag, (role_of(rule.tag),))
    return [frame for role in roles for frame in there.get(role, ())]


def _is_missing(rule: Rule, user: Frame, there: Mapping[str, list[Frame]]) -> bool:
    if (rule.optional and rule.tag not in CONSEQUENCES) or not rule.concerns(user):
        return False
    if rule.tag == "TRACE_TABLE":
        return False  # comes with the MASTER_FLAT, which is missed already
    return not any(rule.fits(user, one) for one in _candidates(rule, there))


def _wanted(rule: Rule, user: Frame) -> str:
    """What would do: ``BIAS (3 or more, SCI1.0) within 3 days``."""
    raw, words = rule.raw, []
    if FRAMES_NEEDED.get(raw, 1) > 1:
        words.append("3 or more")
    words += [user.mode] if rule.same_mode and user.mode else []
    words += [user.readout] if rule.same_readout and user.readout else []
    words += [user.optics] if rule.same_optics and user.optics else []
    if raw and rule.tag not in (raw, f"MASTER_{raw}"):
        words.append(f"or {rule.tag}")
    text = (raw or rule.tag) + (f" ({', '.join(words)})" if words else "")
    if rule.days is None:
        return text
    return f"{text} within {rule.days:g} day{'' if rule.days == 1 else 's'}"
