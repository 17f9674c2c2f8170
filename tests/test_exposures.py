from __future__ import annotations

import importlib.util
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given
from hypothesis import strategies as st

from musedask.errors import FileError, InputError
from musedask.exposure_facts import group_pointings, read_facts, sky_level
from musedask.exposure_making import make_exposure_table
from musedask.exposures import (
    COLUMNS,
    check_exposure_table,
    read_exposure_table,
    write_exposure_table,
)
from musedask.fits import open_cube, open_exposures

NAMES = [spec.name for spec in COLUMNS]


def write_cube(
    path: Path, flux: np.ndarray | None = None, first: float = 7000.0, **cards: Any
) -> Path:
    """A little cube with the cards of the pipeline; ``ESO_INS_MODE=`` is ESO INS MODE."""
    values = np.ones((4, 3, 5), np.float32) if flux is None else flux
    primary = fits.PrimaryHDU()
    known = {"DATE-OBS": "2020-01-01T01:02:03.123", "EXPTIME": 900.0, "RA": 10.0, "DEC": -60.0}
    named = {key.replace("ESO_", "ESO ").replace("__", " "): v for key, v in cards.items()}
    for key, value in {**known, **named}.items():
        key = key.replace("DATE_OBS", "DATE-OBS")
        if value is not None:
            primary.header[key if len(key) <= 8 else f"HIERARCH {key}"] = value
        elif key in primary.header:
            del primary.header[key]
    header = fits.Header(
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "AWAV", "CUNIT1": "deg",
         "CUNIT2": "deg", "CUNIT3": "Angstrom", "CRPIX1": 1.0, "CRPIX2": 1.0, "CRPIX3": 1.0,
         "CRVAL1": 10.0, "CRVAL2": -60.0, "CRVAL3": first, "CD1_1": -5.6e-5, "CD1_2": 0.0,
         "CD2_1": 0.0, "CD2_2": 5.6e-5, "CD3_3": 1.25, "CD1_3": 0.0, "CD2_3": 0.0, "CD3_1": 0.0,
         "CD3_2": 0.0, "BUNIT": "10**(-20)*erg/s/cm**2/Angstrom"}
    )  # fmt: skip
    hdus = [
        primary,
        fits.ImageHDU(values.astype(np.float32), header, name="DATA"),
        fits.ImageHDU(np.ones_like(values, np.float32), header, name="STAT"),
    ]
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.fixture
def cubes(tmp_path: Path) -> list[Path]:
    """Three exposures of one field."""
    return [
        write_cube(tmp_path / f"e{i}.fits", DATE_OBS=f"2020-01-0{i}T00:00:00.000", RA=10 + 1e-4 * i)
        for i in (1, 2, 3)
    ]


@pytest.fixture
def table_file(tmp_path: Path, cubes: list[Path]) -> Path:
    file = tmp_path / "exposures.ecsv"
    write_exposure_table(make_exposure_table(cubes, measure=False), file)
    return file


def real_cube() -> Path:
    spec = importlib.util.find_spec("mpdaf")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data" / "sdetect" / "minicube.fits"


# --- making ------------------------------------------------------------------------------------


def test_a_row_holds_what_the_header_says(tmp_path: Path) -> None:
    cube = write_cube(
        tmp_path / "a.fits",
        ESO_INS__MODE="WFM-AO-N",
        ESO_OBS__TARG__NAME="HDFS",
        ESO_TEL__AIRM__START=1.2,
        ESO_TEL__AIRM__END=1.3,
        ESO_QC__SCIPOST__FWHM__MEDIAN=0.71,
        ESO_TEL__IA__FWHM=0.9,
        ESO_DRS__MUSE__FLUX__SCALE1=1.25,
    )
    table = make_exposure_table(cube)
    assert table.colnames == NAMES
    row = table[0]
    assert row["path"] == str(cube)
    assert row["date_obs"] == "2020-01-01T01:02:03.123"
    assert row["mode"] == "WFM-AO-N"
    assert row["pointing"] == "HDFS"
    assert (row["exptime"], row["seeing"], row["airmass"]) == (900.0, 0.71, 1.25)
    assert row["seeing_from"] == "QC"
    assert row["transparency"] == 0.8
    assert (row["mask"], row["regions"], row["reason"]) == ("", "", "")
    assert math.isnan(row["weight"])
    assert bool(row["use"]) is True
    assert table["seeing"].unit == u.arcsec
    assert table["exptime"].unit == u.s
    assert table["sky"].unit == u.Unit("1e-20 erg / (s cm2 Angstrom)")
    assert all(table[name].description for name in NAMES)


def test_the_real_cube_of_abell_478_gives_its_conditions() -> None:
    table = make_exposure_table([real_cube()])
    row = table[0]
    assert row["mode"] == "WFM-NOAO-N"
    assert row["pointing"] == "Abell 478"
    assert (row["seeing"], row["seeing_from"]) == (0.845, "SGS")
    assert row["airmass"] == pytest.approx((1.247 + 1.269) / 2)
    assert row["reason"] == "combined from several exposures"
    with fits.open(real_cube()) as hdus:
        first = math.ceil((7000 - 4749.890625) / 1.25)
        data = hdus["DATA"].data[first : first + 80].astype(float)
        data[hdus["DQ"].data[first : first + 80] != 0] = np.nan
        data[~(hdus["STAT"].data[first : first + 80] > 0)] = np.nan
    assert row["sky"] == pytest.approx(np.nanmedian(np.nanmean(data, axis=0)), abs=1e-4)


@pytest.mark.parametrize(
    ("cards", "seeing", "origin"),
    [
        ({"ESO_TEL__AMBI__FWHM__START": 1.0, "ESO_TEL__AMBI__FWHM__END": 1.2}, 1.1, "AMBI"),
        ({"ESO_TEL__AMBI__FWHM__START": -1.0, "ESO_TEL__AMBI__FWHM__END": 1.2}, 1.2, "AMBI"),
        ({"ESO_TEL__IA__FWHM": 0.8, "ESO_TEL__AMBI__FWHM__START": 1.0}, 0.8, "IA"),
        ({"ESO_OCS__SGS__FWHM__MED": 0.7, "ESO_TEL__IA__FWHM": 0.8}, 0.7, "SGS"),
        ({"ESO_QC__SCIPOST__FWHM__MEDIAN": 0.0, "ESO_OCS__SGS__FWHM__MED": 0.7}, 0.7, "SGS"),
        ({"ESO_TEL__IA__FWHM": "UNKNOWN"}, math.nan, ""),
        ({}, math.nan, ""),
    ],
)
def test_the_best_seeing_of_the_header_is_taken(
    tmp_path: Path, cards: dict[str, Any], seeing: float, origin: str
) -> None:
    facts = read_facts(write_cube(tmp_path / "a.fits", **cards), measure=False)
    assert facts.seeing == pytest.approx(seeing, nan_ok=True)
    assert facts.seeing_from == origin


def test_cards_that_stand_in_the_data_hdu_are_found(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "a.fits")
    with fits.open(cube, mode="update") as hdus:
        for key in ("DATE-OBS", "EXPTIME"):
            hdus[1].header[key] = hdus[0].header.pop(key)
    facts = read_facts(cube, measure=False)
    assert (facts.date_obs, facts.exptime) == ("2020-01-01T01:02:03.123", 900.0)


def test_the_sky_is_the_median_spaxel_of_the_band(tmp_path: Path) -> None:
    flux = np.zeros((200, 3, 5), np.float32)  # 6900 to 7148.75
    flux[80:161] = 7.0 + np.arange(15).reshape(3, 5)
    flux[120] += 8.1  # the mean over 81 channels moves by 0.1
    flux[:, 0, 0] = np.nan
    flux[100:, 2, 4] = np.nan
    cube = open_cube(write_cube(tmp_path / "a.fits", flux, first=6900.0))
    spaxels = 7.1 + np.arange(1, 15, dtype=float)
    spaxels[-1] = 21.0
    assert sky_level(cube) == pytest.approx(np.median(spaxels), abs=1e-3)
    outside = open_cube(write_cube(tmp_path / "b.fits", first=5000.0))
    assert math.isnan(sky_level(outside))


def test_without_measuring_only_headers_are_read(
    tmp_path: Path, cubes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr("musedask.fits.open_cube", fail)
    assert len(make_exposure_table(cubes, measure=False)) == 3
    with pytest.raises(AssertionError, match="was opened"):
        make_exposure_table(cubes)


def test_files_that_cannot_be_read_keep_a_row_with_the_reason(
    tmp_path: Path, cubes: list[Path]
) -> None:
    html = tmp_path / "html.fits"
    html.write_text("<html>404 not found</html>")
    empty = tmp_path / "empty.fits"
    empty.touch()
    cut = tmp_path / "cut.fits"
    cut.write_bytes(cubes[0].read_bytes()[:-5000])
    dateless = write_cube(tmp_path / "dateless.fits", DATE_OBS=None)
    assert "DATE-OBS" not in fits.getheader(dateless)
    bad = [html, empty, cut, dateless, tmp_path / "gone.fits", tmp_path]
    table = make_exposure_table([*bad, *cubes])
    assert table["use"].tolist() == [False] * len(bad) + [True] * 3
    assert all(table["reason"][: len(bad)])
    assert "no DATE-OBS" in table["reason"][3]
    assert "no such file" in table["reason"][4]
    assert "folder" in table["reason"][5]
    file = tmp_path / "t.ecsv"
    write_exposure_table(table, file)
    assert len(open_exposures(file)) == 3


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"among 2 files.*gone\.fits"):
        make_exposure_table([tmp_path / "gone.fits", tmp_path / "too.fits"])
    with pytest.raises(InputError, match="no exposures"):
        make_exposure_table([])


def test_of_one_date_obs_the_first_is_used(tmp_path: Path, cubes: list[Path]) -> None:
    again = tmp_path / "again.fits"
    shutil.copy(cubes[1], again)
    table = make_exposure_table([*cubes, again], measure=False)
    assert table["use"].tolist() == [True, True, True, False]
    assert table["reason"][3] == "same DATE-OBS as e2.fits"


def test_a_broken_first_does_not_push_out_the_good_second(
    tmp_path: Path, cubes: list[Path]
) -> None:
    cut = tmp_path / "cut.fits"
    cut.write_bytes(cubes[0].read_bytes()[:-5000])
    table = make_exposure_table([cut, cubes[0]])
    assert table["use"].tolist() == [False, True]


# --- pointings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ra", "dec"), [(0.0, 0.0), (0.0, -60.0), (200.0, 90.0 - 1e-8), (77.0, -89.999)]
)
def test_fields_group_alike_everywhere_on_the_sky(ra: float, dec: float) -> None:
    centre = SkyCoord(ra, dec, unit="deg")
    east = centre.directional_offset_by(90 * u.deg, [0, 15, 30, 55, 3600] * u.arcsec)
    assert group_pointings(east.ra.deg, east.dec.deg) == [0, 0, 0, 1, 2]
    north = centre.directional_offset_by([0, 180] * u.deg, 9.9 * u.arcsec)
    assert group_pointings(north.ra.deg, north.dec.deg) == [0, 0]
    north = centre.directional_offset_by([0, 180] * u.deg, 10.1 * u.arcsec)
    assert group_pointings(north.ra.deg, north.dec.deg) == [0, 1]


def test_unknown_positions_belong_to_no_field() -> None:
    assert group_pointings([math.nan, 1.0, 1.0], [0.0, 1.0, math.nan]) == [-1, 0, -1]
    assert group_pointings([math.nan], [0.0]) == [-1]


def test_pointings_are_named_after_targets_and_numbered_where_they_share_one(
    tmp_path: Path,
) -> None:
    rows = [("A", 10.0), ("A", 20.0), ("B", 30.0), ("A", 10.001), ("", 40.0), ("C", None)]
    files = [
        write_cube(
            tmp_path / f"{i}.fits", ESO_OBS__TARG__NAME=name, RA=ra, DATE_OBS=f"2020-01-0{i + 1}"
        )
        for i, (name, ra) in enumerate(rows)
    ]
    table = make_exposure_table(files, measure=False)
    assert table["pointing"].tolist() == ["A-1", "A-2", "B", "A-1", "field-1", "C"]


# --- reading and writing -----------------------------------------------------------------------


def test_a_table_comes_back_as_it_was_written(table_file: Path, cubes: list[Path]) -> None:
    written = make_exposure_table(cubes, measure=False)
    text = table_file.read_text()
    back = read_exposure_table(table_file)
    assert back.colnames == NAMES
    for name in NAMES:
        assert back[name].dtype.kind == written[name].dtype.kind
        assert back[name].unit == written[name].unit
        assert f"description: {written[name].description[:15]}" in text.replace("'", "")
        assert np.array_equal(back[name], written[name], equal_nan=back[name].dtype.kind == "f"), (
            name
        )
    again = table_file.with_name("again.ecsv")
    write_exposure_table(back, again)
    assert again.read_bytes() == table_file.read_bytes()


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")))


@given(reasons=st.lists(TEXT, min_size=1, max_size=4), number=st.floats(1e-30, 1e30))
def test_any_remark_and_number_survives(
    tmp_path_factory: pytest.TempPathFactory, reasons: list[str], number: float
) -> None:
    folder = tmp_path_factory.mktemp("t")
    paths = [f"{i}.fits" for i in range(len(reasons))]
    table = Table({"reason": reasons, "path": paths, "weight": [number] * len(paths)})
    checked = check_exposure_table(table, folder=folder, must_exist=False)
    write_exposure_table(checked, folder / "t.ecsv")
    back = read_exposure_table(folder / "t.ecsv", must_exist=False)
    assert back["reason"].tolist() == [reason.strip() for reason in reasons]
    assert back["weight"].tolist() == [number] * len(paths)


def test_the_file_is_aligned_for_people(table_file: Path) -> None:
    text = table_file.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for name in ("date_obs", "seeing", "use", "reason"):
        start = lines[0].index(f" {name}")
        assert all(len(line) < start or line[start] == " " for line in lines), name
    assert lines[1].startswith("e1.fits ")
    assert Table.read(table_file, format="ascii.ecsv")["path"].tolist() == [
        "e1.fits",
        "e2.fits",
        "e3.fits",
    ]


def test_the_folder_of_a_table_can_move(tmp_path: Path, table_file: Path) -> None:
    table = read_exposure_table(table_file)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "#1.fits").touch()
    table["mask"] = [str(tmp_path / "masks" / "#1.fits"), "", ""]
    write_exposure_table(table, table_file, overwrite=True)
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    back = read_exposure_table(moved / table_file.name)
    assert back["path"][0] == str(moved / "e1.fits")
    assert back["mask"].tolist() == [str(moved / "masks" / "#1.fits"), "", ""]
    moved.rename(tmp_path)


def test_a_path_that_begins_like_a_comment_is_no_comment(tmp_path: Path) -> None:
    write_cube(tmp_path / "#1.fits")
    write_exposure_table(make_exposure_table(tmp_path / "#1.fits"), tmp_path / "t.ecsv")
    assert read_exposure_table(tmp_path / "t.ecsv")["path"][0] == str(tmp_path / "#1.fits")


def test_edits_are_not_overwritten_unless_asked(table_file: Path) -> None:
    table = read_exposure_table(table_file)
    before = table_file.read_bytes()
    with pytest.raises(FileError, match="edits"):
        write_exposure_table(table, table_file)
    assert table_file.read_bytes() == before
    table["use"][0] = False
    write_exposure_table(table, table_file, overwrite=True)
    assert read_exposure_table(table_file)["use"].tolist() == [False, True, True]


def test_nothing_half_written_stays(
    table_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = read_exposure_table(table_file)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileError, match="No space left"):
        write_exposure_table(table, table_file, overwrite=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    monkeypatch.setattr(Path, "unlink", full)
    with pytest.raises(FileError, match="cannot be written"):
        write_exposure_table(table, tmp_path / "nowhere" / "t.ecsv")
    with pytest.raises(InputError, match=r"\*\.ecsv"):
        write_exposure_table(table, tmp_path / "t.txt")


HEAD = "# %ECSV 1.0\n# ---\n# datatype:\n"


def by_hand(tmp_path: Path, columns: str, *lines: str) -> Path:
    """An ECSV with the declared ``name:datatype`` columns and these lines."""
    pairs = [column.split(":") for column in columns.split()]
    head = "".join(f"# - {{name: {name}, datatype: {kind}}}\n" for name, kind in pairs)
    file = tmp_path / "hand.ecsv"
    names = " ".join(name for name, _ in pairs)
    file.write_text(HEAD + head + "# schema: astropy-2.0\n" + "\n".join([names, *lines]) + "\n")
    return file


def test_a_table_of_paths_alone_gets_defaults(tmp_path: Path, cubes: list[Path]) -> None:
    table = read_exposure_table(by_hand(tmp_path, "path:string", "e1.fits", "e2.fits"))
    assert sorted(table.colnames) == sorted(NAMES)
    assert table["use"].tolist() == [True, True]
    assert np.isnan(table["exptime"]).all()
    assert table["mask"].tolist() == ["", ""]
    assert table["path"].tolist() == [str(cube) for cube in cubes[:2]]


def test_use_is_understood_as_people_write_it(tmp_path: Path) -> None:
    words = ["True", "yes", "Y", "1", "t", "TRUE", "false", "no", "N", "0", "F", "False", '""']
    lines = [f"e{i}.fits   {word}" for i, word in enumerate(words)]
    table = read_exposure_table(by_hand(tmp_path, "path:string use:bool", *lines), must_exist=False)
    assert table["use"].tolist() == [True] * 6 + [False] * 6 + [True]


def test_unknown_numbers_are_nan(tmp_path: Path) -> None:
    lines = [f"e{i}.fits {word}" for i, word in enumerate(["-", "?", '""', "nan", "none", "0.8"])]
    file = by_hand(tmp_path, "path:string seeing:float64", *lines)
    table = read_exposure_table(file, must_exist=False)
    assert np.isnan(table["seeing"]).tolist() == [True] * 5 + [False]


def test_unknown_columns_and_meta_are_kept(tmp_path: Path, table_file: Path) -> None:
    table = read_exposure_table(table_file)
    table["moon"] = [0.1, 0.2, 0.3] * u.deg
    table["who"] = MaskedColumn(
        ["me", "you\nand me", "nobody"], mask=[False, False, True], description="observer"
    )
    table["guide"] = SkyCoord([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], unit="deg")
    table.meta["survey"] = {"name": "MUDF"}
    write_exposure_table(table, table_file, overwrite=True)
    back = read_exposure_table(table_file)
    assert back["moon"].tolist() == [0.1, 0.2, 0.3]
    assert back["moon"].unit == u.deg
    assert back["who"].tolist() == ["me", "you and me", None]
    assert back["guide"].dec.deg.tolist() == [4.0, 5.0, 6.0]
    assert back["who"].description == "observer"
    assert back.meta["survey"]["name"] == "MUDF"


def test_commas_separate_as_well(tmp_path: Path, table_file: Path) -> None:
    table = Table.read(table_file, format="ascii.ecsv")
    file = tmp_path / "commas.ecsv"
    table.write(file, format="ascii.ecsv", delimiter=",")
    assert "e1.fits,2020" in file.read_text()
    assert read_exposure_table(file)["path"].tolist() == (
        read_exposure_table(table_file)["path"].tolist()
    )


def test_other_units_are_converted_and_wrong_ones_refused(tmp_path: Path) -> None:
    table = QTable({"path": ["a.fits"], "exptime": [15.0] * u.min})
    checked = check_exposure_table(table, must_exist=False)
    assert checked["exptime"][0] == pytest.approx(900.0)
    assert checked["exptime"].unit == u.s
    with pytest.raises(InputError, match="unit of exptime is m, expected s"):
        check_exposure_table(
            QTable({"path": ["a.fits"], "exptime": [15.0] * u.m}), must_exist=False
        )


def test_checking_leaves_the_table_that_was_given(tmp_path: Path) -> None:
    table = Table({"path": [b"a.fits"], "exptime": [900]})
    checked = check_exposure_table(table, folder=tmp_path, must_exist=False)
    assert table.colnames == ["path", "exptime"]
    assert checked["path"][0] == str(tmp_path / "a.fits")
    assert checked["exptime"].dtype == np.float64


@pytest.mark.parametrize(
    ("columns", "lines", "words"),
    [
        ("path:string use:bool", ("e1.fits True", "e2.fits maybe"), ("row 2", "e2.fits", "maybe")),
        ("path:string exptime:float64", ("e1.fits 9oo",), ("row 1", "exptime", "9oo")),
        ("path:string exptime:float64", ("e1.fits -9",), ("row 1", "exptime = -9", "above 0")),
        ("path:string weight:float64", ("e1.fits 1", "e2.fits 0"), ("row 2", "weight = 0")),
        ("path:string weight:float64", ("e1.fits inf",), ("row 1", "weight = inf")),
        ("path:string use:bool", ("e1.fits False",), ("not one of 1 row is",)),
        ("path:string", ("e1.fits", "./e1.fits"), ("rows 1 and 2", "path")),
        (
            "path:string date_obs:string",
            ("e1.fits 2020-01-01T00:00:00.123", "e2.fits 2020-01-01T00:00:00.1234"),
            ("rows 1 and 2", "date_obs", "halves"),
        ),
        ("path:string use:bool", ('"" True',), ("row 1", "no path")),
        ("path:string use:bool", ("e1.fits",), ("line 8", "1 values for 2 columns")),
        ("path:string", ("my cube.fits",), ("line 7", "double quotes")),
        ("name:string", ("e1.fits",), ("no column 'path'", "name")),
        ("path:string", (), ("no rows",)),
    ],
)
def test_mistakes_are_named_with_their_row(
    tmp_path: Path, cubes: list[Path], columns: str, lines: tuple[str, ...], words: tuple[str, ...]
) -> None:
    file = by_hand(tmp_path, columns, *lines)
    with pytest.raises(InputError) as caught:
        read_exposure_table(file)
    for word in (str(file), *words):
        assert word in str(caught.value)


def test_two_of_one_exposure_are_fine_if_one_is_used(tmp_path: Path, cubes: list[Path]) -> None:
    lines = ("e1.fits d True", "e2.fits d no", "e1.fits e no")
    file = by_hand(tmp_path, "path:string date_obs:string use:bool", *lines)
    assert read_exposure_table(file)["use"].tolist() == [True, False, False]


@pytest.mark.parametrize("column", ["path", "mask", "regions"])
def test_missing_files_of_used_rows_are_errors(
    tmp_path: Path, cubes: list[Path], column: str
) -> None:
    values = {"path": "e1.fits", "mask": '""', "regions": '""', column: "gone.x"}
    line = f"{values['path']} {values['mask']} {values['regions']}"
    columns = "path:string mask:string regions:string use:bool"
    file = by_hand(tmp_path, columns, f"{line} True", "e2.fits a b no")
    with pytest.raises(FileError, match=rf"row 1.*{column} .*gone\.x is not there"):
        read_exposure_table(file)
    assert read_exposure_table(file, must_exist=False)[column][0] == str(tmp_path / "gone.x")


def test_what_is_no_table_is_an_error(tmp_path: Path) -> None:
    for text, word in (
        ("path\na.fits\n", "not an ECSV"),
        ("", "not an ECSV"),
        ("# %ECSV 1.0\n# ---\n", "no line with the names"),
        ("# %ECSV 1.0\n# ---\n# datatype: [}\npath\na\n", "broken"),
        ("# %ECSV 1.0\n# ---\n# datatype:\n# - {name: b, datatype: string}\npath\na\n", "broken"),
    ):
        file = tmp_path / "t.ecsv"
        file.write_text(text)
        with pytest.raises(InputError, match=word) as caught:
            read_exposure_table(file)
        assert str(file) in str(caught.value)
    (tmp_path / "b.ecsv").write_bytes(b"\xff\xfe\x00")
    for name, said in (("gone.ecsv", "no such file"), ("b.ecsv", "no text"), (".", "a folder")):
        with pytest.raises(FileError, match=f"{said}.*musedask exposures"):
            read_exposure_table(tmp_path / name)


def test_exposures_are_opened_from_the_table(tmp_path: Path, table_file: Path) -> None:
    table = read_exposure_table(table_file)
    region = tmp_path / "a.reg"
    region.write_text("image\ncircle(1,1,1)\n")
    table["use"][0] = False
    table["weight"][1] = 2.0
    table["regions"] = ["", "", str(region)]
    write_exposure_table(table, table_file, overwrite=True)
    second, third = open_exposures(table_file)
    assert str(second["name"].values) == "e2"
    assert float(second["weight"]) == 2.0
    assert "regions_file" not in second.coords
    assert str(third["regions_file"].values) == str(region)
