"""Where everything lies in a store, and in which form."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from musedask.blocks import BlockPlan, Slot, Stack, check_chunks
from musedask.cube import DIMS, check_cube
from musedask.errors import FileError, InputError
from musedask.files import as_file_error, read_bytes, read_json
from musedask.megacube.shards import Shape, ShardCodec, write_error

STORE_VERSION = 1
"""Raised whenever the layout changes: older stores are then never linked from."""
RESERVED = ("exposures", "images", "blocks")
"""Names in the root that no statistic can have."""
KEY_BYTES = 16
_MARKER = re.compile(r"c\.(\d+)\.(\d+)\.(\d+)\.0")
_ZSTD_LEVEL = 1
IMAGE_LEVEL = 1
"""Zstandard level of the white-light images."""
_ENCODINGS: Mapping[str, tuple[str, float, int | None]] = {
    # Noisy floats shrink by a fifth at half the speed: they stay as they are.
    "flux": ("<f4", np.nan, None),
    "variance": ("<f4", np.nan, None),
    "n_exposures": ("<u2", 0, _ZSTD_LEVEL),
    "exposure_time": ("<f4", 0.0, _ZSTD_LEVEL),
}


@dataclass(frozen=True)
class Layout:
    """The files of a store; small, so that it travels with each task."""

    folder: str
    """The store's folder, as an absolute path."""
    shape: Shape
    """Voxels along wavelength, y, x."""
    block: Shape
    """Voxels of a full block, which is a shard."""
    inner: Shape
    """Voxels of an inner chunk."""
    slots: tuple[Slot, ...]
    """What is stored, and where it lies among a block's planes."""

    @classmethod
    def of_plan(cls, plan: BlockPlan, folder: Path) -> Layout:
        """The layout of a plan of blocks.

        Raises
        ------
        InputError
            If the plan cannot be stored: uneven blocks, inner chunks that do
            not fill a block, a variable or a method that a store cannot have.
        """
        for axis, sizes, inner in zip(DIMS, plan.chunks, plan.inner, strict=True):
            check_chunks(sizes, axis)
            if sizes[0] % inner and len(sizes) > 1:
                raise InputError(
                    f"inner chunks of {inner} do not fill blocks of {sizes[0]} along {axis}: "
                    "choose a divisor"
                )
        for slot in plan.slots:
            if slot.variable not in _ENCODINGS:
                raise InputError(f"a store cannot hold the variable {slot.variable!r}")
            if slot.method in RESERVED or not slot.method.isidentifier():
                raise InputError(f"{slot.method!r} cannot be the name of a method: use another")
        # A single block may reach over the edge: nothing is stored beyond it.
        z, y, x = (
            -(-sizes[0] // inner) * inner
            for sizes, inner in zip(plan.chunks, plan.inner, strict=True)
        )
        return cls(os.path.abspath(folder), plan.shape, (z, y, x), plan.inner, plan.slots)

    def moved(self, folder: Path) -> Layout:
        """The same layout in another folder."""
        return replace(self, folder=os.path.abspath(folder))

    @property
    def n_blocks(self) -> Shape:
        """Number of blocks along wavelength, y, x."""
        z, y, x = (-(-n // step) for n, step in zip(self.shape, self.block, strict=True))
        return z, y, x

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the statistics, in order."""
        return tuple(dict.fromkeys(slot.method for slot in self.slots))

    @property
    def methods_with_flux(self) -> tuple[str, ...]:
        """The statistics that have a white-light image."""
        return tuple(slot.method for slot in self.slots if slot.variable == "flux")

    def region(self, block: Shape) -> tuple[slice, slice, slice]:
        """The voxels of a block."""
        z, y, x = (
            slice(n * step, min((n + 1) * step, size))
            for n, step, size in zip(block, self.block, self.shape, strict=True)
        )
        return z, y, x

    def codec(self, variable: str) -> ShardCodec:
        """How a variable's shards are encoded."""
        return codec_of(variable, self.inner)

    def shard(self, slot: Slot, block: Shape) -> Path:
        """File of an output's block."""
        return Path(self.folder, slot.method, slot.variable, shard_name(block))

    def marker(self, block: Shape) -> Path:
        """File that says with which key a block was made; the last that a task writes."""
        return Path(self.folder, "blocks", f"c.{_dotted(block)}.0")

    def sidecar(self, block: Shape) -> Path:
        """File of a block's white-light images."""
        return Path(self.folder, "blocks", ".white", _dotted(block))

    def files(self, block: Shape) -> Iterator[Path]:
        """All files of a block but its marker; those that hold only fill do not exist."""
        for slot in self.slots:
            yield self.shard(slot, block)
        yield self.sidecar(block)

    def planned_key(self, block: Shape) -> bytes:
        """The key that a block is to have, 16 bytes, from the file that :func:`prepare` left.

        Tasks ask here, since thousands of keys in each task would swell the graph.
        """
        path = Path(self.folder, "blocks", ".keys")
        try:
            with path.open("rb") as file:
                file.seek(KEY_BYTES * int(np.ravel_multi_index(block, self.n_blocks)))
                return file.read(KEY_BYTES)
        except OSError as err:
            raise write_error(path, err) from err

    def done_keys(self) -> dict[Shape, str]:
        """The keys of the blocks that are done, 32 hexadecimal digits each."""
        found: dict[Shape, str] = {}
        folder = Path(self.folder, "blocks")
        with as_file_error(str(folder)), os.scandir(folder) as entries:
            for entry in entries:
                if match := _MARKER.fullmatch(entry.name):
                    k, j, i = map(int, match.groups())
                    found[k, j, i] = read_bytes(entry.path).hex()
        return found


def shard_name(block: Shape) -> str:
    """File of a block in an array's folder."""
    return f"c.{_dotted(block)}"


def codec_of(variable: str, inner: Shape) -> ShardCodec:
    """How the shards of a variable of the schema are encoded."""
    dtype, fill, level = _ENCODINGS[variable]
    return ShardCodec(inner, dtype, fill, level)


def check_stack(stack: Stack) -> None:
    """Raise an InputError unless a stack is ready to be written."""
    plan = stack.plan
    if not plan.slots:
        raise InputError("the stack has no output: ask stack() for at least one method")
    if not plan.keys:
        raise InputError("no exposure touches the grid: check the grid against the offsets")
    for method in plan.methods:
        check_cube(stack[method], f"stack[{method!r}]")
    if stack.results.numblocks != plan.n_blocks:
        raise InputError(
            f"the stack's results have {stack.results.numblocks} blocks, its plan "
            f"{plan.n_blocks}: make the stack again"
        )
    for block, key in plan.keys.items():
        if len(key) != 2 * KEY_BYTES:
            raise InputError(f"block {block} has the key {key!r}: it takes 32 hexadecimal digits")


def read_description(folder: Path) -> dict[str, Any] | None:
    """What the root of a store says of itself; None if it is no store of this package.

    Raises
    ------
    FileError
        If its metadata cannot be read.
    """
    path = folder / "zarr.json"
    if not folder.is_dir() or not os.path.lexists(path):
        return None
    document = read_json(path)
    attributes = document.get("attributes", {}) if isinstance(document, dict) else None
    if not isinstance(attributes, dict):
        raise FileError(f"{path}: not the metadata of a Zarr store; copy the store again")
    found = attributes.get("musedask")
    if not isinstance(found, dict):
        return None
    if not _is_description(found):
        raise FileError(
            f"{path}: what it says of the mega-cube is damaged; copy the store again, or remove "
            "it and build it again"
        )
    return found


def _is_description(found: dict[str, Any]) -> bool:
    """Whether it has all that a store says of itself, in the types that it has there."""
    methods, build, blocks = (found.get(key) for key in ("methods", "build", "blocks"))
    sizes = [found.get(key) for key in ("shape", "block", "inner")]
    return (
        isinstance(methods, list)
        and bool(methods)
        # Names of folders: none may lead out of the store.
        and all(isinstance(name, str) and name.isidentifier() for name in methods)
        and isinstance(build, str)
        and type(blocks) is int
        and all(
            isinstance(size, list)
            and len(size) == len(DIMS)
            and all(type(n) is int and n > 0 for n in size)
            for size in sizes
        )
        and all(step % part == 0 for step, part in zip(found["block"], found["inner"], strict=True))
    )


def _dotted(block: Shape) -> str:
    return ".".join(map(str, block))
