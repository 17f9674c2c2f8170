"""What was measured of each exposure: its offset, what that rests on, and how good it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from musedask.offsets import Offset, OffsetTable

_NAN = math.nan


@dataclass(frozen=True, kw_only=True)
class SourceOffset:
    """The offset of one source, exposure minus reference."""

    ra_deg: float
    """RA of the source in the reference, degrees."""
    dec_deg: float
    """DEC of the source in the reference, degrees."""
    x: float
    """0-based column where the exposure's own WCS has this position."""
    y: float
    """0-based row where the exposure's own WCS has this position."""
    ra_offset_arcsec: float
    """To the east, on the sky; a total like the exposure's."""
    dec_offset_arcsec: float
    """To the north."""
    ra_error_arcsec: float
    """One-sigma error."""
    dec_error_arcsec: float
    """One-sigma error."""
    flux_ratio: float = _NAN
    """Flux of the reference over that of the exposure."""
    flux_ratio_error: float = _NAN
    """One-sigma error."""
    signal_to_noise: float = _NAN
    """Of the source in the exposure."""
    used: bool = True
    """Whether it counts."""
    reason: str = ""
    """Why not: ``outlier``, ``masked``, ``imprecise``..."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The offset of one exposure and everything that was found out with it; NaN is unknown."""

    date_obs: str
    """DATE-OBS, the key."""
    name: str = ""
    """Name of the exposure."""
    path: str = ""
    """File that was measured."""
    ra_deg: float = _NAN
    """RA of the header's pointing, degrees."""
    dec_deg: float = _NAN
    """DEC of the header's pointing, degrees."""
    ra_offset_arcsec: float = _NAN
    """Exposure minus reference, on the sky, east positive, relative to the raw header."""
    dec_offset_arcsec: float = _NAN
    """The same to the north."""
    ra_error_arcsec: float = _NAN
    """One-sigma error of ``ra_offset_arcsec``."""
    dec_error_arcsec: float = _NAN
    """One-sigma error of ``dec_offset_arcsec``."""
    rotation_deg: float = _NAN
    """Position angle (north through east) by which the exposure is turned too far."""
    rotation_error_deg: float = _NAN
    """One-sigma error of ``rotation_deg``."""
    flux_scale: float = _NAN
    """What flux (background added) has to be multiplied by to agree with the reference's, in its
    units over the exposure's; without a reference with the other exposures', and then the
    geometric mean of all is 1. A catalogue has no fluxes."""
    flux_scale_error: float = _NAN
    """One-sigma error of ``flux_scale``."""
    background: float = _NAN
    """What has to be added to flux before it is scaled."""
    background_error: float = _NAN
    """One-sigma error of ``background``."""
    n_sources: int = 0
    """Sources that the offset rests on."""
    signal_to_noise: float = _NAN
    """Of all that was compared, in quadrature."""
    correlation_before: float = _NAN
    """Correlation of exposure and reference where the header puts the exposure."""
    correlation_after: float = _NAN
    """The same with the offset subtracted."""
    fwhm_arcsec: float = _NAN
    """FWHM of a point source in the exposure."""
    blue_red_arcsec: float = _NAN
    """Distance between the offsets of a blue and a red image."""
    blue_red_error_arcsec: float = _NAN
    """Its one-sigma error along one axis."""
    grade: str = "F"
    """``A`` good, ``B`` usable, ``C`` doubtful, ``F`` failed."""
    reasons: tuple[str, ...] = ()
    """Why the grade is not better, a short sentence each."""
    method: str = "reference"
    """``reference``, ``catalogue``, ``relative`` or ``reference+relative``."""
    frame: str = ""
    """What the result stands on: the name of the reference, ``Gaia``, the mean of the headers."""
    band: str = ""
    """Filter through which the exposure was seen."""
    sources: tuple[SourceOffset, ...] = ()
    """Offsets of the single sources."""

    @property
    def offset(self) -> Offset:
        """The row of an offset table; without numbers if the measurement failed."""
        failed = self.grade == "F"
        return Offset(
            date_obs=self.date_obs,
            name=self.name,
            ra_deg=self.ra_deg,
            dec_deg=self.dec_deg,
            ra_offset_arcsec=_NAN if failed else self.ra_offset_arcsec,
            dec_offset_arcsec=_NAN if failed else self.dec_offset_arcsec,
            ra_error_arcsec=_NAN if failed else self.ra_error_arcsec,
            dec_error_arcsec=_NAN if failed else self.dec_error_arcsec,
            rotation_deg=_NAN if failed else self.rotation_deg,
            grade=self.grade,
            method=self.method,
            n_sources=self.n_sources,
            signal_to_noise=self.signal_to_noise,
            correlation_before=self.correlation_before,
            correlation_after=self.correlation_after,
            fwhm_arcsec=self.fwhm_arcsec,
            blue_red_arcsec=self.blue_red_arcsec,
            reasons="; ".join(self.reasons),
            frame=self.frame,
            band=self.band,
        )

    def failed(self, reason: str) -> Measurement:
        """The same without numbers to use, and the reason."""
        return replace(
            self,
            ra_offset_arcsec=_NAN,
            dec_offset_arcsec=_NAN,
            ra_error_arcsec=_NAN,
            dec_error_arcsec=_NAN,
            rotation_deg=_NAN,
            rotation_error_deg=_NAN,
            grade="F",
            reasons=(*self.reasons, reason),
        )


@dataclass(frozen=True)
class Alignment:
    """The measurements of a set of exposures, in their order."""

    measurements: tuple[Measurement, ...]
    """One for each exposure."""

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.measurements)

    def __len__(self) -> int:
        return len(self.measurements)

    @property
    def offsets(self) -> OffsetTable:
        """The offsets alone, as ``stack`` takes them."""
        return OffsetTable(tuple(measurement.offset for measurement in self))
