"""Each format is pinned at declination -60, where cos(dec) is one half, by hand-made numbers.

The pinned offset is 1.5 arcsec to the east and 0.9 arcsec to the south on the
sky, exposure minus reference: 3.0 arcsec of RA coordinate.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from pixel_table import combine_pixel_tables

from musedask.errors import FileError, InputError, MissingError, MusedaskWarning
from musedask.offset_formats.matching import stem
from musedask.offsets import ExposureKey, Offset, OffsetTable

FIRST = "2014-12-08T03:12:45.123"
SECOND = "2014-12-08T03:30:00.000"
EAST_ARCSEC, SOUTH_ARCSEC = 1.5, 0.9
RA_COORDINATE_DEG = 3.0 / 3600.0
DEC_DEG = -0.9 / 3600.0

KEYS = (
    ExposureKey(FIRST, "DATACUBE_FINAL_A", 53.1, -60.0, "/data/cubes/DATACUBE_FINAL_A.fits"),
    ExposureKey(SECOND, "DATACUBE_FINAL_B", 53.1, -60.0, "/data/cubes/DATACUBE_FINAL_B.fits.gz"),
)


def row(date_obs: str = FIRST, **values: object) -> Offset:
    defaults = {"name": "DATACUBE_FINAL_A", "ra_deg": 53.1, "dec_deg": -60.0}
    offset = {"ra_offset_arcsec": EAST_ARCSEC, "dec_offset_arcsec": -SOUTH_ARCSEC}
    return Offset(date_obs=date_obs, **{**defaults, **offset, **values})


def assert_pinned(offset: Offset) -> None:
    assert offset.ra_offset_arcsec == pytest.approx(EAST_ARCSEC, abs=1e-9)
    assert offset.dec_offset_arcsec == pytest.approx(-SOUTH_ARCSEC, abs=1e-9)


def offset_list(path: Path, *, catg: str = "OFFSET_LIST", **columns: object) -> Path:
    """Write an OFFSET_LIST column by column: name=(format, values) or None to leave one out."""
    made = {
        "DATE_OBS": ("23A", [FIRST, SECOND]),
        "MJD_OBS": ("D", [56999.13, 56999.14]),
        "RA_OFFSET": ("D", [RA_COORDINATE_DEG, 0.0]),
        "DEC_OFFSET": ("D", [DEC_DEG, 0.0]),
        "FLUX_SCALE": ("D", [math.nan, 1.25]),
        **columns,
    }
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(key, v[0], array=np.array(v[1])) for key, v in made.items() if v]
    )
    primary = fits.PrimaryHDU()
    primary.header["HIERARCH ESO PRO CATG"] = catg
    fits.HDUList([primary, hdu]).writeto(path)
    return path


# --- ECSV


def test_ecsv_is_the_default_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    third = 1.0 / 3.0
    table = OffsetTable(
        (
            row(
                ra_offset_arcsec=third, ra_error_arcsec=0.02, dec_error_arcsec=1e-300,
                rotation_deg=-third, flux_scale=1.1, flux_scale_error=0.01, background=-3.5,
                grade="B", method="auto", note='seeing "1.2", twilight; ñ',
                n_sources=7, signal_to_noise=third * 100, correlation_before=-third,
                correlation_after=0.9, fwhm_arcsec=0.7, blue_red_arcsec=0.02,
                reasons="only 3 sources agree; one, decides", frame="hst.fits",
                decision="accepted", decided_by="ann b", decided_at="2026-01-31T12:00:00",
            ),
            Offset(date_obs=SECOND, ra_offset_arcsec=math.nan, dec_offset_arcsec=0.0, grade="F"),
        )
    )  # fmt: skip
    table.write(tmp_path / "o.ecsv")
    assert OffsetTable.read(tmp_path / "o.ecsv") == table
    text = (tmp_path / "o.ecsv").read_text("utf-8")
    assert "{name: ra_offset_arcsec, unit: arcsec, datatype: float64}" in text
    assert "{name: dec_deg, unit: deg, datatype: float64}" in text


numbers = st.floats(-1e6, 1e6) | st.just(math.nan)
lines = st.text(st.characters(codec="utf-8"), max_size=12).filter(str.isprintable)


@given(st.floats(-1e6, 1e6), numbers, lines, lines)
def test_any_row_survives_ecsv(
    tmp_path_factory: pytest.TempPathFactory, east: float, scale: float, name: str, note: str
) -> None:
    path = tmp_path_factory.mktemp("ecsv") / "o.ecsv"
    made = row(ra_offset_arcsec=east, background=scale, name=name, note=note)
    table = OffsetTable((made, row(SECOND, note="")))
    table.write(path)
    assert OffsetTable.read(path) == table


def test_an_edited_ecsv_may_lack_optional_columns_and_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.ecsv"
    path.write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n"
        "# - {name: date_obs, datatype: string}\n"
        "# - {name: ra_offset_arcsec, datatype: float64}\n"
        "# - {name: dec_offset_arcsec, datatype: float64}\n"
        "# - {name: flux_scale, datatype: float64}\n"
        "date_obs ra_offset_arcsec dec_offset_arcsec flux_scale\n"
        f"{FIRST} 1.5 -0.9 1.1\n"
        f'{SECOND} 0.0 0.0 ""\n'
    )
    got = OffsetTable.read(path)
    assert_pinned(got.find(FIRST))
    assert got.find(FIRST).flux_scale == 1.1
    assert math.isnan(got.find(SECOND).flux_scale)
    assert got.find(FIRST).method == ""


def test_an_unknown_ecsv_column_is_named_with_the_file(tmp_path: Path) -> None:
    table = OffsetTable((row(),)).table
    table["ra_shift"] = [1.0]
    table.write(tmp_path / "o.ecsv")
    with pytest.raises(InputError, match=r"o\.ecsv: unknown column 'ra_shift'"):
        OffsetTable.read(tmp_path / "o.ecsv")


def test_two_rows_of_one_exposure_in_a_file_are_an_error(tmp_path: Path) -> None:
    table = Table(
        rows=[(FIRST, 1.0, 0.0)] * 2, names=("date_obs", "ra_offset_arcsec", "dec_offset_arcsec")
    )
    table.write(tmp_path / "o.ecsv")
    with pytest.raises(InputError, match=rf"o\.ecsv: two rows for DATE-OBS {FIRST}"):
        OffsetTable.read(tmp_path / "o.ecsv")


# --- OFFSET_LIST


def test_offset_list_is_read_as_coordinate_degrees_to_be_subtracted(tmp_path: Path) -> None:
    table = OffsetTable.read(offset_list(tmp_path / "OFFSET_LIST.fits"), KEYS)
    assert_pinned(table.find(FIRST))
    assert math.isnan(table.find(FIRST).flux_scale)
    assert table.find(SECOND).flux_scale == 1.25
    assert table.find(FIRST).name == "DATACUBE_FINAL_A"
    assert table.find(FIRST).dec_deg == -60.0


def test_a_compressed_offset_list_is_read_too(tmp_path: Path) -> None:
    plain = offset_list(tmp_path / "o.fits")
    (tmp_path / "o.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert_pinned(OffsetTable.read(tmp_path / "o.fits.gz", KEYS).find(FIRST))


def test_the_written_offset_list_is_what_the_pipeline_takes(tmp_path: Path) -> None:
    path = tmp_path / "OFFSET_LIST.fits"
    OffsetTable((row(FIRST + "9"), row(SECOND, flux_scale=1.25))).write(path)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus[0].header["ESO PRO CATG"] == "OFFSET_LIST"
        columns, data = hdus[1].columns, hdus[1].data
        formats = dict(zip(columns.names, columns.formats, strict=True))
        assert formats["DATE_OBS"] == "23A"
        for key in ("MJD_OBS", "RA_OFFSET", "DEC_OFFSET", "FLUX_SCALE"):
            assert formats[key] == "D"
        assert list(data["DATE_OBS"]) == [FIRST, SECOND]
        # By hand: 1.5 arcsec on the sky at -60 deg are 3 arcsec of coordinate.
        assert data["RA_OFFSET"][0] == pytest.approx(RA_COORDINATE_DEG, abs=1e-15)
        assert data["DEC_OFFSET"][0] == pytest.approx(DEC_DEG, abs=1e-18)
        assert math.isnan(data["FLUX_SCALE"][0])
        assert data["FLUX_SCALE"][1] == 1.25
        # 2014-12-08 is MJD 56999; 03:30 is 3.5 / 24 of a day.
        assert data["MJD_OBS"][1] == pytest.approx(56999 + 3.5 / 24, abs=1e-9)
        assert columns["RA_OFFSET"].unit == "deg"


def test_a_written_offset_list_reads_back_without_exposures(tmp_path: Path) -> None:
    OffsetTable((row(), row(SECOND, flux_scale=2.0))).write(tmp_path / "o.fits")
    table = OffsetTable.read(tmp_path / "o.fits")
    assert_pinned(table.find(FIRST))
    assert table.find(FIRST).name == "DATACUBE_FINAL_A"
    assert table.find(SECOND).flux_scale == 2.0


def test_offset_list_needs_a_declination_to_be_read_or_written(tmp_path: Path) -> None:
    path = offset_list(tmp_path / "o.fits")
    with pytest.raises(InputError, match=rf"o\.fits: row 1, DATE_OBS {FIRST}.*no exposures were"):
        OffsetTable.read(path)
    with pytest.raises(InputError, match=rf"row 2, DATE_OBS {SECOND}.*no exposure given has it"):
        OffsetTable.read(path, KEYS[:1])
    bare = OffsetTable((row(dec_deg=math.nan),))
    with pytest.raises(InputError, match=r"new\.fits: .*declination is unknown"):
        bare.write(tmp_path / "new.fits")
    bare.write(tmp_path / "new.fits", exposures=KEYS)
    assert_pinned(OffsetTable.read(tmp_path / "new.fits").find(FIRST))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"RA_OFFSET": ("E", [0.0, 0.0])}, "column RA_OFFSET has format E"),
        ({"DEC_OFFSET": ("J", [0, 0])}, "column DEC_OFFSET has format J"),
        ({"FLUX_SCALE": ("E", [1.0, 1.0])}, "column FLUX_SCALE has format E"),
        ({"MJD_OBS": ("E", [1.0, 1.0])}, "column MJD_OBS has format E"),
        ({"DATE_OBS": ("D", [1.0, 2.0])}, "column DATE_OBS has format D"),
        ({"DATE_OBS": None, "DATE-OBS": ("23A", [FIRST, SECOND])}, "column DATE_OBS is missing"),
        ({"RA_OFFSET": None}, "column RA_OFFSET is missing"),
        ({"DATE_OBS": ("23A", [FIRST, "2014-12-08T03:30:00"])}, "column DATE_OBS, row 2: .*03:30"),
        ({"DATE_OBS": ("23A", [FIRST, FIRST])}, "two rows for DATE-OBS"),
        ({"FLUX_SCALE": ("D", [0.0, 1.0])}, "flux_scale is 0.0"),
    ],
)  # fmt: skip
def test_what_the_pipeline_ignores_in_silence_is_an_error_that_names_the_column(
    tmp_path: Path, columns: dict[str, object], said: str
) -> None:
    path = offset_list(tmp_path / "o.fits", **columns)
    with pytest.raises(InputError, match=rf"o\.fits: .*{said}"):
        OffsetTable.read(path, KEYS)


def test_an_offset_labelled_arcsec_is_refused(tmp_path: Path) -> None:
    table = Table({"DATE_OBS": [FIRST], "RA_OFFSET": [1.0], "DEC_OFFSET": [1.0]})
    table["RA_OFFSET"].unit = "arcsec"
    table.write(tmp_path / "o.fits")
    with pytest.raises(InputError, match="column RA_OFFSET has unit arcsec"):
        OffsetTable.read(tmp_path / "o.fits", KEYS)


def test_flux_scale_and_mjd_are_optional(tmp_path: Path) -> None:
    path = offset_list(tmp_path / "o.fits", FLUX_SCALE=None, MJD_OBS=None)
    assert math.isnan(OffsetTable.read(path, KEYS).find(SECOND).flux_scale)


def test_nan_in_an_offset_list_is_a_failed_exposure(tmp_path: Path) -> None:
    path = offset_list(tmp_path / "o.fits", RA_OFFSET=("D", [math.nan, 0.0]))
    assert OffsetTable.read(path, KEYS).find(FIRST).is_failed


def test_a_date_without_milliseconds_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2014-12-08T03:12:45 .*no milliseconds"):
        OffsetTable((row("2014-12-08T03:12:45"),)).write(tmp_path / "o.fits")


# --- pymusepipe


def pymusepipe(path: Path, **columns: object) -> Path:
    made = {
        "TPL_START": ("19A", ["2014-12-08T03:12:00"] * 2),
        "IEXPO_OBS": ("K", [1, 2]),
        "DATASET_OBS": ("K", [1, 1]),
        "FLUX_SCALE": ("D", [1.1, 1.0]),
        "BACKGROUND": ("D", [12.5, 0.0]),
        "ROTANGLE": ("D", [0.2, 0.0]),
        "RA_CROSS_OFFSET": ("D", [9.0, 9.0]),
        "DEC_CROSS_OFFSET": ("D", [9.0, 9.0]),
        "RA_OFFSET_ORIG": ("D", [8.0, 8.0]),
        **columns,
    }
    return offset_list(path, **made)


def test_pymusepipe_offsets_rotation_and_background_are_read(tmp_path: Path) -> None:
    table = OffsetTable.read(pymusepipe(tmp_path / "o.fits"), KEYS)
    first = table.find(FIRST)
    assert_pinned(first)
    assert (first.flux_scale, first.background, first.rotation_deg) == (1.1, 12.5, -0.2)
    assert math.copysign(1.0, table.find(SECOND).rotation_deg) == 1.0
    assert first.method == "pymusepipe"


def test_pymusepipe_rotation_turns_the_field_as_pymusepipe_does(tmp_path: Path) -> None:
    """It turns the image's CD by mpdaf's rotate(-ROTANGLE) to make it agree with the sky."""
    import mpdaf.obj

    from musedask.sky import SkyProjection

    raw = SkyProjection.north_up(53.1, -60.0, 0.2, 20.0, 20.0)
    theirs = mpdaf.obj.WCS(hdr=raw.wcs.to_header())
    theirs.rotate(-0.2)
    ours = OffsetTable.read(pymusepipe(tmp_path / "o.fits"), KEYS).find(FIRST)
    moved = raw.moved(0.0, 0.0, ours.applied_rotation_deg)
    assert moved.cd == pytest.approx(theirs.wcs.pixel_scale_matrix, abs=1e-12)
    assert abs(moved.cd[0, 1]) > 1e-7


def test_an_early_pymusepipe_table_is_read_with_a_warning(tmp_path: Path) -> None:
    path = pymusepipe(tmp_path / "o.fits", TPL_START=None, ROTANGLE=None, BACKGROUND=None)
    with pytest.warns(MusedaskWarning, match="early pymusepipe"):
        table = OffsetTable.read(path, KEYS)
    assert_pinned(table.find(FIRST))


def with_headers(*cards: dict[str, object]) -> tuple[ExposureKey, ...]:
    """The two exposures with what their primary headers say."""
    texts = [fits.Header(list(some.items())).tostring(sep="\n") for some in cards]
    return tuple(replace(key, primary_header=t) for key, t in zip(KEYS, texts, strict=True))


def test_a_written_pymusepipe_table_is_what_pymusepipe_and_the_pipeline_take(
    tmp_path: Path,
) -> None:
    path = tmp_path / "o.fits"
    # As ESO writes it: eight decimals, here not those that DATE-OBS rounds to.
    headers = (
        {"MJD-OBS": 56999.13385560, "HIERARCH ESO TPL START": "2014-12-08T03:12:00",
         "HIERARCH MUSEPIPE_IEXPO": 3, "HIERARCH MUSEPIPE_DATASET": 2},
        {"MJD-OBS": 56999.14583333, "HIERARCH MUSEPIPE_POINTING": 4},
    )  # fmt: skip
    second = row(SECOND, rotation_deg=-0.2, flux_scale=1.25, background=12.5)
    OffsetTable((row(), second)).write(path, "pymusepipe", exposures=with_headers(*headers))
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus[0].header["ESO PRO CATG"] == "OFFSET_LIST"
    table = Table.read(path, character_as_bytes=False)
    assert table.colnames[:10] == [
        "DATE_OBS", "MJD_OBS", "TPL_START", "IEXPO_OBS", "DATASET_OBS",
        "RA_OFFSET", "DEC_OFFSET", "FLUX_SCALE", "BACKGROUND", "ROTANGLE",
    ]  # fmt: skip
    for key in ("MJD_OBS", "RA_OFFSET", "DEC_OFFSET", "FLUX_SCALE", "BACKGROUND", "ROTANGLE"):
        assert table[key].dtype.newbyteorder("=") == np.float64
    assert list(table["DATE_OBS"]) == [FIRST, SECOND]
    assert list(table["MJD_OBS"]) == [56999.13385560, 56999.14583333]
    assert list(table["TPL_START"]) == ["2014-12-08T03:12:00", ""]
    assert table["IEXPO_OBS"].dtype.kind == table["DATASET_OBS"].dtype.kind == "i"
    assert list(table["IEXPO_OBS"]) == [3, 0]
    assert list(table["DATASET_OBS"]) == [2, 4]
    # By hand: 1.5 arcsec on the sky at -60 deg are 3 arcsec of coordinate.
    assert table["RA_OFFSET"][0] == pytest.approx(RA_COORDINATE_DEG, abs=1e-15)
    assert table["DEC_OFFSET"][0] == pytest.approx(DEC_DEG, abs=1e-18)
    assert list(table["FLUX_SCALE"]) == [1.0, 1.25]
    assert list(table["ROTANGLE"]) == [0.0, 0.2]
    assert math.copysign(1.0, table["ROTANGLE"][0]) == 1.0
    assert list(table["BACKGROUND"]) == [0.0, 12.5]


def test_a_pymusepipe_table_comes_back_without_exposures(tmp_path: Path) -> None:
    path = tmp_path / "o.fits"
    values = {"rotation_deg": -1.0 / 3.0, "flux_scale": 1.25, "background": 12.5}
    written = OffsetTable(
        (row(**values), row(SECOND, rotation_deg=0.0, background=0.0, flux_scale=1.0))
    )
    written.write(path, "pymusepipe", exposures=with_headers({"MJD-OBS": 1.0}, {"MJD-OBS": 2.0}))
    back = OffsetTable.read(path)
    for old, new in zip(written, back, strict=True):
        assert new.ra_offset_arcsec == pytest.approx(old.ra_offset_arcsec, abs=1e-12)
        assert new.dec_offset_arcsec == pytest.approx(old.dec_offset_arcsec, abs=1e-12)
        same = {"ra_offset_arcsec": 0.0, "dec_offset_arcsec": 0.0, "method": ""}
        assert replace(new, **same) == replace(old, **same)
    assert [r.method for r in back] == ["pymusepipe", "pymusepipe"]
    back.write(
        path,
        "pymusepipe",
        overwrite=True,
        exposures=with_headers({"MJD-OBS": 1.0}, {"MJD-OBS": 2.0}),
    )
    assert OffsetTable.read(path) == back


def test_a_computed_mjd_is_said_and_has_the_digits_of_a_header(tmp_path: Path) -> None:
    known = with_headers({"MJD-OBS": 56999.5}, {"OBJECT": "no MJD"})
    with pytest.warns(MusedaskWarning, match="for 1 of 2 rows it is computed from DATE_OBS"):
        OffsetTable((row(), row(SECOND))).write(tmp_path / "o.fits", "pymusepipe", exposures=known)
    # 2014-12-08 is MJD 56999; 03:30 is 3.5 / 24 of a day.
    assert list(Table.read(tmp_path / "o.fits")["MJD_OBS"]) == [56999.5, 56999.14583333]


def test_a_header_that_cannot_be_parsed_counts_as_none(tmp_path: Path) -> None:
    broken = replace(KEYS[0], primary_header="MJD-OBS = 56999.1.2".ljust(80))
    with pytest.warns(MusedaskWarning, match="for 1 of 1 row "):
        OffsetTable((row(),)).write(tmp_path / "o.fits", "pymusepipe", exposures=[broken])


@pytest.mark.real_esorex
@pytest.mark.parametrize("format", ["offset_list", "pymusepipe"])
def test_the_real_pipeline_applies_a_written_table(tmp_path: Path, format: str) -> None:
    dates = ["2020-01-01T00:00:00.123", "2020-01-02T00:00:00.456"]
    cards = {"MJD-OBS": 58849.0}
    exposures = [
        replace(key, date_obs=d) for key, d in zip(with_headers(cards, cards), dates, strict=True)
    ]
    table = OffsetTable(
        (row(dates[0], ra_offset_arcsec=0.0, dec_offset_arcsec=0.0), row(dates[1], flux_scale=1.25))
    )
    path = tmp_path / "OFFSET_LIST.fits"
    table.write(path, format, exposures=exposures)
    product = combine_pixel_tables(tmp_path, dates, (path, "OFFSET_LIST"), dec_deg=-60.0)
    header = fits.getheader(product)
    assert header["ESO DRS MUSE OFFSET2 DATE-OBS"] == dates[1]
    assert header["ESO DRS MUSE OFFSET2 DRA"] == pytest.approx(RA_COORDINATE_DEG, abs=1e-9)
    assert header["ESO DRS MUSE OFFSET2 DDEC"] == pytest.approx(DEC_DEG, abs=1e-9)
    assert header["ESO DRS MUSE FLUX SCALE2"] == 1.25
    assert header.get("ESO DRS MUSE FLUX SCALE1") == (1.0 if format == "pymusepipe" else None)


# --- COSMOS

# 1.5 arcsec east and 0.9 arcsec south on the sky, in pixels of 0.2 arcsec, at any declination.
COSMOS_LINE = "/white/DATACUBE_FINAL_A.fits 7.50000 -4.50000 a\n"


def test_cosmos_offsets_are_pixels_on_the_sky(tmp_path: Path) -> None:
    path = tmp_path / "offsets.txt"
    path.write_text(COSMOS_LINE + "\n# done\n/white/DATACUBE_FINAL_B.fits -1.0 2.0 m\n")
    table = OffsetTable.read(path, KEYS)
    assert_pinned(table.find(FIRST))
    assert [r.method for r in table] == ["auto", "manual"]
    assert table.find(SECOND).ra_offset_arcsec == pytest.approx(-0.2)


def test_cosmos_offsets_move_the_header_as_the_routine_moves_it(tmp_path: Path) -> None:
    """The routine does CRPIX1 -= dx, CRPIX2 += dy on a north-up field."""
    from musedask.sky import SkyProjection

    (tmp_path / "offsets.txt").write_text(COSMOS_LINE)
    offset = OffsetTable.read(tmp_path / "offsets.txt", KEYS).find(FIRST)
    raw = SkyProjection.north_up(53.1, -60.0, 0.2, 20.0, 20.0)
    theirs = SkyProjection.from_cards(
        {
            **raw.mapping,
            "CRPIX1": raw.mapping["CRPIX1"] - 7.5,
            "CRPIX2": raw.mapping["CRPIX2"] - 4.5,
        }
    )
    ours = raw.moved(offset.ra_offset_arcsec, offset.dec_offset_arcsec)
    ra, dec = ours.to_sky(20.0, 20.0)
    their_ra, their_dec = theirs.to_sky(20.0, 20.0)
    assert (ra - their_ra) * 3600 * 0.5 == pytest.approx(0.0, abs=1e-4)
    assert (dec - their_dec) * 3600 == pytest.approx(0.0, abs=1e-4)


def test_a_manual_entry_wins_and_the_last_one_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "offsets.txt").write_text("/white/DATACUBE_FINAL_A.fits 1.0 1.0 a\n")
    (tmp_path / "manualoffsets.txt").write_text(
        "looks fine now\n"
        "offset_wcs_2d('/d/DATACUBE_FINAL_A.fits', ra_offset_deg=0.5, dec_offset_deg=0.5)\n"
        "DATACUBE_FINAL_B.fits 0.001 0.001\n"
        # 1.5 / 3600 and -0.9 / 3600 degrees, and the routine takes them as on the sky.
        'offset_wcs_2d("/d/DATACUBE_FINAL_A.fits",\n'
        "    ra_offset_deg=4.1666666666667e-4, dec_offset_deg=-2.5e-4)\n"
        "offset_wcs_2d('DATACUBE_FINAL_B.fits', -0.0001, 0.0002)\n"
    )
    table = OffsetTable.read(tmp_path / "offsets.txt", KEYS)
    assert_pinned(table.find(FIRST))
    # B failed in the automatic routine: it has a manual entry alone.
    assert table.find(SECOND).ra_offset_arcsec == pytest.approx(-0.36)
    assert [r.method for r in table] == ["manual", "manual"]
    assert OffsetTable.read(tmp_path / "manualoffsets.txt", KEYS) == table


def test_a_plain_manual_line_after_a_call_wins(tmp_path: Path) -> None:
    (tmp_path / "manualoffsets.txt").write_text(
        "offset_wcs_2d('DATACUBE_FINAL_B.fits', ra_offset_deg=1, dec_offset_deg=1)\n"
        "offset_wcs_2d('DATACUBE_FINAL_A.fits', ra_offset_deg=1, dec_offset_deg=1)\n"
        "DATACUBE_FINAL_A.fits 4.1666666666667e-4 -2.5e-4\n"
    )
    assert_pinned(OffsetTable.read(tmp_path / "manualoffsets.txt", KEYS).find(FIRST))


def test_a_call_behind_a_hash_counts_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "manualoffsets.txt"
    path.write_text(
        "# offset_wcs_2d('DATACUBE_FINAL_A.fits', ra_offset_deg=4.1666666666667e-4, "
        "dec_offset_deg=-2.5e-4)\n"
    )
    with pytest.warns(MusedaskWarning, match="delete the line"):
        assert_pinned(OffsetTable.read(path, KEYS).find(FIRST))


@pytest.mark.parametrize("name", ["DATACUBE_FINAL_A_white.fits", "white_DATACUBE_FINAL_A.fits.fz"])
def test_white_images_are_matched_with_their_cubes(tmp_path: Path, name: str) -> None:
    (tmp_path / "offsets.txt").write_text(f"/a folder/{name} 7.5 -4.5 a\n")
    assert_pinned(OffsetTable.read(tmp_path / "offsets.txt", KEYS).find(FIRST))


def test_names_are_matched_without_folder_and_fits_endings() -> None:
    assert stem("/a.b/cube_1.5.fits.fz") == "cube_1.5"
    assert stem("cube.FITS.gz") == "cube"
    assert stem("cube_v1.2") == "cube_v1.2"


@pytest.mark.parametrize(
    ("offsets", "manual", "said"),
    [
        ("DATACUBE_FINAL_C.fits 1 1 a\n", None, "line 1: DATACUBE_FINAL_C.fits belongs to none"),
        (COSMOS_LINE * 2, None, "line 2: a second entry for DATACUBE_FINAL_A"),
        ("DATACUBE_FINAL_A.fits 1 1\n", None, "line 1: .*expected <white image>"),
        ("DATACUBE_FINAL_A.fits 1 1 x\n", None, "flag is a or m"),
        ("DATACUBE_FINAL_A.fits one 1 a\n", None, "have to be numbers"),
        ("# nothing\n", None, "not one offset"),
        (
            COSMOS_LINE,
            "offset_wcs_2d('DATACUBE_FINAL_C.fits', ra_offset_deg=1, dec_offset_deg=1)",
            "manualoffsets.txt beside it: DATACUBE_FINAL_C.fits belongs to none",
        ),
        (
            COSMOS_LINE,
            "offset_wcs_2d('DATACUBE_FINAL_A.fits', ra_offset_deg=x, dec_offset_deg=1)",
            "cannot be understood",
        ),
        (COSMOS_LINE, "DATACUBE_FINAL_A.fits somewhere left", "names a file but gives no offset"),
    ],
)
def test_a_cosmos_file_that_cannot_be_meant_is_an_error(
    tmp_path: Path, offsets: str, manual: str | None, said: str
) -> None:
    (tmp_path / "offsets.txt").write_text(offsets)
    if manual is not None:
        (tmp_path / "manualoffsets.txt").write_text(manual)
    with pytest.raises(InputError, match=rf"offsets\.txt: .*{said}"):
        OffsetTable.read(tmp_path / "offsets.txt", KEYS)


def test_a_name_that_two_exposures_share_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "offsets.txt").write_text("x.fits 1 1 a\n")
    twins = (
        ExposureKey(FIRST, "a", path="/n1/x.fits"),
        ExposureKey(SECOND, "b", path="/n2/x.fits"),
    )
    with pytest.raises(InputError, match="2 exposures go by this name"):
        OffsetTable.read(tmp_path / "offsets.txt", twins)


def test_nan_in_offsets_txt_is_a_failed_exposure(tmp_path: Path) -> None:
    (tmp_path / "offsets.txt").write_text("DATACUBE_FINAL_A.fits nan nan a\n")
    assert OffsetTable.read(tmp_path / "offsets.txt", KEYS).find(FIRST).is_failed


def test_the_written_cosmos_file_has_the_routine_s_lines(tmp_path: Path) -> None:
    table = OffsetTable((row(), row(SECOND, name="DATACUBE_FINAL_B", method="manual")))
    table.write(tmp_path / "offsets.txt", "cosmos")
    assert (tmp_path / "offsets.txt").read_text() == (
        "DATACUBE_FINAL_A.fits 7.50000 -4.50000 a\nDATACUBE_FINAL_B.fits 7.50000 -4.50000 m\n"
    )
    assert_pinned(OffsetTable.read(tmp_path / "offsets.txt", KEYS).find(SECOND))
    with pytest.raises(InputError, match="has no name"):
        OffsetTable((row(name=""),)).write(tmp_path / "other.txt", "cosmos")


# --- mypython


def test_mypython_offsets_are_coordinate_degrees_in_the_order_of_exposures(tmp_path: Path) -> None:
    path = tmp_path / "radecoffsets.txt"
    np.savetxt(path, ([0.0, RA_COORDINATE_DEG], [0.0, DEC_DEG]))
    table = OffsetTable.read(path, KEYS)
    assert_pinned(table.find(SECOND))
    assert table.find(FIRST).ra_offset_arcsec == 0.0
    assert_pinned(OffsetTable.read(path, KEYS[::-1]).find(FIRST))


def test_the_written_mypython_file_is_what_savetxt_writes(tmp_path: Path) -> None:
    table = OffsetTable((row(), row(SECOND, ra_offset_arcsec=0.0, dec_offset_arcsec=0.0)))
    table.write(tmp_path / "r.txt", "mypython", exposures=KEYS[::-1])
    ra, dec = np.loadtxt(tmp_path / "r.txt")
    assert ra == pytest.approx([0.0, RA_COORDINATE_DEG], abs=1e-15)
    assert dec == pytest.approx([0.0, DEC_DEG], abs=1e-18)
    with pytest.raises(InputError, match="2 offsets, but 1 exposure "):
        table.write(tmp_path / "s.txt", "mypython", exposures=KEYS[:1])
    with pytest.raises(MissingError, match="DATACUBE_FINAL_B"):
        OffsetTable((row(),)).write(tmp_path / "t.txt", "mypython", exposures=KEYS)


def test_mypython_needs_exactly_its_exposures_and_their_declination(tmp_path: Path) -> None:
    path = tmp_path / "radecoffsets.txt"
    np.savetxt(path, ([0.0, 0.0], [0.0, 0.0]))
    with pytest.raises(InputError, match="2 RA and 2 DEC offsets for 1 exposure:"):
        OffsetTable.read(path, KEYS[:1])
    with pytest.raises(InputError, match="names no exposures"):
        OffsetTable.read(path)
    with pytest.raises(InputError, match="declination is unknown"):
        OffsetTable.read(path, (ExposureKey(FIRST, "a"), ExposureKey(SECOND, "b")))
    path.write_text("0 0\n0 0\n0 0\n")
    with pytest.raises(InputError, match="3 rows, expected two"):
        OffsetTable.read(path, KEYS)
    path.write_text("0 zero\n0 0\n")
    with pytest.raises(InputError, match="zero"):
        OffsetTable.read(path, KEYS)


def test_an_exposure_without_sources_in_mypython_has_failed(tmp_path: Path) -> None:
    path = tmp_path / "radecoffsets.txt"
    np.savetxt(path, ([math.nan, 0.0], [math.nan, 0.0]))
    assert OffsetTable.read(path, KEYS).find(FIRST).is_failed


# --- all formats


def test_formats_are_told_by_content_whatever_the_name(tmp_path: Path) -> None:
    table = OffsetTable((row(), row(SECOND, name="DATACUBE_FINAL_B")))
    for format in ("ecsv", "offset_list", "cosmos", "mypython"):
        path = tmp_path / f"{format}.anything"
        table.write(path, format)
        assert_pinned(OffsetTable.read(path, KEYS).find(FIRST))
        assert_pinned(OffsetTable.read(path, KEYS, format=format).find(FIRST))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"hello world\n", "no offset table"),
        (b"\x89PNG\0\0", "neither FITS nor text"),
        (b"# %ECSV 1.0\n# ---\n# datatype: [\n", "not a whole ECSV"),
        (b"1 2 3\n", "no offset table"),
        (b"\xff\xfe A.fits 1 1 a\n", "no text in UTF-8"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "thing.dat"
    path.write_bytes(content)
    with pytest.raises((InputError, FileError), match=rf"thing\.dat: .*{said}"):
        OffsetTable.read(path, KEYS)


def test_damaged_fits_files_and_missing_files_are_file_errors(tmp_path: Path) -> None:
    whole = offset_list(tmp_path / "o.fits").read_bytes()
    for size in (100, 5000, 5760, 5760 + 60):
        cut = tmp_path / f"cut{size}.fits"
        cut.write_bytes(whole[:size])
        with pytest.raises(FileError, match=rf"cut{size}\.fits: is cut off"):
            OffsetTable.read(cut, KEYS)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(whole)[:300])
    with pytest.raises(FileError, match=r"cut\.gz: this FITS file is damaged"):
        OffsetTable.read(tmp_path / "cut.gz", KEYS)
    with pytest.raises(FileError, match=r"none\.ecsv: no such file"):
        OffsetTable.read(tmp_path / "none.ecsv")
    with pytest.raises(FileError, match="no such file"):
        OffsetTable.read(tmp_path)


def test_a_fits_file_without_offsets_is_refused(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(InputError, match=r"image\.fits: there is no table with RA_OFFSET"):
        OffsetTable.read(tmp_path / "image.fits", KEYS)


def test_an_empty_list_of_exposures_and_an_unknown_format_are_errors(tmp_path: Path) -> None:
    path = offset_list(tmp_path / "o.fits")
    with pytest.raises(InputError, match="list of exposures is empty"):
        OffsetTable.read(path, [])
    with pytest.raises(InputError, match="'csv' is unknown, use one of ecsv"):
        OffsetTable.read(path, format="csv")
    with pytest.raises(InputError, match="'csv' is unknown"):
        OffsetTable((row(),)).write(tmp_path / "o.csv", "csv")
    with pytest.raises(InputError, match="the name does not tell the format"):
        OffsetTable((row(),)).write(tmp_path / "o.csv")
    with pytest.raises(InputError, match="no offsets to write"):
        OffsetTable(()).write(tmp_path / "o.ecsv")


def test_nothing_is_overwritten_unasked_or_half_written(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "o.ecsv"
    OffsetTable((row(note="mine"),)).write(path)
    with pytest.raises(FileError, match="there already"):
        OffsetTable((row(),)).write(path)
    OffsetTable((row(note="new"),)).write(path, overwrite=True)
    assert OffsetTable.read(path).rows[0].note == "new"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match=r"o\.ecsv: cannot be written: .*No space"):
        OffsetTable((row(note="lost"),)).write(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["o.ecsv"]
    assert OffsetTable.read(path).rows[0].note == "new"
    with pytest.raises(FileError, match="cannot be written"):
        OffsetTable((row(),)).write(tmp_path / "nowhere" / "o.ecsv")


def test_a_disk_that_refuses_everything_is_named_with_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(FileError, match=r"o\.ecsv: cannot be written: .*Read-only"):
        OffsetTable((row(),)).write(tmp_path / "o.ecsv")


@pytest.mark.parametrize("format", ["offset_list", "pymusepipe", "cosmos", "mypython"])
def test_failed_rows_go_to_ecsv_only(tmp_path: Path, format: str) -> None:
    table = OffsetTable((row(), row(SECOND, grade="F")))
    with pytest.raises(InputError, match=rf"{SECOND} .*has grade F"):
        table.write(tmp_path / "o", format)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("format", "values", "lost"),
    [
        ("offset_list", {"rotation_deg": 0.1}, "rotation_deg"),
        ("cosmos", {"flux_scale": 1.1}, "flux_scale"),
        ("mypython", {"flux_scale": 1.1}, "flux_scale"),
    ],
)
def test_what_a_format_cannot_hold_is_said(
    tmp_path: Path, format: str, values: dict[str, float], lost: str
) -> None:
    table = OffsetTable((row(**values), row(SECOND)))
    with pytest.warns(MusedaskWarning, match=f"no place for {lost}, set for 1 of 2 exposures"):
        table.write(tmp_path / "o", format)
