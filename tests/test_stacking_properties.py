"""Laws of stacking: what changes nothing, what scales, what is lazy, and what is done once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from dask.callbacks import Callback
from exposure_cubes import date, file_cube, grid_of, memory_cube, noise, tan_cards
from fits_files import PRIMARY_CARDS, WCS_CARDS
from hypothesis import given, settings
from hypothesis import strategies as st

from musedask.fits import direct_source, open_exposures
from musedask.grid import CubeGrid
from musedask.masks import ExposureMask
from musedask.offsets import Offset, OffsetTable
from musedask.stacking import arrays, block, plan, stack

SHAPE = (7, 15, 18)
GRID_SHAPE = (6, 19, 21)
METHODS = ("median", "mean", "clipped", "clipped_mpdaf", "mean_odd", "median_even")
VARIABLES = ("flux", "variance", "n_exposures", "exposure_time")
FRAMES = [
    tan_cards(x=8.0, y=7.0),
    tan_cards(x=7.63, y=7.31),
    tan_cards(x=8.4, y=7.2, turn_deg=0.3),
    tan_cards(x=8.1, y=7.9, turn_deg=31.0),
    tan_cards(x=8.8, y=6.9, turn_deg=-88.0),
    tan_cards(x=9.0, y=8.0),
]
FEWER = settings(max_examples=settings().max_examples // 3)
"""Each example is a whole stack or two."""
RESAMPLINGS = st.sampled_from(["exact", "bilinear", "nearest", "lanczos3"])


def values_of(n: int) -> tuple[Any, Any]:
    """Flux and variance of the n-th exposure, with holes and hits."""
    flux, variance = noise(SHAPE, 50 + n)
    rng = np.random.default_rng(n)
    flux[rng.random(SHAPE) < 0.05] = np.nan
    flux[rng.random(SHAPE) < 0.02] += 900.0
    flux[:, 5:8, 3 * n % 11 : 3 * n % 11 + 3] = np.nan
    flux[:, 9:12, 9:12] += 150.0
    return flux, variance


def memory_cubes(n: int = 6, chunks: Any = None) -> list[xr.Dataset]:
    return [
        memory_cube(
            *values_of(i), i, cards=FRAMES[i], first=4750.0 - 1.25 * (i % 3), chunks=chunks,
            exptime=600.0 + 100.0 * i,
        )
        for i in range(n)
    ]  # fmt: skip


def grid() -> CubeGrid:
    return grid_of(tan_cards(x=10.0, y=9.0), GRID_SHAPE)


def made(cubes: list[xr.Dataset], target: CubeGrid | None = None, **options: Any) -> dict[str, Any]:
    """All variables of all statistics as numpy arrays, out of one pass."""
    options.setdefault("methods", METHODS)
    found = stack(cubes, options.pop("offsets", None), target or grid(), **options)
    (computed,) = dask.compute({m: dict(found[m].data_vars) for m in options["methods"]})
    return {f"{m} {key}": computed[m][key].values for m in computed for key in VARIABLES}


def assert_same(found: dict[str, Any], wanted: dict[str, Any], **tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        if tolerance:
            np.testing.assert_allclose(value, wanted[key], err_msg=key, **tolerance)
        else:
            np.testing.assert_array_equal(value, wanted[key], err_msg=key)


class TestNothingChanges:
    @FEWER
    @given(
        tile=st.integers(6, 24),
        inner=st.integers(2, 9),
        depth=st.sampled_from([1, 2, 4, 8]),
        slab=st.integers(1, 3),
        run_bytes=st.sampled_from([1, 4096]),
        chunks=st.tuples(st.integers(2, 7), st.integers(6, 15), st.integers(7, 18)),
        resampling=RESAMPLINGS,
    )
    def test_by_how_blocks_tiles_slabs_and_chunks_are_cut(
        self, tile: int, inner: int, depth: int, slab: int, run_bytes: int,
        chunks: tuple[int, ...], resampling: str,
    ) -> None:  # fmt: skip
        wanted = made(memory_cubes(), resampling=resampling)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "TILE_PIX", tile)
            patch.setattr(plan, "INNER_PIX", inner)
            patch.setattr(plan, "DEEPEST_BLOCK", depth)
            patch.setattr(block, "DEEPEST_SLAB", slab)
            patch.setattr(block, "RUN_BYTES", run_bytes)
            found = made(memory_cubes(chunks=chunks), resampling=resampling)
        assert_same(found, wanted, rtol=1e-5, atol=1e-4)
        for key in wanted:
            if "n_exposures" in key:
                np.testing.assert_array_equal(found[key], wanted[key])

    def test_by_the_geometry_cache_when_it_overflows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = made(memory_cubes())
        monkeypatch.setattr(block, "GEOMETRY_CACHE_BYTES", 0)
        monkeypatch.setattr(plan, "TILE_PIX", 11)
        monkeypatch.setattr(plan, "INNER_PIX", 5)
        assert_same(made(memory_cubes()), wanted, rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"weights": "noise"},
            {"subtract_background": True},
            {"resampling": "lanczos3"},
            {"faintest": 5.0},
            {"masked": True},
        ],
    )
    def test_by_whether_bytes_come_from_files_or_from_dask_arrays(
        self, options: dict[str, Any], tmp_path: Path
    ) -> None:
        cubes = []
        for n, frame in enumerate(FRAMES):
            flux, variance = values_of(n)
            variance[0, 3, :5] = [0.0, -1.0, np.nan, np.inf, 5.0]
            quality = np.zeros(SHAPE, np.int32)
            quality[:, n, 4:6] = [1, -(2**31)]
            cubes.append(
                file_cube(
                    tmp_path, flux, variance, n, cards=frame, first=4750.0 - 1.25 * (n % 3),
                    quality=quality if n % 2 else None,
                )
            )  # fmt: skip
        if "masked" in options:
            good = np.random.default_rng(3).random(SHAPE[1:]) > 0.2
            fits.writeto(tmp_path / "mask.fits", good.astype(np.uint8))
            options = {"mask": ExposureMask(mask=tmp_path / "mask.fits")}
        if "faintest" in options:
            with pytest.warns(UserWarning, match="biases the sky"):
                options = {"mask": ExposureMask(faintest_percent=options["faintest"])}
        changed = [cube.chunk({"wavelength": 3, "y": 4}) for cube in cubes]
        loaded = [cube.compute() for cube in cubes]
        assert all(direct_source(cube) is not None for cube in cubes)
        assert all(direct_source(cube) is None for cube in changed + loaded)
        wanted = made(loaded, **options)
        assert np.isfinite(wanted["median flux"]).any()
        assert_same(made(cubes, **options), wanted)
        assert_same(made(changed, **options), wanted)
        assert_same(made([changed[0], *cubes[1:3], *changed[3:]], **options), wanted)
        # Small tiles take a few rows of each file.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "TILE_PIX", 5)
            patch.setattr(plan, "INNER_PIX", 5)
            patch.setattr(plan, "DEEPEST_BLOCK", 2)
            patch.setattr(block, "DEEPEST_SLAB", 1)
            assert_same(made(cubes, **options), made(loaded, **options))
            assert_same(made(cubes, **options), wanted, rtol=1e-5, atol=1e-4)

    def test_an_exposure_that_was_changed_goes_in_changed(self, tmp_path: Path) -> None:
        flux, variance = values_of(0)
        cube = file_cube(tmp_path, flux, variance, cards=FRAMES[0])
        target = CubeGrid.from_cube(cube)
        lighter = cube.assign(flux=cube["flux"] - np.float32(100.0))
        found = made([lighter], target, methods=("mean",))
        np.testing.assert_array_equal(found["mean flux"], flux - np.float32(100.0))
        moved = cube.isel(wavelength=slice(2, None))
        found = made([moved], target, methods=("mean",))
        np.testing.assert_array_equal(found["mean flux"][2:], flux[2:])
        assert np.isnan(found["mean flux"][:2]).all()

    @FEWER
    @given(order=st.permutations(range(6)), resampling=RESAMPLINGS)
    def test_by_the_order_of_exposures(self, order: list[int], resampling: str) -> None:
        cubes = memory_cubes()
        wanted = made(cubes, resampling=resampling)
        assert_same(made([cubes[i] for i in order], resampling=resampling), wanted)
        assert CubeGrid.enclosing([cubes[i] for i in order]) == CubeGrid.enclosing(cubes)

    @pytest.mark.parametrize("n", [1, 2, 5])
    @pytest.mark.parametrize("at", [0, 9])
    def test_by_an_exposure_without_data(self, n: int, at: int) -> None:
        cubes = memory_cubes(n)
        empty = memory_cube(
            np.full(SHAPE, np.nan, np.float32), np.ones(SHAPE, np.float32), 30 * (at > 0),
            cards=FRAMES[1], first=4750.0, name="empty",
        )  # fmt: skip
        if at == 0:
            cubes = [c.assign_coords(date_obs=date(i + 1)) for i, c in enumerate(cubes)]
        methods = ("median", "mean", "clipped", "clipped_mpdaf")
        wanted = made(cubes, methods=methods)
        assert_same(made([*cubes, empty], methods=methods), wanted)


def test_white_images_are_the_means_over_a_blocks_channels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "DEEPEST_BLOCK", 4)
    monkeypatch.setattr(plan, "TILE_PIX", 12)
    monkeypatch.setattr(plan, "INNER_PIX", 6)
    cubes = memory_cubes()
    found = stack(cubes[::-1], None, grid(), methods=("clipped", "median"))
    alone = [made([cube], methods=("mean",))["mean flux"].astype(float) for cube in cubes]
    results = found.results.compute()
    for k, j, i in np.ndindex(found.plan.n_blocks):
        z, y, x = found.plan.region((k, j, i))
        white = results[k, j, i].white
        assert len(white) == len(found.plan.touching[j, i])
        for image, n in zip(white, found.plan.touching[j, i], strict=True):
            part = alone[n][z, y, x]
            number = np.isfinite(part).sum(axis=0)
            wanted = np.where(number, np.nansum(part, axis=0) / np.maximum(number, 1), np.nan)
            np.testing.assert_allclose(image, wanted, rtol=1e-5, atol=1e-4)


class TestScaling:
    @given(factor=st.floats(0.01, 100.0), resampling=RESAMPLINGS)
    @FEWER
    def test_flux_times_a_is_variance_times_a_squared(self, factor: float, resampling: str) -> None:
        cubes = memory_cubes()
        rows = [
            Offset(date_obs=date(i), ra_offset_arcsec=0, dec_offset_arcsec=0, flux_scale=factor)
            for i in range(6)
        ]
        wanted = made(cubes, resampling=resampling)
        found = made(cubes, resampling=resampling, offsets=OffsetTable(tuple(rows)))
        for method in METHODS:
            for key, power in (("flux", 1), ("variance", 2), ("n_exposures", 0)):
                name = f"{method} {key}"
                np.testing.assert_allclose(
                    found[name], wanted[name] * factor**power, rtol=3e-5, atol=1e-4 * factor
                )

    @pytest.mark.parametrize("n", range(1, 10))
    def test_equal_exposures_stack_to_what_they_are(self, n: int) -> None:
        flux, variance = values_of(3)
        cubes = [memory_cube(flux, variance, i, cards=FRAMES[0]) for i in range(n)]
        c_n = [1, 1, 1.346, 1.19, 1.434, 1.29, 1.475, 1.34, 1.495][n - 1]
        found = made(cubes, CubeGrid.from_cube(cubes[0]))
        for method in METHODS[:4]:
            np.testing.assert_array_equal(found[f"{method} flux"], flux)
            np.testing.assert_array_equal(found[f"{method} n_exposures"], n * np.isfinite(flux))
            wanted = variance / n * (c_n if method == "median" else 1.0)
            good = np.isfinite(flux)
            np.testing.assert_allclose(
                found[f"{method} variance"][good], wanted[good], rtol=6e-3 if n > 2 else 1e-6
            )

    @given(dx=st.integers(-6, 6), dy=st.integers(-6, 6), resampling=RESAMPLINGS)
    def test_a_whole_pixel_shift_is_a_roll(self, dx: int, dy: int, resampling: str) -> None:
        flux, variance = values_of(4)
        cube = memory_cube(flux, variance, cards=tan_cards(dec=0.0))
        # Offsets are subtracted: an exposure that lies too far west goes back east, to lower x.
        row = Offset(
            date_obs=date(0), ra_offset_arcsec=0.2 * dx, dec_offset_arcsec=-0.2 * dy, dec_deg=0.0
        )
        found = made(
            [cube], CubeGrid.from_cube(cube).padded(6), offsets=OffsetTable((row,)),
            resampling=resampling, methods=("mean", "clipped"),
        )  # fmt: skip
        wide = np.full((SHAPE[0], SHAPE[1] + 12, SHAPE[2] + 12), np.nan, np.float32)
        for values, key in ((flux, "flux"), (variance, "variance")):
            padded = wide.copy()
            padded[:, 6:-6, 6:-6] = np.where(np.isfinite(flux), values, np.nan)
            wanted = np.roll(padded, (dy, dx), (1, 2))
            for method in ("mean", "clipped"):
                np.testing.assert_array_equal(found[f"{method} {key}"], wanted)


SOURCE_ARCSEC = 0.42
"""Sigma of a source of 1 arcsec FWHM."""


def source_cube(frame: dict[str, Any], n: int, pixel_arcsec: float) -> xr.Dataset:
    """A Gaussian source of flux 1000 at the frames' common reference point."""
    size = int(18 / pixel_arcsec) // 2 * 2 + 1
    y, x = np.mgrid[:size, :size]
    dx, dy = x + 1 - frame["CRPIX1"], y + 1 - frame["CRPIX2"]
    sigma = SOURCE_ARCSEC / pixel_arcsec
    flux = 1000.0 / (2 * np.pi * sigma**2) * np.exp(-(dx**2 + dy**2) / 2 / sigma**2)
    flux = flux[None].astype(np.float32)
    return memory_cube(flux, np.full_like(flux, 4.0), n, cards=frame)


class TestFlux:
    @pytest.mark.parametrize(
        ("resampling", "tolerance"), [("exact", 1e-3), ("bilinear", 5e-3), ("lanczos3", 5e-3)]
    )
    @pytest.mark.parametrize("pixel_arcsec", [0.2, 0.25, 0.15])
    @pytest.mark.parametrize("turns", [(0.0, 0.0, 0.0), (0.0, 45.0, 17.0), (0.04, 0.4, 90.0)])
    def test_of_a_source_is_conserved_in_the_mean(
        self, turns: tuple[float, ...], pixel_arcsec: float, resampling: str, tolerance: float
    ) -> None:
        middle = int(18 / pixel_arcsec) // 2
        places = [(0.0, 0.0), (0.37, -0.21), (-0.45, 0.5)]
        cubes = [
            source_cube(
                tan_cards(x=middle + a, y=middle + b, turn_deg=turn, pixel_arcsec=pixel_arcsec),
                n, pixel_arcsec,
            )
            for n, ((a, b), turn) in enumerate(zip(places, turns, strict=True))
        ]  # fmt: skip
        target = grid_of(tan_cards(x=30.0, y=30.0), (1, 61, 61))
        found = made(
            cubes, target, methods=("mean",), resampling=resampling, flux_per="spaxel"
        )  # fmt: skip
        assert (found["mean n_exposures"] == 3).mean() > 0.9
        assert abs(found["mean flux"].sum() / 1000.0 - 1.0) < tolerance
        y, x = np.mgrid[:61, :61] - 30.0
        centroid = [(found["mean flux"][0] * axis).sum() / 1000.0 for axis in (x, y)]
        np.testing.assert_allclose(centroid, 0.0, atol=0.01)


def poisoned(shape: tuple[int, int, int] = SHAPE) -> da.Array:
    """An array that must not be computed."""

    def fail(_: Any) -> Any:
        raise AssertionError("a block was computed")

    base = da.zeros(shape, chunks=(2, -1, -1), dtype=np.float32)
    return da.map_blocks(fail, base, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))


class TestLaziness:
    @pytest.mark.parametrize("weights", ["exptime", "noise"])
    def test_stack_computes_nothing(self, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
        cubes = [memory_cube(poisoned(), poisoned(), i, cards=FRAMES[i]) for i in range(6)]
        calls: list[Any] = []
        monkeypatch.setattr(arrays, "make_block", lambda *a, **k: calls.append(a))

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("something was computed")

        with dask.config.set(scheduler=refuse):
            found = stack(cubes, methods=METHODS, weights=weights, subtract_background=True)
            repr(found), repr(found["mean"])
            assert found["mean"]["flux"].shape == CubeGrid.enclosing(cubes).shape
        assert not calls

    def test_stack_reads_no_voxels_of_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cubes = [file_cube(tmp_path, *values_of(n), n, cards=FRAMES[n]) for n in range(3)]

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("voxels were read")

        monkeypatch.setattr(np, "memmap", refuse)
        monkeypatch.setattr(os, "preadv", refuse)
        stack(cubes, methods=METHODS, weights="noise", mask=ExposureMask(border_pix=2))

    def test_each_block_is_made_once_for_all_statistics(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plan, "TILE_PIX", 11)
        monkeypatch.setattr(plan, "INNER_PIX", 5)
        monkeypatch.setattr(plan, "DEEPEST_BLOCK", 2)
        calls: Counter[Any] = Counter()
        lock, real = threading.Lock(), arrays.make_block

        def counted(number: int, spec: Any, *rest: Any) -> Any:
            with lock:
                calls[number, spec.tile] += 1
            return real(number, spec, *rest)

        monkeypatch.setattr(arrays, "make_block", counted)
        found = stack(memory_cubes(chunks=(2, 9, 9)), None, grid(), methods=METHODS)
        n_blocks = int(np.prod(found.plan.n_blocks))
        assert n_blocks >= 12
        dask.compute(*(found[m] for m in METHODS))
        assert len(calls) == n_blocks
        assert set(calls.values()) == {1}
        calls.clear()
        found["mean"].compute()
        assert set(calls.values()) == {1}
        calls.clear()
        found.results.compute()
        assert len(calls) == n_blocks
        assert set(calls.values()) == {1}
        calls.clear()
        found["mean"]["flux"].isel(wavelength=slice(0, 2), x=slice(0, 4), y=slice(0, 4)).compute()
        assert sum(calls.values()) == 1


def sparse_cube(folder: Path, n: int, shape: tuple[int, int, int]) -> Path:
    """A cube of full size whose voxels take no room on the disk."""
    path = folder / f"full{n}.fits"
    size = -(-4 * int(np.prod(shape)) // 2880) * 2880
    with path.open("wb") as stream:
        top = fits.Header(PRIMARY_CARDS | {"DATE-OBS": date(n)})
        stream.write(fits.PrimaryHDU(header=top).header.tostring().encode())
        for name in ("DATA", "STAT"):
            cards = {"XTENSION": "IMAGE", "BITPIX": -32, "NAXIS": 3, "NAXIS1": shape[2],
                     "NAXIS2": shape[1], "NAXIS3": shape[0], "PCOUNT": 0, "GCOUNT": 1,
                     "EXTNAME": name}  # fmt: skip
            wcs = WCS_CARDS | {"CRPIX1": 160.0 + 0.37 * n, "CRPIX2": 160.0 - 0.11 * n}
            stream.write(fits.Header(cards | wcs).tostring().encode())
            stream.seek(size, 1)
        stream.truncate()
    return path


def n_tasks(found: Any) -> int:
    """Tasks that reach the scheduler when all statistics are computed together."""
    counted: list[int] = []

    def count(graph: Any) -> None:
        counted.append(len(graph))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Callback(start=count):
        dask.compute(*(found[m] for m in found), scheduler="synchronous")
    return counted[0]


def test_tasks_grow_with_blocks_and_not_with_exposures(tmp_path: Path) -> None:
    shape = (3681, 320, 320)
    cubes = open_exposures([sparse_cube(tmp_path, n, shape) for n in range(100)])
    assert all(direct_source(cube) is not None for cube in cubes)
    found = stack(cubes, methods=("median", "mean"))
    few = stack(cubes[:10], None, CubeGrid.enclosing(cubes), methods=("median", "mean"))
    assert n_tasks(found) == n_tasks(few)
    # A kernel, its planes, and a view for each variable.
    assert n_tasks(found) <= 12 * len(found.plan.keys) + 10
    assert n_tasks(stack(cubes)) < 600
    # Backgrounds of all exposures are one task a block more, and its number.
    extra = n_tasks(stack(cubes, subtract_background=True)) - n_tasks(stack(cubes))
    assert extra <= 3 * len(stack(cubes).plan.keys)
