"""The reference that results are held to, held to known skies, to geometry and to reproject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from reproject import reproject_exact

from benchmarks import reference as ref
from benchmarks.exposures import axis_cards
from benchmarks.jobs import Comparison, compare_values, worst_of

SHAPE = (2, 24, 26)


def header(crpix: tuple[float, float], turn_deg: float = 0.0) -> fits.Header:
    made = fits.Header(axis_cards(crpix, turn_deg))
    made["NAXIS"] = 3
    for axis, size in zip((3, 2, 1), SHAPE, strict=True):
        made[f"NAXIS{axis}"] = size
    return made


def exposure(folder: Path, flux: Any, variance: Any, crpix: Any, turn_deg: float = 0.0) -> Path:
    path = folder / f"{crpix[0]}_{crpix[1]}_{turn_deg}.fits"
    cards = fits.Header(axis_cards(crpix, turn_deg))
    images = [fits.ImageHDU(a, cards, name=n) for a, n in ((flux, "DATA"), (variance, "STAT"))]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path


def noise(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 10, SHAPE).astype("f4"), rng.uniform(50, 90, SHAPE).astype("f4")


TARGET = ref.celestial(header((13.0, 12.0)))
WINDOW = ref.Window(1, 7, 8, 6, 9)


@pytest.mark.parametrize("kernel", ["exact", "bilinear", "lanczos3"])
def test_a_shift_by_whole_pixels_copies(kernel, tmp_path):
    flux, variance = noise()
    path = exposure(tmp_path, flux, variance, (15.0, 11.0))
    found = ref.resampled([path], TARGET, WINDOW, kernel)
    moved = (slice(7 - 1, 13 - 1), slice(8 + 2, 17 + 2))  # frame pixel = grid pixel + (2, -1)
    np.testing.assert_allclose(found.flux[0], flux[1][moved], atol=1e-6)
    np.testing.assert_allclose(found.variance[0], variance[1][moved], rtol=1e-6)
    np.testing.assert_allclose(found.share, 1.0, atol=1e-9)


@pytest.mark.parametrize("kernel", ["exact", "bilinear"])
def test_a_shift_by_fractions_takes_four_pixels(kernel, tmp_path):
    flux, variance = noise()
    path = exposure(tmp_path, flux, variance, (13.25, 12.5))
    found = ref.resampled([path], TARGET, WINDOW, kernel)
    f, v = (a[1].astype(float) for a in (flux, variance))
    here, right = (slice(7, 13), slice(8, 17)), (slice(7, 13), slice(9, 18))
    up, both = (slice(8, 14), slice(8, 17)), (slice(8, 14), slice(9, 18))
    weights = [(0.375, here), (0.125, right), (0.375, up), (0.125, both)]
    np.testing.assert_allclose(found.flux[0], sum(w * f[at] for w, at in weights), atol=1e-5)
    np.testing.assert_allclose(found.variance[0], sum(w**2 * v[at] for w, at in weights), rtol=1e-6)


@pytest.mark.parametrize("kernel", ["exact", "bilinear", "lanczos3"])
@given(turn=st.floats(0, 360), x=st.floats(12.5, 14.5), y=st.floats(11, 13))
def test_a_constant_sky_stays_in_any_geometry(kernel, turn, x, y, tmp_path_factory):
    folder = tmp_path_factory.mktemp("constant")
    ones = np.ones(SHAPE, "f4")
    path = exposure(folder, 7 * ones, ones, (x, y), turn)
    found = ref.resampled([path], TARGET, ref.Window(0, 10, 11, 3, 3), kernel)
    np.testing.assert_allclose(found.flux, 7.0, rtol=1e-9)
    np.testing.assert_allclose(found.share, 1.0, atol=1e-9)
    assert found.whole.all()


def test_areas_are_those_of_reproject(tmp_path):
    flux, variance = noise()
    path = exposure(tmp_path, flux, variance, (13.3, 12.6), 37.0)
    found = ref.resampled([path], TARGET, WINDOW, "exact")
    source = ref.celestial(fits.getheader(path, "DATA"))
    wanted, _ = reproject_exact((flux[1].astype(float), source), TARGET, shape_out=SHAPE[1:])
    np.testing.assert_allclose(found.flux[0], wanted[WINDOW.slices], atol=2e-3)


def test_a_missing_pixel_takes_its_weight_along(tmp_path):
    flux, variance = noise()
    flux[1, 9, 12] = np.nan
    path = exposure(tmp_path, flux, variance, (13.25, 12.0))
    found = ref.resampled([path], TARGET, WINDOW, "bilinear")
    row, left, right = 9 - 7, 11 - 8, 12 - 8  # pixels 11 and 12 of the grid take a part of it
    np.testing.assert_allclose(found.share[0, row, [left, right]], [0.75, 0.25], atol=1e-6)
    assert np.isclose(found.flux[0, row, left], flux[1, 9, 11], rtol=1e-5)
    assert np.isclose(found.variance[0, row, left], variance[1, 9, 11], rtol=1e-5)
    kept = found.kept()
    assert np.isfinite(kept[0, row, left])
    assert np.isnan(kept[0, row, right])
    assert not found.whole[0, row, left]
    assert (~found.whole).sum() == 4  # two rows touch it, one of them with the weight 0
    compared = found.wanted(ref.median(kept), ref.WHERE_WHOLE)
    assert np.isnan(compared).sum() == 4
    assert np.isnan(found.wanted(ref.median(kept), ref.EVERYWHERE)).sum() == 1


def test_pixels_beyond_the_frame_have_no_share(tmp_path):
    flux, variance = noise()
    path = exposure(tmp_path, flux, variance, (40.0, 12.0))  # 27 columns to the left
    found = ref.resampled([path], TARGET, ref.Window(0, 0, 0, 4, 4), "bilinear")
    assert (found.share == 0).all()
    assert np.isnan(found.kept()).all()


def test_the_clipped_mean_is_what_one_gets_by_hand():
    values = np.array([1.0, 2.0, 3.0, 4.0, 1000.0, np.nan])[:, None, None]
    # median 3, MAD 1, sigma 1.4826: 1000 goes, then median 2.5, MAD 1: nothing goes.
    assert ref.mad_clipped_mean(values).item() == 2.5
    assert ref.mad_clipped_mean(values, nclip=1e6).item() == 202.0
    alike = np.array([5.0, 5.0, 5.0, 9.0])[:, None, None]
    # Without scatter nothing lies strictly inside, and fewer than two would be left: all stay.
    assert ref.mad_clipped_mean(alike).item() == 6.0


@pytest.mark.parametrize("n_channels", [1, 2, 3, 40])
def test_windows_lie_on_the_grid_in_all_parts_of_it(n_channels):
    for shape in ((10, 12), (40, 50), (344, 344)):
        found = ref.windows(n_channels, shape)
        assert {w.channel for w in found} == {0, n_channels // 2, n_channels - 1}
        for w in found:
            assert w.y >= 0
            assert w.y + w.ny <= shape[0]
            assert w.x >= 0
            assert w.x + w.nx <= shape[1]


class TestComparisons:
    wanted = np.array([1.0, 100.0, np.nan])

    def test_differences_count_in_units_of_what_is_allowed(self):
        off = np.array([0.1, 0.2, 5.0])
        found = compare_values(self.wanted + off, self.wanted, rtol=0.001, atol=0.1,
                               against="x")  # fmt: skip
        assert found.n_values == 2
        assert np.isclose(found.largest, 1.0, rtol=0.02)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_value_that_is_missing_is_wrong(self, bad):
        found = np.array([1.0, bad, 3.0])
        assert not compare_values(found, self.wanted, rtol=1, atol=1, against="x").is_right

    def test_nothing_compared_is_not_right(self):
        nothing = compare_values(np.array([1.0]), np.array([np.nan]), rtol=1, atol=1, against="x")
        good = compare_values(np.array([1.0]), np.array([1.0]), rtol=1, atol=1, against="x")
        assert good.is_right
        assert not nothing.is_right
        assert not Comparison(0, 0.0, "anything", "nothing").is_right
        assert not worst_of(good, nothing).is_right
        assert worst_of(good, good).n_values == 2
