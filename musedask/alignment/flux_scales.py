"""Fluxes of exposures in one system, from what pairs of exposures say of each other.

The flux of one exposure over that of another is a difference of logarithms, and these
are solved for as places are: all pairs at once, passing over those that disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from musedask.alignment.flux_ratios import Aligned, flux_ratio
from musedask.alignment.image import FieldImage
from musedask.alignment.material import MaskedCircle
from musedask.alignment.measurement import Measurement
from musedask.alignment.pairs import Prepared, chosen_pairs, left_of, matched_to, overlaps, tree
from musedask.alignment.registration.solving import Pairs, solve
from musedask.tasks import map_tasks

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

PARTNERS = 6
"""Of each exposure so many others are compared with it, the best ones."""
_TRUSTED = ("AB", "C")
"""Grades whose flux scales tie a group to the reference; the second where there are no others."""


@dataclass(frozen=True)
class Ratio:
    """The flux of one exposure over that of another."""

    first: int
    """Index of the one."""
    second: int
    """Index of the other."""
    value: float
    """The ratio; NaN if nothing tells it."""
    error: float
    """Its one-sigma error."""


def with_flux_scales(
    images: Sequence[FieldImage],
    found: Sequence[Measurement],
    masks: Sequence[MaskedCircle] = (),
    *,
    everywhere: bool = True,
) -> tuple[Measurement, ...]:
    """Give measurements the flux scales that make the exposures agree with one another; computes.

    All exposures that overlap, directly or over others, are in one system. That of a group
    in which some have been compared with an image of another telescope is the reference's:
    a scale is in its units over the exposure's, and the median of what these say of the
    whole group, each of which is known less well than the exposures among themselves, gives
    the factor of them all. Other groups have no unit: the geometric mean of their scales is 1.
    Errors are those of the comparison of the exposures.

    Parameters
    ----------
    images
        The exposures.
    found
        What was measured of them, in the same order.
    masks
        Parts of the sky that do not count.
    everywhere
        Whether also measurements that have been made without other exposures get such a
        scale in the place of their own.

    Returns
    -------
    tuple of Measurement
        In the order of the images. Without a scale are those that have failed, and those
        that have not two clear sources in common with another one.
    """
    placed = [i for i, one in enumerate(found) if one.grade != "F"]
    if len(placed) < 2:
        return tuple(found)
    some = [images[i] for i in placed]
    prepared = map_tasks(partial(Prepared.of, masks=tuple(masks)), some)
    place = np.array([left_of(images[i], found[i]) for i in placed]).reshape(-1, 2)
    share, depth = overlaps(some), np.array([one.depth for one in prepared])
    # The tree holds all together that can be.
    links = {(max(pair), min(pair)) for pair in tree(share, depth, []) if min(pair) >= 0}
    chosen = sorted(links | set(chosen_pairs(share, depth, PARTNERS)))
    ratios = map_tasks(partial(_ratio, prepared, place), chosen)
    scale, error, group = solved_scales(len(placed), ratios)
    scale, tied = in_units_of_reference(scale, group, [found[i] for i in placed])
    one_system = bool((tied | np.isnan(scale)).all())
    result = list(found)
    for k, i in enumerate(placed):
        if not (everywhere or "relative" in found[i].method):
            continue
        if np.isnan(scale[k]) and one_system and found[i].method == "reference":
            continue  # it has its own, and nothing better
        result[i] = replace(
            found[i],
            flux_scale=float(scale[k]),
            flux_scale_error=float(error[k] * scale[k]),
        )
    return tuple(result)


def solved_scales(n: int, ratios: Sequence[Ratio]) -> tuple[Floats, Floats, Integers]:
    """Give the factors that bring the fluxes of exposures into one system.

    Parameters
    ----------
    n
        Number of exposures.
    ratios
        Comparisons of them.

    Returns
    -------
    scale
        Float64 (exposure,): what flux has to be multiplied by; the geometric mean of each
        connected group is 1. NaN where nothing is known.
    error
        Its one-sigma error as a share of it.
    group
        Which group each exposure is in, int64 (exposure,).
    """
    good = [one for one in ratios if one.value > 0 and one.error > 0]
    value, error = (np.array([getattr(one, key) for one in good]) for key in ("value", "error"))
    compared = Pairs(
        np.array([one.first for one in good], np.int64),
        np.array([one.second for one in good], np.int64),
        _twice(np.log(value)),
        _twice(error / value),
        np.full(len(good), 0.5),
    )
    nothing = np.full((n, 2), np.nan)
    solution = solve(n, compared, nothing, nothing)
    brightness = solution.place[:, 0]
    # What is too bright by a factor has the inverse of it as its scale.
    error = np.where(np.isfinite(brightness), solution.error[:, 0], np.nan)
    return np.exp(-brightness), error, solution.group


def in_units_of_reference(
    scale: Floats, group: Integers, found: Sequence[Measurement]
) -> tuple[Floats, Bools]:
    """Tie each group to the scales that a reference gave to some of its exposures.

    Parameters
    ----------
    scale, group
        As of :func:`solved_scales`.
    found
        What was measured of the exposures.

    Returns
    -------
    scale
        Float64 (exposure,): the scales, times one factor for each group.
    tied
        Bool (exposure,): which of them are in units of the reference now.
    """
    result, tied = scale.copy(), np.zeros(scale.size, bool)
    own = np.array([one.flux_scale if one.method == "reference" else np.nan for one in found])
    for members in (group == one for one in np.unique(group)):
        for grades in _TRUSTED:
            fits = np.array([one.grade in grades for one in found], bool)
            factors = (own / scale)[members & fits]
            factors = factors[np.isfinite(factors) & (factors > 0)]
            if factors.size:
                result[members] *= math.exp(float(np.median(np.log(factors))))
                tied[members] = True
                break
    return result, tied


def _ratio(prepared: Sequence[Prepared], place: Floats, pair: tuple[int, int]) -> Ratio:
    """Compare two exposures, the second brought onto the first one's pixels."""
    i, j = pair
    first = prepared[i].exposure
    other = matched_to(prepared[i], prepared[j], place[i] - place[j], 0)
    value, error = flux_ratio(
        Aligned(np.where(first.usable, first.image, np.nan), _noise(prepared[i])),
        Aligned(other.image, _noise(prepared[j])),
        first.pixel,
    )
    return Ratio(i, j, value, error)


def _noise(one: Prepared) -> float:
    return float(np.median(one.exposure.sigma[one.exposure.usable]))


def _twice(values: Floats) -> Floats:
    """One number as both axes of a place."""
    return np.column_stack([values, values]).reshape(-1, 2)
