"""Raw frames against what is known of real ones, and against their own truth."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from musedask.errors import FileError, InputError, MissingError
from musedask.fits.hdus import read_fits
from musedask.simulation import RawSpec, read_raw_truth, simulate_raw
from musedask.simulation.raw import RawFrame, barycentric_ratio, parse_fault
from musedask.simulation.raw.detector import digitised
from musedask.simulation.raw.exposing import electron_image, raw_image
from musedask.simulation.raw.faults import STATIC_TAGS
from musedask.simulation.raw.headers import card, extension_header
from musedask.simulation.raw.night import plan_frames
from musedask.simulation.raw.optics import make_optics
from musedask.simulation.raw.scene import field_position
from musedask.simulation.sky import Line, PointSource, Spectrum

NO_CALIBRATIONS = {
    "n_bias": 0, "n_flat": 0, "n_arc": 0, "n_twilight": 0,
    "with_illum": False, "with_std": False, "with_sky": False,
}  # fmt: skip
HEADERS = RawSpec(headers_only=True, n_dark=3, n_arc_lsf=1)


def frame_of(tag="OBJECT", **values):
    """An exposure of 10 s on (150, -24.9), or another frame."""
    base = RawFrame(
        name="MUSE.x", tag=tag, date_obs="2024-02-11T03:00:00.123", exptime_s=10.0,
        mode="WFM-NOAO-N", night="2024-02-10", tpl_id="", tpl_start="", tpl_nexp=1, tpl_expno=1,
        obs_id=1, object_name="A", target="A", ra_deg=150.0, dec_deg=-24.9,
        true_ra_deg=150.0, true_dec_deg=-24.9,
    )  # fmt: skip
    return replace(base, **values)


def perfect(ifu=1, geometry="compact"):
    """Optics without differences of throughput."""
    optics = make_optics(ifu, [ifu], geometry, 0)
    return replace(optics, throughput=np.ones(48))


def star_at(x, y, continuum=1e4, lines=()):
    """A source at (x, y) spaxels of a field at (150, -24.9), placed by astropy alone."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150, -24.9], [1, 1]
    wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    points = ((4300.0, continuum), (9800.0, continuum))
    return PointSource(float(ra), float(dec), Spectrum(points, lines))


def electrons_per_flux(wavelength):
    """The instrument's response, from its formula, electrons/s/A per erg/s/cm2/A."""
    blaze = 0.32 * np.exp(-0.5 * ((wavelength - 7000) / 1500) ** 2)
    throughput = blaze / (1 + np.exp(-(wavelength - 4700) / 25))
    extinction = 0.06 + 0.11 * (wavelength / 5000) ** -4
    return 483250.7 * throughput * wavelength / 1.98644586e-8 * 10 ** (-0.4 * extinction)


# --- headers -----------------------------------------------------------------------------------


def classified(header):
    """The tag by the rules of the pipeline's association file, written down once more."""
    if header["INSTRUME"] != "MUSE" or "IFU" not in header["ESO DPR TECH"]:
        return None
    category, kind = header["ESO DPR CATG"], header["ESO DPR TYPE"]
    template = header["ESO TPL ID"]
    if category == "CALIB" and {"FLAT", "LAMP", "ILLUM"} <= set(kind.split(",")):
        return "ILLUM" if re.search("MUSE_[wn]fm_cal_illum", template) else None
    if category == "CALIB" and {"FLAT", "LAMP"} <= set(kind.split(",")):
        is_flat = header["ESO TPL NEXP"] >= 3 or re.search("MUSE_[wn]fm_cal_specflat", template)
        return "FLAT" if is_flat else None
    calibrations = {
        "BIAS": "BIAS", "DARK": "DARK", "FLAT,SKY": "SKYFLAT", "WAVE": "ARC", "WAVE,LSF": "ARC_LSF",
        "STD": "STD", "SKY": "SKY",
    }  # fmt: skip
    sciences = {"OBJECT": "OBJECT", "SKY": "SKY"}
    return {"CALIB": calibrations, "SCIENCE": sciences}[category].get(kind)


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    return simulate_raw(tmp_path_factory.mktemp("headers"), HEADERS)


def test_each_frame_is_classified_as_what_it_is(headers):
    tags = {frame.tag for frame in headers.frames}
    assert tags == {
        "BIAS", "DARK", "FLAT", "ILLUM", "SKYFLAT", "ARC", "ARC_LSF", "STD", "SKY", "OBJECT"
    }  # fmt: skip
    for frame in headers.frames:
        assert classified(fits.getheader(headers.path(frame))) == frame.tag


@pytest.mark.parametrize("mode", ["NFM-AO-N", "WFM-AO-E", "WFM-NOAO-E"])
def test_each_frame_of_another_mode_is_classified_as_what_it_is(tmp_path, mode):
    truth = simulate_raw(tmp_path, replace(HEADERS, mode=mode))
    for frame in truth.frames:
        header = fits.getheader(truth.path(frame))
        assert classified(header) == frame.tag
        of_no_mode = frame.tag in ("BIAS", "DARK", "ILLUM")
        assert header["ESO INS MODE"] == ("WFM-NOAO-N" if of_no_mode else mode)
        assert header["ESO INS OPTI2 NAME"] == ("WFM" if of_no_mode else mode[:3])


def test_the_headers_hold_what_recipes_and_association_ask_for(headers):
    everywhere = [
        "OBJECT", "RA", "DEC", "EXPTIME", "MJD-OBS", "DATE-OBS", "LST", "EQUINOX", "RADECSYS",
        "ARCFILE", "ORIGFILE", "ESO OBS TARG NAME", "ESO OBS ID", "ESO TPL START", "ESO TPL ID",
        "ESO TPL NEXP", "ESO TPL EXPNO", "ESO INS MODE", "ESO INS OPTI1 NAME",
        "ESO INS OPTI2 NAME", "ESO INS TEMP7 VAL", "ESO INS DROT MODE", "ESO INS DROT POSANG",
        "ESO INS LAMPNUM", "ESO DET READ CURID", "ESO DET READ CURNAME", "ESO DET BINX",
        "ESO DET BINY", "ESO TEL GEOLAT", "ESO TEL GEOLON", "ESO TEL GEOELEV",
        "ESO TEL AIRM START", "ESO TEL AIRM END", "ESO TEL AMBI FWHM START", "ESO TEL IA FWHM",
    ]  # fmt: skip
    for frame in headers.frames:
        with fits.open(headers.path(frame)) as hdus:
            hdus.verify("exception")
            missing = [key for key in everywhere if key not in hdus[0].header]
            assert missing == []
            assert hdus[0].header["ARCFILE"] == headers.path(frame).name
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "CHAN01"]
            detector = hdus[1].header
    ports = {
        n: tuple(detector[f"ESO DET OUT{n} {key}"] for key in ("X", "Y", "NX", "NY", "GAIN", "RON"))
        for n in (1, 2, 3, 4)
    }
    assert ports == {
        1: (1, 1, 2048, 2056, 1.1, 2.8), 2: (4096, 1, 2048, 2056, 1.12, 2.7),
        3: (4096, 4112, 2048, 2056, 1.09, 2.9), 4: (1, 4112, 2048, 2056, 1.11, 2.75),
    }  # fmt: skip
    for n in (1, 2, 3, 4):
        for key in ("PRSCX", "PRSCY", "OVSCX", "OVSCY"):
            assert detector[f"ESO DET OUT{n} {key}"] == 32
    assert detector["ESO DET CHIP LIVE"] is True
    assert detector["ESO DET CHIP NAME"]
    assert detector["ESO DET CHIP ID"]


def test_times_agree_and_no_two_frames_share_one(headers):
    dates = [frame.date_obs for frame in headers.frames]
    assert dates == sorted(set(dates))
    for frame in headers.frames:
        header = fits.getheader(headers.path(frame))
        assert header["DATE-OBS"] == frame.date_obs
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", frame.date_obs)
        assert header["MJD-OBS"] == pytest.approx(Time(frame.date_obs).mjd, abs=2e-8)
        # Noon at Paranal is at 16:00 UT or a little later.
        moment = datetime.fromisoformat(frame.date_obs) - timedelta(hours=16)
        assert moment.date() == date(2024, 2, 10)
        assert frame.night == "2024-02-10"
        assert datetime.fromisoformat(header["ESO TPL START"]) < datetime.fromisoformat(
            frame.date_obs
        )


def test_each_target_culminates_overhead_in_the_middle_of_its_exposure(headers):
    """Else the recipes would correct a refraction that the data do not have."""
    for frame in headers.frames:
        header = fits.getheader(headers.path(frame))
        if frame.tag in ("OBJECT", "SKY", "STD", "SKYFLAT"):
            hour_angle = header["LST"] + header["EXPTIME"] / 2 - header["RA"] * 240
            assert hour_angle == pytest.approx(0.0, abs=0.01)
            assert abs(header["DEC"] - header["ESO TEL GEOLAT"]) < 0.5


def test_lamps_are_on_in_lamp_frames_alone(headers):
    expected = {"HgCd": {5}, "Ne": {3}, "Xe": {4}}
    for frame in headers.frames:
        header = fits.getheader(headers.path(frame))
        on = {
            n
            for n in range(1, 7)
            if header[f"ESO INS LAMP{n} ST"] and header[f"ESO INS SHUT{n} ST"]
        }
        if frame.tag in ("ARC", "ARC_LSF"):
            assert on == expected[frame.lamp]
        elif frame.tag in ("FLAT", "ILLUM"):
            assert on == {1, 2}
        else:
            assert on == set()


def test_each_exposure_has_a_calibration_within_the_window_of_its_association():
    frames = plan_frames(RawSpec(n_exposures=40, n_nights=2))
    mjd = {frame.name: Time(frame.date_obs).mjd for frame in frames}
    for exposure in (frame for frame in frames if frame.tag == "OBJECT"):
        nearest = {
            tag: min(abs(mjd[f.name] - mjd[exposure.name]) for f in frames if f.tag == tag)
            for tag in ("BIAS", "FLAT", "ARC", "SKYFLAT", "ILLUM", "STD", "SKY")
        }
        assert nearest["ILLUM"] < 1.6 / 24
        assert max(nearest.values()) < 0.6


def test_exposures_are_shared_out_over_nights_and_targets_in_templates():
    spec = RawSpec(n_exposures=11, n_nights=2, targets=("A", "B"), night="2024-02-28")
    exposures = [frame for frame in plan_frames(spec) if frame.tag == "OBJECT"]
    assert [frame.night for frame in exposures] == ["2024-02-28"] * 6 + ["2024-02-29"] * 5
    assert [frame.target for frame in exposures] == ["A"] * 6 + ["B"] * 5
    assert [frame.tpl_expno for frame in exposures] == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]
    assert len({frame.tpl_start for frame in exposures}) == 2
    assert exposures[6].true_ra_deg - exposures[0].true_ra_deg == pytest.approx(1.0, abs=1e-3)


def test_frames_that_do_not_fit_into_a_night_are_refused():
    with pytest.raises(InputError, match=r"40 exposures.*n_nights"):
        plan_frames(RawSpec(n_exposures=40))
    with pytest.raises(InputError, match="n_dark"):
        plan_frames(RawSpec(n_dark=20))


@pytest.mark.parametrize(
    "value", [True, False, 0, -3, 2.5, 1e-9, 60370.12345678, "it's", "", "a" * 40]
)
@pytest.mark.parametrize("key", ["EXPTIME", "ESO DET OUT1 PRSCX"])
def test_a_card_is_read_by_astropy_as_it_was_meant(key, value):
    line = card(
        key, value, "a comment that may be longer than there is room for in a card"
    ).decode()
    assert len(line) == 80
    read = fits.Card.fromstring(line)
    read.verify("exception")
    assert (read.keyword, read.value, type(read.value)) == (key, value, type(value))


def test_a_card_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="80"):
        card("ESO OBS TARG NAME", "x" * 80)


# --- the detector ------------------------------------------------------------------------------


def test_bias_gain_and_noise_are_those_of_each_quadrant():
    electrons = np.full((4112, 4096), 900.0, np.float32)
    raw = digitised(electrons, np.random.default_rng(0)).astype(float)
    assert raw.shape == (4240, 4224)
    lower, upper, left, right = (
        slice(32, 2088), slice(2152, 4208), slice(32, 2080), slice(2144, 4192)
    )  # fmt: skip
    for quadrant, bias, gain, ron in (
        ((lower, left), 1000, 1.1, 2.8), ((lower, right), 1010, 1.12, 2.7),
        ((upper, right), 995, 1.09, 2.9), ((upper, left), 1005, 1.11, 2.75),
    ):  # fmt: skip
        lit = raw[quadrant]
        assert lit.mean() == pytest.approx(bias + 900 / gain, abs=0.2)
        # Rounding to whole adu adds a twelfth.
        assert lit.var() == pytest.approx((900 + ron**2) / gain**2 + 1 / 12, rel=0.01)
    for scan, bias in (
        (raw[:32, :2112], 1000), (raw[2088:2120, :2112], 1000), (raw[:2120, 2080:2112], 1000),
        (raw[:2120, 2112:2144], 1010), (raw[:2120, 4192:], 1010), (raw[4208:, 2112:], 995),
        (raw[2120:2152, 2112:], 995), (raw[2120:, 2080:2112], 1005), (raw[2120:, :32], 1005),
    ):  # fmt: skip
        assert scan.mean() == pytest.approx(bias, abs=0.1)
        assert scan.std() < 3


def test_values_stay_within_the_converter():
    electrons = np.zeros((4112, 4096), np.float32)
    electrons[100:200] = 1e6
    raw = digitised(electrons, np.random.default_rng(0))
    assert raw[150, 100] == 65535
    with pytest.raises(InputError, match="4112"):
        digitised(electrons[1:], np.random.default_rng(0))


# --- light -------------------------------------------------------------------------------------


def test_a_flat_has_the_lamps_light_in_each_slice():
    optics = perfect()
    image = electron_image(frame_of("FLAT", lamp="flat", exptime_s=7.0), optics, (), 0.8, 0)
    for s, y in ((0, 5), (20, 2000), (47, 4100)):
        # 1-based, as the pipeline counts: left edge 24.0 + 84.4 s, y from the middle.
        t = (y + 1 - 2056) / 2056
        left = 24 + 84.4 * s + 1.2 * np.sin(0.13 * s + 0.1) * t**2 + 0.6 * np.cos(0.2 * s) * t
        centred = y + 1 - 2056
        loff = 6 * ((s % 12) - 5.5) / 5.5 + 0.7
        wave = 7030 + loff + 1.25 * centred + 1.2e-6 * centred**2 + 2e-10 * centred**3
        step = 1.25 + 2.4e-6 * centred + 6e-10 * centred**2
        lamp = 2600 * np.exp(-0.5 * ((wave - 7400) / 1700) ** 2) * 7 * step
        row = image[y, round(left) - 5 : round(left) + 81]
        assert row.sum() == pytest.approx(lamp * 76, rel=0.004)
        columns = np.arange(round(left) - 4, round(left) + 82)
        middle = (row * columns).sum() / row.sum()
        assert middle == pytest.approx(left + 38, abs=0.1)
        inner = row[10:76] / lamp
        assert inner.std() == pytest.approx(0.004, rel=0.5)


def test_pixels_differ_alike_in_all_frames_of_a_detector_and_not_from_one_to_the_next():
    flat = frame_of("FLAT", lamp="flat")
    one, again, other = (
        electron_image(flat, replace(perfect(), ifu=ifu), (), 0.8, 0)[2000, 60:80]
        for ifu in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(np.corrcoef(one / other, one)[0, 1]) > 0.3


def test_an_arc_line_has_its_area_and_its_wavelength():
    optics = perfect()
    image = electron_image(frame_of("ARC", lamp="HgCd", exptime_s=5.0), optics, (), 0.8, 0)
    s = 30
    column = round(float(optics.left[s, 2000])) + 38
    waves = optics.wave[s] + 0.03 * (column - optics.left[s] - 38)
    near = np.abs(waves - 6438.470) < 12
    light = image[near, column] - 0.5 * 5 * optics.dispersion[near]
    assert light.sum() == pytest.approx(60 * 200 * 5, rel=0.005)
    assert (light * waves[near]).sum() / light.sum() == pytest.approx(6438.470, abs=0.02)
    assert image[np.abs(waves - 5852.488) < 3, column].max() < 10, "neon with the neon lamp off"


def test_the_sky_is_as_bright_as_it_should_be():
    image = electron_image(frame_of("SKY", exptime_s=300.0), perfect(), (), 0.8, 0)
    optics = perfect()
    s, y = 10, 2400
    wave = optics.wave[s, y]
    brightness = 1e-17 * np.sqrt(wave / 6000) * 0.04 * 75 / 76
    expected = brightness * electrons_per_flux(wave) * optics.dispersion[y] * 300
    left = int(optics.left[s, y])
    dark = 300 / 3600
    assert image[y, left + 10 : left + 66].mean() - dark == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("place", "angle"), [((5.3, -7.6), 0.0), ((-10.0, 12.4), 90.0)])
def test_a_star_has_its_flux_and_its_place_in_the_field(place, angle):
    """All its light near 7000 Angstrom, gathered from the slices with the geometry alone."""
    optics = perfect()
    frame = frame_of(position_angle_deg=angle)
    star = star_at(*place)
    with_star, without = (
        electron_image(frame, optics, sources, 0.8, 0) for sources in ((star,), ())
    )
    total = x_sum = y_sum = 0.0
    for s in range(48):
        y = int(np.argmin(np.abs(optics.wave[s] - 6500.0)))
        left = round(float(optics.left[s, y]))
        light = (with_star - without)[y, left - 3 : left + 80] / optics.dispersion[y]
        across = np.arange(left - 3, left + 80) - optics.left[s, y] - 38
        total += light.sum()
        x_sum += (light * (optics.x_field[s] - across * 75 / 76)).sum()
        y_sum += (light * optics.y_field[s]).sum()
    expected = 1e4 * 1e-20 * electrons_per_flux(6500.0) * 10
    assert total == pytest.approx(expected, rel=0.015)
    # At 90 degrees the field's y axis points east, its x axis north.
    true = place if angle == 0 else (place[1], -place[0])
    assert (x_sum / total, y_sum / total) == pytest.approx(true, abs=0.15)


def test_an_emission_line_has_its_flux():
    optics = perfect()
    line = Line(6500.0, 3e5)
    images = [
        electron_image(frame_of(), optics, (star_at(0.0, 0.3, 1e3, lines),), 0.8, 0)
        for lines in ((line,), ())
    ]
    light = images[0] - images[1]
    expected = 3e5 * 1e-20 * electrons_per_flux(6500.0) * 10
    assert light.sum() == pytest.approx(expected, rel=0.015)


def test_a_dither_moves_the_field_and_a_pointing_error_does_not():
    still = field_position(frame_of(), 150.0, -24.9)
    np.testing.assert_allclose(still, (0.0, 0.0), atol=1e-6)
    east = 2.0 / 3600 / np.cos(np.radians(-24.9))
    moved = field_position(frame_of(true_ra_deg=150.0 + east), 150.0, -24.9)
    np.testing.assert_allclose(moved, (10.0, 0.0), atol=1e-3)  # 2" to the west of the middle
    np.testing.assert_array_equal(field_position(frame_of(ra_deg=151.0), 150.0, -24.9), still)


def test_real_geometry_gives_each_ifu_its_strip():
    tops = []
    for ifu in (1, 2, 24):
        x0, x1, y0, y1 = make_optics(ifu, [ifu], "real", 0).bounds
        assert (x0, x1, y1 - y0) == (-150, 150, 12)
        tops.append(y1)
    assert tops == [144, 132, -132]


def test_the_geometry_of_slices_is_the_instruments():
    """Slices 1 to 12 of the detector, by their place in the field."""
    optics = make_optics(1, [1], "real", 0)
    rows = (optics.y_field.max() - optics.y_field).astype(int) + 1
    assert rows[:12].tolist() == [9, 8, 1, 10, 7, 2, 11, 6, 3, 12, 5, 4]
    assert rows[36:].tolist() == rows[:12].tolist()
    assert optics.x_field[[0, 12, 24, 36]].tolist() == [-112.5, -37.5, 37.5, 112.5]


def test_compact_fields_lie_side_by_side_without_overlap():
    bounds = [make_optics(ifu, [1, 5, 9], "compact", 0).bounds for ifu in (1, 5, 9)]
    assert bounds == [(-75, 0, 0, 48), (0, 75, 0, 48), (-75, 0, -48, 0)]


# --- truth -------------------------------------------------------------------------------------


def test_the_truth_comes_back_as_it_was_written(headers):
    assert read_raw_truth(headers.folder) == headers


def test_the_truth_tells_of_itself_in_a_line(headers):
    assert "\n" not in repr(headers)
    assert len(repr(headers)) < 400
    assert f"{len(headers.frames)} raw frames" in repr(headers)
    assert "2 OBJECT" in repr(headers)


def test_a_folder_without_truth_says_so(tmp_path):
    with pytest.raises(FileError, match=r"truth\.json"):
        read_raw_truth(tmp_path)
    (tmp_path / "truth.json").write_text('{"spec": {"ifus": [1], "colour": "red"}}')
    with pytest.raises(FileError, match="simulate"):
        read_raw_truth(tmp_path)


def test_offsets_put_the_headers_right(tmp_path):
    spec = RawSpec(
        headers_only=True, n_exposures=2, dithers_arcsec=((0.0, 0.0), (1.0, -2.0)),
        pointing_errors_arcsec=((0.0, 0.0), (0.5, -0.25)), **NO_CALIBRATIONS,
    )  # fmt: skip
    truth = simulate_raw(tmp_path, spec)
    header = fits.getheader(truth.path(truth.exposures[1]))
    offset = list(truth.offsets)[1]
    cos = np.cos(np.radians(-24.9))
    assert (offset.ra_offset_arcsec, offset.dec_offset_arcsec) == (0.5, -0.25)
    assert (header["RA"] - 150.1) * 3600 * cos - 0.5 == pytest.approx(1.0, abs=1e-4)
    assert (header["DEC"] + 24.9) * 3600 + 0.25 == pytest.approx(-2.0, abs=1e-4)
    assert offset.date_obs == header["DATE-OBS"]


def test_sources_have_room_and_lines_where_the_sky_has_none(headers):
    assert len(headers.sources) == 8
    x, y = field_position(frame_of(true_ra_deg=150.1), *np.array(
        [(source.ra_deg, source.dec_deg) for source in headers.sources]).T)  # fmt: skip
    assert np.abs(x).max() < 32.5
    assert np.abs(y).max() < 19
    apart = np.hypot(x[:, None] - x, y[:, None] - y) + 99 * np.eye(8)
    assert apart.min() > 8
    for source in headers.sources:
        level = float(source.spectrum.values(np.array([7000.0]))[0])
        assert 10**3.7 < level < 10**4.85
        for line in source.spectrum.lines:
            assert abs(line.wavelength_angstrom - 5577.338) > 20
            assert abs(line.wavelength_angstrom - 7618) > 70


def test_the_barycentric_velocity_is_the_sun_s_pull_on_the_year():
    """Towards the Sun's place six hours of RA earlier or later the Earth moves at 30 km/s."""
    # At the March equinox the Sun is at RA 0 and the Earth moves towards RA 18 h, DEC -23.4.
    frame = frame_of(
        date_obs="2024-03-20T03:06:00.000", true_ra_deg=270.0, true_dec_deg=-23.44, exptime_s=0.0
    )
    assert (barycentric_ratio(frame) - 1) * 299792.458 == pytest.approx(29.9, abs=0.15)
    long = replace(frame, date_obs="2024-03-18T03:06:00.000", exptime_s=4 * 86400.0)
    assert barycentric_ratio(long) == pytest.approx(barycentric_ratio(frame), abs=1e-12)
    away = replace(frame, true_ra_deg=90.0, true_dec_deg=23.44)
    assert barycentric_ratio(away) - 1 == pytest.approx(1 - barycentric_ratio(frame), abs=1e-12)


# --- files -------------------------------------------------------------------------------------

ONE_BIAS = RawSpec(**{**NO_CALIBRATIONS, "n_bias": 1}, n_exposures=0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A bias and an exposure with data."""
    spec = replace(ONE_BIAS, n_exposures=1, exptime_s=60.0, dithers_arcsec=((0.0, 0.0),))
    return simulate_raw(tmp_path_factory.mktemp("plain"), spec)


def test_equal_seeds_give_equal_bytes(plain, tmp_path):
    again = simulate_raw(tmp_path / "again", plain.spec, workers=1)
    other = simulate_raw(tmp_path / "other", replace(plain.spec, seed=1))
    files = sorted(path.relative_to(plain.folder) for path in plain.folder.rglob("*.*"))
    assert len(files) == 3 + len(STATIC_TAGS)  # and truth.json
    for name in files:
        assert (again.folder / name).read_bytes() == (plain.folder / name).read_bytes(), name
    bias = fits.getdata(other.path(other.frames[1]))
    assert (bias != fits.getdata(plain.path(plain.frames[1]))).mean() > 0.5


def test_frames_and_detectors_do_not_share_their_noise():
    one, same, other_frame, other_ifu = (
        raw_image(frame_of("BIAS", number=number), perfect(ifu), {}, 0.8, 0)
        for number, ifu in ((0, 1), (0, 1), (1, 1), (0, 2))
    )
    np.testing.assert_array_equal(one, same)
    for other in (other_frame, other_ifu):
        part = np.s_[40:1040, 40:1040]
        pair = np.corrcoef(one[part].ravel(), other[part].ravel())
        assert abs(pair[0, 1]) < 0.005


def test_exposures_have_dithers_and_errors_of_their_own():
    exposures = [frame for frame in plan_frames(RawSpec(n_exposures=5)) if frame.tag == "OBJECT"]
    assert len({frame.dither_arcsec for frame in exposures}) == 5
    assert len({frame.error_arcsec for frame in exposures}) == 5
    assert exposures[0].error_arcsec == (0.0, 0.0)


def test_an_exposure_is_brighter_than_a_bias_and_both_are_raw(plain):
    exposure, bias = (fits.getdata(plain.path(frame)) for frame in plain.frames)
    assert [frame.tag for frame in plain.frames] == ["OBJECT", "BIAS"]
    assert exposure.shape == bias.shape == (4240, 4224)
    assert exposure.dtype == bias.dtype == np.uint16
    header = fits.getheader(plain.path(plain.frames[0]), 1)
    assert (header["BITPIX"], header["NAXIS"]) == (16, 2)
    assert abs(float(np.median(bias)) - 1002) < 5
    assert float(exposure.max()) > bias.max() + 100
    # The light is in the slices: where the first begins at x = 23, not before it.
    ifu = exposure[32:2088, 32:2080].mean(axis=0)
    assert ifu[30:90].mean() > ifu[:18].mean() + 0.5


@pytest.mark.parametrize("compress", ["gz", "fz"])
def test_packed_frames_hold_the_same_as_plain_ones(plain, tmp_path, compress):
    spec = replace(plain.spec, compress=compress, n_exposures=0, dithers_arcsec=())
    packed = simulate_raw(tmp_path / "one", spec)
    path = packed.path(packed.frames[0])
    assert path.name.endswith(f".fits.{compress}")
    # The first frame of a seed: its noise is the same whatever the file is packed with.
    unpacked = simulate_raw(tmp_path / "two", replace(spec, compress=""))
    with fits.open(path) as hdus, fits.open(unpacked.path(unpacked.frames[0])) as expected:
        np.testing.assert_array_equal(hdus[1].data, expected[1].data)
        assert hdus[0].header == expected[0].header
        for key, value in expected[1].header.items():
            if key not in ("XTENSION", "PCOUNT", "GCOUNT"):
                assert hdus[1].header[key] == value, key
    assert path.stat().st_size < 0.6 * unpacked.path(unpacked.frames[0]).stat().st_size
    if compress == "gz":
        assert path.read_bytes()[4:8] == bytes(4), "no time in the packed file"
        with gzip.open(path) as file:
            assert file.read() == unpacked.path(unpacked.frames[0]).read_bytes()


def test_headers_only_are_of_full_size_and_take_no_room(headers, plain):
    path = headers.path(headers.frames[0])
    assert path.stat().st_size == plain.path(plain.frames[0]).stat().st_size
    assert path.stat().st_blocks * 512 < 100_000
    assert read_fits(path).hdus[1].raw == extension_header(1)[: len(read_fits(path).hdus[1].raw)]


def test_no_other_light_falls_on_absent_detectors(tmp_path):
    spec = replace(HEADERS, ifus=(1, 7), absent="dead", **NO_CALIBRATIONS)
    truth = simulate_raw(tmp_path, spec)
    with fits.open(truth.path(truth.frames[0])) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == [f"CHAN{ifu:02d}" for ifu in range(1, 25)]
        live = [i for i, hdu in enumerate(hdus) if i and hdu.header["ESO DET CHIP LIVE"]]
        assert live == [1, 7]
        assert [i for i, hdu in enumerate(hdus) if hdu.header["NAXIS"] == 2] == live


def test_files_that_are_there_are_kept(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.fits").write_text("mine")
    with pytest.raises(FileError, match="has files"):
        simulate_raw(tmp_path, HEADERS)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["mine.fits"]


def test_a_failure_leaves_no_truth_and_no_half_written_frame(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("musedask.simulation.raw.simulate.raw_image", broken)
    with pytest.raises(FileError, match="No space left"):
        simulate_raw(tmp_path, ONE_BIAS)
    assert list((tmp_path / "raw").iterdir()) == []
    assert not (tmp_path / "truth.json").exists()


def test_progress_is_told_up_to_the_last_frame(tmp_path):
    told = []
    truth = simulate_raw(tmp_path, HEADERS, progress=lambda *step: told.append(step[:2]))
    assert told[0] == (0, len(truth.frames))
    assert told[-1] == (len(truth.frames), len(truth.frames))


# --- static tables -----------------------------------------------------------------------------


def test_static_tables_say_what_they_are_and_hold_what_the_recipes_read(tmp_path):
    spec = replace(HEADERS, ifus=(1, 2), **NO_CALIBRATIONS)
    truth = simulate_raw(tmp_path, spec)
    assert tuple(truth.static) == STATIC_TAGS
    columns = {
        "LINE_CATALOG": ["lambda", "flux", "ion", "quality", "comment"],
        "GEOMETRY_TABLE": ["SubField", "SliceCCD", "SliceSky", "x", "y", "angle", "width"],
        "EXTINCT_TABLE": ["lambda", "extinction"], "STD_FLUX_TABLE": ["lambda", "flux", "fluxerr"],
        "SKY_LINES": ["name", "group", "lambda", "flux", "dq"],
        "RAMAN_LINES": ["name", "group", "lambda", "flux", "dq"],
        "FILTER_LIST": ["lambda", "throughput"],
        "TELLURIC_REGIONS": ["lmin", "lmax", "bgmin", "bgmax"],
        "BADPIX_TABLE": ["xpos", "ypos", "status", "value"],
    }  # fmt: skip
    for tag in truth.static:
        with fits.open(truth.static_path(tag)) as hdus:
            hdus.verify("exception")
            assert hdus[0].header["ESO PRO CATG"] == tag
            if tag in columns:
                assert hdus[1].columns.names == columns[tag]
    geometry = fits.getdata(truth.static_path("GEOMETRY_TABLE"))
    for ifu in (1, 2):
        rows = geometry[geometry["SubField"] == ifu]
        assert sorted(rows["SliceCCD"]) == sorted(rows["SliceSky"]) == list(range(1, 49))
    names = [hdu.get("EXTNAME") for hdu in read_fits(truth.static_path("FILTER_LIST")).hdus[1:]]
    assert names[:3] == ["white", "Johnson_V", "Cousins_R"]
    lines = fits.getdata(truth.static_path("LINE_CATALOG"))
    # More than the electrons that an arc of 5 s gives: 60 a second for a relative flux of 1.
    neon = lines["flux"][np.argmin(np.abs(lines["lambda"] - 6402.248))]
    assert neon > 2 * 350 * 60 * 5
    assert (np.diff(lines["lambda"]) > 0).all()
    assert lines.size == 79
    assert fits.getheader(truth.static_path("LINE_CATALOG"))["VERSION"] == 3
    star = fits.getheader(truth.static_path("STD_FLUX_TABLE"), "SIMSTAR")
    std = next(f for f in plan_frames(RawSpec()) if f.tag == "STD")
    apart = np.hypot(
        (star["RA"] - std.ra_deg) * np.cos(np.radians(24.9)), star["DEC"] - std.dec_deg
    )
    assert apart * 3600 < 20
    wcs = fits.getheader(truth.static_path("ASTROMETRY_WCS"))
    cd = [[wcs["CD1_1"], wcs["CD1_2"]], [wcs["CD2_1"], wcs["CD2_2"]]]
    np.testing.assert_allclose(cd, np.diag([-0.2, 0.2]) / 3600)
    assert (wcs["CTYPE1"], wcs["CTYPE2"]) == ("RA---TAN", "DEC--TAN")


def test_real_geometry_has_a_table_of_all_slices(tmp_path):
    spec = replace(HEADERS, geometry="real", **NO_CALIBRATIONS)
    truth = simulate_raw(tmp_path, spec)
    assert fits.getdata(truth.static_path("GEOMETRY_TABLE")).size == 1152


# --- faults ------------------------------------------------------------------------------------


def faulty(tmp_path, *faults, **values):
    """Frames with faults; the one that has one."""
    spec = replace(HEADERS, n_dark=0, n_arc_lsf=0, faults=faults, **values)
    truth = simulate_raw(tmp_path, spec)
    return truth, next((frame for frame in truth.frames if frame.fault), None)


def test_a_missing_kind_is_missing_and_nothing_else(tmp_path):
    truth, _ = faulty(tmp_path, "missing:ARC", "missing:SKY_LINES", "missing:BIAS:2")
    tags = [frame.tag for frame in truth.frames]
    assert "ARC" not in tags
    assert (tags.count("BIAS"), tags.count("FLAT"), tags.count("OBJECT")) == (2, 3, 2)
    assert "SKY_LINES" not in truth.static
    assert len(list((tmp_path / "raw").iterdir())) == len(truth.frames)
    assert len(list((tmp_path / "static").iterdir())) == len(STATIC_TAGS) - 1
    assert [frame.tpl_expno for frame in truth.frames if frame.tag == "BIAS"] == [1, 3]


def test_a_truncated_file_ends_in_its_data(tmp_path):
    truth, frame = faulty(tmp_path, "truncated:FLAT:1")
    assert (frame.tag, frame.tpl_expno) == ("FLAT", 1)
    assert fits.getheader(truth.path(frame))["ESO DPR TYPE"] == "FLAT,LAMP"
    with pytest.raises(FileError, match="cut off"):
        read_fits(truth.path(frame))


def test_a_page_is_no_fits_and_an_empty_file_is_empty(tmp_path):
    truth, frame = faulty(tmp_path, "html:OBJECT", "empty:BIAS")
    with pytest.raises(FileError, match="web page"):
        read_fits(truth.path(frame))
    empty = next(frame for frame in truth.frames if frame.fault == "empty")
    assert truth.path(empty).stat().st_size == 0


def test_a_broken_header_begins_like_fits_and_cannot_be_read(tmp_path):
    truth, frame = faulty(tmp_path, "bad-header:OBJECT")
    path = truth.path(frame)
    assert path.read_bytes()[:30].startswith(b"SIMPLE  =                    T")
    header = read_fits(path).hdus[0]
    assert [header.get(key) for key in ("INSTRUME", "DATE-OBS", "ESO DPR TYPE")] == [None] * 3


def test_one_frame_of_another_mode_or_read_out(tmp_path):
    truth, _ = faulty(tmp_path, "wrong-mode:FLAT:2", "wrong-readout:BIAS:3")
    flats, biases = (
        [fits.getheader(truth.path(frame)) for frame in truth.frames if frame.tag == tag]
        for tag in ("FLAT", "BIAS")
    )
    modes = [header["ESO INS MODE"] for header in flats]
    assert modes == ["WFM-NOAO-N", "WFM-AO-N", "WFM-NOAO-N"]
    assert [header["ESO DET READ CURNAME"] for header in biases] == ["SCI1.0", "SCI1.0", "SCI2.0"]
    assert [header["ESO DET READ CURID"] for header in biases] == [1, 1, 2]


def test_two_frames_of_one_date_are_two_files(tmp_path):
    truth, frame = faulty(tmp_path, "same-date:OBJECT")
    first, second = (fits.getheader(truth.path(frame)) for frame in truth.exposures)
    assert first["DATE-OBS"] == second["DATE-OBS"]
    assert first["MJD-OBS"] == second["MJD-OBS"]
    assert frame is truth.exposures[1]
    assert len({truth.path(frame) for frame in truth.exposures}) == 2


def test_a_detector_without_gain_or_without_an_extension_or_dead(tmp_path):
    truth, _ = faulty(
        tmp_path, "no-gain:BIAS:1", "missing-ifu:OBJECT:1", "dead-ifu:2", ifus=(1, 2, 3)
    )
    by_fault = {frame.fault: truth.path(frame) for frame in truth.frames}
    assert not any("GAIN" in key for key in fits.getheader(by_fault["no-gain"], 1))
    assert "ESO DET OUT4 GAIN" in fits.getheader(by_fault[""], 1)
    with fits.open(by_fault["missing-ifu"]) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "CHAN01", "CHAN02"]
    with fits.open(by_fault[""]) as hdus:
        assert [hdu.header["NAXIS"] for hdu in hdus] == [0, 2, 0, 2]
        assert hdus[2].header["ESO DET CHIP LIVE"] is False


def test_faults_of_frames_with_data_are_the_same(tmp_path):
    spec = replace(ONE_BIAS, n_bias=2, faults=("truncated:BIAS:1", "html:BIAS:2"))
    truth = simulate_raw(tmp_path, spec)
    sizes = [truth.path(frame).stat().st_size for frame in truth.frames]
    assert sizes[0] == pytest.approx(0.6 * 35835840, rel=0.01)
    assert sizes[1] < 1000


@pytest.mark.parametrize("text", ["", "broken:BIAS", "html", "html:", "html:BIAS:x", "dead-ifu:25"])
def test_what_is_no_fault_is_refused(text):
    with pytest.raises(InputError, match="fault"):
        parse_fault(text)


@pytest.mark.parametrize(
    "text",
    ["html:DARK", "html:BIAS:4", "same-date:STD", "missing:BIAS:9", "missing:BIA", "dead-ifu:2"],
)
def test_a_fault_that_happens_to_nothing_is_refused(tmp_path, text):
    with pytest.raises(MissingError, match=r"frames of this tag|IFUs are \(1,\)"):
        faulty(tmp_path, text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ifus", ()), ("ifus", (0,)), ("ifus", (1, 1)), ("geometry", "round"), ("mode", "WFM"),
        ("compress", "zip"), ("n_bias", -1), ("n_nights", 0), ("exptime_s", 0.0),
        ("exptime_s", float("nan")), ("seeing_arcsec", -1.0), ("targets", ()),
        ("night", "tomorrow"), ("targets", ("a b",)),
        ("dithers_arcsec", ((0.0, 0.0),)), ("absent", "asleep"), ("faults", ("nonsense",)),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(name, value):
    with pytest.raises(InputError, match=name.split("_")[0].rstrip("s")):
        RawSpec(**{name: value})


def test_holes_are_not_packed():
    with pytest.raises(InputError, match="compress"):
        RawSpec(headers_only=True, compress="gz")


def test_no_frames_are_refused():
    with pytest.raises(InputError, match="no frames"):
        plan_frames(RawSpec(n_exposures=0, **NO_CALIBRATIONS))


# --- the real recipes --------------------------------------------------------------------------


def esorex(folder, recipe, inputs):
    """Run a recipe on IFU 1 in a folder of its own."""
    folder.mkdir()
    (folder / "in.sof").write_text("".join(f"{path} {tag}\n" for path, tag in inputs))
    settings = {
        key: value for key, value in os.environ.items() if not key.startswith(("ESOREX", "MUSE_"))
    }
    run = subprocess.run(
        ["esorex", "--output-dir=.", "--log-dir=.", "--suppress-prefix=TRUE", recipe, "--nifu=1",
         "in.sof"],
        cwd=folder, env={**settings, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "[ ERROR ]" not in run.stderr
    return run.stdout


@pytest.mark.real_esorex
def test_the_real_recipes_find_the_noise_the_gain_and_the_slices(tmp_path):
    spec = RawSpec(**{**NO_CALIBRATIONS, "n_bias": 3, "n_flat": 3}, n_exposures=0)
    truth = simulate_raw(tmp_path / "frames", spec)
    raw = {
        tag: [(truth.path(frame), tag) for frame in truth.frames if frame.tag == tag]
        for tag in ("BIAS", "FLAT")
    }
    esorex(tmp_path / "bias", "muse_bias", raw["BIAS"])
    bias = tmp_path / "bias" / "MASTER_BIAS-01.fits"
    header = fits.getheader(bias)
    for quadrant, ron in enumerate((2.8, 2.7, 2.9, 2.75), 1):
        key = f"ESO QC BIAS MASTER{quadrant}"
        assert header[f"{key} RON"] == pytest.approx(ron, abs=0.12)
        assert header[f"{key} MEDIAN"] == pytest.approx(0.0, abs=0.1), "the overscan is the level"
    log = esorex(tmp_path / "flat", "muse_flat", [*raw["FLAT"], (bias, "MASTER_BIAS")])
    gains = [float(value) for value in re.findall(r"estimated gain ([0-9.]+)", log)]
    assert gains == pytest.approx([1.1, 1.12, 1.09, 1.11], abs=0.01)
    trace = fits.getdata(tmp_path / "flat" / "TRACE_TABLE-01.fits")
    assert len(trace) == 48
    np.testing.assert_allclose(trace["Width"], 76.0, atol=0.1)
    # The constant term is the middle of a slice at y = 0, 1-based: what the tracing is made of.
    s = np.arange(48)
    t = -2056 / 2056
    middle = 24 + 38 + 84.4 * s + 1.2 * np.sin(0.13 * s + 0.1) * t**2 + 0.6 * np.cos(0.2 * s) * t
    np.testing.assert_allclose(trace["tc0_00"], middle, atol=0.15)
