"""Processor time, memory and bytes of a tree of processes, from /proc; and the load by others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_IO_KEYS = ("rchar", "wchar", "read_bytes", "write_bytes")


def tree(pid: int) -> list[int]:
    """A process and all its descendants that are alive."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += _children(found[-1])
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in _listed(_PROC / str(pid) / "task"):
        children += map(int, _text(task / "children").split())
    return children


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # the process has ended
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@dataclass(frozen=True)
class Memory:
    """Memory of a tree of processes at a moment."""

    resident: int
    """Bytes in memory, pages of mapped files included, summed over the processes (RSS)."""
    private: int
    """Of these, bytes that stand in no file (RssAnon)."""


def memory(pids: Iterable[int]) -> Memory:
    """Add up what the processes hold."""
    resident = private = 0
    for pid in pids:
        fields = _fields(_PROC / str(pid) / "status")
        resident += _kib(fields.get("VmRSS", ""))
        private += _kib(fields.get("RssAnon", ""))
    return Memory(resident, private)


def _fields(path: Path) -> dict[str, str]:
    return {k: v for k, _, v in (line.partition(":") for line in _text(path).splitlines())}


def _kib(text: str) -> int:
    return int(text.split()[0]) * 1024 if text.strip() else 0


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes and of their children that have ended."""
    total = 0
    for pid in pids:
        # The name stands in parentheses and may hold anything.
        fields = _text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) if fields else 0
    return total * _TICK


@dataclass(frozen=True)
class Traffic:
    """Bytes that a tree of processes has read and written."""

    asked_read: int = 0
    """By read calls; mapped pages do not show."""
    asked_written: int = 0
    """By write calls."""
    disk_read: int = 0
    """From the disk."""
    disk_written: int = 0
    """Meant for the disk."""

    def since(self, before: Traffic) -> Traffic:
        """What came to it."""
        return Traffic(
            self.asked_read - before.asked_read,
            self.asked_written - before.asked_written,
            self.disk_read - before.disk_read,
            self.disk_written - before.disk_written,
        )


def traffic(pids: Iterable[int]) -> Traffic:
    """Add up what the processes, and their children that have ended, have read and written."""
    totals = dict.fromkeys(_IO_KEYS, 0)
    for pid in pids:
        fields = _fields(_PROC / str(pid) / "io")
        for key in _IO_KEYS:
            totals[key] += int(fields.get(key, 0))
    return Traffic(*(totals[key] for key in _IO_KEYS))


def busy_seconds() -> float:
    """Processor time that the whole machine has spent since it started, waiting left out."""
    words = _text(_PROC / "stat").partition("\n")[0].split()[1:]
    ticks = [int(word) for word in words]
    # user nice system idle iowait irq softirq steal; guest time is within user's.
    return sum(ticks[i] for i in (0, 1, 2, 5, 6, 7) if i < len(ticks)) * _TICK


@dataclass(frozen=True)
class Moment:
    """All counters at once."""

    cpu: float
    """Of the tree, seconds."""
    cpu_of_children: float
    """Of its processes below the first that still run, seconds."""
    own_cpu: float
    """Of the process that measures, seconds."""
    busy: float
    """Of the whole machine, seconds."""
    traffic: Traffic
    """Of the tree."""

    @classmethod
    def now(cls, pid: int) -> Moment:
        """The counters of the tree below a process."""
        pids = tree(pid)
        times = os.times()
        own = times.user + times.system
        first, below = cpu_seconds(pids[:1]), cpu_seconds(pids[1:])
        return cls(first + below, below, own, busy_seconds(), traffic(pids))

    def others_since(self, before: Moment) -> float:
        """Processor time of all others since then: neither the tree nor whoever measures."""
        mine = (self.cpu - before.cpu) + (self.own_cpu - before.own_cpu)
        return max(0.0, self.busy - before.busy - mine)
