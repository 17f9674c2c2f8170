"""The noise of an exposure: how large it is, and how neighbours share it.

Numerics: arrays in, arrays out. The noise of a voxel has exactly the variance
that STAT states. As in real cubes, neighbours are correlated (a moving average
of two along each axis, so nothing beyond the next voxel), so that the error of
a sum over many voxels is larger than STAT says: by sqrt(1 + 2 r) per axis of
lag-1 correlation r, which is 1.34 for a wide aperture and 1.52 for one over
many channels as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from musedask.errors import InputError

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]

REAL_CORRELATION = (0.15, 0.17, 0.17)
"""Lag-1 correlation along wavelength, y, x, as measured in a real exposure."""
WHITE = (0.0, 0.0, 0.0)

_SKY_LINES = (
    (5577.338, 900.0), (5889.951, 70.0), (5895.924, 40.0), (6300.304, 400.0), (6363.776, 110.0),
    (6863.955, 50.0), (7276.405, 150.0), (7316.282, 160.0), (7340.885, 140.0), (7750.640, 220.0),
    (7794.112, 230.0), (7821.503, 240.0), (7913.708, 270.0), (7964.650, 290.0), (7993.332, 270.0),
    (8344.602, 330.0), (8399.170, 500.0), (8430.174, 450.0), (8777.700, 380.0), (8827.096, 560.0),
    (8885.850, 650.0), (8919.610, 560.0), (9313.0, 1200.0), (9337.9, 900.0),
)  # fmt: skip
"""Night-sky lines: wavelength in air (Angstrom) and the variance that they add at their peak,
in the units of a 900 s exposure."""
_LINE_SIGMA_ANGSTROM = 1.1


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Variance of a spaxel as a function of wavelength and of the source's flux."""

    wavelengths: Floats
    """Of the tables, float64 (wavelength,), Angstrom, as seen from the telescope."""
    sky_variance: Floats
    """Variance where there is no source, (1e-20 erg/s/cm2/Angstrom)^2."""
    per_flux: Floats
    """Variance that each unit of flux adds."""
    exptime_s: float
    """The exposure time that the tables are for; the variance goes as its inverse."""

    def at(
        self, wavelengths: Floats, exptime_s: float, barycentric_ratio: float = 1.0
    ) -> tuple[Floats32, Floats32]:
        """Give the two tables at an exposure's wavelengths, each float32 (wavelength,).

        Parameters
        ----------
        wavelengths
            Angstrom, barycentric as in the cube.
        exptime_s
            Exposure time.
        barycentric_ratio
            1 + v / c of the correction. Night-sky lines stand still for the
            telescope, so that they move in barycentric wavelengths.
        """
        seen = np.asarray(wavelengths, float) / barycentric_ratio
        scale = self.exptime_s / exptime_s
        sky = np.interp(seen, self.wavelengths, self.sky_variance) * scale
        return sky.astype(np.float32), (
            np.interp(seen, self.wavelengths, self.per_flux) * scale
        ).astype(np.float32)


def modelled_noise() -> NoiseModel:
    """Make a noise model like the real one of Abell 478 (900 s) from a formula.

    The continuum falls from 450 at 4750 to 45 above 7300 Angstrom, with the
    night-sky lines on top.
    """
    waves = np.arange(4560.0, 9420.0, 0.625)
    continuum = 45.0 + 405.0 * np.exp(-np.clip(waves - 4750.0, -200, None) / 620.0)
    lines = np.zeros_like(waves)
    for centre, peak in _SKY_LINES:
        lines += peak * np.exp(-0.5 * ((waves - centre) / _LINE_SIGMA_ANGSTROM) ** 2)
    return NoiseModel(waves, continuum + lines, np.full(waves.shape, 0.25), 900.0)


def moving_average_weight(correlation: float) -> float:
    """Weight a of the neighbour in (e_i + a e_(i-1)) / sqrt(1 + a^2) for a lag-1 correlation.

    Solves a / (1 + a^2) = r.

    Raises
    ------
    InputError
        If ``correlation`` is not in [0, 0.5), all that two neighbours can have.
    """
    if not 0 <= correlation < 0.5:
        raise InputError(f"lag-1 correlation of {correlation}: it has to be in [0, 0.5)")
    # The smaller root, in the form that keeps its digits where r is small.
    return float(2.0 * correlation / (1.0 + np.sqrt(1.0 - 4.0 * correlation**2)))


class NoiseField(Protocol):
    """A source of unit noise."""

    def take(self, n: int) -> Floats32:
        """Give the next ``n`` channels, float32 (wavelength, y, x) of variance 1."""


class FreshNoise:
    """Noise that never repeats; the same whatever the runs it is taken in."""

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int],
        correlation: tuple[float, float, float] = REAL_CORRELATION,
    ) -> None:
        self._rng = rng
        self._shape = shape
        self._weights = tuple(moving_average_weight(r) for r in correlation)
        self._last = self._drawn(1)

    def _drawn(self, n: int) -> Floats32:
        """Independent values, one more along y and x for the neighbours at the edge."""
        ny, nx = self._shape
        return self._rng.standard_normal((n, ny + 1, nx + 1), dtype=np.float32)

    def take(self, n: int) -> Floats32:
        """Give the next ``n`` channels, float32 (wavelength, y, x) of variance 1."""
        along_z, along_y, along_x = (np.float32(weight) for weight in self._weights)
        white = np.concatenate([self._last, self._drawn(n)])
        self._last = white[-1:].copy()
        result = white[1:] + along_z * white[:-1]
        result = result[:, 1:] + along_y * result[:, :-1]
        result = result[:, :, 1:] + along_x * result[:, :, :-1]
        result *= np.float32(1.0 / np.sqrt(np.prod([1 + a * a for a in self._weights])))
        return np.asarray(result)


class NoisePool:
    """A periodic field of noise of which exposures take rolled pieces: fast, for large sets.

    Two pieces with the same roll would be the same noise; with a pool of 48
    channels of a full field that is one chance in five million for two runs.
    Between runs the correlation along wavelength is lost.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int],
        correlation: tuple[float, float, float] = REAL_CORRELATION,
        n_channels: int = 48,
    ) -> None:
        field = rng.standard_normal((n_channels, *shape), dtype=np.float32)
        norm = 1.0
        for axis, lag in enumerate(correlation):
            weight = moving_average_weight(lag)
            field += np.float32(weight) * np.roll(field, 1, axis)
            norm *= 1 + weight * weight
        self._field = field * np.float32(1 / np.sqrt(norm))

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the exposures that it serves."""
        return self._field.shape[1], self._field.shape[2]

    def field(self, rng: np.random.Generator) -> _Rolled:
        """Noise for one exposure, from a generator of its own."""
        return _Rolled(self._field, rng)


class _Rolled:
    """Rolled pieces of a pool."""

    def __init__(self, field: Floats32, rng: np.random.Generator) -> None:
        self._field = field
        self._rng = rng

    def take(self, n: int) -> Floats32:
        """Give the next ``n`` channels, float32 (wavelength, y, x) of variance 1."""
        size = self._field.shape
        result = np.empty((n, *size[1:]), np.float32)
        for start in range(0, n, size[0]):
            piece = result[start : start + size[0]]
            roll = [int(self._rng.integers(length)) for length in size]
            channels = (np.arange(piece.shape[0]) + roll[0]) % size[0]
            _roll_into(piece, self._field, channels, roll[1], roll[2])
        return result


def _roll_into(out: Floats32, field: Floats32, channels: Any, dy: int, dx: int) -> None:
    """Copy channels of ``field``, rolled by (dy, dx), into ``out`` without other copies."""
    for target, channel in zip(out, channels, strict=True):
        source = field[channel]
        target[dy:, dx:] = source[: source.shape[0] - dy, : source.shape[1] - dx]
        target[:dy, dx:] = source[source.shape[0] - dy :, : source.shape[1] - dx]
        target[dy:, :dx] = source[: source.shape[0] - dy, source.shape[1] - dx :]
        target[:dy, :dx] = source[source.shape[0] - dy :, source.shape[1] - dx :]
