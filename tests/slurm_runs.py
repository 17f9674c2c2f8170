"""Reductions of a second a job on a real SLURM: a night, a stand-in for esorex, what it was asked.

Run as a script it is the client of such a reduction, to be killed: ``slurm_runs.py RUN``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import stub_esorex
from slurm_site import SlurmSite

from musedask.config import ClusterConfig, cluster_config
from musedask.reduction.running.reduce import reduce
from musedask.reduction.running.report import ReductionReport
from musedask.run import Run, init_run, open_run
from musedask.simulation import RawSpec, simulate_raw

LAST = "scibasic"
"""Stages whose products the stand-in can make."""


@dataclass(frozen=True)
class SlurmRun:
    """A run whose jobs go to SLURM, and the stand-in that does them."""

    folder: Path
    stub: Path

    @property
    def run(self) -> Run:
        return open_run(self.folder)

    def reduce(self, **changed: Any) -> ReductionReport:
        """Reduce it; keys of [cluster] may be changed."""
        run = self.run
        cluster = replace(run.config.cluster, **changed)
        run = replace(run, config=replace(run.config, cluster=cluster))
        return reduce(run, last=LAST)

    def behave(self, **behaviour: Any) -> None:
        """Let the stand-in do something from now on."""
        (self.stub / "behaviour.json").write_text(json.dumps(behaviour))

    def calls(self) -> list[dict[str, Any]]:
        """What the stand-in was called with."""
        return stub_esorex.calls(self.stub)

    def records(self) -> dict[str, int]:
        """Key of each finished job -> when its record was written."""
        return {
            path.parent.name: path.stat().st_mtime_ns
            for path in self.folder.glob("products/*/*/job.json")
        }

    def products(self) -> dict[str, bytes]:
        """Path of each product -> its bytes."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.glob("products/*/*/*.fits"))
        }


def slurm_config(site: SlurmSite, **more: Any) -> ClusterConfig:
    """What the test's SLURM takes."""
    options = {"walltime": "00:20:00", **more.pop("options", {})}
    table = {
        "kind": "slurm", "workers": 2, "memory": "1 GiB", "interface": "lo",
        "folder": str(site.folder / "logs"), "options": options,
    } | more  # fmt: skip
    return cluster_config(table)


CONFIG = """\
[cluster]
kind = "slurm"
workers = {workers}
memory = "1 GiB"
interface = "lo"
[cluster.options]
walltime = "{walltime}"
"""


def make_run(
    folder: Path, seconds: float, workers: int = 2, walltime: str = "00:20:00"
) -> SlurmRun:
    """A night of two exposures of two IFUs, of headers only."""
    simulate_raw(folder, RawSpec(ifus=(1, 2), headers_only=True, with_sky=False))
    init_run(folder)
    text = (folder / "musedask.toml").read_text().partition("[cluster]")[0]
    text += CONFIG.format(workers=workers, walltime=walltime)
    (folder / "musedask.toml").write_text(text)
    stub = folder.with_name(f"{folder.name}-stub")
    stub_esorex.install(stub, seconds=seconds)
    return SlurmRun(folder, stub)


if __name__ == "__main__":
    sys.exit(0 if reduce(open_run(sys.argv[1]), last=LAST).ok else 1)
