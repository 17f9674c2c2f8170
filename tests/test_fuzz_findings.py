"""What ``make fuzz`` has found, each case made anew as small as it can be."""

from __future__ import annotations

import gzip
import json
import os
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from compared_fields import made_compared
from fake_stack import fake_stack
from fits_files import write_cube
from raw_headers import write

import musedask as md
from musedask.alignment.catalogue import read_catalogue
from musedask.alignment.filters import find_filter
from musedask.alignment.image_files import read_image
from musedask.alignment.material import MaskedCircle, read_material, write_material
from musedask.alignment.reference import open_reference
from musedask.alignment.review.decisions import FORMAT, Decision, decisions_text, read_decisions
from musedask.alignment.review.journal import Journal, Step
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
    with pytest.raises(FileError, match=r"deep\.zarr/median/variance/c\.0\.0\.0: is damaged"):
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


# --- what the alignment reads ------------------------------------------------------------------

TABLES = (read_catalogue, find_filter, open_reference)


def refused(read, path, *words):
    """The one error in which a reader ends."""
    error = in_time(lambda: read(path))
    assert isinstance(error, MusedaskError), repr(error)[:200]
    for word in (path.name, *words):
        assert word in str(error)


def refresh(path):
    Journal(path).refresh()


@pytest.fixture
def material(tmp_path):
    folder = tmp_path / "o.alignment"
    write_material(folder, [made_compared(side=20, n_sources=2)])
    (record,), (images,) = folder.glob("*.json"), folder.glob("*.fits")
    return record, images


@pytest.mark.parametrize("read", [*TABLES, read_image, read_decisions, refresh])
@pytest.mark.parametrize("suffix", ["", ".ecsv", ".vot"])
def test_a_pipe_is_nothing_to_align_with(read, suffix, tmp_path):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    refused(read, tmp_path / f"pipe{suffix}", "is no regular file")


@pytest.mark.parametrize("which", [0, 1])
def test_a_pipe_among_what_was_compared_keeps_nobody_waiting(which, material):
    path = material[which]
    path.unlink()
    os.mkfifo(path)
    error = in_time(lambda: [entry.read() for entry in read_material(path.parent)])
    assert isinstance(error, FileError)
    assert path.name in str(error)


@pytest.mark.parametrize("text", ["wavelength,throughput\n", "# wavelength throughput\n"])
def test_a_filter_without_a_row_is_one_error(text, tmp_path):
    (tmp_path / "f.csv").write_text(text)
    refused(find_filter, tmp_path / "f.csv", "has no row of numbers")


@pytest.mark.parametrize("text", ["," * 100_000, "ra" + "(1,2) " * 100_000, "# " + "a " * 10**5])
@pytest.mark.parametrize("read", TABLES)
def test_a_hundred_thousand_columns_are_refused_at_once(read, text, tmp_path):
    (tmp_path / "t.csv").write_text(text + "\n1,2\n")
    refused(read, tmp_path / "t.csv", "line 1", "columns")


@pytest.mark.parametrize("companion", ["STAT", "WHT"])
def test_the_largest_values_are_no_warning_of_another_library(companion, tmp_path):
    path = tmp_path / "image.fits"
    flux = np.full((20, 20), 3.3e38, np.float32)
    flux[::2] *= -1
    flux[:, ::2] *= -1
    cards = fits.Header(list(made_compared(side=20).exposure.projection.cards))
    hdus = [fits.ImageHDU(data, cards, name=name)
            for name, data in (("DATA", flux), (companion, np.abs(flux)))]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    if companion == "WHT":
        np.testing.assert_array_equal(read_image(path).flux, flux)
    else:
        assert read_image(path).variance is not None


@pytest.mark.parametrize("line", ["1.0 2.0x" + "9" * 100_000, "ra dec\n1 2" + " " * 10**5 + "x"])
@pytest.mark.parametrize("read", TABLES)
def test_a_line_on_which_astropy_would_guess_for_minutes_is_refused(read, line, tmp_path):
    (tmp_path / "t.txt").write_text(line + "\n1 2\n")
    refused(read, tmp_path / "t.txt", "has a line of", "characters")


def test_the_smallest_weight_is_no_variance(tmp_path):
    path = tmp_path / "hst.fits"
    flux = np.random.default_rng(1).normal(size=(20, 20)).astype(np.float32)
    weight = np.full(flux.shape, 1.0, np.float32)
    weight[3, 4] = 1e-40
    cards = fits.Header(list(made_compared(side=20).exposure.projection.cards))
    hdus = [
        fits.ImageHDU(data, cards, name=name) for name, data in (("SCI", flux), ("WHT", weight))
    ]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    image = read_image(path)
    assert np.argwhere(np.isnan(image.flux)).tolist() == [[3, 4]]
    assert image.variance is not None
    assert np.isnan(image.variance[3, 4])


@pytest.mark.parametrize("read", TABLES)
def test_a_table_whose_header_is_nested_deeply_is_refused_at_once(read, tmp_path):
    text = "# %ECSV 1.0\n# ---\n# datatype:\n# - " + "{a: " * 50_000 + "\nra dec\n1 2\n"
    for name in ("t.ecsv", "t.txt"):
        (tmp_path / name).write_text(text)
        refused(read, tmp_path / name, "header has")


def test_units_that_astropy_does_not_know_are_no_reason_to_refuse_a_table(tmp_path):
    header = "# %ECSV 1.0\n# ---\n# datatype:\n"
    columns = "".join(
        f"# - {{name: {name}, {unit}datatype: float64}}\n"
        for name, unit in (("ra", ""), ("dec", ""), ("flux", "unit: electrum, "))
    )
    (tmp_path / "t.ecsv").write_text(f"{header}{columns}ra dec flux\n1 2 3\n")  # fmt: skip
    assert read_catalogue(tmp_path / "t.ecsv").dec_deg.tolist() == [2.0]


VOTABLE = """<?xml version="1.0"?>{}<VOTABLE version="1.3"><RESOURCE><TABLE {}>
<FIELD name="ra" datatype="double"/><FIELD name="dec" datatype="double"/>
<DATA>{}</DATA></TABLE></RESOURCE></VOTABLE>"""
ROWS = "<TABLEDATA><TR><TD>1</TD><TD>2</TD></TR></TABLEDATA>"


def test_a_votable_that_leads_elsewhere_or_blows_up_is_refused(tmp_path):
    path = tmp_path / "t.vot"
    path.write_text(VOTABLE.format("", 'nrows="1"', ROWS))
    assert read_catalogue(path).ra_deg.tolist() == [1.0]
    (tmp_path / "other").write_bytes(np.array([1.0, 2.0], ">f8").tobytes())
    stream = f'<BINARY><STREAM href="file://{tmp_path}/other"/></BINARY>'
    for parts, word in (
        (("", "", stream), "in another place"),
        (("", "", stream.replace("STREAM", "v:STREAM")), "in another place"),
        (('<!DOCTYPE a [<!ENTITY b "c">]>', "", ROWS), "document type"),
        (("", f'nrows="{10**12}"', ROWS), "nrows"),
        (("", "", "<DATA>" * 200), "deep"),
    ):
        path.write_text(VOTABLE.format(*parts))
        refused(read_catalogue, path, word)


def test_a_catalogue_with_two_billion_axes_is_refused(tmp_path):
    path = tmp_path / "t.fits"
    Table({"ra": [1.0], "dec": [2.0]}).write(path)
    content = path.read_bytes()
    at = content.index(b"XTENSION")
    path.write_bytes(content[:at] + content[at:].replace(
        b"NAXIS   =                    2", b"NAXIS   =           2147483647", 1))  # fmt: skip
    for read in TABLES:
        refused(read, path, "NAXIS = 2147483647")


@pytest.mark.parametrize("text", ["1e300 1\n2e300 1\n", "5000 1e308\n6000 1e308\n"])
def test_a_filter_of_numbers_that_cannot_be_multiplied_is_refused(text, tmp_path):
    (tmp_path / "f.txt").write_text(text)
    refused(find_filter, tmp_path / "f.txt", "above 1e+30")


def test_a_motion_that_no_star_has_is_refused(tmp_path):
    (tmp_path / "c.csv").write_text("ra,dec,pmra,pmdec,ref_epoch\n1,2,1e308,1,2016\n")
    refused(read_catalogue, tmp_path / "c.csv", "row 1", "proper motions")


def test_a_column_that_is_no_column_of_numbers_is_named(tmp_path):
    from astropy.time import Time

    table = Table({"ra": Time([50000.0], format="mjd"), "dec": [1.0]})
    with pytest.raises(InputError, match="the column ra does not hold a number"):
        open_reference(table)


def test_json_of_a_review_that_is_nested_too_deeply_is_one_error(material, tmp_path):
    deep = "[" * 200_000
    for path, read in ((tmp_path / "review.json", read_decisions), (tmp_path / "j", refresh),
                       (material[0], lambda path: read_material(path.parent))):  # fmt: skip
        path.write_text(deep + "\n")
        refused(read, path, "no JSON")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["exposure"]["projection"].update(CTYPE1="RA---XYZ"),
        lambda record: record["exposure"]["projection"].update(CD1_1=0.0, CD1_2=0.0),
        lambda record: record["exposure"]["projection"].update({"A KEY\n": 1.0}),
        lambda record: record["exposure"]["projection"].pop("CD2_2"),
        lambda record: record["exposure"].update(projection=[]),
        lambda record: record["reference"]["projection"].update(CRPIX1=1e300),
        lambda record: record["exposure"].update(shape=[20, 10**30]),
        lambda record: record["measurement"].update(ra_deg="1"),
    ],
)
def test_what_was_compared_somewhere_else_is_one_error(change, material):
    path = material[0]
    (entry,) = read_material(path.parent)
    entry.read()
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    refused(lambda path: [entry.read() for entry in read_material(path.parent)], path)


def test_a_number_of_four_hundred_digits_is_no_traceback(material):
    path = material[0]
    path.write_text(path.read_text().replace('"background": 0.0', '"background": 1' + "0" * 400))
    (entry,) = read_material(path.parent)
    assert entry.measurement.background == np.inf


@pytest.mark.parametrize(
    ("key", "value"),
    [("NAXIS", "2147483647"), ("BITPIX", "7"), ("NAXIS1", "-4"), ("XTENSION", "'BINTABLE'")],
)
def test_damaged_images_with_a_sum_that_fits_are_one_error(key, value, material):
    record, images = material
    content = images.read_bytes()
    at = content.index(b"XTENSION")
    second = images.with_name("second")
    second.write_bytes(content[at:])
    images.write_bytes(content[:at] + with_card(second, key, value).read_bytes())
    second.unlink()
    document = json.loads(record.read_text()) | {"crc32": zlib.crc32(images.read_bytes())}
    record.write_text(json.dumps(document))
    refused(lambda path: [entry.read() for entry in read_material(path.parent)], images)


def test_a_journal_with_a_bad_line_is_not_half_taken(tmp_path):
    path = tmp_path / "review.jsonl"
    row = Offset(date_obs="2014-12-08T02:48:56.798", ra_offset_arcsec=0.1, dec_offset_arcsec=0.2)
    journal = Journal(path)
    for action in ("moved", "accepted"):
        masked = (MaskedCircle(1.0, 2.0, 3.0),)
        journal.add(Step(row.date_obs, action, "me", "now", row, row, masked))
    whole = path.read_bytes()
    path.write_bytes(whole + b"{}\n")
    other = Journal(path)
    for _ in range(2):
        with pytest.raises(FileError, match=r"review\.jsonl"):
            other.refresh()
    path.write_bytes(whole)
    other.refresh()
    assert [step.action for step in other.steps(row.date_obs)] == ["moved", "accepted"]


def test_two_decisions_on_one_exposure_are_found_among_thousands(tmp_path):
    path = tmp_path / "review.json"
    one = Decision(date_obs="2014-12-08T02:48:56.798", action="accepted", based_on="a")
    record = json.loads(decisions_text((one,)))
    assert record["format"] == FORMAT
    record["decisions"] = [
        record["decisions"][0] | {"date_obs": f"exposure {n}"} for n in (*range(20_000), 3)
    ]
    path.write_text(json.dumps(record))
    refused(read_decisions, path, "two decisions on exposure 3")
