"""The one schema of a cube, and its check.

A cube is a plain :class:`xarray.Dataset`:

=================  ==========================  =============================================
variable           dims, dtype                 what
=================  ==========================  =============================================
``flux``           (wavelength, y, x) float32  ``units`` in attrs, as in FITS's BUNIT
``variance``       (wavelength, y, x) float32  NaN exactly where ``flux`` is
``n_exposures``    (wavelength, y, x) uint16   optional: exposures that entered a voxel
``exposure_time``  (wavelength, y, x) float32  optional: their time, seconds
=================  ==========================  =============================================

Coordinates: ``wavelength`` float64 Angstrom (attrs ``medium``, air or vacuum,
and ``frame``, SPECSYS); ``y`` and ``x`` int64, which count the pixels of the
parent's WCS from 0, so that a cut-out keeps its place; ``wcs``, a scalar whose
attrs are the cards of the sky projection and whose value is their checksum, so
that arithmetic between two lattices loses it instead of mixing them. An
exposure also has the scalars ``name``, ``date_obs`` and ``exptime`` (seconds).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from musedask.errors import InputError
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

DIMS = ("wavelength", "y", "x")
FLUX_UNITS = "10**(-20)*erg/s/cm**2/Angstrom"
VARIANCE_UNITS = f"({FLUX_UNITS})**2"
_DTYPES = {"flux": "float32", "variance": "float32", "n_exposures": "uint16",
           "exposure_time": "float32"}  # fmt: skip


def make_cube(
    variables: dict[str, Any],
    sky: SkyProjection,
    spectral: SpectralAxis,
    *,
    units: str = FLUX_UNITS,
    wavelengths: Any = None,
    scalars: dict[str, Any] | None = None,
    attrs: dict[str, Any] | None = None,
) -> xr.Dataset:
    """Label arrays of shape (wavelength, y, x) as a cube; computes nothing.

    Parameters
    ----------
    variables
        ``flux``, ``variance`` and optionally the others of the schema: numpy
        or Dask arrays of one shape.
    sky, spectral
        Where pixel (0, 0) and channel 0 lie.
    units
        BUNIT of flux; the variance has its square.
    wavelengths
        Wavelength of each channel where it is not ``spectral``'s own.
    scalars
        Scalar coordinates: ``name``, ``date_obs``, ``exptime``...
    attrs
        Attributes of the Dataset.
    """
    shape = variables["flux"].shape
    units_of = {"flux": units, "variance": f"({units})**2", "n_exposures": "", "exposure_time": "s"}
    data = {
        key: (DIMS, value, {"units": units_of[key]} if units_of[key] else {})
        for key, value in variables.items()
    }
    axis = spectral.wavelengths if wavelengths is None else np.asarray(wavelengths, np.float64)
    coords: dict[str, Any] = {
        "wavelength": (
            "wavelength",
            axis,
            {"units": "Angstrom", "medium": spectral.medium, "frame": spectral.frame},
        ),
        "y": ("y", np.arange(shape[1], dtype=np.int64)),
        "x": ("x", np.arange(shape[2], dtype=np.int64)),
        "wcs": ((), np.int64(sky.checksum), sky.mapping),
    }
    coords.update({key: ((), value) for key, value in (scalars or {}).items()})
    return xr.Dataset(data, coords, attrs)


def check_cube(cube: xr.Dataset, what: str = "the cube") -> None:
    """Raise an InputError that says in what a Dataset differs from the schema."""
    held = cube.variables  # to make a DataArray of each takes longer than all that is looked at
    for key in ("flux", "variance"):
        if key not in held:
            raise InputError(f"{what} has no variable {key!r}: a cube has flux and variance")
    for key, dtype in _DTYPES.items():
        if key in held and held[key].dims != DIMS:
            raise InputError(f"{what}: {key} has dims {held[key].dims}, expected {DIMS}")
        if key in held and held[key].dtype != dtype:
            raise InputError(
                f"{what}: {key} is {held[key].dtype}, expected {dtype}; use .astype({dtype!r})"
            )
    for key in (*DIMS, "wcs"):
        if key not in cube.coords:
            raise InputError(
                f"{what} has no coordinate {key!r}; it is lost in arithmetic between cubes "
                "of different WCS: use .assign_coords() with that of a proper cube"
            )
    for key in ("y", "x"):
        if cube.sizes[key] == 0 or np.any(np.diff(held[key].values) != 1):
            raise InputError(f"{what}: {key} has to count whole pixels without gaps")
    if cube.sizes["wavelength"] == 0:
        raise InputError(f"{what} has no channel: what was selected lies outside its wavelengths")


def sky_of(cube: xr.Dataset) -> SkyProjection:
    """The projection whose pixel (0, 0) is the first pixel of this cube (or cut-out)."""
    held = cube.variables
    parent = SkyProjection.from_cards(held["wcs"].attrs)
    return parent.shifted(float(held["x"].values[0]), float(held["y"].values[0]))


def spectral_of(cube: xr.Dataset, what: str = "the cube") -> SpectralAxis:
    """The wavelength axis of a cube: its first channel and its mean step.

    Raises
    ------
    InputError
        If the wavelengths are not evenly spaced to a tenth of a channel.
    """
    axis = cube.variables["wavelength"]
    waves, attrs = np.asarray(axis.values, dtype=np.float64), axis.attrs
    step = float(waves[-1] - waves[0]) / (waves.size - 1) if waves.size > 1 else 1.25
    ideal = waves[0] + step * np.arange(waves.size)
    if step <= 0 or np.abs(waves - ideal).max() > 0.1 * step:
        raise InputError(f"{what}: the wavelengths are not evenly spaced; select without gaps")
    return SpectralAxis(
        float(waves[0]), step, waves.size, attrs.get("medium", "air"), attrs.get("frame", "unknown")
    )


def name_of(cube: xr.Dataset, default: str = "cube") -> str:
    """The name of an exposure cube."""
    return str(cube["name"].values) if "name" in cube.coords else default
