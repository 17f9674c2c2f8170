"""Folders -> frames: the search, the reading of headers in threads, and copies that count once."""

from __future__ import annotations

import filecmp
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from musedask.config import CONFIG_NAME
from musedask.errors import FileError, InputError
from musedask.progress import Progress, Ticker
from musedask.reduction.finding.headers import HeaderFacts, frame_of, read_facts
from musedask.reduction.finding.inventory import FileState, read_inventory, write_inventory
from musedask.reduction.frames import Frame, FrameList

THREADS = 8
"""Reading waits for disks; more of them only get into each other's way."""
RUN_FOLDERS = ("products", "scratch", "logs", "cubes")
"""What a run makes beside its musedask.toml: no input of the same run."""
_FITS = re.compile(r"\.(fits|fit|fts)(\.(gz|fz|z|bz2|xz))?$", re.IGNORECASE)
_PACKED = re.compile(r"\.(gz|fz)$", re.IGNORECASE)
_MANY = 20

Folder = str | os.PathLike[str]


@dataclass(frozen=True)
class _Found:
    """A file of the search."""

    path: str
    state: FileState
    device: int
    is_link: bool
    error: str = ""


def find_frames(
    folders: Folder | Iterable[Folder],
    *,
    inventory: Path | None = None,
    progress: Progress | None = None,
) -> FrameList:
    """Find all FITS files of some folders and say of each what it is; reads headers only.

    Folders are searched with all that is below them, links followed. Hidden
    folders, Zarr stores and what a run made beside its musedask.toml are left
    out. A file that is there twice counts once, and a note says so.

    Parameters
    ----------
    folders
        A folder, or several; single files are taken, too.
    inventory
        A file in which to keep what was read: the next search opens only new
        and changed files.
    progress
        Whom to tell how many of the files have been read.

    Raises
    ------
    FileError
        If a folder is missing or cannot be read, or if there is no FITS file in
        any of them.
    InputError
        If no folder is given.
    """
    given = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    roots = tuple(os.path.abspath(folder) for folder in given)
    if not roots:
        raise InputError("no folder to search for frames: give at least one")
    notes: list[str] = []
    found, xml_files = _search(roots, notes)
    if not found:
        raise FileError(
            f"{', '.join(roots)}: no FITS file (.fits, .fits.gz, .fits.fz) there or below; "
            "check the path"
        )
    facts = _read_all(_each_once(found, notes), roots, inventory, progress, notes)
    frames = [frame_of(one.path, read, one.state.size, one.state.mtime_ns) for one, read in facts]
    frames = _without_copies(frames, notes)
    frames.sort(key=lambda frame: (not frame.date_obs, frame.date_obs, frame.path))
    return FrameList(tuple(frames), tuple(notes), roots, tuple(xml_files))


def _search(roots: Sequence[str], notes: list[str]) -> tuple[list[_Found], list[str]]:
    """FITS files and XML files below some folders, sorted by path."""
    found: dict[str, _Found] = {}
    xml_files: set[str] = set()
    visited: set[tuple[int, int]] = set()
    for root in roots:
        if os.path.isfile(root):
            found[root] = _looked_at(root)
            continue
        try:
            os.listdir(root)
        except OSError as err:
            raise FileError(f"{root}: cannot be searched: {err.strerror}; check the path") from err
        for folder, names in _walked(root, visited, notes):
            for name in names:
                path = os.path.join(folder, name)
                if _FITS.search(name):
                    found[path] = _looked_at(path)
                elif name.lower().endswith(".xml"):
                    xml_files.add(path)
    return [found[path] for path in sorted(found)], sorted(xml_files)


def _walked(
    root: str, visited: set[tuple[int, int]], notes: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """Each folder below a root with its files; none twice, whatever links lead where."""

    def note(err: OSError) -> None:
        notes.append(f"{err.filename}: this folder cannot be read: {err.strerror}")

    for folder, below, names in os.walk(root, followlinks=True, onerror=note):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in visited:
            below.clear()
            continue
        visited.add((state.st_dev, state.st_ino))
        own = RUN_FOLDERS if CONFIG_NAME in names else ()
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and not name.endswith(".zarr") and name not in own
        )
        yield folder, [name for name in names if not name.startswith(".")]


def _looked_at(path: str) -> _Found:
    """A file with its state; a link to nothing, or no file at all, has an error instead."""
    is_link = os.path.islink(path)
    try:
        status = os.stat(path)
    except OSError as err:
        reason = "a link that leads to nothing" if is_link else err.strerror or str(err)
        return _Found(path, FileState(0, 0, 0), 0, is_link, f"{reason}; repair or remove it")
    state = FileState(status.st_size, status.st_mtime_ns, status.st_ino)
    # Opening a pipe would wait for ever.
    error = "" if stat.S_ISREG(status.st_mode) else "is no regular file; remove it"
    return _Found(path, state, status.st_dev, is_link, error)


def _each_once(found: Iterable[_Found], notes: list[str]) -> list[_Found]:
    """Files without the links to others of them: what is no link itself stays, or comes first."""
    kept: dict[tuple[int, int], _Found] = {}
    broken = []
    for one in sorted(found, key=lambda one: (one.is_link, one.path)):
        if one.error:
            broken.append(one)
            continue
        first = kept.setdefault((one.device, one.state.inode), one)
        if first is not one:
            notes.append(f"{one.path}: is a link to {first.path}; it counts once")
    return [*kept.values(), *broken]


def _read_all(
    found: Sequence[_Found],
    roots: Sequence[str],
    inventory: Path | None,
    progress: Progress | None,
    notes: list[str],
) -> list[tuple[_Found, HeaderFacts]]:
    """What stands in the headers of each file, from the inventory where it is as it was."""
    known, note = read_inventory(inventory) if inventory else ({}, "")
    notes.extend([note] if note else [])
    facts: dict[str, HeaderFacts] = {one.path: HeaderFacts(error=one.error) for one in found}
    unread = []
    for one in found:
        state, read = known.get(one.path, (None, None))
        if one.error:
            continue
        if read is not None and state == one.state:
            facts[one.path] = read
        else:
            unread.append(one)
    ticker = Ticker(progress, len(unread))
    with ThreadPoolExecutor(THREADS) as pool:
        for one, read in zip(unread, pool.map(read_facts, [u.path for u in unread]), strict=True):
            facts[one.path] = read
            ticker.step()
    if inventory:
        entries = {one.path: (one.state, facts[one.path]) for one in found}
        gone = known.keys() - entries.keys()
        kept = {path: known[path] for path in gone if not _is_below(path, roots)}
        if any(not facts[one.path].error for one in unread) or len(kept) < len(gone):
            note = write_inventory(inventory, entries | kept)
            notes.extend([note] if note else [])
    return [(one, facts[one.path]) for one in found]


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def _without_copies(frames: Iterable[Frame], notes: list[str]) -> list[Frame]:
    """Frames of which none is a copy of another; plain files are preferred to packed ones."""
    kept: dict[tuple[str, ...], list[Frame]] = {}
    for frame in sorted(frames, key=lambda f: (bool(_PACKED.search(f.path)), f.path)):
        alike = kept.setdefault(_kept_as(frame), [])
        first = next((other for other in alike if _are_copies(other, frame)), None)
        if first is not None:
            notes.append(f"{frame.path}: is a copy of {first.path}; it counts once")
            continue
        if alike and frame.kind == "raw":
            notes.append(
                f"{frame.path} and {alike[0].path} have one DATE-OBS ({frame.date_obs}) and are "
                "not equal: remove one of them"
            )
        alike.append(frame)
    return [frame for alike in kept.values() for frame in alike]


def _kept_as(frame: Frame) -> tuple[str, ...]:
    """What copies of a frame have in common; the path for what has no copies."""
    if frame.kind == "raw":
        return frame.kind, frame.tag, frame.date_obs
    if frame.kind in ("static", "product"):
        return frame.kind, frame.tag, frame.header_hash
    return frame.kind, frame.path


def _are_copies(one: Frame, other: Frame) -> bool:
    """Whether two files that have :func:`_kept_as` in common hold the same."""
    if frame_is_packed(one) != frame_is_packed(other):
        return True
    if (one.size, one.header_hash) != (other.size, other.header_hash):
        return False
    # Tables are small, and two with equal headers may hold different values.
    return one.kind != "static" or filecmp.cmp(one.path, other.path, shallow=False)


def frame_is_packed(frame: Frame) -> bool:
    """Whether a frame lies in a ``.gz`` or ``.fz`` file."""
    return _PACKED.search(frame.path) is not None
