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

from musedask.alignment.votable import table_of_votable
from musedask.ecsv_text import table_of_ecsv
from musedask.errors import FileError, InputError
from musedask.files import opened, read_bytes, read_text
from musedask.fits.small import small_fits
from musedask.quiet import quiet

_VOTABLES = (".vot", ".xml")
_MOST_COLUMNS = 2000
"""Astropy's time goes with their square: minutes for a hundred thousand."""
_LONGEST_LINE = 5000
"""Characters of a line where astropy guesses the format; its time goes with their square, too."""
_BETWEEN = re.compile(r"\s*[,;|&\t]|\s+")
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
    with opened(label) as file:
        start = file.read(9)
    if start.startswith(b"SIMPLE  =") or (
        start.startswith(b"\x1f\x8b") and ".fit" in Path(path).name.lower()
    ):
        return _read_fits(label, extension)
    if extension:
        raise InputError(f"{label}: is not FITS, it has no extension {extension}")
    suffix = Path(path).suffix.lower()
    content: bytes | str = read_bytes(label) if suffix in _VOTABLES else read_text(label)
    try:
        with quiet(UnitsWarning, AstropyWarning):
            if isinstance(content, bytes):
                return table_of_votable(content)
            if suffix == ".ecsv" or content.lstrip().startswith("# %ECSV"):
                return table_of_ecsv(content, ignored=(UnitsWarning,))
            return _of_text(content, label, names)
    except FileError:
        raise
    except Exception as err:  # astropy raises what it likes on what is no table
        raise FileError(f"{label}: cannot be read as a table: {_first_line(err)}") from err


def column_of(table: Table, names: Iterable[str]) -> str | None:
    """The first of these names, in any case, that a table has as a column; None if none."""
    by_lower = {name.lower(): name for name in reversed(table.colnames)}
    return next((by_lower[name.lower()] for name in names if name.lower() in by_lower), None)


def _of_text(text: str, label: str, names: Iterable[str]) -> Table:
    """A table out of text: a first row of numbers is data, however few rows follow."""
    comment = ""
    all_lines = text.split("\n")
    for at, line in enumerate(all_lines):
        n_columns = 1 + len(_BETWEEN.findall(line))
        if n_columns > _MOST_COLUMNS:
            raise FileError(
                f"{label}: line {at + 1} has {n_columns} columns or words, more than "
                f"{_MOST_COLUMNS}; keep those that are needed"
            )
        words = _words(line)
        if words and all(map(_is_number, words)):
            is_header = bool({word.lower() for word in _words(comment)} & {*names})
            format_ = "ascii.commented_header" if is_header else "ascii.no_header"
            # Comments above the header's are none of ours.
            lines = [comment] * is_header + all_lines[at:]
            if "," in line:
                lines = [re.sub(r"\s*,\s*", " ", one) for one in lines]
            return Table.read(lines, format=format_)
        if words and not line.lstrip().startswith("#"):
            format_ = "ascii.csv" if "," in line else "ascii"
            longest = max(map(len, all_lines))
            if format_ == "ascii" and longest > _LONGEST_LINE:
                raise FileError(
                    f"{label}: has a line of {longest} characters, more than {_LONGEST_LINE}"
                )
            return Table.read(all_lines, format=format_, fill_values=_UNKNOWN)
        comment = line if words else comment
    raise FileError(f"{label}: has no row of numbers")


def _words(line: str) -> list[str]:
    """What stands apart by blanks or commas, without the comment's sign."""
    return re.split(r"[\s,]+", line.strip().lstrip("#").strip(" \t,")) if line.strip() else []


def _read_fits(label: str, extension: str) -> Table:
    """One table of a FITS file."""
    with small_fits(label) as hdus, quiet(UnitsWarning, AstropyWarning):
        tables = {
            i: hdu.name
            for i, hdu in enumerate(hdus)
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)
        }
        chosen = [i for i, name in tables.items() if extension.upper() in ("", name.upper())]
        if len(chosen) == 1:
            return Table.read(hdus, hdu=chosen[0], format="fits")
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
