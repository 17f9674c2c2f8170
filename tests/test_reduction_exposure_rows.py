"""New facts and a user's edits in one table: edits stay, all else follows the cubes."""

from __future__ import annotations

import math

from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from musedask.exposures import COLUMNS
from musedask.reduction.tables.exposures import (
    NO_CUBE,
    merged,
    rows_of,
    same,
    same_rows,
    table_of,
)


def row(n, **changed):
    """What musedask makes of the n-th cube."""
    known = {"path": f"../cubes/{n}.fits", "date_obs": f"2020-01-01T00:00:0{n}.000",
             "exptime": 900.0, "seeing": 0.8, "use": True, "reason": ""}  # fmt: skip
    return {spec.name: spec.default for spec in COLUMNS} | known | changed


def rows(*given_rows):
    return {one["date_obs"]: one for one in given_rows}


def test_a_user_s_edits_stay_and_other_values_follow_the_cube():
    before, now = rows(row(1)), rows(row(1, seeing=0.9, sky=3.0, exptime=901.0))
    edited = rows(row(1, use=False, reason="clouds", weight=0.5, mask="/m.fits", exptime=890.0))
    (found,) = merged(now, before, edited).rows.values()
    assert same_rows(rows(found), rows(row(
        1, use=False, reason="clouds", weight=0.5, mask="/m.fits", exptime=890.0, seeing=0.9,
        sky=3.0,
    )))  # fmt: skip


def test_a_cube_of_the_user_s_own_making_stays():
    cleaned = rows(row(1, path="/clean/1.fits"))
    assert merged(rows(row(1)), rows(row(1)), cleaned).rows == {**cleaned}


def test_new_exposures_come_last_and_the_user_s_order_and_rows_stay():
    theirs = rows(row(3), row(1), row(9, path="/mine.fits"))
    found = merged(rows(row(1), row(2), row(3)), rows(row(1), row(3)), theirs)
    assert [key[-5] for key in found.rows] == ["3", "1", "9", "2"]
    assert same(found.rows[row(9)["date_obs"]]["path"], "/mine.fits")
    assert found.left_out == ()


def test_a_row_that_was_removed_stays_away_and_is_named():
    found = merged(rows(row(1), row(2)), rows(row(1), row(2)), rows(row(1)))
    assert list(found.rows) == [row(1)["date_obs"]]
    assert found.left_out == (row(2)["date_obs"],)


def test_an_exposure_whose_cube_has_gone_is_not_used_until_it_is_back():
    known = rows(row(1), row(2, reason="fine"), row(3, use=False, reason="clouds"))
    theirs = rows(row(1), row(2, reason="fine"), row(3, use=False, reason="clouds"))
    gone = merged(rows(row(1)), known, theirs).rows
    assert [one["use"] for one in gone.values()] == [True, False, False]
    assert [one["reason"] for one in gone.values()] == ["", f"{NO_CUBE}; fine", "clouds"]
    assert same_rows(merged(rows(row(1)), known, gone).rows, gone)
    assert same_rows(merged(known, known, gone).rows, theirs)


def test_a_cube_of_the_user_s_own_making_is_used_though_the_pipeline_s_has_gone():
    theirs = rows(row(1), row(2, path="/clean/2.fits"))
    found = merged(rows(row(1)), rows(row(1), row(2)), theirs)
    assert same_rows(found.rows, theirs)


def test_without_memory_whatever_says_anything_is_the_user_s():
    theirs = rows(row(1, use=False, seeing=math.nan, exptime=890.0))
    (found,) = merged(rows(row(1, sky=2.0)), {}, theirs).rows.values()
    assert (found["use"], found["seeing"], found["exptime"]) == (False, 0.8, 890.0)
    assert found["sky"] == 2.0


VALUES = {
    "seeing": st.sampled_from([math.nan, 0.7, 0.9]), "use": st.booleans(),
    "reason": st.sampled_from(["", "clouds"]), "weight": st.sampled_from([math.nan, 2.0]),
}  # fmt: skip
EDITS = st.fixed_dictionaries({}, optional=VALUES)
FACTS = st.fixed_dictionaries({}, optional={"seeing": VALUES["seeing"], "use": st.booleans()})


@given(before=FACTS, edits=EDITS, now=FACTS)
def test_each_value_is_either_the_edit_or_the_new_fact(before, edits, now):
    old, new = row(1, **before), row(1, **now)
    theirs = old | edits
    (found,) = merged(rows(new), rows(old), rows(theirs)).rows.values()
    for name, value in found.items():
        was_edited = not same(theirs[name], old[name])
        assert same(value, theirs[name] if was_edited else new[name])


@given(st.lists(EDITS, min_size=1, max_size=4))
def test_a_table_without_news_stays_as_it_is(edits):
    known = rows(*(row(n) for n in range(len(edits))))
    theirs = rows(*(row(n, **edit) for n, edit in enumerate(edits)))
    found = merged(known, known, theirs)
    assert same_rows(found.rows, theirs)
    assert same_rows(rows_of(table_of(found.rows)), theirs)


def test_columns_of_the_user_s_own_stay_and_are_empty_for_new_rows():
    mine = Table(rows=[row(1) | {"moon": 0.4, "n": 3, "note": "x"}])
    found = merged(rows(row(1), row(2)), rows(row(1)), rows_of(mine))
    table = table_of(found.rows)
    assert table.colnames == [*(spec.name for spec in COLUMNS), "moon", "n", "note"]
    assert [table[name].tolist() for name in ("moon", "n", "note")] == [
        [0.4, None], [3, None], ["x", None]
    ]  # fmt: skip


def test_rows_of_one_exposure_and_rows_without_a_date_are_kept_apart():
    table = Table(rows=[row(1), row(1, path="half.fits", use=False), row(2, date_obs="")])
    assert len(rows_of(table)) == 3
    first, _, third = rows_of(table)
    assert (first, third) == (row(1)["date_obs"], row(2)["path"])
