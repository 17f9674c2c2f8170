"""What is known of simulated raw frames, kept beside them in ``truth.json``."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import get_body_barycentric_posvel
from astropy.time import Time, TimeDelta

from musedask.errors import FileError
from musedask.offsets import Offset, OffsetTable
from musedask.simulation.raw.files import whole_file
from musedask.simulation.raw.night import RawFrame
from musedask.simulation.raw.spec import RawSpec
from musedask.simulation.sky import AnalyticSky, Line, PointSource, Spectrum
from musedask.wording import counted

TRUTH_FILE = "truth.json"
RAW_FOLDER, STATIC_FOLDER = "raw", "static"
_LIGHT_KM_S = 299792.458


@dataclass(frozen=True, repr=False)
class RawTruth:
    """Simulated raw frames and all that is known of them."""

    folder: Path
    """Where they are."""
    spec: RawSpec
    """What was asked for."""
    frames: tuple[RawFrame, ...]
    """In order of time; faults included."""
    fields: dict[str, tuple[PointSource, ...]]
    """Target -> its sources; fluxes in 1e-20 erg/s/cm2/Angstrom above the air."""
    static: dict[str, str]
    """Tag of a static table -> its file in ``static``."""

    @property
    def sources(self) -> tuple[PointSource, ...]:
        """Sources of the first target."""
        return self.fields[self.spec.targets[0]]

    @property
    def sky(self) -> AnalyticSky:
        """All sources of all targets, for :func:`musedask.simulation.true_cube`.

        Wavelengths are as seen from the telescope: see :func:`barycentric_ratio`.
        """
        return AnalyticSky(
            tuple(source for name in self.spec.targets for source in self.fields[name])
        )

    @property
    def exposures(self) -> tuple[RawFrame, ...]:
        """The OBJECT frames."""
        return tuple(frame for frame in self.frames if frame.tag == "OBJECT")

    @property
    def offsets(self) -> OffsetTable:
        """What puts each exposure right: header minus true pointing."""
        return OffsetTable(tuple(
            Offset(
                date_obs=frame.date_obs, name=frame.name, ra_deg=frame.ra_deg,
                dec_deg=frame.dec_deg, ra_offset_arcsec=frame.error_arcsec[0],
                dec_offset_arcsec=frame.error_arcsec[1], method="truth",
            )
            for frame in self.exposures
        ))  # fmt: skip

    def __repr__(self) -> str:
        tally = Counter(frame.tag for frame in self.frames)
        frames = ", ".join(f"{n} {tag}" for tag, n in tally.items())
        sources = ", ".join(f"{len(found)} in {name}" for name, found in self.fields.items())
        return (
            f"RawTruth of {counted(len(self.frames), 'raw frame')} ({frames}) and their sources "
            f"({sources}) in {self.folder}"
        )

    def path(self, frame: RawFrame) -> Path:
        """The file of a frame."""
        return self.folder / RAW_FOLDER / file_name(frame, self.spec)

    def static_path(self, tag: str) -> Path:
        """The file of a static table."""
        return self.folder / STATIC_FOLDER / self.static[tag]


def file_name(frame: RawFrame, spec: RawSpec) -> str:
    """Name of a frame's file, suffixes included."""
    return f"{frame.name}.fits" + (f".{spec.compress}" if spec.compress else "")


def barycentric_ratio(frame: RawFrame) -> float:
    """Give 1 + v / c, the factor from wavelengths at the telescope to barycentric ones.

    The velocity of the Earth's centre in the middle of the exposure: the target
    culminates then, so that the Earth's rotation has no part in it.
    """
    begin = Time(frame.date_obs, format="isot", scale="utc")
    when = begin + TimeDelta(frame.exptime_s / 2, format="sec")
    _, velocity = get_body_barycentric_posvel("earth", when, ephemeris="builtin")
    ra, dec = np.radians([frame.true_ra_deg, frame.true_dec_deg])
    towards = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    return 1.0 + float(velocity.xyz.to_value("km/s") @ towards) / _LIGHT_KM_S


def write_raw_truth(truth: RawTruth) -> None:
    """Write ``truth.json``, replacing an older one."""
    content = {
        "spec": asdict(truth.spec),
        "frames": [asdict(frame) for frame in truth.frames],
        "fields": {
            name: [asdict(source) for source in sources] for name, sources in truth.fields.items()
        },
        "static": truth.static,
    }
    with whole_file(truth.folder / TRUTH_FILE) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def read_raw_truth(folder: str | os.PathLike[str]) -> RawTruth:
    """Read what is known of the simulated raw frames in a folder.

    Raises
    ------
    FileError
        If the folder has no ``truth.json``, or a broken one.
    """
    base = Path(folder)
    try:
        content = json.loads((base / TRUTH_FILE).read_text(encoding="utf-8"))
        return RawTruth(
            base,
            RawSpec(**_tuples(content["spec"])),
            tuple(RawFrame(**_tuples(row)) for row in content["frames"]),
            {name: tuple(_source(row) for row in rows) for name, rows in content["fields"].items()},
            dict(content["static"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise FileError(
            f"{base / TRUTH_FILE}: no truth of raw frames can be read here ({err}): simulate them "
            "again"
        ) from err


def _source(row: dict[str, Any]) -> PointSource:
    spectrum = row["spectrum"]
    lines = tuple(Line(**line) for line in spectrum["lines"])
    continuum = _tuples({"continuum": spectrum["continuum"]})["continuum"]
    return PointSource(row["ra_deg"], row["dec_deg"], Spectrum(continuum, lines))


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    """The row with lists as tuples, all the way down."""

    def turned(value: Any) -> Any:
        return tuple(turned(one) for one in value) if isinstance(value, list) else value

    return {key: turned(value) for key, value in row.items()}
