"""Where a job runs and where its products end: a fresh folder, then one rename."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from musedask.errors import FileError
from musedask.reduction.job.esorex import PRODUCTS
from musedask.reduction.jobs import Job


@dataclass(frozen=True)
class RunFolders:
    """The two folders of a run that jobs need."""

    products: Path
    """Finished jobs, one folder each: ``<recipe>/<key>``."""
    scratch: Path
    """Where esorex works; may be on a disk of the worker's own."""

    def __post_init__(self) -> None:
        for name in ("products", "scratch"):
            object.__setattr__(self, name, Path(os.path.abspath(getattr(self, name))))

    def final(self, job: Job) -> Path:
        """Where the products of a job end."""
        return self.products / job.folder

    def lock(self, job: Job) -> Path:
        """The lock of a job."""
        return self.products / f"{job.folder}.lock"


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError inside the block into a FileError that names ``path``."""
    try:
        yield
    except FileError:
        raise
    except OSError as err:
        name = os.fspath(path)
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FileError(f"{name}: cannot be written: the disk is full; make room") from err
        raise FileError(f"{name}: cannot be written: {err.strerror or err}") from err


def fresh_scratch(job: Job, folders: RunFolders, attempt: int) -> Path:
    """Make the folder in which a job is to run; what dead attempts have left is removed.

    Call it with the job's lock held.

    Raises
    ------
    FileError
        If it cannot be made, or the leftovers not be removed.
    """
    sweep(job, folders)
    scratch = folders.scratch / f"{job.recipe}-{job.key}-{attempt}-{os.urandom(4).hex()}"
    with writing(scratch):
        (scratch / PRODUCTS).mkdir(parents=True)
    return scratch


def sweep(job: Job, folders: RunFolders) -> None:
    """Remove what attempts of a job have left: scratch folders and half-copied products."""
    final = folders.final(job)
    left = [
        *folders.scratch.glob(f"{job.recipe}-{job.key}-*"),
        *final.parent.glob(f".{job.key}-*"),
    ]
    for folder in left:
        remove(folder)


def publish(staged: Path, final: Path) -> None:
    """Put a folder with products, whole, where everybody looks for it.

    What stands there already is not a finished job: it is set aside, for :func:`sweep`.

    Raises
    ------
    FileError
        If it cannot be done; nothing then stands under the final name.
    """
    with writing(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            os.rename(final, _beside(final))
        try:
            os.rename(staged, final)
        except OSError as err:
            if err.errno != errno.EXDEV:
                raise
            _copied_over(staged, final)
        _synchronise(final.parent)


def _copied_over(staged: Path, final: Path) -> None:
    """Copy a folder from another file system, then rename it."""
    incoming = _beside(final)
    try:
        shutil.copytree(staged, incoming)
        for path in incoming.iterdir():
            _synchronise(path)
        os.rename(incoming, final)
    except BaseException:
        shutil.rmtree(incoming, ignore_errors=True)
        raise


def _beside(final: Path) -> Path:
    """A name that is swept by the next attempt."""
    return final.with_name(f".{final.name}-{os.urandom(4).hex()}")


def remove(folder: Path) -> None:
    """Remove a folder and all in it, if it is there.

    Raises
    ------
    FileError
        If it cannot be removed.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as err:
        raise FileError(f"{folder}: cannot be removed: {err.strerror or err}") from err


def write_last(path: Path, text: str) -> None:
    """Write a file and wait until it is on the disk.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    with writing(path):
        path.write_text(text, encoding="utf-8")
        _synchronise(path)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
