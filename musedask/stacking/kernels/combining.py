"""The statistics of a strip: exposures in, planes out."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kernel, kernel
from musedask.stacking.kernels.layout import CLIPPED, CLIPPED_MPDAF, MEDIAN, MPDAF_RULES
from musedask.stacking.kernels.means import store_weighted_mean
from musedask.stacking.kernels.medians import exposure_time, median_variance
from musedask.stacking.kernels.memory import address_of, copy_floats, fill, floats_at
from musedask.stacking.kernels.mpdaf_clipping import store_mpdaf
from musedask.stacking.kernels.networks import ranks_of
from musedask.stacking.kernels.sorting import middle_of, sort_around, sort_run

NARROWER = 16
"""Rows are combined one by one, between their ends, where these ends are wider than this
part of a run of pixels: shorter runs cost more."""


@kernel
def _combine_run(
    values, variances, weights, times, members, network, c_n, steps, rules, p_lo, n, work, to,
    to_step, centres,
):  # fmt: skip
    """The statistics that need no neighbours, of one selection along a run of pixels.

    ``steps`` int64 (statistic, 5): kind and the planes of flux, variance, number and time,
    which lie ``to_step`` bytes apart; the run begins at the address ``to`` of the first. Where
    number and time are one plane, it has the number.
    ``centres`` float32 (2, pixel) is filled for the clipping, if it has a row: its centre
    and the number of values.
    """  # fmt: skip
    stack, n_valid, centre, limits, sums = work
    size = members.shape[0]
    sort = False
    for s in range(steps.shape[0]):
        sort = sort or steps[s, 0] == MEDIAN or steps[s, 0] == CLIPPED
    if sort:
        sort_run(values, members, network, p_lo, n, stack, n_valid)
        middle_of(stack, size, n, n_valid, centre)
    for s in range(steps.shape[0]):
        kind, i_flux, i_variance, i_number, i_time = steps[s]
        flux = floats_at(to + i_flux * to_step, n)
        variance = floats_at(to + i_variance * to_step, n)
        number = floats_at(to + i_number * to_step, n)
        time = floats_at(to + i_time * to_step, n)
        if kind == MEDIAN:
            copy_floats(address_of(centre), address_of(flux), n)
            copy_floats(address_of(n_valid), address_of(number), n)
            median_variance(variances, members, p_lo, n, n_valid, c_n, limits, sums, variance)
            if i_time != i_number:
                exposure_time(values, members, times, p_lo, n, n_valid, sums[0], time)
        elif kind == CLIPPED:
            _clipping_centre(stack, size, n, n_valid, centre, centres[0, p_lo : p_lo + n])
            centres[1, p_lo : p_lo + n] = n_valid[:n]
        elif kind == CLIPPED_MPDAF:
            store_mpdaf(
                values, variances, members, times, p_lo, n, rules[MPDAF_RULES:], flux, variance,
                number, time,
            )  # fmt: skip
        else:
            store_weighted_mean(
                values, variances, members, weights, times, p_lo, n, limits, False, centre, sums,
                steps[s, 1:], to, to_step,
            )  # fmt: skip


@kernel
def combine_strip(
    values, variances, weights, times, members, network, c_n, steps, rules, held, shape, columns,
    run, work, to, to_step, centres,
):  # fmt: skip
    """:func:`_combine_run` over rows of the tile, from pixel ``held`` of ``values`` on.

    Beside the ``columns`` (first, and last plus one) no exposure has a value.
    """  # fmt: skip
    rows, width = shape
    first, last = columns
    if last - first > width - run // NARROWER:  # all in one row
        rows, width, first, last = 1, rows * width, 0, rows * width
    for y in range(rows):
        _leave_empty(steps, to + 4 * y * width, to_step, first)
        _leave_empty(steps, to + 4 * (y * width + last), to_step, width - last)
        for p in range(y * width + first, y * width + last, run):
            _combine_run(
                values, variances, weights, times, members, network, c_n, steps, rules,
                held + p, min(run, y * width + last - p), work, to + 4 * p, to_step, centres,
            )  # fmt: skip


@kernel
def _leave_empty(steps, to, to_step, n):
    """Statistics of ``n`` pixels without a value: NaN, and 0 exposures of 0 s."""
    for s in range(steps.shape[0]):
        for i in range(4):
            nothing = np.float32(np.nan) if i < 2 else np.float32(0.0)
            fill(to + steps[s, i + 1] * to_step, n, nothing)


@fast_kernel
def _clipping_centre(work, n_members, n, n_valid, median, out):
    """The median; of two values the lower one, since hits only add."""
    low = work[ranks_of(n_members)[0], :n]
    two = np.float32(2.0)
    for p in range(n):
        out[p] = low[p] if n_valid[p] == two else median[p]


@kernel
def clip_run(
    values, variances, weights, times, members, network, steps, rules, p_lo, n, work, to,
    to_step, centres, edge, edge_at,
):  # fmt: skip
    """The clipped mean of one selection along a run of pixels.

    ``to``, ``to_step`` and ``centres`` as in :func:`_combine_run`; ``edge``
    float32 (pixel,): the part of the squared width that comes from the image,
    :func:`find_structure`, from pixel ``edge_at`` on.
    """  # fmt: skip
    stack, _, mad, limits, sums = work
    centre = centres[0, p_lo : p_lo + n]
    n_valid = centres[1, p_lo : p_lo + n]
    size = members.shape[0]
    limits[0, :n] = np.float32(0.0)
    limits[1, :n] = edge[p_lo - edge_at : p_lo - edge_at + n]
    limits[2, 0] = np.float32(rules[0] * rules[0])
    fewest = np.float32(rules[2])
    if size >= fewest:
        sort_around(values, members, network, p_lo, n, centre, stack)
        middle_of(stack, size, n, n_valid, mad)
        for p in range(n):
            sigma = np.float32(1.4826) * mad[p]
            limits[0, p] = sigma * sigma if n_valid[p] >= fewest else np.float32(0.0)
    _spread_of_pairs(values, variances, members, p_lo, n, n_valid, limits)
    for s in range(steps.shape[0]):
        if steps[s, 0] == CLIPPED:
            store_weighted_mean(
                values, variances, members, weights, times, p_lo, n, limits, True, centre, sums,
                steps[s, 1:], to, to_step,
            )  # fmt: skip


@fast_kernel
def _spread_of_pairs(values, variances, members, p_lo, n, n_valid, limits):
    """Where there are two values, the variance of their difference."""
    two = np.float32(2.0)
    for p in range(n):
        if n_valid[p] == two:
            total = np.float32(0.0)
            for k in range(members.shape[0]):
                if values[members[k], p_lo + p] == values[members[k], p_lo + p]:
                    total += variances[members[k], p_lo + p]
            limits[0, p] = total
