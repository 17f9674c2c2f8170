"""Small exposures for tests of stacking: as files, and as cubes in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from fits_files import write_cube

from musedask.cube import make_cube
from musedask.fits import open_exposures
from musedask.grid import CubeGrid
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

PIXEL_DEG = 0.2 / 3600.0


def date(n: int) -> str:
    """DATE-OBS of the n-th exposure."""
    return f"2020-01-{1 + n // 24:02d}T{n % 24:02d}:00:00.000"


def tan_cards(
    ra: float = 30.1, dec: float = -60.0, pixel_arcsec: float = 0.2, x: float = 10.0,
    y: float = 8.0, turn_deg: float = 0.0, mirrored: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Cards of a TAN projection with (ra, dec) at 0-based (x, y), y turned east by an angle."""
    s, angle = pixel_arcsec / 3600.0, np.radians(turn_deg)
    east = 1.0 if mirrored else -1.0
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": ra, "CRVAL2": dec, "CRPIX1": x + 1.0, "CRPIX2": y + 1.0,
        "CD1_1": east * s * np.cos(angle), "CD1_2": s * np.sin(angle),
        "CD2_1": -east * s * np.sin(angle), "CD2_2": s * np.cos(angle),
    }  # fmt: skip


def grid_of(cards: dict[str, Any], shape: tuple[int, int, int], first: float = 4750.0) -> CubeGrid:
    """A grid with these cards."""
    sky = SkyProjection.from_cards(cards)
    axis = SpectralAxis(first, 1.25, shape[0], frame="BARYCENT")
    return CubeGrid(sky, axis, shape[1], shape[2])


def noise(shape: tuple[int, int, int], seed: int) -> tuple[Any, Any]:
    """Flux and positive variance, float32, with the noise that the variance says."""
    rng = np.random.default_rng(seed)
    variance = rng.uniform(40.0, 160.0, shape).astype(np.float32)
    return (rng.normal(5.0, np.sqrt(variance))).astype(np.float32), variance


def memory_cube(
    flux: Any, variance: Any, n: int = 0, *, cards: dict[str, Any] | None = None,
    first: float = 4750.0, chunks: Any = None, **scalars: Any,
) -> xr.Dataset:  # fmt: skip
    """A cube that no file stands behind; numpy arrays, or Dask arrays with ``chunks``."""
    if chunks is not None:
        flux, variance = da.from_array(flux, chunks), da.from_array(variance, chunks)
    grid = grid_of(cards or tan_cards(), flux.shape, first)
    known = {"name": f"exp{n}", "date_obs": date(n), "exptime": 900.0}
    return make_cube(
        {"flux": flux, "variance": variance}, grid.sky, grid.spectral, scalars=known | scalars
    )


def file_cube(
    folder: Path, flux: Any, variance: Any, n: int = 0, *, cards: dict[str, Any] | None = None,
    first: float = 4750.0, quality: Any = None, exptime: float = 900.0, **primary: Any,
) -> xr.Dataset:  # fmt: skip
    """The same, opened from a FITS file."""
    path = write_cube(
        folder / f"exp{n}.fits",
        data=flux,
        stat=variance,
        dq=quality,
        primary={"DATE-OBS": date(n), "EXPTIME": exptime, **primary},
        wcs=(cards or tan_cards()) | {"CRVAL3": first},
    )
    (cube,) = open_exposures([path])
    return cube
