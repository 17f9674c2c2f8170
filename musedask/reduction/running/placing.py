"""Between the pre-alignment cubes and the final ones: offsets, footprints and the final grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from musedask.errors import FileError, InputError
from musedask.fits import open_exposures
from musedask.grid import CubeGrid
from musedask.offsets import ExposureKey, OffsetTable, date_key
from musedask.reduction.frames import Frame
from musedask.reduction.planning.final_jobs import BY_MUSEDASK, failed_dates
from musedask.reduction.running.material import ENCLOSING, Placed
from musedask.run import Run
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

NOMINAL_PIX = 320
"""About the side of a cube of one exposure."""


def place_exposures(
    run: Run,
    cubes: Sequence[Path],
    exposures: Sequence[ExposureKey],
    measured: Path | None = None,
    given: OffsetTable | None = None,
) -> Placed:
    """Find offsets, footprints and the grid of exposures of one field; reads headers only.

    Parameters
    ----------
    run
        The run, whose configuration says where the grid comes from.
    cubes
        Cubes of the exposures before any offset.
    exposures
        The exposures as readers of offsets need them.
    measured
        OFFSET_LIST of muse_exp_align; None for one exposure, which has nothing to be
        aligned with.
    given
        The user's offsets instead.

    Raises
    ------
    MusedaskError
        If an exposure has no offset, or a file cannot be used.
    """
    opened = open_exposures([str(path) for path in cubes])
    offsets = given
    if run.config.reduction.offsets == BY_MUSEDASK:
        opened = _without_failed(run, opened, given)
    if measured is not None:
        offsets = OffsetTable.read(measured, exposures)
    footprints = {
        date_key(str(cube["date_obs"].values)): CubeGrid.from_cube(cube) for cube in opened
    }
    return Placed(offsets, footprints, final_grid(run, opened, offsets))


def _without_failed(
    run: Run, cubes: Sequence[xr.Dataset], offsets: OffsetTable | None
) -> list[xr.Dataset]:
    """Cubes that musedask found an offset for; the others get no final cube, and move no grid.

    Raises
    ------
    InputError
        If there is no such cube.
    """
    if "OFFSET_LIST" in run.config.reduction.allow_missing:
        return list(cubes)
    failed = failed_dates(offsets)
    kept = [cube for cube in cubes if date_key(str(cube["date_obs"].values)) not in failed]
    if not kept:
        raise InputError(
            f"all {len(cubes)} offsets have grade F in {run.offsets}: set them by hand "
            "('musedask align --set', 'musedask review'), or measure against another reference"
        )
    return kept


def final_grid(run: Run, cubes: Sequence[xr.Dataset], offsets: OffsetTable | None) -> CubeGrid:
    """The grid that the configuration asks for.

    Raises
    ------
    MusedaskError
        If its file cannot be used, or an exposure has no offset.
    """
    config = run.config.reduction
    if config.grid != ENCLOSING:
        return CubeGrid.from_file(run.path(config.grid))
    # An exposure that the user lets go without its offset stays where its header puts it.
    allowed = "OFFSET_LIST" in config.allow_missing
    return CubeGrid.enclosing(cubes, offsets, wavelengths=config.wavelengths, allow_missing=allowed)


def keep_offsets(table: OffsetTable, path: Path) -> None:
    """Write down which offsets were used, where people and ``musedask stack`` find them.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise FileError(f"{path.parent}: cannot be made: {err.strerror or err}") from err
    table.write(path, format="ecsv", overwrite=True)


def placed_about(
    frames: Sequence[Frame], offsets: OffsetTable | None, grid: CubeGrid | None
) -> Placed:
    """About where exposures will lie, before there are cubes: for dry runs only.

    Parameters
    ----------
    frames
        Raw frames of one field.
    offsets, grid
        What the user gave.

    Raises
    ------
    InputError
        If a header has no pointing.
    """
    footprints = {date_key(frame.date_obs): nominal_footprint(frame) for frame in frames}
    middle = next(iter(footprints.values()))
    ra, dec = np.transpose([one.centre_deg for one in footprints.values()])
    x, y = middle.sky.to_pixel(ra, dec)
    room = max(np.ptp(x), np.ptp(y)) + max(middle.nx, middle.ny)
    return Placed(offsets, footprints, grid or middle.padded(math.ceil(room)))


def nominal_footprint(frame: Frame) -> CubeGrid:
    """About what a frame's cube will cover.

    Raises
    ------
    InputError
        If its header has no pointing.
    """
    if not (math.isfinite(frame.ra_deg) and math.isfinite(frame.dec_deg)):
        raise InputError(f"{frame.path}: its header has no RA and DEC: where does it point?")
    side_arcsec = 0.025 if frame.mode.startswith("NFM") else 0.2
    sky = SkyProjection.north_up(frame.ra_deg, frame.dec_deg, side_arcsec)
    half = NOMINAL_PIX // 2
    return CubeGrid(sky.shifted(-half, -half), SpectralAxis(4749.9), NOMINAL_PIX, NOMINAL_PIX)
