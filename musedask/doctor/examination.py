"""The examination of a site: this machine, SLURM, and a worker that really starts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from musedask.cluster.sizes import GIB, bytes_of, memory_of
from musedask.config import ClusterConfig
from musedask.doctor.finding import Finding, bad, doubtful, good
from musedask.doctor.needs import Needs, needs_of
from musedask.doctor.on_slurm import examine_slurm
from musedask.doctor.on_workers import examine_workers
from musedask.doctor.places import disk, pipeline
from musedask.doctor.probe import look
from musedask.errors import MusedaskError
from musedask.run import Run


def examine(
    config: ClusterConfig, run: Run | None = None, folder: Path | None = None, wait_s: float = 300.0
) -> Iterator[Finding]:
    """Look at all that a reduction needs; starts a worker, and removes what it leaves.

    Parameters
    ----------
    config
        Where Dask is to run.
    run
        What is to be reduced; a usual night if there is no run yet.
    folder
        Where work is to be done, if there is no run.
    wait_s
        How long to wait for a worker, seconds.
    """
    place = run.folder if run is not None else (folder or Path.cwd()).absolute()
    needs = needs_of(run)
    if needs.unplanned:
        yield doubtful("plan", needs.unplanned, "mend that, or 'musedask plan' says more")
    here = look(place)
    yield from pipeline(here, "on this machine")
    yield from disk(here, place, needs)
    findings = []
    for stage in (
        "reduce",
        *(name for name in ("scipost", "stack") if name in dict(config.stages)),
    ):
        for one in _stage(config.of_stage(stage), stage, needs):
            one = one if stage == "reduce" else replace(one, text=f"[cluster.{stage}] {one.text}")
            findings.append(one)
            yield one
    config = config.of_stage("reduce")
    if config.kind == "slurm" and any(one.level == "error" for one in findings):
        return
    if config.kind in ("slurm", "address", "local"):
        token = place / f".musedask-{uuid.uuid4().hex}"
        try:
            with suppress(OSError):
                token.touch()
            yield from examine_workers(config, place, token.name, here, wait_s)
        finally:
            with suppress(OSError):
                token.unlink(missing_ok=True)


def _stage(config: ClusterConfig, stage: str, needs: Needs) -> Iterator[Finding]:
    """What can be said of a stage before a worker starts."""
    if stage != "stack":
        yield from _memory(config, needs)
    if config.kind == "slurm":
        yield from examine_slurm(config, needs, stage)


def _memory(config: ClusterConfig, needs: Needs) -> Iterator[Finding]:
    if config.kind == "address":
        return
    try:
        if config.kind == "slurm":
            from musedask.cluster.slurm import MEMORY

            memory, whose = bytes_of(config.memory or MEMORY), "a SLURM job"
        else:
            memory, whose = memory_of(config), "this machine"
    except MusedaskError as err:
        yield bad("memory", str(err), "write it like '16 GiB'")
        return
    text = f"{whose} has {memory / GIB:.1f} GiB; {needs.largest} needs about {needs.gib:.1f}"
    if memory < needs.gib * GIB:
        advice = f"[cluster] memory = '{needs.gib * 1.3:.0f} GiB', or fewer IFUs at a time"
        if config.kind == "slurm":
            yield bad("memory", text, advice)
        else:
            yield doubtful("memory", text, "it runs alone and may be killed; use a larger machine")
    else:
        yield good("memory", text)
