"""The detector: four ports, each with its own bias, gain and read noise, scans around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.errors import InputError
from musedask.simulation.raw.kernels import read_out

NX, NY = 4096, 4112
"""Size of the detector without pre- and overscans, pixels."""
SCAN = 32
"""Width of each pre- and overscan, pixels."""
RAW_SHAPE = (NY + 4 * SCAN, NX + 4 * SCAN)
"""(y, x) of a raw image: 4240, 4224."""

Floats32 = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Port:
    """One of the four ports of a detector and the quadrant that it reads."""

    x: int
    """Column of the corner at which it is read, 1-based, 1 or 4096."""
    y: int
    """Row of that corner, 1-based, 1 or 4112."""
    bias_adu: float
    """Level without light."""
    gain: float
    """Electrons per adu; the header calls it ESO DET OUTn GAIN."""
    ron: float
    """Read noise, electrons."""


PORTS = (
    Port(1, 1, 1000.0, 1.10, 2.80),
    Port(NX, 1, 1010.0, 1.12, 2.70),
    Port(NX, NY, 995.0, 1.09, 2.90),
    Port(1, NY, 1005.0, 1.11, 2.75),
)
"""OUT1 to OUT4: lower left, lower right, upper right, upper left."""


def digitised(electrons: Floats32, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Read an image of electrons out, uint16 (4240, 4224) in adu.

    Parameters
    ----------
    electrons
        Float32 (4112, 4096).
    rng
        Random numbers for photon and read noise.

    Raises
    ------
    InputError
        If the image has another shape.
    """
    if electrons.shape != (NY, NX):
        raise InputError(f"an image of {electrons.shape} electrons: a detector has {(NY, NX)}")
    noise = rng.standard_normal(RAW_SHAPE, dtype=np.float32)
    raw = np.empty(RAW_SHAPE, np.uint16)
    bias, gain, ron = (
        np.array([getattr(port, name) for port in PORTS]) for name in ("bias_adu", "gain", "ron")
    )
    read_out(electrons, noise, bias, gain, ron, raw)
    return raw
