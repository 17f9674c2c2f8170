"""Offsets of simulated exposures against their truth: bias, scatter, errors, grades (Monte Carlo).

The whole campaign is ``python -m benchmarks alignment --size full``; here a fixed
part of it, with limits that a method as good as asked for passes by far more
than its chance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.alignment.campaign import measured
from benchmarks.alignment.merits import can_be_measured, errors, merits, pulls
from benchmarks.alignment.methods import METHODS, Found
from benchmarks.alignment.outcomes import OURS, Outcome
from musedask.simulation.fields import FieldCase, Kind

pytestmark = pytest.mark.slow

BIAS_ARCSEC, SCATTER_ARCSEC, OVER_LIMIT = 0.01, 0.03, 1.3
USABLE, WRONG = 0.95, 0.005
PULLS = (0.8, 1.2)
CHANCE_SIGMA = 3.0
"""What chance may add to a limit."""
REFUSED: dict[Kind, tuple[str, ...]] = {
    "empty": ("C", "F"),
    "mover": ("C", "F"),
    "satellite": ("C", "F"),
}
"""Kind of case -> the grades that are right."""


@pytest.fixture(scope="module")
def outcomes(campaign: Callable[[int, int], int]) -> list[Outcome]:
    """Of fields and clusters."""
    names: list[tuple[Kind, int]] = [("field", seed) for seed in range(campaign(20, 800))]
    names += [("crowded", seed) for seed in range(campaign(1, 50))]
    return [outcome for name in names for outcome in measured(name, [OURS])]


@pytest.fixture(scope="module")
def refusals(campaign: Callable[[int, int], int]) -> dict[Kind, list[Outcome]]:
    """Of cases that hold too little, or half."""
    seeds = range(0, campaign(4, 30), campaign(3, 1))
    kinds: tuple[Kind, ...] = (*REFUSED, "half")
    return {kind: [measured((kind, s), [OURS])[0] for s in seeds] for kind in kinds}


def used(outcomes: list[Outcome]) -> list[Outcome]:
    """Those that can be measured, and were."""
    return [o for o in outcomes if can_be_measured(o) and o.is_usable]


def test_the_sample_has_what_is_asked_for(outcomes):
    fields = [o for o in outcomes if can_be_measured(o)]
    assert len(fields) >= 15
    assert max(np.hypot(o.true_east, o.true_north) for o in fields) > 10.0
    assert min(o.fwhm for o in fields) < 0.65
    assert max(o.fwhm for o in fields) > 1.0


def test_nearly_all_fields_with_enough_signal_are_usable(outcomes):
    found = merits(outcomes)
    allowed = (1 - USABLE) * found.n
    assert found.n - found.n_usable <= allowed + CHANCE_SIGMA * np.sqrt(allowed), [
        (o.kind, o.seed, o.grade, o.reasons)
        for o in outcomes
        if can_be_measured(o) and not o.is_usable
    ]


def test_hardly_any_is_wrong_and_usable(outcomes, refusals):
    every = [*outcomes, *(o for own in refusals.values() for o in own)]
    wrong = [(o.kind, o.seed, o.off) for o in every if o.is_wrong]
    assert len(wrong) <= WRONG * len(every), wrong


def test_there_is_no_bias_and_little_scatter(outcomes):
    found = merits(outcomes)
    for bias, scatter in zip(found.bias, found.scatter, strict=True):
        assert abs(bias) < BIAS_ARCSEC
        assert scatter < SCATTER_ARCSEC


def test_errors_are_within_reach_of_the_photon_limit(outcomes):
    limit = np.array([(o.east_limit, o.north_limit) for o in used(outcomes) if o.kind == "field"])
    # The poorest fields weigh most: a sum of squares is as sure as so many equal ones.
    effective = (limit**2).sum(axis=0) ** 2 / (limit**4).sum(axis=0)
    chance = 1 + CHANCE_SIGMA / np.sqrt(2 * effective)
    assert (merits(outcomes).over_limit < OVER_LIMIT * chance).all()


def test_stated_errors_are_true(outcomes):
    graded = {g: [o for o in used(outcomes) if o.grade == g] for g in ("A", "B")}
    assert graded["A"]
    for own in filter(None, graded.values()):  # a short sample has hardly any B
        # An estimated rms of n pulls scatters by 1 / sqrt(2 n).
        chance = CHANCE_SIGMA / np.sqrt(2 * len(own))
        for rms in pulls(own):
            assert rms < PULLS[1] * (1 + chance)
            assert rms > PULLS[0] * max(0.0, 1 - chance)


def test_errors_to_the_east_and_to_the_north_are_one_thing(outcomes):
    """A wrong cos(dec) or a swapped axis would show here, rotators and declinations being all."""
    own = used(outcomes)
    east, north = np.abs(errors(own)).T
    assert np.median(east) < 3 * np.median(north) < 9 * np.median(east)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_too_little_is_refused(kind, refusals):
    for outcome in refusals[kind]:
        assert outcome.grade in REFUSED[kind], (kind, outcome.seed, outcome.off, outcome.reasons)


def test_half_a_reference_never_gives_a_wrong_offset_the_best_grade(refusals):
    for outcome in refusals["half"]:
        assert outcome.grade != "A", (outcome.seed, outcome.off)
        assert not outcome.is_wrong, (outcome.seed, outcome.off, outcome.grade)


def test_a_failed_one_has_no_number(outcomes, refusals):
    every = [*outcomes, *(o for own in refusals.values() for o in own)]
    for outcome in every:
        has_number = bool(np.isfinite([outcome.east, outcome.north]).any())
        assert has_number == (outcome.grade != "F")


@pytest.mark.parametrize(
    "off", [(0.25, 0.0), (0.0, -0.25), (0.05, 0.05)], ids=["east", "north", "little"]
)
def test_a_method_that_is_off_is_noticed(off, monkeypatch):
    """The yardstick itself: a constant error is found as what it is."""

    def wrong(case: FieldCase) -> Found:
        truth = case.exposure.truth
        return Found(truth.ra_offset_arcsec + off[0], truth.dec_offset_arcsec + off[1],
                     0.02, 0.02, "A")  # fmt: skip

    monkeypatch.setitem(METHODS, "wrong", wrong)  # type: ignore[arg-type]
    own = [measured(("field", seed), ["wrong"])[0] for seed in (0, 2)]
    found = merits(own)
    np.testing.assert_allclose(found.bias, off, atol=1e-12)
    np.testing.assert_allclose(found.pulls["A"], np.abs(off) / np.float64(0.02))
    assert found.n_wrong == (2 if max(np.abs(off)) > 0.2 else 0)
    assert found.n == found.n_usable == 2
