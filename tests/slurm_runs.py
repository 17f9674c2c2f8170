"""Reductions of a second a job on a real SLURM: a night, a stand-in for esorex, what it was asked.

Run as a script it is the client of such a reduction, and of a stack after it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import stub_esorex
from fake_stack import fake_stack
from slurm_site import SlurmSite

from musedask.cluster import open_cluster
from musedask.config import ClusterConfig, cluster_config
from musedask.megacube import write_megacube
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
        return finished_jobs(self.folder)

    def products(self) -> dict[str, bytes]:
        """Path of each product -> its bytes."""
        found = contents(self.folder / "products")
        return {path: content for path, content in found.items() if path.endswith(".fits")}


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
workers = 2
memory = "{memory}"
interface = "lo"
[cluster.options]
walltime = "00:20:00"
"""


def finished_jobs(folder: Path) -> dict[str, int]:
    """Key of each finished job of a run -> when its record was written."""
    return {
        path.parent.name: path.stat().st_mtime_ns for path in folder.glob("products/*/*/job.json")
    }


def send_to_slurm(folder: Path, memory: str = "1 GiB") -> None:
    """Make a folder a run whose jobs go to SLURM."""
    init_run(folder)
    text = (folder / "musedask.toml").read_text().partition("[cluster]")[0]
    (folder / "musedask.toml").write_text(text + CONFIG.format(memory=memory))


def make_run(folder: Path, seconds: float) -> SlurmRun:
    """A night of two exposures, of headers only."""
    simulate_raw(folder, RawSpec(ifus=(1, 2), headers_only=True, with_sky=False))
    send_to_slurm(folder)
    stub = folder.with_name(f"{folder.name}-stub")
    stub_esorex.install(stub, seconds=seconds)
    return SlurmRun(folder, stub)


def contents(folder: Path) -> dict[str, bytes]:
    """Path of each file below a folder -> its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stack_of_blocks(delay: float) -> Any:
    """A stack of twelve blocks that take their time."""
    return fake_stack(delay=delay, salt="slurm")


def client(folder: Path, last: str = LAST, block_s: float | None = None) -> subprocess.Popen[bytes]:
    """Start a process that reduces a run, and stacks if blocks are to take so long."""
    here = Path(__file__)
    words = [str(folder), last, *([] if block_s is None else [str(block_s)])]
    with open(client_log(folder), "ab") as log:
        return subprocess.Popen(
            [sys.executable, str(here), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "PYTHONPATH": str(here.parent)},
        )  # fmt: skip


def client_log(folder: Path) -> Path:
    """What the clients of a run say."""
    return folder.with_name(f"{folder.name}-client.log")


def main(folder: Path, last: str, *block_s: str) -> int:
    """What the client does; as its exit status says."""
    run = open_run(folder)
    report = reduce(run, last=last)
    sys.stdout.write(f"{report}\n")
    sys.stdout.flush()
    if not report.ok:
        return 1
    for seconds in map(float, block_s):
        with open_cluster(run.config.cluster, "stack"):
            write_megacube(stack_of_blocks(seconds), folder / "stack.zarr")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
