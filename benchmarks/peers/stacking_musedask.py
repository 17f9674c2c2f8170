"""musedask: from exposures to a store, its kernel alone, and on processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np

from benchmarks import reference
from benchmarks.exposures import grid_header, make_exposures
from benchmarks.jobs import (
    Array,
    Comparison,
    DataSpec,
    Job,
    Place,
    Prepared,
    compare_values,
    worst_of,
)
from musedask.blocks import Stack

_DEFAULTS: Mapping[str, Any] = {"methods": ("median",), "resampling": "exact", "threads": 2}
_TINY = DataSpec(2, 72, 48)
"""What is stacked to warm up: more channels than a block has, since compiled code tells a part
of an array from the whole; and enough of the sky to measure noise on, also within a diamond."""
_TINY_BYTES = 1 << 30


def stack_to_store(job: Job, place: Place) -> Prepared:
    """Exposures into a Zarr store, end to end, in threads of this process."""
    options = _options(job)
    store = place.scratch / "deep.zarr"

    def run() -> Path:
        with dask.config.set(scheduler="threads", num_workers=options["threads"]):
            return _write(_lazy(place.exposures, job, options), store)

    return Prepared(
        run, lambda made: _compare_store(made, job, place, options), _n_voxels(job, options),
        place.exposures, lambda: stack_tiny(job, place),
        lambda made: _store_metrics(job, made),
    )  # fmt: skip


def stack_on_processes(job: Job, place: Place) -> Prepared:
    """The same on worker processes of one thread each; starting them is not timed."""
    from distributed import Client, LocalCluster

    options = {"processes": 2, **_options(job)}
    store = place.scratch / "deep.zarr"
    cluster = LocalCluster(
        n_workers=options["processes"], threads_per_worker=1, dashboard_address=None,
        local_directory=os.fspath(place.scratch / "workers"),
    )  # fmt: skip
    client = Client(cluster)

    def run() -> Path:
        return _write(_lazy(place.exposures, job, options), store)

    def compare(made: Path) -> Comparison:
        client.close()
        cluster.close()
        return _compare_store(made, job, place, options)

    def warm_up() -> None:
        _tiny_exposures(job, place)  # once, and not by each worker
        futures = [
            client.submit(stack_tiny, job, place, n, pure=False, workers=[worker])
            for n, worker in enumerate(client.scheduler_info(n_workers=-1)["workers"])
        ]
        client.gather(futures)

    return Prepared(run, compare, _n_voxels(job, options), place.exposures, warm_up)


def kernel_alone(job: Job, place: Place) -> Prepared:
    """Reading, resampling and combining; what is made is let go of."""
    options = _options(job)
    window = reference.windows(_channels(job, options), _grid_shape(job))[1]

    def run() -> Array:
        lazy = _lazy(place.exposures, job, options)
        piece: Any = _piece  # Dask's types know only functions of its own arrays
        pieces = lazy.results.map_blocks(
            piece, lazy.plan, window, dtype=object, meta=np.empty((0, 0, 0), object)
        )
        delayed = pieces.to_delayed(optimize_graph=True)
        tasks = [delayed[block] for block in sorted(lazy.plan.keys)]
        with dask.config.set(scheduler="threads", num_workers=options["threads"]):
            made = dask.compute(*tasks)
        found = np.full((window.ny, window.nx), np.nan)
        for values, rows, columns in (piece.item() for piece in made):
            found[rows, columns] = values
        return found

    def compare(found: Array) -> Comparison:
        target = reference.celestial(grid_header(_data(job)))
        return reference.compare_median(
            [(window, found)], place.exposures, target, options["resampling"],
            where=reference.EVERYWHERE,
        )  # fmt: skip

    return Prepared(
        run, compare, _n_voxels(job, options), place.exposures, lambda: stack_tiny(job, place)
    )


def _options(job: Job) -> dict[str, Any]:
    return {**_DEFAULTS, **job.options}


def _data(job: Job) -> DataSpec:
    assert job.data is not None, "stacking needs exposures"
    return job.data


def _channels(job: Job, options: Any) -> int:
    return min(int(options.get("channels", 0)) or _data(job).n_channels, _data(job).n_channels)


def _n_voxels(job: Job, options: Any) -> int:
    return _data(job).n_voxels // _data(job).n_channels * _channels(job, options)


def _grid_shape(job: Job) -> tuple[int, int]:
    header = grid_header(_data(job))
    return header["NAXIS2"], header["NAXIS1"]


def _lazy(files: Sequence[Path], job: Job, options: Any) -> Stack:
    """Plan the stack on the grid that all peers share."""
    return _stacked(files, _data(job), _channels(job, options), options)


def _stacked(files: Sequence[Path], data: DataSpec, channels: int, options: Any) -> Stack:
    from musedask import CubeGrid, open_exposures, stack

    grid = CubeGrid.from_header(grid_header(data))
    grid = replace(grid, spectral=grid.spectral.cropped(0, channels))
    return stack(
        open_exposures(files), None, grid, methods=tuple(options["methods"]),
        resampling=options["resampling"],
    )  # fmt: skip


def _write(lazy: Stack, store: Path) -> Path:
    from musedask import write_megacube

    write_megacube(lazy, store)
    return store


def stack_tiny(job: Job, place: Place, number: int = 0) -> None:
    """Stack tiny exposures in the way of a job: compiles, or loads compiled code."""
    data, files = _tiny_exposures(job, place)
    with dask.config.set(scheduler="threads", num_workers=1):
        lazy = _stacked(files, data, data.n_channels, _options(job))
        _write(lazy, place.scratch / f"warm{number}.zarr")


def _tiny_exposures(job: Job, place: Place) -> tuple[DataSpec, tuple[Path, ...]]:
    """Exposures that differ from a job's in size alone, made once for all jobs."""
    data = replace(
        _data(job), n_exposures=_TINY.n_exposures, side=_TINY.side, n_fields=1,
        n_channels=min(_TINY.n_channels, _channels(job, job.options)),
    )  # fmt: skip
    return data, make_exposures(data, place.stores / "tiny", _TINY_BYTES)


def _piece(result: Any, plan: Any, window: Any, block_id: tuple[int, int, int]) -> Array:
    """Of a block only what is compared: its part of a window of the median."""
    made = result.item()
    zs, ys, xs = plan.region(block_id)
    plane = next(s.plane for s in plan.slots if s.variable == "flux")
    rows = range(max(window.y, ys.start), min(window.y + window.ny, ys.stop))
    columns = range(max(window.x, xs.start), min(window.x + window.nx, xs.stop))
    out = np.empty((1, 1, 1), object)
    if zs.start <= window.channel < zs.stop and rows and columns:
        values = made.planes[
            plane, window.channel - zs.start,
            rows.start - ys.start : rows.stop - ys.start,
            columns.start - xs.start : columns.stop - xs.start,
        ].astype(float)  # fmt: skip
        own = (slice(rows.start - window.y, rows.stop - window.y),
               slice(columns.start - window.x, columns.stop - window.x))  # fmt: skip
    else:
        values, own = np.zeros((0, 0)), (slice(0, 0), slice(0, 0))
    out[0, 0, 0] = (values, *own)
    return out


def _compare_store(store: Path, job: Job, place: Place, options: Any) -> Comparison:
    """Flux, and where there is a median also the number of exposures, by musedask's own rule."""
    from musedask import open_megacube

    deep = open_megacube(store)
    method = "median" if "median" in deep.methods else deep.methods[0]
    cube = deep[method]
    target = reference.celestial(grid_header(_data(job)))
    places = reference.windows(cube.sizes["wavelength"], (cube.sizes["y"], cube.sizes["x"]))
    flux = [(w, _cut_out(cube["flux"], w)) for w in places]
    found = reference.compare_median(
        flux, place.exposures, target, options["resampling"], where=reference.EVERYWHERE
    )
    window = places[0]
    share = reference.resampled(place.exposures, target, window, options["resampling"]).share
    counts = compare_values(
        _cut_out(cube["n_exposures"], window), (share >= reference.HALF).sum(axis=0).astype(float),
        rtol=0.0, atol=0.5, against="the number of valid exposures",
    )  # fmt: skip
    return worst_of(found, counts)


def _cut_out(variable: Any, window: reference.Window) -> Array:
    rows, columns = window.slices
    values: Array = variable[window.channel, rows, columns].values.astype(float)
    return values


def _store_metrics(job: Job, store: Path) -> dict[str, float]:
    """Size of the grid and of the store, and the share of the noise that lies in the field."""
    from benchmarks.exposures import field_of, used_bytes

    header = grid_header(_data(job))
    return {
        "voxels_out": float(header["NAXIS1"] * header["NAXIS2"] * header["NAXIS3"]),
        "store_bytes": float(used_bytes(store)),
        "valid_share": float(field_of(_data(job)).mean()),
    }
