"""Where Dask runs: this process, processes of this machine, SLURM, or a scheduler elsewhere.

A job of esorex is a process of its own with its own memory, so threads are
enough on one machine; a Dask worker that is a process runs one job at a time,
since then a lost worker costs one job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from musedask.cluster.connecting import connect
from musedask.cluster.place import Cluster, opened, secret_prefix
from musedask.cluster.sizes import cores, memory_of
from musedask.config import CLUSTERS, ClusterConfig, cluster_config

told = logging.getLogger("musedask.told")
"""What a user at a terminal is told even without asking."""

_SETTINGS = {
    # With more, a worker holds tasks that it does not run, and they are blamed on it when it dies.
    "distributed.scheduler.worker-saturation": 1.0,
    # Lost workers are counted by the reduction, job by job, and on disk.
    "distributed.scheduler.allowed-failures": 100,
    # An adaptive cluster asks for one worker only, if it takes tasks for short.
    "distributed.scheduler.unknown-task-duration": "1h",
    # Lost workers are replaced by who looks after them, and not forgotten before.
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.worker.profile.enabled": False,
}
STACK_LOSSES = 6
"""So many workers may die while they make one block: then it is most likely the block."""


@contextmanager
def open_cluster(config: ClusterConfig | str | None = None, stage: str = "") -> Iterator[Cluster]:
    """Open a place where Dask runs; inside the block all of musedask computes there.

    Parameters
    ----------
    config
        Which: a configuration, or the name of a site; threads of this process by default,
        as many as there are cores.
    stage
        What for, where the configuration makes a difference: ``reduce``, ``scipost`` or
        ``stack``.

    Raises
    ------
    InputError
        If the configuration cannot be, or no scheduler answers.
    MissingError
        If a package, a program or the site is missing.
    ClusterError
        If SLURM refuses the jobs.
    """
    import dask.config
    import distributed  # noqa: F401  # its defaults, before settings of it are set and taken back

    if isinstance(config, str):
        config = cluster_config({"site": config})
    config = (config or ClusterConfig()).of_stage(stage)
    prefix = secret_prefix()
    settings = dict(_SETTINGS)
    if config.kind != "address":
        settings["distributed.dashboard.link"] = f"{{scheme}}://127.0.0.1:{{port}}{prefix}/status"
    if stage == "stack":
        settings["distributed.scheduler.allowed-failures"] = STACK_LOSSES
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        cluster = stack.enter_context(_OPENERS[config.kind](config, stage, prefix))
        if config.kind == "slurm" and cluster.dashboard:
            told.info("dashboard: %s; for your own machine: %s", cluster.dashboard, cluster.tunnel)
        yield stack.enter_context(opened(cluster))


@contextmanager
def _own(config: ClusterConfig, stage: str, prefix: str) -> Iterator[Cluster]:
    """Workers on this machine, which nobody else can reach."""
    from distributed import Client, LocalCluster

    from musedask.cluster import certificates, worker_end

    processes = config.kind == "local"
    memory = memory_of(config)
    workers = config.workers or cores()
    threads = (config.cores or 1) if stage == "stack" else 1
    with ExitStack() as stack:
        cluster = LocalCluster(
            n_workers=workers if processes else 1,
            threads_per_worker=threads if processes else workers,
            processes=processes,
            host="127.0.0.1" if processes else None,
            # Other users of this machine can reach its loopback, too.
            security=certificates.in_memory() if processes and config.tls else None,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"http_prefix": prefix, "dashboard": config.dashboard},
            worker_dashboard_address="127.0.0.1:0",
            http_prefix=prefix,
            # What esorex takes is not in the worker's own memory: the reduction's gate counts it.
            memory_limit=0,
            silence_logs=logging.ERROR,
            preload=[*_preloads(), worker_end.__name__],
        )
        stack.callback(cluster.close, timeout=10)
        client = stack.enter_context(Client(cluster, set_as_default=True))
        yield Cluster(config.kind, client, workers, memory)


def _preloads() -> list[str]:
    """What Dask's own configuration has each worker load."""
    import dask.config

    found = dask.config.get("distributed.worker.preload")
    return [found] if isinstance(found, str) else list(found)


@contextmanager
def _address(config: ClusterConfig, stage: str, prefix: str) -> Iterator[Cluster]:
    client = connect(config.address, f"[cluster] address = {config.address!r}")
    with client:
        yield Cluster(config.kind, client, 0, None, config.address)


def _slurm(config: ClusterConfig, stage: str, prefix: str) -> AbstractContextManager[Cluster]:
    from musedask.cluster.slurm import slurm_cluster

    return slurm_cluster(config, stage, prefix)


Opener = Callable[[ClusterConfig, str, str], AbstractContextManager[Cluster]]
_OPENERS: dict[str, Opener] = {
    "threads": _own, "local": _own, "address": _address, "slurm": _slurm,
}  # fmt: skip
assert set(_OPENERS) == set(CLUSTERS)
