"""A channel's strip of all exposures, brought onto the tile and added to their images."""

from __future__ import annotations

import numpy as np
from numba import carray

from musedask.compiling import fast_kernel, kernel
from musedask.stacking.kernels import column
from musedask.stacking.kernels.layout import COPY
from musedask.stacking.kernels.memory import (
    address_of,
    copy_floats,
    fill,
    floats_at,
    line_of,
    place_of,
    pointer_to,
)
from musedask.stacking.kernels.shifting import copy_strip, drift_strip


@fast_kernel
def _add_white(values, row, first_y, first_x, a, b, totals, numbers):
    """Add rows of the tile, from ``row`` on, to images that begin at ``first_y, first_x``.

    All values lie in the tile's columns [a, b).
    """
    height, width = totals.shape
    a = max(a, first_x)
    n = max(min(b, first_x + width) - a, 0)
    y_lo, y_hi = max(row, first_y), min(row + values.shape[0], first_y + height)
    at = place_of(values, y_lo - row, a)
    total = place_of(totals, y_lo - first_y, a - first_x)
    number = address_of(numbers) + (y_lo - first_y) * width + a - first_x
    for _ in range(y_lo, y_hi):
        _add_valid(at, n, total, number)
        at += 4 * values.shape[1]
        total += 4 * width
        number += width


@fast_kernel
def _add_valid(values, n, totals, numbers):
    """Add what is not NaN of ``n`` values to totals, and 1 to numbers (uint8); all at addresses."""
    f, total = floats_at(values, n), floats_at(totals, n)
    number = carray(pointer_to(numbers), (n,), np.uint8)
    for p in range(n):
        good = f[p] == f[p]
        total[p] += f[p] if good else np.float32(0.0)
        number[p] += np.uint8(1) if good else np.uint8(0)


@kernel
def _blank_around(out, first, last, a, b):
    """Make missing what lies beside the rows [first, last) and the columns [a, b)."""
    width = out.shape[1]
    nan = np.float32(np.nan)
    at = address_of(out)
    for y in range(out.shape[0]):
        here = first <= y < last
        fill(at, a if here else width, nan)
        fill(at + 4 * b, width - b if here else 0, nan)
        at += 4 * width


@kernel
def _fill_strip(
    source, row, c, masks, gathered, drift, lanczos, background, floor, scale,
    s_lo, s_hi, scratch, out_f, out_v,
):  # fmt: skip
    """Bring the rows [s_lo, s_hi) of an exposure's channel onto the tile, NaN beside it.

    A strip's channels come in their order, from 0 on, into the same arrays.
    Returns the first and last plus one column that can have a value; equal if none can.
    """  # fmt: skip
    a, b = row[column.COL_LO], row[column.COL_HI]
    y_lo = max(s_lo, row[column.ROW_LO])
    y_hi = min(s_hi, row[column.ROW_HI])
    if c == 0:  # it stays so in the channels that follow
        _blank_around(out_f, y_lo - s_lo, y_hi - s_lo, a, b)
        _blank_around(out_v, y_lo - s_lo, y_hi - s_lo, a, b)
    if y_lo >= y_hi:
        return a, a
    if row[column.GATHERED] >= 0:
        e = row[column.GATHERED]
        found_f, found_v = gathered[0, e, c], gathered[1, e, c]
        for y in range(y_lo, y_hi):
            copy_floats(place_of(found_f, y, a), place_of(out_f, y - s_lo, a), b - a)
            copy_floats(place_of(found_v, y, a), place_of(out_v, y - s_lo, a), b - a)
    elif row[column.KIND] == COPY:
        a, b = copy_strip(
            source, row, c, masks, background, floor, scale, y_lo, y_hi, scratch,
            out_f, out_v, y_lo - s_lo,
        )  # fmt: skip
    else:
        a, b = drift_strip(
            source, row, c, masks, drift, lanczos, background, floor, scale, y_lo, y_hi, scratch,
            out_f, out_v, y_lo - s_lo,
        )  # fmt: skip
    return a, b


@kernel
def fill_all(
    sources, table, present, c, masks, gathered, drift, lanczos, background, floor, scale,
    s_lo, s_hi, scratch, values, variances, held, padded, white, white_n,
):  # fmt: skip
    """Bring a channel's strip of all exposures onto the tile, and add it to their images.

    ``values`` and ``variances`` float32 (exposure, pixel) are filled from pixel ``held`` on.
    Returns the first and last plus one column in which any exposure can have a value.
    """  # fmt: skip
    _, tx, first_y, first_x = padded
    shape = s_hi - s_lo, tx
    left, right = tx, 0
    for e in range(table.shape[0]):
        out_f = line_of(values, e, held, shape[0] * tx).reshape(shape)
        out_v = line_of(variances, e, held, shape[0] * tx).reshape(shape)
        if not present[e]:
            out_f[:] = np.float32(np.nan)
            out_v[:] = np.float32(np.nan)
            continue
        a, b = _fill_strip(
            sources[e], table[e], c, masks, gathered, drift[e], lanczos, background[e],
            floor[e], scale[e], s_lo, s_hi, scratch, out_f, out_v,
        )  # fmt: skip
        if a < b:
            left, right = min(left, a), max(right, b)
            if white.shape[0]:
                _add_white(out_f, s_lo, first_y, first_x, a, b, white[e], white_n[e])
    return min(left, right), right
