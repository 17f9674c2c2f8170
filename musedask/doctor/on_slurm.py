"""What SLURM says before a job is submitted: partition, walltime, the job itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from musedask.cluster.queue import Partition, jobs_under_way, partitions
from musedask.cluster.slurm import slurm_options, submitter, test_submission, walltime_of
from musedask.config import ClusterConfig
from musedask.doctor.finding import Finding, bad, doubtful, good
from musedask.doctor.needs import Needs
from musedask.errors import MusedaskError

ROOM = 3.0
"""So many times the longest job should fit into the walltime: a worker does several."""


def examine_slurm(config: ClusterConfig, needs: Needs, stage: str) -> Iterator[Finding]:
    """Ask SLURM's commands; submits nothing."""
    try:
        jobs_under_way()
        found = partitions()
        options = slurm_options(config, stage)
        walltime = walltime_of(options)
    except MusedaskError as err:
        yield bad("slurm", str(err), "without an answer nothing can be submitted")
        return
    yield from _partition(options, found, walltime)
    if stage != "stack":
        yield from _walltime(walltime, needs)
    with ExitStack() as stack:
        try:
            cluster = submitter(config, stage, stack)
            test_submission(cluster)
        except MusedaskError as err:
            yield bad("sbatch", str(err), "change [cluster] or [cluster.options] until it is taken")
            return
    yield good("sbatch", "takes such a job")
    if not config.tls:
        yield doubtful(
            "tls", "other users of the cluster can submit work in your name",
            "take tls = false out of [cluster]",
        )  # fmt: skip
    if config.workers == 0:
        yield doubtful("workers", "one SLURM job will be asked for", "[cluster] workers = 20")


def _partition(
    options: dict[str, Any], found: dict[str, Partition], walltime: float
) -> Iterator[Finding]:
    wanted = str(options.get("queue") or "")
    names = wanted.split(",") if wanted else [p.name for p in found.values() if p.is_default]
    there = ", ".join(found)
    for name in names:
        one = found.get(name)
        if one is None:
            yield bad(
                "partition", f"{name}: SLURM has none of this name",
                f"[cluster.options] queue: one of {there}",
            )  # fmt: skip
        elif one.state != "UP":
            yield bad("partition", f"{name} is {one.state}", f"wait, or take another of {there}")
        elif walltime > one.limit_s:
            yield bad(
                "partition", f"{name} gives {_hours(one.limit_s)}, walltime is {_hours(walltime)}",
                "a shorter walltime in [cluster.options], or another queue",
            )  # fmt: skip
        else:
            yield good("partition", f"{name} is up, and gives up to {_hours(one.limit_s)}")
    if not names:
        yield bad(
            "partition", "SLURM has no default", f"[cluster.options] queue: one of {there}"
        )  # fmt: skip


def _walltime(walltime: float, needs: Needs) -> Iterator[Finding]:
    text = f"{_hours(walltime)}; {needs.longest} takes about {_hours(needs.seconds)}"
    if walltime < needs.seconds:
        yield bad("walltime", f"{text}: it would be begun again and again", "a longer walltime")
    elif walltime < ROOM * needs.seconds:
        yield doubtful("walltime", text, "three times the longest job, or more")
    else:
        yield good("walltime", text)


def _hours(seconds: float) -> str:
    if seconds == float("inf"):
        return "any time"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
