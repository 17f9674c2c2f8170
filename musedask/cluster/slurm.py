"""Workers as jobs of SLURM, through dask-jobqueue."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musedask.cluster import certificates
from musedask.cluster.commands import call
from musedask.cluster.place import Cluster, secret_prefix
from musedask.cluster.queue import seconds_of
from musedask.config import ClusterConfig
from musedask.errors import ClusterError, InputError, MissingError

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster

MEMORY = "8GiB"
"""Of each job, if nobody says how much."""
NAME = "musedask"
DEATH_S = 40
"""A worker that finds no scheduler for so long ends its job."""
LOGS = Path("~/.musedask/slurm")
"""Where the jobs' output goes if no run says where."""
_SHELL = re.compile(r"[%\s'\"\\$`;&|<>()#*?]")


@contextmanager
def slurm_cluster(config: ClusterConfig, stage: str, prefix: str) -> Iterator[Cluster]:
    """Ask SLURM for workers, as many as are wanted; they come when it has room.

    Raises
    ------
    InputError
        If the configuration cannot be.
    ClusterError
        If SLURM refuses such jobs, or does not answer.
    MissingError
        If a program or a package is missing.
    """
    from distributed import Client

    with ExitStack() as stack:
        cluster = submitter(config, stage, stack, prefix)
        test_submission(cluster)
        from musedask.cluster.fleet import Fleet

        number = config.workers or 1
        options = slurm_options(config, stage)
        fleet = stack.enter_context(Fleet(cluster, number, log_folder(options)))
        client = stack.enter_context(Client(cluster, set_as_default=True))
        yield Cluster(
            config.kind, client, number, None, cluster.scheduler_address, cores=config.cores or 1,
            walltime_s=walltime_of(options), watch=fleet,
        )  # fmt: skip


def submitter(
    config: ClusterConfig, stage: str, stack: ExitStack, prefix: str = ""
) -> SLURMCluster:
    """A scheduler for workers that SLURM will start; none is asked for yet.

    Raises
    ------
    InputError
        If SLURM cannot be asked with such options.
    MissingError
        If dask-jobqueue is missing.
    FileError
        If the folder for logs and keys cannot be written to.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as err:
        raise MissingError("[cluster] kind = 'slurm' needs the package dask-jobqueue") from err
    from musedask.cluster.fleet import FleetJob

    options = slurm_options(config, stage)
    options["scheduler_options"] |= {"http_prefix": prefix or secret_prefix()}
    folder = log_folder(options)
    if config.tls:
        options["security"] = stack.enter_context(certificates.in_folder(folder))
    try:
        cluster = SLURMCluster(job_cls=FleetJob, **options)  # type: ignore[arg-type]
    except (TypeError, ValueError, KeyError, RuntimeError, OSError) as err:
        interface = f" (interface {config.interface!r})" if config.interface else ""
        raise InputError(
            f"[cluster.options] SLURM cannot be asked with them{interface}: {err}"
        ) from err
    stack.callback(cluster.close, timeout=20)
    return cluster


def slurm_options(config: ClusterConfig, stage: str = "") -> dict[str, Any]:
    """Arguments of SLURMCluster, each from the last of these that has it.

    Defaults of musedask, options of the site's file, Dask's own configuration of
    the site (``jobqueue.SITE``), ``[cluster.options]`` of the run.

    Raises
    ------
    InputError
        If a value would break the script of the jobs.
    """
    import dask.config

    dasks = dask.config.get(f"jobqueue.{config.site}", default=None) if config.site else None
    cores = config.cores or 1
    own: dict[str, Any] = {
        # One job of esorex a worker, whatever its cores: a lost worker costs one job.
        "cores": cores if stage == "stack" else 1,
        "job_cpu": cores,
        "processes": 1,
        "memory": config.memory.replace(" ", "") or MEMORY,
        "job_name": NAME,
        "death_timeout": DEATH_S,
        "log_directory": config.folder or str(LOGS.expanduser()),
        "interface": config.interface or None,
        "scheduler_options": {},
    }
    chosen = own | _named(dict(config.site_options)) | _named(dasks or {})
    chosen |= _named(dict(config.options))
    extra = list(chosen.get("job_extra_directives") or [])
    # A worker that SLURM starts again by itself is one that nobody waits for.
    chosen["job_extra_directives"] = [*extra, "--no-requeue", "--nodes=1"]
    dashboard: dict[str, Any] = {"dashboard_address": "127.0.0.1:0"}
    dashboard |= {"dashboard": config.dashboard}
    chosen["scheduler_options"] = dashboard | dict(chosen["scheduler_options"])
    chosen["worker_extra_args"] = [
        *(chosen.get("worker_extra_args") or []), "--dashboard-address", "127.0.0.1:0",
    ]  # fmt: skip
    prologue = list(chosen.get("job_script_prologue") or [])
    # First, so that a site's own lines can say otherwise.
    chosen["job_script_prologue"] = [*_environment(), *prologue]
    _check_words(chosen)
    return chosen


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options by the names of arguments; what is not given is left out."""
    names = {key.replace("-", "_"): value for key, value in given.items() if value is not None}
    if "name" in names:  # what dask-jobqueue's configuration calls it
        names["job_name"] = names.pop("name")
    return names


def _environment() -> list[str]:
    """Lines of the job's script: what a worker has to know that its command line cannot say."""
    # A worker's own pages would be open to everybody on its node.
    kept = {"DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]"}
    for name in ("MUSEDASK_ESOREX", "MUSEDASK_RECIPE_DIR", "MUSEDASK_CACHE"):
        if name in os.environ:
            kept[name] = os.environ[name]
    return [f"export {name}={shlex.quote(value)}" for name, value in kept.items()]


def _check_words(options: Mapping[str, Any]) -> None:
    """Refuse what would become another command in the script of the jobs."""
    folder = str(options["log_directory"])
    if _SHELL.search(folder):
        raise InputError(
            f"[cluster] folder = {folder!r}: no blanks or signs of the shell, it goes into the "
            "script of SLURM's jobs; choose another one"
        )
    for key in ("queue", "account", "walltime", "job_name", "job_mem", "interface"):
        value = options.get(key)
        if value is not None and not re.fullmatch(r"[\w.,:+@%/-]+", str(value)):
            raise InputError(
                f"[cluster.options] {key} = {value!r}: letters, digits and . , : + - only"
            )


def log_folder(options: Mapping[str, Any]) -> Path:
    """Where the jobs' output and the keys go."""
    return Path(str(options["log_directory"])).expanduser()


def walltime_of(options: Mapping[str, Any]) -> float:
    """Seconds that a worker may be there."""
    import dask.config

    text = options.get("walltime") or dask.config.get("jobqueue.slurm.walltime", default=None)
    return seconds_of(str(text)) if text else float("inf")


def test_submission(cluster: SLURMCluster) -> None:
    """Ask SLURM whether it would take such a job.

    Raises
    ------
    ClusterError
        If it would not; in its words.
    """
    try:
        call(("sbatch", "--test-only"), given=cluster.job_script())
    except ClusterError as err:
        raise ClusterError(
            f"SLURM refuses such jobs: {err}; change [cluster], or [cluster.options]"
        ) from None
