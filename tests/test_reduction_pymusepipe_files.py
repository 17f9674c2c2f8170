"""pymusepipe's two files become a musedask.toml that says what was left out."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musedask.config import Choice, config_of
from musedask.errors import FileError, InputError
from musedask.reduction.finding.pymusepipe_files import import_pymusepipe

RC = """musecalib /soft/ESO/MUSE/muse-calib-2.6.2/cal/
musecalib_time /soft/ESO/MUSE/astrocal/
root /my data/MUSE/
str_dataset OB
ndigits 3
str_pointing P
"""
CALIB = """# Muse calibration files (common to all)
geo_table geometry_table_wfm.fits
% Calibration files (specific to OBs)
astro_table\tastrometry_wcs_wfm.fits
badpix_table badpix_table.fits

vignetting_mask vignetting_mask.fits
std_flux_table   std_flux_table.fits
extinct_table extinct_table.fits
line_catalog line_catalog.fits
filter_list my_filter_list.fits
"""


@pytest.fixture
def made(tmp_path):
    """A function that writes the two files and imports them."""

    def make(rc=RC, calib=CALIB):
        (tmp_path / "rc.dic").write_text(rc, encoding="utf-8")
        (tmp_path / "calib_tables.dic").write_text(calib, encoding="utf-8")
        return import_pymusepipe(tmp_path / "rc.dic", tmp_path / "calib_tables.dic")

    return make


def reduction(text):
    return config_of(tomllib.loads(text)).reduction


def comments(text):
    return [line[4:] for line in text.splitlines() if line.startswith("# - ")]


def test_the_folders_and_tables_of_the_files_are_taken_over(made):
    found = reduction(made())
    assert found.raw == ("/my data/MUSE",)
    assert found.static == ("/soft/ESO/MUSE/muse-calib-2.6.2/cal",)
    assert found.choose == tuple(
        Choice(frames="*", tag=tag, file=file)
        for tag, file in [
            ("GEOMETRY_TABLE", "geometry_table_wfm.fits"),
            ("ASTROMETRY_WCS", "astrometry_wcs_wfm.fits"),
            ("BADPIX_TABLE", "badpix_table.fits"),
            ("STD_FLUX_TABLE", "std_flux_table.fits"),
            ("EXTINCT_TABLE", "extinct_table.fits"),
            ("LINE_CATALOG", "line_catalog.fits"),
            ("FILTER_LIST", "my_filter_list.fits"),
        ]
    )


def test_what_is_not_taken_over_is_named_with_its_reason(made):
    told = comments(made(RC + "colour blue\n", CALIB + "my_table x.fits\n"))
    starts = [
        "rc.dic: musecalib_time = /soft/ESO/MUSE/astrocal/: ",
        "rc.dic: str_dataset = OB: ",
        "rc.dic: ndigits = 3: ",
        "rc.dic: str_pointing = P: ",
        "rc.dic: colour = blue: musedask does not know",
        "calib_tables.dic: vignetting_mask = vignetting_mask.fits: ",
        "calib_tables.dic: my_table = x.fits: musedask does not know",
    ]
    assert len(told) == len(starts)
    for line, start in zip(told, starts, strict=True):
        assert line.startswith(start)
        assert len(line) > len(start)


def test_missing_folders_are_named_and_musedasks_own(made):
    text = made("str_dataset OB\n")
    assert (reduction(text).raw, reduction(text).static) == (("raw",), ("static",))
    assert [line for line in comments(text) if "has no" in line] == [
        "rc.dic: has no root: raw is musedask's own folder",
        "rc.dic: has no musecalib: static is musedask's own folder",
    ]


def test_older_names_and_quotes_are_known(made):
    text = made("musecalib_folder /cal/'\nroot_folder /data/\n", "std_flux_Table s.fits\n")
    found = reduction(text)
    assert (found.raw, found.static) == (("/data",), ("/cal",))
    assert found.choose == (Choice(frames="*", tag="STD_FLUX_TABLE", file="s.fits"),)


def test_relative_folders_are_taken_from_here_as_pymusepipe_does(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert reduction(made("root data\nmusecalib .\n")).raw == (str(tmp_path / "data"),)


def test_a_table_in_a_folder_of_its_own_gets_its_whole_path(made):
    found = reduction(made("musecalib /cal\nroot /data\n", "line_catalog new/lines.fits\n"))
    assert found.choose[0].file == "/cal/new/lines.fits"
    found = reduction(made("musecalib /cal\nroot /data\n", "line_catalog /my/lines.fits\n"))
    assert found.choose[0].file == "/my/lines.fits"


@pytest.mark.parametrize(
    ("rc", "calib", "words"),
    [
        ("root\n", CALIB, "rc.dic, line 1: 'root'"),
        (RC, CALIB + "geo_table other.fits\n", "line 12: geo_table comes a second time"),
        (RC + "root_folder \x07\n", CALIB, "line 7"),
        ("# nothing\n", CALIB, "no keyword"),
        (RC, "", "calib_tables.dic: has no keyword"),
    ],
)
def test_lines_that_cannot_be_are_named(made, rc, calib, words):
    with pytest.raises(InputError, match=words):
        made(rc, calib)


def test_files_that_are_missing_or_no_text_are_named(tmp_path, made):
    made()
    with pytest.raises(FileError, match=r"none\.dic"):
        import_pymusepipe(tmp_path / "none.dic", tmp_path / "calib_tables.dic")
    (tmp_path / "rc.dic").write_bytes(b"root \xff\xfe\n")
    with pytest.raises(FileError, match=r"rc\.dic: is no text"):
        import_pymusepipe(tmp_path / "rc.dic", tmp_path / "calib_tables.dic")


WORD = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12)
KEYS = st.sampled_from(["geo_table", "line_catalog", "sky_lines", "surprise", "root"])


@given(st.dictionaries(KEYS, WORD, min_size=1), st.dictionaries(KEYS, WORD, min_size=1))
def test_whatever_the_values_are_the_text_is_a_configuration(tmp_path_factory, rc, calib):
    folder = tmp_path_factory.mktemp("dic")
    for name, cards in (("rc", rc), ("calib", calib)):
        lines = "".join(f"{key} {value}\n" for key, value in cards.items())
        (folder / name).write_text(lines, encoding="utf-8", newline="")
    try:
        text = import_pymusepipe(folder / "rc", folder / "calib")
    except InputError:
        values = [*rc.values(), *calib.values()]
        assert any(not v.isprintable() or not v.strip("'\"") for v in values)
        return
    found = reduction(text)
    left = " ".join(comments(text))
    for key, value in calib.items():
        if key in ("surprise", "root"):
            assert f"calib: {key} = {value.strip(chr(39) + chr(34))}: " in left
        else:
            assert any(choice.file.endswith(value.strip("'\"")) for choice in found.choose)
