"""How much brighter one exposure of a field is than another, whatever the seeing of each.

The fit that gives offsets leaves the seeing of two exposures as it is, and so its amplitude
says as much of the seeing as of the flux. Here the sharper one is brought to the resolution of
the other first. Sums are linear in both images, so that noise hardly biases a ratio, and
neighbours and the wings of galaxies, which are in both, cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, optimize

from musedask.alignment.registration.combining import robust_mean

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

APERTURE_ARCSEC = 1.6
CORE_ARCSEC = 0.7
RING_ARCSEC = (2.6, 3.4)
"""Radii: of the aperture that is summed, of the core whose share of it tells the seeing, of
the ring that gives the level."""
ROOM_ARCSEC = 6.0
"""Half the side of the stamp around a source: convolving takes light from outside the ring."""
BROADEST_ARCSEC = 3.0
"""Where the search for the width of the convolution ends."""
SEEING_EXPONENT = 1.5
"""Of the transfer function exp(-(w k)^p) that turns one seeing into a worse one: with 1.5
apertures of Moffat functions of exponent 2.4 to 2.8, as MUSE's, agree to 2 % for most seeings
from 0.5 to 1.2 arcsec; turbulence's own 5/3 (Fried 1966, JOSA 56, 1372) and a Gaussian's 2,
which has no wings, leave 5 and 8 %."""
UNSURE = 0.25
"""One-sigma error of what the convolution takes out of the aperture, as a share of that: a
point spread's wings are not known."""
CLEAR_SN = 8.0
"""Signal to noise, in the aperture and in both exposures, of a source that counts."""
MOST_SOURCES = 40
FEWEST_SOURCES = 2
SEARCH_ARCSEC = 0.4
"""Width (sigma) of what sources are found with."""
ALIKE = 0.02
"""Relative scatter of one source's flux that no noise tells of: no source decides alone."""
OUTLIER_SIGMA = 4.0
CORRELATED = 1.6
"""Noise of an aperture in a resampled image over that of as many independent pixels."""
ENOUGH_SN = 30.0
"""Signal to noise beyond which a source says no more of the seeing."""
_CONVERGED_ARCSEC = 1e-4


@dataclass(frozen=True, eq=False)
class Aligned:
    """One of two images whose pixels show the same sky."""

    image: Floats
    """Float64 (y, x) without background, NaN where it is not usable."""
    noise: float
    """Of a pixel, typically."""


def flux_ratio(first: Aligned, second: Aligned, pixel_arcsec: float) -> tuple[float, float]:
    """Measure the flux of the first over that of the second.

    Each source that is clear in both is summed in one aperture after the sharper image
    has been convolved so far that the cores of all of them hold the same share of their
    light. What sources say is averaged robustly: a variable does not count.

    Parameters
    ----------
    first, second
        The images, with the same sky in each pixel.
    pixel_arcsec
        Its side.

    Returns
    -------
    tuple of float
        The ratio and its one-sigma error; NaN twice where fewer than two sources tell.
    """
    pair = (first, second)
    places = _sources(first, second, pixel_arcsec)
    if len(places) < FEWEST_SOURCES:
        return math.nan, math.nan
    size = round(ROOM_ARCSEC / pixel_arcsec)
    stamps = [_stamps(np.nan_to_num(one.image), places, size) for one in pair]
    n_pixels = math.pi * (APERTURE_ARCSEC / pixel_arcsec) ** 2
    noise = [CORRELATED * math.sqrt(n_pixels) * one.noise for one in pair]
    sums = [_sums(one, APERTURE_ARCSEC, pixel_arcsec) for one in stamps]
    signal = np.minimum(*(one / its for one, its in zip(sums, noise, strict=True)))
    clear = signal > CLEAR_SN
    if clear.sum() < FEWEST_SOURCES:
        return math.nan, math.nan
    # No source may tell the seeing alone: the brightest star is the likeliest to have moved.
    weight = np.minimum(signal, ENOUGH_SN)[clear] / np.sqrt(sums[0][clear] * sums[1][clear])
    before = stamps[0][clear], stamps[1][clear]
    matched = _matched(*before, weight, pixel_arcsec)
    one, other = (_sums(each, APERTURE_ARCSEC, pixel_arcsec) for each in matched)
    taken = [
        _sums(np.tensordot(weight, each, 1)[None], APERTURE_ARCSEC, pixel_arcsec)[0]
        for each in (*before, *matched)
    ]
    wings = UNSURE * abs(math.log(taken[2] / taken[0]) - math.log(taken[3] / taken[1]))
    lit = (one > 0) & (other > 0)  # a neighbour in the ring can take all of a source
    if lit.sum() < FEWEST_SOURCES:
        return math.nan, math.nan
    one, other = one[lit], other[lit]
    # In logarithms the two are alike, whichever comes first.
    errors = np.sqrt((noise[0] / one) ** 2 + (noise[1] / other) ** 2 + ALIKE**2)
    log, error = _agreed(np.log(one / other), errors)
    return math.exp(log), math.exp(log) * math.hypot(error, wings)


def _agreed(logs: Floats, errors: Floats) -> tuple[float, float]:
    """What most sources say: a variable star may be better measured than all the others."""
    away = np.abs(logs - np.median(logs))
    width = max(1.4826 * float(np.median(away)), float(np.median(errors)))
    most = away < OUTLIER_SIGMA * width
    return robust_mean(logs[most], errors[most])


def _sources(first: Aligned, second: Aligned, pixel: float) -> Any:
    """Rows and columns of sources that are clear in both, int64 (source, 2), brightest first."""
    known = np.isfinite(first.image) & np.isfinite(second.image)
    # Signal to noise in which neither exposure counts for more than the other.
    both = [
        ndimage.gaussian_filter(np.where(known, one.image, 0.0) / one.noise, SEARCH_ARCSEC / pixel)
        for one in (first, second)
    ]
    worse = np.minimum(*both)
    inside = ndimage.binary_erosion(known, iterations=round(RING_ARCSEC[1] / pixel))
    size = 2 * round(APERTURE_ARCSEC / pixel) + 1
    peaks = (worse == ndimage.maximum_filter(worse, size)) & inside & (worse > 3.0)
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-worse[rows, columns], kind="stable")[:MOST_SOURCES]
    return np.column_stack([rows[order], columns[order]])


def _stamps(image: Floats, places: Any, size: int) -> Floats:
    """What is around each place, float64 (source, 2 size + 1, 2 size + 1); 0 is outside."""
    padded = np.pad(image, size)
    return np.array([padded[y : y + 2 * size + 1, x : x + 2 * size + 1] for y, x in places])


def _sums(stamps: Floats, radius_arcsec: float, pixel: float) -> Floats:
    """Light within a radius above the ring's level, float64 (source,)."""
    middle = stamps.shape[1] // 2
    y, x = np.ogrid[: stamps.shape[1], : stamps.shape[2]]
    radius = np.hypot(y - middle, x - middle) * pixel
    ring = (radius > RING_ARCSEC[0]) & (radius < RING_ARCSEC[1])
    inside = radius < radius_arcsec
    level = stamps[:, ring].mean(axis=1)
    return np.asarray(stamps[:, inside].sum(axis=1) - inside.sum() * level)


def _convolved(stamps: Floats, width_arcsec: float, pixel: float) -> Floats:
    """Stamps as a worse seeing shows them: a stable law's transfer function, exp(-(w k)^p)."""
    n = stamps.shape[-1]
    k = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)) / pixel
    transfer = np.exp(-((width_arcsec * k) ** SEEING_EXPONENT))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(stamps) * transfer, s=(n, n)))


def _matched(first: Floats, second: Floats, weight: Floats, pixel: float) -> tuple[Floats, Floats]:
    """Bring the sharper of the two to the resolution of the other."""

    def core(stamps: Floats) -> float:
        """Share of the light of all sources that is near their middles."""
        inner, whole = (_sums(stamps, r, pixel) for r in (CORE_ARCSEC, APERTURE_ARCSEC))
        return float(inner[0] / whole[0])

    # Convolving is linear: one stamp, the weighted sum of all, stands for them.
    pooled = [np.tensordot(weight, stamps, 1)[None] for stamps in (first, second)]
    swapped = core(pooled[0]) < core(pooled[1])
    sharp, soft = pooled[::-1] if swapped else pooled
    aim = core(soft)

    def excess(width: float) -> float:
        return core(_convolved(sharp, width, pixel)) - aim

    width = BROADEST_ARCSEC
    if excess(width) < 0:
        width = float(optimize.brentq(excess, 0.0, width, xtol=_CONVERGED_ARCSEC))
    if swapped:
        return first, _convolved(second, width, pixel)
    return _convolved(first, width, pixel), second
