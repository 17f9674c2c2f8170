"""What planning a stack takes: opening the exposures, the graph, the number of its tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import cloudpickle
import dask.array as da
import numpy as np

from benchmarks.exposures import grid_header
from benchmarks.jobs import Comparison, Job, Place, Prepared


@dataclass(frozen=True)
class _Planned:
    """A graph that is ready to be computed, and what it took."""

    lazy: Any
    graph: Any
    open_s: float
    plan_s: float
    optimise_s: float


def graph(job: Job, place: Place) -> Prepared:
    """Open, plan, and optimise as :func:`musedask.write_megacube` does; nothing is computed."""
    from musedask import CubeGrid, open_exposures, stack

    assert job.data is not None
    data, header = job.data, grid_header(job.data)
    methods = tuple(job.options.get("methods", ("median",)))

    def run() -> _Planned:
        times = [time.perf_counter()]
        cubes = open_exposures(place.exposures)
        times.append(time.perf_counter())
        lazy = stack(cubes, None, CubeGrid.from_header(header), methods=methods)
        times.append(time.perf_counter())
        pieces = da.map_blocks(_drop, lazy.results, dtype=object, meta=np.empty((0, 0, 0), object))
        found = pieces.to_delayed(optimize_graph=True).ravel()[0].dask
        times.append(time.perf_counter())
        return _Planned(lazy, found, *np.diff(times))

    def compare(made: _Planned) -> Comparison:
        expected = int(np.prod(made.lazy.plan.n_blocks))
        right = len(made.lazy.plan.keys) == expected <= len(made.graph)
        return Comparison(expected, 0.0 if right else np.inf, "a task a block", "the plan")

    return Prepared(run, compare, data.n_voxels, metrics=_metrics)


def _drop(result: Any) -> Any:
    return np.empty((1, 1, 1), object)


def _metrics(made: _Planned) -> dict[str, float]:
    return {
        "tasks": float(len(made.graph)),
        "blocks": float(len(made.lazy.plan.keys)),
        "pickled_bytes": float(len(cloudpickle.dumps(dict(made.graph)))),
        "open_s": made.open_s,
        "plan_s": made.plan_s,
        "optimise_s": made.optimise_s,
    }
