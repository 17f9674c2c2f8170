"""A reduction from frames to links with stand-ins for the recipes: each job once, or why not."""

from __future__ import annotations

import fcntl
import math
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import stub_esorex
from fake_recipes import FakeRecipes, cards_of

from musedask.cluster import open_cluster
from musedask.config import ClusterConfig
from musedask.errors import FileError, InputError, MissingError
from musedask.exposures import read_exposure_table
from musedask.fits import open_exposures
from musedask.grid import CubeGrid
from musedask.offsets import Offset, OffsetTable
from musedask.reduction.jobs import MadeInput
from musedask.reduction.running.reduce import plan_run, reduce
from musedask.reduction.running.report import ReductionReport
from musedask.reduction.running.status import status_of
from musedask.run import Run, held, init_run, open_run
from musedask.simulation import RawSpec, simulate_raw


@pytest.fixture(scope="module", autouse=True)
def _one_cluster():
    """A cluster for all; reductions use the one that is open."""
    with open_cluster(ClusterConfig(workers=2)):
        yield


@pytest.fixture(autouse=True)
def stub(tmp_path, monkeypatch):
    """An esorex that tells its version, and must not be asked for more."""
    path = stub_esorex.install(tmp_path / "stub", status=1)
    monkeypatch.setenv("MUSEDASK_ESOREX", str(path))
    yield path
    assert stub_esorex.calls(tmp_path / "stub") == []


@dataclass(frozen=True)
class Night:
    """A run with simulated headers, and recipes that know where its exposures point."""

    run: Run
    recipes: FakeRecipes

    def configured(self, **keys: Any) -> Night:
        config = self.run.config
        config = replace(config, reduction=replace(config.reduction, **keys))
        return replace(self, run=replace(self.run, config=config))

    def reduce(self, **given: Any) -> ReductionReport:
        return reduce(self.run, run_one=self.recipes, **given)

    def counts(self) -> Counter[str]:
        return Counter(call.partition(" ")[0] for call in self.recipes.calls())


CHAIN = {
    "bias": 2, "flat": 2, "wavecal": 2, "lsf": 2, "twilight": 1, "scibasic": 6, "standard": 1,
    "scipost": 2, "align": 1,
}  # fmt: skip
"""Jobs of two exposures and two IFUs."""


def observe(folder: Path, **spec: Any) -> Night:
    spec = {"ifus": (1, 2), "headers_only": True, "with_sky": False} | spec
    truth = simulate_raw(folder, RawSpec(**spec))
    science = [frame for frame in truth.frames if frame.tag == "OBJECT"]
    pointings = {frame.date_obs: (frame.ra_deg, frame.dec_deg) for frame in science}
    offsets = {frame.date_obs: (0.3 * n, -0.2 * n) for n, frame in enumerate(science)}
    return Night(init_run(folder), FakeRecipes(str(folder), pointings, offsets))


@pytest.fixture
def night(tmp_path):
    return observe(tmp_path / "night")


def test_the_chain_runs_once_and_the_second_time_nothing_does(night):
    report = night.reduce()
    assert report.ok
    assert night.counts() == CHAIN
    assert (report.n_run, len(report.jobs), report.n_waiting) == (19, 19, 0)
    assert str(report).startswith(f"{night.run.folder}: 19 jobs done in ")
    assert [job.stage for job, _ in report.warnings] == ["lsf", "lsf"]
    assert "warning: lsf" in str(report)
    again = night.reduce()
    assert night.counts() == CHAIN
    assert again.ok
    assert again.n_run == 0
    assert "all 19 jobs are done already" in str(again)
    assert again.warnings == ()
    assert again.cubes == report.cubes == night.run.exposures()


def test_links_have_the_names_of_target_and_date(night):
    report = night.reduce()
    dates = sorted(night.recipes.pointings)
    assert [path.name for path in report.cubes] == [f"SIMFIELD_{date}.fits" for date in dates]
    cubes = open_exposures(list(map(str, night.run.exposures())))
    assert [str(cube["date_obs"].values) for cube in cubes] == dates
    assert all(os.readlink(path).startswith("../products/") for path in report.cubes)


def test_final_cubes_lie_on_one_lattice_with_the_measured_offsets(night):
    night = night.configured(final="cubes")
    report = night.reduce()
    assert night.counts() == CHAIN | {"final": 2}
    finals = [job for job in report.jobs if job.stage == "final"]
    made = [{i.tag: i.text for i in job.inputs if isinstance(i, MadeInput)} for job in finals]
    for job, texts in zip(finals, made, strict=True):
        date, ra, dec, _ = texts["OFFSET_LIST"].split()
        ra_arcsec, dec_arcsec = night.recipes.offsets[date]
        assert date == job.frames[0]
        assert float(dec) * 3600 == pytest.approx(dec_arcsec, abs=1e-5)
        assert float(ra) * 3600 * 0.907 == pytest.approx(ra_arcsec, abs=1e-3)
    grids = [cards_of(texts["OUTPUT_WCS"]) for texts in made]
    assert grids[0]["CRVAL1"] == grids[1]["CRVAL1"]
    for key in ("CRPIX1", "CRPIX2"):
        assert (grids[0][key] - grids[1][key]) % 1 == pytest.approx(0, abs=1e-9)
    # The links are to the final cubes now, and the offsets are kept for people.
    assert all("muse_scipost" in os.readlink(path) for path in report.cubes)
    shapes = [CubeGrid.from_file(path).shape[1:] for path in report.cubes]
    assert shapes == [(int(g["NAXIS2"]), int(g["NAXIS1"])) for g in grids]
    (table,) = night.run.tables.glob("offsets_*.ecsv")
    rows = OffsetTable.read(table)
    assert {row.name for row in rows} == {f"MUSE.{date}" for date in night.recipes.pointings}
    kept = {row.date_obs: row.ra_offset_arcsec for row in rows}
    assert kept == pytest.approx({date: ra for date, (ra, _) in night.recipes.offsets.items()})
    assert night.reduce().n_run == 0


def test_an_exposure_without_its_final_cube_is_not_shown_with_another(night):
    first, second = sorted(night.recipes.pointings)
    night.recipes.break_jobs(f"final OBJECT {second}")
    assert len(night.reduce().cubes) == 2
    report = night.configured(final="cubes").reduce()
    assert [path.name for path in report.cubes] == [f"SIMFIELD_{first}.fits"]
    assert night.run.exposures() == report.cubes


def test_a_dry_run_goes_through_all_and_starts_and_changes_nothing(night, tmp_path):
    night = night.configured(final="cubes")
    report = night.reduce(dry_run=True)
    assert Counter(job.stage for job in report.jobs) == CHAIN | {"final": 2}
    assert (report.n_waiting, report.outcomes) == (21, {})
    assert "21 of 21 jobs to run, about" in str(report)
    assert night.recipes.calls() == []
    assert not night.run.products.exists()
    assert not night.run.cubes.exists()
    with held(night.run):  # another reduction does not keep us from looking
        assert night.reduce(dry_run=True).n_waiting == 21
    night.reduce()
    done = night.reduce(dry_run=True)
    assert (done.n_waiting, len(done.jobs)) == (0, 21)
    assert plan_run(night.run)[1].by_recipe["muse_bias"] == 2.0


def test_a_failed_job_keeps_only_those_waiting_that_need_it(night):
    night = night.configured(final="cubes")
    first, second = sorted(night.recipes.pointings)
    night.recipes.break_jobs(f"OBJECT {second} IFU 2", f"{second} IFU 2")
    report = night.reduce()
    assert not report.ok
    ((job, outcome),) = report.failed
    assert (job.stage, job.ifu, job.frames) == ("scibasic", 2, (second,))
    assert (outcome.attempts, outcome.log) == (2, "/scratch/esorex.log")
    states = {job.title: report.outcomes[job.key].state for job in report.jobs}
    blocked = [title for title, state in states.items() if state == "blocked"]
    assert sorted(title.partition(" ")[0] for title in blocked) == ["align", "scipost"]
    assert Counter(states.values()) == {"done": 16, "failed": 1, "blocked": 2}
    assert [path.name for path in report.cubes] == [f"SIMFIELD_{first}.fits"]
    text = str(report)
    assert f"failed: {job.title} (tried 2 times): esorex ended with status 255" in text
    assert "log     /scratch/esorex.log" in text
    assert "no cubes on the final grid, since its exposures are not aligned" in text
    # It is not tried again unless somebody asks for it.
    calls = night.recipes.calls()
    again = night.reduce()
    assert night.recipes.calls() == calls
    assert not again.ok
    assert [job.key for job, _ in again.failed] == [job.key]
    # Then it has all its attempts again.
    assert night.reduce(retry=True).failed[0][1].attempts == 2
    assert len(night.recipes.calls()) == len(calls) + 2
    night.recipes.break_jobs()
    assert not night.reduce().ok
    report = night.reduce(retry=True)
    assert report.ok
    assert night.counts() == CHAIN | {"scibasic": 6 + 4, "final": 2}
    assert night.reduce().ok


def test_a_job_that_never_fails_is_never_asked_for_twice_by_a_retry(night):
    night.reduce()
    assert night.reduce(retry=True).n_run == 0


def test_stages_can_be_done_one_after_the_other(night):
    assert night.reduce(last="flat").ok
    assert night.counts() == {"bias": 2, "flat": 2}
    with_gap = night.reduce(first="scibasic", last="scibasic")
    assert not with_gap.ok
    assert night.counts() == {"bias": 2, "flat": 2}
    reasons = {outcome.reason for _, outcome in with_gap.failed}
    assert len(reasons) == 1
    assert "reduce without --first" in reasons.pop()
    assert night.reduce(last="twilight").ok
    assert night.reduce(first="scibasic", last="scibasic").ok
    assert night.counts()["scibasic"] == 6
    assert night.reduce(first="standard").ok
    assert night.counts() == CHAIN
    night = night.configured(final="cubes")
    assert night.reduce(first="final").ok
    assert night.counts() == CHAIN | {"final": 2}
    with pytest.raises(InputError, match="comes after"):
        night.reduce(first="scipost", last="bias")


def test_a_changed_frame_makes_what_depends_on_it_again_and_nothing_else(night):
    night.reduce()
    first = min(night.recipes.pointings)
    (raw,) = (night.run.folder / "raw").glob(f"*{first}*")
    os.utime(raw, ns=(1, 1))
    assert night.reduce().ok
    new = {stage: n - CHAIN[stage] for stage, n in night.counts().items() if n != CHAIN[stage]}
    assert new == {"scibasic": 2, "scipost": 1, "align": 1}
    text = str(status_of(night.run))
    assert "\n4 stale jobs: " in text
    assert re.search(rf"\n  {first} +scibasic 2, scipost 1\n", text)


def test_a_product_that_was_removed_is_made_again(night):
    night.reduce()
    shutil.rmtree(next(night.run.products.glob("muse_exp_align/*")))
    assert night.reduce().n_run == 1
    next(night.run.products.glob("muse_flat/*/TRACE_TABLE.fits")).write_bytes(b"cut")
    night.recipes.break_jobs("flat")  # the fake cannot replace a folder
    assert [job.stage for job, _ in night.reduce().failed] == ["flat"]


def test_headers_that_are_right_need_no_alignment(night):
    night = night.configured(final="cubes", offsets="headers")
    report = night.reduce()
    assert night.counts() == {k: n for k, n in CHAIN.items() if k != "align"} | {"final": 2}
    finals = [job for job in report.jobs if job.stage == "final"]
    assert [[i.tag for i in job.inputs if isinstance(i, MadeInput)] for job in finals] == [
        ["OUTPUT_WCS"], ["OUTPUT_WCS"],
    ]  # fmt: skip


def offset_file(night, dates):
    rows = tuple(
        Offset(date_obs=date, ra_offset_arcsec=1.0, dec_offset_arcsec=2.0) for date in dates
    )
    OffsetTable(rows).write(night.run.folder / "mine.ecsv")


def test_a_users_offsets_are_used_and_missing_ones_are_told_before_anything_runs(night):
    dates = sorted(night.recipes.pointings)
    night = night.configured(final="cubes", offsets="mine.ecsv")
    with pytest.raises(FileError, match=r"offsets = 'mine\.ecsv'.*mine\.ecsv"):
        night.reduce()
    offset_file(night, dates[:1])
    with pytest.raises(MissingError, match=dates[1]):
        night.reduce()
    assert night.recipes.calls() == []
    (night.run.folder / "mine.ecsv").unlink()
    offset_file(night, dates)
    report = night.reduce()
    assert report.ok
    texts = [i.text for job in report.jobs for i in job.inputs if isinstance(i, MadeInput)]
    lists = [text.split() for text in texts if text.startswith("20")]
    assert [float(row[2]) * 3600 for row in lists] == pytest.approx([2.0, 2.0])


def measured(night, grades, **config):
    """The run as 'musedask align' would leave it, with a grade for each exposure in turn."""
    dates = sorted(night.recipes.pointings)
    rows = tuple(
        Offset(
            date_obs=date, grade=grade, reasons="no source" if grade == "F" else "",
            ra_offset_arcsec=math.nan if grade == "F" else 0.3 + n, dec_offset_arcsec=-0.2,
        )
        for n, (date, grade) in enumerate(zip(dates, grades, strict=False))
    )  # fmt: skip
    night.run.tables.mkdir(exist_ok=True)
    OffsetTable(rows).write(night.run.offsets, overwrite=True)


def test_final_cubes_wait_for_measured_offsets_without_a_failure(night):
    night = night.configured(final="cubes", offsets="measured")
    report = night.reduce()
    assert report.ok
    assert night.counts() == {k: n for k, n in CHAIN.items() if k != "align"}
    assert "offsets of 2 of 2 exposures are not measured: 'musedask align" in str(report)
    assert len(report.cubes) == 2
    assert night.reduce(dry_run=True).n_waiting == 2
    measured(night, "A")  # as if one exposure were new
    report = night.reduce()
    assert report.ok
    assert "offsets of 1 of 2 exposures are not measured" in str(report)
    measured(night, "AB")
    report = night.reduce()
    assert report.ok
    assert night.counts() == {k: n for k, n in CHAIN.items() if k != "align"} | {"final": 2}
    texts = [i.text for job in report.jobs for i in job.inputs if isinstance(i, MadeInput)]
    east = [float(text.split()[1]) * 3600 * 0.907 for text in texts if text.startswith("20")]
    assert east == pytest.approx([0.3, 1.3], abs=1e-3)
    assert night.reduce().n_run == 0


def test_an_exposure_whose_measured_offset_failed_is_put_apart_and_the_others_go_on(night):
    night = night.configured(final="cubes", offsets="measured")
    night.reduce()
    measured(night, "AF")
    first, second = sorted(night.recipes.pointings)
    report = night.reduce()
    assert report.ok
    assert "left out: its offset has grade F (no source)" in str(report)
    assert [path.name for path in report.cubes] == [f"SIMFIELD_{first}.fits"]
    (apart,) = night.run.unplaced_cubes.iterdir()
    assert apart.name == f"SIMFIELD_{second}.fits"
    assert apart.exists()
    table = read_exposure_table(night.run.exposure_table)
    assert dict(zip(table["date_obs"], table["use"], strict=True)) == {first: True, second: False}
    measured(night, "AA")
    report = night.reduce()
    assert len(report.cubes) == 2
    assert list(night.run.unplaced_cubes.iterdir()) == []
    measured(night, "FF")
    report = night.reduce()
    assert not report.ok
    assert "all 2 offsets have grade F" in str(report)


def test_combined_cubes_wait_for_measured_offsets_and_leave_failed_ones_out(tmp_path):
    night = observe(tmp_path / "night", n_exposures=3, ifus=(1,))
    night = night.configured(final="combine", offsets="measured")
    assert "planned when its offsets are known" in str(night.reduce())
    measured(night, "AFB")
    report = night.reduce()
    assert report.ok
    (job,) = (job for job in report.jobs if job.stage == "combine")
    first, _, third = sorted(night.recipes.pointings)
    assert sorted(job.frames) == [first, third]
    assert len(report.cubes) == 3
    measured(night, "AFF")
    assert "there is nothing to combine it with" in str(night.reduce())


def test_each_target_has_its_own_grid_and_fails_alone(tmp_path):
    night = observe(
        tmp_path / "night", n_exposures=4, targets=("NORTH", "SOUTH"), ifus=(1,), with_sky=True
    )
    night = night.configured(final="cubes")
    night.recipes.break_jobs("align SOUTH")
    report = night.reduce()
    finals = [job for job in report.jobs if job.stage == "final"]
    assert len(finals) == 2
    assert all("NORTH" in job.title for job in finals)
    assert "SOUTH WFM: no cubes on the final grid" in str(report)
    assert Counter(path.name.partition("_")[0] for path in report.cubes) == {"NORTH": 2, "SOUTH": 2}
    night.recipes.break_jobs()
    report = night.reduce(retry=True)
    assert report.ok
    cards = {
        job.title.rpartition(" ")[2]: cards_of(item.text)["CRVAL1"]
        for job in report.jobs
        for item in job.inputs
        if isinstance(item, MadeInput) and item.tag == "OUTPUT_WCS"
    }
    assert set(cards) == {"NORTH", "SOUTH"}
    assert cards["NORTH"] != cards["SOUTH"]
    assert report.notes == ("raw frames that nothing needs: 1 SKY",)
    assert night.reduce().n_run == 0
    assert night.reduce(dry_run=True).n_waiting == 0


def test_an_offset_that_is_missing_keeps_only_its_own_field_from_final_cubes(tmp_path):
    night = observe(tmp_path / "night", n_exposures=4, targets=("NORTH", "SOUTH"), ifus=(1,))
    night = night.configured(final="cubes")
    south = max(night.recipes.pointings)
    del night.recipes.offsets[south]
    report = night.reduce()
    assert not report.ok
    assert report.failed == ()
    assert [job.title.rpartition(" ")[2] for job in report.jobs if job.stage == "final"] == [
        "NORTH", "NORTH",
    ]  # fmt: skip
    assert "failed: SOUTH WFM: its final cubes cannot be planned" in str(report)
    assert len(report.cubes) == 4


def test_combined_cubes_have_links_of_their_own(night):
    report = night.configured(final="combine").reduce()
    assert report.ok
    assert night.counts() == CHAIN | {"combine": 1}
    (link,) = night.run.combined.iterdir()
    assert link.name == "SIMFIELD-WFM-NOAO-N.fits"
    assert report.combined == (link,)
    assert f"2 exposure cubes in {night.run.cubes}\n1 combined cube in {link.parent}" in str(report)
    assert len(report.cubes) == 2


def test_sky_cubes_are_apart_from_the_exposures(tmp_path):
    night = observe(tmp_path / "night", with_sky=True, ifus=(1,)).configured(sky_cubes=True)
    others = {path.name[5:28] for path in night.run.raw[0].iterdir()}
    night.recipes.pointings.update(
        dict.fromkeys(others - set(night.recipes.pointings), (150.0, -24.0))
    )
    report = night.reduce()
    assert report.ok
    assert len(report.cubes) == len(night.run.exposures()) == 2
    (link,) = night.run.sky_cubes.iterdir()
    assert report.sky_cubes == (link,)
    assert f"1 sky cube in {link.parent}" in str(report)


def test_what_is_missing_is_told_before_anything_runs(tmp_path):
    night = observe(tmp_path / "night", faults=("missing:FLAT",))
    for dry_run in (True, False):
        with pytest.raises(MissingError, match="FLAT"):
            night.reduce(dry_run=dry_run)
    assert night.recipes.calls() == []
    shutil.rmtree(night.run.folder / "raw")
    with pytest.raises(FileError, match="raw"):
        night.reduce()


def test_the_configuration_of_the_run_says_where_it_runs_if_nothing_is_open(tmp_path, monkeypatch):
    night = observe(tmp_path / "night", ifus=(1,))
    opened = []
    monkeypatch.setattr("musedask.reduction.running.carrying.open_now", lambda: None)

    def opening(config, stage):
        opened.append(config)
        return open_cluster(config, stage)

    monkeypatch.setattr("musedask.reduction.running.carrying.open_cluster", opening)
    cluster = ClusterConfig(workers=1)
    run = replace(night.run, config=replace(night.run.config, cluster=cluster))
    assert reduce(run, last="bias", run_one=night.recipes).ok
    assert opened == [cluster]
    assert reduce(run, last="bias", run_one=night.recipes).n_run == 0
    assert opened == [cluster], "nothing is opened for nothing"


# --- status ------------------------------------------------------------------------------------


def test_status_tells_what_is_done_by_exposure_and_what_failed(night):
    with pytest.raises(MissingError, match="nothing was reduced yet"):
        status_of(night.run)
    first, second = sorted(night.recipes.pointings)
    night.recipes.break_jobs(f"{second} IFU 2")
    night.reduce()
    status = status_of(open_run(night.run.folder))
    text = str(status)
    assert "is not being reduced now" in text
    assert "16 of 19 jobs are done" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  20")}
    assert "scibasic done, scipost done" in lines[first]
    assert "scibasic failed (1 of 2 done), scipost blocked" in lines[second]
    assert "muse_scibasic is broken" in text
    assert "log /scratch/esorex.log" in text
    assert status.snapshot.sum.failed == 1
    assert status.snapshot.sum.blocked == 2


def test_progress_is_shown_to_the_end(night):
    shown = []
    night.reduce(show=shown.append)
    last = shown[-1]
    assert (last.sum.finished, last.sum.waiting, last.sum.running) == (19, 0, 0)
    assert list(last.counts)[:2] == ["muse_bias", "muse_flat"]
    assert all(one.sum.total == 19 for one in shown)
    done = [one.sum.finished for one in shown]
    assert done == sorted(done)
    log = next(night.run.logs.glob("*.log")).read_text()
    assert log.count(" done ") == 19


def test_what_a_death_left_beside_a_finished_job_is_swept_and_nothing_else(night):
    night.reduce(last="bias")
    done, other = sorted(night.run.products.glob("muse_bias/*"))[0], "0" * 16
    left = [
        night.run.scratch / f"muse_bias-{done.name}-1-abcd" / "frames.sof",
        done.with_suffix(".lock"),
        night.run.state / "running" / f"{done.name}.json",
    ]
    stays = [night.run.scratch / f"muse_bias-{other}-1-abcd" / "frames.sof",
             done.with_name(f"{other}.lock")]  # fmt: skip
    for path in (*left, *stays):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    night.reduce(last="bias")
    assert [path.exists() for path in left] == [False, False, False]
    assert not left[0].parent.exists()
    assert all(path.exists() for path in stays)
    held_lock = done.with_suffix(".lock")
    with held_lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        night.reduce(last="bias")
        assert held_lock.exists()
