"""What there is to observe: a sky is a sum of components, each a spectrum times a picture.

A sky gives the true flux after the seeing, per spaxel, on any lattice and at
any wavelengths. It does so with few pictures and few spectra, so that a run of
channels is one product of matrices, however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy import special

from musedask.errors import InputError
from musedask.simulation.psf import (
    DISC_SCALES,
    KERNEL_FWHM,
    SIGMA_PER_FWHM,
    Psf,
    exponential_disc,
    is_near,
    point_map,
)
from musedask.sky import SkyProjection
from musedask.spectral import STEP_ANGSTROM

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]


class Sky(Protocol):
    """Something to observe. Flux is in 1e-20 erg/s/cm2/Angstrom per spaxel."""

    def spectra(self, wavelengths: Floats) -> Floats:
        """Spectrum of each component, float64 (component, wavelength)."""

    def maps(self, psf: Psf, projection: SkyProjection, shape: tuple[int, int]) -> Floats32:
        """Picture of each component under a seeing, float32 (component, y, x)."""


def true_cube(
    sky: Sky,
    projection: SkyProjection,
    shape: tuple[int, int],
    wavelengths: Any,
    psf: Psf,
) -> Floats32:
    """Compute the true flux on a lattice, float32 (wavelength, y, x), 1e-20 cgs per spaxel.

    Parameters
    ----------
    sky
        What is there.
    projection, shape
        Where the spaxels lie, and how many (ny, nx) there are.
    wavelengths
        Centres of the channels, Angstrom, in air.
    psf
        The seeing.
    """
    spectra = sky.spectra(np.atleast_1d(np.asarray(wavelengths, np.float64)))
    return flux_of(spectra, sky.maps(psf, projection, shape))


def flux_of(spectra: Floats, maps: Floats32) -> Floats32:
    """Multiply out: (component, wavelength) and (component, y, x) give (wavelength, y, x)."""
    flat = np.asarray(spectra.T, np.float32, order="C") @ maps.reshape(maps.shape[0], -1)
    return np.asarray(flat.reshape(spectra.shape[1], *maps.shape[1:]))


@dataclass(frozen=True)
class Line:
    """An emission (or, negative, absorption) line of Gaussian shape."""

    wavelength_angstrom: float
    """Centre, in air."""
    flux: float
    """Total, 1e-20 erg/s/cm2."""
    fwhm_angstrom: float = 2.5
    """Width as observed; MUSE's own line spread is about 2.5 Angstrom."""


@dataclass(frozen=True)
class Spectrum:
    """A continuum and lines; equal spectra are equal values."""

    continuum: float | tuple[tuple[float, float], ...] = 0.0
    """Flux density in 1e-20 erg/s/cm2/Angstrom: a constant, or (wavelength, flux) pairs in
    order of wavelength between which it is linear and beyond which it is constant."""
    lines: tuple[Line, ...] = ()
    """Lines on top of it."""

    def values(self, wavelengths: Floats, step_angstrom: float = STEP_ANGSTROM) -> Floats:
        """Mean flux density in each channel, float64 (wavelength,)."""
        if isinstance(self.continuum, tuple):
            points = np.array(self.continuum, float)
            result = np.interp(wavelengths, points[:, 0], points[:, 1])
        else:
            result = np.full(wavelengths.shape, float(self.continuum))
        for line in self.lines:
            # Integrated over the channel, so that the channels add up to the line's flux.
            scale = np.sqrt(2.0) * line.fwhm_angstrom * SIGMA_PER_FWHM
            from_centre = wavelengths - line.wavelength_angstrom
            upper = special.erf((from_centre + step_angstrom / 2) / scale)
            lower = special.erf((from_centre - step_angstrom / 2) / scale)
            result = result + line.flux * (upper - lower) / (2.0 * step_angstrom)
        return np.asarray(result)


@dataclass(frozen=True)
class PointSource:
    """A star, or anything as small."""

    ra_deg: float
    """Right ascension."""
    dec_deg: float
    """Declination."""
    spectrum: Spectrum
    """Of the whole source."""

    def picture(self, psf: Psf, projection: SkyProjection, shape: tuple[int, int]) -> Floats32:
        """Fraction of the flux in each spaxel, float32 (y, x)."""
        return point_map(psf, projection, shape, self.ra_deg, self.dec_deg)


@dataclass(frozen=True)
class Galaxy:
    """A smooth galaxy: an exponential disc."""

    ra_deg: float
    """Right ascension of the centre."""
    dec_deg: float
    """Declination of the centre."""
    spectrum: Spectrum
    """Of the whole galaxy."""
    scale_arcsec: float = 0.5
    """Scale length; the half-light radius is 1.678 of it."""
    axis_ratio: float = 1.0
    """Minor over major axis."""
    position_angle_deg: float = 0.0
    """Of the major axis, north through east."""

    def __post_init__(self) -> None:
        if not (self.scale_arcsec > 0 and 0 < self.axis_ratio <= 1):
            raise InputError(
                f"galaxy of scale {self.scale_arcsec} arcsec and axis ratio {self.axis_ratio}: "
                "the scale has to be positive, the ratio in (0, 1]"
            )

    def picture(self, psf: Psf, projection: SkyProjection, shape: tuple[int, int]) -> Floats32:
        """Fraction of the flux in each spaxel, float32 (y, x)."""
        margin = KERNEL_FWHM * psf.fwhm_arcsec
        reach = DISC_SCALES * self.scale_arcsec + margin
        if not is_near(projection, shape, self.ra_deg, self.dec_deg, reach * np.sqrt(2.0)):
            return np.zeros(shape, np.float32)
        disc = exponential_disc(
            self.ra_deg,
            self.dec_deg,
            self.scale_arcsec,
            self.axis_ratio,
            self.position_angle_deg,
            margin_arcsec=margin,
        )
        return disc.observed(psf, projection, shape)


Source = PointSource | Galaxy


@dataclass(frozen=True)
class AnalyticSky:
    """Sources whose positions, fluxes, shapes and lines are known exactly."""

    sources: tuple[Source, ...]
    """Any number, in any order; those of equal spectra share a component."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("a sky without sources: give at least one")

    @cached_property
    def _kinds(self) -> tuple[Spectrum, ...]:
        return tuple(dict.fromkeys(source.spectrum for source in self.sources))

    def spectra(self, wavelengths: Floats) -> Floats:
        """Spectrum of each component, float64 (component, wavelength)."""
        return np.stack([kind.values(np.asarray(wavelengths, float)) for kind in self._kinds])

    def maps(self, psf: Psf, projection: SkyProjection, shape: tuple[int, int]) -> Floats32:
        """Picture of each component under a seeing, float32 (component, y, x)."""
        maps = np.zeros((len(self._kinds), *shape), np.float32)
        for source in self.sources:
            maps[self._kinds.index(source.spectrum)] += source.picture(psf, projection, shape)
        return maps


def deep_field(
    ra_deg: float,
    dec_deg: float,
    radius_arcsec: float = 40.0,
    *,
    n_sources: int = 60,
    seed: int = 0,
) -> AnalyticSky:
    """Scatter stars and galaxies, faint ones more numerous, as a field to survey.

    Parameters
    ----------
    ra_deg, dec_deg
        Centre of the field.
    radius_arcsec
        Radius of the disc that the sources fill evenly.
    n_sources
        How many; a fifth of them are stars.
    seed
        Equal seeds give equal fields.
    """
    rng = np.random.default_rng(seed)
    kinds = _template_spectra()
    plane = SkyProjection.north_up(ra_deg, dec_deg, 1.0)
    radius = radius_arcsec * np.sqrt(rng.random(n_sources))
    angle = 2 * np.pi * rng.random(n_sources)
    ra, dec = plane.to_sky(radius * np.cos(angle), radius * np.sin(angle))
    sources: list[Source] = []
    for i in range(n_sources):
        spectrum = kinds[int(rng.integers(len(kinds)))]
        place = float(ra[i]), float(dec[i])
        if i % 5 == 0:
            sources.append(PointSource(*place, spectrum))
        else:
            scale, ratio, turn = rng.uniform(0.2, 0.7), rng.uniform(0.4, 1.0), rng.uniform(0, 180)
            sources.append(Galaxy(*place, spectrum, float(scale), float(ratio), float(turn)))
    return AnalyticSky(tuple(sources))


def _template_spectra() -> Sequence[Spectrum]:
    """Twelve kinds: continua of 30 to 3000 units with [OII], Hbeta, [OIII] and Halpha."""
    kinds = []
    for i, level in enumerate(np.geomspace(30.0, 3000.0, 12)):
        redshift = 0.05 + 0.11 * i
        slope = -1.5 + 0.3 * i
        points = tuple(
            (float(wave), float(level * (wave / 7000.0) ** slope))
            for wave in np.linspace(4600.0, 9400.0, 17)
        )
        rest = (3728.8, 4861.3, 4958.9, 5006.8, 6562.8)
        strength = (60.0, 15.0, 20.0, 60.0, 50.0)
        lines = tuple(
            Line(wave * (1 + redshift), float(level * power) ** 0.9, 3.0)
            for wave, power in zip(rest, strength, strict=True)
        )
        kinds.append(Spectrum(points, lines))
    return kinds
