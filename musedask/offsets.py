"""Where each exposure really points: offsets, their signs and their units.

There is one convention. An offset is *exposure minus reference*, in arcseconds
on the sky (east and north positive, cos(dec) included), and is subtracted::

    RA_true = RA_header - ra_offset / cos(dec)      DEC_true = DEC_header - dec_offset

It is a total relative to the raw header. Every file format is turned into this
on reading (:mod:`musedask.offset_formats`), and nothing else in musedask knows
another sign or unit.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from musedask.errors import InputError, MissingError
from musedask.offset_row import (
    DECISIONS,
    FAILED,
    GRADES,
    KEY_LENGTH,
    MANUAL,
    UNITS,
    Offset,
    date_key,
)
from musedask.wording import counted

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = (
    "ARCSEC_PER_DEG",
    "DECISIONS",
    "FAILED",
    "GRADES",
    "KEY_LENGTH",
    "MANUAL",
    "UNITS",
    "ExposureKey",
    "ExposureLike",
    "Offset",
    "OffsetTable",
    "coordinate_deg",
    "date_key",
    "on_sky_arcsec",
)
ARCSEC_PER_DEG = 3600.0


def on_sky_arcsec(ra_difference_deg: float, dec_deg: float) -> float:
    """Turn a difference of RA coordinates (degrees) into arcseconds on the sky.

    Differences beyond half a turn are taken across RA 0.
    """
    if abs(ra_difference_deg) > 180.0:
        ra_difference_deg = (ra_difference_deg + 180.0) % 360.0 - 180.0
    return ra_difference_deg * ARCSEC_PER_DEG * math.cos(math.radians(dec_deg))


def coordinate_deg(ra_offset_arcsec: float, dec_deg: float) -> float:
    """Turn arcseconds on the sky into a difference of RA coordinates (degrees).

    Raises
    ------
    InputError
        At a pole, where RA has no meaning.
    """
    if not abs(dec_deg) < 90.0:
        raise InputError(f"declination {dec_deg}: an RA offset has no coordinate there")
    return ra_offset_arcsec / ARCSEC_PER_DEG / math.cos(math.radians(dec_deg))


class ExposureLike(Protocol):
    """What readers need to know of an exposure: its key, its names, its pointing."""

    @property
    def date_obs(self) -> str:
        """DATE-OBS."""

    @property
    def name(self) -> str:
        """Name, usually the stem of the file."""

    @property
    def ra_deg(self) -> float:
        """RA of the header, degrees; NaN if unknown."""

    @property
    def dec_deg(self) -> float:
        """DEC of the header, degrees; NaN if unknown."""


@dataclass(frozen=True)
class ExposureKey:
    """An exposure as the readers of offset files see it."""

    date_obs: str
    """DATE-OBS: the key."""
    name: str
    """Name, usually the stem of the file."""
    ra_deg: float = math.nan
    """RA of the header, degrees; NaN if unknown."""
    dec_deg: float = math.nan
    """DEC of the header, degrees; NaN if unknown."""
    path: str = ""
    """The file, where known; formats that go by file names compare with it."""
    primary_header: str = field(default="", repr=False)
    """Cards of its primary header, where known; pymusepipe's table copies some of them."""


@dataclass(frozen=True, repr=False)
class OffsetTable:
    """Offsets of many exposures as one value: equal tables compare and hash alike.

    Raises
    ------
    InputError
        If two rows have one DATE-OBS.
    """

    rows: tuple[Offset, ...]
    """One row per exposure; any iterable is taken."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        seen: dict[str, Offset] = {}
        for row in self.rows:
            if row.key in seen:
                raise InputError(
                    f"two rows for DATE-OBS {row.key} ({seen[row.key].name or 'no name'} and "
                    f"{row.name or 'no name'}): an exposure has one offset, remove one of them"
                )
            seen[row.key] = row

    def __iter__(self) -> Iterator[Offset]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        manual = sum(row.is_manual for row in self)
        failed = sum(row.is_failed for row in self)
        return f"OffsetTable of {counted(len(self), 'exposure')} ({manual} manual, {failed} failed)"

    def _repr_html_(self) -> str:
        return str(self.table._repr_html_())

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": self.rows}

    @cached_property
    def _by_key(self) -> dict[str, Offset]:
        return {row.key: row for row in self.rows}

    def __contains__(self, date_obs: object) -> bool:
        return isinstance(date_obs, str) and date_key(date_obs) in self._by_key

    def find(self, date_obs: str, name: str = "") -> Offset:
        """Give the row of an exposure.

        Parameters
        ----------
        date_obs
            DATE-OBS of the exposure; its first 23 characters count.
        name
            Name of the exposure, for the error.

        Raises
        ------
        MissingError
            If there is none; says which rows are near and what to do.
        """
        key = date_key(date_obs)
        if key in self._by_key:
            return self._by_key[key]
        near = difflib.get_close_matches(key, self._by_key, n=1, cutoff=0.8)
        hint = f" (the nearest is {near[0]} {self._by_key[near[0]].name})" if near else ""
        raise MissingError(
            f"no offset for {name or 'the exposure'} with DATE-OBS {key} among "
            f"{counted(len(self), 'row')}{hint}: add a row for it, leave the exposure out, or "
            "allow exposures without an offset (allow_missing) if its header is right"
        )

    def merged_with(self, other: OffsetTable) -> OffsetTable:
        """Take the rows of ``other`` over into this table.

        A row of ``other`` replaces this table's row of the same exposure,
        unless a person set or judged the latter: that stays. The order is this
        table's, then ``other``'s.
        """
        decided = OffsetTable(tuple(row for row in self if row.is_decided))
        return self.replaced_by(other).replaced_by(decided)

    def replaced_by(self, other: OffsetTable) -> OffsetTable:
        """Take the rows of ``other`` over, also where a person decided before.

        This is for a person's newer decisions; :meth:`merged_with` is for what
        was measured. The order is this table's, then ``other``'s.
        """
        kept = (other._by_key.get(row.key, row) for row in self.rows)
        return OffsetTable((*kept, *(row for row in other if row.key not in self._by_key)))

    @property
    def table(self) -> Table:
        """A copy as an astropy Table, with units and descriptions."""
        from astropy.table import Column, Table

        table = Table(meta={"sign": "exposure minus reference, on the sky, to be subtracted"})
        for column in fields(Offset):
            values = [getattr(row, column.name) for row in self.rows]
            dtype = "str" if column.type == "str" else "float64"
            table[column.name] = Column(values, dtype=dtype, unit=UNITS.get(column.name))
        return table

    @classmethod
    def from_table(cls, table: Table) -> OffsetTable:
        """Take rows from an astropy Table with this class's own columns.

        Optional columns may be missing, entries may be masked (unknown), and
        units are converted.

        Raises
        ------
        InputError
            If a column is unknown, needed and missing, or has an impossible
            unit or value.
        """
        columns = {field.name: field for field in fields(Offset)}
        for key in table.colnames:
            if key not in columns:
                near = difflib.get_close_matches(key, columns, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise InputError(f"unknown column {key!r}: {hint}known are {', '.join(columns)}")
        for key in ("date_obs", "ra_offset_arcsec", "dec_offset_arcsec"):
            if key not in table.colnames:
                raise InputError(f"column {key!r} is missing; the table has {table.colnames}")
        factors = {key: _unit_factor(key, table[key]) for key in table.colnames}
        return cls(tuple(_row_of(row, factors) for row in table))

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        exposures: Iterable[ExposureLike] | None = None,
        *,
        format: str | None = None,
    ) -> OffsetTable:
        """Read offsets from a file, whose format is told by its content.

        Parameters
        ----------
        path
            The file. For the COSMOS routine's ``offsets.txt`` a
            ``manualoffsets.txt`` beside it is read too.
        exposures
            The exposures that the offsets are for. Needed by formats that have
            no DATE-OBS (``cosmos``, ``mypython``: in this order) or no
            declination (``offset_list``, ``pymusepipe``).
        format
            ``ecsv``, ``offset_list``, ``pymusepipe``, ``cosmos`` or
            ``mypython``, if the content should not decide.

        Raises
        ------
        FileError
            If the file cannot be read.
        InputError
            If its content is not what the format says.
        """
        from musedask.offset_formats import read_offsets

        known: Sequence[ExposureLike] | None = None if exposures is None else tuple(exposures)
        return read_offsets(path, known, format)

    def write(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        exposures: Iterable[ExposureLike] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the offsets to a file, in one step: it is whole or not there.

        Parameters
        ----------
        path
            The file.
        format
            ``ecsv`` (keeps everything), ``offset_list``, ``pymusepipe``,
            ``cosmos`` or ``mypython``; by default by the name: ``.ecsv``,
            ``.fits`` (an OFFSET_LIST), ``offsets.txt`` (``cosmos``) or
            ``radecoffsets.txt`` (``mypython``).
        exposures
            Where the declination comes from if rows have none; for
            ``mypython`` also which exposures, in which order; for
            ``pymusepipe`` where MJD-OBS comes from, by which it finds rows.
        overwrite
            Whether a file that is there may be replaced.

        Raises
        ------
        FileError
            If the file is there already, or cannot be written.
        InputError
            If the format cannot hold the table (a failed row, no declination).
        """
        from musedask.offset_formats import write_offsets

        known: Sequence[ExposureLike] | None = None if exposures is None else tuple(exposures)
        write_offsets(self, path, format, known, overwrite)


def _unit_factor(key: str, column: Any) -> float:
    """What a column's values have to be multiplied by to be in our unit."""
    unit = getattr(column, "unit", None)
    if unit is None or str(unit) == UNITS.get(key, ""):
        return 1.0
    from astropy.units import Unit

    try:
        return float(Unit(unit).to(UNITS.get(key, "")))
    except (ValueError, TypeError):
        raise InputError(
            f"column {key!r} has unit {unit}, expected {UNITS.get(key, 'none')}"
        ) from None


def _row_of(row: Any, factors: dict[str, float]) -> Offset:
    """Make an Offset of a row of an astropy Table."""
    from numpy import ma

    given = {key: row[key] for key in factors if row[key] is not ma.masked}
    for key in ("ra_offset_arcsec", "dec_offset_arcsec"):
        given.setdefault(key, math.nan)
    for key, factor in factors.items():
        if factor != 1.0 and key in given:
            given[key] = given[key] * factor
    if "date_obs" not in given:
        raise InputError("a row has no date_obs: it is the key, fill it in")
    return Offset(**given)
