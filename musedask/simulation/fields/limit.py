"""How well an offset can be known at best."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import fft

from musedask.simulation.fields.mixtures import Mixture
from musedask.simulation.noise import moving_average_weight

Floats = np.ndarray[Any, np.dtype[np.float64]]


def photon_limit(
    light: Floats,
    variance: Floats,
    usable: Any,
    lag: float,
    arcsec_per_pixel: Floats,
    of_reference: Floats | None = None,
) -> Floats:
    """Cramer-Rao bound of the offset of an image whose light is known, float64 (2, 2), arcsec^2.

    The Fisher matrix is F = g^T C^-1 g, with g the derivative of each pixel by
    the offset and C = S R S: S the standard deviations, R the correlation of a
    moving average of two along y and x. R is stationary, so that R^-1 is a
    division by its power spectrum: F_ab = (1 / N) sum_k h_a(k) h_b(k)* / P(k) with
    h = FT(g / sigma), P(k) = product over both axes of 1 + 2 r cos(k). Where the light is
    known from another image with noise of its own, the noise of that one, brought to the same
    resolution, adds to P.

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
    of_reference
        Power of the noise of the image that the light is known from, float64 (y, x) in the
        order of a transform, in units of that of this image's noise without correlation
        (:func:`template_power`); None if the light is known exactly.

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
    if of_reference is not None:
        power = power + of_reference
    fisher = np.real(np.einsum("ayx,byx->ab", waves / power, np.conj(waves))) / light.size
    if not np.linalg.det(fisher) > 0:
        return np.full((2, 2), np.inf)
    return np.asarray(np.linalg.inv(fisher))


def template_power(
    shape: tuple[int, int], pixel_arcsec: float, density: float, spread: Mixture, sky: float
) -> Floats:
    """Power of a reference's noise that is smoothed as an exposure is, float64 ``shape``.

    Parameters
    ----------
    shape
        Of the exposure.
    pixel_arcsec
        Its pixels' side.
    density
        Variance of the reference's sky, a square arcsecond: its flux in the exposure's units,
        correlation included.
    spread
        The exposure's seeing, arcseconds.
    sky
        Variance of a pixel of the exposure between its sources.
    """
    y, x = (fft.fftfreq(n) for n in shape)
    radius = np.hypot(y[:, None], x) / pixel_arcsec
    seeing = np.exp(-2.0 * (np.pi * radius[..., None] * spread.sigmas) ** 2) @ spread.weights
    transfer = seeing * np.sinc(y)[:, None] * np.sinc(x)
    return np.asarray(density * pixel_arcsec**2 / sky * transfer**2)


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
