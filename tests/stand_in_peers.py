"""Peers that do what tests of the runner want to see."""

from __future__ import annotations

import os
import time

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
