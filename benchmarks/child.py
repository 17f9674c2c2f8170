"""The process of one job: get ready, wait for a sign, do what is timed, wait again, compare.

It is started by :mod:`benchmarks.runner` and talks to it by JSON lines on two pipes, so that
whatever the peers print goes elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.compiled import names, signatures
from benchmarks.jobs import Job, Place, Prepared, UnavailableError
from benchmarks.peers import load


class Line:
    """The two pipes to whoever measures."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._in = os.fdopen(read_fd, "r", encoding="utf-8")
        self._out = os.fdopen(write_fd, "w", encoding="utf-8")

    def tell(self, event: str, **facts: Any) -> None:
        """Send an event."""
        self._out.write(json.dumps({"event": event, **facts}) + "\n")
        self._out.flush()

    def wait(self) -> None:
        """Wait until it goes on."""
        if not self._in.readline():
            raise SystemExit("whoever measures is gone")


def main(arguments: list[str]) -> None:
    """Do a job: JOB PLACE READ_FD WRITE_FD."""
    job, place = Job.from_json(arguments[0]), _place(arguments[1])
    line = Line(int(arguments[2]), int(arguments[3]))
    try:
        prepared = load(job.peer)(job, place)
    except UnavailableError as err:
        line.tell("unavailable", reason=str(err))
        return
    compile_s = _warmed_up(prepared)
    line.tell("ready", files=[os.fspath(path) for path in prepared.files], compile_s=compile_s)
    line.wait()
    _forget_peak()
    known = None if prepared.warm_up is None else signatures()
    wall, cpu = time.perf_counter(), _cpu()
    result = prepared.run()
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    late = [] if known is None else names(signatures() - known)
    line.tell("done", wall_s=wall, cpu_s=cpu, peak_rss=_peak(), late=late)
    line.wait()
    comparison = prepared.compare(result)
    line.tell(
        "compared", comparison=asdict(comparison), is_right=comparison.is_right,
        n_voxels=prepared.n_voxels, metrics=dict(prepared.metrics(result)),
    )  # fmt: skip


def _place(text: str) -> Place:
    found = json.loads(text)
    exposures = tuple(Path(path) for path in found["exposures"])
    return Place(exposures, Path(found["stores"]), Path(found["scratch"]))


def _warmed_up(prepared: Prepared) -> float:
    if prepared.warm_up is None:
        return 0.0
    started = time.perf_counter()
    prepared.warm_up()
    return time.perf_counter() - started


def _cpu() -> float:
    """Processor time of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _forget_peak() -> None:
    """Let the kernel's record of the highest memory start anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith("VmHWM:"):
            return int(text.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
