"""What has to be reached, as a table: each line says what is divided by what, and the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.ratios import Side, Spread, ratio
from benchmarks.records import Record
from benchmarks.suites import BASE, MOST, Case

MET, MISSED, UNKNOWN = "met", "not met", "not measured"


@dataclass(frozen=True)
class Target:
    """A figure that has to be reached."""

    text: str
    """In words."""
    kind: Literal["at least", "at most"]
    """Whether more or less is better."""
    limit: float
    """The figure."""
    above: Side
    """What is divided..."""
    below: Side | None = None
    """... and by what; None for a figure that stands alone."""
    unit: str = " x"
    """Of the figure."""

    def measured(self, records: Sequence[Record]) -> Spread:
        """Median and range over the rounds."""
        if self.below is None:
            return Spread.of(self.above.by_round(records).values())
        return ratio(self.above, self.below, records)

    def verdict(self, found: Spread) -> str:
        """Whether the median reaches the limit."""
        if math.isnan(found.middle):
            return UNKNOWN
        reached = (
            found.middle >= self.limit if self.kind == "at least" else found.middle <= self.limit
        )
        return MET if reached else MISSED


def _peer(label: str, quantity: str, case: str = "peers", benchmark: str = "stacking") -> Side:
    return Side(benchmark, case, label, quantity)


def _ours(quantity: str) -> Side:
    return _peer("musedask", quantity)


def _beside(text: str, limit: float, label: str, quantity: str) -> Target:
    return Target(text, "at least", limit, _peer(label, quantity), _ours(quantity))


def _within(text: str, limit: float, case: str, above: str, below: str, quantity: str) -> Target:
    return Target(
        text, "at most", limit, _peer(above, quantity, case), _peer(below, quantity, case)
    )


def _grown(text: str, limit: float, case: str, quantity: str) -> Target:
    above, below = (Side("scaling", case, role, quantity) for role in (MOST, BASE))
    return Target(text, "at most", limit, above, below)


TARGETS = (
    _beside("mpdaf CubeList.median, wall", 10, "mpdaf-median", "wall_per_gvox"),
    _beside("mpdaf CubeList.median, cpu", 6, "mpdaf-median", "cpu_per_gvox"),
    _beside("mpdaf CubeList.combine (MAD), wall", 12, "mpdaf-combine", "wall_per_gvox"),
    _beside("reproject_interp per slice + nanmedian, cpu", 250, "cosmos-interp", "cpu_per_gvox"),
    _beside("SWarp bilinear median per slice, cpu", 200, "swarp", "cpu_per_gvox"),
    _beside("xarray + Dask graph of the same, wall", 8, "xarray-dask", "wall_per_gvox"),
    _within("kernel alone against the warm floor, wall", 3, "peers", "musedask-kernel",
            "floor-read", "wall_s"),
    _within("end to end against the cold floor, wall", 1.3, "cold", "musedask", "floor-read",
            "wall_s"),
    Target("mpdaf Cube.write, wall for the same bytes", "at least", 10,
           Side("export", "export", "mpdaf-write", "wall_per_gbyte"),
           Side("export", "export", "musedask", "wall_per_gbyte")),
    Target("memory of the export", "at most", 0.5,
           Side("export", "whole", "musedask", "peak_gib"), unit=" GiB"),
    _within("rotation by 37 degrees against a pure shift, wall", 3, "ways", "turn exact",
            "shift exact", "wall_s"),
    *(
        _within(f"{way} against bilinear, {kind}, wall", 3, "ways", f"{kind} {way}",
                f"{kind} bilinear", "wall_s")
        for kind in ("shift", "turn")
        for way in ("lanczos3", "exact")
    ),
    _within("median, mean and clipped in one pass against median, wall", 1.6, "ways",
            "all three statistics", "shift exact", "wall_s"),
    _within("field turned by 45 degrees against upright, wall per valid voxel", 1.5, "ways",
            "field turned by 45 degrees", "shift exact", "wall_per_valid_gvox"),
    _grown("time per voxel, most exposures against 12, wall", 1.3, "exposures", "wall_per_gvox"),
    _grown("peak memory, most exposures against 12", 1.2, "exposures", "peak_rss"),
    _grown("peak memory, many channels against few", 1.2, "wavelengths", "peak_rss"),
    _grown("peak memory, many fields against one", 1.2, "area", "peak_rss"),
    Target("tasks, 100 exposures x 3681 channels of one field", "at most", 999,
           Side("scaling", "graph", "100 exposures", "tasks"), unit=""),
    _grown("tasks, most exposures against fewest", 1.01, "graph", "tasks"),
    Target("a spectrum out of the mega-cube", "at most", 100,
           Side("reading", "reading", "store", "spectrum_ms"), unit=" ms"),
    Target("a slice out of the mega-cube", "at most", 100,
           Side("reading", "reading", "store", "slice_ms"), unit=" ms"),
    Target("a shell script of the same recipes, cpu of one worker", "at most", 1.15,
           Side("reduction", "cascade", "musedask, 1 worker", "cpu_s"),
           Side("reduction", "cascade", "esorex-script", "cpu_s")),
    Target("a second reduction, nothing to do", "at most", 5,
           Side("reduction", "again", "musedask", "wall_s"), unit=" s"),
    Target("planning 100 exposures of 24 detectors from headers", "at most", 15,
           Side("reduction", "plan", "musedask", "wall_s"), unit=" s"),
)  # fmt: skip
"""In the order in which they are told."""


def once_without_target(benchmark: str, cases: Sequence[Case]) -> tuple[Case, ...]:
    """The same cases, each job whose time is held to no target in the first round alone.

    Numbers of tasks are the same in each round, and peaks of memory nearly so.
    """
    times = {
        side
        for target in TARGETS
        for side in (target.above, target.below)
        if side is not None and side.is_a_time
    }
    return tuple(
        tuple(
            job
            if any(side.is_of(benchmark, job) for side in times)
            else replace(job, options={**job.options, "once": True})
            for job in case
        )
        for case in cases
    )
