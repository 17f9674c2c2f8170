"""Images of an exposure through filters, in one pass over its channels."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, BinaryIO, cast

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed

from musedask.alignment.collapsing import FLUX, GROUP, VARIANCE, WEIGHT, add_channels
from musedask.alignment.filters import Filter, find_filter
from musedask.alignment.image import FieldImage
from musedask.alignment.sky_lines import Exclusion, excluded_channels
from musedask.cube import check_cube, name_of, sky_of, spectral_of
from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.fits import FitsCube, FitsSource, direct_source
from musedask.fits.hdus import as_file_error
from musedask.masks import ExposureMask, own_mask, spatial_mask
from musedask.offsets import on_sky_arcsec
from musedask.sky import ARCSEC_PER_DEG

Floats = np.ndarray[Any, np.dtype[np.float64]]
Words = np.ndarray[Any, np.dtype[np.uint32]]

RUNS = 8
"""Parts into which the channels of a file are divided, each a task."""
SLAB_VOXELS = 1 << 20
"""Voxels of flux that a task holds at a time, 4 MB; as many of the variance."""
PART_PIXELS = 26000
"""Pixels whose channels are read one after the other: their sums stay in the cache."""
NUMPY_CHANNELS = 16
"""Depth of what is summed at a time of a block in memory."""
HALF = 0.5 - 1e-5
"""A pixel has a value where this much of the light that there is was valid; a hair below one
half, so that a pixel exactly half covered does not depend on rounding."""
WARN_BELOW = 0.99
"""Part of a filter that the cube has to cover, or a warning says so."""


def collapse(
    cube: xr.Dataset,
    filters: Sequence[str | os.PathLike[str] | Filter] | str = ("white",),
    *,
    exclude: Iterable[Exclusion] | str = (),
    mask_sense: str = "good",
) -> tuple[FieldImage, ...]:
    """Make images of an exposure, all in one pass; computes.

    The flux of a pixel is the mean over its valid channels, weighted with the
    filter's throughput (its integral over each channel): so do the pipeline
    (``muse_datacube_collapse``) and mpdaf (``Cube.bandpass_image``). A voxel is
    valid where flux and variance are (see :mod:`musedask.cube`).

    Pixels that the exposure's own mask and regions leave out, which its row of an exposure
    table names, have no value, as in a stack.

    Memory is that of a few slabs of channels and of the images, whatever the
    depth of the cube.

    Parameters
    ----------
    cube
        An exposure of :func:`musedask.open_exposures`, whose file is read
        directly, or any cube: one that was changed goes through its blocks.
    filters
        As :func:`musedask.alignment.filters.find_filter` takes them.
    exclude
        What is left out: ``lines``, ``oh``, ranges in Angstrom, see
        :mod:`musedask.alignment.sky_lines`. The gap of the adaptive optics'
        laser is left out in any case, where the cube's mode has one.
    mask_sense
        What a value other than 0 means in the exposure's FITS mask, ``good`` or ``bad``.

    Returns
    -------
    images
        One for each filter. ``coverage`` is the part of the filter's whole
        integral that a pixel had, so it is below 1 where a filter reaches
        beyond the cube, or channels were left out. Pixels in which less than
        half of what the cube has of the filter was valid are NaN.

        ``variance`` is propagated as if channels were independent:
        sum(w^2 var) / sum(w)^2. They are not: the resampling correlates
        neighbours (lag 1: 0.15 to 0.28), so that it is too small by a factor
        of 1.3 to 1.6, besides what STAT itself is too small by (1.2 to 1.4);
        the errors of apertures grow further by the correlation of pixels.

    Raises
    ------
    InputError
        If there is no filter, one does not touch the cube, nothing is left of
        it, or no pixel has a value.
    FileError
        If the file has changed or cannot be read.

    Warns
    -----
    MusedaskWarning
        If the cube covers less than 99 % of a filter.
    """
    lazy = collapse_lazily(cube, filters, exclude=exclude, mask_sense=mask_sense)
    (images,) = dask.compute(lazy)
    return cast("tuple[FieldImage, ...]", images)


def collapse_lazily(
    cube: xr.Dataset,
    filters: Sequence[str | os.PathLike[str] | Filter] | str = ("white",),
    *,
    exclude: Iterable[Exclusion] | str = (),
    mask_sense: str = "good",
) -> Delayed:
    """Make images like :func:`collapse`, as a ``dask.delayed`` tuple; computes nothing."""
    check_cube(cube, name_of(cube))
    chosen = [find_filter(one) for one in _listed(filters)]
    if not chosen:
        raise InputError("no filters: give at least one, as 'white'")
    weights, whole = _weights(cube, chosen, exclude)
    source = direct_source(cube)
    if source is not None and source.is_direct:
        parts = _sums_of_file(source, weights)
    else:
        parts = _sums_of_blocks(cube, weights)
    # One after the other, so that few are held, and always in one order.
    total = parts[0]
    for part in parts[1:]:
        total = delayed(np.add)(total, part)
    general = ExposureMask(mask_sense=mask_sense)
    mask = own_mask(cube, general)
    facts = {"names": tuple(one.name for one in chosen), "whole": whole,
             "usable": weights.sum(axis=1), "common": _common(cube),
             "mask": None if mask is general else mask}  # fmt: skip
    return cast(Delayed, delayed(partial(_images, facts))(total))


def _listed(filters: Any) -> list[Any]:
    """One filter or several as a list."""
    return [filters] if isinstance(filters, str | os.PathLike | Filter) else list(filters)


def _weights(
    cube: xr.Dataset, filters: Sequence[Filter], exclude: Iterable[Exclusion] | str
) -> tuple[Floats, Floats]:
    """Weight of each channel, float64 (filter, wavelength), and of each whole filter."""
    name = name_of(cube)
    axis = spectral_of(cube, name)
    waves = np.asarray(cube["wavelength"].values, np.float64)
    step = axis.step_angstrom
    mode = str(cube["mode"].values) if "mode" in cube.coords else ""
    left_out = excluded_channels(exclude, waves, mode)
    weights = np.array([one.weights(waves, step) for one in filters])
    whole = np.empty(len(filters))
    for k, one in enumerate(filters):
        covered = float(weights[k].sum())
        span = f"{waves[0] - step / 2:.1f} to {waves[-1] + step / 2:.1f} Angstrom"
        whole[k] = covered if one.is_white else one.integral / step
        if not covered > 0:
            raise InputError(f"{name}: the filter {one.name} does not touch the cube's {span}")
        if covered < WARN_BELOW * whole[k]:
            warnings.warn(
                f"{name}: {100 * covered / whole[k]:.1f} % of the filter {one.name} lie in the "
                f"cube's {span}; the image is made of these",
                MusedaskWarning,
                stacklevel=4,
            )
        weights[k, left_out] = 0.0
        if not weights[k].any():
            raise InputError(
                f"{name}: every channel of the filter {one.name} is excluded; leave out less"
            )
    return weights, whole


def _common(cube: xr.Dataset) -> dict[str, Any]:
    """What all images of an exposure have in common."""

    def scalar(key: str, default: Any) -> Any:
        return cube[key].values.item() if key in cube.coords else default

    sky = sky_of(cube)
    dec = float(scalar("dec_deg", math.nan))
    return {
        "projection": sky,
        "name": name_of(cube, ""),
        "date_obs": str(scalar("date_obs", "")),
        "units": str(cube["flux"].attrs.get("units", "")),
        "ra_deg": float(scalar("ra_deg", math.nan)),
        "dec_deg": dec,
        "carried_ra_arcsec": on_sky_arcsec(
            float(scalar("carried_ra_deg", 0.0)), dec if math.isfinite(dec) else sky.crval_deg[1]
        ),
        "carried_dec_arcsec": float(scalar("carried_dec_deg", 0.0)) * ARCSEC_PER_DEG,
        "fwhm_arcsec": _fwhm(str(cube.attrs.get("primary_header", ""))),
        "path": str(cube.attrs.get("path", "")),
    }  # fmt: skip


def _fwhm(header: str) -> float:
    """FWHM of the field's sources as muse_scipost measured it, arcsec; NaN if it has not."""
    found = re.search(r"ESO QC SCIPOST FWHM MEDIAN *= *([-+.0-9eE]+)", header)
    value = float(found[1]) if found else math.nan
    return value if value > 0 else math.nan


def _sums_of_file(source: FitsCube, weights: Floats) -> list[Delayed]:
    """A task for each run of channels of a file."""
    used = np.flatnonzero(weights.any(axis=0))
    runs = [run for run in np.array_split(used, RUNS) if run.size]
    # Bound in a partial, since Dask would take a dataclass apart.
    return [delayed(partial(sum_of_file, source, run, weights[:, run]))() for run in runs]


def _sums_of_blocks(cube: xr.Dataset, weights: Floats) -> list[Delayed]:
    """A task for each block of channels of any cube."""
    arrays = [cube[key].data for key in ("flux", "variance")]
    flux, variance = (
        array if isinstance(array, da.Array)
        else da.from_array(array, chunks=(4 * NUMPY_CHANNELS, -1, -1), name=False)
        for array in arrays
    )  # fmt: skip
    flux = flux.rechunk({1: -1, 2: -1})
    variance = variance.rechunk(flux.chunks)
    blocks = zip(flux.to_delayed().ravel(), variance.to_delayed().ravel(), strict=True)
    ends = np.cumsum(flux.chunks[0])
    parts = []
    for (one, other), stop, depth in zip(blocks, ends, flux.chunks[0], strict=True):
        own = weights[:, stop - depth : stop]
        if own.any():
            parts.append(delayed(partial(_sum_of_block, own))(one, other))
    return parts


def sum_of_file(source: FitsCube, channels: Any, weights: Floats) -> Floats:
    """Weighted sums of some channels of a file; reads them slab by slab.

    Parameters
    ----------
    source
        A file whose bytes can be taken as they are.
    channels
        Which, rising.
    weights
        Float64 (filter, channel).

    Returns
    -------
    sums
        Float64 (filter, 3, y, x), see :func:`musedask.alignment.collapsing.add_channels`.
    """
    _, ny, nx = source.flux.shape
    sums = np.zeros((len(weights), 3, ny * nx))
    parts = [p for p in (source.flux, source.variance, source.quality) if p is not None]
    swap = np.dtype(source.flux.dtype).newbyteorder("=") != np.dtype(source.flux.dtype)
    # Once: a new buffer for each part would cost more than reading does.
    room = [np.empty(max(SLAB_VOXELS, GROUP * PART_PIXELS), np.uint32) for _ in parts]
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(part)) for part in parts]
        for start in range(0, ny * nx, PART_PIXELS):
            size = min(PART_PIXELS, ny * nx - start)
            own_sums = np.zeros((len(weights), 3, size))
            depth = max(1, SLAB_VOXELS // size // GROUP) * GROUP
            depth = min(depth, room[0].size // size)
            words = [own[: depth * size].reshape(depth, size) for own in room]
            none = np.empty((0, size), np.uint32)
            for first, n, at in _slabs(np.asarray(channels), depth):
                for part, file, own in zip(parts, files, words, strict=True):
                    _read(part, file, first, start, own[:n])
                flux, variance, quality = (own[:n] for own in [*words, none][:3])
                own_weights = np.ascontiguousarray(weights[:, at : at + n])
                add_channels(flux, variance, quality.view(np.int32), swap, own_weights, own_sums)
            sums[:, :, start : start + size] = own_sums
    return sums.reshape(len(weights), 3, ny, nx)


def _slabs(channels: Any, depth: int) -> Iterator[tuple[int, int, int]]:
    """First channel, number and place in ``channels`` of stretches without a gap."""
    starts = np.flatnonzero(np.diff(channels, prepend=-2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(channels)], strict=True):
        for at in range(int(start), int(stop), depth):
            yield int(channels[at]), min(depth, int(stop) - at), at


@contextmanager
def _opened(source: FitsSource) -> Iterator[BinaryIO]:
    source.check()
    with as_file_error(source.path), open(source.path, "rb", buffering=0) as file:
        yield file


def _read(source: FitsSource, file: BinaryIO, first: int, start: int, out: Words) -> None:
    """Fill ``out`` (channel, pixel) with the bytes of channels, from pixel ``start`` on.

    Read and not mapped: the pages of a map would count as this process's memory.
    """
    _, ny, nx = source.shape
    whole = out.shape[1] == ny * nx
    for channel, words in enumerate([out] if whole else out):
        view = memoryview(words).cast("B")
        offset = source.offset + ((first + channel) * ny * nx + start) * out.itemsize
        done = 0
        while done < len(view):
            with as_file_error(source.path):
                n = os.preadv(file.fileno(), [view[done:]], offset + done)
            if not n:
                raise FileError(f"{source.path}: is cut off; copy or download it again")
            done += n


def _sum_of_block(weights: Floats, flux: Any, variance: Any) -> Floats:
    """Weighted sums of a block in memory, float64 (filter, 3, y, x)."""
    depth, ny, nx = flux.shape
    words = [
        np.ascontiguousarray(array, np.float32).reshape(depth, ny * nx).view(np.uint32)
        for array in (flux, variance)
    ]
    sums = np.zeros((len(weights), 3, ny * nx))
    none = np.empty((0, ny * nx), np.int32)
    for start in range(0, depth, NUMPY_CHANNELS):
        part = slice(start, start + NUMPY_CHANNELS)
        own = np.ascontiguousarray(weights[:, part])
        add_channels(words[0][part], words[1][part], none, False, own, sums)
    return sums.reshape(len(weights), 3, ny, nx)


def _images(facts: dict[str, Any], sums: Floats) -> tuple[FieldImage, ...]:
    """Divide the sums, apart from pixels that are masked."""
    images = []
    if facts["mask"] is not None:
        shape: tuple[int, int] = sums.shape[-2:]
        masked = spatial_mask(facts["mask"], facts["common"]["projection"], shape)
        sums = np.where(masked, 0.0, sums)
    for k, name in enumerate(facts["names"]):
        weight = sums[k, WEIGHT]
        good = weight >= HALF * facts["usable"][k]
        divisor = np.where(good, weight, np.nan)
        images.append(
            FieldImage(
                flux=(sums[k, FLUX] / divisor).astype(np.float32),
                variance=(sums[k, VARIANCE] / divisor**2).astype(np.float32),
                coverage=(weight / facts["whole"][k]).astype(np.float32),
                band=name,
                **facts["common"],
            )
        )
    return tuple(images)
