"""The noun of where tasks run, and which is open at this moment."""

from __future__ import annotations

import getpass
import queue
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from musedask.cluster.sizes import GIB
from musedask.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, Future

    from musedask.cluster.queue import JobState

TICK_S = 1.0
"""How often who waits for tasks looks whether the cluster can go on."""


class Watch(Protocol):
    """Who looks after the workers of a cluster."""

    def check(self) -> None:
        """Raise what keeps the work from going on."""
        ...

    def ends(self) -> Sequence[JobState]:
        """SLURM jobs that ended since this was asked last."""
        ...

    def words(self, jobs: Sequence[str]) -> str:
        """What became of SLURM jobs, in SLURM's words."""
        ...

    def last_loss(self) -> str:
        """The end of the job that ended last, in SLURM's words; "" if none has."""
        ...


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
    cores: int = 1
    """Cores that a job may use, where workers have their own."""
    walltime_s: float = float("inf")
    """For how long a worker is there at most, seconds."""
    watch: Watch | None = None
    """Who looks after the workers."""

    def __str__(self) -> str:
        if self.kind in ("threads", "local"):
            memory = "" if self.memory is None else f", {self.memory / GIB:.1f} GiB"
            return f"{self.kind}: {self.workers} jobs at once{memory}"
        return f"{self.kind}: {self.address}"

    def check(self) -> None:
        """Complain if work cannot go on here.

        Raises
        ------
        ClusterError
            If no worker can come, or the scheduler has gone; in SLURM's words.
        """
        if self.watch is not None:
            self.watch.check()
        if self.client.status not in ("running", "newly-created"):
            raise ClusterError(
                f"the Dask scheduler at {self.address or 'this machine'} does not answer any "
                "more; what is done is kept: start the same command again"
            )

    @property
    def dashboard(self) -> str:
        """URL of Dask's dashboard, to be opened on the machine of the scheduler."""
        return str(self.client.dashboard_link or "") if self.client.status == "running" else ""

    @property
    def tunnel(self) -> str:
        """The command for one's own machine after which the dashboard's URL works there."""
        port = urlsplit(self.dashboard).port
        full, name = socket.getfqdn(), socket.gethostname()
        host = name if full.startswith("localhost") else full
        return f"ssh -N -L {port}:127.0.0.1:{port} {getpass.getuser()}@{host}"


_open: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


@contextmanager
def opened(cluster: Cluster) -> Iterator[Cluster]:
    """Make a cluster the one that is open, inside the block."""
    token = _open.set(cluster)
    try:
        yield cluster
    finally:
        _open.reset(token)


def open_now() -> Cluster | None:
    """The cluster of the innermost :func:`musedask.open_cluster` that is open."""
    return _open.get()


def secret_prefix() -> str:
    """A part of a URL that nobody can guess: who has not been told it finds no page."""
    return f"/{secrets.token_urlsafe(16)}"


def ends_of(futures: Sequence[Future[Any]]) -> Iterator[Future[Any] | None]:
    """Give each future when it ends, in the order of their ends, and None once a second.

    Raises
    ------
    ClusterError
        If the cluster that is open cannot go on.
    """
    ended: queue.Queue[Future[Any]] = queue.Queue()
    cluster = open_now()
    for future in futures:
        future.add_done_callback(ended.put)
    left = len(futures)
    while left:
        try:
            one = ended.get(timeout=TICK_S)
        except queue.Empty:
            if cluster is not None:
                cluster.check()
            yield None
            continue
        if one.status == "cancelled" and cluster is not None:
            cluster.check()  # it has gone with the scheduler
        left -= 1
        yield one
