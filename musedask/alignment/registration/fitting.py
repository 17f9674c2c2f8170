"""Each source's own displacement, with its error.

In the pixels around a source the exposure is modelled by the reference, whose
amplitude, level and place (to first order, by its slopes) are free::

    image = a M(x - d) - a M_x e_x - a M_y e_y + b + noise

The errors count the correlation of the noise: for weights W, a design A and a
noise covariance C they are those of (A' W A)^-1 A' W C W A (A' W A)^-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, signal

from musedask.alignment.registration.kernels import nearest_place
from musedask.alignment.registration.lattices import Matched

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_CORE_FWHM = 1.25
"""A source has its pixels within so many FWHM, and farther out ..."""
_FAR_FWHM = 4.0
_FAINT_SIGMA = 0.7
"""... those where the reference promises so many sigma."""
_FEWEST_PIXELS = 9
_MOST_SOURCES = 400
SIGMA_PER_FWHM = 1.0 / 2.3548200450309493


@dataclass(frozen=True, eq=False)
class Sources:
    """Where sources are, and which pixels belong to them."""

    x: Floats
    """0-based columns of their peaks, float64 (source,)."""
    y: Floats
    """0-based rows."""
    pixels: Integers
    """Flat indices of the pixels that belong to any, int64 (pixel,)."""
    labels: Integers
    """Which source each of them belongs to, int64 (pixel,)."""

    def __len__(self) -> int:
        return int(self.x.size)


@dataclass(frozen=True, eq=False)
class SourceFits:
    """What was fitted to each source; arrays of length (source,) unless said otherwise."""

    amplitude: Floats
    """Flux of the exposure over that of the reference."""
    amplitude_error: Floats
    """Its one-sigma error."""
    shift: Floats
    """How far the source stands from where the model has it, float64 (source, 2): x, y, pixels."""
    covariance: Floats
    """Of ``shift``, float64 (source, 2, 2)."""
    broadening: Floats
    """By how much the exposure's point spread exceeds the model's: sigma squared, pixels^2."""
    broadening_error: Floats
    """Its one-sigma error."""
    chi2: Floats
    """Chi squared a degree of freedom."""
    good: Bools
    """Whether the fit has a meaning: enough pixels, and light of the right sign."""

    @property
    def strength(self) -> Floats:
        """Signal to noise of the light, however badly the model describes it."""
        return self.signal_to_noise * np.sqrt(np.maximum(self.chi2, 1.0))

    @property
    def signal_to_noise(self) -> Floats:
        """Amplitude over its error, 0 where there is no fit."""
        return np.where(self.good, self.amplitude / np.where(self.good, self.amplitude_error, 1), 0)


def find_sources(
    model: Floats, sigma: Floats, usable: Bools, fwhm: float, threshold: float
) -> Sources:
    """Find the sources that an exposure should show.

    Peaks of the model whose matched-filter signal to noise is above a threshold;
    pixels go to the nearest peak.

    Parameters
    ----------
    model
        Float64 (y, x), the reference on the exposure's lattice and in its units; NaN
        where it has no value.
    sigma
        Float64 (y, x), noise of the exposure.
    usable
        Bool (y, x).
    fwhm
        Of a point source, pixels.
    threshold
        Signal to noise that a source has to promise.
    """
    promised = np.where(usable & np.isfinite(model), model, 0.0) / sigma
    width = max(3, 2 * round(0.6 * fwhm) + 1)
    # What a matched filter gains over the peak pixel of a Gaussian.
    gain = np.sqrt(np.pi) * SIGMA_PER_FWHM * fwhm
    is_peak = (promised == ndimage.maximum_filter(promised, size=width, mode="constant")) & usable
    is_peak &= promised * gain > threshold
    y, x = np.nonzero(is_peak)
    order = np.argsort(-promised[y, x], kind="stable")[:_MOST_SOURCES]
    y, x = y[order], x[order]
    if y.size == 0:
        empty = np.zeros(0, np.int64)
        return Sources(np.zeros(0), np.zeros(0), empty, empty)
    distance2, nearest = np.full(model.shape, np.inf), np.zeros(model.shape, np.int64)
    nearest_place(x, y, _FAR_FWHM * fwhm, distance2, nearest)
    near = (distance2 <= (_CORE_FWHM * fwhm) ** 2) | (
        np.isfinite(distance2) & (promised > _FAINT_SIGMA)
    )
    pixels = np.flatnonzero(near & usable & np.isfinite(model))
    return Sources(x.astype(float), y.astype(float), pixels, nearest.ravel()[pixels])


def fit_sources(
    image: Floats,
    sigma: Floats,
    correlation: Floats | None,
    sources: Sources,
    model: Matched,
    shifts: Floats,
    *,
    broadened: bool = False,
) -> SourceFits:
    """Fit amplitude, place and level of each source.

    Parameters
    ----------
    image, sigma
        Float64 (y, x).
    correlation
        Of the noise at lags, float64 (2 k + 1, 2 k + 1), 1 in the middle; None for
        noise without any, which is much faster.
    sources
        Which pixels to fit.
    model
        The reference.
    shifts
        Where each source is taken to stand, float64 (source, 2), x and y in pixels;
        the fitted shift is relative to it.
    broadened
        Whether the width of the point spread is fitted as well, to first order: a
        Gaussian of variance s more changes a picture by s / 2 of its Laplacian.
    """
    n = len(sources)
    labels = sources.labels
    y, x = (part.astype(float) for part in np.divmod(sources.pixels, image.shape[1]))
    x, y = x - shifts[labels, 0], y - shifts[labels, 1]
    value, by_x, by_y, curve = model.with_slopes(x, y)
    columns = [value, by_x, by_y, np.ones_like(value)]
    design = np.stack([*columns, curve] if broadened else columns)
    data = image.ravel()[sources.pixels]
    weight = 1.0 / sigma.ravel()[sources.pixels] ** 2
    known = np.isfinite(design).all(axis=0) & np.isfinite(data) & np.isfinite(weight)
    design = np.where(known, design, 0.0)
    weight = np.where(known, weight, 0.0)
    data = np.where(known, data, 0.0)
    # Columns of like size keep the small systems well conditioned.
    scale = np.sqrt(np.maximum(_sums(design**2 * weight, labels, n), 1e-300))
    design = design / scale[:, labels]
    normal = _products(design, design * weight, labels, n)
    right_side = _sums(design * (weight * data), labels, n).T
    pixels = np.bincount(labels, known, n)
    inverse, solvable = _inverses(normal)
    solvable &= pixels >= _FEWEST_PIXELS + design.shape[0]
    solution = np.einsum("sij,sj->si", inverse, right_side)
    residual = np.where(known, data - np.einsum("ip,pi->p", design, solution[labels]), 0.0)
    freedom = np.maximum(pixels - design.shape[0], 1.0)
    chi2 = np.bincount(labels, residual**2 * weight, n) / freedom
    covariance, pairs = inverse, 1.0
    if correlation is not None:
        spread = _with_correlation(design, weight, sources, image.shape, sigma, correlation, n)
        seen = np.einsum("sij,sjk,skl->sil", inverse, spread, inverse)
        covariance, pairs = _no_better_than(seen, inverse), float((correlation**2).sum())
    # What the model cannot describe counts as noise, beyond what chance does to chi squared.
    excess = np.maximum(1.0, chi2 - np.sqrt(2.0 * pairs / freedom))
    covariance = covariance * excess[:, None, None]
    solution = solution / scale.T
    covariance = covariance / (scale.T[:, :, None] * scale.T[:, None, :])
    return _fits(solution, covariance, chi2, solvable)


def _fits(solution: Floats, covariance: Floats, chi2: Floats, solvable: Bools) -> SourceFits:
    """Turn linear parameters (a, -a e_x, -a e_y, b, a s / 2) into amplitude, shift, broadening."""
    amplitude = solution[:, 0]
    error = np.sqrt(np.maximum(covariance[:, 0, 0], 0.0))
    there = amplitude > 2.0 * error / np.sqrt(np.maximum(chi2, 1.0))
    good = solvable & there & (error > 0) & np.isfinite(amplitude)
    safe = np.where(good, amplitude, 1.0)
    shift = np.where(good[:, None], -solution[:, 1:3] / safe[:, None], 0.0)
    # d(shift) = -(d(p) + shift d(a)) / a: the covariance with the amplitude matters
    # where the shift is not small.
    n = amplitude.size
    jacobian = np.zeros((n, 2, 3))
    jacobian[:, 0, 0], jacobian[:, 1, 0] = -shift[:, 0] / safe, -shift[:, 1] / safe
    jacobian[:, 0, 1] = jacobian[:, 1, 2] = -1.0 / safe
    inner = covariance[:, :3, :3]
    of_shift = np.einsum("sij,sjk,slk->sil", jacobian, inner, jacobian)
    of_shift = np.where(good[:, None, None], of_shift, np.eye(2))
    broadening, broadening_error = np.zeros(n), np.full(n, np.inf)
    if solution.shape[1] > 4:
        broadening = np.where(good, 2.0 * solution[:, 4] / safe, 0.0)
        width = 2.0 * np.sqrt(np.maximum(covariance[:, 4, 4], 0.0)) / safe
        broadening_error = np.where(good, width, np.inf)
    return SourceFits(amplitude, error, shift, of_shift, broadening, broadening_error, chi2, good)


def _sums(columns: Floats, labels: Integers, n: int) -> Floats:
    """Sum each row of (row, pixel) by label: (row, source)."""
    return np.stack([np.bincount(labels, row, n) for row in columns])


def _products(one: Floats, other: Floats, labels: Integers, n: int) -> Floats:
    """Sums of products of columns by label, float64 (source, column, column), symmetric."""
    size = one.shape[0]
    result = np.empty((n, size, size))
    for i in range(size):
        for j in range(i, size):
            result[:, i, j] = result[:, j, i] = np.bincount(labels, one[i] * other[j], n)
    return result


def _inverses(normal: Floats) -> tuple[Floats, Bools]:
    """Invert each matrix, and tell which could be."""
    size = normal.shape[1]
    finite = np.asarray(np.isfinite(normal).all(axis=(1, 2)))
    regular = finite & (np.linalg.cond(np.where(finite[:, None, None], normal, np.eye(size))) < 1e8)
    return np.linalg.inv(np.where(regular[:, None, None], normal, np.eye(size))), regular


def _no_better_than(covariance: Floats, white: Floats) -> Floats:
    """Keep covariances above those of uncorrelated noise, whatever a measured correlation says.

    A correlation that was measured, and cut off, is not always one that can be.
    """
    size = np.sqrt(np.maximum(np.einsum("sii->si", white), 1e-300))
    scaled = covariance / (size[:, :, None] * size[:, None, :])
    base = white / (size[:, :, None] * size[:, None, :])
    excess, basis = np.linalg.eigh(scaled - base)
    kept = np.einsum("sij,sj,slj->sil", basis, np.maximum(excess, 0.0), basis)
    return np.asarray((base + kept) * (size[:, :, None] * size[:, None, :]))


def _with_correlation(
    design: Floats,
    weight: Floats,
    sources: Sources,
    shape: tuple[int, ...],
    sigma: Floats,
    correlation: Floats,
    n: int,
) -> Floats:
    """A' W C W A for each source, float64 (source, column, column)."""
    size = design.shape[0]
    whole = np.zeros((size, *shape))
    # W = 1 / sigma^2 and C = sigma rho sigma, so that W C W = (1 / sigma) rho (1 / sigma).
    inner = design * weight * sigma.ravel()[sources.pixels]
    inner = np.where(np.isfinite(inner), inner, 0.0)
    whole.reshape(size, -1)[:, sources.pixels] = inner
    spread = np.empty((n, size, size))
    for j in range(size):
        # Correlation falls off within few pixels: where it is none, this is the identity.
        seen = signal.oaconvolve(whole[j], correlation, mode="same").ravel()[sources.pixels]
        for i in range(j + 1):
            spread[:, i, j] = spread[:, j, i] = np.bincount(sources.labels, inner[i] * seen, n)
    return spread
