"""Stacks of known content that need no exposures: one kernel call a block, counted."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import weakref
from collections import Counter
from dataclasses import dataclass
from functools import partial

import dask.array as da
import numpy as np
import xarray as xr

from musedask.blocks import BlockPlan, BlockResult, Slot, Stack
from musedask.cube import make_cube
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

VARIABLES = ("flux", "variance", "n_exposures", "exposure_time")
SLOTS = (
    *(Slot("median", name, plane) for plane, name in enumerate(VARIABLES)),
    Slot("mean", "flux", 4),
    Slot("mean", "variance", 5),
    Slot("mean", "n_exposures", 2),
    Slot("mean", "exposure_time", 3),
)
CALLS: Counter[tuple[int, int, int]] = Counter()
FAIL: dict[str, tuple[int, int, int]] = {}
_LOCK = threading.Lock()
ALIVE = [0, 0]
"""Results that exist now, and the most there ever were."""


@dataclass(frozen=True)
class Field:
    """An exposure that fills a rectangle of spaxels with one value and a ramp."""

    name: str
    ys: slice
    xs: slice
    value: float
    last: int = 10**6


FIELDS = (
    Field("a", slice(0, 6), slice(0, 10), 1.0),
    Field("b", slice(1, 8), slice(1, 7), 3.0),
    Field("c", slice(2, 5), slice(0, 8), 5.0, 4),
)


def expected(shape: tuple[int, int, int], fields: tuple[Field, ...]) -> np.ndarray:
    """All planes of the whole, float32 (plane, wavelength, y, x)."""
    ramp = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 1024
    each = np.full((len(fields), *shape), np.nan, np.float32)
    for n, field in enumerate(fields):
        where = (slice(0, field.last), field.ys, field.xs)
        each[(n, *where)] = field.value + ramp[where]
    number = np.isfinite(each).sum(0).astype(np.float32)
    some = number > 0
    filled = np.where(np.isfinite(each), each, 0)
    mean = np.where(some, filled.sum(0) / np.maximum(number, 1), np.nan)
    lowest = np.where(some, np.where(np.isfinite(each), each, np.inf).min(0), np.nan)
    number = np.where(some, number, np.nan)
    planes = [lowest, lowest / 2, number, 100 * number, mean, mean / 4]
    return np.stack(planes).astype(np.float32)


def _kernel(block_id, shape, chunks, inner, fields, touching, delay):
    region = tuple(
        slice(sum(sizes[:n]), sum(sizes[: n + 1]))
        for sizes, n in zip(chunks, block_id, strict=True)
    )
    time.sleep(delay)
    if "FAKE_STACK_DIES" in os.environ:
        os._exit(1)
    if block_id == FAIL.get("at"):
        raise RuntimeError("the kernel failed on purpose")
    planes = expected(shape, fields)[(slice(None), *region)]
    inside = touching.get(block_id[1:], ())
    white = np.empty((len(inside), *planes.shape[2:]), np.float32)
    for place, n in enumerate(inside):
        white[place] = expected(shape, (fields[n],))[(0, *region)].mean(axis=0)
    result = BlockResult.of_planes(planes, white, inner)
    with _LOCK:
        CALLS[block_id] += 1
        ALIVE[0] += 1
        ALIVE[1] = max(ALIVE)
    weakref.finalize(result, _gone)
    out = np.empty((1, 1, 1), object)
    out[0, 0, 0] = result
    return out


def _gone():
    with _LOCK:
        ALIVE[0] -= 1


def _plane(block, number):
    return block.item().planes[number]


def fake_stack(
    shape=(10, 11, 13),
    block=(4, 6, 8),
    inner=(2, 3, 4),
    fields=FIELDS,
    delay=0.0,
    first=4750.0,
    attrs=None,
    salt="",
):
    """A stack whose content is that of :func:`expected`."""
    chunks = tuple(
        tuple(min(step, size - start) for start in range(0, size, step))
        for size, step in zip(shape, block, strict=True)
    )
    touching, keys = {}, {}
    plan = BlockPlan(chunks, inner, SLOTS, keys, touching)
    for k, j, i in np.ndindex(*plan.n_blocks):
        _, ys, xs = plan.region((k, j, i))
        inside = tuple(
            n
            for n, field in enumerate(fields)
            if field.ys.start < ys.stop
            and field.ys.stop > ys.start
            and field.xs.start < xs.stop
            and field.xs.stop > xs.start
        )
        if inside:
            touching[j, i] = inside
            text = repr((k, j, i, [fields[n] for n in inside], salt))
            keys[k, j, i] = hashlib.sha256(text.encode()).hexdigest()[:32]
    ones = tuple((1,) * n for n in plan.n_blocks)
    kernel = partial(
        _kernel,
        shape=shape,
        chunks=chunks,
        inner=inner,
        fields=fields,
        touching=touching,
        delay=delay,
    )
    results = da.map_blocks(
        kernel, chunks=ones, dtype=object, meta=np.empty((0, 0, 0), object), name=None
    )
    names = [field.name for field in fields]
    dates = [f"2020-01-0{n + 1}T00:00:00.000" for n in range(len(names))]
    exposure = {
        "exposure": ("exposure", np.array(names)),
        "exposure_date_obs": ("exposure", dates),
        "exposure_exptime": ("exposure", np.full(len(names), 100.0), {"units": "s"}),
        "exposure_ra_offset": ("exposure", 0.2 * np.arange(len(names))),
        "exposure_dec_offset": ("exposure", -0.4 * np.arange(len(names))),
        "exposure_flux_scale": ("exposure", np.ones(len(names))),
        "exposure_offset_method": ("exposure", ["automatic", "manual", "automatic"][: len(names)]),
        "exposure_first_wavelength": ("exposure", first + 0.1 * np.arange(len(names))),
    }  # fmt: skip
    cubes = {}
    for method in plan.methods:
        variables = {
            slot.variable: results.map_blocks(
                _plane, slot.plane, chunks=chunks, dtype=np.float32,
                meta=np.empty((0, 0, 0), np.float32),
            )
            for slot in SLOTS
            if slot.method == method
        }  # fmt: skip
        variables["n_exposures"] = da.where(
            da.isfinite(variables["n_exposures"]), variables["n_exposures"], 0
        ).astype(np.uint16)
        variables["exposure_time"] = da.nan_to_num(variables["exposure_time"])
        cube = make_cube(
            variables,
            SkyProjection.north_up(150.1, -60.2, 0.2, 5.0, 6.0),
            SpectralAxis(first, 1.25, shape[0], "air", "BARYCENT"),
            attrs={"method": method, "history": ["made", "for a test"]},
        )
        cubes[method] = cube.assign_coords(exposure)
    exposures = xr.Dataset(coords=exposure)
    return Stack(cubes, plan, results, exposures, attrs or {"software": "musedask test"})
