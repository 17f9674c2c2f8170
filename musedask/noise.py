"""How a cube's noise compares with its variance: what resampling and correlation hide.

A variance is that of each voxel alone. Interpolation correlates neighbours and
lowers what it is propagated from, so that errors of sums over apertures come
out too small; how much is measured here, on the cube itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import dask
import numpy as np
import xarray as xr

from musedask.cube import DIMS, check_cube, sky_of
from musedask.errors import InputError

Floats = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Region = tuple[slice, slice, slice]
"""Along wavelength, y, x."""
Pair = tuple[Floats, Floats]
"""Flux and variance."""

APERTURE_ARCSEC = 1.0
RUN_CHANNELS = 16
MAX_RUNS = 4
MAX_WINDOWS = 2
WINDOW_PIX = 64
"""Half a million voxels in all: see :func:`measure_noise` for how well they do."""
PATCH_PIX = 16
"""Side of the patches whose mean is taken out of each channel: gradients of the sky."""
CLIP_SIGMA = 4.0
FEWER = 4
"""What is only clipped by is taken from one spaxel in so many."""
FEWEST_VOXELS = 2000
_MAD_TO_SIGMA = 1.4826
_READERS = 2


@dataclass(frozen=True)
class NoiseReport:
    """Measured noise against the variance of a cube."""

    noise_ratio: float
    """Robust rms of the noise over the square root of the variance."""
    noise_correlation_x: float
    """Correlation of neighbours along x."""
    noise_correlation_y: float
    """The same along y."""
    noise_correlation_wavelength: float
    """The same along wavelength."""
    noise_aperture_arcsec: float
    """Side of the square aperture of the next number."""
    noise_aperture_ratio: float
    """Robust rms of sums over that aperture over what the variance says of them."""


def noise_attrs(cube: xr.Dataset, read: Callable[[Region], Pair] | None = None) -> dict[str, float]:
    """Give the report as attributes of a cube; empty where there is too little to measure."""
    try:
        return {key: round(value, 4) for key, value in asdict(measure_noise(cube, read)).items()}
    except InputError:
        return {}


def measure_noise(cube: xr.Dataset, read: Callable[[Region], Pair] | None = None) -> NoiseReport:
    """Measure the noise of a cube on a few runs of its channels; computes those.

    Each spaxel's mean over a run of channels is taken out, which removes
    whatever has a continuum, then the mean of patches of each channel. What
    that takes of the noise, and of its correlation along wavelength, is put
    back by the expectation for a first-order correlation.

    On the half million voxels of a large cube the standard error of the ratio
    is 0.2 per cent, that of the correlations 0.002 and that of the aperture's
    ratio 1 per cent.

    Parameters
    ----------
    cube
        What is measured.
    read
        Gives flux and variance of a region, for who has them in another form
        than as the cube's own arrays.

    Raises
    ------
    InputError
        If the cube is none, or has too few valid voxels.
    """
    check_cube(cube)
    side = max(1, round(APERTURE_ARCSEC / float(np.sqrt(sky_of(cube).pixel_area_arcsec2))))
    sums = _Sums(side)
    regions = _regions((cube.sizes["wavelength"], cube.sizes["y"], cube.sizes["x"]))
    with ThreadPoolExecutor(_READERS, thread_name_prefix="noise") as pool:
        # In the order of the regions; those that follow are read meanwhile.
        for flux, variance in pool.map(read or partial(_computed, cube), regions):
            with np.errstate(invalid="ignore", divide="ignore"):
                sums.add((flux / np.sqrt(variance)).astype(np.float32, copy=False))
    if sums.n_voxels < FEWEST_VOXELS:
        raise InputError(
            f"only {sums.n_voxels} voxels to measure the noise on, {FEWEST_VOXELS} are needed"
        )
    return sums.report()


def _regions(shape: tuple[int, int, int]) -> Iterator[Region]:
    """Some runs of channels in some windows."""
    for z in _spread(shape[0], RUN_CHANNELS, MAX_RUNS):
        for y in _spread(shape[1], WINDOW_PIX, 2):
            for x in _spread(shape[2], WINDOW_PIX, MAX_WINDOWS // 2):
                yield z, y, x


def _computed(cube: xr.Dataset, region: Region) -> Pair:
    """Flux and variance of a region, float32 (wavelength, y, x)."""
    part = cube[["flux", "variance"]].isel(dict(zip(DIMS, region, strict=True)))
    (loaded,) = dask.compute(part)
    return loaded["flux"].values, loaded["variance"].values


def _spread(size: int, length: int, most: int) -> list[slice]:
    """Up to ``most`` runs of ``length``, evenly over ``size``; the whole if it is no longer."""
    if size <= length:
        return [slice(0, size)]
    n = min(most, size // length)
    starts = np.linspace(0, size - length, n + 2)[1:-1] if n < size // length else (
        np.linspace(0, size - length, n)
    )  # fmt: skip
    return [slice(int(start), int(start) + length) for start in starts]


class _Sums:
    """Values of all samples that the report is made of."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._values: list[Floats] = []
        self._boxes: list[Floats] = []
        self._products: dict[int, list[tuple[float, float]]] = {0: [], 1: [], 2: []}
        self._depths: list[int] = []

    @property
    def n_voxels(self) -> int:
        return sum(values.size for values in self._values)

    def add(self, pull: Floats) -> None:
        """Add a sample of flux / sigma, shape (wavelength, y, x)."""
        whole: Bools = np.asarray(np.isfinite(pull).all(axis=0))
        if len(pull) < 4 or whole.sum() < PATCH_PIX:
            return
        noise = np.where(whole, pull, np.float32(0))
        noise -= noise.mean(axis=0)
        whole = _flatten(noise, whole)
        values = noise[:, whole]
        sigma = _spread_of(values[:, ::FEWER]) if values.size else 0.0
        if not sigma > 0:
            return
        self._values.append(values.ravel())
        self._depths.append(len(pull))
        used = (np.abs(noise) < CLIP_SIGMA * sigma) & whole
        clipped = np.where(used, noise, np.float32(0))
        for axis in range(3):
            products = _products(np.moveaxis(clipped, axis, 0), np.moveaxis(used, axis, 0))
            self._products[axis].append(products)
        self._boxes.append(_box_sums(clipped, used, self._side))

    def report(self) -> NoiseReport:
        """Put the samples together."""
        ratio_z, ratio_y, ratio_x = (self._ratio(axis) for axis in range(3))
        along, kept = _undone(ratio_z, max(set(self._depths), key=self._depths.count))
        sigma = _spread_of(np.concatenate(self._values))
        boxes = np.concatenate(self._boxes)
        spread = _spread_of(boxes) if boxes.size else float("nan")
        # A patch's mean takes this share of the variance of a sum over side x side with it.
        left = np.sqrt(1.0 - min((self._side / PATCH_PIX) ** 2, 0.9))
        aperture = spread / self._side / kept / left
        return NoiseReport(sigma / kept, ratio_x, ratio_y, along, APERTURE_ARCSEC, float(aperture))

    def _ratio(self, axis: int) -> float:
        common, power = np.sum(self._products[axis], axis=0)
        return float(common / power) if power else 0.0


def _spread_of(values: Floats) -> float:
    """Robust standard deviation of values around 0."""
    return _MAD_TO_SIGMA * float(np.median(np.abs(values)))


def _flatten(noise: Floats, whole: Bools) -> Bools:
    """Take the median of each channel and then the clipped mean of each patch out, in place.

    Gives the spaxels of ``whole`` whose patch has enough of them for a mean. The medians
    serve to clip alone, for which a part of the spaxels is enough.
    """
    few = noise[:, whole][:, ::FEWER]
    level = np.median(few, axis=1)
    noise -= level[:, None, None]
    limit = 2 * CLIP_SIGMA * _spread_of(few - level[:, None])
    inside = (np.abs(noise) < limit) & whole
    n_inside = _patch_sums(inside.astype(np.float32))
    levels = _patch_sums(np.where(inside, noise, np.float32(0))) / np.maximum(n_inside, 1)
    noise -= _spread_out(levels, noise.shape)
    enough = _patch_sums(whole[None].astype(np.float32)) > PATCH_PIX
    kept: Bools = whole & _spread_out(enough, noise.shape)[0]
    return kept


def _patch_sums(values: Any) -> Any:
    """Sums over the patches of each channel; those at the upper edges may be smaller."""
    for axis in (1, 2):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], PATCH_PIX), axis=axis)
    return values


def _spread_out(patches: Any, shape: tuple[int, ...]) -> Any:
    """Give each voxel the value of its patch."""
    wide = np.repeat(np.repeat(patches, PATCH_PIX, axis=1), PATCH_PIX, axis=2)
    return wide[:, : shape[1], : shape[2]]


def _products(clipped: Floats, used: Bools) -> tuple[float, float]:
    """Over neighbours along the first axis, both used: sums of a b and of (a^2 + b^2) / 2."""
    power = clipped * clipped
    return (
        float((clipped[:-1] * clipped[1:]).sum()),
        0.5 * float((power[:-1] * used[1:]).sum() + (power[1:] * used[:-1]).sum()),
    )


def _box_sums(clipped: Floats, used: Bools, side: int) -> Floats:
    """Sums over the squares of ``side`` pixels that are complete."""
    nz, ny, nx = clipped.shape
    rows, columns = ny // side, nx // side
    squares = nz, rows, side, columns, side
    cut = slice(None), slice(rows * side), slice(columns * side)
    whole = used[cut].reshape(squares).all(axis=(2, 4))
    found: Floats = clipped[cut].reshape(squares).sum(axis=(2, 4))[whole]
    return found


def _undone(ratio: float, depth: int) -> tuple[float, float]:
    """Correlation along wavelength, and the share of sigma that the mean's removal has left.

    With P = 1 - 1/n taking out the mean and a covariance 1 + rho T of lag one,
    the expected mean diagonals of P (1 + rho T) P are linear in rho.
    """
    project = np.eye(depth) - 1.0 / depth
    lag = np.eye(depth, k=1) + np.eye(depth, k=-1)
    flat, tilted = project @ project, project @ lag @ project
    a0, b0 = np.diag(flat).mean(), np.diag(tilted).mean()
    a1, b1 = np.diag(flat, 1).mean(), np.diag(tilted, 1).mean()
    rho = (a1 - ratio * a0) / (ratio * b0 - b1)
    return float(rho), float(np.sqrt(max(a0 + rho * b0, 1e-6)))
