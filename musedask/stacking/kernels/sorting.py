"""Middle ranks of a run of pixels, whatever their number and however many are missing."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kernel, kernel
from musedask.stacking.kernels.layout import FEW, LANES
from musedask.stacking.kernels.memory import address_of, line_of
from musedask.stacking.kernels.networks import ranks_of, sort_deviations, sort_values


@fast_kernel
def _pad_missing(values, members, p_lo, n, work, n_valid):
    """Copy members' values; of the missing ones of a pixel, every other becomes -inf, inf.

    So the valid ones sit in the middle ranks, and one network serves any
    number of them. ``n_valid`` float32 (pixel,) is filled with that number.
    """
    next_filler = line_of(work, members.shape[0], 0, n)
    next_filler[:] = -np.float32(np.inf)
    number = n_valid[:n]
    number[:] = np.float32(0.0)
    for k in range(members.shape[0]):
        _pad_one(line_of(values, members[k], p_lo, n), line_of(work, k, 0, n), next_filler, number)


@fast_kernel
def _pad_one(source, target, next_filler, n_valid):
    # The filler itself is kept, and not which one it is: so the loop becomes vector instructions.
    one = np.float32(1.0)
    zero = np.float32(0.0)
    for p in range(source.shape[0]):
        value = source[p]
        filler = next_filler[p]
        good = value == value
        target[p] = value if good else filler
        next_filler[p] = filler if good else -filler
        n_valid[p] += one if good else zero


@fast_kernel
def _exchange(low, high):
    for p in range(low.shape[0]):
        a = low[p]
        b = high[p]
        low[p] = a if a < b else b
        high[p] = b if a < b else a


@fast_kernel
def _exchange_all(work, network, n):
    for k in range(network.shape[0]):
        _exchange(line_of(work, network[k, 0], 0, n), line_of(work, network[k, 1], 0, n))


@fast_kernel
def sort_run(values, members, network, p_lo, n, work, n_valid):
    """Bring the middle ranks of each pixel's values into place in ``work``.

    ``n_valid`` float32 (pixel,) is filled with the number of valid ones.
    """
    size = members.shape[0]
    if not _fits_registers(size, n):
        _pad_missing(values, members, p_lo, n, work, n_valid)
        _exchange_all(work, network, n)
        return
    low, high = _middle_rows(work, size)
    sort_values(
        address_of(values) + 4 * p_lo, 4 * values.shape[1], address_of(members), size, n, 0,
        low, high, address_of(n_valid),
    )  # fmt: skip


@fast_kernel
def sort_around(values, members, network, p_lo, n, centre, work):
    """The same for the absolute deviations from ``centre``."""
    size = members.shape[0]
    if not _fits_registers(size, n):
        _deviations(values, members, p_lo, n, centre, work)
        _exchange_all(work, network, n)
        return
    low, high = _middle_rows(work, size)
    sort_deviations(
        address_of(values) + 4 * p_lo, 4 * values.shape[1], address_of(members), size, n,
        address_of(centre), low, high, 0,
    )  # fmt: skip


@kernel
def _fits_registers(size, n):
    """Whether there is a case for so many exposures, and a whole block of pixels."""
    return 2 <= size <= FEW and n >= LANES


@fast_kernel
def _middle_rows(work, size):
    """Where the two middle ranks lie."""
    low, high = ranks_of(size)
    step = 4 * work.shape[1]
    return address_of(work) + low * step, address_of(work) + high * step


@fast_kernel
def middle_of(work, n_members, n, n_valid, out):
    """Take the median of each pixel's valid values, which are sorted; NaN without any."""
    nan = np.float32(np.nan)
    half = np.float32(0.5)
    even = n_members % 2 == 0
    first, second = ranks_of(n_members)
    low, high = work[first, :n], work[second, :n]
    for p in range(n):
        odd_valid = n_valid[p] - np.float32(2.0) * np.floor(n_valid[p] * half) > half
        single = high[p] if even else low[p]
        both = half * low[p] + half * high[p]
        value = single if odd_valid else both
        out[p] = value if n_valid[p] > half else nan


@fast_kernel
def _deviations(values, members, p_lo, n, centre, work):
    """Absolute deviations from ``centre``, padded as in :func:`_pad_missing`."""
    next_filler = line_of(work, members.shape[0], 0, n)
    next_filler[:] = -np.float32(np.inf)
    for k in range(members.shape[0]):
        _deviate_one(
            line_of(values, members[k], p_lo, n), centre[:n], line_of(work, k, 0, n), next_filler
        )


@fast_kernel
def _deviate_one(source, centre, target, next_filler):
    for p in range(source.shape[0]):
        value = source[p]
        filler = next_filler[p]
        good = value == value
        target[p] = abs(value - centre[p]) if good else filler
        next_filler[p] = filler if good else -filler
