"""Pieces of a file that is filled in any order, by several threads, past the page cache.

What bypasses the cache has to begin and end at multiples of
:data:`~musedask.uncached.ALIGNMENT` in the file and in memory. Images begin
anywhere: the few bytes before the first and after the last multiple go through
the cache, by a second descriptor. A page of the file that lies wholly in one
piece is only ever touched by one of the two, all others only by the second.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from musedask.fits.product import Extension
from musedask.uncached import (
    ALIGNMENT,
    bypass_cache,
    bypasses_cache,
    in_phase,
    laid_out,
    write_all,
)
from musedask.whole_files import send_to_disk

Array = np.ndarray[Any, np.dtype[Any]]
Region = tuple[slice, slice, slice]

_BUFFER_BYTES = 1 << 20
_LEAST_BYTES = 16 * ALIGNMENT
"""Shorter pieces are as well off in the page cache, where they come together."""


class PiecewiseFile:
    """A new file; its parts are written anywhere, from any thread."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CLOEXEC
        self._cached = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        self._direct = -1
        self._lock = threading.Lock()
        with contextlib.suppress(OSError):  # the first descriptor will do for all
            self._direct = os.open(path, flags)
            bypass_cache(self._direct)

    def __enter__(self) -> PiecewiseFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; what was written may not have reached the disk yet."""
        try:
            if self._direct >= 0:
                os.close(self._direct)
        finally:
            os.close(self._cached)

    def set_size(self, size: int) -> None:
        """Make it as long as it will be: what is never written is zero."""
        os.ftruncate(self._cached, size)

    def finish(self) -> None:
        """Wait until all of it is on the disk."""
        os.fsync(self._cached)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset, past the page cache where they allow it.

        They do if they lie in memory as they will in the file (:func:`in_phase`)
        and are not few.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        view = memoryview(data)
        fits = len(view) >= _LEAST_BYTES and in_phase(np.frombuffer(view, np.uint8), offset)
        # One at a time: a file takes one writer, and those that wait in the kernel spin.
        with self._lock:
            if fits and self._bypasses():
                self._write_past_cache(view, offset)
            else:
                write_all(self._cached, view, offset)

    def send(self, offset: int, size: int) -> None:
        """Have the disk start on a part that is written, if it went through the page cache."""
        if not self._bypasses():
            send_to_disk(self._cached, offset, size)

    def _bypasses(self) -> bool:
        """Whether the second descriptor does; it is given up at the first refusal."""
        return self._direct >= 0 and bypasses_cache(self._direct)

    def _write_past_cache(self, view: memoryview, offset: int) -> None:
        head = -offset % ALIGNMENT
        end = head + (len(view) - head) // ALIGNMENT * ALIGNMENT
        write_all(self._cached, view[:head], offset)
        write_all(self._cached, view[end:], offset + end)
        write_all(self._direct, view[head:end], offset + head)


def runs(
    image: Extension, region: Region, block: Array, start: int
) -> Iterator[tuple[memoryview, int]]:
    """Pieces of a block that are contiguous in the file, and their offsets in it.

    What is not in the form of the file yet, or lies otherwise in memory, goes
    through one small buffer, which stays in the processor's cache: use a piece
    before the next one.

    Parameters
    ----------
    image
        That the block belongs to.
    region
        The block's voxels.
    block
        Values (z, y, x) of any type.
    start
        Byte of the file at which the image's data begin.
    """
    _, ny, nx = image.shape
    zs, ys, xs = region
    dtype = np.dtype(image.dtype)
    first = (zs.start * ny + ys.start) * nx + xs.start
    if block.shape[1:] == (ny, nx) and block.flags.c_contiguous:
        block = block.reshape(1, -1, nx)  # its planes follow one another in the file too
    rows = max(1, _BUFFER_BYTES // (block.shape[2] * dtype.itemsize))
    room = None
    for z, plane in enumerate(block):
        at = start + (first + z * ny * nx) * dtype.itemsize
        if _is_ready(plane, dtype, nx) and in_phase(plane, at):
            yield _octets(plane), at
            continue
        if room is None:
            room = np.empty(
                min(rows, len(plane)) * plane[0].size * dtype.itemsize + ALIGNMENT, "u1"
            )
        for y in range(0, len(plane), rows):
            begin = at + y * nx * dtype.itemsize
            part = laid_out(room, plane[y : y + rows].shape, dtype, begin)
            np.copyto(part, plane[y : y + rows], casting="unsafe")
            if plane.shape[1] == nx:
                yield _octets(part), begin
            else:
                for n, row in enumerate(part):
                    yield _octets(row), begin + n * nx * dtype.itemsize


def _is_ready(plane: Array, dtype: np.dtype[Any], nx: int) -> bool:
    return plane.dtype == dtype and plane.shape[1] == nx and plane.flags.c_contiguous


def _octets(values: Array) -> memoryview:
    return values.data.cast("B")
