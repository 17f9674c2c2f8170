"""Cubes into FITS: streamed block by block, and under the final name only when whole."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from musedask.cube import check_cube
from musedask.errors import FileError, InputError
from musedask.fits.pieces import PiecewiseFile, Region, runs
from musedask.fits.product import Extension, Shape, exposures_table, extensions, primary
from musedask.megacube.direct import StoredArray, stored_array
from musedask.progress import Progress, Ticker
from musedask.wording import data_size

log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]

_THREADS = 2
"""Blocks in flight, each with its own buffer: the bound of the memory."""
_NUMPY_BLOCK_BYTES = 16 << 20


def export_fits(
    cube: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a cube as a FITS file that mpdaf, QFitsView, DS9 and the ESO pipeline read.

    Computes and writes a block at a time; memory is that of a few blocks. The
    file appears under its name when it is whole.

    ============  =========  ==========================================================
    HDU           type       what
    ============  =========  ==========================================================
    PRIMARY       no data    provenance: NFILES, FILEi, OFFi (pixels, exposure minus
                             reference), TYPEi (a or m); EXPTIME is the median over
                             covered spaxels, TEXPTIME the sum of all exposures; RA, DEC
                             of the grid's centre; what of the exposures' headers holds
                             for all of them
    DATA          float32    flux, NaN where missing
    STAT          float32    its variance
    EXPMAP        int16      number of exposures (int32 above 32767)
    TEXPMAP       float32    exposure time, s
    EXPOSURES     table      a row per exposure: name, DATE_OBS, time, offsets, scale, how
                             they were found, wavelength of the first channel
    ============  =========  ==========================================================

    EXPMAP, TEXPMAP and EXPOSURES are there if the cube has what they hold.

    Parameters
    ----------
    cube
        Of the schema in :mod:`musedask.cube`, lazy or in memory: a stack, an
        exposure, or a cut-out by ``isel``.
    path
        The file, ``.fits``.
    overwrite
        Replace a file that is there.
    progress
        Called with megabytes written, megabytes in all and seconds left.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the cube is not of the schema.
    FileError
        If the file exists and ``overwrite`` is false, the disk has no room
        for it, or it cannot be written; nothing is left behind.
    """
    check_cube(cube)
    final = Path(os.path.abspath(path))
    _check_target(final, overwrite=overwrite)
    images = extensions(cube)
    head, tail = primary(cube, 0.0), exposures_table(cube)
    size = len(head) + sum(image.size for image in images) + len(tail)
    _check_room(final, size)
    partial = final.with_name(f".{final.name}.{uuid.uuid4().hex}.partial")
    try:
        with PiecewiseFile(partial) as file:
            _write_file(file, cube, images, (head, tail), progress)
        if not overwrite and final.exists():
            raise FileError(f"{final}: has appeared meanwhile; give another name or overwrite=True")
        partial.replace(final)
    except BaseException as err:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(err, OSError) and not isinstance(err, FileError):
            raise FileError(
                f"{final}: cannot be written ({err.strerror or err}); nothing is left of it; make "
                "room or choose another folder, and export again"
            ) from err
        raise
    log.info("%s: %s written", final, data_size(size))
    return final


def _check_target(final: Path, *, overwrite: bool) -> None:
    if final.suffix.lower() not in (".fits", ".fit"):
        raise InputError(f"{final.name}: the name of a FITS file ends in .fits (not compressed)")
    if not final.parent.is_dir():
        raise FileError(f"{final.parent}: no such folder; make it first")
    if final.is_dir():
        raise FileError(f"{final}: is a folder; choose another name")
    if final.exists() and not overwrite:
        raise FileError(f"{final}: exists; give overwrite=True to replace it, or another name")


def _check_room(final: Path, size: int) -> None:
    free = shutil.disk_usage(final.parent).free
    if free < size:
        raise FileError(
            f"{final}: takes {data_size(size)} and the disk has {data_size(free)} left; make "
            "room, or export a cut-out (cube.isel)"
        )


@dataclass
class _Stream:
    """The file that is being written, and what is learned on the way."""

    file: PiecewiseFile
    """The file."""
    starts: dict[str, int]
    """Variable -> byte at which its data start."""
    images: dict[str, Extension]
    """Variable -> image."""
    seconds: Array
    """float32 (y, x): exposure time, summed over the channels that have any."""
    channels: Array
    """uint16 (y, x): how many these are."""
    ticker: Ticker
    """Counts megabytes."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held for the sums and the ticker."""
    written: int = 0
    """Bytes."""

    def write(self, variable: str, region: Region, block: Array) -> None:
        """Put a block into its place."""
        image, start = self.images[variable], self.starts[variable]
        for run, offset in runs(image, region, block, start):
            self.file.write(run, offset)
        if block.shape[2] == image.shape[2]:
            plane = image.data_size // image.shape[0]
            self.file.send(start + region[0].start * plane, len(block) * plane)
        if variable == "exposure_time":
            self._add_time(region, block)
        with self.lock:
            self.written += block.size * np.dtype(image.dtype).itemsize
            self.ticker.step(self.written // 1_000_000 - self.ticker.done)

    def _add_time(self, region: Region, block: Array) -> None:
        """Add up a block of exposure times along wavelength."""
        seconds = np.zeros(block.shape[1:], np.float32)
        channels = np.zeros(block.shape[1:], np.uint16)
        for plane in block:  # a native one stays in the processor's cache: half of the time
            native = plane.astype(np.float32)
            seconds += native
            channels += native > 0
        _, ys, xs = region
        with self.lock:
            self.seconds[ys, xs] += seconds
            self.channels[ys, xs] += channels

    @property
    def exptime(self) -> float | None:
        """Median over the covered spaxels of the time, averaged over wavelength, s."""
        covered = self.channels > 0
        if not covered.any():
            return None
        return float(np.median(self.seconds[covered] / self.channels[covered]))


def _write_file(
    file: PiecewiseFile,
    cube: xr.Dataset,
    images: Sequence[Extension],
    ends: tuple[bytes, bytes],
    progress: Progress | None,
) -> None:
    """Fill a file: headers first, then the data in blocks, then PRIMARY again with EXPTIME."""
    head, tail = ends
    file.write(head, 0)
    at, starts = len(head), {}
    for image in images:
        file.write(image.header, at)
        starts[image.variable] = at + len(image.header)
        at += image.size
    # The padding between the images are the zeros of a file that was never written there.
    file.set_size(at + len(tail))
    file.write(tail, at)
    total = sum(image.data_size for image in images)
    plane = images[0].shape[1:]
    stream = _Stream(
        file,
        starts,
        {image.variable: image for image in images},
        np.zeros(plane, np.float32),
        np.zeros(plane, np.uint16),
        Ticker(progress, total // 1_000_000),
    )
    stream.ticker.tell()
    _stream_all(cube, stream)
    again = primary(cube, stream.exptime)
    if len(again) == len(head):
        file.write(again, 0)
    file.finish()


def _stream_all(cube: xr.Dataset, stream: _Stream) -> None:
    """Compute and write all blocks; variables that come out of one task go together."""
    stored = {name: stored_array(cube, name) for name in stream.images}
    arrays = {name: cube[name].data for name in stream.images if stored[name] is None}
    present = [name for name, array in arrays.items() if not isinstance(array, da.Array)]
    in_memory = {name: np.asarray(arrays.pop(name)) for name in present}
    groups = _related(arrays)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="export") as pool:
        _stream_stored({name: array for name, array in stored.items() if array}, stream, pool)
        for name, values in in_memory.items():
            _stream_memory(name, values, stream, pool)
        for names in groups:
            if len(names) == 1:
                _stream_alone(names[0], arrays[names[0]], stream, pool)
            else:
                _stream_together({name: arrays[name] for name in names}, stream, pool)


def _stream_stored(
    arrays: Mapping[str, StoredArray], stream: _Stream, pool: ThreadPoolExecutor
) -> None:
    """Copy arrays of a store, a row of shards at a time."""
    size = max((array.band_bytes for array in arrays.values()), default=0)
    rooms: SimpleQueue[Array] = SimpleQueue()
    for _ in range(_THREADS):
        rooms.put(np.empty(size, np.uint8))

    def move(name: str, k: int, j: int) -> None:
        dtype = np.dtype(stream.images[name].dtype)
        room = rooms.get()
        try:
            for region, band in arrays[name].bands(k, j, room, stream.starts[name]):
                same = band.dtype.itemsize == dtype.itemsize  # counts have no sign in a store
                stream.write(name, region, band.view(dtype) if same else band)
        finally:
            rooms.put(room)

    rows = ((name, *row) for name, array in arrays.items() for row in np.ndindex(*array.n_rows))
    _do_all(pool, move, rows)


def _stream_memory(name: str, values: Array, stream: _Stream, pool: ThreadPoolExecutor) -> None:
    """Write what is in memory, some channels at a time."""
    nz, ny, nx = values.shape
    depth = max(1, _NUMPY_BLOCK_BYTES // (values.itemsize * ny * nx))

    def move(z: int) -> None:
        part = values[z : z + depth]
        stream.write(name, (slice(z, z + len(part)), slice(0, ny), slice(0, nx)), part)

    _do_all(pool, move, ((z,) for z in range(0, nz, depth)))


def _stream_alone(name: str, array: da.Array, stream: _Stream, pool: ThreadPoolExecutor) -> None:
    """Read and write the blocks of one variable, some at a time."""

    def move(block: tuple[int, ...], region: Region) -> None:
        # In this thread: a pool of Dask's own would hold as many blocks again.
        values = array.blocks[block].compute(scheduler="synchronous")
        stream.write(name, region, values)

    _do_all(pool, move, _blocks(array))


def _stream_together(
    arrays: dict[str, da.Array], stream: _Stream, pool: ThreadPoolExecutor
) -> None:
    """Compute the blocks of several variables in one pass; writing goes on beside it."""
    first = next(iter(arrays.values()))
    aligned = {name: array.rechunk(first.chunks) for name, array in arrays.items()}
    waiting: list[Future[None]] = []
    for block, region in _blocks(first):
        made = dask.compute(*(array.blocks[block] for array in aligned.values()))
        for future in waiting:
            future.result()
        waiting = [
            pool.submit(stream.write, name, region, values)
            for name, values in zip(aligned, made, strict=True)
        ]
        del made
    for future in waiting:
        future.result()


def _do_all(
    pool: ThreadPoolExecutor, work: Callable[..., None], items: Iterable[tuple[Any, ...]]
) -> None:
    """Do work on all items, in the pool's threads; the first failure ends it."""
    futures = [pool.submit(work, *item) for item in items]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()


def _related(arrays: dict[str, da.Array]) -> list[list[str]]:
    """Names of the arrays, those together whose graphs have a layer in common."""
    groups: list[tuple[list[str], set[str]]] = []
    for name, array in arrays.items():
        graph: Any = array.__dask_graph__()
        layers = set(graph.layers)
        names = [name]
        apart = []
        for group in groups:
            if group[1] & layers:
                names, layers = group[0] + names, layers | group[1]
            else:
                apart.append(group)
        groups = [*apart, (names, layers)]
    return [names for names, _ in groups]


def _blocks(array: da.Array) -> Iterator[tuple[Shape, Region]]:
    """Number and voxels of each block, in the order of the file."""
    edges = [np.concatenate([[0], np.cumsum(sizes)]).astype(int) for sizes in array.chunks]
    for block in np.ndindex(*array.numblocks):
        z, y, x = (slice(int(e[n]), int(e[n + 1])) for e, n in zip(edges, block, strict=True))
        yield (block[0], block[1], block[2]), (z, y, x)
