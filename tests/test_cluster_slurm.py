"""What is made of SLURM's words, without a SLURM; keys on disk; which jobs go to which cluster."""

from __future__ import annotations

import math
import os
import stat

import pytest
from fake_jobs import fake_job

from musedask.cluster import certificates
from musedask.cluster.commands import call, words_of
from musedask.cluster.queue import JobState, end_of_file, fields_of, of_memory, seconds_of
from musedask.config import cluster_config
from musedask.errors import ClusterError, FileError, MissingError
from musedask.reduction.running.attempt import LOST_AT_MOST, LOST_IN_ALL, Work, do
from musedask.reduction.running.carrying import by_cluster, what_to_do
from musedask.reduction.running.notes import Notes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("90:30", 5430), ("01:02:03", 3723), ("2-01", 176400), ("1-00:30", 88200),
     ("UNLIMITED", math.inf), ("infinite", math.inf)],
)  # fmt: skip
def test_times_are_read_as_slurm_writes_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["soon", "1:2:3:4:x", "", "1-"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ClusterError, match="walltime"):
        seconds_of(text)


def test_a_job_s_state_is_told_with_what_is_known_of_it():
    assert str(JobState("7", "PENDING", "Resources")) == "SLURM job 7: PENDING (Resources)"
    ended = JobState("7", "FAILED", "None", "127:0", "n1")
    assert str(ended) == "SLURM job 7: FAILED exit code 127:0 on n1"
    assert str(JobState("7", "RUNNING", "(null)", "0:0", "(null)")) == "SLURM job 7: RUNNING"
    assert JobState("7", "PENDING", "PartitionDown").is_hopeless
    assert not JobState("7", "PENDING", "Priority").is_hopeless
    assert not JobState("7", "RUNNING", "PartitionDown").is_hopeless


def test_a_failure_is_one_of_memory_if_the_job_s_output_says_so():
    state = JobState("7", "FAILED", "JobLaunchFailure")
    for line in ("slurmstepd: error: Exceeded job memory limit", "Detected 1 oom-kill event(s)",
                 "oom_kill", "Out Of Memory"):  # fmt: skip
        assert of_memory(state, [line]).state == "OUT_OF_MEMORY"
    assert of_memory(state, ["ModuleNotFoundError: No module named 'memory'"]) == state
    timeout = JobState("7", "TIMEOUT")
    assert of_memory(timeout, ["Exceeded job memory limit"]) == timeout


def test_of_a_job_s_output_the_errors_are_told_and_else_its_end(tmp_path):
    path = tmp_path / "7.err"
    assert end_of_file(path) == ()
    path.write_text("\n".join(f"line {n}\n" for n in range(100)))
    assert list(end_of_file(path, 2)) == ["line 98", "line 99"]
    path.write_text("ModuleNotFoundError: No module named 'x'\n  noise\n\nmore noise\n")
    assert list(end_of_file(path)) == ["ModuleNotFoundError: No module named 'x'"]
    path.write_bytes(b"\xff\xfe slurm_script: /no/python: No such file or directory\n" * 2)
    assert len(end_of_file(path)) == 1


def test_values_with_equals_signs_stay_whole():
    fields = fields_of("JobId=3 Reason=None TRES=cpu=1,mem=6000M,node=1 NodeList=n[1-2]")
    assert fields == {
        "JobId": "3", "Reason": "None", "TRES": "cpu=1,mem=6000M,node=1", "NodeList": "n[1-2]",
    }  # fmt: skip


def test_slurm_s_complaints_become_one_line():
    text = "sbatch: error: invalid partition\nsbatch: error: Batch job submission failed: x\n"
    assert words_of(text) == "invalid partition; Batch job submission failed: x"


def test_a_command_that_is_missing_fails_or_is_silent_is_named(monkeypatch):
    with pytest.raises(MissingError, match=r"squeue-of-nobody is not in PATH"):
        call(["squeue-of-nobody"])
    with pytest.raises(ClusterError, match=r"cat: .*absent"):
        call(["cat", "/absent"])
    monkeypatch.setattr("musedask.cluster.commands.ANSWER_S", 0.1)
    with pytest.raises(ClusterError, match="has not answered"):
        call(["sleep", "10"])
    assert call(["cat"], given="a $(b) `c`") == "a $(b) `c`"


# --- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_keys_are_for_this_user_alone_and_go_with_the_cluster(tmp_path, umask):
    before = os.umask(umask)
    try:
        with certificates.in_folder(tmp_path / "logs") as security:
            paths = list((tmp_path / "logs").glob("*/*.pem"))
            assert len(paths) == 2
            for path in [*paths, *(path.parent for path in paths)]:
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077
            assert security.require_encryption
            given = security.get_tls_config_for_role("worker")
            assert given["key"] in map(str, paths)
    finally:
        os.umask(before)
    assert list((tmp_path / "logs").iterdir()) == []


def test_keys_that_a_killed_client_left_are_removed_and_those_of_a_live_one_are_not(tmp_path):
    left = tmp_path / "tls-left"
    left.mkdir()
    (left / "lock").touch()
    with certificates.in_folder(tmp_path):
        (alive,) = set(tmp_path.iterdir()) - {left}
        for folder in (left, alive):
            os.utime(folder, (0, 0))
        with certificates.in_folder(tmp_path):
            assert not left.exists()
            assert alive.exists()


def test_a_folder_that_cannot_be_written_to_is_named():
    with pytest.raises(FileError, match=r"\[cluster\] folder"), certificates.in_folder(
        certificates.Path("/proc/self/logs")
    ):  # fmt: skip
        pass


# --- reductions --------------------------------------------------------------------------------


def test_whole_exposures_wait_for_a_cluster_of_their_own_if_there_is_one():
    early = fake_job("bias")
    late = fake_job("cube", early, recipe="muse_scipost", stage="scipost")
    plain = cluster_config({"kind": "local"})
    own = cluster_config({"kind": "local", "scipost": {"memory": "9 GiB"}})
    assert list(by_cluster([early, late], plain)) == [("reduce", [early, late])]
    assert list(by_cluster([early, late], own)) == [("reduce", [early]), ("scipost", [late])]
    assert list(by_cluster([late], own)) == [("scipost", [late])]
    assert list(by_cluster([early], own)) == [("reduce", [early])]


def test_what_helps_depends_on_slurm_s_reason():
    assert "walltime" in what_to_do("SLURM job 7: TIMEOUT (TimeLimit)")
    assert "memory" in what_to_do("SLURM job 7: OUT_OF_MEMORY")
    assert "logs" in what_to_do("SLURM job 7: FAILED")


@pytest.mark.parametrize(
    ("lost", "excused", "runs"),
    [(LOST_AT_MOST - 1, 0, True), (LOST_AT_MOST, 0, False), (LOST_AT_MOST, 1, True),
     (LOST_IN_ALL - 1, LOST_IN_ALL - 1, True), (LOST_IN_ALL, LOST_IN_ALL, False)],
)  # fmt: skip
def test_a_job_is_given_up_for_its_own_losses_sooner_than_for_those_of_its_nodes(
    tmp_path, monkeypatch, lost, excused, runs
):
    notes, job = Notes(tmp_path), fake_job("job")
    for number in range(lost):
        monkeypatch.setenv("SLURM_JOB_ID", str(number))
        notes.begin(job.key, "session")
    for number in range(excused):
        notes.excuse(str(number))
    called = []

    def run(*_args, **_rest):
        called.append(1)
        raise OSError("stop here")

    monkeypatch.setenv("SLURM_JOB_ID", "99")
    work = Work(job=job, folders=None, notes=notes, session="session", attempts=1, run=run)
    outcome = do(work)
    assert bool(called) == runs
    if not runs:
        assert outcome.reason == f"its worker died {lost} times while it ran"
        assert outcome.lost_in == tuple(map(str, range(lost)))


def test_losses_and_their_excuses_belong_to_one_reduction(tmp_path, monkeypatch):
    notes = Notes(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert notes.begin("key", "one").lost_in == ()
    assert notes.begin("key", "one").lost_in == ("5",)
    assert notes.begin("key", "two").lost_in == ()
    notes.excuse("5")
    assert notes.excused(["5", "6"]) == 1
    notes.sweep("three")
    assert notes.excused(["5", "6"]) == 0
    assert notes.running() == ()
