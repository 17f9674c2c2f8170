"""Memory, processor time and bytes of a tree of processes, and the page cache, as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import machine, page_cache
from benchmarks.meter import Moment, Traffic, busy_seconds, memory, tree

HOLD = (
    "import sys; data = bytearray(b'x') * (64 << 20); print('there', flush=True); sys.stdin.read()"
)
BURN = """
import subprocess, sys, time
start = time.process_time()
while time.process_time() - start < 0.4: pass
"""
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {HOLD!r}], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print("there", flush=True)
sys.stdin.read()
child.communicate()
"""


@pytest.fixture
def started():
    """Start a program and wait until it says that it is there."""
    running = []

    def start(code):
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)  # fmt: skip
        running.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in running:
        process.communicate()


def test_memory_of_a_child_of_a_child_counts(started):
    process = started(PARENT)
    pids = tree(process.pid)
    assert pids[0] == process.pid
    assert len(pids) == 2
    held = memory(pids)
    assert held.private > 64 << 20
    assert held.resident > held.private
    assert memory(pids[:1]).private < 32 << 20


def test_a_process_that_has_ended_holds_nothing(started):
    process = started("print('there')")
    process.communicate()
    assert memory(tree(process.pid)).resident == 0


def test_processor_time_is_that_of_the_tree_and_not_of_others():
    before = Moment.now(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    after = Moment.now(os.getpid())
    assert 0.35 < after.cpu - before.cpu < 5
    assert after.cpu_of_children == before.cpu_of_children  # it has ended
    # The tree is this process itself here: it must not count as somebody else.
    spent = after.busy - before.busy - (after.cpu - before.cpu)
    assert after.others_since(before) <= max(0.0, spent) + 1e-9


def test_others_are_seen_at_work(started):
    idle = started("import sys; print('there', flush=True); sys.stdin.read()")
    before = Moment.now(idle.pid)
    subprocess.run([sys.executable, "-c", BURN], check=True)
    after = Moment.now(idle.pid)
    assert after.cpu - before.cpu < 0.1
    assert after.others_since(before) > 0.3


def test_the_machine_has_been_busy():
    assert 0 < busy_seconds() < time.time()


def test_bytes_written_by_a_tree_are_counted(started, tmp_path):
    target = tmp_path / "out"
    before = Moment.now(os.getpid())
    code = f"open({str(target)!r}, 'wb').write(bytes(3_000_000))"
    subprocess.run([sys.executable, "-c", code], check=True)
    written = Moment.now(os.getpid()).traffic.since(before.traffic)
    assert written.asked_written >= 3_000_000
    assert Traffic(5, 4, 3, 2).since(Traffic(1, 1, 1, 1)) == Traffic(4, 3, 2, 1)


class TestPageCache:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "pages"
        path.write_bytes(os.urandom(8 << 20))
        return path

    def test_it_is_warm_after_reading(self, path):
        state, share = page_cache.bring([path], "warm")
        assert state == "warm"
        assert share == 1.0

    def test_cold_is_asked_for_and_told_from_mixed(self, path, monkeypatch):
        asked = []

        def advise(fd, *arguments):
            asked.append((os.readlink(f"/proc/self/fd/{fd}"), *arguments))
            really(fd, *arguments)

        really = os.posix_fadvise
        monkeypatch.setattr(os, "posix_fadvise", advise)
        page_cache.read_in([path])
        state, share = page_cache.bring([path], "cold")
        assert asked == [(str(path), 0, 0, os.POSIX_FADV_DONTNEED)]
        # A file system may keep its pages: then it has to be said.
        assert state == ("cold" if share < 0.02 else "mixed")
        with path.open("rb") as file:
            file.read(4 << 20)
        assert page_cache.resident_share([path]) >= max(share, 0.5)

    def test_nothing_is_asked_of_any(self, path):
        state, share = page_cache.bring([path], "any")
        assert state == "any"
        assert np.isnan(share)
        assert page_cache.bring([], "warm")[0] == "any"


def test_the_machine_is_described():
    facts = machine.machine()
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert facts["memory_gib"] > 0
    assert machine.versions()["numpy"] == np.__version__
    assert re.fullmatch(r"([0-9a-f]{12}\+?)?", machine.commit())  # nothing outside a repository
