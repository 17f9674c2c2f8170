"""How far a long piece of work has come, and how long it may still take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """What a caller gives to be told how far a verb has come."""

    def __call__(self, done: int, total: int, seconds_left: float) -> None:
        """Take note: ``done`` of ``total`` steps; NaN seconds where nothing is known yet."""


@dataclass
class Ticker:
    """Counts steps and tells a :class:`Progress` after each; not for several threads at once."""

    progress: Progress | None
    """Whom to tell, if anybody."""
    total: int
    """Number of steps."""
    done: int = 0
    """Steps taken."""
    started: float = field(default_factory=time.monotonic)
    """Clock at the start, seconds."""

    def tell(self) -> None:
        """Report the present state; the time left is in proportion to the time so far."""
        if self.progress is None:
            return
        spent = time.monotonic() - self.started
        left = spent / self.done * (self.total - self.done) if self.done else float("nan")
        self.progress(self.done, self.total, left)

    def step(self, n: int = 1) -> None:
        """Count ``n`` more steps and report."""
        self.done += n
        self.tell()
