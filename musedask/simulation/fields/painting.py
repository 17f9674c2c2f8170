"""A scene as a camera without noise sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.simulation.fields.kernels import add_gaussians
from musedask.simulation.fields.mixtures import Mixture, sersic
from musedask.simulation.fields.scene import Scene
from musedask.sky import ARCSEC_PER_DEG, SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]

_PIXEL_VARIANCE = 1.0 / 12.0
"""Of a pixel's square along each axis: light averaged over pixels is as if wider by this. For a
Gaussian of 0.85 pixels (sigma) the next term is below a thousandth of the peak."""


@dataclass(frozen=True)
class Spread:
    """A point-spread function of elliptical shape."""

    profile: Mixture
    """Radius in arcseconds."""
    ellipticity: float = 0.0
    """1 - b / a; the mean of the two widths is kept."""
    angle_deg: float = 0.0
    """Position angle of its major axis, north through east."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Pixels of an image on the sky."""

    projection: SkyProjection
    """Where they truly lie."""
    shape: tuple[int, int]
    """Rows and columns."""

    @property
    def arcsec_per_pixel(self) -> Floats:
        """From steps in (x, y) at the middle to (east, north), float64 (2, 2)."""
        y, x = ((n - 1) / 2.0 for n in self.shape)
        ra, dec = self.projection.to_sky([x - 1, x + 1, x, x], [y, y, y - 1, y + 1])
        east = ((ra[1::2] - ra[::2] + 180.0) % 360.0 - 180.0) * np.cos(np.radians(dec[0]))
        return ARCSEC_PER_DEG / 2.0 * np.array([east, dec[1::2] - dec[::2]])


def paint(scene: Scene, flux: Floats, spread: Spread, lattice: Lattice, faintest: float) -> Floats:
    """Compute the light in each pixel, float64 (y, x), in the unit of ``flux``.

    Parameters
    ----------
    scene
        The sources; their magnitudes are not looked at.
    flux
        Total light of each, float64 (source,).
    spread
        The point-spread function.
    lattice
        The pixels.
    faintest
        Each of the Gaussians that make up a source ends below this value; a small
        part of the noise is the right choice.
    """
    out = np.zeros(lattice.shape)
    x, y = lattice.projection.to_pixel(scene.ra_deg, scene.dec_deg)
    to_pixel = np.linalg.inv(lattice.arcsec_per_pixel)
    seeing = _ellipses(np.array([1.0 - spread.ellipticity]), np.array([spread.angle_deg]))[0]
    seeing = to_pixel @ (seeing / (1.0 - spread.ellipticity / 2.0) ** 2) @ to_pixel.T
    for kind in np.unique(scene.kind):
        chosen = np.flatnonzero(scene.kind == kind)
        own = _ellipses(scene.axis_ratio[chosen], scene.angle_deg[chosen])
        own = to_pixel @ own @ to_pixel.T * scene.radius_arcsec[chosen, None, None] ** 2
        profile = sersic(float(kind)) if kind else Mixture(np.ones(1), np.zeros(1))
        # Axes: source, Gaussian of the source, Gaussian of the seeing, then the matrix.
        covariance = (
            own[:, None, None] * profile.sigmas[:, None, None, None] ** 2
            + seeing * spread.profile.sigmas[:, None, None] ** 2
            + _PIXEL_VARIANCE * np.eye(2)
        )
        weight = profile.weights[:, None] * spread.profile.weights
        light = flux[chosen, None, None] * weight
        xx, xy, yy = (covariance[..., i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
        area = xx * yy - xy**2
        at_x, at_y = (np.broadcast_to(p[chosen, None, None], light.shape) for p in (x, y))
        parts = light / (2 * np.pi * np.sqrt(area)), yy / area, -xy / area, xx / area
        peak, one, both, other = (part.ravel() for part in parts)
        add_gaussians(out, at_x.ravel(), at_y.ravel(), peak, one, both, other, faintest)
    return out


def _ellipses(axis_ratio: Floats, angle_deg: Floats) -> Floats:
    """Covariances in (east, north) of unit variance along the major axis, (source, 2, 2)."""
    east, north = np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))
    along = np.stack([east, north], -1)
    across = np.stack([north, -east], -1) * axis_ratio[:, None]
    return np.asarray(
        along[:, :, None] * along[:, None, :] + across[:, :, None] * across[:, None, :]
    )
