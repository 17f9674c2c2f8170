"""One JSON line for each measurement: written at once, read back as values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.jobs import DataSpec, Job
from musedask.errors import FileError, MissingError

RECORD_VERSION = 1
COUNTED, WRONG, FAILED, UNAVAILABLE = "counted", "wrong", "failed", "unavailable"


@dataclass(frozen=True)
class Record:
    """One measurement, or why there is none."""

    benchmark: str
    """stacking, export, reading, scaling..."""
    size: str
    """tiny, small or full."""
    run: str
    """What was started by one command has one name."""
    job: Job
    """What was measured."""
    repeat: int
    """From 0; equal ones of one case were measured one after the other."""
    state: str
    """``counted``; ``wrong``: the result is not the reference's; ``failed``; ``unavailable``."""
    reason: str = ""
    """Why it does not count."""
    n_voxels: int = 0
    """Input DATA voxels."""
    wall_s: float = math.nan
    """Wall time without start-up, compilation and check."""
    cpu_s: float = math.nan
    """Processor time of all processes in that time."""
    compile_s: float = math.nan
    """Wall time of the first call of compiled code, beforehand."""
    start_s: float = math.nan
    """Wall time of starting Python and importing."""
    peak_rss: int = 0
    """Peak of the memory of all processes while it was timed, bytes, mapped pages included."""
    peak_anon: int = 0
    """The same without pages of files."""
    cache: str = ""
    """State of the page cache that was had: warm, cold, mixed or any."""
    cached_share: float = math.nan
    """Share of the files' pages in memory at the start."""
    traffic: Mapping[str, int] = field(default_factory=dict)
    """Bytes read and written, by calls and by the disk."""
    others_cpu_s: float = math.nan
    """Processor time of everybody else on the machine in that time."""
    load: tuple[float, ...] = ()
    """Load averages of 1, 5 and 15 minutes at the start."""
    late: tuple[str, ...] = ()
    """Compiled functions that its warm-up did not reach: loaded or compiled while it was timed."""
    comparison: Mapping[str, Any] = field(default_factory=dict)
    """How far the result is from the reference."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further numbers."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Python and packages."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """Processor, cores, memory, system."""
    commit: str = ""
    """Of the source."""
    date: str = ""
    """When it was made, UTC."""

    @property
    def counts(self) -> bool:
        """Whether its times may be used."""
        return self.state == COUNTED

    def value(self, quantity: str) -> float:
        """A number by name: a field, a metric, or what follows from them; NaN if there is none.

        ``wall_per_gvox``, ``cpu_per_gvox``: seconds for 1e9 input DATA voxels;
        ``wall_per_valid_gvox`` leaves out those that never see the sky; ``wall_per_gbyte``: for
        1e9 bytes of the product; ``peak_gib``.
        """
        seconds, _, unit = quantity.partition("_per_")
        if unit in _UNITS:
            amount = _UNITS[unit](self)
            return float(getattr(self, f"{seconds}_s")) / amount * 1e9 if amount else math.nan
        if quantity == "peak_gib":
            return self.peak_rss / 2**30
        for numbers in (self.metrics, self.traffic):
            if quantity in numbers:
                return float(numbers[quantity])
        if quantity in {f.name for f in fields(self)}:
            return float(getattr(self, quantity))
        return math.nan

    def to_json(self) -> str:
        """One line; numbers that are none become null."""
        return json.dumps({"version": RECORD_VERSION, **_plain(asdict(self))}, sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """The record of a line."""
        found = json.loads(line)
        found.pop("version")
        job = found.pop("job")
        data = job.pop("data")
        numbers = {f.name for f in fields(cls) if f.default is not None and f.type == "float"}
        for key in numbers & found.keys():
            found[key] = math.nan if found[key] is None else found[key]
        for key in ("load", "late"):
            found[key] = tuple(found.get(key, ()))
        return cls(**found, job=Job(**job, data=None if data is None else DataSpec(**data)))


_UNITS: Mapping[str, Callable[[Record], float]] = {
    "gvox": lambda record: record.n_voxels,
    "valid_gvox": lambda record: record.n_voxels * record.metrics.get("valid_share", 0.0),
    "gbyte": lambda record: record.metrics.get("bytes", 0.0),
}
"""What times are divided by."""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return value


def append(path: Path, record: Record) -> None:
    """Add a line to a file, so that a run that is cut short keeps what it has."""
    with path.open("a", encoding="utf-8") as file:
        file.write(record.to_json() + "\n")


def read_records(folder: Path) -> list[Record]:
    """All records of a folder's ``*.jsonl`` files, in the order of the files.

    Raises
    ------
    MissingError
        If there are none.
    FileError
        If a line is no record.
    """
    found = list(_records(sorted(folder.glob("*.jsonl"))))
    if not found:
        raise MissingError(
            f"{folder}: no records (*.jsonl); run python -m benchmarks stacking -o {folder} first"
        )
    return found


def _records(paths: Iterable[Path]) -> Iterator[Record]:
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                yield Record.from_json(line)
            except (ValueError, KeyError, TypeError) as err:
                raise FileError(f"{path}:{number}: no record of a benchmark ({err})") from err
