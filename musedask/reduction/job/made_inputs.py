"""Small files that a job needs and nobody has: an OUTPUT_WCS, an OFFSET_LIST.

Both in the form that the pipeline (2.8.7) takes. Of an OUTPUT_WCS it reads only
the header, which has to have three axes: a cube without its data will do, and
saves writing gigabytes. An OFFSET_LIST has float64 columns and dates of 23
characters; the pipeline goes on without a word if it has not.
"""

from __future__ import annotations

import io
import math
import re
import warnings

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError, VerifyWarning

from musedask.errors import InputError
from musedask.reduction.jobs import MadeInput

FORMS = ("header", "offset_list")
WAVELENGTHS = ("AWAV", "AWAV-LOG", "WAVE", "WAVE-LOG")
"""CTYPE3 that the pipeline takes; with another it ignores the whole OUTPUT_WCS."""
_NEEDED = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD2_2", "CRVAL3", "CD3_3")
_AXES = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}")


def made_file(made: MadeInput) -> bytes:
    """Give the FITS file of an input that is made for a job.

    Raises
    ------
    InputError
        If its form is unknown, or the pipeline would not take its content.
    """
    if made.form == "header":
        return _cube_header(made)
    if made.form == "offset_list":
        return _offset_list(made)
    raise InputError(f"{made.tag}: {made.form!r} is no form of an input; there are {FORMS}")


def offset_rows(made: MadeInput) -> dict[str, tuple[float, float, float]]:
    """Rows of an ``offset_list``: DATE_OBS -> RA_OFFSET, DEC_OFFSET (degrees), FLUX_SCALE.

    Raises
    ------
    InputError
        If there are none, or one of them cannot be used.
    """
    rows: dict[str, tuple[float, float, float]] = {}
    for line in filter(str.strip, made.text.splitlines()):
        date, ra, dec, scale = _row(line, made.tag)
        if date in rows:
            raise InputError(f"{made.tag}: DATE_OBS {date} has two rows; an exposure has one")
        rows[date] = ra, dec, scale
    if not rows:
        raise InputError(f"{made.tag}: has no row; give one for each exposure of the job")
    return rows


def _row(line: str, tag: str) -> tuple[str, float, float, float]:
    words = line.split()
    try:
        date, ra, dec, scale = words[0], *map(float, words[1:])
    except ValueError:
        raise InputError(
            f"{tag}: the row {line.strip()!r} is not DATE_OBS, RA_OFFSET, DEC_OFFSET, FLUX_SCALE"
        ) from None
    if not _DATE.fullmatch(date):
        raise InputError(
            f"{tag}: DATE_OBS {date!r} is not like 2014-12-08T03:12:45.123; the pipeline would "
            "not find the exposure, and say nothing"
        )
    if not (math.isfinite(ra) and math.isfinite(dec)):
        raise InputError(f"{tag}: DATE_OBS {date} has no offset ({ra}, {dec}); measure it first")
    return date, ra, dec, scale


def _offset_list(made: MadeInput) -> bytes:
    rows = offset_rows(made)
    values = np.array(list(rows.values()), dtype=np.float64)
    columns = [fits.Column("DATE_OBS", "23A", array=np.array(list(rows)))]
    for name, unit, column in zip(
        ("RA_OFFSET", "DEC_OFFSET", "FLUX_SCALE"), ("deg", "deg", None), values.T, strict=True
    ):
        columns.append(fits.Column(name, "D", unit=unit, array=column))
    return _written(fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns), tag=made.tag)


def _written(primary: fits.PrimaryHDU, *others: fits.BinTableHDU, tag: str) -> bytes:
    primary.header["HIERARCH ESO PRO CATG"] = tag
    stream = io.BytesIO()
    fits.HDUList([primary, *others]).writeto(stream)
    return stream.getvalue()


def _cube_header(made: MadeInput) -> bytes:
    given = _parsed(made)
    sizes = [given.get(key) for key in ("NAXIS", "NAXIS1", "NAXIS2", "NAXIS3")]
    if sizes[0] != 3 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(f"{made.tag}: NAXIS and NAXIS1 to NAXIS3 = {sizes}; a cube has three axes")
    missing = [key for key in _NEEDED if not isinstance(given.get(key), int | float)]
    if missing:
        raise InputError(f"{made.tag}: its header has no number for {', '.join(missing)}")
    if given.get("CTYPE3") not in WAVELENGTHS:
        raise InputError(
            f"{made.tag}: CTYPE3 = {given.get('CTYPE3')!r} is none of {', '.join(WAVELENGTHS)}; "
            "the pipeline would choose a grid of its own"
        )
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3)])
    for axis, size in enumerate(sizes[1:], start=1):
        header[f"NAXIS{axis}"] = size
    header.extend(
        (card for card in given.cards if card.keyword not in _AXES), end=True, update=False
    )
    header["HIERARCH ESO PRO CATG"] = made.tag
    text: str = header.tostring(padding=True)
    return text.encode("ascii")


def _parsed(made: MadeInput) -> fits.Header:
    header = fits.Header()
    with warnings.catch_warnings():
        warnings.simplefilter("error", VerifyWarning)
        for line in made.text.splitlines():
            if line.strip() in ("", "END"):
                continue
            try:
                card = fits.Card.fromstring(line)
                card.verify("exception")
                header.append(card, end=True)
            except (VerifyError, VerifyWarning, ValueError) as err:
                why = " ".join(str(err).split())
                raise InputError(f"{made.tag}: the card {line!r} cannot be read: {why}") from None
    return header
