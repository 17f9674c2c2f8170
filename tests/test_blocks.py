"""A block cut into the parts in which it is stored is still the block."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from musedask.blocks import BlockResult, cut

SIZES = st.tuples(*[st.integers(1, 7)] * 3)


@settings(deadline=None)
@given(SIZES, st.tuples(*[st.integers(1, 4)] * 3), st.integers(1, 3))
def test_planes_that_are_cut_and_put_together_are_the_same(
    shape: tuple[int, int, int], inner: tuple[int, int, int], n_planes: int
) -> None:
    planes = np.arange(n_planes * np.prod(shape), dtype=np.float32).reshape(n_planes, *shape)
    made = BlockResult.of_planes(planes, np.zeros((0, *shape[1:]), np.float32), inner)
    assert made.shape == shape
    np.testing.assert_array_equal(made.planes, planes)


@settings(deadline=None)
@given(SIZES, st.tuples(*[st.integers(1, 4)] * 3))
def test_a_part_is_one_piece_of_memory_with_nan_beyond_the_edge(
    shape: tuple[int, int, int], inner: tuple[int, int, int]
) -> None:
    planes = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    parts = cut(planes, inner)
    for k, j, i in np.ndindex(parts.shape[1:4]):
        part = parts[0, k, j, i]
        assert part.shape == inner
        assert part.flags.c_contiguous
        where = [slice(n * s, (n + 1) * s) for n, s in zip((k, j, i), inner, strict=True)]
        own = planes[(0, *where)]
        np.testing.assert_array_equal(part[tuple(map(slice, own.shape))], own)
        assert np.isnan(part).sum() == part.size - own.size
