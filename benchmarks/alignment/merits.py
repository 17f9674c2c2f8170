"""How good a method is, from its outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.alignment.outcomes import Outcome

Floats = np.ndarray[Any, np.dtype[np.float64]]

REFUSED = ("empty", "mover", "satellite", "half")
"""Kinds of cases that are not to be graded A or B."""
_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Merits:
    """Of one method over the fields that can be measured; pairs are (east, north)."""

    n: int
    """Fields that hold enough signal, and clusters."""
    n_usable: int
    """Of those, with an offset that would be used (graded A or B)."""
    n_wrong: int
    """Of all cases of any kind: used, and wrong by more than 0.2"."""
    n_all: int
    """Cases of any kind."""
    bias: tuple[float, float]
    """Mean of found minus true, arcsec."""
    scatter: tuple[float, float]
    """Standard deviation of it."""
    robust: tuple[float, float]
    """The same from the median absolute deviation: without the wrong ones."""
    over_limit: tuple[float, float]
    """Root mean square error over root mean square of the photon limit; clusters left out."""
    pulls: dict[str, tuple[float, float]]
    """Grade -> root mean square of error over stated error, wrong ones included."""
    cpu_s: float
    """Median processor time of a case."""

    @property
    def usable(self) -> float:
        """Share of the fields that are usable."""
        return self.n_usable / self.n if self.n else math.nan

    @property
    def wrong(self) -> float:
        """Share of all cases that are used and wrong."""
        return self.n_wrong / self.n_all if self.n_all else math.nan


def merits(outcomes: Sequence[Outcome]) -> Merits:
    """Sum up the outcomes of one method."""
    fields = [o for o in outcomes if can_be_measured(o)]
    used = [o for o in fields if o.is_usable]
    off = errors(used)
    sparse = [o for o in used if o.kind != "crowded"]
    limit = np.array([(o.east_limit, o.north_limit) for o in sparse]).reshape(-1, 2)
    return Merits(
        n=len(fields),
        n_usable=len(used),
        n_wrong=sum(o.is_wrong for o in outcomes),
        n_all=len(outcomes),
        bias=_pair(off.mean(axis=0)) if used else _NONE,
        scatter=_pair(off.std(axis=0)) if used else _NONE,
        robust=_pair(_TO_SIGMA * np.median(np.abs(off - np.median(off, axis=0)), axis=0))
        if used
        else _NONE,
        over_limit=_pair(_rms(errors(sparse)) / _rms(limit)) if sparse else _NONE,
        pulls={g: pulls([o for o in outcomes if o.grade == g]) for g in ("A", "B")},
        cpu_s=float(np.median([o.cpu_s for o in outcomes])) if outcomes else math.nan,
    )


_NONE = (math.nan, math.nan)


def can_be_measured(outcome: Outcome) -> bool:
    """Whether a usable offset is asked for."""
    return outcome.kind == "crowded" or (outcome.kind == "field" and outcome.holds_enough)


def errors(outcomes: Sequence[Outcome]) -> Floats:
    """Found minus true, float64 (outcome, axis), arcsec."""
    return np.array([o.off for o in outcomes]).reshape(-1, 2)


def pulls(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Root mean square of error over stated error, of each axis; NaN without stated errors."""
    stated = np.array([(o.east_error, o.north_error) for o in outcomes]).reshape(-1, 2)
    ratio = errors(outcomes) / stated
    ratio = ratio[np.isfinite(ratio).all(axis=1)]
    return _pair(_rms(ratio)) if len(ratio) else _NONE


def _rms(values: Floats) -> Floats:
    return np.asarray(np.sqrt(np.mean(values**2, axis=0)))


def _pair(values: Floats) -> tuple[float, float]:
    east, north = (float(value) for value in values)
    return east, north
