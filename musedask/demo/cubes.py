"""A cube for reading in runs of channels: from a FITS file or from a Dataset."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits

from musedask.cube import check_cube, sky_of
from musedask.errors import FileError
from musedask.sky import SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
CubeLike = str | os.PathLike[str] | xr.Dataset
Run = tuple[Floats32, Floats32, Any]
CHANNELS_AT_A_TIME = 64


@dataclass(frozen=True, eq=False)
class ReadableCube:
    """Where a cube lies, and how to get a run of its channels."""

    label: str
    """For messages and titles."""
    projection: SkyProjection
    """Where its spaxels lie."""
    wavelengths: Floats
    """Of its channels, Angstrom."""
    shape: tuple[int, int]
    """(ny, nx)."""
    read: Callable[[int, int], Run]
    """(first, last) -> flux, variance, and counts or None, of channels first to last - 1."""


def readable(cube: CubeLike) -> ReadableCube:
    """Make a cube readable; reads headers only.

    Parameters
    ----------
    cube
        A FITS file with DATA, STAT and maybe EXPMAP, or a cube (Dataset).

    Raises
    ------
    FileError
        If the file cannot be read, or has no DATA and STAT.
    InputError
        If the Dataset is not a cube.
    """
    return _of_dataset(cube) if isinstance(cube, xr.Dataset) else _of_file(os.fspath(cube))


def _of_dataset(cube: xr.Dataset) -> ReadableCube:
    check_cube(cube)

    def read(first: int, last: int) -> Run:
        keys = [key for key in ("flux", "variance", "n_exposures") if key in cube]
        part = cube[keys].isel(wavelength=slice(first, last)).compute()
        counts = part["n_exposures"].values if "n_exposures" in part else None
        return part["flux"].values, part["variance"].values, counts

    waves = np.asarray(cube["wavelength"].values, float)
    shape = cube.sizes["y"], cube.sizes["x"]
    return ReadableCube("the cube", sky_of(cube), waves, shape, read)


def _of_file(path: str) -> ReadableCube:
    try:
        with fits.open(path) as hdus:
            header = hdus["DATA"].header
            axes = tuple(int(header[f"NAXIS{axis}"]) for axis in (3, 2, 1))
            parts = {
                key: (int(hdus[key].fileinfo()["datLoc"]), _dtype(hdus[key].header))
                for key in ("DATA", "STAT", "EXPMAP")
                if key in ("DATA", "STAT") or key in hdus
            }
    except (OSError, KeyError) as err:
        raise FileError(f"{path}: no cube with DATA and STAT can be read: {err}") from err

    def read(first: int, last: int) -> Run:
        runs = {
            key: np.array(np.memmap(path, dtype, "r", offset, axes)[first:last])
            for key, (offset, dtype) in parts.items()
        }
        flux, variance = (runs[key].astype(np.float32) for key in ("DATA", "STAT"))
        return flux, variance, runs.get("EXPMAP")

    channels = np.arange(header["NAXIS3"]) + 1 - float(header.get("CRPIX3", 1.0))
    waves = header["CRVAL3"] + channels * float(header.get("CD3_3", header.get("CDELT3", 1.25)))
    shape = int(header["NAXIS2"]), int(header["NAXIS1"])
    return ReadableCube(path, SkyProjection.from_header(header, path), waves, shape, read)


def _dtype(header: fits.Header) -> np.dtype[Any]:
    """How the file holds its numbers; a stack's counts may be unsigned by BZERO."""
    if header.get("BZERO", 0) or header.get("BSCALE", 1) != 1:
        raise KeyError(f"{header['EXTNAME']} with BZERO or BSCALE")
    return np.dtype({8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}[header["BITPIX"]])


def white_light(cube: CubeLike) -> tuple[Floats32, SkyProjection]:
    """Average a cube over its channels, float32 (y, x), NaN where it has no data at all."""
    source = readable(cube)
    total, n = np.zeros(source.shape), np.zeros(source.shape, np.int64)
    for first in range(0, source.wavelengths.size, CHANNELS_AT_A_TIME):
        flux, _, _ = source.read(first, first + CHANNELS_AT_A_TIME)
        good = np.isfinite(flux)
        total += np.where(good, flux, 0).sum(axis=0, dtype=float)
        n += good.sum(axis=0)
    image = np.divide(total, n, out=np.full(source.shape, np.nan), where=n > 0)
    return image.astype(np.float32), source.projection


def mean_coverage(cube: CubeLike) -> tuple[Floats32, SkyProjection]:
    """Average the number of exposures over the channels, float32 (y, x).

    Raises
    ------
    FileError
        If the cube does not say how many exposures there are.
    """
    source = readable(cube)
    total = np.zeros(source.shape)
    for first in range(0, source.wavelengths.size, CHANNELS_AT_A_TIME):
        _, _, counts = source.read(first, first + CHANNELS_AT_A_TIME)
        if counts is None:
            raise FileError(f"{source.label}: no EXPMAP or n_exposures: give a stack")
        total += np.asarray(counts, float).sum(axis=0)
    return (total / source.wavelengths.size).astype(np.float32), source.projection
