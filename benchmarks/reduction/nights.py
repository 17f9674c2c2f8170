"""What is reduced: nights of raw frames, and how far and with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class NightSpec:
    """Raw frames, and how they are reduced."""

    ifus: tuple[int, ...]
    """Detectors."""
    n_exposures: int
    """Of the sky, all of them of one field."""
    n_nights: int = 1
    """Over which they are spread; each has its calibrations and a standard star."""
    content: Literal["all", "headers"] = "all"
    """``headers``: files of full size that take no room, for planning alone."""
    last: str = ""
    """Stage at which the reduction ends; all if empty."""
    chain: Literal["whole", "short"] = "whole"
    """``short``: without twilights and profiles of lines, the sky subtracted as one spectrum."""
    recipes: Literal["all", "short", "quick"] = "all"
    """Parameters: the pipeline's; those of the demo, cut in wavelength; or a plain mean of
    biases."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> NightSpec:
        """The night of a job."""
        found = dict(options["night"])
        return cls(**{**found, "ifus": tuple(found["ifus"])})

    @property
    def n_jobs(self) -> int:
        """Calls of esorex for all stages, counted by hand.

        A night: a bias, a flat, a wavelength table and a profile of lines for each detector, a
        twilight, a standard star (a pixel table for each detector, and its response). An
        exposure: a pixel table for each detector, and a cube. All: an alignment.
        """
        each = 4 if self.chain == "whole" else 3
        twilight = int(self.chain == "whole")
        night = (each + 1) * len(self.ifus) + twilight + 1
        return self.n_nights * night + self.n_exposures * (len(self.ifus) + 1) + 1


def frames_of(night: Path) -> tuple[Path, ...]:
    """The files of a night: raw frames and static tables."""
    return tuple(p for part in ("raw", "static") for p in sorted((night / part).iterdir()))
