"""Profiles of light as sums of Gaussians, so that seeing and pixels are sums of variances.

The method of Hogg and Lang (2013, PASP 125, 719), with coefficients of our own:
widths on a fixed logarithmic lattice, and weights that are not negative by
least squares (Lawson and Hanson's NNLS) of the light in each ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import optimize, special

from musedask.errors import InputError

Floats = np.ndarray[Any, np.dtype[np.float64]]

_RADII = 400
_SEEING_PER_DECADE, _GALAXY_PER_DECADE = 7, 4
"""Widths that are offered to the fit; it leaves some out. Brightness comes out right to 0.2 % of
the middle's for a seeing (beta of 2 to 4), light to 1 % for an exponential galaxy."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A circular profile of unit light as a sum of Gaussians."""

    weights: Floats
    """Light in each, float64 (gaussian,), sum 1."""
    sigmas: Floats
    """Their widths, float64 (gaussian,), in the unit of the profile's radius."""

    def __call__(self, radius: Floats) -> Floats:
        """Brightness per unit area at these radii."""
        terms = np.exp(-0.5 * (np.asarray(radius, float)[..., None] / self.sigmas) ** 2)
        return np.asarray(terms @ (self.weights / (2 * np.pi * self.sigmas**2)))

    def scaled(self, factor: float) -> Mixture:
        """The same profile, larger."""
        return Mixture(self.weights, self.sigmas * factor)


@lru_cache(maxsize=64)
def moffat(beta: float) -> Mixture:
    """A Moffat function of unit FWHM; radius in FWHM, the light beyond 12 FWHM put inside.

    Raises
    ------
    InputError
        If ``beta`` is not above 1.
    """
    if not beta > 1:
        raise InputError(f"Moffat beta of {beta}: it has to be above 1")
    scale = 0.5 / np.sqrt(2.0 ** (1.0 / beta) - 1.0)
    radius = np.geomspace(0.01, 12.0, _RADII)
    profile = (beta - 1) / (np.pi * scale**2) * (1 + (radius / scale) ** 2) ** -beta
    return _fitted(radius, profile, np.geomspace(0.2, 6.0, _n(_SEEING_PER_DECADE, 30.0)))


@lru_cache(maxsize=8)
def sersic(index: float) -> Mixture:
    """A Sersic profile of unit half-light radius; 1 is exponential, 4 de Vaucouleurs.

    It ends at 8 half-light radii.

    Raises
    ------
    InputError
        If ``index`` is not in [0.5, 6].
    """
    if not 0.5 <= index <= 6:
        raise InputError(f"Sersic index of {index}: it has to be in [0.5, 6]")
    steepness = float(special.gammaincinv(2.0 * index, 0.5))
    radius = np.geomspace(0.003, 8.0, _RADII)
    profile = np.exp(-steepness * (radius ** (1.0 / index) - 1.0))
    return _fitted(radius, profile, np.geomspace(0.02, 4.0, _n(_GALAXY_PER_DECADE, 200.0)))


HUBBLE_FWHM_ARCSEC = 0.1


def hubble() -> Mixture:
    """The point spread of an HST camera in the red: a core of 0.1 arcsec, and a faint halo.

    Radius in arcseconds.
    """
    core = HUBBLE_FWHM_ARCSEC / np.sqrt(8.0 * np.log(2.0))
    return Mixture(np.array([0.82, 0.13, 0.05]), np.array([core, 2.6 * core, 8.0 * core]))


def _n(per_decade: int, ratio: float) -> int:
    return round(per_decade * float(np.log10(ratio))) + 1


def _fitted(radius: Floats, profile: Floats, sigmas: Floats) -> Mixture:
    """Weights of Gaussians of these widths, of unit sum."""
    # Light per logarithm of radius: core and wings count by the light that is in them.
    light = 2 * np.pi * radius**2
    model = light[:, None] * np.exp(-0.5 * (radius[:, None] / sigmas) ** 2)
    model /= 2 * np.pi * sigmas**2
    total = np.trapezoid(light * profile, np.log(radius))
    weights, _ = optimize.nnls(model, light * profile / total)
    used = weights > 1e-4
    return Mixture(weights[used] / weights[used].sum(), sigmas[used])
