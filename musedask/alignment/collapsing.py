"""The compiled sum of channels: all filters at once, each voxel loaded once.

Arrays in, arrays out. Words are the 32 bits of a float32 as they stand in the
file, so that big-endian bytes need no copy in native order.
"""

from __future__ import annotations

import numpy as np
from numba import njit

KEEPS_NAN = {"contract", "reassoc", "nsz", "arcp"}
"""The fast-math flags that keep NaN and infinity meaningful."""
RUN = 1024
"""Pixels that are worked on at once: they and their sums stay in the processor's cache."""

FLUX, VARIANCE, WEIGHT = range(3)
"""Planes of the sums."""


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _load(source_f, source_v, swap, f, v, m):
    """Native flux and variance of a run of pixels, 0 where missing; ``m`` is 1 or 0."""
    zero = np.float32(0.0)
    one = np.float32(1.0)
    inf = np.float32(np.inf)
    for i in range(f.shape[0]):
        a = source_f[i]
        b = source_v[i]
        if swap:
            a = (a >> 24) | ((a >> 8) & 0xFF00) | ((a << 8) & 0xFF0000) | (a << 24)
            b = (b >> 24) | ((b >> 8) & 0xFF00) | ((b << 8) & 0xFF0000) | (b << 24)
        x = np.uint32(a).view(np.float32)
        y = np.uint32(b).view(np.float32)
        good = (abs(x) < inf) & (y > zero) & (y < inf)
        f[i] = x if good else zero
        v[i] = y if good else zero
        m[i] = one if good else zero


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add(f, v, m, weight, flux, variance, total):
    """Add one channel of a run of pixels to the sums of one filter."""
    w = np.float32(weight)
    square = np.float32(weight * weight)
    for i in range(f.shape[0]):
        flux[i] += w * f[i]
        variance[i] += square * v[i]
        total[i] += w * m[i]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def add_channels(flux, variance, quality, swap, weights, sums):
    """Add channels to the weighted sums of every filter.

    A voxel counts where its flux is finite, its variance finite and positive
    and its quality 0.

    Parameters
    ----------
    flux, variance
        Uint32 (wavelength, pixel): the bits of float32 values.
    quality
        Int32 (wavelength, pixel) in any byte order, or of no channel.
    swap
        Whether the bytes of flux and variance stand in the other order.
    weights
        Float64 (filter, wavelength).
    sums
        Float64 (filter, 3, pixel), to which is added: weight times flux,
        weight squared times variance, weight.
    """
    n_filters, n_channels = weights.shape
    n_pixels = flux.shape[1]
    scratch = np.empty((3, RUN), np.float32)
    partial = np.empty((n_filters, 3, RUN), np.float32)
    for start in range(0, n_pixels, RUN):
        n = min(RUN, n_pixels - start)
        f, v, m = scratch[0, :n], scratch[1, :n], scratch[2, :n]
        # A few channels are added in float32, all of them in float64.
        partial[:] = np.float32(0.0)
        for c in range(n_channels):
            _load(flux[c, start : start + n], variance[c, start : start + n], swap, f, v, m)
            if quality.shape[0] > 0:
                for i in range(n):
                    if quality[c, start + i] != 0:
                        f[i] = np.float32(0.0)
                        v[i] = np.float32(0.0)
                        m[i] = np.float32(0.0)
            for k in range(n_filters):
                if weights[k, c] > 0.0:
                    _add(f, v, m, weights[k, c],
                         partial[k, 0, :n], partial[k, 1, :n], partial[k, 2, :n])  # fmt: skip
        for k in range(n_filters):
            for plane in range(3):
                for i in range(n):
                    sums[k, plane, start + i] += partial[k, plane, i]
