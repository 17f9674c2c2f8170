"""Plain numpy: the reference itself as a peer, and the floors that the machine sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks import reference
from benchmarks.exposures import grid_header
from benchmarks.jobs import Array, Comparison, Job, Place, Prepared, compare_values

_PIECE_BYTES = 4 << 20
"""Read and swapped at a time: fits a processor's cache, as a kernel would do it."""


def reference_stack(job: Job, place: Place) -> Prepared:
    """The reference on whole channels, a slice at a time; compared with itself in windows."""
    assert job.data is not None
    channels = range(int(job.options.get("slices", 1)))
    header = grid_header(job.data)
    target = reference.celestial(header)
    whole = [reference.Window(z, 0, 0, header["NAXIS2"], header["NAXIS1"]) for z in channels]

    def run() -> list[Array]:
        return [
            reference.median(
                reference.resampled(place.exposures, target, window, "bilinear").kept()
            )
            for window in whole
        ]

    def compare(images: list[Array]) -> Comparison:
        places = reference.windows(len(images), images[0].shape)
        found = [(window, images[window.channel][window.slices]) for window in places]
        return reference.compare_median(found, place.exposures, target, where=reference.EVERYWHERE)

    per_slice = job.data.n_voxels // job.data.n_channels
    return Prepared(run, compare, per_slice * len(whole), place.exposures)


def read_and_swap(job: Job, place: Place) -> Prepared:
    """Bring all bytes of DATA and STAT into native order: the least that a stack has to do."""
    assert job.data is not None
    threads = int(job.options.get("threads", 2))
    runs = [run for path in place.exposures for run in _arrays_of(path)]
    n_bytes = sum(run.size for run in runs)

    def run() -> list[tuple[int, float]]:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(_swapped, runs))

    def compare(found: list[tuple[int, float]]) -> Comparison:
        right = sum(n for n, _ in found) == n_bytes
        values = compare_values(
            np.array([value for _, value in found]), _middles(place.exposures),
            rtol=0, atol=1e-30, against="astropy's values in the middle",
        )  # fmt: skip
        return values if right else replace(values, largest=np.inf)

    return Prepared(run, compare, job.data.n_voxels, place.exposures)


def write(job: Job, place: Place) -> Prepared:
    """Write as many bytes as the peer beside it, into one file, in order; not forced to disk."""
    n_bytes = int(job.options["bytes"])
    path = place.scratch / "plain.bin"
    piece = np.random.default_rng(1).bytes(_PIECE_BYTES)

    def run() -> int:
        left = n_bytes
        with path.open("wb", buffering=0) as file:
            while left > 0:
                left -= file.write(piece[: min(left, len(piece))])
        return n_bytes - left

    def compare(written: int) -> Comparison:
        right = written == n_bytes == path.stat().st_size
        return Comparison(1, 0.0 if right else np.inf, "nothing", "the number of bytes")

    return Prepared(run, compare, 0, metrics=lambda _: {"bytes": float(n_bytes)})


@dataclass(frozen=True)
class _Run:
    """The bytes of an array in a file."""

    path: Path
    """The file."""
    offset: int
    """First byte."""
    size: int
    """Number of bytes."""
    middle: int
    """Byte, from the first on, of the voxel in the middle."""


def _arrays_of(path: Path) -> list[_Run]:
    """Where DATA and STAT lie."""
    found = []
    with fits.open(path) as hdus:
        for name in ("DATA", "STAT"):
            nz, ny, nx = hdus[name].shape
            middle = 4 * ((nz // 2 * ny + ny // 2) * nx + nx // 2)
            offset = hdus[name].fileinfo()["datLoc"]
            found.append(_Run(path, offset, 4 * nz * ny * nx, middle))
    return found


def _swapped(run: _Run) -> tuple[int, float]:
    """Read and swap; bytes read, and the value in the middle."""
    words = np.empty(_PIECE_BYTES // 4, np.uint32)
    octets = memoryview(words.view(np.uint8))  # type: ignore[arg-type]  # numpy is a Buffer
    n_read, middle = 0, float("nan")
    fd = os.open(run.path, os.O_RDONLY)
    try:
        while n_read < run.size:
            part = octets[: min(run.size - n_read, _PIECE_BYTES)]
            got = os.preadv(fd, [part], run.offset + n_read)
            if got == 0 or got % 4:
                break
            words[: got // 4].byteswap(inplace=True)
            if n_read <= run.middle < n_read + got:
                at = (run.middle - n_read) // 4
                middle = float(words[at : at + 1].view(np.float32)[0])
            n_read += got
    finally:
        os.close(fd)
    return n_read, middle


def _middles(paths: Sequence[Path]) -> Array:
    """The value in the middle of DATA and of STAT of each file."""
    found = []
    for path in paths:
        with fits.open(path, memmap=True) as hdus:
            for name in ("DATA", "STAT"):
                nz, ny, nx = hdus[name].shape
                found.append(float(hdus[name].data[nz // 2, ny // 2, nx // 2]))
    return np.array(found)
