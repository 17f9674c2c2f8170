"""One builder at a time, and a store under its final name that is always whole.

Beside ``NAME.zarr`` these names may stand, all in its folder:

=======================  =========================================================
``NAME.zarr.K.building``   a build with key K under way; goes on when run again
``NAME.zarr.preparing``    a building folder before all its metadata are there
``NAME.zarr.incoming``     a whole store on its way to the final name
``NAME.zarr.outgoing``     the store that was there before, where the two cannot be
                           exchanged in one step
``NAME.zarr.*.trash``      to be removed, and never to be looked at
``.NAME.zarr.lock``        held by the builder; the system lets go of it at its death
=======================  =========================================================
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from musedask.errors import FileError
from musedask.locks import try_lock
from musedask.megacube.layout import read_description
from musedask.megacube.shards import PARTIAL, sync_folders, write_error

log = logging.getLogger(__name__)

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def beside(final: Path, suffix: str) -> Path:
    """A name in the store's folder."""
    return final.with_name(f"{final.name}.{suffix}")


def building_folder(final: Path, build: str) -> Path:
    """Where a build of this key goes on."""
    return beside(final, f"{build}.building")


@contextmanager
def locked(final: Path) -> Iterator[None]:
    """Hold the right to build a store.

    Raises
    ------
    FileError
        If another process holds it, or the folder cannot be written to.
    """
    path = final.with_name(f".{final.name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as err:
        raise FileError(
            f"{final.parent}: cannot be written to ({err.strerror}); choose another folder"
        ) from err
    try:
        if not try_lock(descriptor, path, "start one build at a time"):
            raise FileError(
                f"{final}: another process is building this store (it holds {path.name}); "
                "wait until it has ended, or write to another name"
            )
        yield
    finally:
        os.close(descriptor)


def recover(final: Path, build: str) -> None:
    """Bring a swap that was interrupted to its end, and sweep what it left.

    Raises
    ------
    FileError
        If a rename fails.
    """
    incoming, outgoing = beside(final, "incoming"), beside(final, "outgoing")
    for source in (incoming, outgoing):
        if not final.exists() and source.exists():
            log.info("%s: taking up an interrupted swap", final)
            _rename(source, final)
    if incoming.exists():
        held = read_description(incoming) or {}
        folder = building_folder(final, build)
        if held.get("build") == build and not folder.exists():
            _rename(incoming, folder)
    for leftover in (incoming, outgoing, beside(final, "preparing")):
        discard(leftover)
    for trash in final.parent.glob(f"{_escaped(final.name)}.*.trash"):
        shutil.rmtree(trash, ignore_errors=True)


def swap(built: Path, final: Path) -> None:
    """Put a whole store under its final name in one step, and remove what was there."""
    incoming, outgoing = beside(final, "incoming"), beside(final, "outgoing")
    _rename(built, incoming)
    if not final.exists():
        _rename(incoming, final)
        return
    if not _exchanged(incoming, final):
        _rename(final, outgoing)
        _rename(incoming, final)
    # What was there before goes only once the names of the new store are on the disk.
    sync_folders([final.parent])
    for old in (incoming, outgoing):
        discard(old)


def other_builds(final: Path, build: str) -> list[Path]:
    """Folders of builds with another key: given up, but good to link from."""
    mine = building_folder(final, build)
    found = final.parent.glob(f"{_escaped(final.name)}.*.building")
    return sorted(path for path in found if path != mine)


def sweep_partials(folder: Path) -> None:
    """Remove files whose writing was cut short."""
    for path in folder.rglob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove a folder; its name goes first, so that a part of it is never taken for the whole."""
    if not folder.exists():
        return
    trash = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.trash")
    _rename(folder, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as err:
        raise write_error(target, err) from err


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    with suppress(OSError, AttributeError):
        call = ctypes.CDLL(None).renameat2
        call.argtypes = [
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_uint,
        ]
        names = os.fsencode(one), os.fsencode(other)
        return bool(call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
    return False


def _escaped(name: str) -> str:
    """A name in which a glob takes every character as it is."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
