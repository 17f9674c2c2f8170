"""The target of a stack: one frozen sky projection, wavelength axis and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits

from musedask.cube import name_of, sky_of, spectral_of
from musedask.errors import InputError
from musedask.fits.axes import axes_of_file, axes_of_header
from musedask.offsets import OffsetTable
from musedask.placement import Placement, place
from musedask.sky import ARCSEC_PER_DEG, SkyProjection
from musedask.spectral import SpectralAxis, common_axis, nominal_axis
from musedask.wording import counted

SNAP_PIX = 8
"""Edges of an enclosing grid lie on multiples of this, so that offsets that
change by less than the pad mostly leave the grid as it is."""
PAD_PIX = 4
LARGEST_SIDE_PIX = 100_000
_EDGE_POINTS = 33


@dataclass(frozen=True)
class CubeGrid:
    """Voxels to stack onto: equal grids compare, hash and tokenise alike."""

    sky: SkyProjection
    """Where pixel (0, 0) and all others lie."""
    spectral: SpectralAxis
    """Wavelengths of the channels."""
    ny: int
    """Rows."""
    nx: int
    """Columns."""

    def __post_init__(self) -> None:
        if not (0 < self.ny <= LARGEST_SIDE_PIX and 0 < self.nx <= LARGEST_SIDE_PIX):
            raise InputError(
                f"a grid of {self.ny} x {self.nx} pixels: 1 to {LARGEST_SIDE_PIX} a side are "
                "possible; are all exposures of one target, with the right offsets?"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along wavelength, y, x."""
        return self.spectral.size, self.ny, self.nx

    @property
    def pixel_arcsec(self) -> float:
        """Side of a pixel."""
        return float(np.sqrt(self.sky.pixel_area_arcsec2))

    @property
    def centre_deg(self) -> tuple[float, float]:
        """RA and DEC of the middle of the grid."""
        ra, dec = self.sky.to_sky((self.nx - 1) / 2, (self.ny - 1) / 2)
        return float(ra), float(dec)

    def __repr__(self) -> str:
        ra, dec = self.centre_deg
        return (
            f"<CubeGrid {self.ny} x {self.nx} pixels of {self.pixel_arcsec:.4g} arcsec around "
            f"RA {ra:.5f} DEC {dec:+.5f}, {counted(self.spectral.size, 'channel')} "
            f"{self.spectral.first_angstrom:.2f} to {self.spectral.last_angstrom:.2f} Angstrom>"
        )

    @classmethod
    def enclosing(
        cls,
        cubes: Sequence[xr.Dataset],
        offsets: OffsetTable | None = None,
        *,
        wavelengths: str | SpectralAxis = "common",
        pad: int = PAD_PIX,
        pixel_arcsec: float | None = None,
        allow_missing: bool = False,
        allow_failed: bool = False,
    ) -> CubeGrid:
        """The union of all footprints, on the pixel lattice of the first exposure.

        The lattice is that of the header of the exposure with the earliest
        DATE-OBS, where that is north up or all share its orientation; else it
        is north up at its position. Edges are padded and snapped to multiples
        of 8 pixels, so that small changes of offsets keep the grid.

        Parameters
        ----------
        cubes
            Exposure cubes; only their coordinates are looked at.
        offsets
            Exposure minus reference; None if the headers are right.
        wavelengths
            ``common``: the channels that all have; ``nominal``: 4749.9 + 1.25 i
            Angstrom, 3681 channels; or an axis.
        pad
            Pixels around the union, at least.
        pixel_arcsec
            Another pixel than that of the cubes; the grid is then north up.
        allow_missing
            Take an exposure without a row in ``offsets`` as it is.
        allow_failed
            Use offsets of grade F.

        Raises
        ------
        InputError
            If there are no cubes, or they have no common wavelengths.
        MissingError
            If an exposure has no row in ``offsets``.
        """
        placed = _placements(cubes, offsets, allow_missing, allow_failed)
        lattice = _lattice(cubes, pixel_arcsec)
        lows, highs = zip(*(_extent(lattice, p) for p in placed), strict=True)
        low = np.floor((np.min(lows, axis=0) + 0.5 - pad) / SNAP_PIX).astype(int) * SNAP_PIX
        high = np.ceil((np.max(highs, axis=0) + 0.5 + pad) / SNAP_PIX).astype(int) * SNAP_PIX
        nx, ny = (int(n) for n in high - low)
        return cls(lattice.shifted(float(low[0]), float(low[1])), _axis(cubes, wavelengths), ny, nx)

    @classmethod
    def overlap(
        cls,
        cubes: Sequence[xr.Dataset],
        offsets: OffsetTable | None = None,
        *,
        wavelengths: str | SpectralAxis = "common",
        pixel_arcsec: float | None = None,
        allow_missing: bool = False,
        allow_failed: bool = False,
    ) -> CubeGrid:
        """The smallest rectangle around the pixels that all frames cover.

        Parameters and errors are those of :meth:`enclosing`; frames that share
        no pixel are an InputError.
        """
        union = cls.enclosing(
            cubes, offsets, wavelengths=wavelengths, pixel_arcsec=pixel_arcsec,
            allow_missing=allow_missing, allow_failed=allow_failed,
        )  # fmt: skip
        shared = np.ones((union.ny, union.nx), bool)
        y, x = np.mgrid[: union.ny, : union.nx]
        ra, dec = union.sky.to_sky(x, y)
        for placement in _placements(cubes, offsets, allow_missing, allow_failed):
            frame_x, frame_y = placement.sky.to_pixel(ra, dec)
            ny, nx = placement.shape
            with np.errstate(invalid="ignore"):
                shared &= (frame_x > -0.5) & (frame_x < nx - 0.5)
                shared &= (frame_y > -0.5) & (frame_y < ny - 0.5)
        rows, columns = np.flatnonzero(shared.any(axis=1)), np.flatnonzero(shared.any(axis=0))
        if rows.size == 0:
            raise InputError("the exposures have no pixel in common: use CubeGrid.enclosing")
        return union.cropped(
            slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        )

    @classmethod
    def from_cube(cls, cube: xr.Dataset) -> CubeGrid:
        """The grid of a cube (a reference cube, or an earlier stack); computes nothing."""
        spectral = spectral_of(cube, name_of(cube))
        return cls(sky_of(cube), spectral, cube.sizes["y"], cube.sizes["x"])

    @classmethod
    def from_header(cls, header: fits.Header, origin: str = "header") -> CubeGrid:
        """The grid of a FITS header with NAXIS1 to NAXIS3 and a celestial and a wavelength axis.

        Raises
        ------
        InputError
            If an axis is missing or of another kind.
        """
        sky, spectral, (ny, nx) = axes_of_header(header, origin)
        return cls(sky, spectral, ny, nx)

    @classmethod
    def from_file(cls, path: str | Path) -> CubeGrid:
        """The grid of the first cube in a FITS file, from its headers alone.

        Raises
        ------
        FileError
            If the file cannot be read or has no cube.
        InputError
            If an axis of the cube is of another kind.
        """
        sky, spectral, (ny, nx) = axes_of_file(path)
        return cls(sky, spectral, ny, nx)

    def padded(self, pixels: int) -> CubeGrid:
        """The same lattice with more (or fewer) pixels on all sides."""
        return replace(
            self,
            sky=self.sky.shifted(-pixels, -pixels),
            ny=self.ny + 2 * pixels,
            nx=self.nx + 2 * pixels,
        )

    def cropped(self, y: slice, x: slice) -> CubeGrid:
        """A part of the lattice: slices without a step, inside the grid."""
        y_lo, y_hi, _ = y.indices(self.ny)
        x_lo, x_hi, _ = x.indices(self.nx)
        return replace(
            self, sky=self.sky.shifted(float(x_lo), float(y_lo)), ny=y_hi - y_lo, nx=x_hi - x_lo
        )

    def between(self, low_angstrom: float, high_angstrom: float) -> CubeGrid:
        """The channels whose centres lie in [low, high] Angstrom."""
        return replace(self, spectral=self.spectral.between(low_angstrom, high_angstrom))

    def around(self, placement: Placement, margin: int = 0) -> CubeGrid:
        """The smallest part of the grid that holds an exposure's frame and a margin of pixels.

        What of them lies beyond the grid is left out.

        Raises
        ------
        InputError
            If the whole frame lies beside the grid.
        """
        low, high = _extent(self.sky, placement)
        size = np.array([self.nx, self.ny])
        if np.any(high <= -0.5) or np.any(low >= size - 0.5):
            raise InputError(
                f"{placement.name} lies beside the grid ({self!r}): give a grid that holds it, "
                "correct its offset, or leave it out"
            )
        start = np.clip(np.floor(low + 0.5).astype(int) - margin, 0, size)
        stop = np.clip(np.ceil(high + 0.5).astype(int) + margin, 0, size)
        return self.cropped(slice(int(start[1]), int(stop[1])), slice(int(start[0]), int(stop[0])))

    def contains(self, placement: Placement) -> bool:
        """Whether an exposure's whole frame lies on the grid."""
        low, high = _extent(self.sky, placement)
        return bool(low.min() >= -0.5 and high[0] <= self.nx - 0.5 and high[1] <= self.ny - 0.5)


def _placements(
    cubes: Sequence[xr.Dataset],
    offsets: OffsetTable | None,
    allow_missing: bool,
    allow_failed: bool,
) -> list[Placement]:
    if not len(cubes):
        raise InputError("no exposures: a grid needs at least one")
    return [
        place(cube, offsets, allow_missing=allow_missing, allow_failed=allow_failed)
        for cube in cubes
    ]


def _axis(cubes: Sequence[xr.Dataset], wavelengths: str | SpectralAxis) -> SpectralAxis:
    names = [name_of(cube, f"cube {n}") for n, cube in enumerate(cubes)]
    axes = [spectral_of(cube, name) for cube, name in zip(cubes, names, strict=True)]
    for axis, name in zip(axes, names, strict=True):
        axes[0].check_like(axis, name)
    if isinstance(wavelengths, SpectralAxis):
        for axis, name in zip(axes, names, strict=True):
            wavelengths.check_like(axis, name)
        return wavelengths
    if wavelengths == "nominal":
        return nominal_axis(axes[0])
    if wavelengths == "common":
        return common_axis(axes, names)
    raise InputError(f"wavelengths = {wavelengths!r}: use 'common', 'nominal' or a SpectralAxis")


def _lattice(cubes: Sequence[xr.Dataset], pixel_arcsec: float | None) -> SkyProjection:
    """The pixel lattice for all: the earliest exposure's header, or north up there."""
    ordered = sorted(
        cubes, key=lambda cube: str(cube.coords.get("date_obs", xr.DataArray("")).values)
    )
    first = sky_of(ordered[0])
    if pixel_arcsec is None:
        if first.is_north_up:
            return first
        size = np.abs(first.cd).max()
        if all(np.abs(sky_of(cube).cd - first.cd).max() < 1e-6 * size for cube in ordered[1:]):
            return first
    ra, dec = first.to_sky((ordered[0].sizes["x"] - 1) / 2, (ordered[0].sizes["y"] - 1) / 2)
    side = pixel_arcsec or float(np.sqrt(abs(np.linalg.det(first.cd)))) * ARCSEC_PER_DEG
    return SkyProjection.north_up(float(ra), float(dec), side)


def _extent(lattice: SkyProjection, placement: Placement) -> tuple[Any, Any]:
    """Lowest and highest pixel coordinates (x, y) of a frame's outline."""
    ny, nx = placement.shape
    xs, ys = np.linspace(-0.5, nx - 0.5, _EDGE_POINTS), np.linspace(-0.5, ny - 0.5, _EDGE_POINTS)
    ends = np.ones(_EDGE_POINTS)
    x = np.concatenate([xs, xs, -0.5 * ends, (nx - 0.5) * ends])
    y = np.concatenate([-0.5 * ends, (ny - 0.5) * ends, ys, ys])
    points = np.array(lattice.to_pixel(*placement.sky.to_sky(x, y)))
    if not np.all(np.isfinite(points)):
        raise InputError(
            f"{placement.name} lies more than 90 degrees from the first exposure: "
            "it is not of the same target"
        )
    # Rounding here keeps a frame that fits exactly from growing by a pixel.
    return np.round(points.min(axis=1), 6), np.round(points.max(axis=1), 6)
