"""Which calibration serves a frame: the nearest in time of those that the rules let through."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator

from musedask.reduction.frames import Frame
from musedask.reduction.planning.sequences import Sequence, stem_of, time_order
from musedask.reduction.rules import Rule

ILLUM_HOURS = 2.0
"""Among the ILLUMs of the night that are nearer than this, the temperature decides."""
ILLUM_WARM_C = 1.0
"""An ILLUM that was taken at a temperature farther from the frame's than this is noted."""
_SAME_DAYS = 1e-9
"""Differences of time that are nearer to one another than this are equal: the earlier wins."""


class Association:
    """Sequences by role, mode and read-out, in order of time; built once, asked often."""

    def __init__(self, raw: Iterable[Sequence], products: Iterable[Sequence] = ()) -> None:
        self._raw = _by_role(raw)
        self._products = _by_role(products)
        self._alike: dict[tuple[object, ...], tuple[list[float], list[Sequence]]] = {}
        self._by_file: dict[str, list[Sequence]] = defaultdict(list)
        for found in (self._raw, self._products):
            for sequence in (s for sequences in found.values() for s in sequences):
                for frame in sequence.frames:
                    self._by_file[stem_of(frame.name)].append(sequence)

    def of_role(self, role: str) -> tuple[Sequence, ...]:
        """All sequences of a role, raw ones first, in order of time."""
        raw = [s for role in _raw_roles(role) for s in self._raw.get(role, ())]
        return (*raw, *self._products.get(role, ()))

    def holding(self, role: str, names: Iterable[str], user: Frame) -> list[Sequence]:
        """Sequences of a role with any of these files, the nearest to the frame first."""
        roles = {role, *_raw_roles(role)}
        found = [s for name in names for s in self._by_file.get(stem_of(name), ())]
        fitting = {id(s): s for s in found if s.role in roles}
        return sorted(fitting.values(), key=lambda s: _distance(s, user))

    def candidates(
        self, role: str, rule: Rule, user: Frame, days: float | None = None
    ) -> Iterator[Sequence]:
        """Sequences that may serve a frame, the best first.

        Raw ones come first, then products that fit: those are for where no raw
        sequence is there.

        Parameters
        ----------
        role
            Role that is looked for.
        rule
            What has to fit.
        user
            The frame that is to be served.
        days
            Another window than the rule's own.
        """
        window = rule.days if days is None else days
        limit = math.inf if window is None else window + _SAME_DAYS
        yield from _outwards(*self._bucket(role, rule, user), user.mjd, limit)
        fitting = [p for p in self._products.get(role, ()) if self._may_stand_in(p, rule, user)]
        near = [p for p in fitting if not abs(p.first.mjd - user.mjd) > limit]
        yield from sorted(near, key=lambda p: _distance(p, user))

    def nearest_misfit(self, role: str, rule: Rule, user: Frame) -> tuple[Sequence | None, str]:
        """Give the nearest sequence that does not fit, and what is wrong with it."""
        others = sorted(self.of_role(role), key=lambda s: _distance(s, user))
        for other in others:
            if rule.same_readout and other.first.readout != user.readout:
                continue
            if rule.same_mode and other.first.mode != user.mode:
                continue
            return other, apart(other.first, user)
        for other in others[:1]:
            mode = other.first.mode if rule.same_mode else ""
            return other, ", ".join(filter(None, (mode, other.first.readout)))
        return None, ""

    def _bucket(self, role: str, rule: Rule, user: Frame) -> tuple[list[float], list[Sequence]]:
        """Raw sequences of the user's mode and read-out, as far as the rule asks for them."""
        mode = user.mode if rule.same_mode else None
        readout = user.readout if rule.same_readout else None
        key = (role, mode, readout)
        if key not in self._alike:
            found = [
                sequence
                for one in _raw_roles(role)
                for sequence in self._raw.get(one, ())
                if mode in (None, sequence.first.mode) and readout in (None, sequence.first.readout)
            ]
            found.sort(key=lambda s: time_order(s.first))
            self._alike[key] = [s.first.mjd for s in found], found
        return self._alike[key]

    def _may_stand_in(self, product: Sequence, rule: Rule, user: Frame) -> bool:
        """Whether a product fits; what it does not say of itself is taken to fit."""
        first = product.first
        return (not rule.same_mode or first.mode in ("", user.mode)) and (
            not rule.same_readout or first.readout in ("", user.readout)
        )


def best_illum(candidates: Iterable[Sequence], user: Frame) -> list[Sequence]:
    """Order ILLUMs for one exposure, the best first.

    Those of the same night within :data:`ILLUM_HOURS` come first, nearest in
    temperature; then all others, nearest in time.
    """

    def order(illum: Sequence) -> tuple[bool, float, float]:
        frame = illum.first
        away = abs(frame.mjd - user.mjd)
        warmer = abs(frame.temperature_c - user.temperature_c)
        near = (
            frame.night == user.night
            and away <= ILLUM_HOURS / 24 + _SAME_DAYS
            and math.isfinite(warmer)
        )
        return not near, round(warmer, 6) if near else 0.0, away

    return sorted(candidates, key=order)


def illum_reason(illum: Frame, user: Frame) -> str:
    """Say why an ILLUM was taken."""
    degrees = abs(illum.temperature_c - user.temperature_c)
    night = "same night" if illum.night == user.night else "another night"
    warmth = f", {degrees:.1f} degC apart" if math.isfinite(degrees) else ""
    return f"{night}, {apart(illum, user)}{warmth}"


def apart(calibration: Frame, user: Frame) -> str:
    """Say how far a calibration is from a frame in time."""
    days = calibration.mjd - user.mjd
    if not math.isfinite(days):
        return "without a date"
    side = "before" if days < 0 else "after"
    minutes = abs(days) * 1440
    if minutes < 0.5:
        return "at the same time"
    if minutes < 10:
        return f"{minutes:.0f} min {side}"
    return f"{minutes / 60:.1f} h {side}" if minutes < 2160 else f"{abs(days):.1f} d {side}"


def _by_role(sequences: Iterable[Sequence]) -> dict[str, list[Sequence]]:
    found: dict[str, list[Sequence]] = defaultdict(list)
    for sequence in sequences:
        found[sequence.role].append(sequence)
    return dict(found)


def _raw_roles(role: str) -> tuple[str, ...]:
    """Both kinds of arcs can give a line spread function."""
    return ("ARC_LSF", "ARC") if role == "LSF_PROFILE" else (role,)


def _distance(sequence: Sequence, user: Frame) -> tuple[float, str]:
    away = abs(sequence.first.mjd - user.mjd)
    return (math.inf if away != away else away), sequence.first.name


def _outwards(
    times: list[float], sequences: list[Sequence], mjd: float, limit: float
) -> Iterator[Sequence]:
    """Walk away from a time in both directions, the nearer first."""
    after = bisect_left(times, mjd)
    before = after - 1
    while before >= 0 or after < len(times):
        back = mjd - times[before] if before >= 0 else math.inf
        ahead = times[after] - mjd if after < len(times) else math.inf
        if min(back, ahead) > limit:
            return
        if back <= ahead + _SAME_DAYS:
            yield sequences[before]
            before -= 1
        else:
            yield sequences[after]
            after += 1
