"""pymusepipe's ``rc.dic`` and ``calib_tables.dic`` -> a musedask.toml.

Both are texts of two columns, a keyword and its value; lines that begin with
``#`` or ``%`` are comments, and a value may have spaces in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from musedask.config import Choice
from musedask.errors import InputError
from musedask.files import read_text

TABLES: Mapping[str, str] = {
    "geo_table": "GEOMETRY_TABLE",
    "astro_table": "ASTROMETRY_WCS",
    "badpix_table": "BADPIX_TABLE",
    "vignetting_mask": "VIGNETTING_MASK",
    "vignetting_table": "VIGNETTING_MASK",
    "std_flux_table": "STD_FLUX_TABLE",
    "extinct_table": "EXTINCT_TABLE",
    "line_catalog": "LINE_CATALOG",
    "sky_lines": "SKY_LINES",
    "filter_list": "FILTER_LIST",
}
"""Keyword of calib_tables.dic -> tag; some have had other names."""
_PAIR = ("GEOMETRY_TABLE", "ASTROMETRY_WCS")
_FOLDER_NAMES = "folders are found whatever they are called"
NOT_NEEDED: Mapping[str, str] = {
    "musecalib_time": "tables for single observing runs, which pymusepipe uses if it is told so "
    "(time_astrometry); to use them, add this folder to static and choose the two tables of "
    "each night",
    "str_dataset": _FOLDER_NAMES,
    "str_pointing": _FOLDER_NAMES,
    "ndigits": _FOLDER_NAMES,
    "strob": _FOLDER_NAMES,
    "nob": _FOLDER_NAMES,
    "rawdata": _FOLDER_NAMES,
    "rawfiles": _FOLDER_NAMES,
}
"""Keyword of rc.dic -> why it is not taken over."""
_UNKNOWN = "musedask does not know this keyword"


def import_pymusepipe(rc: str | os.PathLike[str], calib: str | os.PathLike[str]) -> str:
    """Make the text of a musedask.toml out of pymusepipe's two files.

    What is not taken over stands in comments at its end, with the reason.

    Parameters
    ----------
    rc
        ``rc.dic``: the folders.
    calib
        ``calib_tables.dic``: names of the static tables.

    Raises
    ------
    FileError
        If a file cannot be read or is no text.
    InputError
        If a line has no value, or a keyword comes twice.
    """
    folders = {key.removesuffix("_folder"): value for key, value in _read(rc).items()}
    tables = _read(calib)
    left: list[str] = []
    for key, value in folders.items():
        if key not in ("root", "musecalib"):
            left.append(f"{Path(rc).name}: {key} = {value}: {NOT_NEEDED.get(key, _UNKNOWN)}")
    choices = list(_choices(tables, folders.get("musecalib", ""), Path(calib).name, left))
    for key, default in (("root", "raw"), ("musecalib", "static")):
        if key not in folders:
            left.append(f"{Path(rc).name}: has no {key}: {default} is musedask's own folder")
    lines = [
        "# Made of pymusepipe's rc.dic and calib_tables.dic.",
        "",
        "[reduction]",
        f"raw = {_folder(folders.get('root'), 'raw')}",
        f"static = {_folder(folders.get('musecalib'), 'static')}",
        *_chosen(choices),
    ]
    if left:
        lines += ["", "# Not taken over:", *(f"# - {line}" for line in left)]
    return "\n".join(lines) + "\n"


def _read(path: str | os.PathLike[str]) -> dict[str, str]:
    """Keywords (in small letters) and values of one of the files."""
    label = os.fspath(path)
    text = read_text(path)
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#%":
            continue
        key, _, rest = line.replace("\t", " ").partition(" ")
        key, value = key.lower(), rest.strip().strip("'\"").strip()
        if not value or not (key + value).isprintable():
            raise InputError(f"{label}, line {number}: {line!r}: a keyword and a value are wanted")
        if key in found:
            raise InputError(f"{label}, line {number}: {key} comes a second time; remove one")
        found[key] = value
    if not found:
        raise InputError(f"{label}: has no keyword in it; give pymusepipe's own file")
    return found


def _choices(
    tables: Mapping[str, str], folder: str, name: str, left: list[str]
) -> Iterable[Choice]:
    """A choice for each table; what is none goes to ``left``."""
    for key, value in tables.items():
        tag = TABLES.get(key)
        if tag is None:
            left.append(f"{name}: {key} = {value}: {_UNKNOWN}")
        elif tag == "VIGNETTING_MASK":
            left.append(
                f"{name}: {key} = {value}: taken from static for twilights before 2017-03-11, as "
                "pymusepipe does"
            )
        else:
            file = os.path.join(_absolute(folder), value) if folder and "/" in value else value
            yield Choice(frames="*", tag=tag, file=file)


def _chosen(choices: Iterable[Choice]) -> list[str]:
    lines: list[str] = []
    for choice in choices:
        lines.append("")
        if choice.tag == _PAIR[0]:
            lines += [
                "# pymusepipe takes this pair of tables for all nights. Without these two choices",
                "# musedask takes the pair of each night's date.",
            ]
        lines += [
            "[[reduction.choose]]",
            f"frames = {_quoted(choice.frames)}",
            f"tag = {_quoted(choice.tag)}",
            f"file = {_quoted(choice.file)}",
        ]
    return lines


def _folder(given: str | None, default: str) -> str:
    return f"[{_quoted(_absolute(given) if given else default)}]"


def _absolute(folder: str) -> str:
    """A folder as pymusepipe sees it: from where it is started."""
    return os.path.abspath(os.path.expanduser(folder))


def _quoted(text: str) -> str:
    # The strings of JSON are TOML's.
    return json.dumps(text, ensure_ascii=False)
