"""Rows by address: read, filled and copied without a count of references."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from musedask.compiling import fast_kernel, kernel


@intrinsic
def pointer_to(_context: Any, address: Any) -> Any:
    """Turn an integer address into a pointer that carray takes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def address_of(_context: Any, array: Any) -> Any:
    """Where an array's values begin; ``array.ctypes.data`` would count a reference."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), codegen


_pread = types.ExternalFunction(
    "pread", types.intp(types.int32, types.voidptr, types.uintp, types.int64)
)
copy_bytes = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.uintp))
"""The C library's, on addresses: faster than a loop over a row of a few pixels."""


@kernel
def line_of(array, y, x, n):
    """``n`` pixels of a row of a float32 (y, x) array in C order, from column ``x`` on.

    Unlike a slice it counts no reference, which costs more than the arithmetic of a short row.
    """
    return floats_at(place_of(array, y, x), n)


@kernel
def floats_at(address, n):
    """``n`` float32 from an address on."""
    return carray(pointer_to(address), (n,), np.float32)


@kernel
def place_of(array, y, x):
    """Address of a pixel of a float32 (y, x) array in C order."""
    return address_of(array) + 4 * (y * array.shape[1] + x)


@fast_kernel
def fill(address, n, value):
    """Make ``n`` float32 from an address on the same value."""
    values = floats_at(address, n)
    for i in range(n):
        values[i] = value


@fast_kernel
def copy_floats(source, target, n):
    """Copy ``n`` float32 from one address to another."""
    values, copies = floats_at(source, n), floats_at(target, n)
    for i in range(n):
        copies[i] = values[i]


@kernel
def words_at(address, n):
    """``n`` words of 4 bytes from an address on."""
    return carray(pointer_to(address), (n,), np.uint32)


@kernel
def read_bytes(file, address, size, offset):
    """Read ``size`` bytes of an open file to an address."""
    done = 0
    while done < size:
        got = _pread(file, pointer_to(address + done), size - done, offset + done)
        if got == 0:
            raise EOFError("an exposure ends early")
        if got < 0:
            raise OSError("an exposure cannot be read")
        done += got


@kernel
def copy_rows(source, first, target, to, n):
    """Copy ``n`` pixels of each exposure from one float32 (exposure, pixel) to another."""
    for e in range(source.shape[0]):
        copy_bytes(place_of(target, e, to), place_of(source, e, first), 4 * n)
