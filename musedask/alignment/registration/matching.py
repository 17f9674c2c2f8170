"""The reference as the exposure would have seen it: its lattice and its seeing.

The reference is smoothed in Fourier space at its own (finer) sampling and read
off between its pixels by a cubic spline. The smoothing has the spaxel's square
in it, so that a star keeps its place to a hundredth of a spaxel even where the
reference's own point spread is narrower than a spaxel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import fft, ndimage, special

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_EDGE_FWHM = 1.3
"""So near to its end a smoothed reference is not used."""
_RADII = 2048
_PAD = 24


@dataclass(frozen=True)
class Seeing:
    """A circular kernel: a Moffat function, or a Gaussian."""

    fwhm: float
    """Full width at half maximum, in the unit of the pixel size it is used with; 0 is none."""
    beta: float | None = 2.8
    """Exponent of a Moffat function; None is a Gaussian."""

    def transform(self, frequency: Floats) -> Floats:
        """Fourier transform at radial frequencies (cycles per unit), 1 at 0.

        Moffat: with t = 2 pi k a, the Matern form
        2 (t / 2)^(beta - 1) K_(beta - 1)(t) / Gamma(beta - 1), where
        a = FWHM / (2 sqrt(2^(1 / beta) - 1)) (e.g. Trujillo et al. 2001, MNRAS 328, 977).
        """
        if self.fwhm <= 0:
            return np.ones_like(frequency)
        if self.beta is None:
            sigma = self.fwhm / np.sqrt(8.0 * np.log(2.0))
            return np.asarray(np.exp(-2.0 * (np.pi * sigma * frequency) ** 2))
        scale = self.fwhm / 2.0 / np.sqrt(2.0 ** (1.0 / self.beta) - 1.0)
        order = self.beta - 1.0
        t = np.maximum(2.0 * np.pi * scale * frequency, 1e-9)
        value = 2.0 * (t / 2.0) ** order * special.kv(order, t) / special.gamma(order)
        return np.asarray(np.where(t > 1e-8, value, 1.0))


@dataclass(frozen=True, eq=False)
class FineImage:
    """The reference at its own sampling, ready to be smoothed again and again."""

    values: Floats32
    """Float32 (y, x), its level subtracted, 0 where there is none."""
    known: Bools
    """Bool (y, x), where there is a value."""
    level: float
    """What was subtracted."""
    pixel: float
    """Side of a pixel, in the unit of seeing (arcseconds)."""
    spaxel: Floats
    """Float64 (2, 2): the exposure's pixel vectors in pixels of this image; column 0 is x."""

    def part(self, rows: slice, columns: slice) -> FineImage:
        """A cut-out."""
        return FineImage(
            np.ascontiguousarray(self.values[rows, columns]),
            np.ascontiguousarray(self.known[rows, columns]),
            self.level,
            self.pixel,
            self.spaxel,
        )

    @cached_property
    def _size(self) -> tuple[int, int]:
        ny, nx = (int(fft.next_fast_len(size + _PAD, real=True)) for size in self.values.shape)
        return ny, nx

    @cached_property
    def _transform(self) -> Any:
        return fft.rfft2(self.values, self._size)

    @cached_property
    def _frequencies(self) -> tuple[Floats32, Floats32]:
        """Radial frequency per unit, and the transform of the spaxel's parallelogram."""
        ky = fft.fftfreq(self._size[0])[:, None].astype(np.float32)
        kx = fft.rfftfreq(self._size[1])[None, :].astype(np.float32)
        # Averaging over a parallelogram multiplies by one sinc along each of its sides.
        table = np.linspace(-2.0, 2.0, 8001)
        sides = [
            np.interp(kx * side[0] + ky * side[1], table, np.sinc(table)).astype(np.float32)
            for side in self.spaxel.T
        ]
        radius = (np.hypot(kx, ky) / self.pixel).astype(np.float32)
        return radius, sides[0] * sides[1]

    def smoothed(self, seeing: Seeing) -> Floats32:
        """Smooth by a seeing and by the spaxel.

        Parameters
        ----------
        seeing
            In the unit of ``pixel``.

        Returns
        -------
        numpy.ndarray
            Float32 (y, x), NaN where there is no value, or too near to such a place.
        """
        radius, box = self._frequencies
        table = np.linspace(0.0, float(radius.max()), _RADII)
        kernel = np.interp(radius, table, seeing.transform(table)).astype(np.float32) * box
        ny, nx = self.values.shape
        result = np.asarray(fft.irfft2(self._transform * kernel, self._size))[:ny, :nx]
        reach = 2 * math.ceil(_EDGE_FWHM * seeing.fwhm / self.pixel) + 1
        inside = ndimage.minimum_filter(self.known, size=reach, mode="constant", cval=False)
        return np.where(inside, result, np.float32(np.nan))


@dataclass(frozen=True, eq=False)
class Sampler:
    """Reads a smoothed reference off at any place between its pixels, and its slopes."""

    coefficients: Floats
    """Of the cubic spline, float64 (y, x)."""
    unknown: Floats
    """Float64 (y, x), above 0 where the image has no value, or is about to end."""

    @classmethod
    def of(cls, image: Floats | Floats32) -> Sampler:
        """Prepare an image (y, x), NaN where it has no value."""
        unknown = ~np.isfinite(image)
        filled = np.where(unknown, 0.0, image)
        return cls(
            np.asarray(ndimage.spline_filter(filled, order=3, mode="mirror")), unknown.astype(float)
        )

    def at(self, x: Floats, y: Floats) -> Floats:
        """Values at 0-based pixel coordinates; NaN outside and beside missing pixels."""
        value = ndimage.map_coordinates(
            self.coefficients, [y, x], order=3, prefilter=False, mode="mirror"
        )
        ny, nx = self.coefficients.shape
        outside = (x < 0) | (y < 0) | (x > nx - 1) | (y > ny - 1)
        if self.unknown.any():
            outside |= ndimage.map_coordinates(self.unknown, [y, x], order=1, mode="nearest") > 0
        return np.where(outside, np.nan, value)
