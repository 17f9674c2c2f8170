"""The exposures that a configuration asks for."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence

from musedask.config import ReductionConfig
from musedask.errors import InputError
from musedask.offsets import date_key
from musedask.reduction.frames import Frame
from musedask.reduction.planning.sequences import time_order

EXPOSURES = ("OBJECT", "SKY", "STD")
"""Tags of the frames that are told apart by DATE-OBS throughout the chain."""


def science_frames(
    frames: Iterable[Frame], config: ReductionConfig, tag: str = "OBJECT"
) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """Pick the exposures to reduce.

    Parameters
    ----------
    frames
        All frames.
    config
        Says which modes and targets.
    tag
        ``OBJECT``, or ``SKY``.

    Returns
    -------
    exposures
        In order of time.
    notes
        How many were left out, and why.

    Raises
    ------
    InputError
        If there is none, an exposure has no date, or two have the same.
    """
    known = sorted((f for f in frames if f.kind == "raw" and f.tag == tag), key=time_order)
    chosen, notes = known, []
    for key, wanted in (("mode", config.modes), ("target", config.targets)):
        if wanted:
            others = Counter(getattr(f, key) for f in chosen if getattr(f, key) not in wanted)
            notes += [
                f"{_frames(number)} of {tag} left out: {key} {value or 'unknown'} is not asked for"
                for value, number in sorted(others.items())
            ]
            chosen = [f for f in chosen if getattr(f, key) in wanted]
    if not chosen and tag == "OBJECT":
        raise InputError(_none_left(known, config))
    return tuple(chosen), tuple(notes)


def check_dates(frames: Iterable[Frame]) -> None:
    """Complain of exposures that the chain could not tell apart.

    Raises
    ------
    InputError
        If an exposure has no DATE-OBS or MJD-OBS, or two have one DATE-OBS.
    """
    seen: dict[str, Frame] = {}
    for frame in sorted((f for f in frames if f.tag in EXPOSURES), key=lambda f: f.path):
        if frame.kind != "raw":
            continue
        if not frame.date_obs or frame.mjd != frame.mjd:
            raise InputError(
                f"{frame.path}: this {frame.tag} has no DATE-OBS or MJD-OBS, by which it is "
                "known; get the file again, or take it away"
            )
        other = seen.setdefault(date_key(frame.date_obs), frame)
        if other is not frame:
            raise InputError(
                f"{other.path} and {frame.path} have one DATE-OBS, {frame.date_obs}: the pipeline "
                "would take one of them only; remove the copy"
            )


def _none_left(known: Sequence[Frame], config: ReductionConfig) -> str:
    if not known:
        return "no science frame: none of the raw frames is an OBJECT; check [reduction] raw"
    for key, wanted in (("mode", config.modes), ("target", config.targets)):
        there = sorted({getattr(frame, key) for frame in known})
        if wanted and not set(wanted) & set(there):
            near = difflib.get_close_matches(wanted[0], there, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
            return f"[reduction] {key}s = {list(wanted)}: no OBJECT has such a {key}; {hint}"
    return (
        f"[reduction] modes = {list(config.modes)}, targets = {list(config.targets)}: none of the "
        f"{len(known)} OBJECTs has both"
    )


def _frames(number: int) -> str:
    return f"{number} frame" + ("s" if number != 1 else "")
