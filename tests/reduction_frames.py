"""Frames of made-up nights, as a scan of folders would give them, without any file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from musedask.reduction.frames import Frame

EPOCH = datetime(1858, 11, 17)
ALL = tuple(range(1, 25))
LAMPS = ("CU-LAMP5", "CU-LAMP3", "CU-LAMP4")
STATIC = (
    "LINE_CATALOG", "GEOMETRY_TABLE", "ASTROMETRY_WCS", "EXTINCT_TABLE", "STD_FLUX_TABLE",
    "SKY_LINES", "FILTER_LIST", "TELLURIC_REGIONS", "RAMAN_LINES",
)  # fmt: skip
KIT = {"GEOMETRY_TABLE": "geometry_table_wfm", "ASTROMETRY_WCS": "astrometry_wcs_wfm"}
EVENING = "2021-03-04"
"""The night of most tests."""
DATED_NIGHTS = (
    ("2014-11-30", "_wfm_comm2b"),
    ("2014-12-01", "_wfm_comm2b"),
    ("2014-12-02", "_2014-12-01"),
    ("2015-04-15", "_2014-12-01"),
    ("2015-04-16", "_2015-04-16"),
    ("2015-09-09", "_2015-04-16"),
    ("2015-09-10", "_2015-09-10"),
    ("2016-02-13", "_2015-09-10"),
    ("2016-02-14", ""),
    ("2024-01-01", ""),
)
"""Night -> how the names of its geometry and astrometry tables end, on both sides of each date."""


def raw(tag: str, when: datetime | str, **given: object) -> Frame:
    """A raw frame; its content hash follows from its name."""
    when = datetime.fromisoformat(when) if isinstance(when, str) else when
    date_obs = when.isoformat(timespec="milliseconds")
    defaults = {
        "path": f"/raw/MUSE.{date_obs}.fits",
        "kind": "raw",
        "tag": tag,
        "date_obs": date_obs,
        "mjd": (when - EPOCH) / timedelta(days=1),
        "night": (when - timedelta(hours=16)).date().isoformat(),
        "mode": "WFM-NOAO-N",
        "readout": "SCI1.0",
        "optics": "WFM",
        "ra_deg": 150.0,
        "dec_deg": 2.0,
        "ifus": ALL,
        "temperature_c": 12.0,
        "size": 1000,
        "header_hash": hashlib.sha256(f"{tag}{date_obs}".encode()).hexdigest(),
    }
    return Frame(**{**defaults, **given})


def template(tag: str, when: datetime | str, number: int, **given: object) -> list[Frame]:
    """Frames of one template, a minute apart; arcs take the three lamps in turn."""
    start = datetime.fromisoformat(when) if isinstance(when, str) else when
    found = []
    for n in range(number):
        lamps = (LAMPS[n % 3],) if tag.startswith("ARC") else ()
        fixed = {"template_start": start.isoformat(), "template_size": number, "lamps": lamps}
        found.append(raw(tag, start + timedelta(minutes=n), **{**fixed, **given}))
    return found


def table(tag: str, name: str = "", **given: object) -> Frame:
    """A static table, under the name that the kit gives it."""
    name = name or f"{KIT.get(tag, tag.lower())}.fits"
    fixed = {"kind": "static", "tag": tag, "size": 100}
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Frame(path=f"/static/{name}", header_hash=digest, **{**fixed, **given})


def tables(tags: Iterable[str] = STATIC) -> list[Frame]:
    """The kit."""
    return [table(tag) for tag in tags]


def calibrations(evening: str = EVENING, mode: str = "WFM-NOAO-N", **given: object) -> list[Frame]:
    """What is taken around a night: everything but the exposures of the sky."""
    noon = datetime.fromisoformat(evening) + timedelta(hours=16)

    def at(hours: float) -> datetime:
        return noon + timedelta(hours=hours)

    found = template("BIAS", at(2), 5, mode="WFM-NOAO-N", **given)
    found += template("FLAT", at(3), 5, mode=mode, **given)
    found += template("ARC", at(4), 9, mode=mode, **given)
    found += template("SKYFLAT", at(7), 4, mode=mode, **given)
    found += [raw("ILLUM", at(8 + n), mode="WFM-NOAO-N", **given) for n in range(0, 9, 2)]
    found += [raw("STD", at(8.5), mode=mode, target="GD71", **given)]
    return found


def exposures(
    number: int,
    evening: str = EVENING,
    mode: str = "WFM-NOAO-N",
    *,
    tag: str = "OBJECT",
    first_hours: float = 9.0,
    **given: object,
) -> list[Frame]:
    """Exposures of one target, twenty minutes apart."""
    start = datetime.fromisoformat(evening) + timedelta(hours=16 + first_hours)
    fixed = {"target": "HDFS", "ob_id": "1", "exptime_s": 900.0}
    return [
        raw(tag, start + timedelta(minutes=20 * n), mode=mode, **{**fixed, **given})
        for n in range(number)
    ]


def night(
    number: int = 2, evening: str = EVENING, mode: str = "WFM-NOAO-N", **given: object
) -> list[Frame]:
    """A night with its kit, and all that its exposures need."""
    found = calibrations(evening, mode, **given) + exposures(number, evening, mode, **given)
    return [*found, *tables()]


def changed(frame: Frame) -> Frame:
    """The same file with another content."""
    return replace(frame, header_hash=f"changed-{frame.header_hash}")
