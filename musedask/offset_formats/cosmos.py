"""The COSMOS mega-cube routine's offsets.txt and manualoffsets.txt.

``offsets.txt`` has a line ``<white image> <dx> <dy> <flag>`` per exposure, in
pixels of 0.2 arcsec; the routine applies it as ``CRPIX1 -= dx``, ``CRPIX2 +=
dy`` on a north-up field. With CD1_1 = -0.2" that moves RA by -0.2" dx on the
sky and DEC by -0.2" dy: an on-sky offset, exposure minus reference, although
the routine computes dx from coordinates without cos(dec).

``manualoffsets.txt`` records calls like ``offset_wcs_2d('<white image>',
ra_offset_deg=0.0002, dec_offset_deg=-0.0001)`` (or the three values on a
line). They are applied in the same way, so they are degrees on the sky. A
manual entry wins over the automatic one, and the last one of a file over the
others, as the routine's own merge of the two has it.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from musedask.errors import InputError, MusedaskWarning
from musedask.files import read_text
from musedask.offset_formats.matching import by_file_name
from musedask.offsets import ARCSEC_PER_DEG, FAILED, MANUAL, ExposureLike, Offset, OffsetTable

PIXEL_ARCSEC = 0.2
MANUAL_NAME = "manualoffsets.txt"
FILE_NAMES = ("offsets.txt", "updated_offsets.txt", MANUAL_NAME)
_METHODS = {"a": "auto", "m": MANUAL}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_CALL = re.compile(
    r"offset_wcs_2d\(\s*(?P<quote>['\"])(?P<path>.+?)(?P=quote)\s*,"
    rf"\s*(?:ra_offset_deg\s*=\s*)?(?P<ra>{_NUMBER})\s*,"
    rf"\s*(?:dec_offset_deg\s*=\s*)?(?P<dec>{_NUMBER})\s*,?\s*\)"
)
_PLAIN = re.compile(rf"(?P<path>.+?)\s+(?P<ra>{_NUMBER})\s+(?P<dec>{_NUMBER})")


def looks_like(text: str) -> bool:
    """Tell whether a text is one of the two files."""
    if _is_endless(text):
        return False
    if "offset_wcs_2d" in text:
        return True
    lines = [line.rsplit(None, 3) for line in _lines(text)]
    return bool(lines) and all(len(line) == 4 and line[3] in _METHODS for line in lines)


def read(path: Path, exposures: Sequence[ExposureLike] | None) -> OffsetTable:
    """Read ``offsets.txt`` with the ``manualoffsets.txt`` beside it, or the latter alone.

    Raises
    ------
    InputError
        If no exposures are given, an entry belongs to none of them, or a line
        cannot be understood.
    """
    if exposures is None:
        raise InputError(
            "the COSMOS routine's offsets go by file names: give exposures=, the list of "
            "exposures that they are for"
        )
    text = _checked(read_text(path))
    if path.name == MANUAL_NAME or "offset_wcs_2d" in text:
        return OffsetTable(tuple(_manual_rows(text, exposures).values()))
    rows: dict[str, Offset] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            row = _automatic_row(line, exposures)
        except InputError as err:
            raise InputError(f"line {number}: {err}") from err
        if row.key in rows:
            raise InputError(f"line {number}: a second entry for {row.name}; remove one of them")
        rows[row.key] = row
    beside = path.with_name(MANUAL_NAME)
    if beside.is_file():
        try:
            rows.update(_manual_rows(_checked(read_text(beside)), exposures))
        except InputError as err:
            raise InputError(f"{beside.name} beside it: {err}") from err
    return OffsetTable(tuple(rows.values()))


def dump(table: OffsetTable, exposures: Sequence[ExposureLike] | None) -> bytes:
    """Give an ``offsets.txt``, 5 decimals of a pixel, with flag m for manual rows."""
    lines = []
    for row in table:
        if not row.name:
            raise InputError(f"{row.key} has no name, and this format goes by names: fill it in")
        dx, dy = (value / PIXEL_ARCSEC for value in (row.ra_offset_arcsec, row.dec_offset_arcsec))
        name = row.name if row.name.endswith(".fits") else f"{row.name}.fits"
        lines.append(f"{name} {dx:.5f} {dy:.5f} {'m' if row.is_manual else 'a'}\n")
    return "".join(lines).encode("utf-8")


def _is_endless(text: str) -> bool:
    """Whether it has lines or gaps on which the patterns here would take minutes."""
    return re.search(r"\s{1000}|[^\n]{4000}", text) is not None


def _checked(text: str) -> str:
    if _is_endless(text):
        raise InputError("a line of more than 4000 characters, or a gap of more than 1000")
    return text


def _lines(text: str) -> list[str]:
    """Lines with something on them that is not a comment."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _automatic_row(line: str, exposures: Sequence[ExposureLike]) -> Offset:
    parts = line.rsplit(None, 3)
    if len(parts) != 4 or parts[3] not in _METHODS:
        raise InputError(
            f"{line.strip()!r}, expected <white image> <dx> <dy> <flag>, where flag is a or m"
        )
    try:
        dx, dy = float(parts[1]), float(parts[2])
    except ValueError:
        raise InputError(f"{line.strip()!r}: dx and dy have to be numbers (pixels)") from None
    return _row(parts[0], dx * PIXEL_ARCSEC, dy * PIXEL_ARCSEC, _METHODS[parts[3]], exposures)


def _manual_rows(text: str, exposures: Sequence[ExposureLike]) -> dict[str, Offset]:
    """Entries of a ``manualoffsets.txt`` by DATE-OBS; the last one of a file stays."""
    _warn_of_comments(text)
    rows: dict[str, Offset] = {}
    for _, path, ra_deg, dec_deg in sorted(_manual_entries(text)):
        row = _row(path, ra_deg * ARCSEC_PER_DEG, dec_deg * ARCSEC_PER_DEG, MANUAL, exposures)
        rows[row.key] = row
    return rows


def _manual_entries(text: str) -> Iterator[tuple[int, str, float, float]]:
    """Place in the text, white image, RA and DEC offset (degrees on the sky) of each entry."""
    for match in _CALL.finditer(text):
        yield match.start(), match["path"], float(match["ra"]), float(match["dec"])
    # Calls may go over several lines; blanks in their place keep all positions.
    start = 0
    for line in _CALL.sub(lambda match: " " * len(match[0]), text).split("\n"):
        entry = line.strip()
        plain = _PLAIN.fullmatch(entry)
        if "offset_wcs_2d" in entry:
            raise InputError(
                f"{entry!r} cannot be understood: write offset_wcs_2d('FILE.fits', "
                "ra_offset_deg=0.0, dec_offset_deg=0.0)"
            )
        if plain and not entry.startswith("#"):
            yield start, plain["path"], float(plain["ra"]), float(plain["dec"])
        elif ".fits" in entry and not entry.startswith("#"):
            raise InputError(
                f"{entry!r} names a file but gives no offset: write FILE.fits RA DEC (degrees), "
                "or start the line with # to keep it as a note"
            )
        start += len(line) + 1


def _warn_of_comments(text: str) -> None:
    """Say that calls behind a # count, as they do in the routine's own merge."""
    for line in text.splitlines():
        if line.lstrip().startswith("#") and "offset_wcs_2d(" in line:
            warnings.warn(
                f"manualoffsets.txt: {line.strip()!r} counts although it starts with #, as in "
                "the COSMOS routine: delete the line if it should not",
                MusedaskWarning,
                stacklevel=6,
            )


def _row(
    path: str, ra_arcsec: float, dec_arcsec: float, method: str, exposures: Sequence[ExposureLike]
) -> Offset:
    exposure = by_file_name(path, exposures)
    failed = not (math.isfinite(ra_arcsec) and math.isfinite(dec_arcsec))
    return Offset(
        date_obs=exposure.date_obs,
        name=exposure.name,
        ra_deg=exposure.ra_deg,
        dec_deg=exposure.dec_deg,
        ra_offset_arcsec=ra_arcsec,
        dec_offset_arcsec=dec_arcsec,
        grade=FAILED if failed else "",
        method=method,
    )
