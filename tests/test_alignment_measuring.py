"""What is measured of an exposure: real pairs, fields whose truth is known, and refusals."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from reproject import reproject_exact
from scipy import ndimage
from test_alignment_relative import field_image

import musedask as md
from musedask.alignment.grading import Evidence, grade
from musedask.alignment.image_files import read_image
from musedask.alignment.material import MaskedCircle, read_material
from musedask.alignment.measure import align
from musedask.alignment.measuring import (
    BLUE,
    RED,
    MeasureOptions,
    measure_again,
    measure_against,
)
from musedask.alignment.reference import open_reference
from musedask.cube import make_cube
from musedask.errors import InputError
from musedask.placement import place
from musedask.simulation.abell478 import mpdaf_data
from musedask.simulation.fields import draw_case
from musedask.spectral import SpectralAxis

HDFS, HDFS_HST = "obj/IMAGE-HDFS-1.34.fits", "obj/HST-HDFS.fits"
SEED = 31
"""A field of many galaxies, with nothing wrong in it."""


@pytest.fixture(scope="module")
def case():
    return draw_case(SEED)


@pytest.fixture(scope="module")
def image(case):
    return field_image(case.exposure.image)


@pytest.fixture(scope="module")
def reference(case):
    return open_reference(field_image(case.reference))


@pytest.fixture(scope="module")
def compared(image, reference):
    return measure_against(image, reference)


@pytest.fixture(scope="module")
def truth(case):
    true = case.exposure.truth
    return np.array([true.ra_offset_arcsec, true.dec_offset_arcsec])


def offset(measurement):
    return np.array([measurement.ra_offset_arcsec, measurement.dec_offset_arcsec])


def centroid_differences(muse, hst, n=30):
    """Offsets of the brightest sources by centres of light alone, arcsec east and north."""
    target = muse.projection.wcs.deepcopy()
    values, seen = reproject_exact(
        (hst.flux.astype(float), hst.projection.wcs), target, shape_out=muse.shape
    )
    other = ndimage.gaussian_filter(np.where(seen > 0.99, np.nan_to_num(values), 0), 1.3)
    mine = ndimage.gaussian_filter(np.nan_to_num(muse.flux.astype(float)), 0.5)
    inside = ndimage.binary_erosion(seen > 0.99, iterations=6)
    peaks = (mine == ndimage.maximum_filter(mine, 9)) & inside
    y, x = np.nonzero(peaks)
    order = np.argsort(-mine[y, x])[:n]
    found = []
    for y0, x0 in zip(y[order], x[order], strict=True):
        box = np.s_[y0 - 4 : y0 + 5, x0 - 4 : x0 + 5]
        centres = []
        for picture in (mine, other):
            cut = picture[box] - np.median(picture[box])
            centres.append(ndimage.center_of_mass(np.clip(cut - 0.25 * cut.max(), 0, None)))
        dy, dx = np.subtract(*centres)
        found.append(muse.arcsec_per_pixel @ [dx, dy])
    return np.array(found)


def hdfs():
    """The real image of the HDFS; its STAT is no variance, and it has no DATE-OBS."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", md.MusedaskWarning)
        return replace(read_image(mpdaf_data(HDFS)), date_obs="2014-08-01T00:00:00.000")


def test_the_hdfs_pair_is_right_in_spite_of_its_moving_star():
    (row,) = align([hdfs()], mpdaf_data(HDFS_HST))
    differences = centroid_differences(hdfs(), read_image(mpdaf_data(HDFS_HST)))
    middle = np.median(differences, axis=0)
    spread = 1.48 * np.median(np.abs(differences - middle), axis=0) * 1.25 / np.sqrt(30)
    assert (np.abs(offset(row) - middle) < 4 * spread + 0.01).all()
    assert max(row.ra_error_arcsec, row.dec_error_arcsec) < 0.02
    # The star has gone 0.3" south; it is the brightest source of the field by far.
    (star,) = [one for one in row.sources if one.x < 50 and 285 < one.y < 300]
    assert (star.used, star.reason) == (False, "outlier")
    assert star.dec_offset_arcsec == pytest.approx(row.dec_offset_arcsec - 0.3, abs=0.05)
    assert row.n_sources > 12


def test_the_abell_478_pair_is_twelve_tenths_of_an_arcsecond_apart():
    (row,) = align([mpdaf_data("sdetect/minicube.fits")], mpdaf_data("sdetect/a478hst-cutout.fits"))
    assert offset(row) == pytest.approx([0.77, 0.90], abs=0.03)
    assert row.grade in "BC"
    assert row.blue_red_arcsec < 0.1 + 3 * row.blue_red_error_arcsec


def test_an_offset_its_error_and_its_facts_are_those_of_the_truth(compared, truth, case):
    row, true = compared.measurement, case.exposure.truth
    assert row.grade == "A"
    assert row.reasons == ()
    errors = np.array([row.ra_error_arcsec, row.dec_error_arcsec])
    assert (np.abs(offset(row) - truth) < 4 * errors).all()
    assert errors.max() < 0.01
    assert row.fwhm_arcsec == pytest.approx(true.fwhm_arcsec, rel=0.25)
    assert row.correlation_after > row.correlation_before
    assert row.offset.n_sources == row.n_sources > 10
    assert (row.date_obs, row.method) == (case.exposure.image.date_obs, "reference")


def test_what_a_file_carries_already_is_added(image, reference, truth):
    moved = replace(
        image,
        projection=image.projection.moved(0.7, -0.4, dec_deg=image.dec_deg),
        carried_ra_arcsec=0.7, carried_dec_arcsec=-0.4,
    )  # fmt: skip
    row = measure_against(moved, reference).measurement
    assert offset(row) == pytest.approx(truth, abs=0.01)


def test_a_rotation_is_measured_where_it_is_asked_for(image, reference, truth, compared):
    ny, nx = image.shape
    about = ((nx - 1) / 2, (ny - 1) / 2)
    turned = replace(image, projection=image.projection.moved(0.0, 0.0, -0.2, about=about))
    row = measure_against(turned, reference, MeasureOptions(rotation=True)).measurement
    straight = measure_against(image, reference, MeasureOptions(rotation=True)).measurement
    # The field was turned back by -0.2 degrees, so it is turned too far by +0.2 more.
    difference = row.rotation_deg - straight.rotation_deg
    assert difference == pytest.approx(0.2, abs=4 * row.rotation_error_deg)
    assert row.rotation_error_deg < 0.02
    assert offset(row) == pytest.approx(truth, abs=0.03)
    assert np.isnan(compared.measurement.rotation_deg)


def test_flux_scale_and_background_bring_the_exposure_to_the_reference(image, reference, compared):
    row = compared.measurement
    other = replace(
        image,
        flux=(image.flux * 3.0 + 50.0).astype(np.float32),
        variance=(image.variance * 9.0).astype(np.float32),
    )
    scaled = measure_against(other, reference).measurement
    assert scaled.flux_scale == pytest.approx(row.flux_scale / 3.0, rel=1e-3)
    assert scaled.flux_scale_error == pytest.approx(row.flux_scale_error / 3.0, rel=0.05)
    # reference = scale (exposure + background), of both.
    assert scaled.background == pytest.approx(3.0 * row.background - 50.0, abs=0.1)


def test_a_shift_between_blue_and_red_lowers_the_grade(image, reference):
    apart = replace(image, projection=image.projection.shifted(0.0, 0.0))
    red = replace(apart, flux=ndimage.shift(np.nan_to_num(image.flux), (0.0, 1.5), order=3))
    same = measure_against(image, reference, None, {BLUE: image, RED: image}).measurement
    differs = measure_against(image, reference, None, {BLUE: image, RED: red}).measurement
    assert same.blue_red_arcsec == pytest.approx(0.0, abs=1e-6)
    assert differs.blue_red_arcsec == pytest.approx(0.3, abs=0.03)
    assert same.grade == "A"
    assert differs.grade == "C"
    assert "refraction" in differs.reasons[0]


def test_a_catalogue_of_positions_is_enough(case, image, compared, truth, tmp_path):
    ra = [one.ra_deg for one in compared.measurement.sources if one.signal_to_noise > 15]
    dec = [one.dec_deg for one in compared.measurement.sources if one.signal_to_noise > 15]
    path = tmp_path / "radec.txt"
    np.savetxt(path, np.column_stack([ra, dec]), fmt="%.8f")
    (row,) = align([image], path)
    assert row.method == "catalogue"
    assert row.grade in "AB"
    assert offset(row) == pytest.approx(truth, abs=0.04)


def test_a_masked_source_does_not_count_when_it_is_fitted_again(compared, truth):
    strongest = compared.measurement.sources[0]
    circle = MaskedCircle(strongest.ra_deg, strongest.dec_deg, 1.5)
    again = measure_again(compared, [circle])
    assert again.masked == (circle,)
    assert again.measurement.grade in "AB"
    assert offset(again.measurement) == pytest.approx(truth, abs=0.02)
    near = [
        one for one in again.measurement.sources
        if np.hypot((one.ra_deg - circle.ra_deg) * 3600 * np.cos(np.radians(circle.dec_deg)),
                    (one.dec_deg - circle.dec_deg) * 3600) < 1.0
    ]  # fmt: skip
    assert near == []


def test_fitting_again_without_masks_gives_the_same_offset(compared):
    again = measure_again(compared, []).measurement
    assert offset(again) == pytest.approx(offset(compared.measurement), abs=0.005)


def test_masking_all_leaves_nothing(compared):
    source = compared.measurement.sources[0]
    again = measure_again(compared, [MaskedCircle(source.ra_deg, source.dec_deg, 900.0)])
    assert again.measurement.grade == "F"
    assert np.isnan(again.measurement.ra_offset_arcsec)


def test_a_mask_that_is_given_holds_from_the_start(image, reference, compared):
    source = compared.measurement.sources[0]
    circle = MaskedCircle(source.ra_deg, source.dec_deg, 2.0)
    row = measure_against(image, reference, MeasureOptions(masks=(circle,))).measurement
    assert all(abs(one.x - source.x) > 5 or abs(one.y - source.y) > 5 for one in row.sources)


def test_a_reference_that_is_elsewhere_fails_and_says_so(image, case):
    there = field_image(case.reference)
    away = replace(there, projection=there.projection.moved(3600.0, 0.0))
    (row,) = align([image], away)
    assert row.grade == "F"
    assert np.isnan(offset(row)).all()
    assert "does not reach the field" in row.reasons[0]
    with pytest.raises(InputError, match="grade F"):
        # A failed one cannot be used by mistake.
        place(cube_of(image), align([image], away).offsets)


def cube_of(image):
    """A cube of two channels at the same place and of the same time."""
    flux = np.zeros((2, *image.shape), np.float32)
    return make_cube(
        {"flux": flux, "variance": flux + 1},
        image.projection,
        SpectralAxis(5000.0, 1.25, 2),
        scalars={"name": "it", "date_obs": image.date_obs},
    )


def test_what_was_compared_is_kept(image, case, tmp_path):
    align([image], field_image(case.reference), material=tmp_path / "o.alignment")
    (entry,) = read_material(tmp_path / "o.alignment").entries
    kept = entry.read()
    assert kept.exposure.shape == image.shape
    # Exposure and reference have one scale: they differ by noise alone where both are.
    found = kept.measurement
    assert found.grade == "A"


def test_zero_exposures_and_unknown_times_are_errors(image, case):
    reference = field_image(case.reference)
    with pytest.raises(InputError, match="no exposures"):
        align([], reference)
    with pytest.raises(InputError, match="one DATE-OBS"):
        align([image, replace(image, name="twin")], reference)
    with pytest.raises(InputError, match="no DATE-OBS"):
        align([replace(image, date_obs="")], reference)
    with pytest.raises(InputError, match="without a reference"):
        align([image], None, relative=False)
    with pytest.raises(InputError, match="max_offset_arcsec"):
        align([image], reference, max_offset_arcsec=0.1)


GOOD = Evidence(
    error_arcsec=0.01, n_agreeing=12, n_disagreeing=1, effective=6.0, signal_to_noise=90.0,
    scatter_arcsec=0.004, significance=20.0, rival=0.02, seen=0.95, overlap=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "A"),
        ({"error_arcsec": 0.07}, "B"),
        ({"error_arcsec": 0.2}, "C"),
        ({"error_arcsec": 0.4}, "F"),
        ({"n_agreeing": 1, "n_disagreeing": 0}, "C"),
        ({"n_agreeing": 3}, "B"),
        ({"effective": 1.3}, "B"),
        ({"effective": 1.0}, "C"),
        ({"signal_to_noise": 5.0}, "F"),
        ({"rival": 0.4}, "B"),
        ({"rival": 0.9}, "F"),
        ({"scatter_arcsec": 0.07}, "B"),
        ({"n_disagreeing": 9}, "B"),
        ({"n_disagreeing": 20}, "C"),
        ({"seen": 0.4}, "C"),
        ({"seen": 0.1}, "F"),
        ({"significance": 3.0}, "C"),
        ({"overlap": 0.5}, "C"),
        ({"spread_arcsec": 3.0}, "B"),
        ({"spread_arcsec": 0.5}, "C"),
        ({"blue_red_arcsec": 0.2, "blue_red_error_arcsec": 0.01}, "C"),
        ({"blue_red_arcsec": 0.12, "blue_red_error_arcsec": 0.05}, "B"),
        ({"offset_arcsec": 19.9, "largest_arcsec": 20.0}, "C"),
    ],
)
def test_each_rule_has_its_grade_and_its_reason(change, expected):
    letter, reasons = grade(replace(GOOD, **change))
    assert letter == expected
    assert (len(reasons) > 0) == (expected != "A")


@pytest.mark.parametrize("seed", [903, 913, 917, 934])
def test_the_flux_scale_is_the_truth_within_its_error(seed):
    """Whatever the seeing, the reference's pixels (0.03" among them) and stars that vary."""
    case = draw_case(seed)
    assert case.exposure.image.band == "I"  # in which the simulated colours are none
    given = field_image(case.exposure.image), open_reference(field_image(case.reference))
    row = measure_against(*given).measurement
    true = case.exposure.truth.flux_scale
    assert row.flux_scale == pytest.approx(true, abs=3 * row.flux_scale_error)
    assert row.flux_scale_error < 0.15 * true
