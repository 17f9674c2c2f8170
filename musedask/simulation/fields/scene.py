"""What there is in a deep field: galaxies by their counts, and stars.

Counts of galaxies: 14 a magnitude and square arcminute at I = 24, with a slope
of 0.34 below and 0.25 above (as in deep counts, e.g. Metcalfe et al. 2001,
MNRAS 323, 795; Capak et al. 2007, ApJS 172, 99). Sizes shrink with magnitude
(half-light radius 0.3" at I = 24, 0.2 dex of scatter).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from musedask.sky import ARCSEC_PER_DEG, SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]

KNEE_MAG, AT_KNEE = 24.0, 14.0
SLOPE_BRIGHT, SLOPE_FAINT = 0.34, 0.25
BRIGHTEST_MAG = 18.5
POINT, DISC, SPHEROID = 0, 1, 4
"""Kinds of sources: the Sersic index of galaxies, 0 for stars."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Sources of a field; every array is of shape (source,)."""

    ra_deg: Floats
    """Float64, degrees, where the reference saw them."""
    dec_deg: Floats
    """Float64, degrees."""
    magnitude: Floats
    """Float64, AB, in the reference's band (I)."""
    colour: Floats
    """Float64: magnitude in white light minus ``magnitude``."""
    kind: Floats
    """Float64: :data:`POINT`, :data:`DISC` or :data:`SPHEROID`."""
    radius_arcsec: Floats
    """Float64, half-light radius along the major axis; 0 of a star."""
    axis_ratio: Floats
    """Float64, 0 to 1."""
    angle_deg: Floats
    """Float64, position angle of the major axis, north through east."""
    move_east_arcsec: Floats
    """Float64: how far it has moved when the exposure sees it."""
    move_north_arcsec: Floats
    """Float64."""
    brightening_mag: Floats
    """Float64: what has to be added to its magnitude when the exposure sees it."""

    def __len__(self) -> int:
        return int(self.ra_deg.size)

    @property
    def is_steady(self) -> Any:
        """Bool (source,): neither moves nor varies."""
        still = (self.move_east_arcsec == 0) & (self.move_north_arcsec == 0)
        return still & (self.brightening_mag == 0)

    @property
    def is_galaxy(self) -> Any:
        """Bool (source,)."""
        return self.kind != POINT

    def only(self, chosen: Any) -> Scene:
        """The sources that a mask or indices choose."""
        return Scene(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def joined(self, other: Scene) -> Scene:
        """The sources of both."""
        pairs = ((getattr(self, n), getattr(other, n)) for n in self.__dataclass_fields__)
        return Scene(*(np.concatenate(pair) for pair in pairs))

    def with_motion(
        self, index: int, east_arcsec: float, north_arcsec: float, brightening_mag: float = 0.0
    ) -> Scene:
        """One source moves, or changes its brightness, before the exposure sees it."""
        moved = self.move_east_arcsec.copy(), self.move_north_arcsec.copy()
        moved[0][index], moved[1][index] = east_arcsec, north_arcsec
        brightening = self.brightening_mag.copy()
        brightening[index] = brightening_mag
        return replace(
            self,
            move_east_arcsec=moved[0],
            move_north_arcsec=moved[1],
            brightening_mag=brightening,
        )

    def seen_later(self) -> Scene:
        """The same sources where and as bright as the exposure sees them."""
        cos = np.cos(np.radians(self.dec_deg))
        return replace(
            self,
            ra_deg=self.ra_deg + self.move_east_arcsec / ARCSEC_PER_DEG / cos,
            dec_deg=self.dec_deg + self.move_north_arcsec / ARCSEC_PER_DEG,
            magnitude=self.magnitude + self.brightening_mag,
        )


def points(ra_deg: Any, dec_deg: Any, magnitude: Any, colour: Any = 0.8) -> Scene:
    """Make a scene of stars."""
    arrays = np.broadcast_arrays(*np.atleast_1d(ra_deg, dec_deg, magnitude, colour))
    ra, dec, mag, red = (np.array(array, float) for array in arrays)
    zero = np.zeros(ra.shape)
    return Scene(ra, dec, mag, red, zero, zero, zero + 1, zero, zero, zero, zero)


def galaxies(
    rng: np.random.Generator,
    ra_deg: float,
    dec_deg: float,
    side_arcsec: float,
    density: float = 1.0,
    brightest_mag: float = BRIGHTEST_MAG,
    faintest_mag: float = 28.0,
) -> Scene:
    """Draw the galaxies of a square field.

    Parameters
    ----------
    rng
        What draws.
    ra_deg, dec_deg
        Middle of the field.
    side_arcsec
        Its side.
    density
        Times the mean density: fields differ.
    brightest_mag, faintest_mag
        Only galaxies between these.
    """
    magnitudes = np.arange(BRIGHTEST_MAG, faintest_mag, 0.01)
    from_knee = magnitudes - KNEE_MAG
    counts = AT_KNEE * 10.0 ** (np.where(from_knee < 0, SLOPE_BRIGHT, SLOPE_FAINT) * from_knee)
    counts *= 0.01 * density * (side_arcsec / 60.0) ** 2
    n = rng.poisson(counts)
    magnitude = np.repeat(magnitudes, n) + rng.uniform(0, 0.01, int(n.sum()))
    magnitude = magnitude[magnitude >= brightest_mag]
    size = magnitude.shape
    radius = 0.3 * 10.0 ** (-0.1 * (magnitude - KNEE_MAG) + rng.normal(0, 0.2, size))
    ra, dec = scattered(rng, ra_deg, dec_deg, side_arcsec, magnitude.size)
    zero = np.zeros(size)
    return Scene(
        ra, dec, magnitude,
        colour=rng.normal(0.6, 0.35, size),
        kind=np.where(rng.random(size) < 0.2, SPHEROID, DISC).astype(float),
        radius_arcsec=np.clip(radius, 0.03, 3.0),
        axis_ratio=rng.uniform(0.25, 1.0, size),
        angle_deg=rng.uniform(0, 180, size),
        move_east_arcsec=zero, move_north_arcsec=zero, brightening_mag=zero,
    )  # fmt: skip


def scattered(
    rng: np.random.Generator, ra_deg: float, dec_deg: float, side_arcsec: float, n: int
) -> tuple[Floats, Floats]:
    """Draw positions (RA and DEC, degrees) in a square field."""
    plane = SkyProjection.north_up(ra_deg, dec_deg, 1.0)
    x, y = rng.uniform(-0.5, 0.5, (2, n)) * side_arcsec
    return plane.to_sky(x, y)


def cluster(
    rng: np.random.Generator, ra_deg: float, dec_deg: float, n: int, core_arcsec: float = 25.0
) -> Scene:
    """Draw the stars of a globular cluster: a Plummer profile, I = 16 to 25."""
    radius = core_arcsec / np.sqrt(rng.random(n) ** -1.0 - 1.0 + 1e-9)
    angle = rng.uniform(0, 2 * np.pi, n)
    plane = SkyProjection.north_up(ra_deg, dec_deg, 1.0)
    ra, dec = plane.to_sky(radius * np.cos(angle), radius * np.sin(angle))
    # More and more towards the faint end, as on a main sequence.
    magnitude = 25.0 + np.log10(rng.uniform(10.0 ** (-0.25 * 9.0), 1.0, n)) / 0.25
    return points(ra, dec, magnitude, rng.normal(0.6, 0.15, n)).only(radius < 70.0)
