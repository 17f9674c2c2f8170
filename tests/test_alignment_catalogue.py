"""Catalogues as references: what is read, where sources are at an epoch, how they are painted."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from musedask.alignment.catalogue import Catalogue, lattice_around, read_catalogue
from musedask.errors import FileError, InputError, MissingError
from musedask.sky import SkyProjection

RA, DEC = [30.1, 30.102, 30.098], [-60.0, -60.001, -59.999]
FIELD = SkyProjection.north_up(30.1, -60.0, 0.2, 50.0, 40.0)
SHAPE = (81, 101)


def assert_listed(catalogue):
    np.testing.assert_allclose(catalogue.ra_deg, RA, rtol=0, atol=1e-10)
    np.testing.assert_allclose(catalogue.dec_deg, DEC, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "text",
    [
        "{0} {3}\n{1} {4}\n{2} {5}\n",
        "# sources of the field\n\n{0}   {3}\n{1} {4}\n{2}\t{5}\n",
        "# dec ra\n{3} {0}\n{4} {1}\n{5} {2}\n",
        "id,RA,DEC\n1,{0},{3}\n2,{1},{4}\n3,{2},{5}\n",
        "RA_ICRS DE_ICRS mag\n{0} {3} 20\n{1} {4} 21\n{2} {5} 22\n",
    ],
)
def test_text_is_read_as_mypython_and_others_write_it(text, tmp_path):
    path = tmp_path / "radec.txt"
    path.write_text(text.format(*RA, *DEC))
    catalogue = read_catalogue(path)
    assert_listed(catalogue)
    assert (catalogue.name, catalogue.frame, catalogue.kind) == ("radec", "radec", "catalogue")


def test_a_single_line_is_a_source(tmp_path):
    path = tmp_path / "radec.txt"
    path.write_text("30.1 -60.0\n")
    assert read_catalogue(path).dec_deg.tolist() == [-60.0]


@pytest.mark.parametrize("kind", ["ecsv", "fits", "vot"])
def test_tables_are_read_with_their_units(kind, tmp_path):
    path = tmp_path / f"sources.{kind}"
    columns = {"ra": np.array(RA) * 3600 * u.arcsec, "Dec": np.radians(DEC) * u.rad}
    if kind == "ecsv":
        columns["ra"] = (np.array(RA) / 15.0) * u.hourangle
    if kind == "vot":
        columns = {"ra": np.array(RA) * u.deg, "Dec": np.array(DEC) * 60 * u.arcmin}
    Table(columns).write(path, **({"format": "votable"} if kind == "vot" else {}))
    assert_listed(read_catalogue(path))


def gaia(epoch=2016.0):
    table = Table({"source_id": [1, 2, 3], "ra": RA, "dec": DEC})
    table["pmra"] = MaskedColumn([1000.0, -50.0, 0.0], mask=[False, False, True])
    table["pmdec"] = MaskedColumn([-500.0, 20.0, 0.0], mask=[False, False, True])
    if epoch is not None:
        table["ref_epoch"] = epoch
    return table


def test_sources_of_gaia_are_where_astropy_moves_them():
    catalogue = Catalogue.from_table(gaia())
    assert catalogue.frame == "Gaia"
    ra, dec = catalogue.at(2026.5)
    # At a distance of 100 pc, for which ERFA needs no remark.
    theirs = SkyCoord(
        RA[:2] * u.deg, DEC[:2] * u.deg, distance=[0.1, 0.1] * u.kpc,
        pm_ra_cosdec=[1000, -50] * u.mas / u.yr, pm_dec=[-500, 20] * u.mas / u.yr,
        radial_velocity=[0, 0] * u.km / u.s, obstime=Time(2016.0, format="jyear"),
    ).apply_space_motion(Time(2026.5, format="jyear"))  # fmt: skip
    np.testing.assert_allclose(ra[:2], theirs.ra.deg, rtol=0, atol=1e-9)
    np.testing.assert_allclose(dec[:2], theirs.dec.deg, rtol=0, atol=1e-9)
    assert (ra[2], dec[2]) == pytest.approx((RA[2], DEC[2]), abs=1e-12)
    assert_listed(Catalogue.from_table(gaia()))
    np.testing.assert_array_equal(catalogue.at(None), (RA, DEC))


def test_a_table_from_gaias_archive_is_read_as_it_comes(tmp_path):
    path = tmp_path / "gaia.csv"
    rows = ["designation,source_id,ra,dec,ref_epoch,pmra,pmdec",
            '"Gaia DR3 1",1,30.1,-60.0,2016.0,1000.0,-500.0',
            '"Gaia DR3 2",2,30.102,-60.001,2016.0,-50.0,20.0',
            '"Gaia DR3 3",3,30.098,-59.999,2016.0,null,']  # fmt: skip
    path.write_text("\n".join(rows) + "\n")
    catalogue = read_catalogue(path)
    assert catalogue.frame == "Gaia"
    np.testing.assert_array_equal(catalogue.at(2020.0), Catalogue.from_table(gaia()).at(2020.0))


def test_units_of_motions_are_minded():
    table = gaia()
    table["pmra"] = np.array([1.0, -0.05, 0.0]) * u.arcsec / u.yr
    table["pmdec"] = np.array([-0.5, 0.02, 0.0]) * u.arcsec / u.yr
    np.testing.assert_allclose(
        Catalogue.from_table(table).at(2000.0), Catalogue.from_table(gaia()).at(2000.0), atol=1e-12
    )


@pytest.mark.parametrize("dec", [89.9999, -89.9999, 0.0])
def test_motions_hold_at_the_poles(dec):
    one = Catalogue("one", np.array([10.0]), np.array([dec]), np.array([3000.0]),
                    np.array([4000.0]), np.array([2000.0]))  # fmt: skip
    ra, new_dec = one.at(2001.0)
    moved = SkyCoord(10 * u.deg, dec * u.deg).separation(SkyCoord(ra * u.deg, new_dec * u.deg))
    assert moved.arcsec == pytest.approx([5.0], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.remove_column("dec"), "has no column dec; its columns are source_id, ra"),
        (
            lambda t: t.replace_column("ra", ["02:00:24"] * 3),
            "the column ra does not hold a number",
        ),
        (lambda t: t.replace_column("dec", [0.0, 91.0, 0.0]), r"row 2 has ra = 30\.102, dec = 91"),
        (lambda t: t.replace_column("ra", [0.0, np.nan, 0.0]), "row 2 has ra = nan"),
        (lambda t: t.remove_column("ref_epoch"), "no ref_epoch"),
        (lambda t: t.replace_column("ref_epoch", [2016.0, np.nan, 2016.0]), "row 2 has ref_epoch"),
        (lambda t: t.replace_column("ra", np.array(RA) * u.m), "unit of the column ra is 'm'"),
        (lambda t: t.remove_rows([0, 1, 2]), "has no source"),
    ],
)
def test_what_is_no_catalogue_is_an_error(change, complaint, tmp_path):
    table = gaia()
    change(table)
    with pytest.raises(InputError, match=complaint):
        Catalogue.from_table(table)
    table.write(tmp_path / "bad.ecsv")
    with pytest.raises(InputError, match=rf"bad\.ecsv: .*{complaint}"):
        read_catalogue(tmp_path / "bad.ecsv")


def test_what_is_no_table_is_an_error(tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(FileError, match=r"empty\.txt: has no row of numbers"):
        read_catalogue(tmp_path / "empty.txt")
    with pytest.raises(FileError, match="no such file"):
        read_catalogue(tmp_path / "none.txt")


@given(
    st.floats(-80, 80), st.floats(0, 360), st.floats(-9, 9), st.floats(-9, 9), st.floats(0.02, 0.3)
)
def test_a_painted_source_is_a_unit_of_flux_in_its_place(dec, ra, east, north, pixel):
    centre = SkyProjection.north_up(ra, dec, 1.0)
    x, y = centre.to_sky(-east * pixel * 5, north * pixel * 5)
    one = Catalogue("one", np.array([float(x)]), np.array([float(y)]))
    field = SkyProjection.north_up(ra, dec, pixel, 50.0, 40.0)
    image = one.near(field, SHAPE, 20 * pixel, None, pixel)
    flux = image.flux.astype(float)
    rows, columns = np.indices(flux.shape)
    at = (float((flux * columns).sum() / flux.sum()), float((flux * rows).sum() / flux.sum()))
    expected = image.projection.to_pixel(one.ra_deg, one.dec_deg)
    assert at == pytest.approx((float(expected[0][0]), float(expected[1][0])), abs=2e-3)
    assert flux.sum() == pytest.approx(1.0, abs=1e-3)
    assert image.pixel_arcsec == pytest.approx(pixel / 2, rel=1e-6)
    assert image.fwhm_arcsec == pytest.approx(1.5 * pixel)
    # Its own width: second moments of a Gaussian, and of the pixel.
    spread = np.sqrt((flux * (columns - at[0]) ** 2).sum() / flux.sum())
    assert spread == pytest.approx(np.hypot(3.0 / 2.3548, 12**-0.5), rel=0.01)


@pytest.mark.parametrize("turn", [0.0, 30.0, 90.0])
def test_all_sources_within_field_and_margin_are_painted_and_none_far_away(turn):
    field = FIELD.moved(0.0, 0.0, turn, about=(50.0, 40.0))
    ny, nx = SHAPE
    # Around the field's corners, 2" outside of it, seen in its own pixels.
    x = np.array([-10.0, nx + 9.0, nx + 9.0, -10.0, 50.0, 2000.0])
    y = np.array([-10.0, -10.0, ny + 9.0, ny + 9.0, 40.0, 40.0])
    catalogue = Catalogue("made", *field.to_sky(x, y))
    image = catalogue.near(field, SHAPE, 3.0, None, 0.2)
    assert image.flux.sum(dtype=float) == pytest.approx(5.0, abs=5e-3)
    assert image.projection.is_north_up
    with pytest.raises(MissingError, match="made: has no source within 3 arcsec"):
        Catalogue("made", *field.to_sky(x[5:], y[5:])).near(field, SHAPE, 3.0, None, 0.2)


def test_sources_are_painted_where_they_are_at_the_exposures_epoch():
    catalogue = Catalogue.from_table(gaia())
    image = catalogue.near(FIELD, SHAPE, 5.0, 2026.0, 0.2)
    x, y = image.projection.to_pixel(*(value[0] for value in catalogue.at(2026.0)))
    assert image.flux[round(float(y)), round(float(x))] > 0.05
    old_x, old_y = image.projection.to_pixel(RA[0], DEC[0])
    # 11 arcsec in ten years.
    assert np.hypot(x - old_x, y - old_y) == pytest.approx(np.hypot(10, 5) / 0.1, rel=1e-3)
    assert image.flux[round(float(old_y)), round(float(old_x))] == 0.0


def test_the_lattice_reaches_as_far_as_the_margin_on_all_sides():
    lattice, (ny, nx) = lattice_around(FIELD, SHAPE, 7.0, 0.1)
    x, y = lattice.to_pixel(*FIELD.to_sky([-0.5, 100.5], [-0.5, 80.5]))
    assert min(x[0], y[0]) >= 70.0
    assert nx - 1 - x[1] >= 70.0
    assert ny - 1 - y[1] >= 70.0
    assert max(nx - 101 * 2, ny - 81 * 2) < 145
