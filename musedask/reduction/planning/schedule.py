"""How long a plan takes on so many workers, and what to run first.

A worker runs one job at a time. Of the jobs that could start, the one of the
highest priority does; nothing waits for a better one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from musedask.errors import InputError
from musedask.reduction.jobs import Job, Plan
from musedask.reduction.recipes import recipe_of

Seconds = Callable[[Job], float]
"""How long a job takes, seconds."""
CALIBRATING = ("bias", "dark", "flat", "wavecal", "twilight")
"""Stages before the pixel tables of science: of several nights, they go night by night."""


@dataclass(frozen=True)
class Run:
    """One job in a schedule."""

    job: Job
    """The job."""
    worker: int
    """Number of the worker that it runs on, from 0."""
    start_s: float
    """Seconds from the beginning."""
    end_s: float
    """Seconds from the beginning."""


@dataclass(frozen=True)
class Schedule:
    """When each job of a plan runs."""

    runs: tuple[Run, ...]
    """In the order in which they start."""
    workers: int
    """Number of workers."""

    @cached_property
    def wall_s(self) -> float:
        """Time until the last job is done, seconds."""
        return max((run.end_s for run in self.runs), default=0.0)

    def busy_between(self, start_s: float, end_s: float) -> float:
        """Fraction of the workers' time that is used in an interval."""
        if not end_s > start_s:
            return 1.0
        used = sum(max(0.0, min(run.end_s, end_s) - max(run.start_s, start_s)) for run in self.runs)
        return used / (self.workers * (end_s - start_s))

    @property
    def busy_by_ifu(self) -> float:
        """Fraction of the workers' time used between the first and the last job of one IFU."""
        runs = [run for run in self.runs if run.job.ifu is not None]
        if not runs:
            return 1.0
        return self.busy_between(min(r.start_s for r in runs), max(r.end_s for r in runs))


def seconds_by_recipe(job: Job) -> float:
    """How long a job takes, by the table of the recipes."""
    return recipe_of(job.recipe).seconds(job)


def ranks(jobs: Iterable[Job], seconds_of: Seconds = seconds_by_recipe) -> Mapping[str, float]:
    """Seconds of the longest chain from the start of each job to the end.

    Parameters
    ----------
    jobs
        Jobs, each behind those that it needs (a plan, or what is left of one).
    seconds_of
        How long a job takes.

    Returns
    -------
    Mapping
        Key of a job -> seconds.
    """
    ordered = tuple(jobs)
    after: dict[str, float] = defaultdict(float)
    found: dict[str, float] = {}
    for job in reversed(ordered):
        found[job.key] = seconds_of(job) + after[job.key]
        for need in job.needs:
            after[need] = max(after[need], found[job.key])
    return found


def priorities(jobs: Iterable[Job], seconds_of: Seconds = seconds_by_recipe) -> Mapping[str, float]:
    """Which jobs go first: a higher number before a lower one.

    Among the calibrations those of the first night that is needed go first, so
    that its twilight (a single long job, which all pixel tables of the night wait
    for) runs beside the calibrations of the nights that follow, instead of all
    twilights at once after all the rest. Then the longest chain goes first.
    """
    ordered = tuple(jobs)
    rank = ranks(ordered, seconds_of)
    night = _first_exposures(ordered)
    # The number of the night in front, and the rank as a fraction behind.
    longest = 1.0 + max(rank.values(), default=0.0)
    number = {date: n for n, date in enumerate(sorted(set(night.values()), reverse=True), 1)}
    return {
        job.key: (number[night[job.key]] if job.stage in CALIBRATING else 0)
        + rank[job.key] / longest
        for job in ordered
    }


def _first_exposures(ordered: tuple[Job, ...]) -> Mapping[str, str]:
    """Key of a job -> DATE-OBS of the first exposure that needs it, over any other jobs."""
    last = "9999"
    found: dict[str, str] = {}
    for job in reversed(ordered):
        own = min((*job.frames, found.get(job.key, last)))
        found[job.key] = own
        for need in job.needs:
            found[need] = min(own, found.get(need, last))
    return found


def critical_path(plan: Plan, seconds_of: Seconds = seconds_by_recipe) -> tuple[Job, ...]:
    """The chain of jobs that takes longest: no number of workers makes a plan faster."""
    ends: dict[str, tuple[float, str]] = {}
    for job in plan:
        known = [(ends[need][0], need) for need in job.needs if need in ends]
        before, by = max(known, default=(0.0, ""))
        ends[job.key] = before + seconds_of(job), by
    path: list[Job] = []
    key = max(ends, key=lambda key: ends[key][0], default="")
    while key:
        path.append(plan.by_key[key])
        key = ends[key][1]
    return tuple(reversed(path))


def simulate_schedule(
    plan: Plan, workers: int, seconds_of: Seconds = seconds_by_recipe
) -> Schedule:
    """Play a plan through on a number of workers; runs nothing.

    Raises
    ------
    InputError
        If there is no worker.
    """
    if workers < 1:
        raise InputError(f"{workers} workers: at least 1")
    priority = priorities(plan, seconds_of)
    waiting_for, followers = _links(plan)
    ready = [(-priority[job.key], n, job) for n, job in enumerate(plan) if not waiting_for[job.key]]
    heapq.heapify(ready)
    order = {job.key: n for n, job in enumerate(plan)}
    idle, now = list(range(workers)), 0.0
    running: list[tuple[float, int, Run]] = []
    runs: list[Run] = []
    while ready or running:
        while ready and idle:
            job = heapq.heappop(ready)[2]
            run = Run(job, heapq.heappop(idle), now, now + seconds_of(job))
            runs.append(run)
            heapq.heappush(running, (run.end_s, order[job.key], run))
        now, _, done = heapq.heappop(running)
        heapq.heappush(idle, done.worker)
        for key in followers[done.job.key]:
            waiting_for[key] -= 1
            if not waiting_for[key]:
                heapq.heappush(ready, (-priority[key], order[key], plan.by_key[key]))
    return Schedule(tuple(runs), workers)


def _links(plan: Plan) -> tuple[dict[str, int], dict[str, list[str]]]:
    """How many jobs of the plan each waits for, and which wait for each."""
    inside = {job.key for job in plan}
    waiting_for: dict[str, int] = {}
    followers: dict[str, list[str]] = defaultdict(list)
    for job in plan:
        needs = [need for need in job.needs if need in inside]
        waiting_for[job.key] = len(needs)
        for need in needs:
            followers[need].append(job.key)
    return waiting_for, followers
