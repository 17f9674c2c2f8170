"""The main job as one value: exposures and options in, a mega-cube out.

The command line, the demo and scripts that want exactly what the command line
does all come through here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.system
import xarray as xr

from musedask.blocks import BlockPlan, Stack
from musedask.errors import FileError, InputError
from musedask.exposures import read_exposure_table
from musedask.fits import check_variance, direct_source, open_exposures
from musedask.fits.reading import Duplicates
from musedask.grid import PAD_PIX, CubeGrid
from musedask.megacube import WriteReport, write_megacube
from musedask.offsets import OffsetTable
from musedask.placement import exposure_key
from musedask.progress import Progress
from musedask.spectral import SpectralAxis
from musedask.stacking import StackOptions, stack_with
from musedask.stacking.block import GATHER_BYTES, SLAB_BYTES

logger = logging.getLogger(__name__)

BASE_MEMORY = 350 << 20
"""Resident size of Python with its libraries and compiled kernels, about."""


@dataclass(frozen=True)
class StackJob:
    """What to stack, onto what, and how."""

    exposures: tuple[str, ...]
    """FITS cubes, or one exposure table (``.ecsv``)."""
    output: Path
    """The store to make."""
    offsets: Path | None = None
    """File of offsets in any format that :class:`OffsetTable` reads."""
    offsets_format: str | None = None
    """Its format, where its content does not tell."""
    refcube: Path | None = None
    """FITS file whose grid is taken."""
    overlap: bool = False
    """Only what all exposures share, instead of all that any covers."""
    pixel_arcsec: float | None = None
    """Another spaxel than the exposures'."""
    pad: int = PAD_PIX
    """Pixels around the union of the exposures."""
    wavelengths: str = "common"
    """``common``, ``nominal``, or ``first:step:size``."""
    between: tuple[float, float] | None = None
    """Stack only the channels between these wavelengths, Angstrom."""
    options: StackOptions = field(default_factory=StackOptions)
    """Statistics, resampling, weights, masks."""
    allow_missing: bool = False
    """Take exposures without an offset as they are."""
    allow_failed: bool = False
    """Use offsets of grade F."""
    duplicates: Duplicates = "error"
    """What to do with several cubes of one DATE-OBS."""
    overwrite_grid: bool = False
    """Replace a store of another grid."""


@dataclass(frozen=True)
class Estimate:
    """What a job will read, write and need."""

    n_exposures: int
    n_blocks: int
    shape: tuple[int, int, int]
    bytes_read: int
    bytes_written: int
    memory: int
    grid: str

    def __str__(self) -> str:
        nz, ny, nx = self.shape
        return (
            f"{self.n_exposures} exposures onto {nz} channels x {ny} x {nx} spaxels\n"
            f"{self.grid}\n"
            f"tasks    {self.n_blocks}\n"
            f"to read  {self.bytes_read / 1e9:.2f} GB\n"
            f"to write {self.bytes_written / 1e9:.2f} GB at most\n"
            f"memory   {self.memory / 2**30:.2f} GiB on {dask.system.CPU_COUNT} threads"
        )


def prepare(job: StackJob) -> Stack:
    """Open the exposures and plan the stack; reads headers, offsets and masks only.

    Raises
    ------
    MusedaskError
        If anything in the job cannot be used.
    """
    if not job.exposures:
        raise InputError("no exposures: give FITS cubes or an exposure table (.ecsv)")
    cubes = open_exposures(_listed(job.exposures), duplicates=job.duplicates)
    offsets = None
    if job.offsets is not None:
        keys = [exposure_key(cube) for cube in cubes]
        offsets = OffsetTable.read(job.offsets, keys, format=job.offsets_format)
        _check_all_used(offsets, cubes, job)
    return stack_with(
        cubes, offsets, _grid(job, cubes, offsets), job.options,
        allow_missing=job.allow_missing, allow_failed=job.allow_failed,
    )  # fmt: skip


def estimate(planned: Stack) -> Estimate:
    """What a planned stack will read, write and need; computes nothing."""
    plan = planned.plan
    n_planes = len(plan.slots)
    voxels = sum(_voxels(plan, block) for block in plan.keys)
    depth, ny, nx = (sizes[0] for sizes in plan.chunks)
    widest = max((len(members) for members in plan.touching.values()), default=0)
    block = 4 * ny * nx * ((max(slot.plane for slot in plan.slots) + 2) * depth + 2 * widest)
    scratch = SLAB_BYTES + GATHER_BYTES + block
    pixels = sum(_voxels(plan, block) * len(plan.touching[block[1:]]) for block in plan.keys)
    return Estimate(
        planned.exposures.sizes["exposure"], len(plan.keys), plan.shape, 8 * pixels,
        4 * n_planes * voxels, BASE_MEMORY + dask.system.CPU_COUNT * scratch,
        str(planned.attrs.get("grid", "")),
    )  # fmt: skip


def _voxels(plan: BlockPlan, block: tuple[int, int, int]) -> int:
    return math.prod(part.stop - part.start for part in plan.region(block))


def run(
    job: StackJob,
    progress: Progress | None = None,
    say: Callable[[str], None] = logger.info,
) -> WriteReport:
    """Do the job: check the variances, stack, write; goes on where it was stopped.

    Raises
    ------
    MusedaskError
        If anything in the job cannot be used, or the store cannot be written.
    """
    if not job.output.absolute().parent.is_dir():
        raise FileError(f"{job.output.absolute().parent}: no such folder; make it first")
    planned = prepare(job)
    _check_variances(job)
    say(str(planned))
    return write_megacube(planned, job.output, progress=progress, overwrite_grid=job.overwrite_grid)


def _listed(exposures: Sequence[str]) -> Any:
    """One table, or cubes: never both."""
    tables = [name for name in exposures if name.endswith(".ecsv")]
    if tables and len(exposures) > 1:
        raise InputError(
            f"{tables[0]} is an exposure table: give it alone, or give cubes without a table"
        )
    return tables[0] if tables else list(exposures)


def _check_all_used(offsets: OffsetTable, cubes: Sequence[xr.Dataset], job: StackJob) -> None:
    """Offsets for exposures that are not there are most often a wrong file: say so."""
    known = {str(cube["date_obs"].values)[:23] for cube in cubes}
    if job.exposures[0].endswith(".ecsv"):  # its rows that are not used are known as well
        known |= {str(date)[:23] for date in read_exposure_table(job.exposures[0])["date_obs"]}
    strange = [row for row in offsets if row.date_obs[:23] not in known]
    if strange and not job.allow_missing:
        raise InputError(
            f"{job.offsets}: {len(strange)} of {len(offsets)} offsets are for exposures that are "
            f"not given (the first: {strange[0].name or strange[0].date_obs}); give those too, "
            "take their rows out, or go on with --allow-missing-offsets"
        )


def _check_variances(job: StackJob) -> None:
    for cube in open_exposures(_listed(job.exposures), duplicates=job.duplicates):
        source = direct_source(cube)
        if source is not None:
            check_variance(source)


def _grid(job: StackJob, cubes: Sequence[xr.Dataset], offsets: OffsetTable | None) -> CubeGrid:
    axis = _axis(job, cubes)
    if job.refcube is not None:
        if job.overlap or job.pixel_arcsec is not None:
            raise InputError("--refcube gives the grid: leave out --overlap and --pixel")
        grid = CubeGrid.from_file(job.refcube)
    elif job.overlap:
        grid = CubeGrid.overlap(
            cubes, offsets, wavelengths=axis, pixel_arcsec=job.pixel_arcsec,
            allow_missing=job.allow_missing, allow_failed=job.allow_failed,
        )  # fmt: skip
    else:
        grid = CubeGrid.enclosing(
            cubes, offsets, wavelengths=axis, pad=job.pad, pixel_arcsec=job.pixel_arcsec,
            allow_missing=job.allow_missing, allow_failed=job.allow_failed,
        )  # fmt: skip
    return grid if job.between is None else grid.between(*job.between)


def _axis(job: StackJob, cubes: Sequence[xr.Dataset]) -> str | SpectralAxis:
    if job.wavelengths in ("common", "nominal"):
        return job.wavelengths
    parts = job.wavelengths.split(":")
    try:
        first, step, size = float(parts[0]), float(parts[1]), int(parts[2])
    except (IndexError, ValueError):
        raise InputError(
            f"wavelengths {job.wavelengths!r}: use common, nominal or first:step:size in "
            "Angstrom, as in 4749.9:1.25:3681"
        ) from None
    own = CubeGrid.from_cube(cubes[0]).spectral
    return replace(own, first_angstrom=first, step_angstrom=step, size=size)
