"""Which jobs of a plan are finished, found from their records alone."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from musedask.errors import FileError
from musedask.reduction.job.folder import RunFolders, remove
from musedask.reduction.job.record import JobRecord, read_record
from musedask.reduction.jobs import Job

logger = logging.getLogger(__name__)

THREADS = 8
"""Network disks answer several questions at a time."""


def find_records(folders: RunFolders, jobs: Iterable[Job]) -> dict[str, JobRecord]:
    """Records of the finished ones among these jobs, by key.

    A record that cannot be read makes its job unfinished: who runs it says why.
    """

    def find(job: Job) -> JobRecord | None:
        try:
            return read_record(folders.final(job))
        except FileError as err:
            logger.info("%s", err)
            return None

    wanted = list(jobs)
    if not folders.products.is_dir():
        return {}
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(find, wanted)
        return {job.key: one for job, one in zip(wanted, found, strict=True) if one is not None}


def sweep_finished(folders: RunFolders, keys: Container[str]) -> None:
    """Remove what is left beside finished jobs whose process died just after they were done.

    Parameters
    ----------
    folders
        The run's folders.
    keys
        Keys of finished jobs.
    """
    for scratch in folders.scratch.glob("muse_*-*-*-*"):
        if scratch.name.split("-")[1] in keys:
            try:
                remove(scratch)
            except FileError as err:  # nobody needs it gone
                logger.info("%s", err)
    for lock in folders.products.glob("muse_*/*.lock"):
        if lock.stem in keys:
            _remove_free(lock)


def _remove_free(lock: Path) -> None:
    """Remove a lock that nobody holds."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.unlink(missing_ok=True)
    except OSError as err:
        logger.info("%s: %s", lock, err)
    finally:
        os.close(descriptor)
