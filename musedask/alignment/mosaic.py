"""Aligned images put together into one."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from musedask.alignment.catalogue import outline
from musedask.alignment.image import FieldImage, Floats32
from musedask.alignment.image_files import ImageFile, open_image
from musedask.alignment.image_noise import pixel_noise
from musedask.errors import InputError
from musedask.offsets import Offset, OffsetTable
from musedask.sky import SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]

HALF = 0.5 - 1e-5
"""A pixel is taken where this much of the light that falls on it came from valid pixels."""
MAX_PIXELS = 400_000_000
"""Of a mosaic: a field of 1.1 degrees in pixels of 0.2". Its sums take 12 GB."""

Weighting = Literal["noise", "equal"]


def aligned(image: FieldImage, offset: Offset) -> FieldImage:
    """Subtract an offset from where an image lies; its pixels stay as they are.

    The offset is a total relative to the raw header, so what the image carries
    already is not subtracted again; the result carries all of it. A rotation
    goes about the middle of the image.

    Raises
    ------
    InputError
        If the offset has failed, or has no numbers.
    """
    if offset.is_failed or not offset.is_finite:
        raise InputError(
            f"{image}: its offset has grade {offset.grade or 'none'} and is "
            f"({offset.ra_offset_arcsec}, {offset.dec_offset_arcsec}) arcsec, which is not to be "
            "used: set it by hand, or leave the image out"
        )
    ny, nx = image.shape
    candidates = (offset.dec_deg, image.dec_deg)
    dec = next((value for value in candidates if math.isfinite(value)), None)
    return replace(
        image,
        projection=image.projection.moved(
            offset.ra_offset_arcsec - image.carried_ra_arcsec,
            offset.dec_offset_arcsec - image.carried_dec_arcsec,
            offset.applied_rotation_deg,
            dec_deg=dec,
            about=((nx - 1) / 2.0, (ny - 1) / 2.0),
        ),
        carried_ra_arcsec=offset.ra_offset_arcsec,
        carried_dec_arcsec=offset.dec_offset_arcsec,
    )


def make_mosaic(
    images: Sequence[FieldImage | str | os.PathLike[str]],
    offsets: OffsetTable | None = None,
    *,
    weighting: Weighting = "noise",
    pixel_arcsec: float | None = None,
    like: FieldImage | None = None,
) -> FieldImage:
    """Put images together, each where its offset places it; computes.

    Images are interpolated bilinearly onto one lattice, north up; a pixel of
    an image counts where at least half of what it was interpolated from has a
    value. Of images in files one is in memory at a time. Flux scales are not
    applied.

    Parameters
    ----------
    images
        Images, or files as :func:`musedask.alignment.image_files.read_image` takes them.
    offsets
        Offsets by DATE-OBS; None leaves the images where they say they are.
    weighting
        ``noise`` weights with the inverse of an image's typical variance (one
        number, since weights by pixel would bias flux), ``equal`` does not.
    pixel_arcsec
        Side of the mosaic's pixels, that of the first image's by default;
        larger ones leave out light, since nothing is averaged over a pixel.
    like
        An image whose pixels are taken, instead of a lattice around all images.

    Returns
    -------
    mosaic
        ``coverage`` is the number of images in each pixel. ``variance`` is
        propagated, as if pixels were independent, where all images have one.

    Raises
    ------
    InputError
        If there are no images, their units or bands differ, an offset has
        failed, or they lie too far apart for one mosaic.
    MissingError
        If an image has no offset in the table.
    """
    if weighting not in ("noise", "equal"):
        raise InputError(f"weighting = {weighting!r}: use 'noise' or 'equal'")
    headers = [_Header.of(image) for image in images]
    if not headers:
        raise InputError("no images: give at least one to make a mosaic")
    for what in ("units", "band"):
        values = sorted({getattr(header, what) for header in headers})
        if len(values) > 1:
            raise InputError(
                f"the images have different {what}: {', '.join(map(repr, values))}; use one kind"
            )
    rows = [None if offsets is None else offsets.find(h.date_obs, h.name) for h in headers]
    places = [_placed(header, row) for header, row in zip(headers, rows, strict=True)]
    pixel = pixel_arcsec or math.sqrt(places[0].pixel_area_arcsec2)
    around = _lattice(places, headers, pixel) if like is None else (like.projection, like.shape)
    lattice, shape = around
    sums = _Sums.empty(shape)
    has_variance = True
    for header, place in zip(headers, places, strict=True):
        image = header.load()
        has_variance &= image.variance is not None
        weight = 1.0 if weighting == "equal" else _weight(image)
        sums.add(image, place, lattice, weight)
    return FieldImage(
        flux=sums.mean(),
        variance=sums.variance() if has_variance else None,
        coverage=sums.number,
        projection=lattice,
        name="mosaic",
        band=headers[0].band,
        units=headers[0].units,
    )


@dataclass(frozen=True)
class _Header:
    """What is known of an image before its pixels are read."""

    source: FieldImage | ImageFile
    name: str
    date_obs: str
    units: str
    band: str

    @classmethod
    def of(cls, image: FieldImage | str | os.PathLike[str]) -> _Header:
        if isinstance(image, FieldImage):
            return cls(image, image.name, image.date_obs, image.units, image.band)
        file = open_image(image)
        name, date_obs, units, band = (
            str(file.facts[key]) for key in ("name", "date_obs", "units", "band")
        )
        return cls(file, name, date_obs, units, band)

    def load(self) -> FieldImage:
        return self.source if isinstance(self.source, FieldImage) else self.source.read()


def _placed(header: _Header, row: Offset | None) -> SkyProjection:
    """Where an image lies with its offset subtracted; reads no pixels."""
    if row is None:
        return header.source.projection
    if isinstance(header.source, FieldImage):
        return aligned(header.source, row).projection
    # An image of the same shape without memory, since only its shape matters.
    flux = np.broadcast_to(np.float32(0.0), header.source.shape)
    stand_in = FieldImage(flux=flux, projection=header.source.projection, **header.source.facts)
    return aligned(stand_in, row).projection


def _weight(image: FieldImage) -> float:
    """The inverse of an image's typical variance."""
    if image.variance is not None:
        typical = float(np.nanmedian(image.variance))
    else:
        typical = pixel_noise(image.flux) ** 2
    if not typical > 0:
        raise InputError(
            f"{image}: its noise cannot be told, so it has no weight; use weighting='equal'"
        )
    return 1.0 / typical


def _lattice(
    places: Sequence[SkyProjection], headers: Sequence[_Header], pixel: float
) -> tuple[SkyProjection, tuple[int, int]]:
    """A lattice, north up, around all images: projection, (rows, columns)."""
    corners = [outline(p, h.source.shape) for p, h in zip(places, headers, strict=True)]
    ra, dec = np.radians(np.concatenate(corners, axis=1))
    # The mean of unit vectors, so that RA 0 is nothing special.
    x, y, z = (
        (np.cos(dec) * np.cos(ra)).mean(),
        (np.cos(dec) * np.sin(ra)).mean(),
        np.sin(dec).mean(),
    )
    middle_ra = math.degrees(math.atan2(y, x))
    middle_dec = math.degrees(math.atan2(z, math.hypot(x, y)))
    plane = SkyProjection.north_up(middle_ra, middle_dec, pixel)
    at_x, at_y = plane.to_pixel(np.degrees(ra), np.degrees(dec))
    size = np.ptp(at_x) * np.ptp(at_y)
    if not size < MAX_PIXELS:
        width = np.ptp(at_x) * pixel / 3600.0, np.ptp(at_y) * pixel / 3600.0
        raise InputError(
            f"the images span {width[0]:.2f} x {width[1]:.2f} degrees, too much for one mosaic in "
            f'pixels of {pixel:g}"; make one for each field'
        )
    x_low, y_low = math.floor(at_x.min()), math.floor(at_y.min())
    shape = math.ceil(at_y.max()) - y_low + 1, math.ceil(at_x.max()) - x_low + 1
    return plane.shifted(x_low, y_low), shape


@dataclass(frozen=True)
class _Sums:
    """Sums over images on the mosaic's pixels."""

    flux: Floats
    """Weight times flux."""
    square: Floats
    """Weight squared times variance."""
    weight: Floats
    """Weight."""
    number: Floats32
    """Images."""

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> _Sums:
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, np.float32))

    def add(
        self, image: FieldImage, place: SkyProjection, lattice: SkyProjection, weight: float
    ) -> None:
        """Add an image that lies at ``place``."""
        x, y = lattice.to_pixel(*outline(place, image.shape))
        rows = slice(max(0, math.floor(y.min())), max(0, math.ceil(y.max()) + 1))
        columns = slice(max(0, math.floor(x.min())), max(0, math.ceil(x.max()) + 1))
        box = self.flux[rows, columns].shape
        row, column = np.indices(box)
        ra, dec = lattice.to_sky(column + columns.start, row + rows.start)
        flux, variance = _interpolated(image, *place.to_pixel(ra, dec))
        known = np.isfinite(flux)
        self.flux[rows, columns][known] += weight * flux[known]
        self.square[rows, columns][known] += weight**2 * variance[known]
        self.weight[rows, columns][known] += weight
        self.number[rows, columns][known] += 1.0

    def mean(self) -> Floats32:
        """Weighted mean, float32 (y, x), NaN where there is no image."""
        flux: Floats = self.flux / np.where(self.number > 0, self.weight, np.nan)
        return flux.astype(np.float32)

    def variance(self) -> Floats32:
        """Its variance."""
        square: Floats = self.square / np.where(self.number > 0, self.weight, np.nan) ** 2
        return square.astype(np.float32)


def _interpolated(image: FieldImage, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Flux and variance of an image at pixel coordinates, bilinear over valid pixels."""
    ny, nx = image.shape
    valid = np.isfinite(image.flux)
    values = np.where(valid, image.flux, 0.0)
    squares = np.zeros(image.shape) if image.variance is None else image.variance
    squares = np.where(valid, squares, 0.0)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    flux, variance, total = np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape)
    for dy in (0, 1):
        for dx in (0, 1):
            at_x, at_y = x0 + dx, y0 + dy
            part = (1.0 - np.abs(x - at_x)) * (1.0 - np.abs(y - at_y))
            inside = (at_x >= 0) & (at_x < nx) & (at_y >= 0) & (at_y < ny)
            at = np.clip(at_y, 0, ny - 1), np.clip(at_x, 0, nx - 1)
            part = np.where(inside & valid[at], part, 0.0)
            flux += part * values[at]
            variance += part**2 * squares[at]
            total += part
    total[total < HALF] = np.nan
    return flux / total, variance / total**2
