from __future__ import annotations

import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from fits_files import SHAPE, arrays, write_cube
from hypothesis import given
from hypothesis import strategies as st

from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.fits import FitsCube, FitsSource, check_variance, open_cube

ALL = (slice(None), slice(None), slice(None))


def source_of(path) -> FitsCube:
    return open_cube(path).encoding["fits"]


def expected(flux, variance, quality=None):
    """Both arrays with NaN wherever one of them is missing, in plain float64 numpy."""
    flux, variance = np.array(flux, np.float64), np.array(variance, np.float64)
    for index in np.ndindex(flux.shape):
        good = np.isfinite(flux[index]) and 0 < variance[index] < np.inf
        if quality is not None and quality[index] != 0:
            good = False
        if not good:
            flux[index] = variance[index] = np.nan
    return flux, variance


class TestRead:
    def test_missing_is_nan_in_flux_and_variance_together(self, tmp_path):
        flux, variance = arrays()
        flux[0, 0, 0], flux[1, 1, 1], flux[2, 2, 2] = np.nan, np.inf, -np.inf
        variance[3, 3, 3], variance[4, 4, 4], variance[5, 0, 5] = 0.0, -1.0, np.nan
        variance[6, 0, 0] = np.inf
        quality = np.zeros(SHAPE, np.int32)
        quality[7, 0, 0], quality[8, 0, 0] = 1, -(2**31)
        source = source_of(write_cube(tmp_path / "a.fits", data=flux, stat=variance, dq=quality))
        assert source.is_direct
        want_flux, want_variance = expected(flux, variance, quality)
        assert np.isnan(want_flux).sum() == 9
        for which, want in (("flux", want_flux), ("variance", want_variance)):
            got = source.read(ALL, which)
            assert got.dtype == np.dtype("=f4")
            np.testing.assert_array_equal(got, want.astype(np.float32))

    @given(st.data())
    def test_a_part_is_the_part_of_the_whole(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "part.fits"
        if not path.exists():
            write_cube(path)
        source = source_of(path)
        part = tuple(data.draw(st.slices(n)) for n in SHAPE)
        np.testing.assert_array_equal(source.read(part, "flux"), source.read(ALL, "flux")[part])

    @pytest.mark.parametrize("dtype", ["i2", "i4", "f8"])
    def test_other_types_and_scaling_are_read_as_astropy_reads_them(self, tmp_path, dtype):
        _, variance = arrays()
        hdu = fits.ImageHDU(np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype), name="DATA")
        path = write_cube(tmp_path / "a.fits", stat=variance)
        with fits.open(path) as hdus:
            hdu.header.update(
                {k: v for k, v in hdus[1].header.items() if k[0] in "CB" and k != "BITPIX"}
            )
            if dtype.startswith("i"):
                hdu.header["BLANK"] = 7
            hdu.header["BSCALE"], hdu.header["BZERO"] = 0.5, 3.0
            fits.HDUList([hdus[0], hdu, hdus["STAT"]]).writeto(tmp_path / "b.fits")
        # the header was changed after the data were made, so astropy writes them as they stand
        raw = fits.getdata(tmp_path / "b.fits", "DATA", do_not_scale_image_data=True)
        scaled = fits.getdata(tmp_path / "b.fits", "DATA").astype(np.float32)
        source = source_of(tmp_path / "b.fits")
        assert source.flux.is_scaled == ("BSCALE" in fits.getheader(tmp_path / "b.fits", "DATA"))
        assert raw.dtype.kind == dtype[0]
        assert not source.is_direct
        np.testing.assert_array_equal(source.read(ALL, "flux"), scaled)

    def test_unsigned_quality_is_compared_after_scaling(self, tmp_path):
        quality = np.zeros(SHAPE, np.uint16)
        quality[1, 2, 3] = 5
        source = source_of(write_cube(tmp_path / "a.fits", dq=quality))
        assert source.quality.bzero == 32768
        assert not source.is_direct
        bad = np.isnan(source.read(ALL, "flux"))
        assert np.argwhere(bad).tolist() == [[1, 2, 3]]

    def test_a_variance_too_large_or_small_for_float32_is_missing(self, tmp_path):
        _, variance = arrays()
        variance = variance.astype(np.float64)
        variance[0, 0, 0], variance[0, 0, 1] = 1e60, 1e-60
        source = source_of(write_cube(tmp_path / "a.fits", stat=variance))
        bad = np.isnan(source.read(ALL, "variance"))
        assert np.argwhere(bad).tolist() == [[0, 0, 0], [0, 0, 1]]

    def test_an_unknown_variable_is_an_error(self, tmp_path):
        with pytest.raises(InputError, match="flux and variance"):
            source_of(write_cube(tmp_path / "a.fits")).read(ALL, "stat")


class TestDirect:
    def test_plain_float32_is_direct_and_the_map_holds_the_values(self, tmp_path):
        flux, _ = arrays()
        source = source_of(write_cube(tmp_path / "a.fits", data=flux))
        assert source.is_direct
        assert source.quality is None
        mapped = source.flux.open()
        assert mapped.dtype == np.dtype(">f4")
        assert not mapped.flags.writeable
        np.testing.assert_array_equal(mapped, flux)

    @pytest.mark.parametrize(
        "change",
        [
            {"flux": {"dtype": ">f8"}},
            {"variance": {"dtype": ">f8"}},
            {"flux": {"bscale": 2.0}},
            {"variance": {"bzero": 1.0}},
            {"quality": {"dtype": ">u1"}},
            {"quality": {"bzero": 1.0}},
            {"quality": {"shape": (40, 5, 7)}},
        ],
    )
    def test_anything_else_is_not(self, tmp_path, change):
        source = source_of(write_cube(tmp_path / "a.fits", dq=np.zeros(SHAPE, np.int32)))
        assert source.is_direct
        [(key, values)] = change.items()
        assert not replace(source, **{key: replace(getattr(source, key), **values)}).is_direct


class TestNames:
    def test_the_same_file_has_the_same_names_and_each_variable_its_own(self, tmp_path):
        path = write_cube(tmp_path / "a.fits")
        one, two = source_of(path), source_of(path)
        assert one == two
        assert one.flux_name == two.flux_name
        assert one.flux_name != one.variance_name

    def test_a_changed_file_has_other_names_and_another_identity(self, tmp_path):
        path = write_cube(tmp_path / "a.fits")
        before = source_of(path)
        os.utime(path, ns=(1, 1))
        touched = source_of(path)
        assert touched.flux_name != before.flux_name
        assert touched.flux.identity != before.flux.identity
        write_cube(path, primary={"OBJECT": "another"})
        os.utime(path, ns=(1, 1))
        assert source_of(path).flux.identity != touched.flux.identity

    def test_identity_does_not_hold_the_path(self, tmp_path):
        path = write_cube(tmp_path / "a.fits")
        before = source_of(path)
        path.rename(tmp_path / "b.fits")
        after = source_of(tmp_path / "b.fits")
        assert after.flux.identity == before.flux.identity
        assert after.variance.identity != after.flux.identity
        assert after.flux_name != before.flux_name

    @pytest.mark.parametrize("key", ["flux", "variance", "quality"])
    def test_the_names_depend_on_each_array(self, tmp_path, key):
        source = source_of(write_cube(tmp_path / "a.fits", dq=np.zeros(SHAPE, np.int32)))
        part = getattr(source, key)
        other = replace(source, **{key: replace(part, offset=part.offset + 2880)})
        assert other.flux_name != source.flux_name
        assert other.variance_name != source.variance_name

    def test_it_pickles_small(self, tmp_path):
        source = source_of(write_cube(tmp_path / "a.fits"))
        assert pickle.loads(pickle.dumps(source)) == source
        assert len(pickle.dumps(source)) < 2000


class TestCheck:
    def test_a_file_that_is_gone_changed_or_cut_is_an_error_that_names_it(self, tmp_path):
        path = write_cube(tmp_path / "a.fits")
        source = source_of(path)
        source.flux.check()
        os.truncate(path, path.stat().st_size - 2880)
        with pytest.raises(FileError, match=r"a\.fits: has changed"):
            source.read(ALL, "flux")
        write_cube(path)
        with pytest.raises(FileError, match=r"a\.fits: has changed"):
            source.variance.check()
        path.unlink()
        with pytest.raises(FileError, match=r"a\.fits: there is no such file"):
            source.flux.open()

    def test_a_file_shorter_than_the_array_is_refused_before_it_is_mapped(self, tmp_path):
        path = write_cube(tmp_path / "a.fits")
        short = path.stat().st_size - 5760
        os.truncate(path, short)
        source = FitsSource(
            str(path), 2880, (40, 50, 60), ">f4", size=short, mtime_ns=path.stat().st_mtime_ns
        )
        with pytest.raises(FileError, match="cut off"):
            source.open()


class TestVariance:
    def test_more_than_half_bad_is_an_error_that_names_the_file(self, tmp_path):
        _, variance = arrays()
        variance.reshape(-1)[: int(0.6 * variance.size)] = 0.0
        shuffled = np.random.default_rng(0).permutation(variance.reshape(-1)).reshape(SHAPE)
        source = source_of(write_cube(tmp_path / "bad.fits", stat=shuffled))
        with pytest.raises(FileError, match=r"bad\.fits: STAT is zero"):
            check_variance(source)

    def test_the_share_is_among_voxels_with_flux_and_good_quality(self, tmp_path):
        flux, variance = arrays()
        quality = np.zeros(SHAPE, np.int32)
        variance[:, :4] = np.nan
        flux[:, :2] = np.nan
        quality[:, 2:4] = 1
        variance[:, 4, :2] = -1.0
        path = write_cube(tmp_path / "a.fits", data=flux, stat=variance, dq=quality)
        assert check_variance(source_of(path)) == pytest.approx(2 / 6)
        path = write_cube(tmp_path / "b.fits", data=flux, stat=variance)
        with pytest.raises(FileError, match="78 %"):  # 14 of 18
            check_variance(source_of(path))

    def test_a_cube_without_any_flux_passes_and_is_named(self, tmp_path):
        path = write_cube(tmp_path / "a.fits", data=np.full(SHAPE, np.nan, np.float32))
        with pytest.warns(MusedaskWarning, match=r"a\.fits: no flux in any of the channels"):
            assert check_variance(source_of(path)) == 0.0
