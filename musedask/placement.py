"""Where an exposure really lies: its headers corrected by its offset, never twice."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import xarray as xr

from musedask.cube import check_cube, name_of, sky_of
from musedask.errors import InputError, MissingError
from musedask.offsets import (
    ARCSEC_PER_DEG,
    ExposureKey,
    Offset,
    OffsetTable,
    on_sky_arcsec,
)
from musedask.sky import SkyProjection

logger = logging.getLogger(__name__)

SAME_ARCSEC = 1e-6
"""Offsets that differ by less are equal: FITS cards do not hold every digit."""
SAME_DEG = 1e-7
"""Rotations that differ by less are equal: across a field of 1' that is 1e-7 arcsec."""
SAME_SCALE = 1e-9
"""Flux scales that differ by a smaller fraction are equal."""


@dataclass(frozen=True)
class Placement:
    """One exposure on the sky, after correction."""

    name: str
    """Name of the exposure."""
    date_obs: str
    """DATE-OBS of the exposure; empty if the cube has none and no offset was asked for."""
    sky: SkyProjection
    """True projection, whose pixel (0, 0) is the first pixel of the cube."""
    shape: tuple[int, int]
    """Size of the field in pixels, (ny, nx)."""
    flux_scale: float = 1.0
    """What is left to multiply flux by (variance by its square)."""


def place(
    cube: xr.Dataset,
    offsets: OffsetTable | None,
    *,
    allow_missing: bool = False,
    allow_failed: bool = False,
) -> Placement:
    """Place an exposure on the sky; computes nothing.

    Offsets are totals relative to the raw header. A cube whose product says
    that the pipeline applied an offset or a flux scale already (coordinates
    ``carried_ra_deg``, ``carried_dec_deg``, ``carried_flux_scale``), or
    pymusepipe a rotation (``carried_rotation_deg``), gets the difference only;
    if there is none, its projection stays as it is, bit for bit. A row without
    a flux scale means a total of 1, so that a scale which the product carries
    is taken out again. A row without a rotation knows nothing of rotations
    (most formats have none), and leaves that of the product.

    Parameters
    ----------
    cube
        An exposure cube (or a cut-out of one), schema of :mod:`musedask.cube`.
    offsets
        The offsets; None means that the headers are right.
    allow_missing
        Whether an exposure without a row stays where its header says.
    allow_failed
        Whether a row of grade F is used, if it has an offset at all.

    Returns
    -------
    Placement
        The true projection and the flux scale that is left to apply. A
        rotation goes about the centre of this cube's array: cut out after
        placing, not before.

    Raises
    ------
    MissingError
        If the exposure has no row and ``allow_missing`` is not set.
    InputError
        If its row is of grade F, or the cube has no DATE-OBS to go by.
    """
    name = name_of(cube)
    check_cube(cube, name)
    date_obs = str(cube["date_obs"].values) if "date_obs" in cube.coords else ""
    sky, shape = sky_of(cube), (cube.sizes["y"], cube.sizes["x"])
    if offsets is None:
        return Placement(name, date_obs, sky, shape)
    if not date_obs:
        raise InputError(
            f"{name}: no coordinate date_obs, by which its offset is found; "
            "add it with .assign_coords(date_obs=...)"
        )
    try:
        row = offsets.find(date_obs, name)
    except MissingError:
        if not allow_missing:
            raise
        logger.warning("%s has no offset: it stays where its header puts it", name)
        return Placement(name, date_obs, sky, shape)
    _check_usable(row, name, allow_failed)
    return Placement(name, date_obs, _moved(cube, sky, row), shape, _scale_left(cube, row, name))


def exposure_key(cube: xr.Dataset, path: str = "") -> ExposureKey:
    """Give what readers of offset files need to know of an exposure cube."""
    date_obs = str(cube["date_obs"].values) if "date_obs" in cube.coords else ""
    return ExposureKey(
        date_obs,
        name_of(cube),
        _scalar(cube, "ra_deg", math.nan),
        _scalar(cube, "dec_deg", math.nan),
        path or str(cube.attrs.get("path", "")),
        str(cube.attrs.get("primary_header", "")),
    )


def _check_usable(row: Offset, name: str, allow_failed: bool) -> None:
    if row.is_failed and not allow_failed:
        why = f" ({row.why})" if row.why else ""
        raise InputError(
            f"{name}: its offset has grade F{why}: measure it again, set it by hand, leave the "
            "exposure out, or allow failed offsets (allow_failed)"
        )
    if not row.is_finite:
        raise InputError(
            f"{name}: its offset is ({row.ra_offset_arcsec}, {row.dec_offset_arcsec}) arcsec, "
            "there is nothing to apply: set it by hand, or leave the exposure out"
        )


def _moved(cube: xr.Dataset, sky: SkyProjection, row: Offset) -> SkyProjection:
    """Subtract what the cube does not carry yet."""
    candidates = (row.dec_deg, _scalar(cube, "dec_deg", math.nan), sky.crval_deg[1])
    dec = next(value for value in candidates if math.isfinite(value))
    carried_ra = _scalar(cube, "carried_ra_deg", 0.0)
    carried_dec = _scalar(cube, "carried_dec_deg", 0.0)
    left_ra = row.ra_offset_arcsec - on_sky_arcsec(carried_ra, dec)
    left_dec = row.dec_offset_arcsec - carried_dec * ARCSEC_PER_DEG
    carried_rotation = _scalar(cube, "carried_rotation_deg", 0.0)
    rotation = 0.0
    if not math.isnan(row.rotation_deg):
        rotation = row.rotation_deg - carried_rotation
    if abs(rotation) < SAME_DEG:
        rotation = 0.0
    if max(abs(left_ra), abs(left_dec)) < SAME_ARCSEC and rotation == 0.0:
        return sky
    centre = ((cube.sizes["x"] - 1) / 2.0, (cube.sizes["y"] - 1) / 2.0)
    return sky.moved(left_ra, left_dec, rotation, dec_deg=dec, about=centre)


def _scale_left(cube: xr.Dataset, row: Offset, name: str) -> float:
    """Divide the total flux scale by what the cube carries."""
    carried = _scalar(cube, "carried_flux_scale", 1.0)
    if not (carried > 0 and math.isfinite(carried)):
        raise InputError(
            f"{name}: carried_flux_scale is {carried} (ESO DRS MUSE FLUX SCALE1 of the product); "
            "a flux scale has to be positive: make the cube again"
        )
    left = row.applied_scale / carried
    return 1.0 if abs(left - 1.0) < SAME_SCALE else left


def _scalar(cube: xr.Dataset, key: str, default: float) -> float:
    """A scalar coordinate as a number; the default where it is not there or NaN."""
    if key not in cube.coords:
        return default
    value = float(cube[key].values)
    return default if math.isnan(value) else value
