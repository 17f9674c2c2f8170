"""A campaign: cases for all targets in turn, in processes that are replaced when one ends them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from select import select

from fuzz.case import Verdict
from fuzz.target import Target

CASE_S = 45.0
"""Wall time after which a case hangs; a case takes milliseconds."""
START_S = 120.0
"""Wall time in which a process has to have imported everything."""


@dataclass(frozen=True)
class Finding:
    """A case that ended as none should."""

    target: str
    """The reader."""
    number: int
    """The case."""
    kind: str
    """Of what kind it is."""
    what: str
    """In words; findings that have kind and words in common are one."""
    detail: str
    """Traceback or message."""


@dataclass
class Report:
    """What has come out so far."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    """Target -> how often a result, an error, a finding."""
    findings: dict[tuple[str, str, str], list[Finding]] = field(default_factory=dict)
    """Target, kind and words -> the cases."""

    def add(self, target: str, number: int, verdict: Verdict) -> None:
        """Count a case."""
        self.outcomes.setdefault(target, Counter())[verdict.outcome] += 1
        if verdict.outcome == "finding":
            one = Finding(target, number, verdict.kind, verdict.what, verdict.detail)
            self.findings.setdefault((target, one.kind, one.what), []).append(one)

    @property
    def n_cases(self) -> int:
        """Cases so far."""
        return sum(counter.total() for counter in self.outcomes.values())


class Child:
    """A process that tries cases."""

    def __init__(self, seed: int, seeds: Path, work: Path) -> None:
        work.mkdir()
        self.work = work
        self.case: tuple[str, int] | None = None
        self.deadline = 0.0
        self._fresh = True
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child", str(seed), str(seeds), str(work)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
            start_new_session=True,
        )  # fmt: skip

    @property
    def answers(self) -> int:
        """Descriptor on which answers come."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def give(self, target: str, number: int) -> None:
        """Give it a case; it is not waited for."""
        assert self.process.stdin is not None
        self.case = target, number
        self.deadline = time.monotonic() + CASE_S + (START_S if self._fresh else 0)
        self._fresh = False
        self.process.stdin.write(f"{number} {target}\n".encode())
        self.process.stdin.flush()

    def answer(self) -> Verdict | None:
        """Its answer; a finding if it has died; None if it needs longer."""
        if select([self.answers], [], [], 0)[0]:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if line.endswith(b"\n"):
                return Verdict(**json.loads(line))
            status = self.process.wait()
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            return Verdict("finding", "crash", f"the process ended: {name}", self._terminal())
        if time.monotonic() > self.deadline:
            self.process.send_signal(signal.SIGABRT)  # faulthandler says where it was
            self.process.wait()
            return Verdict("finding", "hang", f"no end after {CASE_S:g} s", self._terminal())
        return None

    def _terminal(self) -> str:
        try:
            text = (self.work / "terminal").read_text(errors="replace")
            return text.partition("Extension modules:")[0][-4000:]
        except OSError:
            return ""

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def in_turn(targets: Sequence[Target], first: int = 0) -> Iterator[tuple[str, int]]:
    """Cases without end: of each target as many in a row as its weight."""
    numbers = {target.name: itertools.count(first) for target in targets}
    while True:
        for target in targets:
            for _ in range(target.weight):
                yield target.name, next(numbers[target.name])


def run_campaign(
    cases: Iterable[tuple[str, int]],
    seed: int,
    *,
    seconds: float,
    processes: int = 2,
    tell: Callable[[Report], None] | None = None,
) -> Report:
    """Try cases until there are none left or the time is up.

    Parameters
    ----------
    cases
        Target and number of each.
    seed
        Of the random numbers.
    seconds
        After which no case is begun.
    processes
        How many are tried at once.
    tell
        Called every ten seconds.
    """
    report, waiting = Report(), iter(cases)
    end = time.monotonic() + seconds
    last_told = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        seeds = _seeds(folder)
        names = (folder / f"child{n}" for n in itertools.count())
        children = [Child(seed, seeds, next(names)) for _ in range(processes)]
        try:
            while True:
                for n, child in enumerate(children):
                    if child.case and (verdict := child.answer()):
                        report.add(*child.case, verdict)
                        child.case = None
                        if verdict.kind in ("crash", "hang"):
                            child.close()
                            children[n] = child = Child(seed, seeds, next(names))
                    if not child.case and time.monotonic() < end and (case := next(waiting, None)):
                        child.give(*case)
                busy = [child.answers for child in children if child.case]
                if not busy:
                    return report
                if tell and time.monotonic() - last_told > 10:
                    last_told = time.monotonic()
                    tell(report)
                select(busy, [], [], 0.5)
        finally:
            for child in children:
                child.close()


def _seeds(folder: Path) -> Path:
    """Make the seeds in a process of its own: it compiles and imports a lot."""
    seeds = folder / "seeds"
    code = "import sys, pathlib, fuzz.seeds; fuzz.seeds.make_seeds(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(seeds)], check=True,
                   cwd=Path(__file__).parent.parent)  # fmt: skip
    return seeds
