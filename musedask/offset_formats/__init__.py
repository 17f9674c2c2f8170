"""Offset files of all kinds, read into and written from an OffsetTable.

============== ==================================================================
format         what it is
============== ==================================================================
``ecsv``       musedask's own: every column, units, exact
``offset_list`` ESO's OFFSET_LIST (FITS table), of muse_exp_align or made by hand
``pymusepipe`` pymusepipe's extended OFFSET_LIST, with a rotation
``cosmos``     the COSMOS routine's offsets.txt with manualoffsets.txt beside it
``mypython``   mypython's radecoffsets.txt: two rows, a column per exposure
============== ==================================================================
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.files import read_text
from musedask.offset_formats import cosmos, ecsv, mypython, offset_list, pymusepipe
from musedask.offsets import ExposureLike, OffsetTable
from musedask.whole_files import write_whole
from musedask.wording import counted, readable

Exposures = Sequence[ExposureLike] | None

_READERS: dict[str, Callable[[Path, Exposures], OffsetTable]] = {
    "ecsv": ecsv.read,
    "offset_list": offset_list.read,
    "pymusepipe": pymusepipe.read,
    "cosmos": cosmos.read,
    "mypython": mypython.read,
}
_WRITERS: dict[str, Callable[[OffsetTable, Exposures], bytes]] = {
    "ecsv": ecsv.dump,
    "offset_list": offset_list.dump,
    "pymusepipe": pymusepipe.dump,
    "cosmos": cosmos.dump,
    "mypython": mypython.dump,
}
OFFSET_FORMATS = tuple(_READERS)
"""Names of the formats that can be read."""
_FORMAT_OF = {
    ".ecsv": "ecsv",
    ".fits": "offset_list",
    "offsets.txt": "cosmos",
    "radecoffsets.txt": "mypython",
}
"""Ending or name of a file to write -> its format."""
_HOLDS = {
    "offset_list": {"flux_scale"},
    "pymusepipe": {"flux_scale", "rotation_deg"},
    "cosmos": set[str](),
    "mypython": set[str](),
}
"""What a format keeps of the values that change a stack, beside the offset itself."""


def read_offsets(
    path: str | os.PathLike[str], exposures: Exposures = None, format: str | None = None
) -> OffsetTable:
    """Read an offset file; see :meth:`musedask.offsets.OffsetTable.read`."""
    path = Path(path)
    if not os.path.isfile(path):
        raise FileError(f"{path}: no such file, an offset table was expected there")
    if exposures is not None and not exposures:
        raise InputError(f"{path}: the list of exposures is empty; give those to be stacked")
    if format is not None and format not in _READERS:
        raise InputError(f"{path}: format {format!r} is unknown, use one of {', '.join(_READERS)}")
    try:
        reader = _READERS[format or recognise(path)]
        table = reader(path, exposures)
        if not len(table):
            raise InputError("there is not one offset in it")
    except FileError:
        raise
    except OSError as err:
        raise FileError(f"{path}: cannot be read: {err}") from err
    except InputError as err:
        raise InputError(f"{path}: {readable(str(err))}") from err
    return table


def recognise(path: Path) -> str:
    """Tell the format of a file by its content.

    Raises
    ------
    InputError
        If it is none of them.
    """
    with path.open("rb") as stream:
        head = stream.read(4096)
    if not head.strip():
        raise InputError("the file is empty")
    if head.startswith((b"SIMPLE  =", b"\x1f\x8b")):
        return offset_list.recognise(path)
    if head.startswith(b"# %ECSV"):
        return "ecsv"
    if head.lstrip()[:1] == b"<":
        raise InputError("this is HTML or XML, probably an error page; fetch the file again")
    if b"\0" in head:
        raise InputError("this is neither FITS nor text")
    text = read_text(path, errors="replace")
    if path.name == "radecoffsets.txt" or mypython.looks_like(text):
        return "mypython"
    if path.name in cosmos.FILE_NAMES or cosmos.looks_like(text):
        return "cosmos"
    raise InputError(
        "this is no offset table that musedask knows (ECSV, OFFSET_LIST, offsets.txt, "
        f"radecoffsets.txt); if it is one, give format=, one of {', '.join(_READERS)}"
    )


def write_offsets(
    table: OffsetTable,
    path: str | os.PathLike[str],
    format: str | None = None,
    exposures: Exposures = None,
    overwrite: bool = False,
) -> None:
    """Write an offset file; see :meth:`musedask.offsets.OffsetTable.write`."""
    path = Path(path)
    if format is None:
        format = _FORMAT_OF.get(path.name) or _FORMAT_OF.get(path.suffix)
        if format is None:
            raise InputError(
                f"{path}: the name does not tell the format: end it in .ecsv or .fits, call it "
                f"offsets.txt or radecoffsets.txt, or give format=, one of {', '.join(_WRITERS)}"
            )
    if format not in _WRITERS:
        raise InputError(f"{path}: format {format!r} is unknown, use one of {', '.join(_WRITERS)}")
    if not len(table):
        raise InputError(f"{path}: there are no offsets to write")
    if path.exists() and not overwrite:
        raise FileError(f"{path} is there already: choose another name, or overwrite=True")
    try:
        if format != "ecsv":
            _check_representable(table, format)
        content = _WRITERS[format](table, exposures)
    except InputError as err:
        raise InputError(f"{path}: {err}") from err
    write_whole(path, content)


def _check_representable(table: OffsetTable, format: str) -> None:
    """Refuse failed rows, and warn of values that the format has no place for."""
    for row in table:
        if row.is_failed or not row.is_finite:
            raise InputError(
                f"{row.key} {row.name} has grade F, which {format} cannot say: correct or "
                "remove the row, or write .ecsv"
            )
    lost = {
        "rotation_deg": sum(row.applied_rotation_deg != 0.0 for row in table),
        "flux_scale": sum(row.applied_scale != 1.0 for row in table),
    }
    for key, times in lost.items():
        if times and key not in _HOLDS[format]:
            warnings.warn(
                f"{format} has no place for {key}, set for {times} of "
                f"{counted(len(table), 'exposure')}: it is lost in that file; .ecsv keeps it",
                MusedaskWarning,
                stacklevel=5,
            )
