"""Cubes that were reduced from simulated raw frames, against what had been put into these."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from musedask.cube import sky_of
from musedask.errors import InputError
from musedask.offsets import ARCSEC_PER_DEG, date_key, on_sky_arcsec
from musedask.quiet import quiet
from musedask.simulation.psf import Psf
from musedask.simulation.raw import RawTruth
from musedask.simulation.raw.optics import SPAXEL_ARCSEC
from musedask.simulation.raw.truth import barycentric_ratio
from musedask.simulation.sky import PointSource

Floats = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

APERTURE_PIX = 6.0
ANNULUS_PIX = 8.0, 11.0
ISOLATED_PIX = 14.0
"""Sources closer to one another disturb each other's background."""
FROM_EDGE_PIX = 6.0
_CENTRE_SIGMA_PIX = 2.0
_LINE_ANGSTROM = 6.0
_BESIDE_ANGSTROM = 12.0, 40.0


@dataclass(frozen=True)
class SourceFound:
    """An isolated source of the truth as a cube has it."""

    east_spaxels: float
    """Position found minus true, to the east."""
    north_spaxels: float
    """Position found minus true, to the north."""
    flux_ratio: float
    """Continuum over true continuum, median over channels."""
    line_errors_angstrom: tuple[float, ...]
    """Centre found minus true of each emission line in the cube's range."""


def compare_with_raw_truth(cube: xr.Dataset, truth: RawTruth) -> tuple[SourceFound, ...]:
    """Measure the isolated sources of the first target in a cube; reads the whole cube.

    Parameters
    ----------
    cube
        An exposure that was reduced from simulated raw frames, or a stack of such:
        barycentric wavelengths, pixels of 0.2".
    truth
        What had been simulated.

    Raises
    ------
    InputError
        If the cube holds no isolated source.
    """
    flux = np.asarray(cube["flux"].values, float)
    wavelengths = np.asarray(cube["wavelength"].values, float)
    ratio = barycentric_ratio(truth.exposures[0])
    first = float(cube["x"].values[0]), float(cube["y"].values[0])
    sky = sky_of(cube)
    places = [
        (float(x) - first[0], float(y) - first[1])
        for x, y in (sky.to_pixel(s.ra_deg, s.dec_deg) for s in truth.sources)
    ]
    psf = Psf(fwhm_arcsec=truth.spec.seeing_arcsec)
    # Single voxels are missing where the pipeline rejected a cosmic ray.
    covered = np.isfinite(flux).mean(axis=0) > 0.5
    found = tuple(
        _measured(flux, covered, wavelengths, place, source, ratio, psf)
        for place, source in zip(places, truth.sources, strict=True)
        if _is_isolated(place, places, covered)
    )
    if not found:
        raise InputError(f"{cube.attrs.get('name', 'the cube')}: has no isolated source in it")
    return found


def offset_error_spaxels(cubes: Iterable[xr.Dataset], truth: RawTruth) -> float:
    """Give the largest error of the offsets that cubes carry, along one axis.

    Relative to the first of them: without a reference the common pointing is unknown.

    Parameters
    ----------
    cubes
        Exposures onto which the pipeline has applied offsets.
    truth
        What had been simulated.
    """
    true = {date_key(row.date_obs): row for row in truth.offsets.rows}
    errors = []
    for cube in cubes:
        row = true[date_key(str(cube["date_obs"].values))]
        east = on_sky_arcsec(float(cube.coords.get("carried_ra_deg", 0.0)), row.dec_deg)
        north = ARCSEC_PER_DEG * float(cube.coords.get("carried_dec_deg", 0.0))
        errors.append((east - row.ra_offset_arcsec, north - row.dec_offset_arcsec))
    relative = np.array(errors) - errors[0]
    return float(np.abs(relative).max() / SPAXEL_ARCSEC)


def _is_isolated(
    place: tuple[float, float], places: Sequence[tuple[float, float]], covered: Mask
) -> bool:
    """Whether the cube has all around a place, and no other source is near."""
    near = _distance_pix(covered.shape, place) < FROM_EDGE_PIX
    # As many spaxels as the circle has: none of it lies off the cube.
    whole = near.sum() > 0.97 * np.pi * FROM_EDGE_PIX**2 and bool(covered[near].all())
    return whole and all(
        math.dist(place, other) > ISOLATED_PIX for other in places if other != place
    )


def _distance_pix(shape: tuple[int, ...], place: tuple[float, float]) -> Floats:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(columns - place[0], rows - place[1]))


def _measured(
    flux: Floats,
    covered: Mask,
    wavelengths: Floats,
    place: tuple[float, float],
    source: PointSource,
    ratio: float,
    psf: Psf,
) -> SourceFound:
    x, y = place
    radius = _distance_pix(covered.shape, place)
    aperture = (radius < APERTURE_PIX) & covered
    annulus = (radius > ANNULUS_PIX[0]) & (radius < ANNULUS_PIX[1]) & covered
    with quiet(RuntimeWarning):  # channels without any data
        above = flux - np.nanmedian(flux[:, annulus], axis=1)[:, None, None]
        image = np.nan_to_num(np.nanmedian(above, axis=0))
    spectrum = np.nansum(above[:, aperture], axis=1)
    found_x, found_y = _centre(image, x, y)
    lines = [line.wavelength_angstrom * ratio for line in source.spectrum.lines]
    away = np.all([np.abs(wavelengths - line) > 10.0 for line in lines], axis=0)
    true = source.spectrum.values(wavelengths / ratio) * _within_aperture(psf)
    low, high = wavelengths[0] + 2 * _BESIDE_ANGSTROM[0], wavelengths[-1] - 2 * _BESIDE_ANGSTROM[0]
    return SourceFound(
        # East is to the left.
        east_spaxels=x - found_x,
        north_spaxels=found_y - y,
        flux_ratio=float(np.median((spectrum / true)[away & np.isfinite(above).any(axis=(1, 2))])),
        line_errors_angstrom=tuple(
            _line_centre(wavelengths, spectrum, line) - line for line in lines if low < line < high
        ),
    )


def _within_aperture(psf: Psf) -> float:
    """Part of a point's light within the aperture, by numerical integration."""
    radius = np.linspace(0.0, APERTURE_PIX * SPAXEL_ARCSEC, 2001)
    return float(np.trapezoid(psf.density(radius**2) * 2.0 * np.pi * radius, radius))


def _centre(image: Floats, x: float, y: float) -> tuple[float, float]:
    """Centroid under a Gaussian that follows it."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    for _ in range(20):
        r2 = (columns - x) ** 2 + (rows - y) ** 2
        weight = image * np.exp(-0.5 * r2 / _CENTRE_SIGMA_PIX**2)
        total = weight.sum()
        # A source as wide as the Gaussian is pulled half of the way.
        x += 2.0 * float((weight * (columns - x)).sum() / total)
        y += 2.0 * float((weight * (rows - y)).sum() / total)
    return x, y


def _line_centre(wavelengths: Floats, spectrum: Floats, line: float) -> float:
    away = np.abs(wavelengths - line)
    beside = (away > _BESIDE_ANGSTROM[0]) & (away < _BESIDE_ANGSTROM[1])
    within = away < _LINE_ANGSTROM
    above = spectrum[within] - np.median(spectrum[beside])
    return float((wavelengths[within] * above).sum() / above.sum())
