"""JSON that says what it is, without NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musedask import files
from musedask.errors import FileError


def json_text(value: Any) -> str:
    """JSON in ASCII, without NaN: null stands for it."""
    return json.dumps(_without_nan(value), allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    # numpy's scalars are no JSON.
    return _without_nan(value.item()) if hasattr(value, "item") else value


def read_json(path: Path, format: str, version: int) -> dict[str, Any]:
    """Read an object that says in ``format`` and ``version`` what it is.

    Raises
    ------
    FileError
        If it cannot be read, or is something else.
    """
    record = files.read_json(path)
    if not isinstance(record, dict) or record.get("format") != format:
        raise FileError(f"{path}: is no {format}")
    if record.get("version") != version:
        raise FileError(
            f"{path}: version is {record.get('version')!r}, this musedask reads {version}; make "
            "it again, or use the musedask that made it"
        )
    return record
