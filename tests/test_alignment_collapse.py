"""Images out of cubes: against float64 numpy and mpdaf, from files, blocks and arrays alike."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from exposure_cubes import file_cube, memory_cube, tan_cards
from fits_files import write_cube
from hypothesis import given
from hypothesis import strategies as st

import musedask as md
from musedask.alignment import collapse as module
from musedask.alignment.collapse import collapse, collapse_lazily
from musedask.alignment.filters import Filter
from musedask.alignment.measure import see
from musedask.alignment.sky_lines import excluded_channels
from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.exposures import write_exposure_table
from musedask.simulation.abell478 import mpdaf_data

SHAPE = (70, 9, 11)
WAVES = 4750.0 + 1.25 * np.arange(SHAPE[0])
SLOPE = Filter("slope", (4760.0, 4800.0, 4830.0), (0.1, 1.0, 0.3))
FILTERS = ("white", SLOPE, "4770.2-4790")


def made(seed=3):
    """Flux and variance with every kind of missing voxel, and quality."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(20.0, 30.0, SHAPE).astype(np.float32)
    variance = rng.uniform(1.0, 9.0, SHAPE).astype(np.float32)
    for array, values in ((flux, (np.nan, np.inf, -np.inf)), (variance, (0, np.nan, -1, np.inf))):
        for value in values:
            array[rng.uniform(size=SHAPE) < 0.03] = value
    flux[:, 0, :] = np.nan
    flux[2:, 1, 1] = np.nan
    quality = (rng.uniform(size=SHAPE) < 0.05).astype(np.int32) * 256
    return flux, variance, quality


def expected(flux, variance, weights, usable=None):
    """Weighted mean, variance and summed weight in float64, by the definition."""
    good = np.isfinite(flux) & np.isfinite(variance) & (variance > 0)
    w = np.where(good, np.asarray(weights, float)[:, None, None], 0.0)
    f, v = np.where(good, flux, 0).astype(float), np.where(good, variance, 0).astype(float)
    total = w.sum(axis=0)
    keep = total >= 0.5 * np.sum(weights)
    divisor = np.where(keep, total, np.nan)
    return (w * f).sum(axis=0) / divisor, (w**2 * v).sum(axis=0) / divisor**2, total


def sampled_weights(one):
    """Mean throughput of each channel by sampling, as an independent integral."""
    if one == "white":
        return np.ones(WAVES.size)
    fine = WAVES[:, None] + 1.25 * ((np.arange(2000) + 0.5) / 2000 - 0.5)
    if isinstance(one, Filter):
        curve = np.interp(fine, one.wavelengths, one.throughput, left=0, right=0)
    else:
        low, high = map(float, one.split("-"))
        curve = (fine >= low) & (fine <= high)
    return curve.mean(axis=1)


def assert_right(images, flux, variance, exclude=None):
    assert [image.band for image in images] == ["white", "slope", "4770.2-4790"]
    for image, one in zip(images, FILTERS, strict=True):
        weights = sampled_weights(one)
        whole = weights.sum()
        weights[exclude if exclude is not None else []] = 0.0
        mean, propagated, total = expected(flux, variance, weights)
        assert np.isfinite(mean).sum() > 50
        assert image.flux.dtype == image.variance.dtype == image.coverage.dtype == np.float32
        np.testing.assert_allclose(image.flux, mean, rtol=2e-4, atol=2e-3)
        np.testing.assert_allclose(image.variance, propagated, rtol=2e-3)
        np.testing.assert_allclose(image.coverage, total / whole, atol=1e-3)


def opened(folder: Path, kind: str):
    """One cube in many guises, and what its voxels are."""
    flux, variance, quality = made()
    if kind == "quality":
        return file_cube(folder, flux, variance, quality=quality), np.where(quality, np.nan, flux)
    if kind == "array":
        return memory_cube(flux, variance), flux
    if kind == "blocks":
        return memory_cube(flux, variance, chunks=(13, 4, 5)), flux
    if kind == "double":
        return file_cube(folder, flux.astype(np.float64), variance), flux
    cube = file_cube(folder, flux, variance)
    if kind == "changed":
        return cube.assign(flux=cube["flux"] * np.float32(2.0)), 2 * flux
    if kind == "cut":
        return cube.isel(y=slice(1, None), x=slice(2, 9)), flux[:, 1:, 2:9]
    return cube, flux


@pytest.mark.parametrize("kind", ["file", "quality", "double", "changed", "cut", "array", "blocks"])
def test_images_are_weighted_means_however_the_cube_is_held(kind, tmp_path):
    cube, flux = opened(tmp_path, kind)
    variance = made()[1]
    variance = variance[:, 1:, 2:9] if kind == "cut" else variance
    images = collapse(cube, FILTERS)
    assert_right(images, flux, variance)
    if kind == "cut":
        whole = collapse(opened(tmp_path, "file")[0])[0].projection
        assert images[0].projection == whole.shifted(2, 1)


@given(st.integers(1, 70), st.integers(1, 9), st.integers(1, 11), st.integers(1, 5000))
def test_no_division_into_blocks_or_slabs_matters(nz, ny, nx, slab):
    flux, variance, _ = made()
    reference = collapse(memory_cube(flux, variance), FILTERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NUMPY_CHANNELS", 1 + slab % 50)
        images = collapse(memory_cube(flux, variance, chunks=(nz, ny, nx)), FILTERS)
    for one, other in zip(images, reference, strict=True):
        np.testing.assert_allclose(one.flux, other.flux, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(one.variance, other.variance, rtol=1e-5)
        np.testing.assert_allclose(one.coverage, other.coverage, rtol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "slab"), [(1, 4), (10, 50), (50, 400), (98, 99), (99, 297), (1000, 5000)]
)
@pytest.mark.parametrize("kind", ["file", "quality"])
def test_no_division_of_a_file_into_parts_or_slabs_matters(
    kind, pixels, slab, tmp_path, monkeypatch
):
    cube, flux = opened(tmp_path, kind)
    monkeypatch.setattr(module, "PART_PIXELS", pixels)
    monkeypatch.setattr(module, "SLAB_VOXELS", slab)
    assert_right(collapse(cube, FILTERS), flux, made()[1])


def test_what_the_headers_say_goes_into_the_image(tmp_path):
    flux, variance, _ = made()
    cube = file_cube(
        tmp_path, flux, variance, RA=30.0, DEC=-60.0,
        **{"HIERARCH ESO DRS MUSE OFFSET1 DRA": 2.0 / 3600,
           "HIERARCH ESO DRS MUSE OFFSET1 DDEC": -0.5 / 3600,
           "HIERARCH ESO QC SCIPOST FWHM MEDIAN": 0.83},
    )  # fmt: skip
    (image,) = collapse(cube)
    assert (image.name, image.date_obs) == ("exp0", "2020-01-01T00:00:00.000")
    assert (image.ra_deg, image.dec_deg) == (30.0, -60.0)
    # DRA is a coordinate difference: cos(-60) is a half.
    assert image.carried_ra_arcsec == pytest.approx(1.0)
    assert image.carried_dec_arcsec == pytest.approx(-0.5)
    assert image.fwhm_arcsec == 0.83
    assert image.units == "10**(-20)*erg/s/cm**2/Angstrom"
    assert image.path == str(tmp_path / "exp0.fits")
    x, y = image.projection.to_pixel(tan_cards()["CRVAL1"], tan_cards()["CRVAL2"])
    assert (float(x), float(y)) == pytest.approx((10.0, 8.0), abs=1e-9)
    (bare,) = collapse(memory_cube(flux, variance))
    assert (bare.carried_ra_arcsec, bare.carried_dec_arcsec) == (0.0, 0.0)
    assert np.isnan(bare.fwhm_arcsec)


def test_channels_are_read_once_and_only_where_a_filter_needs_them(tmp_path, monkeypatch):
    flux, variance, _ = made()
    cube = file_cube(tmp_path, flux, variance)
    read, original = [], module._read

    def spy(source, file, first, start, out):
        read.extend((source.offset, first + n) for n in range(len(out)))
        original(source, file, first, start, out)

    monkeypatch.setattr(module, "_read", spy)
    monkeypatch.setattr(module, "SLAB_VOXELS", 3 * 99)
    images = collapse(cube, ("4770.2-4790", "4780-4800"), exclude=[(4785.0, 4788.0)])
    needed = np.flatnonzero(
        (WAVES > 4769.6) & (WAVES < 4800.7) & ~((WAVES >= 4785) & (WAVES <= 4788))
    )
    assert sorted(read) == sorted(
        (offset, n) for offset in {offset for offset, _ in read} for n in needed
    )
    assert len(read) == 2 * needed.size
    weights = sampled_weights("4770.2-4790")
    weights[(WAVES >= 4785) & (WAVES <= 4788)] = 0
    np.testing.assert_allclose(
        images[0].flux, expected(flux, variance, weights)[0], rtol=2e-4, atol=2e-3
    )


def test_blocks_without_any_of_the_light_are_not_computed():
    flux, variance, _ = made()

    def refuse(block, block_info=None):
        if block_info[0]["chunk-location"][0] > 3:
            raise AssertionError("computed")
        return block

    cube = memory_cube(flux, variance, chunks=(10, 9, 11))
    lazy = cube["flux"].data.map_blocks(refuse, dtype=np.float32, meta=np.empty((0, 0, 0), "f4"))
    (image,) = collapse(cube.assign(flux=(cube["flux"].dims, lazy)), "4770.2-4790")
    mean = expected(flux, variance, sampled_weights("4770.2-4790"))[0]
    np.testing.assert_allclose(image.flux, mean, rtol=2e-4, atol=2e-3)


def test_what_is_excluded_counts_neither_in_the_mean_nor_against_it(tmp_path):
    flux, variance, _ = made()
    out = (WAVES >= 4762.0) & (WAVES <= 4785.0)
    images = collapse(file_cube(tmp_path, flux, variance), FILTERS, exclude=[(4762.0, 4785.0)])
    assert_right(images, flux, variance, out)
    (clean,) = collapse(memory_cube(*np.ones((2, *SHAPE), np.float32)), exclude=[(4762.0, 4785.0)])
    np.testing.assert_allclose(clean.coverage, 1 - out.mean(), rtol=1e-6)


def test_the_gap_of_the_laser_is_left_out_where_the_mode_has_one():
    shape = (400, 2, 3)
    flux = np.ones(shape, np.float32)
    waves = 5700.0 + 1.25 * np.arange(400)
    flux[(waves >= 5805.0) & (waves <= 5966.0)] = 1000.0
    variance = np.ones(shape, np.float32)
    for mode, level in (("WFM-AO-N", 1.0), ("WFM-NOAO-N", flux[:, 0, 0].mean())):
        (image,) = collapse(memory_cube(flux, variance, first=5700.0, mode=mode))
        np.testing.assert_allclose(image.flux, level, rtol=1e-5)


def test_a_pixel_needs_half_of_the_light():
    flux, variance = np.ones((2, 20, 1, 3), np.float32)
    flux[:11, 0, 0] = np.nan
    flux[:10, 0, 1] = np.nan
    (image,) = collapse(memory_cube(flux, variance))
    assert np.isnan(image.flux[0]).tolist() == [True, False, False]
    assert np.isnan(image.variance[0]).tolist() == [True, False, False]
    np.testing.assert_allclose(image.coverage[0], [0.45, 0.5, 1.0])


@pytest.mark.parametrize("sense", ["good", "bad"])
def test_masks_of_the_exposure_table_leave_their_spaxels_out(sense, tmp_path):
    flux, variance, _ = made()
    masked = np.zeros(SHAPE[1:], bool)
    masked[2:4, 7:9] = True
    fits.writeto(tmp_path / "mask.fits", (masked == (sense == "bad")).astype(np.uint8))
    (tmp_path / "hole.reg").write_text("image\nbox(5,7,3,3,0)\n")  # 1-based, centre
    masked[5:8, 3:6] = True
    path = write_cube(tmp_path / "exp.fits", data=flux, stat=variance)
    table = Table({"path": [str(path)], "mask": [str(tmp_path / "mask.fits")]})
    table["regions"] = [str(tmp_path / "hole.reg")]
    write_exposure_table(table, tmp_path / "exposures.ecsv")
    (cube,) = md.open_exposures(tmp_path / "exposures.ecsv")
    (bare,) = md.open_exposures([path])
    lazy = collapse_lazily(cube, FILTERS, mask_sense=sense)
    for image, whole in zip(lazy.compute(), collapse(bare, FILTERS), strict=True):
        assert np.isfinite(whole.flux[masked]).any()
        for key, left in (("flux", np.nan), ("variance", np.nan), ("coverage", 0.0)):
            expected_now = np.where(masked, np.float32(left), getattr(whole, key))
            np.testing.assert_array_equal(getattr(image, key), expected_now)
    # It is what exposures are aligned with.
    seen = see(cube, FILTERS[:1], mask_sense=sense).image
    np.testing.assert_array_equal(seen.flux, lazy.compute()[0].flux)


def test_a_filter_that_reaches_beyond_the_cube_is_used_with_a_warning():
    flux, variance = np.ones((2, 80, 2, 2), np.float32)
    cube = memory_cube(flux, variance)  # 4749.375 to 4849.375
    with pytest.warns(MusedaskWarning, match=r"exp0: 50\.6 % of the filter 4700-4800"):
        (image,) = collapse(cube, "4700-4800")[0:]
    np.testing.assert_allclose(image.coverage, 50.625 / 100, rtol=1e-5)
    np.testing.assert_allclose(image.flux, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collapse(cube, "4750-4800")


def test_what_cannot_be_collapsed_is_an_error(tmp_path):
    flux, variance, _ = made()
    cube = file_cube(tmp_path, flux, variance)
    with pytest.raises(InputError, match=r"exp0: the filter 6000-7000 does not touch.*4749\.4"):
        collapse(cube, "6000-7000")
    with pytest.raises(InputError, match="every channel of the filter white is excluded"):
        collapse(cube, exclude=[(0, 1e5)])
    with pytest.raises(InputError, match="no filters"):
        collapse(cube, [])
    with pytest.raises(InputError, match="expected lines or oh"):
        collapse(cube, exclude="sky")
    with pytest.raises(InputError, match="not a range"):
        collapse(cube, exclude=[(5000.0, 4000.0)])
    with pytest.raises(InputError, match="variance"):
        collapse(cube.drop_vars("variance"))
    with pytest.raises(InputError, match="no pixel of the white image"):
        collapse(memory_cube(np.full(SHAPE, np.nan, np.float32), variance))
    Path(cube.attrs["path"]).write_bytes(b"changed")
    with pytest.raises(FileError, match="has changed"):
        collapse(cube)


def test_nothing_is_computed_before_it_is_asked_for_and_little_goes_to_workers(tmp_path):
    flux, variance, _ = made()

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed")

    for cube in (
        file_cube(tmp_path, flux, variance),
        memory_cube(flux, variance, chunks=(8, 9, 11)),
    ):
        with dask.config.set(scheduler=refuse):
            lazy = collapse_lazily(cube, FILTERS)
        (images,) = dask.compute(lazy, scheduler="synchronous")
        assert_right(images, flux, variance)
    assert len(cloudpickle.dumps(collapse_lazily(file_cube(tmp_path, flux, variance)))) < 50_000


@pytest.fixture(scope="module")
def real():
    """The real exposure of Abell 478 in mpdaf's wheel."""
    (cube,) = md.open_exposures([mpdaf_data("sdetect/minicube.fits")])
    return cube


def test_real_images_are_those_of_mpdaf(real):
    with warnings.catch_warnings():
        # What mpdaf and astropy say of a BUNIT with several slashes.
        warnings.simplefilter("ignore")
        from mpdaf.obj import Cube

        theirs = Cube(real.attrs["path"])
    names = ("white", "SDSS_r", "Cousins_R")
    for image, name in zip(collapse(real, names), names, strict=True):
        other = theirs.mean(axis=0) if name == "white" else theirs.get_band_image(name)
        np.testing.assert_allclose(image.flux, other.data.filled(np.nan), rtol=2e-6)
        np.testing.assert_allclose(image.variance, other.var.filled(np.nan), rtol=2e-6)


def test_the_sky_lines_that_can_be_left_out_are_those_of_a_real_exposure(real):
    from scipy.ndimage import percentile_filter

    spectrum = np.nanmedian(real["variance"].values.reshape(3681, -1), axis=1)
    strength = spectrum / percentile_filter(spectrum, 20, 200)
    waves = real["wavelength"].values
    out = excluded_channels(["lines", "oh"], waves)
    # The absorption of O2 is no emission; the first channels of a cube have their own noise.
    looked_at = (waves > 4770) & ~((waves > 7590) & (waves < 7670))
    assert (strength[looked_at & ~out] < 3.0).all()
    assert strength[out].mean() > 1.8 * strength[looked_at & ~out].mean()
    assert out.mean() < 0.35
    assert not excluded_channels((), waves).any()


PEAK = """
import resource, sys
import musedask as md
from musedask.alignment.collapse import collapse
(warm,) = md.open_exposures(sys.argv[1:2])
collapse(warm, ("white", "4800-5800", "8000-9000"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(cube,) = md.open_exposures(sys.argv[2:3])
collapse(cube, ("white", "4800-5800", "8000-9000"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_does_not_grow_with_the_depth_of_the_cube(tmp_path):
    """A cube of 300 MB costs no more than its images and a few slabs."""
    paths = []
    for name, depth in (("warm", 3681), ("deep", 3681)):
        side = 8 if name == "warm" else 100
        flux = np.ones((depth, side, side), np.float32)
        paths.append(write_cube(tmp_path / f"{name}.fits", data=flux, stat=flux))
    made_by = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, paths)], capture_output=True, text=True, check=True
    )
    assert float(made_by.stdout) < 100.0
