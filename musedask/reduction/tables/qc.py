"""The quality measures of a run's products as a table: a row for each product that has some."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from astropy.table import Column, Table

from musedask.errors import FileError
from musedask.files import opened
from musedask.fits.cards import plain_values
from musedask.fits.hdus import read_primary
from musedask.reduction.job.record import JobRecord, Product
from musedask.reduction.jobs import STAGES
from musedask.reduction.tables.qc_columns import COLUMNS, columns_of

THREADS = 8
"""Network disks answer several questions at a time."""
_NUMBER = re.compile(r"\d+")
_ABOUT = (
    ("date_obs", "DATE-OBS of the product"),
    ("recipe", "recipe that made it"),
    ("stage", "stage of the chain"),
    ("ifu", "IFU; 0 for the whole field"),
    ("product", "its PRO CATG"),
    ("file", "file, below the run's folder of products"),
)
"""Columns that say which product it is, and what they are."""


@dataclass(frozen=True)
class QcTable:
    """The table, and what could not be read for it."""

    table: Table
    """A row for each product that has measures."""
    problems: tuple[str, ...] = ()
    """Products whose header could not be read, and why."""


def qc_table(records: Iterable[JobRecord]) -> QcTable:
    """Read the quality measures of finished jobs' products: PRIMARY headers alone.

    Parameters
    ----------
    records
        Of the finished jobs.

    Returns
    -------
    QcTable
        In the order of the chain, by date, IFU and file. Numbers that a product does not
        have are NaN.
    """
    wanted = sorted(
        ((record, product) for record in records for product in record.products
         if columns_of(product.tag)), key=_place,
    )  # fmt: skip
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda pair: _read(*pair), wanted))
    rows = [(pair, values) for pair, values in zip(wanted, read, strict=True)
            if not isinstance(values, str)]  # fmt: skip
    table = Table([
        *(Column([_about(name, *pair) for pair, _ in rows], name,
                 dtype=int if name == "ifu" else str, description=text) for name, text in _ABOUT),
        *(Column([values.get(spec.name, "" if spec.is_text else float("nan"))
                  for _, values in rows], spec.name, dtype=str if spec.is_text else float,
                 unit=spec.unit or None, description=spec.description) for spec in COLUMNS),
    ])  # fmt: skip
    return QcTable(table, tuple(values for values in read if isinstance(values, str)))


def quality(raw: bytes, tag: str) -> dict[str, float | str]:
    """The measures in a header.

    Parameters
    ----------
    raw
        Cards of a PRIMARY header, 80 bytes each.
    tag
        PRO CATG of the product.

    Returns
    -------
    dict
        Name of the column -> value, for the columns that products of this kind have.
    """
    columns = columns_of(tag)
    wanted = {key for column in columns for key in column.keys}
    found: dict[str, list[Any]] = {}
    for name, value in plain_values(raw, "ESO QC"):
        for key in (name, _NUMBER.sub("#", name)):
            if key in wanted:
                found.setdefault(key, []).append(value)
                break
    return {column.name: column.value(found) for column in columns}


def _place(pair: tuple[JobRecord, Product]) -> tuple[Any, ...]:
    record, product = pair
    # A stage that this version does not know comes last.
    stage = STAGES.index(record.stage) if record.stage in STAGES else len(STAGES)
    return stage, product.date_obs, product.ifu or 0, record.key, product.file


def _read(record: JobRecord, product: Product) -> Mapping[str, float | str] | str:
    """The measures of a product, or why they cannot be read."""
    path = record.folder / product.file
    try:
        with opened(path) as file:
            return quality(read_primary(file, str(path)).raw, product.tag)
    except FileError as err:
        return str(err)


def _about(name: str, record: JobRecord, product: Product) -> str | int:
    values: dict[str, str | int] = {
        "date_obs": product.date_obs, "recipe": record.recipe, "stage": record.stage,
        "ifu": product.ifu or 0, "product": product.tag,
        "file": f"{record.recipe}/{record.key}/{product.file}",
    }  # fmt: skip
    return values[name]
