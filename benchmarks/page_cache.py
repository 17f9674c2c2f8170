"""The page cache in a stated state: read beforehand or dropped, and how much of it is there."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

_BUFFER_BYTES = 4 << 20
_LARGEST_COLD_SHARE = 0.02
_SMALLEST_WARM_SHARE = 0.98


def read_in(paths: Iterable[Path]) -> None:
    """Read files from end to end, so that their pages are in the cache if they fit."""
    buffer = bytearray(_BUFFER_BYTES)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def drop(paths: Iterable[Path]) -> None:
    """Ask the kernel to forget the pages of files; dirty ones are written first."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)  # pages that are not on the disk yet cannot be dropped
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def resident_share(paths: Iterable[Path]) -> float:
    """Share of the pages of files that are in memory, by mincore; NaN where it cannot be told.

    The kernel tells it of files that the caller owns or may write.
    """
    page = mmap.PAGESIZE
    n_pages = n_resident = 0
    for path in paths:
        size = path.stat().st_size
        if size == 0:
            continue
        flags = np.zeros(-(-size // page), np.uint8)
        with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as m:
            view = (ctypes.c_char * size).from_buffer(m)
            status = ctypes.CDLL(None, use_errno=True).mincore(
                ctypes.c_void_p(ctypes.addressof(view)),
                ctypes.c_size_t(size),
                ctypes.c_void_p(flags.ctypes.data),
            )
            del view  # the map cannot be closed before
        if status != 0:
            return float("nan")
        n_pages += flags.size
        n_resident += int((flags & 1).sum())
    return n_resident / n_pages if n_pages else float("nan")


def bring(paths: Iterable[Path], state: Literal["warm", "cold", "any"]) -> tuple[str, float]:
    """Bring the cache into a state, and look whether it is.

    Returns
    -------
    state
        ``warm``, ``cold``, or ``mixed`` where the state that was asked for cannot be had (files
        larger than the memory, a file system that keeps its pages); ``any`` as it was asked for.
    share
        Of the pages that are in memory.
    """
    files = tuple(paths)
    if state == "any" or not files:
        return "any", float("nan")
    (read_in if state == "warm" else drop)(files)
    share = resident_share(files)
    if state == "warm":
        return ("warm" if share >= _SMALLEST_WARM_SHARE else "mixed"), share
    return ("cold" if share <= _LARGEST_COLD_SHARE else "mixed"), share
