"""What sources agree on, when some of them moved, vary, or are no sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

from musedask.alignment.registration.kernels import climb

Floats = np.ndarray[Any, np.dtype[np.float64]]

OUTLIERS = 0.08
"""Share of sources that are expected to say nothing about the offset."""
_SCATTERS = np.array([0.0, 0.002, 0.004, 0.007, 0.012, 0.02, 0.035, 0.06])
"""Scatter from source to source beyond the errors, arcseconds an axis: what is tried."""
_TYPICAL_SCATTER = 0.002
_FINE_ENOUGH = 0.01
"""Arcseconds: a source that is better than this decides no more than one that is as good."""
_ROUNDS = 25
_MOST_STARTS = 24


@dataclass(frozen=True, eq=False)
class Agreement:
    """The offset that most sources share."""

    place: Floats
    """Float64 (2,), in the unit of the values."""
    covariance: Floats
    """Float64 (2, 2)."""
    belongs: Floats
    """Probability that each value is no outlier, float64 (source,)."""
    scatter: float
    """Scatter beyond the errors, an axis."""
    effective: float
    """How many sources count: (sum of weights)^2 / sum of squared weights, of which none is
    better than a hundredth of an arcsecond."""


def agree(values: Floats, covariances: Floats, area: float) -> Agreement:
    """Find the common value of measurements of which some are wrong.

    A mixture of those that follow their errors and a common scatter, and of outliers
    anywhere in an area; maximised from each of the best measured values (a large
    group of wrong ones can have its own maximum), with the scatter integrated over
    a half-Cauchy prior.

    Parameters
    ----------
    values
        Float64 (source, 2), arcseconds.
    covariances
        Of them, float64 (source, 2, 2).
    area
        Where outliers may lie, square arcseconds.

    Raises
    ------
    ValueError
        If there is no value.
    """
    if values.shape[0] == 0:
        raise ValueError("no value to agree on")
    size = np.sqrt(np.trace(covariances, axis1=1, axis2=2))
    starts = values[np.argsort(size, kind="stable")[:_MOST_STARTS]]
    found = [_best(values, covariances, area, scatter, starts) for scatter in _SCATTERS]
    likelihoods = np.array([likelihood for _, _, _, likelihood in found])
    prior = -np.log1p((_SCATTERS / _TYPICAL_SCATTER) ** 2) + np.log(_widths(_SCATTERS))
    share = special.softmax(likelihoods + prior)
    places = np.array([place for place, _, _, _ in found])
    place = share @ places
    covariance = np.einsum("k,kij->ij", share, np.array([inner for _, inner, _, _ in found]))
    away = places - place
    covariance = covariance + np.einsum("k,ki,kj->ij", share, away, away)
    belongs = share @ np.array([inner for _, _, inner, _ in found])
    scatter = float(share @ _SCATTERS)
    weights = belongs / (size**2 / 2.0 + scatter**2 + _FINE_ENOUGH**2)
    effective = float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-300))
    return Agreement(place, covariance, belongs, scatter, effective)


def _widths(grid: Floats) -> Floats:
    """What each point of a grid stands for."""
    return np.asarray(np.gradient(grid))


def _best(
    values: Floats, covariances: Floats, area: float, scatter: float, starts: Floats
) -> tuple[Floats, Floats, Floats, float]:
    """Maximise from all starts at once; place, covariance, belongs, log likelihood."""
    inverse, log_norm = _precision(covariances, scatter)
    places, likelihood = starts.copy(), np.empty(len(starts))
    outside = np.log(OUTLIERS / area)
    belongs = np.empty((len(starts), len(values)))
    climb(
        values, inverse, np.log1p(-OUTLIERS) + log_norm, outside, _ROUNDS,
        places, belongs, likelihood,
    )  # fmt: skip
    k = int(np.argmax(likelihood))
    covariance = np.linalg.inv(_information(values, inverse, belongs[k], places[k]))
    return places[k], np.asarray(covariance, float), belongs[k], float(likelihood[k])


def _precision(covariances: Floats, scatter: float) -> tuple[Floats, Floats]:
    total = covariances + scatter**2 * np.eye(2)
    log_norm = -0.5 * np.log(np.linalg.det(total)) - np.log(2 * np.pi)
    return np.asarray(np.linalg.inv(total), float), np.asarray(log_norm, float)


def _information(values: Floats, inverse: Floats, belongs: Floats, place: Floats) -> Floats:
    """Observed information of the place: doubt about who belongs takes some of it away."""
    away = values - place
    slope = np.einsum("sij,sj->si", inverse, away)
    fisher = np.einsum("s,sij->ij", belongs, inverse)
    doubt = np.einsum("s,si,sj->ij", belongs * (1.0 - belongs), slope, slope)
    information = fisher - doubt
    # Far from a maximum the difference may be no covariance: then the doubt is bounded.
    least = 0.2 * float(np.linalg.eigvalsh(fisher)[0])
    sound = float(np.linalg.eigvalsh(information)[0]) > least
    return np.asarray(information if sound else 0.2 * fisher, float)


def robust_mean(values: Floats, errors: Floats) -> tuple[float, float]:
    """Weighted mean and its error, of values whose scatter may exceed their errors.

    Values farther than 3.5 robust standard deviations from the median are left out;
    the scatter beyond the errors is added to each (Paule and Mandel's condition, that
    chi squared is the number of degrees of freedom).

    Returns
    -------
    tuple
        NaN twice if there is no value.
    """
    if values.size == 0:
        return float("nan"), float("nan")
    extra = 0.0
    kept = np.ones(values.size, bool)
    for _ in range(6):
        weight = 1.0 / (errors[kept] ** 2 + extra**2)
        centre = float(np.average(values[kept], weights=weight))
        away = np.abs(values - centre) / np.sqrt(errors**2 + extra**2)
        spread = max(1.0, 1.4826 * float(np.median(away)))
        kept = away <= 3.5 * spread
        extra = _extra(values[kept], errors[kept])
    weight = 1.0 / (errors[kept] ** 2 + extra**2)
    return float(np.average(values[kept], weights=weight)), float(weight.sum() ** -0.5)


def _extra(values: Floats, errors: Floats) -> float:
    """Scatter to add to the errors so that chi squared fits."""
    if values.size < 3:
        return 0.0

    def excess(extra: float) -> float:
        weight = 1.0 / (errors**2 + extra**2)
        mean = (weight @ values) / weight.sum()
        return float((weight * (values - mean) ** 2).sum()) - (values.size - 1)

    high = float(np.ptp(values))
    if high == 0 or excess(0.0) <= 0:
        return 0.0
    # With an error of the whole range, chi squared is below the number of values.
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-9 * high, rtol=1e-7))
