"""The rule of the clipping in plain float64 numpy, written from its docstring alone."""

from __future__ import annotations

from typing import Any

import numpy as np

BEYOND = 8
"""Missing pixels put around an image, more than any reach."""


def missing_aside(function: Any, pieces: list[Any]) -> Any:
    """A numpy reduction over pieces without NaN where there is any other value."""
    stacked = np.array(pieces)
    empty = np.isnan(stacked).all(axis=0)
    return np.where(empty, np.nan, function(np.where(empty, 0.0, stacked), axis=0))


def shifted(image: Any, y: int, x: int) -> Any:
    """The pixel that lies (y, x) away; missing beyond the edge."""
    return np.roll(image, (-y, -x), (0, 1))


def around(image: Any, reach: int) -> list[Any]:
    """All pixels of the square of this reach, each as an image."""
    steps = range(-reach, reach + 1)
    return [shifted(image, y, x) for y in steps for x in steps]


def centre_of(values: Any) -> Any:
    """The median over exposures; of two values the lower one. Shape (exposure, y, x)."""
    number = np.isfinite(values).sum(axis=0)
    low = missing_aside(np.nanmin, list(values))
    return np.where(number == 2, low, missing_aside(np.nanmedian, list(values)))


def structure_of(centre: Any, fraction: float, peak: float, wing: float) -> Any:
    """``(fraction c)^2 + (peak p)^2 + (wing r)^2`` of an image of centres, (y, x)."""
    image = np.pad(centre, BEYOND, constant_values=np.nan)
    smooth = missing_aside(np.nanmean, around(image, 1))
    square = around(smooth, 2)
    span = missing_aside(np.nanmax, square) - missing_aside(np.nanmin, square)
    pairs = [
        missing_aside(np.nanmean, [shifted(smooth, -3, -3), shifted(smooth, 3, 3)]),
        missing_aside(np.nanmean, [shifted(smooth, -3, 3), shifted(smooth, 3, -3)]),
    ]
    above = np.nan_to_num(np.maximum(smooth - missing_aside(np.nanmin, pairs), 0.0))
    inner = (slice(BEYOND, -BEYOND),) * 2
    return (fraction * centre) ** 2 + ((peak * above) ** 2 + (wing * span) ** 2)[inner]


def kept_by_clipping(
    values: Any, variances: Any, *, nsigma: float = 5.0, fraction: float = 0.3,
    peak: float = 8.0, wing: float = 3.0, fewest: int = 8,
) -> Any:  # fmt: skip
    """Which values (exposure, y, x) of one channel are kept."""
    number = np.isfinite(values).sum(axis=0)
    centre = centre_of(values)
    deviation = abs(values - centre)
    mad = 1.4826 * missing_aside(np.nanmedian, list(deviation))
    total = np.where(np.isfinite(values), variances, 0.0).sum(axis=0)
    least = np.where(number == 2, total, np.where(number >= fewest, mad**2, 0.0))
    width2 = nsigma**2 * np.fmax(variances, least) + structure_of(centre, fraction, peak, wing)
    return deviation**2 <= width2
