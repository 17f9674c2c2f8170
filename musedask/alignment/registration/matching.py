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
from scipy import fft, special

from musedask.alignment.registration.kernels import (
    bin_pixels,
    mark_near_unknown,
    multiply_radially,
    spaxel_and_spline,
)
from musedask.alignment.registration.splines import Sampler

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Complexes = np.ndarray[Any, np.dtype[np.complex64]]

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
        scale = self._scale(self.beta)
        order = self.beta - 1.0
        t = np.maximum(2.0 * np.pi * scale * frequency, 1e-9)
        value = 2.0 * (t / 2.0) ** order * special.kv(order, t) / special.gamma(order)
        return np.asarray(np.where(t > 1e-8, value, 1.0))

    def beyond(self, radius: float) -> float:
        """Share of the light beyond a radius; Moffat: (1 + (r / a)^2)^(1 - beta)."""
        if self.fwhm <= 0:
            return 0.0
        if self.beta is None:
            return math.exp(-4.0 * math.log(2.0) * (radius / self.fwhm) ** 2)
        return float((1.0 + (radius / self._scale(self.beta)) ** 2) ** (1.0 - self.beta))

    def _scale(self, beta: float) -> float:
        """The Moffat function's a."""
        return self.fwhm / 2.0 / math.sqrt(2.0 ** (1.0 / beta) - 1.0)


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

    @classmethod
    def of(cls, flux: Floats32, pixel: float, spaxel: Floats) -> FineImage:
        """Prepare an image (y, x), NaN where there is none; its level is about its median."""
        known = np.isfinite(flux)
        # Any level near that of the sky will do: it is what holes and the outside are given.
        step = max(1, math.isqrt(flux.size) // 512)
        some = flux[::step, ::step][known[::step, ::step]]
        level = float(np.median(some if some.size else flux[known]))
        values = np.where(known, flux - np.float32(level), np.float32(0.0))
        return cls(np.ascontiguousarray(values, np.float32), known, level, pixel, spaxel)

    def binned(self, bins: int) -> FineImage:
        """The flux of ``bins`` x ``bins`` pixels, of which more than half have to be known."""
        ny, nx = (size // bins for size in self.values.shape)
        values, known = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.bool_)
        bin_pixels(self.values, self.known, bins, values, known)
        level = self.level * bins**2
        return FineImage(values, known, level, self.pixel * bins, self.spaxel / bins)

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
    def _transform(self) -> Complexes:
        return np.asarray(fft.rfft2(self.values, self._size))

    @property
    def _frequencies(self) -> tuple[Floats, Floats]:
        """Along y and x, cycles a pixel."""
        return fft.fftfreq(self._size[0]), fft.rfftfreq(self._size[1])

    @cached_property
    def _box(self) -> Floats32:
        box = np.empty(self._transform.shape, np.float32)
        spaxel_and_spline(*self._frequencies, np.ascontiguousarray(self.spaxel.T), box)
        return box

    def smoothed(self, seeing: Seeing) -> Sampler:
        """Smooth by a seeing and by the spaxel.

        Parameters
        ----------
        seeing
            In the unit of ``pixel``.

        Returns
        -------
        Sampler
            It has no value where there is none, or too near to such a place.
        """
        table = seeing.transform(np.linspace(0.0, math.sqrt(0.5) / self.pixel, _RADII))
        waves = np.empty_like(self._transform)
        multiply_radially(
            self._transform, self._box, *self._frequencies, table.astype(np.float32),
            (_RADII - 1) / math.sqrt(0.5), waves,
        )  # fmt: skip
        ny, nx = self.values.shape
        coefficients = fft.irfft2(waves, self._size, overwrite_x=True)[:ny, :nx]
        unknown = np.empty(self.known.shape, np.bool_)
        mark_near_unknown(self.known, math.ceil(_EDGE_FWHM * seeing.fwhm / self.pixel), unknown)
        return Sampler(np.ascontiguousarray(coefficients), unknown)
