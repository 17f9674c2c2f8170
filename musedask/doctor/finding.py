"""The noun of an examination: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from musedask.wording import counted

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    """``ok``; ``warning``: it may go wrong; ``error``: it will."""
    what: str
    """What was looked at, in a word or two."""
    text: str
    """How it is."""
    advice: str = ""
    """What to do about it."""

    def __str__(self) -> str:
        advice = f"\n{'':19s}do: {self.advice}" if self.advice else ""
        return f"{self.level:8s} {self.what:9s} {self.text}{advice}"


def good(what: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", what, text)


def doubtful(what: str, text: str, advice: str) -> Finding:
    """It may go wrong."""
    return Finding("warning", what, text, advice)


def bad(what: str, text: str, advice: str) -> Finding:
    """It will go wrong."""
    return Finding("error", what, text, advice)


def summary(findings: Sequence[Finding]) -> str:
    """All in all, in a line."""
    errors = sum(one.level == "error" for one in findings)
    doubts = sum(one.level == "warning" for one in findings)
    if errors:
        return f"{counted(errors, 'error')}: nothing will be reduced here before they are mended"
    return f"no errors, {counted(doubts, 'warning')}" if doubts else "all is well"
