"""What a person at a terminal sees: help in sections, progress, log and warnings on stderr."""

from __future__ import annotations

import logging
import math
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from musedask.errors import MusedaskError, MusedaskWarning

errors = Console(stderr=True, highlight=False, soft_wrap=True)
LOG = "musedask"
SILENCE_SECONDS = 60.0
"""A log file gets a line of progress after this time at the latest, if there is any progress."""
MOMENT_SECONDS = 2.0
"""And not more often than this."""

_AS_OPTIONS = {
    # Not the key of [reduction] that has this name.
    r"(?<!\[reduction\] )\ballow_missing\b(?:=True)?(?! = \[)": "--allow-missing-offsets",
    r"\ballow_failed\b(?:=True)?": "--allow-failed-offsets",
    r"\bduplicates='first', 'last' or 'keep'": "--duplicates first, last or keep",
    r"\bflux_per=['\"](\w+)['\"]": r"--flux-per \1",
    r"\bmask_sense=\"(\w+)\"": r"--mask-sense \1",
    r"\boverwrite=True": "--overwrite",
    r"\brelative=True": "--relative",
    r"\bnotch=False": "--keep-notch",
    r"\bformat=": "--offsets-format",
    r"\bCubeGrid\.from_cube\(open_megacube\(.*?\)\[.*?\]\)": "a FITS export of it (--refcube)",
    r"\bCubeGrid\.enclosing a larger pad=": "a larger --pad",
    r"\bpad=": "--pad",
    r"\boverwrite_grid=True": "--replace-grid",
}
"""How the library calls an argument in its messages -> what the command line calls it."""


class SectionedOption(click.Option):
    """An option that stands under a heading in the help."""

    def __init__(self, *names: Any, section: str = "Other", **rest: Any) -> None:
        super().__init__(*names, **rest)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists its options under their headings, in the order given."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                title = param.section if isinstance(param, SectionedOption) else "Other"
                sections.setdefault(title, []).append(record)
        sections["Other"] = sections.pop("Other", [])
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class OrderedGroup(click.Group):
    """A group whose help lists the commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of their definition."""
        return list(self.commands)


def option_of(section: str) -> Callable[..., Callable[[Any], Any]]:
    """Give ``click.option`` for options under a heading."""

    def option(*names: str, **rest: Any) -> Callable[[Any], Any]:
        return click.option(*names, cls=SectionedOption, section=section, **rest)

    return option


def set_up_log(verbosity: int) -> None:
    """Send the log to stderr: warnings, with 1 what is being done, with 2 everything of ours."""
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(verbosity, 2)]
    handler: logging.Handler = _LogLines()
    if errors.is_terminal:  # through rich, which keeps log and progress bar apart
        handler = RichHandler(
            console=errors, show_path=False, show_time=verbosity > 0, markup=False
        )
    log = logging.getLogger(LOG)
    log.handlers[:] = [handler]
    log.setLevel(level)
    logging.getLogger(f"{LOG}.told").setLevel(min(level, logging.INFO))
    warnings.simplefilter("always", MusedaskWarning)
    warnings.showwarning = _show_warning


class _LogLines(logging.Handler):
    """A line a message for log files: rich would break it at 80 characters."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write to what is stderr now."""
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        say(f"{when} {record.levelname.lower()}: {self.format(record)}")


def say(text: str) -> None:
    """Tell what is being done."""
    errors.print(text, markup=False)


def say_failure(error: BaseException) -> None:
    """Say in one message what went wrong, in the words of the command line."""
    log = logging.getLogger(LOG)
    log.debug("where it happened", exc_info=error)
    if isinstance(error, MusedaskError):
        text = in_options(str(error))
    elif isinstance(error, MemoryError):
        text = "out of memory: use fewer --threads, or a smaller part (--lambda)"
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        kind = type(error).__name__
        text = f"{kind}: {error} (a fault of musedask; with -vv it says where)"
    say(f"musedask: {text}")


def in_options(message: str) -> str:
    """The library's message with the options of the command line in place of arguments."""
    for argument, option in _AS_OPTIONS.items():
        message = re.sub(argument, option, message)
    return message


def stop_on_signals() -> None:
    """Let SIGTERM, and SIGHUP unless it is ignored (nohup), end the work as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


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
        errors.print(in_options(str(message)), markup=False)
    else:
        logging.getLogger(LOG).debug("%s:%d %s", filename, lineno, message)


@contextmanager
def compilation_said() -> Iterator[None]:
    """Say so, once, if kernels are compiled inside the block; silent where the cache has them."""
    from numba.core import event  # numba takes a second to import: only for those who compute

    class Once(event.Listener):
        said = False

        def on_start(self, happened: Any) -> None:
            if not self.said:
                self.said = True
                say("compiling the kernels: once per machine, takes a minute or two")

        def on_end(self, happened: Any) -> None:
            pass

    with event.install_listener("numba:compile", Once()):
        yield


class _Bar:
    """A :class:`musedask.progress.Progress` that draws a bar."""

    def __init__(self, bar: Progress, title: str, unit: str) -> None:
        self._bar = bar
        self._unit = unit
        self._task = bar.add_task(title, total=None, left="", unit=unit)

    def __call__(self, done: int, total: int, seconds_left: float) -> None:
        """Draw."""
        self._bar.update(
            self._task, completed=done, total=total, left=spoken(seconds_left),
            unit=_unit(self._unit, total),
        )  # fmt: skip


def _unit(plural: str, total: int) -> str:
    """The noun for what is counted; a unit such as MB has no plural."""
    return plural.removesuffix("s") if total == 1 else plural


@contextmanager
def progress_bar(title: str, unit: str = "blocks") -> Iterator[Any]:
    """Show a bar with the time left on a terminal; elsewhere a line every tenth or minute."""
    if not errors.is_terminal:
        yield _Lines(title, unit)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    with Progress(*columns, console=errors, transient=True) as bar:
        yield _Bar(bar, title, unit)


class _Lines:
    """Progress for a log file."""

    def __init__(self, title: str, unit: str) -> None:
        self._title = title
        self._unit = unit
        self._tenth = -1
        self._when = time.monotonic()

    def __call__(self, done: int, total: int, seconds_left: float) -> None:
        """Write a line at the start, at the end, and after a tenth and a moment, or a minute."""
        tenth, now = 10 * done // max(total, 1), time.monotonic()
        since = now - self._when
        if total and (
            (tenth > self._tenth and (since >= MOMENT_SECONDS or done in (0, total)))
            or since >= SILENCE_SECONDS
        ):
            self._tenth, self._when = tenth, now
            left = f", {spoken(seconds_left)}" if 0 < done < total else ""
            sys.stderr.write(f"{self._title}: {done} of {total} {_unit(self._unit, total)}{left}\n")
            sys.stderr.flush()


def spoken(seconds_left: float) -> str:
    """The time that is left, for people; empty if nobody knows it."""
    if not math.isfinite(seconds_left):
        return ""
    minutes, seconds = divmod(round(seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"
