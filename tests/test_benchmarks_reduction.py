"""The benchmark of the reduction: a script that does the same, and what counts as the same."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from finished_jobs import a_record
from made_records import made

from benchmarks.jobs import Job
from benchmarks.peers import PEERS
from benchmarks.records import COUNTED, UNAVAILABLE, read_records
from benchmarks.reduction import by_recipe
from benchmarks.reduction.cases import CASCADES, ONE_WORKER, PLANNED, SCRIPT, reduction
from benchmarks.reduction.nights import NightSpec
from benchmarks.reduction.preparing import configuration
from benchmarks.reduction.products import compared, digest, digests, keep
from benchmarks.reduction.script import shell_script
from benchmarks.report import write_report
from benchmarks.runner import Settings, measure
from benchmarks.suites import BENCHMARKS, SIZES, chosen
from musedask.config import read_config
from musedask.reduction.jobs import FileInput, MadeInput, Plan, ProductInput
from musedask.reduction.jobs import Job as Call

ROOT = Path(__file__).parent.parent
STUB = """#!/bin/sh
echo "$@" > called
for last; do :; done
cp "$last" seen
touch MASTER_BIAS-01.fits MASTER_BIAS_MORE.fits MASTER_BIASED-01.fits
"""


def call(recipe: str, stage: str, *inputs, **more) -> Call:
    return Call(recipe=recipe, stage=stage, inputs=inputs, **more)


BIAS = call(
    "muse_bias", "bias", FileInput("BIAS", "/raw/o'clock.fits", "1"), parameters=(("nifu", "1"),)
)


def ran(tmp_path: Path, *calls: Call) -> subprocess.CompletedProcess[str]:
    """Run the script of a plan with a stand-in for esorex."""
    stub, out, script = tmp_path / "esorex", tmp_path / "out put", tmp_path / "reduce.sh"
    stub.write_text(STUB)
    stub.chmod(0o755)
    out.mkdir()
    script.write_text(shell_script(Plan(calls), out, str(stub)))
    return subprocess.run(["sh", script], capture_output=True, text=True, check=False)


class TestScript:
    def test_each_call_has_its_inputs_and_parameters_in_a_folder_of_its_own(self, tmp_path):
        taken = ProductInput("MASTER_BIAS", BIAS.key, used_as="BIASES")
        flat = call("muse_flat", "flat", FileInput("FLAT", "/raw/f.fits", "1"), taken)
        assert ran(tmp_path, BIAS, flat).returncode == 0
        first, second = (tmp_path / "out put" / one.key for one in (BIAS, flat))
        assert (first / "seen").read_text() == "/raw/o'clock.fits BIAS\n"
        assert (first / "called").read_text().endswith("muse_bias --nifu=1 frames.sof\n")
        # In the order of their names; MASTER_BIASED is another product.
        files = [f"{first}/{name} BIASES\n" for name in ("MASTER_BIAS-01.fits", "MASTER_BIAS_MORE.fits")]  # fmt: skip # noqa: E501
        assert (second / "seen").read_text() == "".join(["/raw/f.fits FLAT\n", *files])

    def test_it_ends_where_a_product_is_missing_unless_that_is_optional(self, tmp_path):
        asked = [ProductInput("TRACE_TABLE", BIAS.key, optional=optional) for optional in (0, 1)]
        for item, status in zip(asked, (1, 0), strict=True):
            folder = tmp_path / str(status)
            folder.mkdir()
            flat = call("muse_flat", "flat", FileInput("FLAT", "/raw/f.fits", "1"), item)
            assert ran(folder, BIAS, flat).returncode == status
            assert (folder / "out put" / flat.key / "seen").exists() == (status == 0)

    def test_what_only_musedask_makes_is_refused(self, tmp_path):
        final = call("muse_scipost", "final", MadeInput("OUTPUT_WCS", "header", "NAXIS = 3"))
        with pytest.raises(TypeError, match="OUTPUT_WCS"):
            shell_script(Plan((final,)), tmp_path, "esorex")


def product(path: Path, value: float = 1.0, extension: str = "DATA", **cards: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    column = fits.Column("z", "D", array=np.arange(3) + value)
    images = [fits.ImageHDU(np.full((4, 5), value, "f4"), name=extension)]
    fits.HDUList([primary, *images, fits.BinTableHDU.from_columns([column])]).writeto(path)
    return path


class TestProducts:
    def test_data_count_and_headers_do_not(self, tmp_path):
        one = digest(product(tmp_path / "a.fits", DATE="2020-01-01"))
        assert one == digest(product(tmp_path / "b.fits", DATE="2021-01-01"))
        assert one[1] == 4 * 5 + 3 * 8  # a table counts by bytes
        assert one != digest(product(tmp_path / "c.fits", 1.0000001))
        assert one != digest(product(tmp_path / "d.fits", extension="STAT"))

    def test_a_changed_byte_at_the_end_of_a_large_product_is_seen(self, tmp_path, monkeypatch):
        monkeypatch.setattr("benchmarks.reduction.products._PIECE", 16)
        path = product(tmp_path / "a.fits")
        before = digest(path)
        with fits.open(path) as hdus:
            info = hdus[2].fileinfo()
        raw = bytearray(path.read_bytes())
        raw[info["datLoc"] + 23] ^= 1
        path.write_bytes(raw)
        assert digest(path)[0] != before[0]

    def test_pixel_tables_and_logs_are_left_out(self, tmp_path):
        for name in ("MASTER_BIAS-01.fits", "PIXTABLE_OBJECT_0001-01.fits"):
            product(tmp_path / "job" / name)
        (tmp_path / "job" / "esorex.log").touch()
        assert list(digests({"key": tmp_path / "job"})) == ["key/MASTER_BIAS-01.fits"]

    @pytest.fixture
    def job(self, tmp_path) -> dict[str, Path]:
        """A job with two products, of which one is a cube's variance; it is the reference."""
        folder = tmp_path / "job"
        product(folder / "MASTER_BIAS-01.fits", 3.0)
        product(folder / "DATACUBE_FINAL.fits", 2.0, "STAT")
        keep({"key": folder}, tmp_path / "reference")
        return {"key": folder}

    def test_the_same_is_right(self, job, tmp_path):
        found = compared(job, tmp_path / "reference")
        assert found.is_right
        assert found.n_values == (20 + 24) + 24 + 20
        assert {path.name for path in (tmp_path / "reference").iterdir()} == {
            "digests.json", "key_DATACUBE_FINAL.npy"
        }  # fmt: skip

    def test_what_differs_is_missing_or_too_many_is_wrong_and_named(self, job, tmp_path):
        bias, more = (job["key"] / name for name in ("MASTER_BIAS-01.fits", "MORE.fits"))
        product(more)
        self.check_wrong(job, tmp_path / "reference", more)
        more.unlink()
        bias.unlink()
        self.check_wrong(job, tmp_path / "reference", bias)
        product(bias, 3.0000005)
        self.check_wrong(job, tmp_path / "reference", bias)

    @staticmethod
    def check_wrong(job: dict[str, Path], reference: Path, culprit: Path) -> None:
        found = compared(job, reference)
        assert not found.is_right
        assert found.against.endswith(f"of which key/{culprit.name} differ")

    @pytest.mark.parametrize(
        ("value", "is_right"), [(2.0001, True), (2.0005, False), (np.nan, False)]
    )
    def test_variances_of_cubes_may_be_off_a_little(self, value, is_right, job, tmp_path):
        path = job["key"] / "DATACUBE_FINAL.fits"
        with fits.open(path, mode="update") as hdus:
            hdus["STAT"].data[2, 3] = value
        assert compared(job, tmp_path / "reference").is_right == is_right

    def test_a_variance_where_there_was_none_is_wrong(self, job, tmp_path):
        path = job["key"] / "DATACUBE_FINAL.fits"
        with fits.open(path, mode="update") as hdus:
            hdus["STAT"].data[2, 3] = np.nan
        keep(job, tmp_path / "other")
        with fits.open(path, mode="update") as hdus:
            hdus["STAT"].data[2, 3] = 2.0
        assert not compared(job, tmp_path / "other").is_right


class TestByRecipe:
    jobs = (
        a_record("/p/one", key="one", wall_s=10.0, peak_memory=100 << 20),
        a_record("/p/two", key="two", wall_s=20.0, peak_memory=300 << 20, attempt=2),
        a_record("/p/ten", key="ten", wall_s=60.0, peak_memory=200 << 20),
        a_record("/p/cube", "muse_scipost", key="cube", wall_s=5.0, peak_memory=50 << 20),
    )
    times = "muse_bias-one-1 10.5\nmuse_bias-two-2 20.25\nmuse_bias-ten-1 62\nmuse_scipost-cube-1 5.125\n"  # noqa: E501

    @pytest.fixture
    def metrics(self, tmp_path) -> dict[str, float]:
        (tmp_path / "times").write_text(self.times)
        return by_recipe.metrics(self.jobs, by_recipe.read_times(tmp_path / "times"))

    def test_numbers_of_a_recipe_are_those_of_its_jobs(self, metrics):
        assert metrics == {
            "jobs": 4, "esorex_s": 95.0,
            "muse_bias/jobs": 3, "muse_bias/seconds": 20.0, "muse_bias/most_s": 60.0,
            "muse_bias/peak_mib": 300.0, "muse_bias/added_s": 0.5, "muse_bias/most_added_s": 2.0,
            "muse_scipost/jobs": 1, "muse_scipost/seconds": 5.0, "muse_scipost/most_s": 5.0,
            "muse_scipost/peak_mib": 50.0, "muse_scipost/added_s": 0.125,
            "muse_scipost/most_added_s": 0.125,
        }  # fmt: skip

    def test_they_have_a_table_of_their_own_in_the_report(self, metrics, tmp_path):
        record = made(
            "musedask", 50.0, benchmark="reduction", case="cascade", metrics=metrics, n_voxels=0
        )
        others = [
            replace(record, job=replace(record.job, label=ONE_WORKER)),
            made(SCRIPT, 60.0, benchmark="reduction", case="cascade", n_voxels=0),
        ]
        lines = write_report([record, *others], tmp_path).read_text().splitlines()
        assert lines.count("| muse_bias | 3 | 20 | 60 | 300 | 0.5 | 2 |") == 2
        titles = [line for line in lines if line.startswith("### reduction")]
        assert titles == ["### reduction: cascade", "### reduction: recipes, musedask",
                          "### reduction: recipes, musedask, 1 worker"]  # fmt: skip
        (row,) = [line for line in lines if line.startswith("| musedask | 50")]
        assert "esorex_s 95" in row
        assert "muse_bias" not in row
        width = 0
        for line in lines:
            width = (width or line.count("|")) if line.startswith("|") else 0
            assert line.count("|") == width


class TestCases:
    @pytest.mark.parametrize("size", SIZES)
    def test_labels_tell_the_jobs_of_a_case_apart(self, size):
        for case in reduction(size):
            assert len({job.label for job in case}) == len(case) > 0
            assert {job.peer for job in case} <= PEERS.keys()
            assert [Job.from_json(job.to_json()).label for job in case] == [j.label for j in case]

    def test_peers_are_chosen_beside_musedask(self):
        (case,) = chosen(reduction("small"), ("esorex",))
        assert [job.label for job in case] == ["musedask", SCRIPT]
        assert [job.label for job in reduction("small")[0]] == ["musedask", ONE_WORKER, SCRIPT]

    def test_a_night_goes_to_a_job_and_back(self):
        for case in reduction("full"):
            for job in case:
                night = NightSpec.from_options(Job.from_json(job.to_json()).options)
                assert night in (CASCADES["full"], PLANNED["full"])

    @pytest.mark.parametrize("spec", CASCADES.values(), ids=SIZES)
    def test_each_configuration_can_be_read(self, spec, tmp_path):
        path = tmp_path / "musedask.toml"
        path.write_text(configuration(tmp_path, spec))
        found = read_config(path).reduction
        assert found.raw == (str(tmp_path / "raw"),)
        assert found.twilight == found.lsf == (spec.chain == "whole")
        assert bool(found.recipes) == (spec.recipes != "all")

    def test_it_is_not_among_all(self):
        assert "reduction" not in BENCHMARKS


def test_without_esorex_it_is_unavailable_and_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSEDASK_ESOREX", "no-such-esorex")
    (tmp_path / "work").mkdir()
    settings = Settings("reduction", "tiny", tmp_path / "work", tmp_path / "out")
    for case in reduction("tiny"):
        record = measure(case[-1], 0, settings)
        assert record.state == UNAVAILABLE
        assert "no-such-esorex" in record.reason
    assert not list((tmp_path / "work" / "stores").iterdir())


@pytest.mark.real_esorex
def test_the_command_reduces_compares_and_reports(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "reduction", "--size", "tiny", "--no-touch",
         "--work", tmp_path / "work", "-o", tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    records = {(r.job.case, r.job.label): r for r in read_records(tmp_path / "out")}
    assert {record.state for record in records.values()} == {COUNTED}
    ours, script = records["cascade", "musedask"], records["cascade", SCRIPT]
    for record in (ours, script):
        assert record.comparison["n_values"] > 4000 * 4000  # a bias with its errors and flags
        assert record.metrics["jobs"] == 1
        assert record.peak_rss > 500 << 20
    assert 0 < ours.metrics["muse_bias/added_s"] < ours.wall_s - ours.metrics["muse_bias/seconds"]
    assert ours.metrics["muse_bias/peak_mib"] > 500
    planned = records["plan", "musedask"].metrics
    assert planned["jobs"] == planned["tasks"] == PLANNED["tiny"].n_jobs
    assert records["again", "musedask"].wall_s < ours.wall_s
    assert "### reduction: recipes, musedask" in (tmp_path / "out" / "report.md").read_text()
    # Kept are the frames, digests of what the script made, and one finished run.
    (kept,) = (tmp_path / "work" / "stores" / "nights").glob("1x1_*")
    assert {path.name.partition("_")[0] for path in kept.iterdir()} == {
        "raw", "static", "truth.json", "script", "reduced"
    }  # fmt: skip
    assert not list((tmp_path / "work").glob("job-*"))
