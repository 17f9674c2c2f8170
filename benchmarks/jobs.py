"""The words of the benchmarks: what is measured, and what a peer has to offer for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
CacheState = Literal["warm", "cold", "any"]


class UnavailableError(Exception):
    """A peer that cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class DataSpec:
    """Exposures to be made: their bytes follow from these values alone."""

    n_exposures: int
    """How many files."""
    n_channels: int
    """Wavelengths of each."""
    side: int = 320
    """Rows and columns of a frame."""
    geometry: Literal["shift", "turn", "diamond"] = "shift"
    """``shift``: north up, dithered by fractions of a pixel; ``turn``: the lattice itself turned
    by 37 degrees; ``diamond``: north up, the field turned by 45 degrees inside, NaN corners."""
    n_fields: int = 1
    """Pointings side by side, the exposures dealt out to them in turn."""
    content: Literal["noise", "flat", "empty"] = "noise"
    """``noise`` with holes and hits; ``flat``: flux 0, which takes no room, of variance 1;
    ``empty``: nothing but headers, which can be planned with and not stacked."""

    @property
    def n_voxels(self) -> int:
        """DATA voxels of all exposures."""
        return self.n_exposures * self.n_channels * self.side**2


@dataclass(frozen=True)
class Job:
    """One thing that is measured, in a process of its own."""

    case: str
    """What is compared: jobs of one case stand side by side."""
    peer: str
    """Who does it: a name of :data:`benchmarks.peers.PEERS`."""
    label: str
    """Its name in the case; the same as the peer unless a peer does several things."""
    data: DataSpec | None = None
    """Exposures that it works on."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the peer is told: slices, threads, resampling, methods... With ``once`` it is left out
    after the first round; a ``role`` is a name under which targets find it."""
    cache: CacheState = "warm"
    """State of the page cache of its files at the start; ``any`` where that says nothing."""

    def to_json(self) -> str:
        """The job as text, for its process and for the records."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that :meth:`to_json` wrote."""
        found = json.loads(text)
        data = found.pop("data")
        return cls(**found, data=None if data is None else DataSpec(**data))


@dataclass(frozen=True)
class Place:
    """Where a job finds its exposures and may write."""

    exposures: tuple[Path, ...]
    """The files of ``job.data``."""
    stores: Path
    """Folder of things that are made once and kept for later jobs."""
    scratch: Path
    """An empty folder that is removed after the job."""


@dataclass(frozen=True)
class Comparison:
    """How far a result is from the reference."""

    n_values: int
    """Values that were compared."""
    largest: float
    """Largest difference, in units of ``tolerance``; infinite where one has no value."""
    tolerance: str
    """What is allowed, in words."""
    against: str
    """What it was compared with."""

    @property
    def is_right(self) -> bool:
        """Whether the result may count."""
        return self.n_values > 0 and self.largest <= 1.0


@dataclass(frozen=True)
class Prepared:
    """A job that is ready: libraries are imported, nothing is computed yet."""

    run: Callable[[], Any]
    """What is timed."""
    compare: Callable[[Any], Comparison]
    """Look at what ``run`` gave."""
    n_voxels: int
    """Input DATA voxels that ``run`` works on."""
    files: tuple[Path, ...] = ()
    """Files whose pages are read beforehand, or dropped."""
    warm_up: Callable[[], object] | None = None
    """What compiles or loads compiled code; timed apart, as compilation."""
    metrics: Callable[[Any], Mapping[str, float]] = lambda _: {}
    """Further numbers out of what ``run`` gave."""


Prepare = Callable[[Job, Place], Prepared]
"""What a peer is: a function that imports what it needs and gets ready.

Raises :class:`UnavailableError` where it cannot run."""


def compare_values(
    found: Array, wanted: Array, *, rtol: float, atol: float, against: str
) -> Comparison:
    """Compare where the reference has a value; a missing or infinite value is infinitely wrong."""
    use = np.isfinite(wanted)
    found, wanted = np.asarray(found, float)[use], np.asarray(wanted, float)[use]
    with np.errstate(invalid="ignore"):
        off = np.abs(found - wanted) / (atol + rtol * np.abs(wanted))
    off[~np.isfinite(off)] = np.inf
    largest = float(off.max()) if off.size else np.inf
    return Comparison(int(use.sum()), largest, f"{atol:g} + {rtol:g} of the value", against)


def worst_of(*comparisons: Comparison) -> Comparison:
    """Several comparisons as one: the worst, with all values counted."""
    worst = max(comparisons, key=lambda c: c.largest if c.n_values else np.inf)
    n_values = sum(c.n_values for c in comparisons) if worst.n_values else 0
    return Comparison(n_values, worst.largest, worst.tolerance, worst.against)
