"""Fluxes of exposures among one another: ratios of pairs, one system, and the stack in the end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from command_line import DEC, PIXEL_DEG, RA, date, expose, succeeded
from star_exposures import star_image

from musedask import open_megacube
from musedask.alignment.flux_ratios import Aligned, flux_ratio
from musedask.alignment.flux_scales import (
    Ratio,
    in_units_of_reference,
    solved_scales,
    with_flux_scales,
)
from musedask.alignment.image import FieldImage
from musedask.alignment.measure import align
from musedask.alignment.measurement import Measurement
from musedask.errors import MissingError
from musedask.offsets import OffsetTable
from musedask.sky import SkyProjection

SIZE = 170
STAMP = 81
"""A star's wings are cut off there, as far out as the background is measured."""
STARS = 14
PIXEL = 0.2


def places(seed: int = 4):
    """Where the stars are, (x, y), far enough apart to be told apart, and their fluxes."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    while len(found) < STARS:
        one = rng.uniform(28, SIZE - 28, 2)
        if all(np.hypot(*(one - other)) > 22 for other in found):
            found.append(one)
    return np.array(found), 10.0 ** rng.uniform(3.2, 4.5, STARS)


def scene(fwhm: float, fluxes, at, beta: float = 2.6):
    """Stars at (x, y), float64 (SIZE, SIZE)."""
    image = np.zeros((SIZE + STAMP, SIZE + STAMP))
    half = STAMP // 2
    for (x, y), flux in zip(at, fluxes, strict=True):
        i, j = round(x), round(y)
        star = star_image(STAMP, half + x - i, half + y - j, fwhm, beta)
        image[j : j + STAMP, i : i + STAMP] += flux * star
    return image[half : half + SIZE, half : half + SIZE]


def seen(fwhm: float, factor: float, seed: int, fluxes=None, at=None, sigma: float = 1.0):
    where, bright = places()
    image = factor * scene(fwhm, bright if fluxes is None else fluxes, where if at is None else at)
    noise = np.random.default_rng(seed).normal(0.0, sigma, image.shape)
    return Aligned(image + noise, sigma)


# --- one pair ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [(0.7, 0.7), (0.6, 1.0), (1.1, 0.6)])
def test_the_seeing_of_two_exposures_is_no_difference_of_flux(one, other):
    first, second = seen(one, 0.6, 1), seen(other, 1.0, 2, sigma=2.0)
    value, error = flux_ratio(first, second, PIXEL)
    assert value == pytest.approx(0.6, rel=0.02)
    assert abs(value - 0.6) < 3 * error
    back, back_error = flux_ratio(second, first, PIXEL)
    assert back * value == pytest.approx(1.0, rel=1e-6)
    assert back_error / back == pytest.approx(error / value, rel=1e-6)
    # What is not known of the wings is in the error, where they have been corrected for.
    assert (error / value > 0.015) == (one != other)


def test_a_star_that_varies_and_one_that_moves_do_not_count():
    at, fluxes = places()
    fluxes[3] *= 2.0
    at[np.argmax(fluxes)] += (3.0, 2.0)
    value, error = flux_ratio(seen(0.7, 0.8, 1), seen(0.9, 1.0, 2, fluxes, at), PIXEL)
    assert value == pytest.approx(0.8, rel=0.03)
    assert error < 0.05


def test_the_noise_of_neither_biases_a_ratio():
    values = [
        flux_ratio(seen(0.7, 1.0, n, sigma=8.0), seen(0.7, 1.0, 100 + n, sigma=30.0), PIXEL)
        for n in range(8)
    ]
    logs, errors = np.log([v for v, _ in values]), np.array([e for _, e in values])
    assert abs(logs.mean()) < 2.5 * errors.mean() / math.sqrt(8)
    assert errors.mean() == pytest.approx(logs.std(), rel=0.9)


def test_one_source_says_nothing():
    at, fluxes = places()
    fluxes[1:] = 0.0
    lonely = seen(0.7, 1.0, 1, fluxes, at)
    assert all(map(math.isnan, flux_ratio(lonely, lonely, PIXEL)))


# --- all of them -------------------------------------------------------------------------------

SCALES = np.array([0.5, 1.0, 2.0, 1.6, 0.7, 3.0])


def ratios(pairs, scales=SCALES, error=0.01):
    """What exact comparisons say: flux is the inverse of what it has to be multiplied by."""
    return [Ratio(i, j, scales[j] / scales[i], error * scales[j] / scales[i]) for i, j in pairs]


def test_a_group_has_the_geometric_mean_of_1_and_an_outlier_does_not_matter():
    pairs = ratios([(i, j) for i in range(6) for j in range(i)])
    pairs[4] = replace(pairs[4], value=3.0 * pairs[4].value)
    scale, error, _ = solved_scales(6, pairs)
    np.testing.assert_allclose(scale, SCALES / np.exp(np.log(SCALES).mean()), rtol=1e-6)
    assert (error > 0.002).all()
    assert (error < 0.02).all()


def test_groups_are_apart_and_who_was_compared_with_nobody_has_none():
    pairs = [*ratios([(0, 1), (3, 4)]), Ratio(5, 0, math.nan, math.nan)]
    scale, error, group = solved_scales(6, pairs)
    np.testing.assert_allclose(scale[[0, 1]], [0.5**0.5, 2**0.5], rtol=1e-6)
    assert scale[3] * scale[4] == pytest.approx(1.0)
    assert np.isnan(scale[[2, 5]]).all()
    assert np.isnan(error[[2, 5]]).all()
    assert len({int(n) for n in group}) == 4


def measured(grade: str, flux_scale: float, method: str = "reference") -> Measurement:
    return Measurement(date_obs=date(0), grade=grade, flux_scale=flux_scale, method=method)


def test_what_a_reference_says_of_some_gives_all_of_their_group_its_units():
    scale = np.array([0.5, 1.0, 2.0, 1.0, 1.0, 1.0])
    group = np.array([0, 0, 0, 0, 1, 2])
    found = [
        measured("A", 5.1), measured("B", 9.9), measured("A", 30.0), measured("C", 99.0),
        measured("C", 7.0), measured("A", 3.0, "relative"),
    ]  # fmt: skip
    tied, is_tied = in_units_of_reference(scale, group, found)
    # Factors of A and B are 10.2, 9.9 and 15: the median stands.
    np.testing.assert_allclose(tied, [5.1, 10.2, 20.4, 10.2, 7.0, 1.0])
    assert is_tied.tolist() == [True] * 5 + [False]


# --- images ------------------------------------------------------------------------------------

FACTORS = np.array([1.0, 0.55, 0.8, 0.9])
SEEING = (0.6, 1.0, 0.7, 0.8)
SHIFTS = np.array([(0.0, 0.0), (1.4, -0.6), (-0.7, 2.1), (3.3, 1.2)])
"""Of the exposures on their pixels, what their headers do not know."""


def sky_image(n: int, **changes: object) -> FieldImage:
    at, fluxes = places()
    image = FACTORS[n] * scene(SEEING[n], fluxes, at + SHIFTS[n])
    image = image + np.random.default_rng(n).normal(0, 1, image.shape)
    given = {
        "flux": image.astype(np.float32), "variance": np.ones(image.shape, np.float32),
        "projection": SkyProjection.north_up(RA, DEC, PIXEL, 84.5, 84.5), "name": f"exp{n}",
        "date_obs": date(n), "ra_deg": RA, "dec_deg": DEC,
    }  # fmt: skip
    return FieldImage(**{**given, **changes})


@pytest.fixture(scope="module")
def images():
    return [sky_image(n) for n in range(4)]


@pytest.fixture(scope="module")
def reference():
    """The sky as it is, sharp, in other units."""
    at, fluxes = places()
    image = 1e-3 * scene(0.4, fluxes, at)
    return sky_image(0, flux=image.astype(np.float32), variance=None, date_obs="", name="sky")


def near_to(scales, expected, tolerance=0.03):
    np.testing.assert_allclose(scales, expected, rtol=tolerance)


def test_relative_offsets_come_with_flux_scales(images):
    found = align(images)
    assert {one.method for one in found} == {"relative"}
    scale = np.array([one.flux_scale for one in found])
    near_to(scale, np.exp(np.log(FACTORS).mean()) / FACTORS)
    errors = np.array([one.flux_scale_error for one in found])
    assert (np.abs(scale * FACTORS / np.exp(np.log(FACTORS).mean()) - 1) < 3 * errors / scale).all()


def test_those_that_are_tied_to_the_reference_have_its_units(images, reference):
    # The reference reaches two of the exposures.
    class Partial:
        kind, frame, name, band = "reference", "the test's", "partial", ""

        def near(self, projection, *_):
            if projection.crval_deg[0] != RA:
                raise MissingError("not here")
            return reference

    away = SkyProjection.north_up(RA + 0.4 / 3600, DEC, PIXEL, 84.5, 84.5)
    mixed = [*images[:2], *(replace(image, projection=away) for image in images[2:])]
    found = align(mixed, Partial())
    assert [one.method for one in found] == ["reference"] * 2 + ["reference+relative"] * 2
    level = np.array([one.flux_scale for one in found]) * FACTORS
    # How well the reference itself tells the flux is another matter.
    near_to(level, 1e-3, 0.12)
    near_to(level[2:], np.exp(np.log(level[:2]).mean()))
    everywhere = with_flux_scales(mixed, tuple(found))
    near_to([one.flux_scale for one in everywhere] * FACTORS, np.exp(np.log(level[:2]).mean()))


def test_a_catalogue_has_no_fluxes_to_scale_to(images, tmp_path):
    at, _ = places()
    ra, dec = images[0].projection.to_sky(*at.T)
    (tmp_path / "radec.txt").write_text(
        "".join(f"{a:.7f} {d:.7f}\n" for a, d in zip(ra, dec, strict=True))
    )
    (row,) = align(images[1:2], tmp_path / "radec.txt", relative=False)
    assert row.grade in "AB"
    assert math.isnan(row.flux_scale)
    assert math.isnan(row.background)


# --- the whole way -----------------------------------------------------------------------------

CHANNELS = 4


@pytest.fixture(scope="module")
def cubes(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cubes")
    paths = []
    for n, image in enumerate(images):
        noise = np.random.default_rng(50 + n).normal(0, 2, (CHANNELS, SIZE, SIZE))
        flux = (image.flux + noise).astype(np.float32)
        wcs = {"CRPIX1": 85.5, "CRPIX2": 85.5, "CD1_1": -PIXEL_DEG, "CD2_2": PIXEL_DEG}
        paths.append(expose(
            folder, n, flux=flux, variance=np.full(flux.shape, 5.0, np.float32), wcs=wcs,
            shape=flux.shape,
        ))  # fmt: skip
    return paths


def stacked_fluxes(cubes, folder, offsets):
    """Flux of each star in a wide aperture of the mean."""
    store = folder / "deep.zarr"
    succeeded(
        "stack", *cubes, "-o", store, "--offsets", offsets, "--methods", "mean", "--weights",
        "equal",
    )  # fmt: skip
    cube = open_megacube(store)["mean"].compute()
    image = cube["flux"].mean("wavelength").values
    grid = SkyProjection.from_cards(dict(cube["wcs"].attrs))
    y0, x0 = float(cube["y"][0]), float(cube["x"][0])
    at, _ = places()
    x, y = grid.to_pixel(*SkyProjection.north_up(RA, DEC, PIXEL, 84.5, 84.5).to_sky(*at.T))
    yy, xx = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([
        np.nansum(image[np.hypot(yy - j + y0, xx - i + x0) < 12])
        for i, j in zip(x, y, strict=True)
    ])  # fmt: skip


def expected_fluxes(level):
    """The same of the true sky at the exposures' seeing, seen through a factor."""
    at, fluxes = places()
    sky = level * np.mean([scene(fwhm, fluxes, at) for fwhm in SEEING], axis=0)
    yy, xx = np.mgrid[:SIZE, :SIZE]
    return np.array([sky[np.hypot(yy - j, xx - i) < 12].sum() for i, j in at])


@pytest.mark.parametrize("kind", ["relative", "absolute", "none"])
def test_a_stack_has_the_flux_of_its_typical_exposure(kind, cubes, reference, tmp_path):
    offsets = tmp_path / "offsets.ecsv"
    options = [] if kind == "none" else ["--flux-scale", "relative"]
    if kind == "absolute":
        fits.writeto(
            tmp_path / "sky.fits", reference.flux,
            fits.Header(list(reference.projection.cards)),
        )  # fmt: skip
        options += ["--reference", tmp_path / "sky.fits"]
    succeeded("align", *cubes, "-o", offsets, *options)
    rows = OffsetTable.read(offsets).rows
    level = FACTORS.mean() if kind == "none" else np.median(FACTORS)
    if kind == "none":
        assert all(math.isnan(row.flux_scale) for row in rows)
    else:
        # The middle of an even number of scales is the mean of two.
        level = 1.0 / np.median(1.0 / FACTORS)
        near_to([row.flux_scale for row in rows], level / FACTORS)
    assert {row.method for row in rows} == {"reference" if kind == "absolute" else "relative"}
    found = stacked_fluxes(cubes, tmp_path, offsets)
    ratio = found / expected_fluxes(level)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)
    # Uncorrected, the level is the mean of the factors, which differs by much more.
    assert abs(FACTORS.mean() / (1.0 / np.median(1.0 / FACTORS)) - 1.0) > 0.03
