"""Jobs run in processes of their own, in turn, and only what is right counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import runner
from benchmarks.jobs import DataSpec, Job
from benchmarks.records import COUNTED, FAILED, UNAVAILABLE, WRONG, read_records
from benchmarks.runner import Settings, measure, run_cases, sweep

ROOT = Path(__file__).parent.parent


def stand_in(name: str, data: DataSpec | None = None, **options) -> Job:
    return Job("case", f"stand_in_peers:{name}", name, data, options)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    (tmp_path / "work").mkdir()
    return Settings("stacking", "tiny", tmp_path / "work", tmp_path / "out", repeats=2)


def test_time_memory_and_bytes_are_those_of_the_timed_part(settings):
    record = measure(stand_in("busy", DataSpec(2, 4, 24)), 0, settings)
    assert record.state == COUNTED, record.reason
    assert 0.3 <= record.cpu_s < 3
    assert record.wall_s >= 0.3
    assert record.compile_s >= 0.2
    assert 200 << 20 < record.peak_rss < 500 << 20
    assert record.traffic["asked_written"] >= 5_000_000
    assert record.metrics == {"answer": 42.0}
    assert (record.cache, record.cached_share) == ("warm", 1.0)
    assert record.n_voxels == 1000
    assert record.versions["numpy"]
    assert record.late == ()
    assert not list(settings.work.glob("job-*"))


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("wrong", WRONG, "100 times what is allowed"),
        ("missing", UNAVAILABLE, "this program is not installed"),
        ("failing", FAILED, "a peer's own error"),
        ("killed", FAILED, "status -9"),
        ("nowhere", FAILED, "nowhere"),
    ],
)
def test_what_does_not_count_says_why(name, state, reason, settings):
    record = measure(stand_in(name), 0, settings)
    assert record.state == state
    assert reason in record.reason
    assert not record.counts


def test_what_new_memory_cost_stands_with_the_machine(settings):
    told = {"touched_gib": 2.0, "touch_s_per_gib": 1.5}
    record = measure(stand_in("quick"), 0, replace(settings, memory=told))
    assert record.machine.items() >= told.items()
    assert record.machine["cores"] > 0


def test_a_job_that_takes_too_long_is_ended(settings):
    before = set(psutil.Process().children())
    record = measure(stand_in("sleeping"), 0, replace(settings, timeout_s=4.0))
    assert record.state == FAILED
    assert "longer than 4 s" in record.reason
    assert set(psutil.Process().children()) <= before


def test_what_a_killed_run_has_left_is_removed_and_what_another_needs_is_not(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, needed = f"job-{gone.pid}-abc", f"job-{os.getpid()}-abc"
    for name in (left, needed, "exposures", "job-notes-abc"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{left}.log").touch()
    sweep(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {needed, "exposures", "job-notes-abc"}


def test_jobs_take_turns_and_what_does_not_count_is_not_run_again(settings):
    once = Job("case", "stand_in_peers:quick", "once", options={"once": True})
    again = Job("case", "stand_in_peers:quick", "again")
    jobs = (stand_in("quick"), stand_in("missing"), once, again)
    said: list[str] = []
    records = run_cases([jobs], settings, said.append)
    assert not any(line.startswith("code") for line in said)  # none of them is musedask
    order = [(record.repeat, record.job.label) for record in records]
    first = [(0, "quick"), (0, "missing"), (0, "once"), (0, "again")]
    assert order == [*first, (1, "again"), (1, "quick")]
    assert [r.to_json() for r in read_records(settings.output)] == [r.to_json() for r in records]
    assert len(said) == 6
    assert "this program is not installed" in said[1]


def test_what_takes_long_is_not_measured_again(settings):
    jobs = (stand_in("quick"), stand_in("busy", DataSpec(2, 4, 24)))
    records = run_cases([jobs], replace(settings, long_s=0.25), lambda _: None)
    assert [(r.repeat, r.job.label) for r in records] == [(0, "quick"), (0, "busy"), (1, "quick")]
    assert all(r.counts for r in records)


@pytest.mark.parametrize(
    ("peer", "is_far_off"), [("musedask", False), ("floor-read", False), ("mpdaf-median", True)]
)
def test_musedask_and_the_floors_are_measured_however_long_they_take(settings, peer, is_far_off):
    (record,) = run_cases([[stand_in("quick")]], replace(settings, repeats=1), lambda _: None)
    long = replace(record, job=replace(record.job, peer=peer), wall_s=20.0)
    assert runner._is_far_off(long, replace(settings, long_s=5.0)) == is_far_off
    assert not runner._is_far_off(long, replace(settings, long_s=50.0))


def test_the_command_measures_checks_and_reports(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "stacking", "--size", "tiny", "--peers",
         "reference,mpdaf", "--no-touch", "--work", tmp_path / "work", "-o", tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    records = read_records(tmp_path / "out")
    states = {record.job.label: record.state for record in records}
    assert states.keys() == {"musedask", "mpdaf-median", "mpdaf-combine", "mpdaf-pycombine", "reference"}  # fmt: skip # noqa: E501
    # fitsio, which one of mpdaf's needs, is not needed by the tests.
    assert states.pop("mpdaf-pycombine") in (COUNTED, UNAVAILABLE)
    assert set(states.values()) == {COUNTED}
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| mpdaf-median" in page
    assert (tmp_path / "out" / "peers_tiny.png").exists()
    for line in next((tmp_path / "out").glob("*.jsonl")).read_text().splitlines():
        assert json.loads(line)["comparison"] or json.loads(line)["state"] == UNAVAILABLE


def test_a_peer_that_is_not_known_is_told_before_anything_runs(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "stacking", "--size", "tiny", "--peers", "mpdav",
         "--work", tmp_path / "work"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "mpdav" in run.stderr
    assert "mpdaf-median" in run.stderr
