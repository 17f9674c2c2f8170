"""What a large build takes on a cluster, on paper: measured rates, and what a file system gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.ratios import Side, newest
from benchmarks.records import Record
from benchmarks.suites import BASE, MOST
from musedask.errors import MissingError


@dataclass(frozen=True)
class Rates:
    """What one core of the measured machine needs."""

    in_s: float
    """Processor seconds for an input voxel: reading, resampling, combining."""
    out_s: float
    """Processor seconds for a voxel of the grid: what does not grow with the exposures."""
    task_s: float
    """Wall seconds that the arrangement of a task takes, which nodes do not share."""
    read_share: float
    """Bytes read over bytes of the exposures."""
    start_s: float
    """Wall seconds until a worker's first task: imports and compiled code."""
    size: str
    """Of the runs that they come from."""


@dataclass(frozen=True)
class Cluster:
    """Nodes and a file system that they share."""

    cores: int
    """Of a node."""
    node_rate: float
    """Bytes a second that a node reads and writes."""
    system_rate: float
    """Bytes a second that the file system gives to all nodes together."""


@dataclass(frozen=True)
class Build:
    """A stack to be made."""

    name: str
    """What it is."""
    n_exposures: int
    """Cubes..."""
    n_pointings: int
    """... of so many fields."""
    n_channels: int = 3681
    """Of each."""
    side: int = 320
    """Of a frame."""
    n_values: int = 3
    """Statistics: each has flux, variance, number and time."""

    @property
    def n_voxels(self) -> int:
        """DATA voxels that go in."""
        return self.n_exposures * self.n_channels * self.side**2

    @property
    def voxels_out(self) -> int:
        """Of the grid, as far as fields cover it."""
        return self.n_pointings * self.n_channels * self.side**2

    @property
    def bytes_in(self) -> int:
        """DATA and STAT."""
        return 8 * self.n_voxels

    @property
    def bytes_out(self) -> int:
        """Of the store, without compression."""
        return 14 * self.n_values * self.voxels_out

    @property
    def n_tasks(self) -> int:
        """Blocks: a run of channels of a tile, which is about a field; see musedask's plan."""
        plane = 4 * (3 * self.n_values + 1) * self.side**2
        depth = min(64, 1 << int(math.log2(max(8, (192 << 20) // plane))))
        return self.n_pointings * -(-self.n_channels // depth)


COSMOS = Build("COSMOS, 295 exposures of 17 pointings", 295, 17)
LARGE = Build("ten times COSMOS", 2950, 170)
NODES = (1, 10, 100)


@dataclass(frozen=True)
class Duration:
    """How long a build takes, and what bounds it."""

    nodes: int
    """How many."""
    compute_s: float
    """If only processors counted."""
    files_s: float
    """If only reading and writing counted."""
    overhead_s: float
    """Start, and the arrangement of tasks."""

    @property
    def total_s(self) -> float:
        """Reading and computing go on at the same time; the rest does not."""
        return max(self.compute_s, self.files_s) + self.overhead_s

    @property
    def bound(self) -> str:
        """What to improve first."""
        parts = {"processors": self.compute_s, "file system": self.files_s,
                 "overhead": self.overhead_s}  # fmt: skip
        return max(parts, key=lambda name: parts[name])


def duration(build: Build, rates: Rates, cluster: Cluster, nodes: int) -> Duration:
    """Estimate a build; a task takes one core, so that no more cores than tasks are of use."""
    cores = min(nodes * cluster.cores, build.n_tasks)
    waves = math.ceil(build.n_tasks / cores) * cores / build.n_tasks  # the last one is not full
    traffic = build.bytes_in * rates.read_share + build.bytes_out
    rate = min(nodes * cluster.node_rate, cluster.system_rate)
    work = build.n_voxels * rates.in_s + build.voxels_out * rates.out_s
    return Duration(
        nodes, work / cores * waves, traffic / rate, rates.start_s + build.n_tasks * rates.task_s
    )


def measured_rates(records: Sequence[Record]) -> Rates:
    """The rates that a model needs, of the largest runs of scaling that there are.

    They are differences between a large and a small job, so that what a job
    takes whatever its size (a second or so) does not enter.

    Raises
    ------
    MissingError
        If scaling was not measured, or at the tiny size alone.
    """
    for size in ("full", "small"):  # times of the tiny size mean nothing
        own = newest([record for record in records if record.size == size])
        # More exposures on the same grid, then more channels of everything.
        in_s = _growth(own, "exposures", "cpu_s") / _growth(own, "exposures", "n_voxels")
        more_in = _growth(own, "wavelengths", "n_voxels")
        rest = _growth(own, "wavelengths", "cpu_s") - in_s * more_in
        out_s = rest / _growth(own, "wavelengths", "voxels_out")
        share = _growth(own, "wavelengths", "asked_read") / (8 * more_in)
        start = _middle(own, Side("scaling", "exposures", MOST, "start_s"))
        task = _task_overhead(own)
        if math.isfinite(in_s + out_s + share + start + task):
            return Rates(max(0.0, in_s), max(0.0, out_s), task, max(1.0, share), start, size)
    raise MissingError(
        "the model needs records of scaling of size small or full: run "
        "python -m benchmarks scaling first"
    )


def _growth(records: Sequence[Record], case: str, quantity: str) -> float:
    """By how much a quantity is more in the largest job of a series than in the base."""
    most, base = (_middle(records, Side("scaling", case, role, quantity)) for role in (MOST, BASE))
    return most - base if most != base else math.nan


def _middle(records: Sequence[Record], side: Side) -> float:
    values = sorted(side.by_round(records).values())
    return values[len(values) // 2] if values else math.nan


def _task_overhead(records: Sequence[Record]) -> float:
    """Wall time of planning and optimising for a block, at the most exposures."""
    parts = [
        _middle(records, Side("scaling", "graph", MOST, key))
        for key in ("plan_s", "optimise_s", "blocks")
    ]
    return (parts[0] + parts[1]) / parts[2] if parts[2] else math.nan


def estimate(rates: Rates, cluster: Cluster) -> str:
    """A Markdown table of what builds take on 1, 10 and 100 nodes, with what was assumed."""
    lines = [
        f"Rates of the {rates.size} runs: {rates.in_s * 1e9:.1f} cpu-s/Gvox that goes in and "
        f"{rates.out_s * 1e9:.1f} that comes out, "
        f"{rates.task_s * 1e3:.2f} ms a task, {rates.read_share:.2f} of the bytes read, "
        f"{rates.start_s:.1f} s to start. Nodes of {cluster.cores} cores, "
        f"{cluster.node_rate / 1e9:g} GB/s each, {cluster.system_rate / 1e9:g} GB/s for all.",
        "",
        "| build | nodes | time | processors | file system | overhead | bound by |",
        "|---|---|---|---|---|---|---|",
    ]
    for build in (COSMOS, LARGE):
        for nodes in NODES:
            found = duration(build, rates, cluster, nodes)
            parts = (found.total_s, found.compute_s, found.files_s, found.overhead_s)
            times = " | ".join(_in_words(seconds) for seconds in parts)
            lines.append(f"| {build.name} | {nodes} | {times} | {found.bound} |")
    share = COSMOS.bytes_in * rates.read_share + COSMOS.bytes_out
    full = cluster.system_rate / cluster.node_rate
    lines += [
        "",
        f"COSMOS reads and writes {share / 1e12:.2f} TB; from {full:.0f} nodes on the file system "
        "gives all that it has, and more nodes change nothing.",
    ]
    return "\n".join(lines)


def _in_words(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
