from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from musedask.ds9_regions import RegionFile
from musedask.errors import FileError, InputError
from musedask.sky import SkyProjection

SHAPE = (30, 40)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
SKY = SkyProjection.north_up(150.0, -60.0, 0.2, x=20.0, y=12.0)


def inside(tmp_path: Path, text: str, sky: SkyProjection = SKY) -> np.ndarray:
    file = tmp_path / "a.reg"
    file.write_text(text)
    return RegionFile.read(file).inside(sky, SHAPE)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """DS9 counts pixels from 1."""
    return (X - (x - 1)) ** 2 + (Y - (y - 1)) ** 2 < radius**2


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return (abs(X - (x - 1)) < width / 2) & (abs(Y - (y - 1)) < height / 2)


def test_a_file_as_mypython_writes_it_masks_its_boxes(tmp_path: Path) -> None:
    text = (
        'global color=green dashlist=8 3 width=1 font="helvetica 10 normal roman" select=1 '
        "highlite=1 dash=0 fixed=0 edit=1 move=1 delete=1 include=1 source=1\nimage\n"
        "box(10.25,8.25,5.0,4.0,0)\nbox(30.25,20.25,9.0,3.0,0)\n"
    )
    expected = box(10.25, 8.25, 5, 4) | box(30.25, 20.25, 9, 3)
    assert expected.sum() == 5 * 4 + 9 * 3
    assert np.array_equal(inside(tmp_path, text), expected)


def test_pixels_count_from_one_and_their_centres_decide(tmp_path: Path) -> None:
    masked = inside(tmp_path, "image\ncircle(1,1,0.6)")
    assert masked.sum() == 1
    assert masked[0, 0]


@pytest.mark.parametrize(
    "text",
    [
        "image;circle(10,9,4)",
        "physical\ncircle(10,9,4)",
        "IMAGE\nCIRCLE(10, 9, 4) # color=#ff00ff text={a;b # c}",
        "# Region file format: DS9 version 4.1\nimage\ncircle 10 9 4",
        "image\n# text(3,3) text={hello}\ncircle(10,9,4)\n# vector(1,1,3,0) vector=1\n",
        "image\n+circle(10,9,4) # include=1",
        "image\r\ncircle(10,9,4)\r\n",
        "image\n# composite(10,9,0) || composite=1\ncircle(10,9,4) ||\ncircle(10,9,2)",
        "image; circle(10,9,4); text(3,3) # text={a}",
    ],
)
def test_the_ways_to_write_a_circle_are_one(tmp_path: Path, text: str) -> None:
    assert np.array_equal(inside(tmp_path, text), disc(10, 9, 4))


def test_other_shapes_cover_what_their_formulas_say(tmp_path: Path) -> None:
    annulus = disc(20, 15, 9) & ~disc(20, 15, 5)
    assert np.array_equal(inside(tmp_path, "image\nannulus(20,15,5,9)"), annulus)
    rings = inside(tmp_path, "image\nannulus(20,15,5,7,9)")
    assert (rings ^ annulus).sum() <= 8  # pixels just on the ring between
    ellipse = ((X - 19) / 10) ** 2 + ((Y - 14) / 4) ** 2 < 1
    assert np.array_equal(inside(tmp_path, "image\nellipse(20,15,10,4,0)"), ellipse)
    turned = ((Y - 14) / 10) ** 2 + ((X - 19) / 4) ** 2 < 1
    assert np.array_equal(inside(tmp_path, "image\nellipse(20,15,10,4,90)"), turned)
    triangle = (X > 4.2) & (Y > 2.2) & ((X - 4.2) + (Y - 2.2) < 15)
    assert np.array_equal(inside(tmp_path, "image\npolygon(5.2,3.2,20.2,3.2,5.2,18.2)"), triangle)
    assert np.array_equal(inside(tmp_path, "image\nbox(20,15,6.5,4.5)"), box(20, 15, 6.5, 4.5))


def test_excluded_shapes_are_taken_out_in_any_order(tmp_path: Path) -> None:
    expected = disc(20, 15, 9) & ~disc(22, 15, 3)
    assert 0 < expected.sum() < disc(20, 15, 9).sum()
    for text in (
        "image\ncircle(20,15,9)\n-circle(22,15,3)",
        "image\n-circle(22,15,3)\ncircle(20,15,9)",
        "image\ncircle(20,15,9)\ncircle(22,15,3) # include=0",
    ):
        assert np.array_equal(inside(tmp_path, text), expected)


def test_with_excluded_shapes_alone_the_rest_is_inside(tmp_path: Path) -> None:
    assert np.array_equal(inside(tmp_path, "image\n-circle(20,15,9)"), ~disc(20, 15, 9))


@given(dx=st.floats(-15, 15), dy=st.floats(-10, 10), radius=st.floats(0.3, 3.0))
def test_a_circle_on_the_sky_masks_what_lies_within_its_radius(
    tmp_path_factory: pytest.TempPathFactory, dx: float, dy: float, radius: float
) -> None:
    ra, dec = SKY.to_sky(20 + dx, 12 + dy)
    text = f'fk5\ncircle({float(ra):.9f},{float(dec):.9f},{radius}")'
    got = inside(tmp_path_factory.mktemp("r"), text)
    pixels = SkyCoord(*SKY.to_sky(X, Y), unit="deg")
    centre = SkyCoord(round(float(ra), 9), round(float(dec), 9), unit="deg", frame="fk5")
    distance = pixels.separation(centre.icrs).to_value(u.arcsec)
    clear = abs(distance - radius) > 2e-4
    assert np.array_equal(got[clear], (distance < radius)[clear])


def test_a_box_on_the_sky_turns_with_the_field(tmp_path: Path) -> None:
    text = 'icrs\nbox(10:00:00,-60:00:00,4",1",0)'
    assert np.array_equal(inside(tmp_path, text), (abs(X - 20) < 10) & (abs(Y - 12) < 2.5))
    cards = SKY.mapping
    step = 0.2 / 3600
    cards.update(CD1_1=0.0, CD1_2=step, CD2_1=step, CD2_2=0.0)  # north along x
    turned = inside(tmp_path, text, SkyProjection.from_cards(cards))
    assert np.array_equal(turned, (abs(X - 20) < 2.5) & (abs(Y - 12) < 10))


def test_galactic_positions_are_converted(tmp_path: Path) -> None:
    centre = SkyCoord(150.0, -60.0, unit="deg").galactic
    text = f'galactic\ncircle({centre.l.deg:.8f},{centre.b.deg:.8f},0.95")'
    assert np.array_equal(inside(tmp_path, text), disc(21, 13, 4.75))


def test_regions_off_the_field_mask_nothing_and_huge_ones_all(tmp_path: Path) -> None:
    assert not inside(tmp_path, "image\ncircle(-90,9,4)\nbox(500,500,3,3,0)").any()
    assert not inside(tmp_path, 'fk5\ncircle(150.2,-60,3")\ncircle(330,60,9")').any()
    assert inside(tmp_path, "fk5\ncircle(150,-60,10)").all()


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("image\ncircle(1,1,1)\npoint(3,3) # point=x", 3, "no area"),
        ("image\ncircle(1,1,1)\nline(3,3,4,4)", 3, "no area"),
        ("image\npanda(1,1,0,360,4,0,3,1)", 2, "not supported"),
        ("wcsa\ncircle(1,1,1)", 1, "not supported"),
        ("detector\ncircle(1,1,1)", 1, "not supported"),
        ("circle(1,1,1)", 1, "no coordinate system"),
        ("image\n\ncircle(1,1)", 3, "2 parameters"),
        ("image\npolygon(1,1,2,2,3)", 2, "5 parameters"),
        ("image\ncircle(1,1,abc)", 2, "not understood"),
        ("image\ncircle(1,1,-4)", 2, "not understood"),
        ('image\ncircle(10,10,2")', 2, "not understood"),
        ("fk5\ncircle(150,-95,2)", 2, "not understood"),
        ("image\n# -composite(1,1,0) || composite=1\ncircle(1,1,1)", 2, "composite"),
        ("<html>\n<body>404</body></html>", 1, "not understood"),
        ("#CRTFv0\ncircle[[1pix, 1pix], 1pix]", 2, "no coordinate system"),
    ],
)
def test_what_cannot_be_a_mask_is_an_error_with_file_and_line(
    tmp_path: Path, text: str, line: int, word: str
) -> None:
    with pytest.raises(InputError, match=word) as caught:
        inside(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'a.reg'}, line {line}: ")


@pytest.mark.parametrize("text", ["", "# nothing\nglobal color=red\nimage\n# text(1,1)\n"])
def test_a_file_without_a_shape_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"a\.reg: no shape"):
        inside(tmp_path, text)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.reg: there is no such file"):
        RegionFile.read(tmp_path / "none.reg")


def test_the_checksum_follows_the_shapes_alone(tmp_path: Path) -> None:
    def checksum(text: str) -> str:
        file = tmp_path / f"{abs(hash(text))}.reg"
        file.write_text(text)
        return RegionFile.read(file).checksum

    first = checksum("image\ncircle(10,9,4)\nbox(3,3,2,2,0)")
    assert checksum("# made by\nimage;box(3,3,2,2) # color=red\nCircle( 10, 9, 4 )") == first
    for other in (
        "image\ncircle(10,9,4)",
        "image\ncircle(10,9,4)\n-box(3,3,2,2,0)",
        "image\ncircle(10,9,4.5)\nbox(3,3,2,2,0)",
        "icrs\ncircle(10,9,4)\nbox(3,3,2,2,0)",
    ):
        assert checksum(other) != first
