"""Independent pieces of work as Dask tasks, wherever Dask runs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import dask
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.delayed import delayed

from musedask.cluster import ends_of, open_now
from musedask.errors import ClusterError
from musedask.progress import Progress, Ticker

if TYPE_CHECKING:
    import distributed

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_tasks(
    function: Callable[[Item], Result], items: Iterable[Item], progress: Progress | None = None
) -> list[Result]:
    """Call a function for each item, one Dask task each; computes.

    Runs on the cluster whose client is active, else in threads of this process.
    What the function computes with Dask itself it has to compute with a scheduler
    that it names (``synchronous``): Dask's settings are those of the whole process.

    Parameters
    ----------
    function
        Can be pickled, with the items.
    items
        What it is called with; Dask does not look into them.
    progress
        Told how many are done.

    Returns
    -------
    list
        What the function gave, in the order of the items.
    """
    given = list(items)
    ticker = Ticker(progress, len(given))
    ticker.tell()
    name = f"task-{uuid.uuid4().hex}"
    # Bound in a partial, since Dask would take a dataclass or a Dataset apart.
    tasks = [
        delayed(partial(function, item), pure=False)(dask_key_name=f"{name}-{i}")
        for i, item in enumerate(given)
    ]
    return compute_each(tasks, ticker, "a task was not done", "[cluster]")


def compute_each(tasks: Sequence[Any], ticker: Ticker, lost: str, section: str) -> list[Any]:
    """Compute tasks of Dask, counting each as it ends; the first failure stops the rest.

    Parameters
    ----------
    tasks
        Delayed objects.
    ticker
        Counts them.
    lost, section
        What to say if their workers die: what is missing then, and which section of the
        configuration gives workers more memory.

    Returns
    -------
    list
        The results, in the order of the tasks.

    Raises
    ------
    ClusterError
        If the workers die again and again, or the cluster cannot go on.
    """
    client = active_client()
    if client is not None:
        return _on_cluster(client, tasks, ticker, lost, section)
    keys = {task.key for task in tasks}

    def after(key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        if key in keys:
            ticker.step()

    with Callback(posttask=after):
        return list(dask.compute(*tasks))


def active_client() -> distributed.Client | None:
    """The distributed client that is in charge, if one is."""
    owner = getattr(get_scheduler(), "__self__", None)
    if owner is None:
        return None
    # Only now: it takes a fifth of a second, and most commands need no cluster.
    import distributed

    return owner if isinstance(owner, distributed.Client) else None


def _on_cluster(
    client: distributed.Client, tasks: Sequence[Any], ticker: Ticker, lost: str, section: str
) -> list[Any]:
    futures = client.compute(list(tasks))
    results = {}
    try:
        for future in ends_of(futures):
            if future is not None:
                results[future.key] = _result(future, lost, section)
                ticker.step()
        return [results[future.key] for future in futures]
    finally:
        client.cancel([future for future in futures if not future.done()])


def _result(future: distributed.Future[Any], lost: str, section: str) -> Any:
    """What came of a task; why there is nothing, in SLURM's words where it runs there."""
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except (KilledWorker, CancelledError) as err:
        cluster = open_now()
        last = str(cluster.watch.last_loss()) if cluster and cluster.watch else ""
        raise ClusterError(
            f"{lost}, its workers died{last and ' (' + last + ')'}: {err}; most "
            f"likely they have too little memory: give {section} more, or fewer cores"
        ) from err
