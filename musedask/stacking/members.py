"""An exposure as a stacking task needs it: small, frozen, picklable, with its bytes elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from musedask.fits import FitsCube
from musedask.masks import ExposureMask, spatial_mask
from musedask.sky import SkyProjection
from musedask.stacking.geometry import Footprint

Bools = np.ndarray[Any, np.dtype[np.bool_]]

_SAMPLES = 5
"""Channels looked at to find the outline of a field; each spaxel has data in nearly all."""


@dataclass(frozen=True)
class Member:
    """One exposure of a stack."""

    name: str
    """Its name, for messages."""
    date_obs: str
    """DATE-OBS: the order of summation."""
    source: FitsCube | None
    """Its bytes in a file; None if its blocks come as Dask arrays."""
    identity: tuple[Any, ...]
    """What tells its voxels from others: goes into the keys of blocks."""
    sky: SkyProjection
    """True projection of its frame."""
    header_sky: SkyProjection
    """Projection as its header has it, in which its regions were drawn."""
    frame_shape: tuple[int, int]
    """Rows and columns of its frame."""
    footprint: Footprint
    """Where it lies on the grid, and how it is resampled."""
    first_channel: int
    """Its own channel at the grid's channel 0; may be negative."""
    n_channels: int
    """How many channels it has."""
    absent: tuple[tuple[int, int], ...]
    """Runs of the grid's channels, [start, end), in which it is missing as a whole."""
    scale: float
    """Factor on its flux; its square is that on its variance."""
    weight: float
    """Weight in means; NaN if it is measured when the stack is computed."""
    exptime: float
    """Exposure time, seconds."""
    mask: ExposureMask | None
    """Its spatial mask, if it has one."""
    mask_identity: tuple[Any, ...]
    """The mask's content."""
    rank: int
    """Its place among all exposures by DATE-OBS, from 0."""

    def present(self, start: int, depth: int) -> Bools:
        """Which of the grid's channels [start, start + depth) it has, bool (channel,)."""
        channels = np.arange(start, start + depth)
        own = channels + self.first_channel
        there: Bools = (own >= 0) & (own < self.n_channels)
        for first, last in self.absent:
            there &= (channels < first) | (channels >= last)
        return there

    def key_facts(self) -> tuple[Any, ...]:
        """Everything that its voxels in a block depend on, apart from the weight."""
        return (
            self.identity, self.sky.cards, self.frame_shape, self.first_channel, self.n_channels,
            self.absent, self.scale, self.exptime, self.mask_identity,
            self.header_sky.cards if self.mask is not None else (),
        )  # fmt: skip


@lru_cache(maxsize=1024)
def member_mask(
    mask: ExposureMask,
    sky: SkyProjection,
    shape: tuple[int, int],
    source: FitsCube | None,
) -> Bools | None:
    """The spatial mask of an exposure, bool (y, x), True is masked; None if nothing is.

    The border is that of the field where the bytes are at hand, else the array's.
    """
    outline = field_outline(source) if mask.border_pix and source is not None else None
    masked = spatial_mask(mask, sky, shape, outline)
    return masked if masked.any() else None


def field_outline(source: FitsCube) -> Bools:
    """Spaxels with a valid voxel in one of a few channels spread over the cube, bool (y, x)."""
    nz, ny, nx = source.flux.shape
    inside = np.zeros((ny, nx), bool)
    for channel in np.unique(np.linspace(0, nz - 1, _SAMPLES + 2)[1:-1].astype(int)):
        part = (slice(int(channel), int(channel) + 1), slice(None), slice(None))
        inside |= np.isfinite(source.read(part, "flux")[0])
    return inside
