"""The sources of a field, and where an exposure sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from musedask.simulation.psf import Psf
from musedask.simulation.raw.kernels import PSF_STEPS
from musedask.simulation.raw.night import RawFrame, target_deg
from musedask.simulation.raw.optics import SPAXEL_ARCSEC, Geometry, Optics
from musedask.simulation.raw.spectra import (
    GRID,
    LSF_FWHM_ANGSTROM,
    TELLURIC_BANDS,
    lines_on_grid,
    sky_lines,
)
from musedask.simulation.sky import Line, PointSource, Spectrum
from musedask.sky import SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]

REACH_SPAXELS = 40.0
"""Beyond ten FWHM a source gives no light: 0.02 % of it is lost."""
_MARGIN = 5.5
"""Sources keep so many spaxels from the field's edge, or a quarter of its height."""
_CANDIDATES = 40
_POINTS = np.arange(4300.0, 9801.0, 100.0)


def make_sources(
    optics: Sequence[Optics], n_each: int, target: int, seed: int
) -> tuple[PointSource, ...]:
    """Scatter point sources over the part of a target's field that each IFU sees.

    Each keeps away from the others as far as a few dozen random tries allow. All
    have a power law for a continuum, of 10^-16.2 to 10^-15.2 erg/s/cm2/Angstrom at
    7000 Angstrom, and two emission lines away from night-sky lines and bands.
    """
    rng = np.random.default_rng([seed, 3, target])
    places: list[tuple[float, float]] = []
    for one in optics:
        x0, x1, y0, y1 = one.bounds
        margin_x, margin_y = (min(_MARGIN, (b - a) / 4) for a, b in ((x0, x1), (y0, y1)))
        for _ in range(n_each):
            tries = np.stack([
                rng.uniform(x0 + margin_x, x1 - margin_x, _CANDIDATES),
                rng.uniform(y0 + margin_y, y1 - margin_y, _CANDIDATES),
            ], axis=1)  # fmt: skip
            others = np.asarray(places).reshape(-1, 1, 2)
            away = np.hypot(*np.moveaxis(tries - others, -1, 0)).min(axis=0, initial=np.inf)
            best = tries[int(np.argmax(away))]
            places.append((float(best[0]), float(best[1])))
    plane = SkyProjection.north_up(*target_deg(target), SPAXEL_ARCSEC)
    sources = []
    for x, y in places:
        ra, dec = plane.to_sky(x, y)
        sources.append(PointSource(round(float(ra), 9), round(float(dec), 9), _spectrum(rng)))
    return tuple(sources)


def _spectrum(rng: np.random.Generator) -> Spectrum:
    """A power law with two lines, 1e-20 erg/s/cm2/Angstrom."""
    level, slope = 1e20 * 10 ** rng.uniform(-16.2, -15.2), rng.uniform(-1.5, 1.0)
    continuum = tuple(
        (float(wave), round(float(level * (wave / 7000.0) ** slope), 3)) for wave in _POINTS
    )
    lines: list[Line] = []
    while len(lines) < 2:
        wave = round(float(rng.uniform(5000.0, 9000.0)), 2)
        if _is_clear(wave) and all(abs(wave - line.wavelength_angstrom) > 150.0 for line in lines):
            width = rng.uniform(30.0, 80.0)  # equivalent width, Angstrom
            flux = round(float(width * level * (wave / 7000.0) ** slope), 2)
            lines.append(Line(wave, flux, LSF_FWHM_ANGSTROM))
    return Spectrum(continuum, tuple(lines))


def _is_clear(wavelength: float) -> bool:
    """Whether there is no night-sky line or band of the air nearby."""
    return all(
        abs(wavelength - float(row["wavelength_air_angstrom"])) > 20.0 for row in sky_lines()
    ) and all(abs(wavelength - centre) > 4.0 * sigma for centre, sigma, _ in TELLURIC_BANDS)


def source_spectrum(source: PointSource) -> Floats:
    """Spectrum of a source on the lattice, erg/s/cm2/Angstrom, float64 (wavelength,)."""
    points = np.asarray(source.spectrum.continuum, float)
    continuum = np.interp(GRID, points[:, 0], points[:, 1])
    lines = [(line.wavelength_angstrom, line.flux) for line in source.spectrum.lines]
    return np.asarray(1e-20 * (continuum + lines_on_grid(lines)))


def field_position(frame: RawFrame, ra_deg: Any, dec_deg: Any) -> tuple[Floats, Floats]:
    """Where sky positions fall in an exposure's field, two float64, spaxels from its middle."""
    plane = SkyProjection.north_up(frame.true_ra_deg, frame.true_dec_deg, SPAXEL_ARCSEC)
    west, north = plane.to_pixel(ra_deg, dec_deg)
    angle = np.radians(frame.position_angle_deg)
    return (
        west * np.cos(angle) + north * np.sin(angle),
        north * np.cos(angle) - west * np.sin(angle),
    )


def standard_place(optics: Sequence[Optics], geometry: Geometry) -> tuple[float, float]:
    """Where the standard star stands in the field, spaxels from its middle.

    In the compact geometry 0.3, 0.2 from the middle of the first IFU's field. In the
    real one in the middle of a slicer stack, in the first IFU, or on its border with the
    next one where that is simulated too.
    """
    first = optics[0]
    x0, x1, y0, y1 = first.bounds
    if geometry == "compact":
        return (x0 + x1) / 2 + 0.3, (y0 + y1) / 2 + 0.2
    has_next = any(one.ifu == first.ifu + 1 for one in optics)
    return -37.2, y0 + 0.2 if has_next else (y0 + y1) / 2 + 0.2


def psf_tables(optics: Optics, y_points: Floats, psf: Psf) -> Floats32:
    """Share of each source's light in a spaxel of each slice, by distance along the slice.

    Integrated over the spaxel by Gauss-Legendre quadrature.

    Parameters
    ----------
    optics
        The IFU.
    y_points
        Where the sources lie across the slices, float64 (source,), spaxels.
    psf
        The seeing.

    Returns
    -------
    float32 (source, slice, step) in steps of 1 / PSF_STEPS spaxel; zeros for slices out of reach.
    """
    along = np.arange(int(REACH_SPAXELS * PSF_STEPS)) / PSF_STEPS
    nodes, weights = np.polynomial.legendre.leggauss(3)
    table = np.zeros((y_points.size, optics.y_field.size, along.size), np.float32)
    for n, y in enumerate(y_points):
        across = np.abs(optics.y_field - y)
        near = across < REACH_SPAXELS
        total = np.zeros((int(near.sum()), along.size))
        for node_y, weight_y in zip(nodes / 2, weights / 2, strict=True):
            for node_x, weight_x in zip(nodes / 2, weights / 2, strict=True):
                radius2 = (across[near, None] + node_y) ** 2 + (along + node_x) ** 2
                total += weight_y * weight_x * psf.density(radius2 * SPAXEL_ARCSEC**2)
        table[n, near] = total * SPAXEL_ARCSEC**2
    return table
