"""What a person decided of an exposure, and the version of the row that it was decided on."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from musedask.alignment.json_files import json_text, read_json
from musedask.alignment.material import MaskedCircle, built, listed
from musedask.errors import FileError, InputError
from musedask.offsets import Offset, date_key

FORMAT = "musedask review"
VERSION = 1
ACTIONS = ("accepted", "moved", "flagged", "masked", "reset")
"""``masked``: the offset was fitted again; ``reset``: back to what was measured."""
LONGEST_TEXT = 500
MOST_MASKS = 200
FARTHEST_ARCSEC = 600.0
"""A move by hand beyond this is a mistake in a file, not an offset."""
_VERSION_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision on one exposure.

    Raises
    ------
    InputError
        If it contradicts itself.
    """

    date_obs: str
    """DATE-OBS of the exposure, its key."""
    action: str
    """One of :data:`ACTIONS`."""
    based_on: str
    """Version of the row that was seen, :func:`row_version`."""
    ra_offset_arcsec: float = math.nan
    """Where it was moved to: the total offset to the east."""
    dec_offset_arcsec: float = math.nan
    """Where it was moved to, to the north."""
    correlation: float = math.nan
    """Correlation that the page found there."""
    reason: str = ""
    """Why, in a line."""
    masked: tuple[MaskedCircle, ...] = ()
    """All that is left out of the fit."""
    decided_by: str = ""
    """Who."""
    decided_at: str = ""
    """When, UTC."""

    def __post_init__(self) -> None:
        what = f"decision on {self.date_obs!r}"
        if self.action not in ACTIONS:
            raise InputError(f"{what}: action {self.action!r}, expected {', '.join(ACTIONS)}")
        for key in ("reason", "decided_by", "decided_at", "date_obs", "based_on"):
            text = getattr(self, key)
            if len(text) > LONGEST_TEXT or not text.isprintable():
                raise InputError(
                    f"{what}: {key} has to be one line of at most {LONGEST_TEXT} printable "
                    "characters"
                )
        if not self.based_on:
            raise InputError(f"{what}: based_on is missing, the version of the row that was seen")
        moves = (self.ra_offset_arcsec, self.dec_offset_arcsec)
        if self.action == "moved" and not all(abs(move) <= FARTHEST_ARCSEC for move in moves):
            raise InputError(
                f"{what}: moved to {moves} arcsec, expected two numbers up to {FARTHEST_ARCSEC:g}"
            )
        if abs(self.correlation) > 1.0 + 1e-6:
            raise InputError(f"{what}: correlation {self.correlation}, expected -1 to 1")
        if self.action == "flagged" and not self.reason.strip():
            raise InputError(f"{what}: flagged without a reason; say why")
        if len(self.masked) > MOST_MASKS:
            raise InputError(f"{what}: {len(self.masked)} masks, more than {MOST_MASKS}")

    @property
    def key(self) -> str:
        """What the row is found by."""
        return date_key(self.date_obs)


def decision_of(record: Any, where: str = "decision") -> Decision:
    """Take a decision from JSON, strictly.

    Raises
    ------
    FileError
        If a key is missing or unknown, or a value is not what it has to be.
    """
    if not isinstance(record, Mapping):
        raise FileError(f"{where} is {record!r}, expected an object")
    masks = listed(record.get("masked", []), f"{where}: masked")
    masked = tuple(built(MaskedCircle, one, f"{where}: masked") for one in masks)
    decision: Decision = built(Decision, {**record, "masked": masked}, where)
    return decision


def read_decisions(path: str | Path) -> tuple[Decision, ...]:
    """Read the file that the page without a server gives (``review.json``).

    Raises
    ------
    FileError
        If it cannot be read, is something else, or has two decisions on one exposure.
    """
    file = Path(path)
    record = read_json(file, FORMAT, VERSION)
    decisions = tuple(
        decision_of(one, f"{file}: decisions[{i}]")
        for i, one in enumerate(listed(record.get("decisions"), f"{file}: decisions"))
    )
    for key, times in Counter(decision.key for decision in decisions).items():
        if times > 1:
            raise FileError(f"{file}: has two decisions on {key}; keep one of them")
    if not decisions:
        raise FileError(f"{file}: holds no decision; nothing was decided when it was saved")
    return decisions


def decisions_text(decisions: tuple[Decision, ...]) -> str:
    """What ``review.json`` holds."""
    records = [asdict(decision) for decision in decisions]
    return json_text({"format": FORMAT, "version": VERSION, "decisions": records})


def row_version(row: Offset) -> str:
    """A text that differs where rows differ."""
    return hashlib.sha256(json.dumps(row_record(row)).encode()).hexdigest()[:_VERSION_LENGTH]


def row_record(row: Offset) -> dict[str, Any]:
    """The row as JSON takes it; null is NaN."""
    record: dict[str, Any] = json.loads(
        json_text({field.name: getattr(row, field.name) for field in fields(row)})
    )
    return record


def row_of(record: Any, where: str) -> Offset:
    """Take a row back from JSON.

    Raises
    ------
    FileError
        If it is none.
    """
    row: Offset = built(Offset, record, where)
    return row
