"""What one machine can do and see: asked here, and on a worker as a task."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from musedask.errors import MusedaskError
from musedask.reduction.job.installation import available_recipes, installation
from musedask.reduction.recipes import RECIPES

PACKAGES = ("musedask", "dask", "distributed", "cloudpickle", "numpy")
"""Packages whose versions have to be the same everywhere."""
SAMPLE = 32 << 20
"""Bytes that are written to find out how fast a disk is."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one machine can do and see."""

    host: str
    """Its name."""
    versions: Mapping[str, str]
    """Of Python and packages."""
    pipeline: str = ""
    """Versions of esorex and the MUSE pipeline; empty if there are none."""
    no_pipeline: str = ""
    """Why there are none."""
    recipes_missing: tuple[str, ...] = ()
    """Recipes that esorex does not find."""
    ties: bool = True
    """Whether esorex can be made to die with its worker."""
    sees: bool = True
    """Whether the folder is there, with what the asking process has put into it."""
    not_writable: str = ""
    """Why the folder cannot be written to."""
    bytes_per_s: float = 0.0
    """How fast it is written to."""
    free: int = 0
    """Room that is left there, bytes."""
    locks: bool = True
    """Whether files can be locked there."""


def look(folder: Path, token: str = "") -> Probe:
    """Look at the machine that this runs on.

    Parameters
    ----------
    folder
        Where work is to be done.
    token
        Name of a file there that another process has just made.
    """
    found: dict[str, object] = {
        "host": socket.gethostname(),
        "versions": {"python": platform.python_version(), **_versions()},
        "ties": shutil.which("setpriv") is not None,
        "sees": (folder / token).exists(),
    }
    try:
        installed = installation()
        found["pipeline"] = f"esorex {installed.esorex}, MUSE pipeline {installed.muse}"
        there = available_recipes()
        found["recipes_missing"] = tuple(name for name in RECIPES if name not in there)
    except MusedaskError as err:
        found["no_pipeline"] = str(err)
    try:
        found["bytes_per_s"], found["locks"] = _write(folder)
        found["free"] = shutil.disk_usage(folder).free
    except OSError as err:
        found["not_writable"] = err.strerror or str(err)
    return Probe(**found)  # type: ignore[arg-type]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def _write(folder: Path) -> tuple[float, bool]:
    """Bytes per second that go to the disk, and whether a file can be locked."""
    path = folder / f".musedask-{uuid.uuid4().hex}"
    begin = time.monotonic()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        block = os.urandom(1 << 20)
        for _ in range(SAMPLE // len(block)):
            os.write(descriptor, block)
        os.fsync(descriptor)
        speed = SAMPLE / max(time.monotonic() - begin, 1e-6)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return speed, False
        return speed, True
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
