"""Which jobs of a plan are finished, found from their records alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from musedask.errors import FileError
from musedask.reduction.job_folder import RunFolders
from musedask.reduction.job_record import JobRecord, read_record
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
