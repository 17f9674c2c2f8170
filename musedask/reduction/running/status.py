"""How far a reduction is, read from disk while it runs elsewhere or not at all."""

from __future__ import annotations

import os
import socket
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from musedask.cluster import cores
from musedask.config import CONFIG_NAME
from musedask.errors import MissingError
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.jobs import Job, Plan
from musedask.reduction.planning.schedule import critical_path
from musedask.reduction.running.carrying import PLAN
from musedask.reduction.running.finished import find_records
from musedask.reduction.running.following import Durations, Snapshot, snapshot
from musedask.reduction.running.graph import settled
from musedask.reduction.running.notes import Notes, Running
from musedask.reduction.running.outcome import Outcome
from musedask.reduction.running.plan_file import read_plan
from musedask.reduction.running.report import count_table, spoken
from musedask.reduction.running.stale import (
    Stale,
    changed_files,
    made_of,
    stale_jobs,
    stale_text,
)
from musedask.run import Holder, Run, holder_of
from musedask.wording import counted

FAILURES_SHOWN = 10
PATH_SHOWN = 12
MARKS = {"done": "done", "before": "done", "failed": "failed", "blocked": "blocked"}


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run is; its text is for people."""

    folder: Path
    """The run."""
    plan: Plan
    """The plan of its last reduction."""
    outcomes: dict[str, Outcome]
    """Of jobs that ended, by key."""
    running: tuple[Running, ...]
    """What runs at this moment."""
    holder: Holder | None
    """Who reduces it, if anybody."""
    durations: Durations
    """What its jobs took."""
    workers: int
    """How many run at once."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What the plan's finished jobs took, by key."""
    stale: tuple[Stale, ...] = ()
    """Finished jobs that the plan does not have: of other frames, parameters or versions."""
    changed: tuple[str, ...] = ()
    """Raw frames and static tables that have changed since the plan was made."""
    new_config: bool = False
    """Whether the configuration was changed after the plan was made."""

    @property
    def snapshot(self) -> Snapshot:
        """Counts by recipe and the time left."""
        return snapshot(self.plan.jobs, self.outcomes, self.running, self.durations, self.workers)

    def __str__(self) -> str:
        parts = [self._headline(), count_table(self.snapshot.counts), self._exposures()]
        parts += [self._running(), self._failures(), self._path()]
        parts += [stale_text(self.stale), self._changes()]
        return "\n\n".join(part for part in parts if part)

    def _headline(self) -> str:
        now = self.snapshot
        who = f"is being reduced by {self.holder}" if self.holder else "is not being reduced now"
        jobs = counted(now.sum.total, "job is", "jobs are")
        lines = [f"{self.folder}: {who}", f"{now.sum.finished} of {jobs} done"]
        if now.sum.waiting or now.sum.running:
            lines[1] += f"; about {spoken(now.seconds_left)} left on {self.workers} workers"
        return "\n".join(lines)

    def _exposures(self) -> str:
        """What is done of each exposure, stage by stage."""
        by_date: dict[str, dict[str, list[Job]]] = defaultdict(lambda: defaultdict(list))
        for job in self.plan:
            if len(job.frames) == 1:
                by_date[job.frames[0]][job.stage].append(job)
        if not by_date:
            return ""
        lines = ["exposures"]
        marks = self._marks()
        for date, stages in sorted(by_date.items()):
            words = (
                f"{name} {_word([marks[j.key] for j in jobs])}" for name, jobs in stages.items()
            )
            lines.append(f"  {date}  {', '.join(words)}")
        return "\n".join(lines)

    def _marks(self) -> dict[str, str]:
        """The state of each job, in a word, by key."""
        at_work = {one.key for one in self.running}
        outdated = made_of(self.plan, self.changed)
        before = {one.place for one in self.stale}
        marks = {}
        for job in self.plan:
            outcome = self.outcomes.get(job.key)
            mark = MARKS.get(outcome.state, "waiting") if outcome else "waiting"
            if mark == "done" and job.key in outdated:
                mark = "stale"
            elif mark == "waiting" and job.key in at_work:
                mark = "running"
            elif mark == "waiting" and (job.stage, job.frames, job.ifu) in before:
                mark = "stale"
            marks[job.key] = mark
        return marks

    def _running(self) -> str:
        now = time.time()
        lines = [
            f"  {self.plan.by_key[one.key].title} for {spoken(now - one.since)} on {one.host}"
            for one in self.running
            if one.key in self.plan.by_key
        ]
        return "\n".join(["running", *lines]) if lines else ""

    def _failures(self) -> str:
        bad = [one for one in self.outcomes.values() if one.state == "failed"]
        lines = []
        for one in bad[-FAILURES_SHOWN:]:
            lines.append(f"  {self.plan.by_key[one.key].title}: {one.reason}")
            lines += [f"    log {one.log}"] if one.log else []
        if len(bad) > FAILURES_SHOWN:
            lines.insert(0, f"  (the last {FAILURES_SHOWN} of {len(bad)})")
        hint = "failed; 'musedask reduce --retry' tries these again"
        return "\n".join([hint, *lines]) if bad else ""

    def _path(self) -> str:
        """The chain of jobs that nothing can shorten: of what is left, or of all that was done."""
        todo = tuple(job for job in self.plan if job.key not in self.outcomes)
        if not todo and len(self.seconds) < len(self.plan):
            return ""  # some have failed
        rest = Plan(todo, earlier=tuple(j for j in self.plan if j.key in self.outcomes))

        def seconds_of(job: Job) -> float:
            return self.seconds.get(job.key) or self.durations(job)

        path = critical_path(rest if todo else self.plan, seconds_of)
        took = "" if todo else " of all that was done"
        lines = [f"  {job.title}, {spoken(seconds_of(job))}" for job in path[:PATH_SHOWN]]
        more = [f"  and {len(path) - PATH_SHOWN} more"] if len(path) > PATH_SHOWN else []
        total = spoken(sum(map(seconds_of, path)))
        return "\n".join([f"longest chain{took}, {total}", *lines, *more])

    def _changes(self) -> str:
        """What has changed since the plan was made."""
        lines = []
        if self.changed:
            more = f" and {len(self.changed) - 1} more" if len(self.changed) > 1 else ""
            outdated = made_of(self.plan, self.changed)
            n_done = sum(key in self.outcomes and self.outcomes[key].is_good for key in outdated)
            lines.append(
                f"{self.changed[0]}{more} changed since the last reduction: "
                f"{counted(n_done, 'finished job')} will be made anew"
            )
        if self.new_config:
            lines.append(
                f"{CONFIG_NAME} was changed after the last reduction was planned; 'musedask reduce "
                "--dry-run' says what there is to do now"
            )
        return "\n".join(lines)


def _word(marks: Sequence[str]) -> str:
    """The state of an exposure in a stage: of all its IFUs."""
    if len(set(marks)) == 1:
        return marks[0]
    order = ("failed", "blocked", "running", "stale", "waiting")
    worst = next(mark for mark in order if mark in marks)
    return f"{worst} ({marks.count('done')} of {len(marks)} done)"


def status_of(run: Run) -> Status:
    """Read how far a run is.

    Raises
    ------
    MissingError
        If nothing was ever reduced.
    FileError
        If its plan cannot be read.
    """
    plan = read_plan(run.state / PLAN)
    if plan is None:
        raise MissingError(
            f"{run.folder}: nothing was reduced yet; 'musedask plan' says what there is to do, "
            "'musedask reduce' does it"
        )
    notes, folders = Notes(run.state), RunFolders(run.products, run.scratch)
    records = find_records(folders, (*plan.earlier, *plan.jobs))
    durations = Durations()
    for key, record in records.items():
        durations.add(plan.by_key[key], record.wall_s)
    holder = holder_of(run)
    running = tuple(one for one in notes.running() if _is_alive(one, holder))
    known = {key: Outcome(key=key, state="done") for key in records}
    at_work = {one.key for one in running}
    for key, (outcome, _) in notes.failures().items():
        if key in plan.by_key and key not in at_work:
            known.setdefault(key, outcome)
    return Status(
        folder=run.folder, plan=plan, outcomes=settled(plan.jobs, known), running=running,
        holder=holder, durations=durations, workers=run.config.cluster.workers or cores(),
        seconds={job.key: records[job.key].wall_s for job in plan if job.key in records},
        stale=stale_jobs(folders.products, plan), changed=changed_files(plan),
        new_config=_is_newer(run.folder / CONFIG_NAME, run.state / PLAN),
    )  # fmt: skip


def _is_alive(one: Running, holder: Holder | None) -> bool:
    """Whether an attempt that began is still under way."""
    if holder is None or one.session != holder.session:
        return False
    if one.host != socket.gethostname():
        return True
    try:
        os.kill(one.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_newer(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_mtime_ns > other.stat().st_mtime_ns
    except OSError:
        return False
