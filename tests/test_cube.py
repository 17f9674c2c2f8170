"""The schema of a cube and its check."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from exposure_cubes import memory_cube, noise, tan_cards

from musedask.cube import FLUX_UNITS, check_cube, make_cube, name_of, sky_of, spectral_of
from musedask.errors import InputError
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

SHAPE = (6, 5, 7)


def cube() -> xr.Dataset:
    return memory_cube(*noise(SHAPE, 1))


def test_a_cube_that_was_made_passes_its_check() -> None:
    made = cube()
    check_cube(made)
    assert made["flux"].dims == ("wavelength", "y", "x")
    assert made["flux"].attrs["units"] == FLUX_UNITS
    assert made["variance"].attrs["units"] == f"({FLUX_UNITS})**2"
    assert (made["y"].dtype, made["x"].dtype) == (np.int64, np.int64)
    assert made["wavelength"].dtype == np.float64
    assert made["wavelength"].attrs["units"] == "Angstrom"
    assert sky_of(made) == SkyProjection.from_cards(tan_cards())
    assert spectral_of(made) == SpectralAxis(4750.0, 1.25, 6, frame="BARYCENT")
    assert name_of(made) == "exp0"
    assert name_of(made.drop_vars("name"), "other") == "other"


def test_a_cut_out_keeps_its_place() -> None:
    part = cube().isel(wavelength=slice(2, 5), y=slice(1, 4), x=slice(3, 6))
    check_cube(part)
    whole = SkyProjection.from_cards(tan_cards())
    np.testing.assert_allclose(sky_of(part).to_sky(0, 0), whole.to_sky(3, 1))
    assert sky_of(part) == whole.shifted(3, 1)
    found = spectral_of(part)
    assert (found.first_angstrom, found.size) == (4752.5, 3)
    again = part.isel(x=slice(1, None))
    assert sky_of(again) == whole.shifted(4, 1)
    one = cube().isel(wavelength=slice(2, 3))
    assert spectral_of(one) == SpectralAxis(4752.5, 1.25, 1, frame="BARYCENT")


def test_arithmetic_between_lattices_loses_the_projection_instead_of_mixing() -> None:
    one = cube()
    other = memory_cube(*noise(SHAPE, 2), cards=tan_cards(x=4.0))
    with pytest.raises(InputError, match="no coordinate 'wcs'"):
        check_cube((one - other).assign(flux=one["flux"].drop_vars("wcs")))
    with xr.set_options(keep_attrs=True):
        same = one - memory_cube(*noise(SHAPE, 2))
    assert "wcs" in same.coords
    assert sky_of(same) == sky_of(one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.drop_vars("variance"), "no variable 'variance'"),
        (lambda c: c.astype(np.float64), "flux is float64, expected float32; use .astype"),
        (lambda c: c.transpose("y", "x", "wavelength"), "flux has dims"),
        (lambda c: c.drop_vars("y"), "no coordinate 'y'"),
        (lambda c: c.isel(x=slice(None, None, 2)), "x has to count whole pixels without gaps"),
        (lambda c: c.isel(x=slice(0, 0)), "x has to count"),
        (lambda c: c.isel(wavelength=slice(0, 0)), "has no channel"),
        (lambda c: c.assign(n_exposures=c["flux"]), "n_exposures is float32, expected uint16"),
    ],
)
def test_what_is_no_cube_is_told_what_it_lacks(change, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=rf"^night7.*{message}"):
        check_cube(change(cube()), "night7")


def test_wavelengths_with_a_gap_are_refused() -> None:
    with pytest.raises(InputError, match="night7: the wavelengths are not evenly spaced"):
        spectral_of(cube().isel(wavelength=[0, 1, 3]), "night7")
    with pytest.raises(InputError, match="not evenly spaced"):
        spectral_of(cube().isel(wavelength=slice(None, None, -1)))


def test_wavelengths_may_be_told_apart_from_the_axis() -> None:
    waves = 4750.0 + 1.25 * np.arange(6) + np.array([0, 0, 0, 0.05, 0.05, 0.05])
    flux, variance = noise(SHAPE, 1)
    sky = SkyProjection.from_cards(tan_cards())
    made = make_cube(
        {"flux": flux, "variance": variance}, sky, SpectralAxis(4750.0, 1.25, 6), wavelengths=waves
    )
    np.testing.assert_array_equal(made["wavelength"], waves)
    assert spectral_of(made).size == 6
