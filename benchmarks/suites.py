"""What each benchmark consists of, at each size: cases, in which jobs are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.exposures import REACH_PIX
from benchmarks.jobs import CacheState, DataSpec, Job

Size = Literal["tiny", "small", "full"]
SIZES: tuple[Size, ...] = ("tiny", "small", "full")
BASE, MOST = "base", "most"
"""Roles of jobs: the first and the last of a series."""
THREE = ("median", "mean", "clipped")
_STORED_BYTES = 14
"""Of a voxel in a store or its export: flux, variance, number and time."""


@dataclass(frozen=True)
class Dimensions:
    """How large things are at a size."""

    exposures: DataSpec
    """What musedask stacks beside its peers."""
    peer_channels: int
    """Channels of what slow peers stack, whose time per voxel is compared."""
    variants: int
    """Channels of what is stacked in several ways."""
    whole: DataSpec
    """What is read from a cold disk."""
    diamond_side: int
    """Side of a frame that holds the field turned by 45 degrees."""
    slices: int
    """Channels for peers that go slice by slice."""
    series: tuple[int, ...]
    """Numbers of exposures..."""
    series_channels: int
    """... and their channels."""
    wavelengths: tuple[int, int]
    """Few and many channels."""
    fields: tuple[int, ...]
    """Numbers of pointings."""
    planned: tuple[int, ...]
    """Numbers of exposures of full geometry that are planned, not computed."""
    planned_shape: tuple[int, int]
    """Their channels and side."""
    flat: int
    """Exposures of hardly any pixels and all channels, for the overhead of tasks."""
    export_channels: int
    """Of the mega-cube that is exported by all peers."""
    reading_channels: int
    """Of the mega-cube that is read, and exported by musedask alone."""
    side: int
    """Of a frame of a mega-cube."""
    table_channels: int
    """Of a pixel table."""


DIMENSIONS: Mapping[Size, Dimensions] = {
    "tiny": Dimensions(
        DataSpec(6, 12, 40), 8, 8, DataSpec(3, 16, 40), 56, 1, (3, 6), 8, (8, 16), (1, 2), (5, 10),
        (64, 24), 5, 16, 24, 40, 10,
    ),
    "small": Dimensions(
        DataSpec(12, 512, 320), 128, 128, DataSpec(12, 512, 320), 450, 1, (6, 12, 24, 48), 16,
        (128, 384), (1, 4), (10, 100), (3681, 320), 100, 512, 512, 320, 8,
    ),
    "full": Dimensions(
        DataSpec(12, 1536, 320), 256, 256, DataSpec(12, 3681, 320), 450, 4, (6, 12, 24, 48, 96), 64,
        (400, 3681), (1, 4, 9), (10, 100, 1000), (3681, 320), 1000, 1000, 3681, 320, 100,
    ),
}  # fmt: skip

Case = tuple[Job, ...]


def _job(
    case: str, label: str, peer: str, data: DataSpec | None = None, cache: CacheState = "warm",
    **options: Any,
) -> Job:  # fmt: skip
    return Job(case, peer, label, data, options, cache)


def stacking(size: Size) -> tuple[Case, ...]:
    """Exposures into a stack, beside all peers and the floors; ways of resampling; statistics."""
    d = DIMENSIONS[size]
    upright = replace(d.exposures, n_channels=d.variants)
    turned = replace(upright, geometry="turn")
    diamond = replace(upright, geometry="diamond", side=d.diamond_side)
    kinds = [("shift", upright), ("turn", turned)]
    fewer = replace(d.exposures, n_channels=d.peer_channels)
    fast = ("musedask", "musedask-kernel", "floor-read")
    slow = (
        "xarray-dask", "mpdaf-median", "mpdaf-combine", "mpdaf-pycombine", "cosmos-interp",
        "cosmos-adaptive", "reproject-coadd", "swarp", "reference",
    )  # fmt: skip
    return (
        (
            *(_job("peers", peer, peer, d.exposures) for peer in fast),
            *(_job("peers", peer, peer, fewer, slices=d.slices) for peer in slow),
        ),
        (
            _job("cold", "musedask", "musedask", d.whole, "cold"),
            _job("cold", "floor-read", "floor-read", d.whole, "cold"),
        ),
        (
            *(
                _job("ways", f"{kind} {way}", "musedask", data, resampling=way)
                for kind, data in kinds
                for way in ("exact", "bilinear", "lanczos3")
            ),
            _job("ways", "all three statistics", "musedask", upright, methods=THREE),
            _job("ways", "field turned by 45 degrees", "musedask", diamond),
        ),
        tuple(
            _job("compilation", label, "musedask-compilation", upright, "any", filled=filled)
            for label, filled in (("no cache", False), ("cache", True))
            if filled or size != "small"  # it takes most of a minute
        ),
        tuple(
            _job("pipeline", f"{n} exposures", "esorex-combine", exposures=n, role=role,
                 channels=d.table_channels, side=d.side)
            for n, role in ((2, BASE), (6, MOST))
        ),
    )  # fmt: skip


def export(size: Size) -> tuple[Case, ...]:
    """A mega-cube into a FITS file."""
    d = DIMENSIONS[size]
    same: dict[str, Any] = {"channels": d.export_channels, "side": d.side}
    n_bytes = _STORED_BYTES * d.export_channels * (d.side + 2 * REACH_PIX) ** 2
    return (
        (
            _job("export", "musedask", "musedask-export", **same),
            _job("export", "mpdaf-write", "mpdaf-write", **same),
            _job("export", "floor-write", "floor-write", cache="any", bytes=n_bytes),
        ),
        (
            _job("whole", "musedask", "musedask-export", channels=d.reading_channels, side=d.side),
        ),
    )  # fmt: skip


def reading(size: Size) -> tuple[Case, ...]:
    """A spectrum and a slice out of a mega-cube."""
    d = DIMENSIONS[size]
    same: dict[str, Any] = {"channels": d.reading_channels, "side": d.side}
    return (
        (
            _job("reading", "store", "musedask-reading", **same),
            _job("reading", "fits", "fits-reading", **same),
        ),
    )


def scaling(size: Size) -> tuple[Case, ...]:
    """More exposures, wavelengths, area, workers; the graph and the overhead of its tasks."""
    d = DIMENSIONS[size]
    series = {n: replace(d.exposures, n_exposures=n, n_channels=d.series_channels)
              for n in d.series}  # fmt: skip
    few, many = (replace(d.exposures, n_exposures=6, n_channels=n) for n in d.wavelengths)
    per_field = 3
    planned = DataSpec(0, *d.planned_shape, content="empty")
    overhead = DataSpec(d.flat, d.planned_shape[0], 16, content="flat")
    return (
        tuple(
            _job("exposures", f"{n} exposures", "musedask", data, role=_role(n, d.series, 12))
            for n, data in series.items()
        ),
        (
            _job("wavelengths", f"{few.n_channels} channels", "musedask", few, role=BASE),
            _job("wavelengths", f"{many.n_channels} channels", "musedask", many, role=MOST),
        ),
        tuple(
            _job("area", f"{n} fields", "musedask", replace(
                d.exposures, n_exposures=per_field * n, n_channels=d.series_channels, n_fields=n,
            ), role=_role(n, d.fields, 1))
            for n in d.fields
        ),
        tuple(
            Job("workers", peer, f"{n} {what}", d.exposures, {what: n})
            for what, peer in (("threads", "musedask"), ("processes", "musedask-processes"))
            for n in (1, 2)
        ),
        tuple(
            _job("graph", f"{n} exposures", "musedask-graph", replace(planned, n_exposures=n),
                 "any", role=_role(n, d.planned, d.planned[0]))
            for n in d.planned
        ),
        (_job("overhead", f"{d.flat} small exposures", "musedask", overhead, role=MOST),),
    )  # fmt: skip


def _role(n: int, series: tuple[int, ...], base: int) -> str:
    if n == series[-1]:
        return MOST
    return BASE if n == max(v for v in series[:-1] if v <= max(base, series[0])) else ""


BENCHMARKS: dict[str, Callable[[Size], tuple[Case, ...]]] = {
    "stacking": stacking,
    "export": export,
    "reading": reading,
    "scaling": scaling,
}
"""Name -> its cases at a size; another benchmark is another line here."""


def chosen(cases: tuple[Case, ...], peers: tuple[str, ...]) -> tuple[Case, ...]:
    """Only jobs of these peers or families of peers, musedask always beside them.

    Cases in which nothing but musedask is left are left out, unless musedask is asked for by name.
    """
    if not peers:
        return cases
    found = []
    for jobs in cases:
        kept = tuple(j for j in jobs if _is_ours(j) or _is_one_of(j.peer, peers))
        if any(_is_one_of(job.peer, peers) for job in kept):
            found.append(kept)
    return tuple(found)


def _is_ours(job: Job) -> bool:
    return job.peer == "musedask" or job.label == "musedask"


def _is_one_of(peer: str, names: tuple[str, ...]) -> bool:
    return any(peer == name or peer.startswith(f"{name}-") for name in names)
