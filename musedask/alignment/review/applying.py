"""Decisions brought into an offset table: by the page's server, and by ``align --apply``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from musedask.alignment.material import Compared, MaskedCircle, Material
from musedask.alignment.measurement import Measurement
from musedask.alignment.review.decisions import Decision, row_version
from musedask.errors import InputError, MissingError
from musedask.offsets import FAILED, MANUAL, Offset, OffsetTable
from musedask.wording import counted

Measure = Callable[[str, tuple[MaskedCircle, ...] | None], Measurement]
"""DATE-OBS and masks -> what is measured with them; None is what was measured at first."""
_NAMED = 5


class OutdatedError(InputError):
    """A decision was based on a row that has changed since."""


def apply_decisions(
    table: OffsetTable,
    decisions: Iterable[Decision],
    material: Material | None = None,
    who: str = "",
    *,
    measure: Measure | None = None,
) -> OffsetTable:
    """Bring decisions into a table: all of them or, with an error, none.

    ==========  ==================================================================
    action      row
    ==========  ==================================================================
    accepted    as it is, or measured again if something was masked; decision and
                who and when
    moved       the person's offset; method ``manual``, no grade, and nothing of what the
                automatic offset rested on (errors, sources, reasons); its rotation and
                flux scale stay, and what is of the exposure alone (FWHM, blue - red)
    flagged     grade F without an offset and what it rested on; the reason is its note
    masked      measured again without the masked parts; not decided yet
    reset       what was measured at first; not decided any more
    ==========  ==================================================================

    Parameters
    ----------
    table
        The offsets that the decisions were made on.
    decisions
        At most one for each exposure.
    material
        What was compared; only needed by resets and by masks.
    who
        Name that is noted where a decision names nobody.
    measure
        How masked exposures are measured again; by ``measure_again`` if not given.

    Raises
    ------
    OutdatedError
        If a row is not any more what a decision was based on; it names them all.
    MissingError
        If a decision is on an exposure that the table, or the material, has not.
    InputError
        If an offset without numbers is accepted.
    """
    given = tuple(decisions)
    rows = {decision.key: table.find(decision.date_obs) for decision in given}
    outdated = [one.key for one in given if row_version(rows[one.key]) != one.based_on]
    if outdated:
        names = ", ".join(outdated[:_NAMED]) + (", ..." if len(outdated) > _NAMED else "")
        raise OutdatedError(
            f"{counted(len(outdated), 'row')} of the offset table changed since the decision was "
            f"made ({names}): look at the new offsets and decide again; nothing was applied"
        )
    measure = measure or measuring(material)
    changed = {one.key: decided_row(rows[one.key], one, measure, who) for one in given}
    return OffsetTable(tuple(changed.get(row.key, row) for row in table))


def measuring(material: Material | None) -> Measure:
    """Measure what a folder holds."""

    def measure(date_obs: str, masked: tuple[MaskedCircle, ...] | None) -> Measurement:
        if material is None:
            raise MissingError(
                f"{date_obs}: what was compared is not there, so that nothing can be reset or "
                "masked; measure again with 'musedask align'"
            )
        entry = material.find(date_obs)
        if masked is None or set(masked) == set(entry.masked):
            return entry.measurement
        return measured_again(entry.read(), masked).measurement

    return measure


def measured_again(compared: Compared, masked: tuple[MaskedCircle, ...]) -> Compared:
    """Measure with other masks."""
    from musedask.alignment.measuring import measure_again

    again: Compared = measure_again(compared, masked)
    return again


def decided_row(row: Offset, decision: Decision, measure: Measure, who: str) -> Offset:
    """The row of one exposure after a decision; versions are not looked at."""
    by: dict[str, Any] = {
        "decision": decision.action,
        "decided_by": decision.decided_by or who,
        "decided_at": decision.decided_at or now_utc(),
    }
    if decision.action in ("masked", "reset"):
        masked = decision.masked if decision.action == "masked" else None
        return _measured(row, measure(row.date_obs, masked), masked or ())
    if decision.action == "flagged":
        return replace(row, **_NO_NUMBERS, **by, grade=FAILED, note=decision.reason)
    if decision.action == "moved":
        return _moved(row, decision, by)
    if decision.masked:
        row = _measured(row, measure(row.date_obs, decision.masked), decision.masked)
    if row.is_failed or not row.is_finite:
        raise InputError(
            f"{row.date_obs} {row.name}: there is no good offset to accept (grade "
            f"{row.grade or 'none'}); move the exposure by hand, or flag it"
        )
    return replace(row, **by, note=decision.reason or row.note)


def now_utc() -> str:
    """The present second, as tables have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


_OF_ANOTHER_OFFSET: dict[str, Any] = {
    "ra_error_arcsec": math.nan,
    "dec_error_arcsec": math.nan,
    "n_sources": math.nan,
    "signal_to_noise": math.nan,
    "correlation_after": math.nan,
    "reasons": "",
}
"""What described the offset that a person has replaced or refused."""
_NO_NUMBERS: dict[str, Any] = _OF_ANOTHER_OFFSET | dict.fromkeys(
    ("ra_offset_arcsec", "dec_offset_arcsec", "rotation_deg"), math.nan
)


def _moved(row: Offset, decision: Decision, by: dict[str, Any]) -> Offset:
    return replace(
        row,
        **_OF_ANOTHER_OFFSET | {"correlation_after": decision.correlation},
        **by,
        ra_offset_arcsec=decision.ra_offset_arcsec,
        dec_offset_arcsec=decision.dec_offset_arcsec,
        grade="",
        method=MANUAL,
        note=decision.reason or "moved by hand",
    )


def _measured(row: Offset, measurement: Measurement, masked: tuple[MaskedCircle, ...]) -> Offset:
    new = measurement.offset
    note = new.note
    if masked:
        note = "; ".join(filter(None, [note, f"{counted(len(masked), 'circle')} masked by hand"]))
    return replace(new, name=row.name or new.name, note=note)
