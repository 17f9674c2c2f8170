"""Metadata and labels against what zarr-python and xarray make of the same."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from musedask.errors import InputError
from musedask.megacube.nodes import Codecs, Nodes, plain

LABELS = xr.Dataset(
    coords={
        "wavelength": ("wavelength", 4750 + 1.25 * np.arange(7), {"units": "Angstrom"}),
        "x": ("x", np.arange(3)),
        "wcs": ((), np.int64(123456789), {"CRVAL1": 150.1, "CTYPE1": "RA---TAN"}),
        "exposure": ("exposure", np.array(["a", "bcd"], dtype=object)),
        "exposure_date": ("exposure", np.array(["2020-01-01", "\u00e9t\u00e9"])),
        "exposure_weight": ("exposure", np.array([1.5, np.nan], np.float32)),
        "pointing": ((), "P1"),
    },
    attrs={"history": ["made", "for a test"], "level": np.float32(2.5)},
)


def written(store, nodes):
    for name, content in nodes.files():
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_labels_are_the_bytes_that_xarray_writes(tmp_path):
    nodes = Nodes()
    nodes.add_group("", {"title": "t", "numbers": np.arange(3)})
    nodes.add_labels("median", LABELS)
    written(tmp_path / "ours", nodes)
    theirs = tmp_path / "theirs"
    zarr.create_group(theirs, zarr_format=3, attributes={"title": "t", "numbers": [0, 1, 2]})
    text = np.dtypes.StringDType()
    typed = LABELS.assign_coords(
        {name: coord.astype(text) for name, coord in LABELS.coords.items()
         if coord.dtype.kind in "UO"}
    ).assign_attrs(level=2.5)  # fmt: skip
    typed.to_zarr(theirs, group="median", mode="a", consolidated=False, zarr_format=3)
    with pytest.warns(ZarrUserWarning):
        zarr.consolidate_metadata(theirs, zarr_format=3)
    files = sorted(path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file())
    ours = tmp_path / "ours"
    assert files == sorted(p.relative_to(ours) for p in ours.rglob("*") if p.is_file())
    assert len(files) == 2 + 2 * len(LABELS.coords)
    for file in files:
        got, want = (ours / file).read_bytes(), (theirs / file).read_bytes()
        if file.name == "zarr.json":
            got, want = json.loads(got), json.loads(want)
        assert got == want, file


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["f4", "f8", "i4", "i8", "u1", "u2", "?", ">f8"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=2, max_side=4))
    )
    | hnp.arrays(object, st.integers(1, 4), elements=st.text(max_size=5))
)
def test_xarray_reads_any_label_back(tmp_path_factory, values):
    nodes = Nodes()
    nodes.add_group("", {})
    nodes.add_labels("g", xr.Dataset({"a": ((*"yx",)[: values.ndim], values)}))
    folder = tmp_path_factory.mktemp("labels")
    written(folder, nodes)
    got = xr.open_zarr(folder, group="g", chunks=None)["a"].values
    assert got.shape == values.shape
    np.testing.assert_array_equal(got.tolist(), values.tolist())


@pytest.mark.parametrize("dtype", ["float32", "uint16", "uint8", "bool"])
@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("inner", [None, (2, 3)])
def test_arrays_have_the_metadata_that_zarr_python_gives_them(tmp_path, dtype, level, inner):
    fill = {"float32": np.nan, "bool": False}.get(dtype, 0)
    nodes = Nodes()
    nodes.add_array("a", (9, 8), dtype, (4, 6), ("y", "x"), Codecs(level, inner), fill, {"u": 1})
    shards = {} if inner is None else {"shards": (4, 6)}
    made = zarr.create_array(
        tmp_path, name="a", shape=(9, 8), dtype=dtype, chunks=inner or (4, 6), fill_value=fill,
        compressors=None if level is None else ZstdCodec(level=level), dimension_names=("y", "x"),
        chunk_key_encoding={"name": "default", "separator": "."}, attributes={"u": 1}, **shards,
    )  # fmt: skip
    assert made.ndim == 2
    assert nodes.documents["a"] == json.loads((tmp_path / "a" / "zarr.json").read_bytes())


def test_the_fill_of_floats_is_nan_in_xarrays_spelling():
    nodes = Nodes()
    nodes.add_labels("g", LABELS)
    held = nodes.documents["g/exposure_weight"]["attributes"]["_FillValue"]
    assert np.isnan(struct.unpack("<d", base64.b64decode(held))[0])


@pytest.mark.parametrize("values", [np.array([1 + 2j]), np.array(["2020"], "M8[s]")])
def test_a_label_that_is_neither_number_nor_text_is_refused(values):
    with pytest.raises(InputError, match="g/a"):
        Nodes().add_labels("g", xr.Dataset(coords={"a": ("n", values)}))


def test_attributes_that_json_does_not_know_are_refused():
    assert plain({"a": (np.int64(1), [np.float32(0.5)])}) == {"a": [1, [0.5]]}
    with pytest.raises(InputError, match="cannot be stored"):
        plain({"a": object()})
