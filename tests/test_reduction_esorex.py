"""The one place that calls esorex: what it hands over, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import stub_esorex

from musedask.errors import MissingError
from musedask.reduction.job import esorex
from musedask.reduction.job.esorex import (
    OPTIONS,
    StoppedError,
    call_esorex,
    environment,
    no_esorex_left,
    stop_all,
)

JOB = (*OPTIONS, "muse_bias", "frames.sof")


@pytest.fixture
def folder(tmp_path):
    """A folder with an empty SOF, in which a call can run."""
    path = tmp_path / "scratch"
    (path / "products").mkdir(parents=True)
    (path / "frames.sof").write_text("")
    return path


def until(what, seconds=20.0):
    """Wait until something is true; fail if it never is."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
    return value


def is_running(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def call_of(stub_folder):
    """The first job that the stub was called for, as soon as there is one."""
    return until(lambda: stub_esorex.calls(stub_folder))[0]


def test_the_environment_has_nothing_that_changes_esorex_or_the_recipes(tmp_path, monkeypatch):
    for name in ("ESOREX_OUTPUT_DIR", "MUSE_EXPERT_USER", "CPL_IO_MODE", "OMP_PROC_BIND",
                 "OMP_NUM_THREADS", "GOMP_SPINCOUNT"):  # fmt: skip
        monkeypatch.setenv(name, "17")
    monkeypatch.setenv("MUSETTE", "kept")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    found = environment(tmp_path, 3)
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["HOME"] == str(tmp_path)
    assert found["LC_ALL"] == "C"
    assert found["MUSETTE"] == "kept"
    assert found["PATH"] == os.environ["PATH"]
    forbidden = ("ESOREX", "MUSE_", "CPL_", "OMP_PROC", "GOMP")
    assert [name for name in found if name.startswith(forbidden)] == []


@pytest.mark.real_esorex
def test_neither_variables_nor_a_configuration_of_the_user_change_a_call(
    tmp_path, folder, monkeypatch
):
    home = tmp_path / "home"
    (home / ".esorex").mkdir(parents=True)
    (home / ".esorex" / "esorex.rc").write_text(
        "esorex.caller.recipe-dir=/nowhere\nesorex.caller.log-level=off\n"
    )
    monkeypatch.setenv("HOME", str(home))
    for name, value in {"PLUGIN_DIR": "/nowhere", "LOG_FILE": "other.log", "LOG_LEVEL": "off",
                        "PRODUCTS_SOF": "other", "CHECK_SOF_EXIST": "FALSE"}.items():  # fmt: skip
        monkeypatch.setenv(f"ESOREX_{name}", value)
    (folder / "frames.sof").write_text("/nowhere/at/all.fits BIAS\n")
    call = call_esorex(JOB, folder)
    assert call.status == 9  # the SOF is checked, so the recipe was found
    assert "Could not open the input file '/nowhere/at/all.fits'" in call.output
    assert "all.fits" in (folder / "esorex.log").read_text()


def test_a_missing_esorex_is_named_with_its_package(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("MUSEDASK_ESOREX", raising=False)
    with pytest.raises(MissingError, match=r"PATH.*apt-get install esorex cpl-plugin-muse"):
        call_esorex(JOB, folder)
    monkeypatch.setenv("MUSEDASK_ESOREX", "/opt/eso/esorex")
    with pytest.raises(MissingError, match=r"MUSEDASK_ESOREX = /opt/eso/esorex"):
        call_esorex(JOB, folder)


def test_a_call_tells_status_output_and_resources(stub, folder):
    stub(status=13, log=["hello"])
    call = call_esorex(JOB, folder, cores=2)
    assert call.status == 13
    assert not call.timed_out
    assert call.cpu_s > 0
    assert call.wall_s > 0
    assert call.folder == folder
    assert call.command[-2:] == ("muse_bias", "frames.sof")
    assert (folder / "esorex.log").read_text() == "hello\n"
    assert stub_esorex.calls(Path(call.command[0]).parent)[0]["threads"] == "2"


def test_the_peak_of_the_memory_is_the_childs_and_not_the_parents(stub, folder):
    # A parent whose peak is far above that of a small child.
    block = bytearray(300 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    stub(seconds=0.2)
    assert 1 << 20 < call_esorex(JOB, folder).peak_memory < 100 << 20


def test_a_signal_is_a_negative_status(stub, folder):
    stub(signal=int(signal.SIGSEGV))
    assert call_esorex(JOB, folder).status == -signal.SIGSEGV


def test_a_call_whose_time_is_up_is_ended_with_what_it_started(stub, folder):
    here = stub(seconds=1000, grandchild=True)
    call = call_esorex(JOB, folder, timeout_s=0.5)
    assert call.timed_out
    assert call.status == -signal.SIGKILL
    pid = call_of(here)["pid"]
    assert not is_running(pid)
    until(lambda: _members(pid) == [])


def _members(group):
    """Running processes of a group."""
    listing = subprocess.run(["ps", "-eo", "pid=,pgid="], capture_output=True, text=True)
    rows = (line.split() for line in listing.stdout.splitlines())
    return [int(pid) for pid, of in rows if int(of) == group and is_running(int(pid))]


def test_an_exception_in_the_waiting_thread_ends_esorex(stub, folder, monkeypatch):
    here = stub(seconds=1000)

    def interrupt(pid):
        if stub_esorex.calls(here):
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(esorex, "_resident_peak", interrupt)
    with pytest.raises(KeyboardInterrupt):
        call_esorex(JOB, folder)
    assert not is_running(call_of(here)["pid"])


def test_stop_all_ends_the_calls_of_all_threads_and_lets_none_start(stub, folder):
    here = stub(seconds=1000)
    ended = []

    def call():
        try:
            call_esorex(JOB, folder)
        except StoppedError as err:
            ended.append(err)

    thread = threading.Thread(target=call)
    thread.start()
    pid = call_of(here)["pid"]
    stop_all()
    assert not is_running(pid)
    thread.join(10)
    assert len(ended) == 1
    with pytest.raises(StoppedError, match="no esorex is started"):
        call_esorex(JOB, folder)
    assert len(stub_esorex.calls(here)) == 1


def test_an_exception_that_leaves_the_block_stops_all_and_the_next_block_may_call(stub, folder):
    stub()

    def interrupted():
        with no_esorex_left():
            assert call_esorex(JOB, folder).status == 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(StoppedError):
        call_esorex(JOB, folder)
    with no_esorex_left():
        assert call_esorex(JOB, folder).status == 0


PARENT = """
import sys
from pathlib import Path
from musedask.reduction.job.esorex import OPTIONS, call_esorex
call_esorex((*OPTIONS, "muse_bias", "frames.sof"), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_esorex_dies_with_its_parent(stub, folder, number):
    here = stub(seconds=1000)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stderr=subprocess.DEVNULL
    ) as parent:
        pid = call_of(here)["pid"]
        parent.send_signal(number)
        assert parent.wait(20) != 0
        until(lambda: not is_running(pid))


def test_a_descriptor_is_inherited_if_asked_for(stub, folder, tmp_path):
    stub(seconds=1.0)
    with open(tmp_path / "lock", "w") as lock:
        seen = []

        def look(pid):
            with suppress(OSError):  # it may have ended
                for n in os.listdir(f"/proc/{pid}/fd"):
                    with suppress(OSError):  # or closed this one
                        seen.extend([os.readlink(f"/proc/{pid}/fd/{n}")])
            return 0

        original = esorex._resident_peak
        esorex._resident_peak = look
        try:
            call_esorex(JOB, folder, keep_open=(lock.fileno(),))
        finally:
            esorex._resident_peak = original
    assert str(tmp_path / "lock") in seen
