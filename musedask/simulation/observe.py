"""Observe a sky: write one exposure as the pipeline writes its cubes, and know the truth.

::

    flux = true flux / flux_scale + background + noise + cosmic rays
    STAT = (sky variance x slices x rim) + growth with the source's flux

The noise has the variance of STAT (times ``noise_over_stat`` squared) in every
voxel. Where it is correlated, as by default, sums over apertures are noisier
than STAT alone says, see :mod:`musedask.simulation.noise`.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from musedask.errors import InputError
from musedask.simulation.cube_file import CubeFile
from musedask.simulation.damage import Records, cosmic_rays, lost_spaxels, slice_texture
from musedask.simulation.exposure import NOISES, Bools, ExposureSpec, Footprint
from musedask.simulation.header import extension_header, primary_header
from musedask.simulation.noise import (
    FreshNoise,
    NoiseField,
    NoiseModel,
    NoisePool,
    modelled_noise,
)
from musedask.simulation.sky import Sky, flux_of

log = logging.getLogger(__name__)

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Content = Literal["full", "flux_holes", "holes"]
CONTENTS: tuple[Content, ...] = ("full", "flux_holes", "holes")

_VOXELS_PER_RUN = 400_000
"""A run's arrays together fit into a processor's cache."""
_RIM_VARIANCE = 4.0


@dataclass(frozen=True, eq=False)
class Observation:
    """An exposure that was made, and all that is known of it."""

    path: Path
    """The cube."""
    footprint: Footprint
    """Its place and its spaxels; ``footprint.spec`` is what was asked."""
    hits: Records
    """Voxels that cosmic rays struck, see :data:`musedask.simulation.damage.HIT_DTYPE`."""
    lost: Any
    """Spaxels without data, int (n, 2) of (y, x)."""

    @property
    def spec(self) -> ExposureSpec:
        """What was asked for."""
        return self.footprint.spec

    @cached_property
    def valid(self) -> Bools:
        """Spaxels with data in the blue, between, and in the red, bool (3, y, x)."""
        valid = self.footprint.bands()
        valid[:, self.lost[:, 0], self.lost[:, 1]] = False
        return valid

    def valid_at(self, wavelengths: Any) -> Bools:
        """Spaxels with data at some wavelengths, bool (wavelength, y, x)."""
        waves = np.atleast_1d(np.asarray(wavelengths, float))
        valid = self.valid[self.footprint.band_of(waves)]
        valid[self.footprint.in_notch(waves)] = False
        return np.asarray(valid)


def observe(
    sky: Sky,
    spec: ExposureSpec,
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int] = (60, 60),
    seed: int = 0,
    noise: NoiseModel | None = None,
    pool: NoisePool | None = None,
    content: Content = "full",
    target: str = "SIMFIELD",
    overwrite: bool = False,
) -> Observation:
    """Write one exposure of a sky as a DATACUBE_FINAL, in runs of channels.

    The same sky, specification, shape and seed give the same bytes. Memory is
    bounded by a few pictures of the field for each component of the sky.

    Parameters
    ----------
    sky
        What is there.
    spec
        The exposure.
    path
        The file, .fits.
    shape
        Height and width of the field along its own axes, spaxels. The array is
        larger by the margin, and where the field is rotated.
    seed
        Of all random numbers; different exposures differ with the same seed.
    noise
        How large the noise is; by default :func:`modelled_noise`.
    pool
        Noise to be used again, for large sets: faster, see :class:`NoisePool`.
    content
        ``full``; ``flux_holes`` leaves DATA as a hole that reads as 0 and takes no
        room on the disk; ``holes`` does so for STAT too (such a cube has the
        right headers and size, but no good variance).
    target
        OBJECT.
    overwrite
        Whether a file of that name may be replaced.

    Raises
    ------
    InputError
        If the pool has another shape or noise than the exposure.
    FileError
        If the file exists or cannot be written.
    """
    if content not in CONTENTS:
        raise InputError(f"content {content!r}: expected one of {', '.join(CONTENTS)}")
    footprint = Footprint(spec, shape)
    _check_pool(pool, footprint)
    make = _Exposure(sky, footprint, noise or modelled_noise(), seed)
    headers = (
        primary_header(spec, target),
        extension_header(footprint, "DATA", target),
        extension_header(footprint, "STAT", target),
    )
    size = (spec.n_channels, *footprint.shape)
    # A hole has nothing in it, so nothing of it is told.
    hits = make.hits if content == "full" else make.hits[:0]
    lost = make.lost if content != "holes" else make.lost[:0]
    observation = Observation(Path(path), footprint, hits, lost)
    with CubeFile(path, headers, size, overwrite=overwrite) as file:
        if content != "holes":
            field = make.noise_field(pool)
            step = max(1, _VOXELS_PER_RUN // (size[1] * size[2]))
            for first in range(0, size[0], step):
                last = min(first + step, size[0])
                true, variance = make.expected(first, last)
                if content == "full":
                    file.write_flux(first, make.exposed(first, true, variance, field))
                variance += make.blank(first, last)
                file.write_variance(first, variance)
    log.info("%s: %d x %d x %d voxels, %d struck", path, *size, hits.size)
    return observation


def _check_pool(pool: NoisePool | None, footprint: Footprint) -> None:
    if pool is None:
        return
    if pool.shape != footprint.shape:
        raise InputError(
            f"{footprint.spec.name}: the pool's noise is {pool.shape} spaxels, the exposure "
            f"{footprint.shape}: make a pool for each shape"
        )
    if footprint.spec.noise == "none":
        raise InputError(
            f"{footprint.spec.name}: noise 'none' and a pool of noise exclude each other"
        )


class _Exposure:
    """What runs of channels of one exposure are made of; pictures and tables, no cube."""

    def __init__(self, sky: Sky, footprint: Footprint, noise: NoiseModel, seed: int) -> None:
        spec = footprint.spec
        self._footprint, self._spec, self._seed = footprint, spec, seed
        self._sky = sky
        waves = spec.spectral.wavelengths
        self._sky_variance, self._per_flux = noise.at(waves, spec.exptime_s, spec.barycentric_ratio)
        u, v = footprint.field_coordinates()
        inside = footprint.inside()
        self._texture = slice_texture(spec.generator(seed, "slices"), u, v, footprint.field)
        self._texture[footprint.rim()] *= _RIM_VARIANCE
        self.hits = cosmic_rays(
            spec.generator(seed, "hits"), spec.n_channels, footprint.shape,
            spec.hits_per_megavoxel, np.sqrt(self._sky_variance),
        )  # fmt: skip
        self.hits = self.hits[inside[self.hits["y"], self.hits["x"]]]
        self.lost = lost_spaxels(spec.generator(seed, "lost"), inside, spec.lost_fraction)
        valid = Observation(Path(), footprint, self.hits, self.lost).valid
        self._blanks = np.where(valid, np.float32(0), np.float32(np.nan))
        self._band = footprint.band_of(waves)
        self._notch = footprint.in_notch(waves)

    @cached_property
    def _spectra(self) -> Floats:
        return self._sky.spectra(self._spec.spectral.wavelengths)

    @cached_property
    def _maps(self) -> Floats32:
        shape, projection = self._footprint.shape, self._footprint.true_projection
        scale = np.float32(self._spec.flux_scale)
        return np.asarray(self._sky.maps(self._spec.psf, projection, shape) / scale, np.float32)

    def noise_field(self, pool: NoisePool | None) -> NoiseField | None:
        """Start the exposure's noise."""
        rng = self._spec.generator(self._seed, "noise")
        if pool is not None:
            return pool.field(rng)
        if self._spec.noise == "none":
            return None
        return FreshNoise(rng, self._footprint.shape, NOISES[self._spec.noise])

    def expected(self, first: int, last: int) -> tuple[Floats32, Floats32]:
        """Flux without noise, and variance, of a run of channels."""
        flux = flux_of(self._spectra[:, first:last], self._maps)
        variance = self._sky_variance[first:last, None, None] * self._texture
        variance += self._per_flux[first:last, None, None] * np.maximum(flux, np.float32(0))
        return flux, variance

    def exposed(
        self, first: int, flux: Floats32, variance: Floats32, field: NoiseField | None
    ) -> Floats32:
        """Add noise, background, cosmic rays and blanks to a run of channels, in place."""
        if field is not None:
            noise = field.take(flux.shape[0])
            noise *= np.sqrt(variance)
            if self._spec.noise_over_stat != 1.0:
                noise *= np.float32(self._spec.noise_over_stat)
            flux += noise
        if self._spec.background:
            flux += np.float32(self._spec.background)
        last = first + flux.shape[0]
        start, end = np.searchsorted(self.hits["channel"], (first, last))
        struck = self.hits[start:end]
        flux[struck["channel"] - first, struck["y"], struck["x"]] += struck["flux"]
        flux += self.blank(first, last)
        return flux

    def blank(self, first: int, last: int) -> Floats32:
        """0 where there are data and NaN elsewhere, float32 (wavelength, y, x)."""
        blank = self._blanks[self._band[first:last]]
        blank[self._notch[first:last]] = np.nan
        return np.asarray(blank)
