"""Chaos on a real SLURM: whatever dies, the products are the same bytes, and none is made twice.

MUSEDASK_CAMPAIGN=full for forty events and more, CHAOS_SEED for those of one seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from slurm_runs import SlurmRun, client, contents, make_run, stack_of_blocks
from slurm_site import SlurmSite, alive, processes_of, send, slurm_site, wait_until

from musedask.config import ClusterConfig
from musedask.megacube import write_megacube

pytestmark = [pytest.mark.real_slurm, pytest.mark.slow]

EVENTS = ("worker", "nanny", "esorex", "slurmd", "node", "scancel", "walltime", "client")
JOB_S, BLOCK_S = 1.0, 1.0
CLIENTS = 30
"""More clients than that for one round: it does not come to an end."""
LONGEST_S = 600.0


@dataclass
class Chaos:
    """A run whose client is started again and again, while things die."""

    site: SlurmSite
    run: SlurmRun
    rng: random.Random
    seen: dict[str, int] = field(default_factory=dict)
    """Key of each job that was ever finished -> when."""
    done: list[str] = field(default_factory=list)
    """Events that found a victim."""
    clients: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.clients += 1
        assert self.clients <= CLIENTS, self.log()
        self.process = client(self.run.folder, BLOCK_S)

    def log(self) -> str:
        path = self.run.folder.with_name(f"{self.run.folder.name}-client.log")
        return path.read_text()[-6000:]

    def cause(self, event: str) -> bool:
        """Let something die; whether there was something to die."""
        jobs = self.site.squeue("%A", "--states=RUNNING")
        if event == "client":
            assert self.process is not None
            return send([psutil.Process(self.process.pid)]) == 1
        if event in ("slurmd", "node"):
            node = self.rng.choice([name for name in self.site.daemons if name.startswith("n")])
            if event == "node":
                self.site.kill_node(node)
            else:
                self.site.kill_daemon(node)
            time.sleep(self.rng.uniform(0.5, 3.0))
            self.site.start_node(node)
            return True
        if not jobs:
            return False
        job = self.rng.choice(jobs)
        if event in ("scancel", "walltime"):
            with suppress(AssertionError):  # it has ended in the meantime
                self.site.ask("scancel", job) if event == "scancel" else self.site.expire(job)
            return True
        return send(self.victims(event, job)[:1], signal.SIGKILL) == 1

    def victims(self, event: str, job: str) -> list[psutil.Process]:
        words = {"worker": "spawn_main", "nanny": "dask_worker", "esorex": "esorex"}[event]
        found = []
        for process in processes_of(job):
            with suppress(psutil.NoSuchProcess):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def check(self) -> None:
        """No job that was finished is finished again."""
        for key, written in self.run.records().items():
            assert self.seen.setdefault(key, written) == written, "a finished job ran again"

    def to_the_end(self, events: int) -> None:
        """Cause events until there have been enough or all is done; then let it be done."""
        end = time.monotonic() + LONGEST_S
        self.start()
        while time.monotonic() < end:
            assert self.process is not None
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=self.rng.uniform(1.0, 5.0))
            if self.process.poll() == 0:
                return
            if self.process.poll() is None and len(self.done) < events:
                event = self.rng.choice(EVENTS)
                if self.cause(event):
                    self.done.append(event)
            self.check()
            if self.process.poll() not in (None, 0):
                self.start()
        raise AssertionError(f"not done in time: {self.done}\n{self.log()}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_CONFIG", str(tmp_path_factory.mktemp("dask")))
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        with slurm_site() as found:
            yield found


def test_whatever_dies_the_products_are_the_same_bytes(site, tmp_path, monkeypatch, campaign):
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    sys.stdout.write(f"CHAOS_SEED={seed}\n")
    rng = random.Random(seed)
    quiet = make_run(tmp_path / "quiet", seconds=0.0)
    monkeypatch.setenv("MUSEDASK_ESOREX", str(quiet.stub / "esorex"))
    assert quiet.run.config.cluster != ClusterConfig()
    wanted = products_without_chaos(quiet)
    left, done = campaign(4, 40), []
    for number in range(20):
        run = make_run(tmp_path / f"night{number}", seconds=JOB_S)
        monkeypatch.setenv("MUSEDASK_ESOREX", str(run.stub / "esorex"))
        chaos = Chaos(site, run, rng)
        chaos.to_the_end(left)
        done += chaos.done
        left -= len(chaos.done)
        chaos.check()
        assert nameless(run.products()) == wanted[0], f"other products after {chaos.done}"
        assert contents(run.folder / "stack.zarr") == wanted[1], f"other stack after {chaos.done}"
        left_behind = processes_of(*site.squeue())
        site.ask("scancel", "--user", str(os.getuid()))
        wait_until(lambda: not site.squeue(), "jobs do not end")
        assert not alive(left_behind)
        assert not [
            p
            for p in psutil.process_iter(["cmdline"])
            if str(run.stub) in " ".join(p.info["cmdline"] or [])
        ], "an esorex is left"
        site.wait_for_nodes()
        if left <= 0:
            break
    assert left <= 0, f"only {done}"
    sys.stdout.write(f"{len(done)} events: {', '.join(sorted(done))}\n")


def nameless(products: dict[str, bytes]) -> list[tuple[str, str, bytes]]:
    """Recipe, file's name and bytes: keys are others in each run, its raw files being others."""
    parts = ((path.split("/"), content) for path, content in products.items())
    return sorted((path[0], path[-1], content) for path, content in parts)


def products_without_chaos(
    quiet: SlurmRun,
) -> tuple[list[tuple[str, str, bytes]], dict[str, bytes]]:
    """Products and stack of a run on threads, where nothing dies."""
    report = quiet.reduce(kind="threads")
    assert report.ok, str(report)
    write_megacube(stack_of_blocks(0.0), quiet.folder / "stack.zarr")
    return nameless(quiet.products()), contents(quiet.folder / "stack.zarr")
