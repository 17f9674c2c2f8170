"""Offsets given as numbers: whose they become, who gave them, and what is refused."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from musedask.alignment import by_hand
from musedask.alignment.by_hand import GivenOffset, set_by_hand, user_name
from musedask.errors import InputError, MissingError
from musedask.offsets import ExposureKey, Offset, OffsetTable

FIRST, SECOND, THIRD = (f"2026-01-31T0{n}:00:00.000" for n in (1, 2, 3))
MEASURED = Offset(
    date_obs=FIRST, name="EXP_1", ra_deg=30.1, dec_deg=-60.0, ra_offset_arcsec=1.0,
    dec_offset_arcsec=2.0, ra_error_arcsec=0.01, dec_error_arcsec=0.01, rotation_deg=0.2,
    flux_scale=1.1, grade="C", method="reference", frame="hst.fits", band="white", n_sources=3,
    signal_to_noise=9.0, correlation_before=0.1, correlation_after=0.4, fwhm_arcsec=0.7,
    blue_red_arcsec=0.03, reasons="only 3 sources agree", note="as measured",
)  # fmt: skip
FAILED = Offset(
    date_obs=SECOND, name="EXP_2", ra_offset_arcsec=math.nan, dec_offset_arcsec=math.nan, grade="F"
)
TABLE = OffsetTable((MEASURED, FAILED))


@pytest.mark.parametrize("which", ["EXP_2", "EXP_2.fits", SECOND, SECOND + "4"])
def test_an_exposure_goes_by_its_name_or_its_date(which):
    made = set_by_hand(TABLE, [GivenOffset(which, 0.62, -1.31)], note="by eye", who="ann")
    assert [row.date_obs for row in made] == [FIRST, SECOND]
    assert made.rows[0] == MEASURED
    row = made.find(SECOND)
    assert (row.ra_offset_arcsec, row.dec_offset_arcsec) == (0.62, -1.31)
    assert (row.method, row.decision, row.decided_by, row.note) == (
        "manual", "moved", "ann", "by eye",
    )  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", row.decided_at)
    assert not row.is_failed


def test_what_was_measured_of_the_offset_does_not_stand_beside_another():
    (row, _) = set_by_hand(TABLE, [GivenOffset("EXP_1", 5.0, 6.0)], note="clouds", who="ann")
    # Column by column, so that a new one has to be thought of here.
    assert row == Offset(
        date_obs=FIRST, name="EXP_1", ra_deg=30.1, dec_deg=-60.0, ra_offset_arcsec=5.0,
        dec_offset_arcsec=6.0, rotation_deg=0.2, flux_scale=1.1, correlation_before=0.1,
        fwhm_arcsec=0.7, blue_red_arcsec=0.03, method="manual", note="clouds",
        decision="moved", decided_by="ann", decided_at=row.decided_at,
    )  # fmt: skip


def test_it_wins_over_a_later_measurement_and_yields_to_the_next_person():
    made = set_by_hand(TABLE, [GivenOffset("EXP_1", 5.0, 6.0)], who="ann")
    again = made.merged_with(OffsetTable((replace(MEASURED, grade="A"),)))
    assert again == made
    (row, _) = set_by_hand(again, [GivenOffset("EXP_1", 7.0, 8.0)], who="bob")
    assert (row.ra_offset_arcsec, row.decided_by) == (7.0, "bob")


def test_an_exposure_that_has_no_row_gets_one_from_its_file():
    key = ExposureKey(THIRD, "EXP_3", 30.2, -60.1)
    known = ExposureKey(FIRST, "another name of EXP_1", 0.0, 0.0)
    made = set_by_hand(TABLE, [GivenOffset("EXP_3", 0.1, 0.2)], [known, key])
    assert [row.name for row in made] == ["EXP_1", "EXP_2", "EXP_3"]
    row = made.find(THIRD)
    assert (row.ra_deg, row.dec_deg, row.ra_offset_arcsec) == (30.2, -60.1, 0.1)
    assert row.decided_by == user_name()


def test_who_has_no_name_is_unknown(monkeypatch):
    def nobody() -> str:
        raise OSError("no user")

    monkeypatch.setattr(by_hand.getpass, "getuser", nobody)
    assert user_name() == "unknown"


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ([("EXP_7", 0.0, 0.0)], MissingError, r"EXP_7: there is no such .*did you mean EXP_"),
        ([("EXP_1", 0.0, 0.0), (FIRST, 1.0, 1.0)], InputError, "two offsets for one exposure"),
        ([("EXP_1", math.nan, 0.0)], InputError, "moved to"),
        ([("EXP_1", 0.0, 4000.0)], InputError, "moved to"),
    ],
)
def test_what_cannot_be_is_refused(given, error, says):
    with pytest.raises(error, match=says):
        set_by_hand(TABLE, [GivenOffset(*one) for one in given])


def test_a_name_of_two_exposures_is_refused_with_both_dates():
    table = OffsetTable((MEASURED, replace(FAILED, name="EXP_1")))
    with pytest.raises(InputError, match=f"2 exposures go by this name.*{FIRST}, {SECOND}"):
        set_by_hand(table, [GivenOffset("EXP_1", 0.0, 0.0)])
