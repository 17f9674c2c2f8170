"""The axes of any FITS cube, whether or not it has a variance: for reference grids."""

from __future__ import annotations

import os

from astropy.io import fits

from musedask.errors import FileError, InputError
from musedask.fits.hdus import Hdu
from musedask.fits.header import CubeHdus, sky_projection, spectral_axis
from musedask.fits.unpack import open_fits
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

Axes = tuple[SkyProjection, SpectralAxis, tuple[int, int]]


def axes_of_header(header: fits.Header, label: str = "header") -> Axes:
    """Projection, wavelengths and (ny, nx) of a header with NAXIS1 to NAXIS3.

    Raises
    ------
    InputError
        If an axis is missing or of another kind.
    """
    sizes = [header.get(f"NAXIS{n}") for n in (1, 2, 3)]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(f"{label}: NAXIS1 to NAXIS3 = {sizes}, a grid needs three axes")
    raw = header.tostring(endcard=False, padding=False).encode("ascii", errors="replace")
    hdu = Hdu(0, raw, 0, 0)
    return _axes(CubeHdus(hdu, hdu, hdu, None), label)


def axes_of_file(path: str | os.PathLike[str]) -> Axes:
    """Projection, wavelengths and (ny, nx) of the first cube in a file; reads headers only.

    Raises
    ------
    FileError
        If the file cannot be read or has no cube.
    InputError
        If an axis of the cube is of another kind.
    """
    file = open_fits(path)
    for hdu in file.hdus:
        if hdu.is_image and len(hdu.shape) == 3:
            return _axes(CubeHdus(file.hdus[0], hdu, hdu, None), file.label)
    raise FileError(f"{file.label}: no extension with three axes; give a cube as the reference")


def _axes(hdus: CubeHdus, label: str) -> Axes:
    _, ny, nx = hdus.flux.shape
    return sky_projection(hdus.flux, label), spectral_axis(hdus, label), (ny, nx)
