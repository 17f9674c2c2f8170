"""White-light images of the exposures and of the statistics, put together from the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np
import zarr

from musedask.blocks import Stack
from musedask.errors import FileError
from musedask.megacube.layout import Layout
from musedask.megacube.shards import Array, Shape, ShardCodec
from musedask.megacube.tasks import sidecar_codec, white_planes


def write_images(stack: Stack, layout: Layout) -> None:
    """Write the group ``images`` of a store whose blocks are done.

    ``exposures`` (exposure, y, x) is each exposure's mean over wavelength,
    from the blocks' means weighted by their channels; every other variable
    (y, x) is the mean over wavelength of the statistic of its name. The units
    are those of the flux. Memory: a few images of a tile.

    Raises
    ------
    FileError
        If a block's images are missing or damaged.
    """
    images: Any = zarr.open_group(layout.folder, path="images", mode="r+", use_consolidated=False)
    blocks: dict[tuple[int, int], list[Shape]] = {}
    for block in sorted(stack.plan.keys):
        blocks.setdefault(block[1:], []).append(block)
    for tile, column in blocks.items():
        touching = stack.plan.touching[tile]
        n_images = len(touching) + 2 * len(white_planes(layout))
        _, ys, xs = layout.region(column[0])
        with ExitStack() as opened:
            sidecars = _Sidecars.open(layout, column, n_images, opened)
            for place, exposure in enumerate(touching):
                image = sidecars.mean(place)
                if image is not None:
                    images["exposures"][exposure, ys, xs] = image
            for number, method in enumerate(layout.methods_with_flux):
                place = len(touching) + 2 * number
                image = sidecars.mean(place, place + 1)
                if image is not None:
                    images[method][ys, xs] = image


class _Sidecars:
    """The open image files of a tile's column of blocks."""

    def __init__(self, files: Iterable[tuple[BinaryIO, Array, int]], codec: ShardCodec) -> None:
        self._files = list(files)
        self._codec = codec

    @classmethod
    def open(
        cls, layout: Layout, column: list[Shape], n_images: int, opened: ExitStack
    ) -> _Sidecars:
        codec = sidecar_codec(layout, column[0])

        def each() -> Iterator[tuple[BinaryIO, Array, int]]:
            for block in column:
                path = layout.sidecar(block)
                if not path.exists():
                    continue  # nothing but NaN in this block
                channels = layout.region(block)[0]
                try:
                    file = opened.enter_context(path.open("rb"))
                    index = codec.read_index(file, n_images)
                except OSError as err:
                    raise FileError(f"{path}: white-light images not readable ({err})") from err
                yield file, index, channels.stop - channels.start

        return cls(each(), codec)

    def mean(self, place: int, number: int | None = None) -> Array | None:
        """Mean of an image over the blocks, weighted by channels or by the image ``number``."""
        total: Array | None = None
        weight: Array | None = None
        for file, index, channels in self._files:
            image = self._codec.read_chunk(file, index[place])
            if image is None:
                continue
            if total is None or weight is None:
                total = np.zeros(image.shape[1:], np.float64)
                weight = np.zeros(image.shape[1:], np.float64)
            counted = None if number is None else self._codec.read_chunk(file, index[number])
            valid = np.isfinite(image[0])
            w = np.where(valid, channels if counted is None else counted[0], 0)
            total += np.where(valid, image[0], 0) * w
            weight += w
        if total is None or weight is None:
            return None
        return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
