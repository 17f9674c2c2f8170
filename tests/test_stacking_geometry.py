"""How exposures fall on a grid: copies, holes, edges, odd places on the sky, reproject."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import stacking_reference as ref
from astropy.io import fits
from astropy.wcs import WCS
from exposure_cubes import grid_of, memory_cube, noise, tan_cards
from hypothesis import given
from hypothesis import strategies as st
from reproject import reproject_exact, reproject_interp

from musedask.errors import InputError, MusedaskWarning
from musedask.grid import CubeGrid
from musedask.sky import SkyProjection
from musedask.stacking import block, geometry, stack
from musedask.stacking.geometry import footprint, lanczos_table
from musedask.stacking.kernels import layout as k

SHAPE = (2, 16, 20)
RESAMPLINGS = ("exact", "bilinear", "nearest", "lanczos3")


def onto(cube: Any, cards: dict[str, Any], shape: tuple[int, int, int], resampling: str) -> Any:
    """One exposure on a grid, computed."""
    made = stack([cube], None, grid_of(cards, shape), methods=("mean",), resampling=resampling,
                 flux_per="spaxel")  # fmt: skip
    return made["mean"].compute()


def kind_of(frame: dict[str, Any], grid: dict[str, Any], resampling: str) -> int:
    """How the kernel takes a field of 300 x 300 pixels."""
    sky, target = SkyProjection.from_cards(frame), SkyProjection.from_cards(grid)
    found = footprint(
        block.mapping(target, sky), block.mapping(sky, target), (300, 300), (330, 330), resampling
    )
    assert found is not None
    return found.kind


class TestBesideAHole:
    """Shifts whose weights are simple, and one missing pixel: value by value."""

    flux = np.arange(1.0, 26.0, dtype=np.float32).reshape(1, 5, 5) ** 2
    variance = (100.0 + np.arange(25.0, dtype=np.float32)).reshape(1, 5, 5)

    def stacked(self, right: float, up: float, resampling: str, hole: bool = True) -> Any:
        """The field drawn ``right`` and ``up`` pixels further on the grid; pixel (2, 2) missing."""
        flux = self.flux.copy()
        if hole:
            flux[0, 2, 2] = np.nan
        cube = memory_cube(flux, self.variance, cards=tan_cards(dec=0.0, x=2.0, y=2.0))
        return onto(cube, tan_cards(dec=0.0, x=2.0 + right, y=2.0 + up), (1, 7, 7), resampling)

    @pytest.mark.parametrize("resampling", ["exact", "bilinear"])
    def test_a_quarter_pixel(self, resampling: str) -> None:
        # Output x takes 3/4 of the pixel x and 1/4 of the pixel x - 1.
        found = self.stacked(0.25, 0.0, resampling)
        f, v = self.flux[0].astype(float), self.variance[0].astype(float)
        flux, variance = found["flux"].values[0], found["variance"].values[0]
        number = found["n_exposures"].values[0]
        # 3/4 of the weight is missing: so is the voxel.
        assert np.isnan(flux[2, 2])
        assert np.isnan(variance[2, 2])
        assert number[2, 2] == 0
        # 1/4 is missing: the other pixel stands for all, with its whole variance.
        assert number[2, 3] == 1
        np.testing.assert_allclose(flux[2, 3], f[2, 3], rtol=1e-6)
        np.testing.assert_allclose(variance[2, 3], v[2, 3], rtol=1e-6)
        # Away from the hole: sum w f and sum w^2 var.
        np.testing.assert_allclose(flux[1, 1:5], 0.75 * f[1, 1:] + 0.25 * f[1, :-1], rtol=1e-6)
        wanted = 0.5625 * v[1, 1:] + 0.0625 * v[1, :-1]
        np.testing.assert_allclose(variance[1, 1:5], wanted, rtol=1e-6)
        # Edges: 3/4 of column 0 is the first on the field, 1/4 of column 4 is not kept.
        np.testing.assert_array_equal(number[1], [1, 1, 1, 1, 1, 0, 0])
        np.testing.assert_allclose(flux[1, 0], f[1, 0], rtol=1e-6)
        assert (found["exposure_time"].values[0] == 900.0 * number).all()

    @pytest.mark.parametrize("resampling", ["exact", "bilinear", "lanczos3"])
    def test_half_a_pixel_is_half_of_the_weight_and_is_kept(self, resampling: str) -> None:
        found = self.stacked(0.5, 0.0, resampling, hole=resampling != "lanczos3")
        number = found["n_exposures"].values[0]
        np.testing.assert_array_equal(number[1], [1, 1, 1, 1, 1, 1, 0])
        if resampling != "lanczos3":
            np.testing.assert_array_equal(number[2], [1, 1, 1, 1, 1, 1, 0])
            f = self.flux[0]
            np.testing.assert_allclose(found["flux"].values[0, 2, 2:4], [f[2, 1], f[2, 3]])

    @pytest.mark.parametrize("resampling", ["exact", "bilinear"])
    def test_a_quarter_pixel_both_ways(self, resampling: str) -> None:
        found = self.stacked(0.25, 0.25, resampling)
        number, flux = found["n_exposures"].values[0], found["flux"].values[0]
        assert (number[2, 2], number[2, 3], number[3, 2], number[3, 3]) == (0, 1, 1, 1)
        f = self.flux[0].astype(float)
        left = 0.5625 * f[2, 3] + 0.1875 * f[1, 3] + 0.0625 * f[1, 2]
        np.testing.assert_allclose(flux[2, 3], left / 0.8125, rtol=1e-6)
        np.testing.assert_allclose(
            found["variance"].values[0, 2, 3],
            (np.array([0.5625, 0.1875, 0.0625]) ** 2 @ self.variance[0, [2, 1, 1], [3, 3, 2]])
            / 0.8125**2,
            rtol=1e-6,
        )

    def test_nearest_keeps_the_hole_its_size(self) -> None:
        found = self.stacked(0.3, -0.3, "nearest")
        assert np.isnan(found["flux"].values[0]).sum() == 49 - 24
        np.testing.assert_array_equal(found["variance"].values[0, 0, :5], self.variance[0, 0])


class TestCopies:
    @pytest.mark.parametrize("resampling", RESAMPLINGS)
    @pytest.mark.parametrize("method", ["median", "mean", "clipped", "clipped_mpdaf"])
    def test_whole_pixels_are_copied_bit_for_bit(self, resampling: str, method: str) -> None:
        flux, variance = noise(SHAPE, 4)
        flux[0, 3, 4] = np.nan
        flux[1, 0, :4] = [3e38, -3e38, 1e-40, 0.1]
        variance[1, 1, :3] = [1e-38, 3e38, 1.1754944e-38]
        cube = memory_cube(flux, variance, cards=tan_cards(x=10.0, y=8.0))
        grid = grid_of(tan_cards(x=14.0, y=5.0), (2, 18, 30))
        made = stack([cube], None, grid, methods=(method,), resampling=resampling)
        found = made[method].compute()
        wanted = np.full((2, 18, 30), np.nan, np.float32)
        wanted[:, :13, 4:24] = flux[:, 3:]
        np.testing.assert_array_equal(found["flux"].values, wanted)
        wanted[:, :13, 4:24] = variance[:, 3:]
        wanted[0, 0, 8] = np.nan
        if method == "median":  # by way of 1 / sigma, which is rounded twice and squared
            np.testing.assert_allclose(found["variance"].values, wanted, rtol=4.5e-7)
        else:
            np.testing.assert_array_equal(found["variance"].values, wanted)

    def test_a_turned_lattice_that_agrees_is_copied(self) -> None:
        flux, variance = noise(SHAPE, 5)
        cube = memory_cube(flux, variance, cards=tan_cards(turn_deg=37.0, x=10.0, y=8.0))
        found = onto(cube, tan_cards(turn_deg=37.0, x=12.0, y=8.0), SHAPE, "exact")
        np.testing.assert_array_equal(found["flux"].values[..., 2:], flux[..., :-2])

    @pytest.mark.parametrize(("off", "same"), [(0.0009, True), (0.0015, False)])
    def test_a_thousandth_of_a_pixel_is_the_same_lattice(self, off: float, same: bool) -> None:
        flux, variance = noise(SHAPE, 6)
        cube = memory_cube(flux, variance, cards=tan_cards())
        found = onto(cube, tan_cards(x=10.0 + off), SHAPE, "bilinear")
        assert (found["flux"].values == flux).all() == same

    def test_a_cut_out_of_an_exposure_falls_where_it_was(self) -> None:
        flux, variance = noise(SHAPE, 7)
        cube = memory_cube(flux, variance)
        part = cube.isel(x=slice(3, 12), y=slice(2, 9))
        found = onto(part, tan_cards(), SHAPE, "exact")["flux"].values
        np.testing.assert_array_equal(found[:, 2:9, 3:12], flux[:, 2:9, 3:12])
        assert np.isnan(found).sum() == flux.size - 2 * 7 * 9

    def test_frames_of_one_lattice_and_other_sizes_are_told_apart(self) -> None:
        flux, variance = noise(SHAPE, 8)
        whole = memory_cube(flux, variance)
        grid = grid_of(tan_cards(), (2, 16, 12))
        for cube in (whole, whole.isel(x=slice(0, 12)), whole.isel(x=slice(0, 13))):
            found = stack([cube], None, grid, methods=("mean",))["mean"]["flux"].values
            np.testing.assert_array_equal(found, flux[..., :12])
        turned = memory_cube(flux, variance, cards=tan_cards(turn_deg=20.0))
        for cube in (turned, turned.isel(x=slice(0, 19))):
            small = grid_of(tan_cards(), (2, 5, 5))
            found = stack([cube], None, small, methods=("mean",))["mean"]["flux"].values
            block._cache._kept.clear()
            again = stack([cube], None, small, methods=("mean",))["mean"]["flux"].values
            np.testing.assert_array_equal(found, again)


class TestKinds:
    """Which way of resampling an exposure takes; results are compared elsewhere."""

    @pytest.mark.parametrize(
        ("turn", "resampling", "kind"),
        [
            (0.0, "exact", k.DRIFT),
            (0.05, "exact", k.DRIFT),
            (0.08, "exact", k.EXACT),
            (45.0, "exact", k.EXACT),
            (0.08, "bilinear", k.DRIFT),
            (0.5, "bilinear", k.DRIFT),
            (0.7, "bilinear", k.BILINEAR),
            (90.0, "bilinear", k.BILINEAR),
            (0.0, "lanczos3", k.DRIFT_LANCZOS),
            (0.3, "lanczos3", k.LANCZOS),
            (0.3, "nearest", k.NEAREST),
            (0.0, "nearest", k.COPY),
        ],
    )
    def test_small_turns_stream_and_large_ones_are_gathered(
        self, turn: float, resampling: str, kind: int
    ) -> None:
        frame, grid = tan_cards(turn_deg=turn), tan_cards(x=12.3, y=8.2)
        assert kind_of(frame, grid, resampling) == kind

    def test_a_frame_off_the_grid_has_no_footprint(self) -> None:
        sky = SkyProjection.from_cards(tan_cards())
        for ra, dec in ((30.1, -59.0), (210.1, 60.0), (120.0, 10.0)):
            other = SkyProjection.from_cards(tan_cards(ra=ra, dec=dec))
            maps = block.mapping(sky, other), block.mapping(other, sky)
            assert footprint(*maps, (30, 30), (30, 30), "exact") is None

    def test_lanczos_weights_add_up_and_are_the_kernels(self) -> None:
        table = lanczos_table()
        np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-6)
        wanted = [weight for _, weight in ref.taps("lanczos3", 0.25)]
        np.testing.assert_allclose(table[k.LANCZOS_PHASES // 4], wanted, atol=1e-6)
        np.testing.assert_allclose(table[0], [0, 0, 1, 0, 0, 0], atol=1e-7)


PLACES = [
    (0.0, 0.0),
    (359.99999, -45.0),
    (0.00001, 60.0),
    (75.0, 89.9),
    (200.0, -89.99),
    (9.0, 89.9999),
]


class TestPlaces:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("turn", [0.0, 33.0])
    def test_anywhere_on_the_sky_weights_are_those_of_the_projection(
        self, place: tuple[float, float], turn: float
    ) -> None:
        ra, dec = place
        grid = tan_cards(ra=ra, dec=dec, x=9.3, y=7.1)
        # Another pointing: near a pole its field is turned against the grid's by a lot.
        step = 0.4 / 3600.0
        frame = tan_cards(
            ra=(ra - step / np.cos(np.radians(min(abs(dec), 89.99)))) % 360.0,
            dec=dec - np.copysign(step, dec), turn_deg=turn,
        )  # fmt: skip
        flux, variance = noise(SHAPE, 3)
        matrix = ref.resampling_matrix("exact", grid, frame, SHAPE[1:], SHAPE[1:])
        wanted, wanted_variance, share = ref.resampled(
            ref.Exposure(flux, variance, frame), matrix, SHAPE
        )
        found = onto(memory_cube(flux, variance, cards=frame), grid, SHAPE, "exact")
        sure = abs(share - 0.5) > 2e-3
        assert (share > 0.9).mean() > 0.2
        np.testing.assert_allclose(found["flux"].values[sure], wanted[sure], atol=0.05)
        np.testing.assert_allclose(found["variance"].values[sure], wanted_variance[sure], rtol=3e-3)

    def test_exposures_off_the_grid_are_left_out_by_name(self) -> None:
        flux, variance = noise(SHAPE, 1)
        near, far = memory_cube(flux, variance, 0), memory_cube(
            flux, variance, 1, cards=tan_cards(ra=31.0)
        )  # fmt: skip
        with pytest.warns(MusedaskWarning, match="1 of 2 exposures .* left out: exp1"):
            made = stack([near, far], None, CubeGrid.from_cube(near))
        assert made.exposures["exposure"].values.tolist() == ["exp0"]
        with pytest.raises(InputError, match="no exposure touches the grid"):
            stack([far], None, CubeGrid.from_cube(near))


class TestParts:
    @given(
        resampling=st.sampled_from(RESAMPLINGS),
        turn=st.sampled_from([0.0, 0.03, 0.4, 30.0]),
        rows=st.tuples(st.integers(0, 15), st.integers(1, 16)),
        columns=st.tuples(st.integers(0, 19), st.integers(1, 20)),
    )
    def test_a_part_of_a_grid_gives_that_part_of_the_stack(
        self, resampling: str, turn: float, rows: tuple[int, int], columns: tuple[int, int]
    ) -> None:
        flux, variance = noise(SHAPE, 2)
        cube = memory_cube(flux, variance, cards=tan_cards(turn_deg=turn, x=9.61, y=8.23))
        grid = grid_of(tan_cards(), SHAPE)
        y = slice(rows[0], min(rows[0] + rows[1], 16))
        x = slice(columns[0], min(columns[0] + columns[1], 20))
        options: dict[str, Any] = {"methods": ("mean",), "resampling": resampling}
        whole = stack([cube], None, grid, **options)["mean"]["flux"].values[:, y, x]
        try:
            part = stack([cube], None, grid.cropped(y, x), **options)["mean"]["flux"].values
        except InputError:
            part = np.full(whole.shape, np.nan)
        np.testing.assert_allclose(part, whole, atol=0.05)

    @pytest.mark.parametrize("resampling", RESAMPLINGS)
    @pytest.mark.parametrize("turn", [20.0, 180.0])
    def test_a_single_pixel_of_a_grid_sees_how_the_field_is_turned(
        self, resampling: str, turn: float
    ) -> None:
        flux, variance = noise(SHAPE, 2)
        cube = memory_cube(flux, variance, cards=tan_cards(turn_deg=turn, x=9.61, y=8.23))
        grid = grid_of(tan_cards(), SHAPE)
        options: dict[str, Any] = {"methods": ("mean",), "resampling": resampling}
        whole = stack([cube], None, grid, **options)["mean"].compute()
        for y, x in ((4, 5), (8, 10), (11, 13)):
            at = slice(y, y + 1), slice(x, x + 1)
            part = stack([cube], None, grid.cropped(*at), **options)["mean"].compute()
            for key in ("flux", "variance"):
                np.testing.assert_allclose(
                    part[key], whole[key][:, y : y + 1, x : x + 1], rtol=1e-5
                )


class TestReproject:
    """Slice by slice as reproject does it."""

    @pytest.mark.parametrize(
        ("turn", "size", "x"),
        [(0.0, 0.2, 9.7), (30.0, 0.2, 9.7), (10.0, 0.31, 9.0), (0.3, 0.2, 9.4)],
    )
    def test_bilinear_and_exact_are_reprojects(self, turn: float, size: float, x: float) -> None:
        frame = tan_cards(turn_deg=turn, pixel_arcsec=size, x=x, y=7.6)
        grid = tan_cards()
        flux, variance = noise(SHAPE, 9)
        cube = memory_cube(flux, variance, cards=frame)
        target = fits.Header(grid)
        factor = ref.pixel_area(grid) / ref.pixel_area(frame)
        for resampling in ("bilinear", "exact"):
            found = onto(cube, grid, SHAPE, resampling)["flux"].values / factor
            for z in range(SHAPE[0]):
                source = (flux[z].astype(float), WCS(fits.Header(frame)))
                if resampling == "bilinear":
                    wanted, share = reproject_interp(
                        source, target, shape_out=SHAPE[1:], order="bilinear"
                    )
                    inside = np.isfinite(wanted) & np.isfinite(found[z])
                    # At an edge reproject repeats the last pixel, which is to renormalise.
                else:
                    wanted, share = reproject_exact(
                        source, target, shape_out=SHAPE[1:], parallel=False
                    )
                    inside = share > 0.51
                    assert np.isfinite(found[z][inside]).all()
                    assert np.isnan(found[z][share < 0.49]).all()
                assert inside.mean() > 0.4
                np.testing.assert_allclose(found[z][inside], wanted[inside], atol=0.03)


@pytest.mark.parametrize("size", [1.0, 3.0], ids=["pixels of a size", "larger than the table"])
def test_overlaps_of_turned_pixels_are_shares_that_add_up(size: float) -> None:
    turn = np.radians(37.0)

    def to_frame(x: Any, y: Any) -> tuple[Any, Any]:
        x, y = size * (np.asarray(x) - 20.0), size * (np.asarray(y) - 20.0)
        return (
            np.cos(turn) * x + np.sin(turn) * y + 30.0,
            np.cos(turn) * y - np.sin(turn) * x + 30.0,
        )

    pointers, indices, weights = geometry._overlaps(to_frame, (15, 25, 15, 25), (60, 60))
    assert pointers[-1] == indices.size == weights.size
    # All of these pixels lie inside the frame.
    np.testing.assert_allclose(np.add.reduceat(weights, pointers[:-1]), 1.0, atol=1e-5)
    # The centre of a pixel's overlaps is the pixel.
    width = 60 + 2 * k.BORDER
    x, y = indices % width - k.BORDER, indices // width - k.BORDER
    at_y, at_x = np.mgrid[15:25, 15:25]
    where = to_frame(at_x.ravel(), at_y.ravel())
    for found, wanted in zip((x, y), where, strict=True):
        np.testing.assert_allclose(
            np.add.reduceat(weights * found, pointers[:-1]), wanted, atol=0.2
        )
