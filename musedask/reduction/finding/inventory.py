"""What was read of each file, kept between scans, so that only new and changed files are opened."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musedask.files import read_bytes
from musedask.fits.unpack import cache_folder
from musedask.reduction.finding.headers import WANTED, HeaderFacts
from musedask.whole_files import appearing

FORMAT = "musedask inventory"
VERSION = 1
"""Changes with what :mod:`musedask.reduction.finding.headers` reads, apart from WANTED."""


@dataclass(frozen=True)
class FileState:
    """By which a file is known to be the one that was read."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Time of last change, nanoseconds."""
    inode: int
    """Number of the file on its disk: another one after a replacement with times kept."""


Entries = Mapping[str, tuple[FileState, HeaderFacts]]
"""Absolute path -> state of the file when it was read, and what was read."""


def default_inventory(folders: Sequence[str | os.PathLike[str]]) -> Path:
    """Where the inventory of some folders is kept if not in a run: in the user's cache."""
    names = "\0".join(os.path.abspath(folder) for folder in folders)
    digest = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:24]
    return cache_folder() / "inventories" / f"{digest}.json"


def read_inventory(path: Path) -> tuple[Entries, str]:
    """Read an inventory.

    Returns
    -------
    entries, note
        Nothing and a note for people if it is broken or of another version;
        nothing and no note if there is none yet.
    """
    try:
        if not os.path.lexists(path):
            return {}, ""
        content = json.loads(read_bytes(path))
    except OSError as err:
        return {}, f"{err}: the inventory cannot be read, all files were read"
    except (ValueError, RecursionError):
        return {}, f"{path}: the inventory is broken: all files were read again"
    try:
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        if content["version"] != VERSION or content["wanted"] != list(WANTED):
            return {}, f"{path}: the inventory is of another version: all files were read again"
        return {name: _entry(given) for name, given in content["files"].items()}, ""
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}, f"{path}: the inventory is broken: all files were read again"


def write_inventory(path: Path, entries: Entries) -> str:
    """Write an inventory in one step; what could not be read is not kept, to be tried again.

    Returns
    -------
    str
        A note for people if it could not be written: the next scan will be
        slower, and nothing else is lost.
    """
    files = {
        name: [state.size, state.mtime_ns, state.inode, facts.ifus, facts.header_hash, facts.cards]
        for name, (state, facts) in sorted(entries.items())
        if not facts.error
    }
    content = {"format": FORMAT, "version": VERSION, "wanted": WANTED, "files": files}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as partial, partial.open("x", encoding="ascii") as out:
            json.dump(content, out, separators=(",", ":"))
    except OSError as err:
        return f"{path}: the inventory cannot be written ({err.strerror or err})"
    return ""


def _entry(given: Any) -> tuple[FileState, HeaderFacts]:
    """An entry as it stands in the file; whatever is not right is a ValueError."""
    size, mtime_ns, inode, ifus, header_hash, cards = given
    numbers = (size, mtime_ns, inode, *(ifus or ()))
    if not all(type(number) is int for number in numbers) or not isinstance(header_hash, str):
        raise ValueError(given)
    if not isinstance(cards, dict) or any(
        not isinstance(value, str | bool | int | float) for value in cards.values()
    ):
        raise ValueError(cards)
    facts = HeaderFacts(cards, None if ifus is None else tuple(ifus), header_hash)
    return FileState(size, mtime_ns, inode), facts
