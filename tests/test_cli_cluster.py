"""Where commands run: the site that is named, the run's own, or refused before anything starts."""

from __future__ import annotations

import pytest
from command_line import command, expose, succeeded, tree

from musedask.cli.clustering import on_site
from musedask.config import ClusterConfig
from musedask.run import init_run, open_run


@pytest.fixture
def exposures(tmp_path):
    (tmp_path / "in").mkdir()
    return [expose(tmp_path / "in", n, x=n) for n in range(2)]


@pytest.fixture
def opened(monkeypatch):
    """Where clusters were opened, and for which stage."""
    from musedask.cluster import opening

    found = []
    for kind, opener in list(opening._OPENERS.items()):

        def noted(config: ClusterConfig, stage: str, prefix: str, opener=opener):
            found.append((config.kind, stage))
            return opener(config, stage, prefix)

        monkeypatch.setitem(opening._OPENERS, kind, noted)
    return found


def test_a_stack_on_a_site_is_the_same_as_here(exposures, opened, tmp_path):
    succeeded("stack", *exposures, "-o", tmp_path / "here.zarr")
    assert opened == []
    succeeded("stack", *exposures, "--site", "local", "-o", tmp_path / "there.zarr")
    assert opened == [("local", "stack")]
    assert tree(tmp_path / "here.zarr") == tree(tmp_path / "there.zarr")


def test_a_site_that_nobody_knows_is_an_error_that_names_its_file(exposures, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSEDASK_SITES", str(tmp_path))
    answer = command("stack", *exposures, "--site", "nowhere", "-o", tmp_path / "there.zarr")
    assert answer.status == 1
    assert f"{tmp_path / 'nowhere.toml'}" in answer.err
    assert not (tmp_path / "there.zarr").exists()


def test_a_client_can_be_a_job_of_slurm_only(exposures, tmp_path):
    run = init_run(tmp_path / "run").folder
    for words in (["reduce", run], ["stack", *exposures, "-o", tmp_path / "there.zarr"]):
        answer = command(*words, "--in-job")
        assert answer.status == 1
        assert "--in-job is for [cluster] kind = 'slurm', not 'threads'" in answer.err


def test_a_reduction_on_a_named_site_forgets_what_the_run_says(tmp_path):
    run = init_run(tmp_path / "run").folder
    text = (run / "musedask.toml").read_text()
    (run / "musedask.toml").write_text(text.replace('# kind = "threads"', 'kind = "slurm"'))
    opened = open_run(run)
    assert opened.config.cluster.kind == "slurm"
    moved = on_site(opened, "local").config.cluster
    assert (moved.kind, moved.folder) == ("local", str(run / "logs" / "slurm"))
    assert on_site(opened, None) == opened
