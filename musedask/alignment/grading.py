"""How far a measured offset can be trusted, and why not farther.

``A``: several sources agree, the error is small, nothing speaks against it.
``B``: usable for a stack. ``C``: somebody has to look. ``F``: there is no offset.
A grade is the worst that any of the rules gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

GRADES = "ABCF"


@dataclass(frozen=True)
class Evidence:
    """What a grade rests on."""

    error_arcsec: float
    """The larger error of the two axes."""
    n_agreeing: int
    """Sources that agree."""
    n_disagreeing: int
    """Sources as well measured as those, that do not."""
    effective: float
    """Number of sources of equal weight that would say as much."""
    signal_to_noise: float
    """Of the sources that agree, in quadrature."""
    scatter_arcsec: float
    """Scatter from source to source beyond their errors, an axis."""
    significance: float
    """Height of the coarse peak, in standard deviations of other places."""
    rival: float
    """Evidence for another place, as a share of that for this one."""
    seen: float
    """Share of the sources that the reference promises clearly which are there, and agree."""
    overlap: float
    """Share of the exposure's field that the reference covers."""
    spread_arcsec: float = math.inf
    """How far apart the sources lie that agree (root mean square from their middle)."""
    blue_red_arcsec: float = math.nan
    """Distance between the offsets of a blue and a red image."""
    blue_red_error_arcsec: float = math.nan
    """Its error along one axis."""
    offset_arcsec: float = 0.0
    """How far the exposure is from its header's place."""
    largest_arcsec: float = math.inf
    """How far was looked."""


LARGEST_ERROR = {"A": 0.05, "B": 0.1, "C": 0.3}
"""Arcseconds: MUSE's own requirement is a quarter of a spaxel, 0.05."""
FEWEST = {"A": 4, "B": 2}
FEWEST_EFFECTIVE = {"A": 1.8, "B": 1.2}
LARGEST_RIVAL = {"A": 0.35, "B": 0.5, "C": 0.8}
SMALLEST_SN = {"A": 20.0, "B": 12.0, "C": 6.0}
LARGEST_SCATTER = {"A": 0.05, "B": 0.1}
LARGEST_DISAGREEMENT = {"A": 0.5, "B": 1.0}
SMALLEST_OVERLAP = {"A": 0.75, "B": 0.6}
SMALLEST_SEEN = {"A": 0.6, "B": 0.5, "C": 0.25}
"""By chance it is a few per cent; sources that moved, vary or are struck leave most."""
SMALLEST_SPREAD = {"A": 4.0, "B": 1.5}
"""Arcseconds: knots of one galaxy are not independent of one another."""
SMALLEST_SIGNIFICANCE = {"A": 5.0, "B": 5.0}
NOT_CORRECTED_ARCSEC = 0.1
_CLEAR = 2.0


def grade(evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """Give a grade, and a short sentence for each reason that it is not better.

    Returns
    -------
    tuple
        One of ``A B C F``, and the reasons, the gravest first.
    """
    found = sorted(_complaints(evidence), key=lambda one: -GRADES.index(one[0]))
    worst = found[0][0] if found else "A"
    return worst, tuple(reason for _, reason in found)


def _complaints(e: Evidence) -> Iterator[tuple[str, str]]:
    """The best grade that each rule leaves, where that is not A, and why."""
    rules = (
        (_at_most(e.error_arcsec, LARGEST_ERROR, "F"),
         f"the error is {e.error_arcsec:.3f} arcsec"),
        (_at_least(e.n_agreeing, FEWEST, "C"),
         "it rests on one source" if e.n_agreeing == 1 else f"only {e.n_agreeing} sources agree"),
        (_at_least(e.effective, FEWEST_EFFECTIVE, "C"),
         "one source decides alone"),
        (_at_least(e.signal_to_noise, SMALLEST_SN, "F"),
         f"the signal to noise is {e.signal_to_noise:.1f} in all"),
        (_at_most(e.rival, LARGEST_RIVAL, "F"),
         f"another place fits {100 * e.rival:.0f} % as well"),
        (_at_most(e.scatter_arcsec, LARGEST_SCATTER, "C"),
         f"sources scatter by {e.scatter_arcsec:.3f} arcsec beyond their errors"),
        (_at_most(e.n_disagreeing / max(1, e.n_agreeing), LARGEST_DISAGREEMENT, "C"),
         f"{e.n_disagreeing} sources disagree with {e.n_agreeing}"),
        (_at_least(e.seen, SMALLEST_SEEN, "F"),
         f"only {100 * e.seen:.0f} % of the sources of the reference are where they should be"),
        (_at_least(e.significance, SMALLEST_SIGNIFICANCE, "C"),
         f"no place stands out ({e.significance:.1f} sigma)"),
        (_at_least(e.spread_arcsec, SMALLEST_SPREAD, "C"),
         f"the sources lie within {e.spread_arcsec:.1f} arcsec of one another"),
        (_at_least(e.overlap, SMALLEST_OVERLAP, "C"),
         f"the reference covers {100 * e.overlap:.0f} % of the field"),
    )  # fmt: skip
    for best, reason in rules:
        if best != "A":
            yield best, reason
    if e.blue_red_arcsec - _CLEAR * e.blue_red_error_arcsec > NOT_CORRECTED_ARCSEC:
        yield (
            "C",
            f"blue and red differ by {e.blue_red_arcsec:.2f} arcsec: refraction was not corrected",
        )
    elif e.blue_red_arcsec > NOT_CORRECTED_ARCSEC:
        yield "B", f"blue and red may differ by {e.blue_red_arcsec:.2f} arcsec"
    if e.offset_arcsec > 0.95 * e.largest_arcsec:
        yield "C", f"the offset is at the end of the search ({e.largest_arcsec:g} arcsec)"


def _at_most(value: float, limits: dict[str, float], else_: str) -> str:
    return next((name for name, limit in limits.items() if value <= limit), else_)


def _at_least(value: float, limits: dict[str, float] | dict[str, int], else_: str) -> str:
    return next((name for name, limit in limits.items() if value >= limit), else_)
