"""What is missing for a reduction, and how the frames are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from musedask.reduction.finding.frame_report import frame_report
from musedask.reduction.finding.missing import lacks
from musedask.reduction.frames import Frame, FrameList

MJD = 58120.0
NIGHT = "2016-01-01"
TABLES = ("GEOMETRY_TABLE", "ASTROMETRY_WCS", "LINE_CATALOG", "EXTINCT_TABLE", "STD_FLUX_TABLE",
          "SKY_LINES", "FILTER_LIST", "RAMAN_LINES")  # fmt: skip
ARCS = ("CU-LAMP3", "CU-LAMP4", "CU-LAMP5")


def raw(tag, number=1, days=0.0, **facts):
    """Frames of one template, a minute apart."""
    mode = facts.pop("mode", "WFM-NOAO-N")
    frames = []
    for n in range(number):
        time = f"2016-01-02T0{4 + n // 60}:{n % 60:02d}:00.000"
        frames.append(Frame(
            path=f"/raw/{tag}{days}{mode}{n}.fits", kind="raw", tag=tag, date_obs=time,
            mjd=MJD + days + n / 1440, night=NIGHT, exptime_s=10.0, target="FIELD", mode=mode,
            readout="SCI1.0", optics="WFM", template_start=f"{tag}{days}", template_size=number,
            template_id=f"MUSE_{tag.lower()}", ifus=(1, 2),
            lamps=(ARCS[n % 3],) if tag == "ARC" else (),
        ))  # fmt: skip
    return [replace(frame, **facts) for frame in frames]


def table(tag, **facts):
    return Frame(path=f"/kit/{tag.lower()}.fits", kind="static", tag=tag, **facts)


def night(without=(), mode="WFM-NOAO-N"):
    """All that two exposures need, without some tags."""
    numbers = {"BIAS": 3, "FLAT": 3, "ARC": 3, "SKYFLAT": 3, "ILLUM": 1, "STD": 1, "OBJECT": 2}
    frames = [f for tag, n in numbers.items() if tag not in without for f in raw(tag, n, mode=mode)]
    return [*frames, *(table(tag) for tag in TABLES if tag not in without)]


def listed(frames, notes=()):
    return FrameList(tuple(frames), tuple(notes), ("/raw", "/kit"))


def missing(frames):
    found, _ = lacks(listed(frames))
    return [lack.tag for lack in found if not lack.consequence]


def optional(frames):
    found, _ = lacks(listed(frames))
    return [lack.tag for lack in found if lack.consequence]


@pytest.mark.parametrize("mode", ["WFM-NOAO-N", "WFM-AO-N"])
def test_a_whole_night_lacks_nothing(mode):
    assert lacks(listed(night(mode=mode))) == ((), ())


@pytest.mark.parametrize(
    ("tag", "needed"),
    [
        ("BIAS", ["MASTER_BIAS"]),
        ("FLAT", ["MASTER_FLAT"]),
        ("ARC", ["WAVECAL_TABLE", "LSF_PROFILE"]),
        ("STD", ["STD_RESPONSE"]),
        *((tag, [tag]) for tag in TABLES if tag not in ("FILTER_LIST", "RAMAN_LINES")),
    ],
)
def test_each_thing_that_is_needed_is_missed(tag, needed):
    assert set(missing(night(without=[tag]))) == set(needed)
    assert optional(night(without=[tag])) == []


@pytest.mark.parametrize(
    ("tag", "mode", "expected"),
    [
        ("ILLUM", "WFM-NOAO-N", {"ILLUM"}),
        ("SKYFLAT", "WFM-NOAO-N", {"TWILIGHT_CUBE"}),
        ("FILTER_LIST", "WFM-NOAO-N", {"FILTER_LIST"}),
        ("RAMAN_LINES", "WFM-NOAO-N", set()),
        ("RAMAN_LINES", "WFM-AO-N", {"RAMAN_LINES"}),
    ],
)
def test_what_is_optional_is_told_with_its_consequence(tag, mode, expected):
    assert missing(night([tag], mode)) == []
    assert set(optional(night([tag], mode))) == expected


def test_the_vignetting_mask_is_told_for_the_first_years_only():
    early = [replace(frame, mjd=frame.mjd - 1000.0) for frame in night()]
    found, _ = lacks(listed(early))
    assert [(lack.tag, lack.users) for lack in found] == [("VIGNETTING_MASK", (("SKYFLAT", 3),))]
    assert optional([*early, table("VIGNETTING_MASK")]) == []


@pytest.mark.parametrize(("tag", "days"), [("BIAS", 3), ("FLAT", 3), ("ARC", 3)])
def test_windows_of_days(tag, days):
    near = night([tag]) + raw(tag, 3, days=days - 0.1)
    far = night([tag]) + raw(tag, 3, days=days + 0.5)
    assert missing(near) == []
    found, _ = lacks(listed(far))
    lack = next(one for one in found if tag in one.wanted)
    assert lack.nearest_days == pytest.approx(days + 0.5, abs=0.01)
    assert f"within {days} days (the nearest is {days + 0.5:.1f} days away)" in str(lack)


def test_a_standard_of_another_mode_does_not_do_but_of_any_date():
    frames = night(["STD"])
    response = table("STD_RESPONSE", mode="WFM-NOAO-N", mjd=MJD - 900.0)
    assert missing([*frames, response]) == []
    assert missing([*frames, replace(response, mode="WFM-AO-N")]) == ["STD_RESPONSE"]


def test_two_biases_are_none_and_the_note_says_so():
    frames = night(["BIAS"]) + raw("BIAS", 2)
    found, notes = lacks(listed(frames))
    assert [lack.tag for lack in found] == ["MASTER_BIAS"]
    assert str(found[0]) == (
        f"no BIAS (3 or more, SCI1.0) within 3 days for 3 ARC, 3 FLAT, 2 OBJECT, 3 SKYFLAT, "
        f"1 STD of {NIGHT}"
    )
    assert any("2 of the 3 frames" in note for note in notes)


def test_biases_of_another_read_out_do_not_do():
    frames = night(["BIAS"]) + raw("BIAS", 3, readout="FAST")
    assert missing(frames) == ["MASTER_BIAS"]


def test_biases_and_illums_of_another_mode_do():
    frames = night(["BIAS", "ILLUM"], "WFM-AO-N") + raw("BIAS", 3) + raw("ILLUM")
    assert lacks(listed(frames))[0] == ()


def test_arcs_without_one_of_the_lamps_are_no_arcs():
    frames = night(["ARC"]) + [replace(f, lamps=("CU-LAMP3",)) for f in raw("ARC", 3)]
    found, notes = lacks(listed(frames))
    assert "WAVECAL_TABLE" in [lack.tag for lack in found]
    assert any("Xe" in note and "HgCd" in note for note in notes)


def test_products_and_tables_of_the_kit_stand_in_for_raw_frames():
    frames = night(["STD", "BIAS"])
    facts = {"mjd": MJD, "date_obs": "2016-01-02T04:00:00.000", "readout": "SCI1.0"}
    master = Frame(path="/p/MASTER_BIAS-01.fits", kind="product", tag="MASTER_BIAS", **facts)
    response = table("STD_RESPONSE", mode="WFM-NOAO-N")
    assert missing([*frames, master, response]) == []


def test_no_science_is_the_first_thing_that_is_missing():
    text = frame_report(listed(night(["OBJECT"])))
    lines = text.splitlines()
    assert lines[lines.index("Missing for a reduction") + 1].strip().startswith("no OBJECT")


def test_the_report_has_a_row_for_each_template_of_a_night_and_mode():
    frames = night() + raw("OBJECT", 3, mode="WFM-AO-N", template_start="later")
    text = frame_report(listed(reversed(frames)))
    assert "27 files in /raw, /kit: 19 raw, 8 static" in text
    lines = text.splitlines()
    assert f"Night {NIGHT}, WFM-NOAO-N: 16 frames" in lines
    assert f"Night {NIGHT}, WFM-AO-N: 3 frames" in lines
    rows = [line.split() for line in lines if line.startswith("  ")]
    assert ["BIAS", "3", "04:00-04:02", "10.0", "s", "2", "MUSE_bias"] in rows
    assert ["STD", "1", "04:00", "10.0", "s", "2", "FIELD"] in rows
    assert ["OBJECT", "3", "04:00-04:02", "10.0", "s", "2", "FIELD"] in rows
    assert ["GEOMETRY_TABLE", "1", "geometry_table.fits"] in rows
    tags = [row[0] for row in rows[: rows.index(["STD", "1", "04:00", "10.0", "s", "2", "FIELD"])]]
    assert tags.index("BIAS") < tags.index("FLAT") < tags.index("ARC") < tags.index("SKYFLAT")


def test_ifus_are_unknown_where_the_headers_were_not_all_read():
    frames = raw("OBJECT", 2, ifus=None)
    assert "?  FIELD" in frame_report(listed(frames))
    mixed = [frames[0], replace(frames[1], ifus=(1,)), replace(frames[1], ifus=(1, 2, 3))]
    assert "1-3?  FIELD" in frame_report(listed(mixed))


def test_what_is_left_out_is_listed_with_its_reason():
    bad = [Frame(path=f"/raw/bad{n}.fits", kind="unreadable", reason="is empty") for n in range(5)]
    skipped = [
        Frame(path=f"/raw/s{n}.fits", kind="skipped", reason="DPR CATG = TEST") for n in "abcd"
    ]
    text = frame_report(listed([*night(), *bad, *skipped], ["a note"]), width=200)
    assert "unreadable: bad0.fits, bad1.fits, bad2.fits, bad3.fits, bad4.fits: is empty" in text
    assert "skipped: sa.fits, sb.fits, sc.fits and 1 more: DPR CATG = TEST" in text
    assert text.rstrip().endswith("a note")


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_lines_keep_to_the_width(width):
    long = raw("OBJECT", 2, target="A" * 200) + [
        Frame(path=f"/raw/{'x' * 30}{n}.fits", kind="unreadable", reason="r " * 100) for n in "abc"
    ]
    found = FrameList(tuple(long + night(["BIAS", "STD", "ILLUM"])), ("n " * 200,), ("/raw",))
    assert max(map(len, frame_report(found, width).splitlines())) <= max(width, 80)


def test_many_nights_are_told_by_the_first_and_the_last():
    frames = []
    for n in range(1, 6):
        frames += raw("OBJECT", 1, days=n * 10.0, night=f"2016-01-0{n}")
    found, _ = lacks(listed(frames))
    assert "for 5 OBJECT of 5 nights (2016-01-01 to 2016-01-05)" in str(found[0])


def test_hundreds_of_nights_are_reported_at_once():
    frames = []
    for n in range(200):
        for tag, number in (("BIAS", 5), ("FLAT", 3), ("ARC", 3), ("STD", 1), ("OBJECT", 8)):
            date = f"2016-{n // 28 + 1:02d}-{n % 28 + 1:02d}"
            frames += [replace(f, template_start=f"{tag}{n}", night=date, path=f"{f.path}{n}")
                       for f in raw(tag, number, days=float(n))]  # fmt: skip
    assert len(frame_report(listed(frames)).splitlines()) > 1000
