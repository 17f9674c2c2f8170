"""How far a plan has come: counts by recipe, what runs, what failed, and the time left."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from musedask.reduction.jobs import Job
from musedask.reduction.planning.schedule import ranks, seconds_by_recipe
from musedask.reduction.running.notes import Notes, Running
from musedask.reduction.running.outcome import Outcome

SHOW_EVERY_S = 0.5
_OVERDUE = 0.1


@dataclass(frozen=True)
class Count:
    """Jobs of one recipe."""

    total: int = 0
    """All."""
    done: int = 0
    """Done in this reduction."""
    before: int = 0
    """Done before it."""
    running: int = 0
    """At work."""
    failed: int = 0
    """Failed."""
    blocked: int = 0
    """Not to be started, since what they need has failed."""

    @property
    def finished(self) -> int:
        """Whose products are there."""
        return self.done + self.before

    @property
    def waiting(self) -> int:
        """Neither ended nor begun."""
        return self.total - self.finished - self.running - self.failed - self.blocked


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How far a plan is at one moment."""

    counts: Mapping[str, Count]
    """By recipe, in the order of the chain."""
    running: tuple[tuple[str, float], ...]
    """Title of each job at work, and for how many seconds."""
    failed: tuple[tuple[str, str], ...]
    """Title and reason of each job that failed, the latest last."""
    seconds_left: float
    """Until all is done, about; NaN if nobody knows."""

    @property
    def sum(self) -> Count:
        """Jobs of all recipes."""
        parts = list(self.counts.values())
        names = ("total", "done", "before", "running", "failed", "blocked")
        return Count(**{name: sum(getattr(part, name) for part in parts) for name in names})


class Show(Protocol):
    """What a caller gives to be shown how far a reduction is."""

    def __call__(self, snapshot: Snapshot) -> None:
        """Show it."""


@dataclass
class Durations:
    """What jobs take: what others of their recipe and stage took, else the recipes' table."""

    taken: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Recipe and stage -> seconds that finished ones took."""
    _typical: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, job: Job, seconds: float) -> None:
        """Learn from a finished job."""
        if seconds > 0:
            self.taken[job.recipe, job.stage].append(seconds)
            self._typical.pop((job.recipe, job.stage), None)

    @property
    def by_recipe(self) -> dict[str, float]:
        """Recipe -> seconds that its finished jobs took, in the middle."""
        recipes: dict[str, list[float]] = defaultdict(list)
        for (recipe, _), taken in self.taken.items():
            recipes[recipe] += taken
        return {recipe: statistics.median(taken) for recipe, taken in recipes.items()}

    def __call__(self, job: Job) -> float:
        """Seconds that a job will take, about."""
        kind = job.recipe, job.stage
        if kind not in self._typical:
            if not self.taken.get(kind):
                return seconds_by_recipe(job)
            self._typical[kind] = statistics.median(self.taken[kind])
        return self._typical[kind]


def time_left(
    jobs: Sequence[Job],
    seconds_of: Callable[[Job], float],
    workers: int,
    since: Mapping[str, float] | None = None,
) -> float:
    """Seconds until jobs that are not done will be: their longest chain, or all by all workers.

    Parameters
    ----------
    jobs
        In an order in which they could run.
    seconds_of
        What each takes.
    workers
        How many run at once.
    since
        Key -> seconds for which it has been running.
    """
    since = since or {}

    def rest(job: Job) -> float:
        # What takes longer than it should is not yet at its end.
        spent = since.get(job.key, 0.0)
        return max(seconds_of(job) - spent, _OVERDUE * spent)

    longest = ranks(jobs, rest)
    return max([sum(map(rest, jobs)) / max(workers, 1), *longest.values()], default=0.0)


@dataclass
class Follower:
    """Counts outcomes as they come, and shows how far it is, not too often."""

    jobs: Sequence[Job]
    """The plan's jobs."""
    outcomes: dict[str, Outcome]
    """Of those that ended, by key; grows."""
    notes: Notes
    """Where it stands what runs."""
    durations: Durations
    """What jobs take; learns."""
    workers: int
    """How many run at once."""
    show: Show | None = None
    """Whom to tell."""
    _shown: float = -1e9

    def ended(self, outcome: Outcome | None) -> None:
        """Take note of an outcome, or only of the time."""
        if outcome is not None:
            self.outcomes[outcome.key] = outcome
        now = time.monotonic()
        all_ended = len(self.outcomes) >= len(self.jobs)
        if self.show is not None and (all_ended or now - self._shown >= SHOW_EVERY_S):
            self._shown = now
            self.show(self.snapshot())

    def snapshot(self) -> Snapshot:
        """How far it is now."""
        return snapshot(
            self.jobs, self.outcomes, self.notes.running(), self.durations, self.workers
        )


def snapshot(
    jobs: Sequence[Job],
    outcomes: Mapping[str, Outcome],
    running: Iterable[Running],
    seconds_of: Callable[[Job], float],
    workers: int,
) -> Snapshot:
    """How far jobs are that have these outcomes, while some run.

    Parameters
    ----------
    jobs
        In an order in which they could run.
    outcomes
        By key, of those that ended.
    running
        Attempts that have begun and not ended.
    seconds_of
        What a job takes.
    workers
        How many run at once.
    """
    now = time.time()
    since = {one.key: now - one.since for one in running if one.key not in outcomes}
    counts: dict[str, Counter[str]] = {}
    for job in jobs:
        count = counts.setdefault(job.recipe, Counter())
        count["total"] += 1
        if job.key in outcomes:
            if outcomes[job.key].state != "stopped":
                count[outcomes[job.key].state] += 1
        elif job.key in since:
            count["running"] += 1
    title = {job.key: job.title or job.recipe for job in jobs}
    bad = (one for one in outcomes.values() if one.state == "failed")
    todo = [job for job in jobs if job.key not in outcomes]
    return Snapshot(
        counts={recipe: Count(**count) for recipe, count in counts.items()},
        running=tuple((title[key], age) for key, age in since.items() if key in title),
        failed=tuple((title.get(one.key, one.key), one.reason) for one in bad),
        seconds_left=time_left(todo, seconds_of, workers, since),
    )
