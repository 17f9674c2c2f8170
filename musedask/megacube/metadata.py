"""The metadata and the coordinates of a store: all of them made before its first block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

from musedask.blocks import Stack
from musedask.cube import DIMS
from musedask.megacube.durable import write_tree
from musedask.megacube.layout import IMAGE_LEVEL, KEY_BYTES, STORE_VERSION, Layout
from musedask.megacube.nodes import Codecs, Nodes, as_json, plain
from musedask.megacube.shards import sync_folders


def with_labels(stack: Stack) -> Stack:
    """Give a stack with its labels in memory: weights that are measured are so once, not in each.

    Labels alone are computed, no block is made.
    """
    labels = {name: cube.coords.to_dataset() for name, cube in stack.items()}
    if not any(map(dask.is_dask_collection, (*labels.values(), stack.exposures))):
        return stack
    loaded, exposures = dask.compute(labels, stack.exposures)
    cubes = {name: cube.assign_coords(loaded[name].coords) for name, cube in stack.items()}
    return replace(stack, cubes=cubes, exposures=exposures)


def prepare(stack: Stack, layout: Layout, build: str) -> None:
    """Put a store's folder on the disk with all metadata and coordinates, and no block."""
    nodes = Nodes()
    description = {
        "store": STORE_VERSION,
        "build": build,
        "methods": list(layout.methods),
        "shape": list(layout.shape),
        "block": list(layout.block),
        "inner": list(layout.inner),
        "blocks": len(stack.plan.keys),
    }
    nodes.add_group("", {**stack.attrs, "musedask": description})
    for method in layout.methods:
        nodes.add_labels(method, _labels(stack[method]))
    nodes.add_labels("exposures", stack.exposures)
    for slot in layout.slots:
        codec = layout.codec(slot.variable)
        nodes.add_array(
            f"{slot.method}/{slot.variable}", layout.shape, np.dtype(codec.dtype).name,
            layout.block, DIMS, Codecs(codec.level, layout.inner), codec.fill,
            stack[slot.method][slot.variable].attrs,
        )  # fmt: skip
    _add_images(nodes, layout, stack)
    nodes.add_array(
        "blocks", (*layout.n_blocks, KEY_BYTES), "uint8", (1, 1, 1, KEY_BYTES), (*DIMS, "byte"),
        Codecs(),
    )  # fmt: skip
    folder = Path(layout.folder)
    white = Path(folder, "blocks", ".white")
    white.mkdir(parents=True)
    sync_folders([white])
    write_tree(folder, [*nodes.files(), ("blocks/.keys", _key_table(stack, layout))])


def add_attributes(layout: Layout, attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Add attributes to the groups of statistics, there and in the consolidated metadata.

    What a store says of itself that only its finished blocks can tell; giving
    the same attributes again changes nothing.
    """
    folder = Path(layout.folder)
    root = json.loads(Path(folder, "zarr.json").read_bytes())
    gathered = root["consolidated_metadata"]["metadata"]
    files = []
    for method, added in attributes.items():
        document = json.loads(Path(folder, method, "zarr.json").read_bytes())
        document["attributes"] = {**document["attributes"], **plain(added)}
        gathered[method]["attributes"] = document["attributes"]
        files.append((f"{method}/zarr.json", as_json(document)))
    write_tree(folder, [*files, ("zarr.json", as_json(root))])


def _labels(cube: xr.Dataset) -> xr.Dataset:
    """The coordinates and attributes of a cube."""
    return cube.coords.to_dataset().assign_attrs(cube.attrs)


def _add_images(nodes: Nodes, layout: Layout, stack: Stack) -> None:
    """Add the group of white-light images, with its coordinates and empty arrays."""
    first = stack[layout.methods[0]]
    labels = first.coords.to_dataset().drop_dims("wavelength")
    labels.attrs = {}  # they speak of one statistic
    nodes.add_labels("images", labels)
    units = {"units": str(first["flux"].attrs.get("units", ""))}
    (ny, nx), tile = layout.shape[1:], layout.block[1:]
    n_exposures = stack.exposures.sizes["exposure"]

    def add(
        name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dims: tuple[str, ...]
    ) -> None:
        nodes.add_array(
            f"images/{name}", shape, "float32", chunks, dims, Codecs(IMAGE_LEVEL), np.nan, units
        )

    for method in layout.methods_with_flux:
        add(method, (ny, nx), tile, ("y", "x"))
    add("exposures", (n_exposures, ny, nx), (1, *tile), ("exposure", "y", "x"))


def _key_table(stack: Stack, layout: Layout) -> bytes:
    """The keys of all blocks, in the order of their numbers; zeros where there is none."""
    keys = np.zeros((*layout.n_blocks, KEY_BYTES), np.uint8)
    for block, key in stack.plan.keys.items():
        keys[block] = np.frombuffer(bytes.fromhex(key), np.uint8)
    return keys.tobytes()


def build_key(stack: Stack) -> str:
    """16 hexadecimal digits that stand for everything a store of this stack holds."""
    plan = stack.plan
    slots = [(slot.method, slot.variable, slot.plane) for slot in plan.slots]
    digest = hashlib.sha256()
    parts = (STORE_VERSION, plan.chunks, plan.inner, slots, sorted(plan.keys.items()))
    digest.update(repr(parts).encode())
    for name in plan.methods:
        _digest(digest, _labels(stack[name]))
        units = {str(key): plain(var.attrs) for key, var in stack[name].data_vars.items()}
        digest.update(json.dumps(units, sort_keys=True).encode())
    _digest(digest, stack.exposures)
    digest.update(json.dumps(plain(stack.attrs), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _digest(digest: Any, labels: xr.Dataset) -> None:
    names: list[Hashable] = sorted(labels.variables, key=str)
    for name in names:
        variable = labels.variables[name]
        values = variable.values
        content = repr(values.tolist()).encode() if values.dtype.kind in "UOT" else values.tobytes()
        attrs = json.dumps(plain(variable.attrs), sort_keys=True)
        digest.update(f"{name} {variable.dims} {values.dtype.kind} {values.shape} {attrs}".encode())
        digest.update(content)
    digest.update(json.dumps(plain(labels.attrs), sort_keys=True).encode())
