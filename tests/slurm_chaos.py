"""Chaos on a real SLURM: runs whose client is started again and again, while things die."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from slurm_runs import client_log, finished_jobs
from slurm_site import SlurmSite, alive, processes_of, send, wait_until

EVENTS = ("worker", "nanny", "esorex", "slurmd", "node", "scancel", "walltime", "client")
CLIENTS = 30
"""More clients than that for one round: it does not come to an end."""
ROUNDS = 20
LOOK_S = 0.2
"""Between two looks for a victim."""
TRIES = 50
LONGEST_S = 600.0

Client = Callable[[Path], "subprocess.Popen[bytes]"]
"""Starts a client of the run in a folder."""


def seeded() -> random.Random:
    """Chance, of which the seed is told; CHAOS_SEED for that of a run that failed."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    sys.stdout.write(f"CHAOS_SEED={seed}\n")
    return random.Random(seed)


@dataclass
class Chaos:
    """A run in which things die."""

    site: SlurmSite
    folder: Path
    """Of the run."""
    client: Client
    rng: random.Random
    done: list[str]
    """Events that found a victim, of the runs before it, too."""
    seen: dict[str, int] = field(default_factory=dict)
    """Key of each job that was ever finished -> when."""
    clients: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.clients += 1
        assert self.clients <= CLIENTS, self.log()
        self.process = self.client(self.folder)

    def log(self) -> str:
        return client_log(self.folder).read_text()[-6000:]

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
        found = finished_jobs(self.folder)
        for key, written in found.items():
            assert self.seen.setdefault(key, written) == written, "a finished job ran again"
        assert found.keys() == self.seen.keys(), "a finished job has gone"

    def next_event(self) -> str:
        """One of those that there were fewest of."""
        fewest = min(map(self.done.count, EVENTS))
        return self.rng.choice([event for event in EVENTS if self.done.count(event) == fewest])

    def to_the_end(self, events: int) -> None:
        """Cause events until there have been so many or all is done; then let it be done."""
        end = time.monotonic() + LONGEST_S
        event, tries = self.next_event(), 0
        self.start()
        while time.monotonic() < end:
            assert self.process is not None
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=LOOK_S if tries else self.rng.uniform(1.0, 5.0))
            if self.process.poll() == 0:
                self.check()
                return
            if self.process.poll() is None and len(self.done) < events:
                tries += 1
                if self.cause(event):
                    self.done.append(event)
                    event, tries = self.next_event(), 0
                elif tries > TRIES:  # there is nothing of its kind in this part of the run
                    event = self.rng.choice(EVENTS)
            self.check()
            if self.process.poll() not in (None, 0):
                self.start()
        raise AssertionError(f"not done in time: {self.done}\n{self.log()}")


def storm(
    site: SlurmSite, events: int, make: Callable[[int], Path], client: Client,
    check: Callable[[Path], object],
) -> None:  # fmt: skip
    """Bring runs to their ends in chaos until there were enough events, and say which.

    ``make`` makes the run of a round, ``check`` asserts that its products are right.
    """
    done: list[str] = []
    rng = seeded()
    for number in range(ROUNDS):
        chaos = Chaos(site, make(number), client, rng, done)
        try:
            chaos.to_the_end(events)
            check(chaos.folder)
        finally:
            sys.stdout.write(f"{len(done)} events in {number + 1} rounds: {', '.join(done)}\n")
        nothing_is_left(site, chaos.folder)
        if len(done) >= events:
            return
    raise AssertionError(f"only {done}")


def nothing_is_left(site: SlurmSite, folder: Path) -> None:
    """Nothing of a run's jobs is left when the queue is empty; then the nodes are well again."""
    site.empty()
    left = site.processes_of_jobs
    # SLURM calls a job ended some moments before its last process has.
    wait_until(lambda: not alive(left()), lambda: f"left: {left()}", 10.0)
    assert not list(esorex_in(folder)), "an esorex is left"


def esorex_in(folder: Path) -> list[psutil.Process]:
    """Each esorex, or what stands in for it, that works in a folder."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if one.cwd().startswith(f"{folder}/") and "esorex" in " ".join(one.cmdline()):
                found.append(one)
    return found
