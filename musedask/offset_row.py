"""One row of an offset table: where an exposure points, how well that is known, and who said so.

Signs and units are those of :mod:`musedask.offsets`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from musedask.errors import InputError

KEY_LENGTH = 23
"""Characters of DATE-OBS that identify an exposure: down to the millisecond."""
GRADES = ("", "A", "B", "C", "F")
FAILED = "F"
MANUAL = "manual"
DECISIONS = ("", "accepted", "moved", "flagged")
"""What a person may have said of an offset; empty if nobody looked at it."""
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
_NAN = math.nan
_ROUNDING = 1e-6
"""A correlation of single-precision images may lie beyond 1 by this."""


def date_key(date_obs: str) -> str:
    """Give the part of a DATE-OBS that exposures are matched by."""
    return str(date_obs).strip()[:KEY_LENGTH]


@dataclass(frozen=True, kw_only=True, eq=False)
class Offset:
    """One row of an offset table; NaN is unknown. Equal rows compare equal, NaN included.

    Raises
    ------
    InputError
        If a value cannot be: an offset that is not finite without grade F, a
        flux scale that is not positive, a DATE-OBS that is none...
    """

    date_obs: str
    """DATE-OBS, the key: rows are matched on its first 23 characters."""
    name: str = ""
    """Name of the exposure, for people."""
    ra_deg: float = math.nan
    """RA of the header's pointing, degrees."""
    dec_deg: float = math.nan
    """DEC of the header's pointing, degrees: where cos(dec) is taken."""
    ra_offset_arcsec: float
    """Exposure minus reference, on the sky, positive to the east."""
    dec_offset_arcsec: float
    """Exposure minus reference, positive to the north."""
    ra_error_arcsec: float = math.nan
    """One-sigma error of ``ra_offset_arcsec``."""
    dec_error_arcsec: float = math.nan
    """One-sigma error of ``dec_offset_arcsec``."""
    rotation_deg: float = math.nan
    """Position angle (north through east) by which the exposure is turned too far."""
    flux_scale: float = math.nan
    """Factor that flux is multiplied by, and variance by its square; NaN is none."""
    flux_scale_error: float = math.nan
    """One-sigma error of ``flux_scale``."""
    background: float = math.nan
    """What its maker found missing from the flux, before scaling; kept, never applied."""
    grade: str = ""
    """``A``, ``B``, ``C``, or ``F`` (failed: not to be used); empty if nobody judged, as where
    a person gave the offset."""
    method: str = ""
    """How it was found: ``header``, ``manual``, ``auto``..."""
    note: str = ""
    """Free text on one line."""
    n_sources: float = _NAN
    """Number of sources that the offset rests on."""
    signal_to_noise: float = _NAN
    """Of everything that was compared, in quadrature."""
    correlation_before: float = _NAN
    """Correlation of exposure and reference where the header puts the exposure."""
    correlation_after: float = _NAN
    """The same with the offset subtracted."""
    fwhm_arcsec: float = _NAN
    """FWHM of a point source in the exposure."""
    blue_red_arcsec: float = _NAN
    """Distance on the sky between the offsets of a blue and a red image of the exposure."""
    reasons: str = ""
    """Why the grade is not better, as it was measured; empty where a person set it."""
    frame: str = ""
    """What the offset stands on: the name of a reference or catalogue, the mean of the headers."""
    band: str = ""
    """Filter through which the exposure was compared: ``white``, ``6925-9175``..."""
    decision: str = ""
    """``accepted``, ``moved`` or ``flagged`` by a person; empty if nobody has decided."""
    decided_by: str = ""
    """Who."""
    decided_at: str = ""
    """When: UTC, as ``2026-01-31T12:00:00``."""

    def __post_init__(self) -> None:
        for column in fields(self):
            clean = self._text if column.type == "str" else self._number
            object.__setattr__(self, column.name, clean(column.name, getattr(self, column.name)))
        if not _DATE.fullmatch(self.date_obs):
            raise InputError(
                f"date_obs {self.date_obs!r} is no DATE-OBS: write it like 2014-12-08T03:12:45.123"
            )
        self._check_values()

    def _text(self, key: str, value: Any) -> str | float:
        text = str(value).strip()
        if not text.isprintable():
            raise InputError(f"{key} {text!r}: text has to be one line of printable characters")
        return text

    def _number(self, key: str, value: Any) -> str | float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise InputError(f"{self.date_obs}: {key} {value!r} is not a number") from None
        return _NAN if math.isnan(number) else number

    def _check_values(self) -> None:
        what = f"{self.date_obs} {self.name}".strip()
        for check in (_check_offset, _check_applied, _check_measured, _check_decision):
            check(self, what)

    @property
    def key(self) -> str:
        """What the row is found by."""
        return date_key(self.date_obs)

    @property
    def is_failed(self) -> bool:
        """Whether the row says that no good offset was found."""
        return self.grade == FAILED

    @property
    def is_manual(self) -> bool:
        """Whether a person made the row."""
        return self.method == MANUAL

    @property
    def why(self) -> str:
        """Why its grade is what it is, or else the note."""
        return self.reasons or self.note

    @property
    def is_decided(self) -> bool:
        """Whether a person made the row or has judged it: nothing automatic replaces it."""
        return self.is_manual or bool(self.decision)

    @property
    def is_finite(self) -> bool:
        """Whether there is an offset to apply."""
        return math.isfinite(self.ra_offset_arcsec) and math.isfinite(self.dec_offset_arcsec)

    @property
    def applied_scale(self) -> float:
        """The factor on flux: 1 where ``flux_scale`` is NaN."""
        return 1.0 if math.isnan(self.flux_scale) else self.flux_scale

    @property
    def applied_rotation_deg(self) -> float:
        """The rotation: 0 where ``rotation_deg`` is NaN."""
        return 0.0 if math.isnan(self.rotation_deg) else self.rotation_deg

    def _identity(self) -> tuple[Any, ...]:
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(None if value != value else value for value in values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Offset):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


def _check_offset(row: Offset, what: str) -> None:
    """Raise an InputError if the offset, or where it holds, cannot be."""
    if row.grade not in GRADES:
        raise InputError(f"{what}: grade {row.grade!r}, expected A, B, C, F or nothing")
    for key in ("ra_offset_arcsec", "dec_offset_arcsec"):
        if not math.isfinite(getattr(row, key)) and not row.is_failed:
            raise InputError(
                f"{what}: {key} is {getattr(row, key)}; give a number, or grade F "
                "if the offset is not known"
            )
    for key in ("ra_error_arcsec", "dec_error_arcsec", "flux_scale_error"):
        if getattr(row, key) < 0 or math.isinf(getattr(row, key)):
            raise InputError(f"{what}: {key} is {getattr(row, key)}, an error is >= 0, or NaN")
    if abs(row.dec_deg) > 90.0 or math.isinf(row.ra_deg):
        raise InputError(f"{what}: ({row.ra_deg}, {row.dec_deg}) is not on the sky")


def _check_applied(row: Offset, what: str) -> None:
    """Raise an InputError if the flux scale, background or rotation cannot be."""
    if row.flux_scale <= 0 or math.isinf(row.flux_scale):
        raise InputError(
            f"{what}: flux_scale is {row.flux_scale}; it has to be positive, NaN means none"
        )
    if math.isinf(row.rotation_deg) or math.isinf(row.background):
        raise InputError(f"{what}: rotation_deg or background is infinite; use NaN for unknown")


def _check_measured(row: Offset, what: str) -> None:
    """Raise an InputError if what the offset is said to rest on cannot be."""
    for key in ("n_sources", "signal_to_noise", "fwhm_arcsec", "blue_red_arcsec"):
        if getattr(row, key) < 0 or math.isinf(getattr(row, key)):
            raise InputError(f"{what}: {key} is {getattr(row, key)}, expected >= 0, or NaN")
    for key in ("correlation_before", "correlation_after"):
        if abs(getattr(row, key)) > 1.0 + _ROUNDING:
            raise InputError(f"{what}: {key} is {getattr(row, key)}, expected -1 to 1, or NaN")


def _check_decision(row: Offset, what: str) -> None:
    """Raise an InputError if a decision contradicts the rest of the row."""
    if row.decision not in DECISIONS:
        raise InputError(
            f"{what}: decision {row.decision!r}, expected accepted, moved, flagged or nothing"
        )
    if row.decided_at and not _is_utc(row.decided_at):
        raise InputError(
            f"{what}: decided_at {row.decided_at!r}, expected UTC like 2026-01-31T12:00:00"
        )
    if row.decision == "flagged" and not row.is_failed:
        raise InputError(f"{what}: flagged with grade {row.grade!r}; a flagged row has grade F")
    if row.decision == "moved" and not row.is_manual:
        raise InputError(
            f"{what}: moved with method {row.method!r}; an offset that a person set has "
            f"method {MANUAL}"
        )
    if row.decision in ("accepted", "moved") and not row.is_finite:
        raise InputError(
            f"{what}: {row.decision}, but its offset is ({row.ra_offset_arcsec}, "
            f"{row.dec_offset_arcsec}): there is nothing to use"
        )


def _is_utc(text: str) -> bool:
    """Whether a text is a date and time in ISO form that is not said to be local."""
    try:
        zone = datetime.fromisoformat(text).utcoffset()
    except ValueError:
        return False
    return "T" in text and zone in (None, timedelta(0))


UNITS = {
    field.name: "deg" if field.name.endswith("_deg") else "arcsec"
    for field in fields(Offset)
    if field.name.endswith(("_deg", "_arcsec"))
}
"""Unit of each column that has one."""
