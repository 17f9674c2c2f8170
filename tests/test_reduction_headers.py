"""Frames out of files: plain, packed, cut off, of dead chips and of odd cards."""

from __future__ import annotations

import gzip
import math
import os
from datetime import datetime, timedelta

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from raw_headers import channel, content, header, primary, write

from musedask.reduction.finding import headers
from musedask.reduction.finding.headers import HeaderFacts, date_of, frame_of, night_of, read_facts


def read(path):
    status = os.stat(path)
    return frame_of(str(path), read_facts(path), status.st_size, status.st_mtime_ns)


def test_each_field_comes_from_its_card(tmp_path):
    frame = read(write(tmp_path / "raw.fits"))
    assert (frame.kind, frame.tag, frame.reason) == ("raw", "OBJECT", "")
    assert frame.date_obs == "2016-01-02T03:04:05.678"
    assert frame.mjd == 57389.12784350
    assert frame.night == "2016-01-01"
    assert frame.exptime_s == 900.0
    assert (frame.target, frame.ob_id) == ("COSMOS-01", "200123456")
    assert (frame.mode, frame.readout, frame.optics) == ("WFM-NOAO-N", "SCI1.0", "WFM")
    assert frame.template_start == "2016-01-02T03:00:00"
    assert (frame.template_id, frame.template_size) == ("MUSE_wfm-noao_obs_genericoffset", 2)
    assert frame.temperature_c == 11.25
    assert (frame.ra_deg, frame.dec_deg) == (150.1, 2.2)
    assert (frame.lamps, frame.ifus) == ((), (1, 2))
    assert frame.size == (tmp_path / "raw.fits").stat().st_size


def test_no_card_but_the_date_is_needed(tmp_path):
    needed = ("INSTRUME", "DATE-OBS", "ESO DPR CATG", "ESO DPR TYPE", "ESO DPR TECH")
    gone = {key: None for key in headers.WANTED if key not in needed}
    frame = read(write(tmp_path / "raw.fits", gone))
    assert frame.tag == "OBJECT"
    assert (frame.target, frame.ob_id, frame.mode, frame.template_size) == ("", "", "", 0)
    assert math.isnan(frame.exptime_s)
    assert math.isnan(frame.ra_deg)
    # 2016-01-02 is MJD 57389; the rest is the time of day.
    assert frame.mjd == pytest.approx(57389 + (3 * 3600 + 4 * 60 + 5.678) / 86400, abs=1e-8)


@pytest.mark.parametrize("date", [None, "", "yesterday", "2016-13-02T03:04:05.678", 7, True])
def test_a_raw_frame_without_a_date_is_not_known(tmp_path, date):
    frame = read(write(tmp_path / "raw.fits", {"DATE-OBS": date}))
    assert (frame.kind, frame.tag, frame.date_obs, frame.night) == ("unknown", "", "", "")
    assert "DATE-OBS" in frame.reason


def test_odd_values_are_unknown_values(tmp_path):
    odd = {"EXPTIME": "long", "RA": True, "DEC": "02:10:00", "ESO INS TEMP7 VAL": "11.5",
           "ESO TPL NEXP": -1, "ESO OBS TARG NAME": "  ", "OBJECT": "field "}  # fmt: skip
    frame = read(write(tmp_path / "raw.fits", odd))
    assert all(math.isnan(v) for v in (frame.exptime_s, frame.ra_deg, frame.dec_deg))
    assert (frame.temperature_c, frame.template_size, frame.target) == (11.5, 0, "field")


def test_lamps_are_lit_where_lamp_and_shutter_are(tmp_path):
    cards = {"ESO INS LAMPNUM": 6}
    for n, (lamp, shutter) in enumerate([(1, 0), (0, 1), (1, 1), (0, 0), (1, 1), (1, None)], 1):
        cards |= {f"ESO INS LAMP{n} NAME": f"CU-LAMP{n}", f"ESO INS LAMP{n} ST": bool(lamp)}
        cards |= {} if shutter is None else {f"ESO INS SHUT{n} ST": bool(shutter)}
    assert read(write(tmp_path / "arc.fits", cards)).lamps == ("CU-LAMP3", "CU-LAMP5")


@given(st.datetimes(datetime(2014, 1, 1), datetime(2030, 1, 1)))
def test_a_night_is_a_day_from_noon_to_noon(time):
    night = datetime.fromisoformat(night_of(time.isoformat()))
    assert timedelta(hours=16) <= time - night < timedelta(hours=40)


@pytest.mark.parametrize(
    ("date", "night"),
    [
        ("2021-03-04T23:30:00.000", "2021-03-04"),
        ("2021-03-05T09:30:00.000", "2021-03-04"),
        ("2021-03-05T15:59:59.999", "2021-03-04"),
        ("2021-03-05T16:00:00.000", "2021-03-05"),
        ("2021-03-01T00:00:00", "2021-02-28"),
        ("", ""),
        ("0001-01-01T00:00:00", ""),
    ],
)
def test_the_night_begins_on_the_evening_before(date, night):
    assert night_of(date) == night


def test_dates_are_cut_to_milliseconds():
    assert date_of("2016-01-02T03:04:05.6789") == "2016-01-02T03:04:05.678"
    assert date_of("2016-01-02 03:04:05") == "2016-01-02T03:04:05"
    assert date_of("2016-01-02") == date_of(None) == date_of("2016-02-30T00:00:00") == ""


def test_dead_and_absent_chips_are_no_ifus(tmp_path):
    path = tmp_path / "raw.fits"
    parts = [
        primary(),
        channel(24),
        channel(3),
        channel(7, live=False),
        channel(8, pixels=0),
        channel(9, live=None),
        channel(25),
        header({"XTENSION": "IMAGE", "BITPIX": 8, "NAXIS": 0, "EXTNAME": "CHANNEL"}),
    ]
    path.write_bytes(b"".join(parts))
    assert read(path).ifus == (3, 9, 24)


def test_products_name_their_ifu_in_primary_or_in_merged_extensions(tmp_path):
    cards = {"ESO PRO CATG": "MASTER_BIAS", "EXTNAME": "CHAN07"}
    data = header({"XTENSION": "IMAGE", "BITPIX": 8, "NAXIS": 1, "NAXIS1": 4, "PCOUNT": 0,
                   "GCOUNT": 1, "EXTNAME": "DATA"}) + bytes(2880)  # fmt: skip
    (tmp_path / "one.fits").write_bytes(primary(cards) + data)
    assert read(tmp_path / "one.fits").ifus == (7,)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros(3), name="CHAN03.DATA")]
    hdus[0].header["INSTRUME"] = "MUSE"
    hdus[0].header["HIERARCH ESO PRO CATG"] = "MASTER_BIAS"
    fits.HDUList(hdus).writeto(tmp_path / "merged.fits")
    assert read(tmp_path / "merged.fits").ifus == (3,)


def test_a_frame_of_astropy_and_its_fpacked_copy_are_alike(tmp_path):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    top = fits.PrimaryHDU()
    dead = fits.ImageHDU(name="CHAN05")
    dead.header["HIERARCH ESO DET CHIP LIVE"] = False
    plain, packed = [top], [top]
    for key, value in {"INSTRUME": "MUSE", "DATE-OBS": "2016-01-02T03:04:05.678",
                       "HIERARCH ESO DPR CATG": "CALIB", "HIERARCH ESO DPR TYPE": "BIAS",
                       "HIERARCH ESO DPR TECH": "IFU"}.items():  # fmt: skip
        top.header[key] = value
    for ifu in (1, 12):
        cards = fits.Header({"HIERARCH ESO DET CHIP LIVE": True})
        plain.append(fits.ImageHDU(pixels, cards, name=f"CHAN{ifu:02d}"))
        packed.append(fits.CompImageHDU(pixels, cards, name=f"CHAN{ifu:02d}"))
    fits.HDUList([*plain, dead]).writeto(tmp_path / "a.fits")
    fits.HDUList([*packed, dead]).writeto(tmp_path / "a.fits.fz")
    for name in ("a.fits", "a.fits.fz"):
        frame = read(tmp_path / name)
        assert (frame.kind, frame.tag, frame.ifus) == ("raw", "BIAS", (1, 12)), name


def test_an_image_that_was_primary_keeps_its_cards_when_packed(tmp_path):
    table = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 0, "NAXIS2": 0,
             "PCOUNT": 0, "GCOUNT": 1, "TFIELDS": 0, "ZIMAGE": True}  # fmt: skip
    cards = {"INSTRUME": "MUSE", "ESO PRO CATG": "VIGNETTING_MASK"}
    empty = header({"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True})
    path = tmp_path / "mask.fits.fz"
    path.write_bytes(empty + header(table | {"ZSIMPLE": True} | cards))
    assert read(path).tag == "VIGNETTING_MASK"
    path.write_bytes(empty + header(table | cards))
    assert read(path).kind == "unknown", "cards of an extension are no cards of PRIMARY"


def test_a_small_gzip_file_is_read_whole_and_of_a_large_one_only_primary(tmp_path, monkeypatch):
    path = tmp_path / "raw.fits.gz"
    path.write_bytes(gzip.compress(content()))
    assert read(path).ifus == (1, 2)
    monkeypatch.setattr(headers, "_SMALL", 100)
    large = read(path)
    assert (large.tag, large.ifus, large.mode) == ("OBJECT", None, "WFM-NOAO-N")
    assert read(write(tmp_path / "raw.fits")).header_hash != large.header_hash


@pytest.mark.parametrize("limit", [100, 4 << 20], ids=["large", "small"])
@pytest.mark.parametrize("left", [0.3, 0.9, 0.999])
def test_a_gzip_file_that_is_cut_off_is_unreadable(tmp_path, monkeypatch, limit, left):
    noise = np.random.default_rng(1).integers(0, 255, 28800, np.uint8).tobytes()
    packed = gzip.compress(content(ifus=()) + channel(1, pixels=14400)[:2880] + noise)
    path = tmp_path / "raw.fits.gz"
    path.write_bytes(packed)
    monkeypatch.setattr(headers, "_SMALL", limit)
    assert read(path).kind == "raw", "whole, it is readable"
    path.write_bytes(packed[: int(len(packed) * left)])
    frame = read(path)
    assert (frame.kind, frame.tag) == ("unreadable", "")
    assert "cut off" in frame.reason


def test_gzip_of_several_members_is_read_whatever_the_last_one_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "_SMALL", 100)
    path, raw = tmp_path / "raw.fits.gz", content()
    path.write_bytes(gzip.compress(raw[:1000]) + gzip.compress(raw[1000:]))
    assert len(raw[1000:]) % 2880, "the last member is no whole number of blocks"
    assert read(path).tag == "OBJECT"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>login", "web page"),
        (b"BZh91AY", "bzip2"),
        (b"\x1f\x9d\x90", "packed with Z"),
        (b"\x1f\x8b\x08\x00garbage", "cannot be unpacked"),
        (b"\0" * 5000, "not FITS"),
        (content()[:100], "cut off inside a header"),
        (content()[: -2880 + 7], "cut off"),  # 4 pixels are 8 bytes
        (content()[: -2880 - 80], "cut off inside a header"),
    ],
)
def test_what_cannot_be_read_says_why_without_its_path(tmp_path, start, words):
    path = tmp_path / "raw.fits"
    path.write_bytes(start)
    frame = read(path)
    assert (frame.kind, frame.tag, frame.ifus) == ("unreadable", "", None)
    assert words in frame.reason
    assert str(path) not in frame.reason


def test_a_missing_file_is_unreadable_too(tmp_path):
    assert "no such file" in read_facts(tmp_path / "none.fits").error


@pytest.mark.parametrize(
    ("name", "mode", "optics"),
    [
        ("std_response_wfm-n.fits", "WFM-NOAO-N", "WFM"),
        ("std_response_wfm-e.fits", "WFM-NOAO-E", "WFM"),
        ("lsf_profile_slice_wfm-ao-n.fits", "WFM-AO-N", "WFM"),
        ("lsf_profile_slice_nfm-ao-n.fits", "NFM-AO-N", "NFM"),
        ("geometry_table_nfm.fits", "", "NFM"),
        ("geometry_table_wfm_2014-12-01.fits", "", "WFM"),
        ("line_catalog.fits", "", ""),
    ],
)
def test_a_table_of_the_kit_may_tell_its_mode_by_its_name_only(name, mode, optics):
    frame = frame_of(f"/kit/{name}", HeaderFacts(), 1, 1)
    assert (frame.kind, frame.mode, frame.optics) == ("static", mode, optics)


def test_the_cards_of_a_table_count_more_than_its_name():
    cards = {"ESO PRO CATG": "GEOMETRY_TABLE", "ESO INS MODE": "nfm-ao-n"}
    frame = frame_of("/kit/geometry_table_wfm.fits", HeaderFacts(cards), 1, 1)
    assert (frame.mode, frame.optics) == ("NFM-AO-N", "WFM")
    cards["ESO INS OPTI2 NAME"] = "NFM"
    assert frame_of("/kit/geometry_table_wfm.fits", HeaderFacts(cards), 1, 1).optics == "NFM"


VALUES = st.one_of(st.booleans(), st.integers(), st.floats(), st.text())


@given(st.dictionaries(st.sampled_from(headers.WANTED), VALUES), st.booleans())
def test_no_cards_raise(cards, as_raw):
    base = {"INSTRUME": "MUSE", "ESO DPR CATG": "SCIENCE", "ESO DPR TYPE": "OBJECT",
            "ESO DPR TECH": "IFU", "DATE-OBS": "2016-01-02T03:04:05"}  # fmt: skip
    frame = frame_of("/x.fits", HeaderFacts(base | cards if as_raw else cards), 1, 1)
    assert frame.kind != "raw" or (frame.date_obs and frame.night)


@given(st.binary(max_size=6000), st.integers(0, 9000))
def test_no_bytes_raise(tmp_path_factory, noise, at):
    path = tmp_path_factory.mktemp("noise") / "raw.fits"
    whole = content()
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    assert read(path).kind in ("raw", "unknown", "unreadable", "skipped")
