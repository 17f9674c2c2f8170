from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from musedask.errors import InputError, MissingError
from musedask.offsets import (
    ExposureKey,
    Offset,
    OffsetTable,
    coordinate_deg,
    date_key,
    on_sky_arcsec,
)

FIRST = "2014-12-08T03:12:45.123"
SECOND = "2014-12-08T03:30:00.000"
THIRD = "2015-01-20T01:00:00.500"


def row(date_obs: str = FIRST, **values: object) -> Offset:
    given = {"ra_offset_arcsec": 1.0, "dec_offset_arcsec": -2.0, **values}
    return Offset(date_obs=date_obs, **given)


def test_offsets_with_the_same_unknowns_are_equal_and_hash_alike() -> None:
    one, other = row(rotation_deg=float("nan")), row(rotation_deg=np.float64("nan"))
    assert one == other
    assert hash(one) == hash(other)
    assert one != row(rotation_deg=0.0)
    assert OffsetTable((one,)) == OffsetTable([other])
    assert hash(OffsetTable((one,))) == hash(OffsetTable([other]))
    assert OffsetTable((one,)) != OffsetTable((row(note="other"),))
    assert one != "text"


def test_a_table_survives_pickling() -> None:
    table = OffsetTable((row(), row(SECOND)))
    table.find(FIRST)
    assert pickle.loads(pickle.dumps(table)) == table


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"date_obs": "yesterday"}, "yesterday"),
        ({"date_obs": ""}, "DATE-OBS"),
        ({"ra_offset_arcsec": math.nan}, "ra_offset_arcsec is nan"),
        ({"dec_offset_arcsec": math.inf, "grade": "C"}, "dec_offset_arcsec is inf"),
        ({"flux_scale": 0.0}, "flux_scale is 0.0"),
        ({"flux_scale": -1.0}, "flux_scale is -1.0"),
        ({"flux_scale": math.inf}, "flux_scale is inf"),
        ({"grade": "D"}, "grade 'D'"),
        ({"ra_error_arcsec": -0.1}, "ra_error_arcsec is -0.1"),
        ({"flux_scale_error": math.inf}, "flux_scale_error is inf"),
        ({"dec_deg": -90.5}, "-90.5"),
        ({"rotation_deg": math.inf}, "rotation_deg"),
        ({"note": "two\nlines"}, "note"),
        ({"background": "much"}, "background 'much'"),
        ({"n_sources": -1}, "n_sources is -1"),
        ({"signal_to_noise": math.inf}, "signal_to_noise is inf"),
        ({"fwhm_arcsec": -0.7}, "fwhm_arcsec is -0.7"),
        ({"blue_red_arcsec": -0.1}, "blue_red_arcsec is -0.1"),
        ({"correlation_before": -1.1}, "correlation_before is -1.1"),
        ({"correlation_after": 1.01}, "correlation_after is 1.01"),
        ({"decision": "ok"}, "decision 'ok', expected accepted"),
        ({"decision": "flagged", "grade": "C"}, "flagged row has grade F"),
        ({"decision": "moved", "method": "auto"}, "moved with method 'auto'"),
        ({"decision": "accepted", "grade": "F", "dec_offset_arcsec": math.nan}, "nothing to use"),
        ({"decided_at": "last week"}, "decided_at 'last week'"),
        ({"decided_at": "2026-01-31"}, "decided_at '2026-01-31'"),
        ({"decided_at": "2026-01-31T12:00:00+02:00"}, r"expected UTC"),
        ({"frame": "two\nlines"}, "frame"),
    ],
)
def test_an_impossible_value_is_refused_by_name(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        row(**values)


def test_an_offset_that_is_not_finite_needs_grade_f() -> None:
    failed = row(ra_offset_arcsec=math.nan, grade="F")
    assert failed.is_failed
    assert not failed.is_finite
    assert row().is_finite


def test_unknown_scale_and_rotation_apply_as_one_and_zero() -> None:
    assert row().applied_scale == 1.0
    assert row().applied_rotation_deg == 0.0
    assert row(flux_scale=1.2).applied_scale == 1.2
    assert row(rotation_deg=0.3).applied_rotation_deg == 0.3


def test_two_rows_of_one_exposure_are_an_error_even_if_later_digits_differ() -> None:
    with pytest.raises(InputError, match=r"03:12:45\.123.*one\b.*two"):
        OffsetTable((row(FIRST + "1", name="one"), row(FIRST + "9", name="two")))


def test_rows_are_found_by_the_first_23_characters() -> None:
    table = OffsetTable((row(FIRST + "4", name="a"), row(SECOND, name="b")))
    assert date_key(FIRST + "4") == FIRST
    assert table.find(FIRST).name == "a"
    assert table.find(SECOND + "77").name == "b"
    assert SECOND in table
    assert THIRD not in table
    assert [r.name for r in table] == ["a", "b"]
    assert len(table) == 2


def test_a_missing_row_names_the_exposure_and_the_way_out() -> None:
    table = OffsetTable((row(),))
    with pytest.raises(MissingError) as caught:
        table.find("2014-12-08T03:12:45.124", "night2_exp4")
    for word in ("night2_exp4", "2014-12-08T03:12:45.124", FIRST, "add a row", "allow_missing"):
        assert word in str(caught.value)
    with pytest.raises(MissingError, match="among 0 rows"):
        OffsetTable(()).find(FIRST)


def test_manual_rows_win_in_either_direction_and_stay() -> None:
    manual, auto = row(note="hand", method="manual"), row(note="machine", method="auto")
    assert OffsetTable((manual,)).merged_with(OffsetTable((auto,))).rows == (manual,)
    assert OffsetTable((auto,)).merged_with(OffsetTable((manual,))).rows == (manual,)
    second = replace(manual, note="another hand")
    assert OffsetTable((manual,)).merged_with(OffsetTable((second,))).rows == (manual,)


DECIDED = (
    row(decision="accepted", grade="B", decided_by="ann", decided_at="2026-01-31T12:00:00"),
    row(decision="moved", method="manual", decided_at="2026-01-31T12:00:00.5Z"),
    row(decision="flagged", grade="F", ra_offset_arcsec=math.nan),
)


@pytest.mark.parametrize("decided", DECIDED, ids=lambda decided: decided.decision)
def test_what_a_person_decided_outlasts_measuring_but_not_a_newer_decision(decided) -> None:
    assert decided.is_decided
    measured = row(note="machine", grade="A", method="reference")
    assert not measured.is_decided
    assert OffsetTable((decided,)).merged_with(OffsetTable((measured,))).rows == (decided,)
    assert OffsetTable((measured,)).merged_with(OffsetTable((decided,))).rows == (decided,)
    newer = row(note="newer", method="manual", decision="moved")
    table = OffsetTable((row(SECOND), decided)).replaced_by(OffsetTable((row(THIRD), newer)))
    assert table.rows == (row(SECOND), newer, row(THIRD))


def test_newer_rows_replace_automatic_ones_and_new_exposures_come_after() -> None:
    old = OffsetTable((row(FIRST, note="old"), row(SECOND, note="old")))
    new = OffsetTable((row(THIRD, note="new"), row(SECOND, note="new")))
    merged = old.merged_with(new)
    assert [(r.date_obs, r.note) for r in merged] == [
        (FIRST, "old"), (SECOND, "new"), (THIRD, "new"),
    ]  # fmt: skip


def test_the_astropy_table_is_a_copy_with_units() -> None:
    table = OffsetTable((row(),))
    copy = table.table
    assert str(copy["ra_offset_arcsec"].unit) == "arcsec"
    assert str(copy["rotation_deg"].unit) == "deg"
    assert copy["flux_scale"].unit is None
    copy["ra_offset_arcsec"] = 99.0
    assert table.rows[0].ra_offset_arcsec == 1.0
    assert table.table["ra_offset_arcsec"][0] == 1.0
    assert "OffsetTable of 1 exposure (0 manual, 0 failed)" in repr(table)
    assert FIRST in table._repr_html_()


def test_from_table_converts_units_and_fills_what_is_missing() -> None:
    table = Table({"date_obs": [FIRST], "ra_offset_arcsec": [0.5], "dec_offset_arcsec": [-0.25]})
    table["ra_offset_arcsec"].unit = "arcmin"
    got = OffsetTable.from_table(table)
    assert got.rows == (row(ra_offset_arcsec=30.0, dec_offset_arcsec=-0.25),)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.rename_column("ra_offset_arcsec", "ra_ofset_arcsec"),
            "did you mean ra_offset",
        ),
        (lambda t: t.remove_column("dec_offset_arcsec"), "'dec_offset_arcsec' is missing"),
        (lambda t: setattr(t["ra_offset_arcsec"], "unit", "kg"), "'ra_offset_arcsec' has unit kg"),
        (lambda t: t.add_column([1], name="seeing"), "unknown column 'seeing'"),
    ],
)
def test_from_table_names_the_column_that_is_wrong(change, said: str) -> None:
    table = OffsetTable((row(),)).table
    change(table)
    with pytest.raises(InputError, match=said):
        OffsetTable.from_table(table)


def test_masked_entries_are_unknown() -> None:
    table = Table(OffsetTable((row(flux_scale=2.0), row(SECOND))).table, masked=True)
    table["flux_scale"].mask = [True, False]
    assert math.isnan(OffsetTable.from_table(table).rows[0].flux_scale)
    table["ra_offset_arcsec"].mask = [True, False]
    with pytest.raises(InputError, match="ra_offset_arcsec is nan"):
        OffsetTable.from_table(table)
    table["date_obs"].mask = [True, False]
    with pytest.raises(InputError, match="no date_obs"):
        OffsetTable.from_table(table)


def test_coordinates_and_sky_at_declination_minus_60() -> None:
    # cos(-60 deg) is one half: 2 arcsec of coordinate are 1 on the sky.
    assert on_sky_arcsec(2.0 / 3600.0, -60.0) == pytest.approx(1.0, abs=1e-13)
    assert coordinate_deg(1.0, -60.0) == pytest.approx(2.0 / 3600.0, abs=1e-16)
    # 359.9999 - 0.0001 is 0.72 arcsec to the west, not a turn to the east.
    assert on_sky_arcsec(359.9999 - 0.0001, -60.0) == pytest.approx(-0.36, abs=1e-8)
    with pytest.raises(InputError, match="declination 90"):
        coordinate_deg(1.0, 90.0)


@given(st.floats(-30, 30), st.floats(-89, 89))
def test_coordinates_and_sky_are_inverse(arcsec: float, dec: float) -> None:
    assert on_sky_arcsec(coordinate_deg(arcsec, dec), dec) == pytest.approx(arcsec, abs=1e-12)


def test_an_exposure_key_needs_only_date_and_name() -> None:
    key = ExposureKey(FIRST, "a")
    assert math.isnan(key.dec_deg)
    assert key.path == ""
