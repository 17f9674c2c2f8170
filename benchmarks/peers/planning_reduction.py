"""What planning a reduction takes: reading all headers, the plan, the graph of its tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dask.base import collections_to_expr

from benchmarks.jobs import Comparison, Job, Place, Prepared
from benchmarks.reduction.nights import NightSpec, frames_of
from benchmarks.reduction.preparing import check_installed, kept_night, make_run
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.job.run import run_job
from musedask.reduction.jobs import Plan
from musedask.reduction.planning.schedule import priorities
from musedask.reduction.running.attempt import Work
from musedask.reduction.running.graph import Task, build
from musedask.reduction.running.material import read_material
from musedask.reduction.running.notes import Notes
from musedask.run import Run


@dataclass(frozen=True)
class _Planned:
    """A plan, its graph, and what they took."""

    plan: Plan
    graph: Any
    scan_s: float
    plan_s: float
    graph_s: float


def plan_from_headers(job: Job, place: Place) -> Prepared:
    """Read all headers for the first time, plan, and make the graph; nothing is reduced."""
    check_installed()
    spec = NightSpec.from_options(job.options)
    night = kept_night(spec, place.stores)
    run = make_run(place.scratch / "run", night, spec)

    def timed() -> _Planned:
        times = [time.perf_counter()]
        material = read_material(run)
        times.append(time.perf_counter())
        plan = material.plan()
        times.append(time.perf_counter())
        tasks = list(build(_tasks(plan, run), {}).values())
        graph = collections_to_expr(tasks, optimize_graph=False)
        times.append(time.perf_counter())
        return _Planned(plan, graph, *(after - before for before, after in pairwise(times)))

    def compare(made: _Planned) -> Comparison:
        right = len(made.plan) == spec.n_jobs
        return Comparison(
            len(made.plan), 0.0 if right else float("inf"), f"{spec.n_jobs} jobs", "a count by hand"
        )

    n_files = float(len(frames_of(night)))
    return Prepared(timed, compare, 0, metrics=lambda made: {"files": n_files, **_metrics(made)})


def _tasks(plan: Plan, run: Run) -> list[Task]:
    """Tasks as a reduction makes them."""
    urgency = priorities(plan.jobs)
    folders, notes = RunFolders(run.products, run.scratch), Notes(run.state)
    return [
        Task(
            work=Work(job=job, folders=folders, notes=notes, session="", attempts=2, run=run_job),
            priority=urgency[job.key],
            attempt=1,
        )
        for job in plan
    ]


def _metrics(made: _Planned) -> dict[str, float]:
    return {
        "jobs": float(len(made.plan)),
        "tasks": float(len(made.graph.__dask_graph__())),
        "scan_s": made.scan_s,
        "plan_s": made.plan_s,
        "graph_s": made.graph_s,
    }
