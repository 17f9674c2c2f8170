"""Which calibration may serve which frame: windows, modes and read-outs.

The table is the association of ESO's MUSE pipeline (``muse.oca`` of 2.8.7). BIAS,
DARK and ILLUM never need the INS MODE of the frame: ILLUMs of AO nights carry
``WFM-NOAO-N``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from musedask.reduction.frames import Frame

VIGNETTING_UNTIL_MJD = 57823.0
"""A VIGNETTING_MASK is for twilights before this date only (2017-03-11)."""
DATED_TABLES: tuple[tuple[str, str], ...] = (
    ("2014-12-01", "_wfm_comm2b"),
    ("2015-04-15", "_2014-12-01"),
    ("2015-09-09", "_2015-04-16"),
    ("2016-02-13", "_2015-09-10"),
)
"""Last night -> ending of the geometry and astrometry tables' names, oldest first; nights after
the last of them take the tables that carry none of these endings."""

RAW_OF: Mapping[str, str] = MappingProxyType(
    {
        "MASTER_BIAS": "BIAS",
        "MASTER_DARK": "DARK",
        "MASTER_FLAT": "FLAT",
        "TRACE_TABLE": "FLAT",
        "WAVECAL_TABLE": "ARC",
        "LSF_PROFILE": "ARC",
        "TWILIGHT_CUBE": "SKYFLAT",
        "ILLUM": "ILLUM",
        "STD_RESPONSE": "STD",
        "STD_TELLURIC": "STD",
    }
)
"""Calibration -> tag of the raw frames it is made from (ILLUM is used as it is)."""
FRAMES_NEEDED: Mapping[str, int] = MappingProxyType(
    {
        "BIAS": 3,
        "DARK": 3,
        "FLAT": 3,
        "SKYFLAT": 3,
        "ARC": 9,
        "ARC_LSF": 45,
        "MASK": 50,
        "ILLUM": 1,
        "STD": 1,
        "SKY": 1,
        "ASTROMETRY": 1,
        "OBJECT": 1,
    }
)
"""Raw tag -> frames that the calibration plan takes in one template. The recipes themselves are
content with one arc of each lamp."""
SEQUENCES = ("BIAS", "DARK", "FLAT", "SKYFLAT", "ARC", "ARC_LSF", "MASK", "STD", "ASTROMETRY")
"""Raw tags whose frames belong together by TPL START; the others stand alone."""
ARC_LAMPS = ("Ne", "Xe", "HgCd")
"""The three arc lamps that a wavelength calibration needs."""


@dataclass(frozen=True)
class Rule:
    """One calibration that a user may or has to have, and which ones fit."""

    tag: str
    """Its tag in the SOF: ``MASTER_BIAS``, ``ILLUM``, ``GEOMETRY_TABLE``..."""
    days: float | None = None
    """How far its MJD may be away, days; None is any date, the nearest wins all the same."""
    same_mode: bool = False
    """Whether INS MODE has to be the same."""
    same_readout: bool = False
    """Whether DET READ CURNAME has to be the same."""
    optional: bool = False
    """Whether the user can go without it."""
    same_optics: bool = False
    """Whether INS OPTI2 NAME (wide or narrow field) has to be the same."""
    ao_only: bool = False
    """Whether only the AO modes take it (RAMAN_LINES)."""
    until_mjd: float | None = None
    """MJD of the user from which on it is no longer taken (VIGNETTING_MASK)."""

    @property
    def raw(self) -> str:
        """Tag of the raw frames that it is made from; empty for a static table."""
        return RAW_OF.get(self.tag, "")

    def concerns(self, user: Frame) -> bool:
        """Whether a frame takes this calibration at all."""
        if self.ao_only and not is_ao(user.mode):
            return False
        return self.until_mjd is None or not user.mjd >= self.until_mjd

    def fits(self, user: Frame, calibration: Frame, days: float | None = None) -> bool:
        """Whether a calibration (or a raw frame of it) may serve a frame.

        Parameters
        ----------
        user
            The frame that needs it.
        calibration
            What may serve.
        days
            Another window than the rule's own.
        """
        window = self.days if days is None else days
        return (
            (window is None or abs(user.mjd - calibration.mjd) <= window)
            and (not self.same_mode or user.mode == calibration.mode)
            and (not self.same_readout or user.readout == calibration.readout)
            and (not self.same_optics or _same_optics(user, calibration))
        )


def is_ao(mode: str) -> bool:
    """Whether an INS MODE uses the laser guide stars: ``WFM-AO-N``, ``NFM-AO-N``..."""
    return "-AO-" in mode


def field_of(mode: str) -> str:
    """``WFM`` or ``NFM``: the field of an INS MODE; empty if it says neither."""
    return mode[:3] if mode[:3] in ("WFM", "NFM") else ""


def _same_optics(user: Frame, table: Frame) -> bool:
    """Old tables say nothing of their optics: those fit every frame."""
    wanted = user.optics or field_of(user.mode)
    given = table.optics or field_of(table.mode)
    return not wanted or not given or wanted == given


def _taken(*rules: Rule) -> tuple[Rule, ...]:
    """The rules of one user; a table of bad pixels may come with each that reads raw frames."""
    return (*rules, Rule("BADPIX_TABLE", optional=True))


_BIAS = Rule("MASTER_BIAS", 3.0, same_readout=True)
_DARK = Rule("MASTER_DARK", 5.0, same_readout=True, optional=True)
_FLAT = Rule("MASTER_FLAT", 3.0, same_mode=True, same_readout=True)
_TRACE = Rule("TRACE_TABLE", 3.0, same_mode=True, same_readout=True)
_GEOMETRY = Rule("GEOMETRY_TABLE", same_optics=True)
_TWILIGHT = Rule("TWILIGHT_CUBE", 30.0, same_mode=True, same_readout=True, optional=True)
_LINES = Rule("LINE_CATALOG")
_EXTINCTION = Rule("EXTINCT_TABLE")
_RESPONSE = Rule("STD_RESPONSE", same_mode=True)
_TELLURIC = Rule("STD_TELLURIC", 1.0, same_mode=True, optional=True)
_LSF = Rule("LSF_PROFILE", same_mode=True, same_readout=True)
_SKY = (
    Rule("SKY_LINES"),
    Rule("SKY_CONTINUUM", optional=True),
    Rule("SKY_MASK", optional=True),
)


def _wavecal(same_readout: bool) -> Rule:
    return Rule("WAVECAL_TABLE", 3.0, same_mode=True, same_readout=same_readout)


def _illum(days: float) -> Rule:
    return Rule("ILLUM", days, same_readout=True, optional=True)


def _basic(illum_days: float) -> tuple[Rule, ...]:
    """What muse_scibasic takes."""
    return _taken(
        _BIAS, _DARK, _FLAT, _TRACE, _wavecal(True), _illum(illum_days), _TWILIGHT, _GEOMETRY
    )


RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "bias": _taken(),
        "dark": _taken(_BIAS),
        "flat": _taken(_BIAS, _DARK),
        "wavecal": _taken(_BIAS, _DARK, _FLAT, _TRACE, _LINES),
        "lsf": _taken(_BIAS, _DARK, _FLAT, _TRACE, _wavecal(False), _LINES),
        "twilight": _taken(
            _BIAS,
            _DARK,
            _FLAT,
            _TRACE,
            _wavecal(False),
            _illum(0.5),
            _GEOMETRY,
            Rule("VIGNETTING_MASK", until_mjd=VIGNETTING_UNTIL_MJD, optional=True),
        ),
        "std": _basic(0.5),
        "sky": _basic(0.5),
        "astrometry": _basic(0.5),
        "science": _basic(1.0),
        "standard": (
            _EXTINCTION,
            Rule("STD_FLUX_TABLE"),
            Rule("TELLURIC_REGIONS", optional=True),
            Rule("FILTER_LIST", optional=True),
        ),
        "create_sky": (
            _EXTINCTION,
            _RESPONSE,
            _TELLURIC,
            _LSF,
            *_SKY,
        ),
        "scipost": (
            _EXTINCTION,
            _RESPONSE,
            _TELLURIC,
            _LSF,
            *_SKY,
            Rule("ASTROMETRY_WCS", same_optics=True),
            Rule("OUTPUT_WCS", same_optics=True, optional=True),
            Rule("FILTER_LIST", optional=True),
            Rule("AUTOCAL_FACTORS", optional=True),
            Rule("RAMAN_LINES", ao_only=True, optional=True),
        ),
    }
)
"""Step of the reduction -> what it takes. ``science`` is muse_scibasic of OBJECT, and ``std``,
``sky``, ``astrometry`` are the same recipe for those tags."""
USER_OF: Mapping[str, str] = MappingProxyType(
    {
        "BIAS": "bias",
        "DARK": "dark",
        "FLAT": "flat",
        "ARC": "wavecal",
        "ARC_LSF": "lsf",
        "SKYFLAT": "twilight",
        "STD": "std",
        "SKY": "sky",
        "ASTROMETRY": "astrometry",
        "OBJECT": "science",
    }
)
"""Raw tag -> the user among :data:`RULES` that its frames are for at first."""


def table_ending(night: str) -> str:
    """Ending of the names of the geometry and astrometry tables of a night (``2015-03-01``).

    Returns
    -------
    str
        One of :data:`DATED_TABLES`, or empty for the current tables (or an unknown night).
    """
    for last_night, ending in DATED_TABLES:
        if night and night <= last_night:
            return ending
    return ""
