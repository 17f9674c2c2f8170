"""Which quality measures of the pipeline go into the table of a run, and from which keywords.

The keywords are those of the MUSE pipeline 2.8.7 (its recipes' manual pages and
products). Where a header has a value for each slice, each IFU or each source, one
number stands for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

Summary = Literal["median", "max", "min"]
LINE_FLUX = "1e-20 erg / (s cm2 arcsec2)"


@dataclass(frozen=True, kw_only=True)
class QcColumn:
    """A column of the table of quality measures."""

    name: str
    """Name in the table."""
    tags: tuple[str, ...]
    """PRO CATG of the products that have it; their copies in other products do not count."""
    keys: tuple[str, ...]
    """Keywords without ``ESO QC``, best first; ``#`` stands for any number."""
    unit: str = ""
    """Unit; empty for none."""
    summary: Summary = "median"
    """What is made of several values."""
    above: float = -math.inf
    """Values that are not above this say that nothing was measured."""
    is_text: bool = False
    """Whether it is a text and no number."""
    description: str
    """What it is; written into the table."""

    def value(self, found: Mapping[str, Iterable[Any]]) -> float | str:
        """The column's value: of the first keyword that has any.

        Parameters
        ----------
        found
            Keyword, as in ``keys``, -> its values.

        Returns
        -------
        float or str
            NaN or an empty text if there is none.
        """
        for key in self.keys:
            values = [value for value in found.get(key, ()) if self._is_good(value)]
            if values and self.is_text:
                return str(values[0])
            if values:
                # Of single precision, as the pipeline has measured it.
                return float(f"{_SUMMARIES[self.summary](values):.7g}")
        return "" if self.is_text else math.nan

    def _is_good(self, value: Any) -> bool:
        if self.is_text:
            return isinstance(value, str) and bool(value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and value > self.above


_SUMMARIES: Mapping[Summary, Callable[[list[float]], Any]] = {
    "median": np.median,
    "max": np.max,
    "min": np.min,
}
_PIXEL_TABLES = ("PIXTABLE_OBJECT", "PIXTABLE_SKY", "PIXTABLE_STD", "PIXTABLE_ASTROMETRY")


def _quadrants(name: str, key: str, unit: str, what: str, above: float) -> tuple[QcColumn, ...]:
    return tuple(
        QcColumn(
            name=f"{name}_q{n}", tags=("MASTER_BIAS",), keys=(key.replace("@", str(n)),),
            unit=unit, above=above, description=f"{what}, quadrant {n}",
        )
        for n in range(1, 5)
    )  # fmt: skip


COLUMNS: tuple[QcColumn, ...] = (
    *_quadrants("ron", "BIAS MASTER@ RON", "ct", "read-out noise", 0.0),
    *_quadrants("bias", "BIAS MASTER@ MEDIAN", "ct", "median of the master bias", -math.inf),
    QcColumn(name="n_bad_pixels", tags=("MASTER_BIAS", "MASTER_DARK"),
             keys=("BIAS MASTER NBADPIX", "DARK MASTER NBADPIX"),
             description="bad pixels that the master frame shows"),
    QcColumn(name="dark", tags=("MASTER_DARK",), keys=("DARK MASTER MEDIAN",), unit="ct",
             description="median of the master dark, of one hour"),
    QcColumn(name="dark_current", tags=("MASTER_DARK",), keys=("DARK MASTER DC",),
             unit="ct / (pix h)", description="dark current in windows"),
    QcColumn(name="flat", tags=("MASTER_FLAT",), keys=("FLAT MASTER MEDIAN",), unit="ct",
             description="median of the master flat before normalisation"),
    QcColumn(name="n_saturated", tags=("MASTER_BIAS", "MASTER_DARK", "MASTER_FLAT", *_PIXEL_TABLES),
             keys=("BIAS MASTER NSATURATED", "DARK MASTER NSATURATED", "FLAT MASTER NSATURATED",
                   "SCIBASIC NSATURATED"), description="saturated pixels"),
    QcColumn(name="slice_width", tags=("TRACE_TABLE",), keys=("TRACE WIDTHS MEDIAN",), unit="pix",
             above=0.0, description="median width of the slices"),
    QcColumn(name="slice_width_min", tags=("TRACE_TABLE",), keys=("TRACE WIDTHS MIN",), unit="pix",
             above=0.0, description="width of the narrowest slice"),
    QcColumn(name="slice_gap", tags=("TRACE_TABLE",), keys=("TRACE GAPS MEDIAN",), unit="pix",
             description="median gap between slices"),
    QcColumn(name="wavelength_rms", tags=("WAVECAL_TABLE",), keys=("WAVECAL SLICE# FIT RMS",),
             unit="Angstrom", above=0.0, description="rms of the wavelength fit, median of slices"),
    QcColumn(name="wavelength_rms_max", tags=("WAVECAL_TABLE",), keys=("WAVECAL SLICE# FIT RMS",),
             unit="Angstrom", above=0.0, summary="max",
             description="rms of the wavelength fit, worst slice"),
    QcColumn(name="n_arc_lines_min", tags=("WAVECAL_TABLE",), keys=("WAVECAL SLICE# FIT NLINES",),
             summary="min", description="arc lines in the fit, slice with the fewest"),
    QcColumn(name="resolution", tags=("WAVECAL_TABLE",), keys=("WAVECAL SLICE# RESOL",), above=0.0,
             description="spectral resolution R, median of slices"),
    QcColumn(name="lsf_fwhm", tags=("LSF_PROFILE",), keys=("LSF SLICE# FWHM MEAN",),
             unit="Angstrom", above=0.0, description="FWHM of the line profile, median of slices"),
    QcColumn(name="lsf_fwhm_max", tags=("LSF_PROFILE",), keys=("LSF SLICE# FWHM MEAN",),
             unit="Angstrom", above=0.0, summary="max",
             description="FWHM of the line profile, widest slice"),
    QcColumn(name="twilight", tags=("DATACUBE_SKYFLAT",), keys=("TWILIGHT# MASTER MEDIAN",),
             unit="ct", description="median of the combined twilight, median of IFUs"),
    QcColumn(name="twilight_min", tags=("DATACUBE_SKYFLAT",), keys=("TWILIGHT# MASTER MEDIAN",),
             unit="ct", summary="min",
             description="median of the combined twilight, faintest IFU"),
    QcColumn(name="wavelength_shift", tags=_PIXEL_TABLES, keys=("SCIBASIC LAMBDA SHIFT",),
             unit="Angstrom", description="shift that the sky lines asked for"),
    QcColumn(name="fwhm", tags=("DATACUBE_STD", "DATACUBE_FINAL", "DATACUBE_SKY"), unit="arcsec",
             keys=("STANDARD FWHM MEDIAN", "SCIPOST FWHM MEDIAN", "EXPCOMB FWHM MEDIAN",
                   # The median of one source, which a standard is, is written as 0.
                   "STANDARD FWHM# X", "SCIPOST FWHM# X", "EXPCOMB FWHM# X"), above=0.0,
             description="FWHM of the sources (of the standard, in DATACUBE_STD), median"),
    QcColumn(name="n_sources", tags=("DATACUBE_STD", "DATACUBE_FINAL", "DATACUBE_SKY"),
             keys=("STANDARD FWHM NVALID", "SCIPOST FWHM NVALID", "EXPCOMB FWHM NVALID"),
             description="sources that have a FWHM"),
    QcColumn(name="standard", tags=("STD_RESPONSE",), keys=("STANDARD STARNAME",), is_text=True,
             description="name of the standard star"),
    *(QcColumn(name=f"throughput_{wave}", tags=("STD_RESPONSE",), keys=(f"STANDARD THRU{wave}",),
               above=0.0, description=f"throughput at {wave} Angstrom")
      for wave in (5000, 7000, 8000, 9000)),
    *(QcColumn(name=f"zeropoint_{band.lower()}", tags=("STD_RESPONSE",), unit="mag",
               keys=(f"STANDARD ZP {band}",), above=-99.0, description=f"zero point in {band}")
      for band in "VRI"),
    QcColumn(name="sky_line_flux", tags=("SKY_LINES",), unit=LINE_FLUX, summary="max",
             keys=("SCIPOST LINE# FLUX", "SKY LINE# FLUX"),
             description="flux of the brightest group of sky lines"),
    QcColumn(name="sky_continuum", tags=("SKY_CONTINUUM",), unit=LINE_FLUX,
             keys=("SCIPOST CONT FLUX", "SKY CONT FLUX"),
             description="flux of the sky's continuum in all"),
    QcColumn(name="n_matches_min", tags=("OFFSET_LIST",), keys=("EXPALIGN NMATCH MIN",),
             description="sources that an image has in common with others, worst image"),
)  # fmt: skip
"""In the order of the chain."""


@cache
def columns_of(tag: str) -> tuple[QcColumn, ...]:
    """Columns to which a product of this PRO CATG has something to say."""
    return tuple(column for column in COLUMNS if tag in column.tags)
