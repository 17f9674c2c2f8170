"""What a person at a terminal sees: progress, log and warnings on stderr, results on stdout."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from musedask.errors import MusedaskWarning

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def set_up_log(verbosity: int) -> None:
    """Send the log to stderr: warnings, with 1 what is being done, with 2 everything of ours."""
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(verbosity, 2)]
    handler = RichHandler(level, errors, show_path=False, show_time=verbosity > 0, markup=False)
    log = logging.getLogger("musedask")
    log.handlers[:] = [handler]
    log.setLevel(level)
    warnings.simplefilter("always", MusedaskWarning)
    warnings.showwarning = _show_warning


def say(text: str) -> None:
    """Tell what is being done."""
    errors.print(text, markup=False)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line a warning, without the source line that means nothing to a user."""
    if issubclass(category, MusedaskWarning):
        errors.print("[yellow]warning:[/yellow]", end=" ")
        errors.print(str(message), markup=False)
    else:
        logging.getLogger("musedask").debug("%s:%d %s", filename, lineno, message)


class _Bar:
    """A :class:`musedask.progress.Progress` that draws a bar."""

    def __init__(self, bar: Progress, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=None, left="")

    def __call__(self, done: int, total: int, seconds_left: float) -> None:
        """Draw."""
        self._bar.update(self._task, completed=done, total=total, left=_spoken(seconds_left))


@contextmanager
def progress_bar(title: str) -> Iterator[Any]:
    """Show a bar with the time left; on a terminal only, else a line every tenth."""
    if not errors.is_terminal:
        yield _Lines(title)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    with Progress(*columns, console=errors, transient=True) as bar:
        yield _Bar(bar, title)


class _Lines:
    """Progress for a log file: a line at each tenth."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown = -1

    def __call__(self, done: int, total: int, seconds_left: float) -> None:
        """Say so, if a tenth has been passed."""
        tenth = 10 * done // max(total, 1)
        if tenth > self._shown:
            self._shown = tenth
            sys.stderr.write(f"{self._title}: {done} of {total} {_spoken(seconds_left)}\n")
            sys.stderr.flush()


def _spoken(seconds_left: float) -> str:
    if not math.isfinite(seconds_left):
        return ""
    minutes, seconds = divmod(round(seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"
