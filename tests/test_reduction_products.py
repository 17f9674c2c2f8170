"""Products are known by their headers."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from musedask.errors import FileError
from musedask.reduction.job.products import find_products, used_raw


def write(folder, name, extensions=(), **cards):
    """A product with these cards in PRIMARY; underscores are blanks."""
    primary = fits.PrimaryHDU()
    for key, value in cards.items():
        key = key.replace("_", " ")
        primary.header[f"HIERARCH {key}" if " " in key else key] = value
    images = [fits.ImageHDU(np.zeros((2, 2)), name=extension) for extension in extensions]
    fits.HDUList([primary, *images]).writeto(folder / name)


def test_a_product_is_what_its_header_says_whatever_its_name(tmp_path):
    write(
        tmp_path, "zz_0000.fits", ["DATA", "STAT"], ESO_PRO_CATG="MASTER_BIAS", EXTNAME="CHAN07",
        DATAMD5="abc", **{"DATE-OBS": "2020-01-01T00:00:00.000"},
    )  # fmt: skip
    ((made),) = find_products(tmp_path)
    product = made.product
    assert (product.file, product.tag, product.ifu) == ("zz_0000.fits", "MASTER_BIAS", 7)
    assert (product.date_obs, product.datamd5, product.filter) == (
        "2020-01-01T00:00:00.000", "abc", "",
    )  # fmt: skip
    assert product.size == (tmp_path / "zz_0000.fits").stat().st_size
    assert made.hdu("STAT").shape == (2, 2)
    assert made.hdu("DQ") is None


@pytest.mark.parametrize(
    ("name", "extname", "extensions", "ifu"),
    [("a.fits", "CHAN01", ["DATA"], 1), ("a.fits", "CHAN24", [], 24),
     ("a.fits", "", ["CHAN03.DATA", "CHAN03.STAT"], 3), ("a.fits", "", ["CHAN03"], 3),
     ("a.fits", "", ["CHAN03.DATA", "CHAN04.DATA"], None), ("a.fits", "", ["DATA"], None),
     ("TRACE_TABLE-05.fits", "", ["SLICES"], 5), ("PIXTABLE_OBJECT_0001-12.fits", "", [], 12),
     ("MASTER_BIAS-01.fits", "CHAN02", [], 2), ("IMAGE_FOV_0001.fits", "", [], None)],
)  # fmt: skip
def test_the_ifu_is_that_of_the_headers_else_of_the_name(tmp_path, name, extname, extensions, ifu):
    cards = {"EXTNAME": extname} if extname else {}
    write(tmp_path, name, extensions, ESO_PRO_CATG="X", **cards)
    assert find_products(tmp_path)[0].product.ifu == ifu


def test_an_image_has_its_filter(tmp_path):
    write(tmp_path, "i.fits", ESO_PRO_CATG="IMAGE_FOV", ESO_DRS_MUSE_FILTER_NAME="Cousins_R")
    assert find_products(tmp_path)[0].product.filter == "Cousins_R"


def test_products_come_by_name(tmp_path):
    for name in ("b.fits", "a.fits", "c.fits"):
        write(tmp_path, name, ESO_PRO_CATG="X")
    assert [made.product.file for made in find_products(tmp_path)] == ["a.fits", "b.fits", "c.fits"]


def test_a_file_that_is_no_product_is_an_error(tmp_path):
    write(tmp_path, "x.fits")
    with pytest.raises(FileError, match=r"x\.fits: the recipe has made a file without PRO CATG"):
        find_products(tmp_path)
    (tmp_path / "x.fits").write_text("not FITS")
    with pytest.raises(FileError, match=r"x\.fits"):
        find_products(tmp_path)


def test_the_raw_frames_are_those_of_the_last_recipe(tmp_path):
    write(
        tmp_path, "x.fits", ESO_PRO_CATG="X", ESO_PRO_REC1_ID="muse_scibasic",
        ESO_PRO_REC1_RAW1_NAME="raw.fits", ESO_PRO_REC2_ID="muse_scipost",
        ESO_PRO_REC2_RAW1_NAME="t1.fits", ESO_PRO_REC2_RAW2_NAME="t2.fits",
    )  # fmt: skip
    assert list(used_raw(find_products(tmp_path)[0])) == ["t1.fits", "t2.fits"]


def test_a_product_that_tells_nothing_was_made_of_nothing(tmp_path):
    write(tmp_path, "x.fits", ESO_PRO_CATG="X")
    assert list(used_raw(find_products(tmp_path)[0])) == []
