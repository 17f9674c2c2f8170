"""An offset table in words, for people at a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from musedask.offsets import Offset, OffsetTable
from musedask.wording import counted

ROWS_SHOWN = 200
_HEAD = ("exposure", "east", "north", "error", "grade", "sources", "correlation", "method", "why")
_ALIGNED_LEFT = ("exposure", "grade", "method", "why")


def offsets_summary(table: OffsetTable) -> str:
    """How many rows of which grade, by which method, on which frame, and how large they are.

    Examples
    --------
    >>> row = Offset(date_obs="2026-01-31T01:02:03.456", ra_offset_arcsec=3.0,
    ...              dec_offset_arcsec=-4.0, grade="A", method="reference", frame="hst.fits")
    >>> print(offsets_summary(OffsetTable((row,))))
    1 exposure, up to 5.000 arcsec
      methods: 1 reference
      grades: 1 A
      on the frame of: 1 hst.fits
    """
    sizes = [math.hypot(row.ra_offset_arcsec, row.dec_offset_arcsec) for row in table]
    largest = max((size for size in sizes if math.isfinite(size)), default=math.nan)
    grades = sorted((row.grade for row in table), key=lambda grade: (not grade, grade))
    lines = [
        f"{counted(len(table), 'exposure')}, up to {largest:.3f} arcsec",
        f"  methods: {frequencies((row.method for row in table), 'unknown')}",
        f"  grades: {frequencies(grades, 'ungraded')}",
    ]
    frames = [row.frame for row in table if row.frame]
    if frames:
        lines.append(f"  on the frame of: {frequencies(frames, '')}")
    bands = [row.band for row in table if row.band]
    if bands:
        lines.append(f"  seen through: {frequencies(bands, '')}")
    decisions = [row.decision for row in table if row.decision]
    if decisions:
        lines.append(f"  decided by people: {frequencies(decisions, '')}")
    return "\n".join(lines)


def frequencies(values: Iterable[str], unnamed: str) -> str:
    """How often each value comes.

    Examples
    --------
    >>> frequencies(["A", "A", ""], "ungraded")
    '2 A, 1 ungraded'
    """
    return ", ".join(f"{n} {value or unnamed}" for value, n in Counter(values).items())


def offsets_text(table: OffsetTable) -> str:
    """Give a line for each row, offsets in arcseconds on the sky, in the table's order."""
    rows = [_HEAD, *map(_cells, table.rows[:ROWS_SHOWN])]
    shown = [n for n in range(len(_HEAD)) if any(row[n] for row in rows[1:])]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEAD))]
    lines = [
        "  ".join(
            row[n].ljust(widths[n]) if _HEAD[n] in _ALIGNED_LEFT else row[n].rjust(widths[n])
            for n in shown
        ).rstrip()
        for row in rows
    ]
    if len(table) > ROWS_SHOWN:
        lines.append(f"and {len(table) - ROWS_SHOWN} more")
    return "\n".join(lines)


def _cells(row: Offset) -> tuple[str, ...]:
    errors = (row.ra_error_arcsec, row.dec_error_arcsec)
    n_sources = row.n_sources
    return (
        row.name or row.key,
        _number(row.ra_offset_arcsec, "+.3f"),
        _number(row.dec_offset_arcsec, "+.3f"),
        _number(max(errors), ".3f") if all(map(math.isfinite, errors)) else "",
        row.grade,
        _number(n_sources, ".0f"),
        _number(row.correlation_after, ".2f"),
        row.method,
        _why(row),
    )


def _why(row: Offset) -> str:
    """What a person decided, then the reasons."""
    by = f" by {row.decided_by}" if row.decided_by else ""
    decided = f"{row.decision}{by}" if row.decision else ""
    return "; ".join(filter(None, (decided, row.reasons, row.note)))


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else ""
