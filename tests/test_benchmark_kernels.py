"""Kernels: timed by ``pytest tests/test_benchmark_kernels.py``, held to the reference always."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import reference
from benchmarks.exposures import grid_header, make_exposures
from benchmarks.jobs import DataSpec
from musedask import CubeGrid, StackOptions, export_fits, open_exposures
from musedask.blocks import Slot, cut
from musedask.fits import FitsCube
from musedask.grid import CubeGrid as Grid
from musedask.megacube.shards import ShardCodec
from musedask.stacking.block import make_block
from musedask.stacking.plan import members_of, plan_blocks
from musedask.stacking.statistics import rules_array, slots_of

SPEC = DataSpec(12, 4, 64)
LIMIT = 1 << 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def block_of(
    folder: Path, spec: DataSpec, methods: tuple[str, ...], resampling: str,
    **cut: Any,
) -> Any:  # fmt: skip
    """What makes the first block of a small stack, its files, and its outputs' places.

    ``cut``: ``depth`` and ``inner``, to cut the stack otherwise than it would be.
    """
    files = make_exposures(spec, folder, LIMIT)
    grid: Grid = CubeGrid.from_header(grid_header(spec))
    options = StackOptions(methods, resampling)
    cubes = open_exposures(files)
    found = members_of(cubes, None, grid, options, allow_missing=False, allow_failed=False)
    members = list(found.values())
    slots = slots_of(methods)
    rules = tuple(float(r) for r in rules_array(options.clipping, options.mpdaf_clipping))
    _, specs = plan_blocks(grid, members, slots, rules, options, [None] * len(members))
    n, tile = len(members), replace(specs[0, 0], **cut)
    return (lambda: make_block(0, tile, np.ones(n), None, [None] * n)), files, slots


def plane(made: Any, slots: tuple[Slot, ...], method: str, variable: str) -> Any:
    at = next(s.plane for s in slots if (s.method, s.variable) == (method, variable))
    return made.planes[at]


@pytest.mark.parametrize("resampling", ["exact", "bilinear", "lanczos3"])
@pytest.mark.parametrize("geometry", ["shift", "turn"])
def test_resampling_and_median(geometry: Any, resampling: str, folder: Path, benchmark: Any) -> None:  # fmt: skip # noqa: E501
    spec = replace(SPEC, geometry=geometry)
    make, files, slots = block_of(folder, spec, ("median",), resampling)
    flux = plane(benchmark(make), slots, "median", "flux")
    target = reference.celestial(grid_header(spec))
    images = [
        (w, flux[w.channel][w.slices]) for w in reference.windows(spec.n_channels, flux.shape[1:])
    ]
    found = reference.compare_median(
        images, files, target, resampling, where=reference.EVERYWHERE
    )  # fmt: skip
    assert found.n_values > 500
    assert found.is_right, found


@pytest.mark.parametrize("n", [5, 12, 16, 33])
def test_statistics_of_many(n: int, folder: Path, benchmark: Any) -> None:
    spec = replace(SPEC, n_exposures=n)
    methods = ("median", "mean", "clipped")
    make, files, slots = block_of(folder, spec, methods, "bilinear")
    made = benchmark(make)
    window = reference.windows(spec.n_channels, made.planes.shape[2:])[1]
    values = reference.resampled(files, reference.celestial(grid_header(spec)), window, "bilinear")
    kept = values.kept()
    number = np.isfinite(kept).sum(axis=0)
    wanted = {
        ("median", "flux"): reference.median(kept),
        ("mean", "flux"): np.nansum(kept, axis=0) / number,
        ("mean", "variance"): np.nansum(np.where(np.isnan(kept), 0, values.variance), axis=0)
        / number**2,
        ("mean", "n_exposures"): number.astype(float),
    }
    for (method, variable), expected in wanted.items():
        found = plane(made, slots, method, variable)[window.channel][window.slices]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)
    clipped = plane(made, slots, "clipped", "n_exposures")[window.channel][window.slices]
    assert (clipped <= number).all()
    assert (clipped < number).any()


def test_nothing_of_an_earlier_block_lies_beyond_the_edges(folder: Path) -> None:
    """Rooms are used again: what is stored must not depend on what was in them."""
    cut = {"depth": 3, "inner": (2, 32, 40)}
    make, _, _ = block_of(folder, SPEC, ("median", "mean"), "bilinear", **cut)
    before = make()
    before.parts[:] = 7.0
    lay_at = before.parts.ctypes.data
    del before
    made = make()
    assert made.parts.ctypes.data == lay_at
    nz, ny, nx = made.shape
    n_planes, nk, nj, ni, dz, dy, dx = made.parts.shape
    assert all(
        have > size for have, size in zip((nk * dz, nj * dy, ni * dx), made.shape, strict=False)
    )
    whole = made.parts.transpose(0, 1, 4, 2, 5, 3, 6).reshape(n_planes, nk * dz, nj * dy, ni * dx)
    inside = np.zeros(whole.shape, bool)
    inside[:, :nz, :ny, :nx] = True
    assert np.isnan(whole[~inside]).all()
    assert not (whole[inside] == 7.0).all()


@pytest.mark.parametrize("inner", [(1, 88, 88), (3, 40, 100), (2, 7, 9), (4, 1, 88)])
@pytest.mark.parametrize("methods", [("median",), ("mean", "clipped")])
def test_a_block_is_the_same_however_it_is_cut(
    inner: tuple[int, int, int], methods: tuple[str, ...], folder: Path
) -> None:
    make, _, _ = block_of(folder, SPEC, methods, "bilinear")
    make_cut, _, _ = block_of(folder, SPEC, methods, "bilinear", inner=inner)
    whole, parts = make(), make_cut()
    assert parts.parts.shape[4:] == inner
    np.testing.assert_array_equal(parts.planes, whole.planes)
    np.testing.assert_array_equal(parts.white, whole.white)


def test_reading_a_run_of_channels(folder: Path, benchmark: Any) -> None:
    files = make_exposures(SPEC, folder, LIMIT)
    source = open_exposures([files[0]])[0].encoding["fits"]
    assert isinstance(source, FitsCube)
    whole = (slice(None), slice(None), slice(None))
    found = benchmark(source.read, whole, "flux")
    wanted = np.array([reference.frames([files[0]], z)[0] for z in range(SPEC.n_channels)])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("dtype", "level"), [("<f4", None), ("<u2", 1)])
def test_encoding_a_shard(dtype: str, level: int | None, benchmark: Any) -> None:
    values = np.random.default_rng(1).integers(0, 12, (8, 96, 96)).astype(np.float32)
    codec = ShardCodec((8, 48, 48), dtype, 0, level)
    (parts,) = cut(values[None], codec.inner)
    pieces = benchmark(lambda: [bytes(piece) for piece in codec.encode(parts, values.shape)])
    size, whole = sum(map(len, pieces)), values.size * np.dtype(dtype).itemsize
    assert size < 1.01 * whole + 4096
    assert size > whole if level is None else size < 0.7 * whole


def test_export_of_a_cube(folder: Path, tmp_path: Path, benchmark: Any) -> None:
    from astropy.io import fits

    (path, *_) = make_exposures(SPEC, folder, LIMIT)
    (cube,) = open_exposures([path])
    out = benchmark(export_fits, cube, tmp_path / "out.fits", overwrite=True)
    for name in ("DATA", "STAT"):
        np.testing.assert_array_equal(fits.getdata(out, name), fits.getdata(path, name))
