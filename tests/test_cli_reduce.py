"""The commands of a reduction as a user meets them: help, exit status, signals, kills, resume."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import get_args, get_type_hints

import psutil
import pytest
import stub_esorex
from command_line import command, process, succeeded

from musedask.cli import reducing, simulating
from musedask.config import read_config
from musedask.reduction.jobs import STAGES
from musedask.simulation.raw.spec import MODES, RawSpec
from musedask.simulation.raw.truth import read_raw_truth

N_JOBS = 8
"""Bias, flat, wavecal and lsf of two IFUs."""


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    """A run with headers alone; not to be written to."""
    folder = tmp_path_factory.mktemp("headers") / "night"
    succeeded("simulate", "raw", folder, "--headers-only", "--ifus", "1-2")
    succeeded("init", folder)
    return folder


@pytest.fixture
def night(headers, tmp_path, monkeypatch):
    """A run of one's own, and an esorex that makes empty products."""
    monkeypatch.setenv("MUSEDASK_ESOREX", str(stub_esorex.install(tmp_path / "stub")))
    folder = tmp_path / "night"
    shutil.copytree(headers, folder, symlinks=True)
    return folder


def test_choices_are_those_of_the_library():
    assert reducing.STAGES == STAGES
    assert simulating.MODES == MODES
    assert get_args(get_type_hints(RawSpec)["absent"]) == simulating.ABSENT


def test_simulated_nights_are_what_the_options_say(tmp_path):
    folder = tmp_path / "night"
    answer = succeeded(
        "simulate", "raw", folder, "--headers-only", "--count", "1", "--absent", "dead", "--night",
        "2021-03-04", "--exptime", "60", "--no-std", "--no-illum", "--no-sky", "--darks", "3",
    )  # fmt: skip
    assert "raw frames; the truth is in truth.json" in answer.out
    truth = read_raw_truth(folder)
    tags = Counter(frame.tag for frame in truth.frames)
    assert tags["DARK"] == 3
    assert tags.keys().isdisjoint({"STD", "ILLUM", "SKY"})
    (exposure,) = truth.exposures
    assert (exposure.night, exposure.exptime_s, truth.spec.absent) == ("2021-03-04", 60.0, "dead")
    assert command("simulate", "raw", tmp_path, "--night", "tonight").status == 1
    assert command("simulate", "raw", tmp_path, "--absent", "off").status == 2


# --- one command after the other ---------------------------------------------------------------


def test_the_commands_tell_a_story(night):
    out = succeeded("frames", night).out
    assert re.search(r"OBJECT +2", out)
    assert "Missing for a reduction\n  nothing" in out
    assert succeeded("frames", night / "raw").out.startswith("18 files")
    out = succeeded("plan", night, "--last", "lsf", "--sof").out
    assert "Plan of 8 jobs" in out
    assert out.count(".fits BIAS\n") == 6
    assert "OBJECT" in succeeded("plan", night, "--calplan").out
    answer = succeeded("reduce", night, "--dry-run", "--last", "lsf")
    assert f"{N_JOBS} of {N_JOBS} jobs to run" in answer.out
    assert not (night / "products").exists()
    assert "nothing was reduced yet" in command("status", night).err
    answer = succeeded("reduce", night, "--last", "lsf", "--workers", "2")
    assert f"{N_JOBS} jobs done in" in answer.out
    assert f"{N_JOBS} of {N_JOBS} jobs done" in answer.err
    assert f"{N_JOBS} of {N_JOBS} jobs are done" in succeeded("status", night).out
    answer = succeeded("reduce", night, "--last", "lsf")
    assert f"all {N_JOBS} jobs are done already" in answer.out
    assert len(stub_esorex.calls(night.parent / "stub")) == N_JOBS


def test_a_missing_calibration_is_told_with_the_key_of_the_configuration(tmp_path):
    succeeded("simulate", "raw", tmp_path, "--headers-only", "--fault", "missing:EXTINCT_TABLE")
    succeeded("init", tmp_path)
    answer = command("plan", tmp_path)
    assert answer.status == 1
    assert 'go on without: allow_missing = ["EXTINCT_TABLE"]' in answer.err


def test_a_failed_job_is_exit_status_1_with_its_reason_log_and_script(night):
    stub_esorex.install(
        night.parent / "stub", status=255, log=["12:00:00 [ ERROR ] muse_bias: [tid=000] too dark"]
    )
    answer = command("reduce", night, "--last", "flat")
    assert answer.status == 1
    assert len(re.findall(r"failed: bias .* IFU \d \(tried 2 times\): .*too dark", answer.out)) == 2
    (log, script) = (re.search(rf"{word} +(/.*)", answer.out)[1] for word in ("log", "repeat"))
    assert Path(log).is_file()
    assert Path(script).is_file()
    assert re.search(r"muse_flat +2 +- +2$", answer.out, re.MULTILINE)
    assert "failed: bias" in answer.err
    answer = command("status", night)
    assert answer.status == 0
    assert "too dark" in answer.out
    stub_esorex.install(night.parent / "stub")
    assert command("reduce", night, "--last", "flat").status == 1
    assert "4 jobs done" in succeeded("reduce", night, "--last", "flat", "--retry").out


def test_a_recipe_that_never_ends_is_ended_and_not_tried_again(night):
    stub_esorex.install(night.parent / "stub", seconds=1000)
    text = (night / "musedask.toml").read_text()
    text = text.replace("# hours_per_job = 0.0", "hours_per_job = 0.0002\nifus = [1]")
    (night / "musedask.toml").write_text(text)
    answer = command("reduce", night, "--last", "bias")
    assert answer.status == 1
    assert re.search(r"failed: bias .* IFU 1: took longer than 0\.72 s, and was ended", answer.out)
    assert len(stub_esorex.calls(night.parent / "stub")) == 1
    assert "took longer" in command("reduce", night, "--last", "bias").out
    assert len(stub_esorex.calls(night.parent / "stub")) == 1
    stub_esorex.install(night.parent / "stub")
    assert "1 job done" in succeeded("reduce", night, "--last", "bias", "--retry").out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["reduce", ".", "--last", "lunch"], "scibasic"),
        (["reduce", ".", "--first", "lunch"], "scibasic"),
        (["reduce", ".", "--workers", "0"], "--workers"),
        (["reduce", "one", "two"], "unexpected"),
        (["plan", ".", "--colour"], "--colour"),
        (["init"], "FOLDER"),
        (["import-pymusepipe", "rc.dic"], "CALIB"),
        (["simulate", "raw"], "FOLDER"),
        (["simulate", "raw", "a", "--ifus", "one"], "1-24"),
        (["simulate", "raw", "a", "--mode", "MRS"], "WFM-NOAO-N"),
        (["status", "--retry"], "--retry"),
    ],
)
def test_what_is_not_understood_is_a_usage_error(arguments, word):
    answer = command(*arguments)
    assert (answer.status, answer.out) == (2, "")
    assert word in answer.err


def test_each_command_says_in_one_line_what_is_wrong(headers, tmp_path):
    for name in ("plan", "reduce", "status"):
        answer = command(name, tmp_path / "absent")
        assert answer.status == 1
        assert re.match(r"musedask: .*absent: no such folder; 'musedask init", answer.err)
        assert answer.err.count("\n") == 1
    assert "is no run of musedask" in command("reduce", tmp_path).err
    assert "no FITS file" in command("frames", tmp_path).err
    assert "exists" in command("init", headers).err
    assert "letters" in command("simulate", "raw", tmp_path, "--target", "a b").err


def test_pymusepipe_s_files_become_a_configuration(tmp_path):
    (tmp_path / "rc.dic").write_text("musecalib /calib/\nroot /data/\n")
    (tmp_path / "calib_tables.dic").write_text("geo_table_wfm geo.fits\n")
    files = [tmp_path / "rc.dic", tmp_path / "calib_tables.dic"]
    text = succeeded("import-pymusepipe", *files).out
    succeeded("import-pymusepipe", *files, "-o", tmp_path / "musedask.toml")
    assert (tmp_path / "musedask.toml").read_text().strip() == text.strip()
    read_config(tmp_path / "musedask.toml")
    answer = command("import-pymusepipe", *files, "-o", tmp_path / "musedask.toml")
    assert answer.status == 1
    assert "exists" in answer.err


# --- signals and kills -------------------------------------------------------------------------


def begun(running):
    """Wait until a reduction has said how far it is."""
    for line in running.stderr:
        if "jobs done" in line:
            return
    raise AssertionError(running.communicate())


def children(running, word):
    """Processes below a reduction whose command line has a word."""
    found = []
    for child in psutil.Process(running.pid).children(recursive=True):
        try:
            if any(word in part for part in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def until(condition, seconds=60.0):
    """Wait for something that has to happen."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return result


@pytest.mark.parametrize(
    ("kind", "number"),
    [("threads", signal.SIGINT), ("threads", signal.SIGTERM), ("local", signal.SIGINT)],
)
def test_a_signal_stops_it_with_130_and_leaves_no_esorex(night, kind, number):
    stub = stub_esorex.install(night.parent / "stub", seconds=1000)
    with (night / "musedask.toml").open("a") as file:
        file.write(f"kind = '{kind}'\n")
    running = process("reduce", night, "--workers", "2")
    try:
        esorex = until(lambda: len(found := children(running, str(stub))) == 2 and found)
        answer = command("reduce", night)
        assert answer.status == 1
        assert f"by process {running.pid} on " in answer.err
        out = succeeded("status", night).out
        assert f"is being reduced by process {running.pid}" in out
        assert len(re.findall(r"^  bias .* for .* on ", out, re.MULTILINE)) == 2
        running.send_signal(number)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 130, err
    assert "musedask: stopped" in err
    assert "Traceback" not in err
    until(lambda: not any(one.is_running() for one in esorex), 20)
    assert "is not being reduced now" in succeeded("status", night).out


def finished(night):
    """Keys of finished jobs."""
    return {path.parent.name for path in night.glob("products/muse_*/*/job.json")}


def products(night):
    """Products by job and name, byte for byte."""
    return {
        str(path.relative_to(night)): path.read_bytes()
        for path in night.glob("products/muse_*/*/*.fits")
    }


def called(night):
    """Keys of the jobs for which esorex was called, in the order of the calls."""
    calls = stub_esorex.calls(night.parent / "stub")
    return [re.search(r"/scratch/muse_\w+-(\w{16})-", call["cwd"])[1] for call in calls]


@pytest.fixture(scope="module")
def undisturbed(headers, tmp_path_factory):
    """Products of a reduction that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSEDASK_ESOREX", str(stub_esorex.install(folder / "stub")))
        shutil.copytree(headers, folder / "night", symlinks=True)
        succeeded("reduce", folder / "night", "--last", "lsf")
    return products(folder / "night")


def victim_of(running, who, stub):
    """The process to kill, if it is there."""
    if who == "client":
        return running
    return next(iter(children(running, str(stub) if who == "esorex" else "spawn_main")), None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "kind", "short"),
    [("client", "threads", 4), ("client", "local", 1), ("esorex", "threads", 3),
     ("worker", "local", 1)],
)  # fmt: skip
def test_killed_at_random_moments_one_more_reduction_ends_with_the_same(
    night, undisturbed, campaign, who, kind, short
):
    stub = stub_esorex.install(night.parent / "stub", seconds=0.05)
    with (night / "musedask.toml").open("a") as file:
        file.write(f"kind = '{kind}'\n")
    rng = random.Random(f"{who} {kind}")
    arguments = ("reduce", night, "--last", "lsf", "--workers", "2")
    kills = 0
    for _ in range(campaign(short, 10)):
        if len(finished(night)) == N_JOBS:
            shutil.rmtree(night / "products")
        done, before = finished(night), len(called(night))
        running = process(*arguments)
        try:
            begun(running)
            time.sleep(rng.uniform(0.0, 0.6))
            victim = victim_of(running, who, stub)
            if victim is not None and running.poll() is None:
                victim.kill()
                kills += 1
            running.communicate(timeout=120)
        finally:
            running.kill()
            running.communicate()
        assert not done & set(called(night)[before:]), "a finished job ran again"
        if who != "client":
            assert running.returncode == 0
            assert products(night) == undisturbed
    assert kills
    done, before = finished(night), len(called(night))
    answer = succeeded(*arguments)
    assert re.search(r"jobs? done in|are done already", answer.out)
    assert not done & set(called(night)[before:])
    assert products(night) == undisturbed
    again = Counter(called(night)[before:])
    assert set(again.values()) <= {1}
    assert not list((night / "scratch").iterdir())
    assert not list(night.glob("products/**/*.lock"))
    assert not list((night / ".musedask" / "running").iterdir())
