"""The headers of an exported cube, and its table of exposures, as bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits
from astropy.table import Column, Table

from musedask.cube import FLUX_UNITS, sky_of, spectral_of
from musedask.fits.hdus import BLOCK
from musedask.fits.provenance import ascii_text, carry_over, describe_product, put

Shape = tuple[int, int, int]

_MAX_INT16 = 32767
_WCS_ORDER = ("CRPIX", "CD", "CUNIT", "CTYPE", "CRVAL", "PV", "LONPOLE", "LATPOLE")
_COLUMNS = {
    "exposure": ("NAME", ""),
    "exposure_date_obs": ("DATE_OBS", ""),
    "exposure_exptime": ("EXPTIME", "s"),
    "exposure_ra_offset": ("RA_OFFSET", "arcsec"),
    "exposure_dec_offset": ("DEC_OFFSET", "arcsec"),
    "exposure_flux_scale": ("FLUX_SCALE", ""),
    "exposure_weight": ("WEIGHT", ""),
    "exposure_offset_method": ("METHOD", ""),
    "exposure_first_wavelength": ("FIRST_WAVELENGTH", "Angstrom"),
    "exposure_residual": ("WAVELENGTH_RESIDUAL", "Angstrom"),
}
"""Coordinate of a stack -> column and unit; offsets are on the sky, exposure minus reference."""


@dataclass(frozen=True)
class Extension:
    """An image of the exported file."""

    name: str
    """EXTNAME."""
    variable: str
    """Where its values come from."""
    dtype: str
    """Type on disk, big-endian."""
    header: bytes
    """With its padding."""
    shape: Shape
    """Voxels along wavelength, y, x."""

    @property
    def data_size(self) -> int:
        """Bytes of data, without padding."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def size(self) -> int:
        """Bytes in the file, with padding."""
        return len(self.header) + -(-self.data_size // BLOCK) * BLOCK


def primary(cube: xr.Dataset, exptime: float | None) -> bytes:
    """PRIMARY, without data; its size does not hang on the value of ``exptime``."""
    header = fits.Header()
    describe_product(header, cube, exptime)
    carry_over(header, str(cube.attrs.get("primary_header", "")))
    hdu = fits.PrimaryHDU(header=header)
    hdu.header.set("EXTEND", True, after="NAXIS")
    return str(hdu.header.tostring()).encode("ascii")


def extensions(cube: xr.Dataset) -> list[Extension]:
    """The images of a cube, in the order of the file: DATA, STAT, EXPMAP, TEXPMAP."""
    wcs = wcs_cards(cube)
    nz, ny, nx = (cube.sizes[axis] for axis in ("wavelength", "y", "x"))
    units = str(cube["flux"].attrs.get("units") or FLUX_UNITS)
    counts = ">i2" if cube.sizes.get("exposure", _MAX_INT16 + 1) <= _MAX_INT16 else ">i4"
    kinds = [
        ("DATA", "flux", ">f4", {"HDUCLAS2": "DATA", "ERRDATA": "STAT", "BUNIT": units}),
        ("STAT", "variance", ">f4", {
            "HDUCLAS2": "ERROR", "HDUCLAS3": "MSE", "SCIDATA": "DATA",
            "BUNIT": str(cube["variance"].attrs.get("units") or f"({units})**2")}),
        ("EXPMAP", "n_exposures", counts, {"COMMENT": "Number of exposures in each voxel"}),
        ("TEXPMAP", "exposure_time", ">f4", {"BUNIT": "s",
            "COMMENT": "Exposure time that went into each voxel"}),
    ]  # fmt: skip
    return [
        Extension(name, variable, dtype, _image_header(name, dtype, (nz, ny, nx), wcs, more),
                  (nz, ny, nx))
        for name, variable, dtype, more in kinds
        if variable in cube
    ]  # fmt: skip


def _image_header(
    name: str, dtype: str, shape: Shape, wcs: dict[str, Any], more: dict[str, str]
) -> bytes:
    header = fits.Header()
    bits = {">f4": -32, ">i2": 16, ">i4": 32}[dtype]
    put(header, "XTENSION", "IMAGE", "image extension")
    put(header, "BITPIX", bits)
    put(header, "NAXIS", 3)
    for axis, size in enumerate(reversed(shape), start=1):
        put(header, f"NAXIS{axis}", size)
    put(header, "PCOUNT", 0)
    put(header, "GCOUNT", 1)
    put(header, "EXTNAME", name)
    if name in ("DATA", "STAT"):
        put(header, "HDUCLASS", "ESO", "class name (ESO format)")
        put(header, "HDUDOC", "DICD", "document with class description")
        put(header, "HDUVERS", "DICD version 6", "version number")
        put(header, "HDUCLAS1", "IMAGE", "image data format")
    for key, value in more.items():
        if key == "COMMENT":
            header.add_comment(value)
        else:
            put(header, key, value)
    for key, value in wcs.items():
        put(header, key, value)
    return str(header.tostring()).encode("ascii")


def wcs_cards(cube: xr.Dataset) -> dict[str, Any]:
    """The WCS of a cube (or cut-out) as FITS has it: a CD matrix, and pixels counted from 1."""
    sky = sky_of(cube).mapping
    spectral = spectral_of(cube)
    cards: dict[str, Any] = {"WCSAXES": 3}
    for start in _WCS_ORDER:
        cards.update({key: value for key, value in sky.items() if key.startswith(start)})
    cards.update({
        "CTYPE3": spectral.ctype, "CUNIT3": "Angstrom", "CRPIX3": 1.0,
        "CRVAL3": spectral.first_angstrom, "CD3_3": spectral.step_angstrom,
        "CD1_3": 0.0, "CD2_3": 0.0, "CD3_1": 0.0, "CD3_2": 0.0,
    })  # fmt: skip
    cards.update({key: sky[key] for key in ("RADESYS", "EQUINOX") if key in sky})
    if spectral.frame not in ("", "unknown"):
        cards["SPECSYS"] = spectral.frame
    return cards


def exposures_table(cube: xr.Dataset) -> bytes:
    """The table EXPOSURES, header and data; nothing if the cube has no exposures."""
    if "exposure" not in cube.dims:
        return b""
    table = Table()
    names = {str(name): coord for name, coord in cube.coords.items() if coord.dims == ("exposure",)}
    for name in sorted(names, key=lambda key: (list(_COLUMNS).index(key) if key in _COLUMNS else
                                               len(_COLUMNS), key)):  # fmt: skip
        column, unit = _COLUMNS.get(name, (name.removeprefix("exposure_").upper(), ""))
        values = names[name].values
        if values.dtype.kind in "UOT":
            values = np.array([ascii_text(str(value)) for value in values], dtype="S")
        unit = unit or str(names[name].attrs.get("units", ""))
        table.add_column(Column(values, name=column, unit=unit or None))
    hdu = fits.table_to_hdu(table)
    hdu.header["EXTNAME"] = "EXPOSURES"
    hdu.header.add_comment("Offsets are exposure minus reference, on the sky")
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(file)
    return file.getvalue()[BLOCK:]
