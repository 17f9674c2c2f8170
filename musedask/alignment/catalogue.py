"""Catalogues of positions as references: where sources were when an exposure was taken."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table
from scipy.special import erf

from musedask.alignment.image import FieldImage, Floats32
from musedask.alignment.tables import column_of, read_table
from musedask.errors import InputError, MissingError
from musedask.sky import ARCSEC_PER_DEG, SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]

_RA = ("ra", "ra_deg", "raj2000", "ra_icrs", "alpha_j2000", "alphawin_j2000", "col1")
_DEC = ("dec", "dec_deg", "dej2000", "decj2000", "de_icrs", "dec_icrs", "delta_j2000",
        "deltawin_j2000", "col2")  # fmt: skip
_PM_RA = ("pmra", "pm_ra", "pmra_cosdec")
_PM_DEC = ("pmdec", "pm_dec", "pmde")
_EPOCH = ("ref_epoch", "epoch")
_OF_GAIA = ("source_id", "solution_id", "phot_g_mean_mag", "ruwe", "gmag")
_MAS_PER_YEAR = u.mas / u.yr
_MAS_PER_RADIAN = math.degrees(1.0) * ARCSEC_PER_DEG * 1000.0
_FASTEST_MAS = 1e5
"""Barnard's star moves by 10,400 mas a year, and none faster."""
LATTICE_FINER = 2.0
"""Pixels of the painted image along one of the exposure."""
FWHM_PIXELS = 3.0
"""Width of a painted source in pixels of the painted image, enough to keep its centroid."""
_REACH_PIXELS = 6


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Positions of sources, and how they move.

    Raises
    ------
    InputError
        If there are none, or a position is not on the sky.
    """

    name: str
    """For people."""
    ra_deg: Floats
    """Right ascensions, float64 (source,)."""
    dec_deg: Floats
    """Declinations."""
    pm_ra_mas: Floats | None = None
    """Proper motions to the east on the sky (times cos dec), mas a year; 0 is none."""
    pm_dec_mas: Floats | None = None
    """Proper motions to the north."""
    ref_epoch: Floats | None = None
    """Julian years for which the positions hold; needed where there are motions."""
    frame: str = ""
    """``Gaia`` where its columns tell, else the name."""

    kind = "catalogue"
    band = ""

    def __post_init__(self) -> None:
        if self.ra_deg.size == 0:
            raise InputError(f"{self.name}: has no source")
        bad = ~(np.isfinite(self.ra_deg) & (np.abs(self.dec_deg) <= 90.0))
        bad |= np.abs(self.ra_deg) > 360.0
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{self.name}: row {row + 1} has ra = {self.ra_deg[row]}, dec = "
                f"{self.dec_deg[row]}, which is no position in degrees"
            )

    @classmethod
    def from_table(cls, table: Table, name: str = "the catalogue") -> Catalogue:
        """Take the columns ra and dec, and pmra, pmdec and ref_epoch if they are there.

        Positions are in degrees and motions in mas a year, if the columns have
        no units; ``pmra`` is on the sky (with cos dec), as Gaia's is. A source
        without a motion stays.

        Raises
        ------
        InputError
            If columns are missing or do not hold such numbers.
        """
        columns = {
            key: column_of(table, names)
            for key, names in (("ra", _RA), ("dec", _DEC), ("pm_ra", _PM_RA),
                               ("pm_dec", _PM_DEC), ("epoch", _EPOCH))
        }  # fmt: skip
        for key in ("ra", "dec"):
            if columns[key] is None:
                raise InputError(
                    f"{name}: has no column {key}; its columns are {', '.join(table.colnames)}"
                )
        values = {
            key: None if column is None else _numbers(table, column, unit, name)
            for (key, column), unit in zip(
                columns.items(), (u.deg, u.deg, _MAS_PER_YEAR, _MAS_PER_YEAR, u.yr), strict=True
            )
        }
        moves = values["pm_ra"] is not None and values["pm_dec"] is not None
        is_gaia = column_of(table, _OF_GAIA) is not None
        assert values["ra"] is not None
        assert values["dec"] is not None
        pm_ra, pm_dec, epoch = _motions(values, name) if moves else (None, None, None)
        frame = "Gaia" if is_gaia else name
        return cls(name, values["ra"], values["dec"], pm_ra, pm_dec, epoch, frame)

    def at(self, epoch: float | None) -> tuple[Floats, Floats]:
        """RA and DEC in degrees at an epoch (Julian year); as they are listed for None.

        Straight lines in space, which hold at the poles as well; parallaxes
        (below 0.05" for all but a hundred stars) are left out.
        """
        if epoch is None or self.pm_ra_mas is None or self.pm_dec_mas is None:
            return self.ra_deg, self.dec_deg
        assert self.ref_epoch is not None
        ra, dec = np.radians(self.ra_deg), np.radians(self.dec_deg)
        years = (epoch - self.ref_epoch) / _MAS_PER_RADIAN
        place = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        east = np.array([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
        north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
        x, y, z = place + years * (self.pm_ra_mas * east + self.pm_dec_mas * north)
        return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))

    def near(
        self,
        projection: SkyProjection,
        shape: tuple[int, int],
        margin_arcsec: float,
        epoch: float | None,
        pixel_arcsec: float,
    ) -> FieldImage:
        """Paint the sources around a field, each as a point source of unit flux.

        An image, so that it is measured against as any other is. All sources
        have one flux, since a catalogue's magnitudes are of another band, and
        the brightest star, which may be saturated or move most, must not
        decide alone; the profile has a width, so that the place between the
        pixels is kept: a FWHM of three pixels of half the exposure's.

        Parameters
        ----------
        projection, shape
            The field, and its rows and columns.
        margin_arcsec
            How far around it.
        epoch
            Julian year of the exposure; None leaves the sources where they are listed.
        pixel_arcsec
            Side of the exposure's pixels.

        Raises
        ------
        MissingError
            If no source is there.
        """
        pixel = pixel_arcsec / LATTICE_FINER
        lattice, size = lattice_around(projection, shape, margin_arcsec, pixel)
        x, y = lattice.to_pixel(*self.at(epoch))
        inside = (x > -0.5) & (x < size[1] - 0.5) & (y > -0.5) & (y < size[0] - 0.5)
        if not inside.any():
            raise MissingError(f"{self.name}: has no source within {margin_arcsec:g} arcsec of it")
        return FieldImage(
            flux=_painted(x[inside], y[inside], size),
            projection=lattice,
            name=self.name,
            band="positions",
            fwhm_arcsec=FWHM_PIXELS * pixel,
        )


def read_catalogue(path: str | os.PathLike[str], extension: str = "") -> Catalogue:
    """Read a catalogue: ``ra dec`` in degrees a line, or any table of astropy's.

    Raises
    ------
    FileError
        If it cannot be read as a table.
    InputError
        As :meth:`Catalogue.from_table`.
    """
    names = (*_RA, *_DEC, *_PM_RA, *_PM_DEC, *_EPOCH)
    label = os.fspath(path)
    try:
        return Catalogue.from_table(read_table(path, extension, names), Path(path).stem)
    except InputError as err:
        text = str(err).removeprefix(f"{Path(path).stem}: ")
        raise InputError(text if text.startswith(label) else f"{label}: {text}") from None


def outline(projection: SkyProjection, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """RA and DEC of points around a field, along the outer sides of its pixels."""
    ny, nx = shape
    along = np.linspace(0.0, 1.0, 9)
    one, zero = np.ones_like(along), np.zeros_like(along)
    x = np.concatenate([along, one, along, zero]) * nx - 0.5
    y = np.concatenate([zero, along, one, along]) * ny - 0.5
    return projection.to_sky(x, y)


def lattice_around(
    projection: SkyProjection, shape: tuple[int, int], margin_arcsec: float, pixel_arcsec: float
) -> tuple[SkyProjection, tuple[int, int]]:
    """Lay a lattice, north up, around a field and its margin: projection, (rows, columns)."""
    ny, nx = shape
    ra, dec = projection.to_sky((nx - 1) / 2, (ny - 1) / 2)
    plane = SkyProjection.north_up(float(ra), float(dec), pixel_arcsec)
    x, y = plane.to_pixel(*outline(projection, shape))
    margin = margin_arcsec / pixel_arcsec
    x_low, y_low = math.floor(np.nanmin(x) - margin), math.floor(np.nanmin(y) - margin)
    x_high, y_high = math.ceil(np.nanmax(x) + margin), math.ceil(np.nanmax(y) + margin)
    return plane.shifted(x_low, y_low), (y_high - y_low + 1, x_high - x_low + 1)


def _painted(x: Floats, y: Floats, shape: tuple[int, int]) -> Floats32:
    """Unit Gaussians at pixel coordinates, integrated over each pixel, float32 (y, x)."""
    image = np.zeros(shape, np.float64)
    for at_x, at_y in zip(x, y, strict=True):
        rows, along_y = _profile(float(at_y), shape[0])
        columns, along_x = _profile(float(at_x), shape[1])
        image[rows, columns] += np.outer(along_y, along_x)
    return image.astype(np.float32)


def _profile(centre: float, n: int) -> tuple[slice, Floats]:
    """A Gaussian along one axis: which pixels, and its part in each."""
    middle = round(centre)
    first, last = max(middle - _REACH_PIXELS, 0), min(middle + _REACH_PIXELS + 1, n)
    edges = np.arange(first, last + 1) - 0.5 - centre
    sigma = FWHM_PIXELS / math.sqrt(8.0 * math.log(2.0))
    return slice(first, last), np.diff(erf(edges / (math.sqrt(2.0) * sigma))) / 2.0


def _numbers(table: Table, name: str, unit: Any, label: str) -> Floats:
    """A column as float64 in a unit; NaN where it is masked."""
    column = table[name]
    # Columns such as times or positions have no type of numpy.
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    if kind not in tuple("iuf") or column.ndim != 1:
        raise InputError(
            f"{label}: the column {name} does not hold a number in each row; "
            "positions are read in degrees"
        )
    values = np.ma.filled(np.ma.asarray(getattr(column, "value", column), np.float64), np.nan)
    given = column.unit
    if given is None:
        return np.asarray(values)
    try:
        factor = float(u.Unit(given).to(unit))
    except (ValueError, TypeError, u.UnitConversionError):
        raise InputError(
            f"{label}: the unit of the column {name} is {str(given)!r}, expected {unit}"
        ) from None
    return np.asarray(values) * factor


def _motions(values: dict[str, Floats | None], label: str) -> tuple[Floats, Floats, Floats]:
    """Proper motions, 0 where there is none, and the epochs of the positions."""
    pm_ra, pm_dec, epoch = values["pm_ra"], values["pm_dec"], values["epoch"]
    assert pm_ra is not None
    assert pm_dec is not None
    known = np.isfinite(pm_ra) & np.isfinite(pm_dec)
    pm_ra, pm_dec = np.where(known, pm_ra, 0.0), np.where(known, pm_dec, 0.0)
    if epoch is None:
        raise InputError(
            f"{label}: has proper motions and no ref_epoch (Julian year) for which its positions "
            "hold; add that column, or remove pmra and pmdec"
        )
    bad = known & ~((epoch > 1800.0) & (epoch < 2200.0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"{label}: row {row + 1} has ref_epoch = {epoch[row]}, expected a year")
    bad = np.maximum(np.abs(pm_ra), np.abs(pm_dec)) > _FASTEST_MAS
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{label}: row {row + 1} has proper motions of {pm_ra[row]} and {pm_dec[row]} mas a "
            f"year, expected at most {_FASTEST_MAS:g}"
        )
    return pm_ra, pm_dec, np.where(known, epoch, 2000.0)
