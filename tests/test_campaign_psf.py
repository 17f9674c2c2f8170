"""The width of a star in a stack: the exposures' own and what the resampling adds, no more.

Widths are second moments of noiseless stars, since those add: seeing, the
pixel over which a frame integrates, and the kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exposure_cubes import memory_cube, tan_cards
from stacking_reference import lanczos3
from star_exposures import PIXEL_ARCSEC, POINTS, centred, star_cubes, star_grid, star_image

from musedask.stacking import stack

pytestmark = pytest.mark.slow

SIZE = 61
PIXEL_VARIANCE = (1.0 - 1.0 / POINTS**2) / 12.0
"""Of a frame's pixel, as :func:`star_exposures.star_image` integrates over it."""


def variance_of(fwhm_arcsec: float) -> float:
    """Second moment along an axis of a Gaussian, pixels^2."""
    return (fwhm_arcsec / PIXEL_ARCSEC) ** 2 / (8.0 * np.log(2.0))


def moments(image: Any) -> tuple[Any, Any]:
    """Centroid (x, y) off the middle pixel, and mean square distances from it along x and y."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    weight = np.where(np.isfinite(image), image, 0.0) / np.nansum(image)
    centroid = np.array([(weight * x).sum(), (weight * y).sum()])
    return centroid, np.array([(weight * x**2).sum(), (weight * y**2).sum()])


def stacked(cubes: Any, resampling: str, weights: Any = "equal") -> Any:
    """The mean of exposures of one channel, float64 (y, x)."""
    found = stack(cubes, None, star_grid(SIZE, 1), methods=("mean",), resampling=resampling,
                  weights=weights)  # fmt: skip
    return found["mean"]["flux"].values[0].astype(float)


def added_by(resampling: str, shift: Any) -> Any:
    """Mean square distance from the true place that a kernel adds along an axis, pixels^2."""
    f = np.asarray(shift) - np.floor(shift)
    if resampling in ("exact", "bilinear"):
        return f * (1.0 - f)
    if resampling == "nearest":
        return np.minimum(f, 1.0 - f) ** 2
    out = np.zeros_like(f)
    for at in np.ndindex(f.shape):
        distance = np.arange(-2, 4) - f[at]
        weight = np.array([lanczos3(d) for d in distance])
        out[at] = (weight * distance**2).sum() / weight.sum()
    return out


@pytest.mark.parametrize("resampling", ["exact", "bilinear", "lanczos3", "nearest"])
@pytest.mark.parametrize("fwhms", [[0.7] * 8, np.linspace(0.5, 1.2, 8)], ids=["one", "many"])
def test_is_that_of_the_exposures_and_the_kernel(resampling, fwhms, campaign):
    for seed in range(campaign(3, 40)):
        rng = np.random.default_rng(seed)
        shifts = rng.uniform(-1.5, 1.5, (len(fwhms), 2))
        cubes, _ = star_cubes(fwhms, [1000.0], rng, shifts=shifts, sigma=0.0)
        _, found = moments(stacked(cubes, resampling))
        own = np.mean([variance_of(fwhm) for fwhm in fwhms]) + PIXEL_VARIANCE
        expected = own + added_by(resampling, shifts).mean(axis=0)
        np.testing.assert_allclose(np.sqrt(found), np.sqrt(expected), rtol=0.01)
        if resampling in ("exact", "bilinear"):
            np.testing.assert_allclose(np.sqrt(found), np.sqrt(expected), rtol=1e-3)


@pytest.mark.parametrize("resampling", ["exact", "bilinear", "lanczos3", "nearest"])
def test_gains_nothing_where_lattices_agree(resampling):
    rng = np.random.default_rng(0)
    shifts = rng.integers(-3, 4, (5, 2)).astype(float)
    cubes, _ = star_cubes([0.6] * 5, [1000.0], rng, shifts=shifts, sigma=0.0)
    centroid, found = moments(stacked(cubes, resampling))
    np.testing.assert_allclose(found, variance_of(0.6) + PIXEL_VARIANCE, rtol=1e-3)
    np.testing.assert_allclose(centroid, 0.0, atol=1e-4)


@pytest.mark.parametrize("f", [0.1, 0.25, 0.5, 0.8])
def test_of_a_bilinear_shift_gains_f_times_1_minus_f_and_keeps_its_place(f):
    rng = np.random.default_rng(0)
    cubes, _ = star_cubes([0.8], [1000.0], rng, shifts=[(f, 0.0)], sigma=0.0)
    centroid, found = moments(stacked(cubes, "exact"))
    own = variance_of(0.8) + PIXEL_VARIANCE
    np.testing.assert_allclose(found, [own + f * (1.0 - f), own], rtol=1e-4)
    np.testing.assert_allclose(centroid, 0.0, atol=1e-3)


def test_follows_the_weights():
    rng = np.random.default_rng(1)
    shifts = np.zeros((2, 2))
    cubes, _ = star_cubes([0.5, 1.2], [1000.0], rng, shifts=shifts, sigma=0.0)
    widths = [moments(cube["flux"].values[0].astype(float))[1][0] for cube in cubes]
    names = [str(cube["name"].values) for cube in cubes]
    _, found = moments(stacked(cubes, "exact", {names[0]: 3.0, names[1]: 1.0}))
    np.testing.assert_allclose(found, (3.0 * widths[0] + widths[1]) / 4.0, rtol=1e-3)


@pytest.mark.parametrize("turn", [30.0, 45.0])
@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_of_turned_and_scaled_frames_gains_both_pixels(turn, scale, campaign):
    """Area weights average over the grid's pixel what is flat over the frame's."""
    found, n = [], campaign(24, 200)
    rng = np.random.default_rng(int(turn))
    for i in range(n):
        x, y = SIZE // 2 + rng.uniform(-0.5, 0.5, 2)
        star = star_image(SIZE, x, y, 0.8 / scale)
        header = tan_cards(x=x, y=y, turn_deg=turn, pixel_arcsec=scale * PIXEL_ARCSEC)
        flux = (1000.0 * star[None]).astype(np.float32)
        cube = memory_cube(flux, np.ones_like(flux), i, cards=header)
        found.append(moments(stacked([cube], "exact"))[1])
    own = variance_of(0.8) + scale**2 * PIXEL_VARIANCE
    expected = own + (scale**2 + 1.0) / 12.0
    np.testing.assert_allclose(np.sqrt(np.mean(found, axis=0)), np.sqrt(expected), rtol=0.005)


def test_of_the_clipped_mean_is_that_of_the_mean():
    """Clipping takes no sharp cores and no wide wings."""
    rng = np.random.default_rng(5)
    for flux in (1e2, 1e3, 1e4):
        cubes, _ = star_cubes(np.linspace(0.5, 1.2, 7), [flux], rng, sigma=0.0)
        found = stack(cubes, None, star_grid(SIZE, 1), methods=("mean", "clipped"),
                      weights="equal")  # fmt: skip
        widths = [
            np.sqrt(moments(found[method]["flux"].values[0].astype(float))[1])
            for method in ("mean", "clipped")
        ]
        np.testing.assert_allclose(widths[0], widths[1], rtol=0.01)


def test_a_wrong_sign_of_the_offsets_is_noticed():
    """Dithers that are not undone widen the star far beyond a percent."""
    rng = np.random.default_rng(6)
    shifts = rng.uniform(-1.5, 1.5, (8, 2))
    cubes, _ = star_cubes([0.7] * 8, [1000.0], rng, shifts=shifts, sigma=0.0)
    wrong = [
        memory_cube(cube["flux"].values, cube["variance"].values, n, cards=centred(SIZE, -dx, -dy))
        for n, (cube, (dx, dy)) in enumerate(zip(cubes, shifts, strict=True))
    ]
    _, found = moments(stacked(wrong, "exact"))
    expected = variance_of(0.7) + PIXEL_VARIANCE + added_by("exact", shifts).mean(axis=0)
    assert (np.sqrt(found) > 1.1 * np.sqrt(expected)).all()
