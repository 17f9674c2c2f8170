"""One weight an exposure, from the exposures as they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from musedask.errors import InputError, MissingError
from musedask.stacking.levels import typical_variance
from musedask.stacking.members import Member

Weights = str | Mapping[str, float]
NOISE_CHANNELS = 24
"""Channels from which the noise of an exposure is taken, evenly spread."""


@dataclass(frozen=True)
class Weighing:
    """Weights of all exposures, and how they came about."""

    members: tuple[Member, ...]
    """The members with their weights; NaN where they are measured when the stack is computed."""
    measured: da.Array | None
    """Lazy float64 (exposure,) if the weights are measured."""
    facts: tuple[Any, ...]
    """What a block's key needs to know, one entry an exposure."""


def exposure_weights(
    cubes: Sequence[xr.Dataset], members: Sequence[Member], weights: Weights
) -> Weighing:
    """Weights for the means; lazy: noise is measured when the stack is computed.

    With ``noise`` a weight is 1 / (scale^2 median(variance)) over a few
    channels, scale being the factor on the exposure's flux. Weights of single
    voxels would bias the flux low where the variance follows the flux.

    Raises
    ------
    InputError
        If a weight is not a positive number.
    MissingError
        If an exposure has no weight.
    """
    if weights == "noise":
        lazy = [_measured(cube, member) for cube, member in zip(cubes, members, strict=True)]
        measured = da.stack([da.from_delayed(one, (), np.float64) for one in lazy])
        facts: tuple[Any, ...] = tuple(("noise", NOISE_CHANNELS) for _ in members)
        return Weighing(tuple(members), measured.rechunk(-1), facts)
    values = [_given(cube, member, weights) for cube, member in zip(cubes, members, strict=True)]
    for member, value in zip(members, values, strict=True):
        if not (np.isfinite(value) and value > 0):
            raise InputError(
                f"{member.name}: weight {value:g} ({_source(weights)}) is not a positive number: "
                "mend it, or leave the exposure out with use = False"
            )
    weighted = tuple(replace(m, weight=v) for m, v in zip(members, values, strict=True))
    return Weighing(weighted, None, tuple(values))


def _source(weights: Weights) -> str:
    return {"exptime": "EXPTIME", "given": "weight of the exposure table"}.get(
        weights if isinstance(weights, str) else "", "weights"
    )


def _given(cube: xr.Dataset, member: Member, weights: Weights) -> float:
    if isinstance(weights, Mapping):
        for key in (member.date_obs, member.date_obs[:23], member.name):
            if key in weights:
                return float(weights[key])
        raise MissingError(f"{member.name} ({member.date_obs}) has no entry among the weights")
    if weights == "equal":
        return 1.0
    if weights == "exptime":
        return member.exptime
    if weights == "given":
        if "weight" not in cube.coords:
            raise MissingError(
                f"{member.name} has no weight: fill the column weight of the exposure table"
            )
        return float(cube["weight"].values)
    raise InputError(f"weights = {weights!r}: use exptime, noise, given, equal or a mapping")


def _measured(cube: xr.Dataset, member: Member) -> Any:
    n = cube.sizes["wavelength"]
    chosen = np.unique(np.linspace(0, n - 1, min(NOISE_CHANNELS, n)).astype(int))
    if member.source is not None:
        return dask.delayed(_noise_weight_of_file, pure=True)(
            member.source, tuple(int(c) for c in chosen), member.scale, member.name
        )
    sample = cube["variance"].isel(wavelength=chosen).data
    return dask.delayed(_noise_weight, pure=True)(sample, member.scale, member.name)


def _noise_weight_of_file(source: Any, channels: Sequence[int], scale: float, name: str) -> float:
    whole = slice(None)
    frames = [source.read((slice(c, c + 1), whole, whole), "variance")[0] for c in channels]
    return _noise_weight(np.array(frames), scale, name)


def _noise_weight(variance: Any, scale: float, name: str) -> float:
    typical = typical_variance(variance, None)
    if not (np.isfinite(typical) and typical > 0):
        raise InputError(f"{name}: no valid variance to take a weight from; use other weights")
    # A number of numpy: da.stack takes it as an array without dimensions.
    return np.float64(1.0 / (scale * scale * typical))
