"""The set of frames of a job: what is there of its inputs, as esorex is to see it.

esorex takes a file of lines ``path TAG``, in which a path must not have
whitespace: such a file gets a link with a clean name in the scratch folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from musedask.errors import FileError, MissingError
from musedask.files import as_file_error
from musedask.reduction.job.folder import writing
from musedask.reduction.job.made_inputs import made_file
from musedask.reduction.job.record import JobRecord, Product, find_record
from musedask.reduction.jobs import FileInput, Job, MadeInput, ProductInput

SOF_NAME = "frames.sof"
LINKS = "inputs"
"""Folder below the scratch folder for links with clean names."""
_LONGEST = 900
"""Characters of a path: CFITSIO reads no more than 1024."""
_LONGEST_NAME = 100
_CLEAN = re.compile(r"/[!-~]*")
"""A path that a SOF can hold: printable ASCII without blanks."""
_IDENTITY = re.compile(r"(\d+)-(\d+)-")


@dataclass(frozen=True)
class SofLine:
    """One file of a job."""

    tag: str
    """Tag in the SOF."""
    path: str
    """As it stands in the SOF: absolute, or relative to the folder of the call."""
    source: str
    """Absolute path of the file itself."""
    identity: str
    """:attr:`FileInput.identity`, or the DATAMD5 of a product; empty if it was just made."""
    job: str = ""
    """Key of the job that has made it."""

    @property
    def is_link(self) -> bool:
        """Whether esorex sees it by another name."""
        return self.path.startswith(f"{LINKS}/")

    @property
    def is_made(self) -> bool:
        """Whether it was written just for this job."""
        return not os.path.isabs(self.path) and not self.is_link


def prepare_sof(job: Job, products: Path, scratch: Path) -> tuple[SofLine, ...]:
    """Find all inputs of a job, and write its SOF and what it needs into its scratch folder.

    Parameters
    ----------
    job
        The job.
    products
        The run's folder of products, where other jobs have put theirs.
    scratch
        The folder in which esorex is to run.

    Raises
    ------
    FileError
        If a file is missing or is no longer the one that was planned with.
    MissingError
        If what another job was to make is not there.
    InputError
        If an input that is to be made cannot be.
    """
    lines = tuple(_lines(job, products, scratch))
    with writing(scratch / SOF_NAME):
        (scratch / SOF_NAME).write_text(sof_text(lines), encoding="utf-8")
    return lines


def sof_text(lines: Sequence[SofLine]) -> str:
    """The text of a SOF."""
    return "".join(f"{line.path} {line.tag}\n" for line in lines)


def needed_records(job: Job, products: Path) -> dict[str, JobRecord]:
    """Records of the jobs whose products a job takes, by key; raises as :func:`find_record`."""
    return {key: find_record(products, key) for key in job.needs}


def _lines(job: Job, products: Path, scratch: Path) -> Iterator[SofLine]:
    records = needed_records(job, products)
    number = 0
    for item in job.inputs:
        if isinstance(item, MadeInput):
            yield _made(item, scratch)
            continue
        if isinstance(item, FileInput):
            _check_unchanged(item)
            found = [(item.tag, item.path, item.identity, "")]
        else:
            found = [
                (item.used_as or item.tag, str(records[item.job].folder / product.file),
                 product.datamd5, item.job)
                for product in _products(job, item, records[item.job])
            ]  # fmt: skip
        for tag, path, identity, maker in found:
            number += 1
            yield SofLine(tag, _clean(path, scratch, number), path, identity, maker)


def _products(job: Job, item: ProductInput, record: JobRecord) -> Sequence[Product]:
    """What a job takes of another one's products."""
    found = [
        product
        for product in record.products
        if product.tag == item.tag and item.filter in ("", product.filter)
    ]
    if not found and not item.optional:
        what = f"{item.tag} in {item.filter}" if item.filter else item.tag
        raise MissingError(
            f"{job.title or job.recipe}: needs {what} of {record.title or record.recipe}, "
            f"which has made none ({record.folder})"
        )
    return found


def _made(item: MadeInput, scratch: Path) -> SofLine:
    name = f"{item.tag}.fits"
    content = made_file(item)
    with writing(scratch / name):
        (scratch / name).write_bytes(content)
    return SofLine(item.tag, name, str(scratch / name), "")


def _check_unchanged(item: FileInput) -> None:
    """Raise a FileError unless the file is the one that was planned with."""
    with as_file_error(item.path):
        status = os.stat(item.path)
    match = _IDENTITY.match(item.identity)
    if match and (int(match[1]), int(match[2])) != (status.st_size, status.st_mtime_ns):
        raise FileError(
            f"{item.path}: has changed since the plan was made (it had {match[1]} bytes, it has "
            f"{status.st_size}); plan again"
        )


def _clean(path: str, scratch: Path, number: int) -> str:
    """The path itself, or a link to it that esorex can read."""
    if _CLEAN.fullmatch(path) and len(path) <= _LONGEST:
        return path
    clean = re.sub(r"[^!-~]+", "_", os.path.basename(path))[-_LONGEST_NAME:]
    name = f"{LINKS}/{number}/{clean}"
    with writing(scratch / name):
        (scratch / name).parent.mkdir(parents=True)
        (scratch / name).symlink_to(path)
    return name
