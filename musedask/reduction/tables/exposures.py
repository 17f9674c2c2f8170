"""The exposure table of a run: what musedask knows, and what its user has written, put together.

A value that differs from what musedask wrote last is the user's, and stays;
all others follow the cubes. A row that the user has removed stays away, and one
that the user has added stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astropy.table import MaskedColumn, Table

from musedask.exposures import COLUMNS

NO_CUBE = "no cube now"
"""How the reason begins of a row that is not used because its cube has gone for now."""
_KEY_LENGTH = 23
_DEFAULTS = {spec.name: spec.default for spec in COLUMNS}

Row = Mapping[str, Any]
Rows = Mapping[str, Row]
"""Key of an exposure -> column -> value."""


@dataclass(frozen=True)
class Merged:
    """The new table."""

    rows: dict[str, dict[str, Any]]
    """In the user's order; new exposures come last."""
    left_out: tuple[str, ...] = ()
    """Keys of exposures that have a cube and whose row the user has removed."""


def rows_of(table: Table) -> dict[str, dict[str, Any]]:
    """The rows of a table by key: DATE-OBS to milliseconds, or else the path.

    Of several rows of one exposure (halves, reprocessings) only the first has that key.
    """
    rows: dict[str, dict[str, Any]] = {}
    names = table.colnames
    for values in zip(*(table[name].tolist() for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        key = str(row["date_obs"])[:_KEY_LENGTH] or str(row["path"])
        rows[key if key not in rows else f"{key} {row['path']} {len(rows)}"] = row
    return rows


def merged(ours: Rows, before: Rows, theirs: Rows) -> Merged:
    """Put new facts and the user's edits together.

    Parameters
    ----------
    ours
        What is known of the cubes that are there.
    before
        What musedask wrote the last time, also of cubes that have gone since.
    theirs
        The table as it is now.
    """
    rows: dict[str, dict[str, Any]] = {}
    for key, row in theirs.items():
        if key in ours:
            rows[key] = _updated(ours[key], before.get(key), _with_cube(row))
        else:
            rows[key] = _without_cube(row, before.get(key))
    removed = [key for key in ours if key not in theirs and key in before]
    new = {key: dict(row) for key, row in ours.items() if key not in theirs and key not in before}
    return Merged(rows | new, tuple(removed))


def table_of(rows: Rows) -> Table:
    """A table of rows that may differ in the columns that the user has added."""
    names = dict.fromkeys([*_DEFAULTS, *(name for row in rows.values() for name in row)])
    table = Table()
    for name in names:
        values = [row.get(name, _DEFAULTS.get(name)) for row in rows.values()]
        missing = [value is None for value in values]
        if any(missing):
            filler = next(value for value in values if value is not None)
            values = [filler if value is None else value for value in values]
            table[name] = MaskedColumn(values, mask=missing)
        else:
            table[name] = values
    return table


def same(one: Any, other: Any) -> bool:
    """Whether two values of a table are equal; NaN equals NaN."""
    both_nan = isinstance(one, float) and isinstance(other, float) and one != one and other != other
    return both_nan or (type(one) is type(other) and bool(one == other))


def same_rows(some: Rows, others: Rows) -> bool:
    """Whether two tables have the same rows in the same order."""
    return list(some) == list(others) and all(
        row.keys() == others[key].keys()
        and all(same(value, others[key][name]) for name, value in row.items())
        for key, row in some.items()
    )


def _updated(ours: Row, before: Row | None, theirs: Row) -> dict[str, Any]:
    """New facts where the user has changed nothing."""
    row = dict(theirs)
    for name, value in ours.items():
        given = theirs.get(name, _DEFAULTS[name])
        if before is not None:
            is_edited = not same(given, before.get(name))
        else:  # Nobody knows what musedask wrote: what says anything is the user's.
            is_edited = not same(given, _DEFAULTS[name])
        row[name] = given if is_edited else value
    return row


def _without_cube(row: Row, before: Row | None) -> dict[str, Any]:
    """A row of the user's own as it is; one of ours is not used while its cube is not there."""
    if before is None or not row["use"] or not same(row["path"], before.get("path")):
        return dict(row)
    reason = f"{NO_CUBE}; {row['reason']}" if row["reason"] else NO_CUBE
    return {**row, "use": False, "reason": reason}


def _with_cube(row: Row) -> Row:
    """A row whose cube is there again is as it was before."""
    if row["use"] or not str(row["reason"]).startswith(NO_CUBE):
        return row
    return {**row, "use": True, "reason": row["reason"].removeprefix(NO_CUBE).removeprefix("; ")}


def missing(rows: Sequence[str]) -> str:
    """Say which rows the user has removed."""
    shown = ", ".join(rows[:3]) + (", ..." if len(rows) > 3 else "")
    return f"no row for {shown}: removed from the table; to have it back, remove the table"
