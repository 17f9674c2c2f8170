"""What is written down of a job that has ended well: ``job.json``, the definition of done."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from glob import escape
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from musedask.errors import MissingError
from musedask.files import read_bytes
from musedask.wording import readable

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the form of ``job.json``; a record of another form is no record."""
RECORD_NAME = "job.json"


@dataclass(frozen=True)
class Product:
    """A file that a job has made."""

    file: str
    """Its name in the folder of the job."""
    tag: str
    """Its PRO CATG."""
    ifu: int | None
    """Its IFU, None where it is not of one."""
    filter: str
    """Filter of an image; empty for others."""
    date_obs: str
    """DATE-OBS in its header."""
    size: int
    """Bytes."""
    datamd5: str
    """DATAMD5 of its header: MD5 of its data."""


@dataclass(frozen=True)
class UsedFile:
    """A line of the SOF."""

    tag: str
    """Tag in the SOF."""
    path: str
    """Absolute path of the file."""
    identity: str
    """Of a file that was there before: :attr:`FileInput.identity`; else its DATAMD5."""
    job: str = ""
    """Key of the job that has made it; empty for a file that was there before."""


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job that has ended well, and what it has made."""

    folder: Path
    """Where its products lie; not in the file, so that a run may be moved."""
    key: str
    """:attr:`Job.key`."""
    recipe: str
    """``muse_bias``..."""
    stage: str
    """:attr:`Job.stage`."""
    title: str
    """What it is, for people."""
    ifu: int | None
    """Its IFU, for a recipe that runs on one."""
    frames: tuple[str, ...]
    """DATE-OBS of the exposures it is for."""
    parameters: tuple[tuple[str, str], ...]
    """Parameters that were given."""
    inputs: tuple[UsedFile, ...]
    """The SOF."""
    products: tuple[Product, ...]
    """What it has made."""
    pipeline: str
    """Version of the MUSE pipeline."""
    esorex: str
    """Version of esorex."""
    cpl: str
    """Version of CPL."""
    musedask: str
    """Version of musedask."""
    command: tuple[str, ...]
    """The call of esorex, in its scratch folder."""
    cores: int
    """Threads that it might use."""
    wall_s: float
    """Seconds that esorex took."""
    cpu_s: float
    """Seconds of CPU that esorex took."""
    peak_memory: int
    """Largest resident size of esorex, bytes; 0 if it ended too soon to be seen."""
    host: str
    """Where it ran."""
    attempt: int
    """The attempt that succeeded, from 1."""
    started: str
    """UTC, ISO 8601."""
    ended: str
    """UTC, ISO 8601."""
    warnings: tuple[str, ...]
    """What a user should know: of musedask's checks, then of esorex's log."""

    def products_of(
        self, tag: str, ifu: int | None = None, filter: str | None = None
    ) -> tuple[Path, ...]:
        """Absolute paths of products, by name; none if there are none.

        Parameters
        ----------
        tag
            Their PRO CATG.
        ifu
            Only those of this IFU.
        filter
            Only images of this filter.
        """
        return tuple(
            self.folder / product.file
            for product in self.products
            if product.tag == tag
            and (ifu is None or product.ifu == ifu)
            and (filter is None or product.filter == filter)
        )


def record_text(record: JobRecord) -> str:
    """The content of ``job.json``."""
    content = asdict(record)
    del content["folder"]
    return json.dumps({"format": FORMAT, **content}, indent=1) + "\n"


def read_record(folder: str | os.PathLike[str]) -> JobRecord | None:
    """Read the record of a finished job; None if it is not finished.

    A job is finished if its ``job.json`` is there and each product has the size
    that stands in it. A file that is no record is as good as none, and is logged.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    folder = Path(os.path.abspath(folder))
    if not os.path.lexists(folder / RECORD_NAME):
        return None
    text = read_bytes(folder / RECORD_NAME)
    try:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            return None
        record = _from_json(folder, content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        why = readable(repr(err), 200)
        logger.warning("%s: is no record of a job: %s", folder / RECORD_NAME, why)
        return None
    whole = all(_size(folder / product.file) == product.size for product in record.products)
    return record if whole else None


def find_record(products: str | os.PathLike[str], key: str) -> JobRecord:
    """Find the record of a job by its key alone.

    Raises
    ------
    MissingError
        If it is not finished, or its products are no longer there.
    """
    # A key that is no name of a folder could lead elsewhere.
    found = Path(products).glob(f"muse_*/{escape(key)}") if os.path.basename(key) == key else ()
    for folder in sorted(found):
        if (record := read_record(folder)) is not None:
            return record
    raise MissingError(
        f"{os.fspath(products)}: the products of job {key} are not there, or not whole; "
        "run that job first"
    )


def _from_json(folder: Path, content: Mapping[str, Any]) -> JobRecord:
    """A record from what JSON has made of it: lists instead of tuples."""
    given = dict(content)
    given["products"] = tuple(Product(**row) for row in given["products"])
    given["inputs"] = tuple(UsedFile(**row) for row in given["inputs"])
    given["parameters"] = tuple((str(name), str(value)) for name, value in given["parameters"])
    for field in fields(JobRecord):
        if isinstance(given.get(field.name), list):
            given[field.name] = tuple(given[field.name])
    record = JobRecord(folder=folder, **given)
    parts: tuple[JobRecord | Product | UsedFile, ...] = (record, *record.products, *record.inputs)
    for one in parts:
        _check_types(one)
    for product in record.products:
        # Whoever may write a record could name any file else, and have it taken for a product.
        if not product.file or os.path.basename(product.file) != product.file:
            raise ValueError(f"{product.file!r} is no name of a file in this folder")
        if product.file in (os.curdir, os.pardir):
            raise ValueError(f"{product.file!r} is a folder")
    return record


def _check_types(one: JobRecord | Product | UsedFile) -> None:
    """Raise a TypeError if a value is not of the type of its field."""
    for name, kind in get_type_hints(type(one)).items():
        value = getattr(one, name)
        kinds = (get_origin(kind) or kind,) if get_origin(kind) is not UnionType else get_args(kind)
        if kinds == (float,):
            kinds = (float, int)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(f"{name} = {value!r}")
        if (
            kinds == (tuple,)
            and get_args(kind) == (str, ...)
            and not all(isinstance(item, str) for item in value)
        ):
            raise TypeError(f"{name} = {value!r}")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
