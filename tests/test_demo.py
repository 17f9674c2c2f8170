"""The demo's own parts: exposures as told, a comparison that notices, pictures that are there."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from musedask.cube import make_cube
from musedask.demo import compare_with_truth, demo_specs, white_light_pngs
from musedask.demo.cubes import mean_coverage, readable, white_light
from musedask.demo.expectation import expected_runs
from musedask.errors import FileError, InputError, MissingError
from musedask.simulation.abell478 import real_noise, real_sky
from musedask.simulation.damage import HIT_DTYPE
from musedask.simulation.exposure import Footprint
from musedask.simulation.observe import Observation, observe
from musedask.simulation.sky import AnalyticSky, PointSource, Spectrum, true_cube
from musedask.simulation.truth import Truth, write_truth
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

FIRST, N_CHANNELS = 7010.0, 220
"""Halpha, and a few channels of the white picture's range."""
SHAPE = 76, 70
GRID = SkyProjection.north_up(63.35527, 10.46649, 0.2, 35, 38)
AXIS = SpectralAxis(FIRST, size=N_CHANNELS, frame="BARYCENT")
N_HITS = 30


def told(spec, hits=(), lost=()):
    """An observation that nobody wrote: the comparison needs only what is known of it."""
    records = np.zeros(len(hits), HIT_DTYPE)
    for i, (channel, y, x) in enumerate(hits):
        records[i] = (channel, y, x, 5000.0, i)
    spaxels = np.array(lost, np.int64).reshape(-1, 2)
    return Observation(Path("nowhere.fits"), Footprint(spec, (60, 60)), records, spaxels)


@pytest.fixture(scope="module")
def truth():
    specs = [spec for spec in demo_specs() if "-AO-" not in spec.mode][1:5]
    rng = np.random.default_rng(0)
    observations = []
    for spec in specs:
        first = round((FIRST - spec.first_angstrom) / 1.25)
        hits = [
            (
                first + int(rng.integers(20, 180)),
                int(rng.integers(25, 35)),
                int(rng.integers(25, 35)),
            )
            for _ in range(N_HITS)
        ]
        observations.append(told(spec, sorted(set(hits)), [(30, 31), (12, 40)]))
    return Truth(tuple(observations))


@pytest.fixture(scope="module")
def perfect(truth):
    """A stack with the expected flux, noise of the stated variance and the right counts."""
    rng = np.random.default_rng(1)
    size = (N_CHANNELS, *SHAPE)
    empty = {key: np.full(size, np.nan, np.float32) for key in ("flux", "variance")}
    empty["n_exposures"] = np.zeros(size, np.uint16)
    blank = make_cube(empty, GRID, AXIS)
    flux, counts = empty["flux"].copy(), empty["n_exposures"].copy()
    for run in expected_runs(readable(blank), truth, real_sky()):
        flux[run.first : run.last] = run.flux
        counts[run.first : run.last] = run.most
    variance = np.where(np.isfinite(flux), 16.0, np.nan).astype(np.float32)
    noisy = (flux + 4 * rng.standard_normal(size)).astype(np.float32)
    return make_cube({"flux": noisy, "variance": variance, "n_exposures": counts}, GRID, AXIS)


def test_a_perfect_stack_is_found_perfect(perfect, truth):
    numbers = compare_with_truth(perfect, truth)
    assert numbers["voxels"] > 500_000
    assert numbers["residual_sigma"] == pytest.approx(0, abs=0.01)
    assert numbers["pull_rms"] == pytest.approx(1, abs=0.005)
    assert numbers["pull_rms_plain"] == pytest.approx(1, abs=0.005)
    assert abs(numbers["flux_ratio"] - 1) < 5 * numbers["flux_ratio_error"]
    assert numbers["line_flux_ratio"] == pytest.approx(1, abs=0.01)
    assert numbers["line_shift_angstrom"] == pytest.approx(0, abs=0.05)
    assert numbers["psf_fwhm_arcsec"] == pytest.approx(numbers["psf_fwhm_true_arcsec"], rel=0.1)
    assert numbers["position_error_arcsec"] < 0.05
    assert 0.8 * len(truth) * N_HITS < numbers["hits"] <= len(truth) * N_HITS
    assert numbers["hits_left"] == 0
    assert numbers["counts_equal"] == 1
    assert numbers["counts_outside"] == 0


def test_each_fault_of_a_stack_shows_in_its_number(perfect, truth):
    def numbers(**variables):
        return compare_with_truth(perfect.assign(**variables), truth)

    flux, variance, counts = (perfect[key] for key in ("flux", "variance", "n_exposures"))
    assert numbers(flux=flux * np.float32(1.02))["flux_ratio"] == pytest.approx(1.02, abs=1e-3)
    assert numbers(flux=flux + np.float32(2))["residual_sigma"] == pytest.approx(0.5, abs=0.01)
    assert numbers(variance=variance * np.float32(4))["pull_rms"] == pytest.approx(0.5, abs=0.005)
    moved = numbers(flux=flux.roll(x=1))
    assert moved["position_error_arcsec"] == pytest.approx(0.2, abs=0.05)
    late = numbers(flux=flux.roll(wavelength=1))
    assert late["line_shift_angstrom"] == pytest.approx(1.25, abs=0.1)
    more = numbers(n_exposures=(counts + np.uint16(1)))
    assert more["counts_equal"] == 0
    assert more["counts_outside"] == counts.size


def test_hits_that_a_stack_kept_are_counted(perfect, truth):
    flux = perfect["flux"].values.copy()
    kept = 0
    for observation in truth:
        for hit in observation.hits[:10]:
            own = observation.spec.spectral.wavelengths[hit["channel"]]
            sky = observation.footprint.true_projection.to_sky(hit["x"], hit["y"])
            x, y = (round(float(v)) for v in GRID.to_pixel(*sky))
            flux[round((own - FIRST) / 1.25), y, x] += 200
            kept += 1
    numbers = compare_with_truth(perfect.assign(flux=perfect["flux"].copy(data=flux)), truth)
    assert 0.8 * kept < numbers["hits_left"] <= kept


def test_without_counts_the_numbers_of_counts_are_unknown(perfect, truth):
    numbers = compare_with_truth(perfect.drop_vars("n_exposures"), truth)
    assert np.isnan([numbers["counts_checked"], numbers["counts_equal"]]).all()
    assert numbers["pull_rms"] == pytest.approx(1, abs=0.005)


def test_a_cube_of_another_field_is_refused(perfect, truth):
    elsewhere = SkyProjection.north_up(150.0, 2.0, 0.2, 35, 38)
    cube = make_cube({k: perfect[k].values for k in ("flux", "variance")}, elsewhere, AXIS)
    with pytest.raises(InputError, match="no voxel in common"):
        compare_with_truth(cube, truth)


def test_an_exposure_is_its_own_perfect_stack(tmp_path):
    """The whole way round: the file, its truth read from the folder, and the numbers."""
    spec = replace(
        demo_specs()[5], n_channels=160, hits_per_megavoxel=60.0, flux_scale=1.0, lost_fraction=0.01
    )
    sky = AnalyticSky((PointSource(spec.ra_deg, spec.dec_deg, Spectrum(2000.0)),))
    spec = replace(spec, ra_offset_arcsec=0.0, dec_offset_arcsec=0.0)
    made = observe(sky, spec, tmp_path / "a.fits", shape=(40, 40), noise=real_noise())
    write_truth([made], tmp_path)
    numbers = compare_with_truth(made.path, tmp_path, sky)
    assert numbers["pull_rms"] == pytest.approx(1, abs=0.01)
    assert numbers["flux_ratio"] == pytest.approx(1, abs=0.01)
    inside = made.valid[0]
    assert numbers["voxels"] == pytest.approx(160 * inside.sum(), rel=0.25)


def test_the_expected_mean_is_that_of_the_exposures_seeing(truth):
    """Where all exposures see a spaxel, the expectation is the plain mean of their truths."""
    empty = np.zeros((3, *SHAPE), np.float32)
    cube = make_cube({"flux": empty, "variance": empty}, GRID, AXIS.cropped(0, 3))
    run = next(iter(expected_runs(readable(cube), truth, real_sky())))
    waves = AXIS.wavelengths[:3]
    mean = np.mean([true_cube(real_sky(), GRID, SHAPE, waves, o.spec.psf) for o in truth], axis=0)
    all_see = run.least == len(truth)
    assert all_see.sum() > 1000
    np.testing.assert_allclose(run.flux[:, all_see], mean[:, all_see], rtol=1e-4)
    assert np.isnan(run.flux[:, 0, 0]).all()


def test_an_exposure_with_adaptive_optics_is_not_expected_in_the_laser_s_gap():
    specs = [spec for spec in demo_specs() if spec.mode in ("WFM-AO-N", "WFM-NOAO-E")]
    axis = SpectralAxis(5790.0, size=150, frame="BARYCENT")
    empty = np.zeros((150, *SHAPE), np.float32)
    cube = readable(make_cube({"flux": empty, "variance": empty}, GRID, axis))
    most, flux = np.zeros(150, int), np.zeros((150, *SHAPE))
    for run in expected_runs(cube, Truth(tuple(told(spec) for spec in specs)), real_sky()):
        most[run.first : run.last] = run.most.max()
        flux[run.first : run.last] = run.flux
    inside = (axis.wavelengths > 5806) & (axis.wavelengths < 5965)
    outside = (axis.wavelengths < 5804) | (axis.wavelengths > 5967)
    assert len(specs) == 3
    assert np.all(most[inside] == 1)
    assert np.all(most[outside] == 3)
    # In the gap only the exposure without a laser counts, with its own seeing.
    (without,) = (spec for spec in specs if "-AO-" not in spec.mode)
    alone = true_cube(real_sky(), GRID, SHAPE, axis.wavelengths[inside], without.psf)
    middle = np.s_[:, 20:60, 20:50]
    np.testing.assert_allclose(flux[inside][middle], alone[middle], rtol=1e-4)


def test_the_demo_has_all_kinds_of_exposures_on_common_channels():
    specs = demo_specs()
    assert 6 <= len(specs) <= 8
    assert {spec.n_channels for spec in specs} == {3681, 3682, 3721, 3722, 3801}
    assert sum(spec.rotation_deg == 45 for spec in specs) == 1
    assert all(spec.lost_fraction and spec.hits_per_megavoxel for spec in specs)
    assert all(spec.noise == "correlated" for spec in specs)
    assert len({spec.date_obs for spec in specs}) == len(specs)
    # No exposure is farther than 0.3 Angstrom from the common channels.
    phases = np.array([(spec.first_angstrom - 4750.0 + 0.6) % 1.25 - 0.6 for spec in specs])
    assert np.abs(phases - np.median(phases)).max() < 0.3


# --- pictures ----------------------------------------------------------------------------------


@pytest.fixture
def exposure_and_stack(tmp_path, perfect):
    spec = replace(demo_specs()[0], n_channels=40)
    path = observe(real_sky(), spec, tmp_path / "a.fits", noise=real_noise()).path
    return path, perfect


def test_the_pictures_are_there_and_the_same_each_time(tmp_path, exposure_and_stack):
    folders = [tmp_path / name for name in ("one", "two")]
    contents = []
    for folder in folders:
        paths = white_light_pngs(*exposure_and_stack, folder)
        assert [path.name for path in paths] == [
            "before.png",
            "after.png",
            "coverage.png",
            "demo.png",
        ]
        assert sorted(folder.iterdir()) == sorted(paths)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert all(content.startswith(b"\x89PNG") and len(content) > 10_000 for content in contents[0])
    assert len(set(contents[0])) == 4


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path, exposure_and_stack, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingError, match=r"musedask\[demo\]"):
        white_light_pngs(*exposure_and_stack, tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()


def test_the_white_picture_is_the_mean_of_what_is_there(perfect, exposure_and_stack):
    path, _ = exposure_and_stack
    image, projection = white_light(path)
    with fits.open(path) as hdus:
        data = hdus["DATA"].data.astype(float)
        assert projection == SkyProjection.from_header(hdus["DATA"].header)
    seen = np.isfinite(data).any(axis=0)
    np.testing.assert_array_equal(np.isfinite(image), seen)
    np.testing.assert_allclose(image[seen], np.nanmean(data[:, seen], axis=0), rtol=1e-4)
    coverage, _ = mean_coverage(perfect)
    np.testing.assert_allclose(coverage, perfect["n_exposures"].values.mean(0), rtol=1e-6)


def test_a_cube_without_counts_has_no_coverage(exposure_and_stack):
    with pytest.raises(FileError, match="stack"):
        mean_coverage(exposure_and_stack[0])


def test_a_file_that_is_no_cube_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "page.fits"
    path.write_text("<html>")
    with pytest.raises(FileError, match=r"page\.fits"):
        white_light(path)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2, 2)), name="DATA")]).writeto(
        tmp_path / "no_stat.fits"
    )
    with pytest.raises(FileError, match="STAT"):
        white_light(tmp_path / "no_stat.fits")
