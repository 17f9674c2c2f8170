"""The wavelength axis of a cube: linear, in Angstrom, cut by whole channels only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from musedask.errors import InputError

Floats = np.ndarray[Any, np.dtype[np.float64]]

NOMINAL_FIRST_ANGSTROM = 4749.9
NOMINAL_SIZE = 3681
STEP_ANGSTROM = 1.25
RESIDUAL_WARNING_ANGSTROM = 0.3
_TIE = 1e-6
"""Channels that are half-way to within this are half-way: starts have few decimals."""
_STEP_TOLERANCE = 1e-5
"""Relative; over 3801 channels it adds up to less than a twentieth of a channel."""


@dataclass(frozen=True)
class SpectralAxis:
    """``size`` channels from ``first_angstrom`` on, ``step_angstrom`` apart."""

    first_angstrom: float
    """Wavelength of channel 0."""
    step_angstrom: float = STEP_ANGSTROM
    """Distance of two channels, positive."""
    size: int = NOMINAL_SIZE
    """How many channels."""
    medium: str = "air"
    """``air`` (CTYPE3 AWAV) or ``vacuum`` (WAVE)."""
    frame: str = "unknown"
    """SPECSYS, ``BARYCENT`` for a pipeline cube; ``unknown`` if the file does not say."""

    @property
    def ctype(self) -> str:
        """The FITS axis type."""
        return "AWAV" if self.medium == "air" else "WAVE"

    @property
    def wavelengths(self) -> Floats:
        """Wavelength of each channel, float64 of shape (wavelength,), Angstrom."""
        return self.first_angstrom + self.step_angstrom * np.arange(self.size, dtype=np.float64)

    @property
    def last_angstrom(self) -> float:
        """Wavelength of the last channel."""
        return self.first_angstrom + self.step_angstrom * (self.size - 1)

    def cropped(self, start: int, size: int) -> SpectralAxis:
        """``size`` channels from channel ``start`` on."""
        return replace(
            self, first_angstrom=self.first_angstrom + start * self.step_angstrom, size=size
        )

    def between(self, low_angstrom: float, high_angstrom: float) -> SpectralAxis:
        """The channels whose centres lie in [low, high].

        Raises
        ------
        InputError
            If there are none.
        """
        inside = np.flatnonzero(
            (self.wavelengths >= low_angstrom) & (self.wavelengths <= high_angstrom)
        )
        if inside.size == 0:
            raise InputError(
                f"no channel between {low_angstrom:g} and {high_angstrom:g} Angstrom: "
                f"the axis runs from {self.first_angstrom:.2f} to {self.last_angstrom:.2f}"
            )
        return self.cropped(int(inside[0]), int(inside.size))

    def locate(self, other: SpectralAxis, name: str = "the cube") -> tuple[int, float]:
        """Where ``other``'s channel 0 falls on this axis.

        Returns
        -------
        channel
            This axis's (whole) channel nearest to ``other``'s channel 0; may
            be negative or beyond the end.
        residual_angstrom
            ``other``'s wavelength minus this axis's at that channel.

        Raises
        ------
        InputError
            If step, medium (air or vacuum) or frame (SPECSYS) differ.
        """
        self.check_like(other, name)
        turns = (other.first_angstrom - self.first_angstrom) / self.step_angstrom
        # Half-way goes to the lower channel from wherever one counts; round() would not do that.
        channel = int(np.floor(turns + 0.5 - _TIE))
        residual = other.first_angstrom - (self.first_angstrom + channel * self.step_angstrom)
        return channel, residual

    def check_like(self, other: SpectralAxis, name: str = "the cube") -> None:
        """Raise an InputError that says in what ``other`` differs in kind."""
        if abs(other.step_angstrom - self.step_angstrom) > _STEP_TOLERANCE * self.step_angstrom:
            raise InputError(
                f"{name}: step of {other.step_angstrom:g} Angstrom, the others have "
                f"{self.step_angstrom:g}; channels are never resampled: leave it out or "
                "make the cube again with --dlambda of the others"
            )
        if other.medium != self.medium:
            raise InputError(
                f"{name}: wavelengths in {other.medium} (CTYPE3 {other.ctype}), the others in "
                f"{self.medium} ({self.ctype}); make the cube again with the same type"
            )
        if other.frame != self.frame:
            raise InputError(
                f"{name}: SPECSYS {other.frame}, the others {self.frame}; make the cube again "
                "with the same rvcorr, or leave it out"
            )


def nominal_axis(like: SpectralAxis) -> SpectralAxis:
    """The established grid, 4749.9 + 1.25 i Angstrom with 3681 channels, in ``like``'s frame."""
    nominal = replace(
        like, first_angstrom=NOMINAL_FIRST_ANGSTROM, step_angstrom=STEP_ANGSTROM, size=NOMINAL_SIZE
    )
    nominal.check_like(like)
    return nominal


def common_axis(axes: Sequence[SpectralAxis], names: Sequence[str] = ()) -> SpectralAxis:
    """The channels that all axes have, on the phase that suits them best.

    The phase is the circular mean of the axes' phases, so that the residuals
    are small also where starts straddle half a channel; then the median of
    the residuals is taken out.

    Raises
    ------
    InputError
        If there are no axes, they differ in kind, or share no channel.
    """
    if not axes:
        raise InputError("no cubes: at least one is needed to make a wavelength axis")
    labels = list(names) or [f"cube {i}" for i in range(len(axes))]
    first = axes[0]
    step = first.step_angstrom
    turns = np.array([(axis.first_angstrom - first.first_angstrom) / step for axis in axes])
    phase = np.angle(np.exp(2j * np.pi * turns).mean()) / (2 * np.pi)
    trial = replace(first, first_angstrom=first.first_angstrom + phase * step)
    found = [trial.locate(axis, label) for axis, label in zip(axes, labels, strict=True)]
    middle = float(np.median([residual for _, residual in found]))
    trial = replace(trial, first_angstrom=trial.first_angstrom + middle)
    # Counted again: a start that was just below half a channel may now be above it.
    starts = [trial.locate(axis)[0] for axis in axes]
    ends = [start + axis.size for start, axis in zip(starts, axes, strict=True)]
    if max(starts) >= min(ends):
        late, early = labels[int(np.argmax(starts))], labels[int(np.argmin(ends))]
        raise InputError(f"{late} and {early} share no wavelength: leave one of them out")
    base = trial.first_angstrom + max(starts) * step
    return replace(first, first_angstrom=base, size=min(ends) - max(starts))
