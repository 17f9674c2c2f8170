"""Filters: how much of the light at each wavelength goes into an image."""

from __future__ import annotations

import csv
import math
import os
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table

from musedask.alignment.image_hdus import split_extension
from musedask.alignment.tables import column_of, read_table
from musedask.errors import InputError, MissingError

Floats = np.ndarray[Any, np.dtype[np.float64]]

WHITE = "white"
_TOP_HAT = re.compile(r"^\s*(\d+(?:\.\d*)?)\s*-\s*(\d+(?:\.\d*)?)\s*$")
_WAVELENGTH_NAMES = ("wavelength", "lambda", "wave", "wl", "lam", "col1")
_THROUGHPUT_NAMES = ("throughput", "transmission", "response", "sensitivity", "trans", "col2")
_LARGEST = 1e30
"""Beyond every wavelength and throughput, and small enough to be multiplied."""
_LONGEST_IN_UM = 30.0
_LONGEST_IN_NM = 3000.0
"""No optical or near infrared filter ends lower in Angstrom, nor higher in nm."""


@dataclass(frozen=True)
class Filter:
    """The throughput of a filter, linear between its wavelengths and 0 outside them.

    A flux (energy per wavelength) is weighted with the throughput alone, as the
    pipeline's and mpdaf's images are.

    Raises
    ------
    InputError
        If the wavelengths do not rise, or no throughput is positive.
    """

    name: str
    """For people, and for the image's header."""
    wavelengths: tuple[float, ...] = ()
    """Angstrom in air, rising; two may be equal at a step. None at all: everything passes."""
    throughput: tuple[float, ...] = ()
    """0 to 1 (or to any scale: images are weighted means)."""

    def __post_init__(self) -> None:
        waves, passed = np.asarray(self.wavelengths), np.asarray(self.throughput)
        if waves.shape != passed.shape or waves.size == 1:
            raise InputError(
                f"filter {self.name}: {waves.size} wavelengths and {passed.size} throughputs; "
                "expected as many of both, two or more"
            )
        if waves.size == 0:
            return
        if not (np.isfinite(waves).all() and np.isfinite(passed).all()):
            raise InputError(f"filter {self.name}: some of its numbers are not finite")
        if max(waves.max(), np.abs(passed).max()) > _LARGEST:
            raise InputError(f"filter {self.name}: has a number above {_LARGEST:g}")
        if np.any(np.diff(waves) < 0) or waves[0] <= 0 or waves[0] == waves[-1]:
            raise InputError(f"filter {self.name}: its wavelengths have to be positive and rise")
        if passed.min() < 0 or passed.max() <= 0:
            raise InputError(
                f"filter {self.name}: its throughput runs from {passed.min():g} to "
                f"{passed.max():g}; it has to be 0 or more, and above 0 somewhere"
            )

    @property
    def is_white(self) -> bool:
        """Whether everything passes."""
        return not self.wavelengths

    @property
    def integral(self) -> float:
        """Throughput times Angstrom of the whole filter; infinite for white light."""
        if self.is_white:
            return math.inf
        return float(np.trapezoid(self.throughput, self.wavelengths))

    def within(self, low_angstrom: float, high_angstrom: float) -> Filter | None:
        """The part of it between two wavelengths; None if nothing passes there."""
        if self.is_white:
            return self
        waves, passed = np.asarray(self.wavelengths), np.asarray(self.throughput)
        low, high = max(low_angstrom, waves[0]), min(high_angstrom, waves[-1])
        if not low < high:
            return None
        inside = (waves > low) & (waves < high)
        ends = np.interp([low, high], waves, passed)
        kept = [ends[0], *passed[inside], ends[1]]
        if max(kept) <= 0:
            return None
        name = f"{low:g}-{high:g}" if _TOP_HAT.match(self.name) else self.name
        return Filter(
            name,
            tuple(float(one) for one in (low, *waves[inside], high)),
            tuple(float(one) for one in kept),
        )

    def weights(self, wavelengths: Any, step_angstrom: float) -> Floats:
        """Throughput of each channel: its integral over the channel, by the channel's width.

        Parameters
        ----------
        wavelengths
            Centres of the channels, float64 (wavelength,), Angstrom.
        step_angstrom
            Their width.

        Returns
        -------
        weights
            Float64 (wavelength,). A channel that the filter covers in part has its part.
        """
        waves = np.asarray(wavelengths, np.float64)
        if self.is_white:
            return np.ones(waves.shape)
        low, high = waves - step_angstrom / 2, waves + step_angstrom / 2
        return (self._integral_up_to(high) - self._integral_up_to(low)) / step_angstrom

    def _integral_up_to(self, wavelengths: Floats) -> Floats:
        """Integral of the throughput from its beginning; exact, piece by piece."""
        waves, passed = np.asarray(self.wavelengths), np.asarray(self.throughput)
        at = np.clip(wavelengths, waves[0], waves[-1])
        width = np.diff(waves)
        sums = np.concatenate([[0.0], np.cumsum(width * (passed[1:] + passed[:-1]) / 2)])
        piece = np.clip(np.searchsorted(waves, at, side="right") - 1, 0, waves.size - 2)
        into = at - waves[piece]
        slope = np.diff(passed)[piece] / np.where(width > 0, width, 1.0)[piece]
        up_to: Floats = sums[piece] + into * (passed[piece] + slope * into / 2)
        return up_to


def find_filter(name_or_path: str | os.PathLike[str] | Filter) -> Filter:
    """Find a filter by its name, make a top hat, or read a table.

    Parameters
    ----------
    name_or_path
        ``white``, all light; Johnson_B, Johnson_V, Cousins_R, Cousins_I,
        SDSS_g, SDSS_r, SDSS_i or SDSS_z; a top hat as ``4800-5800``
        (Angstrom in air); or a file: text with the columns wavelength
        (Angstrom, or nm if none is above 3000) and throughput, ECSV or FITS
        with units. Of a FITS file with several tables, such as the pipeline's
        FILTER_LIST, ``FILE.fits[EXTNAME]`` takes one.

    Notes
    -----
    The curves are those of the pipeline's FILTER_LIST, which the GALEV team
    made (Kotulla et al. 2009, MNRAS 396, 462; Johnson and Cousins in steps of
    50 and 100 Angstrom, SDSS of 25). Wavelengths of HST's curves are in vacuum;
    the difference to air, 1.3 to 2.6 Angstrom, is left as it is: no edge of a
    filter is as sharp.

    Raises
    ------
    MissingError
        If it is no known name and no file.
    FileError, InputError
        If the file cannot be read, or its columns make no filter.
    """
    if isinstance(name_or_path, Filter):
        return name_or_path
    name = os.fspath(name_or_path)
    if name.strip().lower() == WHITE:
        return Filter(WHITE)
    for known, curve in known_filters().items():
        if known.lower() == name.strip().lower():
            return curve
    hat = _TOP_HAT.match(name)
    if hat:
        return top_hat(float(hat[1]), float(hat[2]))
    path, extension = split_extension(name)
    if not Path(path).exists():
        raise MissingError(
            f"filter {name!r}: neither a file nor one of white, {', '.join(known_filters())}; "
            "a top hat is written LOW-HIGH in Angstrom, as 4800-5800"
        )
    return _read(path, extension)


def top_hat(low_angstrom: float, high_angstrom: float) -> Filter:
    """Make a filter that passes everything between two wavelengths, Angstrom in air."""
    name = f"{low_angstrom:g}-{high_angstrom:g}"
    if not 0 < low_angstrom < high_angstrom:
        raise InputError(f"filter {name}: expected LOW-HIGH, two wavelengths that rise")
    return Filter(name, (low_angstrom, high_angstrom), (1.0, 1.0))


@cache
def known_filters() -> dict[str, Filter]:
    """The filters that come with the package."""
    text = resources.files("musedask.alignment").joinpath("filter_curves.csv").read_text("utf-8")
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in csv.DictReader(text.splitlines()):
        curves.setdefault(row["filter"], []).append(
            (float(row["wavelength"]), float(row["throughput"]))
        )
    return {
        name: Filter(name, tuple(w for w, _ in rows), tuple(t for _, t in rows))
        for name, rows in curves.items()
    }


def _read(path: str, extension: str) -> Filter:
    """A filter out of a file."""
    table = read_table(path, extension, (*_WAVELENGTH_NAMES, *_THROUGHPUT_NAMES))
    waves_name = column_of(table, _WAVELENGTH_NAMES)
    passed_name = column_of(table, _THROUGHPUT_NAMES)
    if waves_name is None or passed_name is None:
        lacking = "a wavelength" if waves_name is None else "a throughput"
        raise InputError(
            f"{path}: no column holds {lacking}: they are {', '.join(table.colnames)}; name two "
            "of them wavelength and throughput"
        )
    if len(table) == 0:
        raise InputError(f"{path}: has no row of numbers")
    waves = _numbers(table, waves_name, path) * _to_angstrom(table, waves_name, path)
    passed = _numbers(table, passed_name, path)
    unit = table[passed_name].unit
    if unit is not None and u.Unit(unit, parse_strict="silent") == u.percent:
        passed = passed / 100.0
    if waves.size > 1 and np.all(np.diff(waves) < 0):
        waves, passed = waves[::-1], passed[::-1]
    # Measured curves end in noise around zero.
    passed = np.where((passed < 0) & (passed > -0.01 * passed.max()), 0.0, passed)
    name = extension or Path(path).name.partition(".")[0]
    try:
        return Filter(name, tuple(waves.tolist()), tuple(passed.tolist()))
    except InputError as err:
        raise InputError(f"{path}: {err} (columns {waves_name}, {passed_name})") from None


def _numbers(table: Table, name: str, path: str) -> Floats:
    """A column as float64."""
    column = table[name]
    # Columns such as times or positions have no type of numpy.
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    if kind not in tuple("iuf") or column.ndim != 1:
        raise InputError(f"{path}: the column {name} does not hold a number in each row")
    values: Floats = np.ma.filled(np.ma.asarray(column, np.float64), np.nan)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        raise InputError(f"{path}: row {row} of the column {name} has no number")
    return values


def _to_angstrom(table: Table, name: str, path: str) -> float:
    """What the wavelengths have to be multiplied by."""
    unit = table[name].unit
    if unit is not None:
        try:
            return float(u.Unit(unit).to(u.AA))
        except (ValueError, TypeError, u.UnitConversionError):
            raise InputError(
                f"{path}: the unit of the column {name} is {str(unit)!r}, expected Angstrom or nm"
            ) from None
    longest = float(np.max(_numbers(table, name, path)))
    if longest < _LONGEST_IN_UM:
        return 1e4
    return 10.0 if longest < _LONGEST_IN_NM else 1.0
