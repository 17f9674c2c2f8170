"""The same operations as a graph of small Dask tasks through xarray: what one writes first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks import reference
from benchmarks.exposures import grid_header
from benchmarks.jobs import Array, Comparison, Job, Place, Prepared, UnavailableError

_DEPTH = 16
"""Channels of a chunk."""


def stack_to_zarr(job: Job, place: Place) -> Prepared:
    """Bilinear shifts by slicing, median by bottleneck, variance, count, ``to_zarr``."""
    try:
        import bottleneck
    except ImportError as err:
        raise UnavailableError("bottleneck is not installed") from err
    import dask
    import xarray  # noqa: F401 - imported before time is taken

    assert job.data is not None
    data, header, store = job.data, grid_header(job.data), place.scratch / "deep.zarr"

    def run() -> Path:
        with dask.config.set(scheduler="threads", num_workers=int(job.options.get("threads", 2))):
            lazy = _graph(place.exposures, header, data.n_channels, bottleneck)
            lazy.to_zarr(store, consolidated=False)
        return store

    def compare(made: Path) -> Comparison:
        import xarray as xr

        cube = xr.open_zarr(made, consolidated=False)["flux"]
        places = reference.windows(data.n_channels, (header["NAXIS2"], header["NAXIS1"]))
        found = [(w, cube[w.channel, w.slices[0], w.slices[1]].values) for w in places]
        target = reference.celestial(header)
        return reference.compare_median(found, place.exposures, target)

    return Prepared(run, compare, data.n_voxels, place.exposures)


def _graph(files: Sequence[Path], header: fits.Header, n_channels: int, bottleneck: Any) -> Any:
    import dask.array as da
    import xarray as xr

    pieces: dict[str, list[Any]] = {"flux": [], "variance": []}
    for path in files:
        y, x = _shift(path, header)
        grid = (header["NAXIS2"], header["NAXIS1"])
        for name, extension, power in (("flux", "DATA", 1), ("variance", "STAT", 2)):
            array = da.map_blocks(
                _read, str(path), extension, chunks=(*_chunked(path, n_channels),),
                dtype=np.float32, meta=np.empty((0, 0, 0), np.float32),
            )  # fmt: skip
            moved = da.map_blocks(
                _moved, array, y, x, grid, power, dtype=np.float32,
                chunks=(array.chunks[0], (grid[0],), (grid[1],)),
            )  # fmt: skip
            pieces[name].append(moved)
    flux, variance = da.stack(pieces["flux"]), da.stack(pieces["variance"])
    flux, variance = (a.rechunk({0: -1}) for a in (flux, variance))
    middle = da.map_blocks(bottleneck.nanmedian, flux, axis=0, drop_axis=0, dtype=np.float32)
    valid = da.isfinite(flux).sum(axis=0)
    spread = np.pi / 2 * da.nansum(variance, axis=0) / valid**2
    variables = {"flux": middle, "variance": spread.astype(np.float32),
                 "n_exposures": valid.astype(np.uint16)}  # fmt: skip
    return xr.Dataset({k: (("wavelength", "y", "x"), v) for k, v in variables.items()})


def _chunked(path: Path, n_channels: int) -> tuple[tuple[int, ...], tuple[int], tuple[int]]:
    own = fits.getheader(path, "DATA")
    depths = tuple(min(_DEPTH, n_channels - z) for z in range(0, n_channels, _DEPTH))
    return depths, (own["NAXIS2"],), (own["NAXIS1"],)


def _shift(path: Path, header: fits.Header) -> tuple[float, float]:
    """Grid pixel minus frame pixel, (y, x): the lattices are parallel."""
    own = fits.getheader(path, "DATA")
    return header["CRPIX2"] - own["CRPIX2"], header["CRPIX1"] - own["CRPIX1"]


def _read(path: str, extension: str, block_id: tuple[int, int, int] = (0, 0, 0)) -> Array:
    """A run of channels, native float32."""
    with fits.open(path, memmap=True) as hdus:
        start = block_id[0] * _DEPTH
        values: Array = hdus[extension].data[start : start + _DEPTH].astype(np.float32)
    return values


def _moved(values: Array, y: float, x: float, grid: tuple[int, int], power: int) -> Array:
    """Bilinear shift by slices; a voxel with a missing neighbour is missing."""
    out = np.full((len(values), *grid), np.nan, np.float32)
    low_y, low_x = int(np.floor(y)), int(np.floor(x))
    fy, fx = np.float32(y - low_y), np.float32(x - low_x)
    ny, nx = values.shape[1] - 1, values.shape[2] - 1
    parts = [
        ((1 - fy) * (1 - fx), values[:, 1:, 1:]), ((1 - fy) * fx, values[:, 1:, :-1]),
        (fy * (1 - fx), values[:, :-1, 1:]), (fy * fx, values[:, :-1, :-1]),
    ]  # fmt: skip
    total = sum(np.float32(weight**power) * part for weight, part in parts)
    out[:, low_y + 1 : low_y + 1 + ny, low_x + 1 : low_x + 1 + nx] = total
    return out
