"""esorex's log: what a user sees of it."""

from __future__ import annotations

import pytest

from musedask.reduction.job.log import DumpedError, parse_log

# Lines as the real esorex 3.13.6 and MUSE pipeline 2.8.7 write them.
LOG = """
Start time     : 2026-11-21T11:37:03
Program name   : esorex
Severity level : [ INFO  ]

11:37:03 [ INFO  ] : [tid=000] This is EsoRex, version 3.13.6
11:37:03 [WARNING] : [tid=000] Unable to open directory /usr/lib/cpl/plugins
11:37:03 [ INFO  ] muse_processing_recipeinfo: [tid=000] MUSE Instrument Pipeline v2.8.7
11:37:03 [ INFO  ] muse_resampling_cube: [tid=000]   Output cube size 30 x 30 x 12 (fit to data)
11:37:03 [WARNING] muse_astro_posangle: [tid=001]   Derotator mode is not given! Angle may be wrong!
11:37:04 [WARNING] muse_astro_posangle: [tid=000]   Derotator mode is not given! Angle may be wrong!
11:37:04 [WARNING] muse_pixtable_load: [tid=000] Channel for IFU 02 is missing
11:37:04 [WARNING] muse_lsf_cube_load: [tid=000] No LSF_PROFILE (cube format) specified for IFU  2!
11:37:04 [WARNING] muse_basicproc: [tid=000] Calibrations could not be loaded for IFU 12: TRACE_TABLE
11:37:04 [WARNING] muse_processing_prepare_property: [tid=000] Property ESO QC SCIPOST FWHM MAD ([arcsec] Median.) not used
11:37:05 [ ERROR ] muse_image_load: [tid=000] Image "/raw/b1.fits[CHAN01]" (extension 1) could not be read although chip is alive: Bad file format
which goes on here
11:37:05 [ ERROR ] muse_cplerrorstate_dump_some: [tid=000] Dumping the 2 most recent error(s) out of a total of 2 errors:
11:37:05 [ ERROR ] muse_cplerrorstate_dump_some: [tid=000]   [1/2] 'Data not found: ESO INS DROT MODE' (10) at cpl_propertylist_get_string:cpl_propertylist.c:2739
11:37:05 [ ERROR ] muse_cplerrorstate_dump_some: [tid=000]   [2/2] 'Bad file format: "error reading from FITS file" from CFITSIO (ver. 4.2.0) ffgpv()=108. filename='/raw/b1.fits', pnum=0' (6) at cpl_image_load_:cpl_image_io.c:3172
11:37:05 [ ERROR ] cpl_errorstate_dump_one_level: [tid=000] Dumping all 1 error(s):
11:37:05 [ ERROR ] cpl_errorstate_dump_one_level: [tid=000]   [1/1] 'Data not found: ESO INS DROT MODE' (10) at cpl_propertylist_get_string:cpl_propertylist.c:2739
11:37:05 [ ERROR ] : [tid=000] Execution of recipe 'muse_bias' failed, status = -1
"""  # noqa: E501


@pytest.fixture(scope="module")
def log():
    return parse_log(LOG)


def test_each_message_is_a_line_with_its_parts(log):
    assert len(log.lines) == 17
    first = log.lines[0]
    assert (first.time, first.level, first.source) == ("11:37:03", "INFO", "")
    assert first.text == "This is EsoRex, version 3.13.6"
    assert log.lines[3].text == "Output cube size 30 x 30 x 12 (fit to data)"
    assert log.lines[3].source == "muse_resampling_cube"


def test_a_line_without_a_beginning_goes_on_with_the_message_before(log):
    (text,) = log.errors
    assert text.endswith("Bad file format\nwhich goes on here")


def test_warnings_come_once_without_the_harmless_ones(log):
    assert log.warnings == ("Derotator mode is not given! Angle may be wrong! (2 times)",)


def test_errors_are_told_from_what_cpl_remembered(log):
    assert len(log.errors) == 1
    assert log.errors[0].startswith('Image "/raw/b1.fits[CHAN01]"')
    where = "cpl_propertylist_get_string:cpl_propertylist.c:2739"
    assert log.dumped[0] == DumpedError("Data not found: ESO INS DROT MODE", 10, where)
    assert [error.code for error in log.dumped] == [10, 6]
    assert log.dumped[1].what.startswith("Bad file format: ")
    assert log.dumped[1].what.endswith("pnum=0")


def test_the_reason_is_what_a_function_said_else_what_cpl_remembered(log):
    assert log.reason == log.errors[0]
    only_dumped = "\n".join(line for line in LOG.splitlines() if "could not be read" not in line)
    reason = parse_log(only_dumped).reason
    assert reason.startswith("Data not found: ESO INS DROT MODE; Bad file format")
    assert parse_log("nothing of the kind").reason == ""


def test_an_error_without_details_is_the_echo_of_one_before_unless_it_is_the_first():
    line = "11:00:00 [ ERROR ] muse_x: [tid=000]   [{}/3] '{}' (15) at f{}:f.c:1"
    whats = ("Illegal output", "Illegal input", "Data not found: LST")
    text = "\n".join(line.format(n, what, n) for n, what in enumerate(whats, start=1))
    assert [error.is_echo for error in parse_log(text).dumped] == [False, True, False]
    assert parse_log(text).reason == "Illegal output; Data not found: LST"


def test_a_pattern_is_found_once_in_each_message(log):
    assert [m[1] for m in log.find(r"IFU (\d+) is missing")] == ["02"]
    assert len(log.find("Derotator")) == 2
    assert log.find("no such words") == ()


def test_the_end_is_the_last_messages(log):
    assert log.end(1) == "11:37:05 [ ERROR ] Execution of recipe 'muse_bias' failed, status = -1"
    assert len(log.end(4).splitlines()) == 4


@pytest.mark.parametrize(
    "text",
    [
        # On the terminal the recipe's name stands where the log has the function's.
        "11:43:55 [ ERROR ] muse_bias: [tid=000] No raw images loaded for IFU 1",
        "11:43:55 [ ERROR ] muse_bias: muse_basicproc_load_raw: No raw images loaded for IFU 1",
        "11:43:55 [ ERROR ] esorex: No raw images loaded for IFU 1",
    ],
)
def test_what_the_terminal_got_can_be_read_too(text):
    (error,) = parse_log(text).errors
    assert error.endswith("No raw images loaded for IFU 1")


def test_an_empty_log_says_nothing():
    empty = parse_log("")
    assert (empty.lines, empty.warnings, empty.errors, empty.dumped) == ((), (), (), ())
    assert empty.end() == ""
