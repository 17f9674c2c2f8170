"""Clipped means as mpdaf has them, pixel by pixel."""

from __future__ import annotations

import numpy as np

from musedask.compiling import kernel


@kernel
def _sorted_middle(values, n):
    """Median of the first n values (float64), which are sorted in place."""
    for i in range(1, n):
        key = values[i]
        j = i - 1
        while j >= 0 and values[j] > key:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = key
    if n % 2 == 1:
        return values[n // 2]
    return 0.5 * (values[n // 2 - 1] + values[n // 2])


@kernel
def _centre_and_sigma(values, n, mad, copy):
    """Median of the first n values, and 1.4826 MAD or the standard deviation (over n)."""
    for i in range(n):
        copy[i] = values[i]
    centre = _sorted_middle(copy, n)
    if mad:
        for i in range(n):
            copy[i] = abs(values[i] - centre)
        return centre, 1.4826 * _sorted_middle(copy, n)
    mean = 0.0
    for i in range(n):
        mean += values[i]
    mean /= n
    square = 0.0
    for i in range(n):
        square += (values[i] - mean) ** 2
    return centre, np.sqrt(square / n)


@kernel
def _clip_as_mpdaf(values, variances, times, n, rules, copy):
    """One voxel by the rules of ``mpdaf.obj.CubeList.combine``; float64 throughout.

    ``rules``: nmax, nclip_low, nclip_up, nstop, mad (0/1), var (0 propagate,
    1 stat_mean, 2 stat_one). Returns flux, variance, number kept.
    """
    nmax, low, high, nstop = np.int64(rules[0]), rules[1], rules[2], np.int64(rules[3])
    mad = rules[4] > 0.5
    for _ in range(nmax):
        centre, sigma = _centre_and_sigma(values, n, mad, copy)
        kept = 0
        for i in range(n):
            if centre - low * sigma < values[i] < centre + high * sigma:
                kept += 1
        if kept < nstop or kept == n:
            break
        k = 0
        for i in range(n):
            if centre - low * sigma < values[i] < centre + high * sigma:
                values[k] = values[i]
                variances[k] = variances[i]
                times[k] = times[i]
                k += 1
        n = kept
    mean = 0.0
    for i in range(n):
        mean += values[i]
    mean /= n
    if rules[5] < 0.5:
        total = 0.0
        for i in range(n):
            total += variances[i]
        return mean, total / n / n, n
    if n < 2:
        return mean, np.nan, n
    _, sigma = _centre_and_sigma(values, n, mad, copy)
    return mean, sigma * sigma / (n - 1) if rules[5] < 1.5 else sigma * sigma, n


@kernel
def store_mpdaf(values, variances, members, times, p_lo, n, rules, flux, variance, number, time):
    """:func:`_clip_as_mpdaf` along a run of pixels."""
    size = members.shape[0]
    f = np.empty(size)
    v = np.empty(size)
    t = np.empty(size)
    copy = np.empty(size)
    for p in range(n):
        valid = 0
        for k in range(size):
            e = members[k]
            if values[e, p_lo + p] == values[e, p_lo + p]:
                f[valid] = values[e, p_lo + p]
                v[valid] = variances[e, p_lo + p]
                t[valid] = times[e]
                valid += 1
        if valid == 0:
            flux[p] = np.nan
            variance[p] = np.nan
            time[p] = 0.0
            number[p] = 0.0
            continue
        flux[p], variance[p], kept = _clip_as_mpdaf(f, v, t, valid, rules, copy)
        time[p] = t[:kept].sum()
        number[p] = kept  # after the time, which may be to lie in the same place
