"""Exposures of one star with dithers and seeing of their own, for campaigns of many stacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from exposure_cubes import grid_of, memory_cube, tan_cards

from musedask.grid import CubeGrid

PIXEL_ARCSEC = 0.2
POINTS = 5
"""Points along a pixel over which a star is integrated."""


def star_image(size: int, x: float, y: float, fwhm_arcsec: float, beta: float | None = None) -> Any:
    """A star of unit flux at pixel (x, y), float64 (size, size), integrated over pixels.

    Gaussian, or Moffat's (1969) function of exponent ``beta``.
    """
    offsets = (np.arange(POINTS) + 0.5) / POINTS - 0.5
    along = (np.arange(size)[:, None] + offsets).ravel()
    r2 = (along - x) ** 2 + ((along - y) ** 2)[:, None]
    width = fwhm_arcsec / PIXEL_ARCSEC
    if beta is None:
        sigma2 = width**2 / (8.0 * np.log(2.0))
        fine = np.exp(-0.5 * r2 / sigma2) / (2.0 * np.pi * sigma2)
    else:
        scale2 = width**2 / 4.0 / (2.0 ** (1.0 / beta) - 1.0)
        fine = (beta - 1.0) / (np.pi * scale2) * (1.0 + r2 / scale2) ** -beta
    return fine.reshape(size, POINTS, size, POINTS).mean(axis=(1, 3))


def star_grid(size: int, n_channels: int) -> CubeGrid:
    """The grid on which the star of :func:`star_cubes` lies in the middle."""
    return grid_of(centred(size), (n_channels, size, size))


def centred(size: int, dx: float = 0.0, dy: float = 0.0) -> dict[str, Any]:
    """Cards of a frame on which the star is (dx, dy) off the middle pixel."""
    return tan_cards(x=size // 2 + dx, y=size // 2 + dy)


def star_cubes(
    fwhms: Any, fluxes: Any, rng: np.random.Generator, *, size: int = 61,
    beta: float | None = None, shifts: Any = None, sigma: float = 1.0,
) -> tuple[list[xr.Dataset], Any]:  # fmt: skip
    """One exposure a seeing, dithered by fractions of a pixel and seen in random order.

    Parameters
    ----------
    fwhms
        Seeing of each exposure, arcsec.
    fluxes
        Flux of the star in each channel.
    shifts
        Dithers (exposure, 2), pixels; by default at random.
    sigma
        White noise of each voxel; 0 for none (the variance is then 1).

    Returns
    -------
    cubes
        Exposures in memory.
    star
        float64 (exposure, y, x): the star of unit flux on each frame.
    """
    order = rng.permutation(len(fwhms))
    shifts = rng.uniform(-1.5, 1.5, (len(fwhms), 2)) if shifts is None else np.asarray(shifts)
    cubes, stars = [], []
    for n, at in enumerate(order):
        dx, dy = shifts[n]
        star = star_image(size, size // 2 + dx, size // 2 + dy, fwhms[at], beta)
        flux = np.asarray(fluxes, float)[:, None, None] * star
        flux = flux + sigma * rng.normal(size=flux.shape)
        variance = np.full(flux.shape, sigma**2 if sigma else 1.0, np.float32)
        cubes.append(memory_cube(flux.astype(np.float32), variance, n, cards=centred(size, dx, dy)))
        stars.append(star)
    return cubes, np.array(stars)
