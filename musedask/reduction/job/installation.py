"""What is installed: esorex, the MUSE pipeline, its recipes, and their versions."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from musedask.errors import FileError, MissingError
from musedask.files import read_json
from musedask.reduction.job.esorex import call_esorex, executable, recipe_options
from musedask.whole_files import write_whole

_ANY_RECIPE = "muse_bias"
_QUESTION_S = 120.0
"""Seconds for a question to esorex; it needs a tenth of one."""
_VERSIONS = {
    "muse": re.compile(rf"^\s*{_ANY_RECIPE} -- version (\S+)", re.M),
    "esorex": re.compile(r"ESO Recipe Execution Tool, version (\S+)"),
    "cpl": re.compile(r"CPL = ([^\s,]+)"),
}
_REMEMBERED = "installation.json"


@dataclass(frozen=True)
class Installation:
    """Versions of what makes the products."""

    muse: str
    """The MUSE pipeline: ``2.8.7``."""
    esorex: str
    """esorex: ``3.13.6``."""
    cpl: str
    """ESO's Common Pipeline Library: ``7.2.3``."""


def pipeline_version() -> str:
    """Version of the MUSE pipeline that esorex finds: what enters the key of a job.

    Raises
    ------
    MissingError
        If esorex or the recipes are not installed.
    """
    return installation().muse


def installation(remember: Path | None = None) -> Installation:
    """Ask esorex for the versions, once in this process for each executable.

    Parameters
    ----------
    remember
        Folder in which they are written down for :func:`remembered_installation`.

    Raises
    ------
    MissingError
        If esorex or the recipes are not installed.
    """
    found = _asked(*_identity())
    if remember is not None and remembered_installation(remember) != found:
        remember.mkdir(parents=True, exist_ok=True)
        content = {"of": list(_identity()), **asdict(found)}
        write_whole(remember / _REMEMBERED, (json.dumps(content, indent=1) + "\n").encode())
    return found


def remembered_installation(folder: Path) -> Installation | None:
    """Versions as written down before, without a call of esorex; None if it is another one."""
    try:
        content = read_json(folder / _REMEMBERED)
        if content.pop("of") == list(_identity()):
            return Installation(**content)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def available_recipes() -> tuple[str, ...]:
    """Names of the recipes that esorex finds, sorted.

    Raises
    ------
    MissingError
        If esorex is not installed.
    """
    listing = ask_esorex("--recipes")
    return tuple(sorted(set(re.findall(r"^\s+(muse_\w+)\s*:", listing, re.M))))


def ask_esorex(*arguments: str) -> str:
    """Give what esorex writes to the terminal; its log goes to a folder that is removed.

    Raises
    ------
    MissingError
        If esorex or the recipe is not installed.
    FileError
        If esorex does not answer as it should.
    """
    with tempfile.TemporaryDirectory(prefix="musedask-esorex-") as scratch:
        call = call_esorex(arguments, Path(scratch), timeout_s=_QUESTION_S)
        output = call.output
    if "Unable to find recipe" in output:
        raise MissingError(
            f"{call.command[0]} has no recipe {arguments[-1]}: the MUSE pipeline is not installed "
            "(Debian package cpl-plugin-muse), or name its folder in MUSEDASK_RECIPE_DIR"
        )
    if call.status:
        end = "\n".join(output.strip().splitlines()[-5:])
        raise FileError(
            f"{' '.join(call.command)}: status {call.status}; it should answer at once:\n{end}"
        )
    return output


def _identity() -> tuple[str, int, str]:
    """What changes when another esorex or another pipeline is used."""
    path = executable()
    return path, os.stat(path).st_mtime_ns, " ".join(recipe_options())


@cache
def _asked(path: str, mtime_ns: int, options: str) -> Installation:
    """Ask the esorex that :func:`_identity` describes."""
    texts: Sequence[str] = (ask_esorex("--version"), ask_esorex("--man-page", _ANY_RECIPE))
    found = {}
    for name, pattern in _VERSIONS.items():
        match = next((m for text in texts if (m := pattern.search(text))), None)
        if match is None:
            raise MissingError(f"{path}: does not tell its version of {name}; is it ESO's esorex?")
        found[name] = match[1]
    return Installation(**found)
