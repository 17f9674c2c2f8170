"""What a user can ask of a stack: weights, halves, background, masks, units, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import stacking_reference as ref
import xarray as xr
from astropy.io import fits
from exposure_cubes import date, file_cube, grid_of, memory_cube, noise, tan_cards
from hypothesis import given
from hypothesis import strategies as st

from musedask.cube import FLUX_UNITS, check_cube
from musedask.errors import InputError, MissingError, MusedaskWarning
from musedask.grid import CubeGrid
from musedask.masks import ExposureMask
from musedask.megacube import open_megacube, write_megacube
from musedask.offsets import Offset, OffsetTable
from musedask.spectral import SpectralAxis
from musedask.stacking import Clipping, MpdafClipping, plan, stack
from musedask.stacking.statistics import METHODS

SHAPE = (4, 6, 8)


def cubes_of(n: int, **scalars: Any) -> list[xr.Dataset]:
    """Aligned exposures with a hole each."""
    made = []
    for i in range(n):
        flux, variance = noise(SHAPE, i)
        flux[:, i % 6, i % 8] = np.nan
        variance = variance * np.float32(1.0 + i)
        made.append(memory_cube(flux, variance, i, exptime=300.0 * (1 + i), **scalars))
    return made


def arrays_of(cubes: list[xr.Dataset]) -> tuple[Any, Any]:
    flux = np.array([cube["flux"].values for cube in cubes], float)
    return flux, np.array([cube["variance"].values for cube in cubes], float)


def mean_of(cubes: list[xr.Dataset], **options: Any) -> xr.Dataset:
    grid = options.pop("grid", None) or CubeGrid.from_cube(cubes[0])
    return stack(cubes, options.pop("offsets", None), grid, methods=("mean",), **options)[
        "mean"
    ].compute()


def assert_weighted(found: xr.Dataset, cubes: list[xr.Dataset], weights: Any) -> None:
    flux, variance = arrays_of(cubes)
    w = np.asarray(weights, float)[:, None, None, None] * np.isfinite(flux)
    total = w.sum(axis=0)
    np.testing.assert_allclose(
        found["flux"].values, np.nansum(w * flux, axis=0) / total, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        found["variance"].values, (w**2 * variance).sum(axis=0) / total**2, rtol=1e-5
    )


class TestExposureTime:
    """Of exposures that last equally long it is their number times a factor."""

    def cubes(self, times: list[float]) -> list[xr.Dataset]:
        return [
            cube.assign_coords(exptime=time)
            for cube, time in zip(cubes_of(len(times)), times, strict=True)
        ]

    @pytest.mark.parametrize("methods", [("median",), ("mean", "median_odd"), METHODS])
    @pytest.mark.parametrize("time", [1.0, 903.7])
    def test_of_one_length(self, methods: tuple[str, ...], time: float, tmp_path: Path) -> None:
        cubes = self.cubes([time] * 4)
        made = stack(cubes, None, CubeGrid.from_cube(cubes[0]), methods=methods)
        assert {(s.variable, s.factor) for s in made.plan.slots if s.factor != 1} <= {
            ("exposure_time", time)
        }
        write_megacube(made, tmp_path / "m.zarr")
        stored = open_megacube(tmp_path / "m.zarr")
        for method in methods:
            lazy, kept = made[method].compute(), stored[method].compute()
            number = lazy["n_exposures"].values
            assert number.max() > 1
            wanted = (time * number.astype(float)).astype(np.float32)
            np.testing.assert_array_equal(kept["n_exposures"], number)
            np.testing.assert_array_equal(lazy["exposure_time"], wanted)
            np.testing.assert_array_equal(kept["exposure_time"], wanted)

    @pytest.mark.parametrize("weights", ["exptime", "equal"])
    @pytest.mark.parametrize("method", ["median", "mean", "clipped", "clipped_mpdaf"])
    def test_of_several_lengths(self, method: str, weights: str, tmp_path: Path) -> None:
        times = [300.0, 903.7, 77.0]
        cubes = self.cubes(times)
        # Nothing is clipped.
        options: Any = {"clipping": Clipping(nsigma=1e3), "mpdaf_clipping": MpdafClipping(nmax=0)}
        grid = CubeGrid.from_cube(cubes[0])
        made = stack(cubes, None, grid, methods=(method,), weights=weights, **options)
        assert all(slot.factor == 1 for slot in made.plan.slots)
        write_megacube(made, tmp_path / "m.zarr")
        valid = np.isfinite(arrays_of(cubes)[0])
        wanted = (np.array(times)[:, None, None, None] * valid).sum(axis=0)
        for found in (made[method], open_megacube(tmp_path / "m.zarr")[method]):
            np.testing.assert_array_equal(found["n_exposures"].values, valid.sum(axis=0))
            np.testing.assert_allclose(found["exposure_time"].values, wanted, rtol=1e-6)


class TestTwoValues:
    """The clipping compares them by the variance of their difference."""

    @pytest.mark.parametrize("absent", [None, 0, 1, 2])
    @pytest.mark.parametrize(("sigmas", "kept"), [(4.9, 2), (5.1, 1)])
    def test_the_higher_one_goes_where_they_differ_too_much(
        self, sigmas: float, kept: int, absent: int | None
    ) -> None:
        variances = [3.0, 13.0]
        fluxes = [0.0, sigmas * 4.0]  # sigma of the difference is 4
        if absent is not None:
            fluxes.insert(absent, np.nan)
            variances.insert(absent, 1.0)
        cubes = [
            memory_cube(np.full(SHAPE, flux, np.float32), np.full(SHAPE, v, np.float32), n)
            for n, (flux, v) in enumerate(zip(fluxes, variances, strict=True))
        ]
        grid = CubeGrid.from_cube(cubes[0])
        rules = Clipping(nsigma=5.0, fraction=0.0, peak=0.0, wing=0.0)
        found = stack(cubes, None, grid, methods=("clipped",), clipping=rules)["clipped"]
        assert (found["n_exposures"].values == kept).all()
        wanted = 0.0 if kept == 1 else np.nanmean(fluxes)
        np.testing.assert_allclose(found["flux"].values, wanted, atol=1e-5)


class TestWeights:
    def test_by_exposure_time_unless_said_otherwise(self) -> None:
        cubes = cubes_of(4)
        assert_weighted(mean_of(cubes), cubes, [300.0, 600.0, 900.0, 1200.0])
        assert_weighted(mean_of(cubes, weights="equal"), cubes, np.ones(4))

    def test_by_noise_one_number_an_exposure(self) -> None:
        cubes = cubes_of(4)
        typical = [np.median([np.median(v[np.isfinite(f)]) for f, v in zip(
            c["flux"].values, c["variance"].values, strict=True)]) for c in cubes]  # fmt: skip
        found = mean_of(cubes, weights="noise")
        np.testing.assert_allclose(found["exposure_weight"], 1.0 / np.array(typical), rtol=0.05)
        assert_weighted(found, cubes, found["exposure_weight"].values)

    def test_by_noise_after_the_flux_scale(self) -> None:
        cubes = cubes_of(3)
        rows = [
            Offset(date_obs=date(i), ra_offset_arcsec=0, dec_offset_arcsec=0, flux_scale=scale)
            for i, scale in enumerate((1.0, 2.0, 0.5))
        ]
        plain = mean_of(cubes, weights="noise")["exposure_weight"].values
        scaled = mean_of(cubes, weights="noise", offsets=OffsetTable(tuple(rows)))
        np.testing.assert_allclose(scaled["exposure_weight"], plain / np.array([1.0, 4.0, 0.25]))

    def test_as_given_in_the_table_or_by_date_or_name(self) -> None:
        cubes = [c.assign_coords(weight=0.5 + i) for i, c in enumerate(cubes_of(3))]
        assert_weighted(mean_of(cubes, weights="given"), cubes, [0.5, 1.5, 2.5])
        by_name = {"exp0": 3.0, date(1): 2.0, "exp2": 7.0}
        assert_weighted(mean_of(cubes, weights=by_name), cubes, [3.0, 2.0, 7.0])

    def test_a_median_takes_none(self) -> None:
        cubes = cubes_of(5)
        found = [
            stack(cubes, None, CubeGrid.from_cube(cubes[0]), weights=w)["median"].compute()
            for w in ("equal", {f"exp{i}": 1.0 + 100 * i for i in range(5)})
        ]
        for key in ("flux", "variance", "n_exposures"):
            np.testing.assert_array_equal(found[0][key], found[1][key])
        flux, variance = arrays_of(cubes)
        np.testing.assert_allclose(found[0]["flux"], np.nanmedian(flux, axis=0), rtol=1e-6)
        for at in np.ndindex(flux.shape[1:]):
            v = variance[(slice(None), *at)][np.isfinite(flux[(slice(None), *at)])]
            np.testing.assert_allclose(
                found[0]["variance"].values[at], ref.median_variance(v), rtol=1e-4
            )

    @pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
    def test_that_are_no_positive_numbers_are_refused_by_name(self, bad: float) -> None:
        cubes = cubes_of(2)
        with pytest.raises(InputError, match=r"exp1: weight .* not a positive number"):
            stack(cubes, weights={"exp0": 1.0, "exp1": bad})

    def test_that_are_missing_or_unknown_are_refused(self) -> None:
        cubes = cubes_of(2)
        with pytest.raises(MissingError, match=r"exp1 .* no entry among the weights"):
            stack(cubes, weights={"exp0": 1.0})
        with pytest.raises(MissingError, match="exp0 has no weight: fill the column"):
            stack(cubes, weights="given")
        with pytest.raises(InputError, match="weights = 'variance'"):
            stack(cubes, weights="variance")

    def test_of_an_exposure_without_noise_are_refused_when_computed(self) -> None:
        empty = memory_cube(np.full(SHAPE, np.nan, np.float32), np.full(SHAPE, np.nan, np.float32))
        made = stack([empty], weights="noise", methods=("mean",))
        with pytest.raises(InputError, match="exp0: no valid variance"):
            made["mean"].compute()


class TestHalves:
    def test_are_the_stacks_of_every_other_exposure(self) -> None:
        cubes = cubes_of(7)
        grid = CubeGrid.from_cube(cubes[0])
        methods = ("median_odd", "mean_odd", "clipped_odd", "median_even", "mean_even", "mean")
        found = stack(cubes[::-1], None, grid, methods=methods)
        for name in methods[:5]:
            statistic, half = name.split("_")
            part = cubes[0::2] if half == "odd" else cubes[1::2]
            wanted = stack(part, None, grid, methods=(statistic,))[statistic].compute()
            for key in ("flux", "variance", "n_exposures", "exposure_time"):
                np.testing.assert_array_equal(found[name][key].values, wanted[key].values)

    def test_add_up_to_the_whole(self) -> None:
        cubes = cubes_of(5)
        made = stack(cubes, None, methods=("mean_odd", "mean_even", "mean"))
        odd, even, whole = dask.compute(*(made[m] for m in ("mean_odd", "mean_even", "mean")))
        np.testing.assert_array_equal(
            odd["n_exposures"] + even["n_exposures"], whole["n_exposures"]
        )
        t_odd, t_even = odd["exposure_time"], even["exposure_time"]
        both = (odd["flux"].fillna(0) * t_odd + even["flux"].fillna(0) * t_even) / (t_odd + t_even)
        np.testing.assert_allclose(both, whole["flux"], rtol=1e-5, atol=1e-5)

    def test_of_one_exposure_leave_one_empty(self) -> None:
        made = stack(cubes_of(1), methods=("mean_odd", "mean_even", "clipped_even", "median_even"))
        for name in ("mean_even", "clipped_even", "median_even"):
            found = made[name].compute()
            assert np.isnan(found["flux"]).all()
            assert np.isnan(found["variance"]).all()
            assert (found["n_exposures"] == 0).all()
            assert (found["exposure_time"] == 0).all()


class TestLevels:
    @pytest.mark.parametrize("from_file", [False, True])
    def test_background_is_the_masked_median_of_each_channel(
        self, from_file: bool, tmp_path: Path
    ) -> None:
        cubes, wanted = [], []
        good = np.ones(SHAPE[1:], np.uint8)
        good[:2] = 0
        fits.writeto(tmp_path / "mask.fits", good)
        for i in range(3):
            flux, variance = noise(SHAPE, i)
            flux += np.float32(10.0) * np.arange(4, dtype=np.float32)[:, None, None]
            flux[:, :2] += 500.0
            flux[:, 3, 3] = np.nan
            cubes.append(
                file_cube(tmp_path, flux, variance, i) if from_file
                else memory_cube(flux, variance, i)
            )  # fmt: skip
            levels = np.nanmedian(flux[:, 2:], axis=(1, 2))
            flux[:, :2] = np.nan
            wanted.append(flux - levels[:, None, None])
        rows = [
            Offset(date_obs=date(i), ra_offset_arcsec=0, dec_offset_arcsec=0, flux_scale=1.0 + i)
            for i in range(3)
        ]
        grid = CubeGrid.from_cube(cubes[0])
        found = mean_of(
            cubes, grid=grid, weights="equal", subtract_background=True,
            offsets=OffsetTable(tuple(rows)), mask=ExposureMask(mask=tmp_path / "mask.fits"),
        )  # fmt: skip
        scaled = np.array(wanted) * np.array([1.0, 2.0, 3.0])[:, None, None, None]
        total, number = np.nansum(scaled, axis=0), np.isfinite(scaled).sum(axis=0)
        np.testing.assert_array_equal(found["n_exposures"].values, number)
        expected = np.where(number > 0, total / np.maximum(number, 1), np.nan)
        np.testing.assert_allclose(found["flux"].values, expected, rtol=1e-5, atol=1e-4)

    def test_background_leaves_no_step_where_coverage_changes(self) -> None:
        flux, variance = noise(SHAPE, 1)
        left = memory_cube(flux + np.float32(100.0), variance, 0)
        right = memory_cube(flux - np.float32(50.0), variance, 1, cards=tan_cards(x=6.0))
        grid = CubeGrid.enclosing([left, right])
        found = mean_of([left, right], grid=grid, subtract_background=True)["flux"].values
        assert abs(np.nanmedian(found)) < 3
        assert np.nanmax(abs(found)) < 60

    @given(percent=st.floats(0.5, 40.0))
    def test_the_faintest_of_each_channel_go(self, percent: float) -> None:
        flux, variance = noise(SHAPE, 2)
        flux[:, 1, 1] = np.nan
        cube = memory_cube(flux, variance)
        with pytest.warns(MusedaskWarning, match="biases the sky"):
            mask = ExposureMask(faintest_percent=percent)
        found = mean_of([cube], mask=mask)["flux"].values
        for plane, out in zip(flux, found, strict=True):
            kept = plane >= np.nanpercentile(plane, percent)
            np.testing.assert_array_equal(np.isfinite(out), kept)
            assert kept.sum() < 47

    def test_the_percentile_itself_stays(self) -> None:
        flux = np.arange(41.0, dtype=np.float32).reshape(1, 1, 41)
        cube = memory_cube(flux, np.ones_like(flux))
        with pytest.warns(MusedaskWarning, match="biases the sky"):
            mask = ExposureMask(faintest_percent=5.0)
        assert np.nanpercentile(flux, 5.0) == 2.0
        assert np.isfinite(mean_of([cube], mask=mask)["flux"].values[0, 0, :4]).tolist() == [
            False, False, True, True,
        ]  # fmt: skip

    def test_weights_and_backgrounds_are_those_of_the_exposures_in_a_tile(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plan, "TILE_PIX", 8)
        monkeypatch.setattr(plan, "INNER_PIX", 8)
        cubes, wanted = [], np.zeros((2, 4, 6, 32))
        for n, (x, weight) in enumerate(((4.0, 100.0), (-10.0, 7.0), (-14.0, 1.0))):
            flux, variance = noise(SHAPE, n)
            flux += np.float32(50.0 * n)
            cards = tan_cards(dec=0.0, x=x, y=3.0)
            cubes.append(memory_cube(flux, variance, n, cards=cards, weight=weight))
            at = int(4 - x)
            left = flux - np.median(flux, axis=(1, 2), keepdims=True)
            wanted[0, :, :, at : at + 8] += weight * left
            wanted[1, :, :, at : at + 8] += weight
        grid = grid_of(tan_cards(dec=0.0, x=4.0, y=3.0), (4, 6, 32))
        found = mean_of(cubes, grid=grid, weights="given", subtract_background=True)["flux"].values
        covered = wanted[1] > 0
        assert (np.isfinite(found) == covered).all()
        np.testing.assert_allclose(
            found[covered], wanted[0][covered] / wanted[1][covered], rtol=1e-4, atol=1e-4
        )


class TestMasks:
    def test_of_all_and_of_one_exposure_border_and_image(self, tmp_path: Path) -> None:
        good = np.ones(SHAPE[1:], np.uint8)
        good[3, 3:6] = 0
        fits.writeto(tmp_path / "own.fits", good)
        flux, variance = noise(SHAPE, 3)
        first = file_cube(tmp_path, flux, variance, 0)
        first = first.assign_coords(mask_file=str(tmp_path / "own.fits"))
        second = file_cube(tmp_path, flux, variance, 1)
        grid = CubeGrid.from_cube(second)
        number = mean_of([first, second], grid=grid, mask=ExposureMask(border_pix=1))["n_exposures"]
        wanted = np.full(SHAPE[1:], 2)
        wanted[3, 3:6] = 1
        wanted[[0, -1]] = 0
        wanted[:, [0, -1]] = 0
        np.testing.assert_array_equal(number.values, np.broadcast_to(wanted, SHAPE))

    @pytest.mark.parametrize("system", ["image", "fk5"])
    def test_stay_on_the_pixels_of_the_exposure_when_it_moves(
        self, system: str, tmp_path: Path
    ) -> None:
        region = tmp_path / "bad.reg"
        cards = tan_cards(dec=0.0, x=4.0, y=3.0)
        if system == "image":
            region.write_text("image\ncircle(3, 2, 0.6)\n")  # FITS counts from 1: x = 2, y = 1
        else:  # where the header has that pixel
            ra, dec = (float(value) for value in ref.tan_to_sky(cards, 2.0, 1.0))
            region.write_text(f'fk5\ncircle({ra:.9f}, {dec:.9f}, 0.12")\n')
        flux, variance = noise(SHAPE, 4)
        cube = memory_cube(flux, variance, cards=cards)
        row = Offset(date_obs=date(0), ra_offset_arcsec=-0.4, dec_offset_arcsec=0.2, dec_deg=0.0)
        found = mean_of(
            [cube], offsets=OffsetTable((row,)), mask=ExposureMask(regions=region),
            grid=CubeGrid.from_cube(cube).padded(4),
        )  # fmt: skip
        missing = np.argwhere(found["n_exposures"].values[0, 3:9, 2:10] == 0)
        np.testing.assert_array_equal(missing, [[1, 2]])

    @pytest.mark.parametrize(
        ("mode", "wanted"),
        [("WFM-AO-N", [1, 0, 1, 0, 0, 0]), ("WFM-NOAO-N", [1, 0, 1, 1, 1, 1])],
    )
    def test_wavelength_ranges_and_the_lasers_gap_take_whole_channels(
        self, mode: str, wanted: list[int]
    ) -> None:
        # Channels at 5802.0 5803.25 5804.5 5805.75 5807.0 5808.25; the gap is 5805 to 5966.
        cube = memory_cube(*noise((6, 3, 3), 5), first=5802.0, mode=mode)
        found = mean_of([cube], mask=ExposureMask(wavelengths=((5803.0, 5804.0),)))
        np.testing.assert_array_equal(found["n_exposures"].values[:, 1, 1], wanted)
        assert (np.isfinite(found["flux"].values[:, 1, 1]) == np.array(wanted, bool)).all()
        assert (mean_of([cube], mask=ExposureMask(notch=False))["n_exposures"] == 1).all()


class TestUnits:
    def test_flux_is_per_native_spaxel_for_a_cube_of_other_pixels(self) -> None:
        flux, variance = np.full(SHAPE, 8.0, np.float32), np.full(SHAPE, 4.0, np.float32)
        cards = tan_cards(dec=0.0, pixel_arcsec=0.4, x=4.0, y=3.0)
        cube = memory_cube(flux, variance, cards=cards, mode="WFM-NOAO-N")
        grid = grid_of(tan_cards(dec=0.0, x=4.0, y=3.0), (4, 5, 7))
        with pytest.warns(MusedaskWarning, match="exp0: its spaxel of 0.4 .* flux_per='spaxel'"):
            found = mean_of([cube], grid=grid)
        np.testing.assert_allclose(found["flux"], 8.0, rtol=1e-6)
        np.testing.assert_allclose(mean_of([cube], grid=grid, flux_per="native")["flux"], 8.0)
        per_spaxel = mean_of([cube], grid=grid, flux_per="spaxel")
        np.testing.assert_allclose(per_spaxel["flux"], 2.0, rtol=1e-6)

    @pytest.mark.parametrize(("size", "warns"), [(0.025, False), (0.05, True)])
    def test_the_narrow_field_mode_has_its_own_pixel(self, size: float, warns: bool) -> None:
        flux, variance = np.full(SHAPE, 8.0, np.float32), np.full(SHAPE, 4.0, np.float32)
        cube = memory_cube(
            flux, variance, cards=tan_cards(pixel_arcsec=size), mode="NFM-AO-N", first=7000.0
        )
        if warns:
            with pytest.warns(MusedaskWarning, match=r"not MUSE's own of 0\.025 arcsec"):
                found = mean_of([cube])
            np.testing.assert_allclose(found["flux"], 32.0, rtol=1e-6)  # (0.05 / 0.025)^2
            np.testing.assert_allclose(found["variance"], 64.0, rtol=1e-6)
        else:
            np.testing.assert_array_equal(mean_of([cube])["flux"], flux)

    def test_results_say_unit_name_and_origin(self) -> None:
        cubes = cubes_of(3)
        made = stack(cubes, methods=("median", "mean_odd"))
        for method in ("median", "mean_odd"):
            cube = made[method]
            check_cube(cube)
            assert cube["flux"].attrs["units"] == FLUX_UNITS
            assert cube["variance"].attrs["units"] == f"({FLUX_UNITS})**2"
            assert cube.attrs["method"] == method
            assert cube["exposure"].values.tolist() == ["exp0", "exp1", "exp2"]
            assert cube["exposure_date_obs"].values.tolist() == [date(i) for i in range(3)]


class TestWavelengths:
    def test_of_a_channel_are_the_median_of_the_exposures_in_it(self) -> None:
        starts = [4750.0, 4750.2, 4750.1 + 1.25]
        cubes = [memory_cube(*noise(SHAPE, i), i, first=first) for i, first in enumerate(starts)]
        axis = SpectralAxis(4750.0, 1.25, 5, frame="BARYCENT")
        grid = CubeGrid(CubeGrid.from_cube(cubes[0]).sky, axis, 6, 8)
        found = stack(cubes, None, grid)["median"]
        base = 4750.0 + 1.25 * np.arange(5)
        np.testing.assert_allclose(
            found["wavelength"], base + np.array([0.1, 0.1, 0.1, 0.1, 0.1]), atol=1e-9
        )
        np.testing.assert_array_equal(found["n_exposures"].values[:, 5, 5], [2, 3, 3, 3, 1])
        np.testing.assert_allclose(found["exposure_residual"], [-0.1, 0.1, 0.0], atol=1e-9)

    def test_far_from_the_grids_are_warned_of_by_name(self) -> None:
        starts = [4750.0, 4750.0, 4750.5]
        cubes = [memory_cube(*noise(SHAPE, i), i, first=first) for i, first in enumerate(starts)]
        with pytest.warns(MusedaskWarning, match=r"1 of 3 exposures .* \(exp2 \+0.50\)"):
            stack(cubes)

    def test_outside_the_grids_leave_an_exposure_out(self) -> None:
        near, far = (
            memory_cube(*noise(SHAPE, i), i, first=f) for i, f in ((0, 4750.0), (1, 4850.0))
        )
        with pytest.warns(MusedaskWarning, match="left out: exp1"):
            made = stack([near, far], None, CubeGrid.from_cube(near))
        assert made.exposures.sizes["exposure"] == 1


class TestRefusals:
    def test_no_exposures(self) -> None:
        with pytest.raises(InputError, match="no exposures to stack"):
            stack([])

    def test_one_date_obs_twice(self) -> None:
        one, other = cubes_of(2)
        with pytest.raises(InputError, match="exp0 and exp1 have one DATE-OBS"):
            stack([one, other.assign_coords(date_obs=date(0))])

    def test_no_date_obs_among_several(self) -> None:
        one, other = cubes_of(2)
        with pytest.raises(InputError, match="exp1 has no coordinate date_obs"):
            stack([one, other.drop_vars("date_obs")])
        stack([one.drop_vars("date_obs")])

    @pytest.mark.parametrize("value", [float("nan"), 0.0, -5.0])
    def test_no_exposure_time(self, value: float) -> None:
        with pytest.raises(InputError, match="exp0: EXPTIME"):
            stack([cubes_of(1)[0].assign_coords(exptime=value)])
        with pytest.raises(InputError, match="exp0: EXPTIME"):
            stack([cubes_of(1)[0].drop_vars("exptime")])

    def test_other_units(self) -> None:
        one, other = cubes_of(2)
        other["flux"].attrs["units"] = "count"
        with pytest.raises(InputError, match="exp1: BUNIT count, exp0 has"):
            stack([one, other])

    def test_another_step_medium_or_frame(self) -> None:
        one, other = cubes_of(2)
        waves = other["wavelength"]
        changes = [
            (waves * 1.0 + np.arange(4) * 0.05, {}, "exp1: step of 1.3 "),
            (waves, {"medium": "vacuum"}, "exp1: wavelengths in vacuum"),
            (waves, {"frame": "TOPOCENT"}, "exp1: SPECSYS TOPOCENT"),
        ]
        for values, attrs, message in changes:
            changed = other.assign_coords(
                wavelength=("wavelength", values.values, waves.attrs | attrs)
            )
            with pytest.raises(InputError, match=message):
                stack([one, changed], None, CubeGrid.from_cube(one))

    def test_an_exposure_without_an_offset(self) -> None:
        cubes = cubes_of(2)
        row = Offset(date_obs=date(0), ra_offset_arcsec=0.0, dec_offset_arcsec=0.0)
        with pytest.raises(MissingError, match="no offset for exp1"):
            stack(cubes, OffsetTable((row,)))
        made = stack(cubes, OffsetTable((row,)), allow_missing=True)
        assert made.exposures.sizes["exposure"] == 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"methods": ()}, "no methods"),
            ({"methods": ("mean", "mean")}, "asked for twice"),
            ({"methods": ("mode",)}, "no statistic 'mode'"),
            ({"resampling": "cubic"}, "resampling = 'cubic'"),
            ({"flux_per": "pixel"}, "flux_per = 'pixel'"),
            ({"clipping": Clipping(nsigma=0)}, "nsigma > 0"),
            ({"mpdaf_clipping": MpdafClipping(var="mean")}, "var has to be"),
            ({"mpdaf_clipping": MpdafClipping(nclip=(5.0, 0.0))}, "nclip > 0"),
        ],
    )
    def test_options_out_of_range(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            stack(cubes_of(1), **options)

    def test_a_statistic_that_was_not_asked_for(self) -> None:
        with pytest.raises(MissingError, match="no 'mean' in this stack"):
            stack(cubes_of(1))["mean"]
