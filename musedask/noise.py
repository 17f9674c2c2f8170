"""How a cube's noise compares with its variance: what resampling and correlation hide.

A variance is that of each voxel alone. Interpolation correlates neighbours and
lowers what it is propagated from, so that errors of sums over apertures come
out too small; how much is measured here, on the cube itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import dask
import numpy as np
import xarray as xr

from musedask.cube import check_cube, sky_of
from musedask.errors import InputError

Floats = np.ndarray[Any, np.dtype[np.float64]]

APERTURE_ARCSEC = 1.0
RUN_CHANNELS = 16
MAX_RUNS = 4
MAX_WINDOWS = 2
WINDOW_PIX = 96
"""A million voxels in all: enough for half a per cent, in a quarter of a second."""
PATCH_PIX = 16
"""Side of the patches whose mean is taken out of each channel: gradients of the sky."""
CLIP_SIGMA = 4.0
FEWEST_VOXELS = 2000
_MAD_TO_SIGMA = 1.4826


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


def noise_attrs(cube: xr.Dataset) -> dict[str, float]:
    """Give the report as attributes of a cube; empty where there is too little to measure."""
    try:
        return {key: round(value, 4) for key, value in asdict(measure_noise(cube)).items()}
    except InputError:
        return {}


def measure_noise(cube: xr.Dataset) -> NoiseReport:
    """Measure the noise of a cube on a few runs of its channels; computes those.

    Each spaxel's mean over a run of channels is taken out, which removes
    whatever has a continuum, then the mean of patches of each channel. What
    that takes of the noise, and of its correlation along wavelength, is put
    back by the expectation for a first-order correlation.

    Raises
    ------
    InputError
        If the cube is none, or has too few valid voxels.
    """
    check_cube(cube)
    side = max(1, round(APERTURE_ARCSEC / float(np.sqrt(sky_of(cube).pixel_area_arcsec2))))
    sums = _Sums(side)
    for flux, variance in _samples(cube):
        with np.errstate(invalid="ignore", divide="ignore"):
            sums.add(flux / np.sqrt(variance))
    if sums.n_voxels < FEWEST_VOXELS:
        raise InputError(
            f"only {sums.n_voxels} voxels to measure the noise on, {FEWEST_VOXELS} are needed"
        )
    return sums.report()


def _samples(cube: xr.Dataset) -> Iterator[tuple[Floats, Floats]]:
    """Flux and variance of some runs of channels in some windows, float64."""
    for z in _spread(cube.sizes["wavelength"], RUN_CHANNELS, MAX_RUNS):
        for y in _spread(cube.sizes["y"], WINDOW_PIX, 2):
            for x in _spread(cube.sizes["x"], WINDOW_PIX, MAX_WINDOWS // 2):
                part = cube[["flux", "variance"]].isel(wavelength=z, y=y, x=x)
                (loaded,) = dask.compute(part)
                yield (
                    loaded["flux"].values.astype(np.float64),
                    loaded["variance"].values.astype(np.float64),
                )


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
        depth = len(pull)
        whole = np.isfinite(pull).all(axis=0)
        if depth < 4 or whole.sum() < PATCH_PIX:
            return
        noise = np.where(whole, pull, np.nan)
        noise = noise - noise.mean(axis=0)
        _flatten(noise)
        finite = noise[np.isfinite(noise)]
        sigma = _MAD_TO_SIGMA * float(np.median(np.abs(finite)))
        if not sigma > 0:
            return
        self._values.append(finite)
        self._depths.append(depth)
        clipped = np.where(np.abs(noise) < CLIP_SIGMA * sigma, noise, np.nan)
        for axis in range(3):
            a = np.take(clipped, np.arange(clipped.shape[axis] - 1), axis)
            b = np.take(clipped, np.arange(1, clipped.shape[axis]), axis)
            both = np.isfinite(a) & np.isfinite(b)
            if both.any():
                power = 0.5 * (a[both] ** 2 + b[both] ** 2)
                self._products[axis].append((float((a[both] * b[both]).sum()), float(power.sum())))
        self._boxes.append(_box_sums(clipped, self._side))

    def report(self) -> NoiseReport:
        """Put the samples together."""
        ratio_z, ratio_y, ratio_x = (self._ratio(axis) for axis in range(3))
        along, kept = _undone(ratio_z, max(set(self._depths), key=self._depths.count))
        sigma = _MAD_TO_SIGMA * float(np.median(np.abs(np.concatenate(self._values))))
        boxes = np.concatenate(self._boxes)
        spread = _MAD_TO_SIGMA * float(np.median(np.abs(boxes))) if boxes.size else float("nan")
        # A patch's mean takes this share of the variance of a sum over side x side with it.
        left = np.sqrt(1.0 - min((self._side / PATCH_PIX) ** 2, 0.9))
        aperture = spread / self._side / kept / left
        return NoiseReport(sigma / kept, ratio_x, ratio_y, along, APERTURE_ARCSEC, float(aperture))

    def _ratio(self, axis: int) -> float:
        products = np.array(self._products[axis])
        return float(products[:, 0].sum() / products[:, 1].sum()) if products.size else 0.0


def _flatten(noise: Floats) -> None:
    """Take the median of each channel and then the clipped mean of each patch out, in place."""
    _, ny, nx = noise.shape
    noise -= np.nanmedian(noise, axis=(1, 2), keepdims=True)
    limit = 2 * CLIP_SIGMA * _MAD_TO_SIGMA * float(np.nanmedian(np.abs(noise)))
    for y in range(0, ny, PATCH_PIX):
        for x in range(0, nx, PATCH_PIX):
            patch = noise[:, y : y + PATCH_PIX, x : x + PATCH_PIX]
            if np.isfinite(patch[0]).sum() > PATCH_PIX:
                inside = np.where(np.abs(patch) < limit, patch, np.nan)
                filled = np.isfinite(inside).any(axis=(1, 2), keepdims=True)
                inside[~np.broadcast_to(filled, inside.shape)] = 0.0
                patch -= np.nanmean(inside, axis=(1, 2), keepdims=True)
            else:
                patch[:] = np.nan


def _box_sums(noise: Floats, side: int) -> Floats:
    """Sums over the squares of ``side`` pixels that are complete."""
    nz, ny, nx = noise.shape
    rows, columns = ny // side, nx // side
    cut = noise[:, : rows * side, : columns * side]
    boxes = cut.reshape(nz, rows, side, columns, side).sum(axis=(2, 4))
    found: Floats = boxes[np.isfinite(boxes)]
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
