"""Measured noise against noise that is known."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from exposure_cubes import memory_cube
from scipy import ndimage

from musedask import CubeGrid, InputError, open_megacube, stack, write_megacube
from musedask.noise import measure_noise, noise_attrs


def correlated(rng, shape, rho):
    """Unit noise of correlation ``rho`` = (wavelength, y, x) at lag one and none beyond."""
    noise = rng.standard_normal(shape)
    for axis, r in enumerate(rho):
        w = (1 - np.sqrt(1 - 4 * r * r)) / (2 * r) if r else 0.0
        noise = ndimage.convolve1d(noise, [w, 1.0], axis=axis, mode="wrap") / np.hypot(1, w)
    return noise


def cube_of(noise, sigma=3.0, **options):
    variance = np.full(noise.shape, sigma**2, np.float32)
    return memory_cube((sigma * noise).astype(np.float32), variance, **options)


@pytest.mark.parametrize("rho", [(0.0, 0.0, 0.0), (0.15, 0.17, 0.17), (0.3, 0.05, 0.2)])
def test_ratio_and_correlations_of_known_noise_are_found(rho):
    cube = cube_of(1.2 * correlated(np.random.default_rng(1), (64, 100, 100), rho))
    found = measure_noise(cube)
    assert found.noise_ratio == pytest.approx(1.2, rel=0.01)
    assert found.noise_correlation_wavelength == pytest.approx(rho[0], abs=0.015)
    assert found.noise_correlation_y == pytest.approx(rho[1], abs=0.015)
    assert found.noise_correlation_x == pytest.approx(rho[2], abs=0.015)
    # Sums over k x k: each axis adds 2 rho (k - 1) / k.
    expected = 1.2 * np.sqrt((1 + 2 * rho[1] * 0.8) * (1 + 2 * rho[2] * 0.8))
    assert found.noise_aperture_ratio == pytest.approx(expected, rel=0.03)


def test_objects_gradients_and_hits_do_not_matter():
    rng = np.random.default_rng(2)
    noise = correlated(rng, (64, 100, 100), (0.15, 0.17, 0.17))
    clean = measure_noise(cube_of(noise))
    y, x = np.mgrid[:100, :100]
    sky = 40 * np.exp(-((y - 40) ** 2 + (x - 60) ** 2) / 200) + 0.02 * x
    dirty = noise + sky + rng.choice([0, 500], noise.shape, p=[0.999, 0.001])
    dirty[:, :20, :30] = np.nan
    found = measure_noise(cube_of(dirty))
    assert found.noise_ratio == pytest.approx(clean.noise_ratio, rel=0.02)
    assert found.noise_correlation_x == pytest.approx(clean.noise_correlation_x, abs=0.02)
    assert found.noise_correlation_wavelength == pytest.approx(
        clean.noise_correlation_wavelength, abs=0.02
    )


def test_interpolation_shows_as_correlation_and_not_in_the_ratio_of_white_noise():
    """Half a pixel of bilinear: variance propagated rightly, neighbours correlated by 1/2."""
    rng = np.random.default_rng(3)
    cube = cube_of(rng.standard_normal((32, 80, 80)))
    grid = CubeGrid.from_cube(cube)
    moved = CubeGrid(grid.sky.shifted(0.5, 0.5), grid.spectral, 79, 79)
    found = measure_noise(stack([cube], None, moved, methods=("mean",))["mean"].compute())
    assert found.noise_ratio == pytest.approx(1.0, rel=0.02)
    assert found.noise_correlation_x == pytest.approx(0.5, abs=0.02)
    assert found.noise_correlation_y == pytest.approx(0.5, abs=0.02)
    assert found.noise_correlation_wavelength == pytest.approx(0.0, abs=0.02)


def test_correlated_noise_comes_out_above_its_variance_after_interpolation():
    """What STAT cannot know: two neighbours of correlation r leave (1 + r) / 2, not 1 / 2."""
    rho = 0.17
    cube = cube_of(correlated(np.random.default_rng(4), (32, 80, 80), (0.0, 0.0, rho)))
    grid = CubeGrid.from_cube(cube)
    moved = CubeGrid(grid.sky.shifted(0.5, 0.0), grid.spectral, 80, 79)
    found = measure_noise(stack([cube], None, moved, methods=("mean",))["mean"].compute())
    assert found.noise_ratio == pytest.approx(np.sqrt(1 + rho), rel=0.02)


def test_it_reads_a_few_runs_of_a_lazy_cube():
    read = []

    def make(block_info=None):
        where = block_info[None]["array-location"]
        read.append(where)
        shape = [b - a for a, b in where]
        return np.random.default_rng(where[0][0]).standard_normal(shape).astype(np.float32)

    chunks = ((16,) * 200, (60,), (60,))
    flux = da.map_blocks(make, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), "f4"))
    cube = memory_cube(flux, da.ones(flux.shape, dtype=np.float32, chunks=chunks))
    assert measure_noise(cube).noise_ratio == pytest.approx(1.0, rel=0.03)
    assert 6 <= len(read) <= 12


def test_too_little_to_measure_is_said_and_leaves_no_attributes():
    cube = cube_of(np.full((8, 5, 5), np.nan))
    with pytest.raises(InputError, match="voxels"):
        measure_noise(cube)
    assert noise_attrs(cube) == {}


def test_attributes_are_plain_numbers_that_repeat():
    cube = cube_of(correlated(np.random.default_rng(5), (32, 60, 60), (0.1, 0.1, 0.1)))
    first = noise_attrs(cube)
    assert first == noise_attrs(cube)
    assert {type(value) for value in first.values()} == {float}
    assert first["noise_ratio"] == pytest.approx(1.0, rel=0.03)


def test_a_written_megacube_says_how_its_noise_compares_with_its_variance(tmp_path):
    rng = np.random.default_rng(6)
    cubes = [
        memory_cube(*(a.astype(np.float32) for a in (2.0 * noise, np.full(noise.shape, 4.0))), n,
                    chunks=(16, -1, -1))
        for n in range(3)
        for noise in [correlated(rng, (32, 60, 60), (0.15, 0.17, 0.17))]
    ]  # fmt: skip
    grid = CubeGrid.from_cube(cubes[0])
    write_megacube(stack(cubes, None, grid, methods=("mean",)), tmp_path / "a.zarr")
    stored = open_megacube(tmp_path / "a.zarr")["mean"]
    assert stored.attrs["noise_ratio"] == pytest.approx(1.0, rel=0.03)
    assert stored.attrs["noise_correlation_x"] == pytest.approx(0.17, abs=0.03)
    plain = xr.open_zarr(tmp_path / "a.zarr", group="mean")
    assert plain.attrs["noise_ratio"] == stored.attrs["noise_ratio"]
    assert stored.attrs == {**plain.attrs}
    assert "mean" in stored.attrs["method"]


def test_the_precision_that_is_stated_is_reached():
    """The scatter among cubes that are large enough for all samples."""
    found = []
    for seed in range(6):
        noise = correlated(np.random.default_rng(seed), (64, 140, 70), (0.15, 0.17, 0.17))
        found.append(measure_noise(cube_of(noise.astype(np.float32))))
    rho = [[n.noise_correlation_wavelength, n.noise_correlation_y, n.noise_correlation_x]
           for n in found]  # fmt: skip
    # A scatter from six values is known to a third of itself.
    assert np.std([n.noise_ratio for n in found]) < 1.7 * 0.002
    assert np.std(rho, axis=0).max() < 1.7 * 0.002
    assert np.std([n.noise_aperture_ratio / 1.27 for n in found]) < 1.7 * 0.01


def test_flux_and_variance_may_come_from_elsewhere():
    cube = cube_of(correlated(np.random.default_rng(8), (40, 70, 70), (0.1, 0.1, 0.1)))
    flux, variance = cube["flux"].values, cube["variance"].values
    named = cube.copy(data={"flux": 0 * flux, "variance": variance})
    assert measure_noise(named, lambda part: (flux[part], variance[part])) == measure_noise(cube)
