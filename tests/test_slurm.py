"""On a real SLURM of two nodes: what works there, and that what dies is done elsewhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import psutil
import pytest
from command_line import command
from esorex_jobs import given
from raw_biases import write_biases
from slurm_runs import SlurmRun, client, contents, make_run, slurm_config, stack_of_blocks
from slurm_site import SlurmSite, alive, processes_of, send, wait_until

import musedask.cluster.fleet
from musedask.cluster import ends_of, open_cluster
from musedask.errors import ClusterError
from musedask.megacube import write_megacube
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.job.run import run_job
from musedask.reduction.jobs import Job

pytestmark = [pytest.mark.real_slurm]
SOON_S = 120.0
"""Longest wait of a test."""


@pytest.fixture(autouse=True)
def _nothing_is_left(site: SlurmSite, monkeypatch):
    """Each test ends its jobs, and starts with two nodes that can take some."""
    monkeypatch.setattr(musedask.cluster.fleet, "LATER_S", 2.0)
    yield
    site.empty()


@pytest.fixture
def config(site):
    return slurm_config(site)


def where() -> tuple[str, int, int]:
    time.sleep(0.2)
    return os.environ["SLURM_JOB_ID"], os.getpid(), os.getppid()


def until(folder: str, name: str) -> str:
    """A task that leaves a line when it begins, and ends when it may."""
    job = os.environ["SLURM_JOB_ID"]
    with open(Path(folder, name), "a", encoding="ascii") as file:
        file.write(f"{job}\n")
    while not Path(folder, "go").exists():
        time.sleep(0.1)
    return job


def begun(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().split() if path.exists() else []


def worker_of(job: str) -> list[psutil.Process]:
    """The worker process of a job: the one that its nanny has spawned."""
    return [p for p in processes_of(job) if "spawn_main" in " ".join(p.cmdline())]


def nanny_of(job: str) -> list[psutil.Process]:
    return [p for p in processes_of(job) if "dask_worker" in " ".join(p.cmdline())]


# --- what works --------------------------------------------------------------------------------


def test_workers_are_jobs_and_nothing_is_left_when_it_is_closed(site, config):
    with open_cluster(config, "reduce") as cluster:
        futures = [cluster.client.submit(where, pure=False) for _ in range(4)]
        jobs = {job for job, _, _ in cluster.client.gather(futures)}
        assert jobs <= set(site.squeue())
        assert set(cluster.client.nthreads().values()) == {1}
        assert cluster.client.scheduler.address.startswith("tls://127.0.0.1:")
        assert cluster.walltime_s == 1200
        keys = sorted(Path(config.folder).glob("tls-*/*"))
        assert {path.name for path in keys} == {"ca.pem", "key.pem", "lock"}
        assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
        family = processes_of(*jobs)
    assert not list(Path(config.folder).glob("tls-*"))
    wait_until(
        lambda: not site.squeue() and not alive(family),
        lambda: f"left: {site.squeue('%A %T %r')} {alive(family)}",
    )


def test_a_stack_gets_wide_workers_of_the_same_configuration(site):
    config = slurm_config(site, workers=1, stack={"cores": 3, "memory": "2 GiB"})
    with open_cluster(config, "stack") as cluster:
        cluster.client.wait_for_workers(1)
        assert list(cluster.client.nthreads().values()) == [3]
        assert site.squeue("%C %m") == ["3 2G"]


def test_another_user_can_neither_submit_nor_look_on(site, config):
    import distributed

    async def ask(address, security):
        # As a Client begins, without its event loop in a thread of its own.
        arguments = security.get_connection_args("client")
        async with distributed.rpc(address, connection_args=arguments, timeout=3) as scheduler:
            return await scheduler.identity()

    with open_cluster(config) as cluster:
        address = cluster.client.scheduler.address
        assert asyncio.run(ask(address, cluster.client.security))["type"] == "Scheduler"
        for tried in (address, address.replace("tls:", "tcp:")):
            with pytest.raises((OSError, TypeError)):
                asyncio.run(ask(tried, distributed.Security()))


def test_who_waits_for_others_is_told_so_and_goes_on_waiting(site, config, caplog):
    caplog.set_level("INFO", logger="musedask.told")
    whole = ("--exclusive", "-N2", "--output=/dev/null", "--wrap", "sleep 100")
    blocker = site.ask("sbatch", "--parsable", *whole).strip()
    wait_until(lambda: "RUNNING" in site.squeue("%T", f"--job={blocker}"))
    with open_cluster(config) as cluster:
        future = cluster.client.submit(where, pure=False)
        waiting = ends_of([future])
        wait_until(lambda: next(waiting) or "(Resources)" in caplog.text, "nobody tells")
        site.ask("scancel", blocker)
        assert future.result(timeout=SOON_S)[0] != blocker


# --- what dies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["worker", "nanny", "scancel", "node", "silent node"])
def test_what_ran_where_something_died_is_done_elsewhere(site, config, tmp_path, monkeypatch, how):
    """And the place is filled: two workers are there again."""
    with open_cluster(config) as cluster:
        futures = [
            cluster.client.submit(until, str(tmp_path), name, pure=False) for name in ("one", "two")
        ]
        monkeypatch.setattr(musedask.cluster.fleet, "AWAY_S", 5.0)
        job = wait_until(lambda: begun(tmp_path, "two") and begun(tmp_path, "one"))[0]
        family = processes_of(job)
        node = site.squeue("%N", f"--job={job}")[0]
        kill(site, job, node, how)
        wait_until(lambda: len(begun(tmp_path, "one")) == 2, "it is not begun again", SOON_S)
        wait_until(lambda: len(cluster.client.nthreads()) == 2, "nobody takes its place", SOON_S)
        (tmp_path / "go").touch()
        for _ in ends_of(futures):
            pass
        assert [future.result() for future in futures] == [
            begun(tmp_path, name)[-1] for name in ("one", "two")
        ]
        if how != "worker":
            assert begun(tmp_path, "one")[1] != job
            assert not alive(family)
            told = cluster.watch.words([job])
            assert IN_SLURM_S_WORDS[how] in told
            assert f"on {node}" in told
        if "node" in how:
            site.start_node(node)


IN_SLURM_S_WORDS = {
    "nanny": "FAILED", "scancel": "CANCELLED", "node": "NODE_FAIL",
    # Nobody has told the controller.
    "silent node": "RUNNING (no sign of its worker for 5 s)",
}  # fmt: skip


def kill(site: SlurmSite, job: str, node: str, how: str) -> None:
    if how == "worker":
        assert send(worker_of(job)) == 1
    elif how == "nanny":
        assert send(nanny_of(job)) == 1
    elif how == "scancel":
        site.ask("scancel", job)
    else:
        site.kill_node(node)
        if how == "node":
            site.down(node)


# --- reductions --------------------------------------------------------------------------------


@pytest.fixture
def slurm_run(tmp_path, monkeypatch):
    found = make_run(tmp_path / "night", seconds=0.2)
    monkeypatch.setenv("MUSEDASK_ESOREX", str(found.stub / "esorex"))
    return found


def test_a_reduction_is_the_same_on_threads_local_processes_and_slurm(
    slurm_run: SlurmRun,
):
    report = slurm_run.reduce()
    assert report.ok, str(report)
    made = slurm_run.products()
    assert {path.split("/")[0] for path in made} >= {"muse_bias", "muse_flat", "muse_scibasic"}
    for kind in ("threads", "local"):
        shutil.rmtree(slurm_run.folder / "products")
        assert slurm_run.reduce(kind=kind).ok
        assert slurm_run.products() == made


def test_a_job_that_is_killed_for_its_memory_fails_and_says_so(slurm_run: SlurmRun):
    slurm_run.behave(seconds=60, hog_mb=1500, only=["muse_bias"])
    report = slurm_run.reduce()
    failed = [outcome for _, outcome in report.failed]
    assert failed
    assert all("OUT_OF_MEMORY" in one.reason for one in failed), [one.reason for one in failed]
    assert all("more memory in [cluster]" in one.reason for one in failed)
    assert {job.recipe for job, _ in report.failed} == {"muse_bias"}


def test_a_killed_client_s_jobs_are_not_done_twice_by_the_next_one(slurm_run: SlurmRun, site):
    slurm_run.behave(seconds=1.0)
    first = client(slurm_run.folder)
    try:
        wait_until(lambda: len(slurm_run.records()) >= 2, "nothing gets done", SOON_S)
        leftovers = site.squeue("%A", "--states=RUNNING")
    finally:
        first.kill()
        first.wait(10)
    before = slurm_run.records()
    assert leftovers
    report = slurm_run.reduce()
    assert report.ok, str(report)
    after = slurm_run.records()
    assert {key: after[key] for key in before} == before
    # What ran when the client was killed may have been begun again; nothing else was.
    at_work = len(leftovers)
    assert len(after) <= len(slurm_run.calls()) <= len(after) + at_work


def test_blocks_on_a_lost_worker_are_made_again_and_the_store_is_the_same_to_the_last_byte(
    site, tmp_path
):
    write_megacube(stack_of_blocks(0.0), tmp_path / "here.zarr")
    victims = []

    def kill_one(done: int, total: int, seconds_left: float) -> None:
        if done == 2 and not victims:
            victims.extend(worker_of(site.squeue("%A", "--states=RUNNING")[0]))
            assert send(victims) == 1

    with open_cluster(slurm_config(site, stack={"cores": 2}), "stack") as cluster:
        cluster.client.wait_for_workers(2, timeout=SOON_S)
        write_megacube(stack_of_blocks(0.4), tmp_path / "there.zarr", progress=kill_one)
    assert victims
    assert contents(tmp_path / "there.zarr") == contents(tmp_path / "here.zarr")


def test_a_block_that_kills_its_workers_is_an_error_and_no_riddle(site, tmp_path, monkeypatch):
    monkeypatch.setattr("musedask.cluster.opening.STACK_LOSSES", 1)
    options = {"job_script_prologue": ["export FAKE_STACK_DIES=1"]}
    config = slurm_config(site, workers=1, options=options)
    wanted = "a block was not made, its workers died"
    with open_cluster(config, "stack"), pytest.raises(ClusterError, match=wanted):
        write_megacube(stack_of_blocks(0.0), tmp_path / "there.zarr")
    assert not (tmp_path / "there.zarr").exists()


def test_a_client_in_a_job_of_its_own_reduces_a_run(slurm_run: SlurmRun, site):
    answer = command("reduce", slurm_run.folder, "--last", "bias", "--in-job")
    assert answer.status == 0, answer.err
    (job,) = site.squeue("%A")
    assert answer.out.startswith(f"SLURM job {job} runs it; ")
    log = Path(answer.out.split()[-1])
    wait_until(lambda: job not in site.squeue("%A"), lambda: log.read_text(), SOON_S)
    text = log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert "2 jobs done" in text
    assert "dashboard: http://127.0.0.1:" in text
    assert "ssh -N -L " in text
    assert {call["recipe"] for call in slurm_run.calls()} == {"muse_bias"}


@pytest.mark.real_esorex
def test_the_real_esorex_dies_with_its_worker_and_is_run_again_elsewhere(site, config, tmp_path):
    raw, folders = tmp_path / "raw", RunFolders(tmp_path / "products", tmp_path / "scratch")
    raw.mkdir()
    paths = write_biases(raw, [f"bias{n}.fits" for n in range(3)])
    job = Job(
        recipe="muse_bias", stage="bias", title="bias IFU 1", ifu=1, ifus=(1,),
        inputs=tuple(given("BIAS", path) for path in paths),
        parameters=(("nifu", "1"),), products=("MASTER_BIAS",),
    )  # fmt: skip

    def at_work() -> list[psutil.Process]:
        found = processes_of(*site.squeue("%A", "--states=RUNNING"))
        return [p for p in alive(found) if p.name() == "esorex" and str(tmp_path) in p.cwd()]

    with open_cluster(config) as cluster:
        future = cluster.client.submit(run_job, job, folders, pure=False)
        first = wait_until(at_work, lambda: f"{future.status}", SOON_S)
        number = first[0].environ()["SLURM_JOB_ID"]
        assert send(worker_of(number)) == 1
        wait_until(lambda: not alive(first), "esorex has outlived its worker", 10.0)
        record = future.result(timeout=SOON_S)
    assert [product.tag for product in record.products] == ["MASTER_BIAS"]
    assert [path.name for path in folders.products.glob("*/*")] == [job.key]
    assert list(folders.scratch.iterdir()) == []
