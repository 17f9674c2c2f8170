"""The metadata and the coordinates of a store: all of them made before its first block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from musedask.blocks import Slot, Stack
from musedask.cube import DIMS
from musedask.errors import InputError
from musedask.megacube.layout import FLAT_KEYS, KEY_BYTES, STORE_VERSION, Layout
from musedask.megacube.shards import write_atomically
from musedask.quiet import quiet


def prepare(stack: Stack, layout: Layout, build: str) -> None:
    """Make a store's folder with all metadata and coordinates, and no block.

    They are made in memory first: zarr-python needs hard links to make them
    on a disk, and leaves their order to it.
    """
    made: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(made)
    description = {
        "store": STORE_VERSION,
        "build": build,
        "methods": list(layout.methods),
        "shape": list(layout.shape),
        "block": list(layout.block),
        "inner": list(layout.inner),
        "blocks": len(stack.plan.keys),
    }
    attributes = {**_plain(dict(stack.attrs)), "musedask": description}
    zarr.create_group(store, zarr_format=3, attributes=attributes)
    for method in layout.methods:
        cube = stack[method]
        _write_labels(cube.coords.to_dataset().assign_attrs(cube.attrs), store, method)
    _write_labels(stack.exposures, store, "exposures")
    for slot in layout.slots:
        _create_output(store, layout, slot, dict(stack[slot.method][slot.variable].attrs))
    _create_images(store, layout, stack)
    zarr.create_array(
        store, name="blocks", shape=(*layout.n_blocks, KEY_BYTES), dtype="uint8",
        chunks=(1, 1, 1, KEY_BYTES), compressors=None, fill_value=0,
        chunk_key_encoding=FLAT_KEYS, dimension_names=(*DIMS, "byte"),
    )  # fmt: skip
    # Consolidated metadata are no part of the Zarr v3 specification; xarray reads them, and
    # a reader that does not know them loses nothing.
    with quiet(ZarrUserWarning):
        zarr.consolidate_metadata(store, zarr_format=3)
    folder = Path(layout.folder)
    for name, content in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.to_bytes()
        write_atomically(path, [_in_order(data) if name == "zarr.json" else data])
    Path(folder, "blocks", ".white").mkdir()
    write_atomically(Path(folder, "blocks", ".keys"), [_key_table(stack, layout)])


def add_attributes(layout: Layout, method: str, attributes: Mapping[str, Any]) -> None:
    """Add attributes to a statistic's group, there and in the consolidated metadata.

    What a store says of itself that only its finished blocks can tell; giving
    the same attributes again changes nothing.
    """
    plain = _plain(attributes)
    group = Path(layout.folder, method, "zarr.json")
    root = Path(layout.folder, "zarr.json")
    for path, keys in ((group, ()), (root, ("consolidated_metadata", "metadata", method))):
        document = json.loads(path.read_bytes())
        node = document
        for key in keys:
            node = node[key]
        node["attributes"] = {**node["attributes"], **plain}
        write_atomically(path, [json.dumps(document, indent=2).encode()])


def _create_output(store: Any, layout: Layout, slot: Slot, attrs: dict[str, Any]) -> None:
    codec = layout.codec(slot.variable)
    zarr.create_array(
        store, name=f"{slot.method}/{slot.variable}", shape=layout.shape, dtype=codec.dtype,
        shards=layout.block, chunks=layout.inner, fill_value=codec.fill,
        compressors=None if codec.level is None else ZstdCodec(level=codec.level),
        chunk_key_encoding=FLAT_KEYS, dimension_names=DIMS, attributes=_plain(attrs),
    )  # fmt: skip


def _create_images(store: Any, layout: Layout, stack: Stack) -> None:
    """Make the group of white-light images, with its coordinates and empty arrays."""
    first = stack[layout.methods[0]]
    labels = first.coords.to_dataset().drop_vars(
        [name for name, coord in first.coords.items() if "wavelength" in coord.dims]
    )
    labels.attrs = {}  # they speak of one statistic
    _write_labels(labels, store, "images")
    units: Any = {"units": str(first["flux"].attrs.get("units", ""))}

    def create(name: str, shape: Any, chunks: Any, dims: Any) -> None:
        zarr.create_array(
            store, name=f"images/{name}", shape=shape, chunks=chunks, dtype="<f4",
            fill_value=np.nan, dimension_names=dims, attributes=units,
            compressors=ZstdCodec(level=1), chunk_key_encoding=FLAT_KEYS,
        )  # fmt: skip

    tile = layout.block[1:]
    for method in layout.methods_with_flux:
        create(method, layout.shape[1:], tile, ("y", "x"))
    shape = (stack.exposures.sizes["exposure"], *layout.shape[1:])
    create("exposures", shape, (1, *tile), ("exposure", "y", "x"))


def _key_table(stack: Stack, layout: Layout) -> bytes:
    """The keys of all blocks, in the order of their numbers; zeros where there is none."""
    keys = np.zeros((*layout.n_blocks, KEY_BYTES), np.uint8)
    for block, key in stack.plan.keys.items():
        keys[block] = np.frombuffer(bytes.fromhex(key), np.uint8)
    return keys.tobytes()


def _in_order(root: bytes) -> bytes:
    """The root's metadata with those that it gathers in the order of their names."""
    document = json.loads(root)
    gathered = document["consolidated_metadata"]["metadata"]
    document["consolidated_metadata"]["metadata"] = dict(sorted(gathered.items()))
    return json.dumps(document, indent=2).encode()


def _write_labels(labels: xr.Dataset, store: Any, group: str) -> None:
    """Write coordinates (and small variables) as a group of the store."""
    _storable(labels).to_zarr(store, group=group, mode="a", consolidated=False, zarr_format=3)


def _storable(labels: xr.Dataset) -> xr.Dataset:
    """The same Dataset with texts in the one type that Zarr v3 specifies, and plain attrs."""

    def convert(variable: xr.Variable) -> xr.Variable:
        values = variable.values
        if values.dtype.kind in "UOT":
            values = np.asarray(values, dtype=np.dtypes.StringDType())
        return xr.Variable(variable.dims, values, _plain(dict(variable.attrs)))

    coords = {name: convert(coord.variable) for name, coord in labels.coords.items()}
    variables = {name: convert(array.variable) for name, array in labels.data_vars.items()}
    return xr.Dataset(variables, coords, _plain(dict(labels.attrs)))


def build_key(stack: Stack) -> str:
    """16 hexadecimal digits that stand for everything a store of this stack holds."""
    plan = stack.plan
    slots = [(slot.method, slot.variable, slot.plane) for slot in plan.slots]
    digest = hashlib.sha256()
    parts = (STORE_VERSION, plan.chunks, plan.inner, slots, sorted(plan.keys.items()))
    digest.update(repr(parts).encode())
    for name in plan.methods:
        _digest(digest, stack[name].coords.to_dataset().assign_attrs(stack[name].attrs))
        units = {str(key): _plain(dict(var.attrs)) for key, var in stack[name].data_vars.items()}
        digest.update(json.dumps(units, sort_keys=True).encode())
    _digest(digest, stack.exposures)
    digest.update(json.dumps(_plain(dict(stack.attrs)), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _digest(digest: Any, labels: xr.Dataset) -> None:
    names: list[Hashable] = sorted(labels.variables, key=str)
    for name in names:
        variable = labels.variables[name]
        values = variable.values
        content = repr(values.tolist()).encode() if values.dtype.kind in "UOT" else values.tobytes()
        attrs = json.dumps(_plain(dict(variable.attrs)), sort_keys=True)
        digest.update(f"{name} {variable.dims} {values.dtype.kind} {values.shape} {attrs}".encode())
        digest.update(content)
    digest.update(json.dumps(_plain(dict(labels.attrs)), sort_keys=True).encode())


def _plain(value: Any) -> Any:
    """What JSON can hold of attributes: numpy scalars and arrays as numbers and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InputError(f"attribute {value!r} of type {type(value).__name__} cannot be stored: "
                     "use numbers, texts, lists and dictionaries of them")  # fmt: skip
