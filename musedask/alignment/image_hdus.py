"""Which HDUs of a FITS file hold an image, its variance and its quality."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.fits import FitsSource
from musedask.fits.hdus import FitsFile, Hdu

FLUX_NAMES = ("DATA", "SCI")
_COMPANIONS = {
    "variance": ("STAT", "VAR", "VARIANCE"),
    "error": ("ERR", "ERROR", "SIGMA", "RMS"),
    "weight": ("WHT", "WEIGHT", "IVAR"),
}
"""What is known of the noise -> EXTNAMEs, the best first."""
_QUALITY = "DQ"
_COVERAGE = "COVERAGE"
_NO_PICTURES = {"CTX", "CON", "MASK", "SEG", "EXP", _QUALITY, _COVERAGE}.union(
    *_COMPANIONS.values()
)


@dataclass(frozen=True)
class ImageHdus:
    """The parts of an image in a file."""

    flux: Hdu
    """The picture."""
    noise: Hdu | None
    """What is known of its noise."""
    noise_kind: str
    """``variance``, ``error`` (sigma) or ``weight`` (inverse variance or exposure); or empty."""
    quality: Hdu | None
    """DQ: whatever is not 0 there is bad."""
    coverage: Hdu | None
    """COVERAGE, as musedask writes it."""


def split_extension(name: str) -> tuple[str, str]:
    """``FILE.fits[EXTNAME]`` into the file and EXTNAME; empty where none is named."""
    match = re.match(r"^(.+)\[([^\[\]]+)\]$", name)
    if match and not Path(name).exists():
        return match[1], match[2].strip()
    return name, ""


def find_image_hdus(file: FitsFile, extension: str = "") -> ImageHdus:
    """Tell the picture and what belongs to it.

    The picture is DATA or SCI, else PRIMARY, else the only image that is not
    by its name something else (a weight, a mask).

    Parameters
    ----------
    file
        The headers.
    extension
        EXTNAME or number of the picture, if that does not tell it.

    Raises
    ------
    FileError
        If there is no image.
    InputError
        If there are several to choose from, or none is called ``extension``.

    Warns
    -----
    MusedaskWarning
        If an HDU's name says that it belongs to the picture, and its shape does not.
    """
    images = [hdu for hdu in file.hdus if hdu.is_image and plane_of(hdu)]
    if not images:
        raise FileError(
            f"{file.label}: has no image of the sky: its HDUs are "
            f"{', '.join(_described(hdu) for hdu in file.hdus)}"
        )
    flux = _picture(file, images, extension)
    noise, kind = None, ""
    for kind_, names in reversed(_COMPANIONS.items()):
        for name in reversed(names):
            found = _companion(file, images, flux, name)
            if found is not None:
                noise, kind = found, kind_
    quality = _companion(file, images, flux, _QUALITY)
    coverage = _companion(file, images, flux, _COVERAGE)
    return ImageHdus(flux, noise, kind, quality, coverage)


def plane_of(hdu: Hdu) -> tuple[int, int] | None:
    """Rows and columns of an image of two axes and any of length 1; None if it is none."""
    if len(hdu.shape) < 2 or 0 in hdu.shape or math.prod(hdu.shape[:-2]) != 1:
        return None
    return hdu.shape[-2], hdu.shape[-1]


def image_source(file: FitsFile, hdu: Hdu) -> FitsSource:
    """Where an image lies in the file, as one channel of a cube."""
    ny, nx = hdu.shape[-2:]
    scaling = []
    for key, default in (("BSCALE", 1.0), ("BZERO", 0.0)):
        value = hdu.get(key)
        if value is not None and not isinstance(value, int | float):
            raise InputError(f"{file.label}: {key} = {value!r} in {hdu.name}, expected a number")
        scaling.append(default if value is None else float(value))
    blank = hdu.get("BLANK")
    source = FitsSource(
        path=file.path, offset=hdu.offset, shape=(1, ny, nx), dtype=hdu.dtype,
        size=file.size, mtime_ns=file.mtime_ns, header_hash=file.header_hash,
    )  # fmt: skip
    is_integer = hdu.dtype[1] in "iu"
    return replace(
        source,
        bscale=scaling[0],
        bzero=scaling[1],
        blank=blank if is_integer and isinstance(blank, int) else None,
    )


def _picture(file: FitsFile, images: Sequence[Hdu], extension: str) -> Hdu:
    """The HDU of the picture."""
    if extension:
        chosen = [
            hdu for hdu in images if extension.upper() == hdu.name or extension == str(hdu.index)
        ]
    else:
        chosen = [hdu for hdu in images if hdu.name in FLUX_NAMES or hdu.index == 0]
        chosen = chosen or [hdu for hdu in images if hdu.name not in _NO_PICTURES]
    if len(chosen) == 1:
        return chosen[0]
    what = f"no image {extension}" if extension and not chosen else "more than one image"
    if not chosen and not extension:
        what = "no image that is a picture by its name"
    raise InputError(
        f"{file.label}: has {what}; give one of them as {file.label}[EXTNAME] or [number]: "
        f"{', '.join(_described(hdu) for hdu in images)}"
    )


def _companion(file: FitsFile, images: Sequence[Hdu], flux: Hdu, name: str) -> Hdu | None:
    """The HDU of this name that has the picture's shape."""
    for hdu in images:
        if hdu.name == name and hdu is not flux:
            if plane_of(hdu) == plane_of(flux):
                return hdu
            warnings.warn(
                f"{file.label}: {_described(hdu)} does not fit {_described(flux)}; left out",
                MusedaskWarning,
                stacklevel=5,
            )
    return None


def _described(hdu: Hdu) -> str:
    """An HDU for messages."""
    return f"[{hdu.index}] {hdu.name or 'without a name'} {hdu.shape}"
