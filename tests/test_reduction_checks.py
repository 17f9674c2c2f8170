"""Nothing that goes wrong passes in silence: each silent failure of the pipeline fails its job."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from esorex_jobs import (
    DATES,
    GRID,
    align,
    combine,
    edit,
    given,
    grid,
    images,
    offsets,
    pixel_tables,
    scipost,
    write_image,
)
from raw_biases import bias_extension, bias_header

from musedask.errors import FileError, InputError
from musedask.reduction.job import checks, input_checks
from musedask.reduction.job.checks import CHECKS, SPOKEN, check_job
from musedask.reduction.job.complaints import Complaint, Evidence
from musedask.reduction.job.failure import JobError
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.job.input_checks import RAW_TAGS, check_inputs
from musedask.reduction.job.log import LogLine, LogSummary, parse_log
from musedask.reduction.job.products import find_products
from musedask.reduction.job.run import run_job
from musedask.reduction.job.sof import SofLine, prepare_sof
from musedask.reduction.jobs import FileInput, Job

MOVED = ((DATES[0], 1e-4, 0, "nan"), (DATES[1], 0, -2e-4, 1.5))


@pytest.fixture
def folders(tmp_path):
    return RunFolders(tmp_path / "products", tmp_path / "scratch")


def offset_file(path, dates, form="D", values=(0.0, 0.0)):
    """An OFFSET_LIST that somebody made."""
    columns = [fits.Column("DATE_OBS", "23A", array=list(dates))]
    columns += [
        fits.Column(name, form, array=[value] * len(dates))
        for name, value in zip(("RA_OFFSET", "DEC_OFFSET"), values, strict=True)
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    return given("OFFSET_LIST", path)


# --- with the real esorex: what it passes over, and what is said of it --------------------------


@pytest.mark.real_esorex
def test_a_sound_job_has_no_complaint_and_no_warning(folders, tmp_path):
    job = combine(pixel_tables(tmp_path), offsets(*MOVED), grid())
    record = run_job(job, folders)
    assert record.warnings == ()
    (cube,) = record.products_of("DATACUBE_FINAL")
    header = fits.getheader(cube)
    assert header["ESO DRS MUSE OFFSET1 DRA"] == 1e-4
    assert header["ESO DRS MUSE OFFSET2 DDEC"] == -2e-4
    assert header["ESO DRS MUSE FLUX SCALE2"] == 1.5
    assert fits.getdata(cube, "DATA").shape == (8, 37, 41)
    assert record.products_of("IMAGE_FOV", filter="white")


@pytest.mark.real_esorex
def test_an_alignment_gives_an_offset_for_each_image(folders, tmp_path):
    record = run_job(align(images(tmp_path, ((0, 0), (3, -2)))), folders)
    (table,) = record.products_of("OFFSET_LIST")
    rows = fits.getdata(table)
    on_sky = rows["RA_OFFSET"] * 3600 * np.cos(np.radians(-60.2)), rows["DEC_OFFSET"] * 3600
    # The second image shows the stars 3 pixels west and 2 pixels south of the first.
    np.testing.assert_allclose(on_sky[0], [0.0, -0.6], atol=0.01)
    np.testing.assert_allclose(on_sky[1], [0.0, -0.4], atol=0.01)
    assert record.warnings == ()


def _counts(folder):
    paths = pixel_tables(folder, DATES[:1])
    edit(paths[0], {"BUNIT": "count"}, 4)
    edit(paths[0], {"BUNIT": "count**2"}, 6)
    edit(paths[0], {"ESO DRS MUSE PIXTABLE FLUXCAL": None})
    return scipost(paths)


def _without(*keys):
    def made(folder):
        paths = pixel_tables(folder, DATES[:1])
        edit(paths[0], dict.fromkeys(keys))
        return scipost(paths)

    return made


def _unlike_images(folder):
    paths = images(folder)
    rng = np.random.default_rng(99)
    y, x = np.mgrid[:100, :100]
    image = rng.normal(0.0, 1.0, x.shape)
    for at_x, at_y in rng.uniform(15, 85, (8, 2)):
        image += 500 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / 8.0)
    write_image(folder / "image3.fits", image, 3)
    return align([*paths, folder / "image3.fits"])


def _cut_off(folder):
    paths = pixel_tables(folder, DATES[:3])
    paths[2].write_bytes(paths[2].read_bytes()[:200000])
    return combine(paths)


def _no_date(folder):
    paths = pixel_tables(folder, DATES[:3])
    edit(paths[2], {"DATE-OBS": None})
    return combine(paths)


def _no_grid(path):
    """A header with the cards of a grid and no axes."""
    header = fits.Header(list(GRID.items()))
    for key in ("NAXIS1", "NAXIS2", "NAXIS3"):
        del header[key]
    header["NAXIS"] = 0
    fits.PrimaryHDU(header=header).writeto(path)
    return given("OUTPUT_WCS", path)


REAL = {
    "a cube in counts": (_counts, (), "flux", "DATACUBE_FINAL.fits is in 'count'"),
    "an unknown filter": (
        lambda f: scipost(pixel_tables(f, DATES[:1]), filter="white,Johnson_V"),
        ("log",), "filters", "no image in the filter 'Johnson_V'",
    ),
    "the error that an unknown filter leaves in the log": (
        lambda f: scipost(pixel_tables(f, DATES[:1]), filter="white,Johnson_V"),
        ("filters",), "log", r"File not found: FILTER_LIST \(for filter .Johnson_V.\) is missing",
    ),
    "an exposure without a row": (
        lambda f: combine(pixel_tables(f), offset_file(f / "o.fits", DATES[:1])),
        ("offsets before",), "offsets", f"{DATES[1]} was moved by None, not by None",
    ),
    "an offset that is no number": (
        lambda f: combine(
            pixel_tables(f), offset_file(f / "o.fits", DATES[:2], values=(0.0, np.nan))
        ),
        ("offsets before",), "offsets", "could not be read from OFFSET_LIST",
    ),
    "a grid that no exposure touches": (
        lambda f: combine(pixel_tables(f), grid(CRVAL2=-60.3)), (), "empty", "touches no data",
    ),
    "a grid that is refused": (
        lambda f: combine(pixel_tables(f), _no_grid(f / "w.fits")), ("log",), "grid",
        "No valid headers for OUTPUT_WCS found",
    ),
    "two tables of one exposure": (
        lambda f: combine(pixel_tables(f, (*DATES[:2], DATES[0]))),
        ("duplicate",), "raw", "table3.fits was left out",
    ),
    "a table without a date": (_no_date, ("date-obs", "raw", "log"), "ignored", "table3.fits"),
    "a table that is cut off": (_cut_off, (), "log", "Failed to load table part"),
    "no refraction": (
        _without("LST", "ESO DRS MUSE PIXTABLE DAR CORRECT"), (), "refraction",
        "table1.fits: differential refraction was not corrected",
    ),
}  # fmt: skip
"""What is wrong -> the job that shows it, what is tolerated so that it is seen, the complaint."""


@pytest.mark.real_esorex
@pytest.mark.parametrize("case", REAL)
def test_what_the_pipeline_passes_over_fails_the_job(case, folders, tmp_path, monkeypatch):
    make, tolerate, check, says = REAL[case]
    job = make(tmp_path / "files")
    if "offsets before" in tolerate:
        monkeypatch.setattr(input_checks, "_without_offset", lambda *_: iter(()))
    with pytest.raises(JobError, match=f"\\[{check}\\].*{says}") as caught:
        run_job(job, folders, tolerate=tolerate)
    assert caught.value.status == 0
    assert f"put {check!r}" in caught.value.reason or f", {check!r}" in caught.value.reason
    assert not (folders.products / job.folder).exists()


@pytest.mark.real_esorex
def test_a_user_may_go_on_all_the_same(folders, tmp_path):
    job = _counts(tmp_path)
    record = run_job(job, folders, tolerate=("STD_RESPONSE",))
    assert record.warnings[0].startswith("[flux] DATACUBE_FINAL.fits is in 'count'")
    assert run_job(job, folders) == record


@pytest.mark.real_esorex
def test_images_that_two_sources_match_are_a_warning(folders, tmp_path):
    record = run_job(_unlike_images(tmp_path), folders)
    (warning,) = record.warnings
    assert warning.startswith("[aligned]")
    assert "image3.fits has 2 sources in common" in warning


@pytest.mark.real_esorex
def test_a_missing_keyword_that_the_pipeline_stumbled_over_is_a_warning(folders, tmp_path):
    paths = pixel_tables(tmp_path)
    edit(paths[0], {"ESO INS DROT MODE": None})
    record = run_job(combine(paths), folders)
    assert "[log] error in the log: Data not found: ESO INS DROT MODE" in record.warnings


@pytest.mark.real_esorex
def test_refraction_that_was_corrected_before_is_not_missed(folders, tmp_path):
    record = run_job(_without("LST")(tmp_path), folders)
    assert any("not doing any DAR correction" in warning for warning in record.warnings)


@pytest.mark.real_esorex
def test_packed_biases_of_which_one_is_cut_off_and_all_lack_gains(folders, tmp_path):
    # Packed, so that nobody can see it before the recipe runs.
    noise = np.random.default_rng(1).normal(1000.0, 2.6, (4240, 4224)).astype(np.float32)
    paths = []
    for number in range(4):
        values = np.roll(noise, 1000 * number, axis=0).astype(np.uint16)
        stream = io.BytesIO()
        fits.HDUList([bias_header(number), bias_extension(values, gain=None)]).writeto(stream)
        packed = gzip.compress(stream.getvalue(), 1)
        paths.append(tmp_path / f"b{number}.fits.gz")
        paths[-1].write_bytes(packed[: len(packed) // 2] if number == 1 else packed)
    job = Job(
        recipe="muse_bias", stage="bias", inputs=tuple(given("BIAS", path) for path in paths),
        parameters=(("nifu", "1"), ("combine", "average")), ifu=1, ifus=(1,),
        products=("MASTER_BIAS",),
    )  # fmt: skip
    with pytest.raises(JobError) as caught:
        run_job(job, folders)
    for text in (
        "[raw] b1.fits.gz was left out",
        "[gain] MASTER_BIAS-01.fits has no ESO DET OUT1 GAIN, ESO DET OUT2 GAIN",
        "put 'raw', 'gain' into tolerate",
    ):
        assert text in caught.value.reason


# --- before the run ----------------------------------------------------------------------------


def before(job, tmp_path):
    """What is said of a job's inputs."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    lines = prepare_sof(job, tmp_path / "products", scratch)
    return list(check_inputs(job, lines, scratch))


def small_bias(path, gain=1.1, ifus=(1, 2), number=0, **cards):
    """A bias of a few pixels."""
    extensions = [bias_extension(np.zeros((4, 4), np.uint16), ifu, gain) for ifu in ifus]
    for hdu in extensions:
        for key, value in cards.items():
            hdu.header[f"HIERARCH ESO DET {key.replace('_', ' ')}"] = value
    fits.HDUList([bias_header(number), *extensions]).writeto(path)
    return path


def bias_job(*paths, ifu=1):
    return Job(recipe="muse_bias", stage="bias", ifu=ifu, ifus=(ifu,) if ifu else (),
               inputs=tuple(given("BIAS", path) for path in paths))  # fmt: skip


def test_sound_inputs_have_no_complaint(tmp_path):
    paths = [small_bias(tmp_path / f"b{n}.fits", number=n) for n in range(3)]
    assert before(bias_job(*paths), tmp_path) == []
    assert before(bias_job(*paths, ifu=None), tmp_path) == []
    tables = pixel_tables(tmp_path / "tables")
    assert before(combine(tables, offsets(*MOVED)), tmp_path) == []


def test_a_missing_gain_is_seen_in_the_ifu_of_the_job(tmp_path):
    path = small_bias(tmp_path / "b.fits", gain=None)
    (complaint,) = before(bias_job(path), tmp_path)
    assert complaint.check == "gain"
    assert f"{path}: CHAN01 has no ESO DET OUT1 GAIN, ESO DET OUT2 GAIN" in complaint.text
    assert len(before(bias_job(path, ifu=None), tmp_path)) == 2
    assert before(bias_job(path, ifu=3), tmp_path) == []


def test_a_gain_of_zero_is_none(tmp_path):
    path = small_bias(tmp_path / "b.fits", OUT3_GAIN=0.0)
    (complaint,) = before(bias_job(path), tmp_path)
    assert "CHAN01 has no ESO DET OUT3 GAIN:" in complaint.text


def test_a_dead_chip_needs_no_gain(tmp_path):
    path = small_bias(tmp_path / "b.fits", gain=None, CHIP_LIVE=False)
    assert before(bias_job(path), tmp_path) == []


def test_a_raw_frame_that_is_cut_off_is_an_error_before_anything_runs(tmp_path):
    path = small_bias(tmp_path / "b.fits")
    path.write_bytes(path.read_bytes()[:-2880])
    with pytest.raises(FileError, match=r"b\.fits: is cut off"):
        before(bias_job(path), tmp_path)


def test_two_frames_of_one_date_are_named(tmp_path):
    one, two = small_bias(tmp_path / "b1.fits"), small_bias(tmp_path / "b2.fits")
    (complaint,) = before(bias_job(one, two), tmp_path)
    assert complaint.check == "duplicate"
    assert f"{one} and {two} have one DATE-OBS, 2020-01-01T10:00:00.000" in complaint.text


def test_a_raw_frame_may_lack_its_date_and_a_pixel_table_may_not(tmp_path):
    paths = [small_bias(tmp_path / f"b{n}.fits") for n in (1, 2)]
    tables = pixel_tables(tmp_path / "tables")
    for path in (*paths, *tables):
        edit(path, {"DATE-OBS": None})
    assert before(bias_job(*paths), tmp_path) == []
    checks_of_tables = [c.check for c in before(combine(tables), tmp_path)]
    assert checks_of_tables == ["date-obs", "date-obs"]


@pytest.mark.parametrize("name", ["b.fits", "b.fits.fz", "b.fits.gz", "gzip.fits"])
def test_raw_frames_may_be_packed(tmp_path, name):
    path = small_bias(tmp_path / "plain.fits", gain=None)
    target = tmp_path / name
    if name.endswith(".fz"):
        with fits.open(path) as hdus:
            packed = [fits.CompImageHDU(hdu.data, hdu.header) for hdu in hdus[1:]]
            fits.HDUList([hdus[0], *packed]).writeto(target)
    elif name != "b.fits":
        target.write_bytes(gzip.compress(path.read_bytes()))
    else:
        path.rename(target)
    # Of those that are packed as a whole only the products tell.
    unseen = name in ("b.fits.gz", "gzip.fits")
    assert len(before(bias_job(target), tmp_path)) == (0 if unseen else 1)


def test_the_ifus_of_one_exposure_are_no_duplicates_and_a_missing_one_is_named(tmp_path):
    tables = pixel_tables(tmp_path / "tables", (DATES[0], DATES[0]))
    for ifu, path in zip((1, 3), tables, strict=True):
        edit(path, {"EXTNAME": f"CHAN{ifu:02d}"})
    job = Job(**{**vars(scipost(tables)), "ifus": (1, 2, 3)})
    (complaint,) = before(job, tmp_path)
    assert complaint.check == "ifus"
    assert complaint.text == f"there is no pixel table of IFU 2 of {DATES[0]}"


def test_an_exposure_without_a_row_or_with_no_number_is_named(tmp_path):
    tables = pixel_tables(tmp_path / "tables")
    (complaint,) = before(combine(tables, offset_file(tmp_path / "o.fits", DATES[1:3])), tmp_path)
    assert complaint.check == "offsets"
    assert f"o.fits: has no row for DATE-OBS {DATES[0]}" in complaint.text
    bad = offset_file(tmp_path / "n.fits", DATES[:2], values=(np.nan, 0.0))
    assert len(before(combine(tables, bad), tmp_path)) == 2


def test_offsets_in_single_precision_are_an_error(tmp_path):
    bad = offset_file(tmp_path / "o.fits", DATES[:2], form="E")
    with pytest.raises(FileError, match=r"RA_OFFSET has format E, not D"):
        before(combine(pixel_tables(tmp_path / "tables"), bad), tmp_path)


def test_a_complaint_about_the_inputs_ends_the_job_before_esorex_starts(folders, tmp_path):
    path = small_bias(tmp_path / "b.fits", gain=None)
    with pytest.raises(InputError, match=r"\[gain\]"):
        run_job(bias_job(path), folders)
    assert list(folders.scratch.iterdir()) == []


# --- what is said of products and logs, without esorex -----------------------------------------


def evidence(folder, log="", made=(), job=None, lines=(), listed=()):
    """What would be known of a job: ``made`` is (name, PRO CATG, cards of PRIMARY)."""
    folder.mkdir(exist_ok=True)
    for name, tag, cards in made:
        primary = fits.PrimaryHDU()
        for key, value in {"ESO PRO CATG": tag, **cards}.items():
            primary.header[f"HIERARCH {key}" if " " in key else key] = value
        primary.writeto(folder / name)
    job = job or Job(recipe="muse_bias", stage="bias", inputs=(FileInput("BIAS", "/b.fits", ""),))
    return Evidence(job, tuple(lines), tuple(listed), find_products(folder), parse_log(log))


def said(known, folder):
    return [(complaint.check, complaint.text) for complaint in check_job(known, folder)]


BIAS = ("MASTER_BIAS-01.fits", "MASTER_BIAS", {"EXTNAME": "CHAN01"})

MESSAGES = {
    "raw": (
        'Image "/raw/b1.fits[CHAN01]" (extension 1) could not be read although chip is alive: Bad',
        "Ignoring frame without arc lamp switched on",
    ),
    "ignored": (
        '"/t.fits" could not be loaded, it will be ignored!',
        '"/t.fits" does not contain the DATE-OBS keyword, it will be ignored!',
    ),
    "duplicate": ('we already have IFU  1 of exposure 1 ("/t1.fits")! Ignoring "/t2.fits"',),
    "offsets": (
        "Input OFFSET_LIST has unexpected format, proceeding without offset and flux scales!",
        "RA_OFFSET for 2020-01-01T00:00:00.000 could not be read from OFFSET_LIST!",
    ),
    "grid": ('No valid headers for OUTPUT_WCS found in "/w.fits"',),
    "extinction": ("EXTINCT_TABLE missing!", "Extinction table not given!",
                   "Airmass unknown, not doing extinction correction: Illegal input"),
    "astrometry": ("Using default MUSE WFM astrometry, output world coordinates will be off!",
                   "Using default MUSE NFM astrometry, output world coordinates will be off!"),
    "velocity": ("Could not find all properties necessary for radial velocity computation!",
                 "Computing radial velocity correction failed: Illegal input"),
    "standard": ("Correct STD_FLUX_TABLE could not be loaded, observed target not listed?",
                 "Unknown standard star in exposure (missing OBS.TARG.NAME)!"),
    "sky": ("Master sky fit failed with error code -11: Illegal input",
            "Sky-continuum contains infinite values, fit may have failed!"),
}  # fmt: skip
"""Check -> the pipeline's own words for it."""


@pytest.mark.parametrize(
    ("check", "text"), [(check, text) for check, texts in MESSAGES.items() for text in texts]
)
@pytest.mark.parametrize("level", ["WARNING", " ERROR ", " INFO  "])
def test_what_the_pipeline_says_by_the_way_is_a_complaint_with_its_name(
    check, text, level, tmp_path
):
    known = evidence(tmp_path / "p", f"11:00:00 [{level}] muse_x: [tid=000] {text}", [BIAS])
    ((found, says),) = said(known, tmp_path)
    assert found == check
    assert says.startswith(text)


def test_each_of_its_words_is_tested():
    for check, pattern, _, _ in SPOKEN:
        lines = LogSummary(tuple(LogLine("", "", "", text) for text in MESSAGES[check]))
        assert lines.find(pattern), (check, pattern)
    assert {check for check, *_ in SPOKEN} == set(MESSAGES)


def test_a_tag_that_a_user_goes_without_excuses_what_follows_from_it(tmp_path):
    log = "11:00:00 [WARNING] muse_scipost: [tid=000] EXTINCT_TABLE missing!"
    (complaint,) = check_job(evidence(tmp_path / "p", log, [BIAS]), tmp_path)
    assert not complaint.is_tolerated(())
    assert not complaint.is_tolerated(("flux", "STD_RESPONSE"))
    assert complaint.is_tolerated(("EXTINCT_TABLE",))
    assert complaint.is_tolerated(("extinction",))
    assert not Complaint("raw", "x").is_tolerated(("",)) or Complaint("raw", "x").excuse == ""


def test_an_error_in_the_log_of_a_recipe_that_succeeded_is_a_complaint(tmp_path):
    log = (
        "11:00:00 [ ERROR ] muse_x: [tid=000] Something broke\n"
        "11:00:00 [ ERROR ] muse_x: [tid=000] Dumping all 2 error(s):\n"
        "11:00:00 [ ERROR ] muse_x: [tid=000]   [1/2] 'File not found: x.fits' (9) at f:f.c:1\n"
        "11:00:00 [ ERROR ] muse_x: [tid=000]   [2/2] 'File not found' (9) at g:g.c:2\n"
    )
    assert said(evidence(tmp_path / "p", log, [BIAS]), tmp_path) == [
        ("log", "error in the log: Something broke"),
        ("log", "error in the log: File not found: x.fits"),
    ]


def test_products_are_those_of_the_plan_and_of_the_ifu(tmp_path):
    job = Job(recipe="muse_flat", stage="flat", inputs=(FileInput("FLAT", "/f.fits", ""),),
              ifu=1, products=("MASTER_FLAT", "TRACE_TABLE"))  # fmt: skip
    flat = ("MASTER_FLAT-02.fits", "MASTER_FLAT", {"EXTNAME": "CHAN02"})
    assert said(evidence(tmp_path / "p", made=[flat], job=job), tmp_path) == [
        ("products", "the recipe has made no TRACE_TABLE, only MASTER_FLAT"),
        ("products", "MASTER_FLAT-02.fits is of IFU 2, not 1"),
    ]
    assert said(evidence(tmp_path / "none", job=job), tmp_path) == [
        ("products", "the recipe has made nothing")
    ]


def test_what_esorex_says_it_made_is_there(tmp_path):
    known = evidence(tmp_path / "p", made=[BIAS], listed=[BIAS[0], "MASTER_BIAS-02.fits"])
    assert said(known, tmp_path) == [
        ("products", "esorex says that it made MASTER_BIAS-02.fits, which is not there")
    ]


def used(*names, record=1):
    """Cards of a product that was made from these raw frames."""
    cards = {f"ESO PRO REC{n} ID": "muse_x" for n in range(1, record + 1)}
    for number, name in enumerate(names, start=1):
        cards[f"ESO PRO REC{record} RAW{number} NAME"] = name
    return cards


def test_each_raw_frame_is_in_one_of_the_products(tmp_path):
    lines = [SofLine("BIAS", f"/raw/{name}", f"/raw/{name}", "") for name in ("a", "b", "c")]
    lines += [SofLine("BADPIX_TABLE", "/static/bad.fits", "/static/bad.fits", "")]
    made = [("1.fits", "MASTER_BIAS", used("a", record=2)), ("2.fits", "MASTER_BIAS", used("b"))]
    ((check, text),) = said(evidence(tmp_path / "p", made=made, lines=lines), tmp_path)
    assert check == "raw"
    assert text.startswith("c was left out")


def test_of_two_frames_with_one_name_both_are_used(tmp_path):
    lines = [SofLine("BIAS", f"/{night}/a.fits", "", "") for night in (1, 2)]
    once = evidence(tmp_path / "1", made=[("1.fits", "MASTER_BIAS", used("a.fits"))], lines=lines)
    twice = evidence(
        tmp_path / "2", made=[("1.fits", "MASTER_BIAS", used("a.fits", "a.fits"))], lines=lines
    )
    # Two products, both of the one frame.
    made = [(name, "X", used("a.fits")) for name in ("1.fits", "2.fits")]
    both = evidence(tmp_path / "3", made=made, lines=lines)
    assert len(said(once, tmp_path)) == len(said(both, tmp_path)) == 1
    assert said(twice, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [("Channel for IFU {:02d} is missing", "data"),
     ("Calibrations could not be loaded for IFU {:2d}: TRACE_TABLE", "calibrations"),
     ("No LSF_PROFILE (cube format) specified for IFU {:2d}!", "line profiles"),
     ('Could not load LSF (cube format) for IFU {:2d} from "/l.fits"!', "line profiles")],
)  # fmt: skip
def test_only_the_ifus_of_the_job_are_missed(tmp_path, text, what):
    said_by_all = [f"11:00:00 [WARNING] muse_x: [tid=000] {text.format(ifu)}" for ifu in (2, 3)]
    job = Job(recipe="muse_scipost", stage="scipost", ifus=(1, 3),
              inputs=(FileInput("PIXTABLE_OBJECT", "/t.fits", ""),))  # fmt: skip
    known = evidence(tmp_path / "p", "\n".join(said_by_all), [("s.fits", "SKY_MASK", {})], job)
    assert said(known, tmp_path) == [("ifus", f"the {what} of IFU 3 were not found")]


def test_a_grid_that_was_not_taken_is_told_by_its_cards(tmp_path):
    header = fits.Header([(k, v) for k, v in GRID.items() if k not in ("SIMPLE", "BITPIX")])
    (tmp_path / "w.fits").write_bytes(fits.Header(list(GRID.items())).tostring().encode())
    folder = tmp_path / "p"
    folder.mkdir()
    primary = fits.PrimaryHDU()
    primary.header["HIERARCH ESO PRO CATG"] = "DATACUBE_FINAL"
    data = fits.ImageHDU(np.zeros((8, 37, 41), np.float32), name="DATA")
    data.header.update({k: v for k, v in header.items() if not k.startswith("NAXIS")})
    lines = (SofLine("OUTPUT_WCS", "w.fits", "w.fits", ""),)
    job = Job(recipe="muse_scipost", stage="final", parameters=(("filter", ""),),
              inputs=(FileInput("PIXTABLE_OBJECT", "/t.fits", ""),))  # fmt: skip

    def complaints(**cards):
        data.header.update(cards)
        fits.HDUList([primary, data]).writeto(folder / "c.fits", overwrite=True)
        known = Evidence(job, lines, (), find_products(folder), parse_log(""))
        return [text for check, text in said(known, tmp_path) if check == "grid"]

    assert complaints() == []
    (text,) = complaints(CRPIX1=21.0)
    assert text == "c.fits is not on the grid of w.fits: CRPIX1 = 21 instead of 20"
    (text,) = complaints(CRPIX1=20.0, CRVAL1=150.1002 + 1e-5)
    assert "CRVAL1 = 150.10021 instead of 150.1002" in text


@pytest.mark.parametrize(
    ("cards", "fits_the_list"),
    [({}, True), ({"OFFSET1 DRA": 1.0001e-4}, False), ({"OFFSET1 DDEC": -2.0001e-4}, False),
     ({"FLUX SCALE1": 1.51}, False), ({"OFFSET1 DRA": None}, False), ({"FLUX SCALE1": None}, False),
     ({"OFFSET1 DATE-OBS": DATES[1]}, False), ({"OFFSET1 DRA": 1e-4 + 1e-15}, True)],
)  # fmt: skip
def test_an_exposure_is_moved_by_what_the_list_says(tmp_path, cards, fits_the_list):
    (table,) = pixel_tables(tmp_path / "t", DATES[:1])
    job = scipost([table], offsets((DATES[0], 1e-4, -2e-4, 1.5)), filter="")
    lines = prepare_sof(job, tmp_path, tmp_path)
    applied = {"OFFSET1 DRA": 1e-4, "OFFSET1 DDEC": -2e-4, "FLUX SCALE1": 1.5,
               "OFFSET1 DATE-OBS": DATES[0]} | cards  # fmt: skip
    primary = {f"ESO DRS MUSE {k}": v for k, v in applied.items() if v is not None}
    made = [("c.fits", "DATACUBE_FINAL", primary)]
    complaints = said(evidence(tmp_path / "p", made=made, job=job, lines=lines), tmp_path)
    assert [check for check, _ in complaints] == ([] if fits_the_list else ["offsets"])


def test_an_exposure_that_an_alignment_left_out_is_named(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    primary = fits.PrimaryHDU()
    for key, value in {"PRO CATG": "OFFSET_LIST", "QC EXPALIGN NMATCH1": 4,
                       "QC EXPALIGN NMATCH2": 0}.items():  # fmt: skip
        primary.header[f"HIERARCH ESO {key}"] = value
    columns = [
        fits.Column("DATE_OBS", "23A", array=list(DATES[:2])),
        fits.Column("RA_OFFSET", "D", array=[0.0, np.nan]),
        fits.Column("DEC_OFFSET", "D", array=[0.0, 0.0]),
    ]
    fits.HDUList([primary, fits.BinTableHDU.from_columns(columns)]).writeto(folder / "o.fits")
    lines = tuple(SofLine("IMAGE_FOV", f"/i{n}.fits", f"/i{n}.fits", "") for n in (1, 2, 3))
    job = Job(recipe="muse_exp_align", stage="align", inputs=(FileInput("IMAGE_FOV", "/i", ""),))
    known = Evidence(job, lines, (), find_products(folder), parse_log(""))
    found = [complaint for complaint in check_job(known, tmp_path) if complaint.check == "aligned"]
    assert not any(complaint.is_tolerated(()) for complaint in found)
    assert [complaint.text for complaint in found] == [
        "o.fits has 2 rows for 3 images",
        f"o.fits has no offset for {DATES[1]}",
        "/i2.fits has no source in common with the others: look at its offset, or align it by hand",
    ]


def test_the_raw_tags_are_those_of_the_classification():
    assert {"BIAS", "FLAT", "ARC", "SKYFLAT", "ILLUM", "OBJECT", "SKY", "STD"} <= RAW_TAGS
    assert "MASTER_BIAS" not in RAW_TAGS


def test_each_check_is_in_the_table():
    import inspect

    named = {
        name
        for name, value in vars(checks).items()
        if inspect.isfunction(value)
        and not name.startswith("_")
        and value.__module__ == checks.__name__
    }
    assert named - {"check_job"} == {check.__name__ for check in CHECKS}
