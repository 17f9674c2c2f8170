"""Simulated images of a field, and what a camera is like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.simulation.noise import FreshNoise
from musedask.sky import SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False, kw_only=True)
class SimulatedImage:
    """An image of the sky with the header that its file would have."""

    flux: Floats32
    """Float32 (y, x) in ``units``, NaN where there is none."""
    variance: Floats32
    """Float32 (y, x), as it would be stated; NaN with the flux."""
    projection: SkyProjection
    """Where the header says that the pixels lie."""
    fwhm_arcsec: float
    """FWHM of a point source."""
    band: str
    """Name of the filter."""
    units: str
    """BUNIT."""
    ra_deg: float
    """RA of the header's pointing."""
    dec_deg: float
    """DEC of the header's pointing."""
    name: str
    """Stem of its file."""
    date_obs: str = ""
    """DATE-OBS of an exposure; empty for a reference."""
    lag: float = 0.0
    """Lag-1 correlation of its noise along y and x."""


def magnitude_to_flux(magnitude: Any, zero_point: float) -> Floats:
    """Flux in units of which one has this magnitude."""
    return np.asarray(10.0 ** (-0.4 * (np.asarray(magnitude, float) - zero_point)))


def correlated_noise(
    rng: np.random.Generator, sigma: Any, shape: tuple[int, int], lag: float
) -> Any:
    """Noise of these standard deviations, float32 (y, x), with lag-1 correlation along y and x."""
    unit = FreshNoise(rng, shape, (0.0, lag, lag)).take(1)[0]
    return np.asarray(unit * np.asarray(sigma, np.float32))


def turned(projection: SkyProjection, angle_deg: float) -> SkyProjection:
    """The lattice turned about its reference point, north through east."""
    return projection.moved(0.0, 0.0, -angle_deg) if angle_deg else projection
