"""Images of the sky in files: which HDU is what, what their values mean, and back again."""

from __future__ import annotations

import gzip
import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from exposure_cubes import tan_cards

from musedask.alignment.image import FieldImage
from musedask.alignment.image_files import open_image, read_image, write_image
from musedask.alignment.image_noise import pixel_noise, variance_of_weight, without_data
from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.simulation.abell478 import mpdaf_data
from musedask.sky import SkyProjection

SHAPE = (30, 40)


def picture(seed=1, sigma=2.0):
    return np.random.default_rng(seed).normal(5.0, sigma, SHAPE).astype(np.float32)


def written(path, parts: dict[str, Any], primary: dict[str, Any] | None = None, **cards: Any):
    """A FITS file; the part PRIMARY stands there, the others are extensions."""
    wcs = fits.Header(tan_cards() | {"BUNIT": "count"} | cards)
    top = fits.Header(primary or {})
    data = parts.pop("PRIMARY", None)
    hdus: list[Any] = [fits.PrimaryHDU(data, top if data is None else top + wcs)]
    hdus += [
        fits.ImageHDU(array, wcs, name=name.partition(",")[0]) for name, array in parts.items()
    ]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def test_an_image_of_the_pipeline_is_read_with_what_was_applied_to_it(tmp_path):
    flux, variance = picture(), np.full(SHAPE, 4.0, np.float32)
    flux[0] = np.nan
    quality = np.zeros(SHAPE, np.int32)
    quality[3, 4] = 32
    path = written(
        tmp_path / "IMAGE_FOV_0001.fits", {"DATA": flux, "DQ": quality, "STAT": variance},
        {"DATE-OBS": "2020-01-01T00:00:00.000", "RA": 30.0, "DEC": -60.0,
         "HIERARCH ESO DRS MUSE FILTER NAME": "white",
         "HIERARCH ESO DRS MUSE OFFSET1 DATE-OBS": "2020-01-01T00:00:00.000",
         "HIERARCH ESO DRS MUSE OFFSET1 DRA": 3.0 / 3600,
         "HIERARCH ESO DRS MUSE OFFSET1 DDEC": 0.25 / 3600,
         "HIERARCH ESO QC SCIPOST FWHM MEDIAN": 0.7},
    )  # fmt: skip
    image = read_image(path)
    assert (image.name, image.band, image.units) == ("IMAGE_FOV_0001", "white", "count")
    assert (image.date_obs, image.ra_deg, image.dec_deg) == ("2020-01-01T00:00:00.000", 30.0, -60.0)
    assert image.carried_ra_arcsec == pytest.approx(1.5)
    assert image.carried_dec_arcsec == pytest.approx(0.25)
    assert image.fwhm_arcsec == 0.7
    flux[3, 4] = np.nan
    variance[np.isnan(flux)] = np.nan
    np.testing.assert_array_equal(image.flux, flux)
    np.testing.assert_array_equal(image.variance, variance)
    assert image.projection == SkyProjection.from_header(fits.Header(tan_cards()))


def test_a_part_is_the_part_of_the_whole(tmp_path):
    path = written(tmp_path / "a.fits", {"SCI": picture(), "ERR": np.full(SHAPE, 2.0, np.float32)})
    whole = read_image(path)
    part = open_image(path).read(slice(5, 25), slice(7, 39))
    np.testing.assert_array_equal(part.flux, whole.flux[5:25, 7:39])
    np.testing.assert_array_equal(part.variance, np.float32(4.0))
    assert part.projection == whole.projection.shifted(7, 5)


def test_scaled_and_blank_integers_mean_what_the_header_says(tmp_path):
    stored = np.arange(1200, dtype=np.int16).reshape(SHAPE)
    stored[2, 2] = -1
    hdu = fits.PrimaryHDU(stored, fits.Header(tan_cards()))
    hdu.header.update(BSCALE=0.5, BZERO=10.0, BLANK=-1)
    fits.HDUList([hdu]).writeto(tmp_path / "a.fits", output_verify="ignore")
    with fits.open(tmp_path / "a.fits", do_not_scale_image_data=True) as hdus:
        assert hdus[0].data.dtype == ">i2"
    flux = read_image(tmp_path / "a.fits").flux
    expected = stored * 0.5 + 10.0
    expected[2, 2] = np.nan
    np.testing.assert_array_equal(flux, expected)


def test_images_packed_in_two_ways_are_the_plain_one(tmp_path):
    path = written(tmp_path / "a.fits", {"SCI": picture()})
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with fits.open(path) as hdus:
        tile = fits.CompImageHDU(
            hdus[1].data, hdus[1].header, compression_type="GZIP_2", quantize_level=0, name="SCI"
        )
        fits.HDUList([fits.PrimaryHDU(), tile]).writeto(tmp_path / "a.fits.fz")
    for other in ("a.fits.gz", "a.fits.fz"):
        image = read_image(tmp_path / other)
        np.testing.assert_array_equal(image.flux, picture())
        assert (image.name, image.path) == ("a", str(tmp_path / other))


class TestWeights:
    weight = np.random.default_rng(2).uniform(0.5, 2.0, SHAPE).astype(np.float32)

    def image(self, tmp_path, scale):
        """Noise of sigma 2 / sqrt(weight), and weights that are ``scale`` times too large."""
        flux = 5 + (picture(sigma=2.0) - 5) / np.sqrt(self.weight)
        weight = self.weight * np.float32(scale / 4.0)
        weight[:, :3] = 0.0
        return read_image(written(tmp_path / "drz.fits", {"SCI": flux, "WHT": weight}))

    def test_inverse_variances_are_inverted(self, tmp_path):
        image = self.image(tmp_path, 1.0)
        np.testing.assert_allclose(image.variance[:, 3:], 4.0 / self.weight[:, 3:], rtol=1e-6)
        assert np.isnan(image.flux[:, :3]).all()
        assert np.isnan(image.variance[:, :3]).all()
        assert np.isfinite(image.flux[:, 3:]).all()

    def test_exposure_times_are_brought_to_the_scale_of_the_noise(self, tmp_path):
        image = self.image(tmp_path, 5000.0)
        ratio = image.variance[:, 3:] / (4.0 / self.weight[:, 3:])
        assert ratio.std() < 1e-5 * ratio.mean()
        assert ratio.mean() == pytest.approx(1.0, abs=0.25)

    def test_without_a_positive_weight_nothing_is_known(self, tmp_path):
        none = np.zeros(SHAPE, np.float32)
        assert variance_of_weight(none, picture()) is None
        with pytest.raises(InputError, match="no pixel of the"):
            read_image(written(tmp_path / "drz.fits", {"SCI": picture(), "WHT": none}))


@pytest.mark.parametrize(
    ("variance", "complaint"),
    [
        (np.full(SHAPE, 4.0e4), r"variance of its pixels is 9.*e\+03 times what the scatter"),
        (np.full(SHAPE, 4.0e-4), r"variance of its pixels is .*e-0. times what the scatter"),
        (np.zeros(SHAPE), "zero, negative or not finite in 100 %"),
        (np.ones((3, 4)), r"STAT \(3, 4\) does not fit .*DATA \(30, 40\); left out"),
    ],
)
def test_what_cannot_be_a_variance_is_left_out_with_a_warning(variance, complaint, tmp_path):
    path = written(tmp_path / "a.fits", {"DATA": picture(), "STAT": variance.astype(np.float32)})
    with pytest.warns(MusedaskWarning, match=complaint):
        image = read_image(path)
    assert image.variance is None
    np.testing.assert_array_equal(image.flux, picture())


def test_a_variance_with_some_bad_pixels_takes_their_flux_along(tmp_path):
    variance = np.full(SHAPE, 4.0, np.float32)
    variance[:2] = [[0.0], [np.inf]]
    image = read_image(written(tmp_path / "a.fits", {"DATA": picture(), "VAR": variance}))
    for array in (image.flux, image.variance):
        assert np.isnan(array[:2]).all()
        assert np.isfinite(array[2:]).all()


def test_large_regions_of_zeros_hold_no_data_and_single_zeros_do():
    flux = picture()
    flux[:8, :20] = 0.0
    flux[20, 20] = flux[25, 5:30] = 0.0
    missing = without_data(flux)
    expected = np.zeros(SHAPE, bool)
    expected[:8, :20] = True
    np.testing.assert_array_equal(missing, expected)


def test_the_noise_is_told_from_neighbours_in_spite_of_objects():
    flux = picture(sigma=2.0) + np.where(np.arange(40) < 10, 1000, 0).astype(np.float32)
    flux[4:6] = np.nan
    assert pixel_noise(flux) == pytest.approx(2.0, rel=0.15)
    assert math.isnan(pixel_noise(flux[:2, :3]))


class TestChoice:
    def test_the_picture_is_found_by_name_then_place_then_exclusion(self, tmp_path):
        one, other = picture(1), picture(2)
        for parts in (
            {"WHT": other, "SCI": one},
            {"PRIMARY": one},
            {"PRIMARY": one, "RESIDUAL": other},
            {"PRIMARY": one, "DQ": other.astype(np.int32) * 0},
            {"MOSAIC": one, "CTX": other},
            {"DATA": one, "EXP": other},
        ):
            image = read_image(written(tmp_path / "a.fits", dict(parts)))
            np.testing.assert_array_equal(image.flux[other > 0], one[other > 0])

    @pytest.mark.parametrize("names", [("SCI", "SCI,2"), ("DATA", "SCI"), ("ONE", "TWO")])
    def test_several_pictures_are_an_error_that_names_them(self, names, tmp_path):
        path = written(tmp_path / "a.fits", {names[0]: picture(1), names[1]: picture(2)})
        with pytest.raises(InputError, match=r"more than one image.*\[1\] .*\[2\] "):
            read_image(path)
        np.testing.assert_array_equal(read_image(f"{path}[2]").flux, picture(2))
        if names == ("ONE", "TWO"):
            np.testing.assert_array_equal(read_image(f"{path}[one]").flux, picture(1))
            with pytest.raises(InputError, match="has no image three"):
                read_image(f"{path}[three]")

    def test_no_picture_is_an_error(self, tmp_path):
        fits.PrimaryHDU(np.zeros((2, 3, 4))).writeto(tmp_path / "cube.fits")
        with pytest.raises(FileError, match=r"no image of the sky.*\(2, 3, 4\)"):
            read_image(tmp_path / "cube.fits")
        path = written(tmp_path / "a.fits", {"WHT": picture(), "CTX": picture()})
        with pytest.raises(InputError, match="no image that is a picture by its name"):
            read_image(path)
        with pytest.raises(InputError, match="CRVAL1"):
            read_image(_bare(tmp_path / "bare.fits"))
        with pytest.raises(InputError, match="no pixel of the"):
            read_image(written(tmp_path / "a.fits", {"SCI": np.zeros(SHAPE, np.float32)}))

    def test_one_channel_of_a_cube_is_an_image(self, tmp_path):
        image = read_image(written(tmp_path / "a.fits", {"SCI": picture()[None]}))
        np.testing.assert_array_equal(image.flux, picture())


def _bare(path):
    fits.PrimaryHDU(picture()).writeto(path)
    return path


def example() -> FieldImage:
    flux = picture()
    flux[4, 5] = np.nan
    return FieldImage(
        flux=flux,
        variance=np.where(np.isnan(flux), np.nan, 4.0).astype(np.float32),
        coverage=np.random.default_rng(3).uniform(size=SHAPE).astype(np.float32),
        projection=SkyProjection.from_header(fits.Header(tan_cards(turn_deg=30.0))),
        name="exp 1", date_obs="2020-01-01T00:00:00.000", band="4800-5800",
        units="10**(-20)*erg/s/cm**2/Angstrom", fwhm_arcsec=0.75, ra_deg=30.1, dec_deg=-60.0,
        carried_ra_arcsec=1.25, carried_dec_arcsec=-0.5,
    )  # fmt: skip


def assert_same(one: FieldImage, other: FieldImage) -> None:
    for key in ("flux", "variance", "coverage"):
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
    for key in ("projection", "name", "date_obs", "band", "units", "fwhm_arcsec", "ra_deg",
                "dec_deg"):  # fmt: skip
        assert getattr(one, key) == getattr(other, key), key
    assert one.carried_ra_arcsec == pytest.approx(other.carried_ra_arcsec, abs=1e-9)
    assert one.carried_dec_arcsec == pytest.approx(other.carried_dec_arcsec, abs=1e-9)


def test_what_is_written_is_read_again(tmp_path):
    assert_same(read_image(write_image(tmp_path / "a.fits", example())), example())
    bare = replace(
        example(), variance=None, coverage=None, units="", fwhm_arcsec=math.nan,
        carried_ra_arcsec=0.0, carried_dec_arcsec=0.0, date_obs="",
    )  # fmt: skip
    again = read_image(write_image(tmp_path / "a.fits", bare, overwrite=True))
    assert (again.variance, again.coverage, again.units, again.date_obs) == (None, None, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_nothing_is_replaced_or_left_half_written(tmp_path):
    write_image(tmp_path / "a.fits", example())
    before = (tmp_path / "a.fits").read_bytes()
    with pytest.raises(FileError, match=r"a\.fits: exists; give overwrite=True"):
        write_image(tmp_path / "a.fits", replace(example(), name="other"))
    with pytest.raises(InputError, match="set date_obs"):
        write_image(tmp_path / "b.fits", replace(example(), date_obs=""))
    with pytest.raises(FileError, match="cannot be written"):
        write_image(tmp_path / "no folder" / "b.fits", example())
    assert (tmp_path / "a.fits").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_mpdaf_opens_what_is_written(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what mpdaf's units say
        from mpdaf.obj import Image

        theirs = Image(str(write_image(tmp_path / "a.fits", example())))
    image = example()
    np.testing.assert_array_equal(theirs.data.filled(np.nan), image.flux)
    np.testing.assert_array_equal(theirs.var.filled(np.nan), image.variance)
    dec, ra = theirs.wcs.pix2sky([20.0, 10.0])[0]
    assert image.projection.to_sky(10.0, 20.0) == pytest.approx((ra, dec), abs=1e-9)


def test_real_images_are_read():
    with pytest.warns(MusedaskWarning, match="what the scatter of neighbours says"):
        muse = read_image(mpdaf_data("obj/IMAGE-HDFS-1.34.fits"))
    assert muse.variance is None
    # mpdaf's DQ marks what it masks.
    with fits.open(mpdaf_data("obj/IMAGE-HDFS-1.34.fits")) as hdus:
        np.testing.assert_array_equal(np.isfinite(muse.flux), hdus["DQ"].data == 0)
    hst = read_image(mpdaf_data("sdetect/a478hst-cutout.fits"))
    assert (hst.band, hst.units, hst.shape) == ("F814W", "COUNTS/S", (600, 600))
    assert hst.pixel_arcsec == pytest.approx(0.1, abs=1e-4)
    # Its weights are exposure times, around 300 s: no inverse variance of counts/s.
    assert np.nanmedian(hst.variance) == pytest.approx(pixel_noise(hst.flux) ** 2, rel=0.1)
    assert read_image(mpdaf_data("obj/HST-HDFS.fits")).band == "F606W"
