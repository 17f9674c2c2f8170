"""Cubes out of FITS, lazily, and into FITS, streamed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musedask.fits.reading import check_variance, direct_source, open_cube, open_exposures
    from musedask.fits.source import FitsCube, FitsSource
    from musedask.fits.writing import export_fits

__all__ = [
    "FitsCube",
    "FitsSource",
    "check_variance",
    "direct_source",
    "export_fits",
    "open_cube",
    "open_exposures",
]

_HOMES = {
    "reading": ("check_variance", "direct_source", "open_cube", "open_exposures"),
    "source": ("FitsCube", "FitsSource"),
    "writing": ("export_fits",),
}
"""Module -> names; imported when asked for: who reads headers alone needs neither Dask nor Zarr."""


def __getattr__(name: str) -> Any:
    """Import a name from its module."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"musedask.fits.{module}"), name)
    raise AttributeError(f"module 'musedask.fits' has no attribute {name!r}")
