"""Zarr shards as files: made in one go, put in place by one rename.

zarr-python sends all writing through one event loop and reads an edge shard
before it replaces it. A block is a whole shard, so the format (the codec
``sharding_indexed`` of Zarr v3: inner chunks, then an index of offsets and
lengths, then its CRC-32C) is written here directly, from any thread. Tests
read it back with zarr-python.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]

from musedask.errors import FileError
from musedask.megacube.packing import convert_chunk, has_values
from musedask.uncached import UncachedFile
from musedask.whole_files import send_to_disk

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, int, int]
_Item = TypeVar("_Item")
_Key = TypeVar("_Key")

PARTIAL = ".partial"
"""Suffix of files that are being written; swept at the start and the end of a build."""
_ABSENT = np.iinfo(np.uint64).max
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Chunks(Protocol):
    """The inner chunks of a shard: an array (k, j, i, z, y, x), or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The first three: number of chunks along z, y, x."""
        ...

    def __getitem__(self, where: Any, /) -> Array:
        """A chunk (z, y, x) by its place (k, j, i)."""
        ...


@dataclass(frozen=True)
class ShardCodec:
    """How one array's shards are encoded."""

    inner: Shape
    """Shape of an inner chunk."""
    dtype: str
    """Type on disk, little-endian."""
    fill: float
    """Value of what was never written: NaN or 0."""
    level: int | None = None
    """Zstandard level of the inner chunks; None leaves them as they are."""

    def encode(
        self, chunks: Chunks, shard: Shape, factor: float = 1.0
    ) -> Iterator[bytes | memoryview]:
        """The bytes of a shard, in pieces; nothing at all if there is only fill.

        Those that are stored as they are lie in ``chunks``, and stay as long as it does.

        Parameters
        ----------
        chunks
            The inner chunks from the shard's beginning on, float32 in C order;
            NaN becomes the fill. There are fewer than fit at an edge of the
            array, where they reach over it.
        shard
            Shape of a full shard, a multiple of :attr:`inner`.
        factor
            What the values are multiplied by.
        """
        counts = tuple(size // step for size, step in zip(shard, self.inner, strict=True))
        index = np.full((*counts, 2), _ABSENT, dtype="<u8")
        offset = 0
        for places, piece in self._pieces(chunks, factor):
            size = len(piece) // len(places)
            for where in places:
                index[where] = offset, size
                offset += size
            yield piece
        if offset:
            tail = index.tobytes()
            yield tail + int(google_crc32c.value(tail)).to_bytes(4, "little")

    def _pieces(
        self, chunks: Chunks, factor: float
    ) -> Iterator[tuple[list[Shape], bytes | memoryview]]:
        """What is stored of the chunks that are not only fill, and which they are."""
        if self._is_kept and factor == 1 and isinstance(chunks, np.ndarray):
            yield from _runs(chunks)
            return
        room = np.empty(self.inner, dtype=self.dtype)
        fill = room.dtype.type(self.fill)
        for where in _places(chunks):
            if convert_chunk(chunks[where], factor, fill, room):
                yield [where], self._pack(room)

    @property
    def _is_kept(self) -> bool:
        """Whether chunks are stored as they come."""
        return self.level is None and self.dtype == "<f4" and math.isnan(self.fill)

    def _pack(self, chunk: Array) -> bytes:
        """The stored form of an inner chunk."""
        if self.level is None:
            return chunk.tobytes()
        return bytes(Zstd(level=self.level).encode(chunk))

    def read_index(self, file: BinaryIO, n_chunks: int) -> Array:
        """Offsets and lengths, uint64 (n_chunks, 2), of a shard whose chunks are in a row."""
        size = 16 * n_chunks
        end = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), size + 4, max(0, end - size - 4))
        index, checksum = tail[:size], tail[size:]
        if int.from_bytes(checksum, "little") != google_crc32c.value(index) or not checksum:
            raise _damaged(file)
        return np.frombuffer(index, dtype="<u8").reshape(n_chunks, 2)

    def read_chunk(
        self, file: BinaryIO, entry: Array, scratch: Array | None = None
    ) -> Array | None:
        """An inner chunk by its row of the index; None if there is only fill.

        ``scratch``, of an inner chunk's shape and type, spares a new array;
        what is given back may then be it.
        """
        if entry[0] == _ABSENT:
            return None
        offset, size = int(entry[0]), int(entry[1])
        if self.level is None and scratch is not None:
            if os.preadv(file.fileno(), [scratch.data], offset) != size:
                raise _damaged(file)
            return scratch
        packed = os.pread(file.fileno(), size, offset)
        if len(packed) != size:
            raise _damaged(file)
        try:
            data = packed if self.level is None else Zstd(level=self.level).decode(packed)
            return np.frombuffer(data, dtype=self.dtype).reshape(self.inner)
        except (RuntimeError, ValueError) as err:
            raise _damaged(file) from err

    def read_channels(self, file: BinaryIO, entry: Array, lo: int, hi: int) -> Array | None:
        """The channels [lo, hi) of an inner chunk; None if there is only fill in the chunk."""
        if self.level is not None or entry[0] == _ABSENT:
            values = self.read_chunk(file, entry)
            return None if values is None else values[lo:hi]
        shape = (hi - lo, *self.inner[1:])
        step = math.prod(self.inner[1:]) * np.dtype(self.dtype).itemsize
        packed = os.pread(file.fileno(), shape[0] * step, int(entry[0]) + lo * step)
        if int(entry[1]) != self.inner[0] * step or len(packed) != shape[0] * step:
            raise _damaged(file)
        return np.frombuffer(packed, dtype=self.dtype).reshape(shape)


def _places(chunks: Chunks) -> Iterator[Shape]:
    nk, nj, ni = chunks.shape[:3]
    return itertools.product(range(nk), range(nj), range(ni))


def _runs(chunks: Array) -> Iterator[tuple[list[Shape], memoryview]]:
    """Chunks that are not all NaN, as many in one piece as follow one another in memory."""
    flat = chunks.reshape(-1, math.prod(chunks.shape[3:]))
    some = [has_values(chunks[where]) for where in _places(chunks)]
    first = 0
    for is_some, group in itertools.groupby(zip(some, _places(chunks), strict=True), itemgetter(0)):
        places = [where for _, where in group]
        if is_some:
            yield places, flat[first : first + len(places)].data.cast("B")
        first += len(places)


def _damaged(file: BinaryIO) -> FileError:
    return FileError(f"{file.name}: is damaged or cut short; remove the store and build it again")


def write_atomically(path: Path, pieces: Iterable[bytes | memoryview]) -> int:
    """Write a file under a temporary name and rename it; without pieces, remove it.

    Returns
    -------
    int
        Number of bytes written.

    Raises
    ------
    FileError
        If it cannot be written; what was there before stays.
    """
    size = 0
    with _appearing(path) as partial, partial.open("xb", buffering=0) as file:
        for piece in pieces:
            view = memoryview(piece)
            while view:  # an unbuffered write may take a part only
                written = file.write(view)
                view = view[written:]
            size += len(piece)
        send_to_disk(file.fileno())  # it begins while the next file is encoded
    return size


def write_together(contents: Mapping[tuple[Path, ...], Iterable[bytes | memoryview]]) -> int:
    """Write large files side by side, past the page cache, as :func:`write_atomically` does one.

    They take turns, piece by piece: while the disk takes large ones, others are
    encoded. None gets its name before all are written. Files of one key have
    the same content, which is made once.
    """
    size = 0
    with ExitStack() as stack:
        partials = {
            path: stack.enter_context(_appearing(path)) for paths in contents for path in paths
        }
        with ExitStack() as opened:
            files = {}
            for path, partial in partials.items():
                with _told_of(path):
                    files[path] = opened.enter_context(UncachedFile(partial))
            for paths, piece in _in_turn(contents):
                for path in paths:
                    with _told_of(path):
                        files[path].write(piece, lasts=True)
            for path, file in files.items():
                with _told_of(path):
                    size += file.finish()
    return size


def _in_turn(contents: Mapping[_Key, Iterable[_Item]]) -> Iterator[tuple[_Key, _Item]]:
    """An item of each, then the next of each, until there are no more."""
    waiting = deque((key, iter(items)) for key, items in contents.items())
    while waiting:
        key, items = waiting.popleft()
        for item in items:
            yield key, item
            waiting.append((key, items))
            break


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """Give a name for a file; what is written there comes under its own, unless it is empty."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    with _told_of(path):
        try:
            yield partial
            if partial.stat().st_size:
                partial.replace(path)
            else:
                path.unlink(missing_ok=True)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Say of the system's errors which file they are about."""
    try:
        yield
    except OSError as err:
        if isinstance(err, FileError):
            raise
        raise write_error(path, err) from err


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until the content of files is on the disk; those that do not exist are left out.

    Raises
    ------
    FileError
        If one cannot be put there.
    """
    for path in paths:
        if path.exists():
            _sync(path)


def sync_folders(folders: Iterable[Path]) -> None:
    """Wait until the names in folders are on the disk, each folder once.

    Raises
    ------
    FileError
        If one cannot be put there.
    """
    for folder in sorted(set(folders)):
        _sync(folder)


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as err:
        # Some network file systems do not know this call for folders.
        if err.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise write_error(path, err) from err


def write_error(path: Path, err: OSError) -> FileError:
    """A FileError that says what to do about a failed write."""
    if err.errno in _FULL:
        what = "the disk (or its quota) is full; make room and run again, it goes on from here"
    elif err.errno == errno.ENOENT:
        what = "its folder is gone; another build has replaced it, or this host does not see it"
    else:
        what = "check that the folder can be written to, and run again"
    return FileError(f"{path}: cannot be written ({err.strerror}): {what}")
