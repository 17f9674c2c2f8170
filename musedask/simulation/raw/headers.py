"""The headers of raw frames, card by card, as bytes.

A frame of 24 IFUs has a thousand cards: they are written here and not by
astropy, so that the headers of thousands of frames take seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache

from musedask.simulation.raw.detector import NX, NY, PORTS, RAW_SHAPE, SCAN
from musedask.simulation.raw.night import RawFrame
from musedask.simulation.raw.spec import RawSpec

Value = str | bool | int | float
Card = tuple[str, Value, str]

BLOCK = 2880
_DPR = {
    "BIAS": ("CALIB", "BIAS"), "DARK": ("CALIB", "DARK"), "FLAT": ("CALIB", "FLAT,LAMP"),
    "ILLUM": ("CALIB", "FLAT,LAMP,ILLUM"), "SKYFLAT": ("CALIB", "FLAT,SKY"),
    "ARC": ("CALIB", "WAVE"), "ARC_LSF": ("CALIB", "WAVE,LSF"), "STD": ("CALIB", "STD"),
    "SKY": ("SCIENCE", "SKY"), "OBJECT": ("SCIENCE", "OBJECT"),
}  # fmt: skip
"""Tag -> ESO DPR CATG and TYPE."""
_LAMPS_ON = {"flat": (1, 2), "Ne": (3,), "Xe": (4,), "HgCd": (5,), "": ()}
"""Which of the calibration unit's six lamps shine. The sixth is a second neon lamp; muse_wavecal
does not know the lines of both at once."""
_MJD_START = datetime(1858, 11, 17)


def card(key: str, value: Value, comment: str = "") -> bytes:
    """Write one card of 80 characters; keys of more than one word are ESO's.

    >>> card("ESO DET CHIP LIVE", True, "Detector live").decode().rstrip()
    'HIERARCH ESO DET CHIP LIVE = T / Detector live'
    """
    if isinstance(value, bool):
        text = "T" if value else "F"
    elif isinstance(value, str):
        text = "'{:<8}'".format(value.replace("'", "''"))
    else:
        text = repr(value).upper()
    if " " in key:
        line = f"HIERARCH {key} = {text}"
    elif isinstance(value, str):
        line = f"{key:<8}= {text:<20}"
    else:
        line = f"{key:<8}= {text:>20}"
    if len(line) > 80:
        raise ValueError(f"card {key} = {value!r} has {len(line)} characters, more than 80")
    with_comment = f"{line} / {comment}" if comment else line
    return f"{with_comment[:80]:<80}".encode("ascii")


def as_bytes(cards: Iterable[Card]) -> bytes:
    """Write a header, END and padding included."""
    content = b"".join(card(*one) for one in cards) + f"{'END':<80}".encode()
    return content.ljust(-(-len(content) // BLOCK) * BLOCK)


def mjd(date_obs: str) -> float:
    """Modified Julian Date of a DATE-OBS, days."""
    since = datetime.fromisoformat(date_obs) - _MJD_START
    return round(since.days + (since.seconds + since.microseconds * 1e-6) / 86400, 8)


def primary_header(frame: RawFrame, spec: RawSpec) -> bytes:
    """Make the primary header of a raw frame: it has no data."""
    return as_bytes(_primary_cards(frame, spec))


def _primary_cards(frame: RawFrame, spec: RawSpec) -> Iterator[Card]:
    begin = datetime.fromisoformat(frame.date_obs)
    seconds = begin.hour * 3600 + begin.minute * 60 + begin.second
    # The target culminates in the middle of each exposure: without refraction in the
    # data the header may not have any either.
    lst = round((frame.ra_deg * 240.0 - frame.exptime_s / 2) % 86400.0, 3)
    yield "SIMPLE", True, "Standard FITS"
    yield "BITPIX", 8, "# of bits per pix value"
    yield "NAXIS", 0, "# of axes in data array"
    yield "EXTEND", True, "FITS Extension may be present"
    yield "DATE", frame.date_obs[:19], "Date this file was written"
    yield "ORIGIN", "ESO-PARANAL", "European Southern Observatory"
    yield "TELESCOP", "ESO-VLT-U4", "ESO <TEL>"
    yield "INSTRUME", "MUSE", "Instrument used"
    yield "OBJECT", frame.object_name, "Original target"
    yield "RA", frame.ra_deg, "[deg] RA (J2000) pointing"
    yield "DEC", frame.dec_deg, "[deg] DEC (J2000) pointing"
    yield "EQUINOX", 2000.0, "Standard FK5"
    yield "RADECSYS", "FK5", "Coordinate reference frame"
    yield "EXPTIME", frame.exptime_s, "Total integration time"
    yield "MJD-OBS", mjd(frame.date_obs), "MJD start"
    yield "DATE-OBS", frame.date_obs, "Date of observation"
    yield "UTC", float(seconds), "[s] UTC at start"
    yield "LST", lst, "[s] LST at start"
    yield "PI-COI", "UNKNOWN", "PI-COI name"
    yield "OBSERVER", "UNKNOWN", "Name of observer"
    yield "ARCFILE", f"MUSE.{frame.date_obs}.fits", "Archive File Name"
    yield "ORIGFILE", _original_name(frame), "Original File Name"
    for key, value, comment in (
        *_observation(frame), *_telescope(frame, spec), *_instrument(frame),
    ):  # fmt: skip
        yield f"ESO {key}", value, comment


def _original_name(frame: RawFrame) -> str:
    kind = "OBS" if frame.tag in ("OBJECT", "SKY") else "CAL"
    # The number that the instrument counts exposures of a day by; here from the name.
    number = int(hashlib.sha256(frame.name.encode()).hexdigest()[:4], 16) % 10000
    day = datetime.fromisoformat(frame.date_obs).timetuple().tm_yday
    return f"MUSE_IFU_{frame.tag}_{kind}{day:03d}_{number:04d}.fits"


def _observation(frame: RawFrame) -> Iterator[Card]:
    category, kind = _DPR[frame.tag]
    yield "DPR CATG", category, "Observation category"
    yield "DPR TYPE", kind, "Observation type"
    yield "DPR TECH", "IFU", "Observation technique"
    yield "OBS ID", frame.obs_id, "Observation block ID"
    yield "OBS NAME", f"{frame.target}_{frame.obs_id % 1000}", "OB name"
    yield "OBS PROG ID", "60.A-9100(A)", "ESO program identification"
    yield "OBS START", frame.tpl_start, "OB start time"
    yield "OBS TARG NAME", frame.target, "OB target name"
    yield "TPL ID", frame.tpl_id, "Template signature ID"
    yield "TPL START", frame.tpl_start, "TPL start time"
    yield "TPL NEXP", frame.tpl_nexp, "TPL number of exposures"
    yield "TPL EXPNO", frame.tpl_expno, "TPL exposure number"


def _telescope(frame: RawFrame, spec: RawSpec) -> Iterator[Card]:
    yield "TEL GEOELEV", 2648.0, "[m] Elevation above sea level"
    yield "TEL GEOLAT", -24.6268, "[deg] Tel geo latitude (+=North)"
    yield "TEL GEOLON", -70.4045, "[deg] Tel geo longitude (+=East)"
    for end in ("START", "END"):
        yield f"TEL AIRM {end}", 1.0, "Airmass"
        yield f"TEL PARANG {end}", 0.0, "[deg] Parallactic angle"
        yield f"TEL AMBI FWHM {end}", spec.seeing_arcsec, "[arcsec] Seeing"
        yield f"TEL AMBI PRES {end}", 743.5, "[hPa] Ambient air pressure"
    yield "TEL AMBI TEMP", frame.temperature_c, "[deg C] Ambient temperature"
    yield "TEL AMBI RHUM", 10.0, "[%] Ambient relative humidity"
    yield "TEL IA FWHM", spec.seeing_arcsec, "[arcsec] Delivered seeing"
    yield "TEL TARG ALPHA", frame.ra_deg, "[deg] Alpha coordinate for the target"
    yield "TEL TARG DELTA", frame.dec_deg, "[deg] Delta coordinate for the target"


def _instrument(frame: RawFrame) -> Iterator[Card]:
    yield "INS ID", "MUSE/1.5", "Instrument ID"
    yield "INS MODE", frame.mode, "Instrument mode used"
    yield "INS DROT MODE", "SKY", "Derotator mode"
    yield "INS DROT POSANG", frame.position_angle_deg, "[deg] Position angle"
    yield "INS OPTI1 NAME", "Clear" if frame.mode.endswith("-E") else "Blue", "Filter wheel"
    yield "INS OPTI2 NAME", frame.mode[:3], "Field mode"
    yield "INS TEMP7 VAL", frame.temperature_c, "[C] Temperature in the hall"
    yield "INS LAMPNUM", 6, "Number of lamps"
    for n in range(1, 7):
        is_on = n in _LAMPS_ON[frame.lamp]
        yield f"INS LAMP{n} NAME", f"CU-LAMP{n}", "Lamp name"
        yield f"INS LAMP{n} ST", is_on, "Lamp activated"
        yield f"INS SHUT{n} NAME", f"CU-SHUT{n}", "Shutter name"
        yield f"INS SHUT{n} ST", is_on, "Shutter open"
    yield "DET READ CURID", frame.readout, "Used readout mode id"
    yield "DET READ CURNAME", f"SCI{frame.readout}.0", "Used readout mode name"
    yield "DET BINX", 1, "Binning factor along X"
    yield "DET BINY", 1, "Binning factor along Y"
    yield "DET NCHIPS", 24, "Number of chips"


@cache
def extension_header(ifu: int, *, is_live: bool = True, has_gain: bool = True) -> bytes:
    """Make the header of one detector's image.

    Parameters
    ----------
    ifu
        1 to 24.
    is_live
        Whether the chip works; one that does not has no data.
    has_gain
        Whether the gains of the ports are told.
    """
    return as_bytes(_extension_cards(ifu, is_live, has_gain))


def _extension_cards(ifu: int, is_live: bool, has_gain: bool) -> Iterator[Card]:
    yield "XTENSION", "IMAGE", "IMAGE extension"
    yield "BITPIX", 16, "# of bits per pix value"
    yield "NAXIS", 2 if is_live else 0, "# of axes in data array"
    if is_live:
        yield "NAXIS1", RAW_SHAPE[1], "# of pixels in axis1"
        yield "NAXIS2", RAW_SHAPE[0], "# of pixels in axis2"
    yield "PCOUNT", 0, "number of random group parameters"
    yield "GCOUNT", 1, "number of random groups"
    if is_live:
        yield "BSCALE", 1.0, "pixel=FITS*BSCALE+BZERO"
        yield "BZERO", 32768.0, "pixel=FITS*BSCALE+BZERO"
    yield "EXTNAME", f"CHAN{ifu:02d}", "Extension name"
    yield "INHERIT", True, "Extension inherits values from primary"
    yield "ESO DET CHIP NAME", f"CCD231-84-{ifu:02d}", "Detector chip name"
    yield "ESO DET CHIP ID", f"SER-NO-{100 + ifu}", "Detector chip identification"
    yield "ESO DET CHIP LIVE", is_live, "Detector live or not"
    yield "ESO DET CHIP NX", NX, "Physical active pixels in X"
    yield "ESO DET CHIP NY", NY, "Physical active pixels in Y"
    yield "ESO DET OUTPUTS", len(PORTS), "Number of outputs"
    for n, port in enumerate(PORTS, 1):
        out = f"ESO DET OUT{n}"
        yield f"{out} ID", f"{n - 1:02d}", "Output ID as from manufacturer"
        yield f"{out} X", port.x, "X location of output"
        yield f"{out} Y", port.y, "Y location of output"
        yield f"{out} NX", NX // 2, "Output data pixels in X"
        yield f"{out} NY", NY // 2, "Output data pixels in Y"
        yield f"{out} PRSCX", SCAN, "Output prescan pixels in X"
        yield f"{out} PRSCY", SCAN, "Output prescan pixels in Y"
        yield f"{out} OVSCX", SCAN, "Output overscan pixels in X"
        yield f"{out} OVSCY", SCAN, "Output overscan pixels in Y"
        yield f"{out} CONAD", round(1 / port.gain, 6), "[ADUs/e-]"
        if has_gain:
            yield f"{out} GAIN", port.gain, "[e-/ADU]"
        yield f"{out} RON", port.ron, "[e-]"
