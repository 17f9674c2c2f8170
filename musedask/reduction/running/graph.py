"""A plan as a graph of Dask tasks, one a job, and the loop that follows them to their ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
from dask.delayed import Delayed, delayed

from musedask.cluster.place import ends_of
from musedask.reduction.jobs import Job
from musedask.reduction.running.attempt import Work, blocked, do
from musedask.reduction.running.outcome import Outcome

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job that is to be tried, and how urgent it is."""

    work: Work
    """The job with what a worker needs."""
    priority: float
    """A higher number goes before a lower one."""
    attempt: int
    """Number of its next attempt: a part of the task's name."""

    @property
    def name(self) -> str:
        """Key of the Dask task: equal for equal jobs, another for each attempt."""
        return f"{self.work.job.recipe}-{self.work.job.key}-{self.attempt}"


def build(tasks: Iterable[Task], known: Mapping[str, Outcome]) -> dict[str, Delayed]:
    """Make the graph; computes nothing.

    Parameters
    ----------
    tasks
        In an order in which they could run.
    known
        Outcomes of jobs that get no task: done before, or failed for good.

    Returns
    -------
    dict
        Key of the job -> the task that gives its :class:`Outcome`.
    """
    graph: dict[str, Delayed] = {}
    for task in tasks:
        job = task.work.job
        needs = [graph[key] for key in job.needs if key in graph]
        with dask.annotate(priority=task.priority):
            graph[job.key] = delayed(do, pure=False)(task.work, *needs, dask_key_name=task.name)
    return graph


def settled(jobs: Sequence[Job], known: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Outcomes of all jobs that need no task: the known ones, and whom the failed among them block.

    Parameters
    ----------
    jobs
        In an order in which they could run.
    known
        Outcomes that are known, also of jobs that are not among ``jobs``.
    """
    found = dict(known)
    for job in jobs:
        if job.key not in found:
            bad = next((found[k] for k in job.needs if k in found and not found[k].is_good), None)
            if bad is not None:
                found[job.key] = blocked(job.key, bad)
    return found


def execute(
    tasks: Sequence[Task],
    known: Mapping[str, Outcome],
    client: Client,
    ended: Callable[[Outcome | None], None],
    explain: Callable[[Outcome], Outcome] = lambda outcome: outcome,
) -> dict[str, Outcome]:
    """Run tasks where Dask runs and follow them to their ends.

    Parameters
    ----------
    tasks
        In an order in which they could run.
    known
        Outcomes of all other jobs that they need.
    client
        Where they run.
    ended
        Told of each outcome as it comes, and once a second of None.
    explain
        Gives an outcome with what the cluster knows of it.

    Returns
    -------
    dict
        Outcomes of these tasks by the job's key.

    Raises
    ------
    ClusterError
        If the cluster that is open cannot go on.
    """
    graph = build(tasks, known)
    futures = client.compute(list(graph.values()), optimize_graph=False)
    keys = {future.key: key for key, future in zip(graph, futures, strict=True)}
    found: dict[str, Outcome] = {}
    lost: dict[str, str] = {}
    try:
        for future in ends_of(futures):
            if future is None:
                ended(None)
                continue
            result = _result(future)
            if isinstance(result, Outcome):
                result = explain(result)
                found[keys[future.key]] = result
                ended(result)
            else:
                lost[keys[future.key]] = result
    finally:
        client.cancel([future for future in futures if not future.done()])
    for outcome in _of_lost([task.work.job for task in tasks if task.work.job.key in lost], lost):
        found[outcome.key] = outcome
        ended(outcome)
    return found


def _result(future: Future[Any]) -> Outcome | str:
    """The outcome of a task, or why there is none: its worker or the scheduler has gone."""
    try:
        result = future.result()
    except Exception as err:  # also distributed's CancelledError and KilledWorker
        return f"{type(err).__name__}: {err}"
    return result if isinstance(result, Outcome) else f"a task gave {result!r}"


def _of_lost(jobs: Sequence[Job], lost: Mapping[str, str]) -> Iterable[Outcome]:
    """Outcomes of tasks that Dask lost; who needs a lost one is blocked by it."""
    found: dict[str, Outcome] = {}
    for job in jobs:
        bad = next((found[key] for key in job.needs if key in found), None)
        reason = f"Dask lost the task ({lost[job.key]}); see the logs of its workers"
        found[job.key] = (
            Outcome(key=job.key, state="failed", reason=reason) if bad is None
            else blocked(job.key, bad)
        )  # fmt: skip
    return found.values()
