"""What an alignment leaves on disk, whoever measures: rows, decisions, exports, exit status."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import stub_esorex
from command_line import DEC, RA, command, date, expose, succeeded
from test_reduce import observe

from musedask import align_job
from musedask.align_job import AlignJob, run
from musedask.alignment.material import material_folder
from musedask.alignment.measurement import Alignment, Measurement
from musedask.alignment.review.decisions import Decision, decisions_text, row_version
from musedask.alignment.table_lock import table_locked
from musedask.config import config_of
from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.exposures import read_exposure_table, write_exposure_table
from musedask.offsets import Offset, OffsetTable
from musedask.reduction.running import reduce as reducing
from musedask.run import init_run


@pytest.fixture(scope="module")
def cubes(tmp_path_factory):
    """Three exposures; not to be written to."""
    folder = tmp_path_factory.mktemp("cubes")
    return [str(expose(folder, n)) for n in range(3)]


def measured(n: int, grade: str = "A", **values: object) -> Measurement:
    place = {"ra_offset_arcsec": 0.1 * n, "dec_offset_arcsec": -0.2 * n} if grade != "F" else {}
    given = {"name": f"exp{n}", "ra_deg": RA, "dec_deg": DEC, **place, **values}
    return Measurement(date_obs=date(n), grade=grade, **given)


@pytest.fixture
def finds(monkeypatch):
    """Let the measurement find these; gives what it was asked, in turn."""
    asked: list[tuple[AlignJob, list[str]]] = []
    answers: list[Measurement] = []

    def align(job, exposures, progress):
        dates = [str(one["date_obs"].values) for one in exposures]
        asked.append((job, dates))
        if progress is not None:
            progress(len(dates), len(dates), 0.0)
        return Alignment(tuple(one for one in answers if one.date_obs in dates))

    monkeypatch.setattr(align_job, "_measured", align)

    def finding(*found: Measurement):
        answers[:] = found
        return asked

    return finding


def job(cubes, folder: Path, **options: object) -> AlignJob:
    return AlignJob(exposures=tuple(map(str, cubes)), output=folder / "offsets.ecsv", **options)


# --- the table ---------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_exposure(cubes, tmp_path, finds):
    finds(measured(0), measured(1, "F", reasons=("no source",)), measured(2, "B"))
    report = run(job(cubes, tmp_path))
    table = OffsetTable.read(tmp_path / "offsets.ecsv")
    assert table == report.table
    assert [(row.date_obs, row.grade) for row in table] == [
        (date(0), "A"), (date(1), "F"), (date(2), "B"),
    ]  # fmt: skip
    assert report.failed == ("exp1",)
    assert "failed: exp1" in str(report)
    assert not table.rows[1].is_finite


def test_measuring_again_replaces_what_was_measured_and_keeps_decisions_and_others(
    cubes, tmp_path, finds
):
    finds(measured(0), measured(1), measured(2, "F"))
    first = run(job(cubes, tmp_path)).table
    decided = replace(
        first.rows[1], ra_offset_arcsec=9.0, method="manual", decision="moved", decided_by="ann"
    )
    stranger = Offset(date_obs=date(7), ra_offset_arcsec=1.0, dec_offset_arcsec=1.0)
    flagged = replace(first.rows[2], decision="flagged")
    OffsetTable((first.rows[0], decided, flagged, stranger)).write(
        tmp_path / "offsets.ecsv", overwrite=True
    )
    finds(measured(0, ra_offset_arcsec=5.0), measured(1), measured(2, "F"))
    report = run(job(cubes, tmp_path))
    found = OffsetTable.read(tmp_path / "offsets.ecsv")
    assert found.rows[0].ra_offset_arcsec == 5.0
    assert found.rows[1:] == (decided, flagged, stranger)
    assert report.kept == ("exp1", "exp2")
    # Somebody has said that it is not to be used: that is no failure any more.
    assert report.failed == ()


def test_a_decision_made_while_exposures_are_measured_stays(cubes, tmp_path, finds, monkeypatch):
    finds(*map(measured, range(3)))
    run(job(cubes, tmp_path))
    measuring = align_job._measured

    def slow(*given):
        found = measuring(*given)
        succeeded("align", "-o", tmp_path / "offsets.ecsv", "--set", "exp1", "3", "-4")
        return found

    monkeypatch.setattr(align_job, "_measured", slow)
    run(job(cubes, tmp_path))
    row = OffsetTable.read(tmp_path / "offsets.ecsv").find(date(1))
    assert (row.ra_offset_arcsec, row.dec_offset_arcsec) == (3.0, -4.0)


def test_a_table_that_somebody_else_holds_is_waited_for(tmp_path):
    path = tmp_path / "offsets.ecsv"
    material_folder(path).mkdir()
    done: list[str] = []

    def write() -> None:
        with table_locked(path):
            done.append("second")

    with table_locked(path):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.2)
        done.append("first")
    thread.join(10)
    assert done == ["first", "second"]


def test_of_an_exposure_table_those_are_aligned_that_it_uses(cubes, tmp_path, finds):
    succeeded("exposures", *cubes, "--no-measure", "-o", tmp_path / "exposures.ecsv")
    table = read_exposure_table(tmp_path / "exposures.ecsv")
    table["use"] = [True, False, True]
    write_exposure_table(table, tmp_path / "exposures.ecsv", overwrite=True)
    asked = finds(*map(measured, range(3)))
    run(job([tmp_path / "exposures.ecsv"], tmp_path))
    assert asked[0][1] == [date(0), date(2)]


def test_flux_scales_are_relative_to_one_another_or_not_there(cubes, tmp_path, finds):
    scales = (20.0, 40.0, 30.0)
    finds(*(
        measured(n, grade, flux_scale=scale, flux_scale_error=3.0, background=1.0)
        for n, (grade, scale) in enumerate(zip("ABF", scales, strict=True))
    ))  # fmt: skip
    plain = run(job(cubes, tmp_path)).table
    assert [row.applied_scale for row in plain] == [1.0, 1.0, 1.0]
    scaled = run(job(cubes, tmp_path, flux_scale="relative")).table
    # The median of the two that are good is 30.
    assert [row.flux_scale for row in scaled][:2] == pytest.approx([2 / 3, 4 / 3])
    assert [row.flux_scale_error for row in scaled][:2] == pytest.approx([0.1, 0.1])
    assert math.isnan(scaled.rows[2].flux_scale)


def test_who_has_no_flux_scale_is_named(cubes, tmp_path, finds):
    finds(measured(0, flux_scale=2.0, flux_scale_error=0.1), measured(1), measured(2, "F"))
    with pytest.warns(MusedaskWarning, match=r"no flux scale for 1 exposure \(exp1\): "):
        rows = run(job(cubes, tmp_path, flux_scale="relative")).table.rows
    assert rows[0].flux_scale == 1.0
    assert math.isnan(rows[1].flux_scale)
    finds(*map(measured, range(3)))
    with pytest.warns(MusedaskWarning, match="no flux scale for 3 exposures"):
        assert all(math.isnan(row.flux_scale) for row in run(
            job(cubes, tmp_path, flux_scale="relative")).table)  # fmt: skip
    run(job(cubes, tmp_path))  # without a word


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"exposures": ()}, "no exposures"),
        ({"exposures": ("a.ecsv", "b.fits")}, "give it alone"),
        ({"output": Path("offsets.fits")}, r"offsets\.fits: the table of offsets is an \.ecsv"),
        ({"flux_scale": "absolute"}, "flux_scale 'absolute'"),
        ({"filters": ()}, "no filters"),
        ({"filters": ("reference",)}, "filters 'reference': there is no reference"),
        ({"mask_sense": "other"}, "mask_sense 'other'"),
        ({"relative": False}, "without a reference"),
    ],
)
def test_options_that_contradict_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        AlignJob(**{"exposures": ("a.fits",), "output": Path("o.ecsv"), **options})


def test_two_files_of_one_exposure_are_refused_with_both_names(cubes, tmp_path, finds):
    asked = finds()
    twin = expose(tmp_path, 0)
    with pytest.raises(InputError, match=r"exp0\.fits.*exp0\.fits|DATE-OBS"):
        run(job([*cubes, str(twin)], tmp_path))
    assert asked == []


def test_what_is_no_table_or_in_no_folder_is_told_before_anything_is_measured(
    cubes, tmp_path, finds
):
    asked = finds()
    with pytest.raises(FileError, match="no such folder"):
        run(job(cubes, tmp_path / "nowhere"))
    (tmp_path / "offsets.ecsv").write_text("something of mine\n")
    with pytest.raises(InputError, match=r"offsets\.ecsv: this is not a whole ECSV"):
        run(job(cubes, tmp_path))
    assert asked == []
    assert (tmp_path / "offsets.ecsv").read_text() == "something of mine\n"


def test_masks_are_circles_on_the_sky(tmp_path):
    regions = tmp_path / "moving.reg"
    regions.write_text("fk5\ncircle(10:00:00,-30:00:00,3\")\ncircle(150.1,-30.1,0.05')\n")
    first, second = align_job.masked_circles(regions)
    # FK5 and ICRS differ by some milliarcseconds.
    assert (first.ra_deg, first.dec_deg) == pytest.approx((150.0, -30.0), abs=1e-4)
    assert (first.radius_arcsec, second.radius_arcsec) == pytest.approx((3.0, 3.0))
    assert align_job.masked_circles(None) == ()
    regions.write_text("image\ncircle(10,20,3)\n")
    with pytest.raises(InputError, match=r"moving\.reg, line 2: .* is no circle on the sky"):
        align_job.masked_circles(regions)


# --- the command -------------------------------------------------------------------------------


def test_the_command_says_which_failed_by_its_status_too(cubes, tmp_path, finds):
    output = tmp_path / "offsets.ecsv"
    asked = finds(measured(0), measured(1, "F", reasons=("no source",)), measured(2))
    answer = command("align", *cubes, "-o", output, "--export", tmp_path / "offset_list.fits")
    assert answer.status == 1
    assert "no usable offset for exp1" in answer.err
    assert "exp1" in answer.out
    assert "no source" in answer.out
    assert not (tmp_path / "offset_list.fits").exists()
    assert "grade F, which offset_list cannot say" in answer.err
    assert asked[0][1] == [date(0), date(1), date(2)]
    finds(*map(measured, range(3)))
    answer = succeeded(
        "align", *cubes, "-o", output,
        "--export", tmp_path / "offset_list.fits", "--export", tmp_path / "offsets.txt",
    )  # fmt: skip
    table = OffsetTable.read(output)
    back = OffsetTable.read(tmp_path / "offset_list.fits")
    for row, other in zip(table, back, strict=True):
        assert other.ra_offset_arcsec == pytest.approx(row.ra_offset_arcsec, abs=1e-9)
        assert other.dec_offset_arcsec == pytest.approx(row.dec_offset_arcsec, abs=1e-9)
    # 0.1 arcsec to the east is half a pixel.
    assert (tmp_path / "offsets.txt").read_text().splitlines()[1] == "exp1.fits 0.50000 -1.00000 a"
    answer = command("align", "-o", output, "--export", tmp_path / "offsets.txt")
    assert (answer.status, "--overwrite" in answer.err) == (1, True)
    succeeded("align", "-o", output, "--export", tmp_path / "offsets.txt", "--overwrite")


def test_options_arrive(cubes, tmp_path, finds):
    asked = finds(*map(measured, range(3)))
    hst = tmp_path / "hst.fits"
    succeeded(
        "align", *cubes, "-o", tmp_path / "o.ecsv", "--reference", hst, "--max-offset", "7",
        "--filter", "Cousins_R, 6000-7000", "--rotation", "--no-relative", "--flux-scale",
        "relative", "--exclude-lambda", "5570-5590", "--exclude-sky", "--mask", tmp_path / "m.reg",
        "--mask-sense", "bad",
    )  # fmt: skip
    assert asked[0][0] == AlignJob(
        exposures=tuple(cubes), output=tmp_path / "o.ecsv", reference=hst, max_offset_arcsec=7.0,
        filters=("Cousins_R", "6000-7000"), rotation=True, relative=False, flux_scale="relative",
        exclude=((5570.0, 5590.0), "lines", "oh"), masks=tmp_path / "m.reg", mask_sense="bad",
    )  # fmt: skip


def test_the_job_arrives_where_it_is_measured(cubes, tmp_path, monkeypatch):
    asked = {}

    def align(exposures, reference, **options):
        asked.update(options, reference=reference)
        return Alignment(tuple(map(measured, range(3))))

    monkeypatch.setattr(align_job, "align", align)
    made = job(
        cubes, tmp_path, reference=tmp_path / "hst.fits", filters=("SDSS_r",), exclude=("oh",),
        max_offset_arcsec=3.0, rotation=True, relative=False, mask_sense="bad",
    )  # fmt: skip
    run(made)
    assert asked.pop("progress") is None
    assert asked == {
        "reference": tmp_path / "hst.fits", "filters": ("SDSS_r",), "exclude": ("oh",),
        "max_offset_arcsec": 3.0, "rotation": True, "relative": False, "flux_scales": False,
        "masks": (), "mask_sense": "bad", "material": material_folder(tmp_path / "offsets.ecsv"),
    }  # fmt: skip
    with pytest.warns(MusedaskWarning, match="no flux scale"):
        run(replace(made, flux_scale="relative"))
    assert asked["flux_scales"] is True


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "-o NAME.ecsv"),
        (["a.fits"], "-o NAME.ecsv"),
        (["-o", "o.ecsv"], "give exposures"),
        (["a.fits", "-o", "o.fits"], ".ecsv"),
        (["a.fits", "-o", "o.ecsv", "--no-relative"], "--relative"),
        (["a.fits", "-o", "o.ecsv", "--max-offset", "0"], "--max-offset"),
        (["-o", "o.ecsv", "--set", "EXP_1", "0.1"], "--set"),
        (["-o", "o.ecsv", "--set", "EXP_1", "east", "0.1"], "east"),
        (["-o", "o.ecsv", "--set", "EXP_1", "1", "2", "--apply", "r.json"], "one after the other"),
    ],
)
def test_usage_is_explained_with_status_2(arguments, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = command("align", *arguments)
    assert (answer.status, word in answer.err) == (2, True), answer.err


def test_offsets_are_set_by_hand_with_a_minus_and_a_note(cubes, tmp_path, finds):
    output = tmp_path / "offsets.ecsv"
    asked = finds()
    succeeded(
        "align", cubes[0], "-o", output, "--set", "exp0", "-0.62", "-1.31", "--note", "by eye"
    )
    (row,) = OffsetTable.read(output)
    assert (row.name, row.ra_offset_arcsec, row.dec_offset_arcsec) == ("exp0", -0.62, -1.31)
    assert (row.dec_deg, row.note, row.method) == (DEC, "by eye", "manual")
    answer = command("align", "-o", output, "--set", "exp1", "1", "1")
    assert (answer.status, "no such exposure" in answer.err) == (1, True)
    assert OffsetTable.read(output).rows == (row,)
    assert asked == []
    finds(measured(0), measured(1))
    answer = succeeded("align", *cubes[:2], "-o", output)
    assert "kept as people decided: exp0" in answer.out
    assert OffsetTable.read(output).rows[0] == row


def test_a_review_is_applied_whole_or_not_at_all(cubes, tmp_path, finds):
    output, review = tmp_path / "offsets.ecsv", tmp_path / "review.json"
    finds(*map(measured, range(3)))
    table = run(job(cubes, tmp_path)).table
    decisions = [
        Decision(date_obs=date(0), action="accepted", based_on=row_version(table.rows[0])),
        Decision(
            date_obs=date(1), action="flagged", based_on=row_version(table.rows[1]), reason="clouds"
        ),
    ]
    review.write_text(decisions_text(tuple(decisions)))
    succeeded("align", "-o", output, "--apply", review)
    found = OffsetTable.read(output)
    assert [row.decision for row in found] == ["accepted", "flagged", ""]
    assert found.rows[1].grade == "F"
    answer = command("align", "-o", output, "--apply", review)
    assert answer.status == 1
    assert "decide again" in answer.err
    assert OffsetTable.read(output) == found


# --- a run -------------------------------------------------------------------------------------


@pytest.fixture
def reduced(tmp_path, cubes):
    """A run as a reduction leaves it, whose offsets are to be measured."""
    found = init_run(tmp_path / "run")
    found.cubes.mkdir()
    for cube in cubes[:2]:
        (found.cubes / Path(cube).name).symlink_to(cube)
    found.unplaced_cubes.mkdir()
    (found.unplaced_cubes / Path(cubes[2]).name).symlink_to(cubes[2])
    return replace(found, config=config_of({"reduction": {"offsets": "measured"}}))


def test_a_run_stands_for_all_its_exposures_and_its_table(reduced, finds):
    asked = finds(*map(measured, range(3)))
    succeeded("align", reduced.folder, "--threads", "2")
    (made, dates) = asked[0]
    assert dates == [date(0), date(1), date(2)]
    assert made.output == reduced.offsets
    assert len(OffsetTable.read(reduced.offsets)) == 3
    answer = command("align", reduced.folder, reduced.folder, "-o", "o.ecsv")
    assert (answer.status, "give it alone" in answer.err) == (1, True)


def test_only_new_exposures_are_measured_where_a_reference_makes_them_independent(reduced):
    assert len(align_job.job_of_run(reduced, only_new=True).exposures) == 3
    rows = tuple(measured(n, "F" if n else "A").offset for n in (0, 2))
    reduced.tables.mkdir(exist_ok=True)
    OffsetTable(rows).write(reduced.offsets)
    # One more among exposures that are aligned with one another changes all of them.
    assert len(align_job.job_of_run(reduced, only_new=True).exposures) == 3
    config = config_of({"reduction": {"offsets": "measured", "reference": "hst.fits"}})
    absolute = replace(reduced, config=config)
    (only,) = align_job.job_of_run(absolute, only_new=True).exposures
    assert Path(only).name == "exp1.fits"
    assert align_job.job_of_run(absolute).reference == reduced.folder / "hst.fits"
    OffsetTable((*rows, measured(1).offset)).write(reduced.offsets, overwrite=True)
    assert align_job.job_of_run(reduced, only_new=True) is None


@pytest.fixture
def night(tmp_path, monkeypatch):
    """A run whose recipes make small cubes at once, reduced by the command."""
    stub = stub_esorex.install(tmp_path / "stub", status=1)
    monkeypatch.setenv("MUSEDASK_ESOREX", str(stub))
    found = observe(tmp_path / "night", ifus=(1,))
    monkeypatch.setattr(reducing, "reduce", partial(reducing.reduce, run_one=found.recipes))
    return found


def configure(night, *lines: str) -> None:
    text = "\n".join(["[reduction]", 'raw = ["raw"]', 'static = ["static"]', *lines])
    (night.run.folder / "musedask.toml").write_text(text + "\n")


def as_found(night, *grades: str) -> list[Measurement]:
    dates = sorted(night.recipes.pointings)
    return [
        replace(measured(n, grade), date_obs=date_obs)
        for n, (date_obs, grade) in enumerate(zip(dates, grades, strict=True))
    ]


def test_a_reduction_measures_its_offsets_on_the_way_and_only_once(night, finds):
    configure(night, 'offsets = "measured"', 'final = "cubes"')
    asked = finds(*as_found(night, "A", "B"))
    assert command("reduce", night.run.folder, "--dry-run").status == 0
    assert command("reduce", night.run.folder, "--last", "scipost").status == 0
    assert asked == []
    answer = succeeded("reduce", night.run.folder)
    assert len(asked) == 1
    assert night.counts()["final"] == 2
    assert night.counts()["align"] == 0
    assert answer.out.index("grade") < answer.out.index("2 exposure cubes in")
    table = OffsetTable.read(night.run.offsets)
    assert [row.grade for row in table] == ["A", "B"]
    succeeded("reduce", night.run.folder)
    assert len(asked) == 1
    # What a person decides is taken up, by that exposure alone.
    succeeded("align", night.run.folder, "--set", table.rows[1].date_obs, "0.15", "-0.2")
    succeeded("reduce", night.run.folder)
    assert len(asked) == 1
    assert night.counts()["final"] == 3


def test_a_reduction_whose_offsets_fail_says_so_by_its_status(night, finds):
    configure(night, 'offsets = "measured"', 'final = "cubes"')
    finds(*as_found(night, "A", "F"))
    answer = command("reduce", night.run.folder)
    assert answer.status == 1
    assert night.counts()["final"] == 1
    assert "1 exposure cube in" in answer.out
    assert len(list(night.run.unplaced_cubes.iterdir())) == 1


def test_exposures_that_wait_for_one_another_are_not_measured_while_one_has_failed(night, finds):
    configure(night, 'offsets = "measured"', 'final = "cubes"')
    night.recipes.break_jobs(f"scipost OBJECT {max(night.recipes.pointings)}")
    asked = finds(*as_found(night, "A", "A"))
    assert command("reduce", night.run.folder).status == 1
    assert asked == []
    configure(night, 'offsets = "measured"', 'final = "cubes"', 'reference = "hst.fits"')
    assert command("reduce", night.run.folder).status == 1
    assert [len(dates) for _, dates in asked] == [1]
    assert asked[0][0].reference == night.run.folder / "hst.fits"
