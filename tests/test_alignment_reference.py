"""References: what kind a file is, and that only the part that matters is read."""

from __future__ import annotations

import gzip
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from exposure_cubes import tan_cards

from musedask.alignment.image import FieldImage
from musedask.alignment.image_files import read_image, write_image
from musedask.alignment.reference import Reference, open_reference
from musedask.errors import FileError, InputError, MissingError
from musedask.simulation.abell478 import mpdaf_data
from musedask.sky import SkyProjection

SHAPE = (120, 150)
FIELD = SkyProjection.north_up(30.1, -60.0, 0.2, 20.0, 15.0)
FIELD_SHAPE = (31, 41)


def mosaic(pixel=0.1, turn=0.0, name="mosaic") -> FieldImage:
    """A picture around the field in which each pixel has its own value."""
    cards = tan_cards(pixel_arcsec=pixel, turn_deg=turn, x=75.0, y=60.0)
    return FieldImage(
        flux=np.arange(1.0, 18001.0, dtype=np.float32).reshape(SHAPE),
        projection=SkyProjection.from_header(fits.Header(cards)),
        name=name, band="F814W", date_obs="1999-01-01T00:00:00.000",
    )  # fmt: skip


def assert_part(found: FieldImage, whole: FieldImage, margin: float) -> None:
    """All pixels within the margin of the field are there, with values and places of the whole."""
    first = whole.projection.to_pixel(*found.projection.to_sky(0.0, 0.0))
    x0, y0 = (round(float(v)) for v in first)
    assert first == pytest.approx((x0, y0), abs=1e-6)
    ny, nx = found.shape
    np.testing.assert_array_equal(found.flux, whole.flux[y0 : y0 + ny, x0 : x0 + nx])
    rows, columns = np.indices(whole.shape)
    x, y = FIELD.to_pixel(*whole.projection.to_sky(columns, rows))
    reach = margin / 0.2
    near = (np.maximum(-x, x - 40) <= reach) & (np.maximum(-y, y - 30) <= reach)
    inside = np.zeros(whole.shape, bool)
    inside[y0 : y0 + ny, x0 : x0 + nx] = True
    assert inside[near].all()


@pytest.mark.parametrize(("pixel", "turn"), [(0.1, 0.0), (0.05, 37.0), (0.25, -120.0)])
@pytest.mark.parametrize("kind", ["memory", "fits", "fits.gz"])
def test_the_part_around_a_field_is_that_of_the_whole(kind, pixel, turn, tmp_path):
    whole = mosaic(pixel, turn)
    source = whole
    if kind != "memory":
        source = write_image(tmp_path / "mosaic.fits", whole)
    if kind == "fits.gz":
        packed = tmp_path / "packed.fits.gz"
        packed.write_bytes(gzip.compress(source.read_bytes()))
        source = packed
    reference = open_reference(source)
    assert isinstance(reference, Reference)
    assert (reference.kind, reference.name, reference.frame) == ("reference", "mosaic", "mosaic")
    found = reference.near(FIELD, FIELD_SHAPE, 1.0, 2020.0, 0.2)
    assert_part(found, whole, 1.0)
    assert (found.band, found.date_obs) == ("F814W", "")
    if pixel == 0.1:
        # 8.2" x 6.2" and a margin of 1" each side.
        assert found.shape[0] < 90
        assert found.shape[1] < 110


def test_offsets_that_a_reference_carries_are_its_own_affair(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(
        mosaic().flux,
        fits.Header(
            tan_cards(pixel_arcsec=0.1, x=75.0, y=60.0)
            | {"DATE-OBS": "2020-01-01", "HIERARCH ESO DRS MUSE OFFSET1 DRA": 0.1,
               "HIERARCH ESO DRS MUSE OFFSET1 DDEC": 0.1}
        ),
    ).writeto(path)  # fmt: skip
    assert read_image(path).carried_dec_arcsec == pytest.approx(360.0)
    found = open_reference(path).near(FIELD, FIELD_SHAPE, 1.0, None, 0.2)
    assert (found.carried_ra_arcsec, found.carried_dec_arcsec, found.date_obs) == (0.0, 0.0, "")


def test_what_does_not_reach_the_field_is_missing():
    far = SkyProjection.north_up(30.1, -59.9, 0.2)
    other_side = SkyProjection.north_up(210.1, 60.0, 0.2)
    for field in (far, other_side):
        with pytest.raises(MissingError, match="mosaic: does not reach the field"):
            open_reference(mosaic()).near(field, FIELD_SHAPE, 5.0, None, 0.2)
    empty = mosaic()
    empty.flux[:60] = np.nan
    south = SkyProjection.north_up(30.1, -60.0 - 4.0 / 3600, 0.2)
    open_reference(empty).near(FIELD, FIELD_SHAPE, 1.0, None, 0.2)
    with pytest.raises(MissingError, match="has no data there"):
        open_reference(empty).near(south, (2, 2), 0.1, None, 0.2)


def test_the_margin_decides_what_is_reached():
    # The lowest row of the mosaic is 6" south of the field's middle.
    south = SkyProjection.north_up(30.1, -60.0 - 9.0 / 3600, 0.2)
    with pytest.raises(MissingError):
        open_reference(mosaic()).near(south, (2, 2), 2.0, None, 0.2)
    assert open_reference(mosaic()).near(south, (2, 2), 4.0, None, 0.2).shape[0] < 25


def test_files_are_told_apart_by_what_is_in_them(tmp_path):
    table = Table({"ra": [30.1], "dec": [-60.0]})
    table.write(tmp_path / "table.fits")
    table.write(tmp_path / "table.ecsv")
    (tmp_path / "radec.txt").write_text("30.1 -60.0\n")
    for source in ("table.fits", "table.ecsv", "radec.txt"):
        assert open_reference(tmp_path / source).kind == "catalogue"
    for source in (table, open_reference(table)):
        assert open_reference(source).near(FIELD, FIELD_SHAPE, 1.0, None, 0.2).band == "positions"
    both = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mosaic().flux, fits.Header(tan_cards())),
                         fits.BinTableHDU(table, name="LIST")])  # fmt: skip
    both.writeto(tmp_path / "both.fits")
    assert open_reference(tmp_path / "both.fits").kind == "reference"
    assert open_reference(f"{tmp_path}/both.fits[LIST]").kind == "catalogue"
    fits.PrimaryHDU(np.zeros((2, 3, 4))).writeto(tmp_path / "cube.fits")
    with pytest.raises(FileError, match="no image of the sky"):
        open_reference(tmp_path / "cube.fits")
    with pytest.raises(FileError, match="no such file"):
        open_reference(tmp_path / "none.fits")
    with pytest.raises(InputError, match="expected a file"):
        open_reference(3)  # type: ignore[arg-type]


def test_an_image_on_gaias_frame_says_so(tmp_path):
    header = fits.Header(tan_cards() | {"WCSNAME": "IDC_0461802ej-FIT_REL_GAIAeDR3"})
    fits.PrimaryHDU(mosaic().flux, header).writeto(tmp_path / "a.fits")
    assert open_reference(tmp_path / "a.fits").frame == "Gaia"


def test_opening_reads_headers_alone(tmp_path, monkeypatch):
    write_image(tmp_path / "a.fits", mosaic())
    from musedask.fits import FitsSource

    def refuse(self, *_):
        raise AssertionError("read")

    with monkeypatch.context() as patch:
        patch.setattr(FitsSource, "open", refuse)
        reference = open_reference(tmp_path / "a.fits")
        with pytest.raises(AssertionError, match="read"):
            reference.near(FIELD, FIELD_SHAPE, 1.0, None, 0.2)


NEAR = """
import resource, sys
from musedask.alignment.reference import open_reference
from musedask.sky import SkyProjection
field = SkyProjection.north_up(30.1, -60.0, 0.2, 20.0, 15.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = open_reference(sys.argv[1]).near(field, (31, 41), 5.0, None, 0.2)
print(found.shape, float(found.flux[~(found.flux != found.flux)].sum()))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_of_a_mosaic_of_gigabytes_only_the_part_is_read(tmp_path):
    """A sparse file of 4 GB, with data in a small part of it."""
    side, path = 33_000, tmp_path / "mosaic.fits"
    header = fits.Header(
        {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": side, "NAXIS2": side}
    )
    header.update(tan_cards(pixel_arcsec=0.03, x=16000.0, y=17000.0))
    patch = np.full((200, 200), 2.0, ">f4")
    with open(path, "wb") as file:
        file.write(header.tostring().encode())
        start = file.tell()
        for n, row in enumerate(patch):
            file.seek(start + 4 * ((16900 + n) * side + 15900))
            file.write(row.tobytes())
        file.truncate(start + -(-4 * side * side // 2880) * 2880)
    assert path.stat().st_size > 4.3e9
    run = subprocess.run(
        [sys.executable, "-c", NEAR, str(path)], capture_output=True, text=True, check=True
    )
    shape, peak = run.stdout.splitlines()
    assert shape.endswith(" 80000.0")
    assert float(peak) < 100.0


def test_real_references_are_opened():
    hst = open_reference(mpdaf_data("obj/HST-HDFS.fits"))
    with pytest.warns(match="scatter"):
        muse = read_image(mpdaf_data("obj/IMAGE-HDFS-1.34.fits"))
    found = hst.near(muse.projection, muse.shape, 10.0, None, 0.2)
    # All of it: 500 pixels of 0.04" lie inside the field.
    assert found.shape == (500, 500)
    assert found.pixel_arcsec == pytest.approx(0.03986, abs=1e-4)
