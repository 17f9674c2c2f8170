"""Clipping: good values stay, hits go, stars keep their flux in exposures of any seeing."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from clipping_reference import kept_by_clipping
from exposure_cubes import grid_of, memory_cube, tan_cards
from star_exposures import PIXEL_ARCSEC, centred, star_cubes, star_grid, star_image

from musedask.stacking import Clipping, stack

pytestmark = pytest.mark.slow

NUMBERS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 24, 48)
SEEINGS = {
    "even": lambda n, rng: np.linspace(0.5, 1.2, n),
    "random": lambda n, rng: rng.uniform(0.5, 1.2, n),
    "one bad": lambda n, rng: np.array([0.5] * (n - 1) + [1.2]),
    "one sharp": lambda n, rng: np.array([1.2] * (n - 1) + [0.5]),
    "a third bad": lambda n, rng: np.array([0.5] * (n - n // 3) + [1.2] * (n // 3)),
}
PEAKS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Peak of the star in an exposure of 0.85 arcsec, units of the noise of a voxel."""


def clipped_and_mean(cubes: list[xr.Dataset], size: int, **rule: float) -> tuple[Any, Any]:
    """Both statistics of a stack on the frame of the star."""
    found = stack(
        cubes, None, star_grid(size, cubes[0].sizes["wavelength"]), methods=("clipped", "mean"),
        weights="equal", clipping=Clipping(**rule),  # type: ignore[arg-type]
    )  # fmt: skip
    return dask.compute(found["clipped"], found["mean"])


def noise_cubes(n: int, rng: np.random.Generator, shape: tuple[int, int, int]) -> Any:
    """Blank exposures whose errors spread by a factor of 2, and their arrays."""
    sigma = 2.0 ** rng.permutation(np.linspace(0.0, 1.0, n)).astype(np.float32)
    flux = rng.normal(size=(n, *shape)).astype(np.float32) * sigma[:, None, None, None]
    variance = np.broadcast_to(sigma[:, None, None, None] ** 2, flux.shape)
    return flux, np.ascontiguousarray(variance)


def clipped_of(flux: Any, variance: Any, **rule: float) -> xr.Dataset:
    """The clipped mean of aligned exposures."""
    cubes = [memory_cube(f, v, n) for n, (f, v) in enumerate(zip(flux, variance, strict=True))]
    found = stack(
        cubes, None, grid_of(tan_cards(), flux.shape[1:]), methods=("clipped",),
        weights="equal", clipping=Clipping(**rule),  # type: ignore[arg-type]
    )  # fmt: skip
    return found["clipped"].compute()


class TestGoodValues:
    @pytest.mark.parametrize("n", NUMBERS)
    def test_stay_at_every_number_of_exposures(self, n, campaign):
        shape = (campaign(2, 16), 64, 64)
        found = clipped_of(*noise_cubes(n, np.random.default_rng(n), shape))
        assert 1.0 - found["n_exposures"].values.mean() / n < 1e-4

    @pytest.mark.parametrize("n", [3, 8, 12])
    def test_stay_where_noise_is_correlated_by_interpolation(self, n, campaign):
        rng = np.random.default_rng(n)
        channels = campaign(2, 16)
        cubes, _ = star_cubes(np.full(n, 0.8), np.zeros(channels), rng, size=64)
        clipped, mean = clipped_and_mean(cubes, 64)
        assert 1.0 - clipped["n_exposures"].values.sum() / mean["n_exposures"].values.sum() < 1e-4

    @pytest.mark.parametrize("n", [3, 8])
    def test_go_with_a_mad_that_has_too_few_of_them(self, n):
        """What the floor of eight values is for: this test can fail."""
        flux, variance = noise_cubes(n, np.random.default_rng(n), (2, 64, 64))
        found = clipped_of(flux, variance * 1e-6, peak=0, wing=0, fraction=0, fewest_for_mad=3)
        assert 1.0 - found["n_exposures"].values.mean() / n > 0.005


class TestHits:
    @pytest.mark.parametrize("n", NUMBERS)
    @pytest.mark.parametrize(("sigmas", "share"), [(10.0, 0.92), (15.0, 0.985), (100.0, 0.999)])
    def test_go_from_blank_sky(self, n, sigmas, share, campaign):
        flux, hit = with_hits(n, sigmas, campaign(2, 10))
        alone = hit & (hit.sum(axis=0) == 1)
        found = clipped_of(flux, np.ones_like(flux))
        lost = n - found["n_exposures"].values.astype(int)
        at = alone.any(axis=0)
        # Two values share the noise of both: their width is 1.4 times that of one.
        assert (lost[at] == 1).mean() >= (0.8 if (n, sigmas) == (2, 10.0) else share)
        assert (lost[hit.sum(axis=0) == 0] > 0).mean() < 1e-3

    @pytest.mark.parametrize("n", [2, 3, 12])
    def test_leave_a_mean_of_the_others(self, n):
        flux, hit = with_hits(n, 200.0, 2)
        found = clipped_of(flux, np.ones_like(flux))
        once = hit.sum(axis=0) == 1
        others = np.where(hit, np.nan, flux)[:, once]
        np.testing.assert_allclose(
            found["flux"].values[once], np.nanmean(others, axis=0), rtol=1e-5, atol=1e-5
        )
        assert np.isfinite(found["flux"].values).all()

    @pytest.mark.parametrize("n", [3, 12])
    def test_go_from_dithered_exposures(self, n):
        """A hit spreads over four voxels: what is below the width stays, hardly any flux."""
        rng = np.random.default_rng(n)
        cubes, _ = star_cubes(np.full(n, 0.8), np.zeros(2), rng, size=64)
        added = []
        for cube in cubes:
            hit = rng.random(cube["flux"].shape) < 0.003
            hit[:, :4] = hit[:, -4:] = hit[:, :, :4] = hit[:, :, -4:] = False
            cube["flux"].values[hit] += 300.0
            added.append(300.0 * hit.sum())
        clipped, mean = clipped_and_mean(cubes, 64)
        assert mean["flux"].values.sum() > 0.9 * np.sum(added) / n
        assert abs(np.nansum(clipped["flux"].values)) < 0.02 * np.sum(added) / n

    def test_go_from_a_smooth_level(self):
        """A level has no structure; only ``fraction`` of it is allowed for."""
        flux, hit = with_hits(6, 40.0, 2)
        for level, share in ((0.0, 0.999), (100.0, 0.95)):
            found = clipped_of(flux + np.float32(level), np.ones_like(flux))
            lost = 6 - found["n_exposures"].values.astype(int)
            assert (lost[hit.sum(axis=0) == 1] == 1).mean() >= share

    def test_go_from_stars_if_they_are_brighter(self):
        rng = np.random.default_rng(3)
        peak = star_image(61, 30.0, 30.0, 0.85).max()
        cubes, _ = star_cubes(np.linspace(0.5, 1.2, 6), np.full(20, 30.0 / peak), rng)
        for cube in cubes[:1]:
            cube["flux"].values[:, 30, 30] += 1000.0
        clipped, mean = clipped_and_mean(cubes, 61)
        assert np.nanmax(mean["flux"].values) > 100.0
        assert np.nanmax(clipped["flux"].values) < 70.0


def with_hits(n: int, sigmas: float, channels: int) -> tuple[Any, Any]:
    """Blank exposures of unit noise with 0.3 % of the voxels hit, and where."""
    rng = np.random.default_rng(n)
    flux = rng.normal(size=(n, channels, 64, 64)).astype(np.float32)
    hit = rng.random(flux.shape) < 0.003
    flux[hit] += np.float32(sigmas)
    return flux, hit


def flux_lost(n: int, seeing: str, beta: float | None, repeats: int, **rule: float) -> Any:
    """Clipped over mean, minus 1: (peak, aperture of 1 and 2 arcsec and all)."""
    size = 61
    rng = np.random.default_rng(n)
    unit = star_image(size, size // 2, size // 2, 0.85, beta).max()
    fluxes = np.repeat(PEAKS, 4) / unit
    y, x = np.mgrid[:size, :size] - size // 2
    radius = np.hypot(x, y) * PIXEL_ARCSEC
    apertures = [radius <= 1.0, radius <= 2.0, radius < 5.4]
    differences = np.zeros((len(PEAKS), 3))
    totals = np.zeros((len(PEAKS), 3))
    for _ in range(repeats):
        cubes, stars = star_cubes(SEEINGS[seeing](n, rng), fluxes, rng, beta=beta)
        clipped, mean = clipped_and_mean(cubes, size, **rule)
        difference = clipped["flux"].values - mean["flux"].values
        for i, inside in enumerate(apertures):
            by_peak = difference[:, inside].sum(axis=1).reshape(len(PEAKS), 4)
            differences[:, i] += by_peak.mean(axis=1)
            totals[:, i] += np.array(PEAKS) / unit * stars[:, inside].sum(axis=1).mean()
    return differences / totals


@pytest.mark.parametrize("beta", [None, 2.5], ids=["gaussian", "moffat"])
class TestStars:
    @pytest.mark.parametrize("seeing", SEEINGS)
    @pytest.mark.parametrize("n", [3, 4, 7, 12, 24])
    def test_keep_their_flux_to_half_a_percent(self, n, seeing, beta, campaign):
        lost = flux_lost(n, seeing, beta, campaign(2, 12))
        assert np.abs(lost).max() < 0.005, np.round(100 * lost, 2)

    def test_lose_it_to_a_clipping_of_one_voxel_at_a_time(self, beta):
        """What the image of medians is for: this test can fail."""
        lost = flux_lost(3, "one sharp", beta, 1, peak=0.0, wing=0.0, fraction=1.0)
        assert lost.min() < -0.1
        lost = flux_lost(3, "one bad", beta, 1, peak=0.0, wing=0.0, fraction=4.0)
        assert lost.min() < -0.03


def test_stars_keep_their_flux_under_the_noise_of_their_own_photons():
    """The variance rises with the star, as in STAT."""
    rng = np.random.default_rng(1)
    cubes, stars = star_cubes([0.5, 0.8, 1.2, 0.6], np.full(4, 3e4), rng)
    for cube, star in zip(cubes, stars, strict=True):
        extra = 3e4 * star
        cube["flux"].values[:] += rng.normal(size=cube["flux"].shape) * np.sqrt(extra)
        cube["variance"].values[:] += extra.astype(np.float32)
    clipped, mean = clipped_and_mean(cubes, 61)
    difference = np.nansum(clipped["flux"].values - mean["flux"].values) / 4
    assert abs(difference) < 0.005 * 3e4


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 9])
def test_the_rule_is_that_of_its_docstring(n):
    """Count by count against plain numpy, with stars, hits and holes."""
    rng = np.random.default_rng(n)
    shape = (2, 37, 43)
    flux = rng.normal(40.0, 1.0, (n, *shape))  # a level, so that what is missing is not like sky
    for i in range(n):
        star = star_image(81, 40.0, 40.0, rng.uniform(0.5, 1.2))
        for y, x in ((0, 0), (5, 17), (20, 18), (30, 9)):
            flux[i] += 2e3 * (y + 1) * star[y : y + 37, x : x + 43]
    flux[rng.random(flux.shape) < 0.02] += 50.0
    flux[rng.random(flux.shape) < 0.1] = np.nan
    flux[:, :, 8:14, 30:36] = np.nan
    flux = flux.astype(np.float32)
    variance = rng.uniform(0.5, 2.0, flux.shape).astype(np.float32)
    variance[np.isnan(flux)] = np.nan
    found = clipped_of(flux, variance)
    for z in range(shape[0]):
        kept = kept_by_clipping(flux[:, z].astype(float), variance[:, z].astype(float))
        np.testing.assert_array_equal(found["n_exposures"].values[z], kept.sum(axis=0))
    assert n == 1 or (found["n_exposures"].values < np.isfinite(flux).sum(axis=0)).sum() > 10


def test_a_level_added_to_all_exposures_changes_nothing_but_the_level():
    flux, variance = noise_cubes(5, np.random.default_rng(0), (2, 40, 40))
    flux[2, 0, 20, 20] += 30.0
    plain = clipped_of(flux, variance, fraction=0.0)
    raised = clipped_of(flux + np.float32(512.0), variance, fraction=0.0)
    np.testing.assert_array_equal(plain["n_exposures"].values, raised["n_exposures"].values)
    np.testing.assert_allclose(raised["flux"].values - 512.0, plain["flux"].values, atol=2e-4)


def test_a_mosaic_edge_is_no_structure():
    """Where fields end the image of medians ends: no value beyond stands for it."""
    rng = np.random.default_rng(2)
    flux = rng.normal(size=(5, 2, 40, 40)).astype(np.float32)
    flux[:3, :, :, 20:] = np.nan
    flux[0, :, :, 10] += 60.0
    flux[3, :, :, 30] += 60.0
    found = clipped_of(flux, np.ones_like(flux))
    assert (found["n_exposures"].values[:, :, 10] == 4).all()
    assert (found["n_exposures"].values[:, :, 30] == 1).all()


def test_centred_cards_put_the_star_in_the_middle():
    grid = star_grid(61, 1)
    x, y = grid.sky.to_pixel(30.1, -60.0)
    np.testing.assert_allclose([x, y], [30.0, 30.0], atol=1e-6)
    assert centred(61, 0.25, 0.5)["CRPIX1"] == 31.25
