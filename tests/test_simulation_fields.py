"""Simulated images of deep fields: light, places, seeing, noise, and the best that is possible."""

from __future__ import annotations

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from scipy import linalg, ndimage

from musedask.errors import InputError
from musedask.simulation.fields import (
    KINDS,
    Blemishes,
    FieldExposureSpec,
    ReferenceSpec,
    cluster,
    draw_case,
    galaxies,
    observe_exposure,
    observe_reference,
    photon_limit,
    points,
)
from musedask.simulation.fields.image import correlated_noise
from musedask.simulation.fields.kernels import add_gaussians
from musedask.simulation.fields.limit import slope, template_power
from musedask.simulation.fields.mixtures import Mixture, hubble, moffat, sersic
from musedask.simulation.fields.painting import Lattice, Spread, paint
from musedask.simulation.noise import REAL_CORRELATION
from musedask.simulation.psf import Psf, point_map
from musedask.sky import SkyProjection

RA, DEC = 53.1, -41.0
CLEAN = Blemishes(ragged_arcsec=0.0, dead_share=0.0)
LAG = REAL_CORRELATION[1]


def lattice(side: int = 81, pixel: float = 0.2, angle: float = 0.0) -> Lattice:
    middle = (side - 1) / 2.0
    projection = SkyProjection.north_up(RA, DEC, pixel, middle, middle)
    return Lattice(projection.moved(0.0, 0.0, angle), (side, side))


def centroid(image: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    total = image.sum()
    return float((image * x).sum() / total), float((image * y).sum() / total)


def aside(east: float, north: float) -> tuple[float, float]:
    """RA and DEC so many arcseconds from the field's middle."""
    there = SkyCoord(RA * u.deg, DEC * u.deg).spherical_offsets_by(
        east * u.arcsec, north * u.arcsec
    )
    return float(there.ra.deg), float(there.dec.deg)


# --- profiles and painting ---------------------------------------------------------------------


@pytest.mark.parametrize("beta", [2.0, 2.5, 3.3, 4.0])
def test_a_moffat_function_is_met_to_three_parts_in_a_thousand_of_its_peak(beta):
    radius = np.linspace(0.0, 6.0, 300)
    scale = 0.5 / np.sqrt(2 ** (1 / beta) - 1)
    wanted = (beta - 1) / (np.pi * scale**2) * (1 + (radius / scale) ** 2) ** -beta
    assert np.abs(moffat(beta)(radius) - wanted).max() < 3e-3 * wanted[0]


@pytest.mark.parametrize("index", [1.0, 4.0])
def test_half_of_a_galaxys_light_is_within_its_half_light_radius(index):
    mixture = sersic(index)
    within = mixture.weights @ (1 - np.exp(-0.5 / mixture.sigmas**2))
    assert abs(within - 0.5) < 0.02


def test_profiles_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="beta of 1"):
        moffat(1.0)
    with pytest.raises(InputError, match="index of 9"):
        sersic(9.0)


@pytest.mark.parametrize(("fwhm", "beta"), [(0.5, 2.2), (0.9, 3.0)])
def test_a_star_is_the_integral_of_the_seeing_over_each_spaxel(fwhm, beta):
    place, star = lattice(), aside(0.13, -0.31)
    found = paint(points(*star, 20.0), np.array([1.0]), Spread(moffat(beta).scaled(fwhm)), place,
                  1e-9)  # fmt: skip
    wanted = point_map(Psf(fwhm, beta), place.projection, place.shape, *star)
    assert np.abs(found - wanted).max() < 4e-3 * wanted.max()


def test_a_galaxy_has_its_light_its_place_and_its_shape_whatever_the_lattice():
    galaxy = replace(
        points(*aside(0.3, 0.7), 20.0), kind=np.array([1.0]), radius_arcsec=np.array([0.8]),
        axis_ratio=np.array([0.4]), angle_deg=np.array([25.0]),
    )  # fmt: skip
    for angle, pixel in ((0.0, 0.1), (77.0, 0.1), (200.0, 0.05)):
        place = lattice(round(24 / pixel) + 1, pixel, angle)
        image = paint(galaxy, np.array([3.0]), Spread(hubble()), place, 1e-9)
        assert image.sum() == pytest.approx(3.0, rel=1e-3)
        at = place.projection.to_sky(*centroid(image))
        np.testing.assert_allclose(at, aside(0.3, 0.7), atol=2e-3 / 3600)
        assert long_axis(image, place) == pytest.approx(25.0, abs=0.5)


def long_axis(image: np.ndarray, place: Lattice) -> float:
    """Position angle of the direction in which an image is widest, by its second moments."""
    x0, y0 = centroid(image)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    east, north = np.tensordot(place.arcsec_per_pixel, np.stack([x - x0, y - y0]), 1)
    ee, en, nn = ((image * p).sum() for p in (east**2, east * north, north**2))
    return float(np.degrees(0.5 * np.arctan2(2 * en, nn - ee))) % 180.0


def test_a_gaussian_is_painted_where_it_is_above_the_faintest_value_and_nowhere_else():
    found = np.zeros((60, 70))
    terms = (31.3, 28.8, 2.0, 0.05, 0.04, 0.06)
    add_gaussians(found, *(np.array([term]) for term in terms), 1e-3)
    x0, y0, peak, xx, xy, yy = terms
    dy, dx = np.mgrid[:60, :70] - np.array([y0, x0])[:, None, None]
    whole = peak * np.exp(-0.5 * (xx * dx**2 + yy * dy**2) - xy * dx * dy)
    np.testing.assert_allclose(found, np.where(whole >= 1e-3, whole, 0.0), rtol=1e-9, atol=1e-12)


def test_counts_of_galaxies_are_those_of_deep_fields():
    rng = np.random.default_rng(1)
    magnitude = np.concatenate([galaxies(rng, RA, DEC, 120.0).magnitude for _ in range(40)])
    area = 40 * 4.0
    brighter = [np.sum(magnitude < mag) / area for mag in (22, 24, 26)]
    # 14 a magnitude at I = 24; the integral of a slope s is 1 / (s ln 10) of that.
    np.testing.assert_allclose(brighter[1], 14 / (0.34 * np.log(10)), rtol=0.06)
    assert np.log10(brighter[1] / brighter[0]) / 2 == pytest.approx(0.35, abs=0.04)
    assert brighter[2] - brighter[1] == pytest.approx(
        14 * (10**0.5 - 1) / (0.25 * np.log(10)), rel=0.06
    )


def test_a_cluster_is_dense_in_its_middle_and_has_more_faint_stars():
    stars = cluster(np.random.default_rng(2), RA, DEC, 2000)
    radius = SkyCoord(RA * u.deg, DEC * u.deg).separation(
        SkyCoord(stars.ra_deg * u.deg, stars.dec_deg * u.deg)
    )
    inner, outer = (np.sum(radius.arcsec < r) for r in (15, 60))
    assert inner / 15**2 > 4 * (outer - inner) / (60**2 - 15**2)
    assert np.sum(stars.magnitude > 23) > 4 * np.sum(stars.magnitude < 21)


# --- where exposures lie -----------------------------------------------------------------------


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("rotator", [0.0, 33.0, 214.0])
def test_the_header_is_off_by_the_offset_and_the_reference_is_right(rotator, is_turned):
    star = aside(4.0, -3.0)
    scene = points(*star, 15.0)
    spec = FieldExposureSpec(
        rotator_deg=rotator, is_turned=is_turned, ra_offset_arcsec=7.5, dec_offset_arcsec=-2.25,
        dither_arcsec=(0.4, -0.3), blemishes=CLEAN,
    )  # fmt: skip
    exposure = observe_exposure(scene, spec, RA, DEC, np.random.default_rng(0))
    says = SkyCoord(*exposure.image.projection.to_sky(*centroid(exposure.light)), unit="deg")
    east, north = SkyCoord(*star, unit="deg").spherical_offsets_to(says)
    assert east.arcsec == pytest.approx(7.5, abs=5e-3)
    assert north.arcsec == pytest.approx(-2.25, abs=5e-3)
    middle = [(n - 1) / 2 for n in exposure.image.flux.shape]
    points_at = SkyCoord(*exposure.image.projection.to_sky(*middle), unit="deg")
    east, north = SkyCoord(RA, DEC, unit="deg").spherical_offsets_to(points_at)
    assert (east.arcsec, north.arcsec) == pytest.approx((7.9, -2.55), abs=5e-3)
    assert exposure.truth.ra_offset_arcsec == 7.5
    assert exposure.truth.dec_offset_arcsec == -2.25
    reference = observe_reference(
        scene, ReferenceSpec(side_arcsec=30.0, angle_deg=61.0), RA, DEC, np.random.default_rng(0)
    )
    says = SkyCoord(*reference.projection.to_sky(*centroid(reference.flux)), unit="deg")
    assert says.separation(SkyCoord(*star, unit="deg")).arcsec < 2e-3


def test_the_header_turns_the_field_too_far_by_the_rotation():
    angles = []
    for star in (aside(0.0, 0.0), aside(6.0, 20.0)):
        spec = FieldExposureSpec(rotation_deg=0.5, rotator_deg=120.0, blemishes=CLEAN)
        exposure = observe_exposure(points(*star, 15.0), spec, RA, DEC, np.random.default_rng(0))
        angles.append(exposure.image.projection.to_sky(*centroid(exposure.light)))
    one, other = (SkyCoord(*at, unit="deg") for at in angles)
    true = SkyCoord(RA, DEC, unit="deg").position_angle(SkyCoord(*aside(6.0, 20.0), unit="deg"))
    assert (one.position_angle(other) - true).deg == pytest.approx(0.5, abs=0.01)


def test_a_source_that_moves_or_varies_does_so_for_the_exposure_alone():
    star = points(*aside(0.0, 0.0), 18.0)
    moved = star.with_motion(0, 1.5, -0.5, 1.0)
    still, after = (
        observe_exposure(s, FieldExposureSpec(blemishes=CLEAN), RA, DEC, np.random.default_rng(0))
        for s in (star, moved)
    )
    east, north = np.subtract(centroid(after.light), centroid(still.light)) * (-0.2, 0.2)
    assert (east, north) == pytest.approx((1.5, -0.5), abs=5e-3)
    assert after.light.sum() / still.light.sum() == pytest.approx(10**-0.4, rel=1e-3)
    assert np.isinf(after.truth.covariance_arcsec2).all()
    one, two = (
        observe_reference(s, ReferenceSpec(20.0), RA, DEC, np.random.default_rng(0)).flux
        for s in (star, moved)
    )
    np.testing.assert_array_equal(one, two)


def test_the_flux_scale_is_what_brings_the_exposure_to_the_reference():
    star = points(*aside(0.0, 0.0), 17.0, 0.0)
    spec = FieldExposureSpec(transparency=0.8, background=3.0, blemishes=CLEAN)
    exposure = observe_exposure(star, spec, RA, DEC, np.random.default_rng(0))
    reference = observe_reference(star, ReferenceSpec(30.0), RA, DEC, np.random.default_rng(0))
    ratio = reference.flux.sum() / exposure.light.sum()
    assert exposure.truth.flux_scale == pytest.approx(ratio, rel=2e-3)
    assert np.nanmedian(exposure.image.flux) == pytest.approx(3.0, abs=0.01)


def test_the_footprint_is_a_minute_of_arc_and_turns_with_the_rotator():
    blank = points(RA, DEC, 20.0)
    for rotator, is_turned, wide in ((0.0, False, 60.0), (45.0, False, 84.9), (20.0, True, 60.0)):
        spec = FieldExposureSpec(rotator_deg=rotator, is_turned=is_turned, blemishes=CLEAN)
        image = observe_exposure(blank, spec, RA, DEC, np.random.default_rng(0)).image
        inside = np.isfinite(image.flux)
        assert inside.sum() * 0.04 == pytest.approx(3600.0, rel=0.01)
        np.testing.assert_array_equal(inside, np.isfinite(image.variance))
        columns = np.flatnonzero(inside.any(axis=0))
        assert 0.2 * (columns[-1] - columns[0]) == pytest.approx(wide, abs=0.5)


@pytest.mark.parametrize("is_turned", [False, True])
def test_the_footprint_lies_at_the_position_angle_of_the_rotator(is_turned):
    spec = FieldExposureSpec(rotator_deg=20.0, is_turned=is_turned, blemishes=CLEAN)
    image = observe_exposure(points(RA, DEC, 20.0), spec, RA, DEC, np.random.default_rng(0)).image
    middle = SkyCoord(RA, DEC, unit="deg")
    # The corners of the square are 42 arcsec away, at 45 degrees from the rotator's angle.
    for angle, there in ((65.0, True), (155.0, True), (25.0, False), (115.0, False)):
        corner = middle.directional_offset_by(angle * u.deg, 40.5 * u.arcsec)
        x, y = image.projection.to_pixel(corner.ra.deg, corner.dec.deg)
        place = round(float(y)), round(float(x))
        within = all(0 <= p < n for p, n in zip(place, image.flux.shape, strict=True))
        assert (within and bool(np.isfinite(image.flux[place]))) == there


def test_what_cannot_be_simulated_is_refused():
    with pytest.raises(InputError, match="'K' is not one of white, I"):
        observe_exposure(points(RA, DEC, 20.0), FieldExposureSpec(band="K"), RA, DEC,
                         np.random.default_rng(0))  # fmt: skip
    with pytest.raises(InputError, match="'moon'"):
        draw_case(0, "moon")  # type: ignore[arg-type]


# --- noise -------------------------------------------------------------------------------------


def test_noise_has_its_level_and_the_correlation_of_a_real_exposure():
    blank = points(*aside(500.0, 0.0), 25.0)
    flux, variance = [], []
    for seed in range(4):
        spec = FieldExposureSpec(exptime_s=1800.0, stated_variance=0.8, blemishes=CLEAN)
        image = observe_exposure(blank, spec, RA, DEC, np.random.default_rng(seed)).image
        flux.append(image.flux[15:305, 15:305])
        variance.append(image.variance[15:305, 15:305])
    noise, stated = np.array(flux, float), np.array(variance, float)
    assert np.mean(noise**2) / stated.mean() == pytest.approx(1 / 0.8, rel=0.01)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(0.197 / np.sqrt(2), rel=0.01)
    for axis in (1, 2):
        ahead, behind = np.take(noise, range(1, 290), axis), np.take(noise, range(289), axis)
        assert np.mean(ahead * behind) / np.mean(noise**2) == pytest.approx(0.17, abs=0.01)


def test_the_noise_of_a_bright_source_is_that_of_its_photons():
    star = points(*aside(0.0, 0.0), 12.0, 0.0)
    spec = FieldExposureSpec(blemishes=CLEAN)
    core = slice(157, 163), slice(157, 163)
    images = [observe_exposure(star, spec, RA, DEC, np.random.default_rng(i)) for i in range(40)]
    light = images[0].light[core]
    noise = np.array([image.image.flux[core] - light for image in images], float)
    wanted = 0.197**2 + 1.3e-4 * light
    assert wanted.min() > 5 * 0.197**2
    assert np.mean(noise**2 / wanted) == pytest.approx(1.0, abs=0.17)


def test_the_noise_of_the_reference_is_as_deep_as_asked_and_has_the_sources_photons():
    spec = ReferenceSpec(side_arcsec=20.0, depth_mag=27.0, lag=0.0)
    star = points(*aside(0.0, 0.0), 16.0)
    one, two = (observe_reference(star, spec, RA, DEC, np.random.default_rng(i)) for i in (0, 1))
    noise = (one.flux - two.flux).astype(float) / np.sqrt(2.0)
    blank = np.ones(noise.shape, bool)
    blank[150:250, 150:250] = False
    # Five sigma in a circle of 0.4 arcsec diameter: 50.3 pixels of 0.05 arcsec.
    wanted = 10 ** (-0.4 * (27.0 - 25.94)) / 5.0 / np.sqrt(np.pi * 0.04 / 0.0025)
    assert noise[blank].std() == pytest.approx(wanted, rel=0.02)
    core = one.flux > 20.0
    assert core.sum() > 10
    assert one.variance[core].min() > 20 * wanted**2
    np.testing.assert_allclose(one.variance[core], one.flux[core] / 2000.0, rtol=0.05)
    assert np.mean(noise[core] ** 2 / one.variance[core]) == pytest.approx(1.0, abs=0.75)


# --- the bound ---------------------------------------------------------------------------------


def small_field() -> tuple[Lattice, np.ndarray, np.ndarray]:
    """A galaxy and two stars on 40 x 40 spaxels: the lattice, its light, its variance."""
    place = lattice(40, angle=20.0)
    return place, shifted_light(place, 0.0, 0.0), 0.2**2 + 0.02 * shifted_light(place, 0.0, 0.0)


def shifted_light(place: Lattice, east: float, north: float) -> np.ndarray:
    scene = points(*np.transpose([aside(e + east, n + north) for e, n in
                                  ((0.0, 0.6), (1.3, -1.2), (-1.4, -0.7))]), 20.0)  # fmt: skip
    scene = replace(
        scene, kind=np.array([1.0, 0.0, 0.0]), radius_arcsec=np.array([0.6, 0.0, 0.0]),
        axis_ratio=np.array([0.5, 1.0, 1.0]),
    )  # fmt: skip
    flux = np.array([20.0, 8.0, 5.0])
    return paint(scene, flux, Spread(moffat(2.8).scaled(0.7)), place, 1e-6)


def whitener(variance: np.ndarray) -> np.ndarray:
    """Inverse Cholesky factor of the covariance of all pixels, written out."""
    n = variance.shape[0]
    row = np.zeros(n)
    row[:2] = 1.0, LAG
    along = linalg.toeplitz(row)
    sigma = np.sqrt(variance.ravel())
    factor = np.linalg.cholesky(np.kron(along, along) * sigma[:, None] * sigma)
    return np.asarray(linalg.solve_triangular(factor, np.eye(n * n), lower=True))


def test_slopes_are_those_of_the_light():
    place, light, _ = small_field()
    step = 0.01
    east = (shifted_light(place, step, 0.0) - shifted_light(place, -step, 0.0)) / (2 * step)
    by_pixel = np.stack([slope(light, 1), slope(light, 0)])
    found = -np.tensordot(np.linalg.inv(place.arcsec_per_pixel).T, by_pixel, 1)[0]
    assert np.abs(found - east).max() < 0.01 * np.abs(east).max()


def test_the_bound_is_the_scatter_of_a_likelihood_fit_of_the_known_scene():
    place, light, variance = small_field()
    white, step = whitener(variance), 0.02
    slopes = np.stack([
        (shifted_light(place, *(step * unit)) - shifted_light(place, *(-step * unit))).ravel()
        for unit in np.eye(2)
    ], axis=1) / (2 * step)  # fmt: skip
    design = white @ slopes
    solve = np.linalg.pinv(design) @ white
    rng = np.random.default_rng(3)
    n_fits, found = 600, []
    for _ in range(n_fits):
        noise = correlated_noise(rng, np.sqrt(variance), place.shape, LAG)
        data = shifted_light(place, 0.01, -0.015) + noise
        # The offset is a hundredth of the seeing: one step from zero is the maximum.
        found.append(solve @ (data - light).ravel())
    bound = photon_limit(light, variance, np.ones(place.shape, bool), LAG, place.arcsec_per_pixel)
    scatter = np.cov(np.transpose(found))
    # Fourier's edges apart, the bound is that of the matrix written out.
    np.testing.assert_allclose(bound, np.linalg.inv(design.T @ design), rtol=0.02,
                               atol=0.02 * bound[0, 0])  # fmt: skip
    error = 4 * np.sqrt(2 / n_fits)
    np.testing.assert_allclose(np.diag(scatter), np.diag(bound), rtol=error)
    off = np.mean(found, axis=0) - [0.01, -0.015]
    assert (np.abs(off) < 4 * np.sqrt(np.diag(bound) / n_fits)).all()


def test_half_the_light_is_half_the_information():
    place, light, variance = small_field()
    every = np.ones(place.shape, bool)
    whole = photon_limit(light, variance, every, LAG, place.arcsec_per_pixel)
    blind = photon_limit(light, variance, ~every, LAG, place.arcsec_per_pixel)
    deeper = photon_limit(light, variance / 4, every, LAG, place.arcsec_per_pixel)
    assert np.isinf(blind).all()
    np.testing.assert_allclose(deeper, whole / 4)


def test_the_bound_goes_with_the_pixels_whatever_their_shape():
    place, light, variance = small_field()
    every, skewed = np.ones(place.shape, bool), np.array([[0.2, 0.1], [-0.05, 0.3]])
    by_pixel = photon_limit(light, variance, every, LAG, np.eye(2))
    found = photon_limit(light, variance, every, LAG, skewed)
    np.testing.assert_allclose(found, skewed @ by_pixel @ skewed.T, rtol=1e-9)


def test_a_reference_s_noise_has_the_power_that_the_bound_counts():
    """Noise of a fine lattice, smoothed and summed over spaxels as light is, and its power."""
    fine, bins, n, lag, sigma_pix, sky = 0.05, 4, 64, 0.1, 5.0, 0.7
    rng = np.random.default_rng(4)
    power = np.zeros((n, n))
    for _ in range(40):
        noise = correlated_noise(rng, np.float32(2.0), (n * bins, n * bins), lag)
        seen = ndimage.gaussian_filter(noise.astype(float), sigma_pix, mode="wrap")
        spaxels = seen.reshape(n, bins, n, bins).sum(axis=(1, 3))
        power += np.abs(np.fft.fft2(spaxels)) ** 2 / n**2 / 40
    density = 2.0**2 * (1 + 2 * lag) ** 2 / fine**2
    spread = Mixture(np.ones(1), np.array([sigma_pix * fine]))
    found = template_power((n, n), bins * fine, density, spread, sky)
    low = np.s_[1:8, 1:8]
    assert power[low].sum() / sky == pytest.approx(found[low].sum(), rel=0.06)
    assert power[0, 8:20].sum() / sky == pytest.approx(found[0, 8:20].sum(), rel=0.25)


def test_the_noise_of_the_reference_and_the_rim_count_in_the_bound():
    rng = np.random.default_rng(5)
    scene = galaxies(rng, 30.0, -20.0, 118.0, 1.0)
    bounds = []
    for depth in (26.5, 31.0):
        reference = observe_reference(scene, ReferenceSpec(depth_mag=depth), 30.0, -20.0, rng)
        spec = FieldExposureSpec(exptime_s=3600.0)
        truth = observe_exposure(scene, spec, 30.0, -20.0, rng, reference).truth
        bounds.append(truth.limit_arcsec)
    shallow, deep = np.array(bounds)
    assert (shallow > 1.15 * deep).all()


def test_the_bound_of_one_gaussian_star_in_white_noise_is_the_textbooks():
    """The integral of a Gaussian's squared slope is flux^2 / (8 pi sigma^4)."""
    y, x = np.mgrid[:61, :61] - 30.0
    sigma, flux, noise = 2.5, 100.0, 0.3
    light = flux / (2 * np.pi * sigma**2) * np.exp(-(x**2 + y**2) / (2 * sigma**2))
    found = photon_limit(light, np.full(light.shape, noise**2), np.ones(light.shape, bool), 0.0,
                         np.eye(2))  # fmt: skip
    wanted = np.sqrt(8 * np.pi) * sigma**2 * noise / flux
    np.testing.assert_allclose(np.sqrt(np.diag(found)), wanted, rtol=1e-3)


# --- cases -------------------------------------------------------------------------------------


def test_the_same_number_gives_the_same_case_and_another_another():
    one, again, other = draw_case(4), draw_case(4), draw_case(5)
    np.testing.assert_array_equal(one.exposure.image.flux, again.exposure.image.flux)
    np.testing.assert_array_equal(one.reference.flux, again.reference.flux)
    assert one.exposure.image.projection == again.exposure.image.projection
    assert one.exposure.image.projection != other.exposure.image.projection


def test_exposures_of_a_field_share_the_reference_and_differ_in_offset_and_key():
    case = draw_case(1, n_exposures=3)
    assert len({e.image.date_obs for e in case.exposures}) == 3
    assert len({e.truth.ra_offset_arcsec for e in case.exposures}) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_what_it_says(kind):
    cases = [draw_case(seed, kind) for seed in range(3)]
    for case in cases:
        scene, truth = case.scene, case.exposure.truth
        assert np.hypot(truth.ra_offset_arcsec, truth.dec_offset_arcsec) <= 15.0
        assert 0.5 <= truth.fwhm_arcsec <= 1.2
        assert np.isfinite(case.exposure.image.flux).sum() * 0.04 == pytest.approx(3560, rel=0.02)
        known = np.isfinite(case.reference.flux).mean()
        assert (0.35 < known < 0.5) if kind == "half" else known == 1.0
        visible = scene.magnitude < 26.9
        if kind in ("empty", "satellite"):
            assert not visible.any()
        if kind == "mover":
            moves = np.hypot(scene.move_east_arcsec, scene.move_north_arcsec)[visible]
            assert 0.3 <= moves.item() <= 1.5
        if kind == "crowded":
            assert np.sum((scene.magnitude < 24) & ~scene.is_galaxy) > 200
        brightest = np.nanmax(case.exposure.light)
        assert (brightest > 10 * np.sqrt(np.nanmin(case.exposure.image.variance))) == (
            kind not in ("empty", "satellite")
        )


def test_fields_differ_from_too_poor_to_rich():
    numbers = [draw_case(seed).exposure.truth.n_bright for seed in range(8)]
    assert min(numbers) < 5 <= np.median(numbers) < max(numbers)
