"""One offset for each image from what pairs of images, and some images and a reference, say.

The noise of an image displaces it in the same way against every other one. So the
unknowns are places p = d + e, true offset and displacement by the image's own noise::

    p_i - p_j = pair_ij + small        p_i = absolute_i + small

and what is small is what two comparisons of one image do not share. The error of d is
that of p and that of e together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

UNSHARED = 0.35
"""Part of a comparison's error that another one of the same image does not share."""
FLOOR_ARCSEC = 0.003
"""No comparison is better than this."""
_ROUNDS = 12
_TUKEY = 6.0
"""Residuals beyond so many sigma do not count."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Comparisons of images with one another."""

    first: Integers
    """Index of the one, int64 (pair,)."""
    second: Integers
    """Index of the other."""
    place: Floats
    """Offset of the first minus that of the second, float64 (pair, 2), arcseconds."""
    error: Floats
    """One-sigma errors, float64 (pair, 2)."""
    share: Floats
    """Part of the error's square that is the first image's own noise, float64 (pair,)."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Offsets of all images in one system."""

    place: Floats
    """Float64 (image, 2), arcseconds; NaN where nothing ties an image to the rest."""
    error: Floats
    """One-sigma errors, float64 (image, 2)."""
    weight: Floats
    """What is left of each pair's weight, 0 to 1, float64 (pair,)."""
    residual: Floats
    """Pair minus solution, float64 (pair, 2)."""
    group: Integers
    """Which connected group each image is in, int64 (image,)."""
    tied: Bools
    """Whether the image's group is fixed by an absolute offset."""


def solve(n: int, pairs: Pairs, absolute: Floats, absolute_error: Floats) -> Solution:
    """Solve for all images at once, by least squares that pass over outliers (Tukey's weights).

    Parameters
    ----------
    n
        Number of images.
    pairs
        What was measured between them.
    absolute, absolute_error
        Offsets from a reference and their errors, float64 (image, 2); NaN where there
        is none.

    Returns
    -------
    Solution
        Where a group of connected images has no absolute offset, the mean of
        its images' offsets is 0: the mean of their headers is taken for right.
    """
    group = _groups(n, pairs)
    known = _complete(absolute)
    own = _own_errors(n, pairs, absolute_error)
    sigma = np.hypot(FLOOR_ARCSEC, UNSHARED * pairs.error)
    sigma_absolute = np.hypot(FLOOR_ARCSEC, UNSHARED * np.where(known[:, None], absolute_error, 1))
    weight = np.ones(pairs.first.size)
    place, covariance = np.zeros((n, 2)), np.zeros((n, 2))
    for _ in range(_ROUNDS):
        for axis in range(2):
            place[:, axis], covariance[:, axis] = _least_squares(
                n, pairs, weight, sigma[:, axis], absolute[:, axis], sigma_absolute[:, axis],
                known, group, axis,
            )  # fmt: skip
        residual = pairs.place - (place[pairs.first] - place[pairs.second])
        distance = np.sqrt(((residual / sigma) ** 2).sum(axis=1) / 2.0)
        # A scatter larger than stated is no reason to drop most of the pairs.
        scale = max(1.0, 1.2 * float(np.median(distance))) if distance.size else 1.0
        new = np.clip(1.0 - (distance / (_TUKEY * scale)) ** 2, 0.0, 1.0) ** 2
        if np.allclose(new, weight, atol=1e-3):
            weight = new
            break
        weight = new
    tied = np.zeros(n, bool)
    for one in np.unique(group):
        tied[group == one] = known[group == one].any()
    alone = ~known & (np.bincount(group, minlength=n)[group] == 1)
    place[alone] = np.nan
    error = np.sqrt(np.maximum(covariance, 0.0) + own**2)
    return Solution(
        place, error, weight, residual if pairs.first.size else pairs.place, group, tied
    )


def _complete(rows: Floats) -> Bools:
    """Which rows have no NaN."""
    return np.asarray(np.isfinite(rows).all(axis=1))


def _groups(n: int, pairs: Pairs) -> Integers:
    """Number the groups of images that pairs connect."""
    links = sparse.coo_array((np.ones(pairs.first.size), (pairs.first, pairs.second)), shape=(n, n))
    return np.asarray(csgraph.connected_components(links, directed=False)[1], np.int64)


def _own_errors(n: int, pairs: Pairs, absolute_error: Floats) -> Floats:
    """Error by each image's own noise, float64 (image, 2): the median of what its pairs say."""
    own = np.full((n, 2), np.nan)
    known = _complete(absolute_error)
    own[known] = absolute_error[known]
    for i in np.flatnonzero(~known):
        one, other = pairs.first == i, pairs.second == i
        squares = np.concatenate(
            [
                pairs.error[one] ** 2 * pairs.share[one, None],
                pairs.error[other] ** 2 * (1.0 - pairs.share[other, None]),
            ]
        )
        if squares.size:
            own[i] = np.sqrt(np.median(squares, axis=0))
    return own


def _least_squares(
    n: int,
    pairs: Pairs,
    weight: Floats,
    sigma: Floats,
    absolute: Floats,
    sigma_absolute: Floats,
    known: Bools,
    group: Integers,
    axis: int,
) -> tuple[Floats, Floats]:
    """Places along one axis and their variances, float64 (image,)."""
    w = weight / sigma**2
    normal = np.zeros((n, n))
    np.add.at(normal, (pairs.first, pairs.first), w)
    np.add.at(normal, (pairs.second, pairs.second), w)
    np.add.at(normal, (pairs.first, pairs.second), -w)
    np.add.at(normal, (pairs.second, pairs.first), -w)
    right = np.zeros(n)
    np.add.at(right, pairs.first, w * pairs.place[:, axis])
    np.add.at(right, pairs.second, -w * pairs.place[:, axis])
    fixed = np.where(known, 1.0 / sigma_absolute**2, 0.0)
    normal[np.diag_indices(n)] += fixed
    right += fixed * np.where(known, absolute, 0.0)
    # Where nothing fixes a group its mean is held at 0; a weight of the size of the others
    # keeps the system well conditioned.
    size = max(float(np.max(normal, initial=0.0)), 1.0)
    free = []
    for one in np.unique(group):
        members = group == one
        if not known[members].any():
            normal[np.ix_(members, members)] += size
            free.append(members)
    inverse = np.linalg.pinv(normal, hermitian=True)
    variance = np.diag(inverse).copy()
    for members in free:
        variance[members] -= 1.0 / (size * members.sum() ** 2)
    return inverse @ right, np.maximum(variance, 0.0)
