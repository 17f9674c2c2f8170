"""The order of a night: which frames are taken when, of what, and with which template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

import numpy as np

from musedask.errors import InputError

if TYPE_CHECKING:
    from musedask.simulation.raw.spec import RawSpec

FIELD_DEG = (150.1, -24.9)
"""RA and DEC of the first target: at Paranal's latitude, so that it culminates overhead."""
STANDARD_DEG = (100.0, -24.9)
SKY_ARCMIN = 5.0
"""How far east of its target the sky is taken."""
TWILIGHT_DEG = (75.0, -24.9)
LAMPS = ("HgCd", "Ne", "Xe")
_READOUT_S = 60.0
_OVERHEAD_S = 75.0
_ILLUM_EVERY = timedelta(hours=1)
_DAWN = time(9, 40)
_NOON = time(15, 0)
_DITHER_ARCSEC, _ERROR_ARCSEC = 0.6, 0.3
_CALIBRATION_MODE = "WFM-NOAO-N"
"""BIAS, DARK and ILLUM carry this mode whatever the night's."""


@dataclass(frozen=True)
class RawFrame:
    """One raw frame: what its header says, and what is true."""

    name: str
    """File name without suffixes, as the archive gives it: ``MUSE.`` and DATE-OBS."""
    tag: str
    """What it has to be classified as."""
    date_obs: str
    """DATE-OBS, with milliseconds."""
    exptime_s: float
    """EXPTIME."""
    mode: str
    """ESO INS MODE."""
    night: str
    """Evening of its night."""
    tpl_id: str
    """ESO TPL ID."""
    tpl_start: str
    """ESO TPL START."""
    tpl_nexp: int
    """ESO TPL NEXP."""
    tpl_expno: int
    """ESO TPL EXPNO."""
    obs_id: int
    """ESO OBS ID."""
    object_name: str
    """OBJECT."""
    target: str
    """ESO OBS TARG NAME; the field whose sources it sees, if any."""
    ra_deg: float
    """RA of the header."""
    dec_deg: float
    """DEC of the header."""
    true_ra_deg: float
    """Where it points in truth."""
    true_dec_deg: float
    """Where it points in truth."""
    dither_arcsec: tuple[float, float] = (0.0, 0.0)
    """True pointing minus target, east and north."""
    error_arcsec: tuple[float, float] = (0.0, 0.0)
    """Header minus true pointing, east and north."""
    position_angle_deg: float = 0.0
    """Of the field, north through east."""
    lamp: str = ""
    """``HgCd``, ``Ne``, ``Xe``, ``flat`` or empty."""
    temperature_c: float = 12.0
    """ESO INS TEMP7 VAL."""
    readout: int = 1
    """ESO DET READ CURID; CURNAME is ``SCI1.0``, ``SCI2.0``..."""
    number: int = 0
    """Of the frame before faults: the seed of its noise."""
    fault: str = ""
    """What is wrong with it."""


@dataclass
class _Clock:
    """The time of a night while its frames are laid out."""

    spec: RawSpec
    evening: date
    rng: np.random.Generator
    now: datetime = field(init=False)
    start: str = ""

    def template(self, at: datetime) -> None:
        """Begin a template, at the given time or as soon as the one before it has ended."""
        self.now = at
        self.start = at.isoformat(timespec="seconds")

    def frame(
        self, tag: str, template: str, exptime_s: float, number: int, of: int,
        pointing_deg: tuple[float, float] = (0.0, 0.0), *, lamp: str = "", target: str = "",
        obs_id: int = 0, overhead_s: float = _READOUT_S, is_calibration: bool = False,
    ) -> RawFrame:  # fmt: skip
        """Take the next frame of the template; ``number`` counts from 1."""
        milliseconds = int(self.rng.integers(1000))
        begin = self.now + timedelta(seconds=15, milliseconds=milliseconds)
        self.now = begin + timedelta(seconds=exptime_s + overhead_s)
        evening = datetime.combine(self.evening, time(23))
        hours = (begin - evening).total_seconds() / 3600
        when = begin.isoformat(timespec="milliseconds")
        field_mode = self.spec.mode[:3].lower()
        return RawFrame(
            name=f"MUSE.{when}", tag=tag, date_obs=when, exptime_s=exptime_s,
            mode=_CALIBRATION_MODE if is_calibration else self.spec.mode,
            night=self.evening.isoformat(),
            tpl_id=f"MUSE_{template.format(field=field_mode, ao=self.ao)}", tpl_start=self.start,
            tpl_nexp=of, tpl_expno=number, obs_id=obs_id or 200000000 + self.evening.toordinal(),
            object_name=target or tag, target=target or "CALIB",
            ra_deg=pointing_deg[0], dec_deg=pointing_deg[1],
            true_ra_deg=pointing_deg[0], true_dec_deg=pointing_deg[1], lamp=lamp,
            temperature_c=round(13.0 - 0.3 * max(-2.0, min(hours, 11.0)), 2),
        )  # fmt: skip

    @property
    def ao(self) -> str:
        """Part of the template's name that tells whether there was adaptive optics."""
        return "noao" if "NOAO" in self.spec.mode else "ao"


def plan_frames(spec: RawSpec) -> list[RawFrame]:
    """Lay out all frames of all nights, in order of time.

    Raises
    ------
    InputError
        If they do not fit into the nights.
    """
    shares = np.array_split(np.arange(spec.n_exposures), spec.n_nights)
    frames: list[RawFrame] = []
    for i, share in enumerate(shares):
        evening = date.fromisoformat(spec.night) + timedelta(days=i)
        clock = _Clock(spec, evening, np.random.default_rng([spec.seed, 1, i]))
        frames += _dusk(clock)
        frames += _science(clock, [int(n) for n in share])
        if clock.now > datetime.combine(evening + timedelta(days=1), _DAWN):
            raise InputError(
                f"{len(share)} exposures of {spec.exptime_s:g} s in the night of {evening}: they "
                f"end at {clock.now:%H:%M} UT, after dawn; n_nights has to be larger"
            )
        frames += _morning(clock)
        if clock.now > datetime.combine(evening + timedelta(days=1), _NOON):
            raise InputError(
                f"calibrations of the night of {evening} last until {clock.now:%H:%M} UT, beyond "
                "noon; n_bias, n_dark, n_flat, n_arc or n_arc_lsf has to be smaller"
            )
    if not frames:
        raise InputError("no frames: ask for at least one exposure or calibration")
    return [replace(frame, number=i) for i, frame in enumerate(frames)]


def _dusk(clock: _Clock) -> Iterator[RawFrame]:
    spec = clock.spec
    clock.template(datetime.combine(clock.evening, time(22, 50)))
    for i in range(spec.n_twilight):
        yield clock.frame(
            "SKYFLAT", "{field}_cal_twilight", 10.0, i + 1, spec.n_twilight, TWILIGHT_DEG
        )
    clock.template(max(clock.now, datetime.combine(clock.evening, time(23, 35))))
    if spec.with_std:
        if spec.with_illum:
            yield _illum(clock)
        clock.template(clock.now)
        yield clock.frame(
            "STD", "{field}-{ao}_cal_specphot", 30.0, 1, 1, STANDARD_DEG, target="SIMSTAR"
        )


def _illum(clock: _Clock) -> RawFrame:
    clock.template(clock.now)
    return clock.frame("ILLUM", "{field}_cal_illum", 7.0, 1, 1, lamp="flat", is_calibration=True)


def _science(clock: _Clock, numbers: list[int]) -> Iterator[RawFrame]:
    """ILLUM and SKY frames among the exposures, a template for each run of one target."""
    spec = clock.spec
    clock.template(max(clock.now, datetime.combine(clock.evening, time(23, 59, 30))))
    last_illum = datetime.min
    sky_is_due = spec.with_sky
    per_target = -(-max(spec.n_exposures, 1) // len(spec.targets))
    runs: dict[int, list[int]] = {}
    for number in numbers:
        runs.setdefault(number // per_target, []).append(number)
    for target, run in runs.items():
        start = None
        for i, number in enumerate(run):
            if spec.with_illum and clock.now - last_illum >= _ILLUM_EVERY:
                last_illum = clock.now
                yield _illum(clock)
            start = start or clock.now.isoformat(timespec="seconds")
            clock.start = start
            obs_id = 100000000 + 1000 * (clock.evening.toordinal() % 10000) + target
            exposure = clock.frame(
                "OBJECT", "{field}-{ao}_obs_genericoffset", spec.exptime_s, i + 1, len(run),
                target=spec.targets[target], obs_id=obs_id, overhead_s=_OVERHEAD_S,
            )  # fmt: skip
            yield _pointed(exposure, spec, number, target)
            if sky_is_due:
                sky_is_due = False
                clock.template(clock.now)
                yield _sky(clock, target, obs_id)


def _sky(clock: _Clock, target: int, obs_id: int) -> RawFrame:
    ra, dec = target_deg(target)
    away = ra + SKY_ARCMIN / 60 / np.cos(np.radians(dec))
    return clock.frame(
        "SKY", "{field}-{ao}_obs_genericoffset", 300.0, 1, 1, (round(float(away), 9), dec),
        target=clock.spec.targets[target], obs_id=obs_id,
    )  # fmt: skip


def target_deg(number: int) -> tuple[float, float]:
    """RA and DEC of a target, counted from 0: they lie a degree of RA apart."""
    return FIELD_DEG[0] + number, FIELD_DEG[1]


def _pointed(frame: RawFrame, spec: RawSpec, number: int, target: int) -> RawFrame:
    """Give an exposure its dither, pointing error and position angle."""
    rng = np.random.default_rng([spec.seed, 2, number])
    dither, error = _drawn(rng, _DITHER_ARCSEC), _drawn(rng, _ERROR_ARCSEC)
    if spec.dithers_arcsec:
        dither = spec.dithers_arcsec[number]
    if spec.pointing_errors_arcsec:
        error = spec.pointing_errors_arcsec[number]
    elif number == 0:
        error = (0.0, 0.0)
    true = _east_north(target_deg(target), dither)
    ra, dec = _east_north(true, error)
    return replace(
        frame, ra_deg=ra, dec_deg=dec, true_ra_deg=true[0], true_dec_deg=true[1],
        dither_arcsec=dither, error_arcsec=error,
        position_angle_deg=spec.position_angles_deg[number] if spec.position_angles_deg else 0.0,
    )  # fmt: skip


def _drawn(rng: np.random.Generator, limit: float) -> tuple[float, float]:
    east, north = rng.uniform(-limit, limit, 2)
    return round(float(east), 4), round(float(north), 4)


def _east_north(place_deg: tuple[float, float], arcsec: tuple[float, float]) -> tuple[float, float]:
    ra, dec = place_deg
    shift = arcsec[0] / 3600 / np.cos(np.radians(dec))
    return round(float(ra + shift) % 360.0, 9), round(float(dec + arcsec[1] / 3600), 9)


def _morning(clock: _Clock) -> Iterator[RawFrame]:
    spec = clock.spec
    clock.template(datetime.combine(clock.evening + timedelta(days=1), time(10, 15)))
    for i in range(spec.n_bias):
        yield clock.frame("BIAS", "gen_cal_bias", 0.0, i + 1, spec.n_bias, is_calibration=True)
    clock.template(clock.now + timedelta(minutes=5))
    for i in range(spec.n_flat):
        yield clock.frame("FLAT", "{field}_cal_specflat", 7.0, i + 1, spec.n_flat, lamp="flat")
    for tag, template, n in (
        ("ARC", "{field}_cal_wavecal", spec.n_arc), ("ARC_LSF", "{field}_cal_lsf", spec.n_arc_lsf),
    ):  # fmt: skip
        clock.template(clock.now + timedelta(minutes=5))
        for i in range(3 * n):
            yield clock.frame(tag, template, 5.0, i + 1, 3 * n, lamp=LAMPS[i // n])
    clock.template(clock.now + timedelta(minutes=5))
    for i in range(spec.n_dark):
        yield clock.frame("DARK", "gen_cal_dark", 1800.0, i + 1, spec.n_dark, is_calibration=True)
