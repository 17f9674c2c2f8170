"""Levels of whole frames that a stack may ask for: background, noise, faintest percentile.

Arrays in, numbers out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Floats32 = np.ndarray[Any, np.dtype[np.float32]]


def channel_background(flux: Floats32, masked: Any) -> Floats32:
    """Median over the spaxels that are neither missing nor masked.

    Parameters
    ----------
    flux : float32 (wavelength, y, x)
    masked : bool (y, x) or None

    Returns
    -------
    float32 (wavelength,), 0 where a channel has no valid spaxel.
    """
    out = np.zeros(len(flux), np.float32)
    for n, frame in enumerate(flux):
        values = _valid(frame, masked)
        if values.size:
            out[n] = np.median(values)
    return out


def channel_floor(flux: Floats32, masked: Any, percent: float) -> Floats32:
    """Flux below or at which a channel's faintest ``percent`` lie; -inf without valid spaxels."""
    out = np.full(len(flux), -np.inf, np.float32)
    for n, frame in enumerate(flux):
        values = _valid(frame, masked)
        if values.size:
            out[n] = np.percentile(values, percent)
    return out


def typical_variance(variance: Floats32, masked: Any) -> float:
    """Median variance of a few channels: the median over channels of each one's median.

    NaN if there is no valid voxel.
    """
    medians = [np.median(v) for frame in variance if (v := _valid(frame, masked)).size]
    return float(np.median(medians)) if medians else float("nan")


def _valid(frame: Floats32, masked: Any) -> Floats32:
    good = np.isfinite(frame) if masked is None else np.isfinite(frame) & ~masked
    return frame[good]
