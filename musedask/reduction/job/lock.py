"""One esorex for a job at a time, on any number of hosts: a lock that dies with its holders.

The lock is an open file (``flock``). esorex inherits it, so that a new attempt
waits for an esorex that has outlived its worker.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from musedask.errors import FileError
from musedask.locks import try_lock
from musedask.reduction.job.esorex import check_not_stopping
from musedask.reduction.job.folder import writing

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 0.5


@contextmanager
def held(path: Path, wait_s: float) -> Iterator[int]:
    """Hold the lock of a job inside the block; give its descriptor.

    The file says who holds it and is removed at the end.

    Parameters
    ----------
    path
        The lock's file; its folder is made.
    wait_s
        How long to wait for another holder, seconds.

    Raises
    ------
    FileError
        If another process holds it for longer than that, or the file cannot be
        written.
    StoppedError
        If the run ends while it waits.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _locked(path, wait_s)
    try:
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield descriptor
    finally:
        # Removed while it is held: whoever waits for it sees that it is gone, and takes another.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, wait_s: float) -> int:
    """A descriptor that holds the lock."""
    start = time.monotonic()
    waiting = False
    while True:
        check_not_stopping()
        with writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if _try(descriptor, path):
            if _is_still(descriptor, path):
                return descriptor
            os.close(descriptor)
            continue
        who = _holder(descriptor)
        os.close(descriptor)
        elapsed = time.monotonic() - start
        if elapsed > wait_s:
            raise FileError(
                f"{path}: another process ({who}) has been running this job for more than "
                f"{wait_s:g} s; wait until it has ended, or end it"
            )
        if not waiting and elapsed > 1.0:
            logger.info("%s: waiting for %s, which runs this job", path, who)
            waiting = True
        time.sleep(min(_LONGEST_PAUSE_S, 0.01 + elapsed / 10))


def _try(descriptor: int, path: Path) -> bool:
    """Take the lock if it is free."""
    try:
        return try_lock(descriptor, path, "start one reduction at a time")
    except FileError:
        os.close(descriptor)
        raise


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the file that is locked is the one of that name, not one that was removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    """Who holds a lock, for people."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {content['pid']} on {content['host']} since {content['since']} UTC"
    except (OSError, ValueError, KeyError, TypeError):
        return "of which nothing is known"
