"""What ``make fuzz`` has found, each case made anew as small as it can be."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from fake_stack import fake_stack
from fits_files import write_cube
from raw_headers import write

import musedask as md
from musedask.config import read_config
from musedask.ds9_regions import RegionFile
from musedask.errors import FileError, InputError, MusedaskError
from musedask.exposures import check_exposure_table
from musedask.info import describe
from musedask.masks import read_mask_image
from musedask.megacube.direct import stored_array
from musedask.mypython_lists import read_mypython_lists
from musedask.offsets import ExposureKey, Offset, OffsetTable
from musedask.reduction.finding.calselector import read_calselector, selections
from musedask.reduction.finding.scan import find_frames
from musedask.reduction.job.record import RECORD_NAME, read_record
from musedask.reduction.running.notes import Notes
from musedask.reduction.running.plan_file import read_plan


def in_time(action):
    """Do something that once waited for ever."""
    said = []

    def run():
        try:
            said.append(action())
        except MusedaskError as err:
            said.append(err)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert said, "it does not come to an end"
    return said[0]


def with_card(path: Path, key: str, value: str) -> Path:
    """Give the first card of a name in any header another value, as text."""
    content = path.read_bytes()
    at = content.index(key.ljust(8).encode() + b"=")
    card = f"{key:8}= {value}".ljust(80).encode("latin-1")
    path.write_bytes(content[:at] + card + content[at + 80 :])
    return path


def offset_list(folder: Path) -> Path:
    row = Offset(date_obs="2014-12-08T02:48:56.798", dec_deg=1.0, ra_offset_arcsec=0.1,
                 dec_offset_arcsec=0.2)  # fmt: skip
    OffsetTable((row,)).write(folder / "o.fits")
    return folder / "o.fits"


# --- files that are none -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.xml", "a.fits", "a.fits.gz"])
def test_a_pipe_among_frames_keeps_nobody_waiting(name, tmp_path):
    write(tmp_path / "frame.fits")
    os.mkfifo(tmp_path / name)
    frames = in_time(lambda: find_frames(tmp_path))
    in_time(lambda: selections(frames))
    assert len([frame for frame in frames if frame.kind == "raw"]) == 1


@pytest.mark.parametrize(
    "read",
    [md.open_exposures, describe, read_mask_image, RegionFile.read, OffsetTable.read,
     md.read_exposure_table, read_config, read_mypython_lists, read_plan],
)  # fmt: skip
def test_a_pipe_is_no_input(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    error = in_time(lambda: read(tmp_path / "pipe"))
    assert isinstance(error, FileError)
    assert str(tmp_path / "pipe") in str(error)


def test_a_name_that_no_disk_takes_is_a_file_that_is_not_there(tmp_path):
    (tmp_path / "cubeall.in").write_text("x" * 5000)
    with pytest.raises(FileError, match="no exposure that can be read"):
        read_mypython_lists(tmp_path / "cubeall.in")
    for read in (read_mask_image, OffsetTable.read, RegionFile.read, md.open_exposures):
        with pytest.raises(FileError):
            read(tmp_path / ("x" * 300))


# --- FITS --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_two_billion_axes_are_not_looked_for(packed, tmp_path):
    mask = tmp_path / "mask.fits"
    fits.PrimaryHDU(np.ones((3, 4), np.int16)).writeto(mask)
    for path, read in ((offset_list(tmp_path), OffsetTable.read), (mask, read_mask_image)):
        with_card(path, "NAXIS", "2147483647")
        if packed:
            path.write_bytes(gzip.compress(path.read_bytes()))
        error = in_time(lambda path=path, read=read: read(path))
        assert isinstance(error, FileError)
        assert "NAXIS = 2147483647" in str(error)


@pytest.mark.parametrize("value", ["'x'", "1.5", "-1", "T"])
@pytest.mark.parametrize("key", ["PCOUNT", "GCOUNT"])
def test_counts_that_are_no_counts_are_a_broken_header(key, value, tmp_path):
    path = with_card(write_cube(tmp_path / "cube.fits"), key, value)
    with pytest.raises(FileError, match=rf"cube\.fits: has a broken header: {key}"):
        md.open_exposures(path)


@pytest.mark.parametrize("value", ["1E400", "'\x1b[31m'", "'\xe9'", "'63.3'"])
def test_cards_of_the_sky_that_astropy_refuses_are_named(value, tmp_path):
    path = with_card(write_cube(tmp_path / "cube.fits"), "CRVAL1", value)
    with pytest.raises(InputError, match=r"cube\.fits"):
        md.open_exposures(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("ZCMPTYPE", "5.0"), ("ZNAXIS", "0"), ("ZNAXIS", "1E39"),
     ("ZTILE1", "'x'"), ("TFORM1", "'1PQ'"), ("ZVAL1", "'x'"),
     ("ZBITPIX", "7"), ("TFIELDS", "0"), ("ZNAXIS1", "-4")],
)  # fmt: skip
def test_a_damaged_packed_cube_leaves_nothing_behind(key, value, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("MUSEDASK_CACHE", str(cache))
    path = tmp_path / "cube.fits.fz"
    data = np.ones((4, 5, 6), np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type="RICE_1")]).writeto(
        path
    )
    with_card(path, key, value)
    with pytest.raises(MusedaskError, match=r"cube\.fits\.fz"):
        md.open_exposures(path)
    assert not list(cache.glob("*.part"))
    assert not [link for link in os.listdir("/proc/self/fd")
                if os.path.realpath(f"/proc/self/fd/{link}") == str(path)]  # fmt: skip


# --- texts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "opening", ["a = " + "[" * 5000, "a = " + "{a=" * 5000, "a = " + "9" * 5000]
)
def test_toml_that_is_nested_too_deeply_is_no_toml(opening, tmp_path):
    (tmp_path / "musedask.toml").write_text(opening)
    with pytest.raises(FileError, match=r"musedask\.toml: is no TOML"):
        read_config(tmp_path / "musedask.toml")


def test_json_that_is_nested_too_deeply_is_no_note(tmp_path):
    for name in (RECORD_NAME, "plan.json"):
        (tmp_path / name).write_text("[" * 200_000)
    assert read_record(tmp_path) is None
    with pytest.raises(FileError, match=r"plan\.json: is no plan"):
        read_plan(tmp_path / "plan.json")


@pytest.mark.parametrize("outcome", [1.5, [], "x", None])
def test_a_note_whose_outcome_is_none_is_no_note(outcome, tmp_path):
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "key.json").write_text(json.dumps({"lasting": 1, "outcome": outcome}))
    assert Notes(tmp_path).failures() == {}


def test_a_shape_of_a_hundred_thousand_numbers_is_refused_at_once(tmp_path):
    (tmp_path / "a.reg").write_text("fk5\npolygon(" + ",".join(["1"] * 100_000) + ")\n")
    error = in_time(lambda: RegionFile.read(tmp_path / "a.reg"))
    assert isinstance(error, InputError)
    assert "a.reg, line 2: a polygon of 100000 parameters" in str(error)


def test_columns_that_astropy_would_read_in_another_way_are_refused(tmp_path):
    OffsetTable((Offset(date_obs="2014-12-08T02:48:56.798", ra_offset_arcsec=0.1,
                        dec_offset_arcsec=0.2),)).write(tmp_path / "o.ecsv")  # fmt: skip
    path = tmp_path / "o.ecsv"
    path.write_text(path.read_text().replace("datatype: float64", "datatype: datetime64", 1))
    with pytest.raises(InputError, match=r"o\.ecsv"):
        OffsetTable.read(path)


def test_what_errors_quote_is_printable_and_short():
    text = str(InputError("a\x1b[31m\x00" + "y" * 10**6 + "\n\x9b end"))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text) < 5100
    assert text.startswith(r"a\x1b[31m\x00y")
    assert text.endswith("\n\\x9b end")


# --- mega-cubes --------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    md.write_megacube(fake_stack(), tmp_path / "deep.zarr")
    return tmp_path / "deep.zarr"


def everything(path):
    store = md.open_megacube(path)
    store.exposures.load()
    store.images.load()
    for cube in store.values():
        cube.load(scheduler="synchronous")


def change(path, action):
    document = json.loads(path.read_text())
    action(document)
    path.write_text(json.dumps(document))


def test_a_whole_store_is_read(store):
    everything(store)
    cube = md.open_megacube(store)["median"]
    assert stored_array(cube, "flux") is not None
    # The same arrays have the same names, and those of another build have others.
    assert cube["flux"].data.name == md.open_megacube(store)["median"]["flux"].data.name
    change(store / "zarr.json", lambda d: d["attributes"]["musedask"].update(build="other"))
    assert cube["flux"].data.name != md.open_megacube(store)["median"]["flux"].data.name


@pytest.mark.parametrize(
    "action",
    [
        lambda d: d.update(attributes=[]),
        lambda d: d["attributes"]["musedask"].update(methods=["../median"]),
        lambda d: d["attributes"]["musedask"].update(methods=[]),
        lambda d: d["attributes"]["musedask"].update(block=[4, 6]),
        lambda d: d["attributes"]["musedask"].update(inner=[0, 3, 4]),
        lambda d: d["attributes"]["musedask"].update(inner=[3, 3, 4]),
        lambda d: d["attributes"]["musedask"].update(shape=[9, 11, 13]),
        lambda d: d["attributes"]["musedask"].pop("build"),
        lambda d: d["consolidated_metadata"]["metadata"].pop("median"),
        lambda d: d["consolidated_metadata"]["metadata"].pop("exposures"),
        lambda d: d["consolidated_metadata"]["metadata"]["median/flux"].update(shape=[1, 2]),
        lambda d: d["consolidated_metadata"]["metadata"]["median/flux"].pop("codecs"),
        lambda d: d["consolidated_metadata"]["metadata"]["median/wavelength"].update(
            shape=[10**12]
        ),
        lambda d: d["consolidated_metadata"]["metadata"]["median"].update(attributes=5),
        lambda d: d.pop("consolidated_metadata"),
    ],
)
def test_damaged_metadata_are_one_error(action, store):
    change(store / "zarr.json", action)
    error = in_time(lambda: everything(store))
    assert isinstance(error, FileError)
    assert "deep.zarr" in str(error)


def test_a_damaged_block_is_named_when_it_is_read(store):
    shard = store / "median" / "variance" / "c.0.0.0"
    content = bytearray(shard.read_bytes())
    content[-6] ^= 1
    shard.write_bytes(content)
    cube = md.open_megacube(store)["median"]
    cube["flux"].load(scheduler="synchronous")
    with pytest.raises(FileError, match=r"deep\.zarr/median/variance: the store is damaged"):
        cube["variance"].load(scheduler="synchronous")


@pytest.mark.parametrize("name", ["median/flux/c.0.0.0", "exposures/exposure/c/0", "zarr.json"])
def test_a_pipe_in_a_store_keeps_nobody_waiting(name, store):
    path = next(store.glob(name), None) or next(store.glob(f"{Path(name).parent.parent}/*/c*"))
    path.unlink()
    os.mkfifo(path)
    error = in_time(lambda: everything(store))
    assert isinstance(error, FileError)
    assert "deep.zarr" in str(error)


@pytest.mark.parametrize(
    "shape", ["polygon(1,1,inf,1,4,4)", "circle(1e400,1,2)", "box(1,1,inf,2,0)"]
)
def test_a_shape_without_an_end_is_named(shape, tmp_path):
    (tmp_path / "a.reg").write_text(f"image\n{shape}\n")
    sky = md.CubeGrid.from_cube(md.open_exposures(write_cube(tmp_path / "c.fits"))[0]).sky
    with pytest.raises(InputError, match=r"a\.reg, line 2"):
        RegionFile.read(tmp_path / "a.reg").inside(sky, (5, 6))


@pytest.mark.parametrize("header", ['encoding="x-none"', 'encoding="UTF-16"'])
def test_an_association_in_an_odd_encoding_is_one_error(header, tmp_path):
    text = f'<?xml version="1.0" {header}?><association/>'
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(FileError, match=r"a\.xml: is no XML"):
        read_calselector(tmp_path / "a.xml")


@pytest.mark.parametrize("column", ["mode", "path"])
def test_a_hundred_thousand_blanks_are_soon_read(column, tmp_path):
    name = "a" + " " * 200_000 + "b"
    table = Table({"path": ["c.fits"], "mode": ["x"]})
    table[column] = [name]
    found = in_time(lambda: check_exposure_table(table, folder=tmp_path, must_exist=False))
    assert str(found[column][0]).endswith(name)


def test_an_ecsv_header_that_is_nested_deeply_is_refused_at_once(tmp_path):
    text = "# %ECSV 1.0\n# ---\n# datatype:\n# - " + "{a: " * 50_000 + "\npath\na\n"
    (tmp_path / "t.ecsv").write_text(text)
    for read in (md.read_exposure_table, OffsetTable.read, describe):
        error = in_time(lambda read=read: read(tmp_path / "t.ecsv"))
        assert isinstance(error, MusedaskError)
        assert "t.ecsv" in str(error)


def test_a_choice_that_lacks_a_key_is_an_error(tmp_path):
    path = tmp_path / "musedask.toml"
    path.write_text('[[reduction.choose]]\nframes = "*"\nfile = "none"\n')
    with pytest.raises(InputError, match=r"musedask\.toml: \[reduction\.choose\] has no tag"):
        read_config(path)


def test_a_second_card_with_two_billion_axes_is_refused(tmp_path):
    path = offset_list(tmp_path)
    content = path.read_bytes()
    end = content.index(b"END".ljust(80))
    second = b"NAXIS   = 2147483647".ljust(80) + b"END".ljust(80)
    path.write_bytes(content[:end] + second + content[end + 160 :])
    error = in_time(lambda: OffsetTable.read(path))
    assert isinstance(error, FileError)
    assert "NAXIS = 2147483647" in str(error)


@pytest.mark.parametrize("text", ["a.fits " + "9" * 100_000, "offset_wcs_2d(" + "\n" * 100_000])
def test_offsets_on_which_a_pattern_would_take_minutes_are_refused(text, tmp_path):
    (tmp_path / "manualoffsets.txt").write_text(text)
    error = in_time(lambda: OffsetTable.read(tmp_path / "manualoffsets.txt", [], format="cosmos"))
    assert isinstance(error, InputError)
    key = ExposureKey("2014-12-08T02:48:56.798", "a")
    error = in_time(lambda: OffsetTable.read(tmp_path / "manualoffsets.txt", [key]))
    assert isinstance(error, InputError)
    assert "manualoffsets.txt" in str(error)


def test_a_second_card_of_the_structure_is_refused(tmp_path):
    path = write_cube(tmp_path / "cube.fits")
    content = path.read_bytes()
    at = content.index(b"CRVAL1  =")
    path.write_bytes(content[:at] + b"NAXIS3  = -32".ljust(80) + content[at + 80 :])
    for read in (md.open_exposures, OffsetTable.read, read_mask_image):
        error = in_time(lambda read=read: read(path))
        assert isinstance(error, FileError)
        assert "NAXIS3 comes twice" in str(error)


def test_brackets_without_an_end_are_soon_read(tmp_path):
    (tmp_path / "a.reg").write_text("image\ncircle(1,1,2) # " + "{a=" * 100_000 + "\n")
    assert len(in_time(lambda: RegionFile.read(tmp_path / "a.reg")).shapes) == 1


@pytest.mark.parametrize(("first", "step"), [(1e300, 1.25), (4750.0, 1e-12), (4750.0, 1e308)])
def test_channels_that_cannot_be_told_apart_are_refused(first, step, tmp_path):
    path = write_cube(tmp_path / "cube.fits", wcs={"CRVAL3": first, "CD3_3": step})
    with pytest.raises(InputError, match=r"cube\.fits: wavelengths start at"):
        md.open_exposures(path)
