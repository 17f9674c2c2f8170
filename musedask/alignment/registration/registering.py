"""One exposure against one reference: from a coarse peak to an offset with its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from musedask.alignment.registration.background import (
    level_and_sigma,
    noise_correlation,
    smooth_background,
)
from musedask.alignment.registration.combining import Agreement, agree, robust_mean
from musedask.alignment.registration.correlating import (
    Peak,
    compress,
    compress_by_share,
    eroded,
    peaks,
    pearson,
)
from musedask.alignment.registration.fitting import (
    SourceFits,
    Sources,
    find_sources,
    fit_sources,
)
from musedask.alignment.registration.matching import FineImage, Sampler, Seeing

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

MESH_ARCSEC = 6.4
RIM_ARCSEC = 0.8
"""Rim of a field whose noise is not what STAT says."""
FIRST_SEEING_ARCSEC = 0.75
_COARSE_ARCSEC = (0.3, 1.5)
"""Widths (sigma) between which an image is looked at in the coarse search."""
_USUAL_ARCSEC = 3.0
"""MUSE rarely points farther off: the best place within is always looked into."""
_LOCAL_PIXELS = 1.5
_LOCAL_TO_WHOLE = 1.25
"""Noise over its scatter around a Gaussian mean of 1.5 pixels: 1.06 where pixels are
independent, 1.15 for MUSE's correlation, with some room."""
PROMISE = 3.0
"""Signal to noise that the reference has to promise of a source."""
_OWN_SHIFT_SN = 10.0
"""From here on a source is fitted where it stands, however far from the others."""
_FARTHEST_FWHM = 1.5
_STEPS = 4
_CONVERGED_PIXELS = 2e-3
_ROOM_ARCSEC = 5.0
_SAME_PLACE_ARCSEC = 0.6
_RIVAL = 0.6
"""A second peak of this share of the first one's significance is looked into."""
_SMALLEST_SN = 3.0
_CALIBRATED_SN = 5.0
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
    sigma = _scaled_sigma(filled - background, shape, usable)
    # Once more without what stands out: sources must not raise the level around them.
    core = ndimage.uniform_filter(np.where(usable, filled - background, 0.0), 3)
    bright = ndimage.binary_dilation(core > 2.5 * sigma, iterations=2)
    background = smooth_background(filled, usable & ~bright, cell)
    image = np.where(usable, filled - background, 0.0)
    sigma = _scaled_sigma(image, shape, usable & ~bright)
    return Exposure(image, sigma, usable, float(np.median(background[usable])), arcsec)


def prepared(image: Floats, variance: Floats, arcsec: Floats) -> Exposure:
    """Take an image whose background has been subtracted, and its true variance."""
    usable = np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    sigma = np.sqrt(np.where(usable, variance, 1.0))
    return Exposure(np.where(usable, image, 0.0), sigma, usable, 0.0, arcsec)


def _scaled_sigma(image: Floats, shape: Floats, usable: Bools) -> Floats:
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
    sigma = _scaled_sigma(image, exposure.sigma, usable)
    return replace(exposure, image=image, sigma=sigma, usable=usable, smoothing=fwhm_arcsec)


@dataclass(frozen=True, eq=False)
class Mapping:
    """Where the exposure's pixels lie in the reference: place = origin + matrix (x, y)."""

    origin: Floats
    """Float64 (2,), x and y."""
    matrix: Floats
    """Float64 (2, 2)."""

    def __call__(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Reference pixels (x, y) of exposure pixels, all 0-based."""
        m = self.matrix
        return (
            self.origin[0] + m[0, 0] * x + m[0, 1] * y,
            self.origin[1] + m[1, 0] * x + m[1, 1] * y,
        )

    def turned(self, angle_rad: float, x: float, y: float) -> Mapping:
        """The same for an exposure that is turned about its pixel (x, y), from x towards y."""
        cos, sin = math.cos(angle_rad), math.sin(angle_rad)
        turn = np.array([[cos, sin], [-sin, cos]])
        about = np.array([x, y])
        return Mapping(self.origin + self.matrix @ (about - turn @ about), self.matrix @ turn)


@dataclass(frozen=True, eq=False)
class Matched:
    """The reference on the exposure's lattice, in its seeing, with a margin on every side."""

    image: Floats
    """Float64 (y + 2 margin, x + 2 margin), background subtracted, NaN where unknown."""
    background: Floats
    """What was subtracted."""
    margin: int
    """Pixels."""
    seeing_arcsec: float
    """FWHM of the kernel that the reference was smoothed with; negative for what the
    exposure was smoothed with instead."""
    promise: float = PROMISE
    """Signal to noise that it has to promise of a source."""

    @cached_property
    def sampler(self) -> Sampler:
        """To read it off between its pixels."""
        return Sampler.of(self.image)

    def __call__(self, x: Floats, y: Floats) -> Floats:
        """Values at the exposure's 0-based pixel coordinates."""
        return self.sampler.at(x + self.margin, y + self.margin)

    def displaced(self, shift: Floats, shape: tuple[int, int]) -> Floats:
        """What an exposure of this shape would show that is displaced by a shift, (y, x)."""
        yy, xx = np.mgrid[: shape[0], : shape[1]].astype(float)
        return self(xx - shift[0], yy - shift[1])


def match(
    fine: FineImage, mapping: Mapping, shape: tuple[int, int], margin: int, seeing_arcsec: float
) -> Matched:
    """Bring the reference to the exposure's lattice and seeing, flux a pixel conserved."""
    kernel = Seeing(max(0.0, seeing_arcsec))
    sampler = Sampler.of(fine.smoothed(kernel))
    yy, xx = np.mgrid[-margin : shape[0] + margin, -margin : shape[1] + margin].astype(float)
    area = abs(float(np.linalg.det(mapping.matrix)))
    image = (sampler.at(*mapping(xx, yy)) + fine.level) * area
    known = np.isfinite(image)
    filled = np.where(known, image, 0.0)
    cell = max(8, round(MESH_ARCSEC / fine.pixel * math.sqrt(1.0 / area)))
    background = smooth_background(filled, known, cell)
    return Matched(np.where(known, image - background, np.nan), background, margin, seeing_arcsec)


@dataclass(frozen=True, eq=False)
class Registered:
    """Where an exposure stands against a reference, and what says so."""

    exposure: Exposure
    """As it was compared."""
    matched: Matched
    """The reference, as it was compared."""
    shift: Floats
    """Float64 (2,): how far the exposure is displaced, x and y, pixels."""
    agreement: Agreement
    """In arcseconds, east and north; relative to the middle of the field if turned."""
    sources: Sources
    """Those that were looked at."""
    fits: SourceFits
    """Their fits; shifts relative to ``starts``."""
    starts: Floats
    """Float64 (source, 2): where the last fit took each source to stand, pixels."""
    asked: Bools
    """Bool (source,): those whose fit took part in the agreement."""
    amplitude: float
    """Flux of the exposure over that of the reference."""
    amplitude_error: float
    """Its one-sigma error."""
    peak: Peak
    """The coarse peak it came from."""
    rival: float
    """Evidence for the best other place, as a share of that for this one."""
    rotation_rad: float = 0.0
    """Turn from x towards y that was subtracted."""
    rotation_error_rad: float = math.nan
    """Its one-sigma error."""

    @property
    def offset_arcsec(self) -> Floats:
        """The displacement on the sky, float64 (2,): east, north, arcseconds."""
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        turn = np.array([[cos, sin], [-sin, cos]])
        return np.asarray(self.exposure.arcsec @ turn @ self.shift)

    @property
    def belongs(self) -> Floats:
        """Probability that a source shares the offset, 0 if it was not asked; (source,)."""
        result = np.zeros(len(self.sources))
        result[self.asked] = self.agreement.belongs
        return result

    @property
    def source_shifts(self) -> Floats:
        """Where each source stands, arcseconds (east, north), float64 (source, 2)."""
        return np.asarray((self.starts + self.fits.shift) @ self.exposure.arcsec.T)

    @property
    def source_covariances(self) -> Floats:
        """Their covariances, arcseconds^2, float64 (source, 2, 2)."""
        j = self.exposure.arcsec
        return np.einsum("ij,sjk,lk->sil", j, self.fits.covariance, j)

    @property
    def evidence(self) -> float:
        """How much speaks for this place; a single source cannot say more than 100."""
        told = float((self.belongs * np.minimum(self.fits.signal_to_noise, 10.0) ** 2).sum())
        # Free amplitudes fit something everywhere; the right place fits as it stands. And
        # where two places fit alike, the nearer one is the more likely one.
        far = float(np.hypot(*(self.exposure.arcsec @ self.shift))) / _USUAL_ARCSEC
        return told * max(0.0, self.correlation(self.shift)) ** 2 / (1.0 + far**2)

    @property
    def fwhm_arcsec(self) -> float:
        """FWHM by which exposure and reference differ, in quadrature; negative the other way."""
        return self.matched.seeing_arcsec

    def model(self) -> Floats:
        """What the exposure should show, float64 (y, x), in its units."""
        ny, nx = self.exposure.image.shape
        return self.amplitude * self.matched.displaced(self.shift, (ny, nx))

    def correlation(self, shift: Floats) -> float:
        """Pearson's coefficient of exposure and reference at a displacement."""
        ny, nx = self.exposure.image.shape
        model = self.matched.displaced(shift, (ny, nx))
        return pearson(self.exposure.image, model, self.exposure.usable & np.isfinite(model))


@dataclass(frozen=True)
class Search:
    """How far and how carefully to look."""

    largest_arcsec: float = 20.0
    """Largest offset along an axis."""
    seeing_arcsec: float = FIRST_SEEING_ARCSEC
    """FWHM to start with."""
    fit_seeing: bool = True
    """Whether the width of the point spread is fitted."""
    rotation: bool = False
    """Whether a rotation is fitted."""
    fewest_for_rotation: int = field(default=4)
    """Sources that a rotation needs."""


def register(
    exposure: Exposure, fine: FineImage, mapping: Mapping, search: Search
) -> Registered | None:
    """Find where an exposure stands, from nothing; None if nothing in it fits anywhere."""
    ny, nx = exposure.image.shape
    margin = math.ceil(search.largest_arcsec / exposure.pixel - 1e-6) + 2

    found = _best_place(exposure, match(fine, mapping, (ny, nx), margin, search.seeing_arcsec))
    if found is None:
        return None
    part, cut = _around(fine, mapping, (ny, nx), found.shift, exposure.pixel)

    def matching(seeing: float, angle: float) -> Matched:
        turned = cut.turned(angle, (nx - 1) / 2.0, (ny - 1) / 2.0)
        return match(part, turned, (ny, nx), margin, seeing)

    return _polished(found, exposure, matching, search)


def _around(
    fine: FineImage, mapping: Mapping, shape: tuple[int, int], shift: Floats, pixel: float
) -> tuple[FineImage, Mapping]:
    """The part of the reference that matters once it is known where the exposure stands."""
    room = _ROOM_ARCSEC / pixel
    x = np.array([-room, shape[1] + room]) - shift[0]
    y = np.array([-room, shape[0] + room]) - shift[1]
    there_x, there_y = mapping(*(axis.ravel() for axis in np.meshgrid(x, y)))
    ny, nx = fine.values.shape
    first_x, last_x = (int(np.clip(v, 0, nx)) for v in (there_x.min(), there_x.max() + 2))
    first_y, last_y = (int(np.clip(v, 0, ny)) for v in (there_y.min(), there_y.max() + 2))
    part = fine.part(slice(first_y, last_y), slice(first_x, last_x))
    return part, Mapping(mapping.origin - np.array([first_x, first_y], float), mapping.matrix)


def register_matched(exposure: Exposure, matched: Matched) -> Registered | None:
    """Find where an exposure stands against a reference of its lattice and seeing."""
    found = _best_place(exposure, matched)
    return None if found is None else _measured(found)


def measured_from(exposure: Exposure, matched: Matched, shift: Floats) -> Registered | None:
    """Measure from a place that is known to a fraction of the seeing."""
    found = _refined(exposure, matched, Peak(float(shift[0]), float(shift[1]), math.nan, math.inf))
    return None if found is None else _measured(found)


def refined(exposure: Exposure, found: Registered) -> Registered | None:
    """Measure another image of the same exposure from where the first one stands."""
    return _refined(exposure, found.matched, found.peak, replace(found, amplitude=math.nan))


def _best_place(exposure: Exposure, matched: Matched) -> Registered | None:
    """Look into the places that may be right, and take the one for which most speaks."""
    candidates = _coarse(exposure, matched)
    if not candidates:
        return None
    best = max(peak.significance for peak in candidates)
    looked = [peak for peak in candidates if peak.usual or peak.significance > _RIVAL * best]
    tried = [_refined(exposure, matched, peak) for peak in looked]
    found = sorted((one for one in tried if one is not None), key=lambda one: -one.evidence)
    if not found:
        return None
    others = [one for one in found[1:] if _apart(one, found[0]) > _SAME_PLACE_ARCSEC]
    rival = max((one.evidence for one in others), default=0.0) / max(found[0].evidence, 1e-9)
    return replace(found[0], rival=rival)


def _measured(found: Registered) -> Registered:
    """Fit for good: strong sources where they stand themselves, with the noise as it is."""
    exposure, sources = found.exposure, found.sources
    starts = np.tile(found.shift, (len(sources), 1))
    last = found
    for _ in range(2):
        # A source far from the others' place is not linear there.
        strong = last.asked & (last.fits.signal_to_noise > _OWN_SHIFT_SN)
        starts = starts.copy()
        starts[strong] = (last.starts + last.fits.shift)[strong]
        correlation = _noise_correlation(last)
        fits = fit_sources(
            exposure.image, exposure.sigma, correlation, sources, found.matched, starts
        )
        again = _agreed(
            exposure, found.matched, sources, fits, starts, last.shift, last.amplitude, found.peak
        )
        if again is None:
            break
        last = again
    return replace(
        last,
        rival=found.rival,
        rotation_rad=found.rotation_rad,
        rotation_error_rad=found.rotation_error_rad,
    )


def _noise_correlation(found: Registered) -> Floats:
    """Correlation of the noise between the sources."""
    model = found.model()
    blank = found.exposure.usable & np.isfinite(model)
    blank.ravel()[found.sources.pixels] = False
    residual = found.exposure.image - np.where(blank, model, 0.0)
    return noise_correlation(residual, blank, found.exposure.sigma)


def _apart(one: Registered, other: Registered) -> float:
    """Distance of two places, arcseconds."""
    return float(np.hypot(*(one.exposure.arcsec @ (one.shift - other.shift))))


def _coarse(exposure: Exposure, matched: Matched) -> tuple[Peak, ...]:
    """Look for places where the compressed images correlate."""
    narrow, wide = (width / exposure.pixel for width in _COARSE_ARCSEC)
    soft = _band(exposure.image, exposure.usable, narrow, wide)
    sigma = _scaled_sigma(soft, exposure.sigma, exposure.usable)
    one, share = compress(soft, sigma, exposure.usable)
    known = np.isfinite(matched.image)
    other = compress_by_share(_band(matched.image, known, narrow, wide), known, share)
    return peaks(
        one, exposure.usable, other, known, matched.margin,
        1.2 / exposure.pixel, _USUAL_ARCSEC / exposure.pixel,
    )  # fmt: skip


def _band(image: Floats, usable: Bools, narrow: float, wide: float) -> Floats:
    """What is of the size of sources: a narrow minus a wide Gaussian mean, 0 where unusable."""
    filled, inside = np.where(usable, image, 0.0), usable.astype(float)
    means = []
    for width in (narrow, wide):
        share = ndimage.gaussian_filter(inside, width, mode="constant", truncate=3.0)
        mean = ndimage.gaussian_filter(filled, width, mode="constant", truncate=3.0)
        means.append(mean / np.maximum(share, 1e-3))
    return np.where(usable, means[0] - means[1], 0.0)


def _refined(
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
    sure = asked & (fits.signal_to_noise > _CALIBRATED_SN)
    if not sure.any():
        return fallback, math.nan
    return robust_mean(fits.amplitude[sure], fits.amplitude_error[sure])


def _polished(
    found: Registered,
    exposure: Exposure,
    matching: Callable[[float, float], Matched],
    search: Search,
) -> Registered:
    """Bring the resolutions together, fit the rotation, and measure for good."""
    best, seeing, angle = found, search.seeing_arcsec, 0.0
    ny, nx = exposure.image.shape
    middle = (nx - 1) / 2.0, (ny - 1) / 2.0
    for _ in range(3 if search.fit_seeing else 0):
        wide = _refined(best.exposure, best.matched, best.peak, best, broadened=True)
        if wide is None:
            break
        new = _wider(seeing, wide)
        if abs(new - seeing) < 0.02:
            break
        seeing = new
        compared = smoothed(exposure, -seeing) if seeing < 0 else exposure
        again = _refined(compared, matching(seeing, 0.0), best.peak, best)
        if again is None:
            break
        best = replace(again, rival=found.rival)
    error = math.nan
    for _ in range(3 if search.rotation else 0):
        turn, error = _rotation(best, middle, search.fewest_for_rotation)
        if not math.isfinite(error):
            break
        angle += turn
        again = _refined(best.exposure, matching(seeing, angle), best.peak, best)
        if again is None:
            break
        best = replace(again, rival=found.rival)
        if abs(turn) < 0.05 * error:
            break
    return _measured(replace(best, rotation_rad=angle, rotation_error_rad=error))


def _wider(seeing: float, found: Registered) -> float:
    """The seeing that the sources ask for: FWHM, arcseconds; below 0 for a blurred reference."""
    fits, asked = found.fits, found.asked & (found.fits.signal_to_noise > _CALIBRATED_SN)
    asked = asked & np.isfinite(fits.broadening_error)
    if not asked.any():
        return seeing
    per_pixel2 = (SIGMA_TO_FWHM * found.exposure.pixel) ** 2
    change, error = robust_mean(fits.broadening[asked], fits.broadening_error[asked])
    square = math.copysign(seeing**2, seeing)
    if error * per_pixel2 > max(0.3 * abs(square), 0.1):
        return seeing
    # A first-order step: large ones are not believed whole.
    wanted = square + float(np.clip(change * per_pixel2, -0.6 * abs(square) - 0.05, abs(square)))
    wanted = float(np.clip(wanted, -4.0, 9.0))
    return math.copysign(math.sqrt(abs(wanted)), wanted)


def _rotation(found: Registered, middle: tuple[float, float], fewest: int) -> tuple[float, float]:
    """Turn (radians, from x towards y) that the sources ask for, and its error."""
    kept = found.belongs > 0.5
    if kept.sum() < fewest:
        return 0.0, math.nan
    x, y = found.sources.x[kept] - middle[0], found.sources.y[kept] - middle[1]
    moved = (found.starts + found.fits.shift)[kept] - found.shift
    extra = (found.agreement.scatter / found.exposure.pixel) ** 2
    inverse = np.linalg.inv(found.fits.covariance[kept] + extra * np.eye(2))
    design = np.zeros((kept.sum(), 2, 3))
    design[:, 0, 0] = design[:, 1, 1] = 1.0
    # A turn by t from x towards y takes (x, y) to (x - t y, y + t x).
    design[:, 0, 2], design[:, 1, 2] = -y, x
    normal = np.einsum("sia,sij,sjb->ab", design, inverse, design)
    right = np.einsum("sia,sij,sj->a", design, inverse, moved)
    covariance = np.linalg.inv(normal)
    return float((covariance @ right)[2]), float(math.sqrt(covariance[2, 2]))
