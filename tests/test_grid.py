"""Grids: what they enclose, what they share, and that equal ones are equal."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask.base
import numpy as np
import pytest
import stacking_reference as ref
import xarray as xr
from astropy.io import fits
from exposure_cubes import date, file_cube, grid_of, memory_cube, noise, tan_cards
from hypothesis import assume, given
from hypothesis import strategies as st

from musedask.errors import FileError, InputError, MissingError
from musedask.grid import LARGEST_SIDE_PIX, SNAP_PIX, CubeGrid
from musedask.offsets import Offset, OffsetTable
from musedask.placement import place
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis
from musedask.stacking import stack

SHAPE = (3, 30, 34)


def cube(n: int = 0, *, first: float = 4750.0, shape: Any = SHAPE, **changes: Any) -> xr.Dataset:
    """An exposure of which only the coordinates matter."""
    empty = np.broadcast_to(np.float32(1.0), shape)
    return memory_cube(
        empty, empty, n, cards=tan_cards(**{"x": 16.5, "y": 14.5} | changes), first=first
    )


def table(*offsets: tuple[float, float]) -> OffsetTable:
    return OffsetTable(
        tuple(
            Offset(date_obs=date(n), ra_offset_arcsec=a, dec_offset_arcsec=b, dec_deg=-60.0)
            for n, (a, b) in enumerate(offsets)
        )
    )


def outline(made: xr.Dataset, cards: dict[str, Any]) -> tuple[Any, Any]:
    """RA and DEC along the edge of a frame."""
    ny, nx = made.sizes["y"], made.sizes["x"]
    t = np.linspace(0.0, 1.0, 25)
    x = np.concatenate([t * nx, t * nx, 0 * t, 0 * t + nx]) - 0.5
    y = np.concatenate([0 * t, 0 * t + ny, t * ny, t * ny]) - 0.5
    return ref.tan_to_sky(cards, x, y)


def margins(grid: CubeGrid, edges: list[tuple[Any, Any]]) -> tuple[float, float, float, float]:
    """Pixels between the grid's edges and what it has to enclose: left, bottom, right, top."""
    ra, dec = (np.concatenate(part) for part in zip(*edges, strict=True))
    x, y = ref.tan_to_pixel(grid.sky.mapping, ra, dec)
    return (x.min() + 0.5, y.min() + 0.5, grid.nx - 0.5 - x.max(), grid.ny - 0.5 - y.max())


PLACES = [(30.0, 0.0), (0.0, -60.0), (359.9999, 20.0), (75.0, 89.9), (200.0, -89.99)]


class TestEnclosing:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("turns", [(0.0, 0.0), (45.0, 0.0), (45.0, 45.0), (200.0, 70.0)])
    def test_all_footprints_lie_inside_with_the_pad_and_little_more(
        self, place: tuple[float, float], turns: tuple[float, float]
    ) -> None:
        ra, dec = place
        frames = [
            tan_cards(ra=ra, dec=dec, x=16.5, y=14.5, turn_deg=turns[0]),
            tan_cards(ra=ra, dec=dec, x=40.2, y=3.9, turn_deg=turns[1]),
        ]
        cubes = [cube(n) for n in range(2)]
        cubes = [
            memory_cube(c["flux"].values, c["variance"].values, n, cards=frame)
            for n, (c, frame) in enumerate(zip(cubes, frames, strict=True))
        ]
        grid = CubeGrid.enclosing(cubes, pad=3)
        edges = [outline(c, frame) for c, frame in zip(cubes, frames, strict=True)]
        found = margins(grid, edges)
        assert min(found) > 3 - 1e-3
        assert max(found) < 3 + SNAP_PIX + 1e-3
        assert grid.ny % SNAP_PIX == 0
        assert grid.nx % SNAP_PIX == 0
        assert grid.sky.is_north_up or turns == (45.0, 45.0)
        assert all(grid.contains(place_) for place_ in (self.placed(c) for c in cubes))

    @staticmethod
    def placed(made: xr.Dataset) -> Any:
        return place(made, None)

    def test_the_lattice_is_that_of_the_first_exposure_by_date(self) -> None:
        cubes = [cube(1, x=16.8), cube(0, x=16.5), cube(2, x=17.1)]
        grid = CubeGrid.enclosing(cubes)
        first = SkyProjection.from_cards(tan_cards(x=16.5, y=14.5))
        step = first.lattice_step(grid.sky, (30, 34))
        assert step is not None
        assert grid == CubeGrid.enclosing(cubes[::-1])

    def test_one_exposure_falls_on_its_own_pixels(self) -> None:
        flux, variance = noise(SHAPE, 1)
        made = memory_cube(flux, variance, cards=tan_cards(turn_deg=33.0))
        grid = CubeGrid.enclosing([made], pad=0)
        assert (grid.ny, grid.nx) == (32, 40)
        found = stack([made], None, grid)["median"]["flux"].values
        np.testing.assert_array_equal(found[:, :30, :34], flux)

    def test_offsets_move_frames_before_they_are_enclosed(self) -> None:
        cubes = [cube(0), cube(1)]
        offsets = table((0.0, 0.0), (12.0, -8.0))  # exposure 1 lies 12" too far east
        grid = CubeGrid.enclosing(cubes, offsets)
        moved = ref.moved(tan_cards(x=16.5, y=14.5), 12.0, -8.0, -60.0)
        edges = [outline(cubes[0], tan_cards(x=16.5, y=14.5)), outline(cubes[1], moved)]
        found = margins(grid, edges)
        assert min(found) > 4 - 1e-3
        assert max(found) < 4 + SNAP_PIX
        assert not CubeGrid.enclosing(cubes).contains(place(cubes[1], offsets))

    def test_small_changes_of_offsets_keep_the_grid(self) -> None:
        cubes = [cube(n) for n in range(3)]
        rng = np.random.default_rng(1)
        base = rng.uniform(-1.0, 1.0, (3, 2))
        grids = {
            CubeGrid.enclosing(cubes, table(*(base + rng.uniform(-0.05, 0.05, (3, 2)))))
            for _ in range(20)
        }
        assert len(grids) == 1

    def test_fields_that_do_not_touch_share_a_grid(self) -> None:
        near, far = cube(0, dec=0.0), cube(1, dec=0.02)
        grid = CubeGrid.enclosing([near, far])
        assert 360 + 30 < grid.ny < 360 + 30 + 2 * SNAP_PIX + 8
        made = stack([near, far], None, grid)["median"]["n_exposures"].values
        assert made.sum() == 2 * 3 * 30 * 34
        assert made[0, 100:200].sum() == 0

    def test_another_pixel_size_is_north_up(self) -> None:
        cubes = [cube(n, turn_deg=45.0) for n in range(2)]
        grid = CubeGrid.enclosing(cubes, pixel_arcsec=0.4)
        assert abs(grid.pixel_arcsec - 0.4) < 1e-9
        assert grid.sky.is_north_up
        assert CubeGrid.enclosing(cubes).sky.is_north_up is False

    def test_what_is_not_one_target_is_refused_by_name(self) -> None:
        with pytest.raises(InputError, match="exp1 lies more than 90 degrees"):
            CubeGrid.enclosing([cube(0, dec=-60.0), cube(1, ra=210.0, dec=60.0)])
        with pytest.raises(InputError, match=f"1 to {LARGEST_SIDE_PIX} a side"):
            CubeGrid.enclosing([cube(0, dec=0.0), cube(1, dec=30.0)])
        with pytest.raises(InputError, match="no exposures"):
            CubeGrid.enclosing([])
        with pytest.raises(MissingError, match="no offset for exp1"):
            CubeGrid.enclosing([cube(0), cube(1)], table((0.0, 0.0)))
        CubeGrid.enclosing([cube(0), cube(1)], table((0.0, 0.0)), allow_missing=True)


class TestOverlap:
    @pytest.mark.parametrize("turn", [0.0, 45.0, 20.0])
    def test_is_the_smallest_rectangle_around_what_all_cover(self, turn: float) -> None:
        frames = [
            tan_cards(x=16.5, y=14.5, dec=0.0),
            tan_cards(x=11.2, y=19.1, dec=0.0, turn_deg=turn),
        ]
        empty = np.ones(SHAPE, np.float32)
        cubes = [memory_cube(empty, empty, n, cards=frame) for n, frame in enumerate(frames)]
        grid = CubeGrid.overlap(cubes)
        wide = grid.padded(12)
        y, x = np.mgrid[: wide.ny, : wide.nx]
        ra, dec = ref.tan_to_sky(wide.sky.mapping, x, y)
        shared = np.ones(x.shape, bool)
        for frame in frames:
            at_x, at_y = ref.tan_to_pixel(frame, ra, dec)
            shared &= (abs(at_x - 16.5) < 17) & (abs(at_y - 14.5) < 15)
        rows, columns = np.flatnonzero(shared.any(1)), np.flatnonzero(shared.any(0))
        assert (rows[0], rows[-1]) == (12, 12 + grid.ny - 1)
        assert (columns[0], columns[-1]) == (12, 12 + grid.nx - 1)

    def test_offsets_count(self) -> None:
        cubes = [cube(0), cube(1)]
        grid = CubeGrid.overlap(cubes, table((0.0, 0.0), (1.0, 0.0)))
        assert (grid.ny, grid.nx) == (30, 29)
        assert grid.sky == SkyProjection.from_cards(tan_cards(x=16.5, y=14.5)).shifted(5, 0)

    def test_none_is_an_error(self) -> None:
        with pytest.raises(InputError, match="no pixel in common"):
            CubeGrid.overlap([cube(0, dec=0.0), cube(1, dec=0.02)])


class TestFromOthers:
    def test_a_reference_cube_a_header_and_a_file_give_one_grid(self, tmp_path: Path) -> None:
        flux, variance = noise(SHAPE, 1)
        made = file_cube(tmp_path, flux, variance, cards=tan_cards(turn_deg=20.0))
        grid = CubeGrid.from_cube(made)
        assert grid.shape == SHAPE
        assert CubeGrid.from_file(tmp_path / "exp0.fits") == grid
        with fits.open(tmp_path / "exp0.fits") as hdus:
            header = hdus["DATA"].header + fits.Header([("SPECSYS", "BARYCENT")])
        found = CubeGrid.from_header(header)
        assert found == grid
        assert hash(found) == hash(grid)
        again = stack([made], None, grid)["median"]
        np.testing.assert_array_equal(again["flux"], flux)
        assert CubeGrid.from_cube(again) == grid

    def test_a_reference_without_variance_will_do(self, tmp_path: Path) -> None:
        cards = tan_cards() | {"CTYPE3": "AWAV", "CUNIT3": "Angstrom", "CRVAL3": 5000.0,
                               "CD3_3": 1.25, "CRPIX3": 3.0}  # fmt: skip
        data = np.zeros(SHAPE, np.float32)
        fits.PrimaryHDU(data, fits.Header(cards)).writeto(tmp_path / "ref.fits")
        grid = CubeGrid.from_file(tmp_path / "ref.fits")
        assert grid.shape == SHAPE
        assert grid.spectral.first_angstrom == 4997.5
        assert grid.sky == SkyProjection.from_cards(
            SkyProjection.from_header(fits.Header(cards)).mapping
        )

    def test_what_is_no_cube_is_refused_by_name(self, tmp_path: Path) -> None:
        image = fits.PrimaryHDU(np.zeros((4, 5), np.float32), fits.Header(tan_cards()))
        image.writeto(tmp_path / "image.fits")
        with pytest.raises(FileError, match=r"image\.fits: no extension with three axes"):
            CubeGrid.from_file(tmp_path / "image.fits")
        with pytest.raises(FileError, match="nothing"):
            CubeGrid.from_file(tmp_path / "nothing.fits")
        with pytest.raises(InputError, match=r"model: NAXIS1 to NAXIS3 = \[5, 4, None\]"):
            CubeGrid.from_header(image.header, "model")


class TestParts:
    @given(st.integers(-10, 40))
    def test_padding_goes_back(self, pixels: int) -> None:
        grid = grid_of(tan_cards(turn_deg=10.0), (3, 30, 34))
        wider = grid.padded(pixels)
        assert (wider.ny, wider.nx) == (30 + 2 * pixels, 34 + 2 * pixels)
        assert wider.padded(-pixels) == grid
        np.testing.assert_allclose(
            wider.sky.to_sky(pixels + 2, pixels + 3), grid.sky.to_sky(2, 3), atol=1e-12
        )

    @given(st.tuples(*[st.integers(0, 29)] * 2), st.tuples(*[st.integers(0, 33)] * 2))
    def test_a_cut_out_keeps_its_place(self, rows: Any, columns: Any) -> None:
        (a, b), (c, d) = sorted(rows), sorted(columns)
        assume(a < b and c < d)
        grid = grid_of(tan_cards(turn_deg=10.0), (3, 30, 34))
        part = grid.cropped(slice(a, b), slice(c, d))
        assert part.shape == (3, b - a, d - c)
        np.testing.assert_allclose(part.sky.to_sky(0, 0), grid.sky.to_sky(c, a), atol=1e-12)
        made = cube(0).assign_coords()
        assert CubeGrid.from_cube(made.isel(y=slice(a, b), x=slice(c, d))).sky == (
            CubeGrid.from_cube(made).cropped(slice(a, b), slice(c, d)).sky
        )

    def test_nothing_left_is_an_error(self) -> None:
        grid = grid_of(tan_cards(), (3, 30, 34))
        for refuse in (
            lambda: grid.padded(-15), lambda: grid.cropped(slice(5, 5), slice(0, 3)),
        ):  # fmt: skip
            with pytest.raises(InputError, match="a grid of"):
                refuse()

    def test_equal_grids_are_one_value(self) -> None:
        one, other = (grid_of(tan_cards(), (3, 30, 34)) for _ in range(2))
        assert one == other
        assert len({one, other, one.padded(0), pickle.loads(pickle.dumps(one))}) == 1
        assert dask.base.tokenize(one) == dask.base.tokenize(other)
        assert one != one.padded(1)
        assert "3 channels 4750.00 to 4752.50 Angstrom" in repr(one)
        ra, dec = one.centre_deg
        np.testing.assert_allclose((ra, dec), ref.tan_to_sky(tan_cards(), 16.5, 14.5))


def muse_cube(n: int, length: int, velocity: float) -> xr.Dataset:
    """Coordinates of a cube as the pipeline cuts it, of 2 x 2 spaxels."""
    first = {3681: 4750.0, 3682: 4750.0, 3721: 4700.0, 3722: 4700.0, 3801: 4600.0}[length]
    return cube(n, first=first * (1 + velocity / 299792.458), shape=(length, 2, 2))


class TestWavelengths:
    nights = ((3681, -29.0), (3682, 12.0), (3721, 29.0), (3722, 0.0), (3801, -10.0))

    def test_common_channels_are_in_every_exposure(self) -> None:
        cubes = [muse_cube(n, *night) for n, night in enumerate(self.nights)]
        grid = CubeGrid.enclosing(cubes)
        assert 3678 <= grid.spectral.size <= 3681
        for made in cubes:
            own = grid.spectral.locate(CubeGrid.from_cube(made).spectral)[0]
            assert own <= 0
            assert own + made.sizes["wavelength"] >= grid.spectral.size

    def test_all_exposures_are_counted_in_all_common_channels(self) -> None:
        # These starts straddle half a channel: each alone rounds to another side.
        starts = [4750.0, 4750.0, 4750.0, 4750.375, 4750.6875]
        cubes = [cube(n, first=first, shape=(12, 2, 2)) for n, first in enumerate(starts)]
        grid = CubeGrid.enclosing(cubes, wavelengths="common")
        with pytest.warns(UserWarning, match="off the grid"):
            number = stack(cubes, None, grid)["median"]["n_exposures"].values
        assert (number.max(axis=(1, 2)) == 5).all()

    def test_nominal_is_the_established_grid(self) -> None:
        cubes = [muse_cube(n, *night) for n, night in enumerate(self.nights)]
        grid = CubeGrid.enclosing(cubes, wavelengths="nominal")
        assert grid.spectral.size == 3681
        assert grid.spectral.first_angstrom == 4749.9

    def test_an_axis_may_be_given(self) -> None:
        axis = SpectralAxis(4751.25, 1.25, 2, frame="BARYCENT")
        made = cube(0)
        assert CubeGrid.enclosing([made], wavelengths=axis).spectral == axis
        part = CubeGrid.enclosing([made]).between(4751.0, 4752.0)
        assert part.spectral == SpectralAxis(4751.25, 1.25, 1, frame="BARYCENT")
        with pytest.raises(InputError, match=r"exp0: step of 1\.25"):
            CubeGrid.enclosing([made], wavelengths=SpectralAxis(4750.0, 1.0, 5, frame="BARYCENT"))
        with pytest.raises(InputError, match="wavelengths = 'all'"):
            CubeGrid.enclosing([made], wavelengths="all")
        with pytest.raises(InputError, match="no channel between 8000 and 9000"):
            CubeGrid.enclosing([made]).between(8000.0, 9000.0)

    def test_cubes_without_a_common_channel_are_named(self) -> None:
        with pytest.raises(InputError, match="exp1 and exp0 share no wavelength"):
            CubeGrid.enclosing([cube(0), cube(1, first=5000.0)])
