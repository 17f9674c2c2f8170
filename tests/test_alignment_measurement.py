"""What of a measurement goes into the table, and that a failed one leaves no number to use."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from musedask.alignment.measurement import Alignment, Measurement
from musedask.offsets import Offset

GOOD = Measurement(
    date_obs="2026-01-31T01:02:03.456", name="EXP_1", ra_deg=30.1, dec_deg=-60.0,
    ra_offset_arcsec=1.5, dec_offset_arcsec=-0.9, ra_error_arcsec=0.01, dec_error_arcsec=0.02,
    rotation_deg=0.1, n_sources=7, signal_to_noise=55.0, correlation_before=0.1,
    correlation_after=0.9, fwhm_arcsec=0.7, blue_red_arcsec=0.03, grade="B",
    reasons=("only 3 sources agree", "one decides"), method="reference", frame="hst.fits",
    flux_scale=2000.0, background=3.0,
)  # fmt: skip


def test_each_column_that_the_table_shares_has_the_measured_value():
    row = GOOD.offset
    shared = {field.name for field in fields(Offset)} & {field.name for field in fields(GOOD)}
    assert len(shared) > 15
    # Against a telescope of other units a scale would spoil the stack; the caller decides.
    for key in shared - {"reasons", "flux_scale", "flux_scale_error", "background"}:
        assert getattr(row, key) == getattr(GOOD, key), key
    assert row.reasons == "only 3 sources agree; one decides"
    assert row.applied_scale == 1.0
    assert (row.note, row.decision) == ("", "")


def test_a_failed_measurement_has_no_number_to_use_and_says_why():
    row = GOOD.failed("nothing agrees").offset
    assert row.is_failed
    assert row.reasons.endswith("one decides; nothing agrees")
    for key in ("ra_offset_arcsec", "dec_offset_arcsec", "ra_error_arcsec", "rotation_deg"):
        assert math.isnan(getattr(row, key)), key
    # Whatever else was known is kept, for people.
    assert row.fwhm_arcsec == 0.7


@pytest.mark.parametrize("value", [1.5, math.nan])
def test_numbers_under_grade_f_do_not_reach_the_table(value):
    made = Measurement(date_obs=GOOD.date_obs, ra_offset_arcsec=value, dec_offset_arcsec=value)
    assert made.grade == "F"
    assert not made.offset.is_finite


def test_an_alignment_is_a_table_in_its_order():
    other = Measurement(date_obs="2026-01-31T00:00:00.000")
    assert [row.date_obs for row in Alignment((GOOD, other)).offsets] == [
        GOOD.date_obs, other.date_obs,
    ]  # fmt: skip
