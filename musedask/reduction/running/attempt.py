"""What a task does with a job: wait for memory, try it, note what became of it; it never raises."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from musedask.reduction.job.esorex import StoppedError
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.job.record import JobRecord
from musedask.reduction.jobs import Job
from musedask.reduction.running.memory import MemoryGate
from musedask.reduction.running.notes import Notes
from musedask.reduction.running.outcome import Outcome

RunJob = Callable[..., JobRecord]
"""What runs a job, as :func:`musedask.reduction.job.run.run_job` does."""

logger = logging.getLogger(__name__)

LOST_AT_MOST = 3
"""A job whose process dies this often in one reduction is given up: most likely it is what
kills it, by its memory."""
LOST_IN_ALL = 10
"""And so often at most if SLURM says that it was not the job: its node died, somebody cancelled
it."""
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job and all that a worker needs to try it."""

    job: Job
    """The job."""
    folders: RunFolders
    """Where its products and its scratch folder go."""
    notes: Notes
    """Where it is noted that it runs, or failed."""
    session: str
    """The reduction that it belongs to."""
    attempts: int
    """How often a failure that lasts is tried, over all reductions."""
    run: RunJob
    """What runs it: :func:`musedask.reduction.job.run.run_job`, except in tests."""
    memory: int = 0
    """Bytes that it will need, about."""
    gate: MemoryGate | None = None
    """Where it waits for memory; None where each worker has its own."""
    cores: int = 1
    """Threads for esorex."""
    seconds: float | None = None
    """What it may take; None for as long as it likes."""
    tolerate: tuple[str, ...] = ()
    """Checks, or tags of calibrations, whose complaints the user takes as warnings."""


def do(work: Work, *needs: Outcome) -> Outcome:
    """Try a job until it is done or has failed often enough; never raises.

    Parameters
    ----------
    work
        The job.
    *needs
        What became of the jobs whose products it takes.
    """
    for need in needs:
        if not need.is_good:
            return blocked(work.job.key, need)
    try:
        return _tried(work)
    except Exception as err:
        logger.debug("%s", work.job.title, exc_info=err)
        return Outcome(key=work.job.key, state="failed", reason=f"{type(err).__name__}: {err}")


def blocked(key: str, need: Outcome) -> Outcome:
    """What becomes of a job if one that it needs is not good."""
    return Outcome(key=key, state="blocked", by=need.by or need.key)


def _tried(work: Work) -> Outcome:
    key = work.job.key
    now = work.notes.begin(key, work.session)
    own = now.lost - work.notes.excused(now.lost_in)
    try:
        if own >= LOST_AT_MOST or now.lost >= LOST_IN_ALL:
            reason = f"its worker died {now.lost} times while it ran"
            if not now.lost_in:
                reason += (
                    "; most likely it took more memory than there is: give [cluster] memory, or "
                    "fewer workers"
                )
            return Outcome(
                key=key, state="failed", reason=reason, attempts=now.lost, lost_in=now.lost_in
            )
        before = work.notes.failure(key)
        for _ in range(max(1, work.attempts - (before[1] if before else 0))):
            outcome = _once(work)
            if outcome.is_good or outcome.state == "stopped" or outcome.timed_out:
                break
        return outcome
    finally:
        work.notes.end(key)


def _once(work: Work) -> Outcome:
    """One attempt, and the note of its failure."""
    key = work.job.key
    before = work.notes.failure(key)
    attempt = 1 + (before[0].attempts if before else 0)
    waiting: AbstractContextManager[None] = nullcontext()
    if work.gate is not None:
        waiting = work.gate.holding(work.memory)
    try:
        with waiting:
            record = work.run(
                work.job, work.folders, cores=work.cores, attempt=attempt,
                timeout_s=work.seconds, tolerate=work.tolerate,
            )  # fmt: skip
    except StoppedError as err:
        # The run ends: nobody's failure, and no second try.
        return Outcome(key=key, state="stopped", reason=str(err))
    except Exception as err:
        logger.info("%s: attempt %d failed: %s", work.job.title, attempt, err)
        outcome = failure(key, err)
        # No second try of what took all its time: only if the user asks for it.
        lasting = work.attempts if outcome.timed_out else int(is_lasting(err))
        return work.notes.failed(outcome, lasting=lasting)
    work.notes.forget(key)
    return Outcome(
        key=key, state="done", attempts=attempt, seconds=record.wall_s, warnings=record.warnings
    )


def failure(key: str, error: Exception) -> Outcome:
    """What became of a job whose attempt raised this."""
    return Outcome(
        key=key,
        state="failed",
        reason=str(getattr(error, "reason", "") or error),
        scratch=str(getattr(error, "scratch", "") or ""),
        log=str(getattr(error, "log", "") or ""),
        log_end=tuple(getattr(error, "log_end", ())),
        repeat=str(getattr(error, "repeat", "") or ""),
        timed_out=bool(getattr(error, "timed_out", False)),
    )


def is_lasting(error: Exception) -> bool:
    """Whether the same would happen again: not where somebody killed it, or a disk was full."""
    status = getattr(error, "status", None)
    return status is not None and status not in _FROM_OUTSIDE
