"""How well an offset can be known at best."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import fft

from musedask.simulation.noise import moving_average_weight

Floats = np.ndarray[Any, np.dtype[np.float64]]


def photon_limit(
    light: Floats, variance: Floats, usable: Any, lag: float, arcsec_per_pixel: Floats
) -> Floats:
    """Cramer-Rao bound of the offset of an image whose light is known, float64 (2, 2), arcsec^2.

    The Fisher matrix is F = g^T C^-1 g, with g the derivative of each pixel by
    the offset and C = S R S: S the standard deviations, R the correlation of a
    moving average of two along y and x. R is stationary, so that R^-1 is a
    division by its power spectrum: F_ab = (1 / N) sum_k h_a(k) h_b(k)* / P(k) with
    h = FT(g / sigma), P(k) = product over both axes of 1 + 2 r cos(k).

    Parameters
    ----------
    light
        The scene as the exposure sees it, without noise, float64 (y, x).
    variance
        True variance, float64 (y, x).
    usable
        Which pixels there are, bool (y, x).
    lag
        Lag-1 correlation r along y and x.
    arcsec_per_pixel
        From (x, y) to (east, north), float64 (2, 2).

    Returns
    -------
    numpy.ndarray
        Covariance of (east, north); infinite if there is no light.
    """
    by_pixel = np.stack([slope(light, 1), slope(light, 0)])
    by_sky = np.tensordot(np.linalg.inv(arcsec_per_pixel).T, by_pixel, 1)
    whitened = np.where(usable, by_sky / np.sqrt(variance), 0.0)
    waves = fft.fft2(whitened)
    weight = moving_average_weight(lag)
    power = np.ones((1, 1))
    for axis, size in zip((0, 1), light.shape, strict=True):
        k = 2 * np.pi * fft.fftfreq(size)
        along = 1.0 + 2.0 * weight * np.cos(k) / (1.0 + weight**2)
        power = power * (along[:, None] if axis == 0 else along)
    fisher = np.real(np.einsum("ayx,byx->ab", waves / power, np.conj(waves))) / light.size
    if not np.linalg.det(fisher) > 0:
        return np.full((2, 2), np.inf)
    return np.asarray(np.linalg.inv(fisher))


def slope(image: Floats, axis: int) -> Floats:
    """Derivative along an axis, per pixel, of the band-limited curve through the pixels.

    At the best seeing differences of neighbours would be several per cent low.
    """
    lines = np.moveaxis(image, axis, -1)
    # Mirrored, a line closes into a circle without a jump.
    circle = np.concatenate([lines, lines[..., ::-1]], axis=-1)
    size = circle.shape[-1]
    waves = fft.rfft(circle) * (2j * np.pi * fft.rfftfreq(size))
    along = np.asarray(fft.irfft(waves, size))[..., : lines.shape[-1]]
    return np.asarray(np.moveaxis(along, -1, axis))
