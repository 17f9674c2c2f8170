"""Loaded by each worker of this machine: it ends without a traceback.

A worker that is told to stop closes its connections. Where it was just about
to tell the scheduler that it lives, it logs that as an error with a traceback,
which a user who pressed Ctrl-C would take for a fault.
"""

from __future__ import annotations

import logging

from distributed import Worker
from distributed.comm.core import CommClosedError


def dask_setup(worker: Worker) -> None:
    """Called by Dask when the worker begins."""
    logging.getLogger("distributed.worker").addFilter(is_worth_saying)


def is_worth_saying(record: logging.LogRecord) -> bool:
    """Whether a record tells more than that the worker closed its own connections."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, CommClosedError) and "ConnectionPool closing" in str(error))
