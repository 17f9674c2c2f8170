"""The compiled heart: resample a few channels of many exposures and combine them.

One call of :func:`stack_slab` takes the bytes of all exposures that touch a
tile, for a few channels, and fills the output planes. It goes strip by strip
of output rows, so that what it works on stays in the processor's cache; inside
a strip it swaps bytes, masks, resamples and combines without ever making an
array of (exposure, y, x).

All that it calls lives in this file, since numba's cache does not notice an
edit of a callee elsewhere. Bounds are checked by the callers in
:mod:`musedask.stacking.block` and :mod:`musedask.stacking.geometry`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

KEEPS_NAN = {"contract", "reassoc", "nsz", "arcp"}
"""The fast-math flags that keep NaN and infinity meaningful."""
IN_ORDER = KEEPS_NAN - {"reassoc"}
"""The same for sums whose order is kept: a value of 0 anywhere in them changes no bit."""

COPY, DRIFT, DRIFT_LANCZOS, NEAREST, BILINEAR, LANCZOS, EXACT = range(7)
MEAN, MEDIAN, CLIPPED, CLIPPED_MPDAF = range(4)

LANCZOS_PHASES = 1024
LANCZOS_TAPS = 6
STRIP_ROWS = 24
BORDER = 3
"""Missing pixels around a frame in scratch, for taps that reach over its edge."""
MARGIN = 16
"""Room in a strip's scratch for the drift of an exposure against the tile."""
HALO = 4
"""Rows and columns around a pixel from which the clipping takes the image's structure:
the reach of the pairs below, and one for the mean of 3 x 3."""
PAIR_REACH = 3
RANGE_REACH = 2
LANES = 8
"""Channels that are gathered side by side: a pixel's weights are looked up once for all."""
FEW = 16
"""Exposures whose values are added in float32 before they are added in float64, and are
sorted in registers."""
SPARED = 16
"""Columns without a value at a frame's sides are left out where there are at least so many."""
NARROWER = 16
"""Rows are combined one by one, between their ends, where these ends are wider than this
part of a run of pixels: shorter runs cost more."""
MPDAF_RULES = 5
"""Where the rules of mpdaf's clipping start."""
HALF = np.float32(0.5 - 1e-5)
"""A voxel is kept where this much of its weight was valid; a hair below one half,
so that a pixel exactly half covered does not depend on rounding."""

# Columns of the table of exposures.
(KIND, NY, NX, SWAP, QUALITY, MASK, SHIFT_Y, SHIFT_X, ROW_LO, ROW_HI, COL_LO, COL_HI,
 MAP_AT, TABLE_AT, GATHERED, READ_LO, READ_HI) = range(17)  # fmt: skip
N_COLUMNS = 17


@intrinsic
def _pointer(_context: Any, address: Any) -> Any:
    """Turn an integer address into a pointer that carray takes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def _address(_context: Any, array: Any) -> Any:
    """Where an array's values begin; ``array.ctypes.data`` would count a reference."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), codegen


_LANES = ir.VectorType(ir.FloatType(), LANES)
_WORD = ir.IntType(64)


def _load_lanes(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _LANES.as_pointer()), align=4)


def _store_lanes(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, _LANES.as_pointer()), align=4)


@intrinsic
def _weigh(_context: Any, frame: Any, indices: Any, weights: Any, n: Any, sums: Any) -> Any:
    """Weighted sums over ``n`` pixels of a frame of LANES channels side by side.

    All but ``n`` are addresses: of float32 (pixel, 3, LANES), int32 (n,),
    float32 (n,) and float32 (3, LANES), which is filled with the sums of w
    flux, w^2 variance and w validity. Written as vector instructions, since a
    compiler does not keep the sums of such short loops in registers.
    """

    def spread(builder: Any, value: Any) -> Any:
        one = builder.insert_element(ir.Constant(_LANES, ir.Undefined), value, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, ir.Constant(_LANES, ir.Undefined), mask)

    def codegen(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pixels, index, weight = (
            builder.inttoptr(address, kind.as_pointer())
            for address, kind in zip(
                args, (ir.FloatType(), ir.IntType(32), ir.FloatType()), strict=False
            )
        )
        zero = ir.Constant(_LANES, None)
        kept = [cgutils.alloca_once_value(builder, zero) for _ in range(3)]  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, args[3]) as loop:
            w = builder.load(builder.gep(weight, [loop.index]))
            at = builder.sext(builder.load(builder.gep(index, [loop.index])), _WORD)
            first = builder.gep(pixels, [builder.mul(at, _WORD(3 * LANES))])
            factors = (w, builder.fmul(w, w), w)
            for part, factor in enumerate(factors):
                place = builder.gep(first, [_WORD(part * LANES)])
                values = builder.load(builder.bitcast(place, _LANES.as_pointer()), align=4)
                term = builder.fmul(values, spread(builder, factor), flags=("contract",))
                total = builder.fadd(builder.load(kept[part]), term, flags=("contract",))
                builder.store(total, kept[part])
        for part in range(3):
            place = builder.add(args[4], _WORD(4 * LANES * part))
            _store_lanes(builder, builder.load(kept[part]), place)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    five = (types.int64, types.int64, types.int64, types.int64, types.int64)
    return types.none(*five), codegen


@intrinsic
def _transpose(_context: Any, source: Any, step: Any, target: Any, to_step: Any) -> Any:
    """LANES x LANES float32 from one address to another; the steps from row to row are bytes."""
    pairs = [i // 2 + (i % 2) * LANES for i in range(LANES)]
    halves = [
        ir.Constant(ir.VectorType(ir.IntType(32), LANES), [i + more for i in pairs])
        for more in (0, LANES // 2)
    ]

    def codegen(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def place(address: Any, step: Any, i: int) -> Any:
            return builder.add(address, builder.mul(step, _WORD(i)))

        rows = [_load_lanes(builder, place(args[0], args[1], i)) for i in range(LANES)]
        # Interleaving the first half of the rows with the second, as often as halves there are.
        for _ in range(LANES.bit_length() - 1):
            both = zip(rows[: LANES // 2], rows[LANES // 2 :], strict=True)
            rows = [builder.shuffle_vector(a, b, half) for a, b in both for half in halves]
        for i, row in enumerate(rows):
            _store_lanes(builder, row, place(args[2], args[3], i))
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.none(types.int64, types.int64, types.int64, types.int64), codegen


@cache
def median_network(n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Compare-exchange pairs that bring the middle ranks of n values into place.

    Batcher's odd-even merge sort (Knuth, TAOCP 3, 5.3.4), without the pairs
    that only concern ranks which a median with missing values does not read:
    n/2 - 1 and n/2 of an even n, (n - 1)/2 and (n + 1)/2 of an odd one.

    Returns
    -------
    int64 (pair, 2)
        After a pair (i, j) the smaller value is at i.
    """
    pairs = []
    p = 1
    while p < n:
        step = p
        while step >= 1:
            pairs += [
                (i, i + step)
                for start in range(step % p, n - step, 2 * step)
                for i in range(start, min(start + step, n - step))
                if i // (2 * p) == (i + step) // (2 * p)
            ]
            step //= 2
        p *= 2
    middle = set(middle_ranks(n))
    kept = []
    for pair in reversed(pairs):
        if middle & set(pair):
            middle |= set(pair)
            kept.append(pair)
    return np.array(kept[::-1], np.int64).reshape(-1, 2)


def middle_ranks(n: int) -> tuple[int, int]:
    """The ranks that a median of up to n values reads, once the missing ones are on both sides."""
    return ((n - 1) // 2, n // 2) if n % 2 == 0 else (n // 2, min(n // 2 + 1, n - 1))


_ranks = njit(nogil=True, cache=True, error_model="numpy")(middle_ranks)


def _magnitude(builder: Any, value: Any) -> Any:
    """The value without its sign."""
    all_but_sign = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0x7FFFFFFF] * LANES)
    bits = builder.and_(builder.bitcast(value, all_but_sign.type), all_but_sign)
    return builder.bitcast(bits, _LANES)


def _padded_lanes(builder: Any, rows: Any, at: Any, centre: Any) -> Any:
    """The values at a place, every other of the missing ones -inf or inf, and their number.

    With a ``centre`` their absolute deviations from it.
    """
    one, zero = (ir.Constant(_LANES, [value] * LANES) for value in (1.0, 0.0))
    filler, number, found = ir.Constant(_LANES, [-np.inf] * LANES), zero, []
    for row in rows:
        value = _load_lanes(builder, builder.add(row, at))
        good = builder.fcmp_ordered("ord", value, value)
        if centre is not None:
            value = _magnitude(builder, builder.fsub(value, centre))
        found.append(builder.select(good, value, filler))
        filler = builder.select(good, filler, builder.fneg(filler))
        number = builder.fadd(number, builder.select(good, one, zero))
    return found, number


def _exchanged(builder: Any, found: list[Any]) -> list[Any]:
    """The values with the middle ranks in their places."""
    for i, j in median_network(len(found)):
        a, b = found[i], found[j]
        less = builder.fcmp_ordered("<", a, b)
        found[i], found[j] = builder.select(less, a, b), builder.select(less, b, a)
    return found


def _sort_so_many(builder: Any, size: int, deviates: bool, args: Any) -> None:
    """Code that sorts the values of one number of exposures along the run."""
    values, step, members, _, n, centres, low, high, numbers = args
    chosen = builder.inttoptr(members, _WORD.as_pointer())
    rows = [
        builder.add(values, builder.mul(step, builder.load(builder.gep(chosen, [_WORD(k)]))))
        for k in range(size)
    ]
    last = builder.sub(n, _WORD(LANES))
    blocks = builder.sdiv(builder.add(n, _WORD(LANES - 1)), _WORD(LANES))
    with cgutils.for_range(builder, blocks) as loop:
        # The last block overlaps the one before it.
        first = builder.mul(loop.index, _WORD(LANES))
        first = builder.select(builder.icmp_signed("<", first, last), first, last)
        at = builder.mul(first, _WORD(4))
        centre = _load_lanes(builder, builder.add(centres, at)) if deviates else None
        found, number = _padded_lanes(builder, rows, at, centre)
        found = _exchanged(builder, found)
        for rank, target in zip(middle_ranks(size), (low, high), strict=True):
            _store_lanes(builder, found[rank], builder.add(target, at))
        if not deviates:
            _store_lanes(builder, number, builder.add(numbers, at))


def _sorting(deviates: bool) -> Any:
    """Make the function that sorts up to FEW exposures' values along a run of pixels.

    The values of LANES pixels stay in registers from reading to the last
    exchange: with the run in memory each exchange loads and stores two rows.
    The networks are known when this is compiled, hence a case for each number.
    """

    def codegen(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        end = builder.append_basic_block("sorted")
        choice = builder.switch(args[3], end)
        for size in range(2, FEW + 1):
            block = builder.append_basic_block(f"sort{size}")
            choice.add_case(_WORD(size), block)
            builder.position_at_end(block)
            _sort_so_many(builder, size, deviates, args)
            builder.branch(end)
        builder.position_at_end(end)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    def typed(
        _context: Any, values: Any, step: Any, members: Any, size: Any, n: Any, centres: Any,
        low: Any, high: Any, numbers: Any,
    ) -> Any:  # fmt: skip
        """All but ``size`` and ``n`` are addresses, and ``step`` bytes from row to row."""
        return types.none(*[types.int64] * 9), codegen

    return intrinsic(typed)


_sort_values = _sorting(deviates=False)
_sort_deviations = _sorting(deviates=True)


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


_pread = types.ExternalFunction(
    "pread", types.intp(types.int32, types.voidptr, types.uintp, types.int64)
)


_copy_bytes = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.uintp))
"""The C library's, on addresses: faster than a loop over a row of a few pixels."""


@njit(nogil=True, cache=True, error_model="numpy")
def _line(array, y, x, n):
    """``n`` pixels of a row of a float32 (y, x) array in C order, from column ``x`` on.

    Unlike a slice it counts no reference, which costs more than the arithmetic of a short row.
    """
    return _floats(_place(array, y, x), n)


@njit(nogil=True, cache=True, error_model="numpy")
def _floats(address, n):
    """``n`` float32 from an address on."""
    return carray(_pointer(address), (n,), np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def _place(array, y, x):
    """Address of a pixel of a float32 (y, x) array in C order."""
    return _address(array) + 4 * (y * array.shape[1] + x)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _set(address, n, value):
    """Make ``n`` float32 from an address on the same value."""
    values = _floats(address, n)
    for i in range(n):
        values[i] = value


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _copy(source, target, n):
    """Copy ``n`` float32 from one address to another."""
    values, copies = _floats(source, n), _floats(target, n)
    for i in range(n):
        copies[i] = values[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _words(address, n):
    """``n`` words of 4 bytes from an address on."""
    return carray(_pointer(address), (n,), np.uint32)


@njit(nogil=True, cache=True, error_model="numpy")
def _read(file, address, size, offset):
    """Read ``size`` bytes of an open file to an address."""
    done = 0
    while done < size:
        got = _pread(file, _pointer(address + done), size - done, offset + done)
        if got == 0:
            raise EOFError("an exposure ends early")
        if got < 0:
            raise OSError("an exposure cannot be read")
        done += got


@njit(nogil=True, cache=True, error_model="numpy")
def _bring(source, row, c, first, last, room):
    """Bring frame rows [first, last) of channel ``c`` to memory, if they are not.

    ``room`` uint32 (3, pixel) takes them. Gives the addresses at which row 0
    of flux, variance and quality would begin.
    """
    line = 4 * row[NX]
    offset = line * row[NY] * c
    found = (source[0, 1] + offset, source[1, 1] + offset, source[2, 1] + offset)
    if source[0, 0] < 0:
        return found
    size = line * (last - first)
    home = _address(room)
    step = 4 * room.shape[1]
    for i in range(3 if row[QUALITY] != 0 else 2):
        _read(source[i, 0], home + i * step, size, found[i] + line * first)
    home -= line * first
    return (home, home + step, home + 2 * step)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _load_row(from_f, from_v, n, swap, background, floor, to_f, to_v):
    """Bring ``n`` pixels of flux and variance into native order; all lie at addresses.

    Both become 0 where missing: the variance is that nowhere else, and so tells what is valid.
    """
    source_f, source_v = _words(from_f, n), _words(from_v, n)
    f, v = _floats(to_f, n), _floats(to_v, n)
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


@njit(nogil=True, cache=True, error_model="numpy")
def _mask_row(quality, start, n, row, masks, f, v):
    """Make missing what the quality (at an address) or the spatial mask flags."""
    if row[QUALITY] != 0:
        _drop(_words(quality, n), _floats(f, n), _floats(v, n))
    if row[MASK] >= 0:
        flags = masks[row[MASK] + start : row[MASK] + start + n]
        _drop(flags, _floats(f, n), _floats(v, n))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _drop(flags, f, v):
    """Make pixels missing where a flag is set."""
    zero = np.float32(0.0)
    for i in range(f.shape[0]):
        bad = flags[i] != 0
        f[i] = zero if bad else f[i]
        v[i] = zero if bad else v[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _blank_ends(address, left, right, width):
    """Make the first and last of a row's ``width`` pixels 0."""
    _set(address, left, np.float32(0.0))
    _set(address + 4 * (width - right), right, np.float32(0.0))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _load_rectangle(
    source, row, c, masks, background, floor, y_lo, y_hi, x_lo, x_hi, scratch
):  # fmt: skip
    """Load frame rows [y_lo, y_hi) and columns [x_lo, x_hi); 0 (missing) off the frame."""
    sf, sv, _, room = scratch
    nx = row[NX]
    swap = row[SWAP] != 0
    masked = row[QUALITY] != 0 or row[MASK] >= 0
    width = x_hi - x_lo
    a = max(x_lo, 0)
    b = min(x_hi, nx)
    first = max(y_lo, row[READ_LO])
    last = min(y_hi, row[READ_HI])
    some = first < last and a < b
    from_f, from_v, quality = _bring(source, row, c, first, last, room) if some else (0, 0, 0)
    # Addresses, since an array that is handed on counts a reference.
    f, v = _address(sf), _address(sv)
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
            _load_row(
                from_f + 4 * start, from_v + 4 * start, b - a, swap, background, floor,
                f + at, v + at,
            )  # fmt: skip
            if masked:
                _mask_row(quality + 4 * start, start, b - a, row, masks, f + at, v + at)
        f, v = f + step, v + step


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
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


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _if_valid(weight, variance):
    """The weight of a pixel, 0 if it is missing."""
    zero = np.float32(0.0)
    return weight if variance > zero else zero


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _blend(f0, f1, v0, v1, i, x, y, scale):
    """Bilinear flux and variance between pixels i and i + 1 of two rows, NaN where missing."""
    one = np.float32(1.0)
    nan = np.float32(np.nan)
    a = (one - x) * (one - y)
    b = x * (one - y)
    c = (one - x) * y
    d = x * y
    weight = _if_valid(a, v0[i]) + _if_valid(b, v0[i + 1])
    weight += _if_valid(c, v1[i]) + _if_valid(d, v1[i + 1])
    flux = a * f0[i] + b * f0[i + 1] + c * f1[i] + d * f1[i + 1]
    variance = a * a * v0[i] + b * b * v0[i + 1] + c * c * v1[i] + d * d * v1[i + 1]
    factor = scale / weight
    good = weight >= HALF
    return flux * factor if good else nan, variance * factor * factor if good else nan


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _steady_run(f, v, step, n, x, y, scale, to_f, to_v):
    """Bilinear along a run of ``n`` pixels whose fractions are the same everywhere.

    ``f``, ``v``, ``to_f`` and ``to_v`` are addresses; of the inputs a
    pixel more than ``n`` is read, and the next row lies ``step`` bytes on. A
    pixel's two rows are blended once, for itself and for the pixel before it.
    """
    f0, v0 = _floats(f, n + 1), _floats(v, n + 1)
    f1, v1 = _floats(f + step, n + 1), _floats(v + step, n + 1)
    out_f, out_v = _floats(to_f, n), _floats(to_v, n)
    one = np.float32(1.0)
    nan = np.float32(np.nan)
    a, b = one - y, y
    c, d = one - x, x
    a2, b2, c2, d2 = a * a, b * b, c * c, d * d
    flux = a * f0[0] + b * f1[0]
    variance = a2 * v0[0] + b2 * v1[0]
    weight = _if_valid(a, v0[0]) + _if_valid(b, v1[0])
    for i in range(n):
        next_flux = a * f0[i + 1] + b * f1[i + 1]
        next_variance = a2 * v0[i + 1] + b2 * v1[i + 1]
        next_weight = _if_valid(a, v0[i + 1]) + _if_valid(b, v1[i + 1])
        whole = c * weight + d * next_weight
        factor = scale / whole
        good = whole >= HALF
        out_f[i] = (c * flux + d * next_flux) * factor if good else nan
        out_v[i] = (c2 * variance + d2 * next_variance) * factor * factor if good else nan
        flux, variance, weight = next_flux, next_variance, next_weight


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _bilinear_run(f, v, step, n, fx, dfx, fy, dfy, skipped, scale, to_f, to_v):
    """The same where the fractions change linearly along the run.

    ``fx`` and ``fy`` are those ``skipped`` pixels before the first.
    """
    f0, v0 = _floats(f, n + 1), _floats(v, n + 1)
    f1, v1 = _floats(f + step, n + 1), _floats(v + step, n + 1)
    out_f, out_v = _floats(to_f, n), _floats(to_v, n)
    before = np.int32(skipped)
    for i in range(n):
        t = np.float32(np.int32(i) + before)  # from 32 bits it is a float in one instruction
        x = fx + dfx * t
        y = fy + dfy * t
        out_f[i], out_v[i] = _blend(f0, f1, v0, v1, i, x, y, scale)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _lanczos_run(f, v, step, n, wx, wy, scale, to_f, to_v, acc):
    """The same over six rows and columns whose weights are the same everywhere."""
    sum_f, sum_v, sum_m = _place(acc, 0, 0), _place(acc, 1, 0), _place(acc, 2, 0)
    _set(sum_f, n, np.float32(0.0))
    _set(sum_v, n, np.float32(0.0))
    _set(sum_m, n, np.float32(0.0))
    for j in range(LANCZOS_TAPS):
        for i in range(LANCZOS_TAPS):
            at = j * step + 4 * i
            _add_tap(f + at, v + at, n, wx[i] * wy[j], sum_f, sum_v, sum_m)
    _settle(
        _floats(sum_f, n), _floats(sum_v, n), _floats(sum_m, n), scale,
        _floats(to_f, n), _floats(to_v, n),
    )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add_tap(f, v, n, w, sum_f, sum_v, sum_m):
    """Add a tap's values times its weight to the sums of a run; all lie at addresses."""
    flux, variance = _floats(f, n), _floats(v, n)
    af, av, am = _floats(sum_f, n), _floats(sum_v, n), _floats(sum_m, n)
    w2 = w * w
    for p in range(n):
        af[p] += w * flux[p]
        av[p] += w2 * variance[p]
        am[p] += _if_valid(w, variance[p])


@njit(nogil=True, cache=True, error_model="numpy")
def _run_end(start, drift, i, x, hi):
    """First pixel after ``x`` at which ``floor(start + drift * x)`` is no longer ``i``."""
    if drift > 0:
        end = np.int64(np.ceil((i + 1 - start) / drift))
    elif drift < 0:
        end = np.int64(np.floor((i - start) / drift)) + 1
    else:
        return hi
    return min(max(end, x + 1), hi)


@njit(nogil=True, cache=True, error_model="numpy")
def _phase_end(start, drift, x, hi):
    """First pixel after ``x`` at which the Lanczos phase has changed."""
    if drift == 0:
        return hi
    length = np.int64(1.0 / (abs(drift) * LANCZOS_PHASES)) + 1
    return min(x + length, hi)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _weights_at(lanczos, phase, out):
    """Lanczos weights at a phase in [0, 1], linear between the table's rows."""
    at = np.float32(phase) * np.float32(LANCZOS_PHASES)
    k = min(np.int64(at), LANCZOS_PHASES - 1)
    t = at - np.float32(k)
    for i in range(LANCZOS_TAPS):
        out[i] = lanczos[k, i] + t * (lanczos[k + 1, i] - lanczos[k, i])


@njit(nogil=True, cache=True, error_model="numpy")
def _strip_bounds(row, drift, taps, y_lo, y_hi):
    """Rows and columns of the frame that the strip's rows need: y_lo, y_hi, x_lo, x_hi."""
    before = taps // 2 - 1
    after = taps // 2
    a, b = row[COL_LO], row[COL_HI] - 1
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


@njit(nogil=True, cache=True, error_model="numpy")
def _columns(valid, n_rows, width):
    """First and last plus one column in which a row can be valid; equal if none is.

    ``valid`` float32 (y, x): not 0 where there is a value.
    """
    first, last = width, 0
    at, step = _address(valid), 4 * valid.shape[1]
    for _ in range(n_rows):
        # What is known to be inside is not looked at again.
        first = _leftmost(at, first)
        last += _behind_rightmost(at + 4 * last, width - last)
        if max(first, width - last) < SPARED:  # to look at the other rows would take longer
            return 0, width
        at += step
    return min(first, last), last


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _leftmost(address, n):
    """Index of the first of ``n`` float32 that is not 0, or ``n``."""
    valid = _floats(address, n)
    found = np.int32(n)
    for i in range(n):
        here = np.int32(i) if valid[i] != np.float32(0.0) else np.int32(n)
        found = here if here < found else found
    return np.int64(found)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _behind_rightmost(address, n):
    """Index of the last of ``n`` float32 that is not 0, plus one, or 0."""
    valid = _floats(address, n)
    found = np.int32(0)
    for i in range(n):
        here = np.int32(i) + np.int32(1) if valid[i] != np.float32(0.0) else np.int32(0)
        found = here if here > found else found
    return np.int64(found)


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _drift_strip(
    source, row, c, masks, drift, lanczos, background, floor, scale, y_lo, y_hi, scratch,
    out_f, out_v, at,
):  # fmt: skip
    """Resample rows [y_lo, y_hi) of the tile where the geometry is nearly a pure shift.

    Returns the first and last plus one column that can have a value.
    """
    sf, sv, acc, _ = scratch
    taps = LANCZOS_TAPS if row[KIND] == DRIFT_LANCZOS else 2
    ry, ry_hi, rx, rx_hi = _strip_bounds(row, drift, taps, y_lo, y_hi)
    if ry_hi - ry > sf.shape[0] or rx_hi - rx > sf.shape[1]:
        raise ValueError("an exposure drifts further against the tile than its scratch allows")
    _load_rectangle(source, row, c, masks, background, floor, ry, ry_hi, rx, rx_hi, scratch)
    first, last = _columns(sv, ry_hi - ry, rx_hi - rx)
    before = taps // 2 - 1
    wx, wy = _line(acc, 3, 0, LANCZOS_TAPS), _line(acc, 4, 0, LANCZOS_TAPS)
    left, right = row[COL_HI], row[COL_LO]
    # Addresses, since an array that is handed on counts a reference.
    home_f, home_v = _address(sf), _address(sv)
    to_f, to_v = _place(out_f, at, 0), _place(out_v, at, 0)
    step, to_step = 4 * sf.shape[1], 4 * out_f.shape[1]
    nan = np.float32(np.nan)
    for y in range(y_lo, y_hi):
        x = row[COL_LO]
        hi = row[COL_HI]
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
                _set(to + 4 * x, a - x, nan)
                _set(to + 4 * b, end - b, nan)
            fx, fy = np.float32(ux - ix), np.float32(uy - iy)
            dfx, dfy = np.float32(drift[y, 1]), np.float32(drift[y, 3])
            place = r * step + 4 * q
            f, v, out_at = home_f + place, home_v + place, 4 * a
            if taps > 2:
                _weights_at(lanczos, ux - ix, wx)
                _weights_at(lanczos, uy - iy, wy)
                _lanczos_run(f, v, step, n, wx, wy, scale, to_f + out_at, to_v + out_at, acc)
            elif dfx == 0 and dfy == 0:
                _steady_run(f, v, step, n, fx, fy, scale, to_f + out_at, to_v + out_at)
            else:
                _bilinear_run(
                    f, v, step, n, fx, dfx, fy, dfy, a - x, scale, to_f + out_at, to_v + out_at
                )
            x = end
        to_f, to_v = to_f + to_step, to_v + to_step
    return left, right


@njit(nogil=True, cache=True, error_model="numpy")
def _copy_strip(
    source, row, c, masks, background, floor, scale, y_lo, y_hi, scratch, out_f, out_v, at
):  # fmt: skip
    """Copy rows [y_lo, y_hi) of the tile where the lattices are one.

    Returns the first and last plus one column that has a value.
    """
    sf, sv, _, _ = scratch
    a, n = row[COL_LO], row[COL_HI] - row[COL_LO]
    _load_rectangle(
        source, row, c, masks, background, floor, y_lo + row[SHIFT_Y], y_hi + row[SHIFT_Y],
        a + row[SHIFT_X], a + n + row[SHIFT_X], scratch,
    )  # fmt: skip
    for i in range(y_hi - y_lo):
        _copy_row(
            _line(sf, i, 0, n), _line(sv, i, 0, n), scale,
            _line(out_f, at + i, a, n), _line(out_v, at + i, a, n),
        )  # fmt: skip
    first, last = _columns(sv, y_hi - y_lo, n)
    return a + first, a + last


@njit(nogil=True, cache=True, error_model="numpy")
def _load_frames(source, row, start, present, masks, background, floor, room, lines, frame):
    """A whole frame in up to LANES channels from ``start`` on, which lie side by side.

    Parameters
    ----------
    present, background, floor : (channel,)
        Of these channels.
    room : uint32 (LANES, 3, word)
        Takes the rows as they are read.
    lines : float32 (3, LANES, x)
        Takes a row of all channels; 0 where there is no channel, and LANES pixels longer.
    frame : float32 (pixel, 3, LANES)
        Filled with flux, variance and validity (1 or 0), 0 where missing and in
        a border around the frame.
    """  # fmt: skip
    ny, nx = row[NY], row[NX]
    swap = row[SWAP] != 0
    masked = row[QUALITY] != 0 or row[MASK] >= 0
    homes = _address(lines[0]), _address(lines[1]), _address(lines[2])
    step = 4 * lines.shape[2]
    width = nx + 2 * BORDER
    frame[: (row[READ_LO] + BORDER) * width] = np.float32(0.0)
    frame[(row[READ_HI] + BORDER) * width : (ny + 2 * BORDER) * width] = np.float32(0.0)
    lines[:] = np.float32(0.0)
    found = np.zeros((LANES, 3), np.int64)
    for first in range(row[READ_LO], row[READ_HI], STRIP_ROWS):
        last = min(first + STRIP_ROWS, row[READ_HI])
        for c in range(present.shape[0]):
            if present[c]:
                found[c] = _bring(source, row, start + c, first, last, room[c])
        for y in range(first, last):
            for c in range(present.shape[0]):
                if present[c]:
                    at = 4 * y * nx
                    f, v, m = homes[0] + c * step, homes[1] + c * step, homes[2] + c * step
                    _load_row(
                        found[c, 0] + at, found[c, 1] + at, nx, swap, background[c], floor[c],
                        f, v,
                    )  # fmt: skip
                    if masked:
                        _mask_row(found[c, 2] + at, y * nx, nx, row, masks, f, v)
                    _mark_valid(v, nx, m)
            line = frame[(y + BORDER) * width : (y + BORDER + 1) * width]
            line[:BORDER] = np.float32(0.0)
            _interleave(lines, nx, _address(line) + 4 * 3 * LANES * BORDER)
            line[nx + BORDER :] = np.float32(0.0)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _mark_valid(variance, n, validity):
    """1 where there is a variance, else 0; both lie at addresses."""
    v, m = _floats(variance, n), _floats(validity, n)
    for i in range(n):
        m[i] = _if_valid(np.float32(1.0), v[i])


@njit(nogil=True, cache=True, error_model="numpy")
def _interleave(lines, nx, target):
    """From (part, channel, x) to (x, part, channel), LANES pixels at a time.

    ``target`` is an address; up to LANES - 1 pixels behind the last are 0, as in ``lines``.
    """
    pixel = 4 * 3 * LANES
    for part in range(3):
        source = _address(lines) + 4 * part * LANES * lines.shape[2]
        for x in range(0, nx, LANES):
            _transpose(
                source + 4 * x, 4 * lines.shape[2], target + pixel * x + 4 * part * LANES, pixel
            )


@njit(nogil=True, cache=True, error_model="numpy")
def _part_channels(source, n, lines):
    """From (x, part, channel) at an address to (part, channel, x)."""
    pixel = 4 * 3 * LANES
    for part in range(3):
        target = _address(lines) + 4 * part * LANES * lines.shape[2]
        for x in range(0, n, LANES):
            _transpose(
                source + pixel * x + 4 * part * LANES, pixel, target + 4 * x, 4 * lines.shape[2]
            )


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _settle(flux, variance, weight, scale, out_f, out_v):
    """Renormalise over the weight that was valid; NaN below one half."""
    nan = np.float32(np.nan)
    for x in range(out_f.shape[0]):
        factor = scale / weight[x]
        out_f[x] = flux[x] * factor if weight[x] >= HALF else nan
        out_v[x] = variance[x] * factor * factor if weight[x] >= HALF else nan


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _pixels_around(kind, width, px, py, lanczos, six, indices, weights):
    """List the pixels of a bordered frame around a point, by the weights of a kind.

    Gives their number; none if the point is NaN.
    """
    if not (px == px and py == py):
        return 0
    one = np.float32(1.0)
    if kind == NEAREST:
        y, x = np.floor(py + np.float32(0.5)), np.floor(px + np.float32(0.5))
        indices[0] = (np.int64(y) + BORDER) * width + np.int64(x) + BORDER
        weights[0] = one
        return 1
    ix = np.int64(np.floor(px))
    iy = np.int64(np.floor(py))
    fx = px - np.float32(ix)
    fy = py - np.float32(iy)
    at = (iy + BORDER) * width + ix + BORDER
    if kind == BILINEAR:
        indices[0], weights[0] = at, (one - fx) * (one - fy)
        indices[1], weights[1] = at + 1, fx * (one - fy)
        indices[2], weights[2] = at + width, (one - fx) * fy
        indices[3], weights[3] = at + width + 1, fx * fy
        return 4
    _weights_at(lanczos, fx, six[0])
    _weights_at(lanczos, fy, six[1])
    for j in range(LANCZOS_TAPS):
        for i in range(LANCZOS_TAPS):
            k = j * LANCZOS_TAPS + i
            indices[k] = at + (j - 2) * width + i - 2
            weights[k] = six[1, j] * six[0, i]
    return LANCZOS_TAPS**2


@njit(nogil=True, cache=True, error_model="numpy")
def _gather_frames(frame, row, pixel_map, pointers, indices, weights, lanczos, scale, out):
    """Resample an exposure onto its part of the tile, any geometry, in up to LANES channels.

    ``pixel_map`` float32 (2, rows, columns): frame coordinates x, y of the
    part's pixels, NaN where they lie off the frame. ``out`` float32 (2,
    channel, y, x): flux and variance.
    """
    kind = row[KIND]
    width = row[NX] + 2 * BORDER
    first, n_cols = row[COL_LO], row[COL_HI] - row[COL_LO]
    six = np.empty((2, LANCZOS_TAPS), np.float32)
    own_indices = np.empty(LANCZOS_TAPS**2, np.int32)
    own_weights = np.empty(LANCZOS_TAPS**2, np.float32)
    line = np.zeros((n_cols + LANES, 3, LANES), np.float32)
    lines = np.empty((3, LANES, n_cols + LANES), np.float32)
    i = 0
    for y in range(row[ROW_LO], row[ROW_HI]):
        for x in range(n_cols):
            index, weight = _address(own_indices), _address(own_weights)
            if kind == EXACT:
                index = _address(indices) + 4 * pointers[i]
                weight = _address(weights) + 4 * pointers[i]
                n = pointers[i + 1] - pointers[i]
            else:
                n = _pixels_around(
                    kind, width, pixel_map[0, i], pixel_map[1, i], lanczos, six, own_indices,
                    own_weights,
                )  # fmt: skip
            _weigh(_address(frame), index, weight, n, _address(line) + 4 * 3 * LANES * x)
            i += 1
        _part_channels(_address(line), n_cols, lines)
        for c in range(out.shape[1]):
            _settle(
                _line(lines[0], c, 0, n_cols), _line(lines[1], c, 0, n_cols),
                _line(lines[2], c, 0, n_cols), scale,
                _line(out[0, c], y, first, n_cols), _line(out[1, c], y, first, n_cols),
            )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _pad_missing(values, members, p_lo, n, work, n_valid):
    """Copy members' values; of the missing ones of a pixel, every other becomes -inf, inf.

    So the valid ones sit in the middle ranks, and one network serves any
    number of them. ``n_valid`` float32 (pixel,) is filled with that number.
    """
    next_filler = _line(work, members.shape[0], 0, n)
    next_filler[:] = -np.float32(np.inf)
    number = n_valid[:n]
    number[:] = np.float32(0.0)
    for k in range(members.shape[0]):
        _pad_one(_line(values, members[k], p_lo, n), _line(work, k, 0, n), next_filler, number)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
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


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _exchange(low, high):
    for p in range(low.shape[0]):
        a = low[p]
        b = high[p]
        low[p] = a if a < b else b
        high[p] = b if a < b else a


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _exchange_all(work, network, n):
    for k in range(network.shape[0]):
        _exchange(_line(work, network[k, 0], 0, n), _line(work, network[k, 1], 0, n))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _sort(values, members, network, p_lo, n, work, n_valid):
    """Bring the middle ranks of each pixel's values into place in ``work``.

    ``n_valid`` float32 (pixel,) is filled with the number of valid ones.
    """
    size = members.shape[0]
    if not _fits_registers(size, n):
        _pad_missing(values, members, p_lo, n, work, n_valid)
        _exchange_all(work, network, n)
        return
    low, high = _middle_rows(work, size)
    _sort_values(
        _address(values) + 4 * p_lo, 4 * values.shape[1], _address(members), size, n, 0, low, high,
        _address(n_valid),
    )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _sort_around(values, members, network, p_lo, n, centre, work):
    """The same for the absolute deviations from ``centre``."""
    size = members.shape[0]
    if not _fits_registers(size, n):
        _deviations(values, members, p_lo, n, centre, work)
        _exchange_all(work, network, n)
        return
    low, high = _middle_rows(work, size)
    _sort_deviations(
        _address(values) + 4 * p_lo, 4 * values.shape[1], _address(members), size, n,
        _address(centre), low, high, 0,
    )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _fits_registers(size, n):
    """Whether there is a case for so many exposures, and a whole block of pixels."""
    return 2 <= size <= FEW and n >= LANES


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _middle_rows(work, size):
    """Where the two middle ranks lie."""
    low, high = _ranks(size)
    step = 4 * work.shape[1]
    return _address(work) + low * step, _address(work) + high * step


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _middle(work, n_members, n, n_valid, out):
    """Take the median of each pixel's valid values, which are sorted; NaN without any."""
    nan = np.float32(np.nan)
    half = np.float32(0.5)
    even = n_members % 2 == 0
    first, second = _ranks(n_members)
    low, high = work[first, :n], work[second, :n]
    for p in range(n):
        odd_valid = n_valid[p] - np.float32(2.0) * np.floor(n_valid[p] * half) > half
        single = high[p] if even else low[p]
        both = half * low[p] + half * high[p]
        value = single if odd_valid else both
        out[p] = value if n_valid[p] > half else nan


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _deviations(values, members, p_lo, n, centre, work):
    """Absolute deviations from ``centre``, padded as in :func:`_pad_missing`."""
    next_filler = _line(work, members.shape[0], 0, n)
    next_filler[:] = -np.float32(np.inf)
    for k in range(members.shape[0]):
        _deviate_one(
            _line(values, members[k], p_lo, n), centre[:n], _line(work, k, 0, n), next_filler
        )


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _deviate_one(source, centre, target, next_filler):
    for p in range(source.shape[0]):
        value = source[p]
        filler = next_filler[p]
        good = value == value
        target[p] = abs(value - centre[p]) if good else filler
        next_filler[p] = filler if good else -filler


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
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
            _line(values, e0, p_lo, n), _line(values, e1, p_lo, n),
            _line(variances, e0, p_lo, n), _line(variances, e1, p_lo, n),
            weights[e0], weights[e1], times[e0], times[e1], limits, use_limits, centre, sums,
        )  # fmt: skip
    if size % 2:
        e = members[size - 1]
        _add_one(
            _line(values, e, p_lo, n), _line(variances, e, p_lo, n), weights[e], times[e],
            limits, use_limits, centre, sums,
        )  # fmt: skip
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def _are_alike(members, weights, times):
    """Whether the exposures have one weight and one exposure time."""
    alike = True
    for k in range(1, members.shape[0]):
        alike = alike and weights[members[k]] == weights[members[0]]
        alike = alike and times[members[k]] == times[members[0]]
    return alike


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _plain_sums(values, variances, members, p_lo, n, limits, use_limits, centre, sums):
    """Those of :func:`_weighted_sums` that are left without weights and times."""
    sums[1, :n] = 0.0
    sums[2, :n] = 0.0
    sums[4, :n] = 0.0
    size = members.shape[0]
    for k in range(0, size - size % 2, 2):
        e0, e1 = members[k], members[k + 1]
        _add_plain_two(
            _line(values, e0, p_lo, n), _line(values, e1, p_lo, n),
            _line(variances, e0, p_lo, n), _line(variances, e1, p_lo, n),
            limits, use_limits, centre, sums,
        )  # fmt: skip
    if size % 2:
        e = members[size - 1]
        _add_one(
            _line(values, e, p_lo, n), _line(variances, e, p_lo, n), 1.0, 0.0, limits, use_limits,
            centre, sums,
        )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add_one(f, v, w, t, limits, use_limits, centre, sums):
    """Add an exposure to the sums."""
    n = f.shape[0]
    sw, sf, sv, st, sn = sums[0, :n], sums[1, :n], sums[2, :n], sums[3, :n], sums[4, :n]
    spread, floor, square = limits[0, :n], limits[1, :n], limits[2, 0]
    w2 = w * w
    for p in range(n):
        keep = f[p] == f[p]
        if use_limits:
            d = f[p] - centre[p]
            keep = d * d <= square * max(v[p], spread[p]) + floor[p]
        sw[p] += w if keep else 0.0
        st[p] += t if keep else 0.0
        sf[p] += w * np.float64(f[p]) if keep else 0.0
        sv[p] += w2 * np.float64(v[p]) if keep else 0.0
        sn[p] += 1.0 if keep else 0.0


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add_two(f0, f1, v0, v1, w0, w1, t0, t1, limits, use_limits, centre, sums):
    """Add two exposures to the sums, the first one first."""
    n = f0.shape[0]
    sw, sf, sv, st, sn = sums[0, :n], sums[1, :n], sums[2, :n], sums[3, :n], sums[4, :n]
    spread, floor, square = limits[0, :n], limits[1, :n], limits[2, 0]
    x0, x1 = w0 * w0, w1 * w1
    for p in range(n):
        a = f0[p] == f0[p]
        b = f1[p] == f1[p]
        if use_limits:
            d = f0[p] - centre[p]
            a = d * d <= square * max(v0[p], spread[p]) + floor[p]
            d = f1[p] - centre[p]
            b = d * d <= square * max(v1[p], spread[p]) + floor[p]
        sw[p] += (w0 if a else 0.0) + (w1 if b else 0.0)
        st[p] += (t0 if a else 0.0) + (t1 if b else 0.0)
        sf[p] += (w0 * np.float64(f0[p]) if a else 0.0) + (w1 * np.float64(f1[p]) if b else 0.0)
        sv[p] += (x0 * np.float64(v0[p]) if a else 0.0) + (x1 * np.float64(v1[p]) if b else 0.0)
        sn[p] += (1.0 if a else 0.0) + (1.0 if b else 0.0)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add_plain_two(f0, f1, v0, v1, limits, use_limits, centre, sums):
    """The same of exposures of weight 1, without the sums of weights and times."""
    n = f0.shape[0]
    sf, sv, sn = sums[1, :n], sums[2, :n], sums[4, :n]
    spread, floor, square = limits[0, :n], limits[1, :n], limits[2, 0]
    zero = np.float32(0.0)
    one = np.float32(1.0)
    for p in range(n):
        a = f0[p] == f0[p]
        b = f1[p] == f1[p]
        if use_limits:
            d = f0[p] - centre[p]
            a = d * d <= square * max(v0[p], spread[p]) + floor[p]
            d = f1[p] - centre[p]
            b = d * d <= square * max(v1[p], spread[p]) + floor[p]
        # What is missing is left out in float32, where an instruction does twice as many.
        sf[p] += np.float64(f0[p] if a else zero) + np.float64(f1[p] if b else zero)
        sv[p] += np.float64(v0[p] if a else zero) + np.float64(v1[p] if b else zero)
        sn[p] += np.float64((one if a else zero) + (one if b else zero))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
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


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _store_time(total, factor, n, time):
    for p in range(n):
        time[p] = np.float32(factor * total[p])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _store_means(sums, alike, time_of_one, n, places, to, to_step):
    """Store a mean, its variance, the number and the exposure time, if it has a plane.

    ``places``: planes of these four, which lie ``to_step`` bytes apart from the address ``to`` on.
    """
    i_flux, i_variance, i_number, i_time = places
    _store_mean(
        sums, alike, n, _floats(to + i_flux * to_step, n), _floats(to + i_variance * to_step, n),
        _floats(to + i_number * to_step, n),
    )  # fmt: skip
    if i_time != i_number:
        total, factor = (sums[4], time_of_one) if alike else (sums[3], 1.0)
        _store_time(total, factor, n, _floats(to + i_time * to_step, n))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _median_variance(variances, members, p_lo, n, n_valid, c_n, partial, sums, variance):
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


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _exposure_time(values, members, times, p_lo, n, n_valid, total, out):
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
        _expose_one(_line(values, members[k], p_lo, n), times[members[k]], total[:n])
    _store_time(total, 1.0, n, out)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add_inverses(variances, members, p_lo, n, partial):
    """Sum of 1/sigma and of its square over a few exposures, the first two rows of ``partial``.

    A variance is NaN where its value is missing.
    """
    inverse, square = _place(partial, 0, 0), _place(partial, 1, 0)
    _set(inverse, n, np.float32(0.0))
    _set(square, n, np.float32(0.0))
    size = members.shape[0]
    # Two exposures at a time: the sums are loaded and stored half as often.
    for k in range(0, size - 1, 2):
        first, second = _place(variances, members[k], p_lo), _place(variances, members[k + 1], p_lo)
        _invert_two(first, second, n, inverse, square)
    if size % 2:
        _invert_one(_place(variances, members[size - 1], p_lo), n, inverse, square)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _inverse_sigma(variance):
    """1/sigma, 0 where the variance is NaN."""
    return np.float32(1.0) / np.sqrt(variance) if variance == variance else np.float32(0.0)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=IN_ORDER)
def _invert_one(variance, n, inverse, square):
    """Add 1/sigma and its square of an exposure's valid values; all lie at addresses."""
    v, inverses, squares = _floats(variance, n), _floats(inverse, n), _floats(square, n)
    for p in range(n):
        a = _inverse_sigma(v[p])
        inverses[p] += a
        squares[p] += a * a


@njit(nogil=True, cache=True, error_model="numpy", fastmath=IN_ORDER)
def _invert_two(first, second, n, inverse, square):
    """The same of two exposures."""
    v, w = _floats(first, n), _floats(second, n)
    inverses, squares = _floats(inverse, n), _floats(square, n)
    for p in range(n):
        a, b = _inverse_sigma(v[p]), _inverse_sigma(w[p])
        inverses[p] = (inverses[p] + a) + b
        squares[p] = (squares[p] + a * a) + b * b


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _expose_one(f, t, time):
    """Add the exposure time where there is a value."""
    for p in range(f.shape[0]):
        time[p] += t if f[p] == f[p] else 0.0


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add_partial(partial, total):
    for p in range(partial.shape[0]):
        total[p] += np.float64(partial[p])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
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


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _pair_error(inverse, square, factor):
    """The same of two values: that of their mean."""
    one = np.float32(1.0)
    share = one / inverse
    sigma = np.float32(2.0) * share
    scatter = (square * share) * sigma - one
    rest = one / (one - scatter)
    return (factor * share) * sigma * ((one + scatter) * rest * rest)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _median_error(inverse, square, number, factor, growth):
    """Variance of the median of ``number`` values out of the sums of 1/sigma and its square."""
    one = np.float32(1.0)
    # One over sigma's scale at a time: no product leaves the range of float32.
    share = one / inverse
    sigma = number * share
    scatter = (square * share) * sigma - one
    return (factor * share) * sigma * (one + growth * scatter)


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _store_mpdaf(values, variances, members, times, p_lo, n, rules, flux, variance, number, time):
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


@njit(nogil=True, cache=True, error_model="numpy")
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
        _sort(values, members, network, p_lo, n, stack, n_valid)
        _middle(stack, size, n, n_valid, centre)
    for s in range(steps.shape[0]):
        kind, i_flux, i_variance, i_number, i_time = steps[s]
        flux, variance = _floats(to + i_flux * to_step, n), _floats(to + i_variance * to_step, n)
        number, time = _floats(to + i_number * to_step, n), _floats(to + i_time * to_step, n)
        if kind == MEDIAN:
            _copy(_address(centre), _address(flux), n)
            _copy(_address(n_valid), _address(number), n)
            _median_variance(variances, members, p_lo, n, n_valid, c_n, limits, sums, variance)
            if i_time != i_number:
                _exposure_time(values, members, times, p_lo, n, n_valid, sums[0], time)
        elif kind == CLIPPED:
            _clipping_centre(stack, size, n, n_valid, centre, centres[0, p_lo : p_lo + n])
            centres[1, p_lo : p_lo + n] = n_valid[:n]
        elif kind == CLIPPED_MPDAF:
            _store_mpdaf(
                values, variances, members, times, p_lo, n, rules[MPDAF_RULES:], flux, variance,
                number, time,
            )  # fmt: skip
        else:
            alike = _weighted_sums(
                values, variances, members, weights, times, p_lo, n, limits, False, centre, sums
            )
            _store_means(
                sums, alike, times[members[0]], n, (i_flux, i_variance, i_number, i_time), to,
                to_step,
            )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _combine_strip(
    values, variances, weights, times, members, network, c_n, steps, rules, held, shape, columns,
    run, work, to, to_step, centres,
):  # fmt: skip
    """:func:`_combine_run` over rows of the tile, from pixel ``held`` of ``values`` on.

    Beside the ``columns`` (first, and last plus one) no exposure has a value.
    """  # fmt: skip
    rows, width = shape
    first, last = columns
    if last - first > width - run // NARROWER:
        for p in range(0, rows * width, run):
            _combine_run(
                values, variances, weights, times, members, network, c_n, steps, rules,
                held + p, min(run, rows * width - p), work, to + 4 * p, to_step, centres,
            )  # fmt: skip
        return
    for y in range(rows):
        _leave_empty(steps, to + 4 * y * width, to_step, first)
        _leave_empty(steps, to + 4 * (y * width + last), to_step, width - last)
        for p in range(y * width + first, y * width + last, run):
            _combine_run(
                values, variances, weights, times, members, network, c_n, steps, rules,
                held + p, min(run, y * width + last - p), work, to + 4 * p, to_step, centres,
            )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _leave_empty(steps, to, to_step, n):
    """Statistics of ``n`` pixels without a value: NaN, and 0 exposures of 0 s."""
    for s in range(steps.shape[0]):
        for i in range(4):
            nothing = np.float32(np.nan) if i < 2 else np.float32(0.0)
            _set(to + steps[s, i + 1] * to_step, n, nothing)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _clipping_centre(work, n_members, n, n_valid, median, out):
    """The median; of two values the lower one, since hits only add."""
    low = work[_ranks(n_members)[0], :n]
    two = np.float32(2.0)
    for p in range(n):
        out[p] = low[p] if n_valid[p] == two else median[p]


@njit(nogil=True, cache=True, error_model="numpy")
def _clip_run(
    values, variances, weights, times, members, network, steps, rules, p_lo, n, work, to,
    to_step, centres, edge, edge_at,
):  # fmt: skip
    """The clipped mean of one selection along a run of pixels.

    ``to``, ``to_step`` and ``centres`` as in :func:`_combine_run`; ``edge``
    float32 (pixel,): the part of the squared width that comes from the image,
    :func:`_structure`, from pixel ``edge_at`` on.
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
        _sort_around(values, members, network, p_lo, n, centre, stack)
        _middle(stack, size, n, n_valid, mad)
        for p in range(n):
            sigma = np.float32(1.4826) * mad[p]
            limits[0, p] = sigma * sigma if n_valid[p] >= fewest else np.float32(0.0)
    _spread_of_pairs(values, variances, members, p_lo, n, n_valid, limits)
    for s in range(steps.shape[0]):
        kind, i_flux, i_variance, i_number, i_time = steps[s]
        if kind == CLIPPED:
            alike = _weighted_sums(
                values, variances, members, weights, times, p_lo, n, limits, True, centre, sums
            )
            _store_means(
                sums, alike, times[members[0]], n, (i_flux, i_variance, i_number, i_time), to,
                to_step,
            )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
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


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _smooth_rows(image, top, n_rows, scratch, out):
    """Means of 3 x 3 of rows [top, top + n_rows); missing pixels are left out."""
    width = image.shape[1]
    zero = np.float32(0.0)
    one = np.float32(1.0)
    column = scratch[0]
    number = scratch[1]
    for r in range(n_rows):
        a, b, c = image[top + r - 1], image[top + r], image[top + r + 1]
        for x in range(width):
            column[x] = (
                (a[x] if a[x] == a[x] else zero)
                + (b[x] if b[x] == b[x] else zero)
                + (c[x] if c[x] == c[x] else zero)
            )
            number[x] = (
                (one if a[x] == a[x] else zero)
                + (one if b[x] == b[x] else zero)
                + (one if c[x] == c[x] else zero)
            )
        inner = out[r, 1 : width - 1]
        left, right = column[: width - 2], column[2:]
        n_left, n_right = number[: width - 2], number[2:]
        middle, n_middle = column[1 : width - 1], number[1 : width - 1]
        for x in range(width - 2):
            inner[x] = (left[x] + middle[x] + right[x]) / (n_left[x] + n_middle[x] + n_right[x])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _higher(a, b):
    """The larger value; ``b`` if ``a`` is missing."""
    return a if a > b else b


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _lower(a, b):
    """The smaller value; ``b`` if ``a`` is missing."""
    return a if a < b else b


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _range_along(s, high, low):
    """Largest and smallest of five neighbours along a row; the outputs are four shorter."""
    n = high.shape[0]
    a, b, c, d, e = s[:n], s[1 : n + 1], s[2 : n + 2], s[3 : n + 3], s[4 : n + 4]
    inf = np.float32(np.inf)
    for x in range(n):
        high[x] = _higher(a[x], _higher(b[x], _higher(c[x], _higher(d[x], _higher(e[x], -inf)))))
        low[x] = _lower(a[x], _lower(b[x], _lower(c[x], _lower(d[x], _lower(e[x], inf)))))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _pair(a, b):
    """The mean of two values, or the one that there is."""
    both = np.float32(0.5) * (a + b)
    return both if both == both else (a if a == a else b)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _structure(image, top, n_rows, rules, rooms, edge):
    """How far exposures of different seeing may differ, squared, from an image of the centres.

    ``(fraction c)^2 + (peak p)^2 + (wing r)^2`` where c is the pixel's own
    centre, p how far its mean of 3 x 3 stands above that of its surroundings
    (the lower of the two means of opposite corners, 3 pixels off) and r the range of
    the 3 x 3 means within 2 pixels.

    Parameters
    ----------
    image : float32 (row, HALO + x + HALO)
        Centres of the clipping, NaN where missing and around the tile.
    top, n_rows : int
        Rows of ``image`` to do; there are HALO rows on either side of them.
    edge : float32 (n_rows * x,)
        Filled.
    """
    n = image.shape[1] - 2 * HALO
    d = PAIR_REACH
    smooth, scratch, high, low = rooms
    fraction = np.float32(rules[1] * rules[1])
    peak = np.float32(rules[3] * rules[3])
    wing = np.float32(rules[4] * rules[4])
    zero = np.float32(0.0)
    _smooth_rows(image, top - d, n_rows + 2 * d, scratch, smooth)
    side = HALO - RANGE_REACH
    for r in range(n_rows + 2 * RANGE_REACH):
        _range_along(smooth[r + d - RANGE_REACH, side : n + 2 * HALO - side], high[r], low[r])
    for r in range(n_rows):
        own = image[top + r, HALO : HALO + n]
        out = edge[r * n : (r + 1) * n]
        h0, h1, h2, h3, h4 = high[r], high[r + 1], high[r + 2], high[r + 3], high[r + 4]
        l0, l1, l2, l3, l4 = low[r], low[r + 1], low[r + 2], low[r + 3], low[r + 4]
        s = smooth[r + d, HALO : HALO + n]
        a = smooth[r, HALO - d : HALO - d + n]
        b = smooth[r, HALO + d : HALO + d + n]
        c = smooth[r + 2 * d, HALO - d : HALO - d + n]
        e = smooth[r + 2 * d, HALO + d : HALO + d + n]
        # Few arrays in a loop: the compiler has to see that they do not overlap.
        for x in range(n):
            out[x] = _higher(h0[x], _higher(h1[x], _higher(h2[x], _higher(h3[x], h4[x]))))
        for x in range(n):
            out[x] -= _lower(l0[x], _lower(l1[x], _lower(l2[x], _lower(l3[x], l4[x]))))
        falling, rising = scratch[0, :n], scratch[1, :n]
        for x in range(n):
            falling[x] = _pair(a[x], e[x])
        for x in range(n):
            rising[x] = _pair(b[x], c[x])
        for x in range(n):
            lower = falling[x] if falling[x] < rising[x] or rising[x] != rising[x] else rising[x]
            above = s[x] - lower
            above = above if above > zero else zero
            out[x] = fraction * own[x] * own[x] + peak * above * above + wing * out[x] * out[x]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add_white(values, row, first_y, first_x, a, b, totals, numbers):
    """Add rows of the tile, from ``row`` on, to images that begin at ``first_y, first_x``.

    All values lie in the tile's columns [a, b).
    """
    height, width = totals.shape
    a = max(a, first_x)
    n = max(min(b, first_x + width) - a, 0)
    y_lo, y_hi = max(row, first_y), min(row + values.shape[0], first_y + height)
    at = _place(values, y_lo - row, a)
    total = _place(totals, y_lo - first_y, a - first_x)
    number = _address(numbers) + (y_lo - first_y) * width + a - first_x
    for _ in range(y_lo, y_hi):
        _add_valid(at, n, total, number)
        at += 4 * values.shape[1]
        total += 4 * width
        number += width


@njit(nogil=True, cache=True, error_model="numpy", fastmath=KEEPS_NAN)
def _add_valid(values, n, totals, numbers):
    """Add what is not NaN of ``n`` values to totals, and 1 to numbers (uint8); all at addresses."""
    f, total = _floats(values, n), _floats(totals, n)
    number = carray(_pointer(numbers), (n,), np.uint8)
    for p in range(n):
        good = f[p] == f[p]
        total[p] += f[p] if good else np.float32(0.0)
        number[p] += np.uint8(1) if good else np.uint8(0)


@njit(nogil=True, cache=True, error_model="numpy")
def _stages(steps, n_planes):
    """Rows by which clipped means come later (0 if there are none), and each plane's stage."""
    lag = 0
    stages = np.zeros(n_planes, np.int64)
    for s in range(steps.shape[0]):
        late = steps[s, 0] == CLIPPED
        lag = HALO if late else lag
        for i in range(1, 5):
            stages[steps[s, i]] = 2 if late else 1
    return lag, stages


@njit(nogil=True, cache=True, error_model="numpy")
def _rows_behind(lag, n_channels, n_exposures, n_selections, tx):
    """What a clipped mean needs of rows that have gone by, for each channel of the slab.

    Returns
    -------
    rows : float32 (2, channel, exposure, pixel)
        Flux and variance of the last ``lag`` rows.
    images : float32 (channel, selection, row, column)
        Centres of the clipping, from ``2 lag`` rows above the strip to ``lag``
        below it, NaN where missing and in margins of ``lag``.
    centres : float32 (channel, selection, 2, pixel)
        The same centres and the numbers of values, where the values lie.
    rooms, edge
        Room for :func:`_structure`.
    """
    n_kept = n_channels if lag else 0
    rows = lag + STRIP_ROWS if lag else 0
    width = tx + 2 * lag
    nan = np.float32(np.nan)
    return (
        np.full((2, n_kept, n_exposures, lag * tx), nan, np.float32),
        np.full((n_kept, n_selections, rows + 2 * lag, width), nan, np.float32),
        np.full((n_channels, n_selections, 2, rows * tx), nan, np.float32),
        (
            np.empty((rows + 2 * PAIR_REACH, width), np.float32),
            np.empty((2, width), np.float32),
            np.empty((rows + 2 * RANGE_REACH, tx), np.float32),
            np.empty((rows + 2 * RANGE_REACH, tx), np.float32),
        ),
        np.empty(rows * tx, np.float32),
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _clip_behind(
    values, variances, weights, times, selections, sizes, networks, network_ends,
    steps, step_ends, rules, s_lo, s_hi, padded, run, work, to, to_step, c, behind,
):  # fmt: skip
    """Clipped means of the rows of channel ``c`` whose surroundings are complete now.

    ``to`` is the address of HALO rows above the strip. Returns the first and last plus one of
    these rows, and how many rows they begin after ``to``.
    """  # fmt: skip
    _, images, all_centres, rooms, edge = behind
    ty, tx = padded[0], padded[1]
    lag = HALO
    rows = s_hi - s_lo
    ready_lo = max(s_lo - lag, 0)
    ready_hi = ty if s_hi == ty else s_hi - lag
    at = ready_lo - (s_lo - lag)
    n_rows = ready_hi - ready_lo
    for k in range(sizes.shape[0]):
        own_steps = steps[step_ends[k] : step_ends[k + 1]]
        if not _clips(own_steps):
            continue
        image = images[c, k]
        centres = all_centres[c, k]
        for y in range(rows):
            image[2 * lag + y, lag : lag + tx] = centres[0, (lag + y) * tx : (lag + y + 1) * tx]
        image[2 * lag + rows :] = np.float32(np.nan)
        _structure(image, lag + at, n_rows, rules, rooms, edge)
        members = selections[k, : sizes[k]]
        network = networks[network_ends[k] : network_ends[k + 1]]
        end = (at + n_rows) * tx
        for p in range(at * tx, end, run):
            _clip_run(
                values, variances, weights, times, members, network, own_steps, rules,
                p, min(run, end - p), work, to + 4 * p, to_step, centres, edge, at * tx,
            )  # fmt: skip
        for i in range(2):
            centres[i, : lag * tx] = centres[i, rows * tx : (rows + lag) * tx]
        for y in range(2 * lag):
            image[y] = image[rows + y]
    return ready_lo, ready_hi, at


@njit(nogil=True, cache=True, error_model="numpy")
def _clips(steps):
    return (steps[:, 0] == CLIPPED).any()


@njit(nogil=True, cache=True, error_model="numpy")
def _copy_rows(source, first, target, to, n):
    """Copy ``n`` pixels of each exposure from one float32 (exposure, pixel) to another."""
    for e in range(source.shape[0]):
        _copy_bytes(_place(target, e, to), _place(source, e, first), 4 * n)


@njit(nogil=True, cache=True, error_model="numpy")
def _store_rows(outs, at, lo, hi, padded, size, stages, stage, targets, inner, channel):
    """Rows [lo, hi) of the tile to their places in the parts of a stage's planes.

    They lie in ``outs`` from row ``at`` on; ``size`` is that of the planes, y and x.
    """
    _, tx, first_y, first_x = padded
    height, width = size
    wide = inner[2]
    part = 4 * inner[0] * inner[1] * wide
    for y in range(max(lo, first_y), min(hi, first_y + height)):
        row = 4 * _row_in_parts(inner, size, channel, y - first_y)
        for i in range(targets.shape[0]):
            if stages[i] == stage:
                source, to = _place(outs, i, (at + y - lo) * tx + first_x), targets[i] + row
                for x in range(0, width, wide):
                    _copy_bytes(to, source + 4 * x, 4 * min(wide, width - x))
                    to += part


@njit(nogil=True, cache=True, error_model="numpy")
def _row_in_parts(inner, size, channel, y):
    """Number of a row's first voxel in a plane that is cut into parts of ``inner`` voxels."""
    deep, high, wide = inner
    n_y, n_x = -(-size[0] // high), -(-size[1] // wide)
    part = ((channel // deep) * n_y + y // high) * n_x
    return ((part * deep + channel % deep) * high + y % high) * wide


@njit(nogil=True, cache=True, error_model="numpy")
def _rooms(table, tx, run):
    """Room for the rows and the run of pixels that are worked on.

    Returns
    -------
    scratch : float32 (2 x (y, x), and (5, x)), uint32 (3, word)
        Flux and variance of an exposure's rows, sums along one row and weights, and
        the rows as they are read.
    work : float32 and float64
        A run's values, numbers, centres, limits and sums.
    """
    rows = STRIP_ROWS + 2 * MARGIN
    width = tx + 2 * MARGIN
    scratch = (
        np.empty((rows, width), np.float32),
        np.empty((rows, width), np.float32),
        np.empty((5, width), np.float32),
        np.empty((3, rows * table[:, NX].max()), np.uint32),
    )
    work = (
        np.empty((table.shape[0] + 1, run), np.float32),
        np.empty(run, np.float32),
        np.empty(run, np.float32),
        np.empty((3, run), np.float32),
        np.empty((5, run), np.float64),
    )
    return scratch, work


@njit(nogil=True, cache=True, error_model="numpy")
def _rooms_to_gather(table):
    """Room for :func:`_load_frames`: rows as they are read, a row, and the largest frame."""
    longest = 0
    n_pixels = 0
    for e in range(table.shape[0]):
        if table[e, GATHERED] >= 0:
            longest = max(longest, table[e, NX])
            n_pixels = max(n_pixels, (table[e, NY] + 2 * BORDER) * (table[e, NX] + 2 * BORDER))
    return (
        np.empty((LANES, 3, STRIP_ROWS * longest), np.uint32),
        np.empty((3, LANES, longest + LANES), np.float32),
        np.empty((n_pixels, 3, LANES), np.float32),
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _gather_all(
    sources, table, present, background, floor, scale, masks, maps, pointers, indices,
    table_weights, lanczos, gathered,
):  # fmt: skip
    """Resample the exposures that are no shift of the tile: their whole frames, all channels."""
    room, lines, frame = _rooms_to_gather(table)
    n_channels = present.shape[1]
    for e in range(table.shape[0]):
        row = table[e]
        if row[GATHERED] < 0:
            continue
        part = (row[ROW_HI] - row[ROW_LO]) * (row[COL_HI] - row[COL_LO])
        m_at, t_at = row[MAP_AT], row[TABLE_AT]
        for c in range(0, n_channels, LANES):
            _load_frames(
                sources[e], row, c, present[e, c : c + LANES], masks,
                background[e, c : c + LANES], floor[e, c : c + LANES], room, lines, frame,
            )  # fmt: skip
            _gather_frames(
                frame, row,
                maps[:, m_at : m_at + part] if row[KIND] != EXACT else maps[:, :0],
                pointers[t_at : t_at + part + 1] if row[KIND] == EXACT else pointers[:0],
                indices, table_weights, lanczos, scale[e],
                gathered[:, row[GATHERED], c : min(c + LANES, n_channels)],
            )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _blank_around(out, first, last, a, b):
    """Make missing what lies beside the rows [first, last) and the columns [a, b)."""
    width = out.shape[1]
    nan = np.float32(np.nan)
    at = _address(out)
    for y in range(out.shape[0]):
        here = first <= y < last
        _set(at, a if here else width, nan)
        _set(at + 4 * b, width - b if here else 0, nan)
        at += 4 * width


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_strip(
    source, row, c, masks, gathered, drift, lanczos, background, floor, scale,
    s_lo, s_hi, scratch, out_f, out_v,
):  # fmt: skip
    """Bring the rows [s_lo, s_hi) of an exposure's channel onto the tile, NaN beside it.

    A strip's channels come in their order, from 0 on, into the same arrays.
    Returns the first and last plus one column that can have a value; equal if none can.
    """  # fmt: skip
    a, b = row[COL_LO], row[COL_HI]
    y_lo = max(s_lo, row[ROW_LO])
    y_hi = min(s_hi, row[ROW_HI])
    if c == 0:  # it stays so in the channels that follow
        _blank_around(out_f, y_lo - s_lo, y_hi - s_lo, a, b)
        _blank_around(out_v, y_lo - s_lo, y_hi - s_lo, a, b)
    if y_lo >= y_hi:
        return a, a
    if row[GATHERED] >= 0:
        found_f, found_v = gathered[0, row[GATHERED], c], gathered[1, row[GATHERED], c]
        for y in range(y_lo, y_hi):
            _copy(_place(found_f, y, a), _place(out_f, y - s_lo, a), b - a)
            _copy(_place(found_v, y, a), _place(out_v, y - s_lo, a), b - a)
    elif row[KIND] == COPY:
        a, b = _copy_strip(
            source, row, c, masks, background, floor, scale, y_lo, y_hi, scratch,
            out_f, out_v, y_lo - s_lo,
        )  # fmt: skip
    else:
        a, b = _drift_strip(
            source, row, c, masks, drift, lanczos, background, floor, scale, y_lo, y_hi, scratch,
            out_f, out_v, y_lo - s_lo,
        )  # fmt: skip
    return a, b


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_all(
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
        out_f = _line(values, e, held, shape[0] * tx).reshape(shape)
        out_v = _line(variances, e, held, shape[0] * tx).reshape(shape)
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


@njit(nogil=True, cache=True, error_model="numpy")
def stack_slab(
    sources, table, present, background, floor, scale, weights, times, masks,
    drift, maps, pointers, indices, table_weights, lanczos,
    selections, sizes, networks, network_ends, c_n, steps, step_ends, rules,
    padded, targets, inner, first, white, white_n, gathered, run,
):  # fmt: skip
    """Stack a few channels of one tile.

    Parameters
    ----------
    sources : int64 (exposure, 3, 2)
        Where the first of these channels' flux, variance and quality lie: an
        open file and the offset in it, or -1 and an address. 4-byte words, C
        order (channel, y, x). Of a file the rows of a strip are read when they
        are needed: they stay in the cache of the processor.
    table : int64 (exposure, N_COLUMNS)
        Kind of geometry, frame shape, flags, and the part of the tile touched.
    present : bool (exposure, channel)
        Whether the exposure has that channel.
    background, floor : float32 (exposure, channel)
        Subtracted from the flux; flux not above ``floor`` is missing.
    scale : float32 (exposure,)
        Factor on the flux.
    weights, times : float64 (exposure,)
        Weight in the means; exposure time in seconds.
    masks : uint8 (any,)
        Spatial masks of the exposures one after the other, not 0 = missing.
    drift : float64 (exposure, y, 4)
        Frame x minus tile x at tile column 0 and its slope along the row; the same for y.
    maps, pointers, indices, table_weights
        Gathering geometry of the exposures one after the other.
    lanczos : float32 (LANCZOS_PHASES + 1, 6)
        Weights by phase.
    selections, sizes, networks, network_ends, steps, step_ends
        Exposures of each selection, its sorting network, its statistics.
    c_n : float32 (2, n + 1)
        Variance of the median of n values of equal errors relative to the mean's, and
        how it grows with the squared scatter of 1/sigma.
    rules : float64 (rule,)
        Parameters of the clippings.
    padded : int64 (4,)
        Rows and columns of the tile, and the row and column in it at which the
        planes begin: a clipping needs HALO pixels more on each side than it
        makes, where the grid goes on. The geometry above is that of the tile.
    targets : int64 (plane,)
        Addresses of the planes, float32, each cut into parts: filled from channel ``first`` on.
    inner : int64 (3,)
        Voxels of a part along wavelength, y, x. Each lies in one piece, those along x
        follow one another, then those along y; the last reach over the edge.
    white, white_n : float32, uint8 (exposure, y, x)
        Sum over channels and their number, added to; up to 255 channels.
    gathered : float32 (2, gathered exposure, channel, y, x)
        Room for the flux and variance on the tile of the exposures that are no shift of it.
    run : int
        Pixels that are combined at a time.
    """
    n_exposures = table.shape[0]
    n_channels = present.shape[1]
    ty, tx, _, _ = padded
    size = white.shape[1], white.shape[2]
    # A clipped mean comes `lag` rows behind the others, when the rows below it are there.
    lag, stages = _stages(steps, targets.shape[0])
    held = lag * tx
    values = np.empty((n_exposures, held + STRIP_ROWS * tx), np.float32)
    variances = np.empty((n_exposures, held + STRIP_ROWS * tx), np.float32)
    outs = np.empty((targets.shape[0], held + STRIP_ROWS * tx), np.float32)
    behind = _rows_behind(lag, n_channels, n_exposures, sizes.shape[0], tx)
    scratch, work = _rooms(table, tx, run)
    _gather_all(
        sources, table, present, background, floor, scale, masks, maps, pointers, indices,
        table_weights, lanczos, gathered,
    )  # fmt: skip
    to, to_step = _address(outs) + 4 * held, outs.strides[0]
    for s_lo in range(0, ty, STRIP_ROWS):
        s_hi = min(s_lo + STRIP_ROWS, ty)
        n_pixels = (s_hi - s_lo) * tx
        for c in range(n_channels):
            if lag:
                _copy_rows(behind[0][0, c], 0, values, 0, held)
                _copy_rows(behind[0][1, c], 0, variances, 0, held)
            columns = _fill_all(
                sources, table, present[:, c], c, masks, gathered, drift, lanczos,
                background[:, c], floor[:, c], scale, s_lo, s_hi, scratch, values, variances,
                held, padded, white, white_n,
            )  # fmt: skip
            for k in range(sizes.shape[0]):
                members = selections[k, : sizes[k]]
                network = networks[network_ends[k] : network_ends[k + 1]]
                _combine_strip(
                    values, variances, weights, times, members, network, c_n,
                    steps[step_ends[k] : step_ends[k + 1]], rules, held, (s_hi - s_lo, tx),
                    columns if lag == 0 else (0, tx), run, work, to, to_step, behind[2][c, k],
                )  # fmt: skip
            _store_rows(
                outs, lag, s_lo, s_hi, padded, size, stages, 1, targets, inner, first + c
            )  # fmt: skip
            if lag:
                a, b, at = _clip_behind(
                    values, variances, weights, times, selections, sizes, networks, network_ends,
                    steps, step_ends, rules, s_lo, s_hi, padded, run, work, to - 4 * held,
                    to_step, c, behind,
                )  # fmt: skip
                _store_rows(outs, at, a, b, padded, size, stages, 2, targets, inner, first + c)
                _copy_rows(values, n_pixels, behind[0][0, c], 0, held)
                _copy_rows(variances, n_pixels, behind[0][1, c], 0, held)
