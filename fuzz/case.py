"""One case: the damaged input is made, the reader has its turn, and what it did is judged."""

from __future__ import annotations

import fnmatch
import gc
import logging
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz.target import Target, everything_below
from musedask.errors import MusedaskError, MusedaskWarning

MOST_WARNINGS = 5
MOST_RECORDS = 20
LONGEST_MESSAGE = 5100
"""Characters of an error that somebody still reads."""
MOST_CPU_S = 10.0


@dataclass
class Watch:
    """What happened while the reader had its turn."""

    warnings: list[warnings.WarningMessage] = field(default_factory=list)
    """All warnings, also those that a filter would have hidden."""
    records: list[logging.LogRecord] = field(default_factory=list)
    """What was logged, from WARNING on."""
    unraisable: list[str] = field(default_factory=list)
    """Errors in destructors and threads, which no caller sees."""


@dataclass(frozen=True)
class Verdict:
    """How a case ended."""

    outcome: str
    """``result``, ``error`` or ``finding``."""
    kind: str = ""
    """Of a finding: ``traceback``, ``unnamed``, ``warnings``..."""
    what: str = ""
    """Of a finding: in words, with what tells it from others."""
    detail: str = ""
    """Of a finding: traceback or message."""


def random_of(seed: int, target: str, number: int) -> Random:
    """The random numbers of a case; the same everywhere."""
    return Random(f"{seed} {target} {number}")


def run_case(target: Target, seed: int, number: int, seeds: Path, work: Path) -> Verdict:
    """Make the input of a case in ``work/case``, have it read, and judge."""
    folder = work / "case"
    folder.mkdir()
    path = target.prepare(random_of(seed, target.name, number), seeds, folder)
    try:
        return _judged(target, path, folder, work)
    finally:
        remove(folder)
        remove(work / "cache")


def remove(folder: Path) -> None:
    """Remove a folder that may hold folders without permissions."""
    for base, below, _ in os.walk(folder):
        for name in below:
            if not os.path.islink(os.path.join(base, name)):
                os.chmod(os.path.join(base, name), 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _judged(target: Target, path: Path, folder: Path, work: Path) -> Verdict:
    before = set(everything_below(folder))
    start = time.process_time()
    error: BaseException | None = None
    with _watched() as watch:
        try:
            target.read(path)
        except (Exception, SystemExit) as err:
            error = err
            text = traceback.format_exc()
    cpu_s = time.process_time() - start
    if error is not None and (found := _about_error(target, error, text, folder)):
        return found
    if found := _about_noise(watch, work):
        return found
    is_error = error is not None
    if found := _about_files(target, before, folder, work, is_error=is_error):
        return found
    if _open_files(folder):
        error = None  # its traceback holds what the reader had in its hands
        gc.collect()
        if left := _open_files(folder):
            return Verdict("finding", "left open", "a file is left open", left[0])
    if cpu_s > MOST_CPU_S:
        return Verdict("finding", "slow", "takes seconds", f"{cpu_s:.1f} s of CPU")
    return Verdict("error" if is_error else "result")


@contextmanager
def _watched() -> Iterator[Watch]:
    """Collect warnings, log and errors that nobody sees."""
    watch = Watch()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            watch.records.append(record)

    handler = Collector(logging.WARNING)
    logging.getLogger().addHandler(handler)
    hook, sys.unraisablehook = (
        sys.unraisablehook,
        lambda given: watch.unraisable.append(repr(given)),
    )
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield watch
            finally:
                watch.warnings = list(caught)
    finally:
        sys.unraisablehook = hook
        logging.getLogger().removeHandler(handler)


def _about_error(target: Target, err: BaseException, text: str, folder: Path) -> Verdict | None:
    """What is wrong with an error, if anything."""
    message = str(err)
    if not isinstance(err, MusedaskError):
        what = f"{type(err).__name__} at {_place(err)}"
        return Verdict("finding", "traceback", what, text)
    if target.never_raises:
        return Verdict("finding", "raises", f"raises at {_place(err)}", message)
    if str(folder) not in message and not any(
        (path.name.partition(".")[0] or path.name) in message for path in folder.iterdir()
    ):
        return Verdict("finding", "unnamed", f"names no file, at {_place(err)}", message)
    if len(message) > LONGEST_MESSAGE:
        return Verdict("finding", "long", f"a message of {len(message)}, at {_place(err)}", message)
    if not all(c.isprintable() or c == "\n" for c in message):
        return Verdict("finding", "unprintable", f"control characters, at {_place(err)}", message)
    return None


def _place(err: BaseException) -> str:
    """The deepest line of musedask in a traceback, and the deepest of all."""
    frames = traceback.extract_tb(err.__traceback__)
    own = [frame for frame in frames if f"{os.sep}musedask{os.sep}" in frame.filename]
    places = [f"{Path(f.filename).name}:{f.name}" for f in (own[-1:] + frames[-1:])]
    return " > ".join(dict.fromkeys(places))


def _about_noise(watch: Watch, work: Path) -> Verdict | None:
    """Warnings that are not ours, too many of anything, and what went to the terminal."""
    for one in watch.warnings:
        if not issubclass(one.category, MusedaskWarning):
            place = f"{one.category.__name__} from {Path(one.filename).name}:{one.lineno}"
            return Verdict("finding", "warning", place, str(one.message))
    if len(watch.warnings) > MOST_WARNINGS or len(watch.records) > MOST_RECORDS:
        told = [str(one.message) for one in watch.warnings] + [
            r.getMessage() for r in watch.records
        ]
        return Verdict("finding", "flood", "a flood of warnings", "\n".join(told))
    if watch.unraisable:
        return Verdict("finding", "unraisable", watch.unraisable[0][:200], watch.unraisable[0])
    terminal = work / "terminal"
    sys.stderr.flush()
    if terminal.exists() and terminal.stat().st_size:
        text = terminal.read_text(errors="replace")
        os.truncate(terminal, 0)
        if "Traceback" in text or "Warning" in text:
            return Verdict("finding", "terminal", text.strip().splitlines()[-1][:200], text)
    return None


def _about_files(
    target: Target, before: set[Any], folder: Path, work: Path, *, is_error: bool
) -> Verdict | None:
    """Files that were written, changed or removed and should not have been."""
    changed = sorted({entry[0] for entry in before ^ set(everything_below(folder))})
    wrong = [
        name
        for name in changed
        if not any(fnmatch.fnmatch(name, pattern) for pattern in target.may_write)
    ]
    if wrong:
        return Verdict("finding", "wrote", f"has changed {wrong[0]}", "\n".join(wrong))
    products = [name for name in changed if name in ("deep.zarr", "deep.fits")]
    if is_error and products:
        return Verdict("finding", "wrote", f"an error, and {products[0]} all the same")
    # Dask and astropy make folders for their configuration, with nothing in them.
    elsewhere = [
        p.name for part in ("home", "here") for p in (work / part).rglob("*") if p.is_file()
    ]
    if elsewhere:
        for part in ("home", "here"):
            remove(work / part)
            (work / part).mkdir()
        return Verdict("finding", "wrote", f"has written {elsewhere[0]} elsewhere")
    cache = work / "cache"
    left = [path.name for path in cache.rglob("*.part")] if cache.exists() else []
    if left:
        return Verdict("finding", "wrote", "half a copy is left in the cache", left[0])
    return None


def _open_files(folder: Path) -> list[str]:
    """Files below a folder that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them has gone
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [name for name in found if name.startswith(f"{folder}{os.sep}")]


def limit_memory(n_bytes: int) -> None:
    """A case that wants more memory than this has a MemoryError, which is a finding."""
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
    # No file may grow without an end, either; the system's signal for it is Python's OSError.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
