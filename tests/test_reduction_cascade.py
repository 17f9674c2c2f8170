"""The real recipes, from raw frames to cubes on one grid: killed, resumed, held to the truth.

Two worker processes reduce two exposures of one IFU, while the client, a worker
and esorex are killed, and two exposures of two IFUs by a shorter chain.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits
from command_line import process, succeeded
from conftest import FULL_CAMPAIGN
from test_readme import python_blocks

import musedask as md
from musedask.demo.night import SHORT_RECIPES, write_catalogue
from musedask.demo.raw_comparison import compare_with_raw_truth, offset_error_spaxels
from musedask.offsets import ExposureKey, on_sky_arcsec
from musedask.reduction.job.record import JobRecord, read_record
from musedask.simulation import RawSpec, RawTruth, read_raw_truth, simulate_raw

pytestmark = [pytest.mark.real_esorex, pytest.mark.slow]

CONFIG = (
    """\
[reduction]
ifus = {ifus}
final = "{final}"
wavelengths = "common"
attempts = 20
{more}
[cluster]
kind = "local"
workers = 2
"""
    + SHORT_RECIPES
)
SHORT_COMBINATION = """
[reduction.muse_exp_combine]
lambdamin = 6000
lambdamax = 7000
"""
VICTIMS = ("client", "worker", "esorex")
LATEST_KILL_S = 40.0


def records(run: Path) -> dict[str, tuple[JobRecord, int]]:
    """Key -> what is written down of each finished job, and when that was written."""
    found = {}
    for path in run.glob("products/*/*/job.json"):
        record = read_record(path.parent)
        assert record is not None, path
        found[record.key] = record, path.stat().st_mtime_ns
    return found


def data_of(run: Path) -> dict[str, dict[str, str]]:
    """Key of a job -> its files -> MD5 of their data: headers have the time in them."""
    return {
        key: {product.file: product.datamd5 for product in record.products}
        for key, (record, _) in records(run).items()
    }


def victim(kind: str, client: psutil.Process) -> psutil.Process | None:
    """The process to kill, if it is there."""
    try:
        family = client.children(recursive=True)
        if kind == "client":
            return client
        if kind == "esorex":
            return next((p for p in family if p.name() == "esorex"), None)
        return next((p for p in family if "spawn_main" in " ".join(p.cmdline())), None)
    except psutil.NoSuchProcess:
        return None


def kill_at_random(run: Path, kind: str, rng: random.Random) -> bool:
    """Reduce, and kill one process at a random moment; whether there was one to kill."""
    running = process("reduce", run)
    with suppress(subprocess.TimeoutExpired):
        running.wait(timeout=rng.uniform(5.0, LATEST_KILL_S))
    found = victim(kind, psutil.Process(running.pid)) if running.poll() is None else None
    if found is not None:
        found.send_signal(signal.SIGKILL)
        time.sleep(2.0)
    running.kill()
    running.communicate(timeout=60)
    return found is not None


def esorex_of(run: Path) -> Iterator[psutil.Process]:
    for one in psutil.process_iter(["name"]):
        try:
            if one.info["name"] == "esorex" and one.cwd().startswith(str(run)):
                yield one
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass


def configure(run: Path, ifus: list[int], more: str = "", final: str = "cubes") -> None:
    (run / "musedask.toml").write_text(CONFIG.format(ifus=ifus, more=more, final=final))


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawTruth]:
    folder = tmp_path_factory.mktemp("cascade")
    yield simulate_raw(folder, RawSpec(n_exposures=2, seed=3))
    shutil.rmtree(folder)  # gigabytes


@pytest.fixture(scope="module")
def wider_night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawTruth]:
    folder = tmp_path_factory.mktemp("wider")
    spec = RawSpec(ifus=(1, 2), n_exposures=2, n_twilight=0, with_sky=False, seed=4)
    yield simulate_raw(folder, spec)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def one_ifu(night: RawTruth, campaign) -> dict[str, tuple[JobRecord, int]]:
    """Records of a reduction of one IFU that was killed several times before its end."""
    run = night.folder
    configure(run, [1])
    rng = random.Random(7)
    seen: dict[str, int] = {}
    kills = 0
    for number in range(campaign(3, 12)):
        kills += kill_at_random(run, VICTIMS[number % len(VICTIMS)], rng)
        for key, (_, written) in records(run).items():
            assert seen.setdefault(key, written) == written, "a finished job ran again"
    assert kills, "nothing was killed"
    succeeded("reduce", run)
    found = records(run)
    for key, written in seen.items():
        assert found[key][1] == written, "a finished job ran again"
    return found


def check_against_truth(run: Path, within_spaxels: float = 0.05) -> None:
    truth = read_raw_truth(run)
    cubes = [md.open_cube(path) for path in md.open_run(run).exposures()]
    assert len(cubes) == 2
    assert offset_error_spaxels(cubes, truth) < within_spaxels
    for cube in cubes:
        found = compare_with_raw_truth(cube, truth)
        assert len(found) >= 4
        for source in found:
            assert abs(source.east_spaxels) < within_spaxels
            assert abs(source.north_spaxels) < within_spaxels
            assert source.flux_ratio == pytest.approx(1.0, abs=0.1)
            assert all(abs(error) < 0.1 for error in source.line_errors_angstrom)
    assert any(s.line_errors_angstrom for s in compare_with_raw_truth(cubes[0], truth))


def test_killed_again_and_again_it_ends_with_cubes_that_are_true(night, one_ifu):
    check_against_truth(night.folder)
    assert not list(esorex_of(night.folder))
    assert not list((night.folder / "scratch").iterdir())


def test_once_done_nothing_is_done_again(night, one_ifu):
    answer = succeeded("reduce", night.folder)
    assert f"all {len(one_ifu)} jobs are done already" in answer.out
    assert records(night.folder) == one_ifu


def test_the_lines_of_the_readme_reduce_a_run(night, one_ifu, tmp_path, monkeypatch):
    _, block = python_blocks()
    (tmp_path / "mudf").symlink_to(night.folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"md": md}
    exec(compile(block, "README.md", "exec"), names)
    assert len(names["cubes"]) == 2


def test_a_job_repeated_by_hand_gives_the_same_data(night, one_ifu, tmp_path):
    for recipe in ("muse_wavecal", "muse_exp_align"):
        record = next(one for one, _ in one_ifu.values() if one.recipe == recipe)
        place = tmp_path / recipe
        place.mkdir()
        subprocess.run(["sh", record.folder / "repeat.sh"], cwd=place, check=True, timeout=120)
        for product in record.products:
            (again,) = place.rglob(product.file)
            assert md5_of(again) == product.datamd5


def md5_of(path: Path) -> str:
    return str(fits.getval(path, "DATAMD5"))


def test_an_exposure_on_the_grid_is_copied_bit_for_bit(night, one_ifu):
    cubes = md.open_exposures(md.open_run(night.folder).exposures())
    grid = md.CubeGrid.enclosing(cubes)
    for cube in cubes:
        stacked = md.stack([cube], None, grid, methods=("mean",))["mean"]["flux"].values
        own = cube["flux"].values[np.isfinite(cube["variance"].values)]
        np.testing.assert_array_equal(np.sort(stacked[np.isfinite(stacked)]), np.sort(own))


def aligned(cubes: list[Path], folder: Path) -> md.OffsetTable:
    """Totals: what exp_align still finds in the images beside cubes, and what these carry."""
    images = [str(next(path.resolve().parent.glob("IMAGE_FOV*.fits"))) for path in cubes]
    folder.mkdir()
    (folder / "in.sof").write_text("".join(f"{image} IMAGE_FOV\n" for image in images))
    subprocess.run(["esorex", "muse_exp_align", "in.sof"], cwd=folder, check=True)
    keys = [
        ExposureKey(*(cube[key].item() for key in ("date_obs", "name", "ra_deg", "dec_deg")))
        for cube in md.open_exposures(cubes)
    ]
    left = md.OffsetTable.read(folder / "OFFSET_LIST.fits", exposures=keys)
    rows = []
    for cube in md.open_exposures(cubes):
        row = left.find(str(cube["date_obs"].values))
        east = on_sky_arcsec(float(cube.get("carried_ra_deg", 0.0)), row.dec_deg)
        north = 3600.0 * float(cube.get("carried_dec_deg", 0.0))
        rows.append(
            replace(
                row,
                ra_offset_arcsec=row.ra_offset_arcsec + east,
                dec_offset_arcsec=row.dec_offset_arcsec + north,
            )
        )
    return md.OffsetTable(tuple(rows))


def test_round_and_round_offsets_are_never_applied_twice(night, one_ifu, tmp_path):
    run = night.folder
    (first,) = (run / "tables").glob("offsets_*.ecsv")
    shutil.copy(first, run / "offsets.ecsv")
    configure(run, [1], 'offsets = "offsets.ecsv"')
    # The table says what exp_align said: the cubes are there already.
    assert "jobs are done already" in succeeded("reduce", run).out
    assert records(run) == one_ifu
    cubes = md.open_run(run).exposures()
    totals = aligned(cubes, tmp_path / "align")
    before = md.OffsetTable.read(run / "offsets.ecsv")
    for row in totals:
        assert row.ra_offset_arcsec == pytest.approx(
            before.find(row.date_obs).ra_offset_arcsec, abs=0.02
        )
    totals.write(run / "offsets.ecsv", overwrite=True)
    succeeded("reduce", run)
    check_against_truth(run)
    cubes = md.open_run(run).exposures()
    stores = [tmp_path / "without.zarr", tmp_path / "with.zarr"]
    for store, options in zip(stores, ([], ["--offsets", run / "offsets.ecsv"]), strict=True):
        succeeded("stack", *cubes, *options, "--methods", "mean", "-o", store)
    without, with_offsets = (md.open_megacube(store)["mean"]["flux"].values for store in stores)
    np.testing.assert_array_equal(with_offsets, without)


def test_combined_by_the_pipeline_the_calibrated_exposures_make_a_cube_that_is_true(night, one_ifu):
    run = night.folder
    configure(run, [1], 'autocalib = "deepfield"\n' + SHORT_COMBINATION, final="combine")
    assert "1 combined cube in" in succeeded("reduce", run).out
    after = records(run)
    assert {key: after[key] for key in one_ifu} == one_ifu
    (path,) = md.open_run(run).combined.iterdir()
    assert fits.getval(path, "ESO PRO DATANCOM") == 2
    cube = md.open_cube(path)
    # The first exposure's header points right, and the offset of the other one is relative to it.
    found = compare_with_raw_truth(cube, read_raw_truth(run))
    assert len(found) >= 4
    for source in found:
        assert abs(source.east_spaxels) < 0.1
        assert abs(source.north_spaxels) < 0.1
        assert source.flux_ratio == pytest.approx(1.0, abs=0.1)
    single = md.open_cube(path.parent.parent / f"SIMFIELD_{cube['date_obs'].item()}.fits")
    deeper = float(np.nanmedian(cube["variance"]) / np.nanmedian(single["variance"]))
    assert deeper == pytest.approx(0.5, abs=0.15)


def test_musedask_s_own_offsets_are_those_of_exp_align_and_go_through_the_pipeline(night, one_ifu):
    run = night.folder
    (by_pipeline,) = (run / "tables").glob("offsets_*.ecsv")
    write_catalogue(night, run / "catalogue.ecsv")
    configure(run, [1], 'offsets = "measured"\nreference = "catalogue.ecsv"')
    succeeded("reduce", run)
    # The catalogue knows nothing of fluxes, and some of its sources are blended.
    check_against_truth(run, within_spaxels=0.1)
    table = md.OffsetTable.read(run / "tables" / "offsets.ecsv")
    for cube in md.open_run(run).exposures():
        header = fits.getheader(cube)
        row = table.find(header["ESO DRS MUSE OFFSET1 DATE-OBS"])
        applied = [3600.0 * header[f"ESO DRS MUSE OFFSET1 {key}"] for key in ("DRA", "DDEC")]
        cos_dec = np.cos(np.radians(row.dec_deg))
        assert applied[0] * cos_dec == pytest.approx(row.ra_offset_arcsec, abs=1e-5)
        assert applied[1] == pytest.approx(row.dec_offset_arcsec, abs=1e-5)
    theirs = md.OffsetTable.read(by_pipeline)
    for key in ("ra_offset_arcsec", "dec_offset_arcsec"):
        ours, other = ([getattr(row, key) for row in one] for one in (table, theirs))
        assert np.ptp(ours) == pytest.approx(np.ptp(other), abs=0.02)


def test_a_second_ifu_uses_again_what_the_first_one_has(wider_night):
    run = wider_night.folder
    short = 'twilight = false\nlsf = false\nsky = "simple"'
    configure(run, [1], short)
    succeeded("reduce", run, "--last", "flat")
    first = records(run)
    assert {(one.recipe, one.ifu) for one, _ in first.values()} == {
        ("muse_bias", 1),
        ("muse_flat", 1),
    }
    configure(run, [1, 2], short)
    succeeded("reduce", run)
    after = records(run)
    assert {key: after[key] for key in first} == first
    by_ifu = ("muse_bias", "muse_flat", "muse_wavecal", "muse_scibasic")
    made = [(one.recipe, one.ifu) for one, _ in after.values() if one.recipe in by_ifu]
    # The standard star and two exposures.
    wanted = [(recipe, ifu) for recipe in (*by_ifu, *by_ifu[-1:] * 2) for ifu in (1, 2)]
    assert sorted(made) == sorted(wanted)
    check_against_truth(run)


@pytest.mark.skipif(not FULL_CAMPAIGN, reason="a second cascade: MUSEDASK_CAMPAIGN=full")
def test_killed_or_not_the_data_are_the_same(night, one_ifu, tmp_path):
    run = tmp_path / "undisturbed"
    run.mkdir()
    for name in ("raw", "static"):
        (run / name).symlink_to(night.folder / name)
    configure(run, [1])
    succeeded("reduce", run)
    undisturbed = data_of(run)
    killed = data_of(night.folder)
    assert {key: killed[key] for key in undisturbed} == undisturbed
