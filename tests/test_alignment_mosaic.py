"""Mosaics: images land where their offsets place them, with the weights that are stated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from exposure_cubes import date
from hypothesis import given
from hypothesis import strategies as st

from musedask.alignment.image import FieldImage
from musedask.alignment.image_files import read_image, write_image
from musedask.alignment.mosaic import aligned, make_mosaic
from musedask.errors import InputError, MissingError
from musedask.offsets import Offset, OffsetTable
from musedask.sky import SkyProjection

CENTRE = SkyCoord(30.1, -60.0, unit="deg")
SHAPE = (41, 51)


def star_image(
    n=0, *, east=0.0, north=0.0, dither=(0.0, 0.0), turn=0.0, ra=30.1, dec=-60.0, carried=(0, 0),
    level=0.0, variance=4.0,
) -> FieldImage:  # fmt: skip
    """A star at the centre, in a file whose WCS says that it lies ``east``, ``north`` of it."""
    true = SkyProjection.north_up(ra, dec, 0.2, 25.0 + dither[0], 20.0 + dither[1])
    true = true.moved(0.0, 0.0, turn, about=(25.0, 20.0))
    x, y = true.to_pixel(ra, dec)
    rows, columns = np.indices(SHAPE)
    flux = 1000.0 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.8**2)) + level
    return FieldImage(
        flux=flux.astype(np.float32),
        variance=np.full(SHAPE, variance, np.float32),
        # An offset is exposure minus reference: where the file says, minus where it is.
        projection=true.moved(carried[0] - east, carried[1] - north, dec_deg=dec),
        name=f"exp{n}", date_obs=date(n), units="count", ra_deg=ra, dec_deg=dec,
        carried_ra_arcsec=carried[0], carried_dec_arcsec=carried[1],
    )  # fmt: skip


def table(*offsets) -> OffsetTable:
    return OffsetTable(
        tuple(
            Offset(date_obs=date(n), name=f"exp{n}", ra_offset_arcsec=east, dec_offset_arcsec=north)
            for n, (east, north) in enumerate(offsets)
        )
    )


def distance(image: FieldImage, ra=30.1, dec=-60.0) -> tuple[float, float]:
    """Where the light of the star is, arcsec east and north of where it should be."""
    flux = np.nan_to_num(image.flux.astype(float))
    rows, columns = np.indices(flux.shape)
    x, y = (flux * columns).sum() / flux.sum(), (flux * rows).sum() / flux.sum()
    found = SkyCoord(*(float(v) for v in image.projection.to_sky(x, y)), unit="deg")
    east, north = SkyCoord(ra, dec, unit="deg").spherical_offsets_to(found)
    return float(east.arcsec), float(north.arcsec)


@given(
    st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5),
    st.sampled_from([0.0, 359.9999]), st.floats(-70, 70),
)  # fmt: skip
def test_an_aligned_image_has_its_light_where_the_sky_has_it(e, n, carried_e, carried_n, ra, dec):
    image = star_image(east=e, north=n, carried=(carried_e, carried_n), ra=ra, dec=dec)
    assert np.hypot(*distance(image, ra, dec)) == pytest.approx(
        np.hypot(e - carried_e, n - carried_n), abs=2e-3
    )
    there = aligned(image, table((e, n)).find(date(0)))
    assert distance(there, ra, dec) == pytest.approx((0.0, 0.0), abs=2e-3)
    assert (there.carried_ra_arcsec, there.carried_dec_arcsec) == (e, n)
    # What is aligned is not aligned again.
    assert distance(aligned(there, table((e, n)).find(date(0))), ra, dec) == pytest.approx(
        (0.0, 0.0), abs=2e-3
    )


def test_displaced_exposures_meet_in_the_mosaic():
    offsets = [(0.0, 0.0), (3.1, -1.7), (-2.3, 4.4)]
    images = [
        star_image(n, east=e, north=d, dither=(2.4 * n, -3.3 * n), turn=30.0 * n)
        for n, (e, d) in enumerate(offsets)
    ]
    mosaic = make_mosaic(images, table(*offsets))
    assert mosaic.projection.is_north_up
    assert distance(mosaic) == pytest.approx((0.0, 0.0), abs=0.01)
    x, y = (round(float(v)) for v in mosaic.projection.to_pixel(30.1, -60.0))
    assert mosaic.coverage[y, x] == 3.0
    assert mosaic.flux[y, x] > 900.0
    # Without the offsets only one of them has the star there.
    apart = make_mosaic(images)
    x, y = (round(float(v)) for v in apart.projection.to_pixel(30.1, -60.0))
    assert apart.coverage[y, x] == 3.0
    assert apart.flux[y, x] < 400.0
    assert (mosaic.name, mosaic.units, mosaic.date_obs) == ("mosaic", "count", "")


def test_a_rotation_is_taken_out():
    image = star_image(dither=(10.0, 0.0))
    # Turned back by minus four degrees: its file says four too many.
    wrong = replace(image, projection=image.projection.moved(0, 0, -4.0, about=(25.0, 20.0)))
    assert math.hypot(*distance(wrong)) > 0.1
    row = Offset(date_obs=date(0), ra_offset_arcsec=0, dec_offset_arcsec=0, rotation_deg=4.0)
    assert distance(make_mosaic([wrong], OffsetTable((row,)))) == pytest.approx((0, 0), abs=0.01)


def test_weights_are_the_inverse_of_typical_variances():
    images = [
        star_image(0, level=10.0, variance=1.0),
        star_image(1, level=40.0, variance=2.0),
    ]
    difference = [image.flux for image in images]
    for weighting, weights in (("noise", (1.0, 0.5)), ("equal", (1.0, 1.0))):
        mosaic = make_mosaic(images, weighting=weighting)
        share = np.array(weights) / sum(weights)
        ny, nx = SHAPE
        # The lattice is the images' own, with a row and a column of half pixels around it.
        dx, dy = mosaic.projection.lattice_step(images[0].projection, mosaic.shape)
        inner = slice(-dy, -dy + ny), slice(-dx, -dx + nx)
        expected = share[0] * difference[0] + share[1] * difference[1]
        np.testing.assert_allclose(mosaic.flux[inner], expected, rtol=1e-4)
        np.testing.assert_allclose(
            mosaic.variance[inner], share[0] ** 2 * 1.0 + share[1] ** 2 * 2.0, rtol=1e-4
        )
        assert (mosaic.coverage[inner] == 2.0).all()


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5])
def test_variances_fall_where_pixels_are_interpolated(shift):
    image = star_image()
    other = replace(image, projection=image.projection.shifted(shift, 0.0))
    mosaic = make_mosaic([image, other], weighting="equal")
    expected = 0.0
    for one in (image, other):
        x, _ = one.projection.to_pixel(*mosaic.projection.to_sky(20.0, 20.0))
        part = float(x) % 1.0
        expected += 4.0 * (part**2 + (1.0 - part) ** 2) / 4.0
    assert float(np.nanmedian(mosaic.variance)) == pytest.approx(expected, rel=1e-3)
    assert shift == 0.0 or expected < 1.9


def test_missing_pixels_stay_missing_and_do_not_spread():
    image = star_image()
    image.flux[10:20, 10:20] = np.nan
    other = star_image(1, level=7.0)
    mosaic = make_mosaic([image, other], weighting="equal")
    dx, dy = mosaic.projection.lattice_step(image.projection, mosaic.shape)
    inner = (slice(-dy, -dy + SHAPE[0]), slice(-dx, -dx + SHAPE[1]))
    np.testing.assert_array_equal(mosaic.coverage[inner] == 1.0, np.isnan(image.flux))
    np.testing.assert_allclose(
        mosaic.flux[inner][10:20, 10:20], other.flux[10:20, 10:20], rtol=1e-4
    )
    alone = make_mosaic([image])
    assert np.isnan(alone.flux[np.asarray(alone.coverage) == 0]).all()
    np.testing.assert_array_equal(np.isnan(alone.variance), np.isnan(alone.flux))


def test_images_in_files_give_the_same_mosaic(tmp_path):
    offsets = [(0.5, 0.25), (-1.0, 2.0)]
    images = [star_image(n, east=e, north=d, level=9.0) for n, (e, d) in enumerate(offsets)]
    rng = np.random.default_rng(5)
    images = [
        replace(one, flux=one.flux + rng.normal(0, 2, SHAPE).astype(np.float32)) for one in images
    ]
    paths = [write_image(tmp_path / f"{image.name}.fits", image) for image in images]
    mosaic = make_mosaic(paths, table(*offsets))
    expected = make_mosaic(images, table(*offsets))
    np.testing.assert_allclose(mosaic.flux, expected.flux, rtol=1e-5)
    np.testing.assert_array_equal(mosaic.coverage, expected.coverage)
    again = read_image(write_image(tmp_path / "mosaic.fits", mosaic))
    np.testing.assert_array_equal(again.flux, mosaic.flux)
    assert again.projection == mosaic.projection


def test_a_mosaic_spans_all_of_its_images_and_ra_zero():
    images = [star_image(n, ra=ra) for n, ra in enumerate((359.998, 0.002))]
    mosaic = make_mosaic(images)
    # 0.004 degrees at dec -60: 7.2", and 10.2" of an image.
    assert mosaic.shape[1] == pytest.approx((7.2 + 10.2) / 0.2, abs=4)
    # A star that two images have counts twice as it does where one of them has it: as a mean.
    for image in images:
        x, y = mosaic.projection.to_pixel(*image.projection.to_sky(25.0, 20.0))
        assert mosaic.flux[round(float(y)), round(float(x))] > 450.0
    coarse = make_mosaic(images, pixel_arcsec=0.4)
    assert coarse.pixel_arcsec == pytest.approx(0.4)
    assert coarse.shape[1] == pytest.approx(mosaic.shape[1] / 2, abs=2)


def test_what_makes_no_mosaic_is_an_error():
    image = star_image()
    with pytest.raises(InputError, match="no images"):
        make_mosaic([])
    with pytest.raises(InputError, match="different units: '', 'count'"):
        make_mosaic([image, replace(star_image(1), units="")])
    with pytest.raises(InputError, match="different band"):
        make_mosaic([image, replace(star_image(1), band="SDSS_r")])
    with pytest.raises(MissingError):
        make_mosaic([star_image(1)], table((0.0, 0.0)))
    failed = OffsetTable((Offset(date_obs=date(0), ra_offset_arcsec=1.0, dec_offset_arcsec=1.0,
                                 grade="F"),))  # fmt: skip
    with pytest.raises(InputError, match=r"exp0: its offset has grade F"):
        make_mosaic([image], failed)
    with pytest.raises(InputError, match="one for each field"):
        make_mosaic([image, star_image(1, ra=33.0, dec=-57.0)])
    with pytest.raises(InputError, match="use 'noise' or 'equal'"):
        make_mosaic([image], weighting="time")  # type: ignore[arg-type]
    flat = replace(image, variance=None, flux=np.ones(SHAPE, np.float32))
    with pytest.raises(InputError, match="exp0: its noise cannot be told"):
        make_mosaic([flat])
    assert make_mosaic([flat], weighting="equal").variance is None
