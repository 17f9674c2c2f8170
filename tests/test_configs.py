"""The examples in ``configs/`` are read by the code that they are examples for."""

from __future__ import annotations

from pathlib import Path

import pytest

from musedask.exposures import COLUMNS, read_exposure_table
from musedask.offsets import OffsetTable

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
    assert [row.ra_offset_arcsec for row in found] == pytest.approx([0.0, 0.34, -0.51])


def test_every_example_has_a_test():
    assert {path.name for path in CONFIGS.iterdir()} == {"exposures.ecsv", "offsets.ecsv"}
