"""White-light images of the exposures and of the statistics, put together from the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]

from musedask.blocks import Stack
from musedask.errors import FileError
from musedask.megacube.durable import for_each, write_durably
from musedask.megacube.layout import IMAGE_LEVEL, Layout
from musedask.megacube.packing import add_weighted
from musedask.megacube.shards import Array, Shape, ShardCodec, sync_folders
from musedask.megacube.tasks import sidecar_codec, white_planes


def write_images(stack: Stack, layout: Layout) -> None:
    """Put the ``images`` of a store whose blocks are done on the disk.

    ``exposures`` (exposure, y, x) is each exposure's mean over wavelength,
    from the blocks' means weighted by their channels; every other variable
    (y, x) is the mean over wavelength of the statistic of its name. The units
    are those of the flux. Memory: a few images of a tile.

    Raises
    ------
    FileError
        If a block's images are missing or damaged.
    """
    blocks: dict[tuple[int, int], list[Shape]] = {}
    for block in sorted(stack.plan.keys):
        blocks.setdefault((block[1], block[2]), []).append(block)
    folder = Path(layout.folder, "images")
    for (j, i), column in blocks.items():
        touching = stack.plan.touching[j, i]
        images = [
            (folder / "exposures" / f"c.{exposure}.{j}.{i}", place, None)
            for place, exposure in enumerate(touching)
        ] + [
            (folder / method / f"c.{j}.{i}", place, place + 1)
            for place, method in zip(count(len(touching), 2), layout.methods_with_flux)
        ]
        with ExitStack() as opened:
            n_images = len(touching) + 2 * len(white_planes(layout))
            sidecars = _Sidecars.open(layout, column, n_images, opened)
            for_each(partial(_write_image, sidecars, layout), images)
    sync_folders(folder / name for name in ("exposures", *layout.methods_with_flux))


def _write_image(sidecars: _Sidecars, layout: Layout, image: tuple[Path, int, int | None]) -> None:
    """Write the part of an image in one tile: its file, its place and that of its weights."""
    path, place, number = image
    write_durably(path, _encoded(sidecars.mean(place, number), layout))


def _encoded(image: Array | None, layout: Layout) -> bytes:
    """A tile of an image as a chunk: nothing if it is all missing, for such a chunk has no file."""
    if image is None or np.isnan(image).all():
        return b""
    chunk = np.full(layout.block[1:], np.nan, "<f4")
    chunk[: image.shape[0], : image.shape[1]] = image
    return bytes(Zstd(level=IMAGE_LEVEL).encode(chunk))


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
            weights = None if number is None else self._codec.read_chunk(file, index[number])
            if weights is None:
                weights = np.full(image.shape, channels, np.float32)
            add_weighted(image[0], weights[0], total, weight)
        if total is None or weight is None:
            return None
        return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
