"""A plan as Dask tasks: each job once, in order, failures alone, attempts counted on disk."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from fake_jobs import FakeEsorex, diamond, fake_job, keys
from hypothesis import given
from hypothesis import strategies as st

from musedask.cluster import GIB, Cluster, open_cluster
from musedask.config import ClusterConfig
from musedask.reduction.jobs import Plan
from musedask.reduction.running import carrying
from musedask.reduction.running.attempt import LOST_AT_MOST, Work, do
from musedask.reduction.running.graph import Task, build, execute, settled
from musedask.reduction.running.memory import MemoryGate
from musedask.reduction.running.notes import Notes
from musedask.reduction.running.outcome import Outcome


@pytest.fixture(scope="module")
def client():
    with open_cluster(ClusterConfig(workers=2)) as cluster:
        yield cluster.client


@pytest.fixture
def esorex(tmp_path):
    return FakeEsorex(str(tmp_path))


def work_of(job, esorex, **rest):
    notes = Notes(Path(esorex.folder, "notes"))
    return Work(
        job=job, folders=None, notes=notes, session=rest.pop("session", "s1"),
        attempts=rest.pop("attempts", 2), run=esorex, **rest,
    )  # fmt: skip


def tasks_of(jobs, esorex, **rest):
    return [Task(work=work_of(job, esorex, **rest), priority=0.0, attempt=1) for job in jobs]


def states(plan, outcomes):
    return {job.title: outcomes[job.key].state for job in plan}


def test_the_graph_has_one_task_a_job_and_names_that_tell_the_job_and_the_attempt(esorex):
    plan = diamond()
    graph = build(tasks_of(plan, esorex), {})
    tasks = {name for one in graph.values() for name in one.__dask_graph__()}
    assert tasks == {f"muse_bias-{job.key}-1" for job in plan}
    again = build(tasks_of(plan, esorex), {})
    assert [one.key for one in again.values()] == [one.key for one in graph.values()]
    third = build([replace(task, attempt=3) for task in tasks_of(plan, esorex)], {})
    assert {one.key for one in third.values()}.isdisjoint(tasks)
    assert esorex.calls() == []


def test_each_job_runs_once_and_after_those_that_it_needs(client, esorex):
    plan, told = diamond(), []
    found = execute(tasks_of(plan, esorex), {}, client, told.append)
    assert states(plan, found) == dict.fromkeys(("bias", "left", "right", "end", "apart"), "done")
    calls = {call["title"]: call for call in esorex.calls()}
    assert len(esorex.calls()) == len(calls) == 5
    assert calls["bias"]["ended"] <= min(calls["left"]["begun"], calls["right"]["begun"])
    assert max(calls["left"]["ended"], calls["right"]["ended"]) <= calls["end"]["begun"]
    assert sorted(one.key for one in told if one is not None) == sorted(found)
    assert found[keys(plan)["end"]].warnings == ("end creaks",)


def test_a_failed_job_fails_alone_and_names_itself_to_whom_it_blocks(client, esorex):
    plan = diamond()
    esorex.break_job("left")
    found = execute(tasks_of(plan, esorex), {}, client, lambda _: None)
    assert states(plan, found) == {
        "bias": "done", "left": "failed", "right": "done", "end": "blocked", "apart": "done",
    }  # fmt: skip
    failed, blocked = found[keys(plan)["left"]], found[keys(plan)["end"]]
    assert (failed.reason, failed.attempts, failed.log) == (
        "left is broken", 2, "/scratch/esorex.log",
    )  # fmt: skip
    assert blocked.by == failed.key
    assert [call["attempt"] for call in esorex.calls() if call["title"] == "left"] == [1, 2]
    assert "end" not in esorex.titles()


def test_whoever_is_blocked_by_the_blocked_is_blocked_by_the_failed_one():
    first = fake_job("first")
    second = fake_job("second", first)
    third = fake_job("third", second)
    failed = Outcome(key=first.key, state="failed")
    found = settled((first, second, third, fake_job("apart")), {first.key: failed})
    assert {key: (one.state, one.by) for key, one in found.items()} == {
        first.key: ("failed", ""),
        second.key: ("blocked", first.key),
        third.key: ("blocked", first.key),
    }


def test_an_attempt_that_succeeds_makes_the_failures_before_it_forgotten(client, esorex):
    plan = diamond()
    esorex.break_job("left", until=1)
    found = execute(tasks_of(plan, esorex), {}, client, lambda _: None)
    assert found[keys(plan)["left"]].state == "done"
    assert found[keys(plan)["left"]].attempts == 2
    assert Notes(Path(esorex.folder, "notes")).failures() == {}


def test_attempts_are_counted_over_reductions_and_leave_one_at_least(esorex):
    job = fake_job("job")
    esorex.break_job("job")
    first = do(work_of(job, esorex, attempts=2))
    assert (first.state, first.attempts) == ("failed", 2)
    # Who asks again gets one more attempt; whether to ask is the reduction's business.
    again = do(work_of(job, esorex, attempts=2, session="s2"))
    assert (again.state, again.attempts) == ("failed", 3)
    assert [call["attempt"] for call in esorex.calls()] == [1, 2, 3]
    (outcome, lasting), = Notes(Path(esorex.folder, "notes")).failures().values()  # fmt: skip
    assert (outcome, lasting) == (again, 3)


@pytest.mark.parametrize(("status", "lasting"), [(255, 2), (-9, 0), (-15, 0), (-11, 2), (1, 2)])
def test_what_somebody_else_did_to_esorex_is_not_held_against_the_job(esorex, status, lasting):
    job = fake_job("job")
    esorex.break_job("job", status=status)
    assert do(work_of(job, esorex)).attempts == 2
    assert Notes(Path(esorex.folder, "notes")).failure(job.key)[1] == lasting


def test_a_job_whose_time_was_up_is_not_tried_again_by_itself(esorex):
    job = fake_job("a")
    esorex.break_job("a", status=-9, timed_out=True)
    outcome = do(work_of(job, esorex, attempts=3, seconds=5.0))
    assert (outcome.state, outcome.timed_out, outcome.attempts) == ("failed", True, 1)
    assert [call["timeout_s"] for call in esorex.calls()] == [5.0]
    notes = Notes(Path(esorex.folder, "notes"))
    # As if it had failed as often as it may.
    assert notes.failure(job.key) == (outcome, 3)


def test_a_job_whose_process_dies_again_and_again_is_given_up_in_this_reduction_only(esorex):
    job = fake_job("job")
    work = work_of(job, esorex)
    for _ in range(LOST_AT_MOST):
        work.notes.begin(job.key, "s1")  # and never ends
    outcome = do(work)
    assert outcome.state == "failed"
    assert "died 3 times" in outcome.reason
    assert esorex.calls() == []
    for _ in range(LOST_AT_MOST):
        work.notes.begin(job.key, "s1")
    assert do(replace(work, session="s2")).state == "done"
    assert work.notes.running() == ()


def test_a_job_is_noted_as_running_while_it_runs_and_not_longer(client, esorex):
    job, seen = fake_job("job"), []
    notes = Notes(Path(esorex.folder, "notes"))
    slow = replace(esorex, seconds=2.2)
    execute(tasks_of([job], slow), {}, client, lambda _: seen.append(notes.running()))
    assert [one.key for one in seen[0]] == [job.key]
    assert seen[-1] == ()


def test_a_task_never_raises(esorex):
    def broken(*_, **__):
        raise SystemError("a slip")

    outcome = do(replace(work_of(fake_job("job"), esorex), run=broken))
    assert outcome.state == "failed"
    assert "a slip" in outcome.reason
    nowhere = replace(work_of(fake_job("job"), esorex), notes=Notes(Path("/dev/null/notes")))
    assert re.search(r"/dev/null/notes/.* cannot be written: Not a directory", do(nowhere).reason)


def test_urgent_jobs_run_first(esorex):
    jobs = [fake_job(f"job{n}") for n in range(12)]
    tasks = [
        replace(task, priority=float((7 * n) % 12))
        for n, task in enumerate(tasks_of(jobs, replace(esorex, seconds=0.02)))
    ]
    with open_cluster(ClusterConfig(workers=1)) as cluster:
        execute(tasks, {}, cluster.client, lambda _: None)
    order = [int(title[3:]) for title in esorex.titles()]
    wanted = sorted(range(12), key=lambda n: -((7 * n) % 12))
    # The worker may have taken one before it heard of the others.
    assert order[1:] == [n for n in wanted if n != order[0]]


def overlapping(calls):
    """Pairs of calls that ran at one time."""
    return [
        (one["title"], two["title"])
        for one in calls
        for two in calls
        if one["title"] < two["title"]
        and max(one["begun"], two["begun"]) < min(one["ended"], two["ended"])
    ]


@pytest.mark.parametrize(("memory", "together"), [(3, True), (6, False), (60, False)])
def test_jobs_that_do_not_fit_into_memory_together_do_not_run_together(
    client, esorex, tmp_path, memory, together
):
    gate = MemoryGate(tmp_path / "gate", 10)
    jobs = [fake_job(f"job{n}") for n in range(4)]
    slow = replace(esorex, seconds=0.1)
    found = execute(tasks_of(jobs, slow, memory=memory, gate=gate), {}, client, lambda _: None)
    assert {one.state for one in found.values()} == {"done"}
    assert bool(overlapping(esorex.calls())) == together
    assert gate.held() == 0
    assert list((tmp_path / "gate").glob("*.held")) == []


def test_memory_of_the_dead_is_free(tmp_path):
    gate = MemoryGate(tmp_path / "gate", 10)
    with gate.holding(4):
        assert gate.held() == 4
        (tmp_path / "gate" / "9-dead.held").touch()
        with gate.holding(6):
            assert gate.held() == 10
    assert not (tmp_path / "gate" / "9-dead.held").exists()


def test_workers_that_are_processes_do_the_same(esorex):
    plan = diamond()
    esorex.break_job("right")
    with open_cluster(ClusterConfig(kind="local", workers=2)) as cluster:
        found = execute(tasks_of(plan, esorex), {}, cluster.client, lambda _: None)
    assert states(plan, found) == {
        "bias": "done", "left": "done", "right": "failed", "end": "blocked", "apart": "done",
    }  # fmt: skip


@given(st.lists(st.sets(st.integers(0, 11), max_size=3), min_size=1, max_size=12), st.data())
def test_exactly_those_that_need_a_failed_job_are_blocked(edges, data):
    jobs = []
    for n, before in enumerate(edges):
        needs = [jobs[k] for k in sorted(before) if k < n]
        jobs.append(fake_job(f"job{n}", *needs))
    bad = data.draw(st.sets(st.sampled_from(range(len(jobs))), max_size=3))
    known = {jobs[n].key: Outcome(key=jobs[n].key, state="failed") for n in bad}
    found = settled(jobs, known)
    reached = {jobs[n].key for n in bad}
    for job in Plan(tuple(jobs)):
        if reached & set(job.needs):
            reached.add(job.key)
    assert set(found) == reached


@pytest.mark.parametrize(
    ("memory_gib", "workers", "threads"),
    [(1, 16, 1), (1, 4, 4), (24, 16, 12), (64, 16, 16), (2, 16, 1), (4, 16, 2)],
)
def test_a_job_has_the_cores_that_its_memory_leaves_to_nobody_else(
    monkeypatch, memory_gib, workers, threads
):
    monkeypatch.setattr(carrying, "cores", lambda: 16)
    cluster = Cluster("threads", None, workers, 32 * GIB)
    assert carrying._threads(cluster, memory_gib * GIB) == threads
    assert carrying._threads(replace(cluster, memory=None), memory_gib * GIB) == 1
