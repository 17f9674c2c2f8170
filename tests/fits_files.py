"""Small exposure cubes in FITS files, written with astropy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

PIPELINE_UNITS = "10**(-20)*erg/s/cm**2/Angstrom"
SHAPE = (40, 5, 6)

PRIMARY_CARDS: dict[str, Any] = {
    "INSTRUME": "MUSE",
    "RA": 63.355417,
    "DEC": 10.46556,
    "EXPTIME": 900.0,
    "DATE-OBS": "2014-12-08T02:48:56.798",
    "SPECSYS": "BARYCENT",
    "HIERARCH ESO INS MODE": "WFM-NOAO-N",
    "HIERARCH ESO PRO CATG": "DATACUBE_FINAL",
}
WCS_CARDS: dict[str, Any] = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CUNIT1": "deg",
    "CUNIT2": "deg",
    "CRVAL1": 63.355417,
    "CRVAL2": 10.46556,
    "CRPIX1": 3.2,
    "CRPIX2": 2.7,
    "CD1_1": -5.5555555555556e-05,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 5.5555555555556e-05,
    "CTYPE3": "AWAV",
    "CUNIT3": "Angstrom",
    "CRVAL3": 4749.890625,
    "CRPIX3": 1.0,
    "CD3_3": 1.25,
    "BUNIT": PIPELINE_UNITS,
}


def arrays(shape: tuple[int, int, int] = SHAPE, seed: int = 1) -> tuple[Any, Any]:
    """Flux and positive variance, native float32."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(3.0, 10.0, shape).astype(np.float32)
    variance = rng.uniform(50.0, 150.0, shape).astype(np.float32)
    return flux, variance


def cards(base: dict[str, Any], changes: dict[str, Any] | None) -> dict[str, Any]:
    """The base with changes; a card whose new value is None is left out."""
    merged = base | (changes or {})
    return {key: value for key, value in merged.items() if value is not None}


def write_cube(
    path: Path,
    *,
    data: Any = None,
    stat: Any = None,
    dq: Any = None,
    primary: dict[str, Any] | None = None,
    wcs: dict[str, Any] | None = None,
    names: tuple[str, str, str] = ("DATA", "STAT", "DQ"),
    in_primary: bool = False,
) -> Path:
    """Write a cube as muse_scipost does, or with the flux in PRIMARY."""
    flux, variance = arrays()
    data = flux if data is None else data
    stat = variance if stat is None else stat
    top = fits.Header(cards(PRIMARY_CARDS, primary))
    axes = fits.Header(cards(WCS_CARDS, wcs))
    if in_primary:
        hdus: list[Any] = [fits.PrimaryHDU(data, top + axes)]
    else:
        hdus = [fits.PrimaryHDU(header=top), fits.ImageHDU(data, axes, name=names[0])]
    if stat is not False:
        hdus.append(fits.ImageHDU(stat, axes, name=names[1]))
    if dq is not None:
        hdus.append(fits.ImageHDU(dq, name=names[2]))
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path
