"""Projections as values: the same formulas as the standard, equality, moves."""

from __future__ import annotations

import pickle
from typing import Any

import dask.base
import numpy as np
import pytest
import stacking_reference as ref
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from exposure_cubes import tan_cards
from hypothesis import given
from hypothesis import strategies as st

from musedask.errors import InputError
from musedask.sky import SkyProjection

PLACES = [(0.0, 0.0), (359.9999, -60.0), (150.0, 2.2), (75.0, 89.9), (200.0, -89.99)]


def sky_at(place: tuple[float, float], **changes: Any) -> SkyProjection:
    return SkyProjection.from_cards(tan_cards(ra=place[0], dec=place[1], **changes))


def east_north(a: SkyProjection, b: SkyProjection, x: float, y: float) -> tuple[float, float]:
    """How far east and north, arcsec, pixel (x, y) lies in ``a`` compared with ``b``."""
    one, other = (SkyCoord(*p.to_sky(x, y), unit="deg") for p in (a, b))
    d_east, d_north = other.spherical_offsets_to(one)
    return d_east.to_value(u.arcsec), d_north.to_value(u.arcsec)


class TestFormulas:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("turn", [0.0, 123.0])
    def test_pixels_to_sky_and_back_are_the_gnomonic_projection(
        self, place: tuple[float, float], turn: float
    ) -> None:
        cards = tan_cards(ra=place[0], dec=place[1], turn_deg=turn)
        sky = SkyProjection.from_cards(cards)
        x, y = np.random.default_rng(0).uniform(-200, 400, (2, 50))
        ra, dec = sky.to_sky(x, y)
        wanted_ra, wanted_dec = ref.tan_to_sky(cards, x, y)
        away = (ra - wanted_ra + 180) % 360 - 180
        np.testing.assert_allclose(away * np.cos(np.radians(dec)), 0.0, atol=1e-10)
        np.testing.assert_allclose(dec, wanted_dec, atol=1e-10)
        np.testing.assert_allclose(sky.to_pixel(ra, dec), [x, y], atol=1e-5)

    def test_the_other_side_of_the_sky_does_not_project(self) -> None:
        x, y = sky_at((30.0, -60.0)).to_pixel([210.0, 30.1], [60.0, -60.0])
        assert np.isnan(x[0])
        assert np.isnan(y[0])
        assert np.isfinite(x[1])

    def test_area_and_orientation(self) -> None:
        assert abs(sky_at((1.0, 2.0)).pixel_area_arcsec2 - 0.04) < 1e-12
        assert sky_at((1.0, 2.0)).is_north_up
        assert not sky_at((1.0, 2.0), turn_deg=0.01).is_north_up
        assert not sky_at((1.0, 2.0), mirrored=True).is_north_up


class TestValues:
    def test_equal_headers_are_equal_hash_tokenise_and_pickle_alike(self) -> None:
        step = 0.2 / 3600.0
        base = tan_cards(ra=30.5)
        by_cdelt = {k: v for k, v in base.items() if not k.startswith("CD")} | {
            "CDELT1": -step, "CDELT2": step, "PC1_1": 1.0, "PC2_2": 1.0,
        }  # fmt: skip
        turned_round = base | {"CRVAL1": base["CRVAL1"] + 360.0}
        one = SkyProjection.from_header(fits.Header(base))
        for cards in (by_cdelt, turned_round, dict(reversed(base.items()))):
            other = SkyProjection.from_header(fits.Header(cards))
            np.testing.assert_allclose(other.cd, one.cd, rtol=1e-15)
            assert other == one
            assert hash(other) == hash(one)
            assert other.checksum == one.checksum
            assert dask.base.tokenize(other) == dask.base.tokenize(one)
        one.wcs  # noqa: B018 - cached, and left out of the pickle
        assert pickle.loads(pickle.dumps(one)) == one
        assert len(pickle.dumps(one)) < 2000
        assert SkyProjection.from_cards(one.mapping) == one

    def test_other_headers_differ(self) -> None:
        one = sky_at((30.0, -60.0))
        others = [sky_at((30.0, -60.00001)), sky_at((30.0, -60.0), turn_deg=1.0), one.shifted(1, 0)]
        assert len({sky.checksum for sky in [one, *others]}) == 4
        assert len({one, *others}) == 4

    @given(dx=st.integers(-500, 500), dy=st.integers(-500, 500))
    def test_shifting_renames_pixels(self, dx: int, dy: int) -> None:
        sky = sky_at((30.0, -60.0), turn_deg=20.0)
        shifted = sky.shifted(dx, dy)
        np.testing.assert_allclose(shifted.to_sky(3.0, 4.0), sky.to_sky(3.0 + dx, 4.0 + dy))
        assert shifted.shifted(-dx, -dy) == sky
        assert sky.lattice_step(shifted, (50, 40)) == (-dx, -dy)

    def test_lattices_that_differ_have_no_step(self) -> None:
        sky = sky_at((30.0, -60.0))
        assert sky.lattice_step(sky.shifted(0.5, 0.0), (50, 40)) is None
        assert sky.lattice_step(sky_at((30.0, -60.0), turn_deg=0.01), (50, 40)) is None
        assert sky.lattice_step(sky_at((30.0, -60.0), turn_deg=0.001), (50, 40)) == (0, 0)
        assert sky.lattice_step(sky_at((210.0, 60.0)), (50, 40)) is None


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "a.fits: CTYPE1, CTYPE2"),
            ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"}, "a.fits: CTYPE1, CTYPE2"),
            ({"CD1_1": 0.0}, "(?s)a.fits: .*singular"),
            ({"CRVAL2": 91.0}, "a.fits: (CRVAL|the WCS)"),
            ({"CD1_3": 1e-9, "CTYPE3": "AWAV"}, "a.fits: CD1_3 = 1e-09 couples"),
        ],
    )
    def test_headers_that_are_no_sky_are_refused_by_name(
        self, change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            SkyProjection.from_header(fits.Header(tan_cards() | change), "a.fits")


class TestMoves:
    @pytest.mark.parametrize("place", [*PLACES[:3], (75.0, 89.5), (75.0, 89.95), (200.0, -89.99)])
    @pytest.mark.parametrize("offset", [(1.5, -0.7), (-3.0, 0.0), (0.0, 2.0)])
    def test_an_offset_is_subtracted_on_the_sky(
        self, place: tuple[float, float], offset: tuple[float, float]
    ) -> None:
        sky = sky_at(place)
        found = east_north(sky.moved(*offset), sky, 10.0, 8.0)  # at the reference pixel
        np.testing.assert_allclose(
            found, [-offset[0], -offset[1]], atol=3e-3 if place[1] == 89.5 else 2e-4
        )

    @pytest.mark.parametrize("place", PLACES[:3])
    @pytest.mark.parametrize("angle", [0.5, -30.0])
    def test_a_rotation_is_taken_back_about_its_pixel(
        self, place: tuple[float, float], angle: float
    ) -> None:
        sky = sky_at(place, turn_deg=12.0)
        back = sky.moved(0.0, 0.0, angle, about=(150.0, 140.0))
        np.testing.assert_allclose(east_north(back, sky, 150.0, 140.0), [0.0, 0.0], atol=1e-6)
        # The position angle of the y axis there was too large by the angle.
        angles = []
        for projection in (sky, back):
            centre, above = (
                SkyCoord(*projection.to_sky(150.0, y), unit="deg") for y in (140.0, 141.0)
            )
            angles.append(centre.position_angle(above).to_value(u.deg))
        assert abs((angles[1] - angles[0] + angle + 180) % 360 - 180) < 1e-3

    def test_no_offset_leaves_pixels_where_they_are(self) -> None:
        sky = sky_at((30.0, -60.0), turn_deg=12.0)
        np.testing.assert_allclose(sky.moved(0.0, 0.0).to_sky(3, 4), sky.to_sky(3, 4), atol=1e-13)


def test_astropy_gives_the_same_from_the_cards() -> None:
    sky = sky_at((30.0, -60.0), turn_deg=12.0)
    wcs = WCS(fits.Header(list(sky.cards)))
    np.testing.assert_allclose(wcs.pixel_to_world_values(3.0, 4.0), sky.to_sky(3.0, 4.0))


CARDS_OF_KINDS = [
    {},
    {"RADESYS": "FK5", "EQUINOX": 2000.0},
    {"RADESYS": "FK4", "EQUINOX": 1950.0, "LONPOLE": 170.0},
    {"CTYPE1": "RA---STG", "CTYPE2": "DEC--STG", "LATPOLE": 45.0},
    {"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 1.0, "PV2_3": 0.02},
    {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "PV2_1": 0.01, "PV2_2": -0.02},
    {
        "CTYPE1": "RA---CAR",
        "CTYPE2": "DEC--CAR",
        "CRVAL2": 10.0,
        "LONPOLE": 30.0,
        "LATPOLE": -80.0,
    },
]


@pytest.mark.parametrize("more", CARDS_OF_KINDS, ids=lambda more: ",".join(more))
@pytest.mark.parametrize("dec", [-60.123456789012345, 0.0, 2.2, 90.0])
def test_cards_and_wcs_are_those_that_astropy_makes_of_headers(more, dec):
    header = fits.Header({**tan_cards(ra=123.45678901234567, dec=dec, turn_deg=31.0), **more})
    sky = SkyProjection.from_header(header)
    full = WCS(header, naxis=2).to_header()
    for key in ("LONPOLE", "LATPOLE", "EQUINOX", "RADESYS", *(k for k in full if k[:2] == "PV")):
        assert sky.mapping.get(key) == full.get(key), key
    assert [key for key in sky.mapping if key[:2] == "PV"] == [k for k in full if k[:2] == "PV"]
    through = WCS(fits.Header(list(sky.cards)))
    assert dict(sky.wcs.to_header()) == dict(through.to_header())
    xy = np.random.default_rng(1).uniform(0, 300, (2, 50))
    np.testing.assert_array_equal(sky.to_sky(*xy), through.wcs_pix2world(*xy, 0))


def test_a_card_that_fits_cannot_hold_is_refused():
    sky = SkyProjection.from_cards({**tan_cards(), "A KEY\n": 1.0})
    with pytest.raises(InputError, match="A KEY"):
        sky.to_sky(0, 0)
