"""The filter that is most like a reference's: what headers say, and what is measured with it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.io import fits
from exposure_cubes import memory_cube
from hypothesis import given
from hypothesis import strategies as st

from musedask.alignment.filters import Filter, find_filter, known_filters
from musedask.alignment.measure import align, see
from musedask.alignment.reference import open_reference
from musedask.alignment.reference_band import BANDS, RANGE_ANGSTROM, filter_like
from musedask.errors import InputError, MusedaskWarning
from musedask.offset_text import offsets_summary
from musedask.simulation.abell478 import HST_FILE, HST_MINUS_MUSE_ARCSEC, MUSE_FILE, mpdaf_data
from musedask.sky import SkyProjection


@pytest.mark.parametrize(
    ("band", "name"),
    [
        ("F814W", "6925-9175"), ("WFPC2,1,A2D7,F814W,,CAL", "6925-9175"), ("F606W", "4800-7075"),
        ("f775w", "6950-8450"), ("F850LP", "8125-9300"), ("F090W", "8075-9300"),
        ("SDSS_r", "SDSS_r"), ("sdss_I", "SDSS_i"), ("r.SDSS", "SDSS_r"), ("HSC-I", "Cousins_I"),
        ("V_BESSEL", "Johnson_V"), ("Cousins_I", "Cousins_I"),
        # Blue, infrared, narrow and beyond, unknown, none, or no single one.
        ("F435W", "white"), ("Johnson_B", "white"), ("F160W", "white"), ("Ks", "white"),
        ("", "white"), ("white", "white"), ("F475W", "white"), ("positions", "white"),
    ],
)  # fmt: skip
def test_bands_have_the_filter_that_is_most_like_them(band, name):
    found = filter_like(band)
    assert found.name == name
    if not found.is_white:
        assert RANGE_ANGSTROM[0] <= found.wavelengths[0]
        assert found.wavelengths[-1] <= RANGE_ANGSTROM[1]


@pytest.mark.parametrize("band", sorted(BANDS))
def test_a_top_hat_has_its_bands_mean_and_width_where_muse_sees_all_of_it(band):
    found = filter_like(band)
    pivot, rms = BANDS[band]
    if found.is_white or {*found.wavelengths} & {*RANGE_ANGSTROM}:
        return
    waves = np.linspace(*found.wavelengths, 1001)
    assert waves.mean() == pytest.approx(pivot, abs=20)
    assert waves.std() == pytest.approx(rms, abs=20)
    # Whoever reads the table can give the name again.
    assert find_filter(found.name) == found


@given(st.sampled_from(sorted(known_filters())), st.floats(4000, 7000), st.floats(7001, 9500))
def test_what_is_cut_passes_what_it_passed_between_the_cuts(name, low, high):
    curve = find_filter(name)
    cut = curve.within(low, high)
    waves = np.arange(3000.0, 11000.0, 1.0)
    inside = (waves > low + 1) & (waves < high - 1)
    found = np.zeros(waves.size) if cut is None else cut.weights(waves, 1.0)
    np.testing.assert_allclose(found[inside], curve.weights(waves, 1.0)[inside], atol=1e-12)
    assert not found[(waves < low - 1) | (waves > high + 1)].any()
    assert Filter("white").within(low, high).is_white


@pytest.mark.parametrize(
    ("cards", "band"),
    [
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "F814W"),
        ({"FILTER": "F606W"}, "F606W"),
        ({"PHOTMODE": "ACS WFC1 F775W MJD#52500.0"}, "F775W"),
        ({"PHOTMODE": "ACS WFC1 F850LP"}, "F850LP"),
        ({"FILTNAM1": "F606W", "PHOTMODE": "WFPC2,1,A2D7,F814W,,CAL"}, "F606W"),
        ({"PHOTMODE": "none of these"}, ""),
        ({}, ""),
    ],
)
def test_a_reference_says_its_filter_in_one_of_many_cards(cards, band, tmp_path):
    header = fits.Header(list(SkyProjection.north_up(30.0, -30.0, 0.05, 9.5, 9.5).cards))
    header.update(cards)
    image = np.ones((20, 20), np.float32) + np.arange(20, dtype=np.float32)
    fits.writeto(tmp_path / "hst.fits", image, header)
    assert open_reference(tmp_path / "hst.fits").band == band


def test_the_filter_of_a_real_reference_is_used_and_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error", MusedaskWarning)
        found = align([mpdaf_data(MUSE_FILE)], mpdaf_data(HST_FILE), filters="reference")
    (row,) = found.offsets
    assert row.band == "6925-9175"
    assert "seen through: 1 6925-9175" in offsets_summary(found.offsets)
    (white,) = align([mpdaf_data(MUSE_FILE)], mpdaf_data(HST_FILE)).offsets
    assert white.band == "white"
    # Least squares of the two pictures in the light of the reference, by other means.
    expected = -np.array(HST_MINUS_MUSE_ARCSEC)
    away, away_in_white = (
        np.hypot(*(np.array([one.ra_offset_arcsec, one.dec_offset_arcsec]) - expected))
        for one in (row, white)
    )
    assert away < 0.03
    assert away < away_in_white
    assert row.correlation_after > white.correlation_after
    assert row.signal_to_noise > white.signal_to_noise


def test_a_filter_that_is_named_wins_and_nothing_like_it_is_white(tmp_path):
    flux = np.random.default_rng(1).normal(5, 1, (40, 12, 14)).astype(np.float32)
    cube = memory_cube(flux, np.ones_like(flux), first=7000.0)
    assert see(cube, ("7000-7020",)).image.band == "7000-7020"
    with pytest.raises(InputError, match="there is no reference whose filter"):
        align([cube], filters="reference")
    (tmp_path / "radec.txt").write_text("30.1 -60.0\n30.1002 -60.0002\n")
    with pytest.warns(MusedaskWarning, match="radec: it names no filter, so white"):
        (row,) = align(
            [cube], tmp_path / "radec.txt", filters="reference", relative=False
        ).offsets  # fmt: skip
    assert row.band == "white"
