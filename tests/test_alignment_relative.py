"""Exposures against one another: one system, one frame, and what is not tied to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from musedask.alignment.image import FieldImage
from musedask.alignment.measure import align
from musedask.alignment.measurement import Measurement
from musedask.alignment.measuring import MeasureOptions
from musedask.alignment.pairs import chosen_pairs, overlaps, tree
from musedask.alignment.relative import with_relative
from musedask.errors import MissingError
from musedask.simulation.fields import draw_case

SEED = 12


def field_image(simulated) -> FieldImage:
    """A simulated image as the alignment takes it; as for real ones, its seeing is not known."""
    return FieldImage(
        flux=simulated.flux, variance=simulated.variance, projection=simulated.projection,
        name=simulated.name, date_obs=simulated.date_obs, band=simulated.band,
        units=simulated.units, ra_deg=simulated.ra_deg, dec_deg=simulated.dec_deg,
    )  # fmt: skip


@pytest.fixture(scope="module")
def case():
    return draw_case(SEED, n_exposures=4)


@pytest.fixture(scope="module")
def images(case):
    return [field_image(exposure.image) for exposure in case.exposures]


@pytest.fixture(scope="module")
def truth(case):
    return np.array([[e.truth.ra_offset_arcsec, e.truth.dec_offset_arcsec] for e in case.exposures])


@pytest.fixture(scope="module")
def alone(images):
    return align(images)


def offsets(found):
    return np.array([[m.ra_offset_arcsec, m.dec_offset_arcsec] for m in found])


def test_exposures_alone_agree_with_the_truth_but_for_their_mean(alone, truth):
    found = offsets(alone)
    assert found.mean(axis=0) == pytest.approx([0, 0], abs=0.01)
    errors = np.array([[m.ra_error_arcsec, m.dec_error_arcsec] for m in alone])
    away = (found - found.mean(axis=0)) - (truth - truth.mean(axis=0))
    assert np.abs(away).max() < 0.02
    assert (np.abs(away) < 4.5 * errors).all()
    assert all(m.grade in "AB" for m in alone)
    assert {m.method for m in alone} == {"relative"}
    assert {m.frame for m in alone} == {"mean of the headers"}


class Partial:
    """A reference that reaches some of the fields only."""

    kind, frame, name, band = "reference", "the test's", "partial", ""

    def __init__(self, image, known):
        self.image, self.known = image, known

    def near(self, projection, shape, margin_arcsec, epoch, pixel_arcsec):
        if projection not in self.known:
            raise MissingError("not here")
        return self.image


def test_those_that_the_reference_does_not_reach_are_tied_to_those_that_it_does(
    case, images, truth
):
    known = [image.projection for image in images[:2]]
    found = align(images, Partial(field_image(case.reference), known))
    assert [m.method for m in found] == ["reference"] * 2 + ["reference+relative"] * 2
    assert offsets(found) == pytest.approx(truth, abs=0.03)
    assert all(m.grade in "AB" for m in found)
    assert {m.frame for m in found} == {"the test's"}


SHIFT = np.array([0.6, -0.4])
"""By how much a reference is off the sky: it is seen in what stands on it."""


def measured(image, at, grade) -> Measurement:
    """What a comparison with a reference has given, F without numbers."""
    found = Measurement(
        date_obs=image.date_obs, name=image.name, ra_deg=image.ra_deg, dec_deg=image.dec_deg,
        ra_offset_arcsec=at[0], dec_offset_arcsec=at[1], ra_error_arcsec=0.01,
        dec_error_arcsec=0.01, grade=grade, frame="the test's",
    )  # fmt: skip
    return found.failed("no reference here") if grade == "F" else found


def test_without_a_good_one_doubtful_offsets_fix_the_system_and_what_rests_on_them_is_doubtful(
    images, truth
):
    given = [measured(*one) for one in zip(images, truth + SHIFT, "CCFF", strict=True)]
    found = with_relative(images, given, MeasureOptions())
    assert list(found[:2]) == given[:2]
    assert offsets(found[2:]) == pytest.approx(truth[2:] + SHIFT, abs=0.03)
    for one in found[2:]:
        assert (one.method, one.frame, one.grade) == ("reference+relative", "the test's", "C")
        assert "doubtful" in one.reasons[0]


def test_beside_a_good_offset_a_doubtful_one_fixes_nothing(images, truth):
    places = np.vstack([truth[:1], truth[1:] + SHIFT])
    given = [measured(*one) for one in zip(images, places, "ACFF", strict=True)]
    found = with_relative(images, given, MeasureOptions())
    assert found[0] == given[0]
    assert offsets(found) == pytest.approx(truth, abs=0.03)
    assert [m.method for m in found] == ["reference"] + ["reference+relative"] * 3
    assert all(m.grade in "AB" for m in found)
    assert not any("doubtful" in reason for m in found for reason in m.reasons)


def test_an_exposure_of_another_field_is_not_tied_to_the_rest(images):
    elsewhere = replace(images[0], projection=images[0].projection.moved(600.0, 0.0))
    found = align([elsewhere, *images[1:]])
    assert found.measurements[0].grade == "F"
    assert np.isnan(offsets(found)[0]).all()
    assert np.isfinite(offsets(found)[1:]).all()


def test_two_groups_that_do_not_touch_are_not_one_system(images):
    far = [replace(image, projection=image.projection.moved(900.0, 0.0)) for image in images[2:]]
    found = align([*images[:2], *far, replace(images[3], date_obs="2030-01-01T00:00:00.000")])
    # The larger group keeps its numbers; for the other one nothing ties them to it.
    assert sum(m.grade == "F" for m in found) in (2, 3)
    assert any("overlaps with none" in m.reasons[-1] for m in found if m.grade == "F")


def test_overlaps_are_shares_of_the_smaller_field(images):
    share = overlaps(images)
    assert (share == share.T).all()
    assert (np.diag(share) == 0).all()
    assert share[0, 1] > 0.4


def test_a_tree_reaches_all_that_can_be_reached():
    share = np.zeros((5, 5))
    for i, j in ((0, 1), (1, 2), (3, 4)):
        share[i, j] = share[j, i] = 0.6
    order = tree(share, np.array([1.0, 2.0, 1.0, 3.0, 1.0]), [0])
    assert order[:2] == [(1, 0), (2, 1)]
    assert order[2:] == [(3, -1), (4, 3)]


def test_all_overlapping_pairs_are_compared():
    share = np.full((6, 6), 0.5)
    share[0, 5] = share[5, 0] = 0.05
    np.fill_diagonal(share, 0.0)
    pairs = chosen_pairs(share, np.ones(6))
    assert len(pairs) == 14
    assert (5, 0) not in pairs
