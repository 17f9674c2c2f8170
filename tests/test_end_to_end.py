"""From exposures with known pointing errors to a FITS cube in which sources lie where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from command_line import DEC, PIXEL_DEG, RA, date, expose, succeeded

from musedask.simulation.exposure import ExposureSpec
from musedask.simulation.sets import observe_all
from musedask.simulation.sky import AnalyticSky, PointSource, Spectrum

SHAPE = (6, 40, 40)
SIGMA_PIX = 2.0
EAST, NORTH = 1.27, -0.61
"""By how many arcseconds on the sky the header of the second exposure is wrong."""
COS_DEC = np.cos(np.radians(DEC))


# --- one displaced exposure, in each format ----------------------------------------------------


def star(x, y, height=100.0):
    """A Gaussian star at 0-based (x, y) in every channel, without noise."""
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    r2 = (columns - x) ** 2 + (rows - y) ** 2
    image = height * np.exp(-0.5 * r2 / SIGMA_PIX**2)
    return np.broadcast_to(image, SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def displaced(tmp_path_factory):
    """Two exposures of a star at (RA, DEC); the second one's header is wrong.

    The star lies on the pixel to which the right header gives (RA, DEC).
    """
    folder = tmp_path_factory.mktemp("displaced")
    stat = np.full(SHAPE, 4.0, np.float32)
    paths = []
    for n, (east, north) in enumerate([(0.0, 0.0), (EAST, NORTH)]):
        paths.append(
            expose(
                folder, n, flux=star(19.3, 18.6), variance=stat, shape=SHAPE,
                wcs={
                    "CRPIX1": 20.3, "CRPIX2": 19.6,
                    "CRVAL1": RA + east / 3600 / COS_DEC, "CRVAL2": DEC + north / 3600,
                },
            )
        )  # fmt: skip
    return paths


def ecsv(folder):
    rows = [(date(0), 0.0, 0.0), (date(1), EAST, NORTH)]
    path = folder / "offsets.ecsv"
    names = ("date_obs", "ra_offset_arcsec", "dec_offset_arcsec")
    Table(rows=rows, names=names).write(path, format="ascii.ecsv")
    return path


def eso_columns():
    return {
        "DATE_OBS": [date(0), date(1)],
        "RA_OFFSET": [0.0, EAST / 3600 / COS_DEC],
        "DEC_OFFSET": [0.0, NORTH / 3600],
        "FLUX_SCALE": [np.nan, np.nan],
    }


def offset_list(folder):
    fits.BinTableHDU(Table(eso_columns())).writeto(folder / "OFFSET_LIST.fits")
    return folder / "OFFSET_LIST.fits"


def pymusepipe(folder):
    more = {"ROTANGLE": [0.0, 0.0], "BACKGROUND": [0.0, 0.0]}
    fits.BinTableHDU(Table(eso_columns() | more)).writeto(folder / "offsets.fits")
    return folder / "offsets.fits"


def cosmos(folder):
    """CRPIX1 -= dx, CRPIX2 += dy, in pixels of 0.2 arcsec."""
    path = folder / "offsets.txt"
    dx, dy = EAST / 0.2, NORTH / 0.2
    path.write_text(f"white_exp0.fits 0.0 0.0 a\nwhite_exp1.fits {dx:.6f} {dy:.6f} a\n")
    return path


def cosmos_by_hand(folder):
    """The automatic entry is nonsense; the manual one beside it wins."""
    path = folder / "offsets.txt"
    path.write_text("white_exp0.fits 0.0 0.0 a\nwhite_exp1.fits 77.0 -3.0 a\n")
    (folder / "manualoffsets.txt").write_text(
        f"offset_wcs_2d('white_exp1.fits', ra_offset_deg={EAST / 3600:.9f}, "
        f"dec_offset_deg={NORTH / 3600:.9f})\n"
    )
    return path


def mypython(folder):
    path = folder / "radecoffsets.txt"
    path.write_text(f"0.0 {EAST / 3600 / COS_DEC:.12f}\n0.0 {NORTH / 3600:.12f}\n")
    return path


def offsets_arcsec(path, ra=RA, dec=DEC, box=None):
    """Where the flux-weighted centre of a FITS cube lies, east and north of (ra, dec), and flux."""
    with fits.open(path) as hdus:
        image = np.nan_to_num(hdus["DATA"].data.astype(float)).mean(axis=0)
        wcs = WCS(hdus["DATA"].header).celestial
    rows, columns = np.indices(image.shape)
    if box is not None:
        x, y = wcs.world_to_pixel_values(ra, dec)
        near = (abs(columns - x) <= box) & (abs(rows - y) <= box)
        image = np.where(near, image, 0.0)
    x, y = (columns * image).sum() / image.sum(), (rows * image).sum() / image.sum()
    there = wcs.pixel_to_world_values(x, y)
    east = (there[0] - ra) * np.cos(np.radians(dec)) * 3600
    return float(east), float((there[1] - dec) * 3600), float(image.sum())


def stacked(tmp_path, *arguments, method="mean"):
    succeeded("stack", *arguments, "-o", tmp_path / "deep.zarr")
    path = tmp_path / f"{method}.fits"
    succeeded("export", tmp_path / "deep.zarr", path, "--group", method)
    return path


@pytest.mark.parametrize(
    "make", [ecsv, offset_list, pymusepipe, cosmos, cosmos_by_hand, mypython],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_a_displaced_exposure_lands_where_it_should_in_every_format(displaced, tmp_path, make):
    """``mean_even`` is the displaced exposure alone."""
    methods = ("--methods", "mean,mean_even")
    wrong = stacked(tmp_path, *displaced, *methods, method="mean_even")
    east, north, _ = offsets_arcsec(wrong)
    assert (east, north) == pytest.approx((EAST, NORTH), abs=0.005), "the test itself is wrong"
    (tmp_path / "right").mkdir()
    options = (*methods, "--offsets", make(tmp_path))
    right = stacked(tmp_path / "right", *displaced, *options, method="mean_even")
    east, north, flux = offsets_arcsec(right)
    assert (east, north) == pytest.approx((0, 0), abs=0.005)
    assert flux == pytest.approx(100 * 2 * np.pi * SIGMA_PIX**2, rel=1e-3)


def test_both_exposures_together_make_one_star(displaced, tmp_path):
    apart = stacked(tmp_path, *displaced, "--methods", "mean")
    (tmp_path / "right").mkdir()
    options = ("--methods", "mean", "--offsets", ecsv(tmp_path))
    together = stacked(tmp_path / "right", *displaced, *options)
    with fits.open(apart) as before, fits.open(together) as after:
        assert np.nanmax(before["DATA"].data) < 65
        assert np.nanmax(after["DATA"].data) > 95
        assert after["EXPOSURES"].data["DATE_OBS"].tolist() == [date(0), date(1)]
    assert pytest.approx(0.2) == PIXEL_DEG * 3600


# --- the whole way -----------------------------------------------------------------------------

STARS = ((0.0, 0.0, 4000.0), (-1.9, 1.6, 2500.0))
"""East and north of the target in arcseconds, and flux per Angstrom."""
ERRORS = ((0.0, 0.0), (0.83, -0.42), (-0.35, 1.21), (0.52, 0.61), (-1.04, -0.27))


def positions():
    return [(RA + east / 3600 / COS_DEC, DEC + north / 3600, flux) for east, north, flux in STARS]


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """Five exposures with pointing errors, turns, dithers, flux scales; and a hopeless one."""
    sky = AnalyticSky(tuple(PointSource(ra, dec, Spectrum(flux)) for ra, dec, flux in positions()))
    specs = [
        ExposureSpec(
            name=f"obs{n}", date_obs=date(n), ra_deg=RA, dec_deg=DEC, ra_offset_arcsec=east,
            dec_offset_arcsec=north, rotation_deg=90.0 * (n % 4), seeing_arcsec=0.6,
            dither_arcsec=(0.31 * n - 0.6, 0.5 - 0.27 * n), flux_scale=1.0 + 0.04 * n,
            phase=(0.1 * n - 0.2, 0.3 - 0.1 * n), moffat_beta=None, n_channels=40 + n % 2,
            exptime_s=600.0 + 100 * n, edge_spaxels=0,
        )
        for n, (east, north) in enumerate(ERRORS)
    ]  # fmt: skip
    hopeless = replace(specs[0], name="clouds", date_obs=date(9), flux_scale=20.0)
    folder = tmp_path_factory.mktemp("observed")
    return folder, observe_all(sky, [*specs, hopeless], folder, shape=(44, 44), seed=5)


def test_from_the_exposures_to_the_position_and_the_flux_of_a_source(observed, tmp_path):
    _, truth = observed
    table = tmp_path / "exposures.ecsv"
    assert "6 exposures, 6 of them used" in succeeded("exposures", *truth.paths, "-o", table).out
    lines = table.read_text().splitlines()
    edited = [line.replace("True", "False") if "clouds.fits" in line else line for line in lines]
    assert edited != lines
    table.write_text("\n".join(edited))
    assert "5 of 6 exposures used" in succeeded("info", table).out
    truth.offsets.write(tmp_path / "offsets.ecsv")
    arguments = (table, "--offsets", tmp_path / "offsets.ecsv")
    assert (
        "exposures  5" in succeeded("stack", *arguments, "-o", tmp_path / "a.zarr", "--dry-run").out
    )
    options = ("--methods", "mean,median,clipped")
    path = stacked(tmp_path, *arguments, *options)
    assert "5 exposures" in succeeded("info", tmp_path / "deep.zarr").out
    for method in ("mean", "median", "clipped"):
        if method != "mean":
            path = tmp_path / f"{method}.fits"
            succeeded("export", tmp_path / "deep.zarr", path, "--group", method)
        for ra, dec, flux in positions():
            east, north, found = offsets_arcsec(path, ra, dec, box=5)
            assert np.hypot(east, north) < 0.02, method
            assert found == pytest.approx(flux, rel=0.03 if method == "mean" else 0.05), method


def test_the_same_exposures_without_their_offsets_smear_the_source(observed, tmp_path):
    _, truth = observed
    path = stacked(tmp_path, *truth.paths[:5], "--methods", "mean")
    ra, dec, flux = positions()[0]
    _, _, found = offsets_arcsec(path, ra, dec, box=3)
    assert found < 0.8 * flux
