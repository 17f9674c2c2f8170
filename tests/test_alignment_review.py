"""Decisions on offsets: what they do to a row, when they are refused, how they are undone."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from compared_fields import made_compared
from served_review import write_review

from musedask.alignment.material import MaskedCircle, material_folder, read_material, write_material
from musedask.alignment.review import session
from musedask.alignment.review.applying import OutdatedError, apply_decisions
from musedask.alignment.review.decisions import (
    Decision,
    decision_of,
    decisions_text,
    read_decisions,
    row_of,
    row_record,
    row_version,
)
from musedask.alignment.review.session import JOURNAL, Review
from musedask.errors import FileError, InputError, MissingError
from musedask.offsets import Offset, OffsetTable

MASK = MaskedCircle(53.16, -27.78, 1.0)


@pytest.fixture(scope="module")
def fields():
    return [made_compared(0), made_compared(1, grade="C"), made_compared(2, grade="F")]


@pytest.fixture
def path(tmp_path, fields):
    return write_review(tmp_path / "run", fields)


@pytest.fixture
def table(fields):
    return OffsetTable(tuple(field.measurement.offset for field in fields))


@pytest.fixture
def review(path):
    return Review(path, "ada")


@pytest.fixture
def fitted(monkeypatch):
    """A fit that takes no time: each mask moves the offset by an arcsecond."""
    calls = []

    def measured_again(compared, masked):
        calls.append(masked)
        moved = 0.6 + len(masked)
        return replace(compared, measurement=replace(compared.measurement, ra_offset_arcsec=moved))

    monkeypatch.setattr(session, "measured_again", measured_again)
    return calls


def on(table, number, action, **more):
    row = table.rows[number]
    return Decision(date_obs=row.date_obs, action=action, based_on=row_version(row), **more)


# --- what a decision does to a row ----------------------------------------------------------------


def test_accepting_leaves_the_numbers_and_says_who_and_when(table):
    new = apply_decisions(table, [on(table, 0, "accepted")], who="ada").rows[0]
    assert (new.decision, new.decided_by, new.method) == ("accepted", "ada", "reference")
    assert new.decided_at.startswith("20")
    undecided = replace(new, decision="", decided_by="", decided_at="")
    assert undecided == table.rows[0]


def test_moving_takes_the_persons_numbers_without_errors(table):
    decision = on(
        table, 2, "moved", ra_offset_arcsec=1.5, dec_offset_arcsec=-0.25, correlation=0.75
    )
    new = apply_decisions(table, [decision]).rows[2]
    assert (new.ra_offset_arcsec, new.dec_offset_arcsec) == (1.5, -0.25)
    assert (new.method, new.decision, new.grade) == ("manual", "moved", "")
    assert math.isnan(new.ra_error_arcsec)
    assert new.correlation_after == 0.75


def test_what_speaks_of_the_automatic_offset_goes_with_it(table):
    row = replace(table.rows[0], reasons="only 3 sources agree", grade="C", note="auto")
    known = ("n_sources", "signal_to_noise", "correlation_after")
    assert all(math.isfinite(getattr(row, key)) for key in known)
    table = OffsetTable((row,))
    move = {"ra_offset_arcsec": 1.0, "dec_offset_arcsec": 2.0}
    for action, more, note in (
        ("moved", move, "moved by hand"),
        ("flagged", {"reason": "clouds"}, "clouds"),
    ):
        new = apply_decisions(table, [on(table, 0, action, **more)], who="ada").rows[0]
        assert (new.reasons, new.note, new.why) == ("", note, note)
        assert all(math.isnan(getattr(new, key)) for key in known)
        # The page compares with the reference, so that what a person sees there stands on it.
        for kept in ("frame", "fwhm_arcsec", "correlation_before"):
            assert getattr(new, kept) == getattr(row, kept)


def test_flagging_leaves_no_number_to_use(table):
    new = apply_decisions(table, [on(table, 0, "flagged", reason="clouds")]).rows[0]
    assert (new.grade, new.decision, new.note) == ("F", "flagged", "clouds")
    assert math.isnan(new.ra_offset_arcsec)
    assert math.isnan(new.dec_error_arcsec)


def test_a_failed_exposure_cannot_be_accepted(table):
    with pytest.raises(InputError, match="no good offset to accept"):
        apply_decisions(table, [on(table, 2, "accepted")])


def test_a_reset_gives_what_was_measured(table, path, fields):
    moved = apply_decisions(
        table, [on(table, 0, "moved", ra_offset_arcsec=9.0, dec_offset_arcsec=9.0)]
    )
    material = read_material(material_folder(path))
    assert apply_decisions(moved, [on(moved, 0, "reset")], material).rows[0] == table.rows[0]


def test_what_is_masked_is_measured_again(table):
    asked = []

    def measure(date_obs, masked):
        asked.append((date_obs, masked))
        return replace(made_compared(0).measurement, ra_offset_arcsec=7.0)

    accepted = on(table, 0, "accepted", masked=(MASK,))
    row = apply_decisions(table, [accepted], measure=measure).rows[0]
    assert asked == [(table.rows[0].date_obs, (MASK,))]
    assert (row.ra_offset_arcsec, row.decision) == (7.0, "accepted")
    assert "1 circle masked by hand" in row.note


def test_without_images_nothing_is_measured_again(table):
    with pytest.raises(MissingError, match="what was compared is not there"):
        apply_decisions(table, [on(table, 0, "masked", masked=(MASK,))])


def test_one_outdated_decision_stops_all_of_them(table):
    good = on(table, 1, "accepted")
    bad = replace(on(table, 0, "accepted"), based_on="0" * 16)
    with pytest.raises(OutdatedError, match=r"1 row .*2021-03-04T05:00:07.123.*nothing was"):
        apply_decisions(table, [good, bad])


def test_a_decision_on_a_stranger_is_refused(table):
    stranger = Decision(date_obs="2001-01-01T00:00:00", action="reset", based_on="x")
    with pytest.raises(MissingError, match="2001-01-01"):
        apply_decisions(table, [stranger])


@pytest.mark.parametrize("field", ["ra_offset_arcsec", "note", "grade", "n_sources"])
def test_any_change_of_a_row_is_another_version(table, field):
    row = table.rows[0]
    changed = {"note": "x", "grade": "B"}.get(field, 3.0)
    assert row_version(replace(row, **{field: changed})) != row_version(row)
    assert row_of(json.loads(json.dumps(row_record(row))), "x") == row


# --- the file of the page without a server --------------------------------------------------------


def test_decisions_come_back_from_their_file(tmp_path, table):
    given = (
        on(table, 0, "accepted", masked=(MASK,), decided_by="ada"),
        on(table, 1, "moved", ra_offset_arcsec=1.0, dec_offset_arcsec=2.0),
    )
    file = tmp_path / "review.json"
    file.write_text(decisions_text(given))
    assert repr(read_decisions(file)) == repr(given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": "maybe"}, "action 'maybe'"),
        ({"action": 3}, "action is 3"),
        ({"based_on": ""}, "based_on is missing"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"action": "moved"}, "moved to"),
        ({"action": "moved", "ra_offset_arcsec": 1e9, "dec_offset_arcsec": 0}, "moved to"),
        ({"action": "moved", "ra_offset_arcsec": "1", "dec_offset_arcsec": 0}, "expected float"),
        ({"action": "flagged"}, "without a reason"),
        ({"action": "flagged", "reason": "a\nb"}, "one line"),
        ({"action": "flagged", "reason": "x" * 501}, "at most 500"),
        ({"masked": {}}, "expected a list"),
        ({"masked": [{"ra_deg": 1, "dec_deg": 2}]}, "radius_arcsec"),
        ({"masked": [{"ra_deg": 1, "dec_deg": 2, "radius_arcsec": -1}]}, "radius above 0"),
        ({"masked": [vars(MASK)] * 201}, "201 masks"),
        ({"correlation": 2}, "correlation 2"),
    ],
)
def test_what_is_wrong_with_a_decision_is_said(change, words):
    record = {"date_obs": "2021-03-04T05:00:07.123", "action": "accepted", "based_on": "abc"}
    with pytest.raises(FileError, match=words):
        decision_of(record | change)


@pytest.mark.parametrize("record", [None, [], 3, "x"])
def test_only_an_object_is_a_decision(record):
    with pytest.raises(FileError, match="expected an object"):
        decision_of(record)


def test_a_file_without_or_with_two_decisions_on_one_exposure_is_refused(tmp_path, table):
    file = tmp_path / "review.json"
    file.write_text(decisions_text(()))
    with pytest.raises(FileError, match="holds no decision"):
        read_decisions(file)
    file.write_text(decisions_text((on(table, 0, "accepted"), on(table, 0, "reset"))))
    with pytest.raises(FileError, match="two decisions on 2021-03-04T05:00"):
        read_decisions(file)
    file.write_text('{"format": "musedask review", "version": 2}')
    with pytest.raises(FileError, match="version is 2"):
        read_decisions(file)


# --- a review -------------------------------------------------------------------------------------


def test_the_worst_comes_first_and_the_order_stays(review):
    assert [review.table().find(key).grade for key in review.keys] == ["F", "C", "A"]
    row = review.table().find(review.keys[2])
    review.decide(
        Decision(date_obs=row.key, action="flagged", reason="x", based_on=row_version(row))
    )
    review.refresh()
    assert [review.table().find(key).grade for key in review.keys] == ["F", "C", "F"]


def test_a_decision_is_in_the_table_on_the_disk(review, path):
    table = review.table()
    review.decide(on(table, 1, "accepted"))
    row = OffsetTable.read(path).rows[1]
    assert (row.decision, row.decided_by) == ("accepted", "ada")
    assert OffsetTable.read(path).rows[0] == table.rows[0]


def test_the_name_of_who_decided_is_not_the_requests(review):
    decision = on(
        review.table(), 1, "accepted", decided_by="mallory", decided_at="1999-01-01T00:00:00"
    )
    row = review.decide(decision)
    assert row.decided_by == "ada"
    assert not row.decided_at.startswith("1999")


def test_undo_goes_back_step_by_step_and_survives_a_new_start(review, path):
    first = review.table()
    accepted = review.decide(on(first, 1, "accepted"))
    flagged = review.decide(on(review.table(), 1, "flagged", reason="clouds"))
    again = Review(path, "eve")
    assert [step.action for step in again.history(flagged)] == ["accepted", "flagged"]
    assert again.undo(flagged.key, row_version(flagged)) == accepted
    assert again.undo(flagged.key, row_version(accepted)) == first.rows[1]
    assert OffsetTable.read(path) == first
    with pytest.raises(InputError, match="nothing to undo"):
        again.undo(flagged.key, row_version(first.rows[1]))


def test_of_two_reviews_the_later_one_is_refused(review, path):
    other = Review(path, "eve")
    table = other.table()
    review.decide(on(table, 0, "accepted"))
    with pytest.raises(OutdatedError):
        other.decide(on(table, 0, "flagged", reason="x"))
    with pytest.raises(OutdatedError):
        other.undo(table.rows[0].key, row_version(table.rows[0]))
    other.decide(on(table, 1, "accepted"))  # another exposure is free
    assert [row.decision for row in OffsetTable.read(path)] == ["accepted", "accepted", ""]


def test_a_row_that_was_written_elsewhere_has_no_history(review, path):
    row = review.decide(on(review.table(), 1, "accepted"))
    rows = [replace(one, note="edited") if one.key == row.key else one for one in review.table()]
    OffsetTable(tuple(rows)).write(path, overwrite=True)
    edited = review.table().find(row.key)
    assert review.history(edited) == ()
    with pytest.raises(InputError, match="nothing to undo"):
        review.undo(edited.key, row_version(edited))


def test_a_mask_is_fitted_kept_and_undone(review, path, fitted):
    table = review.table()
    masked = review.decide(on(table, 0, "masked", masked=(MASK,)))
    assert masked.ra_offset_arcsec == 1.6
    assert masked.decision == ""
    assert review.masked(masked) == (MASK,)
    accepted = review.decide(on(review.table(), 0, "accepted"))
    assert accepted.ra_offset_arcsec == 1.6
    again = Review(path)
    assert again.masked(accepted) == (MASK,)
    assert again.measurement(accepted).ra_offset_arcsec == 1.6
    reset = again.decide(on(again.table(), 0, "reset"))
    assert again.masked(reset) == ()
    assert reset == table.rows[0]
    assert again.masked(again.undo(reset.key, row_version(reset))) == (MASK,)


def test_a_real_fit_without_the_masked_source_is_right(tmp_path):
    """The fit itself, not a stand-in: what disagrees is masked, and the offset is right."""
    field = made_compared(0, (0.6, -0.4), n_sources=9, side=90, seed=3)
    wrong = replace(field.measurement, dec_offset_arcsec=0.05)
    review = Review(write_review(tmp_path, [replace(field, measurement=wrong)]), "ada")
    stranger = field.measurement.sources[-1]
    mask = MaskedCircle(stranger.ra_deg, stranger.dec_deg, 1.5)
    row = review.decide(on(review.table(), 0, "masked", masked=(mask,)))
    assert row.ra_offset_arcsec == pytest.approx(0.6, abs=0.03)
    assert row.dec_offset_arcsec == pytest.approx(-0.4, abs=0.03)
    assert review.measurement(row).date_obs == row.date_obs


def test_a_journal_that_was_cut_loses_its_last_step_only(review, path):
    row = review.decide(on(review.table(), 1, "accepted"))
    journal = material_folder(path) / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: len(whole) // 2])
    again = Review(path)
    assert len(again.history(row)) == 1
    flagged = again.decide(on(again.table(), 1, "flagged", reason="x"))
    assert [step.action for step in Review(path).history(flagged)] == ["accepted", "flagged"]


def test_a_damaged_journal_is_said(review, path):
    review.decide(on(review.table(), 1, "accepted"))
    journal = material_folder(path) / JOURNAL
    journal.write_bytes(b"{}\n")
    with pytest.raises(FileError, match=str(journal)):
        Review(path)


def test_a_write_that_fails_leaves_the_table_and_is_no_step(review, path, monkeypatch):
    before = path.read_bytes()

    def full(*_arguments, **_more):
        raise FileError("no space left")

    monkeypatch.setattr(OffsetTable, "write", full)
    with pytest.raises(FileError, match="no space"):
        review.decide(on(review.table(), 1, "accepted"))
    assert path.read_bytes() == before
    assert review.history(review.table().rows[1]) == ()


def test_only_ecsv_holds_decisions(tmp_path):
    with pytest.raises(InputError, match=r"offsets.txt.*only an ECSV"):
        Review(tmp_path / "offsets.txt")


def test_an_exposure_without_images_can_be_decided_on(path, review):
    row = Offset(
        date_obs="2020-01-01T00:00:00", name="x", ra_offset_arcsec=1.0, dec_offset_arcsec=2.0
    )
    OffsetTable((*review.table(), row)).write(path, overwrite=True)
    again = Review(path, "ada")
    assert again.measurement(row) is None
    with pytest.raises(MissingError):
        again.compared(row)
    new = again.decide(Decision(date_obs=row.key, action="accepted", based_on=row_version(row)))
    assert new.decision == "accepted"


def test_a_new_measurement_is_seen_after_a_refresh(review, path):
    write_material(material_folder(path), [made_compared(0, (2.0, 2.0))])
    review.refresh()
    row = review.table().rows[0]
    assert review.measurement(row).ra_offset_arcsec == 2.0
    assert np.isfinite(review.compared(row).exposure.flux).all()
