"""What people read of an offset table."""

from __future__ import annotations

import math

from musedask import offset_text
from musedask.offset_text import offsets_summary, offsets_text
from musedask.offsets import Offset, OffsetTable

GOOD = Offset(
    date_obs="2026-01-31T01:00:00.000", name="EXP_1", ra_offset_arcsec=1.2345,
    dec_offset_arcsec=-0.5, ra_error_arcsec=0.01, dec_error_arcsec=0.02, grade="A",
    method="reference", frame="hst.fits", n_sources=12, correlation_after=0.876,
)  # fmt: skip
FLAGGED = Offset(
    date_obs="2026-01-31T02:00:00.000", ra_offset_arcsec=math.nan, dec_offset_arcsec=math.nan,
    grade="F", method="reference", frame="hst.fits", reasons="no source", note="clouds",
    decision="flagged", decided_by="ann",
)  # fmt: skip
MOVED = Offset(
    date_obs="2026-01-31T03:00:00.000", name="EXP_3", ra_offset_arcsec=-0.1,
    dec_offset_arcsec=0.2, method="manual", decision="moved",
)  # fmt: skip


def test_each_exposure_has_a_line_with_its_numbers_and_why():
    head, *lines = offsets_text(OffsetTable((GOOD, FLAGGED, MOVED))).splitlines()
    assert head.split() == [
        "exposure", "east", "north", "error", "grade", "sources", "correlation", "method", "why",
    ]  # fmt: skip
    assert lines[0].split() == [
        "EXP_1", "+1.234", "-0.500", "0.020", "A", "12", "0.88", "reference",
    ]  # fmt: skip
    assert lines[1].split(None, 3) == [
        "2026-01-31T02:00:00.000", "F", "reference", "flagged by ann; no source; clouds",
    ]  # fmt: skip
    assert lines[2].split() == ["EXP_3", "-0.100", "+0.200", "manual", "moved"]
    # What stands under a heading belongs to it.
    assert lines[0].index("+1.234") + 6 == head.index("east") + 4
    assert lines[1].index("flagged") == head.index("why")


def test_columns_without_a_value_are_left_out():
    head = offsets_text(OffsetTable((MOVED,))).splitlines()[0]
    assert head.split() == ["exposure", "east", "north", "method", "why"]


def test_the_summary_counts_grades_frames_and_decisions():
    text = offsets_summary(OffsetTable((MOVED, GOOD, FLAGGED)))
    assert text.splitlines() == [
        "3 exposures, up to 1.332 arcsec",
        "  methods: 1 manual, 2 reference",
        "  grades: 1 A, 1 F, 1 ungraded",
        "  on the frame of: 2 hst.fits",
        "  decided by people: 1 moved, 1 flagged",
    ]


def test_a_long_table_is_cut_and_it_is_said(monkeypatch):
    monkeypatch.setattr(offset_text, "ROWS_SHOWN", 1)
    assert offsets_text(OffsetTable((GOOD, MOVED))).splitlines()[-1] == "and 1 more"
