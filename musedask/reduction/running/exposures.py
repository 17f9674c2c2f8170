"""The exposure table of a run on disk: new cubes are looked at, edits are kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from musedask.errors import InputError
from musedask.exposure_facts import ExposureFacts, read_facts
from musedask.exposure_making import exposure_table_of
from musedask.exposures import read_exposure_table, write_exposure_table
from musedask.reduction.running.exposure_memory import Memory, has_news, state_of
from musedask.reduction.tables.exposures import (
    merged,
    missing,
    rows_of,
    same_rows,
    table_of,
)
from musedask.run import Run


def write_exposures(run: Run, cubes: Sequence[Path]) -> list[str]:
    """Bring the exposure table of a run up to date; what its user has edited stays.

    Cubes that are new are opened, to measure what is left of their sky.

    Parameters
    ----------
    run
        The run.
    cubes
        Its exposure cubes (:meth:`Run.exposures`).

    Returns
    -------
    list of str
        What a user should know.

    Raises
    ------
    FileError
        If no cube can be read, or the table cannot be written.
    InputError
        If the table is there and cannot be understood: it is left as it is.
    """
    if not has_news(run, cubes):
        return []
    path, memory = run.exposure_table, Memory.of(run)
    states = [state_of(cube, run) for cube in cubes]
    facts = [
        _facts(cube, memory.facts.get(state)) for cube, state in zip(cubes, states, strict=True)
    ]
    ours = _relative(rows_of(exposure_table_of(facts)), path.parent)
    notes: list[str] = []
    if path.exists():
        theirs = _theirs(path)
        new = merged(ours, memory.rows, theirs)
        if new.left_out:
            notes.append(f"{path.name}: {missing(new.left_out)}")
        rows, is_new = new.rows, not same_rows(new.rows, theirs)
    else:
        rows, is_new = ours, True
    if is_new:
        write_exposure_table(
            table_of(_absolute(rows, path.parent)), path, overwrite=True, root=run.folder,
            must_use=False,
        )  # fmt: skip
    known = dict(zip(states, map(_plain, facts), strict=True))
    Memory(known, memory.rows | ours).write(run)
    return notes


def _facts(cube: Path, known: dict[str, Any] | None) -> ExposureFacts:
    if known is not None:
        try:
            return ExposureFacts(path=cube, **known)
        except TypeError:  # another version wrote it
            pass
    import dask

    # Small, and here: a cluster may be far from this disk.
    with dask.config.set(scheduler="threads"):
        return read_facts(cube)


def _plain(facts: ExposureFacts) -> dict[str, Any]:
    """What is known of a file, for JSON; where it is is not part of it."""
    values = asdict(replace(facts, path=Path()))
    del values["path"]
    return values


def _theirs(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of the table as it is."""
    try:
        table = read_exposure_table(path, must_exist=False, must_use=False)
    except InputError as err:
        raise InputError(
            f"{err}; it was left as it is: repair it, and 'musedask status --tables' adds what is "
            "new"
        ) from err
    return _relative(rows_of(table), path.parent)


def _relative(rows: dict[str, dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """Rows whose cubes are named from the table's folder: the run may be moved."""
    return {
        key: row | {"path": row["path"] and os.path.relpath(row["path"], folder)}
        for key, row in rows.items()
    }


def _absolute(rows: dict[str, dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    return {
        key: row | {"path": row["path"] and os.path.normpath(folder / row["path"])}
        for key, row in rows.items()
    }
