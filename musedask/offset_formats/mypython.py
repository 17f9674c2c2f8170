"""mypython's radecoffsets.txt: RA offsets on one line, DEC offsets on the next.

Degrees, one column per exposure, in the order of the exposures. They are the
median of measured minus catalogued coordinates (``aligntocat``), and go into
an OFFSET_LIST as they are: exposure minus reference, RA a difference of
coordinates, not times cos(dec).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from musedask.errors import InputError
from musedask.files import read_text
from musedask.offset_formats.offset_list import pointing
from musedask.offsets import (
    ARCSEC_PER_DEG,
    FAILED,
    ExposureLike,
    Offset,
    OffsetTable,
    coordinate_deg,
    on_sky_arcsec,
)
from musedask.wording import counted


def looks_like(text: str) -> bool:
    """Tell whether a text is two rows of as many numbers."""
    try:
        ra, dec = _rows(text)
    except InputError:
        return False
    return len(ra) == len(dec)


def read(path: Path, exposures: Sequence[ExposureLike] | None) -> OffsetTable:
    """Read the offsets of ``exposures``, in their order.

    Raises
    ------
    InputError
        If no exposures are given, their number is another than the file's, or
        a declination is unknown.
    """
    ra, dec = _rows(read_text(path))
    if exposures is None:
        raise InputError(
            "radecoffsets.txt names no exposures: give exposures=, in the order of its columns"
        )
    if not len(ra) == len(dec) == len(exposures):
        raise InputError(
            f"{len(ra)} RA and {len(dec)} DEC offsets for {counted(len(exposures), 'exposure')}: "
            "they go by their order, so give exactly the exposures that mypython had"
        )
    return OffsetTable(tuple(map(_offset, ra, dec, exposures)))


def dump(table: OffsetTable, exposures: Sequence[ExposureLike] | None) -> bytes:
    """Give the two rows, in the order of ``exposures`` or else of the table."""
    rows = list(table) if exposures is None else [table.find(e.date_obs, e.name) for e in exposures]
    if len(rows) != len(table):
        raise InputError(
            f"{counted(len(table), 'offset')}, but "
            f"{counted(len(rows), 'exposure')} to write them for"
        )
    ra = (coordinate_deg(row.ra_offset_arcsec, pointing(row, exposures)[1]) for row in rows)
    dec = (row.dec_offset_arcsec / ARCSEC_PER_DEG for row in rows)
    lines = (" ".join(f"{value:.18e}" for value in values) + "\n" for values in (ra, dec))
    return "".join(lines).encode("ascii")


def _rows(text: str) -> tuple[list[float], list[float]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 2:
        raise InputError(f"{counted(len(lines), 'row')}, expected two: RA and DEC offsets")
    try:
        ra, dec = ([float(word) for word in line.split()] for line in lines)
    except ValueError as err:
        raise InputError(f"a value is not a number: {err}") from None
    return ra, dec


def _offset(ra_deg: float, dec_deg: float, exposure: ExposureLike) -> Offset:
    failed = not (math.isfinite(ra_deg) and math.isfinite(dec_deg))
    if not failed and not math.isfinite(exposure.dec_deg):
        raise InputError(
            f"{exposure.name}: its declination is unknown, so the RA offset, a difference of "
            "coordinates, cannot be turned into arcseconds: give dec_deg"
        )
    return Offset(
        date_obs=exposure.date_obs,
        name=exposure.name,
        ra_deg=exposure.ra_deg,
        dec_deg=exposure.dec_deg,
        ra_offset_arcsec=math.nan if failed else on_sky_arcsec(ra_deg, exposure.dec_deg),
        dec_offset_arcsec=math.nan if failed else dec_deg * ARCSEC_PER_DEG,
        grade=FAILED if failed else "",
        method="auto",
    )
