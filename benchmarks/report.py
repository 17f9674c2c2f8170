"""Records into a page: the targets, a table for each case, plots; Markdown and PNG."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.model import Cluster, estimate, measured_rates
from benchmarks.plots import plot_ratios, plot_scaling
from benchmarks.ratios import Side, Spread, newest, ratio
from benchmarks.records import Record
from benchmarks.reduction import by_recipe
from benchmarks.suites import BENCHMARKS, SIZES
from benchmarks.targets import MISSED, TARGETS
from musedask.errors import MissingError

CLUSTER = Cluster(32, 2e9, 20e9)
"""What the model takes if nothing else is said."""
_DISTURBED = 0.1
"""Processor time of others over wall time from which a measurement is marked."""
_NOT_AT_TINY = ("This size shows that everything works; its times mean nothing.", "")
_NO_RATIO = "-"
_ORDER = {name: place for place, name in enumerate(BENCHMARKS)}


def write_report(records: Sequence[Record], folder: Path) -> Path:
    """Write ``report.md`` and its plots; only the last run of each benchmark and size counts.

    Returns
    -------
    Path
        The page.
    """
    lines = ["# Benchmarks", ""]
    for size in SIZES:
        own = newest([record for record in records if record.size == size])
        own.sort(key=lambda record: _ORDER.get(record.benchmark, len(_ORDER)))
        if own:
            merits = _NOT_AT_TINY if size == "tiny" else _targets(own)
            tables = (*_cases(own), *by_recipe.tables(own))
            lines += [*_about(own, size), *merits, *tables, *_plots(own, size, folder)]
    lines += ["## A large build", "", *_model(records)]
    path = folder / "report.md"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _about(records: Sequence[Record], size: str) -> Iterator[str]:
    """Machine, versions, commit and dates."""
    machines = sorted({_machine(record) for record in records})
    commits = sorted({record.commit or "unknown" for record in records})
    dates = sorted(record.date for record in records)
    versions = {k: v for record in records for k, v in record.versions.items()}
    disturbed = sum(_is_disturbed(record) for record in records if record.counts)
    yield f"## Size {size}"
    yield ""
    yield f"- Command: {', '.join(_commands(records, size))}"
    yield f"- Machine: {'; '.join(machines)}"
    touched = Spread.of(r.machine.get("touch_s_per_gib", math.nan) for r in records)
    if touched.n:
        yield f"- First use of a GiB of memory, beforehand: {_spread(touched, ' s')}"
    yield f"- Commit {', '.join(commits)}; {dates[0]} to {dates[-1]}"
    yield f"- {', '.join(f'{name} {number}' for name, number in sorted(versions.items()))}"
    yield (
        f"- {disturbed} of {len(records)} measurements were disturbed: others took more than "
        f"{_DISTURBED:.0%} of a core meanwhile (marked with *)."
    )
    late = [record for record in records if record.late]
    if late:
        jobs = dict.fromkeys(f"{record.job.case}: {record.job.label}" for record in late)
        yield (
            f"- {len(late)} of them loaded or compiled code while they were timed (marked with !): "
            f"{', '.join(jobs)}."
        )
    yield ""


def _commands(records: Sequence[Record], size: str) -> list[str]:
    names = dict.fromkeys(record.benchmark for record in records)
    return [f"`python -m benchmarks {name} --size {size}`" for name in names]


def _machine(record: Record) -> str:
    facts = record.machine
    return (
        f"{facts.get('cpu', 'unknown')}, {facts.get('cores', '?')} cores, "
        f"{facts.get('memory_gib', '?')} GiB, {facts.get('system', '')}"
    )


def _is_disturbed(record: Record) -> bool:
    return record.others_cpu_s > _DISTURBED * record.wall_s


def _targets(records: Sequence[Record]) -> Iterator[str]:
    """Target, measured, met or not: of the benchmarks that were run."""
    there = {record.benchmark for record in records}
    yield "| against | target | measured | |"
    yield "|---|---|---|---|"
    for target in TARGETS:
        if target.above.benchmark not in there:
            continue
        found = target.measured(records)
        verdict = target.verdict(found)
        shown = f"**{verdict}**" if verdict == MISSED else verdict
        measured = _spread(found, target.unit)
        yield (
            f"| {target.text} | {target.kind} {target.limit:g}{target.unit} | {measured} | "
            f"{shown} |"
        )
    yield ""


def _spread(found: Spread, unit: str = "") -> str:
    if found.n == 0:
        return _NO_RATIO
    middle = f"{_number(found.middle)}{unit}"
    return middle if found.n == 1 else f"{middle} ({_number(found.low)} to {_number(found.high)})"


def _number(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cases(records: Sequence[Record]) -> Iterator[str]:
    """A table for each case."""
    for benchmark, case in dict.fromkeys((r.benchmark, r.job.case) for r in records):
        own = [r for r in records if (r.benchmark, r.job.case) == (benchmark, case)]
        first = own[0].job.label
        yield f"### {benchmark}: {case}"
        yield ""
        yield (
            f"| | wall s | cpu s | wall s/Gvox | cpu s/Gvox | wall / {first} | cpu / {first} | "
            "peak MiB | cache | more |"
        )
        yield "|---|---|---|---|---|---|---|---|---|---|"
        for label in dict.fromkeys(r.job.label for r in own):
            yield _row([r for r in own if r.job.label == label], own, first)
        yield ""


def _row(rows: Sequence[Record], case: Sequence[Record], first: str) -> str:
    counted = [r for r in rows if r.counts]
    label = rows[0].job.label
    if not counted:
        worst = rows[0]
        reason = worst.reason.replace("\n", " ").replace("|", "/")
        return f"| {label} | {worst.state}: {reason} | | | | | | | | |"
    columns = [
        _spread(Spread.of(r.value(quantity) for r in counted))
        for quantity in ("wall_s", "cpu_s", "wall_per_gvox", "cpu_per_gvox")
    ]
    for quantity in ("wall", "cpu"):
        per_voxel = all(record.n_voxels for record in case if record.counts)
        unit = f"{quantity}_per_gvox" if per_voxel else f"{quantity}_s"
        above, below = (
            Side(rows[0].benchmark, rows[0].job.case, name, unit) for name in (label, first)
        )
        columns.append(_spread(ratio(above, below, case)))
    columns.append(f"{max(r.peak_rss for r in counted) / 2**20:.0f}")
    columns.append(", ".join(sorted({r.cache for r in counted})))
    columns.append(_more(counted))
    mark = " *" if any(_is_disturbed(r) for r in counted) else ""
    mark += " !" if any(r.late for r in counted) else ""
    return f"| {label}{mark} | {' | '.join(columns)} |"


def _more(counted: Sequence[Record]) -> str:
    """Further numbers, as medians; those of recipes have a table of their own."""
    keys = dict.fromkeys(
        key for r in counted for key in r.metrics if not key.startswith(by_recipe.MARK)
    )
    parts = [
        f"{key} {_number(Spread.of(r.metrics[key] for r in counted if key in r.metrics).middle)}"
        for key in keys
    ]
    compiled = Spread.of(record.compile_s for record in counted).middle
    return ", ".join([*parts, f"compile_s {_number(compiled)}"] if compiled else parts)


def _plots(records: Sequence[Record], size: str, folder: Path) -> Iterator[str]:
    """Plots of what there is, each with its line in the page."""
    made = {
        f"Time per voxel over musedask's, {size}": plot_ratios(
            records, folder / f"peers_{size}.png"
        ),
        f"How time and memory grow, {size}": plot_scaling(records, folder / f"scaling_{size}.png"),
    }
    for title, path in made.items():
        if path is not None:
            yield f"![{title}]({path.name})"
            yield ""


def _model(records: Sequence[Record]) -> Iterable[str]:
    try:
        return estimate(measured_rates(records), CLUSTER).splitlines()
    except MissingError as err:
        return [f"Not estimated: {err}."]
