"""Records that nobody measured, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from benchmarks.jobs import DataSpec, Job
from benchmarks.records import COUNTED, Record


def made(
    label: str, wall_s: float, *, case: str = "peers", benchmark: str = "stacking",
    repeat: int = 0, run: str = "run1", size: str = "small", state: str = COUNTED,
    options: Any = None, data: DataSpec | None = None, **facts: Any,
) -> Record:  # fmt: skip
    """A record of a job with this label; cpu is twice the wall time unless it is given."""
    job = Job(case, label, label, data, options or {})
    defaults = {
        "cpu_s": 2 * wall_s, "n_voxels": 1_000_000, "others_cpu_s": 0.0, "peak_rss": 1 << 29,
        "machine": {"cpu": "Some CPU", "cores": 2, "memory_gib": 24.0, "system": "Linux 6"},
        "versions": {"numpy": "2.0"}, "commit": "abc", "date": "2024-01-01T00:00:00+00:00",
        "load": (0.5, 0.4, 0.3), "cache": "warm",
    }  # fmt: skip
    return Record(benchmark, size, run, job, repeat, state, wall_s=wall_s, **(defaults | facts))
