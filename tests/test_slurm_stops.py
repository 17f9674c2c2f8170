"""On a real SLURM: where it cannot go on it stops within a minute, and says why in SLURM's words.

The minute is a promise to the user, with the pauses that the package is shipped with.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import TimeoutExpired
from typing import Any

import pytest
from distributed import Future
from psutil import NoSuchProcess
from slurm_runs import make_run, slurm_config
from slurm_site import SlurmSite, processes_of, wait_until

from musedask.cluster import ends_of, open_cluster
from musedask.cluster.queue import jobs_under_way
from musedask.errors import ClusterError, InputError, MissingError

pytestmark = [pytest.mark.real_slurm]
MINUTE_S = 60.0


@pytest.fixture(autouse=True)
def _nothing_is_left(site: SlurmSite):
    """Each test ends its jobs, and starts with two nodes that can take some."""
    yield
    site.empty()


@contextmanager
def within_a_minute() -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < MINUTE_S


def wait_for(future: Future[Any]) -> None:
    """Wait for it as a stage of musedask does, but a minute at most."""
    end = time.monotonic() + MINUTE_S
    for _ in ends_of([future]):
        assert time.monotonic() < end, "it goes on waiting"


def where() -> tuple[str, int]:
    return os.environ["SLURM_JOB_ID"], os.getpid()


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"options": {"queue": "nowhere"}}, "invalid partition"),
        ({"memory": "99 GiB"}, "Requested node configuration is not available|Memory"),
        ({"options": {"job_extra_directives": ["--nonsense"]}}, "nonsense"),
        ({"options": {"walltime": "soon"}}, "time|walltime"),
    ],
)
def test_what_sbatch_rejects_is_an_error_at_once_in_its_words(site, changed, says):
    config = slurm_config(site, **changed)
    with within_a_minute(), pytest.raises(ClusterError, match=says), open_cluster(config):
        pass
    assert not site.squeue()


def test_an_interface_that_is_not_there_is_named(site):
    with pytest.raises(InputError, match="ib7"), open_cluster(slurm_config(site, interface="ib7")):
        pass


def test_what_sbatch_rejects_later_is_an_error_in_its_words(site):
    """As with a limit on the number of a user's jobs: the first question is answered well."""
    with open_cluster(slurm_config(site)) as cluster:
        site.ask("scontrol", "update", "PartitionName=main", "State=DRAIN")
        try:
            site.ask("scancel", "--user", str(os.getuid()))
            future = cluster.client.submit(where, pure=False)
            with within_a_minute(), pytest.raises(ClusterError, match=r"REFUSED.*not available"):
                wait_for(future)
        finally:
            site.ask("scontrol", "update", "PartitionName=main", "State=UP")


# --- what never begins, or cannot work ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"queue": "shut"}, "PartitionDown"),
     ({"queue": "short", "walltime": "08:00:00"}, "PartitionTimeLimit"),
     ({"job_extra_directives": ["--hold"]}, "JobHeldUser")],
)  # fmt: skip
def test_a_job_that_pends_for_ever_is_an_error_that_names_the_reason(site, options, reason):
    with within_a_minute(), open_cluster(slurm_config(site, options=options)) as cluster:
        future = cluster.client.submit(where, pure=False)
        with pytest.raises(ClusterError, match=rf"PENDING \({reason}\)"):
            wait_for(future)


@pytest.mark.parametrize(
    ("python", "says"),
    [("/nowhere/python", r"exit code 127.*/nowhere/python"), ("/usr/bin/true", "COMPLETED"),
     ("/usr/bin/env python3 -S", "No module named|FAILED")],
)  # fmt: skip
def test_a_wrong_python_on_the_nodes_is_an_error_with_the_end_of_the_job_s_output(
    site, python, says
):
    config = slurm_config(site, options={"python": python})
    with within_a_minute(), open_cluster(config) as cluster:
        future = cluster.client.submit(where, pure=False)
        with pytest.raises(ClusterError, match=rf"(?s)before they had done anything.*{says}"):
            wait_for(future)


def test_a_worker_that_cannot_read_its_tasks_is_not_replaced_for_ever(site, monkeypatch):
    """As where the Python of the nodes has no musedask, or another one."""
    monkeypatch.delenv("PYTHONPATH")
    with within_a_minute(), open_cluster(slurm_config(site)) as cluster:
        future = cluster.client.submit(where, pure=False)
        with pytest.raises(ClusterError, match=r"No module named 'test_slurm_stops'"):
            wait_for(future)


# --- what dies ---------------------------------------------------------------------------------


def test_a_machine_without_slurm_and_a_controller_that_is_dead_are_told_apart(site, monkeypatch):
    later = {"job_extra_directives": ["--begin=now+1hour"]}
    with open_cluster(slurm_config(site, options=later)) as cluster:
        future = cluster.client.submit(where, pure=False)
        wait_until(lambda: "BeginTime" in site.squeue("%r"))
        site.kill_daemon("slurmctld")
        try:
            with within_a_minute(), pytest.raises(ClusterError) as error:
                wait_for(future)
        finally:
            site.start_controller()
            wait_until(lambda: site.node_states())
    assert "SLURM does not answer, and there is no worker" in str(error.value)
    assert "Unable to contact slurm controller" in str(error.value)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingError, match="no client of SLURM"):
        jobs_under_way()
    monkeypatch.undo()  # the queue is asked when the test ends


def test_jobs_that_no_walltime_is_long_enough_for_are_given_up(site, tmp_path, monkeypatch):
    """Three times they are done anew elsewhere."""
    run = make_run(tmp_path / "night", seconds=0.0)
    monkeypatch.setenv("MUSEDASK_ESOREX", str(run.stub / "esorex"))
    # Far longer than SLURM takes to end a job; not so long that a mistake here stops all tests.
    run.behave(seconds=300, only=["muse_bias"])
    with expiring(site) as last_seen:
        report = run.reduce()
        now = time.monotonic()
    assert now - max(last_seen.values()) < MINUTE_S
    failed = [outcome.reason for job, outcome in report.failed if job.recipe == "muse_bias"]
    assert len(failed) == 2
    for reason in failed:
        assert "its worker died 3 times" in reason
        assert "TIMEOUT (TimeLimit)" in reason
        assert "give a longer walltime in [cluster.options]" in reason
    assert [call["recipe"] for call in run.calls()] == ["muse_bias"] * 6
    assert len(last_seen) == 6


@contextmanager
def expiring(site: SlurmSite) -> Iterator[dict[str, float]]:
    """Let the walltime of each job be over once esorex works in it.

    Gives the job -> when it was there last.
    """
    over, last_seen = threading.Event(), dict[str, float]()

    def look_on() -> None:
        while not over.wait(0.3):
            with suppress(AssertionError, NoSuchProcess, TimeoutExpired):  # it has ended meanwhile
                for job in site.squeue("%A", "--states=RUNNING"):
                    if job in last_seen:
                        last_seen[job] = time.monotonic()
                    elif any("muse_bias" in one.cmdline() for one in processes_of(job)):
                        site.expire(job)
                        last_seen[job] = time.monotonic()

    thread = threading.Thread(target=look_on, daemon=True)
    thread.start()
    try:
        yield last_seen
    finally:
        over.set()
        thread.join()
