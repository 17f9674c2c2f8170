"""Light by wavelength: lamps, sky, atmosphere, and what the telescope makes of it.

All spectra stand on one lattice, :data:`GRID`, float64 (wavelength,), in Angstrom
in air. Lines have the line-spread function's width.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from musedask.simulation.raw.kernels import FIRST_ANGSTROM, STEP_ANGSTROM

Floats = np.ndarray[Any, np.dtype[np.float64]]

LSF_FWHM_ANGSTROM = 2.5
_SIGMA = LSF_FWHM_ANGSTROM / float(np.sqrt(8.0 * np.log(2.0)))
GRID: Floats = np.asarray(FIRST_ANGSTROM + STEP_ANGSTROM * np.arange(55001), np.float64)
_EFFECTIVE_AREA_CM2 = 483250.7
_PHOTON_ERG_ANGSTROM = 1.98644586e-8
"""h c."""
SPAXEL_ARCSEC2 = 0.04
_PER_COLUMN = 75.0 / 76.0
"""Spaxels along a slice per pixel of the detector."""
TELLURIC_BANDS = ((6880.0, 12.0, 0.25), (7200.0, 25.0, 0.10), (7618.0, 18.0, 0.50),
                  (8220.0, 25.0, 0.12), (9000.0, 30.0, 0.10))  # fmt: skip
"""Centre and sigma (Angstrom) and depth of the bands that the air absorbs."""
_ARC_ELECTRONS = 60.0
"""Electrons per second and pixel column of an arc line of relative flux 1."""
_ARC_PEDESTAL = 0.5
"""Electrons per second and Angstrom between arc lines."""
_SKY_LEVEL = 1e-17
"""Of the night sky at 6000 Angstrom, erg/s/cm2/Angstrom/arcsec2."""
_TWILIGHT_LEVEL = 2e-13
_STANDARD_LEVEL = 9e-14
"""Of the standard star at 5500 Angstrom, erg/s/cm2/Angstrom."""
_EXTINCTION_WAVELENGTH = 5000.0


@cache
def arc_lines() -> tuple[dict[str, str], ...]:
    """Lines of the lamps: lamp, ion, wavelength_air_angstrom, relative_flux, quality."""
    return _table("arc_lines.csv")


@cache
def sky_lines() -> tuple[dict[str, str], ...]:
    """Lines of the night sky: name, group, wavelength_air_angstrom, flux_1e-20_..."""
    return _table("sky_lines.csv")


def _table(name: str) -> tuple[dict[str, str], ...]:
    text = resources.files("musedask.simulation.raw").joinpath(name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def lines_on_grid(lines: Iterable[tuple[float, float]]) -> Floats:
    """Draw (wavelength, area) lines of the line-spread function, per Angstrom."""
    result = np.zeros(GRID.size)
    for wavelength, area in lines:
        low, high = np.searchsorted(GRID, [wavelength - 8 * _SIGMA, wavelength + 8 * _SIGMA])
        shape = np.exp(-0.5 * ((GRID[low:high] - wavelength) / _SIGMA) ** 2)
        result[low:high] += area / (_SIGMA * np.sqrt(2 * np.pi)) * shape
    return result


def extinction(wavelengths: Floats) -> Floats:
    """Extinction of the air, magnitudes per airmass."""
    return np.asarray(0.06 + 0.11 * (wavelengths / _EXTINCTION_WAVELENGTH) ** -4.0)


def telluric() -> Floats:
    """Share of light that the bands of the air let through."""
    result = np.ones(GRID.size)
    for centre, sigma, depth in TELLURIC_BANDS:
        result *= 1.0 - depth * np.exp(-0.5 * ((GRID - centre) / sigma) ** 2)
    return result


@cache
def electrons_per_flux() -> Floats:
    """Electrons/s/Angstrom for each erg/s/cm2/Angstrom above the air, at airmass 1."""
    blaze = 0.32 * np.exp(-0.5 * ((GRID - 7000.0) / 1500.0) ** 2)
    throughput = blaze / (1.0 + np.exp(-(GRID - 4700.0) / 25.0))
    photons = _EFFECTIVE_AREA_CM2 * GRID / _PHOTON_ERG_ANGSTROM
    return np.asarray(throughput * photons * 10.0 ** (-0.4 * extinction(GRID)))


def dark_spectrum() -> Floats:
    """No light at all."""
    return np.zeros(GRID.size)


def flat_lamp() -> Floats:
    """Continuum lamp, electrons/s/Angstrom in each pixel column."""
    return np.asarray(2600.0 * np.exp(-0.5 * ((GRID - 7400.0) / 1700.0) ** 2))


def arc_lamp(lamp: str) -> Floats:
    """Arc lamp ``HgCd``, ``Ne`` or ``Xe``, electrons/s/Angstrom in each pixel column."""
    areas = [
        (float(row["wavelength_air_angstrom"]), _ARC_ELECTRONS * float(row["relative_flux"]))
        for row in arc_lines()
        if row["lamp"] == lamp
    ]
    return lines_on_grid(areas) + _ARC_PEDESTAL


def twilight_sky() -> Floats:
    """The sky at dusk, electrons/s/Angstrom in each pixel column."""
    solar = 1.0 - 0.3 * np.exp(-0.5 * ((GRID - 5270.0) / 4.0) ** 2)
    solar *= 1.0 - 0.3 * np.exp(-0.5 * ((GRID - 8542.0) / 4.0) ** 2)
    return _seen(_TWILIGHT_LEVEL * (GRID / 6000.0) ** -1.5 * solar)


def night_sky() -> Floats:
    """The sky at night, electrons/s/Angstrom in each pixel column."""
    return _seen(sky_brightness(GRID) + lines_on_grid(
        (float(row["wavelength_air_angstrom"]), 1e-20 * float(row["flux_1e-20_erg_s_cm2_arcsec2"]))
        for row in sky_lines()
    ))  # fmt: skip


def sky_brightness(wavelengths: Floats) -> Floats:
    """Continuum of the night sky, erg/s/cm2/Angstrom/arcsec2."""
    return np.asarray(_SKY_LEVEL * np.sqrt(wavelengths / 6000.0))


def standard_star(wavelengths: Floats) -> Floats:
    """The standard star, erg/s/cm2/Angstrom."""
    return np.asarray(_STANDARD_LEVEL * (wavelengths / 5500.0) ** -3.5)


def _seen(brightness: Floats) -> Floats:
    """Brightness per square arcsecond as electrons/s/Angstrom in each pixel column."""
    return np.asarray(brightness * electrons_per_flux() * SPAXEL_ARCSEC2 * _PER_COLUMN)
