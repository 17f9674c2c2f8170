"""Where an exposure stands against a reference: the value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.alignment.registration.combining import Agreement
from musedask.alignment.registration.correlating import Peak, pearson
from musedask.alignment.registration.fitting import SourceFits, Sources
from musedask.alignment.registration.lattices import Matched
from musedask.alignment.registration.preparing import Exposure

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

USUAL_ARCSEC = 3.0
"""MUSE rarely points farther off."""


@dataclass(frozen=True, eq=False)
class Registered:
    """Where an exposure stands against a reference, and what says so."""

    exposure: Exposure
    """As it was compared."""
    matched: Matched
    """The reference, as it was compared."""
    shift: Floats
    """Float64 (2,): how far the exposure is displaced, x and y, pixels."""
    agreement: Agreement
    """In arcseconds, east and north; relative to the middle of the field if turned."""
    sources: Sources
    """Those that were looked at."""
    fits: SourceFits
    """Their fits; shifts relative to ``starts``."""
    starts: Floats
    """Float64 (source, 2): where the last fit took each source to stand, pixels."""
    asked: Bools
    """Bool (source,): those whose fit took part in the agreement."""
    amplitude: float
    """Flux of the exposure over that of the reference."""
    amplitude_error: float
    """Its one-sigma error."""
    peak: Peak
    """The coarse peak it came from."""
    rival: float
    """Evidence for the best other place, as a share of that for this one."""
    rotation_rad: float = 0.0
    """Turn from x towards y that was subtracted."""
    rotation_error_rad: float = math.nan
    """Its one-sigma error."""

    @property
    def offset_arcsec(self) -> Floats:
        """The displacement on the sky, float64 (2,): east, north, arcseconds."""
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        turn = np.array([[cos, sin], [-sin, cos]])
        return np.asarray(self.exposure.arcsec @ turn @ self.shift)

    @property
    def belongs(self) -> Floats:
        """Probability that a source shares the offset, 0 if it was not asked; (source,)."""
        result = np.zeros(len(self.sources))
        result[self.asked] = self.agreement.belongs
        return result

    @property
    def source_shifts(self) -> Floats:
        """Where each source stands, arcseconds (east, north), float64 (source, 2)."""
        return np.asarray((self.starts + self.fits.shift) @ self.exposure.arcsec.T)

    @property
    def source_covariances(self) -> Floats:
        """Their covariances, arcseconds^2, float64 (source, 2, 2)."""
        j = self.exposure.arcsec
        return np.asarray(np.einsum("ij,sjk,lk->sil", j, self.fits.covariance, j))

    @property
    def evidence(self) -> float:
        """How much speaks for this place; a single source cannot say more than 100."""
        told = float((self.belongs * np.minimum(self.fits.signal_to_noise, 10.0) ** 2).sum())
        # Free amplitudes fit something everywhere; the right place fits as it stands. And
        # where two places fit alike, the nearer one is the more likely one.
        far = float(np.hypot(*(self.exposure.arcsec @ self.shift))) / USUAL_ARCSEC
        return told * max(0.0, self.correlation(self.shift)) ** 2 / (1.0 + far**2)

    @property
    def fwhm_arcsec(self) -> float:
        """FWHM by which exposure and reference differ, in quadrature; negative the other way."""
        return self.matched.seeing_arcsec

    def model(self) -> Floats:
        """What the exposure should show, float64 (y, x), in its units."""
        ny, nx = self.exposure.image.shape
        return self.amplitude * self.matched.displaced(self.shift, (ny, nx))

    def correlation(self, shift: Floats) -> float:
        """Pearson's coefficient of exposure and reference at a displacement."""
        ny, nx = self.exposure.image.shape
        model = self.matched.displaced(shift, (ny, nx))
        return pearson(self.exposure.image, model, self.exposure.usable & np.isfinite(model))
