"""How long it takes to give up on SLURM at the most, on a clock of the test's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from musedask.cluster import fleet as module
from musedask.cluster.commands import ANSWER_S
from musedask.cluster.fleet import LATER_S, Fleet
from musedask.cluster.queue import JobState
from musedask.errors import ClusterError

MINUTE_S = 60.0
DEAD_S = 10.0
"""So long squeue takes to find that there is no controller."""


class Clock:
    """Time that passes only when somebody waits; and the event by which the fleet does."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.end = self.now + 1000.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.now > self.end

    def is_set(self) -> bool:
        return False


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def watched(clock: Clock, jobs: dict[str, SimpleNamespace], workers=()) -> Fleet:
    """A fleet that has had nothing new to see for long."""
    scheduler = SimpleNamespace(
        workers={n: SimpleNamespace(name=n) for n in workers},
        tasks={"t": SimpleNamespace(state="")},
    )
    cluster = SimpleNamespace(
        workers=jobs, scheduler=scheduler, scale=lambda jobs: None, worker_spec=jobs, job_name="m"
    )
    return Fleet(cluster, 1, Path("/logs"), _pause=LATER_S, _over=clock)


def pending(reason):
    return {"7": JobState("7", "PENDING", reason)}


ONE_JOB = {"a": SimpleNamespace(job_id="7", refusal="")}


def silent(clock, seconds):
    def ask():
        clock.now += seconds
        raise ClusterError("squeue: Unable to contact slurm controller")

    return ask


@pytest.mark.parametrize("seconds", [0.0, DEAD_S, ANSWER_S])
def test_a_controller_that_dies_or_hangs_is_given_up_within_a_minute(clock, monkeypatch, seconds):
    monkeypatch.setattr(module, "jobs_under_way", silent(clock, seconds))
    one, begin = watched(clock, ONE_JOB), clock.now
    one._look_on()
    assert "does not answer" in str(one.trouble)
    assert clock.now - begin <= MINUTE_S


def test_a_controller_that_is_started_anew_is_not(clock, monkeypatch):
    asked = []

    def ask():
        asked.append(clock.now)
        if len(asked) % 2:
            silent(clock, DEAD_S)()
        return pending("Priority")

    monkeypatch.setattr(module, "jobs_under_way", ask)
    one = watched(clock, ONE_JOB)
    one._look_on()
    assert len(asked) > 10
    assert one.trouble is None


def test_while_there_are_workers_a_silent_controller_does_no_harm(clock, monkeypatch):
    monkeypatch.setattr(module, "jobs_under_way", silent(clock, DEAD_S))
    one = watched(clock, ONE_JOB, workers=["a"])
    one._look_on()
    assert one.trouble is None


@pytest.mark.parametrize(("reason", "stops"), [("PartitionDown", True), ("Priority", False)])
def test_a_reason_that_never_ends_is_given_up_within_a_minute(clock, monkeypatch, reason, stops):
    monkeypatch.setattr(module, "jobs_under_way", lambda: pending(reason))
    one, begin = watched(clock, ONE_JOB), clock.now
    one._look_on()
    assert (one.trouble is not None) == stops
    if stops:
        assert f"PENDING ({reason})" in str(one.trouble)
        assert clock.now - begin <= MINUTE_S
