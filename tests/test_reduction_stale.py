"""What was finished and would be made otherwise now: by exposure and stage, with the reason."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from finished_jobs import a_record

from musedask.reduction.job.record import record_text
from musedask.reduction.jobs import FileInput, Job, Plan, ProductInput
from musedask.reduction.running.outcome import Outcome
from musedask.reduction.running.plan_file import write_plan
from musedask.reduction.running.stale import (
    EXPOSURES_SHOWN,
    Stale,
    changed_files,
    made_of,
    stale_jobs,
    stale_text,
)
from musedask.reduction.running.status import status_of
from musedask.run import init_run

DATE = "2020-01-01T00:00:00.000"


def raw(folder, name):
    """A raw frame that is there, and its identity."""
    path = folder / f"{name}.fits"
    path.write_bytes(name.encode())
    status = path.stat()
    return FileInput("OBJECT", str(path), f"{status.st_size}-{status.st_mtime_ns}-abc")


def basic(item, ifu=1, date=DATE):
    return Job(recipe="muse_scibasic", stage="scibasic", ifu=ifu, frames=(date,), inputs=(item,),
               parameters=(("nifu", str(ifu)),), title=f"scibasic {date} IFU {ifu}")  # fmt: skip


def post(*needs):
    inputs = tuple(ProductInput("PIXTABLE_OBJECT", job.key) for job in needs)
    return Job(recipe="muse_scipost", stage="scipost", inputs=inputs, frames=needs[0].frames,
               title="scipost")  # fmt: skip


def finish(run, job, **changed):
    """Let a job be finished, without products."""
    folder = run.products / job.folder
    folder.mkdir(parents=True)
    record = a_record(folder, job.recipe, stage=job.stage, ifu=job.ifu, frames=job.frames)
    (folder / "job.json").write_text(record_text(replace(record, **changed)))


@pytest.fixture
def run(tmp_path):
    return init_run(tmp_path / "night")


def planned(run, *jobs):
    plan = Plan(jobs)
    write_plan(plan, run.state / "plan.json")
    return plan


def line_of(status, word=f"  {DATE}"):
    (line,) = [line for line in str(status).splitlines() if line.startswith(word)][:1]
    return line


def test_an_exposure_that_was_done_with_other_parameters_is_stale_and_not_waiting(run, tmp_path):
    now = basic(raw(tmp_path, "a"))
    before = replace(now, parameters=(*now.parameters, ("crop", "TRUE")))
    other = replace(now, ifu=2, parameters=(("nifu", "2"),))
    planned(run, now, post(now), replace(other, frames=("2020-01-02T00:00:00.000",)))
    finish(run, before)
    status = status_of(run)
    assert [one.folder for one in status.stale] == [before.folder]
    assert line_of(status) == f"  {DATE}  scibasic stale, scipost waiting"
    assert "scibasic waiting" in line_of(status, "  2020-01-02")
    assert "1 stale job: finished with other frames" in str(status)
    assert str(status).endswith(f"  {DATE}  scibasic 1")
    finish(run, now)
    assert line_of(status_of(run)) == f"  {DATE}  scibasic done, scipost waiting"


def test_what_is_made_of_a_changed_frame_is_stale(run, tmp_path):
    one, two = basic(raw(tmp_path, "a")), basic(raw(tmp_path, "b"), ifu=2)
    last = post(one, two)
    planned(run, one, two, last)
    for job in (one, two, last):
        finish(run, job)
    assert "stale" not in str(status_of(run))
    path = two.inputs[0].path
    os.utime(path, ns=(1, 1))
    status = status_of(run)
    assert line_of(status) == f"  {DATE}  scibasic stale (1 of 2 done), scipost stale"
    assert f"{path} changed since the last reduction: 2 finished jobs will be made anew" in str(
        status
    )
    os.unlink(path)
    assert "stale" not in str(status_of(run))


def test_a_configuration_that_is_newer_than_the_plan_is_told(run, tmp_path):
    planned(run, basic(raw(tmp_path, "a")))
    os.utime(run.folder / "musedask.toml", ns=(1, 1))
    assert "was changed" not in str(status_of(run))
    os.utime(run.folder / "musedask.toml")
    os.utime(run.state / "plan.json", ns=(1, 1))
    assert "musedask.toml was changed after the last reduction was planned" in str(status_of(run))


def test_a_changed_file_concerns_what_follows_from_it_and_nothing_else(tmp_path):
    one, two = basic(raw(tmp_path, "a")), basic(raw(tmp_path, "b"), ifu=2)
    plan = Plan((one, two, post(one), post(two)))
    assert changed_files(plan) == ()
    (tmp_path / "a.fits").write_bytes(b"longer than before")
    assert changed_files(plan) == (str(tmp_path / "a.fits"),)
    assert made_of(plan, changed_files(plan)) == {one.key, post(one).key}
    assert made_of(plan, ()) == frozenset()


def test_jobs_of_the_plan_and_unfinished_ones_are_not_stale(run, tmp_path):
    one, two = basic(raw(tmp_path, "a")), basic(raw(tmp_path, "b"))
    earlier = basic(raw(tmp_path, "c"))
    finish(run, one)
    finish(run, earlier)
    (run.products / two.folder).mkdir()
    (run.products / two.folder / "job.json").write_text("{}")
    assert stale_jobs(run.products, Plan((one,), earlier=(earlier,))) == ()
    assert [one.place for one in stale_jobs(run.products, Plan((earlier,)))] == [
        ("scibasic", (DATE,), 1)
    ]


def test_stale_jobs_are_told_by_exposure_and_stage():
    dates = [f"2020-01-{n:02d}" for n in range(1, EXPOSURES_SHOWN + 3)]
    stale = [Stale("a", "flat", (), 1), Stale("b", "bias", (), 1), Stale("c", "bias", (), 2),
             Stale("d", "align", tuple(dates[:3]), None)]  # fmt: skip
    assert stale_text(stale).splitlines()[1:] == [
        "  2020-01-01 and 2 more  align 1",
        "  calibrations           bias 2, flat 1",
    ]
    many = stale_text([Stale("a", "scipost", (date,), None) for date in dates])
    assert many.endswith("  2020-01-20  scipost 1\n  and of 2 more exposures")
    assert stale_text([]) == ""


def test_a_blocked_job_stays_blocked_whatever_was_made_before(run, tmp_path):
    now = basic(raw(tmp_path, "a"))
    plan = planned(run, now)
    finish(run, replace(now, parameters=()))
    status = replace(
        status_of(run), plan=plan, outcomes={now.key: Outcome(key=now.key, state="failed")}
    )
    assert "scibasic failed" in line_of(status)
