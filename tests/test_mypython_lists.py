from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from musedask.errors import FileError, InputError
from musedask.mypython_lists import BESIDE_MASKS, read_mypython_lists


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """Two exposures as mypython lays them out; returns the folder of the lists."""
    for i in (1, 2):
        folder = tmp_path / f"OB{i}" / "Proc" / "Cubex"
        folder.mkdir(parents=True)
        cube = fits.PrimaryHDU(np.zeros((2, 2, 2), np.float32))
        cube.header["DATE-OBS"] = f"2016-03-0{i}T00:00:00.000"
        cube.writeto(folder / "CUBE_EXP1_skysub.fits")
        mask = fits.PrimaryHDU(np.ones((2, 2), np.int32))
        mask.writeto(folder / "CUBE_EXP1_fix_SliceEdgeMask.fits")
    (tmp_path / "OB2" / "Proc" / "Cubex" / "CUBE_EXP1_fix_SliceEdgeMask.reg").write_text(
        "image\nbox(1,1,1,1,0)\n"
    )
    lists = tmp_path / "cubexcombine"
    lists.mkdir()
    names = [f"../OB{i}/Proc/Cubex/CUBE_EXP1_" for i in (1, 2)]
    (lists / "cubeall.in").write_text("".join(f"{name}skysub.fits\n" for name in names))
    (lists / "maskall.in").write_text(
        "\n# masks\n" + "".join(f"{name}fix_SliceEdgeMask.fits  \n" for name in names)
    )
    (lists / "regionsall.in").write_text(f"None\n{names[1]}fix_SliceEdgeMask.reg")
    return lists


def cubex(lists: Path, i: int) -> Path:
    return lists.parent / f"OB{i}" / "Proc" / "Cubex"


def test_lists_are_paired_line_by_line(survey: Path) -> None:
    table = read_mypython_lists(
        survey / "cubeall.in", survey / "maskall.in", survey / "regionsall.in"
    )
    assert table["path"].tolist() == [
        str(cubex(survey, i) / "CUBE_EXP1_skysub.fits") for i in (1, 2)
    ]
    assert table["mask"].tolist() == [
        str(cubex(survey, i) / "CUBE_EXP1_fix_SliceEdgeMask.fits") for i in (1, 2)
    ]
    assert table["regions"].tolist() == [
        "",
        str(cubex(survey, 2) / "CUBE_EXP1_fix_SliceEdgeMask.reg"),
    ]
    assert table["use"].all()
    assert table["date_obs"].tolist() == [f"2016-03-0{i}T00:00:00.000" for i in (1, 2)]


def test_masks_and_regions_may_be_left_out(survey: Path) -> None:
    table = read_mypython_lists(survey / "cubeall.in")
    assert table["mask"].tolist() == ["", ""]
    assert table["regions"].tolist() == ["", ""]


def test_regions_are_found_beside_the_masks(survey: Path) -> None:
    table = read_mypython_lists(survey / "cubeall.in", survey / "maskall.in", BESIDE_MASKS)
    assert table["regions"].tolist() == [
        "",
        str(cubex(survey, 2) / "CUBE_EXP1_fix_SliceEdgeMask.reg"),
    ]
    with pytest.raises(InputError, match="needs a list of masks"):
        read_mypython_lists(survey / "cubeall.in", regions=BESIDE_MASKS)


@pytest.mark.parametrize("name", ["maskall.in", "regionsall.in"])
def test_lists_of_other_lengths_are_errors_that_name_both(survey: Path, name: str) -> None:
    file = survey / name
    file.write_text(file.read_text() + "\nNone\n")
    lists = {"maskall.in": "masks", "regionsall.in": "regions"}
    with pytest.raises(InputError) as caught:
        read_mypython_lists(survey / "cubeall.in", **{lists[name]: file})
    assert f"{file} has 3 entries and {survey / 'cubeall.in'} has 2" in str(caught.value)


def test_lists_that_cannot_be_used_are_errors(survey: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.in"):
        read_mypython_lists(survey / "gone.in")
    (survey / "empty.in").write_text("\n# nothing\n")
    with pytest.raises(InputError, match=r"empty\.in: no entries"):
        read_mypython_lists(survey / "empty.in")
    (survey / "holes.in").write_text("a.fits\nNone\n")
    with pytest.raises(InputError, match=r"holes\.in: entry 2"):
        read_mypython_lists(survey / "holes.in")
    (survey / "m.in").write_text("gone.fits\nNone\n")
    with pytest.raises(FileError, match=r"row 1.*mask .*gone\.fits"):
        read_mypython_lists(survey / "cubeall.in", survey / "m.in")
