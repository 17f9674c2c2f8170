"""Memory is touched before anything is timed: as much as there is room for, and given back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.guest_memory import free_bytes, touch_memory

GIB, MIB = 1 << 30, 1 << 20
ROOT = Path(__file__).parent.parent
HOLDS = """
from pathlib import Path
from benchmarks.guest_memory import touched
def peak_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
before = peak_kib()
seconds = touched({size})
print(peak_kib() - before, seconds)
"""


@pytest.fixture
def meminfo(tmp_path):
    def write(kib: int) -> Path:
        path = tmp_path / "meminfo"
        path.write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {kib} kB\nSwapFree: 0 kB\n")
        return path

    return write


class TestHowMuch:
    def test_it_is_three_fifths_of_what_is_free(self, meminfo):
        assert free_bytes(meminfo(10 * MIB), 100 * GIB) == 6 * GIB

    def test_it_is_not_more_than_a_group_of_processes_may_have(self, meminfo):
        assert free_bytes(meminfo(10 * MIB), 5 * GIB) == 3 * GIB

    def test_it_has_a_limit(self, meminfo):
        assert free_bytes(meminfo(1000 * MIB), 1000 * GIB) == 16 * GIB

    @given(kib=st.integers(0, 40 * MIB), whole=st.integers(0, 40 * GIB))
    def test_it_is_in_huge_pages_and_leaves_others_their_share(self, kib, whole, tmp_path_factory):
        path = tmp_path_factory.mktemp("proc") / "meminfo"
        path.write_text(f"MemAvailable: {kib} kB\n")
        found = free_bytes(path, whole)
        assert found % (2 * MIB) == 0
        assert 0 <= found <= 0.6 * min(1024 * kib, whole)

    def test_it_is_nothing_where_it_cannot_be_told(self, tmp_path):
        assert free_bytes(tmp_path / "missing", GIB) == 0
        (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\n")
        assert free_bytes(tmp_path / "meminfo", GIB) == 0

    def test_this_machine_says_how_much_it_has(self):
        assert 0 < free_bytes() <= 0.6 * psutil.virtual_memory().total


@pytest.mark.parametrize("size", [96 * MIB, 96 * MIB + 12345])
def test_every_page_is_used(size):
    code = HOLDS.format(size=size)
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    kib, seconds = run.stdout.split()
    assert int(kib) > 90 * 1024
    assert float(seconds) > 0


def test_what_it_took_is_told_and_kept():
    said: list[str] = []
    found = touch_memory(said.append, 4 * MIB)
    assert found["touched_gib"] == pytest.approx(4 / 1024, abs=1e-3)
    assert found["touch_s_per_gib"] > 0
    assert "touching 0.0 GiB" in said[0]
    assert said[1] == f"memory    {found['touch_s_per_gib']:.2f} s for a GiB"


def test_memory_that_cannot_be_had_is_said_and_stops_nothing():
    said: list[str] = []
    assert touch_memory(said.append, 1 << 60) == {}
    assert "not touched (status 1)" in said[1]


def test_without_an_account_of_the_memory_nothing_is_touched():
    said: list[str] = []
    assert touch_memory(said.append, 0) == {}
    assert len(said) == 1
    assert "cannot be told" in said[0]
