"""The level and the noise of an image between its sources."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage, signal

from musedask.alignment.registration.kernels import cell_levels, clipped_level, gather_cells

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_FEWEST = 0.25
"""A cell of the mesh counts if so many of its pixels are left."""
_OUTLIER_SIGMA = 4.5
_LAGS = 4
"""Pixels over which noise is taken to be correlated."""


def level_and_sigma(values: Floats) -> tuple[float, float]:
    """Median and robust standard deviation of what is left after clipping at 3 sigma.

    Parameters
    ----------
    values
        Float64 of any shape, without NaN.

    Returns
    -------
    tuple
        NaN twice if there is no value.
    """
    level, sigma = clipped_level(np.sort(values, axis=None))
    return float(level), float(sigma)


def smooth_background(image: Floats, usable: Bools, cell: int) -> Floats:
    """The light that varies over many pixels only.

    Clipped medians on a mesh, smoothed by a median over 3 x 3 cells, linear in between.

    Parameters
    ----------
    image
        Float64 (y, x).
    usable
        Bool (y, x): which pixels count; leave sources out where they are known.
    cell
        Side of a cell of the mesh, pixels.

    Returns
    -------
    numpy.ndarray
        Float64 (y, x), without NaN; 0 if no pixel is usable.
    """
    ny, nx = image.shape
    rows, columns = (max(1, round(size / cell)) for size in (ny, nx))
    edges_y = np.linspace(0, ny, rows + 1).astype(int)
    edges_x = np.linspace(0, nx, columns + 1).astype(int)
    largest = int(np.diff(edges_y).max() * np.diff(edges_x).max())
    cells = np.full((rows * columns, largest), np.inf)
    counts = np.zeros(rows * columns, np.int64)
    gather_cells(image, usable, edges_y, edges_x, cells, counts)
    # NumPy sorts with vector instructions, which compiled loops here would not.
    cells.sort(axis=1)
    mesh = np.empty(rows * columns)
    cell_levels(cells, counts, mesh)
    mesh[counts < _FEWEST * np.outer(np.diff(edges_y), np.diff(edges_x)).ravel()] = np.nan
    mesh = mesh.reshape(rows, columns)
    return _interpolated(_smoothed(_filled(mesh, image, usable)), (ny, nx))


def _filled(mesh: Floats, image: Floats, usable: Bools) -> Floats:
    """Give cells without a value that of the nearest one."""
    known = np.isfinite(mesh)
    if not known.any():
        level = level_and_sigma(image[usable])[0] if usable.any() else 0.0
        return np.full(mesh.shape, level)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(mesh[tuple(nearest)])


def _smoothed(mesh: Floats) -> Floats:
    return np.asarray(ndimage.median_filter(mesh, size=3, mode="nearest"))


def _interpolated(mesh: Floats, shape: tuple[int, int]) -> Floats:
    """Linear between the middles of the cells."""
    axes = []
    for size, cells in zip(shape, mesh.shape, strict=True):
        at = (np.arange(size) + 0.5) * cells / size - 0.5
        axes.append(np.clip(at, 0, cells - 1))
    grid = np.meshgrid(*axes, indexing="ij")
    return np.asarray(ndimage.map_coordinates(mesh, grid, order=1, mode="nearest"))


def noise_correlation(residual: Floats, blank: Bools, sigma: Floats) -> Floats:
    """How the noise of neighbouring pixels goes together, measured where there is no source.

    Parameters
    ----------
    residual
        Float64 (y, x), what is left when sources and background are subtracted.
    blank
        Bool (y, x), where it is noise alone.
    sigma
        Float64 (y, x), what the noise is divided by.

    Returns
    -------
    numpy.ndarray
        Float64 of shape (9, 9): correlation at lags of -4 to 4 pixels in y and x,
        1 in the middle, without what is common to all; values beyond the nearest
        neighbours that are below 3 of their own errors are set to 0.
    """
    # An outlier (a cosmic ray, a trail) must not pass for correlation.
    struck = ndimage.binary_dilation(blank & (np.abs(residual) > _OUTLIER_SIGMA * sigma))
    blank = blank & ~struck
    inside = blank.astype(float)
    pairs = np.maximum(_autocorrelation(inside), 1.0)
    unit = np.where(blank, residual / sigma, 0.0)
    unit = np.where(blank, unit - unit.sum() / max(1.0, inside.sum()), 0.0)
    products = _autocorrelation(unit) / pairs
    middle = _LAGS
    if products[middle, middle] <= 0:
        result = np.zeros_like(products)
        result[middle, middle] = 1.0
        return result
    correlation = products / products[middle, middle]
    # Light that varies slowly is alike at all lags. It is no noise to a source, whose own
    # level is fitted.
    yy, xx = np.mgrid[-_LAGS : _LAGS + 1, -_LAGS : _LAGS + 1]
    far = np.maximum(np.abs(yy), np.abs(xx))
    plateau = float(np.clip(np.median(correlation[far == _LAGS]), 0.0, 0.5))
    correlation = (correlation - plateau) / (1.0 - plateau)
    correlation[(far > 1) & (correlation < 3.0 / np.sqrt(pairs))] = 0.0
    return np.asarray(correlation)


def _autocorrelation(image: Floats) -> Floats:
    """Sums of products at lags of -4 to 4 pixels, float64 (9, 9)."""
    full = signal.fftconvolve(image, image[::-1, ::-1], mode="full")
    y, x = image.shape[0] - 1, image.shape[1] - 1
    reach = np.pad(full, _LAGS)
    return np.asarray(reach[y : y + 2 * _LAGS + 1, x : x + 2 * _LAGS + 1])
