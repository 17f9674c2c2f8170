"""An exposure of a field, collapsed to one image.

Noise and zero points are those of the real exposure of Abell 478 (see
:mod:`musedask.simulation.abell478`): its STAT collapsed over 4750 to 9350
Angstrom gives 0.18 units (1e-20 erg/s/cm2/Angstrom) in 900 s, and a lag-1
correlation of 0.15 along wavelength makes that 0.20.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from musedask.errors import InputError
from musedask.simulation.fields.blemishes import Blemishes, field_coordinates, footprint
from musedask.simulation.fields.image import (
    Bools,
    Floats,
    SimulatedImage,
    correlated_noise,
    magnitude_to_flux,
    turned,
)
from musedask.simulation.fields.limit import photon_limit, template_power
from musedask.simulation.fields.mixtures import moffat
from musedask.simulation.fields.painting import Lattice, Spread, paint
from musedask.simulation.fields.scene import Scene
from musedask.simulation.noise import REAL_CORRELATION
from musedask.sky import SkyProjection

PIXEL_ARCSEC = 0.2
RIM_ARCSEC = 0.8
"""Of a field: its noise is not what STAT says, and a source on it is half a source."""
UNITS = "10**(-20)*erg/s/cm**2/Angstrom"
_REFERENCE_TIME_S = 900.0
_SMALLEST_SIDE, _LARGEST_SIDE = 320, 450
_FAINTEST_SIGMA = 0.005


@dataclass(frozen=True)
class Band:
    """What an exposure of 900 s is like in a filter."""

    zero_point: float
    """AB magnitude of one unit of flux."""
    sky_sigma: float
    """Noise of a blank spaxel, units of flux."""
    per_flux: float
    """Variance that each unit of flux adds."""
    colour: float
    """How much of a source's colour (white minus I) shows."""


BANDS = {
    "white": Band(28.35, 0.197, 1.3e-4, 1.0),
    "I": Band(28.03, 0.225, 2.0e-4, 0.0),
}
"""Measured on the real exposure; I is 7000 to 9350 Angstrom."""


@dataclass(frozen=True)
class FieldExposureSpec:
    """How an exposure is taken."""

    fwhm_arcsec: float = 0.8
    """Seeing."""
    beta: float = 2.8
    """Exponent of its Moffat function."""
    ellipticity: float = 0.0
    """1 - b / a of the seeing."""
    exptime_s: float = 900.0
    """Exposure time."""
    band: str = "white"
    """A name of :data:`BANDS`."""
    rotator_deg: float = 0.0
    """Position angle of the footprint."""
    is_turned: bool = False
    """Whether the lattice is turned with the footprint, or north up as the pipeline has it."""
    ra_offset_arcsec: float = 0.0
    """Header minus truth, to the east on the sky."""
    dec_offset_arcsec: float = 0.0
    """The same to the north."""
    rotation_deg: float = 0.0
    """By which the header turns the exposure too far."""
    dither_arcsec: tuple[float, float] = (0.0, 0.0)
    """Where the middle truly lies, east and north of the field's."""
    transparency: float = 1.0
    """Share of the light that comes through."""
    background: float = 0.0
    """Sky that was not subtracted, units of flux."""
    stated_variance: float = 0.77
    """Variance that is stated over the true one: STAT knows nothing of correlations."""
    blemishes: Blemishes = field(default_factory=Blemishes)
    """What is wrong with it."""
    date_obs: str = "2026-01-01T00:00:00.000"
    """Its key."""
    name: str = "exposure"
    """For people."""


@dataclass(frozen=True, eq=False)
class ExposureTruth:
    """What is true of a simulated exposure."""

    ra_offset_arcsec: float
    """Exposure minus reference: what has to be found."""
    dec_offset_arcsec: float
    """The same to the north."""
    rotation_deg: float
    """By which it is turned too far."""
    flux_scale: float
    """By which its flux has to be multiplied to be that of the reference, where colours are 0."""
    covariance_arcsec2: Floats
    """Cramer-Rao bound of the offset (east, north), float64 (2, 2); infinite without light.
    It counts the photons of both images and no rim of :data:`RIM_ARCSEC`."""
    fwhm_arcsec: float
    """Seeing."""
    n_bright: int
    """Galaxies brighter than I = 24 in the footprint and on the reference."""

    @property
    def limit_arcsec(self) -> tuple[float, float]:
        """Cramer-Rao bound of the error to the east and to the north."""
        east, north = np.sqrt(np.diag(self.covariance_arcsec2))
        return float(east), float(north)


@dataclass(frozen=True, eq=False)
class FieldExposure:
    """A simulated exposure and the truth."""

    image: SimulatedImage
    """What is seen."""
    truth: ExposureTruth
    """What is so."""
    light: Floats
    """Float64 (y, x), the sources without noise and background."""


def observe_exposure(
    scene: Scene,
    spec: FieldExposureSpec,
    ra_deg: float,
    dec_deg: float,
    rng: np.random.Generator,
    reference: SimulatedImage | None = None,
) -> FieldExposure:
    """Compute the image of an exposure, and how well its offset can be known at best.

    Parameters
    ----------
    scene
        What there is.
    spec
        How it is taken.
    ra_deg, dec_deg
        Middle of the field.
    rng
        Draws the noise.
    reference
        Bright galaxies count only where it has data, and so does the light that
        the bound rests on.

    Raises
    ------
    InputError
        If the band is not known.
    """
    if spec.band not in BANDS:
        raise InputError(f"band {spec.band!r} is not one of {', '.join(BANDS)}")
    header, lattice = _placed(spec, ra_deg, dec_deg)
    inside = footprint(spec.blemishes, field_coordinates(lattice, _own_angle(spec)), rng)
    light, steady, variance = _light(scene, spec, lattice)
    flux = light + correlated_noise(rng, np.sqrt(variance), lattice.shape, REAL_CORRELATION[1])
    sky = _sky_sigma(spec)
    flux += spec.background + spec.blemishes.light(
        lattice, field_coordinates(lattice, _own_angle(spec)), sky, spec.fwhm_arcsec, rng
    )
    flux[~inside] = np.nan
    stated = np.where(inside, variance * spec.stated_variance, np.nan)
    image = SimulatedImage(
        flux=flux.astype(np.float32), variance=stated.astype(np.float32),
        projection=header.projection, fwhm_arcsec=spec.fwhm_arcsec, band=spec.band, units=UNITS,
        ra_deg=header.ra_deg, dec_deg=header.dec_deg, name=spec.name, date_obs=spec.date_obs,
    )  # fmt: skip
    shared = inside if reference is None else inside & _on(reference, lattice)
    scale = float(
        magnitude_to_flux(0.0, 25.94) / magnitude_to_flux(0.0, BANDS[spec.band].zero_point)
    ) / spec.transparency  # fmt: skip
    covariance = photon_limit(
        steady, variance, shared & _within(inside), REAL_CORRELATION[1],
        lattice.arcsec_per_pixel, _noise_of(reference, spec, lattice.shape, scale),
    )  # fmt: skip
    truth = ExposureTruth(
        spec.ra_offset_arcsec, spec.dec_offset_arcsec, spec.rotation_deg, scale, covariance,
        spec.fwhm_arcsec, _n_bright(scene, lattice, shared),
    )  # fmt: skip
    return FieldExposure(image, truth, light)


@dataclass(frozen=True)
class _Header:
    projection: SkyProjection
    ra_deg: float
    dec_deg: float


def _placed(spec: FieldExposureSpec, ra_deg: float, dec_deg: float) -> tuple[_Header, Lattice]:
    """What the header says, and where the pixels truly lie."""
    plane = SkyProjection.north_up(ra_deg, dec_deg, 1.0)
    east, north = spec.dither_arcsec
    ra, dec = (float(value) for value in plane.to_sky(-east, north))
    ra += spec.ra_offset_arcsec / 3600.0 / np.cos(np.radians(dec))
    dec += spec.dec_offset_arcsec / 3600.0
    turn = np.radians(spec.rotator_deg)
    reach = 300.0 * (abs(np.cos(turn)) + abs(np.sin(turn))) + 16
    side = _SMALLEST_SIDE if spec.is_turned else int(np.clip(reach, _SMALLEST_SIDE, _LARGEST_SIDE))
    middle = (side - 1) / 2.0
    projection = SkyProjection.north_up(ra, dec, PIXEL_ARCSEC, middle, middle)
    if spec.is_turned:
        projection = turned(projection, spec.rotator_deg)
    true = projection.moved(
        spec.ra_offset_arcsec, spec.dec_offset_arcsec, spec.rotation_deg,
        dec_deg=dec, about=(middle, middle),
    )  # fmt: skip
    return _Header(projection, ra % 360.0, dec), Lattice(true, (side, side))


def _own_angle(spec: FieldExposureSpec) -> float:
    """Angle of the footprint against the true north."""
    return spec.rotator_deg - spec.rotation_deg


def _sky_sigma(spec: FieldExposureSpec) -> float:
    return BANDS[spec.band].sky_sigma * float(np.sqrt(_REFERENCE_TIME_S / spec.exptime_s))


def _light(
    scene: Scene, spec: FieldExposureSpec, lattice: Lattice
) -> tuple[Floats, Floats, Floats]:
    """Light of all sources, of the steady ones alone, and the true variance, each (y, x)."""
    band, sky = BANDS[spec.band], _sky_sigma(spec)
    seen = scene.seen_later()
    magnitude = seen.magnitude + band.colour * seen.colour
    flux = spec.transparency * magnitude_to_flux(magnitude, band.zero_point)
    spread = Spread(moffat(spec.beta).scaled(spec.fwhm_arcsec), spec.ellipticity, 30.0)
    steady, faintest = scene.is_steady, _FAINTEST_SIGMA * sky
    calm = paint(seen.only(steady), flux[steady], spread, lattice, faintest)
    light = calm
    if not steady.all():
        light = calm + paint(seen.only(~steady), flux[~steady], spread, lattice, faintest)
    per_flux = band.per_flux * _REFERENCE_TIME_S / spec.exptime_s
    return light, calm, sky**2 + per_flux * light


def _within(inside: Bools) -> Bools:
    """All but a rim: there the noise of real fields is not what anything says."""
    field = ndimage.binary_closing(np.pad(inside, 1))[1:-1, 1:-1]
    rim = round(RIM_ARCSEC / PIXEL_ARCSEC)
    return np.asarray(ndimage.binary_erosion(field, iterations=rim) & inside)


def _noise_of(
    reference: SimulatedImage | None,
    spec: FieldExposureSpec,
    shape: tuple[int, int],
    scale: float,
) -> Floats | None:
    """Power of the reference's noise, as the exposure's bound counts it."""
    if reference is None:
        return None
    area = reference.projection.pixel_area_arcsec2
    between = float(np.nanmedian(reference.variance)) * (1.0 + 2.0 * reference.lag) ** 2
    return template_power(
        shape, PIXEL_ARCSEC, between / scale**2 / area,
        moffat(spec.beta).scaled(spec.fwhm_arcsec), _sky_sigma(spec) ** 2,
    )  # fmt: skip


def _on(reference: SimulatedImage, lattice: Lattice) -> Bools:
    """Where the reference has data, bool (y, x) of the exposure's pixels."""
    y, x = np.mgrid[: lattice.shape[0], : lattice.shape[1]]
    at_x, at_y = reference.projection.to_pixel(*lattice.projection.to_sky(x, y))
    ny, nx = reference.flux.shape
    column, row = (np.rint(value).astype(int) for value in (at_x, at_y))
    inside = (column >= 0) & (row >= 0) & (column < nx) & (row < ny)
    there = reference.flux[np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)]
    return np.asarray(inside & np.isfinite(there))


def _n_bright(scene: Scene, lattice: Lattice, shared: Bools) -> int:
    bright = scene.only(scene.is_galaxy & (scene.magnitude < 24.0))
    x, y = lattice.projection.to_pixel(bright.ra_deg, bright.dec_deg)
    ny, nx = shared.shape
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < nx) & (row < ny)
    found: Any = shared[row[inside], column[inside]]
    return int(found.sum())
