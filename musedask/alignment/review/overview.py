"""All exposures at their offsets: one mosaic, the reference beside it, and files of both."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from scipy import ndimage

from musedask.alignment.image import FieldImage
from musedask.alignment.material import Compared, Entry, Material
from musedask.alignment.review.images import noise_of
from musedask.errors import FileError, MissingError
from musedask.offsets import Offset, OffsetTable
from musedask.run import name_for_people
from musedask.sky import SkyProjection
from musedask.whole_files import write_whole

Floats = np.ndarray[Any, np.dtype[np.float64]]

MOSAIC_NAME = "mosaic.fits"
ALIGNED_FOLDER = "aligned"
_PAD_PIX = 2


@dataclass(frozen=True)
class Overview:
    """The mean of all aligned exposures, and of what each was compared with."""

    mosaic: FieldImage
    """Mean of the exposures, north up."""
    reference: FieldImage
    """Mean of the references, on the same pixels."""
    n_exposures: int
    """How many are in it."""


def aligned_projection(entry: Entry, row: Offset) -> SkyProjection:
    """Where the pixels of an exposure lie with its offset subtracted."""
    ny, nx = entry.shape
    dec = entry.measurement.dec_deg
    return entry.projection.moved(
        row.ra_offset_arcsec - entry.carried_arcsec[0],
        row.dec_offset_arcsec - entry.carried_arcsec[1],
        row.applied_rotation_deg,
        dec_deg=dec if math.isfinite(dec) else None,
        about=((nx - 1) / 2.0, (ny - 1) / 2.0),
    )


def usable(material: Material, table: OffsetTable) -> tuple[tuple[Entry, Offset], ...]:
    """The exposures that have images and an offset that did not fail."""
    pairs = ((entry, table.find(entry.key)) for entry in material if entry.key in table)
    return tuple((entry, row) for entry, row in pairs if row.is_finite and not row.is_failed)


def make_overview(
    pairs: Sequence[tuple[Entry, Offset]],
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Overview:
    """Put all exposures together where their offsets place them.

    Parameters
    ----------
    pairs
        From :func:`usable`.
    folder
        Where ``mosaic.fits`` and ``aligned/*.fits`` are written, if anywhere.
    progress
        Called with how many are done, and of how many.

    Raises
    ------
    MissingError
        If there is no exposure.
    FileError
        If an image cannot be read, or a file cannot be written.
    """
    if not pairs:
        raise MissingError("no exposure has an offset that can be used: there is no mosaic yet")
    lattice, shape = _lattice(pairs)
    sums = [_Mean(shape), _Mean(shape)]
    first = pairs[0][0].read()
    for done, (entry, row) in enumerate(pairs):
        compared = entry.read()
        place = aligned_projection(entry, row)
        ny, nx = entry.shape
        scale = row.applied_scale
        # Both with the same weight, so that their difference is nothing but differences.
        weight = (noise_of(compared.exposure) * scale) ** -2
        sums[0].add(compared.exposure.flux * scale, place, lattice, weight)
        # The reference is where it is; beyond the exposure it would not be compared with anything.
        margin = compared.margin
        inner = compared.reference.flux[margin : margin + ny, margin : margin + nx]
        sums[1].add(inner * scale, entry.projection, lattice, weight)
        if folder is not None:
            _write_aligned(folder / ALIGNED_FOLDER, compared, place)
        if progress is not None:
            progress(done + 1, len(pairs))
    overview = Overview(
        replace(_image(first, lattice, sums[0]), name="mosaic"),
        replace(_image(first, lattice, sums[1]), name=first.reference.name),
        len(pairs),
    )
    if folder is not None:
        _write_mosaic(folder / MOSAIC_NAME, overview)
    return overview


class _Mean:
    """A weighted mean of images that are brought to one lattice."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.sum = np.zeros(shape)
        self.weight = np.zeros(shape)
        self.number = np.zeros(shape, np.float32)

    def add(
        self, image: Any, projection: SkyProjection, lattice: SkyProjection, weight: float
    ) -> None:
        """Add an image, bilinearly, where all four neighbours have a value."""
        ny, nx = image.shape
        x, y = lattice.to_pixel(*projection.to_sky([-1, nx, -1, nx], [-1, -1, ny, ny]))
        rows = slice(max(0, math.floor(y.min())), max(0, math.ceil(y.max()) + 1))
        columns = slice(max(0, math.floor(x.min())), max(0, math.ceil(x.max()) + 1))
        row, column = np.indices(self.sum[rows, columns].shape)
        ra, dec = lattice.to_sky(column.ravel() + columns.start, row.ravel() + rows.start)
        at_x, at_y = projection.to_pixel(ra, dec)
        values = ndimage.map_coordinates(
            np.asarray(image, np.float64), [at_y, at_x], order=1, cval=np.nan
        ).reshape(row.shape)
        known = np.isfinite(values)
        self.sum[rows, columns][known] += weight * values[known]
        self.weight[rows, columns] += weight * known
        self.number[rows, columns] += known

    @property
    def mean(self) -> Floats:
        """NaN where nothing was added."""
        with np.errstate(invalid="ignore"):
            return np.where(self.weight > 0, self.sum / self.weight, np.nan)


def _lattice(pairs: Iterable[tuple[Entry, Offset]]) -> tuple[SkyProjection, tuple[int, int]]:
    """North up, with the pixels of the first exposure, around all."""
    corners = []
    pixel = 0.0
    for entry, row in pairs:
        ny, nx = entry.shape
        place = aligned_projection(entry, row)
        pixel = pixel or math.sqrt(place.pixel_area_arcsec2)
        corners.append(np.array(place.to_sky([0, nx - 1, 0, nx - 1], [0, 0, ny - 1, ny - 1])))
    ra, dec = np.concatenate(corners, axis=1)
    ra = ra[0] + (ra - ra[0] + 180.0) % 360.0 - 180.0
    centre = SkyProjection.north_up(float(ra.mean()), float(dec.mean()), pixel)
    x, y = centre.to_pixel(ra, dec)
    low = math.floor(x.min()) - _PAD_PIX, math.floor(y.min()) - _PAD_PIX
    shape = math.ceil(y.max()) + _PAD_PIX - low[1] + 1, math.ceil(x.max()) + _PAD_PIX - low[0] + 1
    return centre.shifted(*low), shape


def _image(first: Compared, lattice: SkyProjection, mean: _Mean) -> FieldImage:
    return FieldImage(
        flux=mean.mean.astype(np.float32),
        projection=lattice,
        coverage=mean.number,
        band=first.exposure.band,
        units=first.exposure.units,
    )


def _write_aligned(folder: Path, compared: Compared, place: SkyProjection) -> None:
    """The exposure's own pixels, with a WCS that is right."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as err:
        raise FileError(f"{folder}: cannot be made: {err.strerror or err}") from err
    name = name_for_people(compared.key, compared.measurement.name)
    units = _units(replace(compared.exposure, projection=place), "DATA")
    units[0].header["DATE-OBS"] = compared.key
    write_whole(folder / f"{name}.fits", _bytes(units))


def _write_mosaic(path: Path, overview: Overview) -> None:
    units = _units(overview.mosaic, "DATA") + _units(overview.reference, "REFERENCE")[1:]
    difference = overview.mosaic.flux - overview.reference.flux
    if np.isfinite(difference).any():
        image = replace(overview.mosaic, flux=difference, coverage=None)
        units += _units(image, "DIFFERENCE")[1:]
    units[0].header["NEXP"] = (overview.n_exposures, "exposures in the mean")
    write_whole(path, _bytes(units))


def _units(image: FieldImage, name: str) -> list[Any]:
    units: list[Any] = [fits.PrimaryHDU()]
    for what, suffix in (("flux", ""), ("variance", "_STAT"), ("coverage", "_COVERAGE")):
        array = getattr(image, what)
        if array is not None:
            header = fits.Header(list(image.projection.cards))
            if image.units and what == "flux":
                header["BUNIT"] = image.units
            units.append(fits.ImageHDU(array, header, name=name + suffix))
    return units


def _bytes(units: list[Any]) -> bytes:
    with io.BytesIO() as buffer:
        fits.HDUList(units).writeto(buffer)
        return buffer.getvalue()
