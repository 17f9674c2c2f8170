"""The tables that a reduction leaves: written at its end, from disk alone, and around edits."""

from __future__ import annotations

import shutil

import pytest
import stub_esorex
from astropy.table import Table
from fake_recipes import FakeRecipes

from musedask.cluster import open_cluster
from musedask.config import ClusterConfig
from musedask.errors import FileError, MissingError
from musedask.exposures import read_exposure_table
from musedask.reduction.running import exposures as run_exposures
from musedask.reduction.running.exposure_memory import MEMORY, Memory
from musedask.reduction.running.reduce import reduce
from musedask.reduction.running.tables import write_tables_of
from musedask.run import init_run, open_run
from musedask.simulation import RawSpec, simulate_raw

NAMES = ["qc.ecsv", "used_frames.ecsv", "exposures.ecsv"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two exposures, done by stand-ins for the recipes; not to be changed."""
    folder = tmp_path_factory.mktemp("tables") / "night"
    truth = simulate_raw(folder, RawSpec(headers_only=True, with_sky=False))
    pointings = {one.date_obs: (one.ra_deg, one.dec_deg) for one in truth.exposures}
    run = init_run(folder)
    recipes = FakeRecipes(str(folder), pointings, dict.fromkeys(pointings, (0.0, 0.0)))
    with pytest.MonkeyPatch.context() as patch, open_cluster(ClusterConfig(workers=2)):
        patch.setenv("MUSEDASK_ESOREX", str(stub_esorex.install(folder.parent / "stub")))
        report = reduce(run, run_one=recipes)
    assert report.ok, str(report)
    return run, recipes, report


@pytest.fixture
def again(finished, tmp_path, monkeypatch):
    """A copy of the run elsewhere, and how to reduce it."""
    run, recipes, _ = finished
    monkeypatch.setenv("MUSEDASK_ESOREX", str(stub_esorex.install(tmp_path / "stub")))
    shutil.copytree(run.folder, tmp_path / "night", symlinks=True)
    moved = open_run(tmp_path / "night")
    return moved, lambda **given: reduce(
        moved, run_one=FakeRecipes(str(moved.folder), recipes.pointings, recipes.offsets), **given
    )


def edit(run, change):
    """Let a user edit the exposure table."""
    path = run.tables / "exposures.ecsv"
    table = Table.read(path, format="ascii.ecsv")
    change(table)
    table.write(path, format="ascii.ecsv", overwrite=True)


def touch_cubes(run):
    """Make the cubes look new."""
    for cube in run.exposures():
        cube.touch()


def stamps(run):
    return {path.name: path.stat().st_mtime_ns for path in run.tables.iterdir()}


def test_a_reduction_writes_its_tables_and_says_so(finished):
    run, recipes, report = finished
    assert [path.name for path in report.tables] == NAMES
    assert f"tables in {run.tables}: {', '.join(NAMES)}" in str(report)
    qc, used = (Table.read(path, format="ascii.ecsv") for path in report.tables[:2])
    assert set(qc["product"]) >= {"MASTER_BIAS", "STD_RESPONSE", "DATACUBE_FINAL"}
    assert used.colnames[:2] == ["job", "recipe"]
    table = read_exposure_table(report.tables[2])
    assert list(table["date_obs"]) == sorted(recipes.pointings)
    assert list(table["path"]) == list(map(str, run.exposures()))
    assert list(table["exptime"]) == [900.0, 900.0]
    assert "../cubes/SIMFIELD_" in report.tables[2].read_text()


def test_from_disk_alone_the_tables_are_the_same(finished, again):
    run = finished[0]
    moved, _ = again
    shutil.rmtree(moved.tables)
    (moved.state / MEMORY).unlink()
    written = write_tables_of(moved)
    assert (written.names, written.notes) == (NAMES, [])
    for name in NAMES:
        assert (moved.tables / name).read_bytes() == (run.tables / name).read_bytes(), name
    assert str(moved.tables / "qc.ecsv") in str(written)


def test_without_news_no_table_is_written_and_no_cube_opened(again, monkeypatch):
    run, reduce_again = again
    before = stamps(run)
    monkeypatch.setattr(run_exposures, "read_facts", None)
    assert reduce_again().ok
    assert stamps(run) == before


def test_edits_survive_and_a_new_exposure_is_added(again):
    run, reduce_again = again
    first, second = sorted(run.exposures())
    key = second.readlink().parent.name

    def change(table):
        table["use"][0], table["reason"] = False, ["wind"]
        table["weight"][0], table["moon"] = 2.5, 0.1

    # As if the second exposure had not been there yet.
    shutil.rmtree(run.products / "muse_scipost" / key)
    second.unlink()
    (run.tables / "exposures.ecsv").unlink()
    (run.state / MEMORY).unlink()
    run_exposures.write_exposures(run, [first])
    edit(run, change)
    assert reduce_again().n_run == 1
    table = Table.read(run.tables / "exposures.ecsv", format="ascii.ecsv")
    assert list(table["use"]) == [False, True]
    assert list(table["reason"].filled("")) == ["wind", ""]
    assert table["weight"][0] == 2.5
    assert table["moon"].tolist() == [0.1, None]


def test_only_new_cubes_are_opened_and_a_table_that_stays_the_same_is_not_written(
    again, monkeypatch
):
    run, reduce_again = again
    opened, before = [], stamps(run)
    read = run_exposures.read_facts
    monkeypatch.setattr(run_exposures, "read_facts", lambda path: opened.append(path) or read(path))
    first, second = run.exposures()
    second.touch()
    assert reduce_again().ok
    assert opened == [second]
    assert stamps(run) == before
    # A table that was removed comes back whole, and no cube is opened for it.
    run.exposure_table.unlink()
    reduce_again()
    assert list(read_exposure_table(run.exposure_table)["path"]) == [str(first), str(second)]
    assert opened == [second]


def test_what_is_known_of_an_exposure_outlasts_its_absence(again):
    run, _ = again
    first, second = run.exposures()
    date = read_exposure_table(run.exposure_table)["date_obs"][1]
    assert run_exposures.write_exposures(run, [first]) == []
    table = read_exposure_table(run.exposure_table)
    assert list(table["use"]) == [True, False]
    assert table["reason"][1] == "no cube now"
    edit(run, lambda table: table.remove_row(1))
    (note,) = run_exposures.write_exposures(run, [first, second])
    assert date in note


def test_a_product_that_was_made_again_is_looked_at_again(again):
    run, reduce_again = again
    (record,) = run.products.glob("muse_bias/*/job.json")
    text = record.read_text().replace('"date_obs": ""', '"date_obs": "1999"')
    record.write_text(text)
    reduce_again()
    assert "1999" not in (run.tables / "qc.ecsv").read_text()
    record.write_text(text.replace('"datamd5": ""', '"datamd5": "new"'))
    assert reduce_again().n_run == 0
    assert "1999" in (run.tables / "qc.ecsv").read_text()


def test_a_removed_row_stays_away_and_is_told(again):
    run, reduce_again = again
    date = read_exposure_table(run.tables / "exposures.ecsv")["date_obs"][0]
    edit(run, lambda table: table.remove_row(0))
    touch_cubes(run)
    report = reduce_again()
    assert report.ok
    assert [note for note in report.notes if date in note]
    assert len(read_exposure_table(run.tables / "exposures.ecsv")) == 1


def test_a_table_that_cannot_be_understood_is_left_and_told(again):
    run, reduce_again = again
    path = run.tables / "exposures.ecsv"
    path.write_text(path.read_text().replace("True", "perhaps"))
    content = path.read_bytes()
    touch_cubes(run)
    report = reduce_again()
    assert not report.ok
    assert "neither True nor False" in str(report)
    assert "left as it is" in str(report)
    assert path.read_bytes() == content


def test_all_exposures_may_be_out_of_use_for_a_while(again):
    run, reduce_again = again
    edit(run, lambda table: table["use"].__setitem__(slice(None), False))
    touch_cubes(run)
    assert reduce_again().ok
    table = read_exposure_table(run.tables / "exposures.ecsv", must_use=False)
    assert not any(table["use"])


def test_a_product_that_cannot_be_read_is_told_until_it_can(again):
    run, reduce_again = again
    (bias,) = run.products.glob("muse_bias/*/*.fits")
    good = bias.read_bytes()
    (run.tables / "qc.ecsv").unlink()
    bias.write_bytes(b"x" * len(good))
    for _ in range(2):
        assert "qc.ecsv lacks a product" in str(reduce_again())
    bias.write_bytes(good)
    assert "lacks" not in str(reduce_again())
    assert "MASTER_BIAS" in (run.tables / "qc.ecsv").read_text()


def test_a_dry_run_writes_no_table(again):
    run, reduce_again = again
    shutil.rmtree(run.tables)
    assert reduce_again(dry_run=True).tables == ()
    assert not run.tables.exists()


def test_without_a_finished_job_there_is_nothing_for_the_tables(tmp_path):
    with pytest.raises(MissingError, match="no job is finished"):
        write_tables_of(init_run(tmp_path / "night"))


def test_a_folder_that_cannot_be_written_is_named(again):
    run, _ = again
    shutil.rmtree(run.tables)
    run.tables.write_text("a file")
    with pytest.raises(FileError, match=r"qc\.ecsv: cannot be written"):
        write_tables_of(run)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 0, "facts": {}, "rows": {}}', "{"])
def test_a_broken_memory_is_none(tmp_path, text):
    run = init_run(tmp_path / "night")
    assert Memory.of(run) == Memory()
    Memory({"a": {}}, {"b": {}}).write(run)
    assert Memory.of(run) == Memory({"a": {}}, {"b": {}})
    (run.state / MEMORY).write_text(text)
    assert Memory.of(run) == Memory()
