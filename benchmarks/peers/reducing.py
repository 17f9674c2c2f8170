"""Raw frames into cubes: ``musedask reduce``, and a shell script of the same calls of esorex.

What runs is started from here, and what looks at it is imported afterwards, so that its memory
is hardly more than its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.jobs import Comparison, Job, Place, Prepared
from benchmarks.reduction.nights import NightSpec, frames_of
from benchmarks.reduction.preparing import Night, prepared, run_script

_PRELOAD = "DASK_DISTRIBUTED__SCHEDULER__PRELOAD"
_WATCH = "benchmarks.reduction.task_times"
_KEPT = "reduced"
_RECORDS = "products/*/*/job.json"


def musedask_reduce(job: Job, place: Place) -> Prepared:
    """``musedask reduce``, the command, from its start; what it made is kept for a second call."""
    night = prepared(job, place)
    folder, times = _new_run(place.scratch / "run", night), place.scratch / "tasks.txt"
    command = _reduce(folder, night.spec, "--workers", str(job.options["workers"]))
    watched = {**os.environ, _PRELOAD: f"['{_WATCH}']", "BENCHMARKS_TASK_TIMES": os.fspath(times)}

    def run() -> Path:
        subprocess.run(command, env=watched, check=True)
        return folder / "products"

    def compare(products: Path) -> Comparison:
        found = _compared(night, {job.key: products / job.folder for job in night.plan})
        if found.is_right:
            _keep(folder, night.folder / _KEPT)
        return found

    def metrics(products: Path) -> Mapping[str, float]:
        from benchmarks.reduction import by_recipe
        from musedask.reduction.job.record import find_record

        records = [find_record(products, job.key) for job in night.plan]
        return by_recipe.metrics(records, by_recipe.read_times(times))

    return Prepared(run, compare, 0, frames_of(night.folder), metrics=metrics)


def esorex_script(job: Job, place: Place) -> Prepared:
    """The same calls in a shell script, each with all cores."""
    night = prepared(job, place)
    calls = {"jobs": float(len(night.plan))}

    def compare(out: Path) -> Comparison:
        return _compared(night, {job.key: out / job.key for job in night.plan})

    return Prepared(
        lambda: run_script(night.plan, place.scratch / "out"), compare, 0,
        frames_of(night.folder), metrics=lambda _: calls,
    )  # fmt: skip


def reduce_again(job: Job, place: Place) -> Prepared:
    """``musedask reduce`` where all is done, from its start."""
    night = prepared(job, place)
    folder = _new_run(night.folder / _KEPT, night)
    command = _reduce(folder, night.spec)
    if {path.parent.name for path in _written(folder)} != set(night.plan.by_key):
        subprocess.run(command, check=True)
    before = _written(folder)

    def run() -> str:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def compare(said: str) -> Comparison:
        right = "done already" in said and _written(folder) == before
        return Comparison(
            len(before), 0.0 if right else float("inf"), "nothing runs", "the finished jobs"
        )

    return Prepared(run, compare, 0, metrics=lambda _: {"jobs": float(len(night.plan))})


def _new_run(folder: Path, night: Night) -> Path:
    """A run that reduces the night; one that is there is told where the night lies now."""
    folder.mkdir(exist_ok=True)
    (folder / "musedask.toml").write_text(night.configuration)
    return folder


def _reduce(folder: Path, spec: NightSpec, *more: str) -> list[str]:
    last = ["--last", spec.last] if spec.last else []
    return [sys.executable, "-m", "musedask.cli", "reduce", os.fspath(folder), *last, *more]


def _compared(night: Night, folders: Mapping[str, Path]) -> Comparison:
    from benchmarks.reduction.products import compared

    return compared(folders, night.reference)


def _keep(run: Path, kept: Path) -> None:
    """Keep a finished run, by links: its products are not copied."""
    if not kept.exists():
        partial = kept.with_name(f"partial-{_KEPT}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(run, partial, symlinks=True, copy_function=os.link)
        partial.rename(kept)


def _written(run: Path) -> dict[Path, int]:
    """When each finished job was written down."""
    return {path: path.stat().st_mtime_ns for path in run.glob(_RECORDS)}
