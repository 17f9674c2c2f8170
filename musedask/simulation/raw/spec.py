"""What raw frames to make."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Literal

from musedask.errors import InputError
from musedask.simulation.raw.faults import Fault, parse_fault
from musedask.simulation.raw.optics import IFUS, Geometry

Compression = Literal["", "gz", "fz"]
MODES = ("WFM-NOAO-N", "WFM-NOAO-E", "WFM-AO-N", "WFM-AO-E", "NFM-AO-N")
COMPRESSIONS = ("", "gz", "fz")
_TARGET = re.compile(r"[A-Za-z0-9_.+-]{1,30}")
_COUNTS = {"n_exposures": 0, "n_bias": 0, "n_dark": 0, "n_flat": 0, "n_arc": 0, "n_arc_lsf": 0,
           "n_twilight": 0, "n_sources": 0, "n_nights": 1}  # fmt: skip
"""Fields that count something -> the least that they may be."""


@dataclass(frozen=True)
class RawSpec:
    """Which nights, frames and detectors to simulate, and what is wrong with them.

    Raises
    ------
    InputError
        If a value cannot be.
    """

    ifus: tuple[int, ...] = (1,)
    """Detectors with light on them, 1 to 24. muse_twilight wants 1 among them."""
    geometry: Geometry = "compact"
    """``real``: each IFU sees its strip of 300 x 12 spaxels; ``compact``: 75 x 48."""
    absent: Literal["missing", "dead"] = "missing"
    """The other detectors: no extension, or a dead chip (no data, CHIP LIVE = F)."""
    n_exposures: int = 2
    """OBJECT frames in all."""
    exptime_s: float = 900.0
    """Of an OBJECT."""
    dithers_arcsec: tuple[tuple[float, float], ...] = ()
    """Where each exposure points, east and north of its target; () draws them."""
    pointing_errors_arcsec: tuple[tuple[float, float], ...] = ()
    """Header minus true pointing, east and north, of each exposure; () draws them, but none
    for the first."""
    position_angles_deg: tuple[float, ...] = ()
    """Of each exposure, north through east; () is 0 for all."""
    targets: tuple[str, ...] = ("SIMFIELD",)
    """Fields, a degree apart; exposures are shared out over them in runs."""
    n_bias: int = 3
    """BIAS frames a night."""
    n_dark: int = 0
    """DARK frames a night."""
    n_flat: int = 3
    """FLAT frames a night."""
    n_arc: int = 1
    """ARC frames a night of each of the three lamps."""
    n_arc_lsf: int = 0
    """ARC_LSF frames a night of each lamp."""
    n_twilight: int = 3
    """SKYFLAT frames a night."""
    with_illum: bool = True
    """An ILLUM before the first exposure and every hour."""
    with_std: bool = True
    """A standard star each night."""
    with_sky: bool = True
    """A SKY frame each night, after the first exposure."""
    n_sources: int = 8
    """Point sources in the part of the field that each IFU sees."""
    seeing_arcsec: float = 0.8
    """FWHM of the (Moffat) point-spread function; the standard star has it too."""
    mode: str = "WFM-NOAO-N"
    """ESO INS MODE of sky, twilight, flat and arc frames. The light is the same for all modes."""
    night: str = "2024-02-10"
    """Evening of the first night."""
    n_nights: int = 1
    """Nights in a row that the exposures are shared out over."""
    compress: Compression = ""
    """``gz`` or ``fz`` (tiles packed with Rice's method)."""
    headers_only: bool = False
    """Write headers and holes in place of the data: thousands of files in seconds."""
    faults: tuple[str, ...] = ()
    """What is to be wrong: see :func:`musedask.simulation.raw.faults.parse_fault`."""
    seed: int = 0
    """Equal specifications give equal files."""

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_choices()
        self._check_exposures()
        try:
            date.fromisoformat(self.night)
        except ValueError:
            raise InputError(f"night {self.night!r}: write it like 2024-02-10") from None
        _ = self.parsed_faults

    @property
    def parsed_faults(self) -> tuple[Fault, ...]:
        """The faults as values."""
        return tuple(parse_fault(text) for text in self.faults)

    @property
    def extensions(self) -> tuple[int, ...]:
        """IFUs that have an extension, live or dead."""
        return tuple(range(1, IFUS + 1)) if self.absent == "dead" else tuple(sorted(self.ifus))

    def _check_counts(self) -> None:
        for name, least in _COUNTS.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)}: it has to be {least} or more")
        for name in ("exptime_s", "seeing_arcsec"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} = {value}: it has to be positive")

    def _check_choices(self) -> None:
        valid = set(self.ifus) <= set(range(1, IFUS + 1))
        if not self.ifus or not valid or len(set(self.ifus)) < len(self.ifus):
            raise InputError(f"ifus {self.ifus}: give one or more of 1 to {IFUS}, each once")
        for name, choices in (
            ("mode", MODES), ("compress", COMPRESSIONS), ("geometry", ("compact", "real")),
            ("absent", ("missing", "dead")),
        ):  # fmt: skip
            if getattr(self, name) not in choices:
                raise InputError(f"{name} {getattr(self, name)!r}: it is one of {choices}")
        if self.headers_only and self.compress:
            raise InputError(
                f"headers_only with compress = {self.compress!r}: holes are not packed; "
                "leave one of them out"
            )

    def _check_exposures(self) -> None:
        if not self.targets or not all(_TARGET.fullmatch(name) for name in self.targets):
            raise InputError(
                f"targets {self.targets}: give at least one, of letters, digits and _.+- only"
            )
        for name in ("dithers_arcsec", "pointing_errors_arcsec", "position_angles_deg"):
            values = getattr(self, name)
            if values and len(values) != self.n_exposures:
                raise InputError(
                    f"{len(values)} {name} for n_exposures = {self.n_exposures}: "
                    "give one for each, or none"
                )
