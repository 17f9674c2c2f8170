"""The longest chain of jobs: of what is left, and of what was done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_jobs import diamond
from finished_jobs import a_record

from musedask.reduction.job.record import record_text
from musedask.reduction.running.plan_file import write_plan
from musedask.reduction.running.status import status_of
from musedask.run import init_run

TOOK = {"bias": 10.0, "left": 70.0, "right": 20.0, "end": 5.0, "apart": 80.0}


@pytest.fixture
def run(tmp_path):
    found = init_run(tmp_path / "night")
    write_plan(diamond(), found.state / "plan.json")
    return found


def finish(run, *titles):
    for job in diamond():
        if job.title in titles:
            folder = run.products / job.folder
            folder.mkdir(parents=True)
            record = a_record(folder, job.recipe, stage=job.stage, ifu=job.ifu, frames=job.frames)
            (folder / "job.json").write_text(record_text(replace(record, wall_s=TOOK[job.title])))


def chain(run):
    text = str(status_of(run))
    return text[text.index("longest chain") :].split("\n\n")[0].splitlines()


def test_what_is_left_is_told_by_what_such_jobs_took(run):
    finish(run, "bias", "apart")
    # No job of this recipe but these two: half of 90 s each.
    assert chain(run)[0] == "longest chain, 1 min 30 s"
    assert chain(run)[1:] in (["  left, 45.0 s", "  end, 45.0 s"],
                              ["  right, 45.0 s", "  end, 45.0 s"])  # fmt: skip


def test_what_was_done_is_told_by_what_each_job_took(run):
    finish(run, *TOOK)
    assert chain(run) == [
        "longest chain of all that was done, 1 min 25 s",
        "  bias, 10.0 s", "  left, 1 min 10 s", "  end, 5.0 s",
    ]  # fmt: skip
