"""Images for the page: half-precision numbers in units of the noise, as text.

Half precision keeps three digits at every brightness, so that the page can subtract,
correlate and stretch as it likes; a PNG would fix the stretch.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from musedask.alignment.image import FieldImage
from musedask.alignment.image_noise import pixel_noise
from musedask.alignment.material import Compared

Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_LARGEST = 60000.0
"""Just inside what half precision holds."""
_DETECTED_SIGMA = 5.0
_SHARES = (0.005, 0.1)
"""Smallest and largest part of the pixels that is cut before images are correlated."""
_FAINTEST = -1.5
_BRIGHTEST_PERCENT = 99.7


def half_floats(values: Floats32, unit: float) -> str:
    """Values over ``unit`` as base64 of little-endian half-precision numbers, row by row."""
    with np.errstate(over="ignore"):
        scaled = np.clip(values / np.float32(unit), -_LARGEST, _LARGEST)
    return base64.b64encode(scaled.astype("<f2").tobytes()).decode("ascii")


def packed_bits(mask: Bools) -> str:
    """A mask as base64 of bits, row by row, the first pixel in the highest bit."""
    return base64.b64encode(np.packbits(mask).tobytes()).decode("ascii")


def noise_of(image: FieldImage) -> float:
    """One number for the noise: of the variance, or of the pixels themselves."""
    if image.variance is not None:
        variance = image.variance[np.isfinite(image.variance) & (image.variance > 0)]
        if variance.size:
            return math.sqrt(float(np.median(variance)))
    sigma = pixel_noise(image.flux)
    return sigma if sigma > 0 else float(np.nanstd(image.flux)) or 1.0


def images_record(compared: Compared) -> dict[str, Any]:
    """What the page needs to show one exposure; see ``page/field.js`` for the other end."""
    exposure, reference = compared.exposure, compared.reference
    unit = noise_of(exposure)
    used = np.isfinite(exposure.flux)
    if exposure.variance is not None:
        used &= np.isfinite(exposure.variance)
    ny, nx = exposure.shape
    ra, dec = exposure.projection.to_sky((nx - 1) / 2.0, (ny - 1) / 2.0)
    return {
        "nx": nx,
        "ny": ny,
        "margin": compared.margin,
        "matrix": exposure.arcsec_per_pixel.tolist(),
        "centre": [float(ra), float(dec)],
        "carried": [exposure.carried_ra_arcsec, exposure.carried_dec_arcsec],
        "unit": unit,
        "units": exposure.units,
        "fwhm": exposure.fwhm_arcsec,
        "band": exposure.band,
        "reference_name": reference.name,
        "levels": _levels(compared, unit),
        "tops": _tops(compared, used, unit),
        "exposure": half_floats(exposure.flux, unit),
        "reference": half_floats(reference.flux, unit),
        "used": packed_bits(used),
    }


def _levels(compared: Compared, unit: float) -> list[float]:
    """Faintest and brightest level that is shown, of both images, in units of the noise."""
    brightest = [
        float(np.percentile(flux[np.isfinite(flux)], _BRIGHTEST_PERCENT)) / unit
        for flux in (compared.exposure.flux, compared.reference.flux)
        if np.isfinite(flux).any()
    ]
    return [_FAINTEST, max(10.0, min(brightest), 0.5 * max(brightest))]


def _tops(compared: Compared, used: Bools, unit: float) -> list[float]:
    """Levels, in units of the noise, at which the images are cut before they are correlated.

    The same part of the pixels is cut in both, that of the detected ones in the
    exposure: so no single bright star decides.
    """
    exposure = compared.exposure.flux[used] / unit
    margin = compared.margin
    ny, nx = compared.exposure.shape
    inner = compared.reference.flux[margin : margin + ny, margin : margin + nx]
    reference = inner[np.isfinite(inner)] / unit
    share = float((exposure > _DETECTED_SIGMA).mean()) if exposure.size else 0.0
    share = min(max(share, _SHARES[0]), _SHARES[1])
    return [_top(exposure, share), _top(reference, share)]


def _top(values: Floats32, share: float) -> float:
    top = float(np.quantile(values, 1.0 - share)) if values.size else 1.0
    return top if top > 0 else float(values.max(initial=0.0)) or 1.0
