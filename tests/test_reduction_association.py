"""Each rule of the association on both sides of its window, through whole plans."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from reduction_frames import (
    DATED_NIGHTS,
    EVENING,
    calibrations,
    exposures,
    night,
    raw,
    table,
    tables,
    template,
)

from musedask.config import Choice, ReductionConfig
from musedask.errors import InputError, MissingError
from musedask.reduction.jobs import FileInput, Plan, ProductInput
from musedask.reduction.planning.plan import plan_reduction

ONE = ReductionConfig(ifus=(1,))
START = datetime.fromisoformat("2021-03-05T01:00:00")


def taken(plan: Plan, tag: str, of: str = "OBJECT") -> set[str]:
    """DATE-OBS in the names of the raw files (or names of tables) behind an exposure's pixels."""
    jobs = [j for j in plan.of_stage("scibasic") if any(i.tag == of for i in j.inputs)]
    found = set()
    for job in jobs:
        for item in _behind(plan, job):
            if item.tag == tag:
                found.add(item.path.rpartition("/")[2].removeprefix("MUSE.").partition(".fits")[0])
    return found


def _behind(plan, job):
    for item in job.inputs:
        if isinstance(item, FileInput):
            yield item
        else:
            yield from _behind(plan, plan.by_key[item.job])


def without(frames, *tags):
    return [frame for frame in frames if frame.tag not in tags]


HOURS = {"BIAS": 6, "FLAT": 5, "ARC": 4, "SKYFLAT": 2, "ILLUM": 0.5, "STD": 0.4}
"""How far calibrations are from the exposure in a made-up night, all on one side of it."""
NUMBER = {"BIAS": 3, "FLAT": 3, "ARC": 3, "SKYFLAT": 3, "DARK": 3}


def scene(side=-1, **hours):
    """One exposure at START, and calibrations; ``FLAT=[3, 5]`` puts flats elsewhere."""
    found = [*tables(), raw("OBJECT", START, target="HDFS")]
    for tag, away in {**HOURS, **hours}.items():
        for one in [away] if isinstance(away, int | float) else away:
            when = START + timedelta(hours=side * one)
            if tag in NUMBER:
                # Times count from the first frame on both sides.
                found += template(tag, when, NUMBER[tag])
            else:
                found.append(raw(tag, when))
    return found


def plan(frames, config=ONE):
    return plan_reduction(frames, config)


# --- windows -----------------------------------------------------------------------------------

MINUTE = 1 / 60
"""In hours."""


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("tag", ["FLAT", "BIAS", "ARC"])
def test_a_required_calibration_serves_inside_its_window_and_not_outside(tag, side):
    support = {"FLAT": {"BIAS": [6, 72]}}.get(tag, {})
    assert taken(plan(scene(side, **{tag: 72 - MINUTE}, **support)), tag)
    with pytest.raises(MissingError, match=f"no {tag} .*within 3 d; the nearest is.* 3.0 d"):
        plan(scene(side, **{tag: 72 + MINUTE}, **support))


@pytest.mark.parametrize("side", [-1, 1])
def test_a_twilight_serves_for_thirty_days(side):
    support = {"BIAS": [6, 720], "FLAT": [5, 720], "ARC": [4, 720]}
    assert taken(plan(scene(side, SKYFLAT=720 - MINUTE, **support)), "SKYFLAT")
    far = plan(scene(side, SKYFLAT=720 + MINUTE, **support))
    assert not taken(far, "SKYFLAT")
    assert any("no SKYFLAT" in note and "reduced without it" in note for note in far.notes)


@pytest.mark.parametrize(("of", "hours"), [("OBJECT", 24), ("STD", 12), ("SKY", 12)])
@pytest.mark.parametrize("side", [-1, 1])
def test_an_illum_serves_science_for_a_day_and_others_for_half_a_day(of, hours, side):
    config = replace(ONE, sky_cubes=True)
    frames = [f for f in scene(side, ILLUM=[], STD=0, SKYFLAT=[]) if f.tag != "OBJECT"]
    frames = [replace(f, tag="x", kind="skipped") if f.tag == "STD" else f for f in frames]
    # The exposure in question is at START; the two others, which have to be there, are not near.
    for tag, away in {"OBJECT": 30, "STD": 31, "SKY": 32, of: 0}.items():
        frames.append(raw(tag, START - timedelta(hours=side * away), target="X"))
    for away, expected in ((hours - MINUTE, True), (hours + MINUTE, False)):
        illum = raw("ILLUM", START + timedelta(hours=side * away))
        assert bool(direct(plan([*frames, illum], config), "ILLUM", of)) == expected


def direct(made, tag, of="OBJECT"):
    """Files of a tag in the SOFs of the pixel tables of an exposure."""
    jobs = [j for j in made.of_stage("scibasic") if any(i.tag == of for i in j.inputs)]
    assert jobs
    return {i.path for j in jobs for i in j.inputs if i.tag == tag}


def test_a_response_of_any_date_serves_but_its_tellurics_for_a_day_only():
    support = {"BIAS": [6, 9000], "FLAT": [5, 9000], "ARC": [4, 9000]}
    for hours, near in ((24 - MINUTE, True), (24 + MINUTE, False), (9000, False)):
        made = plan(scene(STD=hours, **support))
        tags = {i.tag for i in made.of_stage("scipost")[0].inputs}
        assert "STD_RESPONSE" in tags
        assert ("STD_TELLURIC" in tags) == near
        assert any("no STD_TELLURIC" in note for note in made.notes) != near


@pytest.mark.parametrize(("hours", "noted"), [(719, False), (721, True)])
def test_a_response_of_another_month_is_noted(hours, noted):
    support = {"BIAS": [6, 720], "FLAT": [5, 720], "ARC": [4, 720]}
    notes = plan(scene(STD=hours, **support)).notes
    assert any("its STD_RESPONSE" in note and " d before" in note for note in notes) == noted


def test_a_sequence_that_is_not_whole_is_noted():
    frames = night(1)
    gone = next(f for f in frames if f.tag == "FLAT")
    made = plan([f for f in frames if f is not gone])
    assert any("FLAT" in note and "4 of the 5 of its template" in note for note in made.notes)
    assert not any("of its template" in note for note in plan(frames).notes)


@pytest.mark.parametrize("side", [-1, 1])
def test_darks_serve_for_five_days_where_they_are_asked_for(side):
    config = replace(ONE, dark=True)
    inside = scene(side, DARK=120 - MINUTE, BIAS=[6, 120])
    assert direct_products(plan(inside, config), "MASTER_DARK")
    assert not direct_products(plan(inside), "MASTER_DARK")
    outside = plan(scene(side, DARK=120 + MINUTE, BIAS=[6, 120]), config)
    assert not direct_products(outside, "MASTER_DARK")
    assert any("no DARK" in note for note in outside.notes)


def direct_products(made, tag):
    jobs = [j for j in made.of_stage("scibasic") if any(i.tag == "OBJECT" for i in j.inputs)]
    return [i for j in jobs for i in j.inputs if i.tag == tag]


# --- modes and read-outs -----------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["BIAS", "ILLUM"])
def test_the_mode_does_not_matter_to_bias_and_illum(tag):
    frames = night(1, mode="WFM-AO-N")
    assert {f.mode for f in frames if f.tag == tag} == {"WFM-NOAO-N"}
    assert taken(plan(frames), tag)


@pytest.mark.parametrize(("tag", "missing"), [("FLAT", "FLAT"), ("ARC", "ARC"), ("STD", "STD")])
def test_flat_arc_and_response_have_to_be_of_the_same_mode(tag, missing):
    frames = [replace(f, mode="WFM-NOAO-E") if f.tag == tag else f for f in night(1)]
    with pytest.raises(MissingError, match=f"no {missing} of WFM-NOAO-N"):
        plan(frames)


def test_a_twilight_of_another_mode_is_not_taken():
    frames = [replace(f, mode="WFM-NOAO-E") if f.tag == "SKYFLAT" else f for f in night(1)]
    assert not taken(plan(frames), "SKYFLAT")


@pytest.mark.parametrize("tag", ["BIAS", "FLAT", "ARC"])
def test_the_read_out_has_to_be_the_same(tag):
    frames = [replace(f, readout="SCI2.0") if f.tag == tag else f for f in night(1)]
    with pytest.raises(MissingError, match=r"SCI1\.0"):
        plan(frames)


@pytest.mark.parametrize("tag", ["ILLUM", "SKYFLAT"])
def test_optional_calibrations_of_another_read_out_are_left(tag):
    frames = [replace(f, readout="SCI2.0") if f.tag == tag else f for f in night(1)]
    assert not taken(plan(frames), tag)


# --- the nearest -------------------------------------------------------------------------------


def dates(when, number=3):
    return {(when + timedelta(minutes=n)).isoformat(timespec="milliseconds") for n in range(number)}


def reasons(made):
    return next(
        j.reasons for j in made.of_stage("scibasic") if any(i.tag == "OBJECT" for i in j.inputs)
    )


def test_the_nearest_sequence_is_taken_and_the_earlier_of_two_as_near():
    made = plan(scene(1, FLAT=[-40, -12, 11, 30]))
    assert any(f"MASTER_FLAT {(START + timedelta(hours=11)).isoformat()} (3 frames): 11.0 h after"
               in reason for reason in reasons(made))  # fmt: skip
    made = plan(scene(1, FLAT=[-12, 12]))
    assert any("MASTER_FLAT" in reason and "12.0 h before" in reason for reason in reasons(made))


def test_a_nearer_sequence_that_lacks_its_own_calibrations_is_passed_over():
    # The flats after the exposure are more than three days from the biases before it.
    frames = scene(BIAS=70, FLAT=[-6, 30], ARC=20, SKYFLAT=[], STD=1)
    made = plan(frames)
    assert taken(made, "FLAT") == dates(START - timedelta(hours=30))
    assert any("cannot be used: no BIAS of SCI1.0 within 3 d" in r for r in reasons(made))


def test_too_few_biases_are_no_sequence_and_the_next_one_is_taken():
    frames = without(night(1), "BIAS")
    frames += template("BIAS", START - timedelta(hours=1), 2)
    frames += template("BIAS", START - timedelta(hours=20), 3)
    made = plan(frames)
    assert len(taken(made, "BIAS")) == 3
    assert any("2 of the 3 frames" in note for note in made.notes)


def test_arcs_without_one_of_the_lamps_are_no_sequence():
    arcs = [f for f in night(1) if f.tag == "ARC" and "CU-LAMP4" not in f.lamps]
    frames = [*without(night(1), "ARC"), *arcs]
    with pytest.raises(MissingError, match="no ARC"):
        plan(frames)
    unknown = [replace(f, lamps=()) for f in arcs]
    assert taken(plan([*without(night(1), "ARC"), *unknown]), "ARC")


def test_a_calibration_without_one_of_the_ifus_is_no_calibration():
    flats = [replace(f, ifus=(1, 2)) for f in night(1) if f.tag == "FLAT"]
    frames = [*without(night(1), "FLAT"), *flats]
    with pytest.raises(MissingError, match="it has no IFU 3, 4"):
        plan(frames, ReductionConfig(ifus=(1, 2, 3, 4)))
    assert taken(plan(frames), "FLAT")


def test_the_window_can_be_set():
    frames = scene(FLAT=50)
    assert taken(plan(frames), "FLAT")
    for tag in ("FLAT", "MASTER_FLAT", "TRACE_TABLE"):
        with pytest.raises(MissingError, match=r"within 1\.5 d"):
            plan(frames, replace(ONE, windows=((tag, 1.5),)))
    wide = scene(FLAT=150, BIAS=[6, 150])
    with pytest.raises(MissingError):
        plan(wide)
    assert taken(plan(wide, replace(ONE, windows=(("FLAT", 7.0),))), "FLAT")
    with pytest.raises(InputError, match="did you mean 'FLAT'"):
        plan(frames, replace(ONE, windows=(("FLATS", 7.0),)))


# --- ILLUM -------------------------------------------------------------------------------------


def illum_of(illums, user):
    made = plan([*without(night(1), "ILLUM", "OBJECT"), user, *illums])
    job = next(j for j in made.of_stage("scibasic") if any(i.tag == "OBJECT" for i in j.inputs))
    found = [i.path for i in job.inputs if i.tag == "ILLUM"]
    assert len(found) == 1
    return next(f for f in illums if f.path == found[0]), job, made


def illum(hours, degrees):
    return raw("ILLUM", START + timedelta(hours=hours), temperature_c=degrees)


def test_within_two_hours_of_the_same_night_the_temperature_decides():
    user = exposures(1, temperature_c=10.0)[0]
    near, warm = illum(-0.2, 11.0), illum(1.9, 10.3)
    assert illum_of([near, warm], user)[0] == warm
    assert illum_of([near, illum(2.1, 10.0)], user)[0] == near
    # Beyond two hours the time decides, whatever the temperature.
    assert illum_of([illum(2.2, 13.0), illum(3.0, 10.0)], user)[0].temperature_c == 13.0


def test_an_illum_of_another_night_comes_after_those_of_the_same():
    user = raw("OBJECT", "2021-03-05T15:30:00", temperature_c=10.0, target="X")
    other_night = raw("ILLUM", "2021-03-05T16:05:00", temperature_c=10.0)
    same_night = raw("ILLUM", "2021-03-05T14:10:00", temperature_c=10.4)
    assert other_night.night != user.night == same_night.night
    assert illum_of([other_night, same_night], user)[0] == same_night


def test_without_temperatures_the_time_decides():
    user = exposures(1)[0]
    illums = [illum(-0.2, float("nan")), illum(1.0, float("nan"))]
    assert illum_of(illums, user)[0] == illums[0]


@pytest.mark.parametrize(("degrees", "noted"), [(0.9, False), (1.1, True)])
def test_an_illum_more_than_a_degree_away_is_noted(degrees, noted):
    user = exposures(1, temperature_c=10.0)[0]
    chosen, job, made = illum_of([illum(0.4, 10.0 + degrees)], user)
    assert any(f"{degrees:.1f} degC" in note for note in made.notes) == noted
    assert f"ILLUM {chosen.name}: same night, 0.4 h after, {degrees:.1f} degC apart" in job.reasons


def test_illums_can_be_switched_off():
    assert not taken(plan(night(1), replace(ONE, illum=False)), "ILLUM")


# --- static tables -----------------------------------------------------------------------------

OLD = ("_wfm_comm2b", "_2014-12-01", "_2015-04-16", "_2015-09-10", "")


def pairs(endings=OLD):
    names = {"GEOMETRY_TABLE": "geometry_table", "ASTROMETRY_WCS": "astrometry_wcs"}
    found = []
    for tag, stem in names.items():
        for ending in endings:
            middle = "" if ending.startswith("_wfm") else "_wfm"
            found.append(table(tag, f"{stem}{middle}{ending}.fits"))
    return found


@pytest.mark.parametrize(("evening", "ending"), DATED_NIGHTS)
def test_geometry_and_astrometry_are_those_of_the_night(evening, ending):
    frames = [*without(night(1, evening), "GEOMETRY_TABLE", "ASTROMETRY_WCS"), *pairs()]
    (job,) = plan(frames).of_stage("scipost")
    names = {i.tag: i.path for i in job.inputs if isinstance(i, FileInput)}
    (names["GEOMETRY_TABLE"],) = direct(plan(frames), "GEOMETRY_TABLE")
    for tag in ("GEOMETRY_TABLE", "ASTROMETRY_WCS"):
        stem = names[tag].rpartition("/")[2].removesuffix(".fits")
        assert stem.endswith(ending or "_wfm")
        assert ending or not any(stem.endswith(other) for other in OLD[:-1])


def test_geometry_of_one_date_never_goes_with_astrometry_of_another():
    frames = without(night(1, "2015-03-01"), "GEOMETRY_TABLE", "ASTROMETRY_WCS")
    geometry = [f for f in pairs() if f.tag == "GEOMETRY_TABLE"]
    current = [f for f in pairs(("",)) if f.tag == "ASTROMETRY_WCS"]
    with pytest.raises(MissingError, match=r"no ASTROMETRY_WCS.*ends in _2014-12-01"):
        plan([*frames, *geometry, *current])


def test_a_twilight_is_made_with_the_geometry_of_the_science_frames():
    # The twilight is of a night with the older tables.
    frames = without(night(1, "2014-12-05"), "GEOMETRY_TABLE", "ASTROMETRY_WCS", "SKYFLAT")
    frames += without(calibrations("2014-11-25"), "STD") + pairs()
    made = plan(frames)
    (twilight,) = made.of_stage("twilight")
    (path,) = {i.path for i in twilight.inputs if i.tag == "GEOMETRY_TABLE"}
    assert path.endswith("_2014-12-01.fits")


@pytest.mark.parametrize("mode", ["NFM-AO-N", "WFM-AO-N"])
def test_the_narrow_field_has_tables_of_its_own(mode):
    field = mode[:3]
    frames = without(night(1, mode=mode, optics=field), "GEOMETRY_TABLE", "ASTROMETRY_WCS")
    for tag, stem in (("GEOMETRY_TABLE", "geometry_table"), ("ASTROMETRY_WCS", "astrometry_wcs")):
        frames += [table(tag, f"{stem}_{which}.fits") for which in ("wfm", "nfm")]
    found = {i.path for j in plan(frames) for i in j.inputs if i.tag in
             ("GEOMETRY_TABLE", "ASTROMETRY_WCS")}  # fmt: skip
    assert {path.rpartition("_")[2] for path in found} == {f"{field.lower()}.fits"}


def test_the_optics_of_the_header_go_before_the_name():
    frames = without(night(1), "GEOMETRY_TABLE")
    frames += [table("GEOMETRY_TABLE", "M.MUSE.2020-01-01.fits", optics="NFM")]
    with pytest.raises(MissingError, match="no GEOMETRY_TABLE for the field WFM"):
        plan(frames)


@pytest.mark.parametrize(("evening", "used"), [("2017-03-09", True), ("2017-03-11", False)])
def test_the_vignetting_mask_is_for_early_twilights(evening, used):
    frames = [*night(1, evening), table("VIGNETTING_MASK")]
    (job,) = plan(frames).of_stage("twilight")
    assert any(i.tag == "VIGNETTING_MASK" for i in job.inputs) == used


def test_a_table_of_bad_pixels_goes_to_each_recipe_that_reads_raw_frames():
    made = plan([*night(1), table("BADPIX_TABLE", "badpix_table_2015-06-02.fits")])
    for job in made:
        has = any(i.tag == "BADPIX_TABLE" for i in job.inputs)
        assert has == (job.stage not in ("standard", "scipost", "align")), job.title


def test_raman_lines_are_for_adaptive_optics_alone():
    for mode, used in (("WFM-NOAO-N", False), ("WFM-AO-N", True)):
        made = plan(night(1, mode=mode), replace(ONE, sky="none"))
        (job,) = made.of_stage("scipost")
        tags = {i.tag for i in job.inputs}
        assert ("RAMAN_LINES" in tags) == used
        assert ("LSF_PROFILE" in tags) == used
    (job,) = plan(night(1, mode="WFM-AO-N"), replace(ONE, raman=False)).of_stage("scipost")
    assert "RAMAN_LINES" not in {i.tag for i in job.inputs}


# --- products that are there already -----------------------------------------------------------


def product(tag, when, **given):
    return raw(tag, when, kind="product", path=f"/archive/{tag}-{when}.fits", **given)


def test_products_stand_in_where_there_is_no_raw_sequence():
    masters = [product("MASTER_BIAS", "2021-03-04T18:00:00", ifus=None)]
    frames = [*without(night(1), "BIAS"), *masters]
    made = plan(frames)
    assert not made.of_stage("bias")
    paths = {i.path for j in made for i in j.inputs if i.tag == "MASTER_BIAS"}
    assert paths == {masters[0].path}
    again = plan([*night(1), *masters])
    assert again.of_stage("bias"), "raw frames go before products"


def test_masters_by_ifu_are_taken_by_ifu():
    masters = [
        replace(product("MASTER_BIAS", "2021-03-04T18:00:00", ifus=(n,)), path=f"/archive/{n}.fits")
        for n in (1, 2)
    ]
    frames = [*without(night(1, ifus=(1, 2)), "BIAS"), *masters]
    for job in plan(frames, ReductionConfig(ifus=(1, 2))):
        paths = [i.path for i in job.inputs if i.tag == "MASTER_BIAS"]
        if job.ifu is not None:
            assert paths == [f"/archive/{job.ifu}.fits"]


def test_products_out_of_the_window_do_not_stand_in():
    masters = [product("MASTER_BIAS", "2021-02-20T18:00:00", ifus=None)]
    with pytest.raises(MissingError, match="no BIAS"):
        plan([*without(night(1), "BIAS"), *masters])


def test_the_kits_own_response_and_line_spread_serve_their_mode():
    responses = [table("STD_RESPONSE", f"std_response_wfm-{letter}.fits") for letter in ("n", "e")]
    profiles = [table("LSF_PROFILE", f"lsf_profile_slice_wfm-{x}.fits") for x in ("n", "e")]
    frames = [*without(night(1), "STD"), *responses, *profiles]
    (job,) = plan(frames, replace(ONE, lsf=False)).of_stage("scipost")
    names = {i.tag: i.path for i in job.inputs if isinstance(i, FileInput)}
    assert names["STD_RESPONSE"].endswith("std_response_wfm-n.fits")
    assert names["LSF_PROFILE"].endswith("lsf_profile_slice_wfm-n.fits")


def test_everything_that_was_set_up_is_of_the_night_that_it_says():
    assert {f.night for f in calibrations()} | {f.night for f in exposures(1)} == {EVENING}
    assert {f.kind for f in tables()} == {"static"}


def test_too_few_twilights_are_none():
    frames = without(night(1), "SKYFLAT")
    flats = template("SKYFLAT", "2021-03-04T23:00:00", 3)
    assert taken(plan([*frames, *flats]), "SKYFLAT")
    assert not taken(plan([*frames, *flats[:2]]), "SKYFLAT")


def test_a_sequence_has_the_ifus_that_all_its_frames_have():
    frames = night(1, ifus=(1, 2))
    first = next(f for f in frames if f.tag == "BIAS")
    frames = [replace(f, ifus=(1,)) if f is first else f for f in frames]
    with pytest.raises(MissingError, match="it has no IFU 2"):
        plan(frames, ReductionConfig())


def test_a_standard_need_not_have_the_ifus_of_the_exposure():
    frames = [replace(f, ifus=(1,)) if f.tag == "STD" else f for f in night(1, ifus=(1, 2))]
    made = plan(frames, ReductionConfig())
    (standard,) = made.of_stage("standard")
    assert standard.ifus == (1,)
    assert made.of_stage("scipost")[0].ifus == (1, 2)


@pytest.mark.parametrize(
    ("evening", "expected"), [("2016-06-01", "2015-06-02"), ("2021-03-04", "2019-01-01")]
)
def test_of_several_dated_tables_the_nearest_is_taken(evening, expected):
    names = [f"badpix_table_{day}.fits" for day in ("2019-01-01", "2015-06-02")]
    made = plan([*night(1, evening), *(table("BADPIX_TABLE", name) for name in names)])
    found = {i.path for job in made for i in job.inputs if i.tag == "BADPIX_TABLE"}
    assert found == {f"/static/badpix_table_{expected}.fits"}


def test_tables_under_other_names_are_of_their_own_date():
    frames = without(night(1), "GEOMETRY_TABLE", "ASTROMETRY_WCS")
    early = {"night": "2014-12-05", "mjd": 56996.5}
    tables = [table(tag, f"M.MUSE.{tag}.fits", **early)
              for tag in ("GEOMETRY_TABLE", "ASTROMETRY_WCS")]  # fmt: skip
    with pytest.raises(MissingError, match="no GEOMETRY_TABLE for the field WFM for nights after"):
        plan([*frames, *tables])
    # The kit's current table stays the current one, whenever it was measured.
    kit = [replace(t, path=t.path.replace("M.MUSE.", "").lower().replace(".fits", "_wfm.fits"))
           for t in tables]  # fmt: skip
    assert plan([*frames, *kit])


def test_a_chosen_geometry_brings_the_astrometry_of_its_date():
    frames = [*without(night(1), "GEOMETRY_TABLE", "ASTROMETRY_WCS"), *pairs()]
    choice = Choice(
        frames="OBJECT", tag="GEOMETRY_TABLE", file="geometry_table_wfm_2015-09-10.fits"
    )
    (job,) = plan(frames, replace(ONE, choose=(choice,))).of_stage("scipost")
    (path,) = (i.path for i in job.inputs if i.tag == "ASTROMETRY_WCS")
    assert path.endswith("_2015-09-10.fits")
    other = Choice(frames="OBJECT", tag="ASTROMETRY_WCS", file="astrometry_wcs_wfm.fits")
    with pytest.raises(MissingError, match="of another date than the GEOMETRY_TABLE: choose both"):
        plan(frames, replace(ONE, choose=(choice, other)))


def test_nights_with_other_geometries_make_their_own_twilight_of_the_same_frames():
    frames = [*night(1, "2014-11-30"), *exposures(1, "2014-12-03", first_hours=4)]
    frames += [f for f in calibrations("2014-12-03") if f.tag in ("BIAS", "FLAT", "ARC", "STD")]
    frames = [*without(frames, "GEOMETRY_TABLE", "ASTROMETRY_WCS"), *pairs()]
    made = plan(frames)
    raws = [{i.path for i in job.inputs if i.tag == "SKYFLAT"} for job in made.of_stage("twilight")]
    assert len(raws) == 2
    assert raws[0] == raws[1]


def test_a_master_flat_without_its_trace_does_not_stand_in():
    flat = product("MASTER_FLAT", "2021-03-04T18:00:00", ifus=None)
    trace = product("TRACE_TABLE", "2021-03-04T18:00:00", ifus=None)
    frames = without(night(1), "FLAT")
    assert plan([*frames, flat, trace])
    with pytest.raises(MissingError, match="it has no TRACE_TABLE"):
        plan([*frames, flat])


def test_a_master_of_all_ifus_stands_once_in_a_sof():
    masters = [product("MASTER_BIAS", "2021-03-04T18:00:00", ifus=None)]
    made = plan([*without(night(1), "BIAS"), *masters], ReductionConfig(ifus=(1, 2)))
    (twilight,) = made.of_stage("twilight")
    assert sum(i.tag == "MASTER_BIAS" for i in twilight.inputs) == 1


def test_a_response_may_come_without_its_tellurics():
    (job,) = plan(night(1)).of_stage("scipost")
    optional = {i.tag: i.optional for i in job.inputs if isinstance(i, ProductInput)}
    assert optional == {
        "PIXTABLE_OBJECT": False, "STD_RESPONSE": False, "STD_TELLURIC": True, "LSF_PROFILE": False,
    }  # fmt: skip
