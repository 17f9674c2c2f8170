"""Independent pieces of work as Dask tasks, wherever Dask runs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import dask
from dask.callbacks import Callback
from dask.delayed import delayed

from musedask.progress import Progress, Ticker

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_tasks(
    function: Callable[[Item], Result], items: Iterable[Item], progress: Progress | None = None
) -> list[Result]:
    """Call a function for each item, one Dask task each; computes.

    Runs on the cluster whose client is active, else in threads of this process.
    What the function computes with Dask itself runs within its task.

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
        delayed(partial(_alone, function, item), pure=False)(dask_key_name=f"{name}-{i}")
        for i, item in enumerate(given)
    ]
    client = _active_client()
    if client is not None:
        return _on_cluster(client, tasks, ticker)
    keys = {task.key for task in tasks}

    def after(key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        if key in keys:
            ticker.step()

    with Callback(posttask=after):
        return list(dask.compute(*tasks, scheduler="threads"))


def _alone(function: Callable[[Item], Result], item: Item) -> Result:
    """Compute in this task what the function computes: its threads are others' cores."""
    with dask.config.set(scheduler="synchronous"):
        return function(item)


def _active_client() -> Any:
    """The distributed client that is in charge, or None."""
    from dask.base import get_scheduler

    owner = getattr(get_scheduler(), "__self__", None)
    if owner is None:
        return None
    import distributed

    return owner if isinstance(owner, distributed.Client) else None


def _on_cluster(client: Any, tasks: list[Any], ticker: Ticker) -> list[Any]:
    from distributed import as_completed

    futures = client.compute(tasks)
    try:
        for future in as_completed(futures):
            future.result()  # the first failure stops the rest
            ticker.step()
        return list(client.gather(futures))
    finally:
        client.cancel([future for future in futures if not future.done()])
