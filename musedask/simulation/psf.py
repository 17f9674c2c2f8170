"""The seeing: a point-spread function, and what it does to points and to images.

Arrays in, arrays out. Flux is per spaxel: the brightness integrated over each
spaxel of the target, by Gauss-Legendre quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, signal

from musedask.errors import InputError
from musedask.sky import SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]

SIGMA_PER_FWHM = 1.0 / np.sqrt(8.0 * np.log(2.0))
_NEAR_FWHM = 6.0
"""Inside so many FWHM a point source is integrated finely, beyond it with few points."""
_FINE, _COARSE = 6, 2
_FAR_FWHM = 60.0
"""Beyond so many FWHM from the array a source is left out: less than a millionth of its light."""
_IMAGE_POINTS = 3
KERNEL_FWHM = 8.0
"""Images are convolved out to so many FWHM; the light beyond (0.1 % of a Moffat) is put inside."""
DISC_SCALES = 6.0
"""An exponential disc ends at so many scale lengths."""


@dataclass(frozen=True)
class Psf:
    """A circular point-spread function of unit volume, the same at all wavelengths."""

    fwhm_arcsec: float
    """Full width at half maximum."""
    beta: float | None = 2.8
    """Exponent of a Moffat function; None is a Gaussian."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.fwhm_arcsec) and self.fwhm_arcsec > 0):
            raise InputError(f"seeing of {self.fwhm_arcsec} arcsec: it has to be positive")
        if self.beta is not None and not self.beta > 1:
            raise InputError(f"Moffat beta of {self.beta}: it has to be above 1 (or None)")

    def density(self, radius2_arcsec2: Floats) -> Floats:
        """Brightness per square arcsecond at squared distances from the centre.

        Moffat (1969): (beta - 1) / (pi a^2) (1 + r^2 / a^2)^-beta with
        FWHM = 2 a sqrt(2^(1 / beta) - 1).
        """
        if self.beta is None:
            variance = (self.fwhm_arcsec * SIGMA_PER_FWHM) ** 2
            return np.asarray(np.exp(-0.5 * radius2_arcsec2 / variance) / (2 * np.pi * variance))
        scale2 = self.fwhm_arcsec**2 / 4.0 / (2.0 ** (1.0 / self.beta) - 1.0)
        peak = (self.beta - 1.0) / (np.pi * scale2)
        return np.asarray(peak * (1.0 + radius2_arcsec2 / scale2) ** -self.beta)

    def kernel(self, pixel_arcsec: float, radius_arcsec: float) -> Floats:
        """Values at the points of a square lattice of odd size, normalised to a sum of 1."""
        half = max(1, int(np.ceil(radius_arcsec / pixel_arcsec)))
        axis = np.arange(-half, half + 1) * pixel_arcsec
        values = self.density(axis[:, None] ** 2 + axis**2)
        return np.asarray(values / values.sum())

    def beyond(self, native_fwhm_arcsec: float) -> Psf | None:
        """What is still missing in an image that has a seeing already; None if nothing.

        A Gaussian of the difference in quadrature: exact for Gaussians, and an
        approximation of a few per cent in the wings for Moffat functions. An
        image cannot be made sharper than it is.
        """
        if native_fwhm_arcsec <= 0:
            return self
        missing2 = self.fwhm_arcsec**2 - native_fwhm_arcsec**2
        return Psf(float(np.sqrt(missing2)), None) if missing2 > 1e-6 else None


def point_map(
    psf: Psf, projection: SkyProjection, shape: tuple[int, int], ra_deg: float, dec_deg: float
) -> Floats32:
    """Fraction of a point source's flux in each spaxel, float32 (y, x)."""
    x0, y0 = (float(v) for v in projection.to_pixel(ra_deg, dec_deg))
    result = np.zeros(shape, np.float32)
    if not is_near(projection, shape, ra_deg, dec_deg, _FAR_FWHM * psf.fwhm_arcsec):
        return result
    jacobian = _arcsec_per_pixel(projection, x0, y0)
    dx, dy = np.arange(shape[1]) - x0, np.arange(shape[0]) - y0
    result[...] = _integrated(psf, jacobian, dx, dy, _COARSE)
    near = _NEAR_FWHM * psf.fwhm_arcsec / np.sqrt(abs(np.linalg.det(jacobian)))
    columns = slice(max(0, int(x0 - near)), max(0, int(x0 + near) + 2))
    rows = slice(max(0, int(y0 - near)), max(0, int(y0 + near) + 2))
    if dx[columns].size and dy[rows].size:
        result[rows, columns] = _integrated(psf, jacobian, dx[columns], dy[rows], _FINE)
    return result


def is_near(
    projection: SkyProjection,
    shape: tuple[int, int],
    ra_deg: float,
    dec_deg: float,
    radius_arcsec: float,
) -> bool:
    """Tell whether a position is in an array, or within a radius around it."""
    x, y = (float(v) for v in projection.to_pixel(ra_deg, dec_deg))
    outside = np.hypot(max(-x, 0, x - shape[1]), max(-y, 0, y - shape[0]))
    # NaN where the position does not project.
    return bool(outside * np.sqrt(projection.pixel_area_arcsec2) <= radius_arcsec)


def _integrated(psf: Psf, jacobian: Floats, dx: Any, dy: Any, points: int) -> Floats:
    """Integrate over the pixels at distances (dx, dy) from the source, (y, x)."""
    nodes, weights = _nodes(points)
    total = np.zeros((dy.size, dx.size))
    for node_y, weight_y in zip(nodes, weights, strict=True):
        for node_x, weight_x in zip(nodes, weights, strict=True):
            px, py = dx[None, :] + node_x, dy[:, None] + node_y
            east = jacobian[0, 0] * px + jacobian[0, 1] * py
            north = jacobian[1, 0] * px + jacobian[1, 1] * py
            total += weight_x * weight_y * psf.density(east * east + north * north)
    return np.asarray(total * abs(np.linalg.det(jacobian)))


def _arcsec_per_pixel(projection: SkyProjection, x: float, y: float) -> Floats:
    """Local matrix from pixels (dx, dy) to arcseconds (east, north), float64 (2, 2)."""
    ra, dec = projection.to_sky(np.array([x, x + 1.0, x]), np.array([y, y, y + 1.0]))
    plane = SkyProjection.north_up(float(ra[0]), float(dec[0]), 1.0)
    west, north = plane.to_pixel(ra, dec)
    return np.array([-(west[1:] - west[0]), north[1:] - north[0]])


def _nodes(points: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes in (-1/2, 1/2), and weights of sum 1."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return np.asarray(nodes / 2), np.asarray(weights / 2)


@dataclass(frozen=True, eq=False)
class SkyImage:
    """A picture of the sky: brightness per square arcsecond on a lattice."""

    brightness: Floats
    """Float64 (y, x), per square arcsecond; 0 outside."""
    projection: SkyProjection
    """Where its pixels lie."""
    native_fwhm_arcsec: float = 0.0
    """The seeing that is in it already, 0 for none."""

    def observed(self, psf: Psf, projection: SkyProjection, shape: tuple[int, int]) -> Floats32:
        """Flux in each spaxel of a target under a seeing, float32 (y, x)."""
        result = np.zeros(shape, np.float32)
        rows, columns = self._reached(projection, shape)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return result
        blurred = self._blurred(psf)
        yy, xx = np.mgrid[rows, columns].astype(float)
        at_x, at_y = self.projection.to_pixel(*projection.to_sky(xx, yy))
        # Between two tangent planes a spaxel maps linearly, to a part in a million.
        step = self._pixels_per_spaxel(projection, shape)
        coefficients = ndimage.spline_filter(blurred, order=3, mode="constant")
        nodes, weights = _nodes(_IMAGE_POINTS)
        total = np.zeros(xx.shape)
        for node_y, weight_y in zip(nodes, weights, strict=True):
            for node_x, weight_x in zip(nodes, weights, strict=True):
                x = at_x + step[0, 0] * node_x + step[0, 1] * node_y
                y = at_y + step[1, 0] * node_x + step[1, 1] * node_y
                total += (weight_x * weight_y) * ndimage.map_coordinates(
                    coefficients, [y, x], order=3, prefilter=False, mode="constant"
                )
        result[rows, columns] = total * projection.pixel_area_arcsec2
        return result

    def _reached(self, projection: SkyProjection, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the target that the image can reach."""
        ny, nx = self.brightness.shape
        corners = self.projection.to_sky(
            np.array([0, nx - 1, nx - 1, 0]), np.array([0, 0, ny - 1, ny - 1])
        )
        x, y = projection.to_pixel(*corners)
        if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
            return slice(0, shape[0]), slice(0, shape[1])
        rows, columns = (
            slice(max(0, int(at.min()) - 1), min(size, int(at.max()) + 3))
            for at, size in ((y, shape[0]), (x, shape[1]))
        )
        return rows, columns

    def _blurred(self, psf: Psf) -> Floats:
        missing = psf.beyond(self.native_fwhm_arcsec)
        if missing is None:
            return self.brightness
        pixel = float(np.sqrt(self.projection.pixel_area_arcsec2))
        # A kernel larger than the image would only spread light off it.
        reach = min(KERNEL_FWHM * psf.fwhm_arcsec, max(self.brightness.shape) * pixel / 2)
        kernel = missing.kernel(pixel, reach)
        return np.asarray(signal.fftconvolve(self.brightness, kernel, mode="same"))

    def _pixels_per_spaxel(self, projection: SkyProjection, shape: tuple[int, int]) -> Floats:
        x, y = shape[1] / 2.0, shape[0] / 2.0
        sky = projection.to_sky(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
        at_x, at_y = self.projection.to_pixel(*sky)
        return np.array([at_x[1:] - at_x[0], at_y[1:] - at_y[0]])


def exponential_disc(
    ra_deg: float,
    dec_deg: float,
    scale_arcsec: float,
    axis_ratio: float,
    position_angle_deg: float,
    margin_arcsec: float,
) -> SkyImage:
    """Draw an exponential disc of total flux 1: brightness falls by e in ``scale_arcsec``.

    Parameters
    ----------
    ra_deg, dec_deg
        Centre.
    scale_arcsec
        Scale length of the major axis; the half-light radius is 1.678 of it.
    axis_ratio
        Minor over major axis, in (0, 1].
    position_angle_deg
        Of the major axis, north through east.
    margin_arcsec
        Room for the seeing around the disc, which is drawn to 6 scale lengths.
    """
    pixel = float(np.clip(scale_arcsec * axis_ratio / 4.0, 0.05, 0.1))
    half = int(np.ceil((DISC_SCALES * scale_arcsec + margin_arcsec) / pixel))
    nodes, weights = _nodes(3)
    axis = np.arange(-half, half + 1) * pixel
    angle = np.radians(position_angle_deg)
    image = np.zeros((axis.size, axis.size))
    for node_y, weight_y in zip(nodes, weights, strict=True):
        for node_x, weight_x in zip(nodes, weights, strict=True):
            east = -(axis[None, :] + node_x * pixel)
            north = axis[:, None] + node_y * pixel
            major = north * np.cos(angle) + east * np.sin(angle)
            minor = (-north * np.sin(angle) + east * np.cos(angle)) / axis_ratio
            radius = np.hypot(major, minor) / scale_arcsec
            image += weight_x * weight_y * np.where(radius < DISC_SCALES, np.exp(-radius), 0.0)
    image /= image.sum() * pixel**2
    plane = SkyProjection.north_up(ra_deg, dec_deg, pixel, half, half)
    return SkyImage(image, plane)
