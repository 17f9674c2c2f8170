"""Numbers for each recipe, out of what musedask writes down of its jobs, and a table of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.records import Record
from musedask.reduction.job.record import JobRecord
from musedask.reduction.recipes import RECIPES

MARK = "muse_"
"""Metrics of a recipe begin with its name: ``muse_bias/jobs``."""
_COLUMNS = {
    "jobs": "jobs", "seconds": "esorex s", "most_s": "most s", "peak_mib": "peak MiB",
    "added_s": "musedask adds s", "most_added_s": "most s",
}  # fmt: skip


def metrics(jobs: Sequence[JobRecord], task_s: Mapping[str, float]) -> dict[str, float]:
    """Numbers of each recipe and of all, by name.

    Parameters
    ----------
    jobs
        What is written down of the jobs.
    task_s
        Name of the Dask task of a job -> seconds that it took.
    """
    found = {"jobs": float(len(jobs)), "esorex_s": sum(job.wall_s for job in jobs)}
    for recipe in RECIPES:
        own = [job for job in jobs if job.recipe == recipe]
        if own:
            added = [task_s[f"{job.recipe}-{job.key}-{job.attempt}"] - job.wall_s for job in own]
            numbers = {
                "jobs": len(own), "seconds": median(job.wall_s for job in own),
                "most_s": max(job.wall_s for job in own),
                "peak_mib": max(job.peak_memory for job in own) / 2**20,
                "added_s": median(added), "most_added_s": max(added),
            }  # fmt: skip
            found |= {f"{recipe}/{name}": float(number) for name, number in numbers.items()}
    return found


def read_times(path: Path) -> dict[str, float]:
    """Name of a Dask task -> seconds, as :mod:`benchmarks.reduction.task_times` wrote them."""
    rows = (line.rsplit(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: float(seconds) for name, seconds in rows}


def tables(records: Sequence[Record]) -> Iterator[str]:
    """A table of recipes for each job of musedask that has their numbers; of its last round."""
    last = {
        (r.benchmark, r.job.label): r for r in records if r.counts and any(map(_is_of_a, r.metrics))
    }
    for (benchmark, label), record in last.items():
        yield f"### {benchmark}: recipes, {label}"
        yield ""
        yield f"| | {' | '.join(_COLUMNS.values())} |"
        yield f"|---{'|---' * len(_COLUMNS)}|"
        for recipe in dict.fromkeys(n.partition("/")[0] for n in record.metrics if _is_of_a(n)):
            numbers = [record.metrics[f"{recipe}/{name}"] for name in _COLUMNS]
            yield f"| {recipe} | {' | '.join(f'{number:.3g}' for number in numbers)} |"
        yield ""


def _is_of_a(name: str) -> bool:
    return name.startswith(MARK)
