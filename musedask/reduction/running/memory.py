"""Jobs that would not fit into a machine's memory together do not start together.

A ledger on this machine's disk, so that threads and processes share it: a file
for each job that holds memory, locked by its holder, so that the system strikes
out the entries of the dead. Who waits, waits at the head of a queue: a large
job is not overtaken for ever by small ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True)
class MemoryGate:
    """A limit for the memory of all jobs of one run on one machine."""

    folder: Path
    """The ledger: on a disk of this machine, the same for all that share the limit."""
    total: int
    """Bytes in all."""

    @classmethod
    def of_run(cls, run: Path, total: int) -> MemoryGate:
        """The gate of a run's folder on this machine."""
        name = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
        return cls(Path(tempfile.gettempdir(), f"musedask-{os.getuid()}", name), total)

    @contextmanager
    def holding(self, n_bytes: int) -> Iterator[None]:
        """Wait until there is room, and hold it; a job larger than all runs alone."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        entry = self.folder / f"{n_bytes}-{uuid.uuid4().hex}.held"
        turn = os.open(self.folder / "turn", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
            pause = _PAUSE_S
            while (held := self.held()) and held + n_bytes > self.total:
                time.sleep(pause)
                pause = min(1.5 * pause, _LONGEST_PAUSE_S)
            descriptor = _locked(entry)
        finally:
            os.close(turn)
        try:
            yield
        finally:
            entry.unlink(missing_ok=True)
            os.close(descriptor)

    def held(self) -> int:
        """Bytes that are held now; entries of the dead are removed."""
        return sum(_bytes_of(entry) for entry in self.folder.glob("*.held"))


def _locked(entry: Path) -> int:
    # Nobody counts while we hold the turn, so it is never seen without its lock.
    descriptor = os.open(entry, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _bytes_of(entry: Path) -> int:
    """What a holder holds; nothing, if it has gone or is dead."""
    try:
        descriptor = os.open(entry, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(entry.name.partition("-")[0])
    finally:
        os.close(descriptor)
    with suppress(FileNotFoundError):
        entry.unlink()
    return 0
