"""Exposures against one another: which pairs overlap, and what each pair says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from musedask.alignment.image import FieldImage
from musedask.alignment.material import MaskedCircle
from musedask.alignment.measurement import Measurement
from musedask.alignment.measuring import mapping_between, without
from musedask.alignment.registration.lattices import Mapping, Matched
from musedask.alignment.registration.preparing import Exposure, prepare
from musedask.alignment.registration.refining import measured_from
from musedask.alignment.registration.registered import Registered
from musedask.alignment.registration.registering import register_matched
from musedask.alignment.registration.splines import Sampler

Floats = np.ndarray[Any, np.dtype[np.float64]]

SMALLEST_OVERLAP = 0.1
"""Share of the smaller field that two exposures have to share."""
ROOM_ARCSEC = 2.0
"""How far from where the tree put it a pair is compared."""
MOST_PARTNERS = 24
"""Beyond so many overlapping exposures the best are taken: they say all that there is."""
TYPICAL_SEEING_ARCSEC = 0.75
PROMISE = 7.0
"""Signal to noise of a source in the partner: its noise must not pass for sources."""
SMOOTHING_ARCSEC = 0.16
"""Width (sigma) by which the partner is smoothed: as it came, what is read off between its
pixels has less noise than what is read off at them, which draws offsets to halves of a pixel."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """An exposure that is ready to be compared, either way round."""

    image: FieldImage
    """As it came."""
    exposure: Exposure
    """Background subtracted, noise known."""
    sampler: Sampler
    """To read it off between its pixels."""

    @classmethod
    def of(cls, given: FieldImage, masks: Sequence[MaskedCircle] = ()) -> Prepared:
        """Prepare an image, of which some parts do not count."""
        image = without(given, masks) or given
        variance = None if image.variance is None else image.variance.astype(float)
        exposure = prepare(image.flux.astype(float), variance, image.arcsec_per_pixel)
        soft = ndimage.gaussian_filter(exposure.image, SMOOTHING_ARCSEC / exposure.pixel)
        seen = np.where(exposure.usable, soft, np.nan)
        return cls(image, exposure, Sampler.of(seen))

    @property
    def depth(self) -> float:
        """Signal of what stands out, in sigma: who is a good partner."""
        ratio = self.exposure.image / self.exposure.sigma
        return float(np.sqrt((np.clip(ratio - 3.0, 0.0, 30.0) ** 2).sum()))


@dataclass(frozen=True, eq=False)
class Pair:
    """What two exposures say of each other."""

    first: int
    """Index of the one whose offset was measured."""
    second: int
    """Index of the one that served as reference."""
    place: Floats
    """Offset of the first minus that of the second, relative to the files' WCS, arcseconds."""
    error: Floats
    """One-sigma errors."""
    share: float
    """Part of the error's square that is the first one's."""
    registered: Registered
    """All of it."""


def overlaps(images: Sequence[FieldImage]) -> Floats:
    """Share of the smaller field that each two exposures have in common, float64 (n, n).

    By the headers, on a coarse lattice; fields that are too far apart are not looked at.
    """
    n = len(images)
    samples = [_sky_samples(image) for image in images]
    middles = [place.mean(axis=0) if len(place) else np.zeros(3) for place in samples]
    radii = [float(_distance(p, m).max(initial=0.0)) for p, m in zip(samples, middles, strict=True)]
    result = np.zeros((n, n))
    for i in range(n):
        near = _distance(np.array(middles[:i]).reshape(-1, 3), middles[i]) < radii[i] + np.array(
            radii[:i]
        )
        for j in map(int, np.flatnonzero(near)):
            share = max(_seen(samples[i], images[j]), _seen(samples[j], images[i]))
            result[i, j] = result[j, i] = share
    return result


def _sky_samples(image: FieldImage) -> Floats:
    """Unit vectors of a coarse lattice of the pixels that have a value, float64 (place, 3)."""
    ny, nx = image.shape
    yy, xx = np.mgrid[0 : ny - 1 : 24j, 0 : nx - 1 : 24j]
    inside = np.isfinite(image.flux[np.rint(yy).astype(int), np.rint(xx).astype(int)])
    ra, dec = np.radians(image.projection.to_sky(xx[inside], yy[inside]))
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _distance(places: Floats, middle: Floats) -> Floats:
    return np.asarray(np.linalg.norm(places - middle, axis=1))


def _seen(places: Floats, image: FieldImage) -> float:
    """Share of some places on the sky at which an image has a value."""
    x, y, z = places.T
    ra, dec = np.degrees(np.arctan2(y, x)), np.degrees(np.arcsin(np.clip(z, -1, 1)))
    column, row = image.projection.to_pixel(ra, dec)
    ny, nx = image.shape
    met: Any = (
        np.isfinite(column) & (column >= 0) & (row >= 0) & (column <= nx - 1) & (row <= ny - 1)
    )
    at_y, at_x = np.rint(row[met]).astype(int), np.rint(column[met]).astype(int)
    return float(np.isfinite(image.flux[at_y, at_x]).sum()) / max(1, len(places))


def left_of(image: FieldImage, measurement: Measurement) -> tuple[float, float]:
    """What is left of an offset relative to the file's own WCS, arcseconds (east, north)."""
    return (
        measurement.ra_offset_arcsec - image.carried_ra_arcsec,
        measurement.dec_offset_arcsec - image.carried_dec_arcsec,
    )


def chosen_pairs(share: Floats, depth: Floats, most: int = MOST_PARTNERS) -> list[tuple[int, int]]:
    """All overlapping pairs; of an exposure with very many partners those that say most."""
    n = share.shape[0]
    kept = set()
    for i in range(n):
        value = np.where(share[i] >= SMALLEST_OVERLAP, share[i] * depth, 0.0)
        value[i] = 0.0
        for j in np.argsort(-value, kind="stable")[:most]:
            if value[j] > 0:
                kept.add((max(i, int(j)), min(i, int(j))))
    return sorted(kept)


def tree(share: Floats, depth: Floats, fixed: Sequence[int]) -> list[tuple[int, int]]:
    """An order in which each exposure can be compared with one whose place is known.

    Parameters
    ----------
    share
        Overlaps, float64 (n, n).
    depth
        What each exposure shows, float64 (n,).
    fixed
        Those whose place is known already.

    Returns
    -------
    list
        (exposure, partner); a partner of -1 begins a group.
    """
    n = share.shape[0]
    value = np.where(share >= SMALLEST_OVERLAP, share * np.sqrt(np.outer(depth, depth)), 0.0)
    done, order = np.zeros(n, bool), []
    done[list(fixed)] = True
    # The best link of each to one that is done (Prim's algorithm).
    link = np.where(done, value, 0.0).max(axis=1, initial=0.0)
    partner = np.where(done, value, -1.0).argmax(axis=1)
    for _ in range(n - int(done.sum())):
        i = int(np.argmax(np.where(done, -1.0, link)))
        if link[i] > 0:
            order.append((i, int(partner[i])))
        else:
            i = int(np.argmax(np.where(done, -1.0, depth)))
            order.append((i, -1))
        done[i] = True
        better = value[i] > link
        link, partner = np.where(better, value[i], link), np.where(better, i, partner)
    return order


def matched_to(first: Prepared, second: Prepared, between: Floats, margin: int) -> Matched:
    """The second exposure on the first one's lattice.

    Parameters
    ----------
    first, second
        Exposures.
    between
        Where the first is taken to stand relative to the second, arcseconds (east, north):
        it is subtracted, so that what is left to find is small.
    margin
        Pixels around the field.
    """
    straight = mapping_between(first.image, second.image.projection)
    shift = np.linalg.solve(first.exposure.arcsec, between)
    mapping = Mapping(straight.origin - straight.matrix @ shift, straight.matrix)
    ny, nx = first.image.shape
    corner = mapping.origin - mapping.matrix @ np.array([margin, margin])
    size = (ny + 2 * margin, nx + 2 * margin)
    area = abs(float(np.linalg.det(mapping.matrix)))
    values = second.sampler.on_lattice(corner, mapping.matrix, size) * area
    return Matched(values, np.zeros(values.shape), margin, TYPICAL_SEEING_ARCSEC, PROMISE)


def compare(
    first: Prepared,
    second: Prepared,
    indices: tuple[int, int],
    between: Floats | None,
    largest: float,
) -> Pair | None:
    """Measure the offset between two exposures; None if they agree on nothing.

    Parameters
    ----------
    first, second
        Exposures.
    indices
        Their numbers.
    between
        Roughly the offset, arcseconds; None to search as far as ``largest``.
    largest
        How far to search along an axis, arcseconds.
    """
    pixel = first.exposure.pixel
    if between is None:
        start = np.zeros(2)
        matched = matched_to(first, second, start, math.ceil(largest / pixel - 1e-6) + 2)
        found = register_matched(first.exposure, matched)
    else:
        start = between
        matched = matched_to(first, second, start, math.ceil(ROOM_ARCSEC / pixel))
        found = measured_from(first.exposure, matched, np.zeros(2))
    if found is None:
        return None
    place = start + found.offset_arcsec
    error = np.sqrt(np.diag(found.agreement.covariance))
    return Pair(*indices, place, error, _share(first, second, found), found)


def _share(first: Prepared, second: Prepared, found: Registered) -> float:
    """Part of the noise of the difference that is the first exposure's."""
    one = float(np.median(first.exposure.sigma[first.exposure.usable]))
    other = found.amplitude * float(np.median(second.exposure.sigma[second.exposure.usable]))
    return one**2 / (one**2 + other**2)
