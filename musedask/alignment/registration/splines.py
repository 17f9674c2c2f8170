"""Cubic splines through images: read off at any place, with their slopes.

Coefficients are float32, sums are float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.alignment.registration.kernels import (
    read_lattice,
    read_places,
    read_with_slopes,
    spline_filter,
)

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Sampler:
    """Reads an image off at any place between its pixels, and its slopes."""

    coefficients: Floats32
    """Of the cubic spline, float32 (y, x)."""
    unknown: Bools
    """Bool (y, x), where the image has no value."""

    @classmethod
    def of(cls, image: Floats | Floats32) -> Sampler:
        """Prepare an image (y, x), NaN where it has no value."""
        unknown = ~np.isfinite(image)
        coefficients = np.where(unknown, 0.0, image).astype(np.float32)
        spline_filter(coefficients)
        return cls(coefficients, unknown)

    def at(self, x: Floats, y: Floats) -> Floats:
        """Values at 0-based pixel coordinates; NaN outside and beside missing pixels."""
        result = np.empty(x.size)
        read_places(self.coefficients, self.unknown, np.ravel(x), np.ravel(y), result)
        return result.reshape(x.shape)

    def with_slopes(self, x: Floats, y: Floats) -> Floats:
        """Values, their derivatives by x and by y, and their Laplacian.

        Parameters
        ----------
        x, y
            0-based pixel coordinates, float64 (place,).

        Returns
        -------
        numpy.ndarray
            Float64 (4, place); NaN as in :meth:`at`.
        """
        result = np.empty((4, x.size))
        read_with_slopes(self.coefficients, self.unknown, x, y, result)
        return result

    def on_lattice(self, origin: Floats, matrix: Floats, shape: tuple[int, int]) -> Floats:
        """Values at ``origin + matrix (x, y)`` for all pixels of a lattice, float64 (y, x)."""
        result = np.empty(shape)
        read_lattice(
            self.coefficients, self.unknown, origin.astype(np.float64),
            np.ascontiguousarray(matrix, np.float64), result,
        )  # fmt: skip
        return result
