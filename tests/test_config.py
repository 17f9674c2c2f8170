"""The configuration's values: what is taken, and what is refused before anything runs."""

from __future__ import annotations

import math

import pytest

from musedask.config import config_of
from musedask.errors import InputError


@pytest.mark.parametrize(("given", "hours"), [(0.5, 0.5), (3, 3.0), (0, 0.0), (math.inf, math.inf)])
def test_hours_are_any_number(given, hours):
    found = config_of({"reduction": {"hours_per_job": given}}).reduction.hours_per_job
    assert (found, type(found)) == (hours, float)


@pytest.mark.parametrize(
    ("given", "says"),
    [(True, "a number is wanted"), ("6", "a number is wanted"), (-1.0, "inf for none"),
     (math.nan, "inf for none")],
)  # fmt: skip
def test_hours_that_cannot_be_are_refused(given, says):
    with pytest.raises(InputError, match=rf"\[reduction\] hours_per_job = .*{says}"):
        config_of({"reduction": {"hours_per_job": given}})


def test_a_whole_number_is_still_no_fraction():
    with pytest.raises(InputError, match=r"attempts = 1\.5: a whole number is wanted"):
        config_of({"reduction": {"attempts": 1.5}})


def test_a_reference_needs_offsets_that_are_measured_against_it():
    given = {"reduction": {"offsets": "measured", "reference": "hst.fits"}}
    assert config_of(given).reduction.reference == "hst.fits"
    with pytest.raises(InputError, match=r"reference = 'hst\.fits' is for offsets = 'measured'"):
        config_of({"reduction": {"reference": "hst.fits"}})
