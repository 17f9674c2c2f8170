"""reproject: the COSMOS routine's way, slice by slice, and reproject_and_coadd."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from benchmarks import reference
from benchmarks.exposures import grid_header
from benchmarks.jobs import (
    Array,
    Comparison,
    Job,
    Place,
    Prepared,
    UnavailableError,
    compare_values,
    worst_of,
)

Images = tuple[WCS, list[Array]]
"""The WCS of the output and its slices."""


def cosmos_interp(job: Job, place: Place) -> Prepared:
    """For each slice: the optimal WCS, reproject_interp of each exposure, nanmedian."""
    package = _imported()

    def resample(image: Any, target: WCS, shape: tuple[int, int]) -> Array:
        found: Array = package.reproject_interp(image, target, shape_out=shape)[0]
        return found

    return _slice_by_slice(job, place, resample)


def cosmos_adaptive(job: Job, place: Place) -> Prepared:
    """For each slice: the optimal WCS, reproject_adaptive of each exposure, nanmedian.

    Its kernel is wider than an interpolation: the reference is met in the mean only.
    """
    package = _imported()

    def resample(image: Any, target: WCS, shape: tuple[int, int]) -> Array:
        found: Array = package.reproject_adaptive(image, target, shape_out=shape)[0]
        return found

    return _slice_by_slice(job, place, resample, in_the_mean=True)


def coadd(job: Job, place: Place) -> Prepared:
    """reproject_and_coadd of each slice, mean, onto the grid of all peers."""
    from reproject.mosaicking import reproject_and_coadd

    package = _imported()
    assert job.data is not None
    header = grid_header(job.data)
    target = reference.celestial(header)
    shape = (header["NAXIS2"], header["NAXIS1"])

    def run() -> Images:
        images = []
        for channel in range(_n_slices(job)):
            slices = _slices(place.exposures, channel)
            images.append(
                reproject_and_coadd(
                    slices, target, shape_out=shape, combine_function="mean",
                    reproject_function=package.reproject_interp,
                )[0]
            )  # fmt: skip
        return target, images

    def compare(made: Images) -> Comparison:
        return _compared(made, place.exposures, _mean)

    return _prepared(job, place, run, compare)


def _imported() -> Any:
    try:
        import reproject
        import reproject.mosaicking
    except ImportError as err:
        raise UnavailableError("reproject is not installed") from err
    warnings.simplefilter("ignore")
    return reproject


def _n_slices(job: Job) -> int:
    assert job.data is not None
    return min(int(job.options.get("slices", 1)), job.data.n_channels)


def _slices(files: Sequence[Path], channel: int) -> list[tuple[Array, WCS]]:
    """One channel of each exposure, native float32, with its WCS."""
    found = []
    for path in files:
        with fits.open(path, memmap=True) as hdus:
            image = hdus["DATA"].data[channel].astype(np.float32)
            found.append((image, reference.celestial(hdus["DATA"].header)))
    return found


def _slice_by_slice(
    job: Job, place: Place, resample: Callable[[Any, WCS, tuple[int, int]], Array],
    *, in_the_mean: bool = False,
) -> Prepared:  # fmt: skip
    from reproject.mosaicking import find_optimal_celestial_wcs

    def run() -> Images:
        images = []
        for channel in range(_n_slices(job)):
            slices = _slices(place.exposures, channel)
            target, shape = find_optimal_celestial_wcs(slices)
            layers = [resample(image, target, shape) for image in slices]
            images.append(np.nanmedian(layers, axis=0))
        return target, images

    def compare(made: Images) -> Comparison:
        if in_the_mean:
            return _compared_in_the_mean(made, place.exposures)
        return _compared(made, place.exposures, reference.median)

    return _prepared(job, place, run, compare)


def _prepared(
    job: Job, place: Place, run: Callable[[], Images], compare: Callable[[Images], Comparison]
) -> Prepared:
    assert job.data is not None
    per_slice = job.data.n_voxels // job.data.n_channels
    return Prepared(run, compare, per_slice * _n_slices(job), place.exposures)


def _compared(made: Images, files: Sequence[Path], combine: Callable[[Array], Array]) -> Comparison:
    target, images = made
    results = []
    for window in reference.windows(len(images), images[0].shape):
        values = reference.resampled(files, target, window, "bilinear")
        wanted = values.wanted(combine(values.flux), reference.WHERE_WHOLE)
        results.append(
            compare_values(
                images[window.channel][window.slices], wanted, rtol=2e-4, atol=2e-3,
                against="bilinear, float64",
            )
        )  # fmt: skip
    return worst_of(*results)


def _compared_in_the_mean(made: Images, files: Sequence[Path]) -> Comparison:
    """The mean of a window instead of each pixel: another kernel smooths otherwise."""
    target, images = made
    found, wanted = [], []
    for window in reference.windows(len(images), images[0].shape):
        values = reference.resampled(files, target, window, "bilinear")
        use = values.whole.all(axis=0)
        found.append(images[window.channel][window.slices][use].mean())
        wanted.append(reference.median(values.flux)[use].mean())
    return compare_values(
        np.array(found), np.array(wanted), rtol=0.0, atol=1.0,
        against="the bilinear median's mean in windows",
    )  # fmt: skip


def _mean(values: Array) -> Array:
    found: Array = values.mean(axis=0)
    return found
