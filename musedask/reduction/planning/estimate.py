"""What a plan will cost: tasks, time on so many workers, memory and disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from musedask.reduction.jobs import STAGES, Job, Plan
from musedask.reduction.planning.schedule import (
    Seconds,
    critical_path,
    seconds_by_recipe,
    simulate_schedule,
)
from musedask.reduction.recipes import recipe_of

WORKERS = (1, 2, 8, 24, 48)
"""Numbers of workers for which the time is told."""


@dataclass(frozen=True)
class Estimate:
    """What a plan will cost, about; jobs that are done already count as the others."""

    tasks: int
    """Number of jobs."""
    cpu_hours: float
    """CPU time of all jobs."""
    path_s: float
    """Time of the longest chain of jobs, seconds: no number of workers is faster."""
    walls_s: tuple[tuple[int, float], ...]
    """Number of workers (of one core) -> seconds until all is done."""
    memory_gib: float
    """Memory of the largest job."""
    largest: str
    """What that job is."""
    gigabytes: tuple[tuple[str, float], ...]
    """Stage -> size of its products, GB."""

    @property
    def disk_gb(self) -> float:
        """Size of all products, GB."""
        return sum(size for _, size in self.gigabytes)

    def __str__(self) -> str:
        walls = ", ".join(f"{_time(wall)} on {_workers(n)}" for n, wall in self.walls_s)
        sizes = ", ".join(f"{stage} {size:.1f}" for stage, size in self.gigabytes if size >= 0.05)
        return (
            f"tasks    {self.tasks}\n"
            f"time     {self.cpu_hours:.1f} h of CPU: {walls};\n"
            f"         {_time(self.path_s)} at least, for the longest chain of jobs\n"
            f"memory   {self.memory_gib:.1f} GiB for the largest job ({self.largest})\n"
            f"disk     {self.disk_gb:.1f} GB of products" + (f" ({sizes})" if sizes else "")
        )


def estimate(
    plan: Plan,
    durations: Mapping[str, float] | None = None,
    workers: tuple[int, ...] = WORKERS,
) -> Estimate:
    """Estimate what a plan will cost.

    Parameters
    ----------
    plan
        The plan.
    durations
        Recipe -> seconds that its jobs took, where that is known; else the table of
        the recipes is asked.
    workers
        Numbers of workers for which the time is asked.
    """
    seconds_of = recorded_seconds(durations or {})
    sizes = dict.fromkeys(STAGES, 0.0)
    largest, memory = "", 0.0
    for job in plan:
        recipe = recipe_of(job.recipe)
        sizes[job.stage] += recipe.megabytes(job) / 1000
        if recipe.gib(job) > memory:
            largest, memory = job.title, recipe.gib(job)
    stages = {job.stage for job in plan}
    return Estimate(
        tasks=len(plan),
        cpu_hours=sum(map(seconds_of, plan)) / 3600,
        path_s=sum(map(seconds_of, critical_path(plan, seconds_of))),
        walls_s=tuple((n, simulate_schedule(plan, n, seconds_of).wall_s) for n in workers),
        memory_gib=memory,
        largest=largest,
        gigabytes=tuple((stage, sizes[stage]) for stage in STAGES if stage in stages),
    )


def recorded_seconds(durations: Mapping[str, float]) -> Seconds:
    """How long a job takes, by what jobs of its recipe took, or else by the table."""

    def seconds_of(job: Job) -> float:
        known = durations.get(job.recipe)
        return seconds_by_recipe(job) if known is None else known

    return seconds_of


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _workers(number: int) -> str:
    return f"{number} worker" + ("s" if number != 1 else "")
