"""What is said of a run's folder and of the tables that a reduction leaves in it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from musedask.errors import FileError, InputError
from musedask.run import init_run
from musedask.run_text import is_run, reduction_table_text, run_summary


def written(table, path):
    table.write(path, format="ascii.ecsv")
    return path


@pytest.fixture
def quality(tmp_path):
    """Two master biases and the response of a standard star."""
    table = Table({
        "date_obs": ["2024-02-11T10:15:15.058"] * 3,
        "recipe": ["muse_bias", "muse_bias", "muse_standard"],
        "stage": ["bias", "bias", "standard"],
        "ifu": [1, 13, 0],
        "product": ["MASTER_BIAS", "MASTER_BIAS", "STD_RESPONSE"],
        "file": ["a", "b", "c"],
        "ron_q1": [2.5, 3.0, np.nan],
        "n_bad_pixels": [7.0, 7.0, np.nan],
        "standard": ["", "", "SIMSTAR"],
    })  # fmt: skip
    table["ron_q1"].unit = "ct"
    return written(table, tmp_path / "qc.ecsv")


def test_quality_measures_are_told_by_product(quality):
    assert reduction_table_text(quality).splitlines() == [
        "Quality measures qc.ecsv: 3 products of 2 recipes",
        "  MASTER_BIAS: 2 files, 2 IFUs",
        "    ron_q1                 2.75 ct (2.5 to 3)",
        "    n_bad_pixels           7",
        "  STD_RESPONSE: 1 file",
        "    standard               SIMSTAR",
    ]


def used_frames(folder, *rows):
    names = ("job", "recipe", "stage", "ifu", "tag", "date_obs", "made_by", "file")
    return written(Table(rows=rows, names=names), folder / "used_frames.ecsv")


def test_used_frames_are_counted_by_tag_each_file_once(tmp_path):
    (tmp_path / "1.fits").touch()
    there, gone = str(tmp_path / "1.fits"), str(tmp_path / "2.fits")
    path = used_frames(
        tmp_path,
        ("k1", "muse_bias", "bias", 1, "BIAS", "d", "", there),
        ("k1", "muse_bias", "bias", 1, "BIAS", "d", "", gone),
        ("k2", "muse_bias", "bias", 2, "BIAS", "d", "", there),
        ("k2", "muse_bias", "bias", 2, "BADPIX_TABLE", "", "", gone),
        ("k3", "muse_flat", "flat", 1, "MASTER_BIAS", "d", "k1", "muse_bias/k1/M.fits"),
    )
    assert reduction_table_text(path).splitlines() == [
        "Used frames used_frames.ecsv: 3 jobs of 2 recipes",
        "  raw frames and static tables: 2 BIAS, 1 BADPIX_TABLE",
        "  made by other jobs: 1 MASTER_BIAS",
        f"  files that are not there: 1, the first: {gone}",
    ]


def test_what_is_all_there_and_raw_is_said_shortly(tmp_path):
    (tmp_path / "1.fits").touch()
    row = ("k1", "muse_bias", "bias", 1, "BIAS", "d", "", str(tmp_path / "1.fits"))
    assert reduction_table_text(used_frames(tmp_path, row)).splitlines() == [
        "Used frames used_frames.ecsv: 1 job of 1 recipe",
        "  raw frames and static tables: 1 BIAS",
    ]


def test_another_table_is_none_of_these(tmp_path):
    assert reduction_table_text(written(Table({"path": ["a"]}), tmp_path / "t.ecsv")) is None


def test_what_is_no_table_is_an_error(tmp_path):
    path = tmp_path / "t.ecsv"
    path.write_text("# %ECSV 1.0\n# ---\nnothing more\n")
    with pytest.raises(FileError, match=r"t\.ecsv: is no ECSV table"):
        reduction_table_text(path)


def test_a_run_tells_what_it_has_and_what_is_made(tmp_path):
    init_run(tmp_path / "mudf")
    run = tmp_path / "mudf"
    assert is_run(run)
    assert not is_run(tmp_path)
    assert run_summary(run).splitlines()[0] == "Run mudf: no cube is made yet"
    assert f"raw frames: 0 FITS files in {run / 'raw'}" in run_summary(run)
    made = ("raw/a.fits", "raw/P01/b.fits.fz", "raw/notes.txt", "static/c.fits", "cubes/x.fits",
            "cubes/y.fits", "cubes/combined/z.fits", "tables/qc.ecsv")  # fmt: skip
    for name in made:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).touch()
    lines = run_summary(run).splitlines()
    assert lines[0] == "Run mudf: 2 exposure cubes, 1 combined cube"
    assert f"  raw frames: 2 FITS files in {run / 'raw'}" in lines
    assert f"  static tables: 1 FITS file in {run / 'static'}" in lines
    assert f"  in {run / 'tables'}: qc.ecsv" in lines
    assert lines[-1] == f"  how far it is: musedask status {run}"


def test_a_run_whose_configuration_is_wrong_says_so(tmp_path):
    (tmp_path / "musedask.toml").write_text("[reduction]\nskye = 1\n")
    with pytest.raises(InputError, match="skye"):
        run_summary(tmp_path)
