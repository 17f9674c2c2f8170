"""Exposures that are a shift of the tile, or drift slowly against it, row by row."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kernel, kernel
from musedask.stacking.kernels import column
from musedask.stacking.kernels.interpolating import (
    bilinear_run,
    lanczos_run,
    lanczos_weights,
    steady_run,
)
from musedask.stacking.kernels.layout import DRIFT_LANCZOS, LANCZOS_PHASES, LANCZOS_TAPS
from musedask.stacking.kernels.loading import load_rectangle
from musedask.stacking.kernels.memory import address_of, fill, floats_at, line_of, place_of

MARGIN = 16
"""Room in a strip's scratch for the drift of an exposure against the tile."""
SPARED = 16
"""Columns without a value at a frame's sides are left out where there are at least so many."""


@fast_kernel
def _copy_row(f, v, scale, out_f, out_v):
    """Whole-pixel shift: the values themselves, times the flux scale."""
    nan = np.float32(np.nan)
    zero = np.float32(0.0)
    if scale == np.float32(1.0):
        for i in range(out_f.shape[0]):
            good = v[i] > zero
            out_f[i] = f[i] if good else nan
            out_v[i] = v[i] if good else nan
        return
    for i in range(out_f.shape[0]):
        good = v[i] > zero
        out_f[i] = f[i] * scale if good else nan
        out_v[i] = v[i] * scale * scale if good else nan


@kernel
def _run_end(start, drift, i, x, hi):
    """First pixel after ``x`` at which ``floor(start + drift * x)`` is no longer ``i``."""
    if drift > 0:
        end = np.int64(np.ceil((i + 1 - start) / drift))
    elif drift < 0:
        end = np.int64(np.floor((i - start) / drift)) + 1
    else:
        return hi
    return min(max(end, x + 1), hi)


@kernel
def _phase_end(start, drift, x, hi):
    """First pixel after ``x`` at which the Lanczos phase has changed."""
    if drift == 0:
        return hi
    length = np.int64(1.0 / (abs(drift) * LANCZOS_PHASES)) + 1
    return min(x + length, hi)


@kernel
def _strip_bounds(row, drift, taps, y_lo, y_hi):
    """Rows and columns of the frame that the strip's rows need: y_lo, y_hi, x_lo, x_hi."""
    before = taps // 2 - 1
    after = taps // 2
    a, b = row[column.COL_LO], row[column.COL_HI] - 1
    first_y = first_x = np.int64(1 << 40)
    last_y = last_x = -np.int64(1 << 40)
    for y in range(y_lo, y_hi):
        for x in (a, b):
            fy = np.int64(np.floor(drift[y, 2] + drift[y, 3] * x)) + y
            fx = np.int64(np.floor(drift[y, 0] + drift[y, 1] * x)) + x
            first_y = min(first_y, fy)
            last_y = max(last_y, fy)
            first_x = min(first_x, fx)
            last_x = max(last_x, fx)
    return first_y - before, last_y + after + 1, first_x - before, last_x + after + 1


@kernel
def _columns(valid, n_rows, width):
    """First and last plus one column in which a row can be valid; equal if none is.

    ``valid`` float32 (y, x): not 0 where there is a value.
    """
    first, last = width, 0
    at, step = address_of(valid), 4 * valid.shape[1]
    for _ in range(n_rows):
        # What is known to be inside is not looked at again.
        first = _leftmost(at, first)
        last += _behind_rightmost(at + 4 * last, width - last)
        if max(first, width - last) < SPARED:  # to look at the other rows would take longer
            return 0, width
        at += step
    return min(first, last), last


@fast_kernel
def _leftmost(address, n):
    """Index of the first of ``n`` float32 that is not 0, or ``n``."""
    valid = floats_at(address, n)
    found = np.int32(n)
    for i in range(n):
        here = np.int32(i) if valid[i] != np.float32(0.0) else np.int32(n)
        found = here if here < found else found
    return np.int64(found)


@fast_kernel
def _behind_rightmost(address, n):
    """Index of the last of ``n`` float32 that is not 0, plus one, or 0."""
    valid = floats_at(address, n)
    found = np.int32(0)
    for i in range(n):
        here = np.int32(i) + np.int32(1) if valid[i] != np.float32(0.0) else np.int32(0)
        found = here if here > found else found
    return np.int64(found)


@kernel
def _drift_run(along_x, slope_x, along_y, slope_y, taps, x, hi):
    """From tile column ``x`` on: one run with the same taps, of Lanczos with the same weights.

    Returns where it begins in the frame, against the tile, and the tile column behind it.
    """
    ux = along_x + slope_x * x
    uy = along_y + slope_y * x
    end = _run_end(along_x, slope_x, np.int64(np.floor(ux)), x, hi)
    end = min(end, _run_end(along_y, slope_y, np.int64(np.floor(uy)), x, hi))
    if taps > 2:
        end = min(end, _phase_end(ux, slope_x, x, end))
        end = min(end, _phase_end(uy, slope_y, x, end))
    return ux, uy, end


@kernel
def drift_strip(
    source, row, c, masks, drift, lanczos, background, floor, scale, y_lo, y_hi, scratch,
    out_f, out_v, at,
):  # fmt: skip
    """Resample rows [y_lo, y_hi) of the tile where the geometry is nearly a pure shift.

    Returns the first and last plus one column that can have a value.
    """
    sf, sv, acc, _ = scratch
    taps = LANCZOS_TAPS if row[column.KIND] == DRIFT_LANCZOS else 2
    ry, ry_hi, rx, rx_hi = _strip_bounds(row, drift, taps, y_lo, y_hi)
    if ry_hi - ry > sf.shape[0] or rx_hi - rx > sf.shape[1]:
        raise ValueError("an exposure drifts further against the tile than its scratch allows")
    load_rectangle(source, row, c, masks, background, floor, ry, ry_hi, rx, rx_hi, scratch)
    first, last = _columns(sv, ry_hi - ry, rx_hi - rx)
    before = taps // 2 - 1
    wx, wy = line_of(acc, 3, 0, LANCZOS_TAPS), line_of(acc, 4, 0, LANCZOS_TAPS)
    left, right = row[column.COL_HI], row[column.COL_LO]
    # Addresses, since an array that is handed on counts a reference.
    home_f, home_v = address_of(sf), address_of(sv)
    to_f, to_v = place_of(out_f, at, 0), place_of(out_v, at, 0)
    step, to_step = 4 * sf.shape[1], 4 * out_f.shape[1]
    nan = np.float32(np.nan)
    for y in range(y_lo, y_hi):
        x = row[column.COL_LO]
        hi = row[column.COL_HI]
        while x < hi:
            ux, uy, end = _drift_run(
                drift[y, 0], drift[y, 1], drift[y, 2], drift[y, 3], taps, x, hi
            )
            ix, iy = np.int64(np.floor(ux)), np.int64(np.floor(uy))
            r = y + iy - ry - before
            # Where no tap has a value, as in the corners of a field that is turned, none is made.
            shift = ix - rx - before
            a = min(max(x, first - taps + 1 - shift), end)
            b = max(min(end, last - shift), a)
            n, q = b - a, a + shift
            if n > 0:
                left, right = min(left, a), max(right, b)
            for to in (to_f, to_v):
                fill(to + 4 * x, a - x, nan)
                fill(to + 4 * b, end - b, nan)
            fx, fy = np.float32(ux - ix), np.float32(uy - iy)
            dfx, dfy = np.float32(drift[y, 1]), np.float32(drift[y, 3])
            place = r * step + 4 * q
            f, v, out_at = home_f + place, home_v + place, 4 * a
            if taps > 2:
                lanczos_weights(lanczos, ux - ix, wx)
                lanczos_weights(lanczos, uy - iy, wy)
                lanczos_run(f, v, step, n, wx, wy, scale, to_f + out_at, to_v + out_at, acc)
            elif dfx == 0 and dfy == 0:
                steady_run(f, v, step, n, fx, fy, scale, to_f + out_at, to_v + out_at)
            else:
                bilinear_run(
                    f, v, step, n, fx, dfx, fy, dfy, a - x, scale, to_f + out_at, to_v + out_at
                )
            x = end
        to_f, to_v = to_f + to_step, to_v + to_step
    return left, right


@kernel
def copy_strip(
    source, row, c, masks, background, floor, scale, y_lo, y_hi, scratch, out_f, out_v, at
):  # fmt: skip
    """Copy rows [y_lo, y_hi) of the tile where the lattices are one.

    Returns the first and last plus one column that has a value.
    """
    sf, sv, _, _ = scratch
    a, n = row[column.COL_LO], row[column.COL_HI] - row[column.COL_LO]
    load_rectangle(
        source, row, c, masks, background, floor,
        y_lo + row[column.SHIFT_Y], y_hi + row[column.SHIFT_Y],
        a + row[column.SHIFT_X], a + n + row[column.SHIFT_X], scratch,
    )  # fmt: skip
    for i in range(y_hi - y_lo):
        _copy_row(
            line_of(sf, i, 0, n), line_of(sv, i, 0, n), scale,
            line_of(out_f, at + i, a, n), line_of(out_v, at + i, a, n),
        )  # fmt: skip
    first, last = _columns(sv, y_hi - y_lo, n)
    return a + first, a + last
