"""What a stack says of itself: its exposures, its wavelengths, its statistics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from musedask.cube import spectral_of
from musedask.errors import MissingError
from musedask.fits.provenance import shared_header
from musedask.grid import CubeGrid
from musedask.offsets import ARCSEC_PER_DEG, OffsetTable, on_sky_arcsec
from musedask.stacking.members import Member
from musedask.stacking.options import StackOptions
from musedask.stacking.statistics import split_method
from musedask.stacking.weights import Weighing

_MEANINGS = {
    "median": "median of the valid exposures, without weights",
    "mean": "weighted mean of the valid exposures",
    "clipped": "weighted mean after rejection around the median",
    "clipped_mpdaf": "mean after rejection as by mpdaf's CubeList.combine",
}
_VARIANCES = {
    "median": "c_n n / (sum 1/sigma_i)^2 (1 + a_n d^2) for a median of Gaussian values; "
    "d is the scatter of 1/sigma_i over its mean",
    "mean": "sum(w^2 var) / (sum w)^2",
    "clipped": "sum(w^2 var) / (sum w)^2 over the values that were kept",
    "clipped_mpdaf": "as mpdaf: see the parameter var",
}


def exposure_table(
    cubes: Sequence[xr.Dataset],
    members: Sequence[Member],
    grid: CubeGrid,
    offsets: OffsetTable | None,
    weighing: Weighing,
) -> tuple[xr.Dataset, Any]:
    """The exposures of a stack as coordinates, and the wavelengths of its channels.

    Returns
    -------
    table
        Dataset with coordinates along ``exposure``.
    wavelengths
        float64 (wavelength,), Angstrom: the median over the exposures that
        have the channel, the grid's own where none has it.
    """
    starts = [
        axis.first_angstrom + member.first_channel * axis.step_angstrom
        for axis, member in zip(map(spectral_of, cubes), members, strict=True)
    ]
    first = np.array(starts)
    wavelengths = _median_wavelengths(first, members, grid)
    typical = float(np.median(first))
    rows = [_offset_row(cube, member, offsets) for cube, member in zip(cubes, members, strict=True)]
    weights = weighing.measured if weighing.measured is not None else np.array(
        [m.weight for m in members]
    )  # fmt: skip
    dim = "exposure"
    coords: dict[str, Any] = {
        "exposure": (dim, np.array([m.name for m in members], dtype=object)),
        "exposure_date_obs": (dim, np.array([m.date_obs for m in members], dtype=object)),
        "exposure_exptime": (dim, np.array([m.exptime for m in members]), {"units": "s"}),
        "exposure_ra_offset": (dim, np.array([r[0] for r in rows]), {"units": "arcsec"}),
        "exposure_dec_offset": (dim, np.array([r[1] for r in rows]), {"units": "arcsec"}),
        "exposure_flux_scale": (dim, np.array([m.scale for m in members])),
        "exposure_offset_method": (dim, np.array([r[2] for r in rows], dtype=object)),
        "exposure_weight": (dim, weights),
        "exposure_first_wavelength": (dim, first, {"units": "Angstrom"}),
        "exposure_residual": (dim, first - typical, {"units": "Angstrom"}),
    }
    return xr.Dataset(coords=coords), wavelengths


def _median_wavelengths(first: Any, members: Sequence[Member], grid: CubeGrid) -> Any:
    nz, step = grid.spectral.size, grid.spectral.step_angstrom
    there = np.array([m.present(0, nz) for m in members])
    out = grid.spectral.wavelengths.copy()
    # Channels with the same set of exposures share one median: there are few such sets.
    edges = np.flatnonzero(np.any(np.diff(there, axis=1), axis=0)) + 1
    bounds = [0, *(int(edge) for edge in edges), nz]
    for a, b in pairwise(bounds):
        inside = there[:, a]
        if inside.any():
            out[a:b] = np.median(first[inside]) + step * np.arange(a, b)
    return out


def _offset_row(
    cube: xr.Dataset, member: Member, offsets: OffsetTable | None
) -> tuple[float, float, str]:
    """Total offset (arcsec on the sky) that the stack stands on, and how it was found."""
    try:
        if offsets is None:
            raise MissingError
        row = offsets.find(member.date_obs, member.name)
    except MissingError:
        carried = [
            float(cube[key].values) if key in cube.coords else 0.0
            for key in ("carried_ra_deg", "carried_dec_deg")
        ]
        ra = on_sky_arcsec(carried[0], member.sky.crval_deg[1])
        return ra, carried[1] * ARCSEC_PER_DEG, "header"
    return row.ra_offset_arcsec, row.dec_offset_arcsec, row.method


def statistic_attrs(
    method: str, options: StackOptions, cubes: Sequence[xr.Dataset]
) -> dict[str, Any]:
    """Attributes of one statistic's cube."""
    statistic, half = split_method(method)
    attrs: dict[str, Any] = {
        "method": method,
        "description": _MEANINGS[statistic] + (f" ({half[1:]} ones by DATE-OBS)" if half else ""),
        "variance_description": _VARIANCES[statistic],
        "resampling": options.resampling,
        "background_subtracted": int(options.subtract_background),
        "software": f"musedask {software_version()}",
    }
    if statistic != "median":
        named = options.weights if isinstance(options.weights, str) else "given"
        attrs["weights"] = "equal" if statistic == "clipped_mpdaf" else named
    if statistic == "clipped":
        attrs["clipping"] = repr(options.clipping)
    if statistic == "clipped_mpdaf":
        attrs["clipping"] = repr(options.mpdaf_clipping)
    headers = [
        str(cube.attrs["primary_header"]) for cube in cubes if "primary_header" in cube.attrs
    ]
    if len(headers) == len(cubes):
        attrs["primary_header"] = shared_header(headers)
    return attrs


def stack_attrs(grid: CubeGrid, options: StackOptions) -> dict[str, Any]:
    """Attributes of the whole."""
    return {"title": "MUSE mega-cube", "software": f"musedask {software_version()}",
            "grid": repr(grid), "options": repr(options)}  # fmt: skip


@cache
def software_version() -> str:
    """Version of the installed package."""
    try:
        return version("musedask")
    except PackageNotFoundError:
        return "unknown"
