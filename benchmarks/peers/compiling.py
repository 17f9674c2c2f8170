"""The first stack of a process, with an empty cache of compiled code or with a filled one.

Nothing is imported at the top: numba takes the place of its cache when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.jobs import Comparison, Job, Place, Prepared

_OPTIONS = {"methods": ("median",), "resampling": "exact", "threads": 1}


def first_stack(job: Job, place: Place) -> Prepared:
    """A tiny stack, so that what it takes is compiling, or loading what was compiled."""
    if "numba" in sys.modules:
        raise RuntimeError("numba is imported already: the place of its cache cannot be set")
    filled = bool(job.options["filled"])
    cache = place.scratch / "numba"
    if filled:
        subprocess.run(
            [sys.executable, "-m", __name__, os.fspath(place.scratch / "filling")],
            env={**os.environ, "NUMBA_CACHE_DIR": os.fspath(cache)}, check=True,
        )  # fmt: skip
    os.environ["NUMBA_CACHE_DIR"] = os.fspath(cache)
    before = _times(cache)
    from benchmarks.peers.stacking_musedask import stack_tiny

    def run() -> None:
        stack_tiny(os.fspath(place.scratch), _OPTIONS, 0)

    def compare(_: None) -> Comparison:
        after = _times(cache)
        as_before = after == before
        right = bool(after) and as_before is filled
        what = "nothing was compiled again" if filled else "compiled code was kept"
        return Comparison(len(after), 0.0 if right else float("inf"), what, "the cache's files")

    return Prepared(run, compare, 0)


def _times(cache: Path) -> dict[str, int]:
    """The files of compiled code, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}


def main(folder: str) -> None:
    """Compile all that any job needs: upright and turned lattices."""
    from benchmarks.peers.stacking_musedask import stack_tiny

    for number, geometry in enumerate(("shift", "turn")):
        stack_tiny(folder, {**_OPTIONS, "geometry": geometry}, number)


if __name__ == "__main__":
    main(sys.argv[1])
