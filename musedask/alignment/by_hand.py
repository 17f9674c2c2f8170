"""Offsets that a person gives as numbers, in the same table as those that were measured."""

from __future__ import annotations

import difflib
import getpass
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from musedask.alignment.review.applying import decided_row, measuring, now_utc
from musedask.alignment.review.decisions import Decision, row_version
from musedask.errors import InputError, MissingError
from musedask.offsets import FAILED, ExposureLike, Offset, OffsetTable, date_key


@dataclass(frozen=True)
class GivenOffset:
    """An offset as a person types it."""

    exposure: str
    """Name of the exposure, or its DATE-OBS."""
    ra_offset_arcsec: float
    """Exposure minus reference, on the sky, positive to the east; the total."""
    dec_offset_arcsec: float
    """The same to the north."""


def set_by_hand(
    table: OffsetTable,
    given: Iterable[GivenOffset],
    exposures: Iterable[ExposureLike] = (),
    *,
    note: str = "",
    who: str = "",
) -> OffsetTable:
    """Put offsets into a table, where they win over all that is measured, now and later.

    Such a row has method ``manual``, who and when, and no grade. Errors, sources, reasons
    and the frame of an offset that was measured before are gone; rotation and flux scale stay.

    Parameters
    ----------
    table
        The table; rows of other exposures stay as they are.
    given
        The offsets.
    exposures
        Exposures that may have no row yet.
    note
        Why.
    who
        Who; the user of this process if nobody is named.

    Raises
    ------
    MissingError
        If there is no such exposure, in the table or among ``exposures``.
    InputError
        If several go by that name, or a number cannot be an offset.
    """
    rows = [*table, *(_blank(one) for one in exposures if one.date_obs not in table)]
    changed = {}
    for one in given:
        row = _found(one.exposure, rows)
        if row.key in changed:
            raise InputError(f"{one.exposure}: two offsets for one exposure; give one of them")
        decision = Decision(
            date_obs=row.date_obs, action="moved", based_on=row_version(row),
            ra_offset_arcsec=one.ra_offset_arcsec, dec_offset_arcsec=one.dec_offset_arcsec,
            reason=note, decided_by=who or user_name(), decided_at=now_utc(),
        )  # fmt: skip
        # Nobody has compared these numbers with what the measured ones stood on.
        new = decided_row(row, decision, measuring(None), "")
        changed[row.key] = replace(new, frame="", band="")
    return table.replaced_by(OffsetTable(tuple(changed.values())))


def user_name() -> str:
    """Who runs this process, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def _found(which: str, rows: Iterable[Offset]) -> Offset:
    """The one row of this name or DATE-OBS."""
    known = list(rows)
    names = {which, which.removesuffix(".fits")}
    found = [row for row in known if row.name in names or row.key == date_key(which)]
    if len(found) > 1:
        dates = ", ".join(row.key for row in found)
        raise InputError(f"{which}: {len(found)} exposures go by this name; say which: {dates}")
    if not found:
        labels = [label for row in known for label in (row.name, row.key) if label]
        near = difflib.get_close_matches(which, labels, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise MissingError(
            f"{which}: there is no such exposure in the table; {hint}give its DATE-OBS or its "
            "name as the table has it, or its file to add a row"
        )
    return found[0]


def _blank(exposure: ExposureLike) -> Offset:
    """A row without numbers."""
    return Offset(
        date_obs=exposure.date_obs,
        name=exposure.name,
        ra_deg=exposure.ra_deg,
        dec_deg=exposure.dec_deg,
        ra_offset_arcsec=math.nan,
        dec_offset_arcsec=math.nan,
        grade=FAILED,
    )
