"""The tables that a reduction leaves in its run, written when jobs or cubes are new."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from musedask.errors import MissingError
from musedask.reduction.finding.inventory import read_inventory
from musedask.reduction.frames import Frame
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.job.record import JobRecord
from musedask.reduction.running.carrying import PLAN
from musedask.reduction.running.exposure_memory import has_news
from musedask.reduction.running.finished import find_records
from musedask.reduction.running.material import INVENTORY
from musedask.reduction.running.plan_file import read_plan
from musedask.run import Run, write_text

if TYPE_CHECKING:
    from astropy.table import Table

QC, USED_FRAMES = "qc.ecsv", "used_frames.ecsv"
VERSION = 1
"""Changes with what stands in the tables of quality and of used frames."""
_JOBS = "jobs"


@dataclass
class Tables:
    """The tables of a run, and what a user should know of them."""

    folder: Path
    """Where they lie."""
    names: list[str] = field(default_factory=list)
    """Those that are there and up to date."""
    notes: list[str] = field(default_factory=list)
    """What a user should know."""

    def __str__(self) -> str:
        lines = [str(self.folder / name) for name in self.names]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def write_tables(run: Run, records: Sequence[JobRecord], dates: Mapping[str, str]) -> Tables:
    """Write the tables of a run: quality measures, used frames, exposures.

    A table that has all its jobs, or cubes, already is left as it is, and that of
    exposures also if there is no cube.

    Parameters
    ----------
    run
        The run.
    records
        Of all its finished jobs that its plan knows.
    dates
        Identity of a raw frame or a static table -> DATE-OBS.

    Raises
    ------
    FileError
        If a table cannot be written.
    MissingError
        If a link leads to a cube that has gone.
    InputError
        If the exposure table is there and cannot be understood.
    """
    tables = Tables(run.tables)
    if not records:
        return tables
    jobs = _hash_of(records)

    # What makes tables takes half a second to import: only if there is something new.
    def quality() -> Table:
        from musedask.reduction.tables.qc import qc_table

        made = qc_table(records)
        if made.problems:
            more = f" (and {len(made.problems) - 1} more)" if len(made.problems) > 1 else ""
            tables.notes.append(f"{QC} lacks a product: {made.problems[0]}{more}")
        return made.table

    def used() -> Table:
        from musedask.reduction.tables.used_frames import used_frames_table

        return used_frames_table(records, dates)

    _refresh(tables, QC, jobs, quality)
    _refresh(tables, USED_FRAMES, jobs, used)
    if any(run.cubes.glob("*.fits")):
        cubes = run.exposures()
        if has_news(run, cubes):
            from musedask.reduction.running.exposures import write_exposures

            tables.notes += write_exposures(run, cubes)
        tables.names.append(run.exposure_table.name)
    return tables


def write_tables_of(run: Run) -> Tables:
    """Write the tables of a run from what lies on disk alone.

    Raises
    ------
    MissingError
        If no job of it is finished.
    FileError
        If its plan cannot be read, or a table not be written.
    InputError
        If the exposure table is there and cannot be understood.
    """
    plan = read_plan(run.state / PLAN)
    known = (*plan.earlier, *plan.jobs) if plan is not None else ()
    records = find_records(RunFolders(run.products, run.scratch), known)
    if not records:
        raise MissingError(
            f"{run.folder}: no job is finished, so that there is nothing for the tables; "
            "'musedask reduce' runs them"
        )
    entries, _ = read_inventory(run.state / INVENTORY)
    dates = {
        f"{state.size}-{state.mtime_ns}-{facts.header_hash}": str(facts.cards.get("DATE-OBS", ""))
        for state, facts in entries.values()
    }
    return write_tables(run, list(records.values()), dates)


def dates_of(frames: Iterable[Frame]) -> dict[str, str]:
    """Identity -> DATE-OBS of frames."""
    return {frame.identity: frame.date_obs for frame in frames}


def _hash_of(records: Iterable[JobRecord]) -> str:
    """What changes if other jobs are finished, or a product was made again."""
    parts = sorted(
        f"{record.key} {product.file} {product.size} {product.datamd5}"
        for record in records for product in record.products
    )  # fmt: skip
    return hashlib.sha256("\n".join([str(VERSION), *parts]).encode()).hexdigest()[:16]


def _refresh(tables: Tables, name: str, jobs: str, make: Callable[[], Table]) -> None:
    """Write a table, unless it is there with these jobs."""
    path = tables.folder / name
    if _jobs_in(path) != jobs:
        n_notes = len(tables.notes)
        table = make()
        # One that lacks something is made again the next time.
        table.meta[_JOBS] = jobs if len(tables.notes) == n_notes else "incomplete"
        text = io.StringIO()
        table.write(text, format="ascii.ecsv")
        write_text(path, text.getvalue())
    tables.names.append(name)


def _jobs_in(path: Path) -> str:
    """Which jobs a table has; empty if it is not there or is no such table."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if not line.startswith("#"):
                    break
                if f"{_JOBS}:" in line:
                    return line.partition(f"{_JOBS}:")[2].strip(" '}\n")
    except (OSError, UnicodeDecodeError):
        pass
    return ""
