from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from fits_files import PIPELINE_UNITS, SHAPE, WCS_CARDS, arrays, write_cube

from musedask.cube import FLUX_UNITS, sky_of, spectral_of
from musedask.errors import FileError, InputError
from musedask.fits import open_cube
from musedask.fits.header import canonical_units


class TestUnits:
    @pytest.mark.parametrize(
        "bunit",
        [
            PIPELINE_UNITS,
            "10**(-20)erg/s/cm**2/Angstrom",
            "10**-20 Angstrom-1 cm-2 erg s-1",
            "10**(-20)*erg/s/cm^2/A",
            "10^(-20) erg/s/cm2/AA",
            "1e-20 erg / (Angstrom s cm2)",
            "1.0E-20 erg s-1 cm-2 angstrom-1",
            "1e-20erg/s/cm^2/Ang",
            "1e-27 J s-1 cm-2 Angstrom-1",
        ],
    )
    def test_spellings_of_the_pipelines_unit_are_one(self, bunit):
        assert canonical_units(bunit) == FLUX_UNITS

    @pytest.mark.parametrize(
        ("bunit", "power"),
        [
            ("1e-18 erg/s/cm2/Angstrom", -18),
            ("10**(-16)*erg/s/cm**2/Angstrom", -16),
            ("1e-17 erg s-1 cm-2 nm-1", -18),
            ("erg/s/cm**2/Angstrom", 0),
        ],
    )
    def test_other_powers_of_ten_keep_theirs(self, bunit, power):
        assert canonical_units(bunit) == f"10**({power})*erg/s/cm**2/Angstrom"

    @pytest.mark.parametrize(
        "bunit",
        ["2e-20 erg/s/cm2/Angstrom", "Jy", "adu", "erg/s/cm2", "", "-1e-20 erg/s/cm2/AA", "20",
         "1e-20 erg/s/cm2/Hz", "10**(-20)*", "nonsense (", "1e-20 erg/s/cm2/Angstrom/spaxel"],
    )  # fmt: skip
    def test_anything_else_is_none(self, bunit):
        assert canonical_units(bunit) is None

    def test_count_is_count(self, tmp_path):
        cube = open_cube(write_cube(tmp_path / "a.fits", wcs={"BUNIT": "count"}))
        assert cube.flux.attrs["units"] == "count"
        assert cube.variance.attrs["units"] == "(count)**2"

    def test_nothing_is_scaled(self, tmp_path):
        flux, _ = arrays()
        path = write_cube(tmp_path / "a.fits", wcs={"BUNIT": "1e-18 erg/s/cm2/Angstrom"})
        cube = open_cube(path)
        assert cube.flux.attrs["units"] == "10**(-18)*erg/s/cm**2/Angstrom"
        np.testing.assert_array_equal(cube.flux.values, flux)

    @pytest.mark.parametrize(
        ("bunit", "found"),
        [("Jy", "BUNIT = 'Jy'"), (None, "no BUNIT"), ("erg/s/cm2/Angstrom", "too small")],
    )
    def test_units_that_cannot_be_used_are_refused_by_name(self, tmp_path, bunit, found):
        path = write_cube(tmp_path / "odd.fits", wcs={"BUNIT": bunit})
        with pytest.raises(InputError, match=rf"odd\.fits: .*{found}"):
            open_cube(path)


class TestWavelengths:
    @pytest.mark.parametrize(
        ("changes", "first", "step"),
        [
            ({}, 4749.890625, 1.25),
            ({"CRPIX3": 11.0}, 4749.890625 - 10 * 1.25, 1.25),
            ({"CRPIX3": 0.5}, 4749.890625 + 0.5 * 1.25, 1.25),
            ({"CRPIX3": -3.25}, 4749.890625 + 4.25 * 1.25, 1.25),
            ({"CD3_3": None, "CDELT3": 1.25}, 4749.890625, 1.25),
            ({"CD3_3": None, "CDELT3": 2.5, "PC3_3": 0.5}, 4749.890625, 1.25),
            ({"CD3_3": 1.25, "CDELT3": 1.0}, 4749.890625, 1.25),
            ({"CUNIT3": "nm", "CRVAL3": 474.9890625, "CD3_3": 0.125}, 4749.890625, 1.25),
            ({"CUNIT3": "m", "CRVAL3": 4.749890625e-7, "CD3_3": 1.25e-10}, 4749.890625, 1.25),
            ({"CUNIT3": "angstrom"}, 4749.890625, 1.25),
        ],
    )
    def test_first_and_step_in_angstrom(self, tmp_path, changes, first, step):
        cube = open_cube(write_cube(tmp_path / "a.fits", wcs=changes))
        wanted = first + step * np.arange(SHAPE[0])
        np.testing.assert_allclose(cube.wavelength, wanted, rtol=0, atol=1e-7)
        assert spectral_of(cube).medium == "air"

    def test_they_agree_with_astropy(self, tmp_path):
        path = write_cube(tmp_path / "a.fits", wcs={"CRPIX3": 3.75})
        wcs = WCS(fits.getheader(path, "DATA")).spectral
        metres = wcs.wcs_pix2world(np.arange(SHAPE[0]), 0)[0]
        np.testing.assert_allclose(open_cube(path).wavelength, metres * 1e10, rtol=0, atol=1e-6)

    def test_vacuum_stays_vacuum(self, tmp_path):
        cube = open_cube(write_cube(tmp_path / "a.fits", wcs={"CTYPE3": "WAVE"}))
        assert cube.wavelength.attrs["medium"] == "vacuum"

    @pytest.mark.parametrize(
        ("changes", "found"),
        [
            ({"CTYPE3": None}, "no CTYPE3"),
            ({"CTYPE3": "AWAV-LOG"}, "AWAV-LOG.*not evenly spaced|AWAV-LOG.*evenly"),
            ({"CTYPE3": "WAVE-LOG"}, "WAVE-LOG"),
            ({"CTYPE3": "AWAV-GRI"}, "not a linear axis"),
            ({"CTYPE3": "LINEAR"}, "CTYPE3 = 'LINEAR'"),
            ({"CTYPE3": "VELO"}, "CTYPE3 = 'VELO'"),
            ({"CUNIT3": None}, "CUNIT3 = ''"),
            ({"CUNIT3": "M"}, "CUNIT3 = 'M'"),
            ({"CUNIT3": "Hz"}, "CUNIT3 = 'Hz'"),
            ({"CD3_3": None}, "neither CD3_3 nor CDELT3"),
            ({"CD3_3": -1.25}, "have to be positive"),
            ({"CRVAL3": "x"}, "CRVAL3 = 'x'"),
            ({"CRVAL3": None}, "CRVAL3 = None"),
            ({"CRPIX3": None}, "CRPIX3 = None"),
        ],
    )
    def test_what_cannot_be_used_is_refused_by_name(self, tmp_path, changes, found):
        path = write_cube(tmp_path / "odd.fits", wcs=changes)
        with pytest.raises(InputError, match=rf"odd\.fits: .*{found}"):
            open_cube(path)

    @pytest.mark.parametrize(
        ("primary", "data", "frame"),
        [
            ("BARYCENT", None, "BARYCENT"),
            (None, "HELIOCEN", "HELIOCEN"),
            ("BARYCENT", "TOPOCENT", "TOPOCENT"),
            (None, None, "unknown"),
        ],
    )
    def test_the_frame_is_specsys_of_data_then_of_primary(self, tmp_path, primary, data, frame):
        path = write_cube(tmp_path / "a.fits", primary={"SPECSYS": primary}, wcs={"SPECSYS": data})
        assert open_cube(path).wavelength.attrs["frame"] == frame

    @pytest.mark.parametrize(("rvcorr", "frame"), [("bary", "BARYCENT"), ("none", "TOPOCENT")])
    def test_without_specsys_the_frame_is_what_rvcorr_did(self, tmp_path, rvcorr, frame):
        primary = {
            "SPECSYS": None,
            "HIERARCH ESO PRO REC2 PARAM22 NAME": "rvcorr",
            "HIERARCH ESO PRO REC2 PARAM22 VALUE": rvcorr,
        }
        cube = open_cube(write_cube(tmp_path / "a.fits", primary=primary))
        assert cube.wavelength.attrs["frame"] == frame


CDELT = {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None, "CD3_3": None,
         "CDELT1": -5.5e-5, "CDELT2": 5.5e-5, "CDELT3": 1.25}  # fmt: skip


class TestSky:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"CD1_1": -4e-5, "CD1_2": 3e-5, "CD2_1": 3e-5, "CD2_2": 4e-5},
            CDELT,
            CDELT | {"CROTA2": 30.0},
            CDELT | {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8},
        ],
    )
    def test_pixels_lie_where_astropy_says(self, tmp_path, changes):
        path = write_cube(tmp_path / "a.fits", wcs=changes)
        x, y = np.array([0.0, 5.0, 2.5]), np.array([0.0, 1.0, 4.0])
        want = WCS(fits.getheader(path, "DATA")).celestial.wcs_pix2world(x, y, 0)
        got = sky_of(open_cube(path)).to_sky(x, y)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11)

    @pytest.mark.parametrize(
        "beside", [{"CDELT1": 1.0, "CDELT2": 1.0}, {"PC1_1": 0.6, "PC1_2": 0.8}, {"CROTA2": 20.0}]
    )
    def test_cd_wins_over_what_stands_beside_it(self, tmp_path, beside):
        plain = open_cube(write_cube(tmp_path / "a.fits"))
        mixed = open_cube(write_cube(tmp_path / "b.fits", wcs=beside))
        assert sky_of(mixed) == sky_of(plain)

    @pytest.mark.parametrize(
        ("changes", "found"),
        [
            ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "CTYPE1, CTYPE2"),
            ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}, "distortions"),
            ({"CRVAL1": None}, "no CRVAL1"),
            ({"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None}, "neither CD1_1"),
            ({"CD1_3": 0.1}, "CD1_3 = 0.1 couples"),
        ],
    )
    def test_what_cannot_be_used_is_refused_by_name(self, tmp_path, changes, found):
        path = write_cube(tmp_path / "odd.fits", wcs=changes)
        with pytest.raises(InputError, match=rf"odd\.fits: .*{found}"):
            open_cube(path)


class TestHdus:
    def test_flux_in_primary_and_stat_by_name(self, tmp_path):
        flux, variance = arrays()
        cube = open_cube(write_cube(tmp_path / "a.fits", in_primary=True))
        np.testing.assert_array_equal(cube.flux.values, flux)
        np.testing.assert_array_equal(cube.variance.values, variance)
        assert str(cube.date_obs.values) == "2014-12-08T02:48:56.798"

    @pytest.mark.parametrize("in_primary", [True, False])
    def test_two_cubes_without_names_are_flux_and_variance(self, tmp_path, in_primary):
        _, variance = arrays()
        path = write_cube(tmp_path / "a.fits", in_primary=in_primary, names=("", "", ""))
        assert "EXTNAME" not in fits.getheader(path, 1)
        np.testing.assert_array_equal(open_cube(path).variance.values, variance)

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            (("", "", ""), "2 HDUs without a name could be the variance"),
            (("", "STAT", ""), "2 HDUs without a name could be the flux"),
            (("DATA", "", ""), "2 HDUs without a name could be the variance"),
            (("FLUX", "STAT", "DQ"), "no cube"),
            (("DATA", "ERROR", "DQ"), "no STAT"),
        ],
    )
    def test_what_is_ambiguous_is_refused(self, tmp_path, names, found):
        path = write_cube(tmp_path / "odd.fits", names=names, dq=np.zeros(SHAPE, np.float32))
        with pytest.raises(FileError, match=rf"odd\.fits: .*{found}"):
            open_cube(path)

    def test_names_decide_over_order(self, tmp_path):
        flux, variance = arrays()
        path = write_cube(tmp_path / "a.fits", data=variance, stat=flux, names=("STAT", "DATA", ""))
        np.testing.assert_array_equal(open_cube(path).flux.values, np.where(variance > 0, flux, 0))

    def test_without_stat_it_is_refused_and_says_what_to_do(self, tmp_path):
        path = write_cube(tmp_path / "odd.fits", stat=False)
        with pytest.raises(FileError, match=r"odd\.fits: has no STAT.*add a variance cube"):
            open_cube(path)

    def test_stat_of_another_shape_is_refused(self, tmp_path):
        path = write_cube(tmp_path / "odd.fits", stat=arrays((40, 5, 7))[1])
        with pytest.raises(FileError, match=r"odd\.fits: STAT has the shape \(40, 5, 7\)"):
            open_cube(path)

    def test_two_fluxes_are_refused(self, tmp_path):
        path = write_cube(tmp_path / "odd.fits", in_primary=True)
        fits.append(path, arrays()[0], fits.Header({**WCS_CARDS, "EXTNAME": "DATA"}))
        with pytest.raises(FileError, match=r"PRIMARY and another in DATA"):
            open_cube(path)

    def test_further_hdus_do_no_harm(self, tmp_path):
        path = write_cube(tmp_path / "a.fits")
        fits.append(path, np.zeros((5, 6)), fits.Header({"EXTNAME": "white"}))
        fits.append(path, fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])]).data,
                    fits.Header({"EXTNAME": "TABLE"}))  # fmt: skip
        assert open_cube(path).flux.shape == SHAPE


OFFSET = {
    "HIERARCH ESO DRS MUSE OFFSET1 DATE-OBS": "2014-12-08T02:48:56.798",
    "HIERARCH ESO DRS MUSE OFFSET1 DRA": 1.5e-4,
    "HIERARCH ESO DRS MUSE OFFSET1 DDEC": -2.5e-4,
    "HIERARCH ESO DRS MUSE FLUX SCALE1": 1.04,
}


class TestCarried:
    def test_what_the_pipeline_applied_is_read(self, tmp_path):
        cube = open_cube(write_cube(tmp_path / "a.fits", primary=OFFSET))
        assert float(cube.carried_ra_deg) == 1.5e-4
        assert float(cube.carried_dec_deg) == -2.5e-4
        assert float(cube.carried_flux_scale) == 1.04

    def test_nothing_is_said_where_the_product_says_nothing(self, tmp_path):
        cube = open_cube(write_cube(tmp_path / "a.fits"))
        assert not [key for key in cube.coords if key.startswith("carried")]
        without_scale = OFFSET | {"HIERARCH ESO DRS MUSE FLUX SCALE1": None}
        cube = open_cube(write_cube(tmp_path / "b.fits", primary=without_scale))
        assert "carried_ra_deg" in cube.coords
        assert "carried_flux_scale" not in cube.coords

    @pytest.mark.parametrize(
        ("now", "before", "turned"), [(30.2, 30.0, -0.2), (-179.9, 179.9, -0.2), (10.0, 10.5, 0.5)]
    )
    def test_what_pymusepipe_turned_is_read_with_the_sign_of_offsets(
        self, tmp_path, now, before, turned
    ):
        """It adds ROTANGLE to POSANG, and rotation_deg is minus ROTANGLE."""
        angles = {"HIERARCH ESO INS DROT POSANG": now, "HIERARCH ESO INS DROT POSANG ORIG": before}
        for name, primary in (("a", OFFSET | angles), ("b", angles)):
            cube = open_cube(write_cube(tmp_path / f"{name}.fits", primary=primary))
            assert float(cube.carried_rotation_deg) == pytest.approx(turned, abs=1e-9)
            assert ("carried_ra_deg" in cube.coords) is (name == "a")
        del angles["HIERARCH ESO INS DROT POSANG ORIG"]
        cube = open_cube(write_cube(tmp_path / "c.fits", primary=angles))
        assert "carried_rotation_deg" not in cube.coords

    def test_of_several_exposures_the_one_of_the_cubes_date_counts(self, tmp_path):
        second = {key.replace("1 D", "2 D").replace("SCALE1", "SCALE2"): value
                  for key, value in OFFSET.items()}  # fmt: skip
        second["HIERARCH ESO DRS MUSE OFFSET2 DRA"] = 7e-4
        second["HIERARCH ESO DRS MUSE FLUX SCALE2"] = 0.9
        first = OFFSET | {"HIERARCH ESO DRS MUSE OFFSET1 DATE-OBS": "2014-12-08T02:18:00.000"}
        cube = open_cube(write_cube(tmp_path / "a.fits", primary=first | second))
        assert float(cube.carried_ra_deg) == 7e-4
        assert float(cube.carried_flux_scale) == 0.9
        turned = {"HIERARCH ESO INS DROT POSANG": 1.5, "HIERARCH ESO INS DROT POSANG ORIG": 1.0}
        cube = open_cube(write_cube(tmp_path / "b.fits", primary=first | turned))
        assert "carried_ra_deg" not in cube.coords
        assert float(cube.carried_rotation_deg) == -0.5
