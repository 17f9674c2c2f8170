"""A plan on disk, so that ``musedask status`` knows what a reduction in another process does."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from musedask.errors import FileError, InputError
from musedask.files import read_json
from musedask.reduction.jobs import FileInput, Job, MadeInput, Plan, ProductInput
from musedask.run import write_text
from musedask.wording import readable

FORMAT = 1
_INPUTS: dict[str, type[FileInput] | type[ProductInput] | type[MadeInput]] = {
    "file": FileInput,
    "product": ProductInput,
    "made": MadeInput,
}
_NAMES = {kind: name for name, kind in _INPUTS.items()}


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan in one step.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    content = {
        "format": FORMAT,
        "notes": plan.notes,
        "jobs": [_plain(job) for job in plan.jobs],
        "earlier": [_plain(job) for job in plan.earlier],
    }
    text = json.dumps(content, separators=(",", ":"))
    write_text(path, text)


def read_plan(path: Path) -> Plan | None:
    """Read a plan; None if there is none, or one of another form of the file.

    Raises
    ------
    FileError
        If the file cannot be read or is broken.
    """
    try:
        if not os.path.lexists(path):
            return None
        content = read_json(path)
        if content["format"] != FORMAT:
            return None
        return Plan(
            tuple(map(_job, content["jobs"])),
            tuple(content["notes"]),
            tuple(map(_job, content["earlier"])),
        )
    except (FileError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise FileError(
            f"{path}: is no plan ({readable(str(err), 300)}); remove it, and 'musedask reduce' "
            "writes it anew"
        ) from err


def _plain(job: Job) -> dict[str, Any]:
    row = {column.name: getattr(job, column.name) for column in fields(job)}
    row["inputs"] = [[_NAMES[type(item)], vars(item)] for item in job.inputs]
    return row


def _job(row: dict[str, Any]) -> Job:
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    given["inputs"] = tuple(_INPUTS[name](**values) for name, values in row["inputs"])
    # Both are parts of paths below the run's folder.
    if not str(row["recipe"]).isidentifier():
        raise InputError(f"{row['recipe']!r} is no recipe")
    for item in given["inputs"]:
        if isinstance(item, MadeInput) and not item.tag.isidentifier():
            raise InputError(f"{item.tag!r} is no tag")
    given["parameters"] = tuple((name, value) for name, value in row["parameters"])
    return Job(**given)
