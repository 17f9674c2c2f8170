"""What can be wrong with raw frames, on request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from musedask.errors import InputError, MissingError
from musedask.simulation.raw.night import RawFrame

KINDS = {
    "missing": "leave out all frames of a tag (or its n-th), or a static table",
    "truncated": "cut the file off in its data",
    "html": "a web page with the file's name",
    "empty": "a file of 0 bytes",
    "bad-header": "a primary header of garbage",
    "wrong-mode": "another ESO INS MODE",
    "wrong-readout": "another read-out mode",
    "same-date": "the DATE-OBS of the frame before it of the same tag",
    "no-gain": "no ESO DET OUTn GAIN",
    "missing-ifu": "without the extension of its last IFU",
    "dead-ifu": "the chip of an IFU is dead in all frames",
}
"""Name of a fault -> what it does."""
STATIC_TAGS = (
    "LINE_CATALOG", "GEOMETRY_TABLE", "ASTROMETRY_WCS", "EXTINCT_TABLE", "STD_FLUX_TABLE",
    "SKY_LINES", "RAMAN_LINES", "FILTER_LIST", "TELLURIC_REGIONS", "BADPIX_TABLE",
)  # fmt: skip
"""Tags of the static tables."""
_PAGE = b"""<!DOCTYPE html>
<html><head><title>ESO - Login</title></head>
<body><p>Your session has expired. Please log in again.</p></body></html>
"""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    kind: str
    """One of :data:`KINDS`."""
    tag: str
    """Tag of the frames (or static table) that it happens to; the number of the IFU for
    ``dead-ifu``."""
    number: int = 0
    """Which frame of that tag, from 1 in order of time; 0 is all for ``missing``, else the last."""


def parse_fault(text: str) -> Fault:
    """Read a fault: ``KIND:TAG`` or ``KIND:TAG:NUMBER``, or ``dead-ifu:IFU``.

    >>> parse_fault("truncated:BIAS:2")
    Fault(kind='truncated', tag='BIAS', number=2)

    Raises
    ------
    InputError
        If it is none.
    """
    kind, _, rest = text.partition(":")
    tag, _, number = rest.partition(":")
    if kind not in KINDS or not tag or (number and not number.isdecimal()):
        raise InputError(
            f"fault {text!r}: write KIND:TAG or KIND:TAG:NUMBER, like truncated:BIAS:2; "
            f"kinds are {', '.join(KINDS)}"
        )
    if kind == "dead-ifu" and not (tag.isdecimal() and 1 <= int(tag) <= 24 and not number):
        raise InputError(f"fault {text!r}: write dead-ifu:IFU with an IFU of 1 to 24")
    return Fault(kind, tag, int(number or 0))


def apply_to_plan(frames: Sequence[RawFrame], faults: Sequence[Fault]) -> list[RawFrame]:
    """Drop and change frames before they are made; a fault of the file is only noted.

    Raises
    ------
    MissingError
        If there is no such frame.
    """
    result = list(frames)
    for fault in faults:
        if fault.kind == "dead-ifu":
            continue
        places = [i for i, frame in enumerate(result) if frame.tag == fault.tag]
        if fault.kind == "missing" and not fault.number and (places or fault.tag in STATIC_TAGS):
            result = [frame for frame in result if frame.tag != fault.tag]
            continue
        if len(places) < max(1, fault.number, 2 if fault.kind == "same-date" else 1):
            raise MissingError(
                f"fault {fault.kind}:{fault.tag}:{fault.number or 'last'}: there are "
                f"{len(places)} frames of this tag"
            )
        at = places[fault.number - 1]
        if fault.kind == "missing":
            del result[at]
        else:
            twin = result[places[fault.number - 2]]
            result[at] = _changed(result[at], fault.kind, twin.date_obs)
    return result


def _changed(frame: RawFrame, kind: str, other_date: str) -> RawFrame:
    changed = replace(frame, fault=kind)
    if kind == "wrong-mode":
        mode = "WFM-AO-N" if frame.mode == "WFM-NOAO-N" else "WFM-NOAO-N"
        return replace(changed, mode=mode)
    if kind == "wrong-readout":
        return replace(changed, readout=2)
    if kind == "same-date":
        return replace(changed, date_obs=other_date)
    return changed


def garbled(header: bytes) -> bytes:
    """Fill a header with garbage; its first cards stay, so that it begins as FITS does."""
    return header[:240] + bytes(range(128, 256)) * 20 + header[2800:]


def damage(file: BinaryIO, kind: str) -> None:
    """Damage an open file that is written: cut it off, empty it, or make it a web page."""
    if kind == "truncated":
        file.truncate(file.seek(0, os.SEEK_END) * 3 // 5)
    elif kind in ("html", "empty"):
        file.seek(0)
        file.truncate()
        file.write(_PAGE if kind == "html" else b"")


def static_faults(faults: Sequence[Fault]) -> set[str]:
    """Tags of static tables that are to be left out."""
    missing = {fault.tag for fault in faults if fault.kind == "missing" and not fault.number}
    return missing & set(STATIC_TAGS)


def dead_ifus(faults: Sequence[Fault], extensions: Sequence[int]) -> set[int]:
    """IFUs whose chip is dead.

    Raises
    ------
    MissingError
        If there is no such IFU among those that have an extension.
    """
    dead = {int(fault.tag) for fault in faults if fault.kind == "dead-ifu"}
    if missing := sorted(dead - set(extensions)):
        raise MissingError(f"fault dead-ifu:{missing[0]}: the IFUs are {tuple(extensions)}")
    return dead
