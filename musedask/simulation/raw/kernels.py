"""The compiled part: light of one exposure onto a detector, and a detector read out.

Arrays in, arrays out. Bounds are checked by the callers in
:mod:`musedask.simulation.raw.exposing`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from musedask.compiling import kept_kernel, kernel

WIDTH = 76.0
"""Width of a slice on the detector, pixels."""
EDGE_SOFTNESS = 0.45
_EDGE_REACH = 3
"""Pixels around a slice in which its edge still counts: beyond it is below 1e-5."""
FIRST_ANGSTROM, STEP_ANGSTROM = 4300.0, 0.1
"""The lattice of all spectra."""
PSF_STEPS = 20
"""Samples per spaxel in tables of the point-spread function."""
PRNU_RMS = 0.004


@kernel(inline="always", error_model="python")
def _at(table: Any, position: float) -> float:
    """Linear interpolation at a fractional index; 0 outside."""
    low = int(position)
    if position < 0.0 or low >= table.size - 1:
        return 0.0
    part = position - low
    return float(table[low] * (1.0 - part) + table[low + 1] * part)


@kernel(inline="always", error_model="python")
def _unit(key: Any) -> float:
    """A number in [-1, 1) that looks random: splitmix64 (Steele, Lea and Flood 2014)."""
    z = key + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * (2.0 / 9007199254740992.0) - 1.0


@kept_kernel(error_model="python")
def expose(
    out: Any, left: Any, wave: Any, dispersion: Any, throughput: Any, x_slices: Any,
    diffuse: Any, points: Any, psf: Any, x_points: Any, chip: int,
) -> None:  # fmt: skip
    """Add the light of 48 slices to an image of electrons.

    Parameters
    ----------
    out
        Electrons, float32 (y, x).
    left
        Left edge of each slice, float64 (slice, y), 0-based pixels.
    wave
        Wavelength at the middle of each slice, float64 (slice, y), Angstrom.
    dispersion
        Angstrom per pixel, float64 (y,).
    throughput
        Of each slice, float64 (slice,).
    x_slices
        Where the middle of each slice lies in the field, float64 (slice,), spaxels.
    diffuse
        Light that fills all slices, float32 (wavelength,), electrons per Angstrom
        in each pixel column.
    points
        Spectra of point sources, float32 (source, wavelength), electrons per
        Angstrom over the whole source.
    psf
        Share of a source's light in a spaxel of a slice, by distance in steps of
        1 / PSF_STEPS spaxel, float32 (source, slice, step).
    x_points
        Where the sources lie in the field, float64 (source,), spaxels.
    chip
        Seed of the sensitivity of single pixels.
    """
    ny, nx = out.shape
    per_column = 75.0 / WIDTH
    for s in range(left.shape[0]):
        reached = [n for n in range(x_points.size) if psf[n, s, 0] > 0.0]
        for y in range(ny):
            edge = left[s, y]
            first = max(0, int(np.floor(edge)) - _EDGE_REACH)
            last = min(nx, int(np.ceil(edge + WIDTH)) + _EDGE_REACH + 1)
            for x in range(first, last):
                from_left = x - edge
                u = from_left - WIDTH / 2
                wavelength = wave[s, y] + 0.03 * u + 3e-4 * u * u
                index = (wavelength - FIRST_ANGSTROM) / STEP_ANGSTROM
                light = _at(diffuse, index)
                field = x_slices[s] - u * per_column
                for n in reached:
                    share = _at(psf[n, s], abs(field - x_points[n]) * PSF_STEPS)
                    if share > 0.0:
                        light += share * per_column * _at(points[n], index)
                if from_left < _EDGE_REACH or from_left > WIDTH - _EDGE_REACH:
                    light *= 0.5 * (
                        np.tanh(from_left / EDGE_SOFTNESS)
                        - np.tanh((from_left - WIDTH) / EDGE_SOFTNESS)
                    )
                pixel = np.uint64(chip) * np.uint64(1 << 32) + np.uint64(y * nx + x)
                light *= 1.0 + PRNU_RMS * 1.7320508 * _unit(pixel)
                out[y, x] += light * dispersion[y] * throughput[s]


@kept_kernel(error_model="python")
def read_out(electrons: Any, noise: Any, bias: Any, gain: Any, ron: Any, raw: Any) -> None:
    """Read a detector out through its four ports, with the pre- and overscans around each.

    Photon and read noise are drawn as one: a Gaussian of their common variance.

    Parameters
    ----------
    electrons
        Float32 (4112, 4096).
    noise
        Values of a normal distribution, float32 (4240, 4224).
    bias, gain, ron
        By quadrant as (lower left, lower right, upper right, upper left), float64 (4,):
        adu, electrons per adu, electrons.
    raw
        The result, uint16 (4240, 4224).
    """
    ny, nx = electrons.shape
    half_y, half_x = ny // 2, nx // 2
    for j in range(raw.shape[0]):
        upper = j >= raw.shape[0] // 2
        y = j - 96 if upper else j - 32
        in_y = (half_y <= y < ny) if upper else (0 <= y < half_y)
        for i in range(raw.shape[1]):
            right = i >= raw.shape[1] // 2
            x = i - 96 if right else i - 32
            in_x = (half_x <= x < nx) if right else (0 <= x < half_x)
            quadrant = (2 if right else 3) if upper else (1 if right else 0)
            signal = electrons[y, x] if in_y and in_x else 0.0
            sigma = np.sqrt(signal + ron[quadrant] * ron[quadrant])
            value = bias[quadrant] + (signal + sigma * noise[j, i]) / gain[quadrant]
            raw[j, i] = np.uint16(min(max(np.rint(value), 0.0), 65535.0))
