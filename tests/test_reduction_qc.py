"""The table of quality measures: which keyword fills which column, and what fills none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from esorex_jobs import align, combine, given, images, pixel_tables
from finished_jobs import a_record
from raw_biases import write_biases
from stub_esorex import fits_bytes

from musedask.fits.cards import plain_values
from musedask.reduction.job.folder import RunFolders
from musedask.reduction.job.record import Product
from musedask.reduction.job.run import run_job
from musedask.reduction.jobs import Job
from musedask.reduction.recipes import RECIPES
from musedask.reduction.tables.qc import qc_table, quality
from musedask.reduction.tables.qc_columns import COLUMNS, columns_of


def raw(cards):
    """Cards of a header, as they stand in a file."""
    return fits_bytes(cards).partition(b"END".ljust(80))[0]


def measured(tag, **cards):
    """What a product says, without what it does not."""
    values = quality(raw({key.replace("_", " "): value for key, value in cards.items()}), tag)
    return {
        name: value
        for name, value in values.items()
        if value != "" and not (isinstance(value, float) and math.isnan(value))
    }


# Keywords and values of products that the real recipes made, but for darks and zero points.
REAL = {
    "MASTER_BIAS": (
        {"ESO QC BIAS MASTER1 RON": 2.801139, "ESO QC BIAS MASTER1 RONERR": 0.1117924,
         "ESO QC BIAS MASTER3 RON": 2.920729, "ESO QC BIAS MASTER3 MEDIAN": -0.004153728,
         "ESO QC BIAS MASTER NBADPIX": 7, "ESO QC BIAS MASTER NSATURATED": 0},
        {"ron_q1": 2.801139, "ron_q3": 2.920729, "bias_q3": -0.004153728, "n_bad_pixels": 7,
         "n_saturated": 0},
    ),
    "MASTER_DARK": (
        {"ESO QC DARK MASTER MEDIAN": 0.5, "ESO QC DARK MASTER DC": 1.25,
         "ESO QC DARK MASTER NBADPIX": 3},
        {"dark": 0.5, "dark_current": 1.25, "n_bad_pixels": 3},
    ),
    "MASTER_FLAT": (
        {"ESO QC FLAT INPUT1 MEDIAN": 1.5, "ESO QC FLAT MASTER MEDIAN": 15654.82,
         "ESO QC FLAT MASTER NSATURATED": 12},
        {"flat": 15654.82, "n_saturated": 12},
    ),
    "TRACE_TABLE": (
        {"ESO QC TRACE WIDTHS MEDIAN": 76.00005, "ESO QC TRACE WIDTHS MIN": 75.99956,
         "ESO QC TRACE GAPS MEDIAN": 8.401823},
        {"slice_width": 76.00005, "slice_width_min": 75.99956, "slice_gap": 8.401823},
    ),
    "WAVECAL_TABLE": (
        {"ESO QC WAVECAL SLICE1 FIT RMS": 0.03, "ESO QC WAVECAL SLICE2 FIT RMS": 0.05,
         "ESO QC WAVECAL SLICE48 FIT RMS": 0.04, "ESO QC WAVECAL SLICE1 FIT NLINES": 75,
         "ESO QC WAVECAL SLICE2 FIT NLINES": 71, "ESO QC WAVECAL SLICE1 RESOL": 2821.521},
        {"wavelength_rms": 0.04, "wavelength_rms_max": 0.05, "n_arc_lines_min": 71,
         "resolution": 2821.521},
    ),
    "LSF_PROFILE": (
        {"ESO QC LSF SLICE1 FWHM MEAN": 2.5, "ESO QC LSF SLICE2 FWHM MEAN": 2.7,
         "ESO QC LSF SLICE3 FWHM MEAN": 2.6, "ESO QC LSF SLICE3 FWHM MAX": 9.0},
        {"lsf_fwhm": 2.6, "lsf_fwhm_max": 2.7},
    ),
    "DATACUBE_SKYFLAT": (
        {"ESO QC TWILIGHT1 MASTER MEDIAN": 2410.604, "ESO QC TWILIGHT24 MASTER MEDIAN": 2400.0,
         "ESO QC TWILIGHT1 INPUT1 MEDIAN": 1.0},
        {"twilight": 2405.302, "twilight_min": 2400.0},
    ),
    "PIXTABLE_OBJECT": (
        {"ESO QC SCIBASIC NSATURATED": 4, "ESO QC SCIBASIC LAMBDA SHIFT": -0.0003082105},
        {"n_saturated": 4, "wavelength_shift": -0.0003082105},
    ),
    "DATACUBE_STD": (
        {"ESO QC STANDARD FWHM MEDIAN": 0.0, "ESO QC STANDARD FWHM1 X": 0.8365666,
         "ESO QC STANDARD FWHM1 Y": 0.8275491, "ESO QC STANDARD FWHM NVALID": 1},
        {"fwhm": 0.8365666, "n_sources": 1},
    ),
    "STD_RESPONSE": (
        {"ESO QC STANDARD STARNAME": "SIMSTAR", "ESO QC STANDARD THRU5000": 0.1509088,
         "ESO QC STANDARD THRU9000": 0.0, "ESO QC STANDARD ZP V": -99.0,
         "ESO QC STANDARD ZP R": 25.5},
        {"standard": "SIMSTAR", "throughput_5000": 0.1509088, "zeropoint_r": 25.5},
    ),
    "DATACUBE_FINAL": (
        {"ESO QC SCIPOST FWHM MEDIAN": 0.8535222, "ESO QC SCIPOST FWHM1 X": 3.0,
         "ESO QC SCIPOST FWHM NVALID": 6},
        {"fwhm": 0.8535222, "n_sources": 6},
    ),
    "SKY_LINES": (
        {"ESO QC SCIPOST LINE1 FLUX": 1187.728, "ESO QC SCIPOST LINE2 FLUX": 1500.0,
         "ESO QC SCIPOST LINE1 NAME": "OI 6300"},
        {"sky_line_flux": 1500.0},
    ),
    "SKY_CONTINUUM": ({"ESO QC SKY CONT FLUX": 139064.7}, {"sky_continuum": 139064.7}),
    "OFFSET_LIST": ({"ESO QC EXPALIGN NMATCH MIN": 8}, {"n_matches_min": 8}),
}  # fmt: skip


@pytest.mark.parametrize("tag", REAL)
def test_each_product_fills_its_columns_from_the_pipelines_keywords(tag):
    cards, wanted = REAL[tag]
    assert measured(tag, **cards) == wanted


def test_each_column_is_filled_by_one_of_the_products_here():
    filled = {name for _, wanted in REAL.values() for name in wanted}
    quadrants = {f"{name}_q{n}" for name in ("ron", "bias") for n in (1, 2, 3, 4)}
    rest = {"throughput_7000", "throughput_8000", "throughput_9000", "zeropoint_v", "zeropoint_i"}
    assert {column.name for column in COLUMNS} == filled | quadrants | rest


def test_columns_have_names_of_their_own_and_are_of_products_of_the_chain():
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    made = {tag for recipe in RECIPES.values() for tag in recipe.products}
    made |= {"DATACUBE_SKY", *(f"PIXTABLE_{t}" for t in ("OBJECT", "SKY", "STD", "ASTROMETRY"))}
    assert {tag for column in COLUMNS for tag in column.tags} <= made


def test_copies_of_measures_in_other_products_do_not_count():
    cards = {"ESO QC SCIPOST FWHM MEDIAN": 0.85}
    assert measured("IMAGE_FOV", **cards) == measured("PREVIEW_FOV", **cards) == {}
    assert columns_of("IMAGE_FOV") == ()


def test_what_is_no_number_is_nothing():
    assert measured("DATACUBE_FINAL", **{"ESO QC SCIPOST FWHM MEDIAN": "wide"}) == {}
    assert measured("STD_RESPONSE", **{"ESO QC STANDARD STARNAME": 3}) == {}


def test_plain_cards_of_a_hierarchy_are_given_with_their_values():
    given = raw({
        "ESO QC A1 B": -2.5, "ESO QC NAME": "it's", "ESO QCX Y": 1, "ESO DRS QC": 2, "QC": 3,
    })  # fmt: skip
    given += b"HIERARCH ESO QC C = 1.5E-07 / [ct] text = 3".ljust(80)
    given += b"HIERARCH ESO QC BROKEN = 1 2 / text".ljust(80)
    assert list(plain_values(given, "ESO QC")) == [("A1 B", -2.5), ("C", 1.5e-07)]
    given += b"HIERARCH ESO QC NAME = 'a''b '  / text".ljust(80)
    assert list(plain_values(given, "ESO QC"))[2:] == [("NAME", "a'b")]


def finished(folder, recipe, stage, files, ifu=1):
    """A finished job whose products have headers: name -> PRO CATG, DATE-OBS, cards."""
    folder = folder / recipe / f"{stage}{ifu}"
    folder.mkdir(parents=True)
    products = []
    for name, (tag, date, cards) in files.items():
        (folder / name).write_bytes(fits_bytes({"DATE-OBS": date, **cards}))
        products.append(Product(name, tag, ifu, "", date, 2880, ""))
    return a_record(folder, recipe, products, stage=stage, ifu=ifu)


def test_the_table_has_a_row_for_each_product_in_the_order_of_the_chain(tmp_path):
    ron = {"ESO QC BIAS MASTER1 RON": 2.5}
    records = [
        finished(tmp_path, "muse_scipost", "scipost", {
            "cube.fits": ("DATACUBE_FINAL", "2020-01-01", {"ESO QC SCIPOST FWHM MEDIAN": 0.7}),
            "image.fits": ("IMAGE_FOV", "2020-01-01", {"ESO QC SCIPOST FWHM MEDIAN": 0.7}),
        }, ifu=None),
        finished(tmp_path, "muse_bias", "bias", {"b.fits": ("MASTER_BIAS", "2020-01-02", ron)}, 13),
        finished(tmp_path, "muse_bias", "bias", {"b.fits": ("MASTER_BIAS", "2020-01-02", ron)}, 2),
        finished(tmp_path, "muse_bias", "bias", {"b.fits": ("MASTER_BIAS", "2020-01-01", ron)}, 24),
    ]  # fmt: skip
    found = qc_table(records)
    assert found.problems == ()
    table = found.table
    assert list(table["product"]) == ["MASTER_BIAS"] * 3 + ["DATACUBE_FINAL"]
    assert list(table["ifu"]) == [24, 2, 13, 0]
    assert list(table["file"])[1] == "muse_bias/bias2/b.fits"
    np.testing.assert_array_equal(table["ron_q1"], [2.5, 2.5, 2.5, np.nan])
    np.testing.assert_array_equal(table["fwhm"], [np.nan, np.nan, np.nan, 0.7])
    assert str(table["fwhm"].unit) == "arcsec"
    assert table.colnames == qc_table(records[:1]).table.colnames


def test_a_product_without_a_header_is_named_and_the_others_are_there(tmp_path):
    ron = {"ESO QC BIAS MASTER1 RON": 2.5}
    one, two, three = (
        finished(tmp_path, "muse_bias", "bias", {"b.fits": ("MASTER_BIAS", "2020", ron)}, ifu)
        for ifu in (1, 2, 3)
    )
    (one.folder / "b.fits").write_bytes(b"gone bad")
    (two.folder / "b.fits").unlink()
    found = qc_table([one, two, three])
    assert list(found.table["ifu"]) == [3]
    assert len(found.problems) == 2
    assert "is not FITS" in found.problems[0]
    assert f"{two.folder}/b.fits: there is no such file" in found.problems[1]


@pytest.mark.real_esorex
def test_products_of_the_real_recipes_have_the_measures(tmp_path):
    folders = RunFolders(tmp_path / "products", tmp_path / "scratch")
    paths = write_biases(tmp_path, [f"b{n}.fits" for n in range(3)])
    bias = Job(
        recipe="muse_bias", stage="bias", inputs=tuple(given("BIAS", path) for path in paths),
        parameters=(("nifu", "1"), ("combine", "average")), ifu=1, products=("MASTER_BIAS",),
    )  # fmt: skip
    stars = images(tmp_path / "images", n_sources=8)
    jobs = (bias, align(stars), combine(pixel_tables(tmp_path / "tables")))
    table = qc_table(run_job(job, folders) for job in jobs).table
    assert list(table["product"]) == ["MASTER_BIAS", "OFFSET_LIST", "DATACUBE_FINAL"]
    # Noise of 2.6 adu and that of whole numbers, 1.1 electrons each.
    ron = [table[f"ron_q{n}"][0] for n in (1, 2, 3, 4)]
    assert ron == pytest.approx([1.1 * math.sqrt(2.6**2 + 1 / 12)] * 4, rel=0.08)
    assert table["n_saturated"][0] == 0
    assert table["n_matches_min"][1] == 8
