"""Peers that do what tests of the runner want to see."""

from __future__ import annotations

import os
import sys
import time
from types import ModuleType
from typing import Any

from benchmarks.jobs import Comparison, Job, Place, Prepared, UnavailableError

RIGHT = Comparison(1, 0.0, "nothing", "itself")


def busy(job: Job, place: Place) -> Prepared:
    """Hold 200 MiB for a moment, spend processor time, write a file, and give a metric."""

    def run() -> float:
        held = bytearray(b"x") * (200 << 20)
        start = time.process_time()
        while time.process_time() - start < 0.3:
            pass
        (place.scratch / "written").write_bytes(bytes(5_000_000))
        del held
        return 42.0

    return Prepared(run, lambda _: RIGHT, 1000, place.exposures, lambda: time.sleep(0.2),
                    lambda found: {"answer": found})  # fmt: skip


def compiles_late(job: Job, place: Place) -> Prepared:
    """Call a compiled function for the first time while it is timed."""
    double = _compiled()
    return Prepared(lambda: double(1), lambda _: RIGHT, 1, warm_up=lambda: None)


def compiles_early(job: Job, place: Place) -> Prepared:
    """Call a compiled function before."""
    double = _compiled()
    return Prepared(lambda: double(1), lambda _: RIGHT, 1, warm_up=lambda: double(1))


def _compiled() -> Any:
    """A compiled function of a module of the package that there is not."""
    from numba import njit

    made_up = ModuleType("musedask.made_up")

    @njit
    def double(x):
        return 2 * x

    double.__module__, double.__qualname__ = made_up.__name__, "double"
    made_up.double = double
    sys.modules[made_up.__name__] = made_up
    return double


def quick(job: Job, place: Place) -> Prepared:
    """Do nothing."""
    return Prepared(lambda: None, lambda _: RIGHT, 1)


def wrong(job: Job, place: Place) -> Prepared:
    """Be off by a hundred times what is allowed."""
    return Prepared(lambda: None, lambda _: Comparison(9, 100.0, "0.1", "the truth"), 1)


def missing(job: Job, place: Place) -> Prepared:
    """Not be there."""
    raise UnavailableError("this program is not installed")


def failing(job: Job, place: Place) -> Prepared:
    """Fail while it is timed."""

    def run() -> None:
        raise ValueError("a peer's own error")

    return Prepared(run, lambda _: RIGHT, 1)


def killed(job: Job, place: Place) -> Prepared:
    """Be killed while it is timed."""
    return Prepared(lambda: os.kill(os.getpid(), 9), lambda _: RIGHT, 1)


def sleeping(job: Job, place: Place) -> Prepared:
    """Not come to an end."""
    return Prepared(lambda: time.sleep(1000), lambda _: RIGHT, 1)
