"""How far a plan is and how long it takes; plans and notes on disk; texts for people."""

from __future__ import annotations

import json
import math
import os
import socket
from dataclasses import asdict, replace

import pytest
from fake_jobs import diamond, fake_job, keys
from hypothesis import given
from hypothesis import strategies as st

from musedask.cli.showing import _Lines, _table, headline
from musedask.errors import FileError, InputError
from musedask.reduction.jobs import FileInput, Job, MadeInput, Plan, ProductInput
from musedask.reduction.recipes import recipe_of
from musedask.reduction.running.following import Count, Durations, Follower, snapshot, time_left
from musedask.reduction.running.notes import Notes, Running
from musedask.reduction.running.outcome import Outcome
from musedask.reduction.running.plan_file import read_plan, write_plan
from musedask.reduction.running.report import ReductionReport, count_table
from musedask.reduction.running.status import _is_alive
from musedask.reduction.running.walltime import walltime_note
from musedask.run import Holder


def running(job, since=0.0, **rest):
    given = {"session": "s", "host": socket.gethostname(), "pid": os.getpid(), "lost": 0}
    return Running(key=job.key, since=since, **(given | rest))


def outcome(job, state, **rest):
    return Outcome(key=job.key, state=state, **rest)


# --- time --------------------------------------------------------------------------------------


def test_the_time_left_is_that_of_the_longest_chain_or_of_all_work_by_all_workers():
    jobs = tuple(diamond())
    seconds = {"bias": 1.0, "left": 10.0, "right": 2.0, "end": 4.0, "apart": 3.0}

    def taking(job):
        return seconds[job.title]

    assert time_left(jobs, taking, 1) == 20.0
    assert time_left(jobs, taking, 100) == 15.0
    assert time_left(jobs, taking, 0) == 20.0
    at_work = {keys(jobs)["left"]: 4.0}
    assert time_left(jobs[1:], taking, 100, at_work) == 10.0
    # What takes longer than it should is taken to need a tenth more.
    assert time_left(jobs[1:], taking, 100, {keys(jobs)["left"]: 400.0}) == 44.0
    assert time_left((), taking, 2) == 0.0


def test_a_job_takes_what_others_of_its_recipe_and_stage_took():
    job = fake_job("job")
    other = fake_job("other", recipe="muse_scipost", stage="final")
    durations = Durations()
    assert durations(job) == recipe_of("muse_bias").seconds(job)
    for seconds in (3.0, 100.0, 4.0, 0.0):
        durations.add(job, seconds)
    assert durations(job) == 4.0
    durations.add(job, 6.0)
    assert durations(job) == 5.0
    durations.add(other, 50.0)
    assert durations(replace(other, stage="scipost")) == recipe_of("muse_scipost").seconds(other)
    assert durations.by_recipe == {"muse_bias": 5.0, "muse_scipost": 50.0}


def test_a_job_longer_than_a_worker_lasts_is_refused_if_that_is_known_and_else_told():
    job = fake_job("job")
    durations = Durations()
    expected = recipe_of("muse_bias").seconds(job)
    assert walltime_note([job], durations, expected) == ""
    assert walltime_note([], durations, 1.0) == ""
    assert "job takes about" in walltime_note([job], durations, expected / 2)
    durations.add(job, 50.0)
    assert walltime_note([job], durations, 50.0) == ""
    with pytest.raises(InputError, match=r"job takes about 50\.0 s.*walltime is 49\.0 s"):
        walltime_note([job], durations, 49.0)


# --- counts ------------------------------------------------------------------------------------


def test_a_snapshot_counts_each_job_once(monkeypatch):
    monkeypatch.setattr("musedask.reduction.running.following.time.time", lambda: 100.0)
    bias, left, right, end, apart = diamond()
    outcomes = {
        one.key: one
        for one in (outcome(bias, "before"), outcome(left, "failed", reason="too dark"),
                    outcome(end, "blocked", by=left.key))
    }  # fmt: skip
    at_work = [running(right, 90.0), running(bias, 1.0), running(fake_job("other"), 1.0)]
    now = snapshot(tuple(diamond()), outcomes, at_work, lambda _: 30.0, 2)
    assert now.counts == {
        "muse_bias": Count(total=5, before=1, running=1, failed=1, blocked=1),
    }  # fmt: skip
    assert now.counts["muse_bias"].waiting == 1
    assert now.running == (("right", 10.0),)
    assert now.failed == (("left", "too dark"),)
    assert now.seconds_left == 30.0
    assert apart.key not in outcomes
    assert headline(now) == "1 of 5 jobs done, 1 running, 1 failed, 1 blocked, 0:30 left"


def test_jobs_that_were_stopped_wait():
    job = fake_job("job")
    now = snapshot((job,), {job.key: outcome(job, "stopped")}, (), lambda _: 1.0, 1)
    assert now.sum.waiting == 1


def test_a_follower_shows_not_too_often_and_the_end_always(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("musedask.reduction.running.following.time.monotonic", lambda: clock[0])
    jobs = [fake_job(f"job{n}") for n in range(100)]
    shown = []
    follower = Follower(jobs, {}, Notes(tmp_path), Durations(), 1, shown.append)
    for job in jobs:
        clock[0] += 0.1
        follower.ended(outcome(job, "done"))
    assert len(shown) <= 22
    assert shown[-1].sum.finished == 100


def test_lines_for_a_log_file_are_few_and_name_each_failure_once(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("musedask.cli.showing.time.monotonic", lambda: clock[0])
    jobs = [fake_job(f"job{n}") for n in range(100)]
    lines, outcomes = _Lines(), {}
    for n, job in enumerate(jobs):
        outcomes[job.key] = outcome(job, "failed" if n == 7 else "done", reason="too dark")
        lines(snapshot(jobs, outcomes, (), lambda _: 1.0, 1))
    err = capsys.readouterr().err.splitlines()
    assert err.count("failed: job7: too dark") == 1
    assert len(err) <= 12
    clock[0] += 61.0
    lines(snapshot(jobs, outcomes, (), lambda _: 1.0, 1))
    assert capsys.readouterr().err == "99 of 100 jobs done, 0 running, 1 failed\n"


def test_the_live_table_has_a_row_for_each_recipe_and_for_what_runs():
    jobs = [fake_job("one"), fake_job("two", recipe="muse_flat", stage="flat")]
    now = snapshot(jobs, {}, [running(jobs[0])], lambda _: math.nan, 1)
    table = _table(now)
    assert list(table.columns[0].cells) == ["muse_bias", "muse_flat", "  one"]
    assert headline(now) == "0 of 2 jobs done, 1 running"


def test_a_table_leaves_out_what_is_nothing():
    text = count_table({"muse_bias": Count(total=12, done=2), "muse_flat": Count(total=3)})
    assert text.splitlines() == [
        "recipe     jobs  done  waiting",
        "muse_bias    12     2       10",
        "muse_flat     3     -        3",
    ]


def test_a_report_is_good_only_if_nothing_failed_and_nothing_waits_for_it(tmp_path):
    job = fake_job("job")
    for state, ok in (("done", True), ("before", True), ("failed", False), ("blocked", False)):
        report = ReductionReport(
            folder=tmp_path, jobs=(job,), outcomes={job.key: outcome(job, state)}, counts={}
        )
        assert report.ok == ok
        assert len(report.failed) == (state == "failed")


# --- on disk -----------------------------------------------------------------------------------

texts = st.text(max_size=8)
# Recipes and tags become parts of paths: read_plan takes names only.
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,7}", fullmatch=True)
inputs = st.one_of(
    st.builds(FileInput, texts, texts, texts),
    st.builds(MadeInput, names, texts, texts),
    st.builds(ProductInput, texts, texts, texts, st.booleans(), texts),
)
jobs = st.builds(
    Job, recipe=names, stage=st.just("flat"),
    inputs=st.lists(inputs, min_size=1, max_size=3).map(tuple),
    parameters=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    ifu=st.none() | st.integers(1, 24), ifus=st.lists(st.integers(1, 24), max_size=2).map(tuple),
    version=texts, products=st.lists(texts, max_size=2).map(tuple), title=texts,
    frames=st.lists(texts, max_size=2).map(tuple), reasons=st.lists(texts, max_size=2).map(tuple),
)  # fmt: skip


@given(jobs, texts)
def test_a_plan_on_disk_is_the_plan(tmp_path_factory, job, note):
    # What a job needs has to be in the plan.
    makers = tuple(fake_job(f"maker {need}") for need in job.needs)
    renamed = {need: maker.key for need, maker in zip(job.needs, makers, strict=True)}
    job = replace(
        job,
        inputs=tuple(
            replace(item, job=renamed[item.job]) if isinstance(item, ProductInput) else item
            for item in job.inputs
        ),
    )
    plan = Plan((job,), (note,), makers)
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    write_plan(plan, path)
    again = read_plan(path)
    assert asdict(again) == asdict(plan)
    assert again.jobs[0].key == job.key


@pytest.mark.parametrize("change", [{"recipe": "../muse_bias"}, {"inputs": "../../BIAS"}])
def test_a_plan_whose_names_would_lead_out_of_the_run_is_refused(tmp_path, change):
    made = (MadeInput(change.get("inputs", "OUTPUT_WCS"), "header", ""),)
    job = replace(fake_job("job"), inputs=made, recipe=change.get("recipe", "muse_bias"))
    path = tmp_path / "plan.json"
    write_plan(Plan((job,), (), ()), path)
    with pytest.raises(FileError, match=r"is no recipe|is no tag"):
        read_plan(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "jobs": [{}]}'])
def test_a_broken_plan_on_disk_is_named(tmp_path, text):
    path = tmp_path / "plan.json"
    assert read_plan(path) is None
    path.write_text(text)
    with pytest.raises(FileError, match=r"plan\.json: is no plan"):
        read_plan(path)
    path.write_text(json.dumps({"format": 1000}))
    assert read_plan(path) is None


def test_broken_notes_are_no_notes(tmp_path):
    notes, job = Notes(tmp_path), fake_job("job")
    notes.begin(job.key, "s")
    notes.failed(outcome(job, "failed", reason="too dark"), lasting=1)
    assert [one.key for one in notes.running()] == [job.key]
    assert notes.failures()[job.key][1] == 1
    for path in tmp_path.glob("*/*.json"):
        path.write_text("{")
    assert notes.running() == ()
    assert notes.failures() == {}
    assert notes.begin(job.key, "s").lost == 0
    notes.end(job.key)
    notes.end(job.key)
    notes.forget(job.key)
    assert not list(tmp_path.glob("*/*.json"))


def test_what_the_dead_began_does_not_run():
    holder = Holder(socket.gethostname(), os.getpid(), "s", 0.0)
    one = running(fake_job("job"))
    assert _is_alive(one, holder)
    assert not _is_alive(one, None)
    assert not _is_alive(replace(one, session="before"), holder)
    assert not _is_alive(replace(one, pid=2**22 - 1), holder)
    assert _is_alive(replace(one, pid=2**22 - 1, host="elsewhere"), holder)
