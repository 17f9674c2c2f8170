"""Carrying plans out, one after the other: what is done is found, the rest goes to Dask."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from musedask.cluster import GIB, Cluster, cores, open_cluster, open_now
from musedask.cluster.queue import FROM_OUTSIDE
from musedask.config import ClusterConfig
from musedask.reduction.job.esorex import no_esorex_left
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.job.record import JobRecord
from musedask.reduction.jobs import Job, Plan
from musedask.reduction.planning.schedule import priorities
from musedask.reduction.recipes import recipe_of, seconds_allowed
from musedask.reduction.running.attempt import RunJob, Work
from musedask.reduction.running.finished import find_records, sweep_finished
from musedask.reduction.running.following import Durations, Follower, Show, Snapshot, snapshot
from musedask.reduction.running.graph import Task, execute, settled
from musedask.reduction.running.memory import MemoryGate
from musedask.reduction.running.notes import Notes
from musedask.reduction.running.outcome import Outcome
from musedask.reduction.running.plan_file import write_plan
from musedask.reduction.running.walltime import walltime_note
from musedask.run import Holder, Run

logger = logging.getLogger(__name__)

PLAN = "plan.json"
HEAVY = ("scipost", "align", "final", "combine")
"""Stages for which ``[cluster.scipost]`` is."""
EARLIER = (
    "is of a stage before the first that was asked for, and is not done; reduce without --first"
)


@dataclass(eq=False)
class Carrier:
    """Carries out plans of one run, and knows what became of their jobs."""

    run: Run
    """The run."""
    holder: Holder | None
    """Who holds the run; None in a dry run, which starts nothing."""
    stack: ExitStack
    """Closes the cluster that is opened when the first job has to run."""
    run_one: RunJob | None = None
    """What runs a job, if not :func:`musedask.reduction.job.run.run_job`."""
    retry: bool = False
    """Whether failures of earlier reductions are forgotten."""
    show: Show | None = None
    """Whom to show how far it is."""
    jobs: dict[str, Job] = field(default_factory=dict)
    """Jobs of all plans, by key."""
    records: dict[str, JobRecord] = field(default_factory=dict)
    """Of those that are finished, and of finished ones of earlier stages."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of those that ended, by key."""
    durations: Durations = field(default_factory=Durations)
    """What jobs take."""
    notes: dict[str, None] = field(default_factory=dict)
    """What a user should know, each once, in order."""
    problems: list[str] = field(default_factory=list)
    """What could not be planned, and why."""
    plan: Plan = field(default_factory=lambda: Plan(()))
    """The plan that was carried out last."""

    @property
    def folders(self) -> RunFolders:
        """Where jobs work."""
        return RunFolders(self.run.products, self.run.scratch)

    @property
    def disk(self) -> Notes:
        """What is remembered on disk."""
        return Notes(self.run.state)

    def look(self, jobs: Sequence[Job]) -> None:
        """Find out which jobs are finished."""
        found = find_records(self.folders, (job for job in jobs if job.key not in self.records))
        self.records.update(found)
        for job in jobs:
            if job.key in found:
                self.durations.add(job, found[job.key].wall_s)

    def carry_out(self, plan: Plan) -> None:
        """Run what of a plan is not done; in a dry run, only find out what that is.

        Raises
        ------
        MusedaskError
            If no cluster can be opened, or the run's folder cannot be written to.
        """
        self.plan = plan
        self.look((*plan.earlier, *plan.jobs))
        self.notes.update(dict.fromkeys(plan.notes))
        lacking = [job for job in plan.earlier if job.key not in self.records]
        self.jobs |= {job.key: job for job in (*lacking, *plan.jobs)}
        self._settle(plan, lacking)
        todo = [job for job in plan.jobs if job.key not in self.outcomes]
        if self.holder is not None:
            self.disk.sweep(self.holder.session)
            sweep_finished(self.folders, self.records)
            write_plan(plan, self.run.state / PLAN)
            if todo:
                self._execute(plan, todo)

    def _settle(self, plan: Plan, lacking: Sequence[Job]) -> None:
        """Outcomes of all jobs that are not to be run."""
        for job in (*plan.earlier, *plan.jobs):
            if job.key in self.records:
                self.outcomes.setdefault(job.key, Outcome(key=job.key, state="before"))
        for job in lacking:
            self.outcomes[job.key] = Outcome(key=job.key, state="failed", reason=EARLIER)
        failures = {} if self.retry else self.disk.failures()
        for key, (outcome, lasting) in failures.items():
            if key in plan.by_key and lasting >= self.run.config.reduction.attempts:
                self.outcomes.setdefault(key, outcome)
        self.outcomes = settled(plan.jobs, self.outcomes)

    def _execute(self, plan: Plan, todo: Sequence[Job]) -> None:
        log = RunLog.begin(self.run, plan)
        if (cluster := open_now()) is not None:
            self._execute_on(cluster, plan, todo, log)
            return
        config = self.run.config.cluster
        for stage, jobs in by_cluster(todo, config):
            ready = [job for job in jobs if job.key not in settled(todo, self.outcomes)]
            if ready:
                with open_cluster(config, stage) as cluster:
                    self._execute_on(cluster, plan, ready, log)
        self.outcomes = settled(todo, self.outcomes)

    def _execute_on(self, cluster: Cluster, plan: Plan, todo: Sequence[Job], log: RunLog) -> None:
        """Run jobs where Dask runs."""
        logger.info("%d jobs on %s", len(todo), cluster)
        if note := walltime_note(todo, self.durations, cluster.walltime_s):
            logger.warning("%s", note)
            self.notes[note] = None
        follower = Follower(
            plan.jobs, self.outcomes, self.disk, self.durations, cluster.workers or 1, self.show
        )

        def explain(outcome: Outcome) -> Outcome:
            if cluster.watch is None or not outcome.lost_in:
                return outcome
            reason = f"{outcome.reason}: {cluster.watch.words(outcome.lost_in)}"
            return replace(outcome, reason=f"{reason}; {what_to_do(reason)}")

        def ended(outcome: Outcome | None) -> None:
            for state in cluster.watch.ends() if cluster.watch else ():
                if state.state in FROM_OUTSIDE:
                    self.disk.excuse(state.job)
            if outcome is not None:
                log.write(outcome)
                if outcome.state == "done":
                    self.durations.add(plan.by_key[outcome.key], outcome.seconds)
            follower.ended(outcome)

        known = dict(self.outcomes)
        with no_esorex_left():
            tasks = list(self._tasks(todo, cluster))
            self.outcomes |= execute(tasks, known, cluster.client, ended, explain)
        self.records |= find_records(
            self.folders, [job for job in todo if self.outcomes[job.key].is_good]
        )

    def _tasks(self, todo: Sequence[Job], cluster: Cluster) -> Iterator[Task]:
        assert self.holder is not None
        config, failures = self.run.config.reduction, self.disk.failures()
        urgency, gate = priorities(todo, self.durations), None
        if cluster.memory is not None:
            gate = MemoryGate.of_run(self.run.folder, cluster.memory)
        run_one = self.run_one
        if run_one is None:
            from musedask.reduction.job.run import run_job  # with astropy: only where jobs run

            run_one = run_job
        for job in todo:
            tried = failures[job.key][0].attempts if job.key in failures else 0
            if self.retry:
                self.disk.forget(job.key)
            memory = int(recipe_of(job.recipe).gib(job) * GIB)
            work = Work(
                job=job, folders=self.folders, notes=self.disk, session=self.holder.session,
                attempts=config.attempts, run=run_one, gate=gate, cores=_threads(cluster, memory),
                memory=memory, seconds=seconds_allowed(job, config.hours_per_job),
                tolerate=(*config.allow_missing, *config.tolerate),
            )  # fmt: skip
            yield Task(work=work, priority=urgency[job.key], attempt=tried + 1)

    def snapshot(self, workers: int) -> Snapshot:
        """How far all jobs are."""
        running = () if self.holder is None else self.disk.running()
        return snapshot(list(self.jobs.values()), self.outcomes, running, self.durations, workers)


def by_cluster(todo: Sequence[Job], config: ClusterConfig) -> Iterator[tuple[str, Sequence[Job]]]:
    """Give the jobs of each cluster that is to be opened, in the order of the chain.

    What has ``[cluster.scipost]`` of its own waits for all before it.
    """
    heavy = [job for job in todo if job.stage in HEAVY]
    if "scipost" not in dict(config.stages) or not heavy:
        yield "reduce", todo
        return
    if light := [job for job in todo if job.stage not in HEAVY]:
        yield "reduce", light
    yield "scipost", heavy


def what_to_do(reason: str) -> str:
    """What helps against SLURM's ways to end a job."""
    if "TIMEOUT" in reason:
        return "give a longer walltime in [cluster.options]"
    if "OUT_OF_MEMORY" in reason:
        return "give more memory in [cluster]"
    return "look at the logs of these SLURM jobs"


def _threads(cluster: Cluster, memory: int) -> int:
    """Cores for a job: its part of the machine, by the number of jobs or by its memory.

    Jobs of the whole field are few at a time where memory is short, and would
    leave cores idle. Of the products only the last bits of STAT depend on the
    number of threads: muse_scipost then adds variances up in another order.
    """
    if cluster.memory is None:
        return cluster.cores
    by_memory = int(cores() * min(1.0, memory / cluster.memory))
    return max(1, cores() // cluster.workers, by_memory)


@dataclass(frozen=True)
class RunLog:
    """A line for each job that ended, in a file of the run."""

    path: Path
    """The file."""
    plan: Plan
    """What is carried out."""

    @classmethod
    def begin(cls, run: Run, plan: Plan) -> RunLog:
        """Begin the log of this hour of the run."""
        run.logs.mkdir(parents=True, exist_ok=True)
        return cls(run.logs / f"reduce-{time.strftime('%Y%m%d-%H%M%S')}.log", plan)

    def write(self, outcome: Outcome) -> None:
        """Add a line."""
        job = self.plan.by_key[outcome.key]
        why = outcome.reason or outcome.by
        parts = (time.strftime("%H:%M:%S"), outcome.state, job.recipe, job.key, job.title)
        line = " ".join(parts) + f" {outcome.seconds:.1f} s" + (f": {why}" if why else "")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line.replace("\n", " ") + "\n")
