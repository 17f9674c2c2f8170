"""What a final cube is given: its own offset and its own cut-out of the final grid."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from musedask.errors import InputError
from musedask.offsets import ARCSEC_PER_DEG, Offset, coordinate_deg
from musedask.reduction.frames import Frame
from musedask.reduction.jobs import MadeInput

if TYPE_CHECKING:
    from musedask.grid import CubeGrid

MARGIN_PIX = 2
"""Pixels around the footprint: the pipeline's own grid may lie half a pixel off the lattice."""
_DEGREE_DIGITS = 10
"""Less than a microarcsecond: what is beyond is rounding, and must not make another job."""
_PIXEL_DIGITS = 9


def offset_list(rows: Iterable[tuple[Offset, Frame]]) -> MadeInput:
    """Give an OFFSET_LIST with a row for each exposure.

    Parameters
    ----------
    rows
        The offset and the raw frame of each exposure.

    Raises
    ------
    InputError
        If an offset is not known, or its declination is not.
    """
    lines = sorted(_offset_line(row, frame) for row, frame in rows)
    return MadeInput("OFFSET_LIST", "offset_list", "\n".join(lines))


def _offset_line(row: Offset, frame: Frame) -> str:
    dec = row.dec_deg if math.isfinite(row.dec_deg) else frame.dec_deg
    if not math.isfinite(dec):
        raise InputError(
            f"{frame.name}: neither its offset nor its header has a declination, so that the "
            "offset cannot be turned into coordinates: fill in dec_deg of the offset"
        )
    ra_deg = round(coordinate_deg(row.ra_offset_arcsec, dec), _DEGREE_DIGITS) + 0.0
    dec_deg = round(row.dec_offset_arcsec / ARCSEC_PER_DEG, _DEGREE_DIGITS) + 0.0
    scale = round(row.flux_scale, _DEGREE_DIGITS)
    return f"{row.key} {ra_deg!r} {dec_deg!r} {scale!r}"


def output_wcs(grid: CubeGrid) -> MadeInput:
    """Give an OUTPUT_WCS: the header of a cube on this grid, which is all that the recipes read."""
    from astropy.io import fits  # half a second, which a plan without final cubes can do without

    nz, ny, nx = grid.shape
    spectral = grid.spectral
    header = fits.Header()
    header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, -32, 3
    header["NAXIS1"], header["NAXIS2"], header["NAXIS3"] = nx, ny, nz
    for key, value in grid.sky.cards:
        header[key] = round(float(value), _PIXEL_DIGITS) if key.startswith("CRPIX") else value
    header["CTYPE3"], header["CUNIT3"], header["CRPIX3"] = spectral.ctype, "Angstrom", 1.0
    header["CRVAL3"], header["CD3_3"] = spectral.first_angstrom, spectral.step_angstrom
    for key in ("CD1_3", "CD2_3", "CD3_1", "CD3_2"):
        header[key] = 0.0
    if spectral.frame != "unknown":
        header["SPECSYS"] = spectral.frame
    cards = header.tostring(sep="\n", endcard=False, padding=False).split("\n")
    return MadeInput("OUTPUT_WCS", "header", "\n".join(card.rstrip() for card in cards))


def cut_out(grid: CubeGrid, footprint: CubeGrid, row: Offset | None, frame: Frame) -> CubeGrid:
    """Give the part of the final grid that an exposure will cover.

    Parameters
    ----------
    grid
        The final grid.
    footprint
        Grid of the exposure's cube before any offset.
    row
        Its offset; None if its header is right.
    frame
        Its raw frame.

    Returns
    -------
    CubeGrid
        Whole pixels of ``grid`` around the shifted footprint and a margin, as far as
        ``grid`` reaches.

    Raises
    ------
    InputError
        If the exposure lies beside the grid.
    """
    from musedask.placement import Placement

    sky = footprint.sky
    if row is not None:
        dec = row.dec_deg if math.isfinite(row.dec_deg) else frame.dec_deg
        sky = sky.moved(
            row.ra_offset_arcsec, row.dec_offset_arcsec,
            dec_deg=dec if math.isfinite(dec) else None,
        )  # fmt: skip
    shape = (footprint.ny, footprint.nx)
    return grid.around(Placement(frame.name, frame.date_obs, sky, shape), MARGIN_PIX)
