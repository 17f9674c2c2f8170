"""Outcomes into a page: Markdown with tables, and a picture."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.alignment.merits import Merits, can_be_measured, errors, merits
from benchmarks.alignment.outcomes import OURS, Outcome

_NOTHING = "-"


def write_page(outcomes: Sequence[Outcome], size: str, folder: Path) -> Path:
    """Write ``alignment_SIZE.md`` and ``alignment_SIZE.png``.

    Returns
    -------
    Path
        The page.
    """
    picture = plot(outcomes, folder / f"alignment_{size}.png")
    lines = ["# Alignment", "", *_about(outcomes, size), *_table(outcomes), *_targets(outcomes)]
    lines += [*_kinds(outcomes), *_failures(outcomes)]
    if picture is not None:
        lines += [f"![Errors and pulls, {size}]({picture.name})", ""]
    path = folder / f"alignment_{size}.md"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text("\n".join(lines), encoding="utf-8")
    partial.replace(path)
    return path


def by_method(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each method, in the order in which they come."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.method, []).append(outcome)
    return found


def _about(outcomes: Sequence[Outcome], size: str) -> Iterator[str]:
    cases = {(o.kind, o.seed) for o in outcomes}
    facts = machine.machine()
    yield f"- Command: `python -m benchmarks alignment --size {size}`"
    yield f"- {len(cases)} simulated cases; commit {machine.commit() or 'unknown'}"
    yield f"- Machine: {facts.get('cpu', 'unknown')}, {facts.get('cores', '?')} cores"
    yield (
        "- Bias, scatter and ratio are of fields with five or more galaxies brighter than I = 24, "
        "and clusters, of offsets that would be used (graded A or B; others give no grade). "
        "Wrong: used and more than 0.2 arcsec off, of all cases of any kind."
    )
    yield ""


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield (
        "| method | usable | wrong | bias E, N (arcsec) | scatter E, N | scatter E, N (MAD) | "
        "error / photon limit E, N | pulls A E, N | pulls B E, N | cpu s |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, own in by_method(outcomes).items():
        m = merits(own)
        yield (
            f"| {name} | {m.usable:.1%} of {m.n} | {m.wrong:.2%} of {m.n_all} | "
            f"{_two(m.bias, 4)} | {_two(m.scatter, 4)} | {_two(m.robust, 4)} | "
            f"{_two(m.over_limit, 2)} | {_two(m.pulls['A'], 2)} | {_two(m.pulls['B'], 2)} | "
            f"{m.cpu_s:.2f} |"
        )
    yield ""


def _two(values: tuple[float, float], digits: int) -> str:
    if not all(math.isfinite(value) for value in values):
        return _NOTHING
    return ", ".join(f"{value:.{digits}f}" for value in values)


def targets(m: Merits) -> list[tuple[str, float, float, float]]:
    """What has to be reached: words, what was found, the least and the most that is right."""
    found: list[tuple[str, float, float, float]] = [
        ("bias, arcsec", max(abs(value) for value in m.bias), 0.0, 0.01),
        ("scatter, arcsec", max(m.scatter), 0.0, 0.03),
        ("error over the photon limit", max(m.over_limit), 0.0, 1.3),
        ("wrong by more than 0.2 arcsec and graded A or B", m.wrong, 0.0, 0.005),
        ("graded A or B where there is enough signal", m.usable, 0.95, 1.0),
    ]
    for grade, both in m.pulls.items():
        for axis, value in zip(("east", "north"), both, strict=True):
            found.append((f"pulls, grade {grade}, {axis}", value, 0.8, 1.2))
    return found


def _targets(outcomes: Sequence[Outcome]) -> Iterator[str]:
    own = by_method(outcomes).get(OURS)
    if not own:
        return
    yield "| musedask | measured | allowed | |"
    yield "|---|---|---|---|"
    for words, value, least, most in targets(merits(own)):
        verdict = "met" if least <= value <= most else "**not met**"
        yield f"| {words} | {value:.4g} | {least:g} to {most:g} | {verdict} |"
    yield ""


def _kinds(outcomes: Sequence[Outcome]) -> Iterator[str]:
    own = by_method(outcomes).get(OURS)
    if not own:
        return
    yield "| musedask, kind of case | A | B | C | F | wrong A or B |"
    yield "|---|---|---|---|---|---|"
    for kind in dict.fromkeys(o.kind for o in own):
        for words, part in _parts(kind, [o for o in own if o.kind == kind]):
            grades = Counter(o.grade for o in part)
            counts = " | ".join(str(grades[grade]) for grade in "ABCF")
            yield f"| {words} | {counts} | {sum(o.is_wrong for o in part)} |"
    yield ""


def _parts(kind: str, own: list[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    if kind != "field":
        yield kind, own
        return
    yield "field, enough signal", [o for o in own if o.holds_enough]
    yield "field, fewer than five galaxies", [o for o in own if not o.holds_enough]


def _failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The cases of ours that are not as they should be, so that they can be drawn again."""
    own = by_method(outcomes).get(OURS, [])
    bad = [o for o in own if o.is_wrong or (can_be_measured(o) and not o.is_usable)]
    if bad:
        yield "| case | grade | off E, N (arcsec) | bright galaxies | why |"
        yield "|---|---|---|---|---|"
    for o in bad:
        why = o.reasons.replace("|", "/")
        yield f"| {o.kind} {o.seed} | {o.grade} | {_two(o.off, 3)} | {o.n_bright} | {why} |"
    yield ""


def plot(outcomes: Sequence[Outcome], path: Path) -> Path | None:
    """Errors of all methods, ours against the photon limit, and our pulls; None without ours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = by_method(outcomes)
    used = [o for o in groups.get(OURS, []) if can_be_measured(o) and o.is_usable]
    if not used:
        return None
    figure = Figure((13.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    one, two, three = (figure.add_subplot(1, 3, i) for i in (1, 2, 3))
    _plot_distances(one, groups)
    _plot_limits(two, [o for o in used if o.kind != "crowded"])
    _plot_pulls(three, used)
    figure.savefig(path, dpi=120)
    return path


def _plot_distances(axis: Any, groups: dict[str, list[Outcome]]) -> None:
    """How many are how wrong."""
    for name, own in groups.items():
        asked = [o for o in own if can_be_measured(o)]
        off = np.sort([o.distance for o in asked if o.is_usable])
        share = np.arange(1, off.size + 1) / max(1, len(asked))
        axis.step(np.maximum(off, 1e-4), share, where="post", label=name)
    axis.axvline(0.2, color="black", lw=0.8)
    axis.set(xscale="log", xlabel="distance from the truth, arcsec", ylabel="share of fields",
             ylim=(0, 1.02))  # fmt: skip
    axis.legend(loc="upper left", fontsize="small")


def _plot_limits(axis: Any, used: Sequence[Outcome]) -> None:
    limit = np.array([(o.east_limit, o.north_limit) for o in used]).reshape(-1, 2)
    off = np.abs(errors(used))
    axis.plot(limit.ravel(), np.maximum(off.ravel(), 1e-5), ".", ms=3)
    ends = np.array([limit.min(), limit.max()]) if limit.size else np.ones(2)
    for times in (1.0, 3.0):
        axis.plot(ends, times * ends, color="black", lw=0.8, ls="-" if times == 1 else ":")
    axis.set(xscale="log", yscale="log", xlabel="photon limit of an axis, arcsec",
             ylabel="error of an axis, arcsec")  # fmt: skip


def _plot_pulls(axis: Any, used: Sequence[Outcome]) -> None:
    edges = np.linspace(-5, 5, 41)
    for grade in ("A", "B"):
        own = [o for o in used if o.grade == grade]
        stated = np.array([(o.east_error, o.north_error) for o in own]).reshape(-1, 2)
        ratio = (errors(own) / stated).ravel()
        if ratio.size:
            axis.hist(np.clip(ratio, -4.99, 4.99), edges, density=True, histtype="step",
                      label=f"{grade} ({len(own)})")  # fmt: skip
    axis.plot(edges, np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi), color="black", lw=0.8)
    axis.set(xlabel="error over stated error")
    axis.legend(fontsize="small")
