"""From a place that is roughly right to what the sources there agree on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from musedask.alignment.registration.background import noise_correlation
from musedask.alignment.registration.combining import agree, robust_mean
from musedask.alignment.registration.correlating import Peak
from musedask.alignment.registration.fitting import (
    SourceFits,
    Sources,
    find_sources,
    fit_sources,
)
from musedask.alignment.registration.lattices import Matched
from musedask.alignment.registration.preparing import Exposure
from musedask.alignment.registration.registered import Registered

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

CALIBRATED_SN = 5.0
"""Signal to noise of sources that flux ratios and widths are taken from."""
_OWN_SHIFT_SN = 10.0
"""From here on a source is fitted where it stands, however far from the others."""
_FARTHEST_FWHM = 1.5
_LARGEST_STEP_FWHM = 0.3
_OWN_STEPS = 8
_STEPS = 4
_CONVERGED_PIXELS = 2e-3
_SMALLEST_SN = 3.0


def measured_from(exposure: Exposure, matched: Matched, shift: Floats) -> Registered | None:
    """Measure from a place that is known to a fraction of the seeing."""
    found = refined(exposure, matched, Peak(float(shift[0]), float(shift[1]), math.nan, math.inf))
    return None if found is None else measured(found)


def refined_again(exposure: Exposure, found: Registered) -> Registered | None:
    """Measure another image of the same exposure from where the first one stands."""
    return refined(exposure, found.matched, found.peak, replace(found, amplitude=math.nan))


def refined(
    exposure: Exposure,
    matched: Matched,
    peak: Peak,
    start: Registered | None = None,
    *,
    broadened: bool = False,
) -> Registered | None:
    """Fit the sources around a place until they agree on one; None if there are none."""
    shape = exposure.image.shape
    shift = np.array([peak.dx, peak.dy]) if start is None else start.shift
    model = matched.displaced(shift, (shape[0], shape[1]))
    amplitude = math.nan if start is None else start.amplitude
    if not math.isfinite(amplitude):
        amplitude = _first_amplitude(exposure, model)
    if not amplitude > 0:
        return None
    usable = exposure.usable & np.isfinite(model)
    fwhm = _fwhm_pixels(exposure, matched)
    sources = find_sources(amplitude * model, exposure.sigma, usable, fwhm, matched.promise)
    if len(sources) == 0:
        return None
    found = None
    starts = np.tile(shift, (len(sources), 1))
    for step in range(_STEPS):
        fits = fit_sources(
            exposure.image, exposure.sigma, None, sources, matched, starts,
            broadened=broadened and step > 0,
        )  # fmt: skip
        found = _agreed(exposure, matched, sources, fits, starts, shift, amplitude, peak)
        if found is None:
            return None
        change = float(np.abs(found.shift - shift).max())
        shift = found.shift
        if change < _CONVERGED_PIXELS and step > 0:
            break
        starts = np.tile(shift, (len(sources), 1))
    return found


def _agreed(
    exposure: Exposure,
    matched: Matched,
    sources: Sources,
    fits: SourceFits,
    starts: Floats,
    shift: Floats,
    amplitude: float,
    peak: Peak,
) -> Registered | None:
    """What fitted sources agree on; None if there is nothing to agree on."""
    fwhm_pixels = _fwhm_pixels(exposure, matched)
    moved = starts + fits.shift
    farthest = _FARTHEST_FWHM * fwhm_pixels
    away = np.hypot(*(moved - shift).T)
    asked = fits.good & (fits.signal_to_noise > _SMALLEST_SN) & (away < farthest)
    if not asked.any():
        return None
    j = exposure.arcsec
    covariances = np.einsum("ij,sjk,lk->sil", j, fits.covariance[asked], j)
    area = math.pi * (farthest * exposure.pixel) ** 2
    agreement = agree(moved[asked] @ j.T, covariances, area)
    return Registered(
        exposure, matched, np.asarray(np.linalg.solve(j, agreement.place)), agreement, sources,
        fits, starts, asked, *_amplitude(fits, asked, amplitude), peak, 0.0,
    )  # fmt: skip


def _fwhm_pixels(exposure: Exposure, matched: Matched) -> float:
    return max(abs(matched.seeing_arcsec), 2.0 * exposure.pixel) / exposure.pixel


def _first_amplitude(exposure: Exposure, model: Floats) -> float:
    """Flux ratio from the brightest pixels of both, which need not be the same ones."""
    both = exposure.usable & np.isfinite(model)
    if both.sum() < 50:
        return math.nan
    share = max(0.004, 50.0 / float(both.sum()))
    one = np.quantile(exposure.image[both], 1.0 - share)
    other = np.quantile(model[both], 1.0 - share)
    return float(one / other) if one > 0 and other > 0 else math.nan


def _amplitude(fits: SourceFits, asked: Bools, fallback: float) -> tuple[float, float]:
    """Flux ratio on which the sources agree, and its error."""
    sure = asked & (fits.signal_to_noise > CALIBRATED_SN)
    if not sure.any():
        return fallback, math.nan
    return robust_mean(fits.amplitude[sure], fits.amplitude_error[sure])


def measured(found: Registered) -> Registered:
    """Fit for good: strong sources where they stand themselves, with the noise as it is."""
    exposure, sources = found.exposure, found.sources
    starts = _own_places(found)
    fits = fit_sources(
        exposure.image, exposure.sigma, _noise_correlation(found), sources, found.matched, starts
    )
    last = _agreed(
        exposure, found.matched, sources, fits, starts, found.shift, found.amplitude, found.peak
    )
    return replace(
        last or found,
        rival=found.rival,
        rotation_rad=found.rotation_rad,
        rotation_error_rad=found.rotation_error_rad,
    )


def _own_places(found: Registered) -> Floats:
    """Where each source stands, float64 (source, 2), pixels: that of the others if it is faint.

    A fit is linear in the shift; one that is not small is approached in steps.
    """
    exposure, fits = found.exposure, found.fits
    fwhm = _fwhm_pixels(exposure, found.matched)
    starts = np.tile(found.shift, (len(found.sources), 1))
    strong = fits.good & (fits.strength > _OWN_SHIFT_SN)
    for _ in range(_OWN_STEPS if strong.any() else 0):
        step = np.where(strong[:, None], fits.shift, 0.0)
        size = np.hypot(*step.T)[:, None]
        starts = starts + step * np.minimum(1.0, _LARGEST_STEP_FWHM * fwhm / np.maximum(size, 1e-9))
        if size.max() < 0.02:
            break
        fits = fit_sources(
            exposure.image, exposure.sigma, None, found.sources, found.matched, starts
        )
        away = np.hypot(*(starts - found.shift).T)
        strong = strong & fits.good & (away < _FARTHEST_FWHM * fwhm)
    return starts


def _noise_correlation(found: Registered) -> Floats:
    """Correlation of the noise between the sources."""
    model = found.model()
    blank = found.exposure.usable & np.isfinite(model)
    blank.ravel()[found.sources.pixels] = False
    residual = found.exposure.image - np.where(blank, model, 0.0)
    return noise_correlation(residual, blank, found.exposure.sigma)
