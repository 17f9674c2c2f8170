"""The folder of a run: what init writes, what open refuses, links, and one reduction at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musedask.config import ClusterConfig, Config, ReductionConfig, config_of
from musedask.errors import FileError, InputError, MissingError
from musedask.run import (
    Run,
    held,
    holder_of,
    init_run,
    name_for_people,
    open_run,
    refresh_links,
    write_new,
)
from musedask.run_template import TEMPLATE


def test_a_new_run_has_the_defaults(tmp_path):
    run = init_run(tmp_path / "new" / "run")
    logs = str(run.folder / "logs" / "slurm")
    assert run.config == Config(cluster=ClusterConfig(folder=logs))
    assert run.raw == (run.folder / "raw",)
    assert run.raw[0].is_dir()
    assert run.static[0].is_dir()
    assert open_run(run.folder) == run


def test_folders_that_lie_elsewhere_are_found_from_anywhere(tmp_path, monkeypatch):
    for name in ("frames", 'od"d \\ née'):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    run = init_run("run", raw=("frames", 'od"d \\ née'), static=("frames",))
    assert run.raw == (tmp_path / "frames", tmp_path / 'od"d \\ née')
    assert run.static == (tmp_path / "frames",)
    assert not (run.folder / "raw").exists()


def test_each_key_of_the_configuration_stands_in_the_new_file_with_its_default():
    lines = []
    for line in TEMPLATE.splitlines():
        key = re.match(r"# (\w+) = (.*)", line)
        lines.append(line.removeprefix("# ") if key or re.match(r"# \[", line) else line)
    # Examples of free tables are not defaults.
    text = "\n".join(lines)
    given = tomllib.loads(text)
    for example in ("windows", "choose", "muse_scipost"):
        assert given["reduction"].pop(example)
    assert given["cluster"].pop("options")
    assert given["cluster"].pop("stack")
    # An address goes with its kind only.
    assert config_of(given) == Config()
    free = {"windows", "choose", "recipes"}
    names = {field.name for field in dataclasses.fields(ReductionConfig)}
    assert set(given["reduction"]) == names - free
    names = {field.name for field in dataclasses.fields(ClusterConfig)}
    assert set(given["cluster"]) == names - {"options", "site_options", "stages"}


def test_an_edited_configuration_is_never_replaced(tmp_path):
    run = init_run(tmp_path)
    (run.folder / "musedask.toml").write_text("# mine\n")
    with pytest.raises(FileError, match=r"musedask\.toml: exists"):
        init_run(tmp_path)
    assert (run.folder / "musedask.toml").read_text() == "# mine\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["musedask.toml", "raw", "static"]


def test_what_is_no_run_says_how_to_make_one(tmp_path):
    with pytest.raises(FileError, match=r"absent: no such folder; 'musedask init"):
        open_run(tmp_path / "absent")
    with pytest.raises(FileError, match=r"is no run of musedask .* 'musedask init"):
        open_run(tmp_path)
    with pytest.raises(FileError, match="absent: no such folder"):
        init_run(tmp_path / "run", raw=(tmp_path / "absent",))
    assert not (tmp_path / "run").exists()
    (tmp_path / "musedask.toml").write_text("[reduction]\nfilter = ['white']\n")
    with pytest.raises(InputError, match=r"musedask\.toml: .*'filters'"):
        open_run(tmp_path)


def test_a_file_of_results_is_new_or_refused(tmp_path):
    write_new(tmp_path / "a.toml", "one")
    with pytest.raises(FileError, match="exists"):
        write_new(tmp_path / "a.toml", "two")
    with pytest.raises(FileError, match="cannot be written"):
        write_new(tmp_path / "absent" / "a.toml", "two")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["one"]


# --- links -------------------------------------------------------------------------------------


def test_exposures_are_the_links_by_name(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(MissingError, match="'musedask reduce' makes them"):
        run.exposures()
    cube = run.products / "muse_scipost" / "abc" / "DATACUBE_FINAL.fits"
    cube.parent.mkdir(parents=True)
    cube.write_text("cube")
    refresh_links(run.cubes, {"b.fits": cube, "a.fits": cube})
    assert run.exposures() == (run.cubes / "a.fits", run.cubes / "b.fits")
    assert run.exposures()[0].read_text() == "cube"
    # The run may be moved.
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    assert Run(moved).exposures()[0].read_text() == "cube"
    (moved / cube.relative_to(tmp_path)).unlink()
    with pytest.raises(MissingError, match=r"a\.fits: the cube that it points to has gone"):
        Run(moved).exposures()


def test_links_become_exactly_the_wanted_ones_and_other_files_stay(tmp_path):
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    folder = tmp_path / "cubes"
    refresh_links(folder, {"a": tmp_path / "one", "b": tmp_path / "one"})
    inode = (folder / "a").lstat().st_ino
    (folder / "mine.txt").write_text("mine")
    refresh_links(folder, {"a": tmp_path / "one", "c": tmp_path / "two"})
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {"a": "1", "c": "2", "mine.txt": "mine"}
    assert (folder / "a").lstat().st_ino == inode, "a link that is right is left alone"
    refresh_links(folder, {"a": tmp_path / "two"})
    assert (folder / "a").read_text() == "2"
    with pytest.raises(FileError, match=r"mine\.txt: is no link of musedask"):
        refresh_links(folder, {"mine.txt": tmp_path / "two"})
    assert (folder / "mine.txt").read_text() == "mine"


@given(st.lists(st.text(max_size=80), max_size=3))
def test_a_name_from_a_header_leads_nowhere(parts):
    name = name_for_people(*parts)
    assert re.fullmatch(r"[A-Za-z0-9_+:-][A-Za-z0-9_.:+-]*", name)
    assert len(name) <= 61 * 3
    assert os.path.basename(name) == name


def test_names_of_targets_stay_readable():
    assert name_for_people("NGC 1068", "2021-03-05T02:11:09.123") == (
        "NGC-1068_2021-03-05T02:11:09.123"
    )
    assert name_for_people("../../etc", "x") == "etc_x"
    assert name_for_people("", "..") == "unnamed"


# --- one at a time -----------------------------------------------------------------------------

HOLD = """
import sys, time
from musedask.run import Run, held
from pathlib import Path
with held(Run(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_the_second_of_two_says_who_is_the_first(tmp_path):
    run = Run(tmp_path)
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(FileError, match=f"by process {first.pid} on "), held(run):
            pass
        holder = holder_of(run)
        assert holder is not None
        assert holder.pid == first.pid
    finally:
        first.kill()
        first.communicate()
    # The dead do not block.
    assert holder_of(run) is None
    with held(run) as holder:
        assert holder.pid == os.getpid()
        assert holder_of(run) == holder
    assert holder_of(run) is None


def test_to_look_who_reduces_does_not_keep_anybody_from_it(tmp_path):
    run = Run(tmp_path)
    for _ in range(20):
        with held(run):
            pass
        assert holder_of(run) is None
    (run.state / "reduce.lock").write_text("no JSON")
    with held(run):
        assert json.loads((run.state / "reduce.lock").read_text())["pid"] == os.getpid()
