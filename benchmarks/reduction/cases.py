"""What the benchmark of the reduction consists of, at each size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.jobs import Job
from benchmarks.reduction.nights import NightSpec
from benchmarks.suites import Case, Size

BENCHMARK = "reduction"
ONE_WORKER = "musedask, 1 worker"
SCRIPT = "esorex-script"
_EVERY = tuple(range(1, 25))

CASCADES: Mapping[Size, NightSpec] = {
    "tiny": NightSpec((1,), 1, last="bias", recipes="quick", chain="short"),
    "small": NightSpec((1, 2), 2, recipes="short", chain="short"),
    "full": NightSpec(_EVERY, 2),
}
"""What is reduced. The short chain has no twilights and no profiles of lines; short recipes are
those of the demo, which make cubes of 1000 Angstrom."""
PLANNED: Mapping[Size, NightSpec] = {
    "tiny": NightSpec((1, 2), 4, n_nights=2, content="headers"),
    "small": NightSpec(_EVERY, 100, n_nights=10, content="headers"),
    "full": NightSpec(_EVERY, 1000, n_nights=100, content="headers"),
}
"""What is planned, from headers of full-size files that hold nothing else."""


def reduction(size: Size) -> tuple[Case, ...]:
    """Raw frames into exposure cubes, beside a shell script of the same calls; planning them."""
    cascade = {"night": asdict(CASCADES[size])}
    workers: dict[str, dict[str, Any]] = {"musedask": {"workers": 2}, ONE_WORKER: {"workers": 1}}
    if size == "tiny":
        del workers[ONE_WORKER]
    return (
        (
            *(
                Job("cascade", "reduction", label, options={**cascade, **more})
                for label, more in workers.items()
            ),
            Job("cascade", SCRIPT, SCRIPT, options=cascade),
        ),
        (Job("again", "reduction-again", "musedask", options=cascade, cache="any"),),
        (
            Job(
                "plan", "reduction-planning", "musedask",
                options={"night": asdict(PLANNED[size])}, cache="any",
            ),
        ),
    )  # fmt: skip
