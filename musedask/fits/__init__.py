"""Cubes out of FITS, lazily, and into FITS, streamed."""

from __future__ import annotations

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
