"""Finished jobs that a reduction would make otherwise now: of other plans, or of other files."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from musedask.errors import FileError
from musedask.reduction.job.record import RECORD_NAME, JobRecord, read_record
from musedask.reduction.jobs import STAGES, FileInput, Plan
from musedask.wording import counted

THREADS = 8
"""Network disks answer several questions at a time."""
EXPOSURES_SHOWN = 20
_IDENTITY = re.compile(r"(\d+)-(\d+)-")
_CALIBRATIONS = "calibrations"


@dataclass(frozen=True)
class Stale:
    """A finished job that the plan does not have."""

    folder: str
    """Where its products lie, below the run's folder of products."""
    stage: str
    """Its stage."""
    frames: tuple[str, ...]
    """DATE-OBS of the exposures it is for; none for a calibration."""
    ifu: int | None
    """Its IFU."""

    @property
    def place(self) -> tuple[str, tuple[str, ...], int | None]:
        """What it is for, whatever it was made from."""
        return self.stage, self.frames, self.ifu


def stale_jobs(products: Path, plan: Plan) -> tuple[Stale, ...]:
    """Find the finished jobs that a plan does not have, by the folder of their products."""
    known = {job.folder for job in (*plan.earlier, *plan.jobs)}
    names = (path.parent.relative_to(products).as_posix()
             for path in sorted(products.glob(f"muse_*/*/{RECORD_NAME}")))  # fmt: skip
    others = [name for name in names if name not in known]
    with ThreadPoolExecutor(THREADS) as pool:
        records = pool.map(lambda name: _record(products / name), others)
        return tuple(
            Stale(name, record.stage, record.frames, record.ifu)
            for name, record in zip(others, records, strict=True) if record is not None
        )  # fmt: skip


def changed_files(plan: Plan) -> tuple[str, ...]:
    """Raw frames and static tables of a plan that are no longer what they were when it was made.

    One that has gone is not among them: what was made of it is as good as before.
    """
    inputs = {item.path: item.identity for job in plan for item in job.inputs
              if isinstance(item, FileInput)}  # fmt: skip
    with ThreadPoolExecutor(THREADS) as pool:
        changed = pool.map(_is_changed, inputs, inputs.values())
        return tuple(path for path, yes in zip(inputs, changed, strict=True) if yes)


def made_of(plan: Plan, files: Iterable[str]) -> frozenset[str]:
    """Keys of the jobs that use some files, or what was made of them."""
    used, keys = set(files), set[str]()
    for job in plan:
        if not keys.isdisjoint(job.needs) or any(
            isinstance(item, FileInput) and item.path in used for item in job.inputs
        ):
            keys.add(job.key)
    return frozenset(keys)


def stale_text(stale: Sequence[Stale]) -> str:
    """Stale jobs by exposure and stage."""
    if not stale:
        return ""
    tally: dict[str, Counter[str]] = defaultdict(Counter)
    for one in stale:
        tally[_whose(one)][one.stage] += 1
    lines = [
        f"{counted(len(stale), 'stale job')}: finished with other frames, parameters or versions "
        "than the plan's; remove their products if they are not wanted any more"
    ]
    wide = max(map(len, tally))
    for whose, stages in sorted(tally.items())[:EXPOSURES_SHOWN]:
        words = (f"{stage} {stages[stage]}" for stage in sorted(stages, key=_order))
        lines.append(f"  {whose.ljust(wide)}  {', '.join(words)}")
    if len(tally) > EXPOSURES_SHOWN:
        lines.append(f"  and of {counted(len(tally) - EXPOSURES_SHOWN, 'more exposure')}")
    return "\n".join(lines)


def _whose(one: Stale) -> str:
    if not one.frames:
        return _CALIBRATIONS
    more = f" and {len(one.frames) - 1} more" if len(one.frames) > 1 else ""
    return f"{one.frames[0]}{more}"


def _order(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _record(folder: Path) -> JobRecord | None:
    try:
        return read_record(folder)
    except FileError:
        return None


def _is_changed(path: str, identity: str) -> bool:
    known = _IDENTITY.match(identity)
    try:
        status = os.stat(path)
    except OSError:
        return False
    return known is not None and (status.st_size, status.st_mtime_ns) != tuple(
        map(int, known.groups())
    )
