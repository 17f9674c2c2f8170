"""How far a reduction is, read from disk while it runs elsewhere or not at all."""

from __future__ import annotations

import os
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from musedask.cluster import cores
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
from musedask.run import Holder, Run, holder_of

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
    stale: tuple[str, ...]
    """Finished jobs that the plan does not need any more: ``recipe/key``."""

    @property
    def snapshot(self) -> Snapshot:
        """Counts by recipe and the time left."""
        return snapshot(self.plan.jobs, self.outcomes, self.running, self.durations, self.workers)

    def __str__(self) -> str:
        parts = [self._headline(), count_table(self.snapshot.counts), self._exposures()]
        parts += [self._running(), self._failures(), self._path(), self._stale()]
        return "\n\n".join(part for part in parts if part)

    def _headline(self) -> str:
        now = self.snapshot
        who = f"is being reduced by {self.holder}" if self.holder else "is not being reduced now"
        lines = [f"{self.folder}: {who}", f"{now.sum.finished} of {now.sum.total} jobs are done"]
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
        at_work = {one.key for one in self.running}
        lines = ["exposures"]
        for date, stages in sorted(by_date.items()):
            words = (f"{name} {self._word(jobs, at_work)}" for name, jobs in stages.items())
            lines.append(f"  {date}  {', '.join(words)}")
        return "\n".join(lines)

    def _word(self, jobs: Sequence[Job], at_work: set[str]) -> str:
        """The state of an exposure in a stage: of all its IFUs."""
        marks = [MARKS.get(self.outcomes[j.key].state, "waiting") if j.key in self.outcomes
                 else "running" if j.key in at_work else "waiting" for j in jobs]  # fmt: skip
        if len(set(marks)) == 1:
            return marks[0]
        worst = next(mark for mark in ("failed", "blocked", "running", "waiting") if mark in marks)
        return f"{worst} ({marks.count('done')} of {len(marks)} done)"

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
        """The chain of jobs that nothing can shorten."""
        todo = tuple(job for job in self.plan if job.key not in self.outcomes)
        if not todo:
            return ""
        rest = Plan(todo, earlier=tuple(j for j in self.plan if j.key in self.outcomes))
        path = critical_path(rest, self.durations)
        seconds = sum(map(self.durations, path))
        lines = [f"  {job.title}, {spoken(self.durations(job))}" for job in path[:PATH_SHOWN]]
        more = [f"  and {len(path) - PATH_SHOWN} more"] if len(path) > PATH_SHOWN else []
        return "\n".join([f"longest chain, {spoken(seconds)}", *lines, *more])

    def _stale(self) -> str:
        if not self.stale:
            return ""
        return (
            f"{len(self.stale)} finished jobs are of other plans (other frames, parameters or "
            "versions); their products may be removed if they are not wanted any more"
        )


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
        stale=tuple(_stale(folders.products, plan)),
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


def _stale(products: Path, plan: Plan) -> Iterable[str]:
    """Folders of finished jobs that are not in the plan."""
    known = {job.folder for job in (*plan.earlier, *plan.jobs)}
    for folder in sorted(products.glob("muse_*/*/job.json")):
        name = folder.parent.relative_to(products).as_posix()
        if name not in known:
            yield name
