"""Aligned cubes stack as mpdaf combines them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exposure_cubes import file_cube, tan_cards
from mpdaf.obj import CubeList

from musedask.grid import CubeGrid
from musedask.stacking import MpdafClipping, stack

# The pipeline's BUNIT has several slashes, which astropy discourages; mpdaf reads it rightly.
pytestmark = pytest.mark.filterwarnings("ignore:.*multiple slashes")

SHAPE = (5, 9, 11)


def exposures(folder: Path, n: int) -> list[Any]:
    """Aligned cubes with holes of their own, spaxels that none has, and hits."""
    rng = np.random.default_rng(n)
    level = rng.normal(20.0, 30.0, SHAPE)
    cubes = []
    for i in range(n):
        sigma = rng.uniform(4.0, 12.0, SHAPE)
        flux = rng.normal(level, sigma).astype(np.float32)
        hits = rng.random(SHAPE) < 0.06
        flux[hits] += rng.choice([-400.0, 900.0], hits.sum()).astype(np.float32)
        flux[rng.random(SHAPE) < 0.25] = np.nan
        flux[:, 3, 4:6] = np.nan
        if i:
            flux[:, 6, 2:9] = np.nan
        cubes.append(
            file_cube(folder, flux, (sigma**2).astype(np.float32), i, cards=tan_cards(dec=12.0))
        )
    return cubes


def oracle(cubes: list[Any]) -> CubeList:
    logging.getLogger("mpdaf").setLevel(logging.ERROR)
    return CubeList([cube.attrs["path"] for cube in cubes])


def check(found: Any, cube: Any, number: Any, variance: bool) -> None:
    found = found.compute()
    np.testing.assert_array_equal(found["n_exposures"].values, number.data.filled(0))
    wanted = np.ma.filled(cube.data.astype(float), np.nan)
    np.testing.assert_allclose(found["flux"].values, wanted, rtol=1e-6, atol=1e-5)
    if variance:
        wanted = np.ma.filled(cube.var.astype(float), np.nan)
        np.testing.assert_allclose(found["variance"].values, wanted, rtol=1e-6)


@pytest.mark.parametrize("n", range(1, 14))
def test_the_median_is_mpdafs(n: int, tmp_path: Path) -> None:
    cubes = exposures(tmp_path, n)
    cube, number, _ = oracle(cubes).median()
    found = stack(cubes, None, CubeGrid.from_cube(cubes[0]), methods=("median",))
    check(found["median"], cube, number, variance=False)


@pytest.mark.parametrize("mad", [True, False])
@pytest.mark.parametrize(
    ("n", "nmax", "nclip", "nstop"),
    [
        (1, 2, 5.0, 2),
        (2, 2, 3.0, 1),
        (3, 2, 5.0, 2),
        (4, 1, 2.0, 3),
        (5, 4, 1.5, 2),
        (8, 2, (2.0, 3.5), 2),
        (9, 3, (1.5, 1.5), 5),
        (11, 20, 2.0, 2),
        (12, 0, 5.0, 2),
        (13, 2, 5.0, 2),
    ],
)
def test_the_clipping_of_mpdaf_is_mpdafs(
    n: int, nmax: int, nclip: Any, nstop: int, mad: bool, tmp_path: Path
) -> None:
    cubes = exposures(tmp_path, n)
    limits = nclip if isinstance(nclip, tuple) else (nclip, nclip)
    for var in ("propagate", "stat_mean", "stat_one"):
        cube, number, _ = oracle(cubes).combine(
            nmax=nmax, nclip=nclip, nstop=nstop, var=var, mad=mad
        )
        found = stack(
            cubes,
            None,
            CubeGrid.from_cube(cubes[0]),
            methods=("clipped_mpdaf",),
            mpdaf_clipping=MpdafClipping(nmax, limits, nstop, mad, var),
        )
        check(found["clipped_mpdaf"], cube, number, variance=True)


def test_the_clipping_that_is_compared_clips(tmp_path: Path) -> None:
    cubes = exposures(tmp_path, 13)
    _, number, _ = oracle(cubes).combine(mad=True)
    _, all_of_them, _ = oracle(cubes).median()
    assert (number.data < all_of_them.data).sum() > 100
