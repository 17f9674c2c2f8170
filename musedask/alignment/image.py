"""An exposure, or the reference that it is compared with, as one image of the sky."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.errors import InputError
from musedask.sky import ARCSEC_PER_DEG, SkyProjection

Floats32 = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, eq=False, kw_only=True)
class FieldImage:
    """Light of a field through one filter, and where its file says that it lies.

    Raises
    ------
    InputError
        If the arrays differ in shape, or no pixel has a value.
    """

    flux: Floats32
    """Float32 (y, x) in ``units``; NaN where there is none."""
    projection: SkyProjection
    """Where the pixels lie according to the file, pixel (0, 0) being the first."""
    variance: Floats32 | None = None
    """Float32 (y, x), ``units`` squared, NaN with the flux; None if it is not known."""
    coverage: Floats32 | None = None
    """Float32 (y, x), the fraction of the filter's weight that each pixel had; None is all."""
    name: str = ""
    """For people: usually the stem of the file."""
    date_obs: str = ""
    """DATE-OBS of an exposure, its key; empty for a reference."""
    band: str = "white"
    """Name of the filter."""
    units: str = ""
    """BUNIT."""
    fwhm_arcsec: float = math.nan
    """FWHM of a point source, where it is known."""
    ra_deg: float = math.nan
    """RA of the header's pointing, degrees."""
    dec_deg: float = math.nan
    """DEC of the header's pointing, degrees: where cos(dec) of the offsets is taken."""
    carried_ra_arcsec: float = 0.0
    """Offset to the east that the file's WCS has already had subtracted."""
    carried_dec_arcsec: float = 0.0
    """Offset to the north that the file's WCS has already had subtracted."""
    path: str = ""
    """The file."""

    def __post_init__(self) -> None:
        for name in ("flux", "variance", "coverage"):
            array = getattr(self, name)
            if array is None:
                continue
            if array.ndim != 2 or array.shape != self.flux.shape:
                raise InputError(
                    f"{self}: {name} has the shape {array.shape}, expected an image"
                    f"{'' if name == 'flux' else f' of {self.flux.shape}'}"
                )
        if not np.isfinite(self.flux).any():
            raise InputError(f"{self}: no pixel of the {self.band} image has a value")

    def __str__(self) -> str:
        return self.path or self.name or self.date_obs or "the image"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ny, nx = self.flux.shape
        return ny, nx

    @property
    def pixel_arcsec(self) -> float:
        """Side of a pixel."""
        return math.sqrt(self.projection.pixel_area_arcsec2)

    @property
    def arcsec_per_pixel(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Matrix from pixels (x, y) at the middle to arcseconds (east, north), float64 (2, 2)."""
        ny, nx = self.shape
        x, y = (nx - 1) / 2.0, (ny - 1) / 2.0
        ra, dec = self.projection.to_sky([x, x + 1.0, x], [y, y, y + 1.0])
        east = (ra - ra[0] + 180.0) % 360.0 - 180.0
        return ARCSEC_PER_DEG * np.array(
            [east[1:] * math.cos(math.radians(float(dec[0]))), dec[1:] - dec[0]]
        )
