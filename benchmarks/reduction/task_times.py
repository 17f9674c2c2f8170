"""Loaded by Dask's scheduler inside ``musedask reduce``: writes down how long each task takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

PATH = "BENCHMARKS_TASK_TIMES"
"""Variable that names the file."""


class TaskTimes(SchedulerPlugin):
    """A line for each task that ended well: its name and its seconds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Take note of a task that a worker has computed."""
        if (start, finish) == ("processing", "memory"):
            spans = [s for s in kwargs["startstops"] if s["action"] == "compute"]
            seconds = sum(span["stop"] - span["start"] for span in spans)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{key} {seconds:.6f}\n")


def dask_setup(scheduler: Scheduler) -> None:
    """What Dask calls when the scheduler starts."""
    scheduler.add_plugin(TaskTimes(Path(os.environ[PATH])))
