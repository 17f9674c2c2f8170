"""What is wrong with an image from MUSE: its edges, its slices, gradients, a satellite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.simulation.fields.image import Bools, Floats
from musedask.simulation.fields.painting import Lattice

Integers = np.ndarray[Any, np.dtype[np.int64]]

HALF_FIELD_ARCSEC = 30.0
SLICE_ARCSEC = (15.0, 0.2)
"""Length and width of a slice of the image slicer."""


@dataclass(frozen=True)
class Coordinates:
    """Where pixels lie in the instrument, arcseconds from its middle, float64 (y, x) each."""

    along: Floats
    """Along the slices."""
    across: Floats
    """Across them."""


def field_coordinates(lattice: Lattice, angle_deg: float) -> Coordinates:
    """Where the pixels of an exposure lie in the instrument."""
    ny, nx = lattice.shape
    y, x = np.mgrid[:ny, :nx].astype(float)
    pixels = np.stack([x - (nx - 1) / 2.0, y - (ny - 1) / 2.0])
    east, north = np.tensordot(lattice.arcsec_per_pixel, pixels, 1)
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return Coordinates(along=cos * east - sin * north, across=sin * east + cos * north)


@dataclass(frozen=True)
class Blemishes:
    """What is wrong; amplitudes are in the noise of a blank spaxel."""

    ragged_arcsec: float = 0.4
    """Slices begin and end up to so far inside the field's edge."""
    dead_share: float = 5e-4
    """Of the spaxels, without a value."""
    edge_sigma: float = 0.0
    """Light, or lack of it, of the outermost slices."""
    slices_sigma: float = 0.0
    """Levels of single slices."""
    gradient_sigma: float = 0.0
    """From the middle to a corner."""
    gradient_deg: float = 0.0
    """Its direction."""
    trail_sigma: float = 0.0
    """Of a satellite that crossed the field, at its middle."""
    trail_deg: float = 30.0
    """Position angle of its trail."""
    trail_arcsec: float = 0.0
    """How far from the field's middle it passed."""
    n_hot: int = 0
    """Single spaxels with ten to a hundred sigma of light."""

    def light(
        self, lattice: Lattice, place: Coordinates, sigma: float, fwhm_arcsec: float,
        rng: np.random.Generator,
    ) -> Floats:  # fmt: skip
        """What they add to the image, float64 (y, x)."""
        result = np.zeros(lattice.shape)
        if self.slices_sigma:
            result += self.slices_sigma * _of_slices(place, rng)
        if self.edge_sigma:
            result += self.edge_sigma * _at_edges(place, rng)
        if self.gradient_sigma:
            result += self.gradient_sigma * _rising(place, self.gradient_deg)
        if self.trail_sigma:
            distance = _in_direction(place, self.trail_deg) - self.trail_arcsec
            result += self.trail_sigma * np.exp(-4 * np.log(2) * (distance / fwhm_arcsec) ** 2)
        hot = rng.integers(0, result.size, self.n_hot)
        result.ravel()[hot] += 10.0 ** rng.uniform(1.0, 2.0, self.n_hot)
        return result * sigma


def footprint(blemishes: Blemishes, place: Coordinates, rng: np.random.Generator) -> Bools:
    """Where there are values, bool (y, x): the field with ragged edges, and dead spaxels."""
    row = _row(place)
    ends = HALF_FIELD_ARCSEC - rng.uniform(0, blemishes.ragged_arcsec, (2, row.max() + 1))
    inside = (place.along > -ends[0][row]) & (place.along < ends[1][row])
    inside &= np.abs(place.across) < HALF_FIELD_ARCSEC
    inside &= rng.random(inside.shape) >= blemishes.dead_share
    return np.asarray(inside)


def _row(place: Coordinates) -> Integers:
    """Number of the slice across the field, int (y, x)."""
    n = round(2 * HALF_FIELD_ARCSEC / SLICE_ARCSEC[1])
    rows = np.floor((place.across + HALF_FIELD_ARCSEC) / SLICE_ARCSEC[1]).astype(int)
    return np.asarray(np.clip(rows, 0, n - 1))


def _of_slices(place: Coordinates, rng: np.random.Generator) -> Floats:
    """A level of unit variance for each slice."""
    stack = np.floor((place.along + HALF_FIELD_ARCSEC) / SLICE_ARCSEC[0]).astype(int)
    levels = rng.standard_normal((int(_row(place).max()) + 1, 4))
    return np.asarray(levels[_row(place), np.clip(stack, 0, 3)])


def _at_edges(place: Coordinates, rng: np.random.Generator) -> Floats:
    """Bright and dark rims of 0.2 to 1 arcsec on some sides."""
    result = np.zeros(place.along.shape)
    for coordinate in (place.along, -place.along, place.across, -place.across):
        if rng.random() < 0.6:
            depth = HALF_FIELD_ARCSEC - coordinate
            rim = (depth >= 0) & (depth < rng.uniform(0.2, 1.0))
            result[rim] += rng.choice([-0.5, 1.0]) * rng.uniform(0.3, 1.0, int(rim.sum()))
    return result


def _rising(place: Coordinates, angle_deg: float) -> Floats:
    """A slope, and a corner that is darker."""
    slope = _in_direction(place, angle_deg) / HALF_FIELD_ARCSEC
    return slope - 0.3 * (place.along * place.across / HALF_FIELD_ARCSEC**2)


def _in_direction(place: Coordinates, angle_deg: float) -> Floats:
    angle = np.radians(angle_deg)
    return np.asarray(np.sin(angle) * place.along + np.cos(angle) * place.across)
