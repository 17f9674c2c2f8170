"""Vectors of LANES float32, written as the instructions of a processor."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from musedask.stacking.kernels.layout import LANES

VECTOR = ir.VectorType(ir.FloatType(), LANES)
WORD = ir.IntType(64)


def load_lanes(builder: Any, address: Any) -> Any:
    """LANES float32 from the address of a float32."""
    return builder.load(builder.inttoptr(address, VECTOR.as_pointer()), align=4)


def store_lanes(builder: Any, value: Any, address: Any) -> None:
    """Store LANES float32 from the address of a float32 on."""
    builder.store(value, builder.inttoptr(address, VECTOR.as_pointer()), align=4)


@intrinsic
def weigh(_context: Any, frame: Any, indices: Any, weights: Any, n: Any, sums: Any) -> Any:
    """Weighted sums over ``n`` pixels of a frame of LANES channels side by side.

    All but ``n`` are addresses: of float32 (pixel, 3, LANES), int32 (n,),
    float32 (n,) and float32 (3, LANES), which is filled with the sums of w
    flux, w^2 variance and w validity. Written as vector instructions, since a
    compiler does not keep the sums of such short loops in registers.
    """

    def spread(builder: Any, value: Any) -> Any:
        one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), mask)

    def codegen(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pixels, index, weight = (
            builder.inttoptr(address, kind.as_pointer())
            for address, kind in zip(
                args, (ir.FloatType(), ir.IntType(32), ir.FloatType()), strict=False
            )
        )
        zero = ir.Constant(VECTOR, None)
        kept = [cgutils.alloca_once_value(builder, zero) for _ in range(3)]  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, args[3]) as loop:
            w = builder.load(builder.gep(weight, [loop.index]))
            at = builder.sext(builder.load(builder.gep(index, [loop.index])), WORD)
            first = builder.gep(pixels, [builder.mul(at, WORD(3 * LANES))])
            factors = (w, builder.fmul(w, w), w)
            for part, factor in enumerate(factors):
                place = builder.gep(first, [WORD(part * LANES)])
                values = builder.load(builder.bitcast(place, VECTOR.as_pointer()), align=4)
                term = builder.fmul(values, spread(builder, factor), flags=("contract",))
                total = builder.fadd(builder.load(kept[part]), term, flags=("contract",))
                builder.store(total, kept[part])
        for part in range(3):
            place = builder.add(args[4], WORD(4 * LANES * part))
            store_lanes(builder, builder.load(kept[part]), place)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    five = (types.int64, types.int64, types.int64, types.int64, types.int64)
    return types.none(*five), codegen


@intrinsic
def transpose(_context: Any, source: Any, step: Any, target: Any, to_step: Any) -> Any:
    """LANES x LANES float32 from one address to another; the steps from row to row are bytes."""
    pairs = [i // 2 + (i % 2) * LANES for i in range(LANES)]
    halves = [
        ir.Constant(ir.VectorType(ir.IntType(32), LANES), [i + more for i in pairs])
        for more in (0, LANES // 2)
    ]

    def codegen(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def place(address: Any, step: Any, i: int) -> Any:
            return builder.add(address, builder.mul(step, WORD(i)))

        rows = [load_lanes(builder, place(args[0], args[1], i)) for i in range(LANES)]
        # Interleaving the first half of the rows with the second, as often as halves there are.
        for _ in range(LANES.bit_length() - 1):
            both = zip(rows[: LANES // 2], rows[LANES // 2 :], strict=True)
            rows = [builder.shuffle_vector(a, b, half) for a, b in both for half in halves]
        for i, row in enumerate(rows):
            store_lanes(builder, row, place(args[2], args[3], i))
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.none(types.int64, types.int64, types.int64, types.int64), codegen
