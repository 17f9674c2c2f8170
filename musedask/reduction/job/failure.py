"""Why a job failed: in the pipeline's words where those tell, with the log and the script."""

from __future__ import annotations

import shlex
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from musedask.errors import MusedaskError
from musedask.reduction.job.complaints import Complaint
from musedask.reduction.job.esorex import LOG, TERMINAL, UNFINISHED_LOG, Call
from musedask.reduction.job.log import LogSummary, parse_log
from musedask.reduction.job.repeat import SCRIPT_NAME
from musedask.reduction.jobs import Job

_DISK_STATUS = 66
"""Status of esorex if it cannot move a product to its folder."""
_NEARLY_FULL = 10 << 20
"""Bytes left on a disk that count as none: esorex removes nothing when it fails."""
_DISK_WORDS = r"File read/write error|No space left|Unable to move product"
_LOG_LINES = 15
_SIGNALS = {
    signal.SIGKILL: "most likely it took more memory than there is",
    signal.SIGTERM: "by the batch system, or by hand",
    signal.SIGSEGV: "the recipe crashed",
    signal.SIGABRT: "the recipe crashed",
    signal.SIGBUS: "the recipe crashed; is a disk full?",
}


class JobError(MusedaskError, RuntimeError):
    """A job that failed: esorex did, or a check of what it made."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = message
        """Why, in the pipeline's words where those tell."""
        self.status: int | None = None
        """Status of esorex; None where the same job may well succeed the next time."""
        self.timed_out = False
        """Whether it was ended because its time was up."""
        self.scratch = ""
        """Folder in which it ran, kept until the next attempt."""
        self.log = ""
        """esorex's log in it."""
        self.log_end: tuple[str, ...] = ()
        """The log's last lines."""
        self.repeat = ""
        """Script that repeats it by hand."""


def log_file(scratch: Path) -> Path:
    """Find the log: under its name, that of an unfinished one, or what the terminal got."""
    names = (LOG, UNFINISHED_LOG)
    return next((scratch / n for n in names if (scratch / n).is_file()), scratch / TERMINAL)


def read_log(scratch: Path) -> LogSummary:
    """Read esorex's log in the folder in which it ran."""
    return parse_log(log_file(scratch).read_text(encoding="utf-8", errors="replace"))


def call_failed(job: Job, call: Call, timeout_s: float | None) -> JobError:
    """The error of a job whose esorex did not end with status 0."""
    log = read_log(call.folder)
    if call.timed_out:
        return _too_long(job, call, timeout_s, log)
    free = shutil.disk_usage(call.folder).free
    if call.status == _DISK_STATUS or (log.find(_DISK_WORDS) and free < _NEARLY_FULL):
        reason = f"the disk of {call.folder} is full ({free >> 20} MiB left): {log.reason}"
        error = failed(job, call, reason, log)
        error.status = None
        return error
    return failed(job, call, f"{_ending(call)}: {_words(call, log)}", log)


def _too_long(job: Job, call: Call, timeout_s: float | None, log: LogSummary) -> JobError:
    allowed = timeout_s or 0.0
    limit = f"{allowed / 3600:.3g} h" if allowed >= 3600 else f"{allowed:g} s"
    last = log.lines[-1].text if log.lines else "nothing"
    reason = (
        f"took longer than {limit}, and was ended after {call.cpu_s / 3600:.3g} h of CPU; the last "
        f"that it said: {last}. A recipe can run for ever on bad input; if it only needs more "
        "time, give it with hours_per_job in [reduction]"
    )
    error = failed(job, call, reason, log)
    error.timed_out = True
    return error


def checks_failed(
    job: Job, call: Call, complaints: Sequence[Complaint], log: LogSummary
) -> JobError:
    """The error of a job whose esorex ended with status 0 and did not do what it should."""
    texts = [f"[{one.check}] {one.text}" for one in complaints]
    names = ", ".join(dict.fromkeys(repr(one.check) for one in complaints))
    hint = f"to go on all the same, put {names} into tolerate of [reduction]"
    return failed(job, call, "; ".join([*texts, hint]), log)


def failed(job: Job, call: Call, reason: str, log: LogSummary) -> JobError:
    """Give the error of a job, with all that is known of its end."""
    name = f"{job.recipe} ({job.title})" if job.title else job.recipe
    path, script = log_file(call.folder), call.folder / SCRIPT_NAME
    log_end = tuple(log.end(_LOG_LINES).splitlines())
    told = (
        f"{name} failed: {reason}",
        f"command (in {call.folder}): {shlex.join(call.command)}",
        f"to repeat it by hand, in an empty folder: sh {shlex.quote(str(script))}",
        f"end of the log ({path}):",
        *log_end,
    )
    error = JobError("\n  ".join(told))
    error.reason = reason
    error.status = call.status
    error.scratch = str(call.folder)
    error.log = str(path)
    error.log_end = log_end
    error.repeat = str(script)
    return error


def _ending(call: Call) -> str:
    """How esorex ended, in words."""
    if call.status >= 0:
        return f"esorex ended with status {call.status}"
    try:
        number = signal.Signals(-call.status)
    except ValueError:
        return f"esorex was ended by signal {-call.status}"
    why = f" ({_SIGNALS[number]})" if number in _SIGNALS else ""
    return f"esorex was ended by {number.name}{why}"


def _words(call: Call, log: LogSummary) -> str:
    """What the log says, or the last that esorex wrote anywhere."""
    if log.reason:
        return log.reason
    lines = [line.strip() for line in call.output.splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing"
