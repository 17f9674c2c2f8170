"""The variance that a stack states, against the scatter of many voxels (Monte Carlo)."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from exposure_cubes import grid_of, memory_cube, tan_cards

from musedask.stacking import stack
from musedask.stacking.statistics import median_variance_factors

pytestmark = pytest.mark.slow

NUMBERS = (*range(2, 13), 24, 48)
METHODS = ("median", "mean", "clipped")
SIDE = 64
TOLERANCE = 0.05
"""Of the variance, as the docstrings promise it."""


ERRORS = {
    "even": lambda n: np.linspace(1.0, 2.0, n),
    "halves": lambda n: np.where(np.arange(n) < n / 2, 1.0, 2.0),
    "one good": lambda n: np.where(np.arange(n) < 1, 1.0, 2.0),
    "one bad": lambda n: np.where(np.arange(n) < 1, 2.0, 1.0),
}
"""Sigma of each of n exposures."""


def spread_errors(kind: str, n: int, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Sigmas between 1 and 2, float32 (exposure, wavelength, y, x)."""
    if kind == "voxels":
        return rng.uniform(1.0, 2.0, (n, *shape)).astype(np.float32)
    sigma = ERRORS[kind](n)[:, None, None, None].astype(np.float32)
    return np.broadcast_to(sigma, (n, *shape))


def computed(
    n: int, sigma: Any, rng: np.random.Generator, weights: Any, scales: Any = None
) -> tuple[xr.Dataset, ...]:
    """Stacks of aligned blank exposures with this noise."""
    cubes = []
    for i in range(n):
        flux = (rng.normal(size=sigma.shape[1:]) * sigma[i]).astype(np.float32)
        cubes.append(memory_cube(flux, sigma[i] ** 2, i, exptime=300.0 * (1 + i % 3)))
    found = stack(
        cubes, None, grid_of(tan_cards(), sigma.shape[1:]), methods=METHODS, weights=weights
    )
    result: tuple[xr.Dataset, ...] = dask.compute(*(found[method] for method in METHODS))
    return result


def scatter_over_variance(cube: xr.Dataset) -> float:
    """Mean square of flux over its stated standard deviation: 1 if the statement is true."""
    flux, variance = (cube[key].values.astype(float) for key in ("flux", "variance"))
    assert np.isfinite(flux).all()
    return float(np.mean(flux**2 / variance))


@pytest.mark.parametrize("n", NUMBERS)
@pytest.mark.parametrize("kind", [*ERRORS, "voxels"])
def test_is_the_scatter_to_5_percent(n, kind, campaign):
    shape = (campaign(16, 120), SIDE, SIDE)  # 0.55 % of statistical error, in full 0.2 %
    rng = np.random.default_rng(100 * n + len(kind))
    sigma = spread_errors(kind, n, shape, rng)
    for method, cube in zip(METHODS, computed(n, sigma, rng, "equal"), strict=True):
        assert abs(scatter_over_variance(cube) - 1.0) < TOLERANCE, method


@pytest.mark.parametrize("weights", ["exptime", "noise"])
def test_is_the_scatter_with_weights(weights, campaign):
    shape = (campaign(8, 80), SIDE, SIDE)
    for n in (3, 8):
        rng = np.random.default_rng(n)
        sigma = spread_errors("even", n, shape, rng)
        for method, cube in zip(METHODS, computed(n, sigma, rng, weights), strict=True):
            assert abs(scatter_over_variance(cube) - 1.0) < TOLERANCE, method


@pytest.mark.parametrize("n", NUMBERS)
def test_the_median_of_equal_errors_is_right_to_the_noise_of_the_test(n, campaign):
    shape = (campaign(12, 120), SIDE, SIDE)
    rng = np.random.default_rng(n)
    sigma = np.ones((n, *shape), np.float32)
    median, mean, _ = computed(n, sigma, rng, "equal")
    error = 4.0 * np.sqrt(2.0 / np.prod(shape))
    assert abs(scatter_over_variance(median) - 1.0) < error
    assert abs(scatter_over_variance(mean) - 1.0) < error
    ratio = median["variance"].values.mean() / mean["variance"].values.mean()
    np.testing.assert_allclose(ratio, median_variance_factors(n)[n], rtol=1e-5)


@pytest.mark.parametrize("n", [3, 6, 12])
def test_of_the_clipped_mean_is_that_of_the_values_that_are_left(n):
    """Hits are out of the flux and of the variance: what is left scatters as stated."""
    rng = np.random.default_rng(n)
    flux = rng.normal(size=(n, 8, SIDE, SIDE)).astype(np.float32)
    flux[rng.random(flux.shape) < 0.01] += 100.0
    cubes = [memory_cube(f, np.ones_like(f), i) for i, f in enumerate(flux)]
    grid = grid_of(tan_cards(), flux.shape[1:])
    found = stack(cubes, None, grid, methods=("clipped", "mean"), weights="equal")
    clipped, mean = dask.compute(found["clipped"], found["mean"])
    # Voxels with more than one hit among three are not repaired by any statistic.
    good = (flux > 50).sum(axis=0) < (n + 1) // 2
    ratio = (clipped["flux"].values ** 2 / clipped["variance"].values)[good]
    assert abs(ratio.mean() - 1.0) < TOLERANCE
    assert scatter_over_variance(mean) > 2.0


def test_a_wrong_variance_is_noticed():
    """The mean's variance beside a median, as seen in the field, is 20 to 50 % off."""
    rng = np.random.default_rng(0)
    sigma = np.ones((5, 8, SIDE, SIDE), np.float32)
    median, mean, _ = computed(5, sigma, rng, "equal")
    mixed = xr.Dataset({"flux": median["flux"], "variance": mean["variance"]})
    assert scatter_over_variance(mixed) > 1.0 + 5 * TOLERANCE
