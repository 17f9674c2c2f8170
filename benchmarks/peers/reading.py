"""A spectrum and a slice out of a mega-cube: from the store, and from the FITS file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks.jobs import Array, Comparison, Job, Place, Prepared, compare_values, worst_of

_REPEATS = 20
"""Spectra and slices that are read, each at another place."""


@dataclass(frozen=True)
class _Found:
    """What was read, and how long each took."""

    spectra: tuple[Array, ...]
    slices: tuple[Array, ...]
    spectrum_s: tuple[float, ...]
    slice_s: tuple[float, ...]


def store(job: Job, place: Place) -> Prepared:
    """``open_megacube`` each time anew, flux of one spaxel or of one channel."""
    from benchmarks.peers.stores import noise_store
    from musedask import open_megacube

    path = noise_store(place, int(job.options["channels"]), int(job.options["side"]))

    def flux() -> Any:
        return open_megacube(path)["median"]["flux"]

    def spectrum(y: int, x: int) -> Array:
        values: Array = flux()[:, y, x].values
        return values

    def image(z: int) -> Array:
        values: Array = flux()[z].values
        return values

    files = tuple(p for p in path.rglob("*") if p.is_file())
    return _prepared(job, place, spectrum, image, files)


def fits_file(job: Job, place: Place) -> Prepared:
    """A memory map by astropy of the exported file, opened each time anew."""
    from benchmarks.peers.stores import noise_file

    path = noise_file(place, int(job.options["channels"]), int(job.options["side"]))

    def spectrum(y: int, x: int) -> Array:
        with fits.open(path, memmap=True) as hdus:
            return np.array(hdus["DATA"].data[:, y, x], np.float32)

    def image(z: int) -> Array:
        with fits.open(path, memmap=True) as hdus:
            return np.array(hdus["DATA"].data[z], np.float32)

    return _prepared(job, place, spectrum, image, (path,))


def _prepared(
    job: Job, place: Place, spectrum: Callable[[int, int], Array], image: Callable[[int], Array],
    files: tuple[Any, ...],
) -> Prepared:  # fmt: skip
    from benchmarks.peers.stores import noise_file

    channels, side = int(job.options["channels"]), int(job.options["side"])
    reference = noise_file(place, channels, side)
    rng = np.random.default_rng(3)
    spaxels = [(int(y), int(x)) for y, x in rng.integers(8, side, (_REPEATS, 2))]
    planes = [int(z) for z in rng.integers(0, channels, _REPEATS)]

    def run() -> _Found:
        spectra, spectrum_s = _each(lambda at: spectrum(*at), spaxels)
        slices, slice_s = _each(image, planes)
        return _Found(spectra, slices, spectrum_s, slice_s)

    def compare(found: _Found) -> Comparison:
        with fits.open(reference, memmap=True) as hdus:
            data = hdus["DATA"].data
            pairs = [(a, data[:, y, x]) for a, (y, x) in zip(found.spectra, spaxels, strict=True)]
            pairs += [(a, data[z]) for a, z in zip(found.slices, planes, strict=True)]
            return worst_of(
                *(compare_values(a, np.array(b, float), rtol=0, atol=1e-30,
                                 against="the exported file") for a, b in pairs)
            )  # fmt: skip

    def warm_up() -> None:
        spectrum(side // 2, side // 2)
        image(0)

    return Prepared(run, compare, 0, files, warm_up, _metrics)


def _each(
    read: Callable[[Any], Array], places: list[Any]
) -> tuple[tuple[Array, ...], tuple[float, ...]]:
    found, seconds = [], []
    for at in places:
        started = time.perf_counter()
        found.append(read(at))
        seconds.append(time.perf_counter() - started)
    return tuple(found), tuple(seconds)


def _metrics(found: _Found) -> dict[str, float]:
    return {
        "spectrum_ms": 1e3 * float(np.median(found.spectrum_s)),
        "spectrum_worst_ms": 1e3 * max(found.spectrum_s),
        "slice_ms": 1e3 * float(np.median(found.slice_s)),
        "slice_worst_ms": 1e3 * max(found.slice_s),
    }
