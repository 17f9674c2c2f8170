"""What parameters a recipe has, as the recipe itself says, and whether given ones fit.

``esorex --create-config=FILE.json RECIPE`` writes them all, the hidden ones too,
with their types, defaults, ranges and choices.
"""

from __future__ import annotations

import difflib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from musedask.errors import FileError, InputError
from musedask.files import read_text
from musedask.reduction.job.installation import ask_esorex, installation
from musedask.whole_files import write_whole

BOOLEANS = ("TRUE", "FALSE", "true", "false")
"""How esorex takes a bool; it refuses T, yes, True and 1."""
_FORMS = {
    "bool": (re.compile("|".join(BOOLEANS)), "TRUE or FALSE"),
    "int": (re.compile(r"[+-]?\d+"), "a whole number"),
    "double": (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"), "a number"),
}
"""Type -> how a value is written, and what to call it."""
Schema = Mapping[str, "Parameter"]
"""Name -> what esorex says of it."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a recipe."""

    name: str
    """As on the command line, without ``--``."""
    kind: str
    """``bool``, ``int``, ``double`` or ``string``."""
    default: str
    """Value that the recipe takes by itself, as on the command line."""
    choices: tuple[str, ...] = ()
    """All values that it may have; any if empty."""
    low: float | None = None
    """Smallest value, None for no bound."""
    high: float | None = None
    """Largest value, None for no bound."""
    description: str = ""
    """The recipe's own words."""

    def complaint(self, value: str) -> str:
        """Say what is wrong with a value; nothing if it fits."""
        if self.choices and value not in self.choices:
            near = difflib.get_close_matches(value, self.choices, 1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            return f"{hint}it is one of {', '.join(self.choices)}"
        if self.kind not in _FORMS:
            return ""
        form, wanted = _FORMS[self.kind]
        if not form.fullmatch(value):
            return f"it is {wanted}"
        return "" if self.kind == "bool" or self._holds(float(value)) else self._range()

    def _holds(self, number: float) -> bool:
        """Whether a number is within the range."""
        return (self.low is None or number >= self.low) and (
            self.high is None or number <= self.high
        )

    def _range(self) -> str:
        if self.low is None:
            return f"it is at most {self.high:g}"
        if self.high is None:
            return f"it is at least {self.low:g}"
        return f"it is between {self.low:g} and {self.high:g}"


def check_parameters(recipe: str, parameters: Iterable[tuple[str, str]], schema: Schema) -> None:
    """Check parameters against what the recipe has.

    Raises
    ------
    InputError
        If a name is unknown or given twice, or a value is of the wrong type or
        out of its range; it names the nearest name that there is.
    """
    seen: dict[str, str] = {}
    for name, value in parameters:
        if name not in schema:
            near = difflib.get_close_matches(name, schema, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(schema))}"
            raise InputError(f"{recipe} has no parameter {name!r}; {hint}")
        if name in seen:
            raise InputError(f"{recipe}: {name} is given twice, as {seen[name]!r} and {value!r}")
        if complaint := schema[name].complaint(value):
            raise InputError(f"{recipe}: {name} = {value!r}: {complaint}")
        seen[name] = value


def schema_of(recipe: str, remember: Path | None = None) -> Schema:
    """Ask esorex what parameters a recipe has.

    Parameters
    ----------
    recipe
        ``muse_scipost``...
    remember
        A folder in which the answer is kept, by the pipeline's version.

    Raises
    ------
    MissingError
        If esorex or the recipe is not installed.
    FileError
        If the answer cannot be read, or the folder not be written to.
    """
    if remember is None:
        return _asked(recipe, installation().muse)
    path = remember / f"{recipe}-{installation(remember).muse}.json"
    if (known := _read(path)) is not None:
        return known
    write_whole(path, _answer(recipe).encode())
    return schema_of(recipe, remember)


def schemas(recipes: Iterable[str], remember: Path | None = None) -> dict[str, Schema]:
    """Schemas of several recipes by name; raises as :func:`schema_of`."""
    return {recipe: schema_of(recipe, remember) for recipe in recipes}


@cache
def _asked(recipe: str, version: str) -> Schema:
    """Ask once in a process for each version of the pipeline."""
    return _parsed(recipe, _answer(recipe))


def _answer(recipe: str) -> str:
    """The JSON that esorex writes, checked to be one."""
    with tempfile.TemporaryDirectory(prefix="musedask-esorex-") as scratch:
        path = Path(scratch) / "parameters.json"
        ask_esorex(f"--create-config={path}", recipe)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as err:
            raise FileError(
                f"esorex --create-config did not write the parameters of {recipe}: {err}; "
                "esorex 3.13 or later is needed"
            ) from err
    _parsed(recipe, text)
    return text


def _read(path: Path) -> Schema | None:
    """A schema that was kept; None if there is none that can be read."""
    try:
        return _parsed(path.name, read_text(path))
    except OSError:  # a FileError is one, too
        return None


def _parsed(recipe: str, text: str) -> Schema:
    try:
        found = [_parameter(entry) for entry in json.loads(text)]
    except (ValueError, KeyError, TypeError) as err:
        raise FileError(
            f"esorex --create-config: the parameters of {recipe} cannot be read: {err!r}; "
            "esorex 3.13 or later is needed"
        ) from err
    return {parameter.name: parameter for parameter in found}


def _parameter(entry: Mapping[str, Any]) -> Parameter:
    """One entry of esorex's list."""
    return Parameter(
        name=str(entry["display_name"]),
        kind=str(entry["valtype"]),
        default=_text(entry["value"]),
        choices=tuple(_text(value) for value in entry.get("valenum", ())),
        low=entry.get("valmin"),
        high=entry.get("valmax"),
        description=str(entry.get("description", "")),
    )


def _text(value: Any) -> str:
    return str(value).upper() if isinstance(value, bool) else str(value)
