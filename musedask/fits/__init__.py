"""Cubes out of FITS, lazily."""

from __future__ import annotations

from musedask.fits.reading import check_variance, direct_source, open_cube, open_exposures
from musedask.fits.source import FitsCube, FitsSource

__all__ = [
    "FitsCube",
    "FitsSource",
    "check_variance",
    "direct_source",
    "open_cube",
    "open_exposures",
]
