"""musedask's own form: an ECSV table with every column of an Offset."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from musedask.ecsv_text import table_of_ecsv
from musedask.errors import InputError
from musedask.files import read_text
from musedask.offsets import ExposureLike, OffsetTable


def read(path: Path, exposures: Sequence[ExposureLike] | None) -> OffsetTable:
    """Read the table; it is complete in itself, ``exposures`` are not needed.

    Raises
    ------
    InputError
        If it is no ECSV, or a column or value is wrong.
    """
    text = read_text(path)
    try:
        table = table_of_ecsv(text)
    except InputError as err:
        raise InputError(f"this is not a whole ECSV table: {err}") from err
    return OffsetTable.from_table(table)


def dump(table: OffsetTable, exposures: Sequence[ExposureLike] | None) -> bytes:
    """Give the file's content; numbers are written so that they come back bit for bit."""
    stream = io.StringIO()
    table.table.write(stream, format="ascii.ecsv")
    return stream.getvalue().encode("utf-8")
