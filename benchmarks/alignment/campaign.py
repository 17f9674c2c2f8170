"""Which cases there are at each size, and all methods on all of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from benchmarks.alignment.methods import METHODS
from benchmarks.alignment.outcomes import Outcome, truth_of
from musedask.simulation.fields import Kind, draw_case

CaseName = tuple[Kind, int]
NUMBERS: Mapping[str, Mapping[Kind, int]] = {
    "tiny": {"field": 4, "crowded": 1, "empty": 1, "mover": 1, "satellite": 1, "half": 1},
    "small": {"field": 60, "crowded": 6, "empty": 6, "mover": 6, "satellite": 6, "half": 6},
    "full": {"field": 800, "crowded": 50, "empty": 40, "mover": 40, "satellite": 30, "half": 40},
}
"""Size -> kind -> number of cases."""


def cases_of(size: str) -> tuple[CaseName, ...]:
    """Kind and number of each case."""
    return tuple((kind, seed) for kind, n in NUMBERS[size].items() for seed in range(n))


def measured(case_name: CaseName, methods: Sequence[str]) -> list[Outcome]:
    """Draw a case and let each method measure it; one that fails says why."""
    kind, seed = case_name
    case = draw_case(seed, kind)
    truth = truth_of(case)
    outcomes = []
    for name in methods:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            said = vars(METHODS[name](case))
        except Exception as err:  # a peer may raise what it likes: that is its outcome
            said = {"reasons": f"{type(err).__name__}: {err}", "grade": "F"}
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        outcomes.append(Outcome(method=name, **truth, **said, cpu_s=cpu, wall_s=wall))
    return outcomes


def run_campaign(
    size: str,
    methods: Sequence[str],
    path: Path,
    processes: int,
    say: Callable[[str], None],
) -> list[Outcome]:
    """Run all methods on all cases of a size.

    Parameters
    ----------
    size
        tiny, small or full.
    methods
        Names of :data:`METHODS`.
    path
        File of JSON lines; each case is written as soon as it is there.
    processes
        How many cases at a time.
    say
        Told how it goes on.

    Returns
    -------
    list of Outcome
        In the order of the cases.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names, found = cases_of(size), {}
    with path.open("w", encoding="utf-8") as file:
        for done, outcomes in enumerate(_in_turn(names, methods, processes), start=1):
            found[outcomes[0].kind, outcomes[0].seed] = outcomes
            file.writelines(outcome.to_json() + "\n" for outcome in outcomes)
            file.flush()
            if done % max(1, len(names) // 20) == 0 or done == len(names):
                say(f"{done} of {len(names)} cases")
    return [outcome for name in names for outcome in found[name]]


def _in_turn(
    names: Sequence[CaseName], methods: Sequence[str], processes: int
) -> Iterator[list[Outcome]]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if processes == 1:
        yield from (measured(name, methods) for name in names)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(measured, name, methods) for name in names]):
            yield future.result()
