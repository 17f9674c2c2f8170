"""What SLURM says of jobs and partitions, in its own words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from musedask.cluster.commands import call
from musedask.errors import ClusterError, MusedaskError

UNDER_WAY = (
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING",
    "RESIZING", "STAGE_OUT", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
)  # fmt: skip
"""States of a job that has not quite ended."""
FROM_OUTSIDE = ("CANCELLED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED")
"""Ends of a job that are not the fault of what ran in it."""
HOPELESS = (
    "AccountNotAllowed", "BadConstraints", "InvalidAccount", "InvalidQOS", "JobHeldAdmin",
    "JobHeldUser", "PartitionDown", "PartitionInactive", "PartitionNodeLimit",
    "PartitionTimeLimit", "QOSNotAllowed",
)  # fmt: skip
"""Reasons for which a job pends until a person does something."""
ERR_LINES = 12
_MEMORY = re.compile(r"exceeded (job )?memory limit|oom[-_ ]kill|out[ -]of[ -]memory", re.I)
_ERROR = re.compile(r"^\w*(Error|Exception)\b|error:|not found|No such|No module|Killed|CANCELLED")


@dataclass(frozen=True)
class JobState:
    """A job of SLURM at one moment."""

    job: str
    """Its number."""
    state: str
    """``PENDING``, ``RUNNING``, ``TIMEOUT``..."""
    reason: str = ""
    """Why it pends, or ended, as SLURM calls it."""
    exit_code: str = ""
    """``1:0``: status and signal of the batch script."""
    nodes: str = ""
    """Where it runs or ran."""

    @property
    def is_hopeless(self) -> bool:
        """Whether it pends for a reason that does not go away by itself."""
        return self.state == "PENDING" and self.reason in HOPELESS

    def __str__(self) -> str:
        known = [self.state]
        if self.reason not in ("", "None", "(null)"):
            known.append(f"({self.reason})")
        if self.exit_code not in ("", "0:0"):
            known.append(f"exit code {self.exit_code}")
        if self.nodes not in ("", "(null)"):
            known.append(f"on {self.nodes}")
        return f"SLURM job {self.job}: {' '.join(known)}"


def jobs_under_way() -> dict[str, JobState]:
    """Jobs of this user that have not ended, by number.

    Raises
    ------
    MusedaskError
        If SLURM does not answer.
    """
    answer = call(("squeue", "-h", f"--user={os.getuid()}", "-o", "%A|%T|%r|%N"))
    found = {}
    for line in answer.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 4 and parts[1] in UNDER_WAY:
            found[parts[0]] = JobState(parts[0], parts[1], parts[2], nodes=parts[3])
    return found


def end_of(job: str) -> JobState:
    """How a job ended, from the controller or, if that has forgotten it, the accounting."""
    for ask in (_from_controller, _from_accounting):
        try:
            if (found := ask(job)) is not None:
                return found
        except MusedaskError:
            continue
    return JobState(job, "GONE", "SLURM does not know it any more")


def of_memory(state: JobState, err: Sequence[str]) -> JobState:
    """The end of a job with its memory as the cause, if its output says so and SLURM does not.

    Without control groups SLURM calls such a job FAILED.
    """
    if state.state in ("FAILED", "CANCELLED") and any(_MEMORY.search(line) for line in err):
        return replace(state, state="OUT_OF_MEMORY")
    return state


def _from_controller(job: str) -> JobState | None:
    given = fields_of(call(("scontrol", "show", "job", "-o", job)))
    if "JobState" not in given:
        return None
    nodes = given.get("NodeList", "")
    return JobState(
        job, given["JobState"], given.get("Reason", ""), given.get("ExitCode", ""), nodes
    )


def _from_accounting(job: str) -> JobState | None:
    answer = call(("sacct", "-n", "-X", "-P", "-j", job, "-o", "State,ExitCode,NodeList"))
    parts = answer.strip().splitlines()[:1]
    if not parts or parts[0].count("|") != 2:
        return None
    state, code, nodes = parts[0].split("|")
    # "CANCELLED by 1000"
    return JobState(job, state.split()[0], "", code, nodes)


def fields_of(line: str) -> Mapping[str, str]:
    """Read ``Key=value Key=value``.

    Examples
    --------
    >>> fields_of("JobId=1 JobState=TIMEOUT Reason=TimeLimit ExitCode=0:0")["JobState"]
    'TIMEOUT'
    """
    return dict(re.findall(r"(\S+?)=(\S*)", line))


@dataclass(frozen=True)
class Partition:
    """A partition of SLURM."""

    name: str
    """Its name."""
    state: str
    """``UP``, ``DOWN``, ``DRAIN``, ``INACTIVE``."""
    is_default: bool
    """Whether jobs that name none go there."""
    limit_s: float
    """Longest walltime, seconds."""


def partitions() -> dict[str, Partition]:
    """Partitions by name.

    Raises
    ------
    MusedaskError
        If SLURM does not answer.
    """
    found = {}
    for line in call(("scontrol", "show", "partition", "-o")).splitlines():
        given = fields_of(line)
        if name := given.get("PartitionName"):
            found[name] = Partition(
                name, given.get("State", ""), given.get("Default") == "YES",
                seconds_of(given.get("MaxTime", "UNLIMITED")),
            )  # fmt: skip
    return found


def seconds_of(walltime: str) -> float:
    """Seconds of a time as SLURM writes it.

    Raises
    ------
    ClusterError
        If it is none.

    Examples
    --------
    >>> [seconds_of(text) for text in ("30", "90:30", "01:00:00", "1-12", "2-00:00:30")]
    [1800.0, 5430.0, 3600.0, 129600.0, 172830.0]
    >>> seconds_of("UNLIMITED")
    inf
    """
    if walltime.upper() in ("UNLIMITED", "INFINITE", "NONE"):
        return float("inf")
    days, dash, rest = walltime.rpartition("-")
    try:
        parts = [float(part) for part in rest.split(":")]
        if dash:  # days-hours[:minutes[:seconds]]
            hours, minutes, seconds = [*parts, 0.0, 0.0][:3]
        elif len(parts) < 3:  # minutes[:seconds]
            hours, (minutes, seconds) = 0.0, [*parts, 0.0][:2]
        else:
            hours, minutes, seconds = parts
        return 86400.0 * float(days or 0) + 3600.0 * hours + 60.0 * minutes + seconds
    except ValueError:
        raise ClusterError(
            f"walltime {walltime!r}: write it as SLURM does: '12:00:00' or '1-12:00:00'"
        ) from None


def err_file(folder: Path, name: str, job: str) -> Path:
    """Where dask-jobqueue lets a job write its standard error."""
    return folder / f"{name}-{job}.err"


def end_of_file(path: Path, lines: int = ERR_LINES) -> Sequence[str]:
    """What a file says of errors near its end, else its last lines; none if it is not there."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    found = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in found if _ERROR.search(line)]
    return list(dict.fromkeys(errors or found))[-lines:]
