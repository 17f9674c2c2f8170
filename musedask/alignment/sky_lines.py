"""Wavelengths that can be left out of an image: lines of the night sky, and the laser's gap."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from musedask.errors import InputError
from musedask.masks import AO_NOTCH

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Exclusion = str | tuple[float, float]

LINES_ANGSTROM = (5577.34, 5889.95, 5895.92, 6300.30, 6363.78)
"""Strong single lines of the night sky in air, [OI] and NaI D (Osterbrock et al. 1996,
PASP 108, 277)."""
LINE_HALF_WIDTH_ANGSTROM = 5.0
"""Four channels to each side: twice the FWHM of MUSE's line spread."""
OH_BANDS_ANGSTROM = (
    (7235.0, 7445.0),  # 8-3
    (7705.0, 8070.0),  # 9-4 and 5-1
    (8270.0, 8555.0),  # 6-2
    (8615.0, 8680.0),  # O2 0-1
    (8750.0, 9060.0),  # 7-3
    (9295.0, 9450.0),  # 8-4
)
"""Beyond 7000 Angstrom: the bands of OH and O2 whose lines raise the variance of a real MUSE
exposure (the one in mpdaf's wheel) to three times that between them, and more."""

_NAMED: dict[str, tuple[tuple[float, float], ...]] = {
    "lines": tuple(
        (line - LINE_HALF_WIDTH_ANGSTROM, line + LINE_HALF_WIDTH_ANGSTROM)
        for line in LINES_ANGSTROM
    ),
    "oh": OH_BANDS_ANGSTROM,
}


def excluded_channels(
    exclude: Iterable[Exclusion] | str, wavelengths: Any, mode: str = ""
) -> Bools:
    """Tell the channels that are left out, bool (wavelength,).

    Parameters
    ----------
    exclude
        ``lines``, the strong single lines of the sky; ``oh``, the bands beyond
        7000 Angstrom; and ranges (first, last) in Angstrom.
    wavelengths
        Centres of the channels, float64 (wavelength,), Angstrom.
    mode
        INS MODE: the gap of an adaptive optics mode's laser is always left out.

    Raises
    ------
    InputError
        If something is neither a known name nor a range.
    """
    waves = np.asarray(wavelengths, np.float64)
    ranges: list[tuple[float, float]] = []
    for part in [exclude] if isinstance(exclude, str) else exclude:
        ranges += _NAMED.get(part, ()) if isinstance(part, str) else [_checked(part)]
        if isinstance(part, str) and part not in _NAMED:
            raise InputError(
                f"exclude = {part!r}: expected {' or '.join(_NAMED)}, or (first, last) in Angstrom"
            )
    notch = AO_NOTCH.get(mode.strip().upper())
    if notch is not None:
        ranges.append(notch)
    excluded = np.zeros(waves.shape, bool)
    for first, last in ranges:
        excluded |= (waves >= first) & (waves <= last)
    return excluded


def _checked(pair: tuple[float, float]) -> tuple[float, float]:
    """A range with its ends in order."""
    try:
        first, last = (float(value) for value in pair)
    except (TypeError, ValueError):
        first = last = math.nan
    if not first <= last:
        raise InputError(f"exclude: {pair!r} is not a range; expected (first, last) in Angstrom")
    return first, last
