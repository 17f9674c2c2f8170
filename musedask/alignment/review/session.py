"""A review of one offset table: what is shown of it, and how decisions get into it.

Several may be open on one table, in several processes. Each reads the table again before it
changes it, holds a lock while it does, and refuses what was decided on another version of a row.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from musedask.alignment.material import (
    Compared,
    Entry,
    MaskedCircle,
    Material,
    material_folder,
    read_material,
)
from musedask.alignment.measurement import Measurement
from musedask.alignment.review.applying import (
    OutdatedError,
    apply_decisions,
    measured_again,
    now_utc,
)
from musedask.alignment.review.decisions import Decision, row_version
from musedask.alignment.review.journal import UNDONE, Journal, Step
from musedask.alignment.table_lock import table_locked
from musedask.errors import InputError
from musedask.offsets import Offset, OffsetTable

JOURNAL = "review.jsonl"
_KEPT = 8
"""Exposures measured again whose images are kept in memory."""
_WORST_FIRST = "FC BA"


@dataclass
class Review:
    """An offset table, what was compared for it, and what was decided.

    Raises
    ------
    FileError
        If the table or the folder beside it cannot be read.
    InputError
        If the table is no ECSV file, which alone holds decisions.
    """

    path: Path
    """The offset table."""
    who: str = ""
    """Name that decisions are noted under."""
    material: Material = field(init=False)
    """What was compared."""
    _journal: Journal = field(init=False)
    _order: tuple[str, ...] = field(init=False)
    _again: dict[tuple[str, tuple[MaskedCircle, ...]], Compared] = field(
        init=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self.path = Path(os.path.abspath(self.path))
        if self.path.suffix != ".ecsv":
            raise InputError(
                f"{self.path}: only an ECSV table has columns for decisions; write it as .ecsv "
                "(OffsetTable.read(...).write('offsets.ecsv')), or measure with 'musedask align'"
            )
        table = OffsetTable.read(self.path)
        self.material = read_material(material_folder(self.path))
        self._journal = Journal(self.material.folder / JOURNAL)
        self._journal.refresh()
        self._order = tuple(row.key for row in sorted(table, key=self._badness))

    @property
    def keys(self) -> tuple[str, ...]:
        """The exposures, worst first as they were measured; the order stays."""
        return self._order

    def table(self) -> OffsetTable:
        """The table as it is on the disk."""
        return OffsetTable.read(self.path)

    def entry(self, key: str) -> Entry | None:
        """What was compared of an exposure, if anything was."""
        return next((entry for entry in self.material if entry.key == key), None)

    def masked(self, row: Offset) -> tuple[MaskedCircle, ...]:
        """What is masked of the exposure of a row."""
        steps = self.history(row)
        if steps:
            return steps[-1].masked
        entry = self.entry(row.key)
        return entry.masked if entry else ()

    def compared(self, row: Offset) -> Compared:
        """The images of an exposure, measured with what is masked now.

        Raises
        ------
        MissingError
            If there are none.
        """
        entry = self.material.find(row.key)
        masked = self.masked(row)
        return entry.read() if _same(masked, entry) else self._compared_again(entry, masked)

    def measurement(self, row: Offset) -> Measurement | None:
        """What was measured of the exposure of a row, with what is masked now."""
        entry = self.entry(row.key)
        return self._measure(row.key, self.masked(row)) if entry else None

    def refresh(self) -> None:
        """Read again what others may have written: measurements and steps.

        Raises
        ------
        FileError
            If a file cannot be read.
        """
        self.material = read_material(self.material.folder)
        self._journal.refresh()
        table = self.table()
        new = sorted((row for row in table if row.key not in self._order), key=self._badness)
        kept = [key for key in self._order if key in table]
        self._order = (*kept, *(row.key for row in new))

    def decide(self, decision: Decision) -> Offset:
        """Bring a decision into the table on the disk.

        Raises
        ------
        OutdatedError
            If the row is not any more what the decision was based on.
        FileError
            If the table cannot be read or written; it is then as it was.
        InputError
            If the decision cannot be (an offset without numbers accepted).
        """
        decision = replace(decision, decided_by=self.who, decided_at=now_utc())
        with self._locked():
            table = self.table()
            before = table.find(decision.date_obs)
            masked = self._masked_after(decision, before)
            new = apply_decisions(table, (decision,), measure=self._measure)
            after = new.find(decision.date_obs)
            self._write(new)
            self._journal.add(
                Step(before.key, decision.action, self.who, now_utc(), before, after, masked)
            )
        return after

    def undo(self, date_obs: str, based_on: str) -> Offset:
        """Take back what was done last to an exposure.

        Raises
        ------
        OutdatedError
            If the row is not any more what was seen.
        InputError
            If nothing was done to it.
        """
        with self._locked():
            table = self.table()
            row = table.find(date_obs)
            if row_version(row) != based_on:
                raise OutdatedError(
                    f"{row.key}: the offset table changed meanwhile; look at it again, nothing "
                    "was undone"
                )
            steps = self.history(row)
            if not steps:
                raise InputError(f"{row.key} {row.name}: there is nothing to undo")
            before = steps[-1].before
            rows = (before if one.key == row.key else one for one in table)
            self._write(OffsetTable(tuple(rows)))
            self._journal.add(Step(row.key, UNDONE, self.who, now_utc(), row, before))
        return before

    def _measure(self, date_obs: str, masked: tuple[MaskedCircle, ...] | None) -> Measurement:
        entry = self.material.find(date_obs)
        if masked is None or _same(masked, entry):
            return entry.measurement
        return self._compared_again(entry, masked).measurement

    def _compared_again(self, entry: Entry, masked: tuple[MaskedCircle, ...]) -> Compared:
        at = (entry.key, masked)
        if at not in self._again:
            again = replace(measured_again(entry.read(), masked), masked=masked)
            while len(self._again) >= _KEPT:
                self._again.pop(next(iter(self._again)))
            self._again[at] = again
        return self._again[at]

    def history(self, row: Offset) -> tuple[Step, ...]:
        """What was done to a row, the oldest first; nothing if it came from elsewhere."""
        steps = self._journal.steps(row.key)
        # Where something else has written the row since, the steps lead from nowhere.
        return steps if steps and steps[-1].after == row else ()

    def _masked_after(self, decision: Decision, row: Offset) -> tuple[MaskedCircle, ...]:
        if decision.action == "reset":
            return self.material.find(row.key).masked
        return decision.masked if decision.action == "masked" else self.masked(row)

    def _write(self, table: OffsetTable) -> None:
        table.write(self.path, "ecsv", overwrite=True)

    def _badness(self, row: Offset) -> tuple[int, float, str]:
        entry = self.entry(row.key)
        grade = entry.measurement.grade if entry else row.grade
        correlation = entry.measurement.correlation_after if entry else row.correlation_after
        rank = _WORST_FIRST.find(grade or " ")
        return rank, -2.0 if math.isnan(correlation) else correlation, row.key

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with table_locked(self.path):
            self._journal.refresh()
            yield


def _same(masked: tuple[MaskedCircle, ...], entry: Entry) -> bool:
    return set(masked) == set(entry.masked)
