"""The examples in ``configs/`` are read by the code that they are examples for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from astropy.table import Table

from musedask.cluster.slurm import slurm_options
from musedask.config import CLUSTER_STAGES, cluster_config
from musedask.exposures import COLUMNS, read_exposure_table
from musedask.offsets import OffsetTable

SITES = ("highmem", "laptop", "slurm")
CONFIGS = Path(__file__).parent.parent / "configs"


def test_the_example_of_an_exposure_table_is_read_and_shows_every_column():
    table = read_exposure_table(CONFIGS / "exposures.ecsv", must_exist=False)
    assert table.colnames == [spec.name for spec in COLUMNS]
    assert list(table["use"]) == [True, True, False]
    assert table["path"][0] == str(CONFIGS / "cubes" / "HALO_1.fits")


def test_the_example_of_an_offset_table_serves_each_exposure_of_the_other_example():
    offsets = OffsetTable.read(CONFIGS / "offsets.ecsv")
    exposures = read_exposure_table(CONFIGS / "exposures.ecsv", must_exist=False)
    found = [offsets.find(row["date_obs"], row["path"]) for row in exposures]
    assert [row.ra_offset_arcsec for row in found] == pytest.approx([0.0412, 0.34, -0.5117])


def test_the_example_of_an_offset_table_is_like_one_that_is_written(tmp_path):
    OffsetTable.read(CONFIGS / "offsets.ecsv").write(tmp_path / "offsets.ecsv")
    example, written = (
        Table.read(folder / "offsets.ecsv", format="ascii.ecsv") for folder in (CONFIGS, tmp_path)
    )
    assert example.colnames == written.colnames
    for name in written.colnames:
        one, other = example[name], written[name]
        assert (one.unit, one.dtype.kind, list(map(str, one))) == (
            other.unit, other.dtype.kind, list(map(str, other)),
        )  # fmt: skip
    assert "exposures.ecsv" in " ".join(example.meta.pop("comments"))
    assert example.meta == written.meta


@pytest.mark.parametrize("name", SITES)
def test_the_example_of_a_site_is_one_with_each_commented_key_as_well(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSEDASK_SITES", str(tmp_path))
    text = (CONFIGS / f"{name}.toml").read_text()
    for number, given in enumerate((text, re.sub(r"(?m)^# (\w+ = )", r"\1", text))):
        (tmp_path / f"{name}{number}.toml").write_text(given)
        config = cluster_config({"site": f"{name}{number}"})
        assert config.kind == ("local" if name == "laptop" else "slurm")
        for stage in CLUSTER_STAGES:
            slurm_options(config.of_stage(stage), stage)


def test_the_example_of_a_large_partition_takes_scipost_there_and_nothing_before_it():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSEDASK_SITES", str(CONFIGS))
        config = cluster_config({"site": "highmem"})
    early, late = (slurm_options(config.of_stage(s), s) for s in ("reduce", "scipost"))
    assert (early["queue"], late["queue"]) == ("normal", "highmem")
    assert (early["memory"], late["memory"]) == ("8GiB", "96GiB")


def test_every_example_has_a_test():
    tables = {"exposures.ecsv", "offsets.ecsv"}
    assert {path.name for path in CONFIGS.iterdir()} == tables | {f"{s}.toml" for s in SITES}
