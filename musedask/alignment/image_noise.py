"""What the pixels of an image say of their noise, and which of them hold nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

ZERO_PIXELS = 100
"""Connected pixels of exact 0 that are no data; fewer may be chance."""
MIN_PAIRS = 100
"""Pairs of neighbours from which a noise can be told."""
SAMPLE = 1 << 19
"""Pixels, about, that are looked at of a large image: medians of them are known to 0.2 %."""
TOO_FAR = 100.0
"""A variance that is off the measured one by this factor is none: correlation, the light of
objects and underestimated errors make a factor of ten at most."""
INVERSE_VARIANCE = 20.0
"""Weights within this factor of the measured inverse variance are such."""


def pixel_noise(flux: Floats32) -> float:
    """Noise of a pixel: the spread of differences of neighbours, by their MAD; NaN if unknown.

    Parameters
    ----------
    flux
        Float32 (y, x), NaN where there is no value.
    """
    # Rows far apart tell as much of a large image as all of them.
    with np.errstate(over="ignore", invalid="ignore"):  # of the largest values: infinite
        steps = np.diff(flux[:: 1 + flux.size // SAMPLE], axis=1)
        steps = steps[np.isfinite(steps)]
        if steps.size < MIN_PAIRS:
            return float("nan")
        spread = np.median(np.abs(steps - np.median(steps)))
        return float(1.4826 * spread / np.sqrt(2.0))


def without_data(flux: Floats32) -> Bools:
    """Tell the pixels that hold nothing: not finite, or in large regions of exact 0.

    Mosaics are 0 outside their footprint; a noisy pixel is so by chance only,
    and then alone.
    """
    missing = ~np.isfinite(flux)
    zero = flux == 0
    if np.count_nonzero(zero) < ZERO_PIXELS:
        return missing
    labels, n = ndimage.label(zero)
    large = np.bincount(labels.ravel(), minlength=n + 1) >= ZERO_PIXELS
    large[0] = False
    return missing | large[labels]


def variance_fault(variance: Floats32, flux: Floats32) -> str:
    """Say why an array cannot be the variance of an image; empty if it can.

    Parameters
    ----------
    variance, flux
        Float32 (y, x); the flux NaN where there is none.
    """
    known = np.isfinite(flux)
    good = known & np.isfinite(variance) & (variance > 0)
    n_known, n_good = np.count_nonzero(known), np.count_nonzero(good)
    if 2 * n_good < n_known:
        return f"is zero, negative or not finite in {100 * (1 - n_good / n_known):.0f} % of them"
    noise = pixel_noise(flux)
    if not noise > 0:
        return ""
    ratio = _median(variance[good]) / noise**2
    if not 1 / TOO_FAR < ratio < TOO_FAR:
        return f"is {ratio:.3g} times what the scatter of neighbours says"
    return ""


def variance_of_weight(weight: Floats32, flux: Floats32) -> Floats32 | None:
    """The variance that a weight map says: its inverse, or on the scale of the measured noise.

    The maps of drizzled images are inverse variances or exposure times; both
    tell how the noise varies, the second not how large it is.

    Returns
    -------
    variance
        Float32 (y, x), NaN where the weight is not positive; None if nothing can be told.
    """
    good = np.isfinite(flux) & np.isfinite(weight) & (weight > 0)
    if not good.any():
        return None
    noise = pixel_noise(flux)
    middle = _median(weight[good])
    expected = noise**2 * middle
    scale = 1.0
    if noise > 0 and not 1 / INVERSE_VARIANCE < expected < INVERSE_VARIANCE:
        scale = expected
    variance: Floats32 = np.full(weight.shape, np.nan, np.float32)
    with np.errstate(over="ignore"):  # of the smallest weights: infinite is no variance
        variance[good] = scale / weight[good]
    return variance


def _median(values: Floats32) -> float:
    """Median of some of many values."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.median(values[:: 1 + values.size // SAMPLE]))
