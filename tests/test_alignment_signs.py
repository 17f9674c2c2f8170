"""Exposures displaced on purpose: what is measured, written, read and stacked puts them right.

Positions are made and checked with astropy's WCS alone. The field lies at
declination -60, where cos(dec) is one half, exposures and reference are turned
by different angles, and the displacement has another size and sign on each axis.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from command_line import succeeded
from exposure_cubes import file_cube, memory_cube
from pixel_table import combine_pixel_tables

from musedask.alignment.collapse import collapse
from musedask.alignment.image import FieldImage
from musedask.alignment.material import material_folder, read_material
from musedask.alignment.measuring import measure_against
from musedask.grid import CubeGrid
from musedask.megacube import open_megacube
from musedask.offsets import OffsetTable
from musedask.placement import exposure_key
from musedask.sky import SkyProjection
from musedask.stacking import stack

RA, DEC = 30.1, -60.0
COS_DEC = 0.5
SIZE, SPAXEL = 90, 0.2
REFERENCE_SIZE, REFERENCE_PIXEL = 280, 0.1
FWHM_ARCSEC = 0.8
REFERENCE_FWHM_ARCSEC = 0.35
EAST, NORTH = 2.37, -1.13
"""By how many arcseconds on the sky the headers are wrong."""
TOLERANCE_ARCSEC = 0.02
FORMATS = {
    "ecsv": "offsets.ecsv", "offset_list": "offset_list.fits", "pymusepipe": "pipe.fits",
    "cosmos": "offsets.txt", "mypython": "radecoffsets.txt",
}  # fmt: skip
"""Format -> name of its file."""
STARS = (
    (0.0, 0.0, 900.0), (-5.5, 3.1, 700.0), (4.4, 5.2, 500.0), (2.3, -5.9, 600.0),
    (-3.7, -4.8, 800.0), (6.0, -1.0, 400.0), (-6.2, -0.9, 500.0), (-1.0, 6.1, 450.0),
)  # fmt: skip
"""East and north of the middle of the field (arcsec), flux."""


def cards(angle_deg: float, pixel: float, size: int, ra: float = RA, dec: float = DEC) -> dict:
    """Cards of a field whose north is turned by an angle to the east."""
    angle, step = np.radians(angle_deg), pixel / 3600.0
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec,
        "CRPIX1": (size + 1) / 2.0, "CRPIX2": (size + 1) / 2.0, "CUNIT1": "deg", "CUNIT2": "deg",
        "CD1_1": -step * np.cos(angle), "CD1_2": step * np.sin(angle),
        "CD2_1": step * np.sin(angle), "CD2_2": step * np.cos(angle),
    }  # fmt: skip


def wcs_of(known: dict[str, Any]) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [known["CRVAL1"], known["CRVAL2"]]
    wcs.wcs.crpix = [known["CRPIX1"], known["CRPIX2"]]
    wcs.wcs.cd = [[known["CD1_1"], known["CD1_2"]], [known["CD2_1"], known["CD2_2"]]]
    return wcs


def painted(wcs: WCS, size: int, pixel: float, fwhm_arcsec: float) -> Any:
    """The stars where the sky has them, float64 (size, size), flux per pixel."""
    rows, columns = np.indices((size, size))
    sigma = fwhm_arcsec / pixel / np.sqrt(8.0 * np.log(2.0))
    image = np.zeros((size, size))
    for east, north, flux in STARS:
        x, y = wcs.world_to_pixel_values(RA + east / 3600.0 / COS_DEC, DEC + north / 3600.0)
        r2 = (columns - x) ** 2 + (rows - y) ** 2
        image += flux * np.exp(-0.5 * r2 / sigma**2) / (2.0 * np.pi * sigma**2)
    return image


def exposure(n: int, angle_deg: float, east: float, north: float, **scalars: float) -> Any:
    """An exposure cube whose header is wrong by (east, north) arcsec on the sky."""
    rng = np.random.default_rng(n)
    true = wcs_of(cards(angle_deg, SPAXEL, SIZE))
    flux = painted(true, SIZE, SPAXEL, FWHM_ARCSEC) + rng.normal(0.0, 0.7, (3, SIZE, SIZE))
    ra, dec = RA + east / 3600.0 / COS_DEC, DEC + north / 3600.0
    wrong = cards(angle_deg, SPAXEL, SIZE, ra, dec)
    pointing = {"ra_deg": ra, "dec_deg": dec}
    variance = np.full(flux.shape, 0.49, np.float32)
    return memory_cube(
        flux.astype(np.float32), variance, n, cards=wrong, first=6000.0, **pointing, **scalars
    )


@dataclass(frozen=True)
class Whole:
    """A reference that is given whole."""

    image: FieldImage
    name: str = "deep.fits"
    frame: str = "deep.fits"
    kind: str = "reference"
    band: str = ""

    def near(self, *_: Any) -> FieldImage:
        return self.image


@pytest.fixture(scope="module")
def reference():
    """A sharper image, turned by 35 degrees, at finer pixels."""
    known = cards(35.0, REFERENCE_PIXEL, REFERENCE_SIZE)
    flux = painted(wcs_of(known), REFERENCE_SIZE, REFERENCE_PIXEL, REFERENCE_FWHM_ARCSEC)
    flux += np.random.default_rng(99).normal(0.0, 0.05, flux.shape)
    return Whole(
        FieldImage(
            flux=flux.astype(np.float32),
            projection=SkyProjection.from_cards(known),
            name="deep.fits",
            fwhm_arcsec=REFERENCE_FWHM_ARCSEC,
        )
    )


def measured(cubes: Any, reference: Whole) -> OffsetTable:
    rows = []
    for cube in cubes:
        (image,) = collapse(cube)
        rows.append(measure_against(image, reference).measurement.offset)
    return OffsetTable(tuple(rows))


def star_in(cube: Any, east: float = 0.0, north: float = 0.0) -> tuple[float, float]:
    """East and north (arcsec) of the brightest star from where the sky has it.

    It is looked for around (east, north).
    """
    image = np.nan_to_num(np.asarray(cube["flux"].values, float)).mean(axis=0)
    wcs = wcs_of(dict(SkyProjection.from_cards(CubeGrid.from_cube(cube).sky.mapping).mapping))
    rows, columns = np.indices(image.shape)
    x, y = wcs.world_to_pixel_values(RA + east / 3600.0 / COS_DEC, DEC + north / 3600.0)
    box = np.hypot(columns - x, rows - y) <= 8
    image = np.where(box & (image > 3.0), image, 0.0)
    x, y = (columns * image).sum() / image.sum(), (rows * image).sum() / image.sum()
    ra, dec = wcs.pixel_to_world_values(x, y)
    return float((ra - RA) * COS_DEC * 3600.0), float((dec - DEC) * 3600.0)


@pytest.mark.parametrize("angle_deg", [0.0, 73.0, 200.0, 305.0])
def test_the_offset_is_by_how_much_the_header_is_wrong(angle_deg, reference):
    (row,) = measured([exposure(0, angle_deg, EAST, NORTH)], reference)
    found = (row.ra_offset_arcsec, row.dec_offset_arcsec)
    assert found == pytest.approx((EAST, NORTH), abs=TOLERANCE_ARCSEC)
    assert row.grade in ("A", "B")


def test_what_a_file_carries_already_is_part_of_the_total(reference):
    # The pipeline was told to subtract (0.5, 0.25), and did: the header is wrong by the rest.
    carried = {"carried_ra_deg": 0.5 / 3600.0 / COS_DEC, "carried_dec_deg": 0.25 / 3600.0}
    (row,) = measured([exposure(0, 73.0, EAST - 0.5, NORTH - 0.25, **carried)], reference)
    found = (row.ra_offset_arcsec, row.dec_offset_arcsec)
    assert found == pytest.approx((EAST, NORTH), abs=TOLERANCE_ARCSEC)


@pytest.fixture(scope="module")
def aligned(reference):
    """Two exposures, displaced and turned each in its way, and their measured offsets."""
    cubes = [exposure(0, 30.0, EAST, NORTH), exposure(1, 250.0, -0.9, 1.7)]
    return cubes, measured(cubes, reference)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_measured_written_and_read_stacks_where_it_should(format, aligned, tmp_path):
    cubes, offsets = aligned
    keys = [exposure_key(cube) for cube in cubes]
    path = tmp_path / FORMATS[format]
    with pytest.warns() if format == "pymusepipe" else nullcontext():
        offsets.write(path, format, exposures=keys)
    back = OffsetTable.read(path, keys)
    for row, other in zip(offsets, back, strict=True):
        assert other.date_obs == row.date_obs
        assert other.ra_offset_arcsec == pytest.approx(row.ra_offset_arcsec, abs=1e-5)
        assert other.dec_offset_arcsec == pytest.approx(row.dec_offset_arcsec, abs=1e-5)
    for n, cube in enumerate(cubes):
        alone = stack([cube], back, CubeGrid.enclosing([cube], back), methods=("mean",))["mean"]
        assert star_in(alone) == pytest.approx((0.0, 0.0), abs=TOLERANCE_ARCSEC)
        wrong = stack([cube], None, CubeGrid.enclosing([cube]), methods=("mean",))["mean"]
        by = [(EAST, NORTH), (-0.9, 1.7)][n]
        assert star_in(wrong, *by) == pytest.approx(by, abs=TOLERANCE_ARCSEC), "the test is wrong"


# --- the commands ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory, reference):
    """Two exposures and the reference, as FITS."""
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for n, (angle_deg, east, north) in enumerate([(30.0, EAST, NORTH), (250.0, -0.9, 1.7)]):
        cube = exposure(n, angle_deg, east, north)
        ra, dec = float(cube["ra_deg"].values), float(cube["dec_deg"].values)
        file_cube(
            folder, cube["flux"].values, cube["variance"].values, n, first=6000.0,
            cards=cards(angle_deg, SPAXEL, SIZE, ra, dec), RA=ra, DEC=dec,
        )  # fmt: skip
        paths.append(folder / f"exp{n}.fits")
    header = fits.Header(cards(35.0, REFERENCE_PIXEL, REFERENCE_SIZE))
    fits.writeto(folder / "deep.fits", reference.image.flux, header)
    return paths, folder / "deep.fits"


def test_the_commands_put_displaced_exposures_right(files, tmp_path):
    paths, reference_path = files
    table = tmp_path / "offsets.ecsv"
    answer = succeeded("align", *paths, "--reference", reference_path, "-o", table)
    assert "2 reference" in answer.out
    rows = OffsetTable.read(table).rows
    assert [row.name for row in rows] == ["exp0", "exp1"]
    for row, by in zip(rows, [(EAST, NORTH), (-0.9, 1.7)], strict=True):
        found = (row.ra_offset_arcsec, row.dec_offset_arcsec)
        assert found == pytest.approx(by, abs=TOLERANCE_ARCSEC)
        assert (row.grade in "AB", row.frame) == (True, "deep")
        assert 0.0 < row.ra_error_arcsec < TOLERANCE_ARCSEC
        assert row.correlation_after > row.correlation_before
    assert read_material(material_folder(table)).find(rows[0].date_obs).measurement.grade in "AB"
    store = tmp_path / "deep.zarr"
    succeeded("stack", *paths, "--offsets", table, "--methods", "mean,mean_even", "-o", store)
    for alone in ("mean", "mean_even"):
        there = star_in(open_megacube(store)[alone])
        assert there == pytest.approx((0.0, 0.0), abs=TOLERANCE_ARCSEC)


def test_images_do_as_well_as_cubes_and_relative_offsets_are_differences(files, tmp_path):
    paths, reference_path = files
    images = []
    for path in paths:
        with fits.open(path) as hdus:
            header = hdus["DATA"].header
            data = np.nanmean(hdus["DATA"].data, axis=0)
            cards_2d = {key: header[key] for key in cards(0.0, 1.0, 1) if key in header}
            primary = hdus[0].copy()
            image = fits.ImageHDU(data, fits.Header(cards_2d), name="DATA")
            fits.HDUList([primary, image]).writeto(tmp_path / f"image_{path.name}")
        images.append(tmp_path / f"image_{path.name}")
    absolute, relative = tmp_path / "absolute.ecsv", tmp_path / "relative.ecsv"
    succeeded("align", *images, "--reference", reference_path, "-o", absolute)
    succeeded("align", *images, "-o", relative)
    east, north = (
        [getattr(row, key) for row in OffsetTable.read(relative)]
        for key in ("ra_offset_arcsec", "dec_offset_arcsec")
    )
    assert east[0] - east[1] == pytest.approx(EAST + 0.9, abs=2 * TOLERANCE_ARCSEC)
    assert north[0] - north[1] == pytest.approx(NORTH - 1.7, abs=2 * TOLERANCE_ARCSEC)
    first = OffsetTable.read(absolute).rows[0]
    found = (first.ra_offset_arcsec, first.dec_offset_arcsec)
    assert found == pytest.approx((EAST, NORTH), abs=TOLERANCE_ARCSEC)


@pytest.mark.real_esorex
def test_the_pipeline_says_that_it_applied_what_was_measured(aligned, tmp_path):
    _, offsets = aligned
    offsets.write(tmp_path / "offset_list.fits")
    dates = [row.date_obs for row in offsets]
    product = combine_pixel_tables(
        tmp_path, dates, (tmp_path / "offset_list.fits", "OFFSET_LIST"), dec_deg=DEC
    )
    header = fits.getheader(product)
    for n, row in enumerate(offsets, start=1):
        assert header[f"ESO DRS MUSE OFFSET{n} DATE-OBS"] == row.date_obs
        ra, dec = (header[f"ESO DRS MUSE OFFSET{n} {key}"] * 3600.0 for key in ("DRA", "DDEC"))
        assert ra * np.cos(np.radians(row.dec_deg)) == pytest.approx(row.ra_offset_arcsec, abs=1e-6)
        assert dec == pytest.approx(row.dec_offset_arcsec, abs=1e-6)
