"""What a method said of a case, and what was true: one JSON line each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from musedask.errors import FileError
from musedask.simulation.fields import FieldCase

OURS = "musedask"
USABLE = ("A", "B", "")
"""Grades with which an offset is used; methods without grades (empty) use whatever they found."""
WRONG_ARCSEC = 0.2
ENOUGH = 5


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One method on one case."""

    method: str
    """Its name."""
    kind: str
    """Kind of the case."""
    seed: int
    """Its number."""
    east: float = math.nan
    """Offset that was found, arcsec; NaN if none was."""
    north: float = math.nan
    """The same to the north."""
    east_error: float = math.nan
    """As stated."""
    north_error: float = math.nan
    """As stated."""
    grade: str = ""
    """As stated; empty if the method gives none, ``F`` without an offset."""
    reasons: str = ""
    """Why it is not better, or what went wrong."""
    true_east: float
    """What was to be found."""
    true_north: float
    """What was to be found."""
    east_limit: float
    """Cramer-Rao bound."""
    north_limit: float
    """Cramer-Rao bound."""
    n_bright: int
    """Galaxies brighter than I = 24 that exposure and reference have."""
    fwhm: float
    """Seeing, arcsec."""
    cpu_s: float = math.nan
    """Processor time of the process."""
    wall_s: float = math.nan
    """Wall time."""

    @property
    def off(self) -> tuple[float, float]:
        """Found minus true (east, north)."""
        return self.east - self.true_east, self.north - self.true_north

    @property
    def distance(self) -> float:
        """Length of :attr:`off`; NaN if nothing was found."""
        return math.hypot(*self.off)

    @property
    def is_usable(self) -> bool:
        """Whether there is an offset that would be used."""
        return self.grade in USABLE and math.isfinite(self.distance)

    @property
    def is_wrong(self) -> bool:
        """Whether an offset would be used that is wrong."""
        return self.is_usable and self.distance > WRONG_ARCSEC

    @property
    def holds_enough(self) -> bool:
        """Whether the field holds enough signal."""
        return self.n_bright >= ENOUGH

    def to_json(self) -> str:
        """One line; numbers that are none become null."""
        values = asdict(self)
        plain = {k: _plain(v) for k, v in values.items()}
        return json.dumps(plain, sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> Outcome:
        """The outcome of a line."""
        found = json.loads(line)
        for name in (f.name for f in fields(cls) if f.type == "float"):
            found[name] = math.nan if found[name] is None else float(found[name])
        return cls(**found)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return value


def truth_of(case: FieldCase) -> dict[str, Any]:
    """What is true of a case, as fields of an outcome."""
    truth = case.exposure.truth
    east, north = truth.limit_arcsec
    return {
        "kind": case.kind,
        "seed": case.seed,
        "true_east": truth.ra_offset_arcsec,
        "true_north": truth.dec_offset_arcsec,
        "east_limit": east,
        "north_limit": north,
        "n_bright": truth.n_bright,
        "fwhm": truth.fwhm_arcsec,
    }


def read_outcomes(path: Path) -> list[Outcome]:
    """The outcomes of a file.

    Raises
    ------
    FileError
        If it cannot be read, or a line is no outcome.
    """
    try:
        lines: Iterable[str] = path.read_text(encoding="utf-8").splitlines()
        return [Outcome.from_json(line) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise FileError(f"{path}: no outcomes of the alignment benchmark ({err})") from err
