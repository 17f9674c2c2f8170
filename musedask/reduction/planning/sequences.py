"""Raw calibrations that belong together, and products that can stand in for them.

A sequence is what one call of a recipe works on: the frames of one template. A
product of the pipeline that lies among the frames (MASTER_BIAS of an archive...)
is a sequence too, which needs no call any more.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from musedask.reduction.frames import Frame
from musedask.reduction.rules import ARC_LAMPS, RAW_OF, SEQUENCES

ALL_IFUS = tuple(range(1, 25))
FIRST_IFU = 1
"""muse_twilight looks at this IFU first, and fails without it."""
SMALLEST = {"BIAS": 3, "DARK": 3, "FLAT": 3, "SKYFLAT": 3, "ARC": 3, "ARC_LSF": 3}
"""Raw tag -> frames without which a sequence is none: what the recipes insist on."""
LAMPS = {"CU-LAMP3": "Ne", "CU-LAMP4": "Xe", "CU-LAMP5": "HgCd", "CU-LAMP6": "Ne"}
"""LAMPn NAME -> lamp, as the pipeline has it."""
ROLES = {
    "MASTER_BIAS": "BIAS",
    "MASTER_DARK": "DARK",
    "MASTER_FLAT": "FLAT",
    "TRACE_TABLE": "FLAT",
    "TRACE": "FLAT",
    "WAVECAL_TABLE": "ARC",
    "WAVECAL": "ARC",
    "LSF_PROFILE": "LSF_PROFILE",
    "LSF": "LSF_PROFILE",
    "ARC_LSF": "LSF_PROFILE",
    "TWILIGHT_CUBE": "SKYFLAT",
    "TWILIGHT": "SKYFLAT",
    "STD_RESPONSE": "STD",
    "STD_TELLURIC": "STD",
    "SKY_CONTINUUM": "SKY",
}
"""Tag or common name -> role in the chain; a tag that is not here is its own role."""
_MODES = {
    "wfm-n": "WFM-NOAO-N",
    "wfm-noao-n": "WFM-NOAO-N",
    "wfm-e": "WFM-NOAO-E",
    "wfm-noao-e": "WFM-NOAO-E",
    "wfm-ao-n": "WFM-AO-N",
    "wfm-ao-e": "WFM-AO-E",
    "nfm-ao-n": "NFM-AO-N",
    "nfm": "NFM-AO-N",
}


def role_of(tag: str) -> str:
    """Give the role that a tag plays in the chain: ``TRACE_TABLE`` comes out of FLAT..."""
    return ROLES.get(tag, tag)


@dataclass(frozen=True, eq=False)
class Sequence:
    """Frames that one call works on, or the files that make it needless."""

    role: str
    """``BIAS``, ``FLAT``, ``ARC``... (:func:`role_of`)."""
    frames: tuple[Frame, ...]
    """In order of time; at least one."""

    @property
    def first(self) -> Frame:
        """The frame that stands for all: masters carry its header."""
        return self.frames[0]

    @property
    def tag(self) -> str:
        """Tag of its frames; ``ARC`` and ``ARC_LSF`` can both play the role LSF_PROFILE."""
        return self.first.tag

    @property
    def is_raw(self) -> bool:
        """Whether it still has to be reduced."""
        return self.first.kind == "raw"

    @cached_property
    def ifus(self) -> tuple[int, ...]:
        """IFUs that all raw frames have, or any of the products."""
        sets = [set(ALL_IFUS if f.ifus is None else f.ifus) for f in self.frames]
        found = set.intersection(*sets) if self.is_raw else set.union(*sets)
        return tuple(sorted(found))

    @cached_property
    def tags(self) -> frozenset[str]:
        """Tags of its files."""
        return frozenset(frame.tag for frame in self.frames)

    @property
    def label(self) -> str:
        """What it is called: by its template, or its file if it is alone."""
        if len(self.frames) == 1 or not self.is_raw:
            return self.first.name
        start = self.first.template_start or self.first.date_obs
        return f"{start} ({len(self.frames)} frames)"

    def files(self, tag: str, ifu: int | None = None) -> tuple[Frame, ...]:
        """Its files of a tag, and of an IFU if that is asked for."""
        return tuple(
            f for f in self.frames if f.tag == tag and (ifu is None or ifu in (f.ifus or ALL_IFUS))
        )


def stem_of(name: str) -> str:
    """Give the name of a file as the archive's associations have it: without its ending."""
    return name.partition(".fits")[0]


def time_order(frame: Frame) -> tuple[float, str, str, str]:
    """Sort key that does not depend on the order in which files were found."""
    return frame.mjd, frame.date_obs, frame.name, frame.identity


def raw_sequences(frames: Iterable[Frame]) -> tuple[tuple[Sequence, ...], tuple[str, ...]]:
    """Group raw calibrations.

    Parameters
    ----------
    frames
        Frames of any kind; those that are not raw are passed over.

    Returns
    -------
    sequences
        In order of time. STD frames stand alone: each gets a response of its own.
    notes
        Groups that are too small, or have not all arc lamps, and why.
    """
    groups: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
    notes = []
    for frame in sorted((f for f in frames if f.kind == "raw"), key=time_order):
        if frame.mjd != frame.mjd:
            notes.append(f"{frame.name} ({frame.tag}) has no MJD-OBS and is not used")
            continue
        together = frame.tag in SEQUENCES and frame.tag not in ("STD", "ASTROMETRY")
        group = (frame.template_start or frame.night) if together else frame.path
        groups[frame.tag, group, frame.mode, frame.readout].append(frame)
    found = []
    for (tag, *_), members in groups.items():
        sequence = Sequence(tag, tuple(members))
        if flaw := _flaw(sequence):
            notes.append(f"{tag} {sequence.label} is not used: {flaw}")
        else:
            found.append(sequence)
    return tuple(found), tuple(notes)


def _flaw(sequence: Sequence) -> str:
    """Why a group of frames cannot be reduced; empty if it can."""
    n_frames, needed = len(sequence.frames), SMALLEST.get(sequence.tag, 1)
    if n_frames < needed:
        return f"{n_frames} of the {needed} frames that it takes at least"
    if not sequence.ifus:
        return "its frames have no IFU in common"
    if sequence.tag == "SKYFLAT" and FIRST_IFU not in sequence.ifus:
        return f"its frames have no IFU {FIRST_IFU}, without which muse_twilight fails"
    if sequence.tag in ("ARC", "ARC_LSF"):
        lit = {LAMPS.get(lamp, lamp) for frame in sequence.frames for lamp in frame.lamps}
        dark = [lamp for lamp in ARC_LAMPS if lamp not in lit]
        # Where no frame tells its lamps there is nothing to go by.
        if lit and dark:
            return f"no frame of the lamp {' and '.join(dark)}"
    return ""


def product_sequences(frames: Iterable[Frame]) -> tuple[Sequence, ...]:
    """Group calibrations that a pipeline has made already, in order of time.

    The master frames of the IFUs may be files of their own: those of one DATE-OBS
    (of the first raw frame), mode and read-out belong together. Files of the
    calibration kit (a response, a line spread function) may lack a date.
    """
    groups: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
    for frame in sorted(frames, key=time_order):
        if frame.kind in ("product", "static") and (
            frame.tag in RAW_OF or frame.tag == "SKY_CONTINUUM"
        ):
            known = frame if frame.mode else replace(frame, mode=mode_of_name(frame.name))
            group = frame.date_obs or frame.name
            groups[role_of(frame.tag), group, known.mode, frame.readout].append(known)
    return tuple(Sequence(role, tuple(members)) for (role, *_), members in groups.items())


def mode_of_name(name: str) -> str:
    """Give the INS MODE that a file of the kit says in its name; empty if it says none."""
    found = re.search(r"(?<![a-z])(wfm|nfm)(-(?:no)?ao)?(-[ne])?(?![a-z])", name.lower())
    return _MODES.get(found.group(0), "") if found else ""
