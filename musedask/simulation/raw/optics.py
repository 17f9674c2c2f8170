"""Where light goes: slices of the field, their traces on the detector, their wavelengths.

Positions in the field are in spaxels of 0.2" from its middle, x to the west and
y to the north at a position angle of 0; pixels of the detector are 0-based.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from musedask.simulation.raw.detector import NY

Floats = np.ndarray[Any, np.dtype[np.float64]]
Geometry = Literal["compact", "real"]

SPAXEL_ARCSEC = 0.2
SLICES = 48
IFUS = 24
SLICE_SPAXELS = 75.0
"""Length of a slice in the field."""
_ORDER = (9, 8, 1, 10, 7, 2, 11, 6, 3, 12, 5, 4)
"""Place in the field of the first twelve slices of a detector; the others follow it + 12..."""
_FIRST_LEFT, _PITCH = 23.0, 84.4


def sky_slices() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number in the field (1 to 48) of each slice of the detector, int64 (slice,)."""
    return np.asarray(np.add.outer(12 * np.arange(4), np.array(_ORDER)).ravel(), np.int64)


@dataclass(frozen=True, eq=False)
class Optics:
    """One IFU: what a detector sees where."""

    ifu: int
    """1 to 24."""
    left: Floats
    """Left edge of each slice, float64 (slice, y), pixels."""
    wave: Floats
    """Wavelength at the middle of each slice, float64 (slice, y), Angstrom."""
    dispersion: Floats
    """Angstrom per pixel along y, float64 (y,)."""
    throughput: Floats
    """Of each slice, the IFU's included, float64 (slice,)."""
    x_field: Floats
    """Middle of each slice in the field, float64 (slice,), spaxels."""
    y_field: Floats
    """The same along y."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The part of the field that it sees: x from, to, y from, to, spaxels."""
        half = SLICE_SPAXELS / 2
        return (
            float(self.x_field.min() - half), float(self.x_field.max() + half),
            float(self.y_field.min() - 0.5), float(self.y_field.max() + 0.5),
        )  # fmt: skip


def make_optics(ifu: int, ifus: Sequence[int], geometry: Geometry, seed: int) -> Optics:
    """Make the optics of one IFU.

    Parameters
    ----------
    ifu
        Its number, 1 to 24.
    ifus
        All that are simulated; the compact geometry puts them side by side.
    geometry
        ``real``: each IFU sees a strip of 300 x 12 spaxels. ``compact``: 75 x 48.
    seed
        Of the throughput of slices and IFUs.
    """
    s = np.arange(SLICES)[:, None]
    centred = np.arange(1, NY + 1) - 2056.0
    t = centred / 2056.0
    bow, tilt = 1.2 * np.sin(0.13 * s + 0.1 * ifu), 0.6 * np.cos(0.2 * s)
    left = _FIRST_LEFT + _PITCH * s + bow * t**2 + tilt * t
    start = 6.0 * ((s % 12) - 5.5) / 5.5 + 0.7 * (ifu % 5)
    wave = 7030.0 + start + 1.25 * centred + 1.2e-6 * centred**2 + 2e-10 * centred**3
    rng = np.random.default_rng([seed, ifu, 48])
    throughput = rng.normal(1.0, 0.03) * rng.normal(1.0, 0.05, SLICES)
    x, y = field_places(ifu, ifus, geometry)
    dispersion = 1.25 + 2.4e-6 * centred + 6e-10 * centred**2
    return Optics(ifu, left, wave, dispersion, throughput, x, y)


def field_places(ifu: int, ifus: Sequence[int], geometry: Geometry) -> tuple[Floats, Floats]:
    """Middle (x, y) of each slice in the field, two float64 (slice,), spaxels."""
    sky = sky_slices()
    if geometry == "real":
        stack, row = (sky - 1) // 12, (sky - 1) % 12
        return _floats((stack - 1.5) * SLICE_SPAXELS), _floats((12.5 - ifu) * 12.0 + 5.5 - row)
    n = len(ifus)
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    row_of, column_of = divmod(list(ifus).index(ifu), columns)
    x = (column_of - (columns - 1) / 2) * SLICE_SPAXELS
    y = ((rows - 1) / 2 - row_of) * SLICES
    return np.full(SLICES, x), _floats(y + 24.5 - sky)


def _floats(values: Any) -> Floats:
    return np.asarray(values, np.float64)
