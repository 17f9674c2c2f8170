"""The plan as a whole: which jobs, what changes a key, what is an error before anything runs."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reduction_frames import (
    calibrations,
    changed,
    exposures,
    night,
    raw,
    table,
    tables,
    template,
)

from musedask.config import Choice, ReductionConfig
from musedask.errors import InputError, MissingError
from musedask.reduction.finding.calselector import CalFile, CalSelection
from musedask.reduction.job.parameters import Parameter
from musedask.reduction.jobs import STAGES, FileInput, Plan, ProductInput
from musedask.reduction.planning.plan import plan_reduction
from musedask.reduction.planning.sequences import ALL_IFUS

TWO = ReductionConfig(ifus=(1, 2))
ONE = ReductionConfig(ifus=(1,))


def without(frames, *tags):
    return [frame for frame in frames if frame.tag not in tags]


def stages(plan: Plan) -> dict[str, int]:
    return dict(Counter(job.stage for job in plan))


def tags(job) -> set[str]:
    return {item.used_as or item.tag if isinstance(item, ProductInput) else item.tag
            for item in job.inputs}  # fmt: skip


def keys(plan: Plan) -> set[str]:
    return {job.key for job in plan}


# --- the chain ---------------------------------------------------------------------------------


def test_a_night_of_all_ifus_has_each_calibration_once_and_each_exposure_by_ifu():
    plan = plan_reduction(night(3), ReductionConfig())
    per_ifu = ("bias", "flat", "wavecal", "lsf")
    assert stages(plan) == {
        **dict.fromkeys(per_ifu, 24),
        "twilight": 1,
        "scibasic": 24 * 4,
        "standard": 1,
        "scipost": 3,
        "align": 1,
    }
    for stage in (*per_ifu, "scibasic"):
        for job in plan.of_stage(stage):
            assert dict(job.parameters)["nifu"] == str(job.ifu)
            assert job.ifus == (job.ifu,)
    ifus = Counter(job.ifu for job in plan.of_stage("scibasic"))
    assert ifus == dict.fromkeys(ALL_IFUS, 4)


def test_the_sofs_hold_what_the_recipes_need():
    plan = plan_reduction([*night(2), table("BADPIX_TABLE")], TWO)
    bad = {"BADPIX_TABLE"}
    expected = {
        "bias": {"BIAS"} | bad,
        "flat": {"FLAT", "MASTER_BIAS"} | bad,
        "wavecal": {"ARC", "MASTER_BIAS", "TRACE_TABLE", "LINE_CATALOG"} | bad,
        "lsf": {"ARC", "MASTER_BIAS", "MASTER_FLAT", "TRACE_TABLE", "WAVECAL_TABLE",
                "LINE_CATALOG"} | bad,
        "twilight": {"SKYFLAT", "ILLUM", "MASTER_BIAS", "MASTER_FLAT", "TRACE_TABLE",
                     "WAVECAL_TABLE", "GEOMETRY_TABLE"} | bad,
        "standard": {"PIXTABLE_STD", "EXTINCT_TABLE", "STD_FLUX_TABLE", "TELLURIC_REGIONS"},
        "scipost": {"PIXTABLE_OBJECT", "EXTINCT_TABLE", "STD_RESPONSE", "STD_TELLURIC",
                    "ASTROMETRY_WCS", "SKY_LINES", "LSF_PROFILE"},
        "align": {"IMAGE_FOV"},
    }  # fmt: skip
    for job in plan:
        if job.stage != "scibasic":
            assert tags(job) == expected[job.stage], job.title
        else:
            raw_tag = tags(job) & {"OBJECT", "STD"}
            assert len(raw_tag) == 1
            assert tags(job) - raw_tag == {
                "ILLUM", "MASTER_BIAS", "MASTER_FLAT", "TRACE_TABLE", "WAVECAL_TABLE",
                "GEOMETRY_TABLE", "TWILIGHT_CUBE", "BADPIX_TABLE",
            }  # fmt: skip
            assert job.products == (f"PIXTABLE_{raw_tag.pop()}",)
            assert sum(item.tag == "ILLUM" for item in job.inputs) == 1


def test_whole_recipes_take_the_products_of_each_ifu():
    plan = plan_reduction(night(1), TWO)
    (twilight,), (post,) = plan.of_stage("twilight"), plan.of_stage("scipost")
    for job, tag in ((twilight, "MASTER_FLAT"), (post, "LSF_PROFILE"), (post, "PIXTABLE_OBJECT")):
        makers = [plan.by_key[i.job].ifu for i in job.inputs if i.tag == tag]
        assert makers == [1, 2]
        assert job.ifus == (1, 2)


def test_calibrations_that_no_exposure_takes_are_not_reduced_and_are_told():
    plan = plan_reduction([*night(1), *calibrations("2021-01-10")], ONE)
    assert stages(plan)["bias"] == 1
    assert any("nothing needs" in note and "5 BIAS" in note for note in plan.notes)


def test_ifus_are_those_of_the_frames():
    frames = night(1, ifus=(3, 5, 1))
    assert {job.ifu for job in plan_reduction(frames, ReductionConfig())} == {1, 3, 5, None}
    unknown = night(1, ifus=None)
    assert {job.ifu for job in plan_reduction(unknown, ReductionConfig())} == {*ALL_IFUS, None}


def test_an_exposure_with_a_dead_ifu_goes_on_without_it():
    frames = night(2, ifus=(1, 2, 3))
    frames = [replace(f, ifus=(1, 2)) if "01:20" in f.path else f for f in frames]
    plan = plan_reduction(frames, ReductionConfig())
    whole, part = plan.of_stage("scipost")
    assert (whole.ifus, part.ifus) == ((1, 2, 3), (1, 2))
    told = [note for note in plan.notes if "no data of IFU" in note]
    assert told == ["MUSE.2021-03-05T01:20:00.000.fits has no data of IFU 3"]


def test_a_twilight_without_the_first_ifu_is_not_used():
    plan = plan_reduction(night(1, ifus=(3, 4)), ReductionConfig())
    assert not plan.of_stage("twilight")
    assert any("no IFU 1, without which muse_twilight fails" in note for note in plan.notes)


def test_the_twilight_of_some_ifus_has_the_first_one_too():
    plan = plan_reduction(night(1), ReductionConfig(ifus=(7,)))
    (twilight,) = plan.of_stage("twilight")
    assert twilight.ifus == (1, 7)
    assert {job.ifu for job in plan.of_stage("scibasic", "lsf")} == {7}
    assert {job.ifu for job in plan.of_stage("bias", "flat", "wavecal")} == {1, 7}
    plain = plan_reduction(night(1), ReductionConfig(ifus=(7,), twilight=False))
    assert not plain.of_stage("twilight")
    assert {job.ifu for job in plain} == {7, None}


# --- the sky -----------------------------------------------------------------------------------


def with_sky(**given):
    return [*night(2), *exposures(1, tag="SKY", first_hours=9.1, **given)]


@pytest.mark.parametrize(
    ("sky", "lines", "continuum"),
    [("model", True, False), ("subtract-model", True, True), ("simple", False, False),
     ("none", False, False)],
)  # fmt: skip
def test_the_method_of_the_sky_decides_what_scipost_takes(sky, lines, continuum):
    plan = plan_reduction(with_sky(), replace(ONE, sky=sky))
    for job in plan.of_stage("scipost"):
        assert dict(job.parameters)["skymethod"] == sky
        assert ({"SKY_LINES", "LSF_PROFILE"} <= tags(job)) == lines
        assert ("SKY_CONTINUUM" in tags(job)) == continuum
    assert bool(plan.of_stage("sky")) == continuum
    assert bool(plan.of_stage("lsf")) == lines


def test_subtract_model_takes_lines_and_continuum_of_the_nearest_sky():
    frames = [*with_sky(), *exposures(1, tag="SKY", first_hours=13)]
    plan = plan_reduction(frames, replace(ONE, sky="subtract-model"))
    (sky,) = plan.of_stage("sky")
    assert "2021-03-05T01:06" in sky.title
    assert sky.products == ("SKY_SPECTRUM", "SKY_LINES", "SKY_CONTINUUM")
    assert tags(sky) == {
        "PIXTABLE_SKY", "EXTINCT_TABLE", "STD_RESPONSE", "STD_TELLURIC", "LSF_PROFILE", "SKY_LINES",
    }  # fmt: skip
    for job in plan.of_stage("scipost"):
        makers = {i.tag: i.job for i in job.inputs if isinstance(i, ProductInput)}
        assert makers["SKY_LINES"] == makers["SKY_CONTINUUM"] == sky.key
        assert sum(i.tag == "SKY_LINES" for i in job.inputs) == 1


@pytest.mark.parametrize(("given", "found"), [({}, True), ({"mode": "WFM-NOAO-E"}, False)])
def test_subtract_model_needs_a_sky_of_the_mode(given, found):
    frames = [*night(1), raw("SKY", "2021-03-05T02:00:00", **given)]
    config = replace(ONE, sky="subtract-model")
    if found:
        assert plan_reduction(frames, config).of_stage("sky")
    else:
        with pytest.raises(MissingError, match="no SKY of WFM-NOAO-N within 1 d"):
            plan_reduction(frames, config)


def test_sky_exposures_can_become_cubes():
    plan = plan_reduction(with_sky(), replace(ONE, sky_cubes=True))
    (job,) = (j for j in plan.of_stage("scipost") if "SKY" in j.title)
    tables = [i for i in job.inputs if i.tag == "PIXTABLE_SKY"]
    assert [i.used_as for i in tables] == ["PIXTABLE_OBJECT"]
    assert dict(job.parameters)["skymethod"] == "none"
    assert not plan.of_stage("sky")
    (align,) = plan.of_stage("align")
    assert job.key not in align.needs


def test_autocalibration_by_the_user_takes_his_factors():
    factors = table("AUTOCAL_FACTORS")
    (job,) = plan_reduction([*night(1), factors], replace(ONE, autocalib="user")).of_stage(
        "scipost"
    )
    assert "AUTOCAL_FACTORS" in tags(job)
    assert dict(job.parameters)["autocalib"] == "user"
    with pytest.raises(MissingError, match="no AUTOCAL_FACTORS"):
        plan_reduction(night(1), replace(ONE, autocalib="user"))
    (job,) = plan_reduction([*night(1), factors], replace(ONE, autocalib="deepfield")).of_stage(
        "scipost"
    )
    assert "AUTOCAL_FACTORS" not in tags(job)
    assert "autocal" in dict(job.parameters)["save"]


def test_filters_need_their_list():
    config = replace(ONE, filters=("white", "Cousins_R"))
    plan = plan_reduction(night(2), config)
    for job in plan.of_stage("scipost"):
        assert "FILTER_LIST" in tags(job)
        assert dict(job.parameters)["filter"] == "white,Cousins_R"
    (align,) = plan.of_stage("align")
    assert {item.filter for item in align.inputs} == {"white"}
    with pytest.raises(MissingError, match="no FILTER_LIST"):
        plan_reduction(without(night(1), "FILTER_LIST"), config)
    assert plan_reduction(without(night(1), "FILTER_LIST"), ONE)


# --- what changes a key ------------------------------------------------------------------------

NIGHT = night(2, ifus=(1, 2))


def upstream(plan: Plan, job) -> set[str]:
    """Paths of all files that a job depends on, by a walk of its own."""
    found = set()
    for item in job.inputs:
        if isinstance(item, FileInput):
            found.add(item.path)
        elif isinstance(item, ProductInput):
            found |= upstream(plan, plan.by_key[item.job])
    return found


@given(which=st.integers(0, len(NIGHT) - 1))
def test_a_changed_file_changes_the_keys_of_what_depends_on_it_and_no_other(which):
    before = plan_reduction(NIGHT, TWO)
    frames = [changed(f) if n == which else f for n, f in enumerate(NIGHT)]
    after = plan_reduction(frames, TWO)
    depends = {j.title for j in before if NIGHT[which].path in upstream(before, j)}
    old = {job.title: job.key for job in before}
    new = {job.title: job.key for job in after}
    assert {title for title in old if old[title] != new[title]} == depends


@pytest.mark.parametrize("recipe", ["muse_bias", "muse_wavecal", "muse_scipost", "muse_exp_align"])
def test_a_changed_parameter_changes_its_recipe_and_what_follows(recipe):
    value = {
        "muse_bias": ("lsigma", "4"),
        "muse_wavecal": ("yorder", "7"),
        "muse_scipost": ("crsigma", "20"),
        "muse_exp_align": ("fwhm", "4"),
    }[recipe]
    before = plan_reduction(NIGHT, TWO)
    after = plan_reduction(NIGHT, replace(TWO, recipes=((recipe, (value,)),)))
    changed_jobs: set[str] = set()
    for job in before:
        if job.recipe == recipe or set(job.needs) & changed_jobs:
            changed_jobs.add(job.key)
    assert keys(before) - keys(after) == changed_jobs
    assert all(value in job.parameters for job in after if job.recipe == recipe)


def test_another_pipeline_changes_all_keys():
    one = plan_reduction(NIGHT, TWO, version="2.8.7")
    assert not keys(one) & keys(plan_reduction(NIGHT, TWO, version="2.10.0"))
    assert {job.version for job in one} == {"2.8.7"}


@given(seed=st.integers(0, 10**6))
def test_the_order_of_the_frames_changes_nothing(seed):
    frames = [*NIGHT, *night(1, "2021-03-06", ifus=(1, 2))[: -len(tables())]]
    shuffled = random.Random(seed).sample(frames, len(frames))
    assert plan_reduction(shuffled, TWO) == plan_reduction(frames, TWO)


def test_another_night_changes_no_key():
    first = plan_reduction(night(2), TWO)
    later = calibrations("2021-03-10") + exposures(2, "2021-03-10", target="OTHER")
    both = plan_reduction([*night(2), *later], TWO)
    assert keys(first) < keys(both)


def test_another_exposure_changes_the_alignment_alone():
    before, after = (plan_reduction(night(n), TWO) for n in (2, 3))
    gone = keys(before) - keys(after)
    assert {before.by_key[key].stage for key in gone} == {"align"}


def test_a_moved_file_has_the_same_key():
    moved = [replace(f, path=f.path.replace("/raw/", "/elsewhere/")) for f in NIGHT]
    assert keys(plan_reduction(moved, TWO)) == keys(plan_reduction(NIGHT, TWO))


# --- stages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [s for s in STAGES if s not in ("dark", "sky")])
def test_the_last_stage_ends_the_plan_and_keeps_the_keys(last):
    whole = plan_reduction(NIGHT, TWO)
    part = plan_reduction(NIGHT, TWO, last=last)
    place = STAGES.index(last)
    assert keys(part) == {j.key for j in whole if STAGES.index(j.stage) <= place}


@pytest.mark.parametrize("first", ["flat", "scibasic", "scipost", "align"])
def test_the_first_stage_leaves_out_what_has_to_be_there(first):
    whole = plan_reduction(NIGHT, TWO)
    part = plan_reduction(NIGHT, TWO, first=first)
    place = STAGES.index(first)
    assert keys(part) == {j.key for j in whole if STAGES.index(j.stage) >= place}
    needed = {need for job in part for need in job.needs} - keys(part)
    assert {job.key for job in part.earlier} == needed
    assert needed


def test_what_only_later_stages_need_may_be_missing_before_the_last():
    frames = without(NIGHT, "STD")
    with pytest.raises(MissingError):
        plan_reduction(frames, TWO)
    plan = plan_reduction(frames, TWO, last="scibasic")
    assert stages(plan)["scibasic"] == 4
    assert any("later stages will lack: no STD" in note for note in plan.notes)
    flats = plan_reduction(without(NIGHT, "STD", "ARC"), TWO, last="flat")
    assert stages(flats) == {"bias": 2, "flat": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [({"last": "scipst"}, "did you mean 'scipost'"), ({"first": "x1"}, "the stages are bias"),
     ({"first": "scipost", "last": "flat"}, "comes after")],
)  # fmt: skip
def test_stages_that_cannot_be_are_errors(given, message):
    with pytest.raises(InputError, match=message):
        plan_reduction(NIGHT, TWO, **given)


# --- missing calibrations ----------------------------------------------------------------------


def test_all_missing_calibrations_come_in_one_error_with_the_frames_that_need_them():
    frames = without(night(7), "FLAT", "STD", "EXTINCT_TABLE")
    with pytest.raises(MissingError) as caught:
        plan_reduction(frames, TWO)
    text = str(caught.value)
    assert "3 calibrations are missing; nothing was started" in text
    for tag in ("no FLAT of WFM-NOAO-N", "no STD", "no EXTINCT_TABLE"):
        assert text.count(tag) == 1
    assert "OBJECT MUSE.2021-03-05T01:00:00.000.fits (HDFS)" in text
    assert "and 2 more" in text
    assert 'allow_missing = ["FLAT", "EXTINCT_TABLE", "STD"]' in text


def test_only_the_frames_that_need_it_are_named():
    frames = night(1) + exposures(1, mode="WFM-AO-N", first_hours=10, target="AO")
    with pytest.raises(MissingError) as caught:
        plan_reduction(frames, TWO)
    assert "(AO)" in str(caught.value)
    assert "(HDFS)" not in str(caught.value)


def test_a_response_can_be_done_without_if_the_user_says_so():
    frames = without(night(1), "STD")
    for tag in ("STD", "STD_RESPONSE"):
        plan = plan_reduction(frames, replace(TWO, allow_missing=(tag,)))
        (job,) = plan.of_stage("scipost")
        assert "STD_RESPONSE" not in tags(job)
        assert any("no STD" in note and "reduced without it" in note for note in plan.notes)


def test_frames_that_cannot_do_without_are_left_out_if_the_user_says_so():
    frames = night(1) + exposures(1, mode="WFM-AO-N", first_hours=10, target="AO")
    allowed = ("FLAT", "ARC", "STD")
    plan = plan_reduction(frames, replace(TWO, allow_missing=allowed))
    assert stages(plan)["scipost"] == 1
    assert any("(AO) is left out: no FLAT of WFM-AO-N" in note for note in plan.notes)
    # One that is not allowed is still an error.
    with pytest.raises(MissingError, match="no ARC"):
        plan_reduction(frames, replace(TWO, allow_missing=("FLAT", "STD")))


def test_a_calibration_of_a_calibration_is_named_itself():
    with pytest.raises(MissingError) as caught:
        plan_reduction(without(night(1), "LINE_CATALOG"), TWO)
    assert "1 calibration is missing" in str(caught.value)
    assert "no LINE_CATALOG among the static tables" in str(caught.value)


def test_an_unknown_tag_of_allow_missing_is_an_error():
    with pytest.raises(InputError, match="did you mean 'STD'"):
        plan_reduction(night(1), replace(TWO, allow_missing=("STDD",)))


# --- which frames ------------------------------------------------------------------------------


def test_no_frames_are_an_error():
    with pytest.raises(InputError, match="no science frame"):
        plan_reduction([], TWO)
    with pytest.raises(InputError, match="no science frame"):
        plan_reduction(calibrations(), TWO)


def test_modes_and_targets_choose_and_what_is_left_out_is_told():
    frames = night(2) + exposures(3, mode="WFM-AO-N", first_hours=12, target="OTHER")
    plan = plan_reduction(frames, replace(TWO, modes=("WFM-NOAO-N",)))
    assert stages(plan)["scipost"] == 2
    assert "3 frames of OBJECT left out: mode WFM-AO-N is not asked for" in plan.notes
    plan = plan_reduction(frames, replace(TWO, targets=("HDFS",)))
    assert "3 frames of OBJECT left out: target OTHER is not asked for" in plan.notes


@pytest.mark.parametrize(
    ("given", "message"),
    [({"targets": ("HDSF",)}, "did you mean 'HDFS'"), ({"modes": ("NFM-AO-N",)}, "modes = "),
     ({"targets": ("HDFS",), "modes": ("WFM-AO-N",)}, "has both|no OBJECT")],
)  # fmt: skip
def test_a_choice_that_leaves_nothing_is_an_error(given, message):
    with pytest.raises(InputError, match=message):
        plan_reduction(night(1), replace(TWO, **given))


def test_two_exposures_with_one_date_are_an_error_that_names_both():
    frame = exposures(1)[0]
    copy = replace(frame, path="/copy/of.fits")
    with pytest.raises(InputError, match=r"/copy/of\.fits and /raw/MUSE.*one DATE-OBS"):
        plan_reduction([*night(1), copy], TWO)


def test_an_exposure_without_a_date_is_an_error():
    with pytest.raises(InputError, match="no DATE-OBS or MJD-OBS"):
        plan_reduction([*night(1), replace(exposures(1)[0], path="/x.fits", date_obs="")], TWO)


def test_a_calibration_without_a_date_is_told_and_not_used():
    frames = [*night(1), replace(raw("ILLUM", "2021-03-05T01:01:00"), mjd=float("nan"))]
    plan = plan_reduction(frames, TWO)
    assert any("has no MJD-OBS" in note for note in plan.notes)


# --- choices -----------------------------------------------------------------------------------


def chosen(tag, file, frames="*"):
    return replace(TWO, choose=(Choice(frames=frames, tag=tag, file=file),))


def object_job(plan, stage="scibasic", date="2021-03-05T01:00"):
    return next(j for j in plan.of_stage(stage) if date in j.title and "OBJECT" in j.title)


def test_a_chosen_file_goes_before_the_nearest_one():
    frames = night(2)
    far = next(f for f in frames if f.tag == "ILLUM" and "T08:00" in f.date_obs)
    for frame in ("2021-03-05T01:00:00.000", "MUSE.2021-03-05T01:00:00.000.fits",
                  "MUSE.2021-03-05T01:00:00.000"):  # fmt: skip
        plan = plan_reduction(frames, chosen("ILLUM", far.name, frame))
        first, second = object_job(plan), object_job(plan, date="2021-03-05T01:20")
        assert far.path in {i.path for i in first.inputs if isinstance(i, FileInput)}
        assert far.path not in {i.path for i in second.inputs if isinstance(i, FileInput)}
        assert any("chosen in musedask.toml" in r for r in first.reasons if "ILLUM" in r)


@pytest.mark.parametrize("frames", ["*", "2021-03-04", "OBJECT"])
def test_a_sequence_is_chosen_by_its_template_beyond_its_window(frames):
    old = calibrations("2021-02-20")
    flat = next(f for f in old if f.tag == "FLAT")
    plan = plan_reduction([*night(1), *old], chosen("FLAT", flat.template_start, frames))
    job = object_job(plan)
    (master,) = (i.job for i in job.inputs if i.tag == "MASTER_FLAT")
    (trace,) = (i.job for i in job.inputs if i.tag == "TRACE_TABLE")
    assert master == trace
    assert flat.path in {i.path for i in plan.by_key[master].inputs if isinstance(i, FileInput)}


def test_none_goes_without():
    plan = plan_reduction(night(1), chosen("ILLUM", "none", "OBJECT"))
    assert "ILLUM" not in tags(object_job(plan))
    assert not any("no ILLUM" in note for note in plan.notes)
    with pytest.raises(MissingError, match=r"as musedask\.toml has it"):
        plan_reduction(night(1), chosen("BIAS", "none", "OBJECT"))


def test_the_last_choice_that_fits_counts():
    frames = night(1)
    illums = [f.name for f in frames if f.tag == "ILLUM"]
    choices = (Choice(frames="*", tag="ILLUM", file=illums[3]),
               Choice(frames="OBJECT", tag="ILLUM", file=illums[4]))  # fmt: skip
    for order, expected in ((choices, illums[4]), (choices[::-1], illums[3])):
        job = object_job(plan_reduction(frames, replace(TWO, choose=order)))
        assert [i.path for i in job.inputs if i.tag == "ILLUM"] == [f"/raw/{expected}"]


def test_a_choice_that_nothing_asks_for_is_told():
    plan = plan_reduction(night(1), chosen("ILLUM", "none", "BIAS"))
    assert any("ILLUM = 'none' for BIAS: nothing in this plan" in note for note in plan.notes)
    plan = plan_reduction(night(1), chosen("ILLUM", "none", "OBJECT"))
    assert not any("nothing in this plan asks" in note for note in plan.notes)


def test_a_mask_of_the_sky_is_for_whom_it_was_chosen():
    mask = replace(table("SKY_MASK", "mask.fits"), kind="product")
    frames = [*night(2), mask]
    assert not any("SKY_MASK" in tags(j) for j in plan_reduction(frames, TWO))
    plan = plan_reduction(frames, chosen("SKY_MASK", "mask.fits", "2021-03-05T01:20:00.000"))
    assert [("01:20" in j.title) for j in plan if "SKY_MASK" in tags(j)] == [True]


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (Choice(frames="*", tag="ILLUM", file="nope.fits"), MissingError, "no such file"),
        (Choice(frames="2020-01-01", tag="ILLUM", file="none"), InputError, "no frame has"),
        (Choice(frames="*", tag="ILUM", file="none"), InputError, "did you mean 'ILLUM'"),
        (Choice(frames="*", tag="FLAT", file="geometry_table_wfm.fits"), InputError, "not FLAT"),
        (Choice(frames="*", tag="OFFSET_LIST", file="none"), InputError, "offsets"),
    ],
)
def test_a_choice_that_fits_nothing_is_an_error(choice, error, message):
    with pytest.raises(error, match=message):
        plan_reduction(night(1), replace(TWO, choose=(choice,)))


@pytest.mark.parametrize(("tag", "given"), [("FLAT", {"mode": "WFM-AO-N"}),
                                            ("BIAS", {"readout": "SCI2.0"})])  # fmt: skip
def test_a_choice_that_the_pipeline_would_refuse_is_an_error(tag, given):
    other = template(tag, "2021-03-04T10:00:00", 3, **given)
    value = next(iter(given.values()))
    with pytest.raises(MissingError, match=f"its (INS MODE|read-out) is {value}"):
        plan_reduction([*night(1), *other], chosen(tag, other[0].name, "OBJECT"))


def test_the_archives_choice_goes_before_the_nearest_and_the_users_before_that():
    frames = night(1)
    illums = [f for f in frames if f.tag == "ILLUM"]
    name = exposures(1)[0].name.removesuffix(".fits")
    selection = CalSelection(
        (CalFile("OBJECT", name),), (CalFile("ILLUM", illums[3].name.removesuffix(".fits")),)
    )
    job = object_job(plan_reduction(frames, TWO, selections=[selection]))
    assert [i.path for i in job.inputs if i.tag == "ILLUM"] == [illums[3].path]
    assert any("archive's association" in reason for reason in job.reasons)
    config = chosen("ILLUM", illums[4].name)
    job = object_job(plan_reduction(frames, config, selections=[selection]))
    assert [i.path for i in job.inputs if i.tag == "ILLUM"] == [illums[4].path]


def test_a_file_of_the_archives_choice_that_is_not_there_is_passed_over():
    name = exposures(1)[0].name.removesuffix(".fits")
    selection = CalSelection((CalFile("OBJECT", name),), (CalFile("ILLUM", "MUSE.2021-nowhere"),))
    assert keys(plan_reduction(night(1), TWO, selections=[selection])) == keys(
        plan_reduction(night(1), TWO)
    )


def of_archive(*chosen, user=None):
    """The archive's association of the only exposure of a night, or of another frame."""
    user = user or exposures(1)[0]
    files = tuple(CalFile(tag, name.removesuffix(".fits")) for tag, name in chosen)
    return CalSelection((CalFile(user.tag, user.name.removesuffix(".fits")),), files)


def names_of(made, tag):
    """Names of the tables of a tag that the jobs of an exposure take, and why."""
    jobs = [*made.of_stage("scipost"), object_job(made)]
    names = {i.path.rpartition("/")[2] for job in jobs for i in job.inputs if i.tag == tag}
    return names, " ".join(reason for job in jobs for reason in job.reasons if tag in reason)


def test_the_archives_choice_counts_for_static_tables_too():
    other = table("EXTINCT_TABLE", "z.MUSE.2019-01-02T03.fits")
    frames = [*night(1), other]
    assert names_of(plan_reduction(frames, TWO), "EXTINCT_TABLE")[0] != {other.name}
    selection = of_archive(("EXTINCT_TABLE", other.name))
    names, reason = names_of(plan_reduction(frames, TWO, selections=[selection]), "EXTINCT_TABLE")
    assert names == {other.name}
    assert "as the archive's association has it" in reason
    by_hand = chosen("EXTINCT_TABLE", "extinct_table.fits")
    made = plan_reduction(frames, by_hand, selections=[selection])
    assert names_of(made, "EXTINCT_TABLE")[0] == {"extinct_table.fits"}


def test_a_calibration_has_tables_by_its_own_association():
    other = table("LINE_CATALOG", "z.MUSE.2019-01-02T03.fits")
    frames = [*night(1), other]
    arc = next(frame for frame in frames if frame.tag == "ARC")
    found = {}
    for user in (arc, None):
        selection = of_archive(("LINE_CATALOG", other.name), user=user)
        (job, *_) = plan_reduction(frames, TWO, selections=[selection]).of_stage("wavecal")
        found[user] = {i.path.rpartition("/")[2] for i in job.inputs if i.tag == "LINE_CATALOG"}
    assert found == {arc: {other.name}, None: {"line_catalog.fits"}}


def test_a_table_of_the_archives_choice_that_is_not_there_or_does_not_fit_is_passed_over():
    other = table("GEOMETRY_TABLE", "M.MUSE.2019.fits", optics="NFM", date_obs="2019-01-02T00:00")
    frames = [*night(1), other]
    plain = keys(plan_reduction(frames, TWO))
    for name in (other.name, "M.MUSE.nowhere"):
        selection = of_archive(("GEOMETRY_TABLE", name), ("EXTINCT_TABLE", "M.MUSE.elsewhere"))
        assert keys(plan_reduction(frames, TWO, selections=[selection])) == plain


OLD = {"optics": "WFM", "date_obs": "2015-03-01T00:00:00.000"}
"""Of an epoch that is not that of the night."""
NEWER = {**OLD, "date_obs": "2021-01-01T00:00:00.000"}


def test_geometry_and_astrometry_of_the_archives_choice_are_taken_as_the_pair_that_they_are():
    old = [table("GEOMETRY_TABLE", "M.MUSE.g.fits", **OLD),
           table("ASTROMETRY_WCS", "M.MUSE.a.fits", **NEWER)]  # fmt: skip
    frames = [*night(1), *old]
    selection = of_archive(*((frame.tag, frame.name) for frame in old))
    made = plan_reduction(frames, TWO, selections=[selection])
    assert [names_of(made, frame.tag)[0] for frame in old] == [{frame.name} for frame in old]


def test_an_astrometry_of_the_archives_choice_is_not_put_to_a_geometry_of_another_date():
    old = table("ASTROMETRY_WCS", "M.MUSE.a.fits", **OLD)
    made = plan_reduction([*night(1), old], TWO, selections=[of_archive((old.tag, old.name))])
    assert names_of(made, "ASTROMETRY_WCS")[0] == {"astrometry_wcs_wfm.fits"}
    assert names_of(made, "GEOMETRY_TABLE")[0] == {"geometry_table_wfm.fits"}


# --- parameters --------------------------------------------------------------------------------


def test_the_users_parameters_override_the_chains_own():
    plan = plan_reduction(NIGHT, TWO)
    assert {dict(j.parameters)["saveimage"] for j in plan.of_stage("scibasic")} == {"FALSE"}
    config = replace(TWO, recipes=(("muse_scibasic", (("saveimage", "TRUE"),)),))
    plan = plan_reduction(NIGHT, config)
    assert {dict(j.parameters)["saveimage"] for j in plan.of_stage("scibasic")} == {"TRUE"}


@pytest.mark.parametrize(
    ("recipe", "name", "value", "setting"),
    [("muse_scipost", "skymethod", "none", "sky"), ("muse_scipost", "filter", "R", "filters"),
     ("muse_bias", "nifu", "3", "ifus"), ("muse_scipost", "save", "individual", "final"),
     ("muse_scipost", "autocalib", "deepfield", "autocalib"),
     ("muse_flat", "merge", "TRUE", "products are kept by IFU")],
)  # fmt: skip
def test_a_parameter_that_contradicts_the_plan_is_an_error(recipe, name, value, setting):
    config = replace(TWO, recipes=((recipe, ((name, value),)),))
    with pytest.raises(InputError, match=rf"reduction\.{recipe}\] {name} = '{value}'.*{setting}"):
        plan_reduction(NIGHT, config)


@pytest.mark.parametrize(("name", "value"), [("skymethod", "model"), ("filter", "white"),
                                             ("save", "skymodel,cube,positioned")])  # fmt: skip
def test_a_parameter_that_says_what_the_plan_says_is_none(name, value):
    config = replace(TWO, recipes=(("muse_scipost", ((name, value),)),))
    (job, _) = plan_reduction(NIGHT, config).of_stage("scipost")
    assert dict(job.parameters)[name] == value


def test_parameters_are_checked_against_the_schemas():
    schemas = {"muse_bias": {"lsigma": Parameter("lsigma", "double", "3")}}
    config = replace(TWO, recipes=(("muse_bias", (("lsigm", "3"),)),))
    with pytest.raises(InputError, match="did you mean 'lsigma'"):
        plan_reduction(NIGHT, config, schemas=schemas)


def test_parameters_of_an_unknown_recipe_are_an_error():
    config = replace(TWO, recipes=(("muse_scipots", ()),))
    with pytest.raises(InputError, match="did you mean 'muse_scipost'"):
        plan_reduction(NIGHT, config)
