"""The noun of a run plan: what became of a job, small enough to travel between processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["done", "before", "failed", "blocked", "stopped"]
"""Done now; done before and found; failed; not started, since what it needs is not there;
stopped on the way or not started, since the whole run was."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job."""

    key: str
    """The job's key."""
    state: State
    """Its end."""
    reason: str = ""
    """Why it failed, in esorex's words where those tell; for people."""
    by: str = ""
    """Key of the failed job that blocks it."""
    scratch: str = ""
    """Folder that its last attempt left, with the log and all that it had made."""
    log: str = ""
    """The last attempt's log of esorex; empty if it never came so far."""
    log_end: tuple[str, ...] = ()
    """Last lines of the log."""
    repeat: str = ""
    """Script that repeats the job by hand."""
    timed_out: bool = False
    """Whether it was ended because its time was up: the same would happen again."""
    attempts: int = 0
    """How often it was tried, counted over all reductions since it last was done."""
    seconds: float = 0.0
    """Wall time of the attempt that succeeded."""
    lost_in: tuple[str, ...] = ()
    """SLURM jobs that ended, or lost their worker, while they ran it; for who knows why."""
    warnings: tuple[str, ...] = ()
    """What esorex warned of."""

    @property
    def is_good(self) -> bool:
        """Whether its products are there."""
        return self.state in ("done", "before")
