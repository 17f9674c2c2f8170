"""Alignment as one value: exposures and options in, a table of offsets out.

The command line, the demo and scripts that want exactly what the command line
does all come through here.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from musedask.alignment.by_hand import GivenOffset, set_by_hand, user_name
from musedask.alignment.image_files import read_image
from musedask.alignment.material import MaskedCircle, material_folder, read_material
from musedask.alignment.measure import align
from musedask.alignment.measurement import Alignment
from musedask.alignment.opening import has_a_cube
from musedask.alignment.review.applying import apply_decisions
from musedask.alignment.review.decisions import read_decisions
from musedask.alignment.table_lock import table_locked
from musedask.config import CONFIG_NAME
from musedask.ds9_regions import RegionFile
from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.fits import open_exposures
from musedask.fits.unpack import open_fits
from musedask.masks import MASK_SENSES
from musedask.offset_text import offsets_summary, offsets_text
from musedask.offsets import FAILED, ExposureLike, Offset, OffsetTable, date_key
from musedask.placement import exposure_key
from musedask.progress import Progress
from musedask.run import Run, open_run
from musedask.wording import counted

FLUX_SCALES = ("none", "relative")
FARTHEST_ARCSEC = 20.0


@dataclass(frozen=True)
class AlignJob:
    """What to align, with what, and how."""

    exposures: tuple[str, ...]
    """FITS cubes and images of exposures, or one exposure table (``.ecsv``)."""
    output: Path
    """The table to make or to bring up to date (``.ecsv``)."""
    reference: Path | None = None
    """Image or catalogue; without it exposures are aligned with one another."""
    filters: tuple[str, ...] = ("white",)
    """Filters through which cubes are seen; the first is compared with the reference.
    ``reference`` is the one that is most like its own."""
    exclude: tuple[str | tuple[float, float], ...] = ()
    """Wavelengths (Angstrom) that are left out of the images of cubes, ``lines`` or ``oh``."""
    max_offset_arcsec: float = FARTHEST_ARCSEC
    """How far is looked, along each axis."""
    rotation: bool = False
    """Whether a rotation is measured too."""
    flux_scale: str = "none"
    """``relative`` lets exposures agree in flux with one another, with a median scale of 1;
    ``none`` applies no scale."""
    relative: bool = True
    """Whether exposures are compared with one another, too, if there is a reference."""
    masks: Path | None = None
    """DS9 regions, circles on the sky, that do not count: a star that moved, a satellite."""
    mask_sense: str = "good"
    """What a value other than 0 means in the FITS masks that an exposure table names."""

    def __post_init__(self) -> None:
        """Complain of options that contradict one another."""
        if not self.exposures:
            raise InputError("no exposures: give FITS cubes or images, an exposure table, or a run")
        tables = [name for name in self.exposures if name.endswith(".ecsv")]
        if tables and len(self.exposures) > 1:
            raise InputError(
                f"{tables[0]} is an exposure table: give it alone, or give files without a table"
            )
        if self.output.suffix != ".ecsv":
            raise InputError(
                f"{self.output}: the table of offsets is an .ecsv; other formats are exports of it"
            )
        if self.flux_scale not in FLUX_SCALES:
            raise InputError(f"flux_scale {self.flux_scale!r}, expected {' or '.join(FLUX_SCALES)}")
        if self.mask_sense not in MASK_SENSES:
            raise InputError(f"mask_sense {self.mask_sense!r}, expected {' or '.join(MASK_SENSES)}")
        if "reference" in self.filters and self.reference is None:
            raise InputError("filters 'reference': there is no reference; give one, or a filter")
        if not self.filters:
            raise InputError("no filters: give at least one, as 'white'")
        if not self.relative and self.reference is None:
            raise InputError(
                "without a reference exposures can only be compared with one another: give a "
                "reference, or relative=True"
            )


@dataclass(frozen=True)
class AlignReport:
    """What was measured, and the table that it went into."""

    path: Path
    """The table's file."""
    table: OffsetTable
    """All of it."""
    measured: tuple[str, ...]
    """Keys of the exposures that were measured now."""
    kept: tuple[str, ...]
    """Names of those that keep what a person decided."""

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of exposures that were measured, have no usable offset, and nobody flagged."""
        return tuple(
            row.name or row.key
            for row in self.table
            if row.key in self.measured and row.is_failed and not row.is_decided
        )

    def __str__(self) -> str:
        lines = [offsets_text(self.table), "", f"{self.path}: {offsets_summary(self.table)}"]
        if self.kept:
            lines.append(f"  kept as people decided: {', '.join(self.kept)}")
        if self.failed:
            lines.append(
                f"  failed: {', '.join(self.failed)}; set them by hand, or leave the exposures out"
            )
        return "\n".join(lines)


def run(job: AlignJob, progress: Progress | None = None) -> AlignReport:
    """Measure the offsets, and bring table and material up to date.

    Rows of exposures that are not given stay, and those that a person has set or
    judged. The table appears in one step, after what was compared.

    Parameters
    ----------
    job
        The job.
    progress
        Told how many exposures are measured.

    Raises
    ------
    MusedaskError
        If anything in the job cannot be used, or the files cannot be written.
    """
    existing(job.output)  # or complain before the work
    found = _measured(job, listed(job.exposures), progress)
    new = OffsetTable(tuple(_rows(found, job.flux_scale)))
    with table_locked(job.output):
        # Now, and not before it was measured: people may have decided something meanwhile.
        before = existing(job.output)
        table = before.merged_with(new)
        table.write(job.output, format="ecsv", overwrite=True)
    keys = tuple(row.key for row in new)
    kept = tuple(row.name or row.key for row in before if row.is_decided and row.key in keys)
    return AlignReport(job.output, table, keys, kept)


def _measured(
    job: AlignJob, exposures: Sequence[xr.Dataset | str], progress: Progress | None
) -> Alignment:
    return align(
        exposures, job.reference, filters=job.filters, exclude=job.exclude,
        max_offset_arcsec=job.max_offset_arcsec, rotation=job.rotation, relative=job.relative,
        flux_scales=job.flux_scale != "none", masks=masked_circles(job.masks), progress=progress,
        mask_sense=job.mask_sense, material=material_folder(job.output),
    )  # fmt: skip


def set_offsets(
    output: Path, given: Iterable[GivenOffset], exposures: Sequence[str] = (), *, note: str = ""
) -> OffsetTable:
    """Put offsets that a person gives into a table, and write it; measures nothing.

    Parameters
    ----------
    output
        The table, made if it is not there.
    given
        The offsets.
    exposures
        Files of exposures that may have no row yet.
    note
        Why.

    Raises
    ------
    MusedaskError
        If there is no such exposure, or a file cannot be read or written.
    """
    existing(output)
    keys = [_key_of(one) for one in (listed(exposures) if exposures else ())]
    with table_locked(output):
        table = set_by_hand(existing(output), given, keys, note=note)
        table.write(output, format="ecsv", overwrite=True)
    return table


def apply_review(output: Path, review: Path) -> OffsetTable:
    """Bring the decisions of a review page that had no server into a table: all, or none.

    Raises
    ------
    MusedaskError
        If a decision cannot be applied, or a file cannot be read or written.
    """
    decisions, folder = read_decisions(review), material_folder(output)
    with table_locked(output):
        before = OffsetTable.read(output, format="ecsv")
        material = read_material(folder) if folder.is_dir() else None
        table = apply_decisions(before, decisions, material, user_name())
        table.write(output, format="ecsv", overwrite=True)
    return table


def existing(path: Path) -> OffsetTable:
    """The table that is there already, or an empty one.

    Raises
    ------
    FileError
        If its folder is not there or it cannot be read.
    InputError
        If it is no table of offsets.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{folder}: cannot be written to; choose another folder for {path.name}")
    return OffsetTable.read(path, format="ecsv") if os.path.lexists(path) else OffsetTable(())


def listed(given: Sequence[str]) -> list[xr.Dataset | str]:
    """Open cubes lazily, and leave images to the task that measures them; in the order given.

    Raises
    ------
    FileError
        If a file cannot be read.
    InputError
        If an exposure has no DATE-OBS, or two of them have the same.
    """
    if given[0].endswith(".ecsv"):
        return list(open_exposures(given[0]))
    cubes = [path for path in given if has_a_cube(path)]
    lazy = dict(zip(cubes, open_exposures(cubes) if cubes else (), strict=True))
    found = [lazy.get(path, path) for path in given]
    _check_dates([(path, _date_of(one)) for path, one in zip(given, found, strict=True)])
    return found


def _date_of(exposure: xr.Dataset | str) -> str:
    """DATE-OBS of a cube or of an image's file."""
    if not isinstance(exposure, str):
        return str(exposure["date_obs"].values)
    dates = (hdu.get("DATE-OBS") for hdu in open_fits(exposure).hdus)
    return str(next(filter(None, dates), ""))


def _key_of(exposure: xr.Dataset | str) -> ExposureLike:
    return read_image(exposure) if isinstance(exposure, str) else exposure_key(exposure)


def _check_dates(dated: Sequence[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for path, date in dated:
        if not date:
            raise InputError(
                f"{path}: there is no DATE-OBS, which is what an offset is found by; add the card"
            )
        if date_key(date) in seen:
            raise InputError(
                f"{path} and {seen[date_key(date)]} have the same DATE-OBS {date}: an exposure "
                "has one offset, give one of them"
            )
        seen[date_key(date)] = path


def masked_circles(regions: Path | None) -> tuple[MaskedCircle, ...]:
    """Circles of a DS9 file, as the alignment takes them.

    Raises
    ------
    FileError
        If it cannot be read.
    InputError
        If a shape in it is no circle on the sky.
    """
    if regions is None:
        return ()
    return tuple(MaskedCircle(*circle) for circle in RegionFile.read(regions).circles())


def _rows(found: Alignment, flux_scale: str) -> list[Offset]:
    """Rows of the table, with flux scales in relation to their median, or none.

    With their median, and not the reference's units: the fluxes of a stack stay those of
    its typical exposure.
    """
    usable = [one for one in found if one.grade != FAILED]
    scales = [one.flux_scale for one in usable if one.grade in ("A", "B") and one.flux_scale > 0]
    if flux_scale == "none":
        return [one.offset for one in found]
    without = [one.name or one.date_obs for one in usable if not (scales and one.flux_scale > 0)]
    if without:
        warnings.warn(
            f"no flux scale for {counted(len(without), 'exposure')} ({', '.join(without[:5])}"
            f"{', ...' if len(without) > 5 else ''}): it needs two clear sources in common with "
            "the others; their flux stays as it is, unless you set flux_scale in the table",
            MusedaskWarning,
            stacklevel=2,
        )
    middle = float(np.median(scales)) if scales else math.nan
    return [
        replace(
            one.offset,
            flux_scale=one.flux_scale / middle,
            flux_scale_error=one.flux_scale_error / middle,
            background=one.background,
        )
        if one.grade != FAILED
        else one.offset
        for one in found
    ]


def run_of(given: Sequence[str]) -> Run | None:
    """The run whose folder is given, if it is one.

    Raises
    ------
    InputError
        If it is given with anything else.
    """
    runs = [name for name in given if Path(name, CONFIG_NAME).is_file()]
    if not runs:
        return None
    if len(given) > 1:
        raise InputError(
            f"{runs[0]} is a run: give it alone; cubes of several runs lie in their folders 'cubes'"
        )
    return open_run(runs[0])


def files_of_run(run: Run) -> list[str]:
    """Cubes of all finished exposures of a run, those without a usable offset included.

    Raises
    ------
    MissingError
        If there is none.
    """
    apart = sorted(map(str, run.unplaced_cubes.glob("*.fits")))
    # With only failed offsets, no cube is on the final grid.
    placed = [] if apart and not any(run.cubes.glob("*.fits")) else run.exposures()
    return [*map(str, placed), *apart]


def job_after_reduction(run: Run, *, ok: bool) -> AlignJob | None:
    """What has to be aligned before a reduction can go on; None if it does not wait for that.

    Parameters
    ----------
    run
        The run, whose cubes before any offset are done as far as they can be.
    ok
        Whether no job failed. Exposures that are aligned with one another wait for
        one another; with a reference each is measured alone.
    """
    config = run.config.reduction
    if config.offsets != "measured" or not (ok or config.reference):
        return None
    return job_of_run(run, only_new=True)


def job_of_run(run: Run, *, only_new: bool = False) -> AlignJob | None:
    """What is aligned of a run: all its exposures, as its configuration says.

    Parameters
    ----------
    run
        The run.
    only_new
        Leave out exposures that have a row, if the reference makes them
        independent of one another; None if there is nothing left.

    Raises
    ------
    MissingError
        If the run has no finished exposure.
    """
    cubes = files_of_run(run)
    given = run.config.reduction.reference
    if only_new:
        known = existing(run.offsets) if run.offsets.exists() else OffsetTable(())
        dates = [str(cube["date_obs"].values) for cube in open_exposures(cubes)]
        new = [path for path, date in zip(cubes, dates, strict=True) if date not in known]
        if not new:
            return None
        cubes = new if given else cubes
    run.tables.mkdir(exist_ok=True)
    return AlignJob(
        exposures=tuple(cubes),
        output=run.offsets,
        reference=run.path(given) if given else None,
    )
