"""The history of a review: a line for each thing that was done, so that it can be undone.

The offset table is what counts. The journal is written after it; what a crash takes from
the journal can be done again, but not be undone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musedask.alignment.json_files import json_text
from musedask.alignment.material import MaskedCircle, built, listed
from musedask.alignment.review.decisions import row_of, row_record
from musedask.errors import FileError
from musedask.files import opened
from musedask.offsets import Offset

UNDONE = "undone"


@dataclass(frozen=True)
class Step:
    """One thing that was done to one row."""

    key: str
    """DATE-OBS of the exposure."""
    action: str
    """What was done; :data:`UNDONE` takes the step before it back."""
    who: str
    """Who did it."""
    when: str
    """UTC."""
    before: Offset
    """The row as it was."""
    after: Offset
    """The row as it is since."""
    masked: tuple[MaskedCircle, ...] = ()
    """What is masked since."""


@dataclass
class Journal:
    """The steps of all exposures, and the file that they are kept in."""

    path: Path
    """The file; it need not be there."""
    _steps: dict[str, list[Step]] = field(default_factory=dict)
    _size: int = 0

    def refresh(self) -> None:
        """Read what was added to the file since it was read last.

        Raises
        ------
        FileError
            If a line is none of a journal.
        """
        if not os.path.lexists(self.path):
            self._steps.clear()
            self._size = 0
            return
        with opened(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            if size < self._size:
                self._steps.clear()
                self._size = 0
            file.seek(self._size)
            content = file.read()
        # A last line without its end is what a crash left: the next step overwrites it.
        whole = content[: content.rfind(b"\n") + 1]
        # All are read before one is taken: what raises leaves the journal as it was.
        for step in [_step_of(line, f"{self.path}") for line in whole.splitlines()]:
            self._take(step)
        self._size += len(whole)

    def steps(self, key: str) -> tuple[Step, ...]:
        """What was done to an exposure and not undone, the oldest first."""
        return tuple(self._steps.get(key, ()))

    def add(self, step: Step) -> None:
        """Write a step down; it is on the disk afterwards.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        line = json_text(_record(step)).encode() + b"\n"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                os.ftruncate(descriptor, self._size)
                os.pwrite(descriptor, line, self._size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as err:
            raise FileError(f"{self.path}: cannot be written: {err.strerror or err}") from err
        self._size += len(line)
        self._take(step)

    def _take(self, step: Step) -> None:
        steps = self._steps.setdefault(step.key, [])
        if step.action != UNDONE:
            steps.append(step)
        elif steps:
            steps.pop()


def _record(step: Step) -> dict[str, Any]:
    return vars(step) | {
        "before": row_record(step.before),
        "after": row_record(step.after),
        "masked": [vars(circle) for circle in step.masked],
    }


def _step_of(line: bytes, where: str) -> Step:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise FileError(f"{where}: a line is no JSON: {err}; move the file away") from err
    if not isinstance(record, Mapping):
        raise FileError(f"{where}: a line is {record!r}, expected an object")
    masked = listed(record.get("masked"), f"{where}: masked")
    step: Step = built(
        Step,
        {
            **record,
            "before": row_of(record.get("before"), f"{where}: before"),
            "after": row_of(record.get("after"), f"{where}: after"),
            "masked": tuple(built(MaskedCircle, one, f"{where}: masked") for one in masked),
        },
        where,
    )
    return step
