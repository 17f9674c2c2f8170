"""The way to the page for a browser that is started here, told to nobody else.

The address of the page holds the token, and who has that can change the offsets. A command line
can be read by every user of the machine (``ps``), so the browser is given not the address but a
file that only this user can read and that leads there. It lies beside the offsets, not in the
folder for temporary files: a browser that is confined (a snap) sees the home and not that one.
"""

from __future__ import annotations

import html
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musedask.errors import FileError

_PREFIX = "open-"
_NAME = "review.html"
_TEXT = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>musedask review</title>
</head>
<body><a href="{address}">musedask review</a></body>
</html>
"""


@contextmanager
def signpost(folder: Path, address: str) -> Iterator[Path]:
    """Write a page that leads to an address, for this user alone; remove it at the end.

    Parameters
    ----------
    folder
        Where a folder of its own is made for it.
    address
        Where it leads.

    Yields
    ------
    Path
        The file, to be opened in a browser.

    Raises
    ------
    FileError
        If it cannot be written, or others could read it.
    """
    try:
        own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    except OSError as err:
        raise FileError(f"{folder}: cannot be written to ({err.strerror or err})") from err
    try:
        yield _written(own / _NAME, address)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _written(path: Path, address: str) -> Path:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            # Some file systems keep no modes: then this has to be known before it is written.
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                raise FileError(f"{path}: others can read what is written here")
            file.write(_TEXT.format(address=html.escape(address)))
    except OSError as err:
        if isinstance(err, FileError):
            raise
        raise FileError(f"{path}: cannot be written ({err.strerror or err})") from err
    return path.absolute()
