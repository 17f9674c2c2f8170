"""Which cards of an exposure's header hold for a stack too, and what a product says of itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.time import Time

from musedask.cube import sky_of
from musedask.quiet import quiet

STACK_CATG = "MUSEDASK_MEGACUBE"
"""ESO PRO CATG of an exported stack."""
CUBE_CATG = "MUSEDASK_CUBE"
"""ESO PRO CATG of any other exported cube."""

_KEYWORD_CHARS = 8
_CARD_CHARS = 80

# Structure of a file; the sky and the time of one exposure; sums over its bytes; lists of
# exposures; what a recipe measured in it or did to it alone; its raw and calibration files.
_DROPPED = re.compile(
    r"^(?:SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BUNIT|BLANK|END"
    r"|EXTNAME|EXTVER|EXTLEVEL|INHERIT|HDU\w*|ERRDATA|SCIDATA|QUALDATA|DATAM(?:IN|AX)"
    r"|WCSAXES|WCSNAME|C(?:TYPE|UNIT|RVAL|RPIX|DELT|ROTA)\d|(?:CD|PC)\d_\d|PV\d_\d+|LONPOLE|LATPOLE"
    r"|RADECSYS|RA|DEC|EXPTIME|TEXPTIME|DATE|DATE-\w+|MJD-\w+|UTC|LST|TIMESYS"
    r"|CHECKSUM|DATASUM|DATAMD5|PIPEFILE|ARCFILE|ORIGFILE|FSF\w*|NFILES|(?:FILE|OFF|TYPE|ID)\d+"
    r"|COMMENT|HISTORY|CONTINUE|AUTHOR|CREATOR|PROV\d+|NCOMBINE|PRODCATG"
    r"|ESO QC .*|ESO DRS MUSE (?:OFFSET|FLUX SCALE|PIXTABLE|ILLUM|FLUX FFCORR|FILTER).*"
    r"|ESO PRO (?!REC\d+ (?:ID|DRS ID|PIPE ID|PARAM\d+ \w+)$).*"
    r"|ESO (?:TEL|INS|ADA|AOS|OCS) .*(?:START|END|TIME|DATE)$"
    r"|ESO (?:OCS SGS|SEQ OFFSET|TEL TARG OFFSET) .*"
    r"|ESO (?:TPL EXPNO|TPL START|DET EXP .*|DET FRAM .*|OBS START))$"
)


def shared_header(headers: Sequence[str]) -> str:
    """Cards of the first header that hold for all, without those of one exposure alone.

    Parameters
    ----------
    headers
        Text of each exposure's PRIMARY header, its cards separated by
        newlines, in the order of DATE-OBS.

    Returns
    -------
    str
        Cards that have one value in all of them, in the first one's order.
        Not among them: structure, WCS, position and time of an exposure, its
        checksums, QC, offsets and pixel tables, lists of files, comments.
    """
    if not headers:
        return ""
    first = dict(_cards(headers[0]))
    kept = {key: card for key, card in first.items() if not _DROPPED.match(key)}
    for text in headers[1:]:
        other = dict(_cards(text))
        kept = {
            key: card for key, card in kept.items() if key in other and _agree(card, other[key])
        }
    return "\n".join(kept.values())


def _cards(text: str) -> Iterator[tuple[str, str]]:
    """Keyword and text of each card; the lines of a long string stay together."""
    key, lines = "", list[str]()
    for line in text.split("\n"):
        if line.startswith("CONTINUE"):
            lines.append(line.ljust(_CARD_CHARS))
            continue
        if key:
            yield key, "\n".join(lines)
        key, lines = _keyword(line), [line.ljust(_CARD_CHARS)]
    if key:
        yield key, "\n".join(lines)


def _keyword(line: str) -> str:
    if line.startswith("HIERARCH "):
        return line[len("HIERARCH ") :].partition("=")[0].strip()
    return line[:_KEYWORD_CHARS].strip()


def _agree(one: str, other: str) -> bool:
    """Whether two cards of one keyword have one value; most are equal to the letter."""
    if one == other:
        return True
    values = [_value(card) for card in (one, other)]
    return values[0] is not None and values[0] == values[1]


def _value(card: str) -> Any:
    """Value of a card; None if it cannot be understood."""
    with quiet(VerifyWarning, UserWarning):
        try:
            return fits.Card.fromstring(card.replace("\n", "")).value
        except (VerifyError, ValueError):
            return None


def carry_over(header: fits.Header, text: str) -> None:
    """Add the cards of a text that a product may carry, made anew so that they are legal."""
    for key, card in _cards(shared_header([text])):
        value = _value(card)
        # Keywords may hold capitals, digits, - and _ only; the blanks are HIERARCH's.
        if value is None or isinstance(value, fits.card.Undefined) or key in header:
            continue
        if re.fullmatch(r"[A-Z0-9_-]{1,8}|(?:[A-Z0-9_-]+ )+[A-Z0-9_-]+", key):
            with quiet(VerifyWarning, UserWarning):
                comment = fits.Card.fromstring(card.replace("\n", "")).comment
            put(header, key, value, comment)


def put(header: fits.Header, key: str, value: Any, comment: str = "") -> None:
    """Set a card that is legal FITS whatever it is given; its comment goes if there is no room."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        value = ascii_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return  # FITS has no number for it
    name = key if len(key) <= _KEYWORD_CHARS and " " not in key else f"HIERARCH {key}"
    if isinstance(value, str) and name.startswith("HIERARCH"):
        # A long string needs room for a piece of it beside the keyword.
        value = value if len(name) < 60 else value[: _CARD_CHARS - len(name) - 5]
    header[name] = value
    if comment:
        comment = ascii_text(comment)
        taken = len(str(fits.Card(name, value)).rstrip())
        if taken + 3 + len(comment) <= _CARD_CHARS:
            header.comments[name.removeprefix("HIERARCH ")] = comment


def ascii_text(text: str) -> str:
    """Text in the characters that FITS has, others as question marks."""
    plain = text.encode("ascii", "replace").decode()
    return "".join(c if " " <= c <= "~" else " " for c in plain)


def describe_product(header: fits.Header, cube: xr.Dataset, exptime: float | None) -> None:
    """Write what a product says of itself, its place, time and exposures into its PRIMARY.

    Parameters
    ----------
    header
        Is added to.
    cube
        What is exported.
    exptime
        Typical time on a spaxel, seconds.
    """
    stacked = "exposure" in cube.dims
    put(header, "ORIGIN", "musedask", "software that made this file")
    put(header, "CREATOR", f"musedask {_version()}")
    sky = sky_of(cube)
    ra, dec = sky.to_sky((cube.sizes["x"] - 1) / 2, (cube.sizes["y"] - 1) / 2)
    put(header, "RA", float(ra), "[deg] centre of the grid")
    put(header, "DEC", float(dec), "[deg] centre of the grid")
    times = _exposure_times(cube)
    own = float(cube["exptime"].values) if "exptime" in cube.coords else math.nan
    typical = own if exptime is None else exptime
    put(header, "EXPTIME", float(typical), "[s] median over the covered spaxels")
    total = float(np.nansum(times)) if times.size else own
    put(header, "TEXPTIME", total, "[s] sum over all exposures")
    _put_dates(header, cube)
    put(header, "ESO PRO CATG", STACK_CATG if stacked else CUBE_CATG, "category of this product")
    put(header, "ESO PRO TYPE", "REDUCED")
    put(header, "ESO PRO TECH", "IFU")
    put(header, "ESO PRO SCIENCE", True)
    if stacked:
        put(header, "ESO PRO DATANCOM", cube.sizes["exposure"], "number of exposures")
        _put_files(header, cube)
    for key, value in cube.attrs.items():
        if re.fullmatch(r"FSF\w{1,5}", str(key)) and isinstance(value, str | int | float):
            put(header, str(key), value)
    for key, card in (("method", "STATISTIC"), ("resampling", "RESAMPLE"), ("weights", "WEIGHTS")):
        if isinstance(cube.attrs.get(key), str):
            put(header, f"MUSEDASK {card}", cube.attrs[key])
    for line in _history(cube.attrs):
        header.add_history(ascii_text(line))


def _exposure_times(cube: xr.Dataset) -> np.ndarray[Any, np.dtype[np.float64]]:
    if "exposure_exptime" not in cube.coords:
        return np.empty(0)
    return np.asarray(cube["exposure_exptime"].values, np.float64)


def _put_dates(header: fits.Header, cube: xr.Dataset) -> None:
    """Start of the earliest exposure, as the pipeline does for its combined cubes."""
    dates: list[str] = []
    for name in ("exposure_date_obs", "date_obs"):
        if name in cube.coords:
            dates += [str(date) for date in np.atleast_1d(cube[name].values) if str(date)]
    if not dates:
        return
    first = min(dates)
    put(header, "DATE-OBS", first, "start of the first exposure")
    try:
        mjd = float(Time(first, format="isot", scale="utc").mjd)
    except ValueError:
        return
    put(header, "MJD-OBS", round(mjd, 8), "start of the first exposure")


def _put_files(header: fits.Header, cube: xr.Dataset) -> None:
    """List the exposures as the COSMOS mega-cube does: FILEi, OFFi (pixels), TYPEi (a or m)."""
    put(header, "NFILES", cube.sizes["exposure"], "number of exposures")
    pixel_arcsec = math.sqrt(sky_of(cube).pixel_area_arcsec2)
    for n, row in enumerate(exposure_rows(cube), start=1):
        put(header, f"FILE{n}", row["exposure"] or f"exposure {n}")
        ra, dec = (row.get(f"exposure_{axis}_offset") for axis in ("ra", "dec"))
        if ra is not None and dec is not None:
            # On the sky, east and north positive: exposure minus reference.
            put(
                header,
                f"OFF{n}",
                f"({ra / pixel_arcsec + 0.0:.5f}, {dec / pixel_arcsec + 0.0:.5f})",
            )
        method = str(row.get("exposure_offset_method", ""))
        put(header, f"TYPE{n}", "m" if method.startswith("m") else "a")


def exposure_rows(cube: xr.Dataset) -> Iterable[dict[str, Any]]:
    """The coordinates along ``exposure``, one mapping an exposure."""
    n = cube.sizes["exposure"]
    columns: dict[str, Any] = {"exposure": [""] * n}
    for name, coord in cube.coords.items():
        if coord.dims == ("exposure",):
            columns[str(name)] = coord.values.tolist()
    return [{name: values[i] for name, values in columns.items()} for i in range(n)]


def _history(attrs: dict[Any, Any]) -> list[str]:
    """Lines for HISTORY: what the cube says of its making, in words."""
    lines = [
        f"{key}: {attrs[key]}"
        for key in ("description", "variance_description", "clipping", "software")
        if isinstance(attrs.get(key), str)
    ]
    told = attrs.get("history", [])
    return lines + [str(line) for line in ([told] if isinstance(told, str) else told)]


def _version() -> str:
    try:
        return version("musedask")
    except PackageNotFoundError:
        return "unknown"
