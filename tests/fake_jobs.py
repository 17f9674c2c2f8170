"""Plans without a telescope, and a stand-in for esorex that only keeps notes on disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musedask.reduction.jobs import FileInput, Job, Plan, ProductInput


@dataclass(frozen=True)
class FakeRecord:
    """What of a JobRecord a task looks at."""

    wall_s: float = 0.01
    warnings: tuple[str, ...] = ()


class EsorexFailedError(Exception):
    """A failure that lasts, as the real one."""

    def __init__(self, text: str, status: int = 255, timed_out: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.timed_out = timed_out
        self.log = "/scratch/esorex.log"


@dataclass(frozen=True)
class FakeEsorex:
    """Runs a job by writing down that it did; told by files in a folder what to do."""

    folder: str
    seconds: float = 0.0

    def __call__(
        self, job: Job, folders: Any, *, cores: int, attempt: int, tolerate: tuple[str, ...],
        timeout_s: float | None = None,
    ) -> FakeRecord:  # fmt: skip
        folder = Path(self.folder)
        begun = time.monotonic()
        time.sleep(self.seconds)
        fault = folder / f"{job.title}.fault"
        line = {
            "title": job.title,
            "attempt": attempt,
            "pid": os.getpid(),
            "cores": cores,
            "timeout_s": timeout_s,
        }
        line |= {"begun": begun, "ended": time.monotonic()}
        with open(folder / "calls", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if fault.exists():
            what = json.loads(fault.read_text())
            if attempt <= what.get("until", 1000):
                how = what.get("status", 255), what.get("timed_out", False)
                raise EsorexFailedError(f"{job.title} is broken", *how)
        return FakeRecord(warnings=(f"{job.title} creaks",))

    def calls(self) -> list[dict[str, Any]]:
        """What was called, in the order of its end."""
        path = Path(self.folder, "calls")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def titles(self) -> list[str]:
        """Titles of what was called."""
        return [call["title"] for call in self.calls()]

    def break_job(self, title: str, **how: Any) -> None:
        """Let a job fail from now on."""
        Path(self.folder, f"{title}.fault").write_text(json.dumps(how))


def fake_job(title: str, *needs: Job, recipe: str = "muse_bias", stage: str = "bias") -> Job:
    """A job that needs others."""
    inputs = tuple(ProductInput("MASTER_BIAS", need.key) for need in needs)
    return Job(
        recipe=recipe, stage=stage, title=title,
        inputs=(FileInput("BIAS", f"/raw/{title}.fits", title), *inputs),
    )  # fmt: skip


def diamond() -> Plan:
    """Bias, two that need it, one that needs both, and one apart."""
    bias = fake_job("bias")
    left, right = fake_job("left", bias), fake_job("right", bias)
    return Plan((bias, left, right, fake_job("end", left, right), fake_job("apart")))


def keys(jobs: Iterable[Job]) -> dict[str, str]:
    """Title -> key."""
    return {job.title: job.key for job in jobs}
