"""Images of the sky in FITS files: read whole or in part, and written."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from musedask.alignment.image import FieldImage, Floats32
from musedask.alignment.image_hdus import (
    ImageHdus,
    find_image_hdus,
    image_source,
    split_extension,
)
from musedask.alignment.image_noise import variance_fault, variance_of_weight, without_data
from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.fits import FitsSource
from musedask.fits.hdus import FitsFile, Hdu
from musedask.fits.header import CubeHdus, carried, sky_projection
from musedask.fits.unpack import open_fits, plain_stem
from musedask.offsets import coordinate_deg, on_sky_arcsec
from musedask.sky import ARCSEC_PER_DEG, SkyProjection
from musedask.whole_files import write_whole

_FILTER_CARDS = ("ESO DRS MUSE FILTER NAME", "FILTER", "FILTNAM1", "FILTER1", "FILTER2")
_NAME_CARD = "MUSEDASK NAME"
_FWHM_CARDS = ("MUSEDASK FWHM", "ESO QC SCIPOST FWHM MEDIAN")


@dataclass(frozen=True)
class ImageFile:
    """An image in a file, of which nothing but headers has been read."""

    label: str
    """The file that the user gave."""
    projection: SkyProjection
    """Of the whole image."""
    flux: FitsSource
    """Its pixels, as one channel."""
    noise: FitsSource | None
    """What is known of the noise."""
    noise_kind: str
    """``variance``, ``error``, ``weight`` or empty."""
    quality: FitsSource | None
    """Whatever is not 0 there is bad."""
    coverage: FitsSource | None
    """The part of the filter that each pixel had."""
    frame: str
    """What its WCS stands on: ``Gaia`` where WCSNAME says so, else the file's name."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else a :class:`FieldImage` has, by its names."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole."""
        return self.flux.shape[1:]

    def read(self, rows: slice = slice(None), columns: slice = slice(None)) -> FieldImage:
        """Read the image or a part of it; nothing else of the file is read.

        Parameters
        ----------
        rows, columns
            Steps of 1, not negative.

        Returns
        -------
        image
            Pixels are NaN where they are so in the file, in large connected
            regions of exact 0, where DQ is not 0 or a weight is not positive.
            The variance is STAT (VAR), ERR squared or 1/WHT; a WHT that is no
            inverse variance is brought to the scale of the measured noise.

        Raises
        ------
        InputError
            If no pixel has a value.
        FileError
            If the file has changed since it was opened.

        Warns
        -----
        MusedaskWarning
            If what should be a variance cannot be one: it is left out.
        """
        flux = self._part(self.flux, rows, columns)
        missing = without_data(flux)
        if self.quality is not None:
            missing |= self._part(self.quality, rows, columns) != 0
        noise = None if self.noise is None else self._part(self.noise, rows, columns)
        if noise is not None and self.noise_kind == "weight":
            missing |= ~(noise > 0)
        flux[missing] = np.nan
        variance = None if noise is None else self._variance(noise, flux)
        if variance is not None:
            # In flux and variance together, as everywhere.
            bad = ~(np.isfinite(variance) & (variance > 0))
            flux[bad] = np.nan
            variance[bad | missing] = np.nan
        coverage = None if self.coverage is None else self._part(self.coverage, rows, columns)
        first_row, first_column = rows.start or 0, columns.start or 0
        return FieldImage(
            flux=flux,
            variance=variance,
            coverage=coverage,
            projection=self.projection.shifted(first_column, first_row)
            if first_row or first_column
            else self.projection,
            **self.facts,
        )

    def _part(self, source: FitsSource, rows: slice, columns: slice) -> Floats32:
        """Values of a part, float32 (y, x)."""
        values = source.read((slice(0, 1), rows, columns))[0]
        with np.errstate(over="ignore", under="ignore"):
            part: Floats32 = values.astype(np.float32, copy=False)
        part[~np.isfinite(part)] = np.nan
        return part

    def _variance(self, noise: Floats32, flux: Floats32) -> Floats32 | None:
        """The variance, or None and a warning."""
        if not np.isfinite(flux).any():
            return None
        if self.noise_kind == "weight":
            return variance_of_weight(noise, flux)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            variance: Floats32 = noise**2 if self.noise_kind == "error" else noise
        fault = variance_fault(variance, flux)
        if fault:
            warnings.warn(
                f"{self.label}: the {self.noise_kind} of its pixels {fault}, so it cannot be "
                "that; the image is used without",
                MusedaskWarning,
                stacklevel=4,
            )
            return None
        return variance


def open_image(path: str | os.PathLike[str]) -> ImageFile:
    """Open an image of the sky; reads headers only.

    Parameters
    ----------
    path
        FITS, also packed (unpacked into a cache at first); ``FILE.fits[EXTNAME]``
        or ``FILE.fits[2]`` names one of several images.

    Raises
    ------
    FileError
        If the file cannot be read, or has no image.
    InputError
        If it has several to choose from, or its WCS cannot be used.
    """
    name, extension = split_extension(os.fspath(path))
    file = open_fits(name)
    hdus = find_image_hdus(file, extension)
    wcs_hdu = hdus.flux
    if wcs_hdu.get("CRVAL1") is None and file.hdus[0].get("CRVAL1") is not None:
        wcs_hdu = file.hdus[0]
    projection = sky_projection(wcs_hdu, file.label)
    facts = _facts(file, hdus, projection)

    def source(hdu: Hdu | None) -> FitsSource | None:
        return None if hdu is None else image_source(file, hdu)

    on_gaia = "GAIA" in str(wcs_hdu.get("WCSNAME") or "").upper()
    return ImageFile(
        label=file.label,
        projection=projection,
        flux=image_source(file, hdus.flux),
        noise=source(hdus.noise),
        noise_kind=hdus.noise_kind,
        quality=source(hdus.quality),
        coverage=source(hdus.coverage),
        frame="Gaia" if on_gaia else facts["name"],
        facts=facts,
    )


def read_image(path: str | os.PathLike[str]) -> FieldImage:
    """Read an image of the sky whole: IMAGE_FOV of the pipeline, mpdaf's, HST's, any other.

    Parameters
    ----------
    path
        As :func:`open_image` takes it.

    Returns
    -------
    image
        As :meth:`ImageFile.read` makes it. Offsets that the pipeline has
        applied (``ESO DRS MUSE OFFSETn``) are its ``carried_*_arcsec``.

    Raises
    ------
    FileError, InputError
        As :func:`open_image` and :meth:`ImageFile.read`.
    """
    return open_image(path).read()


def write_image(
    path: str | os.PathLike[str], image: FieldImage, *, overwrite: bool = False
) -> Path:
    """Write an image as FITS, in one step: DATA, and STAT and COVERAGE if it has them.

    :func:`read_image` gives the same image again; mpdaf opens it.

    Raises
    ------
    FileError
        If the file exists and ``overwrite`` is false, or it cannot be written.
    """
    final = Path(path)
    if final.exists() and not overwrite:
        raise FileError(f"{final}: exists; give overwrite=True to replace it, or another name")
    top = fits.Header()
    if image.date_obs:
        top["DATE-OBS"] = image.date_obs
    for key, value in (("RA", image.ra_deg), ("DEC", image.dec_deg)):
        if math.isfinite(value):
            top[key] = (value, "[deg] pointing")
    _put(top, _NAME_CARD, image.name)
    _put(top, _FILTER_CARDS[0], image.band)
    if math.isfinite(image.fwhm_arcsec):
        _put(top, _FWHM_CARDS[0], image.fwhm_arcsec)
    if image.carried_ra_arcsec or image.carried_dec_arcsec:
        _put_carried(top, image)
    hdus: list[Any] = [fits.PrimaryHDU(header=top)]
    parts = [("DATA", image.flux, image.units), ("COVERAGE", image.coverage, "")]
    if image.variance is not None:
        parts.insert(1, ("STAT", image.variance, f"({image.units})**2" if image.units else ""))
    for name, array, units in parts:
        if array is not None:
            header = fits.Header(list(image.projection.cards))
            if units:
                header["BUNIT"] = units
            hdus.append(fits.ImageHDU(np.asarray(array, np.float32), header, name=name))
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    write_whole(final, stream.getvalue())
    return final


def _put(header: fits.Header, key: str, value: Any) -> None:
    """Set a HIERARCH card if there is something to say."""
    if value != "":
        header[f"HIERARCH {key}"] = value


def _put_carried(top: fits.Header, image: FieldImage) -> None:
    """Say, as the pipeline does, which offset the WCS has had subtracted."""
    dec = _declination(image.dec_deg, image.projection)
    if not image.date_obs:
        raise InputError(
            f"{image}: has had an offset subtracted, and no DATE-OBS by which that is known; "
            "set date_obs"
        )
    dra = coordinate_deg(image.carried_ra_arcsec, dec)
    _put(top, "ESO DRS MUSE OFFSET1 DRA", dra)
    ddec = image.carried_dec_arcsec / ARCSEC_PER_DEG
    _put(top, "ESO DRS MUSE OFFSET1 DDEC", ddec)
    _put(top, "ESO DRS MUSE OFFSET1 DATE-OBS", image.date_obs)


def _declination(dec_deg: float, projection: SkyProjection) -> float:
    """Where cos(dec) of an offset is taken."""
    return dec_deg if math.isfinite(dec_deg) else projection.crval_deg[1]


def _facts(file: FitsFile, hdus: ImageHdus, projection: SkyProjection) -> dict[str, Any]:
    """What the headers say of an image, by the names of a FieldImage."""
    cards = CubeHdus(file.hdus[0], hdus.flux, hdus.flux, None)
    ny, nx = hdus.flux.shape[-2:]
    ra, dec = cards.number("RA"), cards.number("DEC")
    if not (math.isfinite(ra) and math.isfinite(dec)):
        ra, dec = (float(v) for v in projection.to_sky((nx - 1) / 2, (ny - 1) / 2))
    date_obs = cards.word("DATE-OBS")
    applied = carried(cards, date_obs)
    fwhm = cards.number(*_FWHM_CARDS)
    return {
        "name": cards.word(_NAME_CARD) or plain_stem(file.label),
        "date_obs": date_obs,
        "band": _band(cards),
        "units": cards.word("BUNIT"),
        "fwhm_arcsec": fwhm if fwhm > 0 else math.nan,
        "ra_deg": ra,
        "dec_deg": dec,
        "carried_ra_arcsec": on_sky_arcsec(applied.ra_deg or 0.0, dec),
        "carried_dec_arcsec": (applied.dec_deg or 0.0) * ARCSEC_PER_DEG,
        "path": os.path.abspath(file.label),
    }


def _band(cards: CubeHdus) -> str:
    """Name of the filter; empty if no card tells it."""
    for key in _FILTER_CARDS:
        value = cards.get(key)
        if isinstance(value, str) and value and not value.upper().startswith(("CLEAR", "N/A")):
            return value
    # Where the filter has no card of its own, as in drizzled mosaics.
    found = re.search(r"\bF\d{3}(?:[WMN]|LP|X)\b", str(cards.get("PHOTMODE") or ""))
    return found[0] if found else ""
