"""Chaos on a real SLURM: whatever dies, the products are the same, and none is made twice.

With a stand-in for esorex that takes a second a job, and a stack; and with the real esorex.
MUSEDASK_CAMPAIGN=full for fifty events and more, CHAOS_SEED for those of one seed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from slurm_chaos import storm
from slurm_runs import (
    SlurmRun,
    client,
    client_log,
    contents,
    make_run,
    send_to_slurm,
    stack_of_blocks,
)

from musedask.config import ClusterConfig
from musedask.megacube import write_megacube
from musedask.reduction.job.record import read_record
from musedask.run import init_run
from musedask.simulation import RawSpec, simulate_raw

pytestmark = [pytest.mark.real_slurm, pytest.mark.slow]

JOB_S, BLOCK_S = 1.0, 1.0


# --- a second a job, and a stack ---------------------------------------------------------------


def test_whatever_dies_the_products_are_the_same_bytes(site, tmp_path, monkeypatch, campaign):
    quiet = make_run(tmp_path / "quiet", seconds=0.0)
    monkeypatch.setenv("MUSEDASK_ESOREX", str(quiet.stub / "esorex"))
    assert quiet.run.config.cluster != ClusterConfig()
    products, stack = products_without_chaos(quiet)

    def make(number: int) -> Path:
        run = make_run(tmp_path / f"night{number}", seconds=JOB_S)
        monkeypatch.setenv("MUSEDASK_ESOREX", str(run.stub / "esorex"))
        return run.folder

    def check(folder: Path) -> None:
        assert nameless(SlurmRun(folder, folder).products()) == products
        assert contents(folder / "stack.zarr") == stack

    storm(site, campaign(4, 40), make, partial(client, block_s=BLOCK_S), check)


def nameless(products: dict[str, bytes]) -> list[tuple[str, str, bytes]]:
    """Recipe, file's name and bytes: keys are others in each run, its raw files being others."""
    parts = ((path.split("/"), content) for path, content in products.items())
    return sorted((path[0], path[-1], content) for path, content in parts)


def products_without_chaos(
    quiet: SlurmRun,
) -> tuple[list[tuple[str, str, bytes]], dict[str, bytes]]:
    """Products and stack of a run on threads, where nothing dies."""
    report = quiet.reduce(kind="threads")
    assert report.ok, str(report)
    write_megacube(stack_of_blocks(0.0), quiet.folder / "stack.zarr")
    return nameless(quiet.products()), contents(quiet.folder / "stack.zarr")


# --- the real esorex ---------------------------------------------------------------------------


@pytest.mark.real_esorex
def test_whatever_dies_the_data_of_the_real_esorex_are_the_same(
    site, tmp_path, monkeypatch, campaign
):
    """Headers have the time in them; DATAMD5 is of the data alone."""
    monkeypatch.delenv("MUSEDASK_ESOREX", raising=False)
    last = ("flat", "wavecal")[campaign(0, 1)]
    night = tmp_path / "night"
    simulate_raw(
        night, RawSpec(n_exposures=1, n_twilight=0, with_illum=False, with_std=False,
                       with_sky=False, seed=5),
    )  # fmt: skip

    quiet = with_frames_of(night, tmp_path / "quiet")
    init_run(quiet)
    reference = client(quiet, last=last)  # on threads, while the others are in chaos

    def make(number: int) -> Path:
        folder = with_frames_of(night, tmp_path / f"night{number}")
        send_to_slurm(folder, memory="2 GiB")
        return folder

    def check(folder: Path) -> None:
        assert reference.wait(timeout=300) == 0, client_log(quiet).read_text()
        data = data_of(quiet)
        assert {recipe for recipe, _ in data.values()} >= {"muse_bias", "muse_flat"}
        assert data_of(folder) == data

    try:
        storm(site, campaign(3, 10), make, partial(client, last=last), check)
    finally:
        reference.kill()
        reference.wait()


def with_frames_of(night: Path, folder: Path) -> Path:
    """A folder with the very files of a night, so that the jobs have the same keys."""
    folder.mkdir()
    for name in ("raw", "static"):
        (folder / name).symlink_to(night / name)
    return folder


def data_of(folder: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Key of each job -> its recipe, and its files with the MD5 of their data."""
    records = [read_record(path.parent) for path in folder.glob("products/*/*/job.json")]
    assert None not in records
    found = {
        one.key: (one.recipe, {product.file: product.datamd5 for product in one.products})
        for one in records if one is not None
    }  # fmt: skip
    assert all(md5 for _, files in found.values() for md5 in files.values())
    return found
