"""Compiling: beforehand, for all jobs; and as what is timed, the first stack of a process.

Nothing is imported at the top: numba takes the place of its cache when it is imported.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmarks.compiled import origins, signatures
from benchmarks.jobs import Comparison, Job, Place, Prepared
from benchmarks.peers import load

_SAME = {"musedask-compilation": "musedask", "musedask-processes": "musedask"}
"""Peers that set up more than they compile -> the one that compiles the same."""
_NO_CODE = ("role", "threads", "processes", "filled", "once", "slices")
"""Options that change nothing in what is compiled."""


def first_stack(job: Job, place: Place) -> Prepared:
    """A tiny stack, so that what it takes is compiling, or loading what was compiled before."""
    if "numba" in sys.modules:
        raise RuntimeError("numba is imported already: the place of its cache cannot be set")
    filled = bool(job.options["filled"])
    if not filled:
        os.environ["NUMBA_CACHE_DIR"] = os.fspath(place.scratch / "numba")
    from benchmarks.peers.stacking_musedask import stack_tiny

    def run() -> None:
        stack_tiny(job, place)

    def compare(_: None) -> Comparison:
        loaded, compiled = origins()
        right = compiled == 0 < loaded if filled else loaded == 0 < compiled
        what = "nothing compiled again" if filled else "everything compiled"
        return Comparison(
            loaded + compiled, 0.0 if right else float("inf"), what, "numba's own count"
        )

    return Prepared(run, compare, 0)


def kinds(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """One of all jobs that differ in nothing that compiled code could depend on."""
    found: dict[str, Job] = {}
    for job in jobs:
        options = {k: v for k, v in job.options.items() if k not in _NO_CODE}
        data = None if job.data is None else replace(job.data, n_exposures=1, n_fields=1)
        peer = _SAME.get(job.peer, job.peer)
        plain = Job("", peer, "", data, options, "any")
        found.setdefault(plain.to_json(), plain)
    return tuple(found.values())


def compile_all(jobs: Iterable[Job], stores: Path, scratch: Path) -> frozenset[str]:
    """Warm up as each job would before it is timed; all signatures that are ready then.

    Stores that jobs read are made on the way, and kept.
    """
    for job in kinds(jobs):
        with tempfile.TemporaryDirectory(dir=scratch) as own:
            prepared = load(job.peer)(job, Place((), stores, Path(own)))
            if prepared.warm_up is not None:
                prepared.warm_up()
    return signatures()


if __name__ == "__main__":
    compile_all(map(Job.from_json, sys.stdin), Path(sys.argv[1]), Path(sys.argv[2]))
