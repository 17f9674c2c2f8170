"""Parts of a store's arrays against zarr-python's reading of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr_arrays import sharded_array

from musedask.blocks import Slot
from musedask.errors import FileError
from musedask.megacube.layout import Layout
from musedask.megacube.regions import basic_part, read_region


def filled_layout(folder, variable, shape, block, inner, values):
    """A store of one array that zarr-python wrote."""
    layout = Layout(str(folder), shape, block, inner, (Slot("median", variable, 0),))
    codec = layout.codec(variable)
    sharded_array(folder, f"median/{variable}", shape, block, codec)[:] = values
    return layout


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_region_is_what_zarr_python_wrote_there(data):
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(3))
    inner = tuple(data.draw(st.integers(1, 3)) for _ in range(3))
    block = tuple(n * data.draw(st.integers(1, 3)) for n in inner)
    variable = data.draw(st.sampled_from(["flux", "n_exposures"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = rng.integers(0, 9, shape)
    # Whole shards and chunks of nothing but fill have no bytes.
    values = np.where(rng.random(shape) < data.draw(st.sampled_from([0.0, 0.1, 1.0])), values, 0)
    if variable == "flux":
        values = np.where(values == 0, np.nan, values)
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    stops = [data.draw(st.integers(a + 1, n)) for a, n in zip(starts, shape, strict=True)]
    region = tuple(map(slice, starts, stops))
    with tempfile.TemporaryDirectory() as folder:
        layout = filled_layout(folder, variable, shape, block, inner, values)
        got = read_region(layout, layout.slots[0], region)
    assert got.dtype == layout.codec(variable).dtype
    np.testing.assert_array_equal(got, values[region])


INDICES = st.one_of(
    st.integers(-5, 4),
    st.slices(5),
    st.builds(slice, st.integers(-7, 7), st.integers(-7, 7), st.sampled_from([-3, -1, 1, 2, None])),
)


@given(part=st.tuples(INDICES, INDICES, INDICES))
def test_a_basic_index_gives_what_numpy_gives_out_of_one_box(part):
    values = np.arange(5**3).reshape(5, 5, 5)
    boxes = []

    def read(box):
        assert all(0 <= one.start <= one.stop <= 5 and one.step is None for one in box)
        boxes.append(box)
        return values[box]

    np.testing.assert_array_equal(basic_part(read, values.shape, part), values[part])
    assert len(boxes) == 1


def test_an_integer_beyond_the_array_is_an_error():
    with pytest.raises(IndexError):
        basic_part(lambda _: np.zeros((1, 1, 1)), (5, 5, 5), (5, 0, 0))


@pytest.mark.parametrize("size", [3, 70])
def test_a_shard_that_was_cut_short_is_an_error_that_names_it(tmp_path, size):
    layout = filled_layout(tmp_path, "flux", (4, 4, 4), (4, 4, 4), (2, 2, 2), 1.0)
    os.truncate(Path(tmp_path, "median", "flux", "c.0.0.0"), size)
    with pytest.raises(FileError, match=r"c\.0\.0\.0: is damaged"):
        read_region(layout, layout.slots[0], (slice(0, 4),) * 3)
