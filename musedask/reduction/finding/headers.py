"""The cards of a file that a reduction wants, read in milliseconds, and the Frame they make."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any, BinaryIO

from musedask.errors import FileError
from musedask.files import opened
from musedask.fits.hdus import (
    BLOCK,
    Hdu,
    hash_of,
    read_headers,
    read_primary,
)
from musedask.reduction.finding.classify import classify
from musedask.reduction.frames import Frame

MAX_LAMPS = 9
WANTED = (
    "INSTRUME",
    "DATE-OBS",
    "MJD-OBS",
    "EXPTIME",
    "OBJECT",
    "RA",
    "DEC",
    "PRODCATG",
    "ESO DPR CATG",
    "ESO DPR TYPE",
    "ESO DPR TECH",
    "ESO PRO CATG",
    "ESO PRO REC1 ID",
    "ESO TPL START",
    "ESO TPL ID",
    "ESO TPL NEXP",
    "ESO OBS TARG NAME",
    "ESO OBS ID",
    "ESO INS MODE",
    "ESO INS OPTI2 NAME",
    "ESO INS TEMP7 VAL",
    "ESO DET READ CURNAME",
    *(
        f"ESO INS {what}"
        for n in range(1, MAX_LAMPS + 1)
        for what in (f"LAMP{n} NAME", f"LAMP{n} ST", f"SHUT{n} ST")
    ),
)
"""Cards of PRIMARY that are kept."""
_GZIP = b"\x1f\x8b"
_SMALL = 4 << 20
"""A gzip file up to this size is unpacked whole, so that its IFUs are known."""
_MOST = 256 << 20
"""Bytes that a small gzip file may unpack to: beyond, it holds nothing but zeros."""
_PIECE = 1 << 20
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?")
_CHANNEL = re.compile(r"CHAN(\d\d)\b")
_KEY_LENGTH = 23
_NOON_UTC_H = 16
"""Local noon at Paranal, hours UTC: Chile's time is UTC-4, its longitude 70.4 degrees west."""
_MJD_ZERO = datetime(1858, 11, 17)
_MODE_OF_NAME = re.compile(r"_(wfm|nfm)(-ao)?-([ne])(?![a-z])")


@dataclass(frozen=True)
class HeaderFacts:
    """What was read of a file: enough to make its Frame, whatever the rules are."""

    cards: Mapping[str, Any] = field(default_factory=dict)
    """Cards of PRIMARY among :data:`WANTED`."""
    ifus: tuple[int, ...] | None = None
    """IFUs with live data; None where only PRIMARY was read."""
    header_hash: str = ""
    """SHA-256 of the headers that were read."""
    error: str = ""
    """Why the file cannot be read; then all else is empty."""


def read_facts(path: str | os.PathLike[str]) -> HeaderFacts:
    """Read the headers of a FITS file, packed or not; never raises for what the file holds.

    Of a packed ``.fits.gz`` only PRIMARY is read, unless it is small: what follows
    would have to be unpacked up to there.
    """
    label = os.fspath(path)
    try:
        with opened(path, label) as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == _GZIP
            file.seek(0)
            hdus, whole = (
                _unpacked(file, size, label)
                if packed
                else (
                    read_headers(file, size, label),
                    True,
                )
            )
    except FileError as err:
        return HeaderFacts(error=str(err).removeprefix(f"{label}: "))
    return HeaderFacts(
        cards=_wanted(hdus), ifus=live_ifus(hdus) if whole else None, header_hash=hash_of(hdus)
    )


def _unpacked(file: BinaryIO, size: int, label: str) -> tuple[Sequence[Hdu], bool]:
    """Headers of a gzip file, and whether these are all."""
    try:
        with gzip.open(file) as stream:
            if size > _SMALL:
                _check_tail(file, size)
                return [read_primary(stream, label)], False
            content = stream.read(_MOST)
            if len(content) == _MOST:
                return [read_primary(BytesIO(content), label)], False
            return read_headers(BytesIO(content), len(content), label), True
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise FileError(
            f"{label}: cannot be unpacked, it is damaged or cut off ({err}); "
            "copy or download it again"
        ) from None


def _check_tail(file: BinaryIO, size: int) -> None:
    """Raise an EOFError for a gzip file that is cut off, mostly without unpacking it.

    Its last four bytes are the size of its content modulo 4 GiB (RFC 1952), and
    FITS files are whole blocks; the last of several members may be any piece.
    """
    file.seek(size - 4)
    tail = int.from_bytes(file.read(4), "little")
    is_whole = any((tail + (wrap << 32)) % BLOCK == 0 for wrap in range(4))
    file.seek(0)
    if not is_whole:
        with gzip.open(file) as stream:
            while stream.read(_PIECE):
                pass
        file.seek(0)


def _wanted(hdus: Sequence[Hdu]) -> dict[str, Any]:
    """The cards that are kept; a compressed image that was PRIMARY adds its own."""
    sources = [hdus[0], *(hdu for hdu in hdus[1:2] if hdu.get("ZSIMPLE") is True)]
    found: dict[str, Any] = {}
    for hdu in sources:
        for key in WANTED:
            value = hdu.get(key)
            if value is not None and isinstance(value, str | bool | int | float):
                found.setdefault(key, value)
    return found


def live_ifus(hdus: Sequence[Hdu]) -> tuple[int, ...]:
    """IFUs (1 to 24) whose HDUs hold data and whose CHIP LIVE is not false, ascending.

    Products of one IFU name it in PRIMARY, and their HDUs ``DATA``, ``DQ``, ``STAT``.
    """
    found = set()
    for hdu in hdus:
        match = _CHANNEL.match(hdu.name)
        if match is None or not 1 <= int(match[1]) <= 24:
            continue
        is_product = hdu.index == 0
        if is_product or (hdu.get("ESO DET CHIP LIVE") is not False and bool(hdu.shape)):
            found.add(int(match[1]))
    return tuple(sorted(found))


def frame_of(path: str, facts: HeaderFacts, size: int, mtime_ns: int) -> Frame:
    """Make the Frame of a file from what was read of it."""
    if facts.error:
        return Frame(path=path, kind="unreadable", reason=facts.error, size=size, mtime_ns=mtime_ns)
    cards, name = facts.cards, os.path.basename(path)
    kind, tag, reason = classify(cards, name)
    date_obs = date_of(cards.get("DATE-OBS"))
    if kind == "raw" and not date_obs:
        given = cards.get("DATE-OBS", "missing")
        kind, tag, reason = "unknown", "", f"{tag} whose DATE-OBS is {given}"
    mode = _text(cards, "ESO INS MODE").upper()
    is_table = kind == "static"
    return Frame(
        path=path,
        kind=kind,
        tag=tag,
        reason=reason,
        date_obs=date_obs,
        mjd=_mjd(cards, date_obs),
        night=night_of(date_obs),
        exptime_s=_number(cards, "EXPTIME"),
        target=_text(cards, "ESO OBS TARG NAME") or _text(cards, "OBJECT"),
        ob_id=_text(cards, "ESO OBS ID"),
        mode=mode or (_mode_of_name(name) if is_table else ""),
        readout=_text(cards, "ESO DET READ CURNAME"),
        optics=_optics(cards, mode, name if is_table else ""),
        template_start=_text(cards, "ESO TPL START"),
        template_id=_text(cards, "ESO TPL ID"),
        template_size=_count(cards, "ESO TPL NEXP"),
        temperature_c=_number(cards, "ESO INS TEMP7 VAL"),
        ra_deg=_number(cards, "RA"),
        dec_deg=_number(cards, "DEC"),
        lamps=tuple(_lit_lamps(cards)),
        ifus=facts.ifus,
        size=size,
        mtime_ns=mtime_ns,
        header_hash=facts.header_hash,
    )


def date_of(value: Any) -> str:
    """DATE-OBS down to the millisecond; empty if it is none.

    >>> date_of(" 2016-01-02T03:04:05.6789 ")
    '2016-01-02T03:04:05.678'
    """
    text = str(value).strip().replace(" ", "T", 1)[:_KEY_LENGTH]
    return text if _DATE.fullmatch(text) and _time(text) is not None else ""


def night_of(date_obs: str) -> str:
    """Date of the evening on which a night began, from its DATE-OBS (UTC).

    >>> night_of("2016-01-02T15:59:59"), night_of("2016-01-02T16:00:00")
    ('2016-01-01', '2016-01-02')
    """
    time = _time(date_obs)
    if time is None or time.year < 2:
        return ""
    return (time - timedelta(hours=_NOON_UTC_H)).date().isoformat()


def _time(date_obs: str) -> datetime | None:
    try:
        return datetime.fromisoformat(date_obs)
    except ValueError:
        return None


def _mjd(cards: Mapping[str, Any], date_obs: str) -> float:
    """MJD-OBS, or what DATE-OBS says where that is missing."""
    given = _number(cards, "MJD-OBS")
    time = _time(date_obs)
    if math.isnan(given) and time is not None:
        return (time - _MJD_ZERO) / timedelta(days=1)
    return given


def _optics(cards: Mapping[str, Any], mode: str, table: str) -> str:
    """``WFM`` or ``NFM``; a table may say so in its name only."""
    given = _text(cards, "ESO INS OPTI2 NAME").upper()
    if given or not table:
        return given
    match = re.search(r"_([wn]fm)(?![a-z])", table.lower())
    return match[1].upper() if match else mode[:3] if mode[:3] in ("WFM", "NFM") else ""


def _mode_of_name(name: str) -> str:
    """INS MODE of a table of the kit: ``std_response_wfm-n.fits`` is for WFM-NOAO-N.

    >>> _mode_of_name("lsf_profile_slice_wfm-ao-e.fits")
    'WFM-AO-E'
    """
    match = _MODE_OF_NAME.search(name.lower())
    if match is None:
        return ""
    return f"{match[1]}-{'AO' if match[2] else 'NOAO'}-{match[3]}".upper()


def _lit_lamps(cards: Mapping[str, Any]) -> Iterator[str]:
    """Names of the lamps that are on with their shutter open, as the pipeline counts them."""
    for n in range(1, MAX_LAMPS + 1):
        lit = (cards.get(f"ESO INS LAMP{n} ST"), cards.get(f"ESO INS SHUT{n} ST"))
        if lit == (True, True):
            yield _text(cards, f"ESO INS LAMP{n} NAME") or f"LAMP{n}"


def _text(cards: Mapping[str, Any], key: str) -> str:
    """A card as text; OBS ID is a number in some headers and a text in others."""
    value = cards.get(key, "")
    return "" if isinstance(value, bool) else str(value).strip()


def _number(cards: Mapping[str, Any], key: str) -> float:
    """A card as a number, NaN if it is none."""
    value = cards.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _count(cards: Mapping[str, Any], key: str) -> int:
    """A card as a number of frames, 0 if it is none."""
    number = _number(cards, key)
    return int(number) if number > 0 else 0
