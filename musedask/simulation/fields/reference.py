"""A reference image as the HST would have taken it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.simulation.fields.image import (
    Bools,
    SimulatedImage,
    correlated_noise,
    magnitude_to_flux,
    turned,
)
from musedask.simulation.fields.mixtures import HUBBLE_FWHM_ARCSEC, hubble
from musedask.simulation.fields.painting import Lattice, Spread, paint
from musedask.simulation.fields.scene import Scene
from musedask.sky import SkyProjection

ZERO_POINT = 25.94
"""AB magnitude of one electron a second in ACS F814W."""
UNITS = "ELECTRONS/S"
_APERTURE_ARCSEC2 = np.pi * 0.2**2
_FAINTEST_SIGMA = 0.01


@dataclass(frozen=True)
class ReferenceSpec:
    """How the reference is taken."""

    side_arcsec: float = 116.0
    """Of the square that it covers."""
    pixel_arcsec: float = 0.05
    """Side of a pixel."""
    angle_deg: float = 0.0
    """By which the lattice is turned, north through east."""
    depth_mag: float = 27.5
    """AB magnitude of five sigma in an aperture of 0.4" diameter."""
    cut_arcsec: float | None = None
    """It covers only what lies so far in the direction of ``cut_angle_deg`` or less far; None
    is everything."""
    cut_angle_deg: float = 0.0
    """Position angle of the direction in which it ends."""
    lag: float = 0.1
    """Lag-1 correlation of its noise (it is drizzled)."""


def observe_reference(
    scene: Scene, spec: ReferenceSpec, ra_deg: float, dec_deg: float, rng: np.random.Generator
) -> SimulatedImage:
    """Compute the reference image of a scene; it is right about where it lies.

    Parameters
    ----------
    scene
        What there is.
    spec
        How it is taken.
    ra_deg, dec_deg
        Its middle.
    rng
        Draws the noise.
    """
    n = round(spec.side_arcsec / spec.pixel_arcsec)
    middle = (n - 1) / 2.0
    projection = turned(
        SkyProjection.north_up(ra_deg, dec_deg, spec.pixel_arcsec, middle, middle), spec.angle_deg
    )
    lattice = Lattice(projection, (n, n))
    n_pixels = _APERTURE_ARCSEC2 / spec.pixel_arcsec**2
    sky = float(magnitude_to_flux(spec.depth_mag, ZERO_POINT)) / 5.0 / np.sqrt(n_pixels)
    light = paint(
        scene, magnitude_to_flux(scene.magnitude, ZERO_POINT), Spread(hubble()), lattice,
        _FAINTEST_SIGMA * sky,
    )  # fmt: skip
    # Exposures of 2000 s: the source's own electrons.
    variance = (sky**2 + light / 2000.0).astype(np.float32)
    flux = light.astype(np.float32)
    flux += correlated_noise(rng, np.sqrt(variance), lattice.shape, spec.lag)
    missing = ~_covered(spec, lattice)
    flux[missing] = variance[missing] = np.nan
    return SimulatedImage(
        flux=flux, variance=variance, projection=projection, fwhm_arcsec=HUBBLE_FWHM_ARCSEC,
        band="F814W", units=UNITS, ra_deg=ra_deg, dec_deg=dec_deg, name="reference", lag=spec.lag,
    )  # fmt: skip


def _covered(spec: ReferenceSpec, lattice: Lattice) -> Bools:
    """Bool (y, x)."""
    if spec.cut_arcsec is None:
        return np.ones(lattice.shape, bool)
    matrix = lattice.arcsec_per_pixel
    angle = np.radians(spec.cut_angle_deg)
    along: Any = np.array([np.sin(angle), np.cos(angle)]) @ matrix
    y, x = (np.arange(n) - (n - 1) / 2.0 for n in lattice.shape)
    return np.asarray(along[1] * y[:, None] + along[0] * x <= spec.cut_arcsec)
