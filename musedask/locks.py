"""Locks of open files (``flock``): the system lets go of them when their holder dies."""

from __future__ import annotations

import errno
import fcntl
import logging
from pathlib import Path

from musedask.errors import FileError

logger = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def try_lock(descriptor: int, path: Path, alone: str) -> bool:
    """Take the exclusive lock of an open file if it is free.

    Some network file systems have no locks. Then that is said, and the user has
    to see to it that ``alone``: "start one build at a time".

    Raises
    ------
    FileError
        If it cannot be locked for another reason.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as err:
        if err.errno not in _NO_LOCKS:
            raise FileError(f"{path}: cannot be locked: {err.strerror or err}") from err
        logger.warning("%s: no lock possible (%s): %s", path, err, alone)
    return True
