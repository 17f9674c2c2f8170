"""Parts of a store's arrays, read from its shards without zarr-python and Dask."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from musedask.blocks import Slot
from musedask.files import opened
from musedask.megacube.layout import Layout
from musedask.megacube.shards import Array, Shape, ShardCodec

Region = tuple[slice, slice, slice]


def read_region(layout: Layout, slot: Slot, region: Region) -> Array:
    """Read a part of an output from its shards; what has no shard is fill.

    Parameters
    ----------
    layout
        Where the shards lie.
    slot
        Which output.
    region
        Along wavelength, y, x, inside the array.

    Returns
    -------
    ndarray
        (wavelength, y, x) in the type on disk.

    Raises
    ------
    FileError
        If a shard cannot be read, or is damaged.
    """
    codec = layout.codec(slot.variable)
    return read_box(codec, layout.block, lambda block: layout.shard(slot, block), region)


def read_box(
    codec: ShardCodec, shard: Shape, path_of: Callable[[Shape], Path], region: Region
) -> Array:
    """The same of any array whose shards of shape ``shard`` lie at ``path_of`` their place."""
    out = np.full([part.stop - part.start for part in region], codec.fill, codec.dtype)
    counts = tuple(size // step for size, step in zip(shard, codec.inner, strict=True))

    def block_of(chunk: tuple[int, ...]) -> Shape:
        z, y, x = (n // count for n, count in zip(chunk, counts, strict=True))
        return z, y, x

    touched = itertools.product(
        *(range(p.start // n, -(-p.stop // n)) for p, n in zip(region, codec.inner, strict=True))
    )
    for block, chunks in itertools.groupby(sorted(touched, key=block_of), block_of):
        path = path_of(block)
        if not path.exists():
            continue
        with opened(path) as file:
            index = codec.read_index(file, int(np.prod(counts))).reshape(*counts, 2)
            for chunk in chunks:
                entry = index[tuple(n % count for n, count in zip(chunk, counts, strict=True))]
                source, target = _common(chunk, codec.inner, region)
                # Of whole channels no more than is wanted has to come from the disk.
                values = codec.read_channels(file, entry, source[0].start, source[0].stop)
                if values is not None:
                    out[target] = values[:, source[1], source[2]]
    return out


def basic_part(
    read: Callable[[Region], Array], shape: tuple[int, ...], part: tuple[Any, ...]
) -> Array:
    """What ``array[part]`` would be, of an array of which boxes can be read.

    Parameters
    ----------
    read
        Reads a box: slices from the first to the last voxel, in steps of 1.
    shape
        Of the array.
    part
        An integer or a slice for each axis.
    """
    box: list[slice] = []
    inside: list[int | slice] = []
    for index, n in zip(part, shape, strict=True):
        wanted = range(n)[index]
        if isinstance(wanted, int):
            box.append(slice(wanted, wanted + 1))
            inside.append(0)
        else:
            low, high = (min(wanted), max(wanted) + 1) if wanted else (0, 0)
            box.append(slice(low, high))
            inside.append(slice(None, None, wanted.step))
    z, y, x = box
    found: Array = read((z, y, x))[tuple(inside)]
    return found


def _common(chunk: tuple[int, ...], inner: Shape, region: Region) -> tuple[Region, Region]:
    """What an inner chunk and a region have in common: slices of either."""
    parts = []
    for n, step, part in zip(chunk, inner, region, strict=True):
        low, high = max(n * step, part.start), min((n + 1) * step, part.stop)
        parts.append((slice(low - n * step, high - n * step),
                      slice(low - part.start, high - part.start)))  # fmt: skip
    (z, own_z), (y, own_y), (x, own_x) = parts
    return (z, y, x), (own_z, own_y, own_x)
