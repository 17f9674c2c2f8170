"""The exposure table: one row per exposure, what is known of it, whether it is used.

It is a plain :class:`astropy.table.Table`, kept as ECSV, which people edit by
hand: so what is read is checked row by row, and what is written is aligned.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from musedask.ecsv_text import table_of_ecsv
from musedask.errors import FileError, InputError
from musedask.files import read_text
from musedask.whole_files import write_whole
from musedask.wording import counted

_YES = ("true", "t", "yes", "y", "1")
_NO = ("false", "f", "no", "n", "0")
_KEY_LENGTH = {"path": None, "date_obs": 23}  # DATE-OBS counts down to milliseconds
_LINE_ENDS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_UNKNOWN = ("", "-", "--", "?", "none", "null", "unknown", "n/a", "nan")


@dataclass(frozen=True)
class ExposureColumn:
    """A column of the exposure table."""

    name: str
    """Name in the table."""
    default: str | float | bool
    """Value where the file has none; its type is the column's."""
    unit: str
    """Unit; empty for none."""
    description: str
    """What it is and where its value comes from; written into the file."""
    is_path: bool = False
    """Whether it holds a file name, relative to the folder of the table."""
    is_positive: bool = False
    """Whether only numbers above 0 (or nan) make sense."""


_NAN = float("nan")
COLUMNS = (
    ExposureColumn("path", "", "", "cube, relative to the folder of this table", is_path=True),
    ExposureColumn("date_obs", "", "", "start of the exposure, DATE-OBS; its key everywhere"),
    ExposureColumn("mode", "", "", "ESO INS MODE"),
    ExposureColumn("exptime", _NAN, "s", "EXPTIME", is_positive=True),
    ExposureColumn("pointing", "", "", "field: exposures whose RA, DEC chain together"),
    ExposureColumn("seeing", _NAN, "arcsec", "FWHM; see seeing_from", is_positive=True),
    ExposureColumn(
        "seeing_from",
        "",
        "",
        "QC: median FWHM of the pipeline's sources; SGS: slow guiding, median; "
        "IA: active optics, START and END of AMBI: the site's monitor",
    ),
    ExposureColumn(
        "transparency",
        _NAN,
        "",
        "1 / ESO DRS MUSE FLUX SCALE1 if the cube has it",
        is_positive=True,
    ),
    ExposureColumn(
        "sky",
        _NAN,
        "1e-20 erg / (s cm2 Angstrom)",
        "median spaxel between 7000 and 7100 Angstrom, measured: what is left of the sky",
    ),
    ExposureColumn("airmass", _NAN, "", "mean of ESO TEL AIRM START and END", is_positive=True),
    ExposureColumn("mask", "", "", "FITS mask of the exposure's pixels, or empty", is_path=True),
    ExposureColumn("regions", "", "", "DS9 regions to mask, or empty", is_path=True),
    ExposureColumn(
        "weight", _NAN, "", "weight among the exposures; nan: not set", is_positive=True
    ),
    ExposureColumn("use", True, "", "whether the exposure goes into stacks: True or False"),
    ExposureColumn("reason", "", "", "why it is not used, or a remark"),
)
"""The columns of an exposure table, in order; ``path`` alone is needed."""


def read_exposure_table(
    path: str | os.PathLike[str], *, must_exist: bool = True, must_use: bool = True
) -> Table:
    """Read an exposure table (ECSV) and check it.

    Parameters
    ----------
    path
        The ECSV file. File names in it are relative to its folder.
    must_exist
        Whether the files of the used rows have to be there.
    must_use
        Whether a row has to be used.

    Returns
    -------
    Table
        All rows, also those that are not used; the columns of :data:`COLUMNS`
        with their types and units, file names absolute, and any columns more
        that the file has.

    Raises
    ------
    FileError
        If the table, or a file of a used row, cannot be read.
    InputError
        If the table or a value in it is not understood (the row is named), two
        used rows are the same exposure, or no row is used though one has to be.
    """
    name = Path(path)
    try:
        text = read_text(name)
    except FileError as err:
        raise FileError(
            f"{err} (the exposure table; `musedask exposures FILE... -o exposures.ecsv` makes one)"
        ) from err
    if not text.startswith("# %ECSV"):
        raise InputError(
            f"{name}: not an ECSV table (its first line is {text[:40].splitlines()[:1]}); "
            "`musedask exposures FILE... -o exposures.ecsv` makes one"
        )
    tidied = _tidied(text, name)
    try:
        table = table_of_ecsv(tidied)
    except InputError as err:
        raise InputError(f"{name}: this ECSV table is broken: {err}") from err
    return check_exposure_table(
        table, folder=name.absolute().parent, what=str(name), must_exist=must_exist,
        must_use=must_use,
    )  # fmt: skip


def write_exposure_table(
    table: Table,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    root: str | os.PathLike[str] | None = None,
    must_use: bool = True,
) -> None:
    """Write an exposure table as ECSV with aligned columns, in one step.

    Files below ``root`` are written relative to the table, so that the folder
    can move; others with their absolute path.

    Parameters
    ----------
    table
        The table.
    path
        The ECSV file.
    overwrite
        Whether a file that is there may be replaced.
    root
        A folder above the table; its own by default.
    must_use
        Whether a row has to be used.

    Raises
    ------
    FileError
        If the file is there already (it may hold edits) and not ``overwrite``,
        or cannot be written.
    InputError
        If the table is not a good exposure table.
    """
    name = Path(path).absolute()
    if name.suffix != ".ecsv":
        raise InputError(f"{name}: an exposure table is known by its ending, name it *.ecsv")
    if name.exists() and not overwrite:
        raise FileError(
            f"{name} is there already and may hold edits; choose another name, or overwrite it "
            "on purpose (overwrite=True)"
        )
    result = check_exposure_table(
        table, what="the exposure table", must_exist=False, must_use=must_use
    )
    base = Path(root).absolute() if root is not None else name.parent
    paths = {spec.name for spec in COLUMNS if spec.is_path}
    for key in result.colnames:
        column = result[key]
        if isinstance(column, Column) and column.dtype.kind == "U" and column.ndim == 1:
            values = [_text_of(value) for value in np.ma.filled(column, "").tolist()]
            if key in paths:
                values = [_relative(value, name.parent, base) for value in values]
            result.replace_column(key, _like(column, values))
    buffer = io.StringIO()
    result.write(buffer, format="ascii.ecsv")
    write_whole(name, _aligned(buffer.getvalue()).encode())


def check_exposure_table(
    table: Table,
    *,
    folder: str | os.PathLike[str] | None = None,
    what: str = "the exposure table",
    must_exist: bool = True,
    must_use: bool = True,
) -> Table:
    """Bring a table into the form that :func:`read_exposure_table` gives.

    Parameters
    ----------
    table
        Any table with a column ``path``; it is not changed.
    folder
        Folder that relative file names start from; the current one by default.
    what
        What to call the table in errors.
    must_exist
        Whether the files of the used rows have to be there.
    must_use
        Whether a row has to be used.

    Raises
    ------
    FileError, InputError
        As :func:`read_exposure_table` does.
    """
    if "path" not in table.colnames:
        raise InputError(
            f"{what}: no column 'path' (it has {', '.join(table.colnames) or 'none'}); it names "
            "the cube of each exposure"
        )
    if len(table) == 0:
        raise InputError(f"{what}: no rows; at least one exposure is needed")
    result = Table(table, copy=True)  # of a QTable, columns instead of quantities
    base = Path(folder if folder is not None else Path.cwd()).absolute()
    for spec in COLUMNS:
        column = _converted(result, spec, what)
        if spec.is_path:
            column = Column([_absolute(value, base) for value in column], dtype=str)
        column.name = spec.name
        column.description = spec.description
        column.unit = spec.unit or None
        if spec.name in result.colnames:
            result.replace_column(spec.name, column)
        else:
            result.add_column(column)
    _check_rows(result, what, must_exist, must_use)
    return result


def _converted(table: Table, spec: ExposureColumn, what: str) -> Column:
    """One column with its type, default filled in, in its unit."""
    if spec.name not in table.colnames:
        return Column(np.full(len(table), spec.default))
    column = table[spec.name]
    convert: Callable[[Any], str | float | bool]
    if isinstance(spec.default, bool):
        convert = _bool_of
    else:
        convert = _text_of if isinstance(spec.default, str) else _float_of
    values = []
    for i, value in enumerate(np.ma.asarray(getattr(column, "value", column)).tolist()):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        try:
            values.append(spec.default if text is None else convert(text))
        except ValueError as err:
            raise InputError(f"{_row(table, i, what)}: {spec.name} = {value!r} {err}") from None
    result = Column(values, dtype=type(spec.default))
    unit = getattr(column, "unit", None)
    if spec.unit and unit is not None and unit != u.Unit(spec.unit):
        try:
            factor = u.Unit(unit).to(spec.unit)
        except (u.UnitConversionError, ValueError, TypeError) as err:
            raise InputError(
                f"{what}: the unit of {spec.name} is {unit}, expected {spec.unit}"
            ) from err
        result = Column(np.asarray(result) * factor)
    return result


def _like(column: Column, values: Sequence[str]) -> Column:
    """Other values under the name and the attributes of a column."""
    return Column(
        values,
        name=column.name,
        dtype=str,
        unit=column.unit,
        description=column.description,
        meta=column.meta,
    )


def _text_of(value: Any) -> str:
    """Text without blanks around it and line ends in it."""
    return " ".join(filter(None, map(str.strip, _LINE_ENDS.split(str(value)))))


def _float_of(value: Any) -> float:
    """A number, or NaN for the ways to say that it is not known."""
    if isinstance(value, str) and value.strip().lower() in _UNKNOWN:
        return _NAN
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError("is not a number; write nan if it is not known") from None


def _bool_of(value: Any) -> bool:
    """True or False, as people write them."""
    word = str(value).strip().lower()
    if word not in _YES + _NO:
        raise ValueError("is neither True nor False; write one of them")
    return word in _YES


def _check_rows(table: Table, what: str, must_exist: bool, must_use: bool) -> None:
    """Raise for rows that contradict themselves or one another."""
    used = np.flatnonzero(table["use"])
    if used.size == 0 and must_use:
        reasons = sorted({str(reason) for reason in table["reason"] if reason})
        raise InputError(
            f"{what}: not one of {counted(len(table), 'row')} is used"
            + (f" ({'; '.join(reasons[:3])})" if reasons else "")
            + "; set use to True for at least one"
        )
    for i in map(int, used):
        if not table["path"][i]:
            raise InputError(f"{_row(table, i, what)}: no path; name the cube or set use to False")
        for spec in COLUMNS:
            value = table[spec.name][i]
            if spec.is_positive and (value <= 0 or np.isinf(value)):
                raise InputError(
                    f"{_row(table, i, what)}: {spec.name} = {value:g}, expected a number above 0; "
                    "write nan if it is not known"
                )
            if spec.is_path and value and must_exist and not os.path.isfile(value):
                raise FileError(
                    f"{_row(table, i, what)}: {spec.name} {value} is not there; correct it, or "
                    "set use to False"
                )
    for key, advice in (("path", ""), ("date_obs", " (halves or reprocessings of one exposure)")):
        first: dict[str, int] = {}
        for i in map(int, used):
            value = str(table[key][i])[: _KEY_LENGTH[key]]
            if value and first.setdefault(value, i) != i:
                raise InputError(
                    f"{what}: rows {first[value] + 1} and {i + 1} are both used and have the same "
                    f"{key} {value}{advice}; set use to False for one of them"
                )


def _row(table: Table, i: int, what: str) -> str:
    """Name a row, counted from 1 and without comment lines, for an error."""
    label = Path(str(table["path"][i])).name
    return f"{what}, row {i + 1}" + (f" ({label})" if label else "")


def _absolute(value: str, base: Path) -> str:
    """An absolute file name without ``..``; empty stays empty."""
    return os.path.normpath(base / Path(value).expanduser()) if value else ""


def _relative(value: str, folder: Path, root: Path) -> str:
    """A file name relative to ``folder`` if it lies below ``root``."""
    if not value or not Path(value).is_relative_to(root):
        return value
    name = os.path.relpath(value, folder)
    return f"./{name}" if name.startswith("#") else name  # a line must not become a comment


def _tidied(text: str, name: Path) -> str:
    """Bring hand-written values into the one form that the ECSV reader takes.

    It takes True and False alone, and names no row where a value is wrong.
    """
    lines = text.splitlines()
    head = [line for line in lines if line.startswith("#")]
    body = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    if not body:
        raise InputError(f"{name}: no line with the names of the columns")
    found = [re.match(r"#\s*delimiter:\s*['\"]?(,| )", line) for line in head]
    delimiter = next((match[1] for match in found if match), " ")
    rows = [(n, _fields(line, delimiter)) for n, line in body]
    names = rows[0][1]
    numbers = {spec.name for spec in COLUMNS if isinstance(spec.default, float)}
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for k, (n, fields) in enumerate(rows):
        if len(fields) != len(names):
            raise InputError(
                f'{name}, line {n}: {len(fields)} values for {len(names)} columns; write "" for '
                "an empty one and put text with blanks between double quotes"
            )
        row = dict(zip(names, fields, strict=True))
        what = f"{name}, row {k} ({Path(row.get('path', '')).name})"
        for key, value in row.items() if k else ():
            try:
                if key == "use":
                    row[key] = str(_bool_of(value or "True"))
                elif key in numbers:
                    row[key] = str(_float_of(value))
            except ValueError as err:
                raise InputError(f"{what}: {key} = {value!r} {err}") from None
        writer.writerow(row.values())
    return "\n".join([*head, out.getvalue()])


def _fields(line: str, delimiter: str) -> list[str]:
    """The values of a line, as astropy's ECSV reader splits it."""
    reader = csv.reader([line.strip()], delimiter=delimiter, skipinitialspace=True)
    return next(reader)


def _aligned(text: str) -> str:
    """Pad the columns of an ECSV text that is separated by blanks."""
    lines = [line for line in text.split("\n") if line]
    head = [line for line in lines if line.startswith("#")]
    rows = [re.findall(r'"(?:[^"]|"")*"|\S+', line) for line in lines if not line.startswith("#")]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    body = [
        " ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*head, *body, ""])
