"""The first stack of a process, with an empty cache of compiled code or with a filled one.

Nothing is imported at the top: numba takes the place of its cache when it is imported.
"""

from __future__ import annotations

import os
import sys

from benchmarks.jobs import Comparison, Job, Place, Prepared

_OPTIONS = {"methods": ("median",), "resampling": "exact", "threads": 1}


def first_stack(job: Job, place: Place) -> Prepared:
    """A tiny stack, so that what it takes is compiling, or loading what was compiled before."""
    if "numba" in sys.modules:
        raise RuntimeError("numba is imported already: the place of its cache cannot be set")
    filled = bool(job.options["filled"])
    if not filled:
        os.environ["NUMBA_CACHE_DIR"] = os.fspath(place.scratch / "numba")
    from benchmarks.peers.stacking_musedask import stack_tiny
    from musedask.stacking import kernels

    def run() -> None:
        stack_tiny(os.fspath(place.scratch), _OPTIONS, 0)

    def compare(_: None) -> Comparison:
        stats = kernels.stack_slab.stats
        loaded, compiled = sum(stats.cache_hits.values()), sum(stats.cache_misses.values())
        right = compiled == 0 < loaded if filled else loaded == 0 < compiled
        what = "nothing compiled again" if filled else "everything compiled"
        return Comparison(
            loaded + compiled, 0.0 if right else float("inf"), what, "numba's own count"
        )

    return Prepared(run, compare, 0)


def main(folder: str) -> None:
    """Compile all that any job needs: upright and turned lattices."""
    from benchmarks.peers.stacking_musedask import stack_tiny

    for number, geometry in enumerate(("shift", "turn")):
        stack_tiny(folder, {**_OPTIONS, "geometry": geometry}, number)


if __name__ == "__main__":
    main(sys.argv[1])
