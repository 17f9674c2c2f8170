"""The main job as one value: exposures and options in, a mega-cube out.

The command line, the demo and scripts that want exactly what the command line
does all come through here.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.system
import numpy as np
import xarray as xr

from musedask.blocks import Stack
from musedask.config import CONFIG_NAME
from musedask.errors import FileError, InputError
from musedask.exposures import read_exposure_table
from musedask.fits import FitsCube, open_exposures
from musedask.fits.reading import Duplicates
from musedask.grid import PAD_PIX, CubeGrid
from musedask.megacube import WriteReport, write_megacube
from musedask.megacube.layout import Layout, read_description
from musedask.megacube.swap import other_builds
from musedask.offsets import OffsetTable
from musedask.placement import exposure_key
from musedask.progress import Progress
from musedask.run import open_run
from musedask.spectral import SpectralAxis
from musedask.stacking import StackOptions, stack_with
from musedask.stacking.block import DEEPEST_SLAB, GATHER_BYTES
from musedask.wording import counted, data_size

logger = logging.getLogger(__name__)

BASE_MEMORY = 300 << 20
"""Resident size of Python with its libraries and compiled kernels, about."""
_COPIES = 1
"""Planes' worth of a block that a task holds beside the planes: their edges, and what is being
encoded."""


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

    def __post_init__(self) -> None:
        """Complain of options that contradict one another."""
        if not self.exposures:
            raise InputError("no exposures: give FITS cubes or an exposure table (.ecsv)")
        tables = [name for name in self.exposures if name.endswith(".ecsv")]
        if tables and len(self.exposures) > 1:
            raise InputError(
                f"{tables[0]} is an exposure table: give it alone, or give cubes without a table"
            )
        if self.refcube is not None and (self.overlap or self.pixel_arcsec is not None):
            raise InputError("--refcube gives the grid: leave out --overlap and --pixel")
        _numbers(self.wavelengths)

    @property
    def table(self) -> str | None:
        """The exposure table, if that is what is given."""
        return self.exposures[0] if self.exposures[0].endswith(".ecsv") else None


def exposures_of(given: Sequence[str]) -> tuple[str, ...]:
    """What is stacked if this is given: a run stands for its exposure table, or else its cubes.

    Parameters
    ----------
    given
        FITS cubes, one exposure table, or the folder of one run.

    Raises
    ------
    InputError
        If a run is given with anything else.
    MissingError
        If the run has no finished exposure.
    """
    runs = [name for name in given if Path(name, CONFIG_NAME).is_file()]
    if not runs:
        return tuple(given)
    if len(given) > 1:
        raise InputError(
            f"{runs[0]} is a run: give it alone; cubes of several runs lie in their folders 'cubes'"
        )
    found = open_run(runs[0])
    cubes = found.exposures()
    table = found.exposure_table
    return (str(table),) if table.is_file() else tuple(map(str, cubes))


@dataclass(frozen=True)
class Estimate:
    """What a job will read, write and need."""

    output: Path
    """The store."""
    n_exposures: int
    """Exposures that touch the grid."""
    n_blocks: int
    """Blocks that exposures touch."""
    n_to_make: int
    """Those that are not there yet: one task each."""
    shape: tuple[int, int, int]
    """Voxels along wavelength, y, x."""
    n_planes: int
    """Values per voxel in the store."""
    bytes_read: int
    """Of the exposures, each byte once."""
    bytes_written: int
    """At most."""
    memory: int
    """Bytes, about."""
    threads: int
    """Tasks at a time."""
    grid: str
    """The grid in words."""

    def __str__(self) -> str:
        nz, ny, nx = self.shape
        there = self.n_blocks - self.n_to_make
        there_too = f", {there} already there" if there else ""
        return (
            f"exposures  {self.n_exposures}\n"
            f"onto       {counted(nz, 'channel')} x {ny} x {nx} spaxels, "
            f"{counted(self.n_planes, 'value')} each\n"
            f"           {self.grid}\n"
            f"into       {self.output}\n"
            f"tasks      {self.n_to_make} of {counted(self.n_blocks, 'block')} to make{there_too}\n"
            f"to read    {data_size(self.bytes_read)}\n"
            f"to write   {data_size(self.bytes_written)} at most\n"
            f"memory     {data_size(self.memory)}, about, on {counted(self.threads, 'thread')}"
        )


def prepare(job: StackJob) -> Stack:
    """Open the exposures and plan the stack; reads headers, offsets and masks only.

    Raises
    ------
    MusedaskError
        If anything in the job cannot be used.
    """
    return _planned(job, open_exposures(_listed(job), duplicates=job.duplicates))


def _listed(job: StackJob) -> Any:
    return job.table or list(job.exposures)


def _planned(job: StackJob, cubes: Sequence[xr.Dataset]) -> Stack:
    offsets = None
    if job.offsets is not None:
        keys = [exposure_key(cube) for cube in cubes]
        offsets = OffsetTable.read(job.offsets, keys, format=job.offsets_format)
        _check_all_used(offsets, cubes, job)
    return stack_with(
        cubes, offsets, _grid(job, cubes, offsets), job.options,
        allow_missing=job.allow_missing, allow_failed=job.allow_failed,
    )  # fmt: skip


def estimate(job: StackJob, threads: int | None = None) -> Estimate:
    """What a job will read, write and need; reads headers, offsets and masks only.

    Parameters
    ----------
    job
        The job.
    threads
        Tasks at a time; as many as there are cores by default.

    Raises
    ------
    MusedaskError
        If anything in the job cannot be used.
    """
    _check_output(job.output)
    cubes = open_exposures(_listed(job), duplicates=job.duplicates)
    planned = _planned(job, cubes)
    plan, threads = planned.plan, threads or dask.system.CPU_COUNT
    todo = _blocks_to_make(planned, job.output)
    # Planes may be shared in memory; each slot has its own array on the disk.
    voxel = sum(2 if slot.variable == "n_exposures" else 4 for slot in plan.slots)
    voxels = sum(math.prod(part.stop - part.start for part in plan.region(b)) for b in todo)
    depth, ny, nx = (sizes[0] for sizes in plan.chunks)
    n_planes = max(slot.plane for slot in plan.slots) + 1
    widest = max(len(members) for members in plan.touching.values())
    block = 4 * ny * nx * ((n_planes + _COPIES) * depth + 2 * widest)
    task = block + min(GATHER_BYTES, widest * min(depth, DEEPEST_SLAB) * ny * nx * 8)
    return Estimate(
        job.output, planned.exposures.sizes["exposure"], len(plan.keys), len(todo), plan.shape,
        len(plan.slots), _bytes_to_read(cubes, planned) if todo else 0, voxel * voxels,
        BASE_MEMORY + min(threads, len(todo)) * task, threads, str(planned.attrs.get("grid", "")),
    )  # fmt: skip


def _blocks_to_make(planned: Stack, output: Path) -> list[tuple[int, int, int]]:
    """The blocks that neither the store nor a build of it has."""
    layout = Layout.of_plan(planned.plan, output)
    folders = [output, *other_builds(output.absolute(), "")]
    held: set[tuple[Any, str]] = set()
    for folder in folders:
        found = read_description(folder) if folder.is_dir() else None
        mine = {"shape": layout.shape, "block": layout.block, "inner": layout.inner}
        if found and all(found.get(key) == list(value) for key, value in mine.items()):
            outputs = [Path(folder, slot.method, slot.variable) for slot in layout.slots]
            if all(path.is_dir() for path in outputs):
                held |= set(layout.moved(folder).done_keys().items())
    return [block for block, key in planned.plan.keys.items() if (block, key) not in held]


def _bytes_to_read(cubes: Sequence[xr.Dataset], planned: Stack) -> int:
    """Of the exposures in the stack: flux, variance and quality, in the grid's channels."""
    used = set(planned.exposures["exposure_date_obs"].values.tolist())
    axis = planned[planned.plan.methods[0]]["wavelength"].values
    size = 0
    for cube in cubes:
        if str(cube["date_obs"].values) in used:
            waves = cube["wavelength"].values
            inside = np.count_nonzero((waves > axis[0] - 0.7) & (waves < axis[-1] + 0.7))
            size += int(inside) * cube.sizes["y"] * cube.sizes["x"] * _voxel_bytes(cube)
    return size


def _voxel_bytes(cube: xr.Dataset) -> int:
    source = cube.encoding.get("fits")
    if not isinstance(source, FitsCube):
        return 8
    parts = (source.flux, source.variance, source.quality)
    return sum(np.dtype(part.dtype).itemsize for part in parts if part is not None)


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
    _check_output(job.output)
    cubes = open_exposures(_listed(job), duplicates=job.duplicates)
    planned = _planned(job, cubes)
    say(str(planned))
    return write_megacube(planned, job.output, progress=progress, overwrite_grid=job.overwrite_grid)


def _check_output(output: Path) -> None:
    """Complain of a name that cannot be written to before the exposures are read."""
    folder = output.absolute().parent
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{folder}: cannot be written to; choose another folder for {output.name}")
    if os.path.lexists(output) and not (output.is_dir() and read_description(output)):
        raise FileError(
            f"{output}: exists and is not a mega-cube of musedask; choose another name or remove it"
        )


def _check_all_used(offsets: OffsetTable, cubes: Sequence[xr.Dataset], job: StackJob) -> None:
    """Offsets for exposures that are not there are most often a wrong file: say so."""
    known = {str(cube["date_obs"].values)[:23] for cube in cubes}
    if job.table is not None:  # its rows that are not used are known as well
        known |= {str(date)[:23] for date in read_exposure_table(job.table)["date_obs"]}
    strange = [row for row in offsets if row.date_obs[:23] not in known]
    if strange and not job.allow_missing:
        raise InputError(
            f"{job.offsets}: offsets for exposures that are not given, "
            f"{len(strange)} of {len(offsets)} (the first: "
            f"{strange[0].name or strange[0].date_obs}); give those too, "
            "take their rows out, or go on with --allow-missing-offsets"
        )


def _grid(job: StackJob, cubes: Sequence[xr.Dataset], offsets: OffsetTable | None) -> CubeGrid:
    axis = _axis(job, cubes)
    if job.refcube is not None:
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
    numbers = _numbers(job.wavelengths)
    if numbers is None:
        return job.wavelengths
    own = CubeGrid.from_cube(cubes[0]).spectral
    return replace(own, first_angstrom=numbers[0], step_angstrom=numbers[1], size=numbers[2])


def _numbers(wavelengths: str) -> tuple[float, float, int] | None:
    """First, step and size of an axis that is given in numbers; None for a name."""
    if wavelengths in ("common", "nominal"):
        return None
    try:
        first, step, size = wavelengths.split(":")
        found = float(first), float(step), int(size)
    except ValueError:
        found = math.nan, 0.0, 0
    if not (math.isfinite(found[0]) and found[1] > 0 and found[2] > 0):
        raise InputError(
            f"wavelengths {wavelengths!r}: use common, nominal or FIRST:STEP:SIZE in "
            "Angstrom, as in 4749.9:1.25:3681"
        )
    return found
