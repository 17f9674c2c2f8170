"""The reference on the exposure's lattice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from musedask.alignment.registration.background import smooth_background
from musedask.alignment.registration.matching import FineImage, Seeing
from musedask.alignment.registration.preparing import MESH_ARCSEC
from musedask.alignment.registration.splines import Sampler

Floats = np.ndarray[Any, np.dtype[np.float64]]

PROMISE = 3.0
"""Signal to noise that a reference without much noise has to promise of a source."""


@dataclass(frozen=True, eq=False)
class Mapping:
    """Where the exposure's pixels lie in the reference: place = origin + matrix (x, y)."""

    origin: Floats
    """Float64 (2,), x and y."""
    matrix: Floats
    """Float64 (2, 2)."""

    def __call__(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Reference pixels (x, y) of exposure pixels, all 0-based."""
        m = self.matrix
        return (
            self.origin[0] + m[0, 0] * x + m[0, 1] * y,
            self.origin[1] + m[1, 0] * x + m[1, 1] * y,
        )

    def turned(self, angle_rad: float, x: float, y: float) -> Mapping:
        """The same for an exposure that is turned about its pixel (x, y), from x towards y."""
        cos, sin = math.cos(angle_rad), math.sin(angle_rad)
        turn = np.array([[cos, sin], [-sin, cos]])
        about = np.array([x, y])
        return Mapping(self.origin + self.matrix @ (about - turn @ about), self.matrix @ turn)


@dataclass(frozen=True, eq=False)
class Matched:
    """The reference on the exposure's lattice, in its seeing, with a margin on every side."""

    image: Floats
    """Float64 (y + 2 margin, x + 2 margin), background subtracted, NaN where unknown."""
    background: Floats
    """What was subtracted."""
    margin: int
    """Pixels."""
    seeing_arcsec: float
    """FWHM of the kernel that the reference was smoothed with; negative for what the
    exposure was smoothed with instead."""
    promise: float = PROMISE
    """Signal to noise that it has to promise of a source."""

    @cached_property
    def sampler(self) -> Sampler:
        """To read it off between its pixels."""
        return Sampler.of(self.image)

    def with_slopes(self, x: Floats, y: Floats) -> Floats:
        """Values, slopes and Laplacian at the exposure's 0-based pixels (:class:`Sampler`)."""
        return self.sampler.with_slopes(x + self.margin, y + self.margin)

    def displaced(self, shift: Floats, shape: tuple[int, int]) -> Floats:
        """What an exposure of this shape would show that is displaced by a shift, (y, x)."""
        return self.sampler.on_lattice(self.margin - shift, np.eye(2), shape)


def binned(fine: FineImage, mapping: Mapping, bins: int) -> tuple[FineImage, Mapping]:
    """The reference with ``bins`` x ``bins`` pixels in one, and where the exposure lies in it."""
    if bins <= 1:
        return fine, mapping
    origin = (mapping.origin - (bins - 1) / 2.0) / bins
    return fine.binned(bins), Mapping(origin, mapping.matrix / bins)


def match(
    fine: FineImage, mapping: Mapping, shape: tuple[int, int], margin: int, seeing_arcsec: float
) -> Matched:
    """Bring the reference to the exposure's lattice and seeing, flux a pixel conserved."""
    sampler = fine.smoothed(Seeing(max(0.0, seeing_arcsec)))
    corner = mapping.origin - mapping.matrix @ np.array([margin, margin])
    size = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    area = abs(float(np.linalg.det(mapping.matrix)))
    image = (sampler.on_lattice(corner, mapping.matrix, size) + fine.level) * area
    known = np.isfinite(image)
    filled = np.where(known, image, 0.0)
    cell = max(8, round(MESH_ARCSEC / fine.pixel * math.sqrt(1.0 / area)))
    background = smooth_background(filled, known, cell)
    return Matched(np.where(known, image - background, np.nan), background, margin, seeing_arcsec)
