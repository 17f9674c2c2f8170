"""Large new files, written past the system's page cache where it allows that.

A mega-cube is far larger than the memory, and is not read while it is made. In
the page cache each of its pages costs a copy, new memory (on a virtual machine
up to seconds a GiB) and the eviction of exposures that are still to be read,
and has to reach the disk all the same before a block counts as done.
"""

from __future__ import annotations

import errno
import fcntl
import math
import mmap
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

ALIGNMENT = max(4096, mmap.PAGESIZE)
"""Of addresses, offsets and lengths: a multiple of what common disks ask for."""
_ROOM_BYTES = 1 << 20
_REFUSALS = {errno.EINVAL, errno.ENOTSUP}
"""Errors of file systems that know no such writing, or align otherwise."""

_kept = threading.local()
"""Rooms that no file uses."""


def aligned_room(n_bytes: int) -> Bytes:
    """New memory, uint8, that begins at a multiple of :data:`ALIGNMENT`."""
    return np.frombuffer(mmap.mmap(-1, n_bytes), np.uint8)


def in_phase(data: Array, offset: int) -> bool:
    """Whether memory lies as far from a multiple of the alignment as its place in a file does."""
    return (data.ctypes.data - offset) % ALIGNMENT == 0


def laid_out(
    room: Bytes, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, pitch: int | None = None
) -> Array:
    """An array in given memory, all parts of which are in phase with their places in a file.

    Parameters
    ----------
    room
        Of the array's size, and of :data:`ALIGNMENT` bytes more, once and for
        each step along the first axis.
    shape, dtype
        Of the array; what its first axis counts is contiguous in the file.
    offset
        Byte of the file at which it begins.
    pitch
        Bytes of the file between steps along the first axis, where these
        parts do not follow one another.
    """
    part = math.prod(shape[1:]) * dtype.itemsize
    step = part + (0 if pitch is None else (pitch - part) % ALIGNMENT)
    phase = (offset - room.ctypes.data) % ALIGNMENT
    parts = np.ndarray((shape[0], part), np.uint8, room.data, phase, (step, 1))
    return parts.view(dtype).reshape(shape)


def bypass_cache(descriptor: int, *, wanted: bool = True) -> bool:
    """Have an open file written past the page cache from now on (or no longer).

    Returns
    -------
    bool
        Whether it is: not every system and file system can.
    """
    if not hasattr(os, "O_DIRECT"):  # not on macOS
        return False
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(
            descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT
        )
    except OSError as err:
        if err.errno not in _REFUSALS:
            raise
        return False
    return wanted


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write bytes at an offset, through the page cache should the file system want that.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    view = memoryview(data)
    while view:
        try:
            written = os.pwrite(descriptor, view, offset)
        except OSError as err:
            # Nothing tells beforehand what a disk takes: the flag is set, and then refused. A
            # limit of the file's size may also cut a piece, and what is left is not aligned.
            if err.errno not in _REFUSALS or not bypasses_cache(descriptor):
                raise
            bypass_cache(descriptor, wanted=False)
            continue
        view = view[written:]
        offset += written


def bypasses_cache(descriptor: int) -> bool:
    """Whether what is written to an open file goes past the page cache."""
    if not hasattr(os, "O_DIRECT"):
        return False
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


class UncachedFile:
    """A new file, written from its beginning to its end.

    Bytes are gathered in one of two rooms while the other goes to the disk. A
    file that fits a room is written the ordinary way.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o666)
        self._room, self._other = _taken(), _taken()
        self._filled = 0
        self._sent = 0
        self._disk: ThreadPoolExecutor | None = None
        self._going: Future[None] | None = None

    def __enter__(self) -> UncachedFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._disk is not None:
            self._disk.shutdown()
        _kept.rooms += [self._room, self._other]
        os.close(self._descriptor)

    def write(self, piece: bytes | memoryview, *, lasts: bool = False) -> None:
        """Add bytes; they are copied, and may change afterwards, unless they are to last.

        Parameters
        ----------
        piece
            The next bytes of the file.
        lasts
            Whether they stay as they are until the file is finished: then they
            go to the disk from where they lie, if that is :func:`in_phase`.

        Raises
        ------
        OSError
            If these, or some before, cannot be written.
        """
        rest = np.frombuffer(piece, np.uint8)
        if lasts and rest.size >= self._room.size and not self._filled:
            rest = self._send_in_place(rest)
        while rest.size:
            n = min(rest.size, self._room.size - self._filled)
            self._room[self._filled : self._filled + n] = rest[:n]
            self._filled += n
            rest = rest[n:]
            if self._filled == self._room.size:
                self._send()

    def finish(self) -> int:
        """Write what is left; the number of bytes in all.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self._wait()
        size = self._sent + self._filled
        end = self._filled
        if self._disk is not None:  # lengths must be aligned, too: what is too much is cut off
            end = -(-self._filled // ALIGNMENT) * ALIGNMENT
            self._room[self._filled : end] = 0
        write_all(self._descriptor, self._room[:end].data, self._sent)
        os.ftruncate(self._descriptor, size)
        return size

    def _send_in_place(self, piece: Bytes) -> Bytes:
        """Let the disk have what it takes from where it lies; the rest is given back."""
        if not in_phase(piece, self._sent):
            return piece
        end = piece.size // ALIGNMENT * ALIGNMENT
        self._submit(piece[:end])
        return piece[end:]

    def _send(self) -> None:
        """Let the disk have the full room, and fill the other one."""
        self._submit(self._room)
        self._filled = 0
        self._room, self._other = self._other, self._room

    def _submit(self, data: Bytes) -> None:
        """Let the disk have the next bytes, once those before are there."""
        if self._disk is None:
            self._disk = ThreadPoolExecutor(1, thread_name_prefix="write")
            bypass_cache(self._descriptor)
        self._wait()
        self._going = self._disk.submit(write_all, self._descriptor, data.data, self._sent)
        self._sent += data.size

    def _wait(self) -> None:
        going, self._going = self._going, None
        if going is not None:
            going.result()


def _taken() -> Bytes:
    """A room that this thread has kept, or a new one, which costs as much as what is done in it."""
    if not hasattr(_kept, "rooms"):
        _kept.rooms = []
    rooms: list[Bytes] = _kept.rooms
    return rooms.pop() if rooms else aligned_room(_ROOM_BYTES)
