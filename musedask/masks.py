"""What is masked in an exposure: pixels of the sky, and wavelengths.

Masks are numpy arrays; True means masked.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from musedask.ds9_regions import RegionFile
from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.fits.small import small_fits
from musedask.sky import SkyProjection

if TYPE_CHECKING:
    import xarray as xr

Bools = np.ndarray[Any, np.dtype[np.bool_]]

AO_NOTCH: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"WFM-AO-N": (5805.0, 5966.0), "WFM-AO-E": (5755.0, 6008.0), "NFM-AO-N": (5780.0, 6050.0)}
)
"""INS MODE -> first and last wavelength (Angstrom) that the notch filter against the
sodium laser blocks; as the MUSE pipeline (2.8.7) has it. The other modes have no gap."""

MASK_SENSES = ("good", "bad")


@dataclass(frozen=True)
class ExposureMask:
    """What is masked in one exposure; the default masks the laser's gap alone."""

    regions: str | os.PathLike[str] | None = None
    """DS9 region file: pixels whose centre is inside are masked."""
    mask: str | os.PathLike[str] | None = None
    """FITS image of the exposure's (ny, nx)."""
    border_pix: int = 0
    """Width of the border that is masked, spaxels."""
    wavelengths: tuple[tuple[float, float], ...] = ()
    """Ranges that are missing, Angstrom, both ends included."""
    notch: bool = True
    """Whether the gap of the adaptive optics' laser is masked, see :data:`AO_NOTCH`."""
    faintest_percent: float = 0.0
    """Mask the faintest so many per cent of each channel; only to reproduce old work."""
    mask_sense: str = "good"
    """What a value other than 0 in the FITS mask means: ``good``, as in CubEx's
    SliceEdgeMask and mypython's lists, or ``bad``, as in masks of ZAP, mpdaf and numpy."""

    def __post_init__(self) -> None:
        """Check the numbers; warn of the faintest percentile."""
        border = self.border_pix
        if isinstance(border, bool) or border < 0 or int(border) != border:
            raise InputError(
                f"border_pix = {border!r}: expected a whole number of spaxels, 0 or more"
            )
        for pair in self.wavelengths:
            if len(pair) != 2 or not all(map(math.isfinite, pair)) or pair[0] > pair[1]:
                raise InputError(
                    f"wavelengths: {tuple(pair)} is not a range; expected (first, last) in "
                    "Angstrom, first below last"
                )
        if not 0.0 <= self.faintest_percent < 100.0:
            raise InputError(
                f"faintest_percent = {self.faintest_percent}: expected 0 to less than 100"
            )
        if self.mask_sense not in MASK_SENSES:
            raise InputError(f"mask_sense = {self.mask_sense!r}: expected one of {MASK_SENSES}")
        if self.faintest_percent > 0:
            warnings.warn(
                f"masking the faintest {self.faintest_percent:g} % of each channel biases the sky "
                "upwards (1 % lifts every exposure by 0.027 sigma, which does not average out); "
                "use it only to reproduce old work",
                MusedaskWarning,
                stacklevel=3,
            )


def spatial_mask(
    mask: ExposureMask,
    sky: SkyProjection,
    shape: tuple[int, int],
    footprint: Bools | None = None,
) -> Bools:
    """Pixels of an exposure that are masked at every wavelength; reads the mask's files.

    Parameters
    ----------
    mask
        What to mask.
    sky
        Projection of the exposure *as its header has it*: offsets move the
        exposure on the sky, not the defects on its pixels.
    shape
        (ny, nx) of the exposure.
    footprint
        Bool (y, x), True where the exposure has data. With it the border is
        that of the field of view, which lies turned in its array for other
        position angles than 0, and not the array's; holes inside have no border.

    Returns
    -------
    ndarray
        Bool of shape (y, x), True is masked.

    Warns
    -----
    MusedaskWarning
        If nothing is left, which mostly means a mask of the other sense.

    Raises
    ------
    FileError, InputError
        If a file cannot be read, is not understood, or has another shape.
    """
    masked = np.zeros(shape, dtype=bool)
    if mask.mask is not None:
        masked |= read_mask_image(mask.mask, shape, mask.mask_sense)
    if mask.regions is not None:
        masked |= RegionFile.read(mask.regions).inside(sky, shape)
    if mask.border_pix:
        masked |= _border(shape, mask.border_pix, footprint)
    if masked.all():
        files = ", ".join(str(p) for p in (mask.mask, mask.regions) if p is not None)
        hint = f'; if 0 is good in it, say mask_sense="{_other(mask.mask_sense)}"'
        warnings.warn(
            f"every spaxel of the exposure is masked ({files or f'border of {mask.border_pix}'})"
            + (hint if mask.mask is not None else ""),
            MusedaskWarning,
            stacklevel=2,
        )
    return masked


def masked_channels(mask: ExposureMask, wavelengths: Any, mode: str) -> Bools:
    """Channels of an exposure that are masked, bool of shape (wavelength,).

    Parameters
    ----------
    mask
        What to mask.
    wavelengths
        Centres of the exposure's channels, float64 of shape (wavelength,), Angstrom.
    mode
        The exposure's ``ESO INS MODE``; empty if it is not known.

    Raises
    ------
    InputError
        If the mode is one of adaptive optics whose gap is not known.
    """
    waves = np.asarray(wavelengths, dtype=np.float64)
    ranges = list(mask.wavelengths)
    mode = mode.strip().upper()
    if mask.notch and mode in AO_NOTCH:
        ranges.append(AO_NOTCH[mode])
    elif mask.notch and "-AO-" in mode:
        raise InputError(
            f"INS MODE {mode!r}: the gap of the laser is known for {', '.join(AO_NOTCH)} only; "
            "give it as a wavelength range, with notch=False"
        )
    masked = np.zeros(waves.shape, dtype=bool)
    for first, last in ranges:
        masked |= (waves >= first) & (waves <= last)
    return masked


def faintest(flux: Any, percent: float) -> Bools:
    """Values below the ``percent`` percentile of their channel, bool (wavelength, y, x).

    The COSMOS routine masks the faintest 1 % in this way. It biases the sky:
    see :attr:`ExposureMask.faintest_percent`.

    Parameters
    ----------
    flux
        Float array of shape (wavelength, y, x); NaN is missing and stays False.
    percent
        0 to less than 100.
    """
    values = np.asarray(flux)
    masked = np.zeros(values.shape, dtype=bool)
    for plane, out in zip(values, masked, strict=True):
        present = plane[np.isfinite(plane)]
        if percent > 0 and present.size:
            out[...] = plane < np.percentile(present, percent)
    return masked


def read_mask_image(
    path: str | os.PathLike[str], shape: tuple[int, int] | None = None, sense: str = "good"
) -> Bools:
    """Read a FITS mask, bool of shape (y, x), True is masked.

    The image is the PRIMARY HDU or the first image extension with data, of two
    axes, or of three with one plane; plain, ``.fits.gz`` or ``.fits.fz``.

    With ``sense="good"`` 0 is masked and anything else is good, as CubEx's
    CubeCombine takes its ``-masklist`` ("bad pixels=0"), CubeFix writes its
    SliceEdgeMask (0 at the edges of slices, 1 elsewhere), and mypython's
    ``combine_cubes`` its maskall.in. With ``sense="bad"`` 0 is good and
    anything else masked. NaN is masked in both.

    Raises
    ------
    FileError
        If the file cannot be read as FITS.
    InputError
        If it has no such image, or one of another shape than ``shape``.
    """
    name = Path(path)
    if not os.path.isfile(name):
        raise FileError(
            f"{name}: there is no such mask; correct the path or clear it in the exposure table"
        )
    with small_fits(name) as hdus:
        found = [hdu.data for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS", 0)][:1]
    image = found[0] if found else None
    if image is None:
        raise InputError(f"{name}: no image in this mask; expected one of two axes")
    if image.ndim == 3 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 2 or (shape is not None and image.shape != tuple(shape)):
        wanted = "a cube of two sky axes" if shape is None else f"the cube's (ny, nx) = {shape}"
        raise InputError(
            f"{name}: the mask's shape is {image.shape}, which is not {wanted}; "
            "a mask belongs to the pixels of one exposure"
        )
    if sense not in MASK_SENSES:
        raise InputError(f"sense = {sense!r}: expected one of {MASK_SENSES}")
    masked: Bools = np.asarray(image == 0 if sense == "good" else image != 0)
    masked |= ~np.isfinite(image)
    return masked


def own_mask(cube: xr.Dataset, general: ExposureMask) -> ExposureMask:
    """The general mask with the exposure's own files from the exposure table.

    Parameters
    ----------
    cube
        Has coordinates ``mask_file`` and ``regions_file`` where the table names files.
    general
        For all exposures; given back as it is where the exposure has no files of its own.
    """
    own = {
        key: str(cube[coord].values)
        for key, coord in (("mask", "mask_file"), ("regions", "regions_file"))
        if coord in cube.coords
    }
    if not own:
        return general
    return ExposureMask(
        regions=own.get("regions", general.regions),
        mask=own.get("mask", general.mask),
        border_pix=general.border_pix,
        wavelengths=general.wavelengths,
        notch=general.notch,
        mask_sense=general.mask_sense,
    )


def identity(mask: ExposureMask) -> tuple[Any, ...]:
    """What the mask says, without paths: another value wherever the content is another.

    Reads the files. Of a region file the shapes enter, of a FITS mask the
    masked pixels; names, dates, comments and the order of shapes do not.

    Returns
    -------
    tuple
        Strings and numbers, fit for a hash by ``repr``.
    """
    regions = "" if mask.regions is None else RegionFile.read(mask.regions).checksum
    image = ""
    if mask.mask is not None:
        masked = read_mask_image(mask.mask, sense=mask.mask_sense)
        packed = repr(masked.shape).encode() + np.packbits(masked).tobytes()
        image = hashlib.sha256(packed).hexdigest()
    ranges = tuple(sorted({(float(first), float(last)) for first, last in mask.wavelengths}))
    notch = tuple(sorted(AO_NOTCH.items())) if mask.notch else ()
    return regions, image, int(mask.border_pix), ranges, notch, float(mask.faintest_percent)


def _border(shape: tuple[int, int], width: int, footprint: Bools | None) -> Bools:
    """Pixels closer than ``width`` to the outside, along x, y or a diagonal."""
    inside = np.ones(shape, dtype=bool)
    if footprint is not None:
        if footprint.shape != tuple(shape):
            raise InputError(f"the footprint's shape is {footprint.shape}, the cube's {shape}")
        inside = ndimage.binary_fill_holes(footprint)
    square = np.ones((3, 3), dtype=bool)
    return ~np.asarray(ndimage.binary_erosion(inside, square, iterations=width, border_value=0))


def _other(sense: str) -> str:
    """The other of the two senses."""
    return MASK_SENSES[1 - MASK_SENSES.index(sense)]
