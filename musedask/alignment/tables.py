"""Tables that people bring, curves and catalogues: text, ECSV, FITS, whatever astropy reads."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from astropy.io import fits
from astropy.table import Table
from astropy.units import UnitsWarning
from astropy.utils.exceptions import AstropyWarning

from musedask.errors import FileError, InputError
from musedask.fits.hdus import as_file_error
from musedask.quiet import quiet

_FORMATS = {".ecsv": "ascii.ecsv", ".vot": "votable", ".xml": "votable"}
_UNKNOWN = [(text, "0") for text in ("", "null", "--", "N/A")]
"""What stands for no number: masked. Gaia's archive writes ``null``."""


def read_table(
    path: str | os.PathLike[str], extension: str = "", names: Iterable[str] = ()
) -> Table:
    """Read a table; text without a header has the columns ``col1``, ``col2``...

    Parameters
    ----------
    path
        FITS (also packed), ECSV, VOTable, or text with columns apart by blanks or commas.
    extension
        EXTNAME of the table in a FITS file that has several.
    names
        Columns that are looked for: a comment that has one of them above a
        text's first row of numbers is its header.

    Raises
    ------
    FileError
        If the file cannot be read as a table.
    InputError
        If a FITS file has several tables and none was named.
    """
    label = os.fspath(path)
    with as_file_error(label), open(path, "rb") as file:
        start = file.read(9)
    if start.startswith(b"SIMPLE  =") or (
        start.startswith(b"\x1f\x8b") and ".fit" in Path(path).name.lower()
    ):
        return _read_fits(label, extension)
    if extension:
        raise InputError(f"{label}: is not FITS, it has no extension {extension}")
    format_ = _FORMATS.get(Path(path).suffix.lower())
    try:
        with quiet(UnitsWarning, AstropyWarning):
            return Table.read(label, format=format_) if format_ else _read_text(label, names)
    except FileError:
        raise
    except Exception as err:  # astropy raises what it likes on what is no table
        raise FileError(f"{label}: cannot be read as a table: {_first_line(err)}") from err


def column_of(table: Table, names: Iterable[str]) -> str | None:
    """The first of these names, in any case, that a table has as a column; None if none."""
    by_lower = {name.lower(): name for name in reversed(table.colnames)}
    return next((by_lower[name.lower()] for name in names if name.lower() in by_lower), None)


def _read_text(label: str, names: Iterable[str]) -> Table:
    """A table out of text: a first row of numbers is data, however few rows follow."""
    text = Path(label).read_text(encoding="utf-8")
    if text.lstrip().startswith("# %ECSV"):
        return Table.read(label, format="ascii.ecsv")
    comment = ""
    for line in text.splitlines():
        words = _words(line)
        if words and all(map(_is_number, words)):
            is_header = bool({word.lower() for word in _words(comment)} & {*names})
            format_ = "ascii.commented_header" if is_header else "ascii.no_header"
            # Comments above the header's are none of ours.
            at = text.splitlines().index(line)
            lines = [comment] * is_header + text.splitlines()[at:]
            if "," in line:
                lines = [re.sub(r"\s*,\s*", " ", one) for one in lines]
            return Table.read(lines, format=format_)
        if words and not line.lstrip().startswith("#"):
            format_ = "ascii.csv" if "," in line else "ascii"
            return Table.read(label, format=format_, fill_values=_UNKNOWN)
        comment = line if words else comment
    raise FileError(f"{label}: has no row of numbers")


def _words(line: str) -> list[str]:
    """What stands apart by blanks or commas, without the comment's sign."""
    return re.split(r"[\s,]+", line.strip().lstrip("#").strip(" \t,")) if line.strip() else []


def _read_fits(label: str, extension: str) -> Table:
    """One table of a FITS file."""
    try:
        with quiet(UnitsWarning, AstropyWarning), fits.open(label, memmap=False) as hdus:
            tables = {
                i: hdu.name
                for i, hdu in enumerate(hdus)
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)
            }
            chosen = [i for i, name in tables.items() if extension.upper() in ("", name.upper())]
            if len(chosen) == 1:
                return Table.read(hdus, hdu=chosen[0], format="fits")
    except Exception as err:  # as above
        raise FileError(f"{label}: cannot be read as FITS: {_first_line(err)}") from err
    if not tables:
        raise FileError(f"{label}: has no table")
    raise InputError(
        f"{label}: has {'no' if extension else 'more than one'} table "
        f"{extension or 'to choose from'}; name one as {label}[EXTNAME]: "
        f"{', '.join(tables.values())}"
    )


def _is_number(text: str) -> bool:
    """Whether a word is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_line(err: BaseException) -> str:
    """The beginning of an error's text."""
    text = str(err).strip()
    return text.splitlines()[0] if text else type(err).__name__
