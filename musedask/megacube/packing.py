"""Compiled loops between a block's planes and what is written of them."""

from __future__ import annotations

import numpy as np
from numba import njit, types

_KEEPS_NAN = {"contract", "reassoc", "nsz", "arcp"}
"""The fast-math flags that keep NaN meaningful."""

_ROWS = 8
"""Rows whose sums stay in the processor's first cache while all channels are added."""
_copy_bytes = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.uintp))
"""The C library's, on addresses."""


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_KEEPS_NAN)
def pack_chunk(values, z, y, x, fill, chunk):
    """Fill an inner chunk with the values from (z, y, x) on; NaN, and what lies beyond, is fill.

    Parameters
    ----------
    values : float32 (z, y, x)
        In C order.
    z, y, x : int
        Where the chunk begins, inside of ``values``.
    fill : the chunk's type
        Value of what was never written: NaN or 0.
    chunk : any number (z, y, x)
        Filled; in C order.

    Returns
    -------
    bool
        Whether there is anything but fill.
    """
    depth = min(chunk.shape[0], values.shape[0] - z)
    height = min(chunk.shape[1], values.shape[1] - y)
    width = min(chunk.shape[2], values.shape[2] - x)
    # Rows are short: a loop over one spends most of its time on what is left of a vector. They
    # are copied, and then a whole channel is looked at.
    channel = np.full(chunk.shape[1:], np.nan, np.float32)
    target = channel.ctypes.data
    first = values.ctypes.data + 4 * ((z * values.shape[1] + y) * values.shape[2] + x)
    some = False
    for k in range(depth):
        for j in range(height):
            row = first + 4 * (k * values.shape[1] + j) * values.shape[2]
            _copy_bytes(target + 4 * j * channel.shape[1], row, 4 * width)
        some |= _convert(channel.reshape(-1), fill, chunk[k].reshape(-1))
    chunk[depth:] = fill
    return some


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_KEEPS_NAN)
def _convert(values, fill, out):
    """NaN becomes fill; whether there is anything but fill."""
    n = np.int32(0)
    nothing = np.float32(fill)
    for i in range(values.size):
        some = (values[i] == values[i]) & (values[i] != nothing)
        out[i] = values[i] if some else fill
        n += np.int32(1) if some else np.int32(0)
    return n > 0


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_KEEPS_NAN)
def mean_over_channels(flux):
    """Mean over the channels without what is NaN or infinite, and how many entered it.

    Parameters
    ----------
    flux : float32 (z, y, x)

    Returns
    -------
    mean, number : float32 (y, x)
        NaN where none did.
    """
    depth, height, width = flux.shape
    mean = np.empty((height, width), np.float32)
    number = np.empty((height, width), np.float32)
    total = np.empty((_ROWS, width), np.float64)
    count = np.empty((_ROWS, width), np.float32)
    for first in range(0, height, _ROWS):
        rows = min(_ROWS, height - first)
        total[:] = 0.0
        count[:] = np.float32(0.0)
        for channel in range(depth):
            for y in range(rows):
                _add_finite(flux[channel, first + y], total[y], count[y])
        for y in range(rows):
            for x in range(width):
                some = count[y, x] > 0
                mean[first + y, x] = total[y, x] / count[y, x] if some else np.nan
                number[first + y, x] = count[y, x] if some else np.nan
    return mean, number


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_KEEPS_NAN)
def _add_finite(values, total, count):
    infinite = np.float32(np.inf)
    for x in range(values.shape[0]):
        valid = abs(values[x]) < infinite
        total[x] += np.float64(values[x]) if valid else 0.0
        count[x] += np.float32(1.0) if valid else np.float32(0.0)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_KEEPS_NAN)
def add_weighted(image, weights, total, weight):
    """Add an image times its weights to a sum, and the weights to theirs, where it is finite.

    Parameters
    ----------
    image, weights : float32 (y, x)
        A pixel of the image that is not finite has no weight; all others have one.
    total, weight : float64 (y, x)
        Added to.
    """
    infinite = np.float32(np.inf)
    for y in range(image.shape[0]):
        values, factors, sums, seen = image[y], weights[y], total[y], weight[y]
        for x in range(values.shape[0]):
            valid = abs(values[x]) < infinite
            factor = np.float64(factors[x])
            sums[x] += np.float64(values[x]) * factor if valid else 0.0
            seen[x] += factor if valid else 0.0
