"""The examination of a site: ten broken ones, one at a time, are found and named."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import stub_esorex
from command_line import command
from slurm_runs import make_run, slurm_config
from slurm_site import slurm_site, wait_until

import musedask.cluster.fleet
from musedask.config import ClusterConfig
from musedask.doctor import needs as needs_module
from musedask.doctor.examination import examine
from musedask.doctor.finding import Finding, summary
from musedask.doctor.needs import Needs, needs_of
from musedask.reduction.recipes import RECIPES

SMALL = Needs(seconds=60.0, longest="a job", gib=0.5, largest="a job")


@pytest.fixture(autouse=True)
def esorex(tmp_path, monkeypatch):
    """A stand-in that tells its version and has all recipes; give its folder."""
    folder = tmp_path / "stub"
    path = stub_esorex.install(folder, recipes=list(RECIPES))
    monkeypatch.setenv("MUSEDASK_ESOREX", str(path))
    return folder


@pytest.fixture(autouse=True)
def _small_jobs(monkeypatch):
    monkeypatch.setattr("musedask.doctor.examination.needs_of", lambda run: SMALL)
    monkeypatch.setattr("musedask.doctor.probe.SAMPLE", 1 << 20)
    monkeypatch.setattr("musedask.doctor.places.SLOW", 0.0)


def problems(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.level != "ok"]


# --- this machine ------------------------------------------------------------------------------


def test_a_machine_that_is_well_has_no_problems(tmp_path):
    findings = list(examine(ClusterConfig(), folder=tmp_path))
    assert problems(findings) == []
    assert [one.what for one in findings] == ["esorex", "folder", "memory"]
    assert "esorex 3.13.6, MUSE pipeline 2.8.7" in findings[0].text
    assert summary(findings) == "all is well"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stub"]


def only(findings: list[Finding]) -> Finding:
    (one,) = problems(findings)
    assert one.advice
    return one


def test_no_esorex_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSEDASK_ESOREX", "/nowhere/esorex")
    one = only(list(examine(ClusterConfig(), folder=tmp_path)))
    assert (one.level, one.what) == ("error", "esorex")
    assert "/nowhere/esorex" in one.text


def test_recipes_that_are_missing_are_named(tmp_path, monkeypatch):
    path = stub_esorex.install(tmp_path / "other", recipes=["muse_bias", "muse_flat"])
    monkeypatch.setenv("MUSEDASK_ESOREX", str(path))
    one = only(list(examine(ClusterConfig(), folder=tmp_path)))
    assert (one.level, one.what) == ("error", "recipes")
    assert "muse_scipost" in one.text
    assert "muse_flat" not in one.text


def test_a_folder_that_cannot_be_written_to_is_named():
    # Not even root can write here.
    one = only(list(examine(ClusterConfig(), folder=Path("/proc/self"))))
    assert (one.level, one.what) == ("error", "folder")
    assert "/proc/self" in one.text


def test_a_slow_disk_and_a_full_one_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("musedask.doctor.places.SLOW", 1e15)
    slow = only(list(examine(ClusterConfig(), folder=tmp_path)))
    assert (slow.level, slow.what) == ("warning", "folder")
    assert "MB/s" in slow.text
    monkeypatch.setattr("musedask.doctor.places.SLOW", 0.0)
    large = Needs(seconds=60.0, longest="a job", gib=0.5, largest="a job", disk=1e18)
    monkeypatch.setattr("musedask.doctor.examination.needs_of", lambda run: large)
    full = only(list(examine(ClusterConfig(), folder=tmp_path)))
    assert (full.level, full.what) == ("error", "disk")


def test_too_little_memory_is_told_with_what_to_write(tmp_path):
    one = only(list(examine(ClusterConfig(memory="100 MiB"), folder=tmp_path)))
    assert (one.level, one.what) == ("warning", "memory")


def test_a_worker_of_this_machine_works_in_the_folder(tmp_path):
    findings = list(examine(ClusterConfig(kind="local"), folder=tmp_path))
    assert problems(findings) == []
    assert {"worker", "shared", "dashboard"} <= {one.what for one in findings}


def test_nobody_at_an_address_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("musedask.cluster.connecting.CONNECT_S", 0.5)
    config = ClusterConfig(kind="address", address="tcp://127.0.0.1:1")
    one = only(list(examine(config, folder=tmp_path)))
    assert one.what == "worker"
    assert "tcp://127.0.0.1:1" in one.text


def test_the_command_ends_with_1_if_something_has_to_be_mended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = command("doctor")
    assert (answer.status, answer.out.splitlines()[-1]) == (0, "all is well")
    monkeypatch.setenv("MUSEDASK_ESOREX", "/nowhere/esorex")
    answer = command("doctor")
    assert answer.status == 1
    assert "\n                   do: " in answer.out
    assert answer.out.splitlines()[-1].startswith("1 error: ")


def test_what_a_run_needs_comes_from_its_plan(tmp_path):
    run = make_run(tmp_path / "night", 0.0).run
    found = needs_module.needs_of(run)
    usual = needs_of(None)
    assert found.unplanned == ""
    assert 0 < found.seconds < usual.seconds
    assert 0 < found.gib < usual.gib
    assert found.disk > 0
    shutil.rmtree(run.folder / "raw")
    (run.folder / "raw").mkdir()
    assert needs_of(run).unplanned


# --- SLURM -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_CONFIG", str(tmp_path_factory.mktemp("dask")))
        with slurm_site() as found:
            yield found


@pytest.fixture
def examined(site, tmp_path, monkeypatch):
    """Examine the test's SLURM with changes; give what is not well."""
    monkeypatch.setattr(musedask.cluster.fleet, "LATER_S", 2.0)

    def examined(folder=tmp_path, wait_s=200.0, **changed):
        return problems(list(examine(slurm_config(site, **changed), folder=folder, wait_s=wait_s)))

    yield examined
    site.ask("scancel", "--user", str(os.getuid()))
    wait_until(lambda: not site.squeue(), "jobs do not end")


@pytest.mark.real_slurm
def test_a_slurm_that_is_well_has_no_problems_and_keeps_nothing(examined, site, tmp_path):
    assert examined() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stub"]


@pytest.mark.real_slurm
@pytest.mark.parametrize(
    ("changed", "what", "says"),
    [
        ({"options": {"queue": "nowhere"}}, "partition", "nowhere: SLURM has none.*"),
        ({"options": {"queue": "shut"}}, "partition", "shut is DOWN"),
        ({"options": {"queue": "short"}}, "partition", "short gives 5 min, walltime is 20 min"),
        ({"options": {"walltime": "00:00:30"}}, "walltime", "begun again and again"),
        ({"memory": "300 MiB"}, "memory", "0.3 GiB"),
        ({"memory": "99 GiB"}, "sbatch", "not available|Memory"),
        ({"interface": "ib7"}, "sbatch", "ib7"),
        ({"tls": False}, "tls", "in your name"),
        ({"options": {"python": "/nowhere/python"}}, "worker", "/nowhere/python"),
        ({"options": {"job_script_prologue": ["export MUSEDASK_ESOREX=/nowhere/esorex"]}},
         "esorex", "/nowhere/esorex"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)  # fmt: skip
def test_what_is_wrong_with_a_slurm_is_found_and_named(examined, changed, what, says, monkeypatch):
    import re

    found = examined(**changed)
    assert found[0].what == what
    assert re.search(says, found[0].text), found
    assert all(one.advice for one in found)


@pytest.mark.real_slurm
def test_a_folder_that_nodes_do_not_share_is_named(examined, tmp_path):
    """The worker lives in a name space of its own, where the folder is another one."""
    folder = tmp_path / "mine"
    folder.mkdir()
    python = tmp_path / "python"
    flags = "-m" if os.getuid() == 0 else "-rm"
    python.write_text(
        f'#!/bin/sh\nexec unshare {flags} sh -c \'mount -t tmpfs none "{folder}" && '
        f'exec {sys.executable} "$@"\' sh "$@"\n'
    )
    python.chmod(0o755)
    (one,) = examined(folder=folder, options={"python": str(python)})
    assert (one.level, one.what) == ("error", "shared")
    assert str(folder) in one.text


@pytest.mark.real_slurm
def test_another_pipeline_on_the_nodes_is_named(examined, tmp_path):
    other = stub_esorex.install(tmp_path / "other", recipes=list(RECIPES), muse="2.10.14")
    found = examined(options={"job_script_prologue": [f"export MUSEDASK_ESOREX={other}"]})
    (one,) = found
    assert (one.level, one.what) == ("error", "versions")
    assert "2.10.14" in one.text
    assert "2.8.7" in one.text


@pytest.mark.real_slurm
def test_a_queue_that_is_full_is_told_after_a_while(examined, site):
    site.ask("sbatch", "--exclusive", "-N2", "--output=/dev/null", "--wrap", "sleep 300")
    wait_until(lambda: "RUNNING" in site.squeue("%T"))
    (one,) = examined(wait_s=3.0)
    assert (one.level, one.what) == ("warning", "worker")
    assert "none has come in 3 s" in one.text


@pytest.mark.real_slurm
def test_a_controller_that_is_dead_is_named(examined, site):
    site.kill_daemon("slurmctld")
    try:
        (one,) = examined()
    finally:
        site.start_controller()
        site.wait_for_nodes()
    assert (one.level, one.what) == ("error", "slurm")
    assert "Unable to contact slurm controller" in one.text


@pytest.mark.real_slurm
def test_what_is_wrong_with_a_later_stage_is_found_before_the_first_one_has_run(examined):
    (one,) = examined(scipost={"memory": "8 GiB"}, stack={"memory": "5 GiB"})
    assert (one.level, one.what) == ("error", "sbatch")
    assert one.text.startswith("[cluster.scipost] SLURM refuses such jobs")
