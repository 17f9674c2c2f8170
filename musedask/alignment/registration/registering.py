"""One exposure against one reference: from nothing to an offset with its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from musedask.alignment.registration.combining import robust_mean
from musedask.alignment.registration.correlating import (
    Peak,
    compress,
    compress_by_share,
    peaks,
)
from musedask.alignment.registration.lattices import Mapping, Matched, binned, match
from musedask.alignment.registration.matching import FineImage
from musedask.alignment.registration.preparing import (
    SIGMA_TO_FWHM,
    Exposure,
    scaled_sigma,
    smoothed,
)
from musedask.alignment.registration.refining import CALIBRATED_SN, measured, refined
from musedask.alignment.registration.registered import USUAL_ARCSEC, Registered

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

FIRST_SEEING_ARCSEC = 0.75
_COARSE_ARCSEC = (0.3, 1.5)
"""Widths (sigma) between which an image is looked at in the coarse search."""
_COARSE_PIXEL_ARCSEC = 0.16
"""The search does not need finer pixels of the reference."""
_ROOM_ARCSEC = 5.0
_SEEING_ROUNDS = 3
_SAME_SEEING_ARCSEC = 0.02
_SAME_PLACE_ARCSEC = 0.6
_RIVAL = 0.6
"""A second peak of this share of the first one's significance is looked into."""


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
    fewest_for_rotation: int = 4
    """Sources that a rotation needs."""


def register(
    exposure: Exposure, fine: FineImage, mapping: Mapping, search: Search
) -> Registered | None:
    """Find where an exposure stands, from nothing; None if nothing in it fits anywhere."""
    ny, nx = exposure.image.shape
    margin = math.ceil(search.largest_arcsec / exposure.pixel - 1e-6) + 2

    coarse = binned(fine, mapping, int(_COARSE_PIXEL_ARCSEC / fine.pixel + 1e-6))
    found = _best_place(exposure, match(*coarse, (ny, nx), margin, search.seeing_arcsec))
    if found is None:
        return None
    part, cut = _around(fine, mapping, (ny, nx), found.shift, exposure.pixel)
    # From here on the place is known, and less of the reference is enough.
    reach = math.ceil(float(np.abs(found.shift).max()) + _ROOM_ARCSEC / exposure.pixel)

    def matching(seeing: float, angle: float) -> Matched:
        turned = cut.turned(angle, (nx - 1) / 2.0, (ny - 1) / 2.0)
        return match(part, turned, (ny, nx), min(reach, margin), seeing)

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
    return None if found is None else measured(found)


def _best_place(exposure: Exposure, matched: Matched) -> Registered | None:
    """Look into the places that may be right, and take the one for which most speaks."""
    candidates = _coarse(exposure, matched)
    if not candidates:
        return None
    best = max(peak.significance for peak in candidates)
    looked = [peak for peak in candidates if peak.usual or peak.significance > _RIVAL * best]
    tried = [refined(exposure, matched, peak) for peak in looked]
    found = sorted((one for one in tried if one is not None), key=lambda one: -one.evidence)
    if not found:
        return None
    others = [one for one in found[1:] if _apart(one, found[0]) > _SAME_PLACE_ARCSEC]
    rival = max((one.evidence for one in others), default=0.0) / max(found[0].evidence, 1e-9)
    return replace(found[0], rival=rival)


def _apart(one: Registered, other: Registered) -> float:
    """Distance of two places, arcseconds."""
    return float(np.hypot(*(one.exposure.arcsec @ (one.shift - other.shift))))


def _coarse(exposure: Exposure, matched: Matched) -> tuple[Peak, ...]:
    """Look for places where the compressed images correlate."""
    narrow, wide = (width / exposure.pixel for width in _COARSE_ARCSEC)
    soft = _band(exposure.image, exposure.usable, narrow, wide)
    sigma = scaled_sigma(soft, exposure.sigma, exposure.usable)
    one, share = compress(soft, sigma, exposure.usable)
    known = np.isfinite(matched.image)
    other = compress_by_share(_band(matched.image, known, narrow, wide), known, share)
    return peaks(
        one, exposure.usable, other, known, matched.margin,
        1.2 / exposure.pixel, USUAL_ARCSEC / exposure.pixel,
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


def _polished(
    found: Registered,
    exposure: Exposure,
    matching: Callable[[float, float], Matched],
    search: Search,
) -> Registered:
    """Bring the resolutions together, fit the rotation, and measure for good."""
    best, seeing = _in_one_seeing(found, exposure, matching, search)
    angle, error = 0.0, math.nan
    ny, nx = exposure.image.shape
    middle = (nx - 1) / 2.0, (ny - 1) / 2.0
    for _ in range(3 if search.rotation else 0):
        turn, error = _rotation(best, middle, search.fewest_for_rotation)
        if not math.isfinite(error):
            break
        angle += turn
        again = refined(best.exposure, matching(seeing, angle), best.peak, best)
        if again is None:
            break
        best = again
        if abs(turn) < 0.05 * error:
            break
    return measured(replace(best, rival=found.rival, rotation_rad=angle, rotation_error_rad=error))


def _in_one_seeing(
    found: Registered,
    exposure: Exposure,
    matching: Callable[[float, float], Matched],
    search: Search,
) -> tuple[Registered, float]:
    """Smooth the reference (or the exposure) as its sources ask for, and compare once more."""
    best, seeing = found, search.seeing_arcsec
    for _ in range(_SEEING_ROUNDS if search.fit_seeing else 0):
        wide = refined(best.exposure, best.matched, best.peak, best, broadened=True)
        new = seeing if wide is None else _wider(seeing, wide)
        if wide is None or abs(new - seeing) < _SAME_SEEING_ARCSEC:
            break
        seeing = new
        compared = smoothed(exposure, -seeing) if seeing < 0 else exposure
        best = replace(wide, exposure=compared, matched=matching(seeing, 0.0))
    if best is found:  # with the coarse pixels of the search
        best = replace(found, matched=matching(seeing, 0.0))
    again = refined(best.exposure, best.matched, best.peak, best)
    return (found, found.matched.seeing_arcsec) if again is None else (again, seeing)


def _wider(seeing: float, found: Registered) -> float:
    """The seeing that the sources ask for: FWHM, arcseconds; below 0 for a blurred reference."""
    fits, asked = found.fits, found.asked & (found.fits.signal_to_noise > CALIBRATED_SN)
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
