"""esorex's log: which of its lines a user has to see.

A line of the log is ``11:37:03 [WARNING] function: [tid=000] text``; lines without
such a beginning go on with the message before. CPL dumps the errors that it
remembers as a block: ``Dumping all 4 error(s):`` and one line for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_LINE = re.compile(
    r"(?P<time>\d\d:\d\d:\d\d) \[\s*(?P<level>\w+)\s*\] (?P<source>[\w.]*): ?"
    r"(?:\[tid=\d+\] )?(?P<text>.*)"
)
_DUMP = re.compile(r"Dumping (?:all|the) \d+ .*error\(s\)")
_DUMPED = re.compile(
    r"\s*\[(?P<number>\d+)/\d+\] '(?P<what>.*)' \((?P<code>\d+)\) at (?P<where>\S+)"
)
_END = re.compile(r"Execution of recipe '\w+' failed, status = ")
HARMLESS = tuple(
    re.compile(pattern)
    for pattern in (
        r"Unable to open directory \S*/cpl/plugins",
        # Quality measures for which there was nothing to measure.
        r"Property ESO QC .* not used",
        r"No sources found for FWHM measurement",
        # Whether an absent IFU is missed is for the checks: the job knows which it holds.
        r"Channel for IFU +\d+ is missing",
        r"Calibrations could not be loaded for IFU +\d+",
        r"No LSF_PROFILE .*IFU +\d+",
    )
)
"""Warnings of each normal run: they stay in the file and are not shown."""
MISSING_KEYWORD = 10
"""CPL's code of an error about data that are not there: a keyword of a header."""


@dataclass(frozen=True)
class LogLine:
    """One message."""

    time: str
    """``HH:MM:SS``."""
    level: str
    """``INFO``, ``WARNING``, ``ERROR`` or ``DEBUG``."""
    source: str
    """Function of the pipeline that wrote it; empty for esorex itself."""
    text: str
    """The message, stripped; several lines where it has them."""


@dataclass(frozen=True)
class DumpedError:
    """One of the errors that CPL remembered."""

    what: str
    """``Data not found: ESO INS DROT MODE``."""
    code: int
    """CPL's code."""
    where: str
    """``function:file:line``."""
    number: int = 1
    """Its place in the dump: what came first is the cause."""

    @property
    def is_echo(self) -> bool:
        """Whether it only says that a function ended because of an error before."""
        return self.number > 1 and ":" not in self.what


@dataclass(frozen=True)
class LogSummary:
    """A log in order; most questions are answered by its properties."""

    lines: tuple[LogLine, ...]
    """All messages."""

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Each warning that is not of the harmless ones, once, with how often it came."""
        seen: dict[str, int] = {}
        for line in self.lines:
            if line.level == "WARNING" and not any(p.search(line.text) for p in HARMLESS):
                seen[line.text] = seen.get(line.text, 0) + 1
        return tuple(text if n == 1 else f"{text} ({n} times)" for text, n in seen.items())

    @cached_property
    def errors(self) -> tuple[str, ...]:
        """Each error once that a function wrote by itself, not as a dump of others."""
        texts = (
            line.text
            for line in self.lines
            if line.level == "ERROR"
            and not (_DUMP.match(line.text) or _DUMPED.match(line.text) or _END.match(line.text))
        )
        return tuple(dict.fromkeys(texts))

    @cached_property
    def dumped(self) -> tuple[DumpedError, ...]:
        """Each error once that CPL remembered."""
        found = (_DUMPED.match(line.text) for line in self.lines if line.level == "ERROR")
        errors = (
            DumpedError(m["what"], int(m["code"]), m["where"], int(m["number"])) for m in found if m
        )
        return tuple({(error.what, error.where): error for error in errors}.values())

    def find(self, pattern: str) -> tuple[re.Match[str], ...]:
        """Where a regular expression is found, at most once in each message."""
        return tuple(m for line in self.lines if (m := re.search(pattern, line.text)))

    def end(self, number: int = 15) -> str:
        """The last messages."""
        return "\n".join(
            f"{line.time} [{line.level:^7}] {line.text}" for line in self.lines[-number:]
        )

    @property
    def reason(self) -> str:
        """Why the recipe failed, in the pipeline's words; empty if it does not say.

        What the functions wrote tells more than what CPL remembered.
        """
        found = self.errors or tuple(error.what for error in self.dumped if not error.is_echo)
        return "; ".join(found[:4])


def parse_log(text: str) -> LogSummary:
    """Read a log, or what esorex wrote to its terminal."""
    return LogSummary(tuple(_lines(text)))


def _lines(text: str) -> Iterator[LogLine]:
    last: LogLine | None = None
    for raw in text.splitlines():
        match = _LINE.match(raw)
        if match:
            if last is not None:
                yield last
            last = LogLine(match["time"], match["level"], match["source"], match["text"].strip())
        elif last is not None and raw.strip():
            last = LogLine(last.time, last.level, last.source, f"{last.text}\n{raw.strip()}")
    if last is not None:
        yield last
