"""What exposures are compared with: an image of any telescope, or a catalogue."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from astropy.table import Table

from musedask.alignment.catalogue import Catalogue, outline, read_catalogue
from musedask.alignment.image import FieldImage
from musedask.alignment.image_files import open_image
from musedask.alignment.image_hdus import plane_of, split_extension
from musedask.errors import InputError, MissingError
from musedask.files import opened
from musedask.fits.unpack import open_fits
from musedask.sky import SkyProjection

_FITS_STARTS = (b"SIMPLE  =", b"\x1f\x8b")


@runtime_checkable
class Reference(Protocol):
    """What an exposure can be compared with."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def frame(self) -> str:
        """What its positions stand on: ``Gaia`` where it says so, else its name."""

    @property
    def kind(self) -> str:
        """``reference``, an image, or ``catalogue``."""

    @property
    def band(self) -> str:
        """Name of its filter as its header has it; empty if it is not known."""

    def near(
        self,
        projection: SkyProjection,
        shape: tuple[int, int],
        margin_arcsec: float,
        epoch: float | None,
        pixel_arcsec: float,
    ) -> FieldImage:
        """Give what lies around a field, as an image in the reference's own pixels.

        Parameters
        ----------
        projection, shape
            The field, and its rows and columns.
        margin_arcsec
            How far around it.
        epoch
            Julian year of the exposure, for sources that move; None if it is not known.
        pixel_arcsec
            Side of the exposure's pixels.

        Raises
        ------
        MissingError
            If there is nothing.
        """


@dataclass(frozen=True, eq=False)
class ImageReference:
    """An image of the sky, of which the part around a field is read when it is wanted."""

    name: str
    """For people."""
    frame: str
    """``Gaia`` where the file says so, else the name."""
    projection: SkyProjection
    """Of the whole image."""
    shape: tuple[int, int]
    """Rows and columns of the whole."""
    read: Callable[[slice, slice], FieldImage]
    """Give some rows and columns."""
    band: str = ""
    """Name of its filter; empty if it is not known."""

    kind = "reference"

    def near(
        self,
        projection: SkyProjection,
        shape: tuple[int, int],
        margin_arcsec: float,
        epoch: float | None,
        pixel_arcsec: float,
    ) -> FieldImage:
        """Read the part around a field, see :class:`Reference`; its pixels do not move."""
        missing = MissingError(f"{self.name}: does not reach the field, or has no data there")
        part = _box(self.projection, self.shape, projection, shape, margin_arcsec)
        if part is None:
            raise missing
        try:
            found = self.read(*part)
        except InputError:  # no pixel has a value
            raise missing from None
        # A reference is where it is: neither an exposure's key nor its offset go with it.
        return replace(found, date_obs="", carried_ra_arcsec=0.0, carried_dec_arcsec=0.0)


def open_reference(
    source: str | os.PathLike[str] | FieldImage | Table | Reference,
) -> Reference:
    """Open what exposures are to be compared with; reads no more of an image than headers.

    Parameters
    ----------
    source
        An image of the sky (FITS, also packed; ``FILE.fits[EXTNAME]`` names
        one of several); a catalogue (``ra dec`` in degrees a line, ECSV, FITS,
        any table of astropy's, see :class:`musedask.alignment.catalogue.Catalogue`);
        or either of them in memory.

    Raises
    ------
    FileError, InputError
        If it cannot be read as an image or as a catalogue.
    """
    if isinstance(source, FieldImage):
        return _of_image(source)
    if isinstance(source, Table):
        return Catalogue.from_table(source)
    if isinstance(source, str | os.PathLike):
        return _of_file(os.fspath(source))
    if isinstance(source, Reference):
        return source
    raise InputError(f"reference = {source!r}: expected a file, a FieldImage or an astropy Table")


def _of_file(given: str) -> Reference:
    """A file with an image, or else a table."""
    path, extension = split_extension(given)
    with opened(path) as file:
        is_fits = file.read(9).startswith(_FITS_STARTS)
    if is_fits:
        hdus = open_fits(path).hdus
        tables = [hdu for hdu in hdus if hdu.get("XTENSION") in ("BINTABLE", "TABLE")]
        images = [hdu for hdu in hdus if hdu.is_image and plane_of(hdu)]
        if extension:
            tables = [hdu for hdu in tables if hdu.name == extension.upper()]
        is_fits = bool(images) or not tables
        if extension and tables:
            is_fits = False
    if not is_fits:
        return read_catalogue(path, extension)
    image = open_image(given)
    name = str(image.facts["name"]) or Path(path).stem
    return ImageReference(name, image.frame, image.projection, image.shape, image.read,
                          str(image.facts["band"]))  # fmt: skip


def _of_image(image: FieldImage) -> ImageReference:
    """An image in memory."""

    def part(rows: slice, columns: slice) -> FieldImage:
        def cut(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[rows, columns]

        return replace(
            image,
            flux=image.flux[rows, columns],
            variance=cut(image.variance),
            coverage=cut(image.coverage),
            projection=image.projection.shifted(columns.start, rows.start),
        )

    name = image.name or Path(image.path).stem or "the reference"
    return ImageReference(name, name, image.projection, image.shape, part, image.band)


def _box(
    whole: SkyProjection,
    whole_shape: tuple[int, int],
    field: SkyProjection,
    shape: tuple[int, int],
    margin_arcsec: float,
) -> tuple[slice, slice] | None:
    """Rows and columns of ``whole`` that hold a field and its margin; None if there are none."""
    x, y = whole.to_pixel(*outline(field, shape))
    if not (np.isfinite(x) & np.isfinite(y)).any():
        return None
    # The outline's straight pieces bend by less than a pixel.
    margin = margin_arcsec / math.sqrt(whole.pixel_area_arcsec2) + 1.0
    slices = []
    for values, n in ((y, whole_shape[0]), (x, whole_shape[1])):
        low = max(math.floor(np.nanmin(values) - margin), 0)
        high = min(math.ceil(np.nanmax(values) + margin) + 1, n)
        if low >= high:
            return None
        slices.append(slice(low, high))
    return slices[0], slices[1]
