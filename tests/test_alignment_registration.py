"""The numerics of the alignment, each step against something that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from musedask.alignment.registration.background import (
    level_and_sigma,
    noise_correlation,
    smooth_background,
)
from musedask.alignment.registration.combining import agree, robust_mean
from musedask.alignment.registration.correlating import eroded, peaks, pearson
from musedask.alignment.registration.fitting import find_sources, fit_sources
from musedask.alignment.registration.lattices import Mapping, Matched, binned, match
from musedask.alignment.registration.matching import FineImage, Sampler, Seeing
from musedask.alignment.registration.preparing import prepare, scaled_sigma
from musedask.alignment.registration.solving import FLOOR_ARCSEC, Pairs, solve

SIGMA = 1.7
ARCSEC = np.diag([-0.2, 0.2])
NO_CORRELATION = np.pad(np.ones((1, 1)), 4)


def gaussians(places, fluxes, shape=(64, 72), sigma=SIGMA):
    """Sources that are integrated over pixels, by the normal distribution's own integral."""
    y, x = (np.arange(size) for size in shape)
    image = np.zeros(shape)
    for (x0, y0), flux in zip(places, fluxes, strict=True):
        across = stats.norm.cdf(x + 0.5, x0, sigma) - stats.norm.cdf(x - 0.5, x0, sigma)
        along = stats.norm.cdf(y + 0.5, y0, sigma) - stats.norm.cdf(y - 0.5, y0, sigma)
        image += flux * along[:, None] * across
    return image


def scattered(seed, n, shape=(64, 72), rim=12):
    """Places that keep their distance from one another and from the edge."""
    rng = np.random.default_rng(seed)
    kept = []
    while len(kept) < n:
        place = rng.uniform([rim, rim], [shape[1] - rim, shape[0] - rim])
        if all(np.hypot(*(place - other)) > 11 for other in kept):
            kept.append(place)
    return np.array(kept)


def model_of(image):
    """The picture as a reference, read off between its pixels."""
    return Matched(image, np.zeros(image.shape), 0, 2.355 * SIGMA * 0.2)


def test_level_and_noise_are_those_of_what_is_left_without_the_sources():
    rng = np.random.default_rng(1)
    values = rng.normal(5.0, 2.0, 20000)
    values[:800] += 300.0
    level, sigma = level_and_sigma(values)
    assert level == pytest.approx(5.0, abs=0.1)
    assert sigma == pytest.approx(2.0, rel=0.05)
    assert np.isnan(level_and_sigma(np.zeros(0))).all()


def test_a_background_follows_a_gradient_and_passes_over_sources_and_holes():
    y, x = np.mgrid[:96, :128].astype(float)
    truth = 10.0 + 0.02 * x - 0.03 * y
    image = truth + gaussians([(40.0, 30.0), (90.0, 60.0)], [4000.0, 2000.0], (96, 128))
    usable = np.ones(image.shape, bool)
    usable[:, 100:] = False
    found = smooth_background(image, usable, 16)
    inner = (slice(8, -8), slice(8, 92))
    assert np.abs(found - truth)[inner].max() < 0.35
    assert np.isfinite(found).all()
    assert (smooth_background(image, np.zeros(image.shape, bool), 16) == 0).all()


def test_the_correlation_of_noise_is_measured_beside_a_gradient_and_an_outlier():
    rng = np.random.default_rng(2)
    weight = 0.175
    fresh = rng.normal(size=(401, 401))
    fresh = (fresh[1:] + weight * fresh[:-1]) / np.sqrt(1 + weight**2)
    noise = (fresh[:, 1:] + weight * fresh[:, :-1]) / np.sqrt(1 + weight**2)
    lag = weight / (1 + weight**2)
    noise = noise + 0.3  # a level that was left over
    noise[200:203, 10:390] = 80.0
    found = noise_correlation(noise, np.ones(noise.shape, bool), np.ones(noise.shape))
    assert found[4, 4] == 1.0
    assert found[4, 5] == pytest.approx(lag, abs=0.03)
    assert found[5, 4] == pytest.approx(lag, abs=0.03)
    assert found[5, 5] == pytest.approx(lag**2, abs=0.03)
    assert np.abs(found[:2]).max() < 0.02


def test_a_seeing_transform_is_that_of_its_profile():
    pixel, size = 0.05, 1024
    axis = (np.arange(size) - size // 2) * pixel
    radius = np.hypot(axis[:, None], axis)
    frequency = np.fft.fftfreq(size, pixel)[:60]
    for beta in (None, 2.8, 4.0):
        fwhm = 0.9
        if beta is None:
            profile = np.exp(-4 * np.log(2) * (radius / fwhm) ** 2)
        else:
            scale = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
            profile = (1 + (radius / scale) ** 2) ** -beta
        numeric = np.abs(np.fft.fft2(profile / profile.sum()))[0, :60]
        assert Seeing(fwhm, beta).transform(frequency) == pytest.approx(numeric, abs=0.02)
        assert Seeing(fwhm, beta).transform(np.zeros(1))[0] == pytest.approx(1.0)


@pytest.mark.parametrize("turn", [0.0, 0.6])
def test_a_matched_reference_is_what_the_exposure_would_have_seen(turn):
    """A point on a fine lattice, smoothed and averaged over spaxels, against its integral."""
    fine_pixel, ratio = 0.08, 2.5
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = ratio * np.array([[cos, -sin], [sin, cos]])
    origin = np.array([75.0, 75.0]) - matrix @ np.array([20.3, 24.6])
    values = np.zeros((150, 150), np.float32)
    values[75, 75] = 1.0
    fine = FineImage(values, np.ones(values.shape, bool), 0.0, fine_pixel, matrix)
    # A Gaussian's Moffat is of infinite beta: take the reference's own smoothing for one.
    wide = ndimage.gaussian_filter(values.astype(float), SIGMA * ratio)
    smooth = FineImage(wide.astype(np.float32), fine.known, 0.0, fine_pixel, matrix)
    found = match(smooth, Mapping(origin, matrix), (48, 44), 0, 0.0)
    expected = gaussians([(20.3, 24.6)], [1.0], (48, 44))
    around = np.s_[18:32, 14:28]
    # match takes the background off: of a lone source it is next to nothing.
    assert (found.image + found.background)[around] == pytest.approx(
        expected[around], abs=4e-3 * expected.max()
    )


@pytest.mark.parametrize("bins", [2, 3])
def test_a_binned_reference_has_the_same_flux_at_the_same_place(bins):
    y, x = np.mgrid[:240, :240].astype(float)
    values = 7.0 + 50.0 * np.exp(-((x - 130.3) ** 2 + (y - 110.7) ** 2) / (2 * 9.0**2))
    values[:, :30] = np.nan
    matrix = 5.0 * np.array([[0.8, -0.6], [0.6, 0.8]])
    mapping = Mapping(np.array([120.0, 20.0]), matrix)
    fine = FineImage.of(values.astype(np.float32), 0.04, matrix)
    found = [match(*pair, (30, 24), 0, 0.3)
             for pair in ((fine, mapping), binned(fine, mapping, bins))]  # fmt: skip
    whole, coarse = (one.image + one.background for one in found)
    both = np.isfinite(whole) & np.isfinite(coarse)
    assert both.sum() > 300
    assert coarse[both] == pytest.approx(whole[both], abs=0.01 * np.nanmax(whole))


def test_beside_missing_pixels_a_reference_has_no_value():
    values = np.ones((80, 80), np.float32)
    known = np.ones(values.shape, bool)
    known[30:40, 30:40] = False
    fine = FineImage(np.where(known, values, 0), known, 0.0, 0.1, 2 * np.eye(2))
    unknown = fine.smoothed(Seeing(0.8)).unknown
    assert unknown[30:40, 30:40].all()
    reach = math.ceil(1.3 * 0.8 / 0.1)
    assert unknown[35, 39 + reach]
    assert not unknown[35, 40 + reach]
    assert unknown[30 - reach, 35]
    assert not unknown[29 - reach, 35]
    assert unknown[reach - 1].all()
    assert unknown[:, reach - 1].all()
    assert not unknown[reach, reach:-reach].any()


def test_a_sampler_reads_between_pixels_and_not_beside_holes():
    y, x = np.mgrid[:30, :40].astype(float)
    image = np.sin(x / 5) + np.cos(y / 6)
    image[10, 10] = np.nan
    sampler = Sampler.of(image)
    assert sampler.at(np.array([20.3]), np.array([15.7])) == pytest.approx(
        np.sin(20.3 / 5) + np.cos(15.7 / 6), abs=1e-3
    )
    assert np.isnan(sampler.at(np.array([10.5, -0.1]), np.array([10.4, 5.0]))).all()


@settings(max_examples=20, deadline=None)
@given(dx=st.integers(-20, 20), dy=st.integers(-20, 20), seed=st.integers(0, 99))
def test_the_highest_peak_is_at_the_displacement(dx, dy, seed):
    margin = 22
    rng = np.random.default_rng(seed)
    places = rng.uniform([0, 0], [72 + 2 * margin, 64 + 2 * margin], (30, 2))
    reference = gaussians(places, np.ones(30), (64 + 2 * margin, 72 + 2 * margin))
    # The image shows at x what the reference has at x + margin - displacement.
    image = reference[margin - dy : margin - dy + 64, margin - dx : margin - dx + 72]
    usable = np.ones(image.shape, bool)
    usable[:, :5] = False
    found = peaks(image, usable, reference, np.ones(reference.shape, bool), margin, 6.0, 1000.0)
    best = max(found, key=lambda peak: peak.correlation)
    assert (best.dx, best.dy) == (pytest.approx(dx, abs=0.3), pytest.approx(dy, abs=0.3))
    assert best.correlation == pytest.approx(1.0, abs=1e-6)
    assert found[0].usual


def test_a_correlation_needs_an_overlap():
    image, usable = np.random.default_rng(3).normal(size=(20, 20)), np.ones((20, 20), bool)
    reference = np.zeros((60, 60))
    assert peaks(image, usable, reference, np.zeros((60, 60), bool), 20, 3.0, 5.0) == ()


def test_pearson_is_numpys():
    rng = np.random.default_rng(4)
    one, other = rng.normal(size=(2, 30, 30))
    usable = rng.random((30, 30)) > 0.3
    expected = np.corrcoef(one[usable], other[usable])[0, 1]
    assert pearson(one, other, usable) == pytest.approx(expected)
    assert np.isnan(pearson(one, np.ones((30, 30)), usable))


def test_a_rim_is_taken_off_edges_and_not_around_single_pixels():
    usable = np.ones((40, 40), bool)
    usable[20, 20] = False
    usable[:, 35:] = False
    inner = eroded(usable, 3)
    assert not inner[20, 20]
    assert inner[20, 21]
    assert not inner[:, 32:].any()
    assert not inner[:3].any()
    assert inner[10, 31]


def test_noise_is_found_where_light_fills_the_field():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:60, :60].astype(float)
    light = 100.0 * np.exp(-((x - 30) ** 2 + (y - 25) ** 2) / 400.0)
    noisy = light + rng.normal(0, 2.0, light.shape)
    sigma = scaled_sigma(noisy, np.ones(light.shape), np.ones(light.shape, bool))
    assert 2.0 < sigma[0, 0] < 2.0 * 1.25


def test_a_variance_gives_the_shape_of_the_noise_and_not_its_level():
    rng = np.random.default_rng(6)
    true = np.where(np.arange(200) < 100, 1.0, 3.0)[None, :] * np.ones((200, 1))
    exposure = prepare(rng.normal(0, true), (0.1 * true) ** 2, ARCSEC)
    usable = exposure.usable
    assert np.median(exposure.sigma[usable] / true[usable]) == pytest.approx(1.0, rel=0.05)


def test_each_source_has_its_own_shift_amplitude_and_broadening():
    places = scattered(7, 6)
    fluxes = np.array([900.0, 700.0, 500.0, 400.0, 300.0, 250.0])
    own = np.array([[0.0, 0], [0.3, -0.2], [0, 0.4], [0, 0], [-0.5, 0.1], [0.2, 0.2]])
    reference = gaussians(places, fluxes)
    broad = np.sqrt(SIGMA**2 + 0.2)
    image = 2.0 * gaussians(places + own, fluxes, sigma=broad)
    sigma = np.full(image.shape, 0.05)
    sources = find_sources(reference, sigma, np.ones(image.shape, bool), 4.0, 5.0)
    assert len(sources) == 6
    order = [
        int(np.argmin(np.hypot(*(places - [x, y]).T)))
        for x, y in zip(sources.x, sources.y, strict=True)
    ]
    starts = np.zeros((6, 2))
    for _ in range(6):
        fits = fit_sources(image, sigma, None, sources, model_of(reference), starts, broadened=True)
        starts = starts + fits.shift
    assert starts == pytest.approx(own[order], abs=0.01)
    assert fits.good.all()
    # To first order in the width: the next step takes most of what is left.
    assert fits.broadening == pytest.approx(0.2, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("lag", [0.0, 0.17])
def test_errors_of_shifts_are_what_they_say(lag):
    """Pulls of many realisations, with independent and with correlated noise."""
    places = scattered(8, 6)
    fluxes = np.array([300.0, 200.0, 150.0, 120.0, 100.0, 80.0])
    light = gaussians(places, fluxes)
    sigma = np.full(light.shape, 1.0)
    usable = np.ones(light.shape, bool)
    weight = 0.0 if lag == 0 else (1 - np.sqrt(1 - 4 * lag**2)) / (2 * lag)
    correlation = NO_CORRELATION.copy()
    correlation[4, [3, 5]] = correlation[[3, 5], 4] = lag
    for i in (3, 5):
        correlation[i, [3, 5]] = lag**2
    sources = find_sources(light, sigma, usable, 4.0, 5.0)
    rng = np.random.default_rng(9)
    pulls = []
    for _ in range(60):
        fresh = rng.normal(size=(light.shape[0] + 1, light.shape[1] + 1))
        fresh = (fresh[1:] + weight * fresh[:-1]) / np.sqrt(1 + weight**2)
        fresh = (fresh[:, 1:] + weight * fresh[:, :-1]) / np.sqrt(1 + weight**2)
        fits = fit_sources(
            light + fresh, sigma, correlation, sources, model_of(light), np.zeros((6, 2))
        )
        errors = np.sqrt(np.diagonal(fits.covariance, axis1=1, axis2=2))
        pulls.append((fits.shift / errors)[fits.good])
    rms = np.sqrt(np.mean(np.concatenate(pulls) ** 2))
    assert 0.88 < rms < 1.12


def test_no_source_is_found_where_nothing_is_promised():
    flat = np.zeros((40, 40))
    sources = find_sources(flat, np.ones(flat.shape), np.ones(flat.shape, bool), 4.0, 3.0)
    assert len(sources) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(6, 30), wrong=st.integers(0, 2))
def test_sources_agree_on_the_truth_in_spite_of_some_that_moved(seed, n, wrong):
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.01, 0.06, n)
    values = rng.normal(0, 1, (n, 2)) * errors[:, None] + [0.4, -0.3]
    errors[:wrong] = 0.002  # the brightest ones are the wrong ones
    values[:wrong] = rng.uniform([0.5, -0.9], [2.3, 0.9], (wrong, 2))
    covariances = errors[:, None, None] ** 2 * np.eye(2)
    found = agree(values, covariances, 3.0)
    stated = np.sqrt(np.diag(found.covariance))
    assert (np.abs(found.place - [0.4, -0.3]) < 5 * stated).all()
    assert (found.belongs[:wrong] < 0.1).all()
    ideal = np.sqrt(1 / np.sum(1 / errors[wrong:] ** 2))
    assert stated.max() < 2.5 * ideal + 0.01


def test_the_error_of_what_sources_agree_on_grows_with_their_scatter():
    rng = np.random.default_rng(11)
    covariances = np.full(20, 0.002**2)[:, None, None] * np.eye(2)
    tight = agree(rng.normal(0, 0.002, (20, 2)), covariances, 3.0)
    loose = agree(rng.normal(0, 0.03, (20, 2)), covariances, 3.0)
    assert tight.scatter < 0.004
    assert loose.scatter == pytest.approx(0.03, rel=0.4)
    assert np.sqrt(loose.covariance[0, 0]) == pytest.approx(0.03 / np.sqrt(20), rel=0.5)


def test_nothing_to_agree_on_is_an_error():
    with pytest.raises(ValueError, match="no value"):
        agree(np.zeros((0, 2)), np.zeros((0, 2, 2)), 1.0)


def test_a_robust_mean_leaves_outliers_out_and_adds_the_scatter():
    rng = np.random.default_rng(12)
    values = np.append(rng.normal(3.0, 0.5, 40), [30.0, -40.0])
    mean, error = robust_mean(values, np.full(42, 0.1))
    assert mean == pytest.approx(3.0, abs=0.25)
    assert error == pytest.approx(0.5 / np.sqrt(40), rel=0.3)
    assert np.isnan(robust_mean(np.zeros(0), np.zeros(0))).all()
    assert robust_mean(np.array([2.0]), np.array([0.5])) == (2.0, 0.5)


def chain(truth, noise, error, own=0.5):
    """Every pair of images, each image displaced by its own noise."""
    n = len(truth)
    first, second = (
        np.array(part) for part in zip(*[(i, j) for i in range(n) for j in range(i)], strict=True)
    )
    seen = truth + noise
    size = np.full((first.size, 2), error)
    return Pairs(first, second, seen[first] - seen[second], size, np.full(first.size, own))


NOTHING = np.full((5, 2), np.nan)
TRUTH = np.array([[0.0, 0.0], [1.0, 2.0], [-3.0, 0.5], [4.0, -1.0], [-2.0, -1.5]])


def test_pairs_alone_give_offsets_whose_mean_is_nought():
    solution = solve(5, chain(TRUTH, 0.0, 0.02), NOTHING, NOTHING)
    assert solution.place == pytest.approx(TRUTH - TRUTH.mean(axis=0), abs=1e-9)
    assert not solution.tied.any()
    # Half of a pair's error squared is each one's own.
    assert solution.error == pytest.approx(np.full((5, 2), 0.02 * np.sqrt(0.5)), rel=0.2)


def test_one_absolute_offset_fixes_all():
    absolute, errors = NOTHING.copy(), NOTHING.copy()
    absolute[2], errors[2] = TRUTH[2] + 10.0, 0.01
    solution = solve(5, chain(TRUTH, 0.0, 0.02), absolute, errors)
    assert solution.place == pytest.approx(TRUTH + 10.0, abs=1e-6)
    assert solution.tied.all()


def test_a_wrong_pair_does_not_pull():
    pairs = chain(TRUTH, 0.0, 0.02)
    pairs.place[3] += [0.8, -0.5]
    solution = solve(5, pairs, NOTHING, NOTHING)
    assert solution.place == pytest.approx(TRUTH - TRUTH.mean(axis=0), abs=0.01)
    assert solution.weight[3] < 0.1
    assert np.delete(solution.weight, 3).min() > 0.5


def test_the_noise_of_an_image_is_in_its_error_however_many_pairs_it_has():
    rng = np.random.default_rng(13)
    own = 0.02
    pulls = []
    for _ in range(200):
        pairs = chain(TRUTH, rng.normal(0, own, (5, 2)), own * np.sqrt(2))
        solution = solve(5, pairs, NOTHING, NOTHING)
        pulls.append((solution.place - TRUTH + TRUTH.mean(axis=0)) / solution.error)
    # Relative to their mean five images scatter by sqrt(4 / 5) of their own errors.
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(np.sqrt(0.8), abs=0.1)
    assert solution.error.min() > FLOOR_ARCSEC


def test_images_without_a_pair_have_no_place():
    pairs = Pairs(
        np.array([1]), np.array([0]), np.array([[1.0, 2.0]]), np.full((1, 2), 0.01), np.array([0.5])
    )
    solution = solve(5, pairs, NOTHING, NOTHING)
    assert np.isfinite(solution.place[:2]).all()
    assert np.isnan(solution.place[2:]).all()
    assert len(set(solution.group)) == 4
