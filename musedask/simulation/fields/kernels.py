"""The compiled part of painting: many Gaussians into one image."""

from __future__ import annotations

from math import ceil, exp, floor, log, sqrt
from typing import Any

from musedask.compiling import kept_kernel


@kept_kernel(error_model="python")
def add_gaussians(
    out: Any, x: Any, y: Any, peak: Any, xx: Any, xy: Any, yy: Any, faintest: float
) -> None:
    """Add elliptical Gaussians ``peak exp(-(xx dx^2 + 2 xy dx dy + yy dy^2) / 2)`` to an image.

    Parameters
    ----------
    out
        Float64 (row, column), changed.
    x, y
        0-based columns and rows of the centres, float64 (gaussian,); may lie outside.
    peak
        Values at the centres, float64 (gaussian,); those below ``faintest`` are left out.
    xx, xy, yy
        Inverse covariances, float64 (gaussian,), pixels^-2.
    faintest
        Each Gaussian ends where it falls below this value.
    """
    ny, nx = out.shape
    for i in range(x.size):
        if not peak[i] > faintest:
            continue
        # Within this many sigma, squared, it is above the faintest value.
        reach = 2.0 * log(peak[i] / faintest)
        left = yy[i] - xy[i] * xy[i] / xx[i]
        half_y = sqrt(reach / left)
        step = exp(-xx[i])
        for row in range(max(0, ceil(y[i] - half_y)), min(ny - 1, floor(y[i] + half_y)) + 1):
            dy = row - y[i]
            half_x = sqrt(max(0.0, reach - left * dy * dy) / xx[i])
            middle = x[i] - xy[i] * dy / xx[i]
            first = max(0, ceil(middle - half_x))
            last = min(nx - 1, floor(middle + half_x))
            dx = first - x[i]
            value = peak[i] * exp(-0.5 * (xx[i] * dx * dx + yy[i] * dy * dy) - xy[i] * dx * dy)
            # From a pixel to the next a Gaussian changes by a factor that changes by a factor.
            ratio = exp(-0.5 * xx[i] * (2.0 * dx + 1.0) - xy[i] * dy)
            for column in range(first, last + 1):
                out[row, column] += value
                value *= ratio
                ratio *= step
