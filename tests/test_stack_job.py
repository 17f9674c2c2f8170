"""The main job through the command line, in numbers that numpy has made by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.table import Table
from command_line import (
    PIXEL_DEG,
    ROOT,
    SHAPE,
    at_first_progress,
    expose,
    succeeded,
    tree,
    values,
)

from musedask import open_exposures, open_megacube, stack, write_megacube
from musedask.errors import FileError, InputError, MissingError
from musedask.exposure_making import make_exposure_table
from musedask.exposures import write_exposure_table
from musedask.run import init_run
from musedask.stack_job import StackJob, estimate, exposures_of, run

TIMES = (600.0, 900.0, 1200.0, 900.0, 700.0)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """Five exposures of one field without a pixel between them; the last has a hit."""
    folder = tmp_path_factory.mktemp("aligned")
    paths = []
    for n, time in enumerate(TIMES):
        flux, variance = values(n)
        variance *= 1 + n
        if n == 4:
            flux[3, 5, 6] += 1e4
        paths.append(expose(folder, n, flux=flux, variance=variance, exptime=time))
    return paths


def arrays(paths):
    """Flux and variance of exposures, float64 (exposure, wavelength, y, x)."""
    flux, variance = [], []
    for path in paths:
        with fits.open(path) as hdus:
            flux.append(hdus["DATA"].data.astype(float))
            variance.append(hdus["STAT"].data.astype(float))
    return np.array(flux), np.array(variance)


def cube_of(store, method="median", field=SHAPE[1:]):
    """A statistic where exposures lie, cut out of the padded grid by its counts."""
    cube = open_megacube(store)[method].compute()
    covered = (cube["n_exposures"] > 0).any("wavelength").values
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    cut = cube.isel(y=slice(rows[0], rows[-1] + 1), x=slice(columns[0], columns[-1] + 1))
    assert (cut.sizes["y"], cut.sizes["x"]) == field
    return cut


def stacked(tmp_path, paths, *options):
    """Stack by the command line and give the store."""
    store = tmp_path / "deep.zarr"
    succeeded("stack", *paths, "-o", store, *options)
    return store


def near(actual, expected):
    """Equal to float32 rounding, missing voxels included."""
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-5)


def weighted(flux, variance, weights):
    """Mean and its variance, weights of the exposures."""
    w = np.asarray(weights, float)[:, None, None, None]
    return (w * flux).sum(0) / w.sum(), (w**2 * variance).sum(0) / w.sum() ** 2


def test_a_run_stands_for_its_exposure_table_or_else_its_cubes(tmp_path, aligned):
    night = init_run(tmp_path / "night")
    with pytest.raises(MissingError, match="no exposure cube is finished"):
        exposures_of([str(night.folder)])
    night.cubes.mkdir()
    for n, path in enumerate(aligned[:3]):
        (night.cubes / f"field_{n}.fits").symlink_to(path)
    store = stacked(tmp_path, [night.folder])
    assert int(open_megacube(store)["median"]["n_exposures"].max()) == 3
    table = make_exposure_table(night.exposures())
    table["use"][1] = False
    night.tables.mkdir()
    write_exposure_table(table, night.exposure_table, root=night.folder)
    assert "../cubes/field_0.fits" in night.exposure_table.read_text()
    assert exposures_of([str(night.folder)]) == (str(night.exposure_table),)
    stacked(tmp_path, [night.folder])
    assert int(open_megacube(store)["median"]["n_exposures"].max()) == 2
    with pytest.raises(InputError, match="is a run: give it alone"):
        exposures_of([str(night.folder), str(aligned[3])])
    assert exposures_of(["a.fits", "b.ecsv"]) == ("a.fits", "b.ecsv")


def test_a_median_is_numpys_and_its_variance_that_of_random_draws(tmp_path, aligned):
    cube = cube_of(stacked(tmp_path, aligned))
    flux, variance = arrays(aligned)
    near(cube["flux"], np.median(flux, 0))
    rng = np.random.default_rng(7)
    for voxel in ((0, 0, 0), (3, 5, 6), (11, 19, 23), (6, 10, 12)):
        sigma = np.sqrt(variance[(slice(None), *voxel)])
        scatter = np.median(rng.normal(0.0, sigma, (100_000, 5)), axis=1).var()
        assert cube["variance"].values[voxel] == pytest.approx(scatter, rel=0.06)
    assert (cube["n_exposures"] == 5).all()
    near(cube["exposure_time"], sum(TIMES))


@pytest.mark.parametrize("weights", ["exptime", "equal", "noise", None])
def test_a_mean_has_the_weights_that_were_asked_for(tmp_path, aligned, weights):
    options = ["--weights", weights] if weights else []
    cube = cube_of(stacked(tmp_path, aligned, "--methods", "mean", *options), "mean")
    flux, variance = arrays(aligned)
    own = {
        "equal": np.ones(5),
        "noise": 1 / np.median(variance, (1, 2, 3)),
    }.get(weights, np.array(TIMES))
    mean, its_variance = weighted(flux, variance, own)
    if weights == "noise":  # from a sample of the variance
        np.testing.assert_allclose(cube["flux"], mean, rtol=3e-3, atol=0.2)
        np.testing.assert_allclose(cube["variance"], its_variance, rtol=0.05)
    else:
        near(cube["flux"], mean)
        near(cube["variance"], its_variance)
    others = weighted(flux, variance, {"equal": TIMES}.get(weights, np.ones(5)))
    assert np.abs(others[0] - mean)[:3].max() > 1.0, "the weights make no difference here"


def test_clipping_leaves_out_the_hit_and_a_wide_clip_keeps_it(tmp_path, aligned):
    flux, variance = arrays(aligned)
    narrow = cube_of(stacked(tmp_path, aligned, "--methods", "clipped"), "clipped")
    assert narrow["n_exposures"].values[3, 5, 6] == 4
    mean, its_variance = weighted(flux[:4], variance[:4], TIMES[:4])
    near(narrow["flux"].values[3, 5, 6], mean[3, 5, 6])
    near(narrow["variance"].values[3, 5, 6], its_variance[3, 5, 6])
    wide = cube_of(stacked(tmp_path, aligned, "--methods", "clipped", "--clip", 1e6), "clipped")
    near(wide["flux"], weighted(flux, variance, TIMES)[0])


def test_halves_are_every_other_exposure_by_date(tmp_path, aligned):
    backwards = aligned[::-1]  # the order on the command line does not matter
    store = stacked(tmp_path, backwards, "--methods", "median,median_odd,mean_even")
    flux, variance = arrays(aligned)
    near(cube_of(store, "median")["flux"], np.median(flux, 0))
    near(cube_of(store, "median_odd")["flux"], np.median(flux[::2], 0))
    near(cube_of(store, "mean_even")["flux"], weighted(flux[1::2], variance[1::2], TIMES[1::2])[0])
    assert (cube_of(store, "mean_even")["n_exposures"] == 2).all()


def test_a_part_in_wavelength_is_that_part_of_the_whole(tmp_path, aligned):
    store = stacked(tmp_path, aligned, "--lambda", "4752.5-4757.4")
    cube = cube_of(store)
    np.testing.assert_allclose(cube["wavelength"], 4750 + 1.25 * np.arange(2, 6))
    near(cube["flux"], np.median(arrays(aligned)[0], 0)[2:6])


def test_wavelengths_can_be_given_in_numbers(tmp_path, aligned):
    cube = cube_of(stacked(tmp_path, aligned, "--wavelengths", "4748.75:1.25:4"))
    np.testing.assert_allclose(cube["wavelength"], [4748.75, 4750.0, 4751.25, 4752.5])
    assert np.isnan(cube["flux"].values[0]).all()
    near(cube["flux"][1:], np.median(arrays(aligned)[0], 0)[:3])


def test_a_reference_cube_gives_the_grid(tmp_path, aligned):
    reference = expose(tmp_path, 9, x=-3, y=2, shape=(5, 17, 19), first=4752.5)
    cube = open_megacube(stacked(tmp_path, aligned, "--refcube", reference))["median"].compute()
    assert cube["flux"].shape == (5, 17, 19)
    # The reference lies 3 spaxels to the left and 2 up: its pixel (0, 0) is ours at (2, -3).
    flux = np.full((5, 17, 19), np.nan)
    flux[:, :, 3:] = np.median(arrays(aligned)[0], 0)[2:7, 2:19, :16]
    near(cube["flux"], flux)


def test_the_overlap_is_what_all_exposures_share(tmp_path):
    paths = [expose(tmp_path, 0), expose(tmp_path, 1, x=4, y=-3)]
    cube = open_megacube(stacked(tmp_path, paths, "--overlap", "--methods", "mean"))["mean"]
    assert cube["flux"].shape == (SHAPE[0], SHAPE[1] - 3, SHAPE[2] - 4)
    assert (cube["n_exposures"] == 2).all()
    flux, _ = arrays(paths)
    near(cube["flux"], (flux[0][:, : SHAPE[1] - 3, 4:] + flux[1][:, 3:, : SHAPE[2] - 4]) / 2)


def test_a_coarser_pixel_keeps_the_flux(tmp_path):
    flux, variance = np.zeros(SHAPE, np.float32), np.full(SHAPE, 4.0, np.float32)
    flux[:, 8:12, 10:14] = 3.0
    paths = [expose(tmp_path, n, flux=flux, variance=variance) for n in range(2)]
    store = stacked(tmp_path, paths, "--pixel", 0.4, "--methods", "mean")
    cube = open_megacube(store)["mean"].compute()
    assert cube["wcs"].attrs["CD2_2"] == pytest.approx(0.4 / 3600, rel=1e-9)
    total = cube["flux"].sum(("y", "x")).values
    np.testing.assert_allclose(total, 3.0 * 16, rtol=1e-3)


def test_masks_of_the_exposure_table_take_their_spaxels_alone(tmp_path, aligned):
    good = np.ones(SHAPE[1:], np.uint8)
    good[2:4, 7:9] = 0
    fits.PrimaryHDU(good).writeto(tmp_path / "mask.fits")
    (tmp_path / "hole.reg").write_text("image\nbox(16,11,3,3,0)\n")  # 1-based, centre
    table = tmp_path / "exposures.ecsv"
    assert "5 of them used" in succeeded("exposures", *aligned, "-o", table).out
    rows = Table.read(table, format="ascii.ecsv")
    for key in ("mask", "regions", "reason"):
        rows[key] = np.array(np.ma.filled(rows[key], "").tolist(), dtype="U40")
    rows["mask"][0], rows["regions"][1] = "mask.fits", "hole.reg"
    rows["use"][4], rows["reason"][4] = False, "a hit"
    rows.write(table, format="ascii.ecsv", overwrite=True)
    cube = cube_of(stacked(tmp_path, [table], "--methods", "mean", "--weights", "equal"), "mean")
    flux, _ = arrays(aligned[:4])
    flux[0][:, 2:4, 7:9] = np.nan
    flux[1][:, 9:12, 14:17] = np.nan
    near(cube["flux"], np.nanmean(flux, 0))
    np.testing.assert_array_equal(cube["n_exposures"], np.isfinite(flux).sum(0))


def test_given_weights_are_the_tables(tmp_path, aligned):
    table = tmp_path / "exposures.ecsv"
    succeeded("exposures", *aligned, "-o", table, "--no-measure")
    rows = Table.read(table, format="ascii.ecsv")
    rows["weight"] = [1.0, 2.0, 3.0, 4.0, 5.0]
    rows.write(table, format="ascii.ecsv", overwrite=True)
    cube = cube_of(stacked(tmp_path, [table], "--methods", "mean", "--weights", "given"), "mean")
    near(cube["flux"], weighted(*arrays(aligned), [1, 2, 3, 4, 5])[0])


def test_mypythons_lists_become_a_table_with_their_masks(tmp_path, aligned):
    bad = np.ones(SHAPE[1:], np.uint8)
    bad[5, 6] = 0
    fits.PrimaryHDU(bad).writeto(tmp_path / "edge.fits")
    (tmp_path / "cubeall.in").write_text("\n".join(map(str, aligned)))
    (tmp_path / "maskall.in").write_text("none\nnone\nnone\nnone\nedge.fits\n")
    (tmp_path / "regionsall.in").write_text("-\n-\n-\n-\n-\n")
    table = tmp_path / "exposures.ecsv"
    succeeded(
        "exposures", "--list", tmp_path / "cubeall.in", "--mask-list", tmp_path / "maskall.in",
        "--region-list", tmp_path / "regionsall.in", "-o", table,
    )  # fmt: skip
    cube = cube_of(stacked(tmp_path, [table]))
    flux, _ = arrays(aligned)
    flux[4][:, 5, 6] = np.nan
    near(cube["flux"], np.nanmedian(flux, 0))


def test_general_masks_and_the_background_are_taken_from_every_exposure(tmp_path, aligned):
    (tmp_path / "hole.reg").write_text("image\nbox(16,11,3,3,0)\n")
    good = np.zeros(SHAPE[1:], np.uint8)
    good[0, 0] = 1
    fits.PrimaryHDU(good).writeto(tmp_path / "bad.fits")
    store = stacked(
        tmp_path, aligned, "--regions", tmp_path / "hole.reg", "--mask", tmp_path / "bad.fits",
        "--mask-sense", "bad", "--mask-lambda", "4751-4752", "--mask-lambda", "4760-4761",
        "--border", 2, "--subtract-background", "--methods", "mean", "--weights", "equal",
    )  # fmt: skip
    cube = cube_of(store, "mean", (SHAPE[1] - 4, SHAPE[2] - 4))
    flux, _ = arrays(aligned)
    flux[:, :, 9:12, 14:17] = np.nan
    flux[:, [1, 8]] = np.nan
    inner = flux[:, :, 2:-2, 2:-2]
    kept = np.isfinite(inner).any((0, 2, 3))
    sky = np.full(inner.shape[:2], np.nan)
    sky[:, kept] = np.nanmedian(inner[:, kept], (2, 3))
    near(cube["flux"], (inner - sky[:, :, None, None]).mean(0))


def test_an_export_opens_in_mpdaf_with_the_stores_values(tmp_path, aligned):
    with warnings.catch_warnings():  # mpdaf's own: it spells the unit in a way of the past
        warnings.simplefilter("ignore")
        from mpdaf.obj import Cube

    store = stacked(tmp_path, aligned, "--methods", "median,mean")
    whole, part = tmp_path / "whole.fits", tmp_path / "part.fits"
    assert succeeded("export", store, whole, "--group", "mean").out.strip() == str(whole)
    succeeded("export", store, part, "--group", "median", "--lambda", "4755-4760")
    for path, method, channels in ((whole, "mean", slice(None)), (part, "median", slice(4, 9))):
        deep = open_megacube(store)[method].isel(wavelength=channels).compute()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cube = Cube(str(path))
            cube.data, cube.var  # noqa: B018  (it reads, and leaves its file open)
        flux = np.ma.filled(cube.data.astype(float), np.nan)
        np.testing.assert_array_equal(flux, deep["flux"].values.astype(float))
        good = np.isfinite(flux)
        np.testing.assert_array_equal(cube.var.data[good], deep["variance"].values[good])
        np.testing.assert_allclose(cube.wave.coord(), deep["wavelength"], atol=1e-3)
        np.testing.assert_allclose(
            cube.wcs.get_step(unit="arcsec"), [PIXEL_DEG * 3600] * 2, rtol=1e-6
        )


# --- what the job says before and after --------------------------------------------------------


def written_bytes(store):
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def test_the_estimate_holds_for_a_real_run(tmp_path):
    shape = (130, 48, 48)
    paths = [expose(tmp_path, n, shape=shape) for n in range(3)]
    job = StackJob(tuple(map(str, paths)), tmp_path / "deep.zarr", pad=0)
    told = estimate(job, threads=2)
    assert (told.n_exposures, told.n_blocks, told.n_to_make) == (3, 3, 3)
    assert told.bytes_read == 3 * 8 * np.prod(shape)
    assert told.threads == 2
    assert not job.output.exists()
    report = run(job)
    assert report.n_made == 3
    # Counts shrink, metadata and white-light images come along.
    assert 0.7 * told.bytes_written < report.bytes_written <= 1.05 * told.bytes_written
    again = estimate(job)
    assert (again.n_to_make, again.bytes_read, again.bytes_written) == (0, 0, 0)
    assert "3 already there" in str(again)


def test_a_dry_run_reads_and_writes_nothing(tmp_path, aligned):
    before = sorted(os.listdir(tmp_path))
    answer = succeeded("stack", *aligned, "-o", tmp_path / "a.zarr", "--dry-run", "--threads", 3)
    for word in ("exposures  5", "12 channels", "1 of 1 block to make", "to read", "on 3 threads"):
        assert word in answer.out
    assert answer.err == ""
    assert sorted(os.listdir(tmp_path)) == before


def test_a_changed_offset_makes_only_the_blocks_that_it_touches_anew(tmp_path):
    """Two fields a minute apart, in two tiles; the offset of one exposure changes."""
    shape = (70, 20, 24)
    near_field = [expose(tmp_path, n, shape=shape) for n in range(2)]
    far_field = [expose(tmp_path, n, shape=shape, x=500) for n in range(2, 4)]
    paths = [*near_field, *far_field]
    offsets = tmp_path / "offsets.ecsv"
    store = tmp_path / "deep.zarr"

    def stack_with(last_arcsec):
        rows = [(f"2020-01-01T0{n}:00:00.000", 0.0, last_arcsec if n == 3 else 0.0)
                for n in range(4)]  # fmt: skip
        names = ("date_obs", "ra_offset_arcsec", "dec_offset_arcsec")
        Table(rows=rows, names=names).write(offsets, format="ascii.ecsv", overwrite=True)
        dry = succeeded("stack", *paths, "--offsets", offsets, "-o", store, "--dry-run").out
        return dry, succeeded("stack", *paths, "--offsets", offsets, "-o", store).out

    dry, first = stack_with(0.0)
    assert "4 of 4 blocks to make" in dry
    assert "4 of 4 blocks made" in first
    dry, second = stack_with(0.2)
    assert "2 of 4 blocks to make, 2 already there" in dry
    assert "2 of 4 blocks made, 2 unchanged" in second
    _, third = stack_with(0.2)
    assert "0 of 4 blocks made, 0 unchanged, 4 already there" in third
    fresh = tmp_path / "fresh.zarr"
    succeeded("stack", *paths, "--offsets", offsets, "-o", fresh)
    assert tree(fresh) == tree(store)


def test_a_file_that_changes_during_the_run_is_noticed_and_nothing_is_left(tmp_path):
    paths = [expose(tmp_path, n) for n in range(2)]
    job = StackJob(tuple(map(str, paths)), tmp_path / "deep.zarr")

    def change():
        with paths[1].open("ab") as file:
            file.truncate(paths[1].stat().st_size - 2880)

    with pytest.raises(FileError, match=r"exp1\.fits: has changed since it was opened"):
        run(job, at_first_progress(change))
    assert not job.output.exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"exposures": ()}, "no exposures"),
        ({"exposures": ("a.ecsv", "b.fits")}, "a.ecsv is an exposure table: give it alone"),
        ({"refcube": "r.fits", "overlap": True}, "leave out --overlap"),
        ({"refcube": "r.fits", "pixel_arcsec": 0.3}, "leave out --overlap and --pixel"),
        ({"wavelengths": "4750:1.25"}, "FIRST:STEP:SIZE"),
        ({"wavelengths": "4750:0:7"}, "FIRST:STEP:SIZE"),
        ({"wavelengths": "4750:1.25:0"}, "FIRST:STEP:SIZE"),
        ({"wavelengths": "nan:1.25:7"}, "FIRST:STEP:SIZE"),
        ({"wavelengths": "red"}, "FIRST:STEP:SIZE"),
    ],
)
def test_a_job_that_contradicts_itself_is_refused_before_anything_is_read(changes, match, tmp_path):
    with pytest.raises(InputError, match=match):
        StackJob(**{"exposures": ("a.fits",), "output": tmp_path / "a.zarr", **changes})


def test_the_memory_that_a_dry_run_states_is_what_a_run_takes(tmp_path):
    shape = (64, 200, 210)
    flux, variance = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    paths = [
        expose(tmp_path, n, flux=flux, variance=variance, shape=shape, x=0.3 * n) for n in range(3)
    ]
    job = StackJob(tuple(map(str, paths)), tmp_path / "deep.zarr")
    stated = estimate(job, threads=1).memory
    run(replace(job, output=tmp_path / "first.zarr"))  # compiling takes memory too, once
    arguments = ["stack", *map(str, paths), "-o", str(job.output), "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    used = int(done.stdout.split()[-1]) * 1024
    assert 0.6 * stated < used < 1.1 * stated


# The most that a process ever held since it began; getrusage would count its parent's as well.
MEASURED = """
import re, sys
from musedask.cli import main
main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def test_a_cube_without_a_variance_is_an_error_in_python_too(tmp_path):
    good, bad = expose(tmp_path, 0), expose(tmp_path, 1, stat=np.zeros(SHAPE, np.float32))
    cubes = open_exposures([good, bad])
    lazy = stack(cubes)
    with pytest.raises(FileError, match=r"exp1\.fits: STAT is zero.* 100 %"):
        write_megacube(lazy, tmp_path / "deep.zarr")
    assert not list(tmp_path.glob("deep*"))
    # Who makes flux and variance is not asked for the file's.
    mended = cubes[1].assign({key: xr.ones_like(cubes[1][key]) for key in ("flux", "variance")})
    write_megacube(stack([cubes[0], mended]), tmp_path / "deep.zarr")
    assert int(open_megacube(tmp_path / "deep.zarr")["median"]["n_exposures"].max()) == 2
