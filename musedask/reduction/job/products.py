"""What a recipe has made: found by its headers, never by its names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from musedask.errors import FileError
from musedask.fits.hdus import FitsFile, Hdu, read_fits
from musedask.reduction.job.record import Product

_CHANNEL = re.compile(r"CHAN(\d\d)(?:\.|$)")
_NUMBERED = re.compile(r"-(\d\d)\.fits$")


@dataclass(frozen=True)
class Made:
    """A product and its headers."""

    product: Product
    """What is written down of it."""
    file: FitsFile
    """Its headers."""

    @property
    def primary(self) -> Hdu:
        """Its primary header."""
        return self.file.hdus[0]

    def hdu(self, name: str) -> Hdu | None:
        """The extension of this name, None if there is none."""
        return next((hdu for hdu in self.file.hdus if hdu.name == name), None)


def find_products(folder: Path) -> tuple[Made, ...]:
    """Read the headers of all products in a folder, by name.

    Raises
    ------
    FileError
        If one of them is cut off, no FITS file, or has no PRO CATG.
    """
    return tuple(_made(path) for path in sorted(folder.iterdir()))


def _made(path: Path) -> Made:
    file = read_fits(path)
    primary = file.hdus[0]
    tag = primary.get("ESO PRO CATG")
    if not isinstance(tag, str) or not tag:
        raise FileError(f"{path}: the recipe has made a file without PRO CATG: nobody can use it")
    product = Product(
        file=path.name,
        tag=tag,
        ifu=_ifu(file),
        filter=str(primary.get("ESO DRS MUSE FILTER NAME") or ""),
        date_obs=str(primary.get("DATE-OBS") or ""),
        size=file.size,
        datamd5=str(primary.get("DATAMD5") or ""),
    )
    return Made(product, file)


def _ifu(file: FitsFile) -> int | None:
    """The one IFU that a product is of; None for several or for the whole field."""
    match = _CHANNEL.match(file.hdus[0].name)
    if match:
        return int(match[1])
    found = {int(m[1]) for hdu in file.hdus if (m := _CHANNEL.match(hdu.name))}
    if found:
        return found.pop() if len(found) == 1 else None
    numbered = _NUMBERED.search(file.path)
    return int(numbered[1]) if numbered else None


def used_raw(made: Made) -> Iterator[str]:
    """Names of the raw files that the recipe says it used for a product."""
    primary = made.primary
    record = 1
    while primary.get(f"ESO PRO REC{record + 1} ID") is not None:
        record += 1
    number = 1
    while (name := primary.get(f"ESO PRO REC{record} RAW{number} NAME")) is not None:
        yield str(name)
        number += 1
