"""What a stack has to be, in plain float64 numpy: written from the science rules alone.

Nothing of musedask is imported. Everything goes the slow and obvious way: the
gnomonic projection by its formulas, one dense matrix of weights an exposure,
polygons clipped one at a time, loops over voxels where a rule is a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from clipping_reference import kept_by_clipping

Cards = dict[str, Any]


def tan_to_sky(cards: Cards, x: Any, y: Any) -> tuple[Any, Any]:
    """RA and DEC, degrees, of 0-based pixels (Calabretta & Greisen 2002, section 5.1.3)."""
    dx, dy = np.asarray(x) + 1.0 - cards["CRPIX1"], np.asarray(y) + 1.0 - cards["CRPIX2"]
    xi = np.radians(cards["CD1_1"] * dx + cards["CD1_2"] * dy)
    eta = np.radians(cards["CD2_1"] * dx + cards["CD2_2"] * dy)
    dec0 = np.radians(cards["CRVAL2"])
    below = np.cos(dec0) - eta * np.sin(dec0)
    ra = cards["CRVAL1"] + np.degrees(np.arctan2(xi, below))
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, below))
    return ra % 360.0, np.degrees(dec)


def tan_to_pixel(cards: Cards, ra: Any, dec: Any) -> tuple[Any, Any]:
    """0-based pixels of RA and DEC, degrees."""
    away, dec = np.radians(np.asarray(ra) - cards["CRVAL1"]), np.radians(dec)
    dec0 = np.radians(cards["CRVAL2"])
    below = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(away)
    xi = np.degrees(np.cos(dec) * np.sin(away) / below)
    eta = np.degrees(
        (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(away)) / below
    )
    matrix = np.array([[cards["CD1_1"], cards["CD1_2"]], [cards["CD2_1"], cards["CD2_2"]]])
    dx, dy = np.tensordot(np.linalg.inv(matrix), np.array([xi, eta]), 1)
    return dx + cards["CRPIX1"] - 1.0, dy + cards["CRPIX2"] - 1.0


def moved(cards: Cards, ra_arcsec: float, dec_arcsec: float, dec_deg: float) -> Cards:
    """The header with an offset (exposure minus reference, on the sky) subtracted."""
    return cards | {
        "CRVAL1": cards["CRVAL1"] - ra_arcsec / 3600.0 / np.cos(np.radians(dec_deg)),
        "CRVAL2": cards["CRVAL2"] - dec_arcsec / 3600.0,
    }


def pixel_area(cards: Cards) -> float:
    """Square degrees."""
    return abs(cards["CD1_1"] * cards["CD2_2"] - cards["CD1_2"] * cards["CD2_1"])


def lanczos3(distance: float) -> float:
    """The kernel, 0 from a distance of 3 on."""
    return float(np.sinc(distance) * np.sinc(distance / 3.0)) if abs(distance) < 3 else 0.0


def taps(kind: str, at: float) -> list[tuple[int, float]]:
    """Pixels along one axis and their weights, which add up to 1."""
    if kind == "nearest":
        return [(int(np.floor(at + 0.5)), 1.0)]
    low = int(np.floor(at))
    if kind == "bilinear":
        return [(low, 1.0 - (at - low)), (low + 1, at - low)]
    found = [(i, lanczos3(at - i)) for i in range(low - 2, low + 4)]
    total = sum(weight for _, weight in found)
    return [(i, weight / total) for i, weight in found]


def clipped(polygon: list[complex], inside: Callable[[complex], float]) -> list[complex]:
    """The part of a convex polygon where ``inside`` (linear) is positive."""
    out = []
    for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        p, q = inside(a), inside(b)
        if p >= 0:
            out.append(a)
        if p * q < 0:
            out.append(a + (b - a) * p / (p - q))
    return out


def area(polygon: list[complex]) -> float:
    """By the shoelace formula."""
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum((a.conjugate() * b).imag for a, b in pairs)) / 2


def overlaps(corners: list[complex], shape: tuple[int, int]) -> list[tuple[int, int, float]]:
    """(y, x, share): pixels of a frame under a quadrilateral, by area."""
    whole = area(corners)
    xs, ys = [c.real for c in corners], [c.imag for c in corners]
    found = []
    for j in range(max(int(np.floor(min(ys))), 0), min(int(np.ceil(max(ys))) + 1, shape[0])):
        row = clipped(corners, lambda c, j=j: c.imag - (j - 0.5))
        row = clipped(row, lambda c, j=j: (j + 0.5) - c.imag)
        for i in range(max(int(np.floor(min(xs))), 0), min(int(np.ceil(max(xs))) + 1, shape[1])):
            cell = clipped(row, lambda c, i=i: c.real - (i - 0.5))
            cell = clipped(cell, lambda c, i=i: (i + 0.5) - c.real)
            if len(cell) > 2 and area(cell) > 0:
                found.append((j, i, area(cell) / whole))
    return found


def resampling_matrix(
    kind: str, grid: Cards, frame: Cards, grid_shape: tuple[int, int], shape: tuple[int, int]
) -> Any:
    """Weights (grid pixel, frame pixel); a row adds up to 1 where it lies inside the frame."""
    matrix = np.zeros((grid_shape[0] * grid_shape[1], shape[0] * shape[1]))
    for n in range(len(matrix)):
        y, x = divmod(n, grid_shape[1])
        if kind == "exact":
            corner_x = np.array([x - 0.5, x + 0.5, x + 0.5, x - 0.5])
            corner_y = np.array([y - 0.5, y - 0.5, y + 0.5, y + 0.5])
            frame_x, frame_y = tan_to_pixel(frame, *tan_to_sky(grid, corner_x, corner_y))
            corners = [complex(a, b) for a, b in zip(frame_x, frame_y, strict=True)]
            for j, i, weight in overlaps(corners, shape):
                matrix[n, j * shape[1] + i] += weight
            continue
        at_x, at_y = tan_to_pixel(frame, *tan_to_sky(grid, x, y))
        for j, wy in taps(kind, float(at_y)):
            for i, wx in taps(kind, float(at_x)):
                if 0 <= j < shape[0] and 0 <= i < shape[1]:
                    matrix[n, j * shape[1] + i] += wy * wx
    return matrix


@dataclass(frozen=True)
class Exposure:
    """An exposure as its file has it, and what is to be done to it."""

    flux: Any
    variance: Any
    cards: Cards
    first: int = 0
    """The grid's channel at its channel 0."""
    quality: Any = None
    masked: Any = None
    absent: Any = None
    scale: float = 1.0
    weight: float = 1.0
    exptime: float = 900.0
    background: bool = False


def valid(exposure: Exposure) -> Any:
    """Which voxels are not missing."""
    with np.errstate(invalid="ignore"):
        good = np.isfinite(exposure.flux) & np.isfinite(exposure.variance)
        good &= exposure.variance > 0
    if exposure.quality is not None:
        good &= exposure.quality == 0
    if exposure.masked is not None:
        good &= ~exposure.masked
    return good


def resampled(exposure: Exposure, matrix: Any, shape: tuple[int, int, int]) -> tuple[Any, Any, Any]:
    """Flux and variance on the grid, NaN where missing, and the share of valid weight."""
    flux, variance, share = (np.full(shape, fill) for fill in (np.nan, np.nan, 0.0))
    good = valid(exposure)
    for own in range(len(exposure.flux)):
        channel = own + exposure.first
        if not 0 <= channel < shape[0]:
            continue
        if exposure.absent is not None and exposure.absent[own]:
            continue
        m = good[own].ravel()
        f = np.where(m, exposure.flux[own].ravel().astype(float), 0.0)
        if exposure.background and m.any():
            f = np.where(m, f - np.median(f[m]), 0.0)
        v = np.where(m, exposure.variance[own].ravel().astype(float), 0.0)
        weight = matrix @ m
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(weight >= 0.5, exposure.scale / weight, np.nan)
        flux[channel] = (matrix @ f * factor).reshape(shape[1:])
        variance[channel] = ((matrix**2) @ v * factor**2).reshape(shape[1:])
        share[channel] = weight.reshape(shape[1:])
    return flux, variance, share


@cache
def median_factor(n: int) -> float:
    """n times the variance of the median of n standard normal values, by quadrature."""
    if n == 1:
        return 1.0
    from math import factorial

    from scipy.stats import norm

    t = np.linspace(-7.0, 7.0, 701)
    density, below = norm.pdf(t), norm.cdf(t)
    if n % 2:
        k = n // 2
        constant = factorial(n) / factorial(k) ** 2
        weight = constant * (below * (1 - below)) ** k * density
        return float(n * np.trapezoid(t**2 * weight, t))
    # The two middle values m - u and m + u, u >= 0; their mean is m.
    k = n // 2 - 1
    constant = factorial(n) / factorial(k) ** 2
    nodes, weights = np.polynomial.legendre.leggauss(200)
    u, du = 3.0 * (nodes + 1.0), 3.0 * weights
    low, high = t[:, None] - u, t[:, None] + u
    joint = (norm.cdf(low) * norm.sf(high)) ** k * norm.pdf(low) * norm.pdf(high)
    return float(n * constant * np.trapezoid(t**2 * (2.0 * joint @ du), t))


@dataclass(frozen=True)
class Combined:
    """One statistic."""

    flux: Any
    variance: Any
    number: Any
    time: Any


def _loop(values: Any, rule: Callable[[Any, Any], tuple[float, float, Any]], variances: Any,
          times: Any) -> Combined:  # fmt: skip
    """Apply a rule (flux, variance of the valid ones -> flux, variance, kept) voxel by voxel."""
    shape = values.shape[1:]
    out = Combined(np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, int),
                   np.zeros(shape))  # fmt: skip
    for at in np.ndindex(shape):
        inside = np.flatnonzero(np.isfinite(values[(slice(None), *at)]))
        if inside.size == 0:
            continue
        f, v = values[(inside, *at)], variances[(inside, *at)]
        out.flux[at], out.variance[at], kept = rule(f, v, inside)
        out.number[at] = kept.size
        out.time[at] = times[kept].sum()
    return out


def median_variance(v: Any) -> float:
    """c_n n / (sum 1/sigma)^2 (1 + a_n d^2), d the scatter of 1/sigma over its mean."""
    n = v.size
    if n == 2:  # the mean
        return float(v.sum() / 4)
    growth = {1: 0.0}.get(n, 2.15 / n if n % 2 else 2.2 / n + 6.2 / n**2)
    inverse = 1 / np.sqrt(v)
    scatter = np.var(inverse) / np.mean(inverse) ** 2
    return float(median_factor(n) * n / np.sum(inverse) ** 2 * (1 + growth * scatter))


def median_of(values: Any, variances: Any, times: Any) -> Combined:
    """The median and its variance."""

    def rule(f: Any, v: Any, inside: Any) -> tuple[float, float, Any]:
        return float(np.median(f)), median_variance(v), inside

    return _loop(values, rule, variances, times)


def mean_of(values: Any, variances: Any, times: Any, weights: Any) -> Combined:
    """The weighted mean and sum w^2 var / (sum w)^2."""

    def rule(f: Any, v: Any, inside: Any) -> tuple[float, float, Any]:
        w = weights[inside]
        return (w * f).sum() / w.sum(), (w**2 * v).sum() / w.sum() ** 2, inside

    return _loop(values, rule, variances, times)


def mpdaf_of(
    values: Any, variances: Any, times: Any, *, nmax: int = 2, nclip: Sequence[float] = (5, 5),
    nstop: int = 2, mad: bool = True, var: str = "propagate",
) -> Combined:  # fmt: skip
    """Mpdaf's iterated clipping: strict limits around the median; too few left, undone."""

    def rule(f: Any, v: Any, inside: Any) -> tuple[float, float, Any]:
        for _ in range(nmax):
            centre = np.median(f)
            sigma = 1.4826 * np.median(abs(f - centre)) if mad else np.std(f)
            keep = (f > centre - nclip[0] * sigma) & (f < centre + nclip[1] * sigma)
            if keep.sum() < nstop or keep.all():
                break
            f, v, inside = f[keep], v[keep], inside[keep]
        n = f.size
        sigma = 1.4826 * np.median(abs(f - np.median(f))) if mad else np.std(f)
        variance = {"propagate": v.sum() / n**2, "stat_one": sigma**2}.get(var, np.nan)
        if var == "stat_mean" and n > 1:
            variance = sigma**2 / (n - 1)
        return float(f.mean()), float(variance), inside

    return _loop(values, rule, variances, times)


def clipped_of(
    values: Any, variances: Any, times: Any, weights: Any, **rule: float
) -> Combined:  # fmt: skip
    """Rejection around the centre, channel by channel, then the weighted mean of what is kept."""
    kept = np.stack(
        [kept_by_clipping(values[:, z], variances[:, z], **rule) for z in range(values.shape[1])],
        axis=1,
    )
    return mean_of(np.where(kept, values, np.nan), variances, times, weights)
