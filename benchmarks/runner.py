"""Run jobs one after the other, each in a process of its own, and write a record of each."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, page_cache
from benchmarks.exposures import kind_of, make_exposures, used_bytes
from benchmarks.jobs import Job
from benchmarks.meter import Memory, Moment, memory, tree
from benchmarks.peers import family
from benchmarks.records import COUNTED, FAILED, UNAVAILABLE, WRONG, Record, append

_ROOT = Path(__file__).resolve().parent.parent
_SAMPLE_S = 0.02
_LOG_TAIL = 600
_SCRATCH = "job-"


@dataclass(frozen=True)
class Settings:
    """Where and how often."""

    benchmark: str
    """Its name."""
    size: str
    """tiny, small or full."""
    work: Path
    """Folder of data, stores and scratch."""
    output: Path
    """Folder of the records."""
    repeats: int = 3
    """Rounds over the jobs of a case."""
    long_s: float = math.inf
    """A peer that took longer in the first round is not measured again."""
    disk_bytes: int = 60 << 30
    """Most that the data may take."""
    timeout_s: float = 3600.0
    """A job that takes longer has failed."""
    memory: Mapping[str, float] = field(default_factory=dict)
    """What :func:`benchmarks.guest_memory.touch_memory` found, for the records."""
    run: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
    """Name of this run."""


def run_cases(
    cases: Sequence[Sequence[Job]], settings: Settings, say: Callable[[str], None]
) -> list[Record]:
    """Measure cases one after the other; within a case the jobs take turns, round by round.

    A job that is wrong, fails or is not available is told once and not run again; neither is one
    that takes too long.

    Parameters
    ----------
    cases
        Jobs that are compared with one another.
    settings
        Where and how often.
    say
        Told what goes on, a line at a time.

    Returns
    -------
    list of Record
        Also written to ``settings.output``, each as soon as it is there.
    """
    settings.output.mkdir(parents=True, exist_ok=True)
    sweep(settings.work)
    path = settings.output / f"{settings.benchmark}_{settings.size}_{settings.run}.jsonl"
    ours = [job for jobs in cases for job in jobs if family(job.peer) == "musedask"]
    if ours:
        compile_beforehand(ours, settings, say)
    records: list[Record] = []
    for jobs in cases:
        done: set[str] = set()
        for repeat in range(settings.repeats):
            # The first of a round is another one each time: no job profits from its neighbour.
            turn = repeat % len(jobs)
            for job in [*jobs[turn:], *jobs[:turn]]:
                if job.label in done:
                    continue
                record = measure(job, repeat, settings)
                append(path, record)
                records.append(record)
                say(in_words(record))
                if not record.counts or job.options.get("once") or _is_far_off(record, settings):
                    done.add(job.label)
    return records


def _is_far_off(record: Record, settings: Settings) -> bool:
    """Whether a peer takes so long that another round would not change what is said of it."""
    return record.wall_s > settings.long_s and family(record.job.peer) not in ("musedask", "floor")


def sweep(work: Path) -> None:
    """Remove what runs that were killed have left; the scratch of a run that goes on stays."""
    for path in work.glob(f"{_SCRATCH}*-*"):
        pid = path.name.removeprefix(_SCRATCH).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def compile_beforehand(jobs: Sequence[Job], settings: Settings, say: Callable[[str], None]) -> None:
    """Fill the cache of compiled code, and the stores that jobs read, in a process of its own.

    A job that compiles keeps the compiler's memory, hundreds of megabytes that are not its own.
    """
    stores = _stores(settings)
    say("code      compiling what the jobs need, if that was not done before")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(
        prefix=f"{_SCRATCH}{os.getpid()}-", dir=settings.work
    ) as folder:
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.peers.compiling", os.fspath(stores), folder],
            cwd=_ROOT, check=False, input="\n".join(job.to_json() for job in jobs),
            capture_output=True, text=True,
        )  # fmt: skip
    say(f"code      {time.monotonic() - started:.0f} s")
    if run.returncode != 0:  # whichever job has the fault will tell it again
        say(f"code      not all was compiled (status {run.returncode}): {_tail(run.stderr)}")


def _stores(settings: Settings) -> Path:
    stores = settings.work / "stores"
    stores.mkdir(parents=True, exist_ok=True)
    return stores


def _tail(text: str) -> str:
    text = text.strip()
    return f"...{text[-_LOG_TAIL:]}" if len(text) > _LOG_TAIL else text


def in_words(record: Record) -> str:
    """A record as a line of text."""
    name = f"{record.job.case:14} {record.job.label:24}"
    if not record.counts:
        return f"{name} {record.state}: {record.reason}"
    late = f"  compiled or loaded meanwhile: {_few(record.late)}" if record.late else ""
    return (
        f"{name} {record.wall_s:9.3f} s wall {record.cpu_s:9.3f} s cpu "
        f"{record.peak_rss / 2**20:7.0f} MiB  {record.cache}{late}"
    )


def _few(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def measure(job: Job, repeat: int, settings: Settings) -> Record:
    """Make the data, run a job once in a process of its own, and describe what happened."""
    blank = Record(
        settings.benchmark, settings.size, settings.run, job, repeat, FAILED,
        versions=machine.versions(), machine={**machine.machine(), **settings.memory},
        commit=machine.commit(), date=datetime.now(UTC).isoformat(timespec="seconds"),
        load=os.getloadavg(),
    )  # fmt: skip
    data = settings.work / "exposures"
    data.mkdir(parents=True, exist_ok=True)
    stores = _stores(settings)
    exposures: tuple[Path, ...] = ()
    if job.data is not None:
        limit = settings.disk_bytes - used_bytes(stores)
        exposures = make_exposures(job.data, data, limit, {kind_of(job.data)})
    scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=settings.work))
    place = {
        "exposures": [os.fspath(path) for path in exposures],
        "stores": os.fspath(stores), "scratch": os.fspath(scratch),
    }  # fmt: skip
    try:
        with _started(job, place, scratch) as child:
            return _followed(child, blank, settings.timeout_s)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass
class Child:
    """The process of a job."""

    process: subprocess.Popen[bytes]
    """It."""
    read_fd: int
    """What it tells."""
    write_fd: int
    """What it is told."""
    log: Path
    """What it and its peers print."""
    started: float
    """Monotonic time."""
    rest: bytes = b""
    """Told and not looked at yet."""

    def events(self, deadline: float, watch: Callable[[], None]) -> dict[str, Any] | None:
        """The next event; ``watch`` is called in between. None if the process has ended.

        Raises
        ------
        TimeoutError
            If it takes longer.
        """
        while b"\n" not in self.rest:
            if time.monotonic() > deadline:
                raise TimeoutError
            watch()
            if not select.select([self.read_fd], [], [], _SAMPLE_S)[0]:
                continue
            told = os.read(self.read_fd, 1 << 16)
            if not told:
                return None
            self.rest += told
        first, _, self.rest = self.rest.partition(b"\n")
        event: dict[str, Any] = json.loads(first)
        return event

    def go_on(self) -> None:
        """Let it go on."""
        os.write(self.write_fd, b"go\n")

    def last_words(self) -> str:
        """The end of what it printed."""
        return _tail(self.log.read_text(errors="replace"))


@contextlib.contextmanager
def _started(job: Job, place: dict[str, Any], scratch: Path) -> Iterator[Child]:
    """Start the process of a job; at the end it and its children are gone."""
    told, tells = os.pipe()
    hears, tell = os.pipe()
    log = scratch.with_suffix(".log")
    threads = str(job.options.get("threads", 2))
    path = os.pathsep.join(filter(None, [os.fspath(_ROOT), os.environ.get("PYTHONPATH", "")]))
    with log.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", job.to_json(), json.dumps(place),
             str(hears), str(tells)],
            stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
            pass_fds=(hears, tells), start_new_session=True, cwd=scratch,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads},
        )  # fmt: skip
    os.close(hears)
    os.close(tells)
    try:
        yield Child(process, told, tell, log, time.monotonic())
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(told)
        os.close(tell)
        log.unlink(missing_ok=True)


def _followed(child: Child, blank: Record, timeout_s: float) -> Record:
    """Go through the events of a job."""
    deadline = child.started + timeout_s
    try:
        ready = child.events(deadline, lambda: None)
        if ready is None:
            return _ended(child, blank)
        if ready["event"] == "unavailable":
            return replace(blank, state=UNAVAILABLE, reason=ready["reason"])
        start_s = time.monotonic() - child.started - ready["compile_s"]
        blank = replace(blank, compile_s=ready["compile_s"], start_s=start_s)
        measured = _timed(child, blank, [Path(path) for path in ready["files"]], deadline)
        compared = child.events(deadline, lambda: None) if measured is not None else None
    except TimeoutError:
        return replace(blank, reason=f"took longer than {timeout_s:.0f} s")
    if measured is None or compared is None:
        return _ended(child, blank)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(10)
    return _judged(measured, compared)


def _ended(child: Child, blank: Record) -> Record:
    status = child.process.wait()
    return replace(blank, reason=f"ended with status {status}: {child.last_words()}")


def _timed(child: Child, blank: Record, files: list[Path], deadline: float) -> Record | None:
    """Bring the page cache into its state, let the job run and count what it takes."""
    os.sync()  # what others have written does not reach the disk at this one's cost
    cache, share = page_cache.bring(files, blank.job.cache)
    pid = child.process.pid
    peaks: list[Memory] = [memory(tree(pid))]
    load = os.getloadavg()
    before = Moment.now(pid)
    child.go_on()
    done = child.events(deadline, lambda: peaks.append(memory(tree(pid))))
    after = Moment.now(pid)
    if done is None:
        return None
    child.go_on()
    # The job counts its own time finely; of children that still run the kernel's ticks must do.
    alive = max(0.0, after.cpu_of_children - before.cpu_of_children)
    return replace(
        blank, wall_s=done["wall_s"], cpu_s=done["cpu_s"] + alive, cache=cache, cached_share=share,
        peak_rss=max(done["peak_rss"], *(m.resident for m in peaks)),
        peak_anon=max(m.private for m in peaks), load=load,
        traffic=asdict(after.traffic.since(before.traffic)),
        others_cpu_s=after.others_since(before), late=tuple(done["late"]),
    )  # fmt: skip


def _judged(measured: Record, compared: dict[str, Any]) -> Record:
    """Only what is right counts."""
    found = compared["comparison"]
    right = bool(compared["is_right"])
    reason = "" if right else (
        f"largest difference {found['largest']:.3g} times what is allowed "
        f"({found['tolerance']}), {found['n_values']} values against {found['against']}"
    )  # fmt: skip
    return replace(
        measured, state=COUNTED if right else WRONG, reason=reason, comparison=found,
        metrics=compared["metrics"], n_voxels=compared["n_voxels"],
    )  # fmt: skip
