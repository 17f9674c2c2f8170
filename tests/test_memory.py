"""Memory is bounded by a block, whatever the number of exposures and the area of the mosaic."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = "median,mean,clipped"


def peak_mib(folder: Path, count: int, n_fields: int) -> float:
    """Peak of a process of its own, on two threads wherever it runs."""
    program = Path(__file__).with_name("full_geometry.py")
    where = os.pathsep.join([str(program.parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, program, folder, str(count), str(n_fields), METHODS],
        env={**os.environ, "PYTHONPATH": where, "DASK_NUM_WORKERS": "2"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return float(run.stdout)


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    folder = tmp_path_factory.mktemp("full_geometry")
    return folder, peak_mib(folder, 12, 1)


def test_twelve_exposures_of_full_geometry_need_less_than_two_gib(twelve):
    assert twelve[1] < 2048


def test_four_times_the_exposures_need_hardly_more_memory(twelve):
    folder, peak = twelve
    assert peak_mib(folder, 48, 1) < 1.2 * peak


def test_a_mosaic_of_four_fields_needs_hardly_more_memory(twelve):
    folder, peak = twelve
    assert peak_mib(folder, 12, 4) < 1.2 * peak
