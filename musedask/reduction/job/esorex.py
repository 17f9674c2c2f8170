"""Where esorex is called: the one place of the package that starts it.

esorex takes options from its command line, from ``ESOREX_*`` variables and from
``~/.esorex``, and the recipes look at ``MUSE_*`` variables. Only the command
line is to count: the environment is scrubbed, HOME is the folder of the call, and
every option that changes what comes out is given.

No esorex outlives its parent: it gets SIGKILL from the kernel when the thread that
started it is gone (``setpriv --pdeathsig``), and from here on an exception
(Ctrl-C), at the end of its time, and after :func:`stop_all`.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from musedask.errors import FileError, MissingError, MusedaskError

PRODUCTS = "products"
"""Folder below the folder of a call to which esorex moves the products."""
PRODUCTS_LIST = "products.json"
"""What esorex says it has made."""
LOG = "esorex.log"
UNFINISHED_LOG = ".logfile"
"""What esorex's log is called until its end; it keeps that name if esorex is killed."""
TERMINAL = "terminal.txt"
"""What esorex wrote to its terminal."""
OPTIONS = (
    "--suppress-prefix=TRUE",
    "--suppress-link=TRUE",
    "--output-readonly=FALSE",
    "--check-sof-exist=TRUE",
    # Later products carry the DATAMD5 of what they were made from.
    "--no-checksum=FALSE",
    "--no-datamd5=FALSE",
    "--log-level=info",
    "--msg-level=info",
    "--log-dir=.",
    f"--log-file={LOG}",
    f"--output-dir={PRODUCTS}",
    f"--products-sof={PRODUCTS_LIST}",
)
"""Options of each job, so that neither a user's nor a site's configuration changes them."""
SCRUBBED = ("ESOREX_", "MUSE_", "CPL_", "OMP_", "GOMP_")
"""Beginnings of the names of variables that esorex must not see."""
NOT_INSTALLED = (
    "on Debian and Ubuntu, apt-get install esorex cpl-plugin-muse; "
    "elsewhere put esorex into PATH, or name it in MUSEDASK_ESOREX"
)
_LONGEST_PAUSE_S = 0.2
_MIB = 1 << 20

_stopping = threading.Event()
_calls: set[int] = set()


class StoppedError(MusedaskError, RuntimeError):
    """esorex was ended because the run that wanted it ends."""


@dataclass(frozen=True)
class Call:
    """How a call of esorex ended."""

    command: tuple[str, ...]
    """Its arguments, the executable first."""
    folder: Path
    """Where it ran."""
    status: int
    """Exit status; minus the signal's number where a signal ended it."""
    wall_s: float
    """Seconds from start to end."""
    cpu_s: float
    """Seconds of CPU, all its threads together."""
    peak_memory: int
    """Largest resident size, bytes; 0 if it ended before anyone could look."""
    timed_out: bool = False
    """Whether it was ended because its time was up."""

    @property
    def output(self) -> str:
        """What it wrote to its terminal."""
        return (self.folder / TERMINAL).read_text(encoding="utf-8", errors="replace")


def executable() -> str:
    """Absolute path of esorex: what MUSEDASK_ESOREX names, else the first in PATH.

    Raises
    ------
    MissingError
        If there is none; it says which package has it.
    """
    named = os.environ.get("MUSEDASK_ESOREX")
    found = shutil.which(named or "esorex")
    if found is None:
        where = f"MUSEDASK_ESOREX = {named}" if named else "PATH"
        raise MissingError(f"esorex is not there ({where}): {NOT_INSTALLED}")
    return os.path.abspath(found)


def recipe_options() -> tuple[str, ...]:
    """Give the option that says where the recipes are, if MUSEDASK_RECIPE_DIR does."""
    folder = os.environ.get("MUSEDASK_RECIPE_DIR")
    return (f"--recipe-dir={folder}",) if folder else ()


def environment(home: str | os.PathLike[str], cores: int) -> dict[str, str]:
    """Environment of a call.

    Parameters
    ----------
    home
        A folder without a ``.esorex``.
    cores
        Threads that it may use.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(SCRUBBED)}
    return {**kept, "HOME": os.fspath(home), "LC_ALL": "C", "OMP_NUM_THREADS": str(cores)}


def call_esorex(
    arguments: Sequence[str],
    folder: Path,
    *,
    cores: int = 1,
    timeout_s: float | None = None,
    keep_open: Sequence[int] = (),
) -> Call:
    """Run esorex in a folder of its own and wait for its end.

    Parameters
    ----------
    arguments
        Options, recipe, its parameters, SOF.
    folder
        Its working directory and its HOME; what it writes to the terminal goes
        into ``terminal.txt`` there.
    cores
        Threads that it may use.
    timeout_s
        Seconds after which it is ended.
    keep_open
        Descriptors that it inherits: a lock that has to last as long as it does.

    Raises
    ------
    MissingError
        If esorex is not installed.
    FileError
        If it cannot be started.
    StoppedError
        If :func:`stop_all` was called.
    """
    command = (executable(), *recipe_options(), *arguments)
    check_not_stopping()
    start = time.monotonic()
    with open(folder / TERMINAL, "wb") as terminal:
        try:
            process = subprocess.Popen(
                [*_tie_to_parent(), *command],
                cwd=folder,
                env=environment(folder, cores),
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(keep_open),
                process_group=0,
            )
        except OSError as err:
            raise FileError(
                f"{command[0]}: cannot be started: {err.strerror or err}; {NOT_INSTALLED}"
            ) from err
    _calls.add(process.pid)
    try:
        status, usage, memory, timed_out = _wait(process, start, timeout_s)
    finally:
        _calls.discard(process.pid)
    wall_s = time.monotonic() - start
    cpu_s = usage.ru_utime + usage.ru_stime
    return Call(command, folder, status, wall_s, cpu_s, memory, timed_out)


@cache
def _tie_to_parent() -> tuple[str, ...]:
    """Give the command that lets a process die with its parent, if this system has one."""
    setpriv = shutil.which("setpriv")
    tie = (setpriv or "", "--pdeathsig", "KILL")
    if (
        setpriv is None
        or subprocess.run([*tie, "true"], capture_output=True, check=False).returncode
    ):
        return ()
    return tie


def _wait(
    process: subprocess.Popen[bytes], start: float, timeout_s: float | None
) -> tuple[int, resource.struct_rusage, int, bool]:
    """Wait; give status, resources, peak of the memory and whether the time was up.

    ``os.wait4`` is what tells the resources of this one child.
    """
    seen = 0
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            elapsed = time.monotonic() - start
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage, _peak(usage, seen), False
            check_not_stopping()
            if timeout_s is not None and elapsed > timeout_s:
                status, usage = _kill(process)
                return status, usage, _peak(usage, seen), True
            seen = max(seen, _resident_peak(process.pid))
            time.sleep(min(_LONGEST_PAUSE_S, 0.003 + elapsed / 20))
    except BaseException:
        if process.returncode is None:
            _kill(process)
        raise


def _kill(process: subprocess.Popen[bytes]) -> tuple[int, resource.struct_rusage]:
    """End a process and what it started."""
    os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def _peak(usage: resource.struct_rusage, seen: int) -> int:
    """Peak of the memory, bytes.

    Linux counts the parent's memory before the exec into ``ru_maxrss``: it tells
    the child's own peak only where that is above the parent's.
    """
    parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss * 1024 if usage.ru_maxrss > parent else seen


def _resident_peak(pid: int) -> int:
    """Peak so far of a running process, bytes; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def check_not_stopping() -> None:
    """Raise a StoppedError after :func:`stop_all`: whoever waits gives up."""
    if _stopping.is_set():
        raise StoppedError("the run ends: no esorex is started, and those that run are ended")


def stop_all(wait_s: float = 10.0) -> None:
    """End each esorex that this process runs, in whichever thread, and let no other start.

    Parameters
    ----------
    wait_s
        How long to wait for their threads to notice, seconds.
    """
    _stopping.set()
    end = time.monotonic() + wait_s
    while _calls and time.monotonic() < end:
        time.sleep(0.01)


@contextmanager
def no_esorex_left() -> Iterator[None]:
    """Let esorex run in any thread of this process until the block ends.

    An exception that leaves the block (Ctrl-C, SystemExit) ends each of them;
    the threads that waited for them get a :class:`StoppedError`.
    """
    _stopping.clear()
    try:
        yield
    except BaseException:
        stop_all()
        raise
