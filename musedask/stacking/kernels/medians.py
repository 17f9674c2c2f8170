"""Variance and exposure time of a run of medians."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kernel, ordered_kernel
from musedask.stacking.kernels.layout import FEW
from musedask.stacking.kernels.means import store_time
from musedask.stacking.kernels.memory import fill, floats_at, line_of, place_of


@fast_kernel
def median_variance(variances, members, p_lo, n, n_valid, c_n, partial, sums, variance):
    """c_n n / (sum 1/sigma)^2 (1 + a_n d^2).

    d is the relative scatter of 1/sigma; of two values the median is the mean.
    """
    size = members.shape[0]
    if size <= FEW:
        _add_inverses(variances, members, p_lo, n, partial)
        _settle_median(partial[0, :n], partial[1, :n], n_valid[:n], c_n, variance)
        return
    sums[:2, :n] = 0.0
    for first in range(0, size, FEW):
        # A few exposures are added in float32, which is twice as fast; all of them in float64.
        some = members[first : min(first + FEW, size)]
        _add_inverses(variances, some, p_lo, n, partial)
        for i in range(2):
            _add_partial(partial[i, :n], sums[i, :n])
    _settle_median(sums[0, :n], sums[1, :n], n_valid[:n], c_n, variance)


@fast_kernel
def exposure_time(values, members, times, p_lo, n, n_valid, total, out):
    """Add up the exposure times of each pixel's valid values."""
    first = times[members[0]]
    same = True
    for k in range(members.shape[0]):
        same = same and times[members[k]] == first
    if same:
        for p in range(n):
            out[p] = np.float32(first * np.float64(n_valid[p]))
        return
    total[:n] = 0.0
    for k in range(members.shape[0]):
        _expose_one(line_of(values, members[k], p_lo, n), times[members[k]], total[:n])
    store_time(total, 1.0, n, out)


@fast_kernel
def _add_inverses(variances, members, p_lo, n, partial):
    """Sum of 1/sigma and of its square over a few exposures, the first two rows of ``partial``.

    A variance is NaN where its value is missing.
    """
    inverse, square = place_of(partial, 0, 0), place_of(partial, 1, 0)
    fill(inverse, n, np.float32(0.0))
    fill(square, n, np.float32(0.0))
    size = members.shape[0]
    # Two exposures at a time: the sums are loaded and stored half as often.
    for k in range(0, size - 1, 2):
        first = place_of(variances, members[k], p_lo)
        second = place_of(variances, members[k + 1], p_lo)
        _invert_two(first, second, n, inverse, square)
    if size % 2:
        _invert_one(place_of(variances, members[size - 1], p_lo), n, inverse, square)


@fast_kernel
def _inverse_sigma(variance):
    """1/sigma, 0 where the variance is NaN."""
    return np.float32(1.0) / np.sqrt(variance) if variance == variance else np.float32(0.0)


@ordered_kernel
def _invert_one(variance, n, inverse, square):
    """Add 1/sigma and its square of an exposure's valid values; all lie at addresses."""
    v, inverses, squares = floats_at(variance, n), floats_at(inverse, n), floats_at(square, n)
    for p in range(n):
        a = _inverse_sigma(v[p])
        inverses[p] += a
        squares[p] += a * a


@ordered_kernel
def _invert_two(first, second, n, inverse, square):
    """The same of two exposures."""
    v, w = floats_at(first, n), floats_at(second, n)
    inverses, squares = floats_at(inverse, n), floats_at(square, n)
    for p in range(n):
        a, b = _inverse_sigma(v[p]), _inverse_sigma(w[p])
        inverses[p] = (inverses[p] + a) + b
        squares[p] = (squares[p] + a * a) + b * b


@fast_kernel
def _expose_one(f, t, time):
    """Add the exposure time where there is a value."""
    for p in range(f.shape[0]):
        time[p] += t if f[p] == f[p] else 0.0


@fast_kernel
def _add_partial(partial, total):
    for p in range(partial.shape[0]):
        total[p] += np.float64(partial[p])


@fast_kernel
def _settle_median(inverse, square, n_valid, c_n, variance):
    """The variance out of the sums, in their precision."""
    nan = np.float32(np.nan)
    factor, growth = c_n[0], c_n[1]
    most = np.int32(0)
    for p in range(inverse.shape[0]):
        number = np.int32(n_valid[p])
        most = number if number > most else most
    # Along a run nearly every pixel has as many values, or lacks one or two: a choice of three
    # constants is much faster than looking them up.
    all_but_one, least = max(most - 1, 0), max(most - 2, 0)
    n0, n1, n2 = np.float32(most), np.float32(all_but_one), np.float32(max(least, 3))
    f0, f1, f2 = factor[most], factor[all_but_one], factor[least]
    g0, g1, g2 = growth[most], growth[all_but_one], growth[least]
    for p in range(inverse.shape[0]):
        number = n_valid[p]
        f = f0 if number == n0 else (f1 if number == n1 else f2)
        g = g0 if number == n0 else (g1 if number == n1 else g2)
        variance[p] = _median_error(inverse[p], square[p], number, f, g)
    for p in range(inverse.shape[0]):
        number = n_valid[p]
        if number < n2:
            n = np.int64(number)
            if n == 0:
                variance[p] = nan
            elif n == 2:
                variance[p] = _pair_error(inverse[p], square[p], factor[2])
            else:
                variance[p] = _median_error(inverse[p], square[p], number, factor[n], growth[n])


@fast_kernel
def _pair_error(inverse, square, factor):
    """The same of two values: that of their mean."""
    one = np.float32(1.0)
    share = one / inverse
    sigma = np.float32(2.0) * share
    scatter = (square * share) * sigma - one
    rest = one / (one - scatter)
    return (factor * share) * sigma * ((one + scatter) * rest * rest)


@fast_kernel
def _median_error(inverse, square, number, factor, growth):
    """Variance of the median of ``number`` values out of the sums of 1/sigma and its square."""
    one = np.float32(1.0)
    # One over sigma's scale at a time: no product leaves the range of float32.
    share = one / inverse
    sigma = number * share
    scatter = (square * share) * sigma - one
    return (factor * share) * sigma * (one + growth * scatter)
