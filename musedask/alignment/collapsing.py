"""The compiled sum of channels: all filters at once, each voxel loaded once.

Arrays in, arrays out. Words are the 32 bits of a float32 as they stand in the
file, so that big-endian bytes need no copy in native order.
"""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kept_kernel, fast_kernel

RUN = 512
"""Pixels that are worked on at once: they and their sums stay in the first level of cache."""
GROUP = 4
"""Channels that are added together, so that sums are loaded and stored a quarter as often."""

FLUX, VARIANCE, WEIGHT = range(3)
"""Planes of the sums."""


@fast_kernel
def _load(source_f, source_v, swap, f, v, m):
    """Native flux and variance of a run of pixels, 0 where missing; ``m`` is 1 or 0.

    Returns how many are valid.
    """
    zero = np.float32(0.0)
    one = np.float32(1.0)
    inf = np.float32(np.inf)
    n_good = zero
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
        n_good += one if good else zero
    return n_good


@fast_kernel
def _drop(quality, f, v, m):
    """Make pixels missing whose quality is not 0; return how many are left."""
    zero = np.float32(0.0)
    n_good = zero
    for i in range(f.shape[0]):
        bad = quality[i] != 0
        f[i] = zero if bad else f[i]
        v[i] = zero if bad else v[i]
        m[i] = zero if bad else m[i]
        n_good += m[i]
    return n_good


@fast_kernel
def _add(x, n, weights, out):
    """Add a group of channels, float32 (GROUP, RUN), to the sums of a run of ``n`` pixels."""
    # Rows apart, and not a loop over them: only so it becomes vector instructions.
    x0, x1, x2, x3 = x[0, :n], x[1, :n], x[2, :n], x[3, :n]
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for i in range(n):
        out[i] += (w0 * x0[i] + w1 * x1[i]) + (w2 * x2[i] + w3 * x3[i])


@fast_kept_kernel
def add_channels(flux, variance, quality, swap, weights, sums):
    """Add channels to the weighted sums of every filter.

    A voxel counts where its flux is finite, its variance finite and positive
    and its quality 0. Give some ten channels at a time: these are added in
    float32, their sum in float64.

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
    values = np.zeros((3, GROUP, RUN), np.float32)
    partial = np.empty((n_filters, 3, RUN), np.float32)
    w = np.empty((2, GROUP), np.float32)
    for start in range(0, n_pixels, RUN):
        n = min(RUN, n_pixels - start)
        part = slice(start, start + n)
        partial[:] = np.float32(0.0)
        for first in range(0, n_channels, GROUP):
            size = min(GROUP, n_channels - first)
            n_good = 0.0
            for j in range(size):
                c = first + j
                f, v, m = values[FLUX, j, :n], values[VARIANCE, j, :n], values[WEIGHT, j, :n]
                good = _load(flux[c, part], variance[c, part], swap, f, v, m)
                if quality.shape[0] > 0:
                    good = _drop(quality[c, part], f, v, m)
                n_good += good
            for k in range(n_filters):
                w[:] = np.float32(0.0)
                for j in range(size):
                    w[0, j] = weights[k, first + j]
                    w[1, j] = weights[k, first + j] ** 2
                total = w[0].sum()
                if total == 0.0:
                    continue
                _add(values[FLUX], n, w[0], partial[k, FLUX, :n])
                _add(values[VARIANCE], n, w[1], partial[k, VARIANCE, :n])
                if n_good == size * n:
                    partial[k, WEIGHT, :n] += total
                else:
                    _add(values[WEIGHT], n, w[0], partial[k, WEIGHT, :n])
        for k in range(n_filters):
            for plane in range(3):
                for i in range(n):
                    sums[k, plane, start + i] += partial[k, plane, i]
