"""One task: all outputs of one block, out of the bytes of the exposures that touch it."""

from __future__ import annotations

import errno
import math
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from musedask.blocks import BlockResult, Slot, parts_shape
from musedask.errors import FileError
from musedask.fits import FitsCube, FitsSource
from musedask.sky import SkyProjection
from musedask.stacking.geometry import TileGeometry, ToFrame, lanczos_table, tile_geometry
from musedask.stacking.kernels import column
from musedask.stacking.kernels.layout import LANES
from musedask.stacking.kernels.slab import stack_slab
from musedask.stacking.members import Member, member_mask
from musedask.stacking.statistics import combination, median_factors
from musedask.uncached import ALIGNMENT, laid_out

KERNEL_VERSION = 7
"""Raise it when the kernel gives other values for the same input: old blocks are made again."""
GATHER_BYTES = 96 << 20
"""Resampled frames of gathered exposures that a task holds at a time."""
DEEPEST_SLAB = LANES
RUN_BYTES = 48 << 10
"""Values of all exposures along a run of pixels: what fits the first levels of cache."""
GEOMETRY_CACHE_BYTES = 256 << 20

Floats32 = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class TileSpec:
    """A tile of the grid and what is to be done on it."""

    grid_sky: SkyProjection
    """Projection of the whole grid."""
    tile: tuple[int, int, int, int]
    """First and last plus one row, first and last plus one column on the grid."""
    padded: tuple[int, int, int, int]
    """The same with the pixels around it that its clipping looks at."""
    members: tuple[Member, ...]
    """The exposures that touch the padded tile, in the order of DATE-OBS."""
    slots: tuple[Slot, ...]
    """Layout of the outputs."""
    rules: tuple[float, ...]
    """Parameters of the clippings."""
    depth: int
    """Channels of a block."""
    inner: tuple[int, int, int]
    """Voxels of the parts into which its planes are cut."""
    n_channels: int
    """Channels of the grid."""

    @property
    def n_planes(self) -> int:
        """Planes of the result."""
        return max(slot.plane for slot in self.slots) + 1


def make_block(
    number: int,
    spec: TileSpec,
    weights: Any,
    levels: Any,
    arrays: Sequence[tuple[Floats32, Floats32] | None],
) -> BlockResult:
    """Make a block.

    Parameters
    ----------
    number
        Which run of channels, from 0.
    spec
        The tile.
    weights
        float64 (exposure,) of the tile's members.
    levels
        float32 (exposure, 2, wavelength): background and floor of each channel
        of the block; None if neither is asked for.
    arrays
        Flux and variance, float32 (wavelength, y, x), of those members that
        have no file; None for the others.
    """
    start = number * spec.depth
    depth = min(spec.depth, spec.n_channels - start)
    geometry = _geometry(spec)
    y_lo, y_hi, x_lo, x_hi = spec.tile
    top, bottom, left, right = spec.padded
    padded = np.array([bottom - top, right - left, y_lo - top, x_lo - left])
    shape = depth, y_hi - y_lo, x_hi - x_lo
    parts = _room_of_parts(spec.n_planes, shape, spec.inner)
    present = np.array([m.present(start, depth) for m in spec.members])
    white = np.zeros((len(spec.members), y_hi - y_lo, x_hi - x_lo), np.float32)
    white_n = np.zeros(white.shape, np.uint8)
    masks, table = _with_flags(geometry, spec, arrays)
    if levels is None:
        levels = np.zeros((len(spec.members), 2, depth), np.float32)
        levels[:, 1] = -np.inf
    combined = combination(spec.slots, [m.rank for m in spec.members])
    scales = np.array([m.scale for m in spec.members], np.float32)
    times = np.array([m.exptime for m in spec.members], np.float64)
    gathered_shape = _gathered_shape(spec, table, depth)
    gathered = _room("gathered", math.prod(gathered_shape)).reshape(gathered_shape)
    targets = np.array([plane.ctypes.data for plane in parts])
    slab = gathered.shape[2]
    run = max(64, RUN_BYTES // (4 * len(spec.members)) // 16 * 16)
    with _opened(spec.members, arrays, start) as sources:
        sources.announce(0, min(slab, depth))
        for lo in range(0, depth, slab):
            hi = min(lo + slab, depth)
            sources.announce(hi, min(hi + slab, depth))
            stack_slab(
                sources.of_slab(lo), table, np.ascontiguousarray(present[:, lo:hi]),
                np.ascontiguousarray(levels[:, 0, lo:hi]),
                np.ascontiguousarray(levels[:, 1, lo:hi]),
                scales, np.ascontiguousarray(weights, np.float64), times, masks,
                geometry.drift, geometry.maps, geometry.pointers, geometry.indices,
                geometry.weights, _lanczos(),
                combined.selections, combined.sizes, combined.networks, combined.network_ends,
                median_factors(len(spec.members)), combined.steps, combined.step_ends,
                np.array(spec.rules), padded, targets, np.array(spec.inner), lo, white, white_n,
                gathered, min(run, 1024),
            )  # fmt: skip
    for plane, nothing in combined.untouched:
        parts[plane] = nothing
    _blank_beyond(parts, shape)
    with np.errstate(invalid="ignore"):
        white /= white_n
    return BlockResult(parts, shape, white)


def _room_of_parts(
    n_planes: int, shape: tuple[int, int, int], inner: tuple[int, int, int]
) -> Floats32:
    """Room for a block's planes, each of which begins where a file past the page cache can."""
    size = parts_shape(n_planes, shape, inner)
    room = _room("parts", math.prod(size) + (n_planes + 1) * ALIGNMENT)
    return laid_out(room.view(np.uint8), size, np.dtype(np.float32), 0, 0)


def _blank_beyond(parts: Floats32, shape: tuple[int, int, int]) -> None:
    """Make missing what lies beyond the block's edges."""
    used = [
        size - (number - 1) * step
        for size, number, step in zip(shape, parts.shape[1:4], parts.shape[4:], strict=True)
    ]
    parts[:, -1, :, :, used[0] :] = np.nan
    parts[:, :, -1, :, :, used[1] :] = np.nan
    parts[:, :, :, -1, :, :, used[2] :] = np.nan


_kept = threading.local()


def _room(name: str, size: int) -> Floats32:
    """Room for ``size`` values: that of this thread's block before, if nobody looks at it.

    New memory costs as much as a third of reading the exposures, since the
    system clears it first.
    """
    room = getattr(_kept, name, None)
    # Whoever holds a block, or an array made of it, holds a reference to the room: besides it
    # there are that of the thread, that of this function and that of the question.
    if room is None or room.size < size or sys.getrefcount(room) > 3:
        room = np.empty(size, np.float32)
        setattr(_kept, name, room)
    found: Floats32 = room[:size]
    return found


@lru_cache(maxsize=1)
def _lanczos() -> Floats32:
    return lanczos_table()


def mapping(grid: SkyProjection, frame: SkyProjection) -> ToFrame:
    """Pixel coordinates of one projection to those of another."""

    def to_frame(x: Any, y: Any) -> tuple[Any, Any]:
        return frame.to_pixel(*grid.to_sky(x, y))

    return to_frame


class _GeometryCache:
    """Geometry of the last few tiles, shared by the threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[Any, threading.Lock] = {}
        self._kept: OrderedDict[Any, TileGeometry] = OrderedDict()

    def get(self, spec: TileSpec) -> TileGeometry:
        frames = tuple((m.sky, m.footprint, m.frame_shape) for m in spec.members)
        key = (spec.grid_sky, spec.padded, frames)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:  # one thread makes it, the others wait for it
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            made = tile_geometry(
                [mapping(spec.grid_sky, m.sky) for m in spec.members],
                [m.footprint for m in spec.members],
                [m.frame_shape for m in spec.members],
                spec.padded,
            )
            with self._lock:
                self._kept[key] = made
                self._busy.pop(key, None)
                while len(self._kept) > 1 and self._nbytes() > GEOMETRY_CACHE_BYTES:
                    self._kept.popitem(last=False)
            return made

    def _nbytes(self) -> int:
        return sum(geometry.nbytes for geometry in self._kept.values())


_cache = _GeometryCache()


def _geometry(spec: TileSpec) -> TileGeometry:
    return _cache.get(spec)


def _with_flags(
    geometry: TileGeometry, spec: TileSpec, arrays: Sequence[Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Spatial masks one after the other, and the table with what is not geometry."""
    table = geometry.table.copy()
    masks: list[Any] = []
    at = 0
    for n, member in enumerate(spec.members):
        direct = arrays[n] is None
        table[n, column.SWAP] = int(direct)
        if not direct:  # a whole array is at hand
            table[n, [column.READ_LO, column.READ_HI]] = 0, member.frame_shape[0]
        table[n, column.QUALITY] = int(
            direct and member.source is not None and member.source.quality is not None
        )
        if member.mask is None:
            continue
        masked = member_mask(member.mask, member.header_sky, member.frame_shape, member.source)
        if masked is not None:
            table[n, column.MASK] = at
            masks.append(masked.ravel().view(np.uint8))
            at += masked.size
    return (np.concatenate(masks) if masks else np.zeros(1, np.uint8)), table


def _gathered_shape(
    spec: TileSpec, table: np.ndarray[Any, Any], depth: int
) -> tuple[int, int, int, int, int]:
    """Of the gathered frames: flux and variance, exposure, channels at a time, y, x.

    Channels are taken so many at a time that the frames stay bounded.
    """
    top, bottom, left, right = spec.padded
    ny, nx = bottom - top, right - left
    n_gathered = int((table[:, column.GATHERED] >= 0).sum())
    most = GATHER_BYTES // max(2 * 4 * n_gathered * ny * nx, 1)
    return 2, n_gathered, max(1, min(most, DEEPEST_SLAB, depth)), ny, nx


class _Sources:
    """Where the kernel finds the values of a block's exposures.

    Files are read, not mapped: mapped pages count as memory in use, a page that
    is touched brings megabytes of its neighbours along, file systems of
    clusters map slowly, and a file that is cut short while it is mapped kills
    the process.
    """

    def __init__(self, members: Sequence[Member], arrays: Sequence[Any], start: int) -> None:
        self._start = start
        self._members = members
        self._arrays = arrays
        self._files: dict[str, int] = {}
        self._parts = [
            () if m.source is None or arrays[n] is not None else _parts(m.source)
            for n, m in enumerate(members)
        ]

    def of_slab(self, lo: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Open files and offsets, or -1 and addresses, of the block's channel ``lo``.

        Returns
        -------
        int64 (exposure, 3, 2)
            For flux, variance and quality. Channels that an exposure lacks may lie anywhere.
        """
        out = np.full((len(self._members), 3, 2), -1, np.int64)
        for n, member in enumerate(self._members):
            for i, array in enumerate(self._arrays[n] or ()):
                out[n, i, 1] = array.ctypes.data + lo * array.strides[0]
            first = self._start + lo + member.first_channel
            for i, part in enumerate(self._parts[n]):
                out[n, i] = self._open(part), part.offset + first * _plane_bytes(member)
        return out

    def announce(self, lo: int, hi: int) -> None:
        """Tell the system that the block's channels [lo, hi) are needed soon."""
        if not hasattr(os, "posix_fadvise"):
            return
        for member, parts in zip(self._members, self._parts, strict=True):
            first = self._start + member.first_channel
            a, b = max(first + lo, 0), min(first + hi, member.n_channels)
            size = _plane_bytes(member)
            for part in parts if a < b else ():
                file, offset = self._open(part), part.offset + a * size
                if not _in_memory(file, offset, (b - a) * size):
                    os.posix_fadvise(file, offset, (b - a) * size, os.POSIX_FADV_WILLNEED)

    def fault(self, err: Exception) -> FileError:
        """Why an exposure could not be read."""
        if isinstance(err, OSError) and err.errno in (errno.EMFILE, errno.ENFILE):
            return FileError(
                f"{len(self._members)} exposures of a block are open at once, more than the system "
                "allows; raise the limit (ulimit -n), or take fewer threads"
            )
        for member, parts in zip(self._members, self._parts, strict=True):
            for part in parts:
                end = part.offset + member.n_channels * _plane_bytes(member)
                if os.fstat(self._open(part)).st_size < end:
                    return FileError(
                        f"{part.path}: was cut short while it was read; "
                        "copy it again and start over"
                    )
        names = ", ".join(sorted(self._files))
        return FileError(f"one of {names} cannot be read; check the disk and start over")

    def _open(self, part: FitsSource) -> int:
        if part.path not in self._files:
            part.check()
            self._files[part.path] = os.open(part.path, os.O_RDONLY)
        return self._files[part.path]

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def _in_memory(file: int, offset: int, size: int) -> bool:
    """Whether the ends of a part of a file are in the page cache, and so most likely all of it.

    To announce what is there takes the system as long as a tenth of reading it.
    """
    byte = bytearray(1)
    try:
        return all(
            os.preadv(file, [byte], at, os.RWF_NOWAIT) == 1 for at in (offset, offset + size - 1)
        )
    except (AttributeError, OSError):  # it would have to be waited for, or cannot be asked
        return False


def _plane_bytes(member: Member) -> int:
    """Bytes of a channel in its file."""
    ny, nx = member.frame_shape
    return 4 * ny * nx


def _parts(source: FitsCube) -> tuple[FitsSource, ...]:
    quality = () if source.quality is None else (source.quality,)
    return (source.flux, source.variance, *quality)


@contextmanager
def _opened(*arguments: Any) -> Iterator[_Sources]:
    sources = _Sources(*arguments)
    try:
        yield sources
    except (EOFError, OSError) as err:
        if isinstance(err, FileError):
            raise
        raise sources.fault(err) from err
    finally:
        sources.close()
