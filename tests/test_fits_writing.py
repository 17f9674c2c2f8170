from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import astropy.units as u
import dask.array as da
import fake_stack as fake
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from fake_stack import FIELDS, expected, fake_stack

from musedask import uncached
from musedask.cube import make_cube
from musedask.errors import FileError, InputError
from musedask.fits import export_fits, open_cube, pieces, product
from musedask.fits import writing as exporting
from musedask.fits.provenance import shared_header
from musedask.megacube import direct, open_megacube, write_megacube
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis
from musedask.uncached import ALIGNMENT

SHAPE = (10, 11, 13)
HERE = Path(__file__).parent


@pytest.fixture
def stored(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    return open_megacube(tmp_path / "m.zarr")["median"]


def small_cube(**changes):
    rng = np.random.default_rng(3)
    flux = rng.normal(size=(5, 6, 7)).astype(np.float32)
    flux[1:3, 2, 3] = np.nan
    variance = np.where(np.isnan(flux), np.nan, flux**2).astype(np.float32)
    options = {
        "sky": SkyProjection.north_up(53.1, -27.8, 0.2, 3.0, 2.0),
        "spectral": SpectralAxis(4749.9, 1.25, 5, "air", "BARYCENT"),
    }
    return make_cube({"flux": flux, "variance": variance}, **{**options, **changes})


def values(path, name):
    with fits.open(path) as file:
        return file[name].data.copy()


def primary(path):
    with fits.open(path) as file:
        return file[0].header.copy()


# Values


@pytest.mark.parametrize("how", ["store", "lazy stack", "memory", "cut-out", "changed"])
def test_values_types_and_units_arrive(tmp_path, stored, how):
    cube = {
        "store": lambda: stored,
        "lazy stack": lambda: fake_stack()["median"],
        "memory": stored.compute,
        "cut-out": lambda: stored.isel(wavelength=slice(1, 9), y=slice(2, 10), x=slice(3, 12)),
        "changed": lambda: stored.assign(flux=stored["flux"] * np.float32(2)),
    }[how]()
    export_fits(cube, tmp_path / "m.fits")
    planes = expected(SHAPE, FIELDS)
    if how == "cut-out":
        planes = planes[:, 1:9, 2:10, 3:12]
    if how == "changed":
        planes[0] *= 2
    wanted = {"DATA": planes[0], "STAT": planes[1], "EXPMAP": np.nan_to_num(planes[2]),
              "TEXPMAP": np.nan_to_num(planes[3])}  # fmt: skip
    for name, plane in wanted.items():
        np.testing.assert_array_equal(values(tmp_path / "m.fits", name), plane)
    assert values(tmp_path / "m.fits", "EXPMAP").dtype == ">i2"
    with fits.open(tmp_path / "m.fits") as file:
        assert file["DATA"].header["BUNIT"] == "10**(-20)*erg/s/cm**2/Angstrom"
        assert file["STAT"].header["BUNIT"] == "(10**(-20)*erg/s/cm**2/Angstrom)**2"
        assert "BZERO" not in file["EXPMAP"].header


@pytest.mark.parametrize("how", ["store", "memory"])
def test_counts_of_very_many_exposures_take_four_bytes(tmp_path, stored, monkeypatch, how):
    monkeypatch.setattr(product, "_MAX_INT16", 2)  # of three exposures
    export_fits(stored if how == "store" else stored.compute(), tmp_path / "m.fits")
    assert values(tmp_path / "m.fits", "EXPMAP").dtype == ">i4"
    wanted = np.nan_to_num(expected(SHAPE, FIELDS)[2])
    np.testing.assert_array_equal(values(tmp_path / "m.fits", "EXPMAP"), wanted)


@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=2)[:, :, ::2], np.copy]
)
@pytest.mark.parametrize("run", [1, 60, 10**6])
def test_arrays_in_memory_may_lie_in_any_order(tmp_path, monkeypatch, change, run):
    monkeypatch.setattr(pieces, "_BUFFER_BYTES", run)
    cube = small_cube()
    for name in ("flux", "variance"):
        cube[name] = (cube[name].dims, change(cube[name].values), cube[name].attrs)
    export_fits(cube, tmp_path / "m.fits")
    np.testing.assert_array_equal(values(tmp_path / "m.fits", "DATA"), small_cube()["flux"].values)


def test_variables_of_one_task_are_computed_together(tmp_path):
    stack = fake_stack()
    fake.CALLS.clear()
    export_fits(stack["median"], tmp_path / "m.fits")
    assert set(fake.CALLS.values()) == {1}


@pytest.mark.parametrize(("block", "inner"), [((4, 6, 8), (2, 3, 4)), ((10, 3, 4), (5, 3, 2))])
def test_a_store_is_read_directly_and_only_while_it_is_unchanged(
    tmp_path, monkeypatch, block, inner
):
    write_megacube(fake_stack(block=block, inner=inner), tmp_path / "m.zarr")
    cube = open_megacube(tmp_path / "m.zarr")["mean"]
    seen = []
    real = exporting._stream_stored
    monkeypatch.setattr(
        exporting,
        "_stream_stored",
        lambda arrays, *rest: (seen.extend(arrays), real(arrays, *rest)),
    )
    export_fits(cube.assign(variance=cube["variance"] + np.float32(1)), tmp_path / "m.fits")
    assert seen == ["flux", "n_exposures", "exposure_time"]
    planes = expected(SHAPE, FIELDS)
    np.testing.assert_array_equal(values(tmp_path / "m.fits", "DATA"), planes[4])
    np.testing.assert_array_equal(values(tmp_path / "m.fits", "STAT"), planes[5] + 1)


# The file


@pytest.mark.filterwarnings("error")
def test_astropy_verifies_it_without_a_warning_and_its_length_is_whole_blocks(tmp_path, stored):
    export_fits(stored, tmp_path / "m.fits")
    with fits.open(tmp_path / "m.fits", checksum=True) as file:
        file.verify("exception")
        names = [hdu.name for hdu in file]
    assert names == ["PRIMARY", "DATA", "STAT", "EXPMAP", "TEXPMAP", "EXPOSURES"]
    assert os.path.getsize(tmp_path / "m.fits") % 2880 == 0


def test_mpdaf_opens_it_with_unit_wcs_wave_and_masked_voxels(tmp_path, stored):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mpdaf.obj import Cube
    export_fits(stored, tmp_path / "m.fits")
    with warnings.catch_warnings():
        # mpdaf's own: how it spells the pipeline's unit displeases astropy.
        warnings.simplefilter("ignore", u.UnitsWarning)
        cube = Cube(str(tmp_path / "m.fits"), convert_float64=False)
    planes = expected(SHAPE, FIELDS)
    assert cube.unit == u.Unit("1e-20 erg / (s cm2 Angstrom)")
    np.testing.assert_array_equal(np.ma.getmaskarray(cube.data), np.isnan(planes[0]))
    np.testing.assert_array_equal(cube.data.filled(np.nan), planes[0])
    np.testing.assert_array_equal(cube.var.filled(np.nan), planes[1])
    np.testing.assert_allclose(cube.wave.coord(), 4750 + 1.25 * np.arange(10))
    np.testing.assert_allclose(cube.wcs.pix2sky([6, 5])[0], [-60.2, 150.1], atol=1e-10)
    assert cube.primary_header["NFILES"] == 3


def test_a_cut_out_keeps_its_place_on_the_sky_and_in_wavelength(tmp_path):
    cube = small_cube()
    export_fits(cube, tmp_path / "whole.fits")
    part = cube.isel(wavelength=slice(2, 5), y=slice(1, 5), x=slice(2, 6))
    export_fits(part, tmp_path / "part.fits")
    with fits.open(tmp_path / "whole.fits") as whole, fits.open(tmp_path / "part.fits") as cut:
        first = WCS(whole["DATA"].header).pixel_to_world_values(2, 1, 2)
        np.testing.assert_allclose(WCS(cut["DATA"].header).pixel_to_world_values(0, 0, 0), first)
        np.testing.assert_array_equal(cut["DATA"].data, whole["DATA"].data[2:5, 1:5, 2:6])


@pytest.mark.parametrize(("medium", "ctype"), [("air", "AWAV"), ("vacuum", "WAVE")])
def test_the_axes_are_a_cd_matrix_and_nothing_else(tmp_path, medium, ctype):
    export_fits(
        small_cube(spectral=SpectralAxis(4749.9, 1.25, 5, medium, "unknown")), tmp_path / "m.fits"
    )
    header = fits.getheader(tmp_path / "m.fits", "STAT")
    assert (header["CTYPE3"], header["CUNIT3"]) == (ctype, "Angstrom")
    assert (header["CRPIX3"], header["CRVAL3"], header["CD3_3"]) == (1.0, 4749.9, 1.25)
    assert not [key for key in header if key.startswith(("CDELT", "PC1_", "PC2_", "PC3_"))]
    assert "SPECSYS" not in header


def test_our_own_reader_gets_the_cube_back(tmp_path):
    cube = small_cube()
    export_fits(cube, tmp_path / "m.fits")
    back = open_cube(tmp_path / "m.fits")
    for name in ("flux", "variance"):
        np.testing.assert_array_equal(back[name].values, cube[name].values)
    assert back["wcs"].attrs == cube["wcs"].attrs
    np.testing.assert_array_equal(back["wavelength"].values, cube["wavelength"].values)
    assert back["wavelength"].attrs["frame"] == "BARYCENT"


@pytest.mark.parametrize(("block", "inner"), [((4, 6, 8), (2, 3, 4)), ((10, 11, 13), (3, 11, 2))])
def test_through_the_cache_the_disk_starts_on_all_data_before_the_end(
    tmp_path, monkeypatch, block, inner
):
    write_megacube(fake_stack(block=block, inner=inner), tmp_path / "m.zarr")
    began, synced = [], []
    monkeypatch.setattr(pieces, "bypass_cache", lambda _: False)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *part: began.append((*part, list(synced))))
    monkeypatch.setattr(os, "fsync", synced.append)
    export_fits(open_megacube(tmp_path / "m.zarr")["median"], tmp_path / "m.fits")
    assert len(synced) == 1
    with fits.open(tmp_path / "m.fits") as file:
        wanted = {
            byte
            for hdu in file[1:5]
            for byte in range(hdu.fileinfo()["datLoc"], hdu.fileinfo()["datLoc"] + hdu.data.nbytes)
        }
    assert {byte for start, size, *_ in began for byte in range(start, start + size)} == wanted
    assert not any(before for *_, before in began)


def test_it_does_without_advice_to_the_disk(tmp_path, monkeypatch, stored):
    monkeypatch.setattr(pieces, "bypass_cache", lambda _: False)
    export_fits(stored, tmp_path / "m.fits")
    monkeypatch.delattr(os, "posix_fadvise")
    export_fits(stored, tmp_path / "n.fits")
    assert (tmp_path / "n.fits").read_bytes() == (tmp_path / "m.fits").read_bytes()


# Past the page cache

WIDE = (7, 90, 101)
"""Planes of some pages and a bit."""
WIDE_FIELDS = (
    fake.Field("a", slice(0, 90), slice(0, 101), 1.0),
    fake.Field("b", slice(9, 80), slice(11, 70), -3.0, 5),
)


@pytest.fixture
def wide(tmp_path, request, monkeypatch):
    """A store whose bands are whole planes, or parts of planes."""
    block, inner, n_bytes = request.param
    monkeypatch.setattr(direct, "_BAND_BYTES", n_bytes)
    stack = fake_stack(WIDE, block=block, inner=inner, fields=WIDE_FIELDS)
    write_megacube(stack, tmp_path / "m.zarr")
    return open_megacube(tmp_path / "m.zarr")["median"]


WHOLE_PLANES = ((4, 90, 101), (2, 45, 51), 1 << 20)
PARTS = ((4, 60, 60), (2, 30, 30), 1)
"""Bands of an inner chunk's height."""


@pytest.mark.parametrize("wide", [WHOLE_PLANES, PARTS], indirect=True)
@pytest.mark.parametrize("how", ["store", "memory", "blocks"])
@pytest.mark.parametrize("disk", ["takes", "refuses", "knows none"])
def test_the_same_bytes_go_past_the_cache_as_through_it(tmp_path, monkeypatch, wide, how, disk):
    cube = wide if how == "store" else wide.compute()
    if how == "blocks":
        cube = cube.chunk(wavelength=3, y=50, x=101)
    real = os.pwrite

    def refuse(descriptor, data, offset):
        if uncached.bypasses_cache(descriptor):
            raise OSError(errno.EINVAL, "refused")
        return real(descriptor, data, offset)

    if disk == "refuses":
        monkeypatch.setattr(os, "pwrite", refuse)
    if disk == "knows none":
        monkeypatch.setattr(pieces, "bypass_cache", lambda _: False)
    monkeypatch.setattr(pieces, "_LEAST_BYTES", 2 * ALIGNMENT)
    export_fits(cube, tmp_path / "m.fits")
    planes = np.nan_to_num(expected(WIDE, WIDE_FIELDS), nan=-99)
    for name, plane in zip(("DATA", "STAT"), planes, strict=False):
        found = np.nan_to_num(values(tmp_path / "m.fits", name), nan=-99)
        np.testing.assert_array_equal(found, plane)
    monkeypatch.undo()
    monkeypatch.setattr(pieces, "_LEAST_BYTES", 1 << 60)
    export_fits(cube, tmp_path / "n.fits")
    assert (tmp_path / "m.fits").read_bytes() == (tmp_path / "n.fits").read_bytes()


@pytest.mark.parametrize(
    ("wide", "per_image"), [(WHOLE_PLANES, 4), (PARTS, 3 * 7)], indirect=["wide"]
)
def test_a_store_goes_past_the_cache_in_pieces_as_long_as_its_bands(
    tmp_path, monkeypatch, wide, per_image
):
    with (tmp_path / "probe").open("wb") as file:
        if not uncached.bypass_cache(file.fileno()):
            pytest.skip("this file system knows no writing past the cache")
    seen, real = [], os.pwrite

    def pwrite(descriptor, data, offset):
        seen.append((uncached.bypasses_cache(descriptor), len(data)))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(pieces, "laid_out", None)  # nothing has to be copied for it
    monkeypatch.setattr(pieces, "_LEAST_BYTES", 12_000)  # a band's part of a plane is longer
    export_fits(wide[["flux", "variance", "exposure_time"]], tmp_path / "m.fits")
    past = [size for bypasses, size in seen if bypasses]
    assert len(past) == 3 * per_image
    n_bytes = 3 * 4 * int(np.prod(WIDE))
    assert n_bytes - 2 * ALIGNMENT * len(past) < sum(past) <= n_bytes


# What it says of itself


def test_exposures_stand_in_the_primary_and_in_a_table(tmp_path, stored):
    export_fits(stored, tmp_path / "m.fits")
    header = primary(tmp_path / "m.fits")
    assert header["NFILES"] == 3
    assert [header[f"FILE{n}"] for n in (1, 2, 3)] == ["a", "b", "c"]
    assert [header[f"TYPE{n}"] for n in (1, 2, 3)] == ["a", "m", "a"]
    # 0.2" on the sky in pixels of 0.2", exposure minus reference.
    assert header["OFF2"] == "(1.00000, -2.00000)"
    assert header["TEXPTIME"] == 300
    assert header["ESO PRO CATG"] == "MUSEDASK_MEGACUBE"
    assert header["DATE-OBS"] == "2020-01-01T00:00:00.000"
    assert header["MJD-OBS"] == 58849.0
    table = values(tmp_path / "m.fits", "EXPOSURES")
    assert list(table["NAME"]) == ["a", "b", "c"]
    np.testing.assert_allclose(table["DEC_OFFSET"], [0, -0.4, -0.8])
    np.testing.assert_allclose(table["FIRST_WAVELENGTH"], [4750, 4750.1, 4750.2])


def test_exptime_is_the_median_over_covered_spaxels(tmp_path, stored):
    export_fits(stored, tmp_path / "m.fits")
    time = np.nan_to_num(expected(SHAPE, FIELDS)[3])
    channels = (time > 0).sum(0)
    typical = np.median(time.sum(0)[channels > 0] / channels[channels > 0])
    assert primary(tmp_path / "m.fits")["EXPTIME"] == pytest.approx(typical)


def test_ra_and_dec_are_those_of_the_centre(tmp_path):
    cube = small_cube()
    export_fits(cube, tmp_path / "m.fits")
    header = primary(tmp_path / "m.fits")
    ra, dec = SkyProjection.north_up(53.1, -27.8, 0.2, 3.0, 2.0).to_sky(3.0, 2.5)
    assert header["RA"] == pytest.approx(float(ra), abs=1e-9)
    assert header["DEC"] == pytest.approx(float(dec), abs=1e-9)


@pytest.mark.filterwarnings("error")
def test_long_and_foreign_names_make_legal_cards(tmp_path):
    names = ["x" * 150 + "'s.fits", "Große Spirale.fits", ""]
    cube = small_cube().assign_coords(exposure=("exposure", names))
    export_fits(cube, tmp_path / "m.fits")
    with fits.open(tmp_path / "m.fits") as file:
        file.verify("exception")
        header = file[0].header
        assert header["FILE1"] == names[0]
        assert header["FILE2"] == "Gro?e Spirale.fits"
        assert header["NFILES"] == 3
        assert file["EXPOSURES"].data["NAME"][0] == names[0]


def header_text(**cards):
    header = fits.Header()
    header["SIMPLE"] = True
    header["BITPIX"] = 8
    header["NAXIS"] = 0
    for key, value in cards.items():
        name = key.replace("__", "-").replace("_", " ")
        header[f"HIERARCH {name}" if " " in name else name] = value
    return "\n".join(str(card) for card in header.cards)


COMMON = {
    "TELESCOP": "ESO-VLT-U4", "ESO_INS_MODE": "WFM-AO-N", "OBJECT": "UDF", "EQUINOX": 2000.0,
    "ESO_PRO_REC1_PARAM3_NAME": "skymethod", "ESO_PRO_REC1_ID": "muse_scipost",
}  # fmt: skip
OF_ONE = {
    "CHECKSUM": "abc", "DATASUM": "1", "DATAMD5": "d", "PIPEFILE": "x.fits", "RA": 1.0, "DEC": 2.0,
    "EXPTIME": 900.0, "DATE__OBS": "2020-01-01", "MJD__OBS": 58849.0,
    "ESO_DRS_MUSE_OFFSET1_DRA": 1e-5,
    "ESO_DRS_MUSE_FLUX_SCALE1": 1.1, "ESO_DRS_MUSE_PIXTABLE_RVCORR": 3.0, "ESO_QC_SCIPOST_NDET": 3,
    "ESO_PRO_CATG": "DATACUBE_FINAL", "ESO_PRO_REC1_RAW1_NAME": "r.fits", "FSFMODE": 2,
    "ESO_PRO_REC1_CAL1_DATAMD5": "d", "NFILES": 3, "FILE1": "a", "OFF1": "(0,0)", "TYPE1": "a",
}  # fmt: skip


def keywords(text):
    return set(fits.Header.fromstring(text, sep="\n"))


def test_only_cards_that_all_exposures_share_and_that_hold_for_a_stack_survive():
    first = header_text(**COMMON, **OF_ONE, ESO_TEL_AIRM="1.1", ESO_OBS_ID=7)
    other = header_text(**COMMON, **OF_ONE, ESO_TEL_AIRM="1.2")
    wanted = {key.replace("_", " ") for key in COMMON}
    assert keywords(shared_header([first, other])) == wanted
    assert keywords(shared_header([first])) == wanted | {"ESO TEL AIRM", "ESO OBS ID"}
    assert shared_header([]) == ""
    once = shared_header([first, other])
    assert shared_header([once]) == once


def test_cards_of_one_value_in_two_spellings_are_shared():
    one = f"{'EQUINOX =               2000.0':80}\n{'TEMP    = 1.0':80}"
    two = f"{'EQUINOX =                2.0E3 / epoch':80}\n{'TEMP    = 1.1':80}"
    assert shared_header([one, two]).split("=")[0].strip() == "EQUINOX"


def test_the_first_exposures_header_is_carried_without_what_belonged_to_it_alone(tmp_path):
    cube = small_cube(attrs={"primary_header": header_text(**COMMON, **OF_ONE)})
    export_fits(cube, tmp_path / "m.fits")
    header = primary(tmp_path / "m.fits")
    for key, value in COMMON.items():
        assert header[key.replace("_", " ")] == value
    left = {key.replace("__", "-").replace("_", " ") for key in OF_ONE}
    assert left & set(header) == {"RA", "DEC", "ESO PRO CATG"}
    assert header["ESO PRO CATG"] == "MUSEDASK_CUBE"


@pytest.mark.filterwarnings("error")
def test_broken_cards_of_an_exposure_do_not_break_the_product(tmp_path):
    cards = [
        "TELESCOP= 'ESO-VLT-U4'",
        "lower   = 3",
        "BAD KEY = 1",
        "NOVALUE =",
        "QUOTE   = 'not closed",
        "HIERARCH ESO INS LONG NAME OF SOMETHING = 'a value that goes on' / more",
        "LONG    = 'a text that is longer than one card may hold: it goes on &'",
        "CONTINUE  'to the next one'",
        "EXPO    = 1.E-5",
    ]
    text = "\n".join(card.ljust(80) for card in cards)
    export_fits(small_cube(attrs={"primary_header": text}), tmp_path / "m.fits")
    with fits.open(tmp_path / "m.fits") as file:
        file.verify("exception")
        header = file[0].header
        assert header["LONG"].endswith("goes on to the next one")
        assert header["EXPO"] == 1e-5
        assert header["ESO INS LONG NAME OF SOMETHING"] == "a value that goes on"


def test_fsf_keywords_come_from_attributes_alone(tmp_path):
    cube = small_cube(attrs={"FSFMODE": 2, "FSF00FNC": 3, "primary_header": header_text(**OF_ONE)})
    export_fits(cube, tmp_path / "m.fits")
    assert primary(tmp_path / "m.fits")["FSF00FNC"] == 3
    export_fits(cube.assign_attrs(FSFMODE=[1]), tmp_path / "n.fits")
    assert "FSFMODE" not in primary(tmp_path / "n.fits")


# What may go wrong


def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path):
    (tmp_path / "m.fits").write_text("mine")
    with pytest.raises(FileError, match="overwrite=True"):
        export_fits(small_cube(), tmp_path / "m.fits")
    assert (tmp_path / "m.fits").read_text() == "mine"
    assert export_fits(small_cube(), tmp_path / "m.fits", overwrite=True) == tmp_path / "m.fits"
    assert values(tmp_path / "m.fits", "DATA").shape == (5, 6, 7)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("joint", [True, False])
def test_a_failure_leaves_nothing_behind(tmp_path, error, joint):
    def fail(block, block_id=None):
        if block_id == (1, 0, 0):
            raise error("on purpose")
        return block

    cube = small_cube().chunk(wavelength=2)
    bad = cube["flux"].data.map_blocks(fail, dtype=np.float32)
    cube["flux"] = (cube["flux"].dims, bad, cube["flux"].attrs)
    if joint:
        cube["variance"] = (cube["flux"].dims, bad * 2, cube["variance"].attrs)
    with pytest.raises(error, match="on purpose"):
        export_fits(cube, tmp_path / "m.fits")
    assert list(tmp_path.iterdir()) == []


def test_damaged_shards_are_an_error_that_leaves_nothing_behind(tmp_path, stored):
    for shard in (tmp_path / "m.zarr" / "median").glob("*/c.*.*.*"):
        os.truncate(shard, 3)
    (tmp_path / "out").mkdir()
    with pytest.raises(FileError, match=r"c\.\d\.\d\.\d: is damaged"):
        export_fits(stored, tmp_path / "out" / "m.fits")
    assert list((tmp_path / "out").iterdir()) == []


def test_no_room_on_the_disk_is_found_before_writing(tmp_path, monkeypatch):
    usage = exporting.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(FileError, match=r"m\.fits: takes .* MB and the disk has 0\.0 MB left"):
        export_fits(small_cube(), tmp_path / "m.fits")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_clear_error(tmp_path):
    script = (
        "import sys, test_fits_writing as t; from musedask.fits import export_fits; "
        "export_fits(t.small_cube(), sys.argv[1])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m.fits")],
        env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "musedask.errors.FileError" in run.stderr.splitlines()[-1]
    assert "nothing is left of it" in run.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.fits.gz", "m.zarr"])
def test_other_kinds_of_file_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"ends in \.fits"):
        export_fits(small_cube(), tmp_path / name)


def test_what_is_no_cube_is_refused(tmp_path):
    with pytest.raises(InputError, match="no variable 'variance'"):
        export_fits(small_cube().drop_vars("variance"), tmp_path / "m.fits")


def test_progress_counts_megabytes_up_to_the_end(tmp_path):
    flux = da.zeros((8, 400, 400), chunks=(2, 400, 400), dtype=np.float32)
    cube = make_cube(
        {"flux": flux, "variance": flux + 1},
        SkyProjection.north_up(1.0, 2.0, 0.2),
        SpectralAxis(4750.0, 1.25, 8),
    )
    seen = []
    export_fits(cube, tmp_path / "m.fits", progress=lambda *state: seen.append(state[:2]))
    assert seen[0] == (0, 10)
    assert seen[-1] == (10, 10)
    assert seen == sorted(seen)


def test_few_blocks_are_alive_at_a_time(tmp_path):
    alive, most, lock = [0], [0], threading.Lock()

    def make(block_id=None):
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        values = np.zeros((1, 30, 30), np.float32)
        weakref.finalize(values, lambda: alive.__setitem__(0, alive[0] - 1))
        return values

    flux = da.map_blocks(make, chunks=((1,) * 40, (30,), (30,)), dtype=np.float32,
                         meta=np.empty((0, 0, 0), np.float32))  # fmt: skip
    variance = da.ones((40, 30, 30), chunks=(1, 30, 30), dtype=np.float32)
    cube = make_cube(
        {"flux": flux, "variance": variance},
        SkyProjection.north_up(1.0, 2.0, 0.2),
        SpectralAxis(4750.0, 1.25, 40),
    )
    export_fits(cube, tmp_path / "m.fits")
    assert most[0] <= exporting._THREADS
