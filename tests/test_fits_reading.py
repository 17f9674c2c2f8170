from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import dask
import mpdaf
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from fits_files import SHAPE, WCS_CARDS, arrays, write_cube
from mpdaf.obj import Cube

import musedask.fits.source
from musedask.cube import check_cube, sky_of, spectral_of
from musedask.errors import FileError, InputError
from musedask.fits import check_variance, direct_source, open_cube, open_exposures

MPDAF_DATA = Path(mpdaf.__file__).parent / "data"


def date(n: int) -> str:
    return f"2014-12-08T02:{n:02d}:56.798"


def write_many(folder: Path, n: int, **options) -> list[Path]:
    return [
        write_cube(folder / f"e{i}.fits", primary={"DATE-OBS": date(i)}, **options)
        for i in range(n)
    ]


@pytest.fixture
def poisoned(monkeypatch):
    """Every read of data is an error."""

    def refuse(*_args, **_options):
        raise AssertionError("data were read")

    monkeypatch.setattr(musedask.fits.source.np, "memmap", refuse)
    monkeypatch.setattr(dask.base, "get_scheduler", refuse)


class TestSchema:
    def test_a_cube_has_the_schema_and_its_scalars(self, tmp_path):
        cube = open_cube(write_cube(tmp_path / "night.1.fits"))
        check_cube(cube)
        scalars = {key: cube[key].values.item() for key in cube.coords if not cube[key].dims}
        scalars.pop("wcs")
        assert scalars == {
            "name": "night.1",
            "date_obs": "2014-12-08T02:48:56.798",
            "exptime": 900.0,
            "mode": "WFM-NOAO-N",
            "ra_deg": 63.355417,
            "dec_deg": 10.46556,
        }
        assert cube.attrs["catg"] == "DATACUBE_FINAL"
        assert cube.attrs["path"] == str(tmp_path / "night.1.fits")

    def test_the_values_are_those_of_astropy_in_chunks_of_32_channels(self, tmp_path):
        flux, variance = arrays()
        cube = open_cube(write_cube(tmp_path / "a.fits"))
        assert cube.flux.chunks == ((32, 8), (5,), (6,))
        np.testing.assert_array_equal(cube.flux.values, flux)
        np.testing.assert_array_equal(cube.variance.values, variance)
        np.testing.assert_array_equal(cube.flux[33:36, 2].values, flux[33:36, 2])

    def test_the_primary_header_is_kept_as_text(self, tmp_path):
        path = write_cube(tmp_path / "a.fits", primary={"OBJECT": "O'Hara / 1" + "x" * 80})
        text = open_cube(path).attrs["primary_header"]
        header = fits.getheader(path)
        assert fits.Header.fromstring(text, sep="\n") == header
        assert text == header.tostring(sep="\n", endcard=False, padding=False)

    def test_what_the_header_does_not_say(self, tmp_path):
        missing = dict.fromkeys(["RA", "DEC", "EXPTIME", "DATE-OBS"])
        missing |= {"HIERARCH ESO INS MODE": None, "HIERARCH ESO PRO CATG": None}
        cube = open_cube(write_cube(tmp_path / "a.fits", primary=missing))
        assert cube.mode.values.item() == cube.date_obs.values.item() == cube.attrs["catg"] == ""
        assert np.isnan(cube.exptime)
        centre = sky_of(cube).to_sky(2.5, 2.0)
        assert (float(cube.ra_deg), float(cube.dec_deg)) == tuple(float(v) for v in centre)

    def test_broken_cards_elsewhere_do_no_harm(self, tmp_path):
        path = write_cube(tmp_path / "a.fits", primary={"BROKEN": 12345, "OBSERVER": "Rene"})
        raw = path.read_bytes()
        raw = raw.replace(b"BROKEN  =                12345", b"BROKEN  =                  nan")
        path.write_bytes(raw.replace(b"'Rene    '", b"'Ren\xe9    '"))
        cube = open_cube(path)
        assert "Ren?" in cube.attrs["primary_header"]
        assert cube.exptime == 900.0

    def test_it_pickles_and_its_graph_is_small(self, tmp_path):
        cube = open_cube(write_cube(tmp_path / "a.fits"))
        again = pickle.loads(pickle.dumps(cube))
        assert again.flux.data.name == cube.flux.data.name
        np.testing.assert_array_equal(again.flux.values, cube.flux.values)
        assert len(pickle.dumps(cube.flux.data.dask)) < 6000


class TestLaziness:
    def test_nothing_but_headers_is_read(self, tmp_path, poisoned):
        paths = write_many(tmp_path, 3, dq=np.zeros(SHAPE, np.int32))
        cubes = open_exposures(paths)
        assert direct_source(cubes[0]) is not None
        with pytest.raises(AssertionError, match="data were read"):
            cubes[0].flux.compute()

    def test_a_sparse_file_of_full_size_opens_at_once_and_reads_its_blocks(self, tmp_path):
        nz, ny, nx = 3681, 320, 320
        path = write_cube(tmp_path / "full.fits")
        with fits.open(path) as hdus:
            headers = [hdu.header.copy() for hdu in hdus]
        with open(path, "wb") as file:
            for i, header in enumerate(headers):
                if i:
                    header["NAXIS1"], header["NAXIS2"], header["NAXIS3"] = nx, ny, nz
                file.write(header.tostring().encode())
                size = (-(-nz * ny * nx * 4 // 2880) * 2880) if i else 0
                file.seek(size, os.SEEK_CUR)
            file.truncate()
        with open(path, "r+b") as file:  # one voxel, which must come out at its place
            source = open_cube(path).encoding["fits"]
            for part, value in ((source.flux, 7.5), (source.variance, 2.5)):
                file.seek(part.offset + 4 * ((3000 * ny + 100) * nx + 200))
                file.write(np.array(value, ">f4").tobytes())
        start = time.perf_counter()
        cube = open_cube(path)
        assert time.perf_counter() - start < 1.0
        assert cube.flux.shape == (nz, ny, nx)
        plane = cube.flux[3000].values
        assert plane[100, 200] == 7.5
        assert np.isnan(plane).sum() == ny * nx - 1  # a variance of 0 is missing

    def test_only_the_blocks_that_are_asked_for_are_read(self, tmp_path, monkeypatch):
        read = []
        original = musedask.fits.source.FitsCube.read

        def counted(self, slices, which):
            read.append((slices[0].start, which))
            return original(self, slices, which)

        cube = open_cube(write_cube(tmp_path / "a.fits"))
        monkeypatch.setattr(musedask.fits.source.FitsCube, "read", counted)
        cube.flux[35].compute()
        assert read == [(32, "flux")]


class TestDirectSource:
    @pytest.fixture
    def cube(self, tmp_path):
        return open_cube(write_cube(tmp_path / "a.fits"))

    def test_a_cube_as_it_was_opened_has_one(self, cube):
        assert direct_source(cube) == cube.encoding["fits"]
        assert direct_source(cube.copy()) is not None
        assert direct_source(cube.assign_coords(weight=2.0)) is not None
        assert direct_source(cube.assign_attrs(note="x")) is not None

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c - 1.0,
            lambda c: c.assign(flux=c.flux * 2),
            lambda c: c.assign(flux=c.flux - c.flux.mean(("y", "x"))),
            lambda c: c.assign(variance=c.variance * 4),
            lambda c: c.assign(flux=c.variance, variance=c.flux),
            lambda c: c.assign(variance=c.flux),
            lambda c: c.isel(wavelength=slice(0, 32)),
            lambda c: c.isel(wavelength=slice(None, None, -1)),
            lambda c: c.isel(x=slice(1, None)),
            lambda c: c.isel(x=2),
            lambda c: c.sel(wavelength=slice(4760, 4770)),
            lambda c: c.where(c.wavelength > 4760),
            lambda c: c.fillna(0.0),
            lambda c: c.transpose("y", "x", "wavelength"),
            lambda c: c.assign_coords(x=c.x + 1),
            lambda c: c.assign_coords(y=c.y + 1),
            lambda c: c.assign_coords(wavelength=c.wavelength + 0.1),
            lambda c: c.assign_coords(wcs=c.wcs + 1),
            lambda c: c.assign_coords(wcs=c.wcs.assign_attrs(CRPIX1=9.0)),
            lambda c: c.assign_coords(wavelength=c.wavelength.assign_attrs(medium="vacuum")),
            lambda c: c.drop_vars("wcs"),
            lambda c: c.drop_vars("x"),
            lambda c: c.drop_vars("variance"),
            lambda c: c.load(),
            lambda c: c.astype("float64"),
            lambda c: c.rename(y="x", x="y"),
        ],
    )
    def test_a_cube_that_was_changed_has_none_even_with_the_encoding(self, cube, change):
        original = cube.encoding["fits"]
        changed = change(cube)
        changed.encoding["fits"] = original
        assert direct_source(changed) is None

    def test_the_same_array_under_other_dimensions_is_not_the_same(self, tmp_path):
        flux, variance = arrays((40, 5, 5))  # square: the shape does not tell
        cube = open_cube(write_cube(tmp_path / "a.fits", data=flux, stat=variance))
        turned = cube.assign(flux=(("wavelength", "x", "y"), cube.flux.data))
        turned.encoding["fits"] = cube.encoding["fits"]
        assert turned.flux.data.name == cube.flux.data.name
        assert direct_source(turned) is None

    def test_the_encoding_of_another_cube_is_not_trusted(self, cube, tmp_path):
        other = open_cube(write_cube(tmp_path / "b.fits"))
        cube.encoding["fits"] = other.encoding["fits"]
        assert direct_source(cube) is None
        cube.encoding["fits"] = "a.fits"
        assert direct_source(cube) is None
        del cube.encoding["fits"]
        assert direct_source(cube) is None


# mpdaf reads the pipeline's BUNIT, of which astropy says that it has several slashes
@pytest.mark.filterwarnings("ignore:.*multiple slashes:astropy.units.UnitsWarning")
class TestRealData:
    def test_the_minicube_is_read_as_mpdaf_reads_it(self):
        path = MPDAF_DATA / "sdetect" / "minicube.fits"
        cube = open_cube(path)
        check_cube(cube)
        oracle = Cube(str(path))
        good = ~oracle.mask & (oracle.var > 0)
        part = slice(1000, 1100)
        for key, values in (("flux", oracle.data), ("variance", oracle.var)):
            got = cube[key][part].values
            np.testing.assert_array_equal(np.isfinite(got), good[part])
            np.testing.assert_array_equal(got[good[part]], values.data[part][good[part]])
        assert cube.encoding["fits"].quality.dtype == ">u1"
        assert not cube.encoding["fits"].is_direct
        np.testing.assert_allclose(cube.wavelength, oracle.wave.coord(), rtol=0, atol=1e-6)
        dec, ra = oracle.wcs.pix2sky([[0, 0], [39, 20]]).T
        np.testing.assert_allclose(sky_of(cube).to_sky([0, 20], [0, 39]), [ra, dec], atol=1e-10)
        assert cube.date_obs.values.item() == "2014-12-08T02:48:56.798"
        assert spectral_of(cube).frame == "BARYCENT"  # no SPECSYS in 2014: from rvcorr
        assert check_variance(cube.encoding["fits"]) < 0.01

    def test_the_udf_piece_is_read_as_mpdaf_reads_it(self):
        path = MPDAF_DATA / "sdetect" / "subcub_mosaic.fits"
        cube = open_cube(path)
        oracle = Cube(str(path))
        assert cube.encoding["fits"].is_direct
        np.testing.assert_array_equal(
            np.nan_to_num(cube.flux.values), np.nan_to_num(oracle.data.filled(np.nan))
        )
        dec, ra = oracle.wcs.pix2sky([[0, 0], [29, 15]]).T
        np.testing.assert_allclose(sky_of(cube).to_sky([0, 15], [0, 29]), [ra, dec], atol=1e-10)
        assert cube.flux.attrs["units"] == "10**(-20)*erg/s/cm**2/Angstrom"

    def test_the_simulated_cube_is_refused_for_its_axis_type_and_read_without_that(self, tmp_path):
        path = MPDAF_DATA / "obj" / "CUBE.fits"
        with pytest.raises(InputError, match=r"CUBE\.fits: CTYPE3 = 'LINEAR'"):
            open_cube(path)
        with fits.open(path) as hdus:  # float64, PC with CDELT, DATE-OBS in DATA
            hdus["DATA"].header["CTYPE3"] = "AWAV"
            hdus.writeto(tmp_path / "fixed.fits")
            want = hdus["DATA"].data.astype(np.float32)
            variance = hdus["STAT"].data
        cube = open_cube(tmp_path / "fixed.fits")
        want[~(variance > 0)] = np.nan
        np.testing.assert_array_equal(cube.flux.values, want)
        assert cube.date_obs.values.item() == "2011-10-02T02:00:00.000"
        assert spectral_of(cube).first_angstrom == 7300.0


class TestProducts:
    def test_an_archive_cube(self, tmp_path):
        primary = {"PRODCATG": "SCIENCE.CUBE.IFS", "ORIGFILE": "MU_SCBD.fits", "TEXPTIME": 900.0}
        path = write_cube(
            tmp_path / "ADP.2016-06-01T12:34:56.789.fits",
            primary=primary,
            wcs={"BUNIT": "10**(-20)erg/s/cm**2/Angstrom", "CRDER3": 0.026},
        )
        cube = open_cube(path)
        assert cube.name.values.item() == "ADP.2016-06-01T12:34:56.789"
        assert cube.flux.attrs["units"] == "10**(-20)*erg/s/cm**2/Angstrom"

    def test_a_cube_that_went_through_zap(self, tmp_path):
        primary = {"HIERARCH ZAPvers": "2.1", "HIERARCH ZAPzlvl": "median", "HIERARCH ZAPnseg": 1}
        path = write_cube(tmp_path / "zap.fits", primary=primary, wcs={"ZAPNEV0": 30})
        check_cube(open_cube(path))

    def test_cubex_style_with_the_variance_second(self, tmp_path):
        flux, variance = arrays()
        path = write_cube(tmp_path / "cubex.fits", in_primary=True, names=("", "", ""))
        cube = open_cube(path)
        np.testing.assert_array_equal(cube.flux.values, flux)
        np.testing.assert_array_equal(cube.variance.values, variance)


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (b"", "is empty"),
            (b"<!DOCTYPE html>\n<html><body>Login</body></html>", "web page"),
            (b"\n  <html>" + b" " * 5000, "web page"),
            (b"hello" * 1000, "is not FITS"),
            (b"BZh91AY&SY", "bzip2"),
            (b"SIMPLE  =                    T" + b" " * 50, "cut off inside a header"),
            (b"SIMPLE  =                    T" + b" " * 2850, "broken header|cut off inside"),
            (
                (b"SIMPLE  =                    T" + b" " * 50
                 + b"BITPIX  =                    9".ljust(80)
                 + b"NAXIS   =                    1".ljust(80)
                 + b"NAXIS1  =                    1".ljust(80)
                 + b"END").ljust(2880),
                "broken header: BITPIX = 9",
            ),
        ],
    )  # fmt: skip
    def test_each_is_one_error_that_names_the_file(self, tmp_path, content, found):
        path = tmp_path / "odd.fits"
        path.write_bytes(content)
        with pytest.raises(FileError, match=rf"odd\.fits: .*({found})"):
            open_exposures([path])

    @pytest.mark.parametrize("lost", [1, 2880, 3000, 8000, 12000])
    def test_a_file_that_was_cut_off_is_refused(self, tmp_path, lost):
        path = write_cube(tmp_path / "odd.fits")
        whole = path.stat().st_size
        fill = -arrays()[0].nbytes % 2880
        os.truncate(path, whole - fill - lost)
        with pytest.raises(FileError, match=r"odd\.fits: (is cut off|has no STAT)"):
            open_cube(path)
        write_cube(path)
        os.truncate(path, whole - fill)  # all data are there: only the fill is not
        np.testing.assert_array_equal(open_cube(path).variance.values, arrays()[1])

    def test_missing_folder_and_forbidden_files(self, tmp_path, monkeypatch):
        with pytest.raises(FileError, match=r"none\.fits: there is no such file"):
            open_cube(tmp_path / "none.fits")
        with pytest.raises(FileError, match="is a folder"):
            open_cube(tmp_path)
        path = write_cube(tmp_path / "secret.fits")

        def forbidden(*_args, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", forbidden)  # root may read everything
        with pytest.raises(FileError, match=r"secret\.fits: no permission"):
            open_cube(path)

    def test_an_image_is_no_cube(self, tmp_path):
        fits.PrimaryHDU(np.zeros((5, 6), np.float32)).writeto(tmp_path / "odd.fits")
        with pytest.raises(FileError, match=r"odd\.fits: has no cube: it has HDU 0 \(5, 6\)"):
            open_cube(tmp_path / "odd.fits")


class TestExposures:
    def test_the_order_is_that_of_the_files(self, tmp_path):
        paths = write_many(tmp_path, 4)[::-1]
        assert [c.attrs["path"] for c in open_exposures(iter(paths))] == [str(p) for p in paths]
        assert len(open_exposures(str(paths[0]))) == 1

    @pytest.mark.parametrize("nothing", [[], (), Table({"path": np.array([], str)})])
    def test_no_exposures_is_an_error(self, nothing):
        with pytest.raises(InputError, match=r"at least one|not one of its 0 rows"):
            open_exposures(nothing)

    def test_what_is_no_list_is_an_error(self):
        with pytest.raises(InputError, match="no list of FITS files"):
            open_exposures(7)

    def test_mixed_units_are_an_error_that_names_the_files(self, tmp_path):
        paths = write_many(tmp_path, 2)
        write_cube(tmp_path / "odd.fits", primary={"DATE-OBS": date(9)}, wcs={"BUNIT": "count"})
        with pytest.raises(InputError, match=r"different flux units(?s:.*)count: .*odd\.fits"):
            open_exposures([*paths, tmp_path / "odd.fits"])

    def test_a_missing_date_is_an_error_that_names_the_file(self, tmp_path):
        path = write_cube(tmp_path / "odd.fits", primary={"DATE-OBS": None})
        with pytest.raises(InputError, match=r"odd\.fits: there is no DATE-OBS"):
            open_exposures([path])
        [cube] = open_exposures(Table({"path": [str(path)], "date_obs": [date(1)]}))
        assert cube.date_obs.values.item() == date(1)

    @pytest.mark.parametrize(
        ("choice", "kept"),
        [
            ("first", {"e0": date(0), "e1": date(1)}),
            ("last", {"e0": date(0), "e1b": date(1)}),
            ("keep", {"e0": date(0), "e1": date(1), "e1b": date(1) + "#2"}),
        ],
    )
    def test_several_cubes_of_one_date(self, tmp_path, choice, kept, caplog):
        paths = write_many(tmp_path, 2)
        paths.append(write_cube(tmp_path / "e1b.fits", primary={"DATE-OBS": date(1)}))
        with pytest.raises(InputError, match=r"one DATE-OBS(?s:.*)e1\.fits, .*e1b\.fits") as error:
            open_exposures(paths)
        for word in ("use = False", "'first'", "'last'", "'keep'"):
            assert word in str(error.value)
        assert "e0.fits" not in str(error.value)
        cubes = open_exposures(paths, duplicates=choice)
        assert {c.name.values.item(): c.date_obs.values.item() for c in cubes} == kept
        assert "e1b.fits" in caplog.text
        assert all(direct_source(c) is not None for c in cubes)
        with pytest.raises(InputError, match="duplicates = 'all'"):
            open_exposures(paths, duplicates="all")


class TestTable:
    def table(self, tmp_path, **columns):
        paths = [str(p) for p in write_many(tmp_path, 3)]
        return Table({"path": paths, **columns})

    def test_its_columns_become_coordinates_where_they_are_set(self, tmp_path):
        table = self.table(
            tmp_path,
            mask=["m.fits", "", ""],
            regions=MaskedColumn(["a.reg", "b.reg", "c.reg"], mask=[True, False, True]),
            weight=[np.nan, 2.0, np.nan],
            pointing=["A", "A", ""],
            mode=["", "WFM-AO-N", ""],
            exptime=[np.nan, 880.0, np.nan],
            seeing=[0.6, 0.7, 0.8],
        )
        first, second, third = open_exposures(table)
        assert first.mask_file.values.item() == "m.fits"
        assert second.regions_file.values.item() == "b.reg"
        assert (float(second.weight), float(second.exptime)) == (2.0, 880.0)
        assert second["mode"].values.item() == "WFM-AO-N"
        assert first["mode"].values.item() == "WFM-NOAO-N"
        assert float(first.exptime) == 900.0
        optional = {"mask_file", "regions_file", "weight", "pointing"}
        assert optional & set(first.coords) == {"mask_file", "pointing"}
        assert optional & set(third.coords) == set()

    def test_rows_that_are_not_to_be_used_are_left_out_unopened(self, tmp_path):
        table = self.table(tmp_path, use=[True, False, True])
        Path(table["path"][1]).unlink()
        assert [c.name.values.item() for c in open_exposures(table)] == ["e0", "e2"]
        table["use"] = False
        with pytest.raises(InputError, match="not one of its 3 rows"):
            open_exposures(table)

    def test_a_table_may_tell_two_cubes_of_one_date_apart_but_not_change_it(self, tmp_path):
        table = self.table(tmp_path, date_obs=[date(0), date(1), date(2) + "#b"])
        assert open_exposures(table)[2].date_obs.values.item() == date(2) + "#b"
        table["date_obs"][2] = date(7) + "##"
        with pytest.raises(InputError, match=r"e2\.fits: the exposure table says date_obs"):
            open_exposures(table)

    @pytest.mark.parametrize(
        ("columns", "found"),
        [
            ({"weight": [1.0, -1.0, 1.0]}, r"weight = -1\.0 of .*e1\.fits"),
            ({"weight": [1.0, 0.0, 1.0]}, r"weight = 0\.0"),
            ({"weight": ["1", "high", "1"]}, "weight = '1'"),
            ({"exptime": [1.0, np.inf, 1.0]}, "exptime = inf"),
        ],
    )
    def test_values_that_cannot_be_used_are_refused(self, tmp_path, columns, found):
        with pytest.raises(InputError, match=found):
            open_exposures(self.table(tmp_path, **columns))

    def test_a_path_is_needed(self, tmp_path):
        with pytest.raises(InputError, match="no column path"):
            open_exposures(Table({"file": ["a.fits"]}))
        table = self.table(tmp_path)
        table["path"][1] = " "
        with pytest.raises(InputError, match="row 2 has no path"):
            open_exposures(table)

    def test_an_ecsv_file_is_read_with_paths_relative_to_its_folder(self, tmp_path, monkeypatch):
        table = self.table(tmp_path, use=[True, True, False])
        table["path"] = [Path(p).name for p in table["path"]]
        table.write(tmp_path / "exposures.ecsv")
        monkeypatch.chdir("/")
        cubes = open_exposures(tmp_path / "exposures.ecsv")
        assert [c.attrs["path"] for c in cubes] == [str(tmp_path / f"e{i}.fits") for i in (0, 1)]


def test_cards_of_the_sky_are_those_of_the_file(tmp_path):
    cards = open_cube(write_cube(tmp_path / "a.fits")).wcs.attrs
    for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD2_2", "CTYPE1"):
        assert cards[key] == WCS_CARDS[key]
