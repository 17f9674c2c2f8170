"""What a worker does with a block: write it, and leave a receipt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.blocks import BlockResult, Slot, joined, parts_shape
from musedask.errors import InputError
from musedask.megacube.layout import Layout
from musedask.megacube.packing import mean_over_channels
from musedask.megacube.shards import (
    Array,
    Shape,
    ShardCodec,
    sync_files,
    sync_folders,
    write_atomically,
    write_together,
)

_SIDECAR_LEVEL = -5
"""Images of noise: 1 takes four times as long for a tenth less."""


@dataclass(frozen=True)
class Receipt:
    """All that comes back of a block."""

    block: Shape
    """Which one."""
    size: int
    """Bytes written."""


def write_block(result: Any, layout: Layout, block_id: Shape = (0, 0, 0)) -> Array:
    """Write one block to the store; the marker that makes it done comes last.

    Parameters
    ----------
    result
        A :class:`BlockResult`, or an object array of shape (1, 1, 1) with one.
    layout
        Where the store's files lie.
    block_id
        The block's place along wavelength, y, x.

    Returns
    -------
    ndarray
        Object array of shape (1, 1, 1) with a :class:`Receipt`.

    Raises
    ------
    FileError
        If a file cannot be written.
    InputError
        If the result has not the shape that the plan says.
    """
    made: BlockResult = result.item() if isinstance(result, np.ndarray) else result
    block = (int(block_id[0]), int(block_id[1]), int(block_id[2]))
    _check(made, layout, block)
    # The images first: they are soon read again, and reach the disk beside the shards.
    size = write_sidecar(made, layout, block)
    size += write_together({
        tuple(layout.shard(slot, block) for slot in slots):
            layout.codec(variable).encode(made.parts[plane], layout.block, factor)
        for (plane, variable, factor), slots in _alike(layout.slots).items()
    })  # fmt: skip
    # The system writes in any order: without this a power cut could leave a marker and no data.
    # All of a block at once, after it was written, so that the disk works while we encode.
    files = list(layout.files(block))
    sync_files(files)
    sync_folders(path.parent for path in files)
    size += write_atomically(layout.marker(block), [layout.planned_key(block)])
    receipt = np.empty((1, 1, 1), dtype=object)
    receipt[0, 0, 0] = Receipt(block, size)
    return receipt


def _alike(slots: Iterable[Slot]) -> dict[tuple[int, str, float], list[Slot]]:
    """The outputs by what is stored of them: statistics of the same exposures share maps."""
    found: dict[tuple[int, str, float], list[Slot]] = {}
    for slot in slots:
        found.setdefault((slot.plane, slot.variable, slot.factor), []).append(slot)
    return found


def write_sidecar(made: BlockResult, layout: Layout, block: Shape) -> int:
    """Write a block's white images: each exposure's, then mean and number of each method."""
    images = [*made.white]
    _, ny, nx = made.shape
    for plane in white_planes(layout):
        means = mean_over_channels(made.parts[plane])
        images += [joined(image)[0, :ny, :nx] for image in means]
    pieces = sidecar_codec(layout, block).encode(_Piled(tuple(images)), (len(images), ny, nx))
    return write_atomically(layout.sidecar(block), pieces)


@dataclass(frozen=True)
class _Piled:
    """Images, each of which is a chunk, without a copy of all of them."""

    images: tuple[Array, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.images), 1, 1

    def __getitem__(self, where: Shape) -> Array:
        return np.ascontiguousarray(self.images[where[0]], np.float32)[None]


def sidecar_codec(layout: Layout, block: Shape) -> ShardCodec:
    """How a sidecar is encoded: an image is a chunk, and one that is all NaN takes no room."""
    _, ys, xs = layout.region(block)
    return ShardCodec((1, ys.stop - ys.start, xs.stop - xs.start), "<f4", np.nan, _SIDECAR_LEVEL)


def white_planes(layout: Layout) -> list[int]:
    """The plane of each method's flux, in the order of the methods that have one."""
    return [slot.plane for slot in layout.slots if slot.variable == "flux"]


def _check(made: BlockResult, layout: Layout, block: Shape) -> None:
    nz, ny, nx = (part.stop - part.start for part in layout.region(block))
    n_planes = 1 + max(slot.plane for slot in layout.slots)
    expected = parts_shape(n_planes, (nz, ny, nx), layout.inner)
    if (
        made.shape != (nz, ny, nx)
        or made.parts.shape[1:] != expected[1:]
        or len(made.parts) < n_planes
    ):
        raise InputError(
            f"block {block}: {made.shape} voxels in parts of shape {made.parts.shape}, the plan "
            f"says {(nz, ny, nx)} in {expected}"
        )
    if made.white.ndim != 3 or made.white.shape[1:] != (ny, nx):
        raise InputError(
            f"block {block}: white images of shape {made.white.shape}, the plan says "
            f"(exposure, {ny}, {nx})"
        )
