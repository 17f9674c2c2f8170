"""What a stack should be: the truth under the seeing of the exposures that see each voxel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from musedask.demo.cubes import CHANNELS_AT_A_TIME, ReadableCube
from musedask.simulation.observe import Observation
from musedask.simulation.sky import Sky, flux_of
from musedask.simulation.truth import Truth

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
_NO_DATA = 3
"""State of an exposure in a channel: blue, middle or red band (0 to 2), or this."""


@dataclass(frozen=True, eq=False)
class _Projected:
    """One exposure as it lies on the stack's grid; arrays have the bands on axis 0."""

    centre: Bools
    """Whether the spaxel under each grid pixel's centre has data, (4, y, x)."""
    surely: Bools
    """Whether it and all its neighbours have."""
    perhaps: Bools
    """Whether it or one of its neighbours has."""
    maps: Floats32
    """The sky's components under the exposure's seeing, (component, y, x)."""


@dataclass(frozen=True, eq=False)
class ExpectedRun:
    """A run of channels as it should be; nothing in it is random."""

    first: int
    """First channel."""
    last: int
    """One behind the last channel."""
    flux: Floats32
    """Mean of the true fluxes of the exposures that see a voxel, (wavelength, y, x); NaN
    where none does."""
    least: Any
    """Number of exposures that surely see a pixel, int (y, x)."""
    most: Any
    """Number of exposures that can see it at all: beside edges and lost spaxels it is up to
    the resampling."""


def expected_runs(cube: ReadableCube, truth: Truth, sky: Sky) -> Iterator[ExpectedRun]:
    """Give what a stack on this cube's grid should be, in runs of channels.

    The mean of exposures of different seeing has the mean of their
    point-spread functions; the blur of the stack's own resampling is not in it.

    Parameters
    ----------
    cube
        Where the grid comes from.
    truth
        The exposures that went in.
    sky
        What they observed.
    """
    exposures = [_projected(observation, cube, sky) for observation in truth]
    states = np.stack([_states(o, cube.wavelengths) for o in truth], axis=1)
    changes = np.flatnonzero(np.any(np.diff(states, axis=0), axis=1)) + 1
    for start, end in zip([0, *changes], [*changes, len(states)], strict=True):
        state = states[start]
        n_centre, least, most = (
            sum(
                getattr(e, what)[band].astype(np.int32)
                for e, band in zip(exposures, state, strict=True)
            )
            for what in ("centre", "surely", "perhaps")
        )
        maps = sum(e.maps * e.centre[band] for e, band in zip(exposures, state, strict=True))
        maps = np.divide(maps, n_centre, out=np.full_like(maps, np.nan), where=n_centre > 0)
        for first in range(start, end, CHANNELS_AT_A_TIME):
            last = min(first + CHANNELS_AT_A_TIME, end)
            flux = flux_of(sky.spectra(cube.wavelengths[first:last]), maps)
            yield ExpectedRun(first, last, flux, least, most)


def nearest_spaxels(observation: Observation, cube: ReadableCube) -> tuple[Any, Any]:
    """Indices (y, x) of the exposure's spaxel under each grid pixel; may lie outside."""
    yy, xx = np.mgrid[: cube.shape[0], : cube.shape[1]]
    projection = observation.footprint.true_projection
    x, y = projection.to_pixel(*cube.projection.to_sky(xx, yy))
    return np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)


def _projected(observation: Observation, cube: ReadableCube, sky: Sky) -> _Projected:
    # A border of two, so that the edge of the array is one like any other.
    valid = np.pad(observation.valid, ((0, 1), (2, 2), (2, 2)))
    block = np.ones((1, 3, 3), bool)
    y, x = nearest_spaxels(observation, cube)
    height, width = valid.shape[1:]
    y, x = np.clip(y + 2, 0, height - 1), np.clip(x + 2, 0, width - 1)
    surely, perhaps = ndimage.binary_erosion(valid, block), ndimage.binary_dilation(valid, block)
    maps = sky.maps(observation.spec.psf, cube.projection, cube.shape)
    return _Projected(valid[:, y, x], surely[:, y, x], perhaps[:, y, x], maps)


def _states(observation: Observation, wavelengths: Any) -> Any:
    """Give the band of the exposure's own nearest channel, or that it has none."""
    spec, footprint = observation.spec, observation.footprint
    axis = spec.spectral
    channel = np.rint((wavelengths - axis.first_angstrom) / axis.step_angstrom).astype(int)
    own = axis.first_angstrom + channel * axis.step_angstrom
    missing = (channel < 0) | (channel >= axis.size) | footprint.in_notch(own)
    return np.where(missing, _NO_DATA, footprint.band_of(own))
