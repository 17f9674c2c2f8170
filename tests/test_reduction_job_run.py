"""A job from inputs to finished folder: once, whole, resumed, and never two at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import stub_esorex
from astropy.io import fits
from esorex_jobs import DATES, align, combine, given, grid, images, offsets, pixel_tables

from musedask.errors import FileError, InputError, MissingError
from musedask.reduction.job import folder as job_folder
from musedask.reduction.job import run as job_run
from musedask.reduction.job.esorex import StoppedError, stop_all
from musedask.reduction.job.failure import JobError
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.job.lock import held
from musedask.reduction.job.record import read_record
from musedask.reduction.job.run import run_job
from musedask.reduction.jobs import Job, ProductInput


@pytest.fixture
def folders(tmp_path):
    return RunFolders(tmp_path / "products", tmp_path / "scratch")


@pytest.fixture
def job(tmp_path):
    """A job of muse_flat on one small file, which only the stub takes."""
    path = tmp_path / "flat.fits"
    fits.PrimaryHDU().writeto(path)
    return Job(
        recipe="muse_flat", stage="flat", inputs=(given("TRACE_TABLE", path),),
        parameters=(("nifu", "7"), ("samples", "FALSE")), ifu=7, ifus=(7,),
        products=("MASTER_FLAT", "TRACE_TABLE"), title="flat 2021-03-04 IFU 7",
    )  # fmt: skip


def run_beside(job, folders):
    """Run a job in a thread; give it, and the list that gets what stops it."""
    caught = []

    def run():
        try:
            run_job(job, folders)
        except StoppedError as err:
            caught.append(err)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, caught


def names(folder):
    """What is in a folder; nothing if it is not there."""
    return sorted(path.name for path in Path(folder).iterdir()) if Path(folder).exists() else []


# --- a job that goes well ----------------------------------------------------------------------


def test_a_finished_job_has_its_products_its_papers_and_nothing_else(stub, folders, job):
    stub(log=["11:00:00 [WARNING] muse_x: [tid=000] The lamp flickers"])
    record = run_job(job, folders, cores=2, attempt=3)
    assert record.folder == folders.products / "muse_flat" / job.key
    assert names(record.folder) == [
        "MASTER_FLAT-07.fits", "TRACE_TABLE-07.fits", "esorex.log", "frames.sof", "job.json",
        "repeat.sh",
    ]  # fmt: skip
    assert names(record.folder.parent) == [job.key]
    assert names(folders.scratch) == []
    assert [(p.tag, p.ifu) for p in record.products] == [("MASTER_FLAT", 7), ("TRACE_TABLE", 7)]
    assert record.products_of("TRACE_TABLE", 7) == (record.folder / "TRACE_TABLE-07.fits",)
    assert (record.key, record.recipe, record.title) == (job.key, "muse_flat", job.title)
    assert (record.parameters, record.cores, record.attempt) == (job.parameters, 2, 3)
    assert (record.pipeline, record.esorex, record.cpl) == ("2.8.7", "3.13.6", "7.2.3")
    assert record.warnings == ("The lamp flickers",)
    assert record.inputs[0].path == job.inputs[0].path
    assert record.inputs[0].identity == job.inputs[0].identity
    assert record.started <= record.ended
    assert read_record(record.folder) == record


def test_a_finished_job_is_not_run_again(stub, folders, job, monkeypatch):
    here = stub()
    record = run_job(job, folders)
    assert run_job(job, folders, attempt=2) == record
    assert len(stub_esorex.calls(here)) == 1
    # Nothing is waited for, and not even esorex is needed.
    with held(folders.lock(job), 0):
        assert run_job(job, folders, wait_s=0) == record
    monkeypatch.setenv("MUSEDASK_ESOREX", "/nowhere")
    assert run_job(job, folders) == record


def test_esorex_gets_its_options_its_parameters_and_a_folder_of_its_own(stub, folders, job):
    here = stub()
    run_job(job, folders, cores=3)
    (call,) = stub_esorex.calls(here)
    assert call["recipe"] == "muse_flat"
    assert call["threads"] == "3"
    assert call["options"]["--nifu"] == "7"
    assert call["options"]["--samples"] == "FALSE"
    assert call["options"]["--suppress-prefix"] == "TRUE"
    folder = Path(call["cwd"])
    assert folder.parent == folders.scratch
    assert re.fullmatch(rf"muse_flat-{job.key}-1-[0-9a-f]{{8}}", folder.name)


@pytest.mark.parametrize("fault", ["gone", "cut off", "no record"])
def test_a_job_whose_products_are_no_longer_whole_is_run_again(stub, folders, job, fault):
    here = stub()
    record = run_job(job, folders)
    if fault == "no record":
        (record.folder / "job.json").write_text("{")
    elif fault == "gone":
        (record.folder / "TRACE_TABLE-07.fits").unlink()
    else:
        os.truncate(record.folder / "TRACE_TABLE-07.fits", 100)
    again = run_job(job, folders)
    assert len(stub_esorex.calls(here)) == 2
    assert again.products == record.products
    assert read_record(record.folder) == again
    assert names(record.folder.parent) == [job.key]


def test_products_of_other_jobs_are_taken_from_their_folders(stub, folders, job):
    here = stub()
    first = run_job(job, folders)
    wave = Job(
        recipe="muse_wavecal", stage="wavecal", parameters=(("nifu", "7"),), ifu=7,
        inputs=(ProductInput("TRACE_TABLE", job.key),), products=("WAVECAL_TABLE",),
    )  # fmt: skip
    record = run_job(wave, folders)
    assert record.inputs[0].path == str(first.products_of("TRACE_TABLE")[0])
    assert record.inputs[0].job == job.key
    assert [call["recipe"] for call in stub_esorex.calls(here)] == ["muse_flat", "muse_wavecal"]
    first.products_of("TRACE_TABLE")[0].unlink()
    assert run_job(wave, folders) == record
    with pytest.raises(MissingError, match=f"products of job {job.key}"):
        run_job(replace(wave, version="2.8.7"), folders)


# --- with the real esorex ----------------------------------------------------------------------


@pytest.mark.real_esorex
def test_a_run_in_a_folder_with_blanks_can_be_repeated_by_hand_elsewhere(tmp_path):
    base = tmp_path / "my run's folder"
    folders = RunFolders(base / "products", base / "scratch")
    tables = pixel_tables(base / "the raw data")
    job = combine(tables, offsets((DATES[0], 1e-4, 0, "nan"), (DATES[1], 0, 0, 2)), grid())
    record = run_job(job, folders)
    # The run is moved, and the user has esorex set up in another way.
    moved = tmp_path / "moved"
    (base / "products").rename(moved)
    script = moved / job.folder / "repeat.sh"
    by_hand = tmp_path / "by hand"
    by_hand.mkdir()
    home = tmp_path / "home"
    (home / ".esorex").mkdir(parents=True)
    (home / ".esorex" / "esorex.rc").write_text("esorex.caller.recipe-dir=/nowhere\n")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "ESOREX_PLUGIN_DIR": "/nowhere"}
    run = subprocess.run(
        ["sh", str(script)], cwd=by_hand, env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    made = {p.name: fits.getheader(p)["DATAMD5"] for p in (by_hand / "products").iterdir()}
    assert made == {product.file: product.datamd5 for product in record.products}
    again = subprocess.run(["sh", str(script)], cwd=by_hand, capture_output=True, text=True)
    assert again.returncode == 2
    assert "not empty" in again.stderr


@pytest.mark.real_esorex
def test_a_failure_is_told_in_the_pipelines_words_and_its_folder_is_kept(folders, tmp_path):
    job = align(images(tmp_path, ((0, 0), (1000, 1000))))
    with pytest.raises(JobError, match="Source detection failed on image 2 of 2") as caught:
        run_job(job, folders)
    error = caught.value
    assert error.status == 255
    assert "muse_exp_align (alignment) failed: esorex ended with status 255" in str(error)
    for part in (error.reason, error.log, error.repeat, *error.log_end, "--output-dir=products"):
        assert part in str(error)
    assert error.log not in error.reason
    assert "point-sources" in Path(error.log).read_text()
    assert any("status = -1" in line for line in error.log_end)
    assert Path(error.scratch) == Path(error.log).parent
    assert names(folders.scratch) == [Path(error.scratch).name]
    assert names(folders.products / "muse_exp_align") == []
    # The script repeats the failure, too.
    (tmp_path / "hand").mkdir()
    run = subprocess.run(["sh", error.repeat], cwd=tmp_path / "hand", capture_output=True)
    assert run.returncode == 255
    # It travels between processes whole.
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
    # The next attempt sweeps what this one has left.
    with pytest.raises(JobError) as second:
        run_job(job, folders, attempt=2)
    assert names(folders.scratch) == [Path(second.value.scratch).name]
    assert f"{job.key}-2-" in second.value.scratch


@pytest.mark.real_esorex
def test_an_unknown_recipe_is_an_error_that_names_it(folders, tmp_path):
    job = replace(align(images(tmp_path)), recipe="muse_exp_aling")
    with pytest.raises(JobError, match=r"status 13: Unable to find recipe 'muse_exp_aling'"):
        run_job(job, folders)


@pytest.mark.real_esorex
def test_another_version_than_the_planned_one_is_an_error(folders, tmp_path):
    job = replace(align(images(tmp_path)), version="1.0.0")
    with pytest.raises(InputError, match=r"planned for version 1\.0\.0 of the MUSE pipeline"):
        run_job(job, folders)


# --- a job that does not go well ---------------------------------------------------------------

ENDS = {
    "a crash": ({"signal": int(signal.SIGSEGV)}, "ended by SIGSEGV .the recipe crashed", -11),
    "too little memory": ({"signal": int(signal.SIGKILL)}, "SIGKILL .*more memory than", -9),
    "the batch system": ({"signal": int(signal.SIGTERM)}, "ended by SIGTERM", -15),
    "a status": ({"status": 3}, "esorex ended with status 3", 3),
    "words": (
        {"status": 255, "log": ["11:00:00 [ ERROR ] muse_x: [tid=000] No raw images loaded"]},
        "esorex ended with status 255: No raw images loaded", 255,
    ),
    "a full disk": (
        {"status": 66, "log": ["11:00:00 [ ERROR ] : Unable to move product file"]},
        "the disk of .* is full .*Unable to move product file", None,
    ),
    "a wrong product": (
        {"products": {"x.fits": "MASTER_DARK"}}, "has made no MASTER_FLAT, only MASTER_DARK", 0,
    ),
    "no product": ({"products": {}}, "the recipe has made nothing", 0),
    "no list of products": ({"unlisted": True}, "has not said what it made", 0),
}  # fmt: skip
"""How esorex ends -> how the stub does that, what is said, and the status that is told."""


@pytest.mark.parametrize("case", ENDS)
def test_each_bad_end_is_told_and_leaves_no_products(case, stub, folders, job):
    behaviour, says, status = ENDS[case]
    stub(**behaviour)
    with pytest.raises(JobError, match=says) as caught:
        run_job(job, folders)
    assert caught.value.status == status
    assert names(folders.final(job).parent) == []
    assert Path(caught.value.scratch, "repeat.sh").is_file()
    stub()
    assert run_job(job, folders, attempt=2).attempt == 2
    assert names(folders.scratch) == []


def test_a_job_that_takes_too_long_is_ended(stub, folders, job):
    stub(seconds=1000)
    with pytest.raises(
        JobError, match=r"took longer than 0\.3 s.*give it with hours_per_job"
    ) as end:
        run_job(job, folders, timeout_s=0.3)
    assert end.value.timed_out
    assert not names(folders.final(job).parent)


def test_a_product_that_is_cut_off_fails_the_job(stub, folders, job, monkeypatch):
    stub()
    original = job_run.find_products

    def cut(folder):
        path = folder / "MASTER_FLAT-07.fits"
        os.truncate(path, 1000)
        return original(folder)

    monkeypatch.setattr(job_run, "find_products", cut)
    with pytest.raises(JobError, match=r"MASTER_FLAT-07\.fits: is cut off"):
        run_job(job, folders)


def test_a_changed_raw_file_fails_before_esorex_starts(stub, folders, job):
    here = stub()
    os.utime(job.inputs[0].path, ns=(1, 1))
    with pytest.raises(FileError, match="has changed since the plan"):
        run_job(job, folders)
    assert stub_esorex.calls(here) == []
    assert names(folders.scratch) == []
    assert names(folders.final(job).parent) == []


def test_a_full_disk_while_the_products_move_is_told_and_leaves_none(
    stub, folders, job, monkeypatch
):
    stub()

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(job_folder.os, "rename", full)
        with pytest.raises(FileError, match="the disk is full"):
            run_job(job, folders)
    assert names(folders.final(job).parent) == []
    assert run_job(job, folders).products


def test_a_scratch_folder_on_another_disk_is_copied_and_then_renamed(
    stub, folders, job, monkeypatch
):
    stub()
    original, renamed = os.rename, []

    def rename(source, target):
        if Path(source).is_relative_to(folders.scratch):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        renamed.append((Path(source).name, Path(target).name, names(source)))
        original(source, target)

    monkeypatch.setattr(job_folder.os, "rename", rename)
    record = run_job(job, folders)
    ((source, target, content),) = renamed
    assert source.startswith(f".{job.key}-")
    assert target == job.key
    assert content == names(record.folder)
    assert "job.json" in content
    assert names(record.folder.parent) == [job.key]
    assert names(folders.scratch) == []


def test_a_folder_that_may_not_be_renamed_is_an_error(stub, folders, job, monkeypatch):
    stub()
    original = os.rename

    def rename(source, target):
        if Path(source).is_relative_to(folders.scratch):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        original(source, target)

    monkeypatch.setattr(job_folder.os, "rename", rename)
    with pytest.raises(FileError, match=rf"{job.key}: cannot be written: Permission denied"):
        run_job(job, folders)
    assert names(folders.final(job).parent) == []


def test_the_end_of_the_run_leaves_nothing(stub, folders, job):
    here = stub(seconds=1000)
    thread, caught = run_beside(job, folders)
    until(lambda: stub_esorex.calls(here))
    stop_all()
    thread.join(10)
    assert len(caught) == 1
    assert names(folders.scratch) == []
    assert names(folders.final(job).parent) == []


# --- two at once, and sudden deaths ------------------------------------------------------------


def until(what, seconds=30.0):
    """Wait until something is true; fail if it never is."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
    return value


RUN = """
import os, pickle, signal, sys
from pathlib import Path
from musedask.reduction.job import esorex
from musedask.reduction.job import folder as job_folder
from musedask.reduction.job import lock as job_lock
from musedask.reduction.job import run as job_run
job, folders = pickle.loads(Path(sys.argv[1]).read_bytes())
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
def die_after(function):
    def call(*args, **kwargs):
        function(*args, **kwargs)
        die()
    return call
exec(sys.argv[2])
print(job_run.run_job(job, folders).key)
"""


@pytest.fixture
def start(folders, job, tmp_path):
    """Start a process that runs the job after some lines of Python."""
    path = tmp_path / "job.pickle"
    path.write_bytes(pickle.dumps((job, folders)))
    started = []

    def call(lines=""):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(path), lines],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def test_two_processes_that_run_one_job_call_esorex_once(stub, start, folders, job):
    here = stub(seconds=0.5)
    pair = start(), start()
    for process in pair:
        out, err = process.communicate(timeout=60)
        assert out.strip() == job.key, err
    assert len(stub_esorex.calls(here)) == 1
    assert names(folders.final(job).parent) == [job.key]


def test_threads_of_one_process_take_turns(stub, folders, job):
    here = stub(seconds=0.2)
    records = []
    threads = [
        threading.Thread(target=lambda: records.append(run_job(job, folders))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(records) == 4
    assert len(set(map(str, records))) == 1
    assert len(stub_esorex.calls(here)) == 1


def test_who_waits_too_long_is_told_who_holds_the_job(stub, folders, job):
    stub()
    with (
        held(folders.lock(job), 0),
        pytest.raises(FileError, match=rf"another process \(process {os.getpid()} on "),
    ):
        run_job(job, folders, wait_s=0.1)
    assert run_job(job, folders).key == job.key


def test_an_esorex_that_outlives_its_parent_keeps_the_job(stub, start, folders, job):
    here = stub(seconds=1000)
    parent = start("esorex._tie_to_parent = lambda: ()")
    pid = until(lambda: stub_esorex.calls(here))[0]["pid"]
    parent.kill()
    parent.wait()
    try:
        with pytest.raises(FileError, match="has been running this job"):
            run_job(job, folders, wait_s=0.3, timeout_s=5.0)
        assert Path(stub_esorex.calls(here)[0]["cwd"]).is_dir()
    finally:
        os.kill(pid, signal.SIGKILL)
    stub()
    assert run_job(job, folders, attempt=2).attempt == 2
    assert names(folders.scratch) == []


MOMENTS = {
    "with the lock": "job_run.installation = die",
    "in a fresh folder": "job_run.prepare_sof = die",
    "before esorex": "job_run.call_esorex = die",
    "after esorex": "job_run.call_esorex = die_after(job_run.call_esorex)",
    "before the record": "job_run.write_last = die",
    "after the record": "job_run.write_last = die_after(job_run.write_last)",
    "before the rename": "job_folder.os.rename = die",
    "after the rename": "job_folder.os.rename = die_after(os.rename)",
    "before the sweep": "job_run._tidy = die",
}
"""When the process is killed -> lines that do it."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_sigkill_at_any_moment_leaves_a_whole_job_or_none(moment, stub, start, folders, job):
    here = stub()
    process = start(MOMENTS[moment])
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    before = read_record(folders.final(job))
    assert (before is not None) == (moment in ("after the rename", "before the sweep"))
    assert folders.final(job).exists() == (before is not None)
    record = run_job(job, folders)
    assert record.products_of("MASTER_FLAT")[0].is_file()
    assert before in (None, record)
    called = {"with the lock": 1, "in a fresh folder": 1, "before esorex": 1,
              "after the rename": 1, "before the sweep": 1}  # fmt: skip
    assert len(stub_esorex.calls(here)) == called.get(moment, 2)


def test_whoever_waits_for_a_job_gives_up_when_the_run_ends(stub, folders, job):
    stub()
    with held(folders.lock(job), 0):
        thread, caught = run_beside(job, folders)
        time.sleep(0.05)
        assert caught == []
        stop_all()
        thread.join(10)
        assert len(caught) == 1


def test_leftovers_of_a_dead_attempt_are_swept_by_the_next_and_those_of_others_stay(
    stub, folders, job
):
    stub()
    left = folders.scratch / f"muse_flat-{job.key}-1-0badcafe"
    other = folders.scratch / f"muse_flat-{'0' * 16}-1-0badcafe"
    incoming = folders.final(job).with_name(f".{job.key}-0badcafe")
    for folder in (left, other, incoming):
        folder.mkdir(parents=True)
        (folder / "half.fits").write_text("half")
    run_job(job, folders)
    assert names(folders.scratch) == [other.name]
    assert names(folders.final(job).parent) == [job.key]


def test_the_lock_says_who_holds_it_and_is_gone_afterwards(tmp_path):
    path = tmp_path / "a" / "b.lock"
    with held(path, 0) as descriptor:
        content = json.loads(path.read_text())
        assert content["pid"] == os.getpid()
        assert os.path.samestat(os.fstat(descriptor), path.stat())
        assert not os.get_inheritable(descriptor)
    assert not path.exists()


def test_a_lock_that_a_dead_process_left_does_not_block(tmp_path):
    path = tmp_path / "b.lock"
    path.write_text('{"host": "elsewhere", "pid": 1, "since": "1970"}' + "x" * 200)
    with held(path, 0):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_lock_whose_file_is_removed_while_it_is_taken_is_taken_anew(tmp_path, monkeypatch):
    path = tmp_path / "b.lock"
    original, removed = fcntl.flock, []

    def late(descriptor, how):
        # The holder before ends between the opening of its file and the lock on it.
        if not removed:
            path.unlink()
            removed.append(path)
        original(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with held(path, 0) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), path.stat())
        with pytest.raises(FileError), held(path, 0):
            pass
    assert removed


def test_without_locks_of_the_file_system_the_user_is_warned(tmp_path, monkeypatch, caplog):
    def none(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with held(tmp_path / "b.lock", 0):
        pass
    assert "no lock possible" in caplog.text
