"""A small mega-cube of made-up values, without the kernels, which take a minute to compile."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from musedask.blocks import BlockPlan, BlockResult, Slot, Stack
from musedask.cube import make_cube
from musedask.megacube import write_megacube
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

_CHUNKS = ((4, 2), (6, 4), (8, 4))
_INNER = (2, 3, 4)
_VARIABLES = ("flux", "variance", "n_exposures", "exposure_time")
_SLOTS = tuple(
    Slot(method, name, plane)
    for method in ("median", "mean")
    for plane, name in enumerate(_VARIABLES)
)
_NAMES = ("a", "b")


def make_store(path: Path) -> None:
    """Write a mega-cube of two exposures, two statistics and eight blocks."""
    keys, touching = {}, {}
    for block in np.ndindex(2, 2, 2):
        keys[block] = hashlib.sha256(repr(block).encode()).hexdigest()[:32]
        touching[block[1:]] = (0, 1)
    plan = BlockPlan(_CHUNKS, _INNER, _SLOTS, keys, touching)
    ones = tuple((1,) * len(sizes) for sizes in _CHUNKS)
    results = da.map_blocks(
        _block, chunks=ones, dtype=object, meta=np.empty((0, 0, 0), object), name="fuzz-store"
    )
    exposures = _exposures()
    cubes = {method: _cube(results, method).assign_coords(exposures) for method in plan.methods}
    stack = Stack(cubes, plan, results, xr.Dataset(coords=exposures), {"software": "fuzz"})
    write_megacube(stack, path)


def _block(block_id: tuple[int, int, int]) -> Any:
    shape = tuple(sizes[n] for sizes, n in zip(_CHUNKS, block_id, strict=True))
    rng = np.random.default_rng(list(block_id))
    planes = rng.uniform(1, 9, (len(_VARIABLES), *shape)).astype(np.float32)
    planes[2] = 2  # the number of exposures
    out = np.empty((1, 1, 1), object)
    out[0, 0, 0] = BlockResult.of_planes(planes, np.ones((2, *shape[1:]), np.float32), _INNER)
    return out


def _plane(block: Any, number: int, dtype: str) -> Any:
    return block.item().planes[number].astype(dtype)


def _cube(results: Any, method: str) -> xr.Dataset:
    variables = {
        name: results.map_blocks(
            _plane, plane, dtype, chunks=_CHUNKS, dtype=dtype, meta=np.empty((0, 0, 0), dtype)
        )
        for plane, name in enumerate(_VARIABLES)
        for dtype in ["uint16" if name == "n_exposures" else "float32"]
    }
    return make_cube(
        variables,
        SkyProjection.north_up(150.1, -60.2, 0.2, 5.0, 6.0),
        SpectralAxis(4750.0, 1.25, sum(_CHUNKS[0]), "air", "BARYCENT"),
        attrs={"method": method, "history": ["made", "to be damaged"]},
    )


def _exposures() -> dict[str, Any]:
    numbers = ("exptime", "ra_offset", "dec_offset", "flux_scale", "first_wavelength", "residual")
    return {
        "exposure": ("exposure", np.array(_NAMES)),
        "exposure_date_obs": ("exposure", ["2020-01-01T00:00:00.000", "2020-01-02T00:00:00.000"]),
        "exposure_offset_method": ("exposure", ["auto", "manual"]),
        **{f"exposure_{name}": ("exposure", np.array([1.0, 0.5])) for name in numbers},
    }
