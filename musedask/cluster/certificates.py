"""Keys that close a Dask cluster to everybody else: made for it, removed with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from musedask.errors import FileError

if TYPE_CHECKING:
    from distributed import Security

_PREFIX = "tls-"
_YOUNG_S = 60.0


def in_memory() -> Security:
    """Keys for processes that this one starts."""
    from distributed import Security

    made: Security = Security.temporary()
    return made


@contextmanager
def in_folder(folder: Path) -> Iterator[Security]:
    """Keys as files that only this user can read, for workers on other machines.

    Those that a killed process has left are removed.

    Raises
    ------
    FileError
        If the folder cannot be written to.
    """
    made = in_memory()
    with _own_folder(folder) as own:
        ca, key = own / "ca.pem", own / "key.pem"
        with _folder_named(own):
            parts = made.get_tls_config_for_role("worker")
            _write(ca, parts["ca_file"])
            _write(key, parts["key"])
        from distributed import Security

        paths = {f"tls_{role}_cert": str(ca) for role in ("client", "scheduler", "worker")}
        paths |= {f"tls_{role}_key": str(key) for role in ("client", "scheduler", "worker")}
        yield Security(require_encryption=True, tls_ca_file=str(ca), **paths)


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """A folder that this user alone can enter, locked as long as it is needed."""
    with _folder_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.glob(f"{_PREFIX}*"):
            _sweep(other)
        own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        lock = os.open(own / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(lock)


def _sweep(folder: Path) -> None:
    """Remove a folder of keys that nobody holds any more."""
    try:
        if time.time() - folder.stat().st_mtime < _YOUNG_S:  # it may not be locked yet
            return
        lock = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # its owner lives
        pass
    finally:
        os.close(lock)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)


@contextmanager
def _folder_named(folder: Path) -> Iterator[None]:
    """Say of a folder that cannot be written to what it is for."""
    try:
        yield
    except OSError as err:
        raise FileError(
            f"{err.filename or folder}: cannot be written ({err.strerror or err}); keys and logs "
            "of SLURM's jobs go there: choose a folder that all nodes see with [cluster] folder"
        ) from err
