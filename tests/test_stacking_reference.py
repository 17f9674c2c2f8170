"""Stacks against a plain float64 reference, and against reproject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import stacking_reference as ref
from exposure_cubes import date, file_cube, grid_of, noise, tan_cards

from musedask.offsets import Offset, OffsetTable
from musedask.stacking import stack

GRID_SHAPE = (4, 20, 23)
SHAPE = (4, 17, 19)
METHODS = ("median", "mean", "clipped", "clipped_mpdaf")
RESAMPLINGS = ("exact", "bilinear", "nearest", "lanczos3")
DEC = -60.0
AMBIGUOUS = 3e-3
"""Voxels of which an exposure's valid weight is this near to one half may go either way."""


def damaged(n: int) -> tuple[Any, Any, Any]:
    """Flux, variance and quality with all kinds of missing voxels, and hits."""
    rng = np.random.default_rng(100 + n)
    flux, variance = noise(SHAPE, n)
    quality = np.zeros(SHAPE, np.int32)
    flux[:, 4 + n, 5:8] = np.nan
    flux[2, 9:12, 3] = np.inf
    for value in (0.0, -3.0, np.nan, np.inf):
        z, y, x = (rng.integers(0, size, 6) for size in SHAPE)
        variance[z, y, x] = value
    z, y, x = (rng.integers(0, size, 8) for size in SHAPE)
    quality[z, y, x] = rng.choice([1, 2, 4096, -(2**31)], 8)
    z, y, x = (rng.integers(0, size, 10) for size in SHAPE)
    flux[z, y, x] += 600.0
    flux[:, 10:13, 10:13] += 200.0
    return flux, variance, quality


def scene(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Cards of the grid and of the exposures as they truly lie."""
    turns = {
        "shifted": [0.0] * 5,
        "turned": [30.0, -45.0, 90.0, 0.0, 203.0],
        "turned a little": [0.01, -0.04, 0.2, -0.5, 0.9],
        "scaled": [0.0, 0.0, 12.0, 0.0, 0.0],
    }[name]
    sizes = {"scaled": [0.21, 0.25, 0.4, 0.1998, 0.3]}.get(name, [0.2] * 5)
    grid = tan_cards(dec=DEC, x=11.0, y=9.6, pixel_arcsec=0.3 if name == "scaled" else 0.2)
    places = [(9.0, 7.6), (8.37, 7.81), (9.63, 8.24), (8.9, 9.45), (10.2, 7.13)]
    frames = [
        tan_cards(dec=DEC, x=x, y=y, turn_deg=turn, pixel_arcsec=size, mirrored=turn == 203.0)
        for (x, y), turn, size in zip(places, turns, sizes, strict=True)
    ]
    return grid, frames


OFFSETS = [(0.0, 0.0), (0.31, -0.2), (-0.47, 0.11), (1.03, 0.6), (-0.9, -1.4)]
SCALES = [1.0, 1.25, 0.8, 2.0, 1.0]
EXPTIMES = [900.0, 600.0, 1500.0, 900.0, 60.0]
FIRST = [0, 1, -1, 0, 0]


def reference_exposures(name: str) -> list[ref.Exposure]:
    grid, frames = scene(name)
    return [
        ref.Exposure(
            flux, variance, frame, FIRST[n], quality,
            scale=SCALES[n] * ref.pixel_area(grid) / ref.pixel_area(frame),
            weight=EXPTIMES[n], exptime=EXPTIMES[n],
        )
        for n, frame in enumerate(frames)
        for flux, variance, quality in [damaged(n)]
    ]  # fmt: skip


def opened(name: str, folder: Path) -> tuple[list[Any], OffsetTable]:
    """The scene's exposures as files whose headers are off, and the table that corrects them."""
    _, frames = scene(name)
    cubes, rows = [], []
    for n, (frame, (east, north)) in enumerate(zip(frames, OFFSETS, strict=True)):
        flux, variance, quality = damaged(n)
        header = ref.moved(frame, -east, -north, DEC)
        first = 4750.0 + 1.25 * FIRST[n] + [0.1, -0.05, 0.0, 0.02, -0.1][n]
        cubes.append(
            file_cube(
                folder, flux, variance, n, cards=header, first=first, quality=quality,
                exptime=EXPTIMES[n],
            )
        )  # fmt: skip
        rows.append(
            Offset(
                date_obs=date(n), ra_offset_arcsec=east, dec_offset_arcsec=north, dec_deg=DEC,
                flux_scale=SCALES[n],
            )
        )  # fmt: skip
    return cubes, OffsetTable(tuple(rows))


def check(found: Any, wanted: ref.Combined, sure: Any, rtol: float, atol: float) -> None:
    """A computed cube against a reference where the reference is sure of itself."""
    number = found["n_exposures"].values
    assert number.dtype == np.uint16
    np.testing.assert_array_equal(number[sure], wanted.number[sure])
    np.testing.assert_allclose(found["exposure_time"].values[sure], wanted.time[sure], rtol=1e-6)
    for key, value, slack in (("flux", wanted.flux, atol), ("variance", wanted.variance, 0.0)):
        assert found[key].dtype == np.float32
        np.testing.assert_allclose(
            found[key].values[sure], value[sure], rtol=rtol, atol=slack, err_msg=key
        )


def all_references(
    values: Any, variances: Any, times: Any, weights: Any, atol: float
) -> tuple[dict[str, ref.Combined], Any]:
    """All statistics, and where no decision hangs on differences of ``atol``."""
    made = {
        "median": ref.median_of(values, variances, times),
        "mean": ref.mean_of(values, variances, times, weights),
        "clipped": ref.clipped_of(values, variances, times, weights),
        "clipped_mpdaf": ref.mpdaf_of(values, variances, times),
    }
    firm = np.ones(values.shape[1:], bool)
    rng = np.random.default_rng(7)
    for factor in (0.97, 1.03, 0.97, 1.03):
        near = values + rng.choice([-atol, atol], values.shape) + 1e-3 * values
        other = ref.clipped_of(near, variances, times, weights, nsigma=5 * factor)
        firm &= other.number == made["clipped"].number
        other = ref.mpdaf_of(near, variances, times, nclip=(5 * factor, 5 * factor))
        firm &= other.number == made["clipped_mpdaf"].number
    return made, firm


def ties(grid: dict[str, Any], frame: dict[str, Any]) -> Any:
    """Grid pixels whose centres lie between two pixels of a frame."""
    y, x = np.mgrid[: GRID_SHAPE[1], : GRID_SHAPE[2]]
    at = np.array(ref.tan_to_pixel(frame, *ref.tan_to_sky(grid, x, y)))
    return (abs(at - np.floor(at) - 0.5) < 2e-3).any(axis=0)


def compare(found: Any, name: str, resampling: str, rtol: float, atol: float) -> None:
    """All statistics of a stack of a scene against its reference."""
    exposures = reference_exposures(name)
    grid, frames = scene(name)
    parts = [
        ref.resampled(
            exposure,
            ref.resampling_matrix(resampling, grid, frame, GRID_SHAPE[1:], SHAPE[1:]),
            GRID_SHAPE,
        )
        for exposure, frame in zip(exposures, frames, strict=True)
    ]
    values, variances, shares = (np.array(part) for part in zip(*parts, strict=True))
    times = np.array([exposure.exptime for exposure in exposures])
    weight = np.array([exposure.weight for exposure in exposures])
    wanted, firm = all_references(values, variances, times, weight, atol)
    sure = firm & (abs(shares - 0.5) > AMBIGUOUS).all(axis=0)
    if resampling == "nearest":
        sure &= ~np.any([ties(grid, frame) for frame in frames], axis=0)
    assert sure.mean() > 0.8
    assert (wanted["median"].number[sure] >= 3).mean() > 0.15
    assert (wanted["clipped"].number[sure] < wanted["mean"].number[sure]).sum() > 10
    computed = dict(zip(METHODS, dask.compute(*(found[m] for m in METHODS)), strict=True))
    for method in METHODS:
        check(computed[method], wanted[method], sure, rtol, atol)


@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_shifted_exposures_stack_as_the_reference_says(resampling: str, tmp_path: Path) -> None:
    cubes, offsets = opened("shifted", tmp_path)
    grid = grid_of(scene("shifted")[0], GRID_SHAPE)
    found = stack(cubes, offsets, grid, methods=METHODS, resampling=resampling, flux_per="spaxel")
    # A Lanczos phase is kept along a row within a thousandth of a pixel.
    rtol, atol = (2e-3, 0.05) if resampling == "lanczos3" else (1e-4, 2e-3)
    compare(found, "shifted", resampling, rtol, atol)


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("name", ["turned", "turned a little", "scaled"])
def test_turned_and_scaled_exposures_stack_as_the_reference_says(
    name: str, resampling: str, tmp_path: Path
) -> None:
    cubes, offsets = opened(name, tmp_path)
    grid = grid_of(scene(name)[0], GRID_SHAPE)
    found = stack(cubes, offsets, grid, methods=METHODS, resampling=resampling, flux_per="spaxel")
    # Offsets at dec -60 turn a field by some 1e-5; what is streamed is within 1e-3 pixels.
    compare(found, name, resampling, 5e-3, 0.3)
