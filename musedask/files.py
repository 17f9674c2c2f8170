"""Files as readers want them: regular and whole; every failure is an error that names the file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from musedask.errors import FileError

Path = str | os.PathLike[str]


@contextmanager
def as_file_error(label: str) -> Iterator[None]:
    """Turn an OSError inside the block into a FileError that names ``label``."""
    try:
        yield
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(f"{label}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise FileError(f"{label}: is a folder; give the files in it") from None
    except PermissionError:
        raise FileError(f"{label}: no permission to read it; ask its owner, or chmod u+r") from None
    except OSError as err:
        raise FileError(f"{label}: cannot be read: {err.strerror or err}") from err


@contextmanager
def opened(path: Path, label: str | None = None) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Anything else under its name is refused before it is opened: a pipe would
    keep its reader waiting for ever, and a device like ``/dev/zero`` never end.

    Parameters
    ----------
    path
        The file.
    label
        What to call it in errors; the path by default.

    Raises
    ------
    FileError
        If it is missing, no regular file or cannot be read; also for an OSError inside the block.
    """
    label = label or os.fspath(path)
    with as_file_error(label):
        try:
            mode = os.stat(path).st_mode
        except ValueError:
            raise FileError(f"{label!r}: is no name of a file") from None
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise FileError(f"{label}: is no regular file but a pipe or a device; copy its content")
        with open(path, "rb") as file:
            yield file


def read_bytes(path: Path, label: str | None = None) -> bytes:
    """Read a whole regular file; raises as :func:`opened`."""
    with opened(path, label) as file:
        return file.read()


def read_text(path: Path, label: str | None = None, *, errors: str = "strict") -> str:
    """Read a whole text in UTF-8, its lines ended by newlines alone.

    Raises
    ------
    FileError
        As :func:`opened`; and if it is no text in UTF-8, unless ``errors`` says otherwise.
    """
    content = read_bytes(path, label)
    try:
        text = content.decode("utf-8", errors)
    except UnicodeDecodeError as err:
        raise FileError(
            f"{label or os.fspath(path)}: is no text in UTF-8 (byte {err.start}); make or copy it "
            "again"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises
    ------
    FileError
        As :func:`opened`; and if it is no JSON, or nested too deeply for it.
    """
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as err:
        raise FileError(f"{os.fspath(path)}: is no JSON ({err}); make it again") from None
