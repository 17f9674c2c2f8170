"""An exposure ready to be compared: without its background, its noise known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from musedask.alignment.registration.background import level_and_sigma, smooth_background
from musedask.alignment.registration.correlating import eroded

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

MESH_ARCSEC = 6.4
"""Side of the cells that the background is measured in."""
RIM_ARCSEC = 0.8
"""Rim of a field whose noise is not what STAT says."""
_LOCAL_PIXELS = 1.5
_LOCAL_TO_WHOLE = 1.25
"""Noise over its scatter around a Gaussian mean of 1.5 pixels: 1.06 where pixels are
independent, 1.15 for MUSE's correlation, with some room."""
SIGMA_TO_FWHM = 2.3548200450309493


@dataclass(frozen=True, eq=False)
class Exposure:
    """An exposure's image, ready to be compared: its background is gone."""

    image: Floats
    """Float64 (y, x), 0 where it is not usable."""
    sigma: Floats
    """Float64 (y, x), the noise, scaled to what is seen between sources."""
    usable: Bools
    """Bool (y, x)."""
    level: float
    """Median of the background that was subtracted."""
    arcsec: Floats
    """Float64 (2, 2): from pixels (x, y) to arcseconds (east, north)."""
    smoothing: float = 0.0
    """FWHM of the Gaussian that the image was smoothed with, arcseconds."""

    @property
    def pixel(self) -> float:
        """Side of a pixel, arcseconds."""
        return float(math.sqrt(abs(np.linalg.det(self.arcsec))))


def prepare(flux: Floats, variance: Floats | None, arcsec: Floats) -> Exposure:
    """Subtract the background and find the noise.

    Parameters
    ----------
    flux, variance
        Float64 (y, x), NaN where there is nothing. Only the shape of the variance is
        used: its level is measured.
    arcsec
        Float64 (2, 2): from pixels to arcseconds (east, north).
    """
    pixel = math.sqrt(abs(np.linalg.det(arcsec)))
    valid = np.isfinite(flux)
    shape = np.ones(flux.shape)
    if variance is not None:
        positive = np.isfinite(variance) & (variance > 0)
        if (positive & valid).sum() > 0.5 * valid.sum():
            valid = valid & positive
            shape = np.sqrt(np.where(positive, variance, 1.0))
    usable = eroded(valid, round(RIM_ARCSEC / pixel))
    if not usable.any():
        usable = valid
    filled = np.where(valid, flux, 0.0)
    cell = max(8, round(MESH_ARCSEC / pixel))
    background = smooth_background(filled, usable, cell)
    sigma = scaled_sigma(filled - background, shape, usable)
    # Once more without what stands out: sources must not raise the level around them.
    core = ndimage.uniform_filter(np.where(usable, filled - background, 0.0), 3)
    bright = ndimage.binary_dilation(core > 2.5 * sigma, iterations=2)
    background = smooth_background(filled, usable & ~bright, cell)
    image = np.where(usable, filled - background, 0.0)
    sigma = scaled_sigma(image, shape, usable & ~bright)
    return Exposure(image, sigma, usable, float(np.median(background[usable])), arcsec)


def prepared(image: Floats, variance: Floats, arcsec: Floats) -> Exposure:
    """Take an image whose background has been subtracted, and its true variance."""
    usable = np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    sigma = np.sqrt(np.where(usable, variance, 1.0))
    return Exposure(np.where(usable, image, 0.0), sigma, usable, 0.0, arcsec)


def scaled_sigma(image: Floats, shape: Floats, usable: Bools) -> Floats:
    """The noise whose shape is given, at the level that is seen.

    That is the scatter around the background, or where light fills the field, and
    the scatter is its shape, the scatter around what neighbouring pixels have.
    """
    ratio = np.where(usable, image / shape, 0.0)
    share = np.maximum(ndimage.gaussian_filter(usable.astype(float), _LOCAL_PIXELS), 1e-3)
    local = ratio - ndimage.gaussian_filter(ratio, _LOCAL_PIXELS) / share
    whole, nearby = (level_and_sigma(part[usable])[1] for part in (ratio, local))
    sigma = min(whole, nearby * _LOCAL_TO_WHOLE)
    if not sigma > 0:
        sigma = float(np.std(ratio[usable])) or 1.0
    return np.asarray(shape * sigma)


def smoothed(exposure: Exposure, fwhm_arcsec: float) -> Exposure:
    """The exposure at a lower resolution, for a reference that is less sharp than it is."""
    width = fwhm_arcsec / SIGMA_TO_FWHM / exposure.pixel
    share = ndimage.gaussian_filter(exposure.usable.astype(float), width, mode="constant")
    usable = exposure.usable & (share > 0.9)
    image = ndimage.gaussian_filter(exposure.image, width, mode="constant")
    image = np.where(usable, image / np.where(usable, share, 1.0), 0.0)
    sigma = scaled_sigma(image, exposure.sigma, usable)
    return replace(exposure, image=image, sigma=sigma, usable=usable, smoothing=fwhm_arcsec)
