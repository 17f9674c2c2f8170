"""The association's table: its windows and matches, one by one."""

from __future__ import annotations

import pytest
from reduction_frames import DATED_NIGHTS

from musedask.reduction.frames import Frame
from musedask.reduction.rules import RAW_OF, RULES, Rule, table_ending

BIAS, DARK = ("MASTER_BIAS", 3, "R", False), ("MASTER_DARK", 5, "R", True)
FLAT = [("MASTER_FLAT", 3, "MR", False), ("TRACE_TABLE", 3, "MR", False)]
GEOMETRY = ("GEOMETRY_TABLE", None, "O", False)
LINES = ("LINE_CATALOG", None, "", False)
TWILIGHT = ("TWILIGHT_CUBE", 30, "MR", True)


def basic(illum):
    return [BIAS, DARK, *FLAT, ("WAVECAL_TABLE", 3, "MR", False), ("ILLUM", illum, "R", True),
            TWILIGHT, GEOMETRY]  # fmt: skip


TABLE = {
    "dark": [BIAS],
    "flat": [BIAS, DARK],
    "wavecal": [BIAS, DARK, *FLAT, LINES],
    "lsf": [BIAS, DARK, *FLAT, ("WAVECAL_TABLE", 3, "M", False), LINES],
    "twilight": [BIAS, DARK, *FLAT, ("WAVECAL_TABLE", 3, "M", False), ("ILLUM", 0.5, "R", True),
                 GEOMETRY, ("VIGNETTING_MASK", None, "", True)],
    "std": basic(0.5),
    "sky": basic(0.5),
    "astrometry": basic(0.5),
    "science": basic(1),
    "scipost": [
        ("EXTINCT_TABLE", None, "", False),
        ("STD_RESPONSE", None, "M", False),
        ("STD_TELLURIC", 1, "M", True),
        ("LSF_PROFILE", None, "MR", False),
        ("SKY_LINES", None, "", False),
        ("SKY_CONTINUUM", None, "", True),
        ("SKY_MASK", None, "", True),
        ("ASTROMETRY_WCS", None, "O", False),
        ("OUTPUT_WCS", None, "O", True),
        ("RAMAN_LINES", None, "", True),
    ],
}  # fmt: skip


def matches(rule):
    return "M" * rule.same_mode + "R" * rule.same_readout + "O" * rule.same_optics


@pytest.mark.parametrize("user", TABLE)
def test_each_line_of_the_table(user):
    found = {(rule.tag, rule.days, matches(rule), rule.optional) for rule in RULES[user]}
    assert found >= set(TABLE[user])
    extra = {"BADPIX_TABLE", "FILTER_LIST", "AUTOCAL_FACTORS"}
    assert {tag for tag, *_ in found - set(TABLE[user])} <= extra
    assert all(rule.optional for rule in RULES[user] if rule.tag in extra)


@pytest.mark.parametrize("tag", ["MASTER_BIAS", "MASTER_DARK", "ILLUM"])
def test_no_user_wants_these_of_its_own_mode(tag):
    assert not any(rule.same_mode for rules in RULES.values() for rule in rules if rule.tag == tag)


def frame(mjd=0.0, mode="WFM-NOAO-N", readout="SCI1.0", optics="WFM"):
    return Frame(path="/x", kind="raw", mjd=mjd, mode=mode, readout=readout, optics=optics)


@pytest.mark.parametrize("away", [-3.0, 0.0, 3.0])
def test_a_window_holds_its_ends(away):
    rule = Rule("MASTER_BIAS", 3.0)
    assert rule.fits(frame(57000.0), frame(57000.0 + away))
    assert not rule.fits(frame(57000.0), frame(57000.0 + away * 1.001 + (away == 0) * 3.1))


def test_another_window_replaces_the_rules_own():
    rule = Rule("MASTER_BIAS", 3.0)
    assert rule.fits(frame(0), frame(9.0), days=10.0)
    assert not rule.fits(frame(0), frame(2.0), days=1.0)


def test_an_unknown_date_fits_no_window_but_any_date():
    nan = float("nan")
    assert not Rule("ILLUM", 1.0).fits(frame(nan), frame(0))
    assert not Rule("ILLUM", 1.0).fits(frame(0), frame(nan))
    assert Rule("EXTINCT_TABLE").fits(frame(0), frame(nan))


@pytest.mark.parametrize(
    ("rule", "other"),
    [
        (Rule("X", same_mode=True), frame(mode="WFM-AO-N")),
        (Rule("X", same_readout=True), frame(readout="FAST")),
        (Rule("X", same_optics=True), frame(optics="NFM")),
    ],
)
def test_what_has_to_be_the_same(rule, other):
    assert rule.fits(frame(), frame())
    assert not rule.fits(frame(), other)
    assert Rule("X").fits(frame(), other)


def test_the_optics_of_a_table_may_be_unknown_or_in_its_mode():
    rule = Rule("GEOMETRY_TABLE", same_optics=True)
    assert rule.fits(frame(), frame(optics="", mode=""))
    assert rule.fits(frame(optics=""), frame())
    assert not rule.fits(frame(), frame(optics="", mode="NFM-AO-N"))
    assert not rule.fits(frame(optics="", mode="NFM-AO-N"), frame())


def test_the_vignetting_mask_is_for_twilights_before_its_date_only():
    (rule,) = (rule for rule in RULES["twilight"] if rule.tag == "VIGNETTING_MASK")
    assert rule.concerns(frame(57822.99))
    assert not rule.concerns(frame(57823.0))


@pytest.mark.parametrize("mode", ["WFM-AO-N", "WFM-AO-E", "NFM-AO-N"])
def test_raman_lines_are_for_the_laser_only(mode):
    (rule,) = (rule for rule in RULES["scipost"] if rule.tag == "RAMAN_LINES")
    assert rule.concerns(frame(mode=mode))
    assert not rule.concerns(frame(mode="WFM-NOAO-N"))
    assert not rule.concerns(frame(mode="WFM-NOAO-E"))


@pytest.mark.parametrize(("night", "ending"), [*DATED_NIGHTS, ("", "")])
def test_the_dated_tables_of_the_first_years(night, ending):
    assert table_ending(night) == ending


def test_each_calibration_that_is_made_says_of_what():
    made = {rule.tag for rules in RULES.values() for rule in rules if rule.raw}
    assert made == set(RAW_OF)
