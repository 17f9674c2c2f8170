"""A mega-cube of noise, made once and kept: what is exported and read."""

from __future__ import annotations

from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr

from benchmarks.exposures import date_obs, grid_header
from benchmarks.jobs import Array, DataSpec, Place
from musedask import CubeGrid, export_fits, open_megacube, stack, write_megacube
from musedask.cube import make_cube

_VERSION = 1
_DEPTH = 64
_BORDER_PIX = 4


def noise_store(place: Place, n_channels: int, side: int) -> Path:
    """A store with one field, ``median`` of two exposures; made without exposures in files."""
    path = place.stores / f"noise_{_VERSION}_{n_channels}x{side}.zarr"
    if not path.exists():
        grid = CubeGrid.from_header(grid_header(DataSpec(2, n_channels, side)))
        cubes = [_noise_cube(grid, n) for n in range(2)]
        with dask.config.set(scheduler="threads", num_workers=2):
            write_megacube(stack(cubes, None, grid, weights="equal"), path)
    return path


def noise_file(place: Place, n_channels: int, side: int) -> Path:
    """The same as a FITS file."""
    path = place.stores / f"noise_{_VERSION}_{n_channels}x{side}.fits"
    if not path.exists():
        export_fits(open_megacube(noise_store(place, n_channels, side))["median"], path)
    return path


def _noise_cube(grid: CubeGrid, n: int) -> xr.Dataset:
    """An exposure on the grid, a missing border around it."""
    depths = tuple(min(_DEPTH, grid.shape[0] - z) for z in range(0, grid.shape[0], _DEPTH))
    arrays = {
        name: da.map_blocks(
            _noise, [n, seed], grid.shape, name, chunks=(depths, (grid.ny,), (grid.nx,)),
            dtype=np.float32, meta=np.empty((0, 0, 0), np.float32),
        )
        for seed, name in enumerate(("flux", "variance"))
    }  # fmt: skip
    scalars = {"name": f"noise{n}", "date_obs": date_obs(n), "exptime": 900.0}
    return make_cube(arrays, grid.sky, grid.spectral, scalars=scalars)


def _noise(
    seeds: list[int], shape: tuple[int, int, int], name: str,
    block_id: tuple[int, int, int] = (0, 0, 0),
) -> Array:  # fmt: skip
    """A run of channels of noise about 5, or of its variance, float32 (wavelength, y, x)."""
    rng = np.random.Generator(np.random.SFC64([*seeds, block_id[0]]))
    size = (min(_DEPTH, shape[0] - block_id[0] * _DEPTH), *shape[1:])
    if name == "flux":
        values = rng.standard_normal(size, np.float32) * np.float32(10) + np.float32(5)
    else:
        values = rng.random(size, np.float32) * np.float32(60) + np.float32(70)
    inside = np.zeros(shape[1:], bool)
    inside[_BORDER_PIX:-_BORDER_PIX, _BORDER_PIX:-_BORDER_PIX] = True
    values[:, ~inside] = np.nan
    return values
