"""How far a reduction is, live: a table on a terminal, lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from musedask import console
from musedask.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from musedask.reduction.running.following import Show, Snapshot

RUNNING_SHOWN = 8
LINE_EVERY_S = 60.0


@contextmanager
def reduction_shown() -> Iterator[Show]:
    """Give what a reduction is shown by while the block lasts."""
    if not console.errors.is_terminal:
        yield _Lines()
        return
    from rich.live import Live

    with Live(console=console.errors, transient=True, refresh_per_second=4) as live:
        yield lambda snapshot: live.update(_table(snapshot))


def _table(snapshot: Snapshot) -> Table:
    """Counts by recipe, and below what runs."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=headline(snapshot), title_justify="left")
    for name in ("recipe", "jobs", "done", "running", "waiting", "failed", "blocked"):
        table.add_column(name, justify="left" if name == "recipe" else "right")
    for recipe, one in snapshot.counts.items():
        numbers = (one.total, one.finished, one.running, one.waiting, one.failed, one.blocked)
        table.add_row(recipe, *(str(number or "") for number in numbers))
    for title, seconds in snapshot.running[:RUNNING_SHOWN]:
        table.add_row(f"  {title}", "", "", f"{seconds:.0f} s")
    return table


def headline(snapshot: Snapshot) -> str:
    """How far it is, in a line."""
    one = snapshot.sum
    text = f"{one.finished} of {counted(one.total, 'job')} done, {one.running} running"
    text += f", {one.failed} failed" if one.failed else ""
    text += f", {one.blocked} blocked" if one.blocked else ""
    left = console.spoken(snapshot.seconds_left) if one.waiting or one.running else ""
    return f"{text}, {left}" if left else text


class _Lines:
    """A line when a tenth of the jobs is done or a minute has passed, and for each failure."""

    def __init__(self) -> None:
        self._tenth = -1
        self._when = time.monotonic()
        self._failed = 0

    def __call__(self, snapshot: Snapshot) -> None:
        """Write what is new."""
        for title, reason in snapshot.failed[self._failed :]:
            console.say(f"failed: {title}: {reason}")
        self._failed = len(snapshot.failed)
        one, now = snapshot.sum, time.monotonic()
        tenth = 10 * one.finished // max(one.total, 1)
        if tenth > self._tenth or now - self._when >= LINE_EVERY_S:
            self._tenth, self._when = tenth, now
            console.say(headline(snapshot))
