"""What the jobs of a run need of a place: the longest, the largest, and room for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from musedask.errors import MusedaskError
from musedask.reduction.jobs import FileInput, Job
from musedask.reduction.planning.estimate import estimate
from musedask.reduction.recipes import recipe_of
from musedask.reduction.running.following import Durations
from musedask.reduction.running.reduce import plan_run
from musedask.run import Run

WHOLE = Job(recipe="muse_scipost", stage="scipost", title="an exposure of 24 IFUs",
            inputs=(FileInput("PIXTABLE_OBJECT", "", ""),), ifus=tuple(range(1, 25)))  # fmt: skip
"""The longest and largest job of a usual run."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a run needs."""

    seconds: float
    """Of its longest job, about."""
    longest: str
    """What that is."""
    gib: float
    """Memory of its largest job, about."""
    largest: str
    """What that is."""
    disk: float = 0.0
    """Bytes of all products."""
    unplanned: str = ""
    """Why it cannot be planned."""


def needs_of(run: Run | None) -> Needs:
    """What a run needs, by its plan; a usual one, if there is none."""
    durations = Durations()
    unplanned, disk = "", 0.0
    jobs: tuple[Job, ...] = ()
    if run is not None:
        try:
            plan, durations = plan_run(run)
            jobs = plan.jobs
            disk = 1e9 * estimate(plan, durations.by_recipe).disk_gb if jobs else 0.0
        except MusedaskError as err:
            unplanned = str(err)
    jobs = jobs or (WHOLE,)
    longest = max(jobs, key=durations)
    largest = max(jobs, key=_gib)
    return Needs(
        seconds=durations(longest), longest=longest.title or longest.recipe, gib=_gib(largest),
        largest=largest.title or largest.recipe, disk=disk, unplanned=unplanned,
    )  # fmt: skip


def _gib(job: Job) -> float:
    return recipe_of(job.recipe).gib(job)
