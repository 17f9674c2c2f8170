"""Bytes of an exposure into rows of flux and variance, 0 where missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from musedask.compiling import fast_kernel, kernel
from musedask.stacking.kernels import column
from musedask.stacking.kernels.memory import address_of, fill, floats_at, read_bytes, words_at


@intrinsic
def _swapped(_context: Any, word: Any) -> Any:
    """Reverse the bytes of a uint32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(
            builder.module.declare_intrinsic("llvm.bswap", [ir.IntType(32)]), [args[0]]
        )

    return types.uint32(types.uint32), codegen


@intrinsic
def _float_of(_context: Any, word: Any) -> Any:
    """The float32 that has these bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@kernel
def bring_rows(source, row, c, first, last, room):
    """Bring frame rows [first, last) of channel ``c`` to memory, if they are not.

    ``room`` uint32 (3, pixel) takes them. Gives the addresses at which row 0
    of flux, variance and quality would begin.
    """
    line = 4 * row[column.NX]
    offset = line * row[column.NY] * c
    found = (source[0, 1] + offset, source[1, 1] + offset, source[2, 1] + offset)
    if source[0, 0] < 0:
        return found
    size = line * (last - first)
    home = address_of(room)
    step = 4 * room.shape[1]
    for i in range(3 if row[column.QUALITY] != 0 else 2):
        read_bytes(source[i, 0], home + i * step, size, found[i] + line * first)
    home -= line * first
    return (home, home + step, home + 2 * step)


@fast_kernel
def load_row(from_f, from_v, n, swap, background, floor, to_f, to_v):
    """Bring ``n`` pixels of flux and variance into native order; all lie at addresses.

    Both become 0 where missing: the variance is that nowhere else, and so tells what is valid.
    """
    source_f, source_v = words_at(from_f, n), words_at(from_v, n)
    f, v = floats_at(to_f, n), floats_at(to_v, n)
    zero = np.float32(0.0)
    inf = np.float32(np.inf)
    # One loop each way, so that every word is touched once.
    if swap:
        for i in range(n):
            a = _float_of(_swapped(source_f[i]))
            b = _float_of(_swapped(source_v[i]))
            good = (a > floor) & (a < inf) & (b > zero) & (b < inf)
            f[i] = a - background if good else zero
            v[i] = b if good else zero
    else:
        for i in range(n):
            a = _float_of(source_f[i])
            b = _float_of(source_v[i])
            good = (a > floor) & (a < inf) & (b > zero) & (b < inf)
            f[i] = a - background if good else zero
            v[i] = b if good else zero


@kernel
def mask_row(quality, start, n, row, masks, f, v):
    """Make missing what the quality (at an address) or the spatial mask flags."""
    if row[column.QUALITY] != 0:
        _drop(words_at(quality, n), floats_at(f, n), floats_at(v, n))
    if row[column.MASK] >= 0:
        flags = masks[row[column.MASK] + start : row[column.MASK] + start + n]
        _drop(flags, floats_at(f, n), floats_at(v, n))


@fast_kernel
def _drop(flags, f, v):
    """Make pixels missing where a flag is set."""
    zero = np.float32(0.0)
    for i in range(f.shape[0]):
        bad = flags[i] != 0
        f[i] = zero if bad else f[i]
        v[i] = zero if bad else v[i]


@kernel
def _blank_ends(address, left, right, width):
    """Make the first and last of a row's ``width`` pixels 0."""
    fill(address, left, np.float32(0.0))
    fill(address + 4 * (width - right), right, np.float32(0.0))


@fast_kernel
def load_rectangle(
    source, row, c, masks, background, floor, y_lo, y_hi, x_lo, x_hi, scratch
):  # fmt: skip
    """Load frame rows [y_lo, y_hi) and columns [x_lo, x_hi); 0 (missing) off the frame."""
    sf, sv, _, room = scratch
    nx = row[column.NX]
    swap = row[column.SWAP] != 0
    masked = row[column.QUALITY] != 0 or row[column.MASK] >= 0
    width = x_hi - x_lo
    a = max(x_lo, 0)
    b = min(x_hi, nx)
    first = max(y_lo, row[column.READ_LO])
    last = min(y_hi, row[column.READ_HI])
    some = first < last and a < b
    from_f, from_v, quality = bring_rows(source, row, c, first, last, room) if some else (0, 0, 0)
    # Addresses, since an array that is handed on counts a reference.
    f, v = address_of(sf), address_of(sv)
    step = 4 * sf.shape[1]
    for y in range(y_lo, y_hi):
        here = some and first <= y < last
        left = a - x_lo if here else width
        right = x_hi - b if here else 0
        _blank_ends(f, left, right, width)
        _blank_ends(v, left, right, width)
        if here:
            start = y * nx + a
            at = 4 * left
            load_row(
                from_f + 4 * start, from_v + 4 * start, b - a, swap, background, floor,
                f + at, v + at,
            )  # fmt: skip
            if masked:
                mask_row(quality + 4 * start, start, b - a, row, masks, f + at, v + at)
        f, v = f + step, v + step
