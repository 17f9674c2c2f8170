"""The client itself as a job of SLURM, for runs that are longer than a login."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from musedask.cluster.commands import call
from musedask.cluster.sizes import bytes_of
from musedask.cluster.slurm import log_folder, slurm_options
from musedask.config import ClusterConfig
from musedask.errors import ClusterError, FileError, InputError

MEMORY = "4 GiB"
"""Of the client, if nobody says how much."""
NAME = "musedask-client"


def submit_client(config: ClusterConfig, arguments: Sequence[str]) -> tuple[str, Path]:
    """Let a command of musedask run as a job of SLURM, which submits its workers itself.

    Parameters
    ----------
    config
        Where; ``[cluster.client]`` says what is different for the client.
    arguments
        Of the command.

    Returns
    -------
    tuple
        Number of the job, and the file with all that the command says.

    Raises
    ------
    InputError
        If the workers are no jobs of SLURM.
    ClusterError
        If SLURM refuses the job.
    """
    if config.kind != "slurm":
        raise InputError(f"--in-job is for [cluster] kind = 'slurm', not {config.kind!r}")
    config = config.of_stage("client")
    options = slurm_options(config)
    folder = log_folder(options)
    log = _log(folder)
    command = [sys.executable, "-m", "musedask.cli", *arguments]
    script = f"#!/bin/sh\nexec {shlex.join(command)}\n"
    given = dict(config.options).get("job_extra_directives") or ()
    flags = [*_flags(config, options), f"--output={log}", "--open-mode=append", *map(str, given)]
    try:
        answer = call(("sbatch", "--parsable", f"--job-name={NAME}", *flags), given=script)
    except ClusterError as err:
        raise ClusterError(
            f"SLURM refuses the client: {err}; change [cluster.client] or [cluster.options]"
        ) from None
    return answer.strip().partition(";")[0], log


def _log(folder: Path) -> Path:
    """A new file that this user alone can read: the dashboard's secret address will be in it."""
    path = folder / f"{NAME}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(0o600, exist_ok=False)
    except OSError as err:
        raise FileError(f"{path}: cannot be made: {err.strerror or err}") from err
    return path


def _flags(config: ClusterConfig, options: dict[str, object]) -> Iterator[str]:
    yield "--ntasks=1"
    yield f"--cpus-per-task={config.cores or 1}"
    yield f"--mem={-(-bytes_of(config.memory or MEMORY) // (1 << 20))}M"
    named = {"queue": "partition", "account": "account", "walltime": "time"}
    for key, flag in named.items():
        if options.get(key):
            yield f"--{flag}={options[key]}"
