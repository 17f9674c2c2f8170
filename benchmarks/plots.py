"""Pictures of ratios and of growth, with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ratios import Side, Spread, ratio
from benchmarks.records import Record

_OURS = "musedask"


def plot_ratios(records: Sequence[Record], path: Path) -> Path | None:
    """Bars of each peer's time per voxel over musedask's, wall and cpu; None without a peer.

    They start at 1, so that their length on the logarithmic axis means something.
    """
    labels = [
        label
        for label in dict.fromkeys(r.job.label for r in records if _is_peer(r))
        if not label.startswith(_OURS)
    ]
    found = {
        quantity: [
            ratio(_side(label, quantity), _side(_OURS, quantity), records) for label in labels
        ]
        for quantity in ("wall_per_gvox", "cpu_per_gvox")
    }
    if not labels or not any(spread.n for spreads in found.values() for spread in spreads):
        return None
    figure, axes = _figure(1, (7.0, 1.0 + 0.42 * len(labels)))
    axis = axes[0]
    for shift, (quantity, spreads) in zip((-0.2, 0.2), found.items(), strict=True):
        at = [n + shift for n in range(len(labels))]
        bars = axis.barh(
            at, [s.middle - 1.0 for s in spreads], 0.36, left=1.0, xerr=_whiskers(spreads),
            error_kw={"lw": 0.8, "capsize": 2}, label=quantity.partition("_")[0],
        )  # fmt: skip
        texts = [f"{s.middle:.3g}" if s.n else "" for s in spreads]
        axis.bar_label(bars, texts, padding=3, fontsize="small")
    axis.axvline(1.0, color="black", lw=0.8)
    axis.set(xscale="log", xlabel="time per voxel / musedask's")
    axis.set_yticks(range(len(labels)), labels)
    axis.margins(x=0.12)
    axis.invert_yaxis()
    figure.legend(loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=120)
    return path


def plot_scaling(records: Sequence[Record], path: Path) -> Path | None:
    """Time per voxel and peak memory along the series of scaling; None without one."""
    cases = ("exposures", "wavelengths", "area")
    own = [r for r in records if r.benchmark == "scaling" and r.job.case in cases and r.counts]
    if not own:
        return None
    figure, axes = _figure(2, (8.0, 3.4))
    for case in dict.fromkeys(r.job.case for r in own):
        labels = list(dict.fromkeys(r.job.label for r in own if r.job.case == case))
        sizes = [int(label.split()[0]) for label in labels]
        for axis, quantity in zip(axes, ("wall_per_gvox", "peak_gib"), strict=True):
            spreads = [
                Spread.of(Side("scaling", case, label, quantity).by_round(own).values())
                for label in labels
            ]
            axis.errorbar(
                [n / sizes[0] for n in sizes], [s.middle for s in spreads], _whiskers(spreads),
                marker="o", capsize=2, label=f"{case}, from {sizes[0]}",
            )  # fmt: skip
    for axis, label in zip(axes, ("wall s/Gvox", "peak memory, GiB"), strict=True):
        axis.set(xlabel="times as many", ylabel=label, ylim=(0, 1.1 * axis.dataLim.ymax))
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=120)
    return path


def _is_peer(record: Record) -> bool:
    return (record.benchmark, record.job.case) == ("stacking", "peers") and record.counts


def _side(label: str, quantity: str) -> Side:
    return Side("stacking", "peers", label, quantity)


def _whiskers(spreads: Sequence[Spread]) -> list[list[float]]:
    return [[s.middle - s.low for s in spreads], [s.high - s.middle for s in spreads]]


def _figure(n: int, inches: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A figure that no window system stands behind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(inches, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, n, i + 1) for i in range(n)]
