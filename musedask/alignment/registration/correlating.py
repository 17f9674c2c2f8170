"""The offset of two images when it may be many times the size of their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft, ndimage

from musedask.alignment.registration.kernels import MAD_TO_SIGMA, pearson_coefficient

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_SMALLEST_OVERLAP = 0.25
"""Share of the pixels of the smaller one of the two that have to meet."""
_BRIGHT_SIGMA = 4.0
_FEWEST_BRIGHT = 60
_MOST_BRIGHT = 0.25


@dataclass(frozen=True)
class Peak:
    """A place where the two images may agree."""

    dx: float
    """How far the image is displaced to the right, pixels."""
    dy: float
    """How far it is displaced upwards, pixels."""
    correlation: float
    """Pearson's coefficient there, of the compressed images."""
    significance: float
    """Height above the median of all places, in robust standard deviations."""
    usual: bool = False
    """Whether it is the highest of those near the header's place."""


def compress(image: Floats, sigma: Floats, usable: Bools) -> tuple[Floats, float]:
    """Limit what a bright source can say: values in sigma, cut at the level of a detection.

    Parameters
    ----------
    image
        Float64 (y, x), background subtracted.
    sigma
        Float64 (y, x), its noise.
    usable
        Bool (y, x).

    Returns
    -------
    tuple
        The compressed image, 0 where it is not usable, and the share of usable
        pixels that are cut.
    """
    ratio = np.where(usable, image / sigma, 0.0)
    total = max(1, int(usable.sum()))
    share = float((ratio > _BRIGHT_SIGMA).sum()) / total
    share = min(max(share, _FEWEST_BRIGHT / total), _MOST_BRIGHT)
    return compress_by_share(ratio, usable, share), share


def compress_by_share(image: Floats, usable: Bools, share: float) -> Floats:
    """Cut an image so that a given share of its usable pixels is cut; scale that level to 1."""
    values = image[usable]
    top = float(np.quantile(values, 1.0 - share)) if values.size else 1.0
    if not top > 0:
        top = float(values.max(initial=0.0)) or 1.0
    return np.where(usable, np.clip(image / top, -0.5, 1.0), 0.0)


def peaks(
    image: Floats,
    image_usable: Bools,
    reference: Floats,
    reference_usable: Bools,
    margin: int,
    apart: float,
    near: float,
    most: int = 4,
) -> tuple[Peak, ...]:
    """Correlate an image with a reference at all displacements of up to ``margin`` pixels.

    Pearson's coefficient of the pixels that both have, at each displacement
    (Padfield 2012, IEEE Trans. Image Processing 21, 2706): edges and holes say nothing.

    Parameters
    ----------
    image, image_usable
        Float64 and bool (y, x).
    reference, reference_usable
        The same with ``margin`` more pixels on every side.
    margin
        Largest displacement, pixels.
    apart
        Two peaks are at least so far apart, pixels.
    near
        The highest peak that is no farther away is given in any case, pixels.
    most
        So many others are given at most.

    Returns
    -------
    tuple of Peak
        The usual one, then the highest first; empty if the two hardly meet.
    """
    coefficient = _coefficients(image, image_usable, reference, reference_usable, margin)
    known = np.isfinite(coefficient)
    if known.sum() < 2:
        return ()
    level = float(np.median(coefficient[known]))
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(coefficient[known] - level))) or 1.0
    left = np.where(known, coefficient, -np.inf)
    yy, xx = np.mgrid[: left.shape[0], : left.shape[1]]
    usual = np.where(np.hypot(yy - margin, xx - margin) <= near, left, -np.inf)
    found = []
    for turn in range(most + 1):
        y, x = np.unravel_index(int(np.argmax(left if turn else usual)), left.shape)
        if not np.isfinite(left[y, x]):
            continue
        dx, dy = _top(coefficient, int(y), int(x))
        value = float(coefficient[y, x])
        significance = (value - level) / sigma
        found.append(Peak(dx - margin, dy - margin, value, significance, usual=turn == 0))
        left[np.hypot(yy - y, xx - x) < apart] = -np.inf
    return tuple(found)


def _coefficients(
    image: Floats, image_usable: Bools, reference: Floats, reference_usable: Bools, margin: int
) -> Floats:
    """Pearson's coefficient at each displacement, float64 (2 margin + 1, 2 margin + 1)."""
    size = tuple(int(fft.next_fast_len(n, real=True)) for n in reference.shape)
    width = 2 * margin + 1

    def transform(array: Any) -> Any:
        return fft.rfft2(np.asarray(array, np.float64), size)

    def sums(reference_side: Any, image_side: Any) -> Floats:
        # The sum over the image's pixels p of image[p] * reference[p + margin - displacement]
        # comes out at place margin - displacement.
        product = fft.irfft2(reference_side * np.conj(image_side), size)[:width, :width]
        return np.asarray(product[::-1, ::-1])

    inside, around = transform(image_usable), transform(reference_usable)
    one, other = transform(image * image_usable), transform(reference * reference_usable)
    overlap = np.round(sums(around, inside))
    with np.errstate(invalid="ignore", divide="ignore"):
        both = sums(other, one)
        mean_image = sums(around, one) / overlap
        mean_reference = sums(other, inside) / overlap
        squares_image = sums(around, transform(image**2 * image_usable)) / overlap
        squares_reference = sums(transform(reference**2 * reference_usable), inside) / overlap
        spread = (squares_image - mean_image**2) * (squares_reference - mean_reference**2)
        result = (both / overlap - mean_image * mean_reference) / np.sqrt(spread)
    smaller = min(int(image_usable.sum()), int(reference_usable.sum()))
    few = overlap < _SMALLEST_OVERLAP * max(1, smaller)
    tiny = ~(spread > 1e-12 * np.nanmax(np.where(few, np.nan, spread), initial=0.0))
    result[few | tiny] = np.nan
    return result


def _top(coefficient: Floats, y: int, x: int) -> tuple[float, float]:
    """Place (x, y) of the parabola's top through a peak and its neighbours."""
    place = []
    for axis, at in ((1, x), (0, y)):
        if not 0 < at < coefficient.shape[axis] - 1:
            place.append(float(at))
            continue
        line = coefficient[y, at - 1 : at + 2] if axis == 1 else coefficient[at - 1 : at + 2, x]
        curve = line[0] - 2 * line[1] + line[2]
        move = 0.5 * (line[0] - line[2]) / curve if np.isfinite(curve) and curve < 0 else 0.0
        place.append(at + float(np.clip(move, -0.5, 0.5)))
    return place[0], place[1]


def pearson(one: Floats, other: Floats, usable: Bools) -> float:
    """Pearson's coefficient of the usable pixels; NaN where it has no meaning."""
    return float(pearson_coefficient(one, other, usable))


def eroded(usable: Bools, pixels: int) -> Bools:
    """Take away a rim, at holes of more than a few pixels too."""
    if pixels <= 0:
        return usable
    # Single missing pixels are no edge: without them the rim of each would eat the field.
    filled = ndimage.binary_closing(np.pad(usable, pixels), iterations=1)
    inner = ndimage.binary_erosion(filled, iterations=pixels)[pixels:-pixels, pixels:-pixels]
    return np.asarray(inner & usable)
