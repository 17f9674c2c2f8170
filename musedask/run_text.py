"""A run's folder and its tables in words, for people at a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from musedask.config import CONFIG_NAME
from musedask.ecsv_text import table_of_ecsv
from musedask.errors import FileError, InputError
from musedask.files import read_text
from musedask.run import Run, open_run
from musedask.wording import counted

QUALITY = {"recipe", "ifu", "product", "file"}
"""Columns that tell a table of quality measures."""
USED_FRAMES = {"job", "recipe", "ifu", "tag", "made_by", "file"}
"""Columns that tell a table of the frames that recipes used."""
_ABOUT = {"date_obs", "recipe", "stage", "ifu", "product", "file"}
_FITS = ("*.fits", "*.fits.gz", "*.fits.fz")


def is_run(folder: Path) -> bool:
    """Whether a folder is a run."""
    return (folder / CONFIG_NAME).is_file()


def run_summary(folder: Path) -> str:
    """What lies in a run's folder; reads its configuration and names of files only.

    Raises
    ------
    FileError
        If the folder is no run, or cannot be read.
    InputError
        If its configuration cannot be used.
    """
    run = open_run(folder)
    config = run.config.reduction
    lines = [f"Run {run.folder.name}: {_made(run)}"]
    for what, folders in (("raw frames", run.raw), ("static tables", run.static)):
        lines += [f"  {what}: {counted(_n_fits(one), 'FITS file')} in {one}" for one in folders]
    lines.append(
        f"  sky {config.sky}, offsets {config.offsets}, final {config.final}; "
        f"Dask: {run.config.cluster.kind}"
    )
    tables = sorted(path.name for path in run.tables.glob("*.ecsv"))
    if tables:
        lines.append(f"  in {run.tables}: {', '.join(tables)}")
    return "\n".join([*lines, f"  how far it is: musedask status {folder}"])


def _made(run: Run) -> str:
    kinds = {
        "exposure cube": run.cubes,
        "combined cube": run.combined,
        "cube of the sky": run.sky_cubes,
    }
    plurals = {"cube of the sky": "cubes of the sky"}
    numbers = {kind: len(list(folder.glob("*.fits"))) for kind, folder in kinds.items()}
    texts = [counted(n, kind, plurals.get(kind, "")) for kind, n in numbers.items() if n]
    return ", ".join(texts) or "no cube is made yet"


def _n_fits(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return sum(1 for pattern in _FITS for _ in folder.rglob(pattern))


def reduction_table_text(path: Path) -> str | None:
    """Describe a table that a reduction leaves; None if it is another one.

    Raises
    ------
    FileError
        If it is no table.
    """
    try:
        table = table_of_ecsv(read_text(path))
    except InputError as err:
        raise FileError(f"{path}: is no ECSV table: {err}") from err
    columns = set(table.colnames)
    if columns >= USED_FRAMES:
        return f"Used frames {path.name}: {_used_frames_text(table)}"
    if columns >= QUALITY:
        return f"Quality measures {path.name}: {_quality_text(table)}"
    return None


def _quality_text(table: Table) -> str:
    """Each product's measures: median, and range where there are several values."""
    lines = [f"{counted(len(table), 'product')} of {counted(_n(table['recipe']), 'recipe')}"]
    for product in dict.fromkeys(str(name) for name in table["product"]):
        rows = table[np.asarray(table["product"] == product)]
        ifus = sorted({int(ifu) for ifu in rows["ifu"]} - {0})
        of = f", {counted(len(ifus), 'IFU')}" if ifus else ""
        lines.append(f"  {product}: {counted(len(rows), 'file')}{of}")
        for name in (name for name in table.colnames if name not in _ABOUT):
            text = _measure_text(rows[name])
            lines += [f"    {name:<22s} {text}"] if text else []
    return "\n".join(lines)


def _measure_text(column: Any) -> str:
    """A measure's values, missing ones left out; empty if there is none."""
    if column.dtype.kind != "f":
        return ", ".join(dict.fromkeys(text for text in _texts(column) if text))
    values = np.ma.filled(np.ma.asarray(column), np.nan)
    values = np.asarray(values[np.isfinite(values)], float)
    if not values.size:
        return ""
    low, high = values.min(), values.max()
    unit = f" {column.unit}" if column.unit is not None else ""
    spread = f" ({low:.5g} to {high:.5g})" if low < high else ""
    return f"{float(np.median(values)):.5g}{unit}{spread}"


def _used_frames_text(table: Table) -> str:
    """How many files of which tags went into how many jobs, and which are not there any more."""
    first = np.asarray([not made_by for made_by in _texts(table["made_by"])], bool)
    given, made = table[first], table[~first]
    lines = [
        f"{counted(_n(table['job']), 'job')} of {counted(_n(table['recipe']), 'recipe')}",
        f"  raw frames and static tables: {_tags_text(given)}",
    ]
    if len(made):
        lines.append(f"  made by other jobs: {_tags_text(made)}")
    gone = [name for name in dict.fromkeys(_texts(given["file"])) if _is_gone(name)]
    if gone:
        lines.append(f"  files that are not there: {len(gone)}, the first: {gone[0]}")
    return "\n".join(lines)


def _is_gone(name: str) -> bool:
    return Path(name).is_absolute() and not Path(name).exists()


def _tags_text(table: Table) -> str:
    files: dict[str, set[str]] = {}
    for tag, name in zip(_texts(table["tag"]), _texts(table["file"]), strict=True):
        files.setdefault(tag, set()).add(name)
    return ", ".join(f"{len(names)} {tag}" for tag, names in files.items()) or "none"


def _n(column: Any) -> int:
    return len(set(_texts(column)))


def _texts(column: Any) -> list[str]:
    """Values as texts; an ECSV that has an empty text gives it back as a missing one."""
    return [str(value) for value in np.ma.filled(np.ma.asarray(column).astype(object), "")]
