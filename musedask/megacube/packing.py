"""Compiled loops between a block's parts and what is written of them."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kept_kernel, fast_kernel

_RUN = 1024
"""Pixels whose sums stay in the processor's first cache while all channels are added."""


@fast_kept_kernel
def convert_chunk(values, factor, fill, chunk):
    """Bring an inner chunk's values, times a factor, into its type; NaN becomes fill.

    Parameters
    ----------
    values : float32 (z, y, x)
        In C order.
    factor : float
        1, as a rule.
    fill : the chunk's type
        Value of what was never written: NaN or 0.
    chunk : any number (z, y, x)
        Filled; in C order.

    Returns
    -------
    bool
        Whether there is anything but fill.
    """
    source, target = values.reshape(-1), chunk.reshape(-1)
    n = np.int32(0)
    nothing = np.float32(fill)
    if factor == 1.0:  # without the way over float64
        for i in range(source.size):
            some = (source[i] == source[i]) & (source[i] != nothing)
            target[i] = source[i] if some else fill
            n += np.int32(1) if some else np.int32(0)
        return n > 0
    for i in range(source.size):
        value = np.float32(factor * np.float64(source[i]))
        some = (value == value) & (value != nothing)
        target[i] = value if some else fill
        n += np.int32(1) if some else np.int32(0)
    return n > 0


@fast_kept_kernel
def has_values(values):
    """Whether there is anything but NaN in float32 (z, y, x), in C order."""
    flat = values.reshape(-1)
    i = 0
    while i < flat.size and flat[i] != flat[i]:
        i += 1
    return i < flat.size


@fast_kept_kernel
def mean_over_channels(parts):
    """Mean over the channels without what is NaN or infinite, and how many entered it.

    Parameters
    ----------
    parts : float32 (k, j, i, z, y, x)
        A block's plane, cut into inner chunks (k, j, i).

    Returns
    -------
    mean, number : float32 (1, j, i, 1, y, x)
        NaN where none did.
    """
    n_k, n_j, n_i, depth, height, width = parts.shape
    flat = parts.reshape(n_k, n_j * n_i, depth, height * width)
    mean = np.empty((n_j * n_i, height * width), np.float32)
    number = np.empty(mean.shape, np.float32)
    total = np.empty(_RUN, np.float64)
    count = np.empty(_RUN, np.float32)
    for part in range(n_j * n_i):
        for first in range(0, height * width, _RUN):
            last = min(first + _RUN, height * width)
            total[:] = 0.0
            count[:] = np.float32(0.0)
            for k in range(n_k):
                for channel in range(depth):
                    _add_finite(flat[k, part, channel, first:last], total, count)
            for p in range(last - first):
                some = count[p] > 0
                mean[part, first + p] = total[p] / count[p] if some else np.nan
                number[part, first + p] = count[p] if some else np.nan
    shape = 1, n_j, n_i, 1, height, width
    return mean.reshape(shape), number.reshape(shape)


@fast_kernel
def _add_finite(values, total, count):
    infinite = np.float32(np.inf)
    for x in range(values.shape[0]):
        valid = abs(values[x]) < infinite
        total[x] += np.float64(values[x]) if valid else 0.0
        count[x] += np.float32(1.0) if valid else np.float32(0.0)


@fast_kept_kernel
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
