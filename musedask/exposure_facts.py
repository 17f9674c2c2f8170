"""What the file of an exposure says of it, and what a look at its sky adds."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from musedask.cube import FLUX_UNITS
from musedask.errors import FileError, MusedaskError
from musedask.fits.hdus import Hdu
from musedask.fits.unpack import read_first_headers
from musedask.sky import Floats

SKY_BAND_ANGSTROM = (7000.0, 7100.0)
"""Between the OH bands 7-2 and 8-3, without a bright line: in mpdaf's real cube of Abell 478
the variance varies here by a fifth, in the bands beside it by factors."""

_SEEING_CARDS = (
    ("QC", ("ESO QC SCIPOST FWHM MEDIAN",)),
    ("QC", ("ESO QC EXPCOMB FWHM MEDIAN",)),
    ("SGS", ("ESO OCS SGS FWHM MED",)),
    ("IA", ("ESO TEL IA FWHM",)),
    ("AMBI", ("ESO TEL AMBI FWHM START", "ESO TEL AMBI FWHM END")),
)
"""Best first: measured on the cube's own sources, on stars beside the field, at the
active optics' guide star (corrected for airmass), by the site's monitor."""


@dataclass(frozen=True)
class ExposureFacts:
    """What is known of one file; NaN and empty are unknown."""

    path: Path
    """The file."""
    is_good: bool = True
    """Whether it could be read as an exposure."""
    reason: str = ""
    """Why not, or a remark."""
    date_obs: str = ""
    """DATE-OBS."""
    mode: str = ""
    """ESO INS MODE."""
    exptime: float = math.nan
    """EXPTIME, seconds."""
    target: str = ""
    """ESO OBS TARG NAME, or OBJECT."""
    ra_deg: float = math.nan
    """RA of the pointing."""
    dec_deg: float = math.nan
    """DEC of the pointing."""
    seeing: float = math.nan
    """FWHM, arcsec."""
    seeing_from: str = ""
    """Where the seeing comes from: QC, SGS, IA or AMBI."""
    transparency: float = math.nan
    """1 / ESO DRS MUSE FLUX SCALE1, the factor that the pipeline has applied."""
    airmass: float = math.nan
    """Mean of start and end."""
    sky: float = math.nan
    """Flux of the median spaxel in :data:`SKY_BAND_ANGSTROM`, 1e-20 erg/s/cm2/Angstrom."""


def read_facts(path: Path, *, measure: bool = True) -> ExposureFacts:
    """Find out what a file says; one that cannot be read gives its reason instead of an error.

    Parameters
    ----------
    path
        A FITS cube.
    measure
        Whether to open the cube and measure its sky; otherwise only headers are read.
    """
    try:
        facts = _facts_of(path, _headers(path))
        if facts.is_good and measure:
            from musedask.fits import open_cube

            facts = replace(facts, sky=sky_level(open_cube(path)))
    except MusedaskError as err:
        return ExposureFacts(path, is_good=False, reason=str(err).removeprefix(f"{path}: "))
    return facts


def sky_level(cube: xr.Dataset) -> float:
    """Flux of the median spaxel of a cube, averaged over :data:`SKY_BAND_ANGSTROM`; computes.

    Of a sky-subtracted cube it is what the subtraction left. NaN if the cube
    does not reach the band, or has other units than the pipeline's.
    """
    waves = cube["wavelength"].values
    band = np.flatnonzero((waves >= SKY_BAND_ANGSTROM[0]) & (waves <= SKY_BAND_ANGSTROM[1]))
    if band.size == 0 or cube["flux"].attrs.get("units") != FLUX_UNITS:
        return math.nan
    flux = cube["flux"].isel(wavelength=slice(int(band[0]), int(band[-1]) + 1)).values
    good = np.isfinite(flux)
    n_good = np.asarray(good.sum(axis=0))
    total: Floats = np.where(good, flux, 0).sum(axis=0, dtype=np.float64)
    spaxels = total[n_good > 0] / n_good[n_good > 0]
    return round(float(np.median(spaxels)), 4) if spaxels.size else math.nan


def group_pointings(
    ra_deg: Sequence[float], dec_deg: Sequence[float], radius_arcsec: float = 20.0
) -> list[int]:
    """Number the fields: positions that chain together within ``radius_arcsec`` are one.

    Works on unit vectors, so that RA 0 and the poles are nothing special.

    Returns
    -------
    list of int
        From 0 in the order of appearance; -1 where a position is not finite.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    angles: Floats = np.array([ra_deg, dec_deg], dtype=np.float64) * (math.pi / 180.0)
    known = np.flatnonzero(np.isfinite(angles).all(axis=0))
    labels = [-1] * angles.shape[1]
    if known.size == 0:
        return labels
    ra, dec = angles[:, known]
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    chord = 2 * np.sin(np.radians(radius_arcsec / 3600.0) / 2)
    pairs = cKDTree(vectors).query_pairs(chord, output_type="ndarray")
    links = coo_array(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(known.size, known.size)
    )
    _, component = connected_components(links, directed=False)
    numbers: dict[int, int] = {}
    for i, c in zip(known.tolist(), component.tolist(), strict=True):
        labels[i] = numbers.setdefault(c, len(numbers))
    return labels


def _headers(path: Path) -> list[Hdu]:
    """Headers of the first two HDUs; nothing else is read."""
    if os.path.isdir(path):
        raise FileError(f"{path}: a folder, not a FITS cube")
    if not os.path.isfile(path):
        raise FileError(f"{path}: there is no such file")
    headers = read_first_headers(path, 2)
    return headers if headers[0].get("DATE-OBS") is None else headers[:1]


def _facts_of(path: Path, headers: Sequence[Hdu]) -> ExposureFacts:
    """Pick the facts out of headers, the first one first."""
    date_obs = _text(headers, "DATE-OBS")
    if not date_obs:
        return ExposureFacts(path, is_good=False, reason="no DATE-OBS in its header")
    seeing, origin = math.nan, ""
    for name, keys in _SEEING_CARDS:
        seeing = _mean_of_positive(headers, keys)
        if math.isfinite(seeing):
            origin = name
            break
    n_combined = _number(headers, "ESO PRO DATANCOM")
    is_combined = n_combined > 1 or any("\nHIERARCH ESO QC EXPCOMB" in hdu.text for hdu in headers)
    scale = math.nan if is_combined else _number(headers, "ESO DRS MUSE FLUX SCALE1")
    return ExposureFacts(
        path,
        reason="combined from several exposures" if is_combined else "",
        date_obs=date_obs,
        mode=_text(headers, "ESO INS MODE"),
        exptime=_mean_of_positive(headers, ("EXPTIME",)),
        target=_text(headers, "ESO OBS TARG NAME") or _text(headers, "OBJECT"),
        ra_deg=_number(headers, "RA"),
        dec_deg=_number(headers, "DEC"),
        seeing=round(seeing, 3),
        seeing_from=origin,
        transparency=round(1 / scale, 5) if scale > 0 else math.nan,
        airmass=round(_mean_of_positive(headers, ("ESO TEL AIRM START", "ESO TEL AIRM END")), 4),
    )


def _card(headers: Sequence[Hdu], key: str) -> Any:
    """The value of a card in the first header that has it, else None."""
    return next((value for hdu in headers if (value := hdu.get(key)) is not None), None)


def _text(headers: Sequence[Hdu], key: str) -> str:
    """A card as text without blanks around it."""
    value = _card(headers, key)
    return value.strip() if isinstance(value, str) else ""


def _number(headers: Sequence[Hdu], key: str) -> float:
    """A card as a number, NaN if it is none."""
    value = _card(headers, key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else math.nan


def _mean_of_positive(headers: Sequence[Hdu], keys: Sequence[str]) -> float:
    """Mean of those cards that are above 0 (unknown is written as 0 or -1), else NaN."""
    values = [value for key in keys if (value := _number(headers, key)) > 0]
    return sum(values) / len(values) if values else math.nan
