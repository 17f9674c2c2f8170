"""Weighted means of a run of pixels, clipped or not, with variance and exposure time."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kernel, kernel
from musedask.stacking.kernels.memory import floats_at, line_of


@kernel
def store_weighted_mean(
    values, variances, members, weights, times, p_lo, n, limits, use_limits, centre, sums,
    places, to, to_step,
):  # fmt: skip
    """Store a mean, its variance, the number and the exposure time, if it has a plane.

    The first row of arguments as in :func:`_weighted_sums`; ``places``: planes of these
    four, which lie ``to_step`` bytes apart from the address ``to`` on.
    """  # fmt: skip
    alike = _weighted_sums(
        values, variances, members, weights, times, p_lo, n, limits, use_limits, centre, sums
    )
    i_flux, i_variance, i_number, i_time = places
    _store_mean(
        sums, alike, n, floats_at(to + i_flux * to_step, n),
        floats_at(to + i_variance * to_step, n), floats_at(to + i_number * to_step, n),
    )  # fmt: skip
    if i_time != i_number:
        total, factor = (sums[4], times[members[0]]) if alike else (sums[3], 1.0)
        store_time(total, factor, n, floats_at(to + i_time * to_step, n))


@fast_kernel
def _weighted_sums(
    values, variances, members, weights, times, p_lo, n, limits, use_limits, centre, sums
):
    """Accumulate (sum w, sum w f, sum w^2 var, sum t, n) of each pixel in float64.

    With ``use_limits`` only values within the clipping width of the centre
    count: ``|f - centre|^2 <= nsigma^2 max(var, limits[0]) + limits[1]``.

    Exposures of one weight, which cancels in a mean, and one time are taken as
    if both were 1: then sum w and sum t are left out, for they are n, and True is
    returned.
    """  # fmt: skip
    if _are_alike(members, weights, times):
        _plain_sums(values, variances, members, p_lo, n, limits, use_limits, centre, sums)
        return True
    sums[:, :n] = 0.0
    size = members.shape[0]
    # Two exposures at a time: the sums are loaded and stored half as often.
    for k in range(0, size - size % 2, 2):
        e0, e1 = members[k], members[k + 1]
        _add_two(
            line_of(values, e0, p_lo, n), line_of(values, e1, p_lo, n),
            line_of(variances, e0, p_lo, n), line_of(variances, e1, p_lo, n),
            weights[e0], weights[e1], times[e0], times[e1], limits, use_limits, centre, sums,
        )  # fmt: skip
    if size % 2:
        e = members[size - 1]
        _add_one(
            line_of(values, e, p_lo, n), line_of(variances, e, p_lo, n), weights[e], times[e],
            limits, use_limits, centre, sums,
        )  # fmt: skip
    return False


@kernel
def _are_alike(members, weights, times):
    """Whether the exposures have one weight and one exposure time."""
    alike = True
    for k in range(1, members.shape[0]):
        alike = alike and weights[members[k]] == weights[members[0]]
        alike = alike and times[members[k]] == times[members[0]]
    return alike


@fast_kernel
def _plain_sums(values, variances, members, p_lo, n, limits, use_limits, centre, sums):
    """Those of :func:`_weighted_sums` that are left without weights and times."""
    sums[1, :n] = 0.0
    sums[2, :n] = 0.0
    sums[4, :n] = 0.0
    size = members.shape[0]
    for k in range(0, size - size % 2, 2):
        e0, e1 = members[k], members[k + 1]
        _add_plain_two(
            line_of(values, e0, p_lo, n), line_of(values, e1, p_lo, n),
            line_of(variances, e0, p_lo, n), line_of(variances, e1, p_lo, n),
            limits, use_limits, centre, sums,
        )  # fmt: skip
    if size % 2:
        e = members[size - 1]
        _add_one(
            line_of(values, e, p_lo, n), line_of(variances, e, p_lo, n), 1.0, 0.0,
            limits, use_limits, centre, sums,
        )  # fmt: skip


@fast_kernel
def _is_kept(f, v, p, use_limits, centre, spread, floor, square):
    """Whether a pixel has a value, and one within the limits if these are used."""
    if use_limits:
        d = f[p] - centre[p]
        return d * d <= square * max(v[p], spread[p]) + floor[p]
    return f[p] == f[p]


@fast_kernel
def _add_one(f, v, w, t, limits, use_limits, centre, sums):
    """Add an exposure to the sums."""
    n = f.shape[0]
    sw, sf, sv, st, sn = sums[0, :n], sums[1, :n], sums[2, :n], sums[3, :n], sums[4, :n]
    spread, floor, square = limits[0, :n], limits[1, :n], limits[2, 0]
    w2 = w * w
    for p in range(n):
        keep = _is_kept(f, v, p, use_limits, centre, spread, floor, square)
        sw[p] += w if keep else 0.0
        st[p] += t if keep else 0.0
        sf[p] += w * np.float64(f[p]) if keep else 0.0
        sv[p] += w2 * np.float64(v[p]) if keep else 0.0
        sn[p] += 1.0 if keep else 0.0


@fast_kernel
def _add_two(f0, f1, v0, v1, w0, w1, t0, t1, limits, use_limits, centre, sums):
    """Add two exposures to the sums, the first one first."""
    n = f0.shape[0]
    sw, sf, sv, st, sn = sums[0, :n], sums[1, :n], sums[2, :n], sums[3, :n], sums[4, :n]
    spread, floor, square = limits[0, :n], limits[1, :n], limits[2, 0]
    x0, x1 = w0 * w0, w1 * w1
    for p in range(n):
        a = _is_kept(f0, v0, p, use_limits, centre, spread, floor, square)
        b = _is_kept(f1, v1, p, use_limits, centre, spread, floor, square)
        sw[p] += (w0 if a else 0.0) + (w1 if b else 0.0)
        st[p] += (t0 if a else 0.0) + (t1 if b else 0.0)
        sf[p] += (w0 * np.float64(f0[p]) if a else 0.0) + (w1 * np.float64(f1[p]) if b else 0.0)
        sv[p] += (x0 * np.float64(v0[p]) if a else 0.0) + (x1 * np.float64(v1[p]) if b else 0.0)
        sn[p] += (1.0 if a else 0.0) + (1.0 if b else 0.0)


@fast_kernel
def _add_plain_two(f0, f1, v0, v1, limits, use_limits, centre, sums):
    """The same of exposures of weight 1, without the sums of weights and times."""
    n = f0.shape[0]
    sf, sv, sn = sums[1, :n], sums[2, :n], sums[4, :n]
    spread, floor, square = limits[0, :n], limits[1, :n], limits[2, 0]
    zero = np.float32(0.0)
    one = np.float32(1.0)
    for p in range(n):
        a = _is_kept(f0, v0, p, use_limits, centre, spread, floor, square)
        b = _is_kept(f1, v1, p, use_limits, centre, spread, floor, square)
        # What is missing is left out in float32, where an instruction does twice as many.
        sf[p] += np.float64(f0[p] if a else zero) + np.float64(f1[p] if b else zero)
        sv[p] += np.float64(v0[p] if a else zero) + np.float64(v1[p] if b else zero)
        sn[p] += np.float64((one if a else zero) + (one if b else zero))


@fast_kernel
def _store_mean(sums, alike, n, flux, variance, number):
    """Mean and its variance out of the sums; missing where nothing was summed."""
    nan = np.float32(np.nan)
    sw = sums[4 if alike else 0, :n]
    sf = sums[1, :n]
    sv = sums[2, :n]
    sn = sums[4, :n]
    for p in range(n):
        some = sn[p] > 0.5
        share = 1.0 / sw[p]  # one division instead of two: right far beyond float32
        flux[p] = np.float32(sf[p] * share) if some else nan
        variance[p] = np.float32(sv[p] * share * share) if some else nan
        number[p] = np.float32(sn[p])


@fast_kernel
def store_time(total, factor, n, time):
    """Store a float64 sum of exposure times, times a factor, as float32."""
    for p in range(n):
        time[p] = np.float32(factor * total[p])
