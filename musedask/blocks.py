"""What a stack is before it is computed: lazy cubes, and the plan of its blocks.

A block is a run of wavelengths times a tile of the sky. One task makes one
block of every output at once; :class:`Stack` carries what both sides of that
need to agree on, the stacking that makes blocks and the mega-cube that stores
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from musedask.errors import InputError, MissingError
from musedask.wording import counted

Floats32 = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class BlockResult:
    """What one task makes."""

    parts: Floats32
    """All outputs, float32 (plane, k, j, i, wavelength, y, x), cut into the inner chunks (k, j, i)
    of a shard, each of which lies in one piece: made in this form they are written as they are.
    NaN is missing, and what lies beyond the block's edge."""
    shape: tuple[int, int, int]
    """Voxels of the block along wavelength, y, x."""
    white: Floats32
    """Mean over the block's channels, float32 (exposure, y, x), on the grid, of each
    exposure that touches the tile, in the order of :attr:`BlockPlan.touching`."""

    @classmethod
    def of_planes(
        cls, planes: Floats32, white: Floats32, inner: tuple[int, int, int]
    ) -> BlockResult:
        """Cut planes, float32 (plane, wavelength, y, x), into chunks of ``inner`` voxels."""
        _, nz, ny, nx = planes.shape
        return cls(cut(planes, inner), (nz, ny, nx), white)

    @property
    def planes(self) -> Floats32:
        """All outputs put together, float32 (plane, wavelength, y, x)."""
        nz, ny, nx = self.shape
        return joined(self.parts)[:, :nz, :ny, :nx]


@dataclass(frozen=True)
class Slot:
    """Where an output lies among the planes of a block."""

    method: str
    """Statistic, the name of a group in the store: ``median``, ``mean``..."""
    variable: str
    """Variable of the cube schema: ``flux``, ``variance``..."""
    plane: int
    """Index on the first axis of :attr:`BlockResult.parts`; several slots may share one."""
    factor: float = 1.0
    """What the plane's values are multiplied by: exposures of one length have an exposure time
    that follows from their number."""


@dataclass(frozen=True)
class BlockPlan:
    """How the output is cut into blocks, and what each of them is made of."""

    chunks: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Sizes of the blocks along wavelength, y, x; all but the last of an axis are equal."""
    inner: tuple[int, int, int]
    """Chunk inside a shard; divides the size of a full block."""
    slots: tuple[Slot, ...]
    """The outputs."""
    keys: Mapping[tuple[int, int, int], str]
    """(k, j, i) -> 32 hexadecimal digits that change whenever the block's content would.
    A block that no exposure touches has no key: it is all missing and never made."""
    touching: Mapping[tuple[int, int], tuple[int, ...]]
    """(j, i) of a tile -> indices of the exposures that touch it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along wavelength, y, x."""
        nz, ny, nx = (sum(sizes) for sizes in self.chunks)
        return nz, ny, nx

    @property
    def n_blocks(self) -> tuple[int, int, int]:
        """Number of blocks along wavelength, y, x."""
        nz, ny, nx = (len(sizes) for sizes in self.chunks)
        return nz, ny, nx

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the statistics, in order."""
        return tuple(dict.fromkeys(slot.method for slot in self.slots))

    def region(self, block: tuple[int, int, int]) -> tuple[slice, slice, slice]:
        """The voxels of a block, as slices of wavelength, y, x."""
        starts = [sum(sizes[:n]) for sizes, n in zip(self.chunks, block, strict=True)]
        ends = [s + sizes[n] for s, sizes, n in zip(starts, self.chunks, block, strict=True)]
        z, y, x = (slice(a, b) for a, b in zip(starts, ends, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Stack(Mapping[str, xr.Dataset]):
    """Lazy deep cubes by the name of their statistic; ``stack["median"]`` is a cube."""

    cubes: Mapping[str, xr.Dataset]
    """method -> lazy cube, all from the same blocks: compute several at once in one pass."""
    plan: BlockPlan
    """How the cubes are cut into blocks."""
    results: da.Array
    """Lazy :class:`BlockResult` objects, one a block; its chunks are (1, 1, 1) and its
    block (k, j, i) is that of the plan (blocks without a key must not be computed)."""
    exposures: xr.Dataset
    """What went in: one row of dimension ``exposure`` each, in the order of DATE-OBS."""
    attrs: Mapping[str, Any]
    """Provenance of the whole: goes into the store's root."""
    checks: tuple[Callable[[], object], ...] = ()
    """Called before the first block is made, since a stack is planned from headers alone: each
    reads a little of an exposure, and raises if it cannot be used."""

    def __getitem__(self, method: str) -> xr.Dataset:
        try:
            return self.cubes[method]
        except KeyError:
            raise MissingError(
                f"no {method!r} in this stack, it has {', '.join(self.cubes)}: "
                f"ask for it with stack(..., methods=({method!r},))"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.cubes)

    def __len__(self) -> int:
        return len(self.cubes)

    def __repr__(self) -> str:
        nz, ny, nx = self.plan.shape
        return (
            f"Stack of {counted(self.exposures.sizes['exposure'], 'exposure')}: "
            f"{', '.join(self.cubes)} "
            f"on {nz} x {ny} x {nx} voxels in {counted(len(self.plan.keys), 'block')}"
        )


def parts_shape(
    n_planes: int, shape: tuple[int, int, int], inner: tuple[int, int, int]
) -> tuple[int, int, int, int, int, int, int]:
    """Shape of :attr:`BlockResult.parts` of a block of ``shape`` voxels."""
    nk, nj, ni = (-(-n // step) for n, step in zip(shape, inner, strict=True))
    return n_planes, nk, nj, ni, *inner


def cut(planes: Floats32, inner: tuple[int, int, int]) -> Floats32:
    """Cut planes (plane, wavelength, y, x) into parts as in :attr:`BlockResult.parts`."""
    n, nk, nj, ni, dz, dy, dx = parts_shape(len(planes), planes.shape[1:], inner)
    beyond = [nk * dz - planes.shape[1], nj * dy - planes.shape[2], ni * dx - planes.shape[3]]
    whole = np.pad(planes, [(0, 0), *((0, size) for size in beyond)], constant_values=np.nan)
    parts = whole.reshape(n, nk, dz, nj, dy, ni, dx).transpose(0, 1, 3, 5, 2, 4, 6)
    return np.ascontiguousarray(parts, np.float32)


def joined(parts: Floats32) -> Floats32:
    """Put parts (..., k, j, i, wavelength, y, x) together: (..., wavelength, y, x)."""
    *rest, nk, nj, ni, dz, dy, dx = parts.shape
    first = len(rest)
    axes = (*range(first), *(first + axis for axis in (0, 3, 1, 4, 2, 5)))
    return parts.transpose(axes).reshape(*rest, nk * dz, nj * dy, ni * dx)


def check_chunks(sizes: tuple[int, ...], axis: str) -> None:
    """Raise an InputError unless all sizes but the last are equal and the last is not larger."""
    if any(size != sizes[0] for size in sizes[:-1]) or sizes[-1] > sizes[0]:
        raise InputError(f"blocks along {axis} of sizes {sizes}: all but the last must be equal")
