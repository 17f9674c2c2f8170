"""What a stack has to be, in plain float64 numpy, on a window of a few channels.

Nothing of musedask is used: astropy reads the files and their WCS, and everything else is
written out here, the slow and obvious way.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from benchmarks.jobs import Array, Comparison, compare_values, worst_of

HALF = 0.5 - 1e-5
"""musedask keeps a voxel of which this much of the weight was valid."""
EVERYWHERE, WHERE_WHOLE = "everywhere", "where whole"
"""Compare by musedask's rule beside holes; or only where every pixel that any exposure's value is
made of is valid: there all tools have to agree, whatever they do beside holes."""
_SIDE = 16
"""Pixels of the window's sides: enough for thousands of values, little enough for polygons."""
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Window:
    """A rectangle of a channel of the output."""

    channel: int
    """Which, from 0."""
    y: int
    """First row."""
    x: int
    """First column."""
    ny: int
    """Rows."""
    nx: int
    """Columns."""

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y, self.y + self.ny), slice(self.x, self.x + self.nx)


def windows(n_channels: int, shape: tuple[int, int], side: int = _SIDE) -> tuple[Window, ...]:
    """Windows in the first, a middle and the last channel, around and beside the centre."""
    ny, nx = min(side, shape[0]), min(side, shape[1])
    places = ((0, 0.5, 0.5), (n_channels // 2, 0.35, 0.6), (n_channels - 1, 0.6, 0.4))
    return tuple(
        Window(channel, int(fy * (shape[0] - ny)), int(fx * (shape[1] - nx)), ny, nx)
        for channel, fy, fx in dict.fromkeys(places)
    )


@dataclass(frozen=True)
class Resampled:
    """One window of all exposures, float64 (exposure, y, x); NaN is missing."""

    flux: Array
    variance: Array
    share: Array
    """Of the weight that was valid."""
    whole: Array
    """Whether all pixels were valid, also those of weight 0; bool."""

    def kept(self) -> Array:
        """Flux of the values of which enough was valid for musedask."""
        return np.where(self.share < HALF, np.nan, self.flux)

    def wanted(self, combined: Array, where: str) -> Array:
        """A combination of the exposures, NaN where it is not compared."""
        if where == EVERYWHERE:
            return combined
        return np.where(self.whole.all(axis=0), combined, np.nan)


def celestial(header: fits.Header) -> WCS:
    """The WCS of the sky."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(header).celestial


def resampled(files: Sequence[Path], target: WCS, window: Window, kernel: str) -> Resampled:
    """Resample a window of each exposure by ``bilinear``, ``lanczos3`` or ``exact``."""
    found = []
    for path in files:
        with fits.open(path, memmap=True) as hdus:
            flux = np.array(hdus["DATA"].data[window.channel], float)
            variance = np.array(hdus["STAT"].data[window.channel], float)
            source = celestial(hdus["DATA"].header)
        found.append(_resample(flux, variance, source, target, window, kernel))
    return Resampled(*(np.array(values) for values in zip(*found, strict=True)))


def _resample(
    flux: Array, variance: Array, source: WCS, target: WCS, window: Window, kernel: str
) -> tuple[Array, Array, Array, Array]:
    valid = np.isfinite(flux) & np.isfinite(variance)
    flux, variance = np.where(valid, flux, 0.0), np.where(valid, variance, 0.0)
    total, spread, share = (np.zeros((window.ny, window.nx)) for _ in range(3))
    whole = np.ones(share.shape, bool)
    for rows, columns, weight in _taps(flux.shape, source, target, window, kernel):
        inside = (rows >= 0) & (rows < flux.shape[0]) & (columns >= 0) & (columns < flux.shape[1])
        off = (rows < 0) & (weight == 0)
        rows, columns = np.where(inside, rows, 0), np.where(inside, columns, 0)
        whole &= (inside & valid[rows, columns]) | off
        weight = np.where(inside & valid[rows, columns], weight, 0.0)
        total += weight * flux[rows, columns]
        spread += weight**2 * variance[rows, columns]
        share += weight
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / share, spread / share**2, share, whole


def _taps(
    shape: tuple[int, ...], source: WCS, target: WCS, window: Window, kernel: str
) -> list[tuple[Array, Array, Array]]:
    """Rows, columns and weights of the pixels that each pixel of the window is made of."""
    y, x = np.mgrid[window.slices].astype(float)
    if kernel == "exact":
        return _overlaps(source, target, window)
    frame_x, frame_y = source.world_to_pixel_values(*target.pixel_to_world_values(x, y))
    low_x, low_y = np.floor(frame_x).astype(int), np.floor(frame_y).astype(int)
    steps = range(2) if kernel == "bilinear" else range(-2, 4)
    weights_x = _along(frame_x - low_x, steps, kernel)
    weights_y = _along(frame_y - low_y, steps, kernel)
    return [(low_y + j, low_x + i, weights_y[j] * weights_x[i]) for j in steps for i in steps]


def _along(phase: Array, steps: range, kernel: str) -> dict[int, Array]:
    if kernel == "bilinear":
        return {0: 1.0 - phase, 1: phase}
    if kernel != "lanczos3":
        raise ValueError(f"kernel {kernel!r}: bilinear, lanczos3 or exact")
    weights = {i: np.sinc(phase - i) * np.sinc((phase - i) / 3.0) for i in steps}
    total = sum(weights.values())
    return {i: weight / total for i, weight in weights.items()}


def _overlaps(source: WCS, target: WCS, window: Window) -> list[tuple[Array, Array, Array]]:
    """Taps of the area-weighted resampling: the n-th pixel under each pixel of the window."""
    y, x = np.mgrid[window.y : window.y + window.ny + 1, window.x : window.x + window.nx + 1] - 0.5
    frame_x, frame_y = source.world_to_pixel_values(*target.pixel_to_world_values(x, y))
    corners = frame_x + 1j * frame_y
    taps: list[tuple[Array, Array, Array]] = []
    for j, i in np.ndindex(window.ny, window.nx):
        polygon = [corners[j, i], corners[j, i + 1], corners[j + 1, i + 1], corners[j + 1, i]]
        for n, (row, column, weight) in enumerate(_pieces([complex(c) for c in polygon])):
            if n == len(taps):
                taps.append(_no_taps(window))
            rows, columns, weights = taps[n]
            rows[j, i], columns[j, i], weights[j, i] = row, column, weight
    return taps


def _no_taps(window: Window) -> tuple[Array, Array, Array]:
    shape = (window.ny, window.nx)
    return np.full(shape, -1), np.full(shape, -1), np.zeros(shape)


def _pieces(polygon: list[complex]) -> list[tuple[int, int, float]]:
    """(row, column, share) of the pixels under a convex polygon, by area."""
    whole = _area(polygon)
    xs, ys = [c.real for c in polygon], [c.imag for c in polygon]
    found = []
    for row in range(int(np.floor(min(ys) + 0.5)), int(np.floor(max(ys) + 0.5)) + 1):
        strip = _cut(_cut(polygon, 1j, row - 0.5), -1j, -(row + 0.5))
        for column in range(int(np.floor(min(xs) + 0.5)), int(np.floor(max(xs) + 0.5)) + 1):
            cell = _cut(_cut(strip, 1.0, column - 0.5), -1.0, -(column + 0.5))
            if len(cell) > 2:
                found.append((row, column, _area(cell) / whole))
    return found


def _cut(polygon: list[complex], normal: complex, limit: float) -> list[complex]:
    """The part of a convex polygon on which normal . point > limit."""
    out = []
    for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        p = (a * normal.conjugate()).real - limit
        q = (b * normal.conjugate()).real - limit
        if p >= 0:
            out.append(a)
        if p * q < 0:
            out.append(a + (b - a) * p / (p - q))
    return out


def _area(polygon: list[complex]) -> float:
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum((a.conjugate() * b).imag for a, b in pairs)) / 2


def median(values: Array) -> Array:
    """Median over the exposures, NaN where all are missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle: Array = np.nanmedian(values, axis=0)
    return middle


def mad_clipped_mean(values: Array, nmax: int = 2, nclip: float = 5.0, nstop: int = 2) -> Array:
    """Mean after rejecting around the median by MAD, as mpdaf documents its combine(mad=True)."""
    values = values.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(nmax):
            centre = np.nanmedian(values, axis=0)
            sigma = _MAD_TO_SIGMA * np.nanmedian(np.abs(values - centre), axis=0)
            keep = np.abs(values - centre) < nclip * sigma
            enough = keep.sum(axis=0) >= nstop
            values[~keep & enough] = np.nan
        mean: Array = np.nanmean(values, axis=0)
    return mean


def compare_median(
    images: Sequence[tuple[Window, Array]], files: Sequence[Path], target: WCS,
    kernel: str = "bilinear", *, where: str = WHERE_WHOLE, rtol: float = 2e-4, atol: float = 2e-3,
) -> Comparison:  # fmt: skip
    """Compare windows of a median stack with the reference.

    Parameters
    ----------
    images
        Where, and what was found there, (y, x).
    files, target
        The exposures and the WCS that they were stacked onto.
    kernel
        How they were resampled.
    where
        :data:`WHERE_WHOLE` or :data:`EVERYWHERE`.
    rtol, atol
        What is allowed; noise is of the order of 10.
    """
    results = []
    for window, found in images:
        values = resampled(files, target, window, kernel)
        wanted = values.wanted(median(values.kept()), where)
        results.append(
            compare_values(found, wanted, rtol=rtol, atol=atol, against=f"{kernel} median, float64")
        )
    return worst_of(*results)


def frames(files: Sequence[Path], channel: int) -> Array:
    """One channel of all exposures as they stand in the files, float64 (exposure, y, x)."""
    found: list[Any] = []
    for path in files:
        with fits.open(path, memmap=True) as hdus:
            found.append(np.array(hdus["DATA"].data[channel], float))
    return np.array(found)
