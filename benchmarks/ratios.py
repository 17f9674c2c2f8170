"""Measurements of one run put beside one another: pairs of a round, their median and range."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.jobs import Job
from benchmarks.records import Record


@dataclass(frozen=True)
class Spread:
    """A median and the range that it comes from."""

    middle: float
    """Median."""
    low: float
    """Least."""
    high: float
    """Most."""
    n: int
    """How many."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of the values that are numbers; NaN if there is none."""
        found = [value for value in values if not math.isnan(value)]
        if not found:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(float(np.median(found)), min(found), max(found), len(found))


@dataclass(frozen=True)
class Side:
    """A quantity of a job, as found in the records."""

    benchmark: str
    """stacking, export..."""
    case: str
    """Of the benchmark."""
    name: str
    """Label or role of the job."""
    quantity: str
    """What :meth:`Record.value` knows."""

    @property
    def is_a_time(self) -> bool:
        """Whether it differs from round to round, as times do."""
        return self.quantity.startswith(("wall_", "cpu_")) or self.quantity.endswith("_ms")

    def is_of(self, benchmark: str, job: Job) -> bool:
        """Whether it is a quantity of this job."""
        names = (job.label, job.options.get("role"))
        return (benchmark, job.case) == (self.benchmark, self.case) and self.name in names

    def matches(self, record: Record) -> bool:
        """Whether a record is of this job and counts."""
        return record.counts and self.is_of(record.benchmark, record.job)

    def by_round(self, records: Iterable[Record]) -> dict[tuple[str, int], float]:
        """(run, round) -> value."""
        return {
            (record.run, record.repeat): record.value(self.quantity)
            for record in records
            if self.matches(record)
        }


def ratio(above: Side, below: Side, records: Sequence[Record]) -> Spread:
    """Quotient of two quantities in each round that has both, then its median and range.

    What was measured in one round of a run alone stands beside all rounds of the other.
    """
    tops, bottoms = above.by_round(records), below.by_round(records)
    rounds = Counter(run for run, _ in tops), Counter(run for run, _ in bottoms)
    return Spread.of(
        top / bottom if bottom else math.nan
        for (run, turn), top in tops.items()
        for (other, opposite), bottom in bottoms.items()
        if run == other and (turn == opposite or 1 in (rounds[0][run], rounds[1][run]))
    )


def newest(records: Sequence[Record]) -> list[Record]:
    """Of each benchmark and size only the last run."""
    last: dict[tuple[str, str], str] = {}
    for record in records:
        key = (record.benchmark, record.size)
        last[key] = max(last.get(key, ""), record.run)
    return [r for r in records if r.run == last[r.benchmark, r.size]]
