"""What musedask knew of a run's cubes when it last wrote their table: quick to ask for news."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musedask.errors import FileError
from musedask.files import read_json
from musedask.run import Run, write_text

MEMORY = "exposures.json"
FORMAT = 1


@dataclass(frozen=True)
class Memory:
    """What musedask knew of the run's cubes when it last wrote the table."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """State of a cube's file -> what is known of it, as JSON has it."""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Key of an exposure -> the row as musedask made it, also of cubes that have gone since."""

    @classmethod
    def of(cls, run: Run) -> Memory:
        """Read it; nothing is known if there is none, or a broken one."""
        try:
            content = read_json(run.state / MEMORY)
            if content["format"] == FORMAT:
                return cls(dict(content["facts"]), dict(content["rows"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls()

    def write(self, run: Run) -> None:
        """Write it in one step.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        path = run.state / MEMORY
        text = json.dumps({"format": FORMAT, "facts": self.facts, "rows": self.rows})
        write_text(path, text)


def has_news(run: Run, cubes: Sequence[Path]) -> bool:
    """Whether the exposure table is not there, or was made of other cubes."""
    states = {state_of(cube, run) for cube in cubes}
    return not run.exposure_table.exists() or states != set(Memory.of(run).facts)


def state_of(cube: Path, run: Run) -> str:
    """What changes when an exposure has another cube, or its cube is made again.

    Raises
    ------
    FileError
        If the cube has gone.
    """
    try:
        status = cube.stat()
    except OSError as err:
        raise FileError(f"{cube}: cannot be read: {err.strerror or err}") from err
    where = os.path.relpath(os.path.realpath(cube), os.path.realpath(run.folder))
    return f"{where} {status.st_size} {status.st_mtime_ns}"
