"""Worker jobs of SLURM, looked after: replaced when they end, asked why they do not begin.

dask-jobqueue submits jobs and never looks at the queue again. A thread here
does: it compares the jobs that were submitted with SLURM's queue and with the
workers that have connected, submits anew what has ended, and, where no worker
can come, says why in SLURM's words.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dask_jobqueue import SLURMCluster
from dask_jobqueue.slurm import SLURMJob
from distributed import Scheduler
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from musedask.cluster.commands import words_of
from musedask.cluster.queue import (
    JobState,
    end_of,
    end_of_file,
    err_file,
    jobs_under_way,
    of_memory,
)
from musedask.errors import ClusterError, MusedaskError

logger = logging.getLogger(__name__)
told = logging.getLogger("musedask.told")

SOON_S = 2.0
"""Between two looks, when something has just changed."""
LATER_S = 30.0
"""Between two looks, when nothing changes: SLURM's controller has other users."""
TRIES = 3
"""So many jobs in a row may end before anything has been done."""
SETTLED_S = 30.0
"""A worker that has been there for so long is one that works."""
SILENCE_S = 20.0
"""For so long SLURM may not answer while there is no worker: a controller that is started anew
answers sooner."""
AWAY_S = 60.0
"""A worker that has been away for so long does not come back, though its job runs."""
COMPLETING_S = 10.0
"""A job may take so long to complete before its place is filled."""


_UNEXPLAINED = ("COMPLETED", "FAILED", "GONE")
"""Ends of a job whose worker has connected for which SLURM has no reason."""
_NO_WORK = ("memory", "released", "erred", "forgotten")


class FleetJob(SLURMJob):
    """A job of SLURM that is submitted, or knows why it was refused."""

    job_id: str | None
    refusal = ""
    """SLURM's words, if sbatch refused it."""

    async def start(self) -> None:
        """Submit it; a refusal is kept, since nobody waits for an exception here."""
        try:
            await super().start()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as err:
            _, found, words = str(err).partition("stderr:\n")
            self.refusal = words_of(words) if found else str(err)
            await ProcessInterface.start(self)

    async def close(self) -> None:
        """Cancel it."""
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed


@dataclass(frozen=True)
class Loss:
    """A job that ended before its work was done."""

    state: JobState
    """How."""
    connected: bool
    """Whether its worker ever was there."""
    err: tuple[str, ...] = ()
    """Last lines of its standard error."""

    def __str__(self) -> str:
        return "\n  ".join([str(self.state), *self.err])


@dataclass(eq=False)
class Fleet:
    """Looks after the jobs of one cluster."""

    cluster: SLURMCluster
    """Submits and cancels them."""
    wanted: int
    """How many there are to be."""
    logs: Path
    """Where their output goes."""
    losses: dict[str, Loss] = field(default_factory=dict)
    """By the job's number, or the worker's name where there never was one."""
    in_vain: list[Loss] = field(default_factory=list)
    """Those in a row that ended before any task did: no worker came, or it could not work."""
    trouble: ClusterError | None = None
    """What keeps the work from going on."""
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Job -> when its worker was there first, and last."""
    _todo: int = 0
    """Tasks that have not ended."""
    _completing: dict[str, float] = field(default_factory=dict)
    """Job -> since when it has been completing."""
    _said: str = ""
    _unheard: list[JobState] = field(default_factory=list)
    _silent: float | None = None
    """Since when SLURM has not answered and there has been no worker."""
    _hopeless: int = 0
    _pause: float = SOON_S
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Fleet:
        self.cluster.scale(jobs=self.wanted)
        self._thread = threading.Thread(target=self._look_on, name="slurm jobs", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what keeps the work from going on."""
        if self.trouble is not None:
            raise self.trouble

    def ends(self) -> Sequence[JobState]:
        """Jobs that ended since this was asked last."""
        return [self._unheard.pop(0) for _ in range(len(self._unheard))]

    def words(self, jobs: Sequence[str]) -> str:
        """What became of jobs, in SLURM's words."""
        ends = (self.losses[job].state if job in self.losses else self._end(job)[0] for job in jobs)
        return "; ".join(dict.fromkeys(map(str, ends)))

    def _end(self, job: str) -> tuple[JobState, tuple[str, ...]]:
        """How a job ended, and what it said at last."""
        err = tuple(end_of_file(err_file(self.logs, str(self.cluster.job_name), job)))
        return of_memory(end_of(job), err), err

    def last_loss(self) -> str:
        """The end of the job that ended last, in SLURM's words; "" if none has."""
        return str([*self.losses.values()][-1]) if self.losses else ""

    def _look_on(self) -> None:
        while self.trouble is None and not self._over.wait(self._pause):
            self._pause = min(1.4 * self._pause, LATER_S)
            asked = time.monotonic()
            try:
                self.look()
                self._silent = None
            except MusedaskError as err:
                logger.warning("%s", err)
                self._not_answered(asked, err)
            except Exception as err:
                if not self._over.is_set():
                    logger.exception("SLURM's jobs cannot be looked after")
                    self._give_up(f"SLURM's jobs cannot be looked after: {err}")

    def _not_answered(self, asked: float, err: MusedaskError) -> None:
        """Give up if SLURM stays silent; workers that are there need none."""
        if self._here():
            self._silent = None
            return
        self._pause = SOON_S
        self._silent = asked if self._silent is None else self._silent
        if time.monotonic() - self._silent > SILENCE_S:
            self._give_up(f"SLURM does not answer, and there is no worker: {err}")

    def look(self) -> None:
        """Compare what was submitted with SLURM's queue and the workers that are there.

        Raises
        ------
        MusedaskError
            If SLURM does not answer.
        """
        # In this order: what is submitted in between is not taken for one that has gone.
        jobs: dict[str, FleetJob] = dict(self.cluster.workers)
        under_way = jobs_under_way()
        now = time.monotonic()
        here = self._here()
        for number in (jobs[name].job_id or "" for name in here & set(jobs)):
            self._seen[number] = (self._seen.get(number, (now,))[0], now)
        todo = sum(task.state not in _NO_WORK for task in list(self._scheduler.tasks.values()))
        if todo < self._todo:
            self.in_vain.clear()
        self._todo = todo
        ended = {name: job for name, job in jobs.items() if self._has_ended(job, under_way, now)}
        for name, job in ended.items():
            self._lost(name, job)
        states = [under_way[job.job_id] for job in jobs.values() if job.job_id in under_way]
        if not here:
            self._tell(states)
        if not any(now - first > SETTLED_S and last == now for first, last in self._seen.values()):
            self._judge(states)
        if self.trouble is None and not self._over.is_set():
            self._replace(list(ended))

    @property
    def _scheduler(self) -> Scheduler:
        assert self.cluster.scheduler is not None  # it was started with the cluster
        found: Scheduler = self.cluster.scheduler
        return found

    def _here(self) -> set[str]:
        """Names of jobs whose workers are connected now."""
        return {str(worker.name) for worker in list(self._scheduler.workers.values())}

    def _has_ended(self, job: FleetJob, under_way: Mapping[str, JobState], now: float) -> bool:
        """Whether nothing more is to be expected of a job."""
        if job.refusal or not job.job_id:
            return bool(job.refusal)
        state = under_way.get(job.job_id)
        if state is None:
            return True
        if state.state == "COMPLETING":
            return now - self._completing.setdefault(job.job_id, now) > COMPLETING_S
        return now - self._seen.get(job.job_id, (now, now))[1] > AWAY_S

    def _lost(self, name: str, job: FleetJob) -> None:
        """Find out why a job ended."""
        key = job.job_id or name
        if key in self.losses:
            return
        if job.job_id is None:
            loss = Loss(JobState(name, "REFUSED", job.refusal), connected=False)
        else:
            state, err = self._end(job.job_id)
            if state.state == "RUNNING":  # as on a node whose death SLURM has not noticed
                state = replace(state, reason=f"no sign of its worker for {AWAY_S:g} s")
            loss = Loss(state, job.job_id in self._seen, err)
        self.losses[key] = loss
        self._unheard.append(loss.state)
        if not loss.connected or loss.state.state in _UNEXPLAINED:
            self.in_vain.append(loss)
        logger.warning("%s", loss.state)

    def _tell(self, states: Sequence[JobState]) -> None:
        """Say what jobs wait for while there is no worker, when that changes."""
        reasons = Counter(state.reason for state in states if state.state == "PENDING")
        known = [f"{n} PENDING ({reason})" for reason, n in reasons.items() if reason != "None"]
        text = f"no worker yet; SLURM jobs: {', '.join(sorted(known))}"
        if known and text != self._said:
            self._said = text
            told.info("%s", text)

    def _judge(self, states: Sequence[JobState]) -> None:
        """Give up if nothing shows that a worker will come."""
        if len(self.in_vain) >= TRIES:
            self._give_up(
                f"the last {len(self.in_vain)} SLURM jobs ended before they had done anything:\n"
                f"{self.in_vain[-1]}"
            )
        if states and all(state.is_hopeless for state in states):
            self._hopeless += 1
            self._pause = SOON_S
            if self._hopeless >= TRIES:
                self._give_up(
                    f"no SLURM job can begin: {states[0]}; choose another partition, account or "
                    "walltime in [cluster.options]"
                )
        else:
            self._hopeless = 0

    def _replace(self, ended: list[str]) -> None:
        """Submit jobs for those that have ended, as many as there is work for."""
        if ended:
            self._pause = SOON_S
            self.cluster.sync(self.cluster.scale_down, ended)
        # A node that ends each job at once must not be fed for ever: later looks try again.
        if len(self.in_vain) < TRIES or not ended:
            need = min(self.wanted, max(self._todo, 1))
            self.cluster.scale(jobs=max(need, len(self.cluster.worker_spec)))

    def _give_up(self, why: str) -> None:
        self.trouble = ClusterError(f"{why}\nlogs of the jobs are in {self.logs}")
