"""Sorting networks, and the code that sorts in registers by them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from musedask.compiling import kernel
from musedask.stacking.kernels.lanes import VECTOR, WORD, load_lanes, store_lanes
from musedask.stacking.kernels.layout import FEW, LANES


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


ranks_of = kernel(middle_ranks)


def _magnitude(builder: Any, value: Any) -> Any:
    """The value without its sign."""
    all_but_sign = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0x7FFFFFFF] * LANES)
    bits = builder.and_(builder.bitcast(value, all_but_sign.type), all_but_sign)
    return builder.bitcast(bits, VECTOR)


def _padded_lanes(builder: Any, rows: Any, at: Any, centre: Any) -> Any:
    """The values at a place, every other of the missing ones -inf or inf, and their number.

    With a ``centre`` their absolute deviations from it.
    """
    one, zero = (ir.Constant(VECTOR, [value] * LANES) for value in (1.0, 0.0))
    filler, number, found = ir.Constant(VECTOR, [-np.inf] * LANES), zero, []
    for row in rows:
        value = load_lanes(builder, builder.add(row, at))
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
    chosen = builder.inttoptr(members, WORD.as_pointer())
    rows = [
        builder.add(values, builder.mul(step, builder.load(builder.gep(chosen, [WORD(k)]))))
        for k in range(size)
    ]
    last = builder.sub(n, WORD(LANES))
    blocks = builder.sdiv(builder.add(n, WORD(LANES - 1)), WORD(LANES))
    with cgutils.for_range(builder, blocks) as loop:
        # The last block overlaps the one before it.
        first = builder.mul(loop.index, WORD(LANES))
        first = builder.select(builder.icmp_signed("<", first, last), first, last)
        at = builder.mul(first, WORD(4))
        centre = load_lanes(builder, builder.add(centres, at)) if deviates else None
        found, number = _padded_lanes(builder, rows, at, centre)
        found = _exchanged(builder, found)
        for rank, target in zip(middle_ranks(size), (low, high), strict=True):
            store_lanes(builder, found[rank], builder.add(target, at))
        if not deviates:
            store_lanes(builder, number, builder.add(numbers, at))


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
            choice.add_case(WORD(size), block)
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


sort_values = _sorting(deviates=False)
sort_deviations = _sorting(deviates=True)
