"""The tables of the calibration kit: which one is for which frame.

Geometry and astrometry are a pair. For the first two years the kit has dated
ones, told apart by the endings of their names; a geometry of one date with an
astrometry of another puts sources in the wrong place, so they are never mixed.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta

from musedask.reduction.frames import Frame
from musedask.reduction.planning.sequences import mode_of_name, stem_of
from musedask.reduction.rules import DATED_TABLES, Rule, field_of, table_ending

PAIR = ("GEOMETRY_TABLE", "ASTROMETRY_WCS")
"""Tags of the tables that have to be of one date."""
_ENDINGS = tuple(ending for _, ending in DATED_TABLES)
_MJD_EPOCH = date(1858, 11, 17)


class StaticTables:
    """Tables by tag, and what each is for."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._by_tag: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            if frame.kind == "static" and frame.tag:
                self._by_tag[frame.tag].append(_with_optics(frame))

    def of_tag(self, tag: str) -> tuple[Frame, ...]:
        """All tables of a tag."""
        return tuple(self._by_tag.get(tag, ()))

    def named(self, rule: Rule, user: Frame, names: Iterable[str]) -> tuple[Frame, ...]:
        """Tables with one of these names that fit, whatever their date; the nearest first."""
        stems = {stem_of(name) for name in names}
        return tuple(
            sorted(
                (
                    table
                    for table in (self.of_tag(rule.tag) if stems else ())
                    if stem_of(table.name) in stems and replace(rule, days=None).fits(user, table)
                ),
                key=lambda table: _nearness(table, user),
            )
        )

    def find(self, rule: Rule, user: Frame, epoch: str | None = None) -> tuple[Frame | None, str]:
        """Find the table for a frame.

        Parameters
        ----------
        rule
            What has to fit; its tag is looked for.
        user
            The frame that is to be served.
        epoch
            For geometry and astrometry: the epoch (:func:`epoch_of`) that it has to be of.

        Returns
        -------
        table
            None if there is none.
        reason
            Why this one, or why none.
        """
        paired = rule.tag in PAIR
        wanted = epoch_of_night(user) if epoch is None else epoch
        fitting = [
            table
            for table in self.of_tag(rule.tag)
            if replace(rule, days=None).fits(user, table)
            and (not paired or epoch_of(table) == wanted)
        ]
        if not fitting:
            return None, self._why_none(rule, user, wanted if paired else None)
        best = min(fitting, key=lambda table: _nearness(table, user))
        others = len({table.identity for table in fitting}) - 1
        reason = f"the only one{epoch_words(wanted) if paired and wanted else ''}"
        if others:
            dated = math.isfinite(_table_mjd(best))
            reason = f"{'nearest in time' if dated else 'first by name'} of {others + 1}"
        return best, reason

    def _why_none(self, rule: Rule, user: Frame, epoch: str | None) -> str:
        """Say why no table fits."""
        there = ", ".join(sorted(table.name for table in self.of_tag(rule.tag)))
        optics = user.optics or field_of(user.mode)
        field = f" for the field {optics}" if rule.same_optics and optics else ""
        dates = "" if epoch is None else epoch_words(epoch)
        found = f"; there are {there}" if there else ""
        return f"no {rule.tag}{field}{dates} among the static tables{found}"


def epoch_of(table: Frame) -> str:
    """Give the ending that a geometry or astrometry table's date stands for; "" is the current.

    The name of a file of the kit says it; another file's own date does.
    """
    stem = _stem(table.name)
    for ending in _ENDINGS:
        if stem.endswith(ending):
            return ending
    if re.search(r"(geometry_table|astrometry_wcs)_[wn]fm", stem):
        return ""
    return epoch_of_night(table)


def epoch_of_night(frame: Frame) -> str:
    """Give the ending for the night of a frame (:data:`DATED_TABLES`); "" is the current."""
    return table_ending(frame.night or frame.date_obs[:10])


def epoch_words(epoch: str) -> str:
    """Say which nights an epoch is for."""
    ends = [last for last, _ in DATED_TABLES]
    if not epoch:
        return f" for nights after {ends[-1]}"
    return f" for nights up to {ends[_ENDINGS.index(epoch)]} (its name ends in {epoch})"


def _with_optics(table: Frame) -> Frame:
    """Fill in what the name of a file of the kit says of its field."""
    if table.optics or table.mode:
        return table
    if mode := mode_of_name(table.name):
        return replace(table, mode=mode, optics=field_of(mode))
    found = re.search(r"(?<![a-z])(wfm|nfm)(?![a-z])", table.name.lower())
    return replace(table, optics=found.group(0).upper()) if found else table


def _nearness(table: Frame, user: Frame) -> tuple[float, str, str]:
    away = abs(_table_mjd(table) - user.mjd)
    return (math.inf if away != away else away), table.name, table.identity


def _table_mjd(table: Frame) -> float:
    """The date in a table's name (``badpix_table_2015-06-02.fits``), or else its MJD-OBS."""
    found = re.search(r"_(\d{4}-\d\d-\d\d)$", _stem(table.name))
    if found:
        try:
            return (date.fromisoformat(found.group(1)) - _MJD_EPOCH) / timedelta(days=1)
        except ValueError:
            return table.mjd
    return table.mjd


def _stem(name: str) -> str:
    return name.lower().partition(".fits")[0]
