"""The light that a frame's detector sees, and the raw image that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from musedask.simulation.psf import Psf
from musedask.simulation.raw import spectra
from musedask.simulation.raw.detector import NX, NY, digitised
from musedask.simulation.raw.kernels import expose
from musedask.simulation.raw.night import RawFrame
from musedask.simulation.raw.optics import Optics
from musedask.simulation.raw.scene import (
    REACH_SPAXELS,
    field_position,
    psf_tables,
    source_spectrum,
)
from musedask.simulation.sky import PointSource

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]

_DARK_CURRENT = 1.0 / 3600.0
"""Electrons per second and pixel."""
ON_SKY = ("OBJECT", "SKY", "STD")
STANDARD = "SIMSTAR"
"""The target whose only source is the standard star."""


def diffuse_light(frame: RawFrame) -> Floats:
    """Light that fills the field, electrons/s/Angstrom in a pixel column, (wavelength,)."""
    if frame.tag in ON_SKY:
        return spectra.night_sky()
    if frame.tag == "SKYFLAT":
        return spectra.twilight_sky()
    if frame.lamp == "flat":
        return spectra.flat_lamp()
    return spectra.arc_lamp(frame.lamp) if frame.lamp else spectra.dark_spectrum()


def electron_image(
    frame: RawFrame,
    optics: Optics,
    sources: tuple[PointSource, ...],
    seeing_arcsec: float,
    seed: int,
) -> Floats32:
    """Compute the expected electrons on a detector, float32 (4112, 4096).

    Parameters
    ----------
    frame
        What is observed, and how long.
    optics
        The IFU.
    sources
        Of the frame's target.
    seeing_arcsec
        FWHM.
    seed
        Of the sensitivity of single pixels.
    """
    image = np.full((NY, NX), _DARK_CURRENT * frame.exptime_s, np.float32)
    diffuse = diffuse_light(frame) * frame.exptime_s
    if not diffuse.any():
        return image
    x, y = _places(frame, sources)
    x0, x1, y0, y1 = optics.bounds
    near = (x > x0 - REACH_SPAXELS) & (x < x1 + REACH_SPAXELS)
    near &= (y > y0 - REACH_SPAXELS) & (y < y1 + REACH_SPAXELS)
    received = spectra.electrons_per_flux() * spectra.telluric() * frame.exptime_s
    points = [source_spectrum(sources[n]) * received for n in np.flatnonzero(near)]
    expose(
        image, optics.left, optics.wave, optics.dispersion, optics.throughput, optics.x_field,
        diffuse.astype(np.float32),
        np.asarray(points, np.float32).reshape(-1, spectra.GRID.size),
        psf_tables(optics, y[near], Psf(seeing_arcsec)), x[near], seed * 64 + optics.ifu,
    )  # fmt: skip
    return image


def _places(frame: RawFrame, sources: tuple[PointSource, ...]) -> tuple[Floats, Floats]:
    if not sources:
        return np.zeros(0), np.zeros(0)
    ra, dec = np.array([(source.ra_deg, source.dec_deg) for source in sources]).T
    return field_position(frame, ra, dec)


def raw_image(
    frame: RawFrame,
    optics: Optics,
    fields: Mapping[str, tuple[PointSource, ...]],
    seeing_arcsec: float,
    seed: int,
) -> np.ndarray[Any, Any]:
    """Make the raw image of one detector, uint16 (4240, 4224), adu.

    Parameters
    ----------
    frame, optics, seeing_arcsec, seed
        As for :func:`electron_image`; the noise is its own for each frame, IFU and seed.
    fields
        Target -> its sources; a SKY frame is too far away from them to see any.
    """
    sources = fields.get(frame.target, ())
    electrons = electron_image(frame, optics, sources, seeing_arcsec, seed)
    if frame.tag == "BIAS":
        electrons[...] = 0.0
    rng = np.random.Generator(np.random.SFC64([seed, 4, frame.number, optics.ifu]))
    return digitised(electrons, rng)
