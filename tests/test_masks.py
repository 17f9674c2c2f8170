from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.masks import (
    AO_NOTCH,
    ExposureMask,
    faintest,
    identity,
    masked_channels,
    read_mask_image,
    spatial_mask,
)
from musedask.sky import SkyProjection

SHAPE = (12, 15)
SKY = SkyProjection.north_up(10.0, -60.0, 0.2, x=7, y=5)


@pytest.fixture
def good_pixels() -> np.ndarray:
    """As CubEx writes it: 1 is good, 0 is bad."""
    image = np.ones(SHAPE, np.int32)
    image[:, 4] = 0
    image[3, 7:9] = 0
    return image


def saved(path: Path, image: np.ndarray, **cards: Any) -> Path:
    fits.PrimaryHDU(image, fits.Header(cards)).writeto(path)
    return path


def test_nothing_is_masked_in_the_sky_by_default() -> None:
    assert not spatial_mask(ExposureMask(), SKY, SHAPE).any()


def test_zero_is_bad_in_a_slice_edge_mask(tmp_path: Path, good_pixels: np.ndarray) -> None:
    file = saved(tmp_path / "m.fits", good_pixels)
    got = spatial_mask(ExposureMask(mask=file), SKY, SHAPE)
    assert got.dtype == bool
    assert np.array_equal(got, good_pixels == 0)


def test_the_other_sense_is_to_be_had(tmp_path: Path, good_pixels: np.ndarray) -> None:
    file = saved(tmp_path / "m.fits", 3.0 * (1 - good_pixels))
    mask = ExposureMask(mask=file, mask_sense="bad")
    assert np.array_equal(spatial_mask(mask, SKY, SHAPE), good_pixels == 0)


@pytest.mark.parametrize("sense", ["good", "bad"])
def test_nan_is_masked_in_both_senses(tmp_path: Path, sense: str) -> None:
    good = 1.0 if sense == "good" else 0.0
    image = np.full(SHAPE, good, np.float32)
    image[2, 3] = np.nan
    got = read_mask_image(saved(tmp_path / "m.fits", image), SHAPE, sense)
    assert np.argwhere(got).tolist() == [[2, 3]]


def test_a_mask_is_found_wherever_fits_can_keep_it(tmp_path: Path, good_pixels: np.ndarray) -> None:
    plain = saved(tmp_path / "a.fits", good_pixels)
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    tiled = tmp_path / "c.fits.fz"
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(good_pixels)])
    hdus.writeto(tiled)
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])])
    extension = tmp_path / "d.fits"
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(good_pixels)]).writeto(extension)
    plane = saved(tmp_path / "e.fits", good_pixels[None])
    big_endian = saved(tmp_path / "f.fits", good_pixels.astype(">f8"))
    unsigned = saved(tmp_path / "g.fits", good_pixels.astype(np.uint16))
    for file in (plain, packed, tiled, extension, plane, big_endian, unsigned):
        assert np.array_equal(read_mask_image(file, SHAPE), good_pixels == 0), file


@pytest.mark.parametrize("shape", [(15, 12), (2, 12, 15), (12,), (13, 15)])
def test_another_shape_is_an_error_that_names_both(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = saved(tmp_path / "m.fits", np.ones(shape, np.int16))
    with pytest.raises(InputError) as caught:
        spatial_mask(ExposureMask(mask=file), SKY, SHAPE)
    assert f"{file}: the mask's shape is {shape}" in str(caught.value)
    assert "(12, 15)" in str(caught.value)


def test_files_that_are_no_masks_are_errors(tmp_path: Path) -> None:
    html = tmp_path / "h.fits"
    html.write_text("<html>404</html>")
    cut = saved(tmp_path / "t.fits", np.ones((200, 200)))
    cut.write_bytes(cut.read_bytes()[:9000])
    for file in (html, cut, tmp_path / "missing.fits", tmp_path):
        with pytest.raises(FileError, match=file.name):
            read_mask_image(file)
    empty = tmp_path / "e.fits"
    fits.PrimaryHDU().writeto(empty)
    with pytest.raises(InputError, match="no image"):
        read_mask_image(empty)


def test_regions_mask_their_inside_and_add_to_the_image(
    tmp_path: Path, good_pixels: np.ndarray
) -> None:
    region = tmp_path / "a.reg"
    region.write_text("image\nbox(11,9,3,3,0)\n")
    mask = ExposureMask(mask=saved(tmp_path / "m.fits", good_pixels), regions=region)
    expected = good_pixels == 0
    expected[7:10, 9:12] = True
    assert np.array_equal(spatial_mask(mask, SKY, SHAPE), expected)


@given(width=st.integers(1, 5))
def test_a_border_has_its_width_on_all_sides(width: int) -> None:
    got = spatial_mask(ExposureMask(border_pix=width), SKY, SHAPE)
    expected = np.ones(SHAPE, bool)
    expected[width:-width, width:-width] = False
    assert np.array_equal(got, expected)


def test_the_border_follows_a_turned_field_and_passes_by_holes() -> None:
    y, x = np.mgrid[:61, :61]
    footprint = abs(x - 30) + abs(y - 30) <= 28
    footprint[30, 28] = False
    got = spatial_mask(ExposureMask(border_pix=3), SKY, (61, 61), footprint)
    outside = abs(x - 30) + abs(y - 30) > 28
    # A pixel is within 3 of the outside along x, y or a diagonal.
    expected = ndimage.distance_transform_cdt(~outside, metric="chessboard") <= 3
    assert np.array_equal(got, expected)
    assert not got[30, 28]
    with pytest.raises(InputError, match=r"\(61, 61\)"):
        spatial_mask(ExposureMask(border_pix=3), SKY, SHAPE, footprint)


def test_an_exposure_that_is_masked_throughout_is_told(tmp_path: Path) -> None:
    file = saved(tmp_path / "m.fits", np.zeros(SHAPE, np.int16))
    with pytest.warns(MusedaskWarning, match=r"every spaxel.*m\.fits.*mask_sense=\"bad\""):
        spatial_mask(ExposureMask(mask=file), SKY, SHAPE)
    with pytest.warns(MusedaskWarning, match="border of 9"):
        spatial_mask(ExposureMask(border_pix=9), SKY, SHAPE)


def test_the_gap_of_the_laser_is_known_by_mode() -> None:
    waves = 4700.0 + 1.25 * np.arange(3721)
    for mode, first, last in (
        ("WFM-AO-N", 5805, 5966),
        ("WFM-AO-E", 5755, 6008),
        ("NFM-AO-N", 5780, 6050),
    ):
        got = masked_channels(ExposureMask(), waves, mode)
        assert np.array_equal(got, (waves >= first) & (waves <= last))
        assert not masked_channels(ExposureMask(notch=False), waves, mode).any()
    for mode in ("WFM-NOAO-N", "WFM-NOAO-E", ""):
        assert not masked_channels(ExposureMask(), waves, mode).any()
    with pytest.raises(InputError, match="NFM-AO-X"):
        masked_channels(ExposureMask(), waves, "NFM-AO-X")


def test_wavelength_ranges_take_both_their_ends() -> None:
    waves = np.array([5000.0, 5001.25, 5002.5, 5003.75, 5005.0])
    mask = ExposureMask(wavelengths=((5001.25, 5002.5), (5005.0, 5005.0)))
    assert masked_channels(mask, waves, "WFM-NOAO-N").tolist() == [False, True, True, False, True]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"border_pix": -1}, "border_pix"),
        ({"border_pix": 1.5}, "border_pix"),
        ({"wavelengths": ((6000.0, 5000.0),)}, "6000"),
        ({"wavelengths": ((float("nan"), 5000.0),)}, "nan"),
        ({"faintest_percent": 100.0}, "faintest_percent"),
        ({"faintest_percent": -1.0}, "faintest_percent"),
        ({"mask_sense": "yes"}, "mask_sense"),
    ],
)
def test_wrong_numbers_are_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        ExposureMask(**wrong)


def test_the_faintest_percentile_warns_that_it_biases() -> None:
    with pytest.warns(MusedaskWarning, match="biases the sky"):
        ExposureMask(faintest_percent=1.0)


def test_the_faintest_are_counted_in_each_channel_among_what_is_there() -> None:
    flux = np.arange(300, dtype=np.float32).reshape(3, 10, 10)
    flux[1] *= -1
    flux[2] = np.nan
    flux[0, 0, :5] = np.nan
    got = faintest(flux, 4.0)
    # 95 values are left from 5 on; the 4 % percentile lies at 5 + 0.04 * 94.
    assert np.array_equal(got[0], flux[0] < 8.76)
    assert got[1].sum() == 4
    assert got[1, 9, 6:].all()
    assert not got[2].any()
    assert not faintest(flux, 0.0).any()
    ties = np.arange(11.0).reshape(1, 1, 11)
    assert faintest(ties, 10.0).sum() == 1  # the percentile itself, 1.0, is not below


def test_the_faintest_bias_an_empty_sky_as_documented() -> None:
    noise = np.random.default_rng(1).normal(size=(4, 500, 500)).astype(np.float32)
    lift = noise[~faintest(noise, 1.0)].mean() - noise.mean()
    assert lift == pytest.approx(0.027, abs=0.001)


def test_identity_knows_contents_and_not_names(tmp_path: Path, good_pixels: np.ndarray) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        saved(folder / "m.fits", good_pixels, AUTHOR=folder.name)
        (folder / "a.reg").write_text(f"# {folder.name}\nimage\nbox(11,9,3,3,0)\n")
    first = ExposureMask(here / "a.reg", here / "m.fits", 2, ((1.0, 2.0), (3.0, 4.0)))
    same = replace(
        first,
        regions=there / "a.reg",
        mask=str(there / "m.fits"),
        wavelengths=((3.0, 4.0), (1.0, 2.0)),
    )
    assert identity(first) == identity(same)
    assert repr(identity(first)) == repr(identity(same))
    inverse = saved(there / "i.fits", 1 - good_pixels)
    assert identity(replace(first, mask=inverse, mask_sense="bad")) == identity(first)
    assert str(tmp_path) not in repr(identity(first))


def test_identity_changes_with_everything_that_is_masked(
    tmp_path: Path, good_pixels: np.ndarray
) -> None:
    region, other_region = tmp_path / "a.reg", tmp_path / "b.reg"
    region.write_text("image\nbox(11,9,3,3,0)\n")
    other_region.write_text("image\nbox(11,9,3,5,0)\n")
    file = saved(tmp_path / "m.fits", good_pixels)
    changed = good_pixels.copy()
    changed[0, 0] = 0
    mask = ExposureMask(region, file, 2, ((1.0, 2.0),))
    variants = [
        mask,
        replace(mask, regions=other_region),
        replace(mask, regions=None),
        replace(mask, mask=None),
        replace(mask, mask=saved(tmp_path / "n.fits", changed)),
        replace(mask, mask=saved(tmp_path / "t.fits", good_pixels.T)),
        replace(mask, mask=saved(tmp_path / "r.fits", good_pixels.reshape(6, 30))),
        replace(mask, mask_sense="bad"),
        replace(mask, border_pix=3),
        replace(mask, wavelengths=()),
        replace(mask, wavelengths=((1.0, 3.0),)),
        replace(mask, notch=False),
    ]
    with pytest.warns(MusedaskWarning):
        variants.append(replace(mask, faintest_percent=1.0))
    assert len({identity(variant) for variant in variants}) == len(variants)


def test_identity_follows_a_file_that_is_edited(tmp_path: Path) -> None:
    region = tmp_path / "a.reg"
    region.write_text("image\nbox(11,9,3,3,0)\n")
    mask = ExposureMask(regions=region)
    before = identity(mask)
    region.write_text("image\nbox(11,9,3,4,0)\n")
    assert identity(mask) != before


def test_the_notch_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        AO_NOTCH["WFM-AO-N"] = (0.0, 1.0)  # type: ignore[index]
