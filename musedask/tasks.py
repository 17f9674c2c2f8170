"""Independent pieces of work as Dask tasks, wherever Dask runs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import dask
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.delayed import delayed

from musedask.cluster import ends_of
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
    name = f"{getattr(function, '__name__', 'task')}-{uuid.uuid4().hex}"
    # Bound in a partial, since Dask would take a dataclass or a Dataset apart.
    tasks = [
        delayed(partial(function, item), pure=False)(dask_key_name=f"{name}-{i}")
        for i, item in enumerate(given)
    ]
    client = active_client()
    if client is not None:
        return _on_cluster(client, tasks, ticker)
    keys = {task.key for task in tasks}

    def after(key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        if key in keys:
            ticker.step()

    with Callback(posttask=after):
        return list(dask.compute(*tasks, scheduler="threads"))


def active_client() -> distributed.Client | None:
    """The distributed client that is in charge, if one is."""
    owner = getattr(get_scheduler(), "__self__", None)
    if owner is None:
        return None
    # Only now: it takes a fifth of a second, and most commands need no cluster.
    import distributed

    return owner if isinstance(owner, distributed.Client) else None


def _on_cluster(client: distributed.Client, tasks: list[Any], ticker: Ticker) -> list[Any]:
    futures = client.compute(tasks)
    try:
        for future in ends_of(futures):
            if future is not None:
                future.result()  # the first failure stops the rest
                ticker.step()
        return list(client.gather(futures))
    finally:
        client.cancel([future for future in futures if not future.done()])
