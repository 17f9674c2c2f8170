"""How long a plan takes: chains, priorities, a simulated cluster, the estimate, the words."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reduction_frames import exposures, night, raw, tables, template

from musedask.config import ReductionConfig
from musedask.errors import InputError
from musedask.reduction.jobs import FileInput, Job, Plan, ProductInput
from musedask.reduction.planning.estimate import estimate
from musedask.reduction.planning.plan import plan_reduction
from musedask.reduction.planning.plan_text import calplan_text, files_behind, plan_text, sof_lines
from musedask.reduction.planning.schedule import (
    critical_path,
    priorities,
    ranks,
    seconds_by_recipe,
    simulate_schedule,
)
from musedask.reduction.recipes import RECIPES

RAW = FileInput("BIAS", "/raw/x.fits", "1")


def made(links: dict[str, tuple[str, ...]], stage: str = "scipost") -> Plan:
    """A plan of jobs by name, each with the names of those that it needs."""
    jobs: dict[str, Job] = {}
    for name, needs in links.items():
        inputs = [ProductInput("X", jobs[need].key) for need in needs]
        jobs[name] = Job(
            recipe="muse_scipost", stage=stage, title=name,
            inputs=(FileInput("RAW", f"/{name}", name), *inputs),
        )  # fmt: skip
    return Plan(tuple(jobs.values()))


def by_title(seconds: dict[str, float]):
    return lambda job: seconds[job.title]


DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ()}
TIMES = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 3.0, "e": 4.0}


def test_the_critical_path_is_the_longest_chain():
    path = critical_path(made(DIAMOND), by_title(TIMES))
    assert [job.title for job in path] == ["a", "b", "d"]
    assert critical_path(Plan(())) == ()


def test_the_rank_of_a_job_is_the_longest_chain_from_it():
    plan = made(DIAMOND)
    found = {plan.by_key[key].title: rank for key, rank in ranks(plan, by_title(TIMES)).items()}
    assert found == {"a": 9.0, "b": 8.0, "c": 5.0, "d": 3.0, "e": 4.0}
    swapped = {**TIMES, "b": 2.0, "c": 5.0}
    assert max(ranks(plan, by_title(swapped)).values()) == 9.0


def test_two_workers_do_the_longest_chain_first():
    schedule = simulate_schedule(made(DIAMOND), 2, by_title(TIMES))
    starts = {run.job.title: run.start_s for run in schedule.runs}
    assert starts == {"a": 0.0, "e": 0.0, "b": 1.0, "c": 4.0, "d": 6.0}
    assert schedule.wall_s == 9.0
    assert schedule.busy_between(0, 9) == pytest.approx(15 / 18)


def test_no_worker_is_an_error():
    with pytest.raises(InputError, match="at least 1"):
        simulate_schedule(made(DIAMOND), 0)


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 12))
    return {
        f"j{i}": tuple(f"j{j}" for j in sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))))
        if i else ()
        for i in range(n)
    }  # fmt: skip


@given(links=graphs(), workers=st.integers(1, 5), data=st.data())
def test_a_schedule_keeps_the_order_and_the_workers_and_leaves_none_idle(links, workers, data):
    plan = made(links)
    seconds = {name: float(data.draw(st.integers(1, 9))) for name in links}
    schedule = simulate_schedule(plan, workers, by_title(seconds))
    runs = {run.job.key: run for run in schedule.runs}
    assert set(runs) == set(plan.by_key)
    for job in plan:
        for need in job.needs:
            assert runs[need].end_s <= runs[job.key].start_s
    for moment in {run.start_s for run in schedule.runs}:
        busy = [r.worker for r in schedule.runs if r.start_s <= moment < r.end_s]
        assert len(busy) == len(set(busy)) <= workers
        if len(busy) < workers:  # nothing that could run waits
            for job in plan:
                if runs[job.key].start_s > moment:
                    assert any(runs[need].end_s > moment for need in job.needs)
    total, path = sum(seconds.values()), critical_path(plan, by_title(seconds))
    longest = sum(seconds[job.title] for job in path)
    assert max(longest, total / workers) <= schedule.wall_s + 1e-9
    assert schedule.wall_s <= total / workers + longest + 1e-9  # Graham's bound


# --- a survey ----------------------------------------------------------------------------------


def survey(nights: int, a_night: int):
    """Nights with as many calibrations as the calibration plan takes."""
    found = tables()
    for n in range(nights):
        evening = (date(2021, 3, 4) + timedelta(days=n)).isoformat()
        noon = datetime.fromisoformat(evening) + timedelta(hours=16)
        for tag, hours, number in (("BIAS", 2, 11), ("FLAT", 3, 11), ("ARC", 4, 15),
                                   ("SKYFLAT", 7, 8)):  # fmt: skip
            found += template(tag, noon + timedelta(hours=hours), number)
        found += [raw("ILLUM", noon + timedelta(hours=8 + h)) for h in range(0, 9, 2)]
        found += [raw("STD", noon + timedelta(hours=8.5)), *exposures(a_night, evening)]
    return found


@pytest.fixture(scope="module")
def hundred() -> Plan:
    return plan_reduction(survey(10, 10), ReductionConfig())


def test_a_hundred_exposures_of_all_ifus(hundred):
    # 10 nights of bias, flat, wavecal, lsf by IFU and a twilight; 100 OBJECT and 10 STD by IFU;
    # 10 responses, 100 cubes, 1 alignment.
    assert len(hundred) == 10 * (4 * 24 + 1) + 110 * 24 + 10 + 100 + 1
    depth: dict[str, int] = {}
    for job in hundred:
        depth[job.key] = 1 + max((depth[need] for need in job.needs), default=0)
    # bias, flat, wavecal, twilight, scibasic, standard, scipost, align
    assert max(depth.values()) == 8


def test_forty_eight_workers_are_busy_while_there_are_jobs_by_ifu(hundred):
    schedule = simulate_schedule(hundred, 48)
    assert schedule.busy_by_ifu >= 0.85
    total = sum(map(seconds_by_recipe, hundred))
    assert schedule.wall_s <= 1.25 * total / 48


def test_calibrations_of_the_first_night_go_first(hundred):
    order = priorities(hundred)
    twilights = hundred.of_stage("twilight")
    biases = [j for j in hundred.of_stage("bias") if twilights[-1].title[9:19] in j.title]
    assert biases
    assert order[twilights[0].key] > max(order[job.key] for job in biases)
    # and all of them before the pixel tables
    assert min(order[j.key] for j in hundred.of_stage("bias", "twilight")) > max(
        order[j.key] for j in hundred.of_stage("scibasic", "scipost")
    )


# --- what it costs -----------------------------------------------------------------------------


def test_costs_follow_the_number_of_frames_and_ifus():
    few, many = (
        plan_reduction([f for f in survey(1, 2) if f.tag != "x"], ReductionConfig(ifus=ifus))
        for ifus in ((1,), (1, 2, 3, 4))
    )
    for stage in ("scipost", "twilight", "standard"):
        one, four = few.of_stage(stage)[0], many.of_stage(stage)[0]
        recipe = RECIPES[one.recipe]
        each = recipe.resources
        assert recipe.seconds(four) - recipe.seconds(one) == pytest.approx(3 * each.seconds_each)
        assert recipe.gib(four) - recipe.gib(one) == pytest.approx(3 * each.gib_each)
        assert recipe.megabytes(four) == pytest.approx(4 * recipe.megabytes(one))
    bias = few.of_stage("bias")[0]
    assert RECIPES["muse_bias"].units(bias) == 11


@pytest.mark.parametrize(
    ("recipe", "raw", "number", "seconds", "gib"),
    [("muse_bias", "BIAS", 3, 9.0, 0.84), ("muse_dark", "DARK", 3, 11.4, 0.86),
     ("muse_flat", "FLAT", 3, 13.2, 0.84), ("muse_wavecal", "ARC", 3, 9.2, 0.78),
     ("muse_scibasic", "STD", 1, 9.8, 1.31)],
)  # fmt: skip
def test_costs_are_those_that_were_measured(recipe, raw, number, seconds, gib):
    files = tuple(FileInput(raw, f"/{n}", str(n)) for n in range(number))
    job = Job(recipe=recipe, stage=RECIPES[recipe].stage, inputs=files, ifu=1, ifus=(1,))
    assert RECIPES[recipe].seconds(job) == pytest.approx(seconds, rel=0.1)
    assert RECIPES[recipe].gib(job) == pytest.approx(gib, rel=0.1)


def test_the_estimate_adds_up(hundred):
    found = estimate(hundred, workers=(1, 48))
    assert found.tasks == len(hundred)
    walls = dict(found.walls_s)
    assert walls[1] == pytest.approx(found.cpu_hours * 3600)
    assert found.path_s <= walls[48] < walls[1]
    # A pixel table of 376 MB for each of 110 exposures and 24 IFUs.
    assert dict(found.gigabytes)["scibasic"] == pytest.approx(110 * 24 * 0.376)
    assert found.disk_gb == pytest.approx(sum(dict(found.gigabytes).values()))
    assert 20 < found.memory_gib < 30
    assert found.largest.startswith("scipost")
    assert "48 workers" in str(found)


def test_recorded_durations_go_before_the_table():
    plan = plan_reduction(night(1), ReductionConfig(ifus=(1,)))
    durations = dict.fromkeys((job.recipe for job in plan), 2.0)
    found = estimate(plan, durations, workers=(1,))
    assert dict(found.walls_s)[1] == pytest.approx(2.0 * len(plan))


def test_nothing_costs_nothing():
    found = estimate(Plan(()))
    assert (found.tasks, found.cpu_hours, found.path_s, found.memory_gib) == (0, 0.0, 0.0, 0.0)
    assert math.isfinite(found.disk_gb)
    assert "tasks    0" in str(found)


# --- in words ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Plan:
    return plan_reduction(night(2), ReductionConfig(ifus=(1, 2)))


def test_the_text_tells_stages_reasons_and_notes(small):
    text = plan_text(small, estimate(small))
    assert f"Plan of {len(small)} jobs" in text
    for stage in ("bias", "flat", "scibasic", "align"):
        assert any(line.split()[:1] == [stage] for line in text.splitlines())
    assert "OBJECT MUSE.2021-03-05T01:20:00.000.fits" in text
    assert "ILLUM MUSE.2021-03-05T02:00:00.000.fits: same night, 0.7 h after" in text
    assert "raw frames that nothing needs: 3 ILLUM" in text
    assert "GiB for the largest job" in text
    assert "--nifu" not in text


def test_the_text_lists_every_sof_if_asked(small):
    text = plan_text(small, sof=True)
    for job in small:
        assert job.title in text
        for line in sof_lines(small, job):
            assert line in text
    post = small.of_stage("scipost")[0]
    lines = list(sof_lines(small, post))
    table = next(j for j in small.of_stage("scibasic") if j.frames == post.frames)
    assert f"{table.folder}/PIXTABLE_OBJECT PIXTABLE_OBJECT" in lines
    assert "/static/extinct_table.fits EXTINCT_TABLE" in lines


def test_earlier_jobs_are_told():
    plan = plan_reduction(night(2), ReductionConfig(ifus=(1,)), first="scipost")
    assert "of earlier stages must be done (lsf, scibasic, standard)" in plan_text(plan)


def test_the_calplan_has_each_exposure_with_all_files_behind_it(small):
    used = {i.path for job in small for i in job.inputs if isinstance(i, FileInput)}
    behind = files_behind(small)
    assert {i.path for files in behind.values() for i in files} == used
    rows = [line.split() for line in calplan_text(small).splitlines()[1:]]
    science = "MUSE.2021-03-05T01:00:00.000.fits"
    assert [science, "OBJECT"] in rows
    mine = {(name, tag) for name, tag, *of in rows if of == [science]}
    assert ("MUSE.2021-03-04T18:00:00.000.fits", "BIAS") in mine
    assert ("line_catalog.fits", "LINE_CATALOG") in mine
    assert ("MUSE.2021-03-05T00:30:00.000.fits", "STD") in mine
    assert not any("01:20" in name for name, _ in mine)
