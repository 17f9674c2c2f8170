"""One writer at a time for an offset table: measuring, setting by hand, and the review page."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from musedask.alignment.material import material_folder
from musedask.errors import FileError

LOCK_NAME = ".review.lock"


@contextmanager
def table_locked(offsets: Path) -> Iterator[None]:
    """Hold the lock of an offset table, to read it, change it and write it.

    The lock lies in the folder beside the table. Without that folder nothing
    can be reviewed, and nothing is locked.

    Raises
    ------
    FileError
        If the lock cannot be written.
    """
    folder = material_folder(offsets)
    if not folder.is_dir():
        yield
        return
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as err:
        raise FileError(f"{path}: cannot be written: {err.strerror or err}") from err
    try:
        # Where the file system has no locks, a table is still whole, and rows have versions.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
