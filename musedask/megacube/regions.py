"""Parts of a store's arrays, read from its shards without zarr-python and Dask."""

from __future__ import annotations

import itertools

import numpy as np

from musedask.blocks import Slot
from musedask.files import opened
from musedask.megacube.layout import Layout
from musedask.megacube.shards import Array, Shape

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
    out = np.full([part.stop - part.start for part in region], codec.fill, codec.dtype)
    counts = tuple(size // step for size, step in zip(layout.block, layout.inner, strict=True))

    def block_of(chunk: tuple[int, ...]) -> Shape:
        z, y, x = (n // count for n, count in zip(chunk, counts, strict=True))
        return z, y, x

    touched = itertools.product(
        *(range(p.start // n, -(-p.stop // n)) for p, n in zip(region, layout.inner, strict=True))
    )
    for block, chunks in itertools.groupby(sorted(touched, key=block_of), block_of):
        path = layout.shard(slot, block)
        if not path.exists():
            continue
        with opened(path) as file:
            index = codec.read_index(file, int(np.prod(counts))).reshape(*counts, 2)
            for chunk in chunks:
                entry = index[tuple(n % count for n, count in zip(chunk, counts, strict=True))]
                values = codec.read_chunk(file, entry)
                if values is not None:
                    _copy(values, chunk, out, region)
    return out


def _copy(values: Array, chunk: tuple[int, ...], out: Array, region: Region) -> None:
    """Copy what an inner chunk and a region have in common; chunks are counted over the array."""
    source, target = [], []
    for n, step, part in zip(chunk, values.shape, region, strict=True):
        low, high = max(n * step, part.start), min((n + 1) * step, part.stop)
        source.append(slice(low - n * step, high - n * step))
        target.append(slice(low - part.start, high - part.start))
    out[tuple(target)] = values[tuple(source)]
