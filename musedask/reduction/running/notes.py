"""What a run remembers of its jobs on disk, beside their products: who runs now, what failed.

``running/KEY.json`` stands while a job is being tried; if the process dies, it
stays, and the next attempt of the same reduction learns from it that one was
lost. ``failed/KEY.json`` has the failures of a job since it last was done.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from musedask.files import read_json
from musedask.reduction.running.outcome import Outcome
from musedask.run import write_text


@dataclass(frozen=True, kw_only=True)
class Running:
    """An attempt that has begun, and has not ended so that anybody knew."""

    key: str
    """The job's key."""
    session: str
    """The reduction that it belongs to."""
    host: str
    """Machine that it runs on."""
    pid: int
    """Process of musedask there."""
    since: float
    """Seconds since 1970."""
    lost: int
    """Attempts before it, in the same reduction, whose process died."""
    slurm_job: str = ""
    """Job of SLURM that it runs in, if it does."""
    lost_in: tuple[str, ...] = ()
    """Jobs of SLURM that the lost attempts ran in."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lost_in", tuple(self.lost_in))  # JSON has lists


@dataclass(frozen=True)
class Notes:
    """The folder of notes of one run."""

    folder: Path
    """The run's folder of musedask's own notes."""

    def begin(self, key: str, session: str) -> Running:
        """Note that a job is being tried, and learn how often its process died on the way."""
        before = self._running(self._note("running", key))
        lost, lost_in = 0, tuple[str, ...]()
        if before is not None and before.session == session:
            lost = before.lost + 1
            lost_in = (*before.lost_in, *filter(None, [before.slurm_job]))
        now = Running(
            key=key, session=session, host=socket.gethostname(), pid=os.getpid(),
            since=time.time(), lost=lost, slurm_job=os.environ.get("SLURM_JOB_ID", ""),
            lost_in=lost_in,
        )  # fmt: skip
        write_text(self._note("running", key), json.dumps(asdict(now)))
        return now

    def end(self, key: str) -> None:
        """Note that an attempt has ended, whichever way."""
        self._note("running", key).unlink(missing_ok=True)

    def excuse(self, slurm_job: str) -> None:
        """Note that a job of SLURM ended by no fault of what ran in it."""
        write_text(self._note("excused", slurm_job), "{}")

    def excused(self, slurm_jobs: Iterable[str]) -> int:
        """How many of these jobs of SLURM ended by no fault of what ran in them."""
        return sum(self._note("excused", job).exists() for job in slurm_jobs)

    def sweep(self, session: str) -> None:
        """Remove the notes of attempts that began in other reductions: nobody ends them."""
        for path in _files(self.folder / "running"):
            one = self._running(path)
            if one is None or one.session != session:
                path.unlink(missing_ok=True)
        for path in _files(self.folder / "excused"):
            path.unlink(missing_ok=True)

    def running(self) -> tuple[Running, ...]:
        """Attempts that have begun and not ended, in the order of their beginning."""
        found = map(self._running, _files(self.folder / "running"))
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.since))

    def failed(self, outcome: Outcome, *, lasting: int) -> Outcome:
        """Note a failed attempt; gives the outcome with the number of all attempts.

        ``lasting`` is for how many failures it counts over all reductions: none if
        somebody or something else than the recipe brought it about.
        """
        before, lasted = self.failure(outcome.key) or (outcome, 0)
        outcome = replace(outcome, attempts=before.attempts + 1)
        text = json.dumps({"lasting": lasted + lasting, "outcome": asdict(outcome)})
        write_text(self._note("failed", outcome.key), text)
        return outcome

    def failure(self, key: str) -> tuple[Outcome, int] | None:
        """The last failure of a job since it last was done, and how many of them last."""
        return self._failure(self._note("failed", key))

    def failures(self) -> dict[str, tuple[Outcome, int]]:
        """Failures by the job's key."""
        found = map(self._failure, _files(self.folder / "failed"))
        return {one[0].key: one for one in found if one is not None}

    def forget(self, key: str) -> None:
        """Forget the failures of a job: it is done, or is to be tried anew."""
        self._note("failed", key).unlink(missing_ok=True)

    def _note(self, kind: str, key: str) -> Path:
        return self.folder / kind / f"{key}.json"

    @staticmethod
    def _running(path: Path) -> Running | None:
        try:
            return Running(**read_json(path))
        except (OSError, ValueError, TypeError):
            return None

    @staticmethod
    def _failure(path: Path) -> tuple[Outcome, int] | None:
        try:
            given = read_json(path)
            named = ("log_end", "warnings", "lost_in")
            lists = {key: tuple(given["outcome"].get(key, ())) for key in named}
            outcome = Outcome(**{**given["outcome"], **lists})
            return (outcome, int(given["lasting"])) if isinstance(outcome.key, str) else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def _files(folder: Path) -> Iterator[Path]:
    return folder.glob("*.json") if folder.is_dir() else iter(())
