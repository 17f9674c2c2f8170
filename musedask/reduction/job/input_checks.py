"""What must be right with the inputs of a job, since no recipe would complain.

A raw file that is cut off is left out, a missing gain gives wrong variances, of
two frames with one DATE-OBS one is dropped, and an exposure without a row in the
OFFSET_LIST is combined where it stands: all with status 0.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from astropy.io import fits

from musedask.errors import FileError
from musedask.files import as_file_error
from musedask.fits.hdus import Hdu, read_fits, read_primary
from musedask.fits.small import small_fits
from musedask.reduction.job.complaints import Complaint
from musedask.reduction.job.sof import SofLine
from musedask.reduction.jobs import Job
from musedask.reduction.rules import FRAMES_NEEDED

RAW_TAGS = frozenset({*FRAMES_NEEDED, "AMPL", "LINGAIN_LAMP_OFF", "LINGAIN_LAMP_ON"})
"""Tags of what comes from the detectors."""
PIXEL_TABLES = (
    "PIXTABLE_OBJECT",
    "PIXTABLE_SKY",
    "PIXTABLE_STD",
    "PIXTABLE_ASTROMETRY",
    "PIXTABLE_REDUCED",
)
POSITIONED = ("muse_scipost", "muse_exp_combine")
"""Recipes that move exposures by an OFFSET_LIST."""
_GZIP = b"\x1f\x8b"
_ALONE = (*PIXEL_TABLES, "IMAGE_FOV", *RAW_TAGS)
"""Tags of which two files must not be of one exposure and IFU."""


def check_inputs(job: Job, lines: Sequence[SofLine], folder: Path) -> Iterator[Complaint]:
    """Look at the headers of a job's inputs before it runs.

    Parameters
    ----------
    job
        The job.
    lines
        Its SOF.
    folder
        Where esorex is to run.

    Raises
    ------
    FileError
        If a file is cut off, or is no FITS file.
    """
    primaries = {line.source: primary_of(line, folder) for line in lines if line.tag in _ALONE}
    for line in lines:
        if line.tag in RAW_TAGS:
            yield from _raw(job, line)
    yield from _twice(lines, primaries)
    yield from _absent_ifus(job, lines, primaries)
    if job.recipe in POSITIONED:
        yield from _without_offset(lines, primaries, folder)


def offset_table(line: SofLine, folder: Path) -> dict[str, tuple[float, float, float]]:
    """Rows of an OFFSET_LIST: DATE_OBS -> RA_OFFSET, DEC_OFFSET (degrees), FLUX_SCALE (or NaN).

    Raises
    ------
    FileError
        If the pipeline would ignore the table without a word.
    """
    path = folder / line.path
    with small_fits(path) as hdus:
        table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
        formats = {c.name: c.format for c in table.columns} if table is not None else {}
        for name in ("RA_OFFSET", "DEC_OFFSET"):
            if formats.get(name) not in ("D", "1D"):
                raise FileError(
                    f"{line.source}: column {name} has format {formats.get(name)}, not D (float64):"
                    " the pipeline would ignore the whole table; write it as float64"
                )
        if table is None or "DATE_OBS" not in formats:
            raise FileError(f"{line.source}: has no column DATE_OBS: it is no OFFSET_LIST")
        return {str(row["DATE_OBS"]).strip(): _values(row, formats) for row in table.data}


def _values(row: Any, formats: dict[str, str]) -> tuple[float, float, float]:
    scale = float(row["FLUX_SCALE"]) if "FLUX_SCALE" in formats else math.nan
    return float(row["RA_OFFSET"]), float(row["DEC_OFFSET"]), scale


def primary_of(line: SofLine, folder: Path) -> Hdu:
    """The primary header of a file of the SOF, packed or not.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    path = folder / line.path
    with as_file_error(line.source), gzip.open(path) if _is_packed(path) else open(path, "rb") as f:
        return read_primary(f, line.source)


def _is_packed(path: str | Path) -> bool:
    with as_file_error(str(path)), open(path, "rb") as file:
        return file.read(2) == _GZIP


def _raw(job: Job, line: SofLine) -> Iterator[Complaint]:
    """A raw frame: whole, and with the gains that the variances are made of."""
    if _is_packed(line.source):
        return  # its extensions cannot be reached without unpacking all; the products tell
    file = read_fits(line.source)
    wanted = {f"CHAN{job.ifu:02d}"} if job.ifu else {f"CHAN{n:02d}" for n in range(1, 25)}
    for hdu in file.hdus:
        if hdu.name in wanted and hdu.get("ESO DET CHIP LIVE") is not False:
            missing = missing_gains(hdu)
            if missing:
                yield Complaint(
                    "gain",
                    f"{line.source}: {hdu.name} has no {', '.join(missing)}: the pipeline would "
                    "take another gain, and all variances would be wrong",
                )


def missing_gains(hdu: Hdu) -> list[str]:
    """Keywords of a detector's gains that are not there, or no positive numbers."""
    keys = [f"ESO DET OUT{n} GAIN" for n in range(1, 5)]
    values = {key: hdu.get(key) for key in keys}
    return [k for k, v in values.items() if not (isinstance(v, int | float) and v > 0)]


def _twice(lines: Sequence[SofLine], primaries: dict[str, Hdu]) -> Iterator[Complaint]:
    """Two files of one exposure (and IFU): the pipeline drops one of them."""
    seen: dict[tuple[object, ...], str] = {}
    for line in lines:
        if line.source not in primaries:
            continue
        primary = primaries[line.source]
        date = primary.get("DATE-OBS")
        key = (line.tag, date, primary.get("EXTNAME"))
        if date is None and line.tag not in RAW_TAGS:
            yield Complaint("date-obs", f"{line.source}: has no DATE-OBS: it would be ignored")
        elif date is not None and key in seen:
            yield Complaint(
                "duplicate",
                f"{seen[key]} and {line.source} have one DATE-OBS, {date}: the pipeline would "
                "leave one of them out; remove the copy",
            )
        seen[key] = line.source


def _absent_ifus(
    job: Job, lines: Sequence[SofLine], primaries: dict[str, Hdu]
) -> Iterator[Complaint]:
    """IFUs of the job that an exposure has no pixel table of: the pipeline goes on without."""
    there: dict[str, set[int]] = {}
    for line in lines:
        if line.tag not in PIXEL_TABLES:
            continue
        primary = primaries[line.source]
        # A table of all IFUs has no such name.
        if match := re.fullmatch(r"CHAN(\d\d)", primary.name):
            there.setdefault(str(primary.get("DATE-OBS")), set()).add(int(match[1]))
    for date, found in there.items():
        if absent := sorted(set(job.ifus) - found):
            numbers = ", ".join(map(str, absent))
            yield Complaint("ifus", f"there is no pixel table of IFU {numbers} of {date}")


def _without_offset(
    lines: Sequence[SofLine], primaries: dict[str, Hdu], folder: Path
) -> Iterator[Complaint]:
    """Exposures that the OFFSET_LIST does not move."""
    for table in (line for line in lines if line.tag == "OFFSET_LIST"):
        rows = offset_table(table, folder)
        for line in lines:
            if line.tag not in PIXEL_TABLES:
                continue
            date = str(primaries[line.source].get("DATE-OBS"))
            if not all(map(math.isfinite, rows.get(date, (math.nan,))[:2])):
                has = "no finite offset" if date in rows else "no row"
                yield Complaint(
                    "offsets",
                    f"{table.source}: has {has} for DATE-OBS {date} ({line.source}); the pipeline "
                    "would leave that exposure where it stands; measure its offset",
                )
