"""Arrays of a store as zarr-python makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

from musedask.megacube.shards import Shape, ShardCodec


def sharded_array(
    folder: str | Path, name: str | None, shape: Shape, block: Shape, codec: ShardCodec
) -> Any:
    """An empty array of which one file holds a block, encoded as a codec says."""
    return zarr.create_array(
        str(folder), name=name, shape=shape, shards=block, chunks=codec.inner, dtype=codec.dtype,
        fill_value=codec.fill, chunk_key_encoding={"name": "default", "separator": "."},
        compressors=None if codec.level is None else zarr.codecs.ZstdCodec(level=codec.level),
    )  # fmt: skip
