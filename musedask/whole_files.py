"""Files that appear under their names when they are whole, or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from musedask.errors import FileError


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; at the end of the block it becomes ``path``.

    Raises
    ------
    FileError
        If it cannot be written. Then, and after any other error, nothing is left of it,
        and what was there before stays.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    except FileError:
        raise
    except OSError as err:
        raise FileError(f"{path}: cannot be written: {err.strerror or err}") from err
    finally:
        with suppress(OSError):  # a disk that cannot be written to refuses this as well
            partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write or replace a file in one step; it is on the disk afterwards.

    Raises
    ------
    FileError
        If it cannot be written; what was there before stays.
    """
    with appearing(path) as partial, partial.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def send_to_disk(descriptor: int, offset: int = 0, size: int = 0) -> None:
    """Have the disk start on a part of a file (all of it), so that less is left to wait for."""
    # Advice of this kind starts the writing of what is not on the disk, and forgets what is.
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
