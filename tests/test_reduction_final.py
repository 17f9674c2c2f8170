"""What is planned with offsets: alignment, cut-outs of the final grid, combined cubes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from reduction_frames import calibrations, exposures, night, tables

from musedask.config import ReductionConfig
from musedask.errors import InputError, MissingError
from musedask.grid import CubeGrid
from musedask.offsets import Offset, OffsetTable
from musedask.placement import Placement
from musedask.reduction.job.made_inputs import made_file
from musedask.reduction.jobs import MadeInput, ProductInput
from musedask.reduction.planning.final_inputs import MARGIN_PIX, cut_out, offset_list, output_wcs
from musedask.reduction.planning.final_jobs import combine_groups
from musedask.reduction.planning.plan import plan_reduction
from musedask.reduction.planning.sequences import Sequence
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

ONE = ReductionConfig(ifus=(1,))
CUBES = replace(ONE, final="cubes")
COMBINE = replace(ONE, final="combine")
AXIS = SpectralAxis(4749.9, 1.25, 3681, "air", "BARYCENT")
RA, DEC = 150.0, 2.0


def square(ra, dec, side, pixel=0.2, axis=AXIS):
    """A grid around a position."""
    middle = (side - 1) / 2
    return CubeGrid(SkyProjection.north_up(ra, dec, pixel, middle, middle), axis, side, side)


GRID = square(RA, DEC, 600)


def offsets_for(frames, **given):
    rows = [
        Offset(date_obs=f.date_obs, ra_offset_arcsec=0.5 * n, dec_offset_arcsec=-0.25 * n,
               dec_deg=DEC, **given)
        for n, f in enumerate(frames)
    ]  # fmt: skip
    return OffsetTable(tuple(rows))


def placed(frames, **given):
    """Arguments of a second plan, when the first cubes are there."""
    return {
        "offsets": offsets_for(frames),
        "footprints": {f.date_obs: square(RA, DEC, 310) for f in frames},
        "grid": GRID,
        **given,
    }


def objects(frames):
    return [f for f in frames if f.tag == "OBJECT"]


def made(job, tag):
    found = [i for i in job.inputs if isinstance(i, MadeInput) and i.tag == tag]
    return found[0] if found else None


# --- alignment ---------------------------------------------------------------------------------


def test_exposures_of_a_target_are_aligned_with_one_another_in_order_of_time():
    frames = night(3) + exposures(2, first_hours=11, target="OTHER")
    plan = plan_reduction(frames, ONE)
    by_target = {job.title: job for job in plan.of_stage("align")}
    assert set(by_target) == {"align HDFS WFM", "align OTHER WFM"}
    job = by_target["align HDFS WFM"]
    assert list(job.frames) == sorted(job.frames)
    images = [plan.by_key[i.job].frames for i in job.inputs]
    assert [date for (date,) in images] == list(job.frames)
    assert job.products == ("OFFSET_LIST", "SOURCE_LIST", "PREVIEW_FOV")


def test_an_exposure_alone_is_not_aligned_and_it_is_told():
    plan = plan_reduction(night(1), ONE)
    assert not plan.of_stage("align")
    assert any("is the only exposure of HDFS" in note for note in plan.notes)


@pytest.mark.parametrize("offsets", ["headers", "offsets.ecsv"])
def test_offsets_from_elsewhere_are_not_measured(offsets):
    assert not plan_reduction(night(2), replace(ONE, offsets=offsets)).of_stage("align")


# --- cubes on the final grid -------------------------------------------------------------------


def test_final_cubes_follow_when_their_places_are_known_and_keep_the_earlier_keys():
    frames = night(2)
    before = plan_reduction(frames, CUBES)
    assert not before.of_stage("final")
    assert any("are planned when the cubes" in note for note in before.notes)
    after = plan_reduction(frames, CUBES, **placed(objects(frames)))
    assert {j.key for j in before} < {j.key for j in after}
    final = after.of_stage("final")
    assert len(final) == 2
    for job in final:
        (earlier,) = (j for j in after.of_stage("scipost") if j.frames == job.frames)
        others = [i for i in job.inputs if not isinstance(i, MadeInput)]
        assert tuple(others) == earlier.inputs
        assert dict(job.parameters) == {**dict(earlier.parameters), "save": "cube"}
        assert made(job, "OFFSET_LIST").text.startswith(job.frames[0])
        assert made(job, "OFFSET_LIST").text.count("\n") == 0


def test_adding_an_exposure_changes_no_final_cube_of_another():
    few, many = night(2), night(3)
    one = plan_reduction(few, CUBES, **placed(objects(few)))
    two = plan_reduction(many, CUBES, **placed(objects(many)))
    assert {j.key for j in one.of_stage("final")} < {j.key for j in two.of_stage("final")}


def test_a_grid_that_grew_on_its_lattice_changes_no_final_cube():
    frames = night(2)
    # A reference pixel whose fraction no float holds: moved, it is off by rounding.
    middle = 299.5 + 1 / 3
    grid = replace(GRID, sky=SkyProjection.north_up(RA, DEC, 0.2, middle, middle))
    grown = [grid.padded(n) for n in (1, 16, 1000)]
    first, *others = [
        {j.key for j in plan_reduction(frames, CUBES, **placed(objects(frames), grid=g))}
        for g in (grid, *grown)
    ]
    assert all(other == first for other in others)


def test_an_exposure_that_is_alone_here_keeps_the_offset_that_it_has():
    frames = night(1)
    table = OffsetTable((Offset(date_obs=objects(frames)[0].date_obs, ra_offset_arcsec=1.0,
                                dec_offset_arcsec=0.5, dec_deg=DEC),))  # fmt: skip
    (job,) = plan_reduction(frames, CUBES, **placed(objects(frames), offsets=table)).of_stage(
        "final"
    )
    assert made(job, "OFFSET_LIST")
    none = OffsetTable(())
    (job,) = plan_reduction(frames, CUBES, **placed(objects(frames), offsets=none)).of_stage(
        "final"
    )
    assert made(job, "OFFSET_LIST") is None


@pytest.mark.parametrize(
    "change",
    [{"grid": square(RA + 1e-5, DEC, 600)}, {"grid": GRID.between(5000, 6000)}],
)
def test_another_lattice_or_axis_changes_all_final_cubes(change):
    frames = night(2)
    one = plan_reduction(frames, CUBES, **placed(objects(frames)))
    two = plan_reduction(frames, CUBES, **placed(objects(frames), **change))
    assert not {j.key for j in one.of_stage("final")} & {j.key for j in two.of_stage("final")}


def test_another_offset_changes_that_cube_alone():
    frames = night(2)
    given = placed(objects(frames))
    first, second = given["offsets"].rows
    moved = OffsetTable((first, replace(second, ra_offset_arcsec=0.51)))
    one = plan_reduction(frames, CUBES, **given)
    two = plan_reduction(frames, CUBES, **{**given, "offsets": moved})
    gone = [j for j in one if j.key not in two.by_key]
    assert [j.frames for j in gone] == [(second.date_obs,)]


def test_offsets_that_differ_by_rounding_make_the_same_job():
    frames = night(2)
    given = placed(objects(frames))
    rows = (replace(r, ra_offset_arcsec=r.ra_offset_arcsec + 1e-9) for r in given["offsets"])
    noisy = OffsetTable(tuple(rows))
    assert noisy != given["offsets"]
    one = plan_reduction(frames, CUBES, **given)
    assert one == plan_reduction(frames, CUBES, **{**given, "offsets": noisy})


def test_right_headers_need_a_grid_alone():
    frames = night(2)
    config = replace(CUBES, offsets="headers")
    plan = plan_reduction(frames, config, **placed(objects(frames), offsets=None))
    assert [made(j, "OFFSET_LIST") for j in plan.of_stage("final")] == [None, None]
    assert all(made(j, "OUTPUT_WCS") for j in plan.of_stage("final"))


def test_an_exposure_without_a_cube_gets_no_final_one():
    frames = night(2)
    given = placed(objects(frames))
    given["footprints"].popitem()
    plan = plan_reduction(frames, CUBES, **given)
    assert len(plan.of_stage("final")) == 1
    assert any("no cube to place on the final grid" in note for note in plan.notes)


def test_a_missing_or_failed_offset_is_an_error_before_anything_runs():
    frames = night(2)
    table = offsets_for(objects(frames))
    config = replace(CUBES, offsets="offsets.ecsv")
    one_row = OffsetTable(table.rows[:1])
    with pytest.raises(MissingError, match=r"no offset for MUSE\.2021-03-05T01:20"):
        plan_reduction(frames, config, offsets=one_row)
    failed = OffsetTable((table.rows[0], replace(table.rows[1], grade="F", note="no stars")))
    with pytest.raises(MissingError, match=r"grade F \(no stars\)"):
        plan_reduction(frames, config, offsets=failed)
    allowed = replace(config, allow_missing=("OFFSET_LIST",))
    plan = plan_reduction(frames, allowed, **placed(objects(frames), offsets=one_row))
    assert [made(j, "OFFSET_LIST") is None for j in plan.of_stage("final")] == [False, True]
    assert any("stays where its header puts it" in note for note in plan.notes)


def test_a_rotation_that_the_pipeline_cannot_apply_is_told():
    frames = night(2)
    table = offsets_for(objects(frames), rotation_deg=0.2)
    plan = plan_reduction(frames, CUBES, **placed(objects(frames), offsets=table))
    assert any("rotation of 0.2 deg" in note for note in plan.notes)


# --- the inputs of a final cube ----------------------------------------------------------------


def test_an_offset_list_has_degrees_of_coordinate():
    (frame,) = exposures(1, dec_deg=-60.0)
    row = Offset(date_obs=frame.date_obs, ra_offset_arcsec=1.8, dec_offset_arcsec=-0.36,
                 flux_scale=1.25)  # fmt: skip
    text = offset_list([(row, frame)]).text
    date, ra, dec, scale = text.split()
    assert date == "2021-03-05T01:00:00.000"
    assert float(ra) == pytest.approx(0.001)  # 1.8 arcsec / cos(-60 deg), in degrees
    assert float(dec) == pytest.approx(-0.0001)
    assert float(scale) == 1.25
    assert offset_list([(replace(row, flux_scale=math.nan), frame)]).text.endswith(" nan")


def test_the_order_of_the_rows_is_that_of_time():
    frames = exposures(3)
    rows = list(zip(offsets_for(frames), frames, strict=True))
    assert offset_list(rows[::-1]) == offset_list(rows)


def test_an_offset_without_a_declination_is_an_error():
    (frame,) = exposures(1, dec_deg=math.nan)
    row = Offset(date_obs=frame.date_obs, ra_offset_arcsec=1.8, dec_offset_arcsec=0)
    with pytest.raises(InputError, match="declination"):
        offset_list([(row, frame)])


def test_the_grid_comes_back_out_of_its_header():
    grid = replace(GRID, spectral=replace(AXIS, first_angstrom=4700.3, size=3721))
    header = fits.Header.fromstring(made_file(output_wcs(grid)).decode("ascii"))
    assert CubeGrid.from_header(header) == grid
    assert header["SPECSYS"] == "BARYCENT"


@given(
    ra=st.floats(-20, 20), dec=st.floats(-20, 20), east=st.floats(-5, 5), north=st.floats(-5, 5),
    side=st.integers(20, 200), pole=st.sampled_from([-60.0, 0.0, 75.0]),
)  # fmt: skip
def test_a_cut_out_holds_the_moved_footprint_with_its_margin_and_no_more(
    ra, dec, east, north, side, pole
):
    grid = square(RA, pole, 1000)
    cos = math.cos(math.radians(pole))
    footprint = square(RA + ra / 3600 / cos, pole + dec / 3600, side)
    (frame,) = exposures(1, dec_deg=pole)
    row = Offset(date_obs=frame.date_obs, ra_offset_arcsec=east, dec_offset_arcsec=north)
    part = cut_out(grid, footprint, row, frame)
    # A whole number of pixels of the grid.
    step = part.sky.lattice_step(grid.sky, (part.ny, part.nx))
    assert step is not None
    assert part.spectral == grid.spectral
    # The corners of the footprint, moved by hand, lie the margin (or a pixel more) inside.
    x = np.array([-0.5, side - 0.5, -0.5, side - 0.5])
    corner_ra, corner_dec = footprint.sky.to_sky(x, np.array([-0.5, -0.5, side - 0.5, side - 0.5]))
    px, py = part.sky.to_pixel(corner_ra - east / 3600 / cos, corner_dec - north / 3600)
    for low, high, size in ((px.min(), px.max(), part.nx), (py.min(), py.max(), part.ny)):
        assert MARGIN_PIX - 0.1 <= low + 0.5 <= MARGIN_PIX + 1.1
        assert MARGIN_PIX - 0.1 <= size - 0.5 - high <= MARGIN_PIX + 1.1


def test_a_cut_out_ends_where_the_grid_does():
    footprint = square(RA + 50 / 3600, DEC, 310)  # 250 pixels to the east, of 300
    (frame,) = exposures(1)
    part = cut_out(GRID, footprint, None, frame)
    step = part.sky.lattice_step(GRID.sky, (part.ny, part.nx))
    assert step[0] == 0
    assert part.nx < 310
    assert part.ny >= 310 + 2 * MARGIN_PIX


def test_an_exposure_beside_the_grid_is_an_error():
    (frame,) = exposures(1)
    with pytest.raises(InputError, match="lies beside the grid"):
        cut_out(GRID, square(RA, DEC + 0.1, 310), None, frame)


def test_a_part_of_a_grid_around_its_own_frame_is_the_grid():
    whole = Placement("all", "", GRID.sky, (GRID.ny, GRID.nx))
    assert GRID.around(whole) == GRID
    assert GRID.around(whole, 5) == GRID
    inner = Placement("inner", "", GRID.sky.shifted(10, 20), (30, 40))
    assert GRID.around(inner) == GRID.cropped(slice(20, 50), slice(10, 50))
    assert GRID.around(inner, 3) == GRID.cropped(slice(17, 53), slice(7, 53))


# --- combined cubes ----------------------------------------------------------------------------


def test_a_combined_cube_takes_reduced_pixel_tables_and_the_measured_offsets():
    plan = plan_reduction(night(3), COMBINE)
    (job,) = plan.of_stage("combine")
    (align,) = plan.of_stage("align")
    assert ProductInput("OFFSET_LIST", align.key) in job.inputs
    makers = [plan.by_key[i.job] for i in job.inputs if i.tag == "PIXTABLE_REDUCED"]
    assert [m.frames for m in makers] == [(date,) for date in job.frames]
    for maker in makers:
        assert maker.stage == "scipost"
        assert "individual" in dict(maker.parameters)["save"].split(",")
        assert "PIXTABLE_REDUCED" in maker.products
    frames = night(3)
    again = plan_reduction(frames, COMBINE, **placed(objects(frames)))
    assert again == plan


def test_one_exposure_cannot_be_combined_and_it_is_told():
    plan = plan_reduction(night(1), COMBINE)
    assert not plan.of_stage("combine")
    assert any("nothing to combine it with" in note for note in plan.notes)


def several():
    """Two pointings of a target, and a third of another."""
    found = [*calibrations(), *tables()]
    for n, (target, block) in enumerate((("A", "1"), ("A", "2"), ("B", "3"))):
        found += exposures(2, first_hours=9 + n, target=target, ob_id=block)
    return found


@pytest.mark.parametrize(("by", "sizes"), [("target", [2, 4]), ("pointing", [2, 2, 2])])
def test_what_goes_into_one_cube(by, sizes):
    plan = plan_reduction(several(), replace(COMBINE, combine_by=by))
    assert sorted(len(job.frames) for job in plan.of_stage("combine")) == sizes


def test_all_targets_in_one_cube_need_their_offsets_in_one_list():
    frames = several()
    config = replace(COMBINE, combine_by="all")
    plan = plan_reduction(frames, config)
    assert not plan.of_stage("combine")
    assert any("planned when its offsets are known" in note for note in plan.notes)
    plan = plan_reduction(frames, config, offsets=offsets_for(objects(frames)))
    (job,) = plan.of_stage("combine")
    rows = made(job, "OFFSET_LIST").text.splitlines()
    assert [row.split()[0] for row in rows] == sorted(f.date_obs for f in objects(frames))


def test_wide_and_narrow_field_are_not_combined():
    modes = ("WFM-NOAO-N", "WFM-AO-N", "NFM-AO-N")
    both = [Sequence("OBJECT", (f,)) for mode in modes for f in exposures(2, mode=mode)]
    with pytest.raises(InputError, match="NFM and WFM"):
        combine_groups("all", both)
    assert len(combine_groups("target", both)) == 3
    assert [len(group) for group in combine_groups("all", both[:4]).values()] == [4]


def test_a_given_grid_is_that_of_the_combined_cube():
    frames = night(2)
    config = replace(COMBINE, grid="grid.fits")
    assert not plan_reduction(frames, config).of_stage("combine")
    (job,) = plan_reduction(frames, config, grid=GRID).of_stage("combine")
    assert made(job, "OUTPUT_WCS") == output_wcs(GRID)
    (free,) = plan_reduction(frames, COMBINE, grid=GRID).of_stage("combine")
    assert made(free, "OUTPUT_WCS") is None


def test_filters_of_a_combined_cube_need_their_list():
    plan = plan_reduction(night(2), replace(COMBINE, filters=("Cousins_R",)))
    (job,) = plan.of_stage("combine")
    assert "FILTER_LIST" in Counter(i.tag for i in job.inputs)
    assert dict(job.parameters) == {"filter": "Cousins_R", "save": "cube"}
