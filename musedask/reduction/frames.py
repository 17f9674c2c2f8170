"""The noun of a reduction's inputs: a file, its tag, and what association needs of its header."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from musedask.wording import counted

Kind = Literal["raw", "static", "product", "skipped", "unknown", "unreadable"]
"""What a file is: a raw frame; a static table of the calibration kit; a product of the pipeline;
something of MUSE that no recipe here uses (acquisitions, tests); nothing known; not readable."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A file that may take part in a reduction; equal files compare equal."""

    path: str
    """Absolute path, as found (``.fits``, ``.fits.gz`` or ``.fits.fz``)."""
    kind: Kind
    """What it is."""
    tag: str = ""
    """Tag for a SOF: ``BIAS``, ``OBJECT``, ``GEOMETRY_TABLE``...; empty if it has none."""
    reason: str = ""
    """Why it is skipped, unknown or unreadable; for people."""
    date_obs: str = ""
    """DATE-OBS with milliseconds: what identifies an exposure."""
    mjd: float = math.nan
    """MJD-OBS, days: start of the exposure."""
    night: str = ""
    """Date of the night's evening, ``2021-03-04``: DATE-OBS minus a day before local noon."""
    exptime_s: float = math.nan
    """EXPTIME, seconds."""
    target: str = ""
    """OBS TARG NAME, or OBJECT where that is missing."""
    ob_id: str = ""
    """OBS ID."""
    mode: str = ""
    """INS MODE: ``WFM-NOAO-N``..."""
    readout: str = ""
    """DET READ CURNAME: ``SCI1.0``..."""
    optics: str = ""
    """INS OPTI2 NAME: wide or narrow field, for the geometry and the astrometry."""
    template_start: str = ""
    """TPL START: frames of one template belong together."""
    template_id: str = ""
    """TPL ID."""
    template_size: int = 0
    """TPL NEXP; 0 if unknown."""
    temperature_c: float = math.nan
    """INS TEMP7 VAL, degrees Celsius: by which an ILLUM is chosen."""
    ra_deg: float = math.nan
    """RA of the header's pointing, degrees."""
    dec_deg: float = math.nan
    """DEC of the header's pointing, degrees."""
    lamps: tuple[str, ...] = ()
    """Lamps that are lit, by the names of LAMPn NAME: which arcs a sequence has."""
    ifus: tuple[int, ...] | None = None
    """IFUs with live data, ascending; None where the headers were not all read."""
    size: int = 0
    """Length of the file, bytes."""
    mtime_ns: int = 0
    """Time of the file's last change, nanoseconds."""
    header_hash: str = ""
    """SHA-256 of the headers that were read, hexadecimal."""

    @property
    def identity(self) -> str:
        """What changes when the file's content does: its size, its time and its headers.

        The path is not in it, so that a night may be moved (with its times kept).
        """
        return f"{self.size}-{self.mtime_ns}-{self.header_hash}"

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, repr=False)
class FrameList:
    """The files of some folders, in the order of DATE-OBS; those without one come last."""

    frames: tuple[Frame, ...]
    """All of them, also what is skipped, unknown or unreadable."""
    notes: tuple[str, ...] = ()
    """What a user should know of the search: copies that count once, a broken inventory..."""
    folders: tuple[str, ...] = ()
    """The folders that were searched."""
    xml_files: tuple[str, ...] = ()
    """XML files that lie there: they may be CalSelector's associations."""

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]

    @cached_property
    def _by_tag(self) -> dict[str, tuple[Frame, ...]]:
        found: dict[str, list[Frame]] = {}
        for frame in self.frames:
            found.setdefault(frame.tag, []).append(frame)
        return {tag: tuple(frames) for tag, frames in found.items()}

    def of_tag(self, *tags: str) -> tuple[Frame, ...]:
        """Frames of these tags, tag by tag."""
        return tuple(frame for tag in tags for frame in self._by_tag.get(tag, ()))

    def of_kind(self, *kinds: Kind) -> tuple[Frame, ...]:
        """Frames of these kinds."""
        return tuple(frame for frame in self.frames if frame.kind in kinds)

    @property
    def science(self) -> tuple[Frame, ...]:
        """Raw exposures of the sky to be reduced to cubes: OBJECT."""
        return tuple(frame for frame in self.of_tag("OBJECT") if frame.kind == "raw")

    def __repr__(self) -> str:
        return f"FrameList of {counted(len(self), 'file')} ({self._summary()})"

    def __str__(self) -> str:
        lines = [counted(len(self), "file")]
        tally = Counter((frame.kind, frame.tag or "-") for frame in self.frames)
        lines += [f"{kind:10} {tag:22} {n:6}" for (kind, tag), n in sorted(tally.items())]
        return "\n".join([*lines, *self.notes])

    def _summary(self) -> str:
        tally = Counter(frame.tag if frame.kind == "raw" else frame.kind for frame in self.frames)
        return ", ".join(f"{n} {what}" for what, n in tally.most_common())
