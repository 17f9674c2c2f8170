"""ESO's OFFSET_LIST, and what pymusepipe's extended form of it shares with it.

Columns as muse_exp_align writes them and muse_scipost and muse_exp_combine
(2.8.7) read them: ``DATE_OBS`` text of 23 characters, with milliseconds, the
only key; ``RA_OFFSET`` and ``DEC_OFFSET`` float64 degrees, exposure minus
reference, where RA is a difference of coordinates (not times cos dec);
``FLUX_SCALE`` float64, NaN for none; ``MJD_OBS`` float64, informative. The
pipeline goes on without a word if a type is wrong or a date does not match, so
both are errors here.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from musedask.errors import InputError
from musedask.fits.small import small_fits
from musedask.offset_formats.matching import by_date
from musedask.offsets import (
    ARCSEC_PER_DEG,
    FAILED,
    KEY_LENGTH,
    ExposureLike,
    Offset,
    OffsetTable,
    coordinate_deg,
    on_sky_arcsec,
)

_MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}")
_PYMUSEPIPE = {
    "RA_CROSS_OFFSET", "RA_OFFSET_ORIG", "ROTANGLE", "BACKGROUND", "TPL_START", "IEXPO_OBS",
    "DATASET_OBS", "POINTING_OBS",
}  # fmt: skip
_NEEDED = ("DATE_OBS", "RA_OFFSET", "DEC_OFFSET")
_MJD_EPOCH = datetime(1858, 11, 17)


def recognise(path: Path) -> str:
    """Tell ``pymusepipe`` from ``offset_list`` by the columns."""
    columns = _table(path)[0]
    return "pymusepipe" if _PYMUSEPIPE & set(columns) else "offset_list"


def read(path: Path, exposures: Sequence[ExposureLike] | None) -> OffsetTable:
    """Read an OFFSET_LIST.

    The declination that turns RA_OFFSET into arcseconds on the sky is that of
    the file's own DEC_DEG column (which musedask writes), or the exposure's.

    Raises
    ------
    FileError
        If the FITS file is damaged.
    InputError
        If a column is missing or of a type that the pipeline would not take,
        a DATE_OBS has no milliseconds, or a declination is unknown.
    """
    columns, data = load(path)
    return OffsetTable(
        tuple(row_of(data, i, columns, exposures, "offset_list") for i in range(len(data)))
    )


def load(path: Path) -> tuple[dict[str, fits.Column], Any]:
    """Columns by name and rows of an offset table, after a check that the pipeline takes them.

    Raises
    ------
    FileError, InputError
        As :func:`read`.
    """
    columns, data = _table(path)
    _check_columns(columns)
    return columns, data


def _table(path: Path) -> tuple[dict[str, fits.Column], Any]:
    """Columns by name and rows of the first table with offsets."""
    with small_fits(path) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
        for hdu in tables:
            names = [str(name).upper() for name in hdu.columns.names]
            if "RA_OFFSET" in names or "DATE_OBS" in names or len(tables) == 1:
                return _read_out(hdu)
    raise InputError("there is no table with RA_OFFSET in this FITS file: it is no OFFSET_LIST")


def _read_out(hdu: fits.BinTableHDU) -> tuple[dict[str, fits.Column], Any]:
    """Columns and rows of a table, all of them read: damage shows here and not later."""
    columns = {str(column.name): column for column in hdu.columns}
    return columns, Table({name: np.array(hdu.data[name]) for name in columns})


def _check_columns(columns: dict[str, fits.Column]) -> None:
    """Raise an InputError for what would make the pipeline ignore the table in silence."""
    for key in _NEEDED:
        if key not in columns:
            raise InputError(
                f"column {key} is missing (the table has {', '.join(columns)}); "
                "the pipeline would ignore the table without a word"
            )
    if not re.fullmatch(r"\d*A\d*", str(columns["DATE_OBS"].format)):
        raise InputError(f"column DATE_OBS has format {columns['DATE_OBS'].format}, expected 23A")
    for key in ("RA_OFFSET", "DEC_OFFSET", "FLUX_SCALE", "MJD_OBS", "DEC_DEG", "RA_DEG"):
        if key in columns and columns[key].format not in ("D", "1D"):
            raise InputError(
                f"column {key} has format {columns[key].format}, expected D (float64); "
                "the pipeline would ignore the table without a word: write it as float64"
            )
    for key in ("RA_OFFSET", "DEC_OFFSET"):
        unit = str(columns[key].unit or "").strip().lower()
        if unit not in ("", "deg", "degree", "degrees"):
            raise InputError(
                f"column {key} has unit {columns[key].unit}; the pipeline takes it as degrees "
                "whatever it says: write degrees, and the unit deg"
            )


def row_of(
    data: Any,
    index: int,
    columns: dict[str, fits.Column],
    exposures: Sequence[ExposureLike] | None,
    method: str,
) -> Offset:
    """Make an Offset of row ``index`` of the FITS table, ``method`` being the format's name.

    Raises
    ------
    InputError
        If its date or declination cannot be used.
    """

    def number(key: str) -> float:
        return float(data[key][index]) if key in columns else math.nan

    date = str(data["DATE_OBS"][index]).strip()
    if not _MILLISECONDS.match(date):
        raise InputError(
            f"column DATE_OBS, row {index + 1}: {date!r} has no milliseconds; the pipeline "
            "matches the first 23 characters of DATE-OBS, like 2014-12-08T03:12:45.123"
        )
    exposure = by_date(date, exposures)
    ra, dec = number("RA_DEG"), number("DEC_DEG")
    if math.isnan(dec) and exposure is not None:
        ra, dec = float(exposure.ra_deg), float(exposure.dec_deg)
    ra_offset, dec_offset = number("RA_OFFSET"), number("DEC_OFFSET")
    failed = not (math.isfinite(ra_offset) and math.isfinite(dec_offset))
    if math.isnan(dec) and not failed:
        known = "no exposures were given" if exposures is None else "no exposure given has it"
        raise InputError(
            f"row {index + 1}, DATE_OBS {date}: RA_OFFSET is a difference of coordinates, and "
            f"{known}, so its declination is unknown; give exposures= with this one and its "
            "declination, or remove the row"
        )
    name = str(data["NAME"][index]).strip() if "NAME" in columns else ""
    return Offset(
        date_obs=date,
        name=exposure.name if exposure is not None else name,
        ra_deg=ra,
        dec_deg=dec,
        ra_offset_arcsec=math.nan if failed else on_sky_arcsec(ra_offset, dec),
        dec_offset_arcsec=math.nan if failed else dec_offset * ARCSEC_PER_DEG,
        flux_scale=number("FLUX_SCALE"),
        grade=FAILED if failed else "",
        method=method,
    )


def dump(table: OffsetTable, exposures: Sequence[ExposureLike] | None) -> bytes:
    """Give an OFFSET_LIST file that the pipeline takes.

    NAME, RA_DEG and DEC_DEG follow the pipeline's own columns: the pipeline
    ignores them, and with them musedask reads the file back without help.

    Raises
    ------
    InputError
        If a row's declination is unknown or its DATE-OBS has no milliseconds.
    """
    return as_file(pipeline_columns(table, exposures) + musedask_columns(table, exposures))


def pipeline_columns(
    table: OffsetTable, exposures: Sequence[ExposureLike] | None
) -> list[fits.Column]:
    """The columns that the pipeline reads.

    Raises
    ------
    InputError
        As :func:`dump`.
    """
    for row in table:
        if not _MILLISECONDS.match(row.date_obs):
            raise InputError(
                f"{row.date_obs} {row.name}: DATE-OBS has no milliseconds, so the pipeline would "
                "not find the exposure; give it as the exposure's header has it"
            )
    ra_offsets = [
        coordinate_deg(row.ra_offset_arcsec, pointing(row, exposures)[1]) for row in table
    ]
    return [
        fits.Column("DATE_OBS", f"{KEY_LENGTH}A", array=np.array([row.key for row in table])),
        doubles("MJD_OBS", [mjd(row.key) for row in table], "d"),
        doubles("RA_OFFSET", ra_offsets, "deg"),
        doubles("DEC_OFFSET", [row.dec_offset_arcsec / ARCSEC_PER_DEG for row in table], "deg"),
        doubles("FLUX_SCALE", [row.flux_scale for row in table], None),
    ]


def musedask_columns(
    table: OffsetTable, exposures: Sequence[ExposureLike] | None
) -> list[fits.Column]:
    """The columns by which musedask reads the file back without the exposures."""
    pointings = [pointing(row, exposures) for row in table]
    return [
        text("NAME", [row.name for row in table]),
        doubles("RA_DEG", [ra for ra, _ in pointings], "deg"),
        doubles("DEC_DEG", [dec for _, dec in pointings], "deg"),
    ]


def as_file(columns: list[fits.Column]) -> bytes:
    """Give the FITS file of an OFFSET_LIST with these columns."""
    primary = fits.PrimaryHDU()
    primary.header["HIERARCH ESO PRO CATG"] = ("OFFSET_LIST", "category of the product")
    stream = io.BytesIO()
    fits.HDUList([primary, fits.BinTableHDU.from_columns(columns)]).writeto(stream)
    return stream.getvalue()


def pointing(row: Offset, exposures: Sequence[ExposureLike] | None) -> tuple[float, float]:
    """RA and declination of a row, or else of its exposure.

    Raises
    ------
    InputError
        If neither knows the declination.
    """
    if math.isfinite(row.dec_deg):
        return row.ra_deg, row.dec_deg
    exposure = by_date(row.date_obs, exposures)
    if exposure is None or not math.isfinite(exposure.dec_deg):
        raise InputError(
            f"{row.key} {row.name}: the declination is unknown, so the offset cannot be turned "
            "into coordinates: fill in dec_deg, or give exposures="
        )
    return float(exposure.ra_deg), float(exposure.dec_deg)


def doubles(name: str, values: list[float], unit: str | None) -> fits.Column:
    """A column of float64."""
    return fits.Column(name, "D", unit=unit, array=np.array(values, dtype=np.float64))


def text(name: str, values: list[str]) -> fits.Column:
    """A column of ASCII text, as wide as its longest value."""
    ascii_values = [value.encode("ascii", "replace").decode() for value in values]
    return fits.Column(name, f"{max(1, *map(len, ascii_values))}A", array=np.array(ascii_values))


def mjd(date_obs: str) -> float:
    """Modified Julian Date of an ISO date, as DATE-OBS and MJD-OBS go together in FITS."""
    return (datetime.fromisoformat(date_obs) - _MJD_EPOCH).total_seconds() / 86400.0
