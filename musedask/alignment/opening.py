"""Exposures from files: lazy cubes, and images."""

from __future__ import annotations

import os

import xarray as xr

from musedask.alignment.image import FieldImage
from musedask.alignment.image_files import read_image
from musedask.fits import open_cube
from musedask.fits.unpack import open_fits


def open_exposure(path: str | os.PathLike[str]) -> xr.Dataset | FieldImage:
    """Open a cube lazily, or read an image.

    Raises
    ------
    FileError
        If the file cannot be read, or is neither a cube nor an image.
    """
    return open_cube(path) if has_a_cube(path) else read_image(path)


def has_a_cube(path: str | os.PathLike[str]) -> bool:
    """Whether a FITS file has data of three axes."""
    return any(hdu.is_image and len(hdu.shape) == 3 for hdu in open_fits(path).hdus)
