"""Exposures that no reference fixes: their offsets from one another, in one system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from musedask.alignment.grading import GRADES
from musedask.alignment.image import FieldImage
from musedask.alignment.material import Compared, write_material
from musedask.alignment.measurement import Measurement
from musedask.alignment.measuring import MeasureOptions, measurement_of, total_offset
from musedask.alignment.pairs import (
    Pair,
    Prepared,
    chosen_pairs,
    compare,
    left_of,
    matched_to,
    overlaps,
    tree,
)
from musedask.alignment.registration.solving import Pairs, Solution, solve
from musedask.tasks import map_tasks

Floats = np.ndarray[Any, np.dtype[np.float64]]

HEADERS = "mean of the headers"
TRUSTED = "AB"
MOST_IN_REFERENCE = 8
SHOWN_MARGIN_ARCSEC = 3.0
_DISAGREEMENT = 0.1
"""Arcseconds between a pair and the solution that are worth a word."""


def with_relative(
    images: Sequence[FieldImage],
    found: Sequence[Measurement],
    options: MeasureOptions,
    folder: Path | None = None,
) -> tuple[Measurement, ...]:
    """Give offsets from one another to exposures that have no good absolute one.

    Parameters
    ----------
    images
        The exposures.
    found
        Their absolute measurements, F where there was no reference. Those of grade
        A and B stay, and fix the system.
    options
        As for the absolute measurements.
    folder
        Where the images that were compared are kept, if anywhere.

    Returns
    -------
    tuple of Measurement
        In the order of the images.
    """
    prepared = map_tasks(partial(Prepared.of, masks=options.masks), images)
    depth = np.array([one.depth for one in prepared])
    share = overlaps(images)
    absolute = np.array([left_of(image, one) for image, one in zip(images, found, strict=True)])
    errors = np.array([[one.ra_error_arcsec, one.dec_error_arcsec] for one in found])
    trusted = np.array([one.grade in TRUSTED for one in found])
    doubtful = not trusted.any()
    if doubtful:  # they fix the system all the same: one table does not stand on two frames
        trusted = np.array([one.grade == "C" for one in found], bool)
    absolute[~trusted] = np.nan
    errors[~trusted] = np.nan
    pairs = _all_pairs(prepared, depth, share, absolute, options.max_offset_arcsec)
    solution = solve(len(images), _as_arrays(pairs), absolute, errors)
    result = []
    for i, measurement in enumerate(found):
        # A doubtful place against the reference is worth more than a good one against headers.
        if trusted[i] or (measurement.grade == "C" and not solution.tied[i]):
            result.append(measurement)
            continue
        mine = [pair for pair in pairs if i in (pair.first, pair.second)]
        new = _relative(i, images[i], measurement, solution, mine, pairs)
        if doubtful and solution.tied[i] and new.grade in TRUSTED:
            why = "what it is tied to the reference by is doubtful"
            new = replace(new, grade="C", reasons=(why, *new.reasons))
        if folder is not None:
            write_material(folder, [_shown(i, prepared, solution, mine, new)])
        result.append(new)
    return tuple(result)


def _all_pairs(
    prepared: Sequence[Prepared],
    depth: Floats,
    share: Floats,
    absolute: Floats,
    largest: float,
) -> list[Pair]:
    """Compare exposures along a tree first, however far apart, then all pairs from there."""
    known = np.asarray(np.isfinite(absolute).all(axis=1))
    rough = np.where(known[:, None], absolute, 0.0)
    found: dict[tuple[int, int], Pair] = {}
    lost: set[int] = set()
    for i, partner in tree(share, depth, list(np.flatnonzero(known))):
        if partner < 0:
            continue
        for j in _partners(i, share, depth, lost, partner):
            pair = compare(prepared[i], prepared[j], (i, j), None, largest)
            if pair is not None and _is_sound(pair):
                rough[i] = rough[j] + pair.place
                found[i, j] = pair
                break
        else:
            lost.add(i)
    wanted = [
        (i, j) for i, j in chosen_pairs(share, depth)
        # Two that the reference fixes need not be compared with one another.
        if (i, j) not in found and not {i, j} & lost and not (known[i] and known[j])
    ]  # fmt: skip
    again = map_tasks(partial(_compared_again, prepared, rough), wanted)
    return [*found.values(), *(pair for pair in again if pair is not None and _is_sound(pair))]


def _partners(
    i: int, share: Floats, depth: Floats, lost: set[int], first: int, most: int = 3
) -> list[int]:
    """Whom to compare an exposure with, the best first."""
    value = share[i] * depth
    others = [int(j) for j in np.argsort(-value, kind="stable") if j < len(value)]
    tried = [first] if first not in lost else []
    tried += [j for j in others if j not in (i, first) and j not in lost and share[i, j] > 0.1]
    return tried[:most]


def _compared_again(
    prepared: Sequence[Prepared], rough: Floats, indices: tuple[int, int]
) -> Pair | None:
    i, j = indices
    return compare(prepared[i], prepared[j], indices, rough[i] - rough[j], 0.0)


def _is_sound(pair: Pair) -> bool:
    """Whether a pair can say anything: more than one source, and no other place as good."""
    belongs = pair.registered.belongs > 0.5
    clear = belongs & (pair.registered.fits.signal_to_noise > 4.0)
    return bool(clear.sum() >= 2 and pair.registered.rival < 0.6 and pair.error.max() < 0.3)


def _as_arrays(pairs: Sequence[Pair]) -> Pairs:
    return Pairs(
        np.array([pair.first for pair in pairs], np.int64),
        np.array([pair.second for pair in pairs], np.int64),
        np.array([pair.place for pair in pairs]).reshape(-1, 2),
        np.array([pair.error for pair in pairs]).reshape(-1, 2),
        np.array([pair.share for pair in pairs]),
    )


def _relative(
    i: int,
    image: FieldImage,
    before: Measurement,
    solution: Solution,
    mine: Sequence[Pair],
    pairs: Sequence[Pair],
) -> Measurement:
    """The measurement of one exposure out of the common solution."""
    tied = bool(solution.tied[i])
    method = "reference+relative" if tied else "relative"
    base = replace(before, method=method, frame=before.frame if tied else HEADERS)
    if not mine or not np.isfinite(solution.place[i]).all():
        why = "it agrees with no other exposure" if not mine else "nothing ties it to the others"
        return base.failed(why)
    biggest = np.bincount(solution.group).max()
    size = int((solution.group == solution.group[i]).sum())
    if not tied and (solution.tied.any() or size < biggest):
        return base.failed("it overlaps with none of those that the others stand on")
    best = max(mine, key=lambda pair: float(pair.registered.agreement.effective))
    measured = measurement_of(
        image, base, best.registered, (math.nan, math.nan), math.inf
    )  # fmt: skip
    east, north = total_offset(image, solution.place[i])
    grade, reasons = _grade(i, measured, solution, mine, pairs)
    return replace(
        measured,
        ra_offset_arcsec=east,
        dec_offset_arcsec=north,
        ra_error_arcsec=float(solution.error[i, 0]),
        dec_error_arcsec=float(solution.error[i, 1]),
        rotation_deg=math.nan,
        rotation_error_deg=math.nan,
        correlation_before=math.nan,
        flux_scale=math.nan,
        flux_scale_error=math.nan,
        background=math.nan,
        background_error=math.nan,
        grade=grade,
        reasons=reasons,
        sources=(),
    )


def _grade(
    i: int,
    best: Measurement,
    solution: Solution,
    mine: Sequence[Pair],
    pairs: Sequence[Pair],
) -> tuple[str, tuple[str, ...]]:
    """Grade a relative offset: that of its best pair, and no better than its pairs agree."""
    complaints = [(best.grade, reason) for reason in best.reasons]
    weights = np.array(
        [solution.weight[k] for k, pair in enumerate(pairs) if i in (pair.first, pair.second)]
    )
    residuals = np.array(
        [
            np.hypot(*solution.residual[k])
            for k, pair in enumerate(pairs)
            if i in (pair.first, pair.second)
        ]
    )
    passed = int((weights < 0.1).sum())
    if passed:
        letter = "C" if 2 * passed >= len(mine) else "B"
        complaints.append((letter, f"{passed} of {len(mine)} pairs disagree with the rest"))
    typical = float(np.median(residuals))
    if typical > _DISAGREEMENT:
        complaints.append(("C", f"its pairs disagree by {typical:.2f} arcsec"))
    error = float(solution.error[i].max())
    if error > 0.05:
        complaints.append(("B" if error < 0.1 else "C", f"the error is {error:.3f} arcsec"))
    worst = max((letter for letter, _ in complaints), key=GRADES.index, default="A")
    return worst, tuple(reason for _, reason in complaints)


def _shown(
    i: int,
    prepared: Sequence[Prepared],
    solution: Solution,
    mine: Sequence[Pair],
    measurement: Measurement,
) -> Compared:
    """The exposure beside the mean of its partners, for people to look at."""
    me = prepared[i]
    margin = math.ceil(
        (np.abs(np.nan_to_num(solution.place[i])).max() + SHOWN_MARGIN_ARCSEC) / me.exposure.pixel
    )
    ny, nx = me.exposure.image.shape
    total, weight = (
        np.zeros((ny + 2 * margin, nx + 2 * margin)),
        np.zeros((ny + 2 * margin, nx + 2 * margin)),
    )
    ordered = sorted(mine, key=lambda pair: -float(pair.registered.agreement.effective))
    for pair in ordered[:MOST_IN_REFERENCE]:
        j = pair.second if pair.first == i else pair.first
        # The partner where it really is; this exposure stays where its file has it.
        seen = matched_to(me, prepared[j], -solution.place[j], margin).image
        known = np.isfinite(seen)
        total[known] += seen[known]
        weight[known] += 1.0
    mean = np.where(weight > 0, total / np.maximum(weight, 1.0), np.nan)
    if not np.isfinite(mean).any():
        mean = np.zeros_like(mean)
    image = me.image
    usable = me.exposure.usable
    seen_image = replace(
        image,
        flux=np.where(usable, me.exposure.image, np.nan).astype(np.float32),
        variance=np.where(usable, me.exposure.sigma**2, np.nan).astype(np.float32),
        coverage=None,
    )
    reference = FieldImage(
        flux=mean.astype(np.float32), projection=image.projection.shifted(-margin, -margin),
        name="the other exposures", band=image.band, units=image.units,
    )  # fmt: skip
    return Compared(measurement, seen_image, reference)
