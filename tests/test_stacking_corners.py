"""Fields that fill a part of their frame, as those do that the pipeline has turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exposure_cubes import file_cube, grid_of, noise, tan_cards

from musedask import stack

FRAME = (2, 70, 190)
GRID = (2, 76, 200)
N = 5
SHIFTS = {
    "whole pixels": [(0, 0), (2, 1), (-1, 3), (0, -2), (1, 1)],
    "parts of pixels": [(0.25, 0.5), (2.125, 1.5), (-1.25, 3.75), (0.5, -2.5), (1.0, 0.375)],
}
METHODS = ("median", "mean", "median_odd")


def field(n: int) -> np.ndarray:
    """A diamond of exposure n, bool (y, x); the first rows of the frame are empty."""
    y, x = np.mgrid[: FRAME[1], : FRAME[2]]
    return abs(y - 42) + abs(x - 70 - 12 * n) < 28 + n


def exposures() -> list[tuple[np.ndarray, np.ndarray]]:
    made = []
    for n in range(N):
        flux, variance = noise(FRAME, n)
        flux[:, ~field(n)] = np.nan
        flux[0, 40, 65:75] = np.nan
        flux[1, 38:46] = np.nan if n == 2 else flux[1, 38:46]
        made.append((flux, variance))
    return made


def moved(values: np.ndarray, shift: tuple[float, float], power: int) -> np.ndarray:
    """Values on the grid, each pixel the sum of four of the frame by their overlap to a power."""
    dy, dx = shift
    out = np.zeros((FRAME[0], *GRID[1:]))
    iy, ix = int(np.floor(dy)), int(np.floor(dx))
    for sy, wy in ((0, 1 - (dy - iy)), (1, dy - iy)):
        for sx, wx in ((0, 1 - (dx - ix)), (1, dx - ix)):
            y, x = 3 + iy + sy, 4 + ix + sx
            out[:, y : y + FRAME[1], x : x + FRAME[2]] += (wy * wx) ** power * values
    return out


def reference(shifts: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Flux and variance of each exposure on the grid, float64, NaN where less than half is."""
    fluxes, variances = [], []
    for (flux, variance), shift in zip(exposures(), shifts, strict=True):
        good = np.isfinite(flux)
        share = moved(good.astype(float), shift, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            f = moved(np.where(good, flux, 0), shift, 1) / share
            v = moved(np.where(good, variance, 0), shift, 2) / share**2
        fluxes.append(np.where(share >= 0.5 - 1e-5, f, np.nan))
        variances.append(np.where(share >= 0.5 - 1e-5, v, np.nan))
    return np.array(fluxes), np.array(variances)


@pytest.mark.filterwarnings("ignore:All-NaN slice", "ignore:Mean of empty slice")
@pytest.mark.parametrize("kind", SHIFTS)
def test_corners_without_values_are_left_empty_and_the_field_is_whole(
    kind: str, tmp_path: Path
) -> None:
    cubes = [
        file_cube(
            tmp_path, flux, variance, n,
            cards=tan_cards(dec=0.0, x=20.0 - SHIFTS[kind][n][1], y=20.0 - SHIFTS[kind][n][0]),
        )
        for n, (flux, variance) in enumerate(exposures())
    ]  # fmt: skip
    grid = grid_of(tan_cards(dec=0.0, x=24.0, y=23.0), GRID)
    found = stack(cubes, None, grid, methods=METHODS, flux_per="spaxel")
    flux, variance = reference(SHIFTS[kind])
    number = np.isfinite(flux).sum(axis=0)
    assert (number.max(axis=(0, 2)) == 0).any()  # rows without anything
    assert 0.2 < (number > 0).mean() < 0.5

    median, mean, odd = (found[method].compute() for method in METHODS)
    for cube, count in (
        (median, number),
        (mean, number),
        (odd, np.isfinite(flux[::2]).sum(axis=0)),
    ):
        np.testing.assert_array_equal(cube["n_exposures"].values, count)
        np.testing.assert_allclose(cube["exposure_time"].values, 900.0 * count)
        np.testing.assert_array_equal(np.isnan(cube["variance"].values), count == 0)
    close = {"rtol": 2e-5, "atol": 2e-4}
    np.testing.assert_allclose(median["flux"].values, np.nanmedian(flux, axis=0), **close)
    np.testing.assert_allclose(odd["flux"].values, np.nanmedian(flux[::2], axis=0), **close)
    np.testing.assert_allclose(mean["flux"].values, np.nanmean(flux, axis=0), **close)
    some = number > 0
    np.testing.assert_allclose(
        mean["variance"].values[some], np.nansum(variance, axis=0)[some] / number[some] ** 2,
        rtol=1e-4,
    )  # fmt: skip
