"""FITS files as small as can be with the headers of raw frames, written byte by byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BLOCK, CARD = 2880, 80

PRIMARY: dict[str, Any] = {
    "INSTRUME": "MUSE",
    "DATE-OBS": "2016-01-02T03:04:05.678",
    "MJD-OBS": 57389.12784350,
    "EXPTIME": 900.0,
    "OBJECT": "OBJECT",
    "RA": 150.1,
    "DEC": 2.2,
    "ESO DPR CATG": "SCIENCE",
    "ESO DPR TYPE": "OBJECT",
    "ESO DPR TECH": "IFU",
    "ESO TPL START": "2016-01-02T03:00:00",
    "ESO TPL ID": "MUSE_wfm-noao_obs_genericoffset",
    "ESO TPL NEXP": 2,
    "ESO OBS TARG NAME": "COSMOS-01",
    "ESO OBS ID": 200123456,
    "ESO INS MODE": "WFM-NOAO-N",
    "ESO INS OPTI2 NAME": "WFM",
    "ESO INS TEMP7 VAL": 11.25,
    "ESO DET READ CURNAME": "SCI1.0",
}


def card(key: str, value: Any) -> str:
    name = f"HIERARCH {key} = " if " " in key else f"{key:8}= "
    if isinstance(value, str):
        text = "'" + value.replace("'", "''").ljust(8) + "'"
    else:
        text = ("T" if value else "F") if isinstance(value, bool) else repr(value)
    return (name + text).ljust(CARD)


def header(cards: Mapping[str, Any]) -> bytes:
    """A header unit; a card whose value is None is left out."""
    text = "".join(card(k, v) for k, v in cards.items() if v is not None) + "END".ljust(CARD)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")


def primary(cards: Mapping[str, Any] | None = None) -> bytes:
    base = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True}
    return header(base | PRIMARY | dict(cards or {}))


def channel(ifu: int, *, live: bool | None = True, pixels: int = 4) -> bytes:
    """An extension of one IFU; a dead one has no pixels."""
    axes = {"NAXIS": 1, "NAXIS1": pixels} if pixels else {"NAXIS": 0}
    cards = {"XTENSION": "IMAGE", "BITPIX": 16, **axes, "PCOUNT": 0, "GCOUNT": 1}
    named = {"EXTNAME": f"CHAN{ifu:02d}", "ESO DET CHIP LIVE": live}
    return header(cards | named) + bytes(-(-2 * pixels // BLOCK) * BLOCK)


def content(cards: Mapping[str, Any] | None = None, ifus: Iterable[int] = (1, 2)) -> bytes:
    return primary(cards) + b"".join(channel(ifu) for ifu in ifus)


def write(path: Path, cards: Mapping[str, Any] | None = None, ifus: Iterable[int] = (1, 2)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(cards, ifus))
    return path
