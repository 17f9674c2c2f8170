from __future__ import annotations

import math
from pathlib import Path

import astropy.units as u
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy.coordinates import SkyCoord

from musedask.cube import make_cube, sky_of
from musedask.errors import InputError, MissingError
from musedask.offsets import Offset, OffsetTable
from musedask.placement import exposure_key, place
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

DATE = "2014-12-08T03:12:45.123"
NY, NX = 31, 41
CENTRE = ((NX - 1) / 2, (NY - 1) / 2)


def poison(block: np.ndarray) -> np.ndarray:
    raise AssertionError("placing has to compute nothing")


def exposure(sky: SkyProjection | None = None, **scalars: object) -> xr.Dataset:
    """A lazy cube at declination -60 whose values must never be asked for."""
    sky = sky or SkyProjection.north_up(53.1, -60.0, 0.2, *CENTRE)
    empty = da.zeros((3, NY, NX), dtype=np.float32, chunks=(1, NY, NX))
    data = da.map_blocks(poison, empty, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    known = {"name": "exp1", "date_obs": DATE, "exptime": 900.0, "ra_deg": 53.1, "dec_deg": -60.0}
    variables = {"flux": data, "variance": data}
    return make_cube(variables, sky, SpectralAxis(4750.0, size=3), scalars={**known, **scalars})


def table(east: float = 1.5, north: float = -0.9, **values: object) -> OffsetTable:
    given = {"dec_deg": -60.0, **values}
    row = Offset(
        date_obs=DATE, name="exp1", ra_offset_arcsec=east, dec_offset_arcsec=north, **given
    )
    return OffsetTable((row,))


def sky_move(
    before: SkyProjection, after: SkyProjection, x: float, y: float
) -> tuple[float, float]:
    """By how many arcseconds on the sky pixel (x, y) went east and north, by astropy alone."""
    start = SkyCoord(*before.wcs.pixel_to_world_values(x, y), unit="deg")
    end = SkyCoord(*after.wcs.pixel_to_world_values(x, y), unit="deg")
    east, north = start.spherical_offsets_to(end)
    return float(east.to_value(u.arcsec)), float(north.to_value(u.arcsec))


def test_without_offsets_the_header_is_right() -> None:
    cube = exposure(carried_ra_deg=0.001, carried_dec_deg=0.001, carried_flux_scale=2.0)
    placed = place(cube, None)
    assert placed.sky == sky_of(cube)
    assert (placed.name, placed.date_obs) == ("exp1", DATE)
    assert placed.shape == (NY, NX)
    assert placed.flux_scale == 1.0
    assert place(cube.drop_vars("date_obs"), None).date_obs == ""


def test_a_pixel_moves_on_the_sky_by_minus_the_offset_at_declination_minus_60() -> None:
    cube = exposure()
    placed = place(cube, table(1.5, -0.9))
    east, north = sky_move(sky_of(cube), placed.sky, *CENTRE)
    assert (east, north) == pytest.approx((-1.5, 0.9), abs=1e-4)
    for corner in ((0.0, 0.0), (NX - 1.0, NY - 1.0)):
        assert sky_move(sky_of(cube), placed.sky, *corner) == pytest.approx((-1.5, 0.9), abs=1e-3)


def test_the_offset_list_rule_holds_in_coordinates() -> None:
    """RA_used = RA - RA_OFFSET, where 1.5 arcsec on the sky at -60 deg are 3 of coordinate."""
    ra, dec = place(exposure(), table(1.5, -0.9)).sky.crval_deg
    assert ra == pytest.approx(53.1 - 3.0 / 3600.0, abs=1e-12)
    assert dec == pytest.approx(-60.0 + 0.9 / 3600.0, abs=1e-12)


def test_a_cube_that_carries_its_row_is_not_moved_at_all() -> None:
    cube = exposure(
        carried_ra_deg=3.0 / 3600.0, carried_dec_deg=-0.9 / 3600.0, carried_flux_scale=1.1
    )
    placed = place(cube, table(1.5, -0.9, flux_scale=1.1))
    assert placed.sky.cards == sky_of(cube).cards
    assert placed.flux_scale == 1.0


def test_digits_that_a_fits_card_loses_do_not_move_a_cube() -> None:
    offsets = table(1.234567890123, -0.987654321098, flux_scale=1.0123456789012)
    cube = exposure(
        carried_ra_deg=float(f"{2 * 1.234567890123 / 3600:.10e}"),
        carried_dec_deg=float(f"{-0.987654321098 / 3600:.10e}"),
        carried_flux_scale=float(f"{1.0123456789012:.10f}"),
    )
    placed = place(cube, offsets)
    assert placed.sky.cards == sky_of(cube).cards
    assert placed.flux_scale == 1.0


def test_only_the_difference_to_what_a_cube_carries_is_applied() -> None:
    # 1.0 of 1.5 arcsec on the sky (2 of coordinate) and half of the scale are in the product.
    cube = exposure(carried_ra_deg=2.0 / 3600.0, carried_dec_deg=0.0, carried_flux_scale=2.0)
    placed = place(cube, table(1.5, -0.9, flux_scale=3.0))
    assert sky_move(sky_of(cube), placed.sky, *CENTRE) == pytest.approx((-0.5, 0.9), abs=1e-4)
    assert placed.flux_scale == pytest.approx(1.5)


def test_a_product_of_the_pipeline_and_the_raw_cube_come_to_the_same_place(tmp_path: Path) -> None:
    """Round the loop: table, OFFSET_LIST, what scipost does with it, and the table again."""
    offsets = table(1.5, -0.9, flux_scale=1.3, ra_deg=53.1)
    offsets.write(tmp_path / "OFFSET_LIST.fits")
    from astropy.io import fits

    data = fits.getdata(tmp_path / "OFFSET_LIST.fits", 1)
    dra, ddec, scale = (float(data[k][0]) for k in ("RA_OFFSET", "DEC_OFFSET", "FLUX_SCALE"))
    raw = exposure()
    cards = sky_of(raw).mapping
    moved = SkyProjection.from_cards(
        {**cards, "CRVAL1": cards["CRVAL1"] - dra, "CRVAL2": cards["CRVAL2"] - ddec}
    )
    product = exposure(moved, carried_ra_deg=dra, carried_dec_deg=ddec, carried_flux_scale=scale)
    for total in (offsets, OffsetTable.read(tmp_path / "OFFSET_LIST.fits")):
        again = place(product, total)
        assert again.sky.cards == moved.cards
        assert again.flux_scale == 1.0
        first = place(raw, total)
        assert sky_move(first.sky, again.sky, 0.0, 0.0) == pytest.approx((0.0, 0.0), abs=1e-6)
        assert first.flux_scale == pytest.approx(1.3)
    # A second measurement finds 0.2 arcsec more: the total grows, and only that is applied.
    further = place(product, table(1.7, -0.9, flux_scale=1.3))
    assert sky_move(moved, further.sky, *CENTRE) == pytest.approx((-0.2, 0.0), abs=1e-4)


def test_no_flux_scale_is_a_total_of_one() -> None:
    assert place(exposure(), table()).flux_scale == 1.0
    assert place(exposure(carried_flux_scale=2.0), table()).flux_scale == 0.5
    assert place(exposure(carried_flux_scale=math.nan), table(flux_scale=3.0)).flux_scale == 3.0


@pytest.mark.parametrize("carried", [0.3, -0.2])
def test_a_rotation_that_the_product_carries_is_not_applied_again(carried: float) -> None:
    """Of a total of 0.5 degrees the rest is left; a row that says nothing leaves the product's."""
    plain, product = exposure(), exposure(carried_rotation_deg=carried)
    rest = place(plain, table(rotation_deg=0.5 - carried)).sky
    assert sky_move(place(product, table(rotation_deg=0.5)).sky, rest, 0, 0) == pytest.approx(
        (0, 0), abs=1e-9
    )
    assert place(product, table(0.0, 0.0, rotation_deg=carried)).sky == sky_of(product)
    assert place(product, table(0.0, 0.0)).sky == sky_of(product)
    back = place(product, table(0.0, 0.0, rotation_deg=0.0)).sky
    assert back == place(plain, table(0.0, 0.0, rotation_deg=-carried)).sky


@pytest.mark.parametrize("carried", [0.0, -1.0, math.inf])
def test_an_impossible_carried_scale_is_an_error(carried: float) -> None:
    with pytest.raises(InputError, match=f"exp1: carried_flux_scale is {carried}"):
        place(exposure(carried_flux_scale=carried), table())


def test_nan_carried_means_nothing_carried() -> None:
    cube = exposure(carried_ra_deg=math.nan, carried_dec_deg=math.nan)
    assert place(cube, table()).sky == place(exposure(), table()).sky


def test_the_declination_is_the_row_s_then_the_header_s_then_crval2() -> None:
    equator = SkyProjection.north_up(53.1, 0.0, 0.2, *CENTRE)

    def ra_change_arcsec(cube: xr.Dataset, offsets: OffsetTable) -> float:
        return (53.1 - place(cube, offsets).sky.crval_deg[0]) * 3600.0

    unknown = table(1.5, 0.0, dec_deg=math.nan)
    assert ra_change_arcsec(exposure(equator), table(1.5, 0.0)) == pytest.approx(3.0)
    assert ra_change_arcsec(exposure(equator, dec_deg=0.0), table(1.5, 0.0)) == pytest.approx(3.0)
    assert ra_change_arcsec(exposure(equator), unknown) == pytest.approx(3.0)
    assert ra_change_arcsec(exposure(equator, dec_deg=math.nan), unknown) == pytest.approx(1.5)
    bare = exposure(equator).drop_vars("dec_deg")
    assert ra_change_arcsec(bare, unknown) == pytest.approx(1.5)


def test_a_field_across_ra_0_stays_on_the_circle() -> None:
    cube = exposure(SkyProjection.north_up(0.0001, -60.0, 0.2, *CENTRE))
    placed = place(cube, table(1.5, 0.0))
    assert placed.sky.crval_deg[0] == pytest.approx(360.0 + 0.0001 - 3.0 / 3600.0)
    assert sky_move(sky_of(cube), placed.sky, *CENTRE) == pytest.approx((-1.5, 0.0), abs=1e-4)


def test_an_offset_at_the_pole_is_on_the_sky() -> None:
    cube = exposure(SkyProjection.north_up(10.0, -90.0, 0.2, *CENTRE), dec_deg=-90.0)
    placed = place(cube, table(3.0, 4.0, dec_deg=math.nan))
    before, after = (SkyCoord(*p.to_sky(*CENTRE), unit="deg") for p in (sky_of(cube), placed.sky))
    assert before.separation(after).arcsec == pytest.approx(5.0, abs=1e-4)


def test_a_rotation_turns_the_field_back_about_its_centre() -> None:
    off_centre = SkyProjection.north_up(53.1, -60.0, 0.2, 5.0, 3.0)
    cube = exposure(off_centre)
    placed = place(cube, table(0.0, 0.0, rotation_deg=1.5))
    assert sky_move(off_centre, placed.sky, *CENTRE) == pytest.approx((0.0, 0.0), abs=1e-3)

    def position_angle(sky: SkyProjection) -> float:
        centre = SkyCoord(*sky.wcs.pixel_to_world_values(*CENTRE), unit="deg")
        top = SkyCoord(*sky.wcs.pixel_to_world_values(CENTRE[0], NY - 1.0), unit="deg")
        return float(centre.position_angle(top).wrap_at(180 * u.deg).to_value(u.deg))

    change = position_angle(placed.sky) - position_angle(off_centre)
    assert change == pytest.approx(-1.5, abs=1e-3)


def test_a_cut_out_is_placed_like_its_part_of_the_whole() -> None:
    cube = exposure()
    part = cube.isel(x=slice(7, 20), y=slice(4, 15))
    whole, cut = place(cube, table()), place(part, table())
    assert cut.shape == (11, 13)
    assert sky_move(whole.sky.shifted(7, 4), cut.sky, 3.0, 3.0) == pytest.approx((0, 0), abs=1e-6)


def test_an_exposure_without_a_row_is_an_error_unless_allowed(caplog) -> None:
    cube = exposure(date_obs="2020-01-01T00:00:00.000")
    with pytest.raises(MissingError, match=r"exp1 with DATE-OBS 2020-01-01T00:00:00\.000"):
        place(cube, table())
    placed = place(cube, table(), allow_missing=True)
    assert placed.sky == sky_of(cube)
    assert placed.flux_scale == 1.0
    assert "exp1 has no offset" in caplog.text


def test_a_failed_offset_is_refused_unless_allowed() -> None:
    failed = table(grade="F", note="no star")
    with pytest.raises(InputError, match=r"exp1: its offset has grade F \(no star\)"):
        place(exposure(), failed)
    with pytest.raises(InputError, match="grade F"):
        place(exposure(), failed, allow_missing=True)
    assert place(exposure(), failed, allow_failed=True).sky == place(exposure(), table()).sky
    with pytest.raises(InputError, match="nothing to apply"):
        place(exposure(), table(math.nan, 0.0, grade="F"), allow_failed=True)


def test_a_cube_without_a_date_cannot_have_an_offset() -> None:
    with pytest.raises(InputError, match="exp1: no coordinate date_obs"):
        place(exposure().drop_vars("date_obs"), table())


def test_exposure_keys_come_from_cubes() -> None:
    cube = exposure()
    cube.attrs["path"] = "/data/exp1.fits"
    cube.attrs["primary_header"] = "MJD-OBS = 56999.5"
    key = exposure_key(cube)
    assert key.primary_header == "MJD-OBS = 56999.5"
    assert (key.date_obs, key.name, key.ra_deg, key.dec_deg) == (DATE, "exp1", 53.1, -60.0)
    assert key.path == "/data/exp1.fits"
    assert exposure_key(cube, "other.fits").path == "other.fits"
    bare = exposure_key(cube.drop_vars(["ra_deg", "dec_deg", "date_obs"]))
    assert math.isnan(bare.dec_deg)
    assert bare.date_obs == ""
