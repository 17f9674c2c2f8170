"""Where Dask runs: this process, processes of this machine, SLURM, or a scheduler elsewhere.

A job of esorex is a process of its own with its own memory, so threads are
enough on one machine; a Dask worker that is a process runs one job at a time,
since then a lost worker costs one job.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musedask.config import ClusterConfig
from musedask.errors import InputError, MissingError

if TYPE_CHECKING:
    from distributed import Client

GIB = 1 << 30
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 1 << 10, "mi": 1 << 20, "gi": GIB, "ti": 1 << 40}
CONNECT_S = 15.0
_CGROUP = Path("/sys/fs/cgroup")
_SETTINGS = {
    # With more, a worker holds tasks that it does not run, and they are blamed on it when it dies.
    "distributed.scheduler.worker-saturation": 1.0,
    # Lost workers are counted by the reduction, job by job, and on disk.
    "distributed.scheduler.allowed-failures": 100,
    # An adaptive cluster asks for one worker only, if it takes tasks for short.
    "distributed.scheduler.unknown-task-duration": "1h",
    "distributed.worker.profile.enabled": False,
}


@dataclass(frozen=True)
class Cluster:
    """Where tasks run at this moment."""

    kind: str
    """As in the configuration."""
    client: Client
    """To submit tasks by."""
    workers: int
    """How many jobs run at once; 0 where that may change."""
    memory: int | None
    """Bytes that the jobs of this machine may have in all; None where workers have their own."""
    address: str = ""
    """Of a scheduler elsewhere."""

    def __str__(self) -> str:
        if self.kind in ("threads", "local"):
            memory = "" if self.memory is None else f", {self.memory / GIB:.1f} GiB"
            return f"{self.kind}: {self.workers} jobs at once{memory}"
        return f"{self.kind}: {self.address}"


_open: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


def open_now() -> Cluster | None:
    """The cluster of the innermost :func:`open_cluster` that is open."""
    return _open.get()


@contextmanager
def open_cluster(config: ClusterConfig | None = None) -> Iterator[Cluster]:
    """Open a place where Dask runs; inside the block all of musedask computes there.

    Parameters
    ----------
    config
        Which; threads of this process by default, as many as there are cores.

    Raises
    ------
    InputError
        If the configuration cannot be, or no scheduler answers.
    MissingError
        If a package or a section of the configuration is missing.
    """
    config = config or ClusterConfig()
    with ExitStack() as stack:
        cluster = _OPENERS[config.kind](config, stack)
        token = _open.set(cluster)
        try:
            yield cluster
        finally:
            _open.reset(token)


def _threads(config: ClusterConfig, stack: ExitStack) -> Cluster:
    return _own(config, stack, processes=False)


def _local(config: ClusterConfig, stack: ExitStack) -> Cluster:
    return _own(config, stack, processes=True)


def _own(config: ClusterConfig, stack: ExitStack, *, processes: bool) -> Cluster:
    """Workers on this machine, which nobody else can reach."""
    import dask.config
    from distributed import Client, LocalCluster

    memory = memory_of(config)
    workers = config.workers or cores()
    stack.enter_context(dask.config.set(_SETTINGS))
    cluster = LocalCluster(
        n_workers=workers if processes else 1,
        threads_per_worker=1 if processes else workers,
        processes=processes,
        host="127.0.0.1" if processes else None,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        # What esorex takes is not in the worker's own memory: the reduction's gate counts it.
        memory_limit=0,
        silence_logs=logging.ERROR,
    )
    stack.callback(cluster.close, timeout=10)
    client = stack.enter_context(Client(cluster, set_as_default=True))
    return Cluster(config.kind, client, workers, memory)


def _address(config: ClusterConfig, stack: ExitStack) -> Cluster:
    from distributed import Client

    try:
        client = stack.enter_context(Client(config.address, timeout=CONNECT_S))
    except (OSError, ValueError) as err:
        raise InputError(
            f"[cluster] address = {config.address!r}: no Dask scheduler answers there ({err}); "
            "start one, or choose another kind"
        ) from err
    return Cluster(config.kind, client, 0, None, config.address)


def _slurm(config: ClusterConfig, stack: ExitStack) -> Cluster:
    """One thread a worker, a worker a SLURM job; options go to dask-jobqueue as they are."""
    import dask.config

    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as err:
        raise MissingError("[cluster] kind = 'slurm' needs the package dask-jobqueue") from err
    from distributed import Client

    stack.enter_context(dask.config.set(_SETTINGS))
    options = slurm_options(config)
    try:
        cluster = SLURMCluster(**options)
    except (TypeError, ValueError, KeyError) as err:
        raise InputError(f"[cluster.options] SLURM cannot be asked with them: {err}") from err
    stack.enter_context(cluster)
    cluster.scale(jobs=config.workers or 1)
    client = stack.enter_context(Client(cluster, set_as_default=True))
    return Cluster(config.kind, client, config.workers or 1, None, cluster.scheduler_address)


def slurm_options(config: ClusterConfig) -> dict[str, Any]:
    """Arguments of SLURMCluster: a site's few keys over Dask's own, the configuration's above.

    Raises
    ------
    MissingError
        If Dask's configuration has no such site.
    """
    import dask.config

    site: dict[str, Any] = {}
    if config.site:
        site = dask.config.get(f"jobqueue.{config.site}", default=None) or {}
        if not site:
            raise MissingError(
                f"[cluster] site = {config.site!r}: Dask's configuration has no section "
                f"jobqueue.{config.site}; write one, or leave it out"
            )
    memory = config.memory.replace(" ", "") or "8GiB"
    own: dict[str, Any] = {"cores": 1, "processes": 1, "memory": memory}
    chosen: dict[str, Any] = {
        key.replace("-", "_"): value for key, value in site.items() if value is not None
    }
    chosen = {**own, **chosen, **dict(config.options)}
    extra = list(chosen.get("job_extra_directives") or [])
    # A worker that SLURM starts again by itself is one that nobody waits for.
    chosen["job_extra_directives"] = [*extra, "--no-requeue", "--nodes=1"]
    return chosen


_OPENERS = {"threads": _threads, "local": _local, "address": _address, "slurm": _slurm}


def cores() -> int:
    """Cores that this process may use: affinity and the control group's quota counted."""
    import dask.system

    return max(1, min(dask.system.CPU_COUNT, len(os.sched_getaffinity(0))))


def memory_of(config: ClusterConfig) -> int:
    """Bytes that jobs on this machine may have in all.

    Raises
    ------
    InputError
        If the configuration's size is none.
    """
    return bytes_of(config.memory) if config.memory else machine_memory()


def machine_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of memory of this machine or, where that is less, of this control group."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _limits(cgroup):
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        found = min(found, limit)
    return found


def _limits(cgroup: Path) -> Iterator[Path]:
    """Files with the limits of this process's control group and of those above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        number, controllers, own = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            top = cgroup if number == "0" else cgroup / "memory"
            name = "memory.max" if number == "0" else "memory.limit_in_bytes"
            parts = [part for part in own.split("/") if part and part != ".."]
            yield from (top.joinpath(*parts[:n], name) for n in range(len(parts) + 1))


def bytes_of(text: str) -> int:
    """Read a size such as ``16 GiB``.

    Raises
    ------
    InputError
        If it is none.

    Examples
    --------
    >>> bytes_of("16 GiB") == 16 * 1024**3
    True
    >>> bytes_of("1.5GB")
    1500000000
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]i?)?b?\s*", text, re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
    if not size:
        raise InputError(f"[cluster] memory = {text!r} is no size; write it like '16 GiB'")
    return size
