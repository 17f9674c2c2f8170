"""Simulated exposures: what is in the files is what the truth says, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from mpdaf.obj import Cube
from scipy import ndimage, special

from musedask.cube import make_cube
from musedask.errors import FileError, InputError, MissingError
from musedask.offsets import OffsetTable
from musedask.placement import place
from musedask.simulation.abell478 import (
    HALPHA_WINDOW_ANGSTROM,
    HST_FILE,
    HST_MINUS_MUSE_ARCSEC,
    MUSE_FILE,
    NATIVE_FWHM_ARCSEC,
    mpdaf_data,
    real_noise,
    real_sky,
)
from musedask.simulation.damage import cosmic_rays
from musedask.simulation.exposure import ExposureSpec, Footprint
from musedask.simulation.noise import (
    REAL_CORRELATION,
    FreshNoise,
    NoisePool,
    modelled_noise,
    moving_average_weight,
)
from musedask.simulation.observe import observe
from musedask.simulation.psf import Psf, point_map
from musedask.simulation.sets import observe_all, simulate_exposures, survey
from musedask.simulation.sky import AnalyticSky, Galaxy, Line, PointSource, Spectrum, true_cube
from musedask.simulation.truth import read_truth
from musedask.sky import SkyProjection

observe_module = sys.modules[observe.__module__]
RA, DEC = 53.16, -60.0
STAR = AnalyticSky((PointSource(RA, DEC, Spectrum(5000.0)),))
EMITTER = AnalyticSky((PointSource(RA, DEC, Spectrum(50.0, (Line(4770.0, 9000.0),))),))
FLAT = AnalyticSky((Galaxy(RA, DEC, Spectrum(1e-6), 1.0),))
SMALL = {"shape": (24, 24)}


def spec_of(**values) -> ExposureSpec:
    plain = {
        "name": "a", "date_obs": "2024-03-01T02:03:04.567", "ra_deg": RA, "dec_deg": DEC,
        "n_channels": 30, "noise": "none", "edge_spaxels": 0,
    }  # fmt: skip
    return ExposureSpec(**{**plain, **values})


def read(path):
    with fits.open(path) as hdus:
        return hdus["DATA"].data.astype(float), hdus["STAT"].data.astype(float)


def centroid(image, header):
    """RA and DEC of the light, by astropy alone."""
    yy, xx = np.indices(image.shape)
    x, y = (image * xx).sum() / image.sum(), (image * yy).sum() / image.sum()
    ra, dec = WCS(header).celestial.all_pix2world(x, y, 0)
    return float(ra), float(dec)


# --- the seeing --------------------------------------------------------------------------------


def test_a_gaussian_is_integrated_over_each_spaxel():
    psf, plane = Psf(0.7, None), SkyProjection.north_up(RA, DEC, 0.2, 10.3, 11.8)
    scale = np.sqrt(2) * 0.7 / 2.3548200450309493 / 0.2
    edges_x, edges_y = (np.arange(26) - 0.5 - at for at in (10.3, 11.8))
    x, y = (np.diff(special.erf(edges / scale)) / 2 for edges in (edges_x, edges_y))
    np.testing.assert_allclose(
        point_map(psf, plane, (25, 25), RA, DEC), y[:, None] * x[None, :], atol=2e-6
    )


@given(
    x=st.floats(30, 40), y=st.floats(30, 40), angle=st.floats(0, 360), pixel=st.floats(0.1, 0.4),
    fwhm=st.floats(0.5, 1.2),
)  # fmt: skip
def test_a_gaussian_keeps_its_flux_wherever_it_falls_on_the_pixels(x, y, angle, pixel, fwhm):
    plane = SkyProjection.north_up(RA, DEC, pixel, x, y).moved(0, 0, angle)
    n = int(70 + 4 * fwhm / pixel)
    total = point_map(Psf(fwhm, None), plane, (n, n), RA, DEC).sum(dtype=float)
    assert total == pytest.approx(1, abs=1e-4)


def test_a_moffat_has_its_half_width_and_its_enclosed_light():
    psf = Psf(0.8, 2.8)
    assert psf.density(np.array(0.4**2)) == pytest.approx(psf.density(np.array(0.0)) / 2)
    plane = SkyProjection.north_up(RA, DEC, 0.02, 200, 200)
    image = point_map(psf, plane, (401, 401), RA, DEC)
    yy, xx = np.indices(image.shape) - 200
    radius = np.hypot(xx, yy) * 0.02
    alpha = 0.8 / 2 / np.sqrt(2 ** (1 / 2.8) - 1)
    for limit in (0.51, 1.01, 3.89):  # between the spaxels' centres
        inside = 1 - (1 + (limit / alpha) ** 2) ** (1 - 2.8)
        assert image[radius < limit].sum() == pytest.approx(inside, abs=0.003)


def test_a_source_far_outside_sheds_no_light():
    assert not point_map(
        Psf(0.8), SkyProjection.north_up(RA, DEC, 0.2), (20, 20), RA, DEC + 1
    ).any()


@pytest.mark.parametrize("bad", [{"fwhm_arcsec": 0}, {"fwhm_arcsec": 1, "beta": 1.0}])
def test_an_impossible_seeing_is_refused(bad):
    with pytest.raises(InputError):
        Psf(**bad)


# --- the sky -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel", [0.2, 0.4])
@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_a_galaxy_keeps_its_flux_on_any_pixels(pixel, angle):
    galaxy = Galaxy(RA, DEC, Spectrum(1.0), 0.5, 0.6, 40.0)
    plane = SkyProjection.north_up(RA, DEC, pixel, 50.2, 49.7).moved(0, 0, angle)
    assert galaxy.picture(Psf(0.7), plane, (101, 101)).sum() == pytest.approx(1, abs=1e-3)


def test_the_seeing_widens_a_galaxy_by_its_own_variance():
    plane = SkyProjection.north_up(RA, DEC, 0.1, 80, 80)
    _, xx = (np.indices((161, 161)) - 80) * 0.1
    widths = []
    for fwhm in (0.5, 1.1):
        image = Galaxy(RA, DEC, Spectrum(1.0), 0.3).picture(Psf(fwhm, None), plane, (161, 161))
        widths.append((image * xx**2).sum() / image.sum())
    assert widths[1] - widths[0] == pytest.approx((1.1**2 - 0.5**2) / (8 * np.log(2)), rel=5e-3)
    # A truncated exponential: <r^2> = 6 h^2 (1 - small), half of it along each axis.
    assert widths[0] - 0.5**2 / (8 * np.log(2)) == pytest.approx(3 * 0.3**2, rel=0.2)


def test_a_galaxy_lies_along_its_position_angle():
    plane = SkyProjection.north_up(RA, DEC, 0.1, 60, 60)
    image = Galaxy(RA, DEC, Spectrum(1.0), 0.8, 0.2, 30.0).picture(Psf(0.4), plane, (121, 121))
    yy, xx = np.indices(image.shape) - 60
    east, north = -xx, yy
    moments = [(image * a * b).sum() for a, b in ((east, east), (north, north), (east, north))]
    angle = 0.5 * np.degrees(np.arctan2(2 * moments[2], moments[1] - moments[0]))
    assert angle == pytest.approx(30, abs=0.5)


@given(centre=st.floats(5000, 6000), fwhm=st.floats(1.5, 8))
def test_the_channels_of_a_line_add_up_to_its_flux(centre, fwhm):
    waves = 4900 + 1.25 * np.arange(1000)
    total = Spectrum(0.0, (Line(centre, 700.0, fwhm),)).values(waves).sum() * 1.25
    assert total == pytest.approx(700)


def test_a_continuum_of_points_is_linear_between_them():
    values = Spectrum(((5000.0, 1.0), (6000.0, 3.0))).values(np.array([4000.0, 5500.0, 7000.0]))
    np.testing.assert_allclose(values, [1, 2, 3])


def test_sources_of_equal_spectra_share_a_component_and_add_up():
    spectra = Spectrum(3.0), Spectrum(5.0)
    sources = tuple(PointSource(RA, DEC + i / 3600, spectra[i % 2]) for i in range(4))
    plane, waves = SkyProjection.north_up(RA, DEC, 0.2, 20, 20), np.array([5000.0])
    sky = AnalyticSky(sources)
    assert sky.spectra(waves).shape == (2, 1)
    cube = true_cube(sky, plane, (50, 50), waves, Psf(0.7))
    single = sum(true_cube(AnalyticSky((s,)), plane, (50, 50), waves, Psf(0.7)) for s in sources)
    np.testing.assert_allclose(cube, single, rtol=1e-5)


def test_an_empty_sky_is_refused():
    with pytest.raises(InputError, match="at least one"):
        AnalyticSky(())


# --- the noise ---------------------------------------------------------------------------------


def lags(noise):
    n = noise - noise.mean()
    variance = n.var()
    return [
        float((n[1:] * n[:-1]).mean() / variance),
        float((n[:, 1:] * n[:, :-1]).mean() / variance),
        float((n[:, :, 1:] * n[:, :, :-1]).mean() / variance),
    ]


@pytest.mark.parametrize("correlation", [REAL_CORRELATION, (0.0, 0.0, 0.0), (0.1, 0.0, 0.3)])
def test_noise_has_unit_variance_and_the_correlation_asked_for(correlation):
    noise = FreshNoise(np.random.default_rng(1), (100, 110), correlation).take(60)
    assert noise.var() == pytest.approx(1, abs=0.015)
    np.testing.assert_allclose(lags(noise), correlation, atol=0.006)
    assert abs((noise[:, :, 2:] * noise[:, :, :-2]).mean()) < 0.006


def test_a_pool_gives_noise_of_the_same_kind_and_never_twice():
    pool = NoisePool(np.random.default_rng(2), (90, 80))
    one, two = (pool.field(np.random.default_rng(seed)).take(48) for seed in (3, 4))
    assert one.var() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(lags(one), REAL_CORRELATION, atol=0.01)
    assert abs((one * two).mean()) < 0.01


def test_noise_is_the_same_in_any_runs():
    whole, parts = (FreshNoise(np.random.default_rng(3), (7, 5)) for _ in range(2))
    together = np.concatenate([parts.take(n) for n in (1, 4, 2)])
    np.testing.assert_array_equal(whole.take(7), together)


@given(st.floats(0, 0.499))
def test_the_moving_average_has_the_correlation(correlation):
    weight = moving_average_weight(correlation)
    assert weight / (1 + weight**2) == pytest.approx(correlation)
    assert 0 <= weight <= 1


def test_a_correlation_that_two_neighbours_cannot_have_is_refused():
    with pytest.raises(InputError, match=r"0\.5"):
        moving_average_weight(0.5)


def test_the_modelled_noise_is_like_the_real_one():
    waves = np.arange(4800.0, 9300.0, 1.25)
    modelled, real = (model.at(waves, 900.0)[0] for model in (modelled_noise(), real_noise()))
    ratio = modelled / real
    assert 0.8 < np.median(ratio) < 1.25
    assert np.percentile(ratio, 10) > 0.6
    bright = np.abs(waves - 5577.3) < 1
    assert real[bright].max() > 5 * np.median(real[np.abs(waves - 5577) < 50])
    assert 0.7 < modelled[bright].max() / real[bright].max() < 1.4


def test_variance_falls_with_exposure_time():
    waves = np.array([5000.0, 7000.0])
    short, long = (modelled_noise().at(waves, t)[0] for t in (450.0, 900.0))
    np.testing.assert_allclose(short, 2 * long, rtol=1e-6)


# --- one exposure ------------------------------------------------------------------------------


@pytest.mark.parametrize(("east", "north"), [(0.0, 0.0), (1.7, 0.0), (0.0, -2.2), (-0.9, 1.3)])
def test_the_header_is_wrong_by_the_offset_with_the_sign_exposure_minus_truth(
    tmp_path, east, north
):
    spec = spec_of(
        ra_offset_arcsec=east, dec_offset_arcsec=north, moffat_beta=None, phase=(0.3, 0.1)
    )
    observe(STAR, spec, tmp_path / "a.fits", shape=(60, 60))
    data, _ = read(tmp_path / "a.fits")
    ra, dec = centroid(data[0], fits.getheader(tmp_path / "a.fits", "DATA"))
    found_east = (ra - RA) * np.cos(np.radians(DEC)) * 3600
    assert found_east == pytest.approx(east, abs=2e-3)
    assert (dec - DEC) * 3600 == pytest.approx(north, abs=2e-3)


def test_the_pointing_in_the_header_is_the_target_and_the_dither(tmp_path):
    observe(STAR, spec_of(dither_arcsec=(2.0, -3.0)), tmp_path / "a.fits", **SMALL)
    header = fits.getheader(tmp_path / "a.fits")
    assert (header["RA"] - RA) * np.cos(np.radians(DEC)) * 3600 == pytest.approx(2, abs=1e-3)
    assert (header["DEC"] - DEC) * 3600 == pytest.approx(-3, abs=1e-3)
    data = fits.getheader(tmp_path / "a.fits", "DATA")
    assert (data["CRVAL1"], data["CRVAL2"]) == (header["RA"], header["DEC"])


def test_a_rotation_error_turns_sources_about_the_centre(tmp_path):
    off_axis = AnalyticSky((PointSource(RA, DEC + 4 / 3600, Spectrum(1.0)),))
    spec = spec_of(rotation_error_deg=5.0, moffat_beta=None)
    observe(off_axis, spec, tmp_path / "a.fits", shape=(80, 80))
    data, _ = read(tmp_path / "a.fits")
    ra, dec = centroid(data[0], fits.getheader(tmp_path / "a.fits", "DATA"))
    # It lies north; turned too far through east, it seems to be east of north.
    east = (ra - RA) * np.cos(np.radians(DEC)) * 3600
    assert east == pytest.approx(4 * np.sin(np.radians(5)), abs=5e-3)
    assert (dec - DEC) * 3600 == pytest.approx(4 * np.cos(np.radians(5)), abs=5e-3)


def test_the_truth_is_in_the_file_to_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(observe_module, "_VOXELS_PER_RUN", 4 * 24 * 24)
    made = observe(EMITTER, spec_of(), tmp_path / "a.fits", **SMALL)
    footprint = made.footprint
    expected = true_cube(
        EMITTER, footprint.true_projection, footprint.shape, made.spec.spectral.wavelengths,
        made.spec.psf,
    )  # fmt: skip
    np.testing.assert_allclose(read(tmp_path / "a.fits")[0], expected, rtol=1e-6)


def test_scale_and_background_are_what_an_offset_table_takes_out(tmp_path):
    plain = observe(STAR, spec_of(), tmp_path / "a.fits", **SMALL)
    other = observe(STAR, spec_of(flux_scale=1.25, background=3.0), tmp_path / "b.fits", **SMALL)
    row = other.spec.offset
    repaired = (read(other.path)[0] + row.background) * row.flux_scale
    np.testing.assert_allclose(repaired, read(plain.path)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise", ["correlated", "white"])
@pytest.mark.parametrize("over", [1.0, 1.15])
def test_stat_is_the_variance_of_the_noise(tmp_path, noise, over):
    values = {"n_channels": 400, "edge_spaxels": 1}
    clean = observe(STAR, spec_of(**values), tmp_path / "a.fits", **SMALL)
    noisy = observe(
        STAR, spec_of(noise=noise, noise_over_stat=over, **values), tmp_path / "b.fits", **SMALL
    )
    flux, stat = read(noisy.path)
    pull = (flux - read(clean.path)[0]) / np.sqrt(stat)
    assert np.nanstd(pull) == pytest.approx(over, rel=0.01)
    pull = np.where(np.isfinite(pull), pull, 0)
    expected = REAL_CORRELATION if noise == "correlated" else (0, 0, 0)
    np.testing.assert_allclose(lags(pull), expected, atol=0.02)


def test_variance_grows_with_the_source(tmp_path):
    made = observe(STAR, spec_of(), tmp_path / "a.fits", **SMALL)
    flux, stat = read(made.path)
    sky, per_flux = modelled_noise().at(made.spec.spectral.wavelengths, 900.0)
    peak = np.unravel_index(flux[0].argmax(), flux[0].shape)
    growth = stat[:, *peak] - stat[:, 0, 0]
    assert np.all(growth > 0.8 * per_flux * flux[:, *peak] - 0.3 * sky)
    assert stat[:, 0, 0] / sky == pytest.approx(np.ones(30), abs=0.35)


def test_cosmic_rays_are_where_the_truth_says(tmp_path):
    values = {"n_channels": 300, "lost_fraction": 0.02}
    clean = observe(STAR, spec_of(**values), tmp_path / "a.fits", **SMALL)
    struck = observe(STAR, spec_of(hits_per_megavoxel=300, **values), tmp_path / "b.fits", **SMALL)
    difference = read(struck.path)[0] - read(clean.path)[0]
    expected = np.zeros(difference.shape)
    hits = struck.hits
    assert len(np.unique(hits["hit"])) > 20
    expected[hits["channel"], hits["y"], hits["x"]] = hits["flux"]
    expected[np.isnan(difference)] = np.nan
    np.testing.assert_allclose(difference, expected, rtol=1e-4, atol=1e-3)
    sigma = np.sqrt(modelled_noise().at(struck.spec.spectral.wavelengths, 900.0)[0])
    strongest = [hits["flux"][hits["hit"] == i].max() for i in np.unique(hits["hit"])]
    assert min(strongest) > 15 * sigma.min()
    assert np.bincount(hits["hit"]).max() <= 18


def test_no_voxel_is_struck_twice_and_channels_come_in_order():
    sigma = np.ones(40, np.float32)
    hits = cosmic_rays(np.random.default_rng(0), 40, (12, 10), 2e4, sigma)
    place = hits["channel"].astype(int) * 120 + hits["y"] * 10 + hits["x"]
    assert hits.size > 200
    assert np.all(np.diff(place) > 0)


def test_lost_spaxels_are_nan_in_flux_and_variance_at_all_wavelengths(tmp_path):
    made = observe(STAR, spec_of(lost_fraction=0.1), tmp_path / "a.fits", **SMALL)
    flux, stat = read(made.path)
    lost = np.zeros((24, 24), bool)
    lost[made.lost[:, 0], made.lost[:, 1]] = True
    assert lost.sum() == round(0.1 * 24 * 24)
    for array in (flux, stat):
        np.testing.assert_array_equal(np.isnan(array), np.broadcast_to(lost, array.shape))


def test_the_notch_of_the_adaptive_optics_is_nan(tmp_path):
    spec = spec_of(mode="WFM-AO-N", first_angstrom=4700.0, n_channels=1100)
    made = observe(STAR, spec, tmp_path / "a.fits", shape=(5, 5))
    waves = 4700 + 1.25 * np.arange(1100)
    blocked = (waves >= 5805) & (waves <= 5966)
    assert blocked.sum() > 100
    for array in read(made.path):
        np.testing.assert_array_equal(np.isnan(array).all((1, 2)), blocked)
        assert not np.isnan(array[~blocked]).any()


def test_the_rim_is_noisier_and_loses_one_side_in_the_blue_and_the_other_in_the_red(tmp_path):
    spec = spec_of(n_channels=3681, edge_spaxels=1)
    made = observe(FLAT, spec, tmp_path / "a.fits", shape=(12, 12))
    flux, stat = read(made.path)
    blue, red = 0, 3680
    assert np.isnan(flux[blue, -1]).all()
    assert not np.isnan(flux[blue, :-1]).any()
    assert np.isnan(flux[red, 0]).all()
    assert not np.isnan(flux[red, 1:]).any()
    middle = stat[1500]
    assert not np.isnan(middle).any()
    inner = np.median(middle[1:-1, 1:-1])
    assert np.median(np.r_[middle[0], middle[-1], middle[:, 0]]) == pytest.approx(
        4 * inner, rel=0.2
    )


@pytest.mark.parametrize("angle", [0.0, 45.0, 90.0, 20.0])
def test_a_turned_field_lies_whole_in_a_north_up_frame(angle):
    footprint = Footprint(spec_of(rotation_deg=angle, margin=2, edge_spaxels=0), (30, 50))
    inside = footprint.inside()
    assert footprint.projection.is_north_up
    assert inside.sum() == pytest.approx(30 * 50, rel=0.02)
    border = np.ones_like(inside)
    border[2:-2, 2:-2] = False
    assert not inside[border].any()
    # The long side is the field's x: its position angle is 90 degrees beyond the field's own.
    y, x = np.nonzero(inside)
    ra, dec = WCS(fits.Header(list(footprint.projection.cards))).all_pix2world(x, y, 0)
    east, north = (ra - RA) * np.cos(np.radians(DEC)), dec - DEC
    moments = np.cov(east, north)
    along = 0.5 * np.degrees(np.arctan2(2 * moments[0, 1], moments[1, 1] - moments[0, 0]))
    assert (along - (angle + 90) + 90) % 180 - 90 == pytest.approx(0, abs=1.0)


def test_at_45_degrees_the_corners_are_nan(tmp_path):
    made = observe(STAR, spec_of(rotation_deg=45.0), tmp_path / "a.fits", shape=(30, 30))
    flux, _ = read(made.path)
    assert flux.shape[1:] == (43, 43)
    for corner in (flux[:, :8, :8], flux[:, -8:, :8], flux[:, :8, -8:], flux[:, -8:, -8:]):
        assert np.isnan(corner).all()
    assert np.isfinite(flux[:, 21, 21]).all()


def test_night_sky_lines_move_with_the_barycentric_correction(tmp_path):
    found = []
    for first in (4749.54, 4750.47):
        spec = spec_of(first_angstrom=first, n_channels=700)
        made = observe(FLAT, spec, tmp_path / f"{first}.fits", shape=(5, 5))
        stat = read(made.path)[1][:, 2, 2]
        waves = first + 1.25 * np.arange(700)
        excess = np.where(np.abs(waves - 5577.3) < 8, stat - np.median(stat[600:]), 0)
        found.append((excess * waves).sum() / excess.sum() - 5577.338 * first / 4750)
    np.testing.assert_allclose(found, 0, atol=0.12)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    spec = spec_of(noise="correlated", hits_per_megavoxel=100, lost_fraction=0.01)
    first, same, other = (
        observe(STAR, spec, tmp_path / f"{i}.fits", seed=seed, **SMALL).path.read_bytes()
        for i, seed in enumerate((5, 5, 6))
    )
    assert first == same
    assert first != other


def test_exposures_of_one_seed_have_noise_of_their_own(tmp_path):
    specs = spec_of(noise="correlated"), spec_of(noise="correlated", name="b")
    one, two = (observe(FLAT, s, tmp_path / f"{s.name}.fits", **SMALL) for s in specs)
    pulls = [read(made.path)[0] / np.sqrt(read(made.path)[1]) for made in (one, two)]
    assert abs(np.mean(pulls[0] * pulls[1])) < 0.05


def test_the_length_of_the_runs_changes_nothing(tmp_path, monkeypatch):
    spec = spec_of(noise="correlated", hits_per_megavoxel=200)
    whole = read(observe(STAR, spec, tmp_path / "a.fits", **SMALL).path)
    monkeypatch.setattr(observe_module, "_VOXELS_PER_RUN", 4 * 24 * 24)
    for one, other in zip(
        whole, read(observe(STAR, spec, tmp_path / "b.fits", **SMALL).path), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


def test_memory_does_not_grow_with_the_number_of_channels(tmp_path):
    peaks = []
    for n in (600, 3600):
        tracemalloc.start()
        observe(
            STAR, spec_of(n_channels=n, noise="correlated"), tmp_path / f"{n}.fits", shape=(60, 60)
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"mode": "NFM"}, "mode"), ({"noise": "pink"}, "noise"), ({"exptime_s": 0}, "exptime_s"),
        ({"first_angstrom": 4700.0}, "first_angstrom"), ({"lost_fraction": 1.0}, "lost_fraction"),
        ({"phase": (0.6, 0)}, "phase"), ({"name": "a/b"}, "name"), ({"date_obs": "x"}, "date_obs"),
        ({"hits_per_megavoxel": -1}, "hits_per_megavoxel"), ({"flux_scale": -1}, "flux_scale"),
    ],
)  # fmt: skip
def test_an_impossible_exposure_is_refused_by_name(values, word):
    with pytest.raises(InputError, match=word):
        spec_of(**values)


@given(
    east=st.floats(-2, 2), north=st.floats(-2, 2), turn=st.floats(-3, 3),
    phase=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)  # fmt: skip
def test_the_offset_table_puts_an_exposure_where_it_really_was(east, north, turn, phase):
    """The stack's own placing of the exposure, by header and table, is the simulation's truth."""
    spec = spec_of(
        ra_offset_arcsec=east, dec_offset_arcsec=north, rotation_error_deg=turn, phase=phase
    )
    footprint = Footprint(spec, (20, 30))
    empty = np.zeros((spec.n_channels, 20, 30), np.float32)
    cube = make_cube(
        {"flux": empty, "variance": empty}, footprint.projection, spec.spectral,
        scalars={"name": "a", "date_obs": spec.date_obs},
    )  # fmt: skip
    placed = place(cube, OffsetTable((spec.offset,))).sky
    corners = np.array([0, 29, 29, 0]), np.array([0, 0, 19, 19])
    np.testing.assert_allclose(
        placed.to_sky(*corners), footprint.true_projection.to_sky(*corners), rtol=0, atol=1e-8
    )


# --- the file ----------------------------------------------------------------------------------


# mpdaf and the MUSE pipeline agree on a BUNIT that astropy finds discouraged.
@pytest.mark.filterwarnings("ignore:.*multiple slashes:astropy.units.UnitsWarning")
def test_the_file_is_what_mpdaf_expects_of_a_muse_cube(tmp_path):
    spec = spec_of(noise="correlated", lost_fraction=0.05, n_channels=50)
    made = observe(STAR, spec, tmp_path / "a.fits", **SMALL)
    cube = Cube(str(made.path))
    assert cube.shape == (50, 24, 24)
    assert cube.unit.to_string() == "1e-20 erg / (Angstrom s cm2)"
    assert cube.wave.get_crval() == 4749.9
    assert cube.wave.get_step() == 1.25
    assert cube.wave.shape == 50
    np.testing.assert_allclose(cube.get_step(), [1.25, 0.2 / 3600, 0.2 / 3600])
    flux, stat = read(made.path)
    np.testing.assert_array_equal(cube.mask, np.isnan(flux))
    np.testing.assert_array_equal(cube.var.data[~cube.mask], stat[~np.isnan(flux)])
    assert cube.primary_header["ESO INS MODE"] == "WFM-NOAO-N"


def test_the_headers_hold_what_the_pipeline_writes(tmp_path):
    made = observe(STAR, spec_of(), tmp_path / "a.fits", target="HUDF", **SMALL)
    with fits.open(made.path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "DATA", "STAT"]
        primary, data, stat = (hdu.header for hdu in hdus)
    assert primary["INSTRUME"] == "MUSE"
    assert primary["DATE-OBS"] == "2024-03-01T02:03:04.567"
    assert primary["MJD-OBS"] == pytest.approx(60370.08546953, abs=1e-8)
    assert primary["EXPTIME"] == 900
    assert primary["SPECSYS"] == "BARYCENT"
    assert primary["OBJECT"] == "HUDF"
    assert primary["ESO PRO CATG"] == "DATACUBE_FINAL"
    assert primary["ESO PRO REC1 ID"] == "muse_scibasic"
    assert primary["ESO PRO REC2 ID"] == "muse_scipost"
    assert primary["ESO PRO REC2 RAW24 CATG"] == "PIXTABLE_OBJECT"
    assert len(primary) > 200
    for key, value in {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "AWAV", "CUNIT3": "Angstrom",
        "CD3_3": 1.25, "CRPIX3": 1.0, "CRVAL3": 4749.9, "CD1_3": 0.0, "HDUCLASS": "ESO",
        "HDUDOC": "DICD", "HDUVERS": "DICD version 6", "HDUCLAS1": "IMAGE",
    }.items():  # fmt: skip
        assert data[key] == value
        assert stat[key] == value
    assert (data["HDUCLAS2"], data["ERRDATA"]) == ("DATA", "STAT")
    assert (stat["HDUCLAS2"], stat["HDUCLAS3"], stat["SCIDATA"]) == ("ERROR", "MSE", "DATA")
    assert data["BUNIT"] == "10**(-20)*erg/s/cm**2/Angstrom"
    assert stat["BUNIT"] == "(10**(-20)*erg/s/cm**2/Angstrom)**2"
    assert data["OBJECT"] == "HUDF (DATA)"
    assert not any(key.startswith("CDELT") for key in data)


@pytest.mark.parametrize("content", ["holes", "flux_holes"])
def test_holes_have_the_size_and_the_headers_but_take_no_room(tmp_path, content):
    spec = spec_of(n_channels=500, noise="correlated")
    full = observe(STAR, spec, tmp_path / "full.fits", shape=(60, 60)).path
    sparse = observe(STAR, spec, tmp_path / "sparse.fits", shape=(60, 60), content=content).path
    assert sparse.stat().st_size == full.stat().st_size
    assert sparse.stat().st_blocks < 0.6 * full.stat().st_blocks
    assert fits.getheader(sparse, "STAT") == fits.getheader(full, "STAT")
    flux, stat = read(sparse)
    assert not flux.any()
    if content == "flux_holes":
        np.testing.assert_array_equal(stat, read(full)[1])


def test_a_failure_leaves_nothing_behind(tmp_path):
    class Cloud:
        def spectra(self, wavelengths):
            return np.ones((1, wavelengths.size))

        def maps(self, psf, projection, shape):
            return np.ones((1, 2, 2), np.float32)  # of the wrong shape

    with pytest.raises(ValueError, match="broadcast"):
        observe(Cloud(), spec_of(), tmp_path / "a.fits", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_it_may_go(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("mine")
    with pytest.raises(FileError, match="overwrite"):
        observe(STAR, spec_of(), path, **SMALL)
    assert path.read_text() == "mine"
    observe(STAR, spec_of(), path, overwrite=True, **SMALL)
    assert path.stat().st_size > 10_000


def test_a_folder_that_is_not_there_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(FileError, match=r"nowhere/a\.fits"):
        observe(STAR, spec_of(), tmp_path / "nowhere" / "a.fits", **SMALL)


def test_a_pool_of_another_shape_is_refused(tmp_path):
    pool = NoisePool(np.random.default_rng(0), (10, 10))
    with pytest.raises(InputError, match="shape"):
        observe(STAR, spec_of(noise="correlated"), tmp_path / "a.fits", pool=pool, **SMALL)
    assert list(tmp_path.iterdir()) == []


# --- sets --------------------------------------------------------------------------------------


def test_the_truth_comes_back_as_it_was_written(tmp_path):
    specs = survey(3, 1, n_channels=60, hits_per_megavoxel=300.0, lost_fraction=0.02)
    made = observe_all(STAR, specs, tmp_path, shape=(20, 20))
    again = read_truth(tmp_path)
    assert [o.spec for o in again] == specs
    assert again.paths == made.paths
    for one, other in zip(made, again, strict=True):
        assert one.footprint == other.footprint
        np.testing.assert_array_equal(one.hits, other.hits)
        np.testing.assert_array_equal(one.lost, other.lost)
    assert OffsetTable.read(tmp_path / "truth.ecsv") == made.offsets
    for row, spec in zip(made.offsets, specs, strict=True):
        assert (row.ra_offset_arcsec, row.dec_offset_arcsec) == (
            spec.ra_offset_arcsec, spec.dec_offset_arcsec,
        )  # fmt: skip
        assert (row.date_obs, row.flux_scale) == (spec.date_obs, spec.flux_scale)


def test_a_folder_without_truth_says_so(tmp_path):
    with pytest.raises(FileError, match="truth"):
        read_truth(tmp_path)


def test_a_survey_has_its_pointings_its_kinds_and_no_name_twice():
    specs = survey(40, 4)
    assert len({spec.date_obs for spec in specs}) == len({spec.name for spec in specs}) == 40
    assert len({(spec.ra_deg, spec.dec_deg) for spec in specs}) == 4
    assert {spec.n_channels for spec in specs} == {3681, 3682, 3721, 3722, 3801}
    assert {spec.rotation_deg for spec in specs} == {0.0, 90.0, 180.0, 270.0}
    assert np.std([spec.ra_offset_arcsec for spec in specs]) == pytest.approx(0.4, rel=0.4)
    assert survey(40, 4) == specs
    assert survey(40, 4, seed=1) != specs


@pytest.mark.parametrize("numbers", [(0, 1), (2, 3), (3, 0)])
def test_a_survey_of_nothing_is_refused(numbers):
    with pytest.raises(InputError, match="pointing"):
        survey(*numbers)


def test_noise_that_is_used_again_does_not_show_in_the_mean_of_exposures(tmp_path):
    specs = [
        spec_of(name=f"e{i}", date_obs=f"2024-03-0{i + 1}T00:00:00.000", noise="correlated")
        for i in range(6)
    ]
    truth = observe_all(FLAT, specs, tmp_path, shape=(40, 40), reuse_noise=True)
    pulls = [read(path)[0] / np.sqrt(read(path)[1]) for path in truth.paths]
    assert np.std(np.mean(pulls, axis=0)) == pytest.approx(1 / np.sqrt(6), rel=0.05)


def test_two_exposures_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="name"):
        observe_all(STAR, [spec_of(), spec_of()], tmp_path)


def test_simulated_exposures_are_a_folder_to_work_with(tmp_path):
    truth = simulate_exposures(tmp_path / "set", 1, content="holes")
    assert [path.name for path in truth.paths] == ["exposure_0000.fits"]
    assert list((tmp_path / "set").glob("*.fits")) == list(truth.paths)
    assert fits.getheader(truth.paths[0], "DATA")["NAXIS3"] == 3681
    assert len(OffsetTable.read(tmp_path / "set" / "truth.ecsv")) == 1


def test_full_size_is_full_size(tmp_path):
    truth = simulate_exposures(tmp_path, 2, full_size=True, content="holes")
    header = fits.getheader(truth.paths[0], "DATA")
    assert (header["NAXIS1"], header["NAXIS2"]) == (320, 316)
    assert truth.paths[0].stat().st_size > 2.9e9
    assert sum(path.stat().st_blocks for path in truth.paths) * 512 < 1e6


def test_no_exposures_are_refused(tmp_path):
    with pytest.raises(InputError):
        simulate_exposures(tmp_path, 0)


# --- the real sky ------------------------------------------------------------------------------


def real_cube():
    with fits.open(mpdaf_data(MUSE_FILE)) as hdus:
        header = hdus["DATA"].header
        flux = hdus["DATA"].data.astype(float)
    waves = header["CRVAL3"] + 1.25 * np.arange(flux.shape[0])
    return flux, waves, header


def test_the_hst_image_is_off_by_the_pinned_offset():
    """Centroids of the central galaxy in both files, by astropy's WCS alone."""
    flux, waves, header = real_cube()
    muse = np.nanmedian(flux[(waves > 7200) & (waves < 9300)], axis=0)
    with fits.open(mpdaf_data(HST_FILE)) as hdus:
        hst, hst_wcs = hdus["SCI"].data.astype(float), WCS(hdus["SCI"].header)
    wcs = WCS(header).celestial
    muse_at = brightest(muse, 1.0, 0.2)
    # In the HST image only where MUSE looks, with cosmic rays taken out and the same seeing.
    smooth = ndimage.gaussian_filter(ndimage.median_filter(hst, 5), NATIVE_FWHM_ARCSEC / 0.2355)
    x, y = hst_wcs.all_world2pix(*wcs.all_pix2world(*muse_at, 0), 0)
    window = np.s_[int(y) - 30 : int(y) + 31, int(x) - 30 : int(x) + 31]
    dx, dy = brightest(smooth[window], 1.0, 0.1)
    hst_at = dx + int(x) - 30, dy + int(y) - 30
    (ra, dec), (hst_ra, hst_dec) = (
        wcs.all_pix2world(*muse_at, 0), hst_wcs.all_pix2world(*hst_at, 0),
    )  # fmt: skip
    east = (hst_ra - ra) * np.cos(np.radians(dec)) * 3600
    found = np.array([east, (hst_dec - dec) * 3600])
    np.testing.assert_allclose(found, HST_MINUS_MUSE_ARCSEC, atol=0.08)
    assert np.hypot(*found) == pytest.approx(1.2, abs=0.1)


def brightest(image, radius_arcsec, pixel_arcsec):
    """Centroid (x, y) of the light above the level around the brightest pixel."""
    y, x = np.unravel_index(np.nanargmax(image), image.shape)
    yy, xx = np.indices(image.shape)
    near = np.hypot(yy - y, xx - x) * pixel_arcsec < radius_arcsec
    light = np.where(near, np.maximum(image - image[near].min(), 0), 0)
    return (light * xx).sum() / light.sum(), (light * yy).sum() / light.sum()


def test_the_real_sky_observed_as_it_was_gives_the_real_cube_back():
    flux, waves, header = real_cube()
    inner = np.s_[6:-6, 6:-6]
    plane = SkyProjection.from_header(header)
    select = slice(1400, 3400)
    true = true_cube(real_sky(), plane, (40, 40), waves[select], Psf(NATIVE_FWHM_ARCSEC))
    real = flux[select]
    red = waves[select] > 7400
    images = np.nanmedian(real[red], 0)[inner], np.median(true[red], 0)[inner]
    assert np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1] > 0.997
    ratio = images[1] / images[0]
    faint = images[0] < np.percentile(images[0], 25)
    # One spectrum for all: the real galaxy is bluer outside, so the red is a little too bright.
    assert np.median(ratio) == pytest.approx(1, abs=0.12)
    assert np.median(ratio[faint]) == pytest.approx(1, abs=0.2)
    line = (waves[select] > HALPHA_WINDOW_ANGSTROM[0]) & (waves[select] < HALPHA_WINDOW_ANGSTROM[1])
    beside = (waves[select] > 7040) & (waves[select] < 7090)
    lines = [(cube[line] - np.median(cube[beside], 0)).sum(0)[inner] for cube in (real, true)]
    assert lines[1].sum() == pytest.approx(lines[0].sum(), rel=0.03)
    assert np.corrcoef(lines[0].ravel(), lines[1].ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("between", "least", "most"), [((7800, 9340), 1.03, 1.25), ((4760, 5500), 0.45, 0.87)]
)
def test_the_real_sky_is_as_wrong_outside_its_centre_as_its_documentation_says(
    between, least, most
):
    flux, waves, header = real_cube()
    select = np.flatnonzero((waves > between[0]) & (waves < between[1]))[::4]
    plane = SkyProjection.from_header(header)
    true = true_cube(real_sky(), plane, (40, 40), waves[select], Psf(NATIVE_FWHM_ARCSEC))
    # A median over channels does not feel the lines of the night sky.
    real, made = (
        np.nanmedian(np.nanmean(cube.reshape(-1, 5, 8, 5, 8), axis=(2, 4)), axis=0)
        for cube in (flux[select], true)
    )
    assert (made / real).min() == pytest.approx(least, abs=0.03)
    assert (made / real).max() == pytest.approx(most, abs=0.03)


def test_the_real_sky_is_wide_enough_for_dithers():
    plane = SkyProjection.north_up(63.35527, 10.46649, 0.2, 60, 60)
    picture = true_cube(real_sky(), plane, (121, 121), [6500.0, 8000.0], Psf(0.8))
    assert np.isfinite(picture).all()
    assert picture.min() > 0


def test_better_seeing_shows_more_detail_in_the_real_sky():
    plane = SkyProjection.north_up(63.355085, 10.467611, 0.2, 12, 12)
    sharp, blurred = (
        true_cube(real_sky(), plane, (25, 25), [8000.0], Psf(fwhm))[0] for fwhm in (0.5, 1.0)
    )
    assert sharp[12, 12] > 1.5 * blurred[12, 12] - 0.5 * np.median(blurred)
    assert sharp.sum() == pytest.approx(blurred.sum(), rel=0.03)


def test_without_mpdaf_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"musedask\[demo\]"):
        mpdaf_data(MUSE_FILE)


def test_a_broken_mpdaf_is_an_error_that_names_the_file():
    with pytest.raises(FileError, match="no-such-file"):
        mpdaf_data("no-such-file")


def test_real_noise_is_what_the_real_stat_is():
    with fits.open(mpdaf_data(MUSE_FILE)) as hdus:
        stat, flux = hdus["STAT"].data.astype(float), hdus["DATA"].data.astype(float)
    waves = real_cube()[1]
    sky, per_flux = real_noise().at(waves, 900.0)
    expected = sky + per_flux * np.nanmedian(flux, (1, 2))
    ratio = expected / np.nanmedian(stat, (1, 2))
    assert np.percentile(ratio[10:-10], [2, 98]) == pytest.approx([1, 1], abs=0.15)


def test_replace_keeps_a_specification_checked():
    with pytest.raises(InputError):
        replace(spec_of(), n_channels=0)
