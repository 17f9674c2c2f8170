"""The lazy side of a stack: one Dask task a block, reads and kernel in one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from musedask.blocks import BlockPlan, BlockResult
from musedask.stacking import levels
from musedask.stacking.block import KERNEL_VERSION, TileSpec, make_block
from musedask.stacking.members import Member, member_mask
from musedask.stacking.options import StackOptions

_OBJECTS = np.empty((0, 0, 0), dtype=object)
_WEIGHT, _LEVELS = "w", "lc"


def lazy_stack(
    plan: BlockPlan,
    specs: dict[tuple[int, int], TileSpec],
    cubes: Sequence[xr.Dataset],
    members: Sequence[Member],
    options: StackOptions,
    measured: da.Array | None,
) -> tuple[da.Array, da.Array]:
    """Arrange the blocks of a stack as Dask arrays.

    Returns
    -------
    planes
        float32 (plane, wavelength, y, x), a chunk a block.
    results
        :class:`BlockResult` objects, a chunk of (1, 1, 1) a block.
    """
    weights = da.from_array(np.array([m.weight for m in members]), chunks=-1)
    weights = weights if measured is None else measured
    level = _lazy_levels(plan, cubes, members, options)
    pieces_planes: list[list[da.Array]] = []
    pieces_results: list[list[da.Array]] = []
    for j in range(plan.n_blocks[1]):
        rows = [
            _tile(plan, specs.get((j, i)), (j, i), cubes, members, weights, level)
            for i in range(plan.n_blocks[2])
        ]
        pieces_planes.append([planes for planes, _ in rows])
        pieces_results.append([results for _, results in rows])
    return _joined(pieces_planes, (2, 3)), _joined(pieces_results, (1, 2))


def _joined(pieces: list[list[da.Array]], axes: tuple[int, int]) -> da.Array:
    """Put tiles together; a single one stays as it is, without a task more."""
    rows = [row[0] if len(row) == 1 else da.concatenate(row, axis=axes[1]) for row in pieces]
    return rows[0] if len(rows) == 1 else da.concatenate(rows, axis=axes[0])


def _tile(
    plan: BlockPlan,
    spec: TileSpec | None,
    tile: tuple[int, int],
    cubes: Sequence[xr.Dataset],
    members: Sequence[Member],
    weights: da.Array,
    level: da.Array | None,
) -> tuple[da.Array, da.Array]:
    """Planes and results of one tile."""
    nz = plan.n_blocks[0]
    ny, nx = plan.chunks[1][tile[0]], plan.chunks[2][tile[1]]
    n_planes = max(slot.plane for slot in plan.slots) + 1
    if spec is None:
        planes = da.full((n_planes, plan.shape[0], ny, nx), np.nan, dtype=np.float32,
                         chunks=((n_planes,), plan.chunks[0], (ny,), (nx,)))  # fmt: skip
        return _zero_counts(planes, plan), da.full((nz, 1, 1), None, dtype=object, chunks=1)
    inside = plan.touching[tile]
    arguments: list[Any] = [da.arange(nz, chunks=1), "z", weights, _WEIGHT]
    arguments += [level, "lcz"] if level is not None else [None, None]
    direct = []
    for n in inside:
        lazy = members[n].source is None
        direct.append(not lazy)
        if lazy:
            for key in ("flux", "variance"):
                data = _aligned(cubes[n][key].data, members[n], plan)
                arguments += [data, f"z{_letter(len(arguments))}{_letter(len(arguments) + 1)}"]
    # Dask would take the members apart: they are bound to the function, and the keys of the
    # tile's blocks stand for them in its name.
    make = partial(_make, spec=spec, inside=tuple(inside), direct=tuple(direct))
    keys = [plan.keys.get((block, *tile), "") for block in range(nz)]
    # Every axis but z is contracted: each has one chunk.
    results = da.blockwise(
        make, "zji", *arguments, new_axes={"j": 1, "i": 1}, adjust_chunks={"z": 1},
        align_arrays=False, concatenate=True, dtype=object, meta=_OBJECTS,
        name=f"stack-block-{tokenize(KERNEL_VERSION, spec.tile, plan.chunks, keys, *arguments)}",
    )  # fmt: skip
    planes = da.blockwise(
        _planes_of, "pzyx", results, "zji", new_axes={"p": n_planes, "y": ny, "x": nx},
        adjust_chunks={"z": plan.chunks[0]}, align_arrays=False, concatenate=True,
        dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32),
        name=f"stack-planes-{tokenize(results.name)}",
    )  # fmt: skip
    return planes, results


def _letter(n: int) -> Any:
    """Index labels may be anything hashable; strings here, one character each."""
    return chr(0x100 + n)


def _zero_counts(planes: da.Array, plan: BlockPlan) -> da.Array:
    counted = {s.plane for s in plan.slots if s.variable in ("n_exposures", "exposure_time")}
    fill = np.array([0.0 if p in counted else np.nan for p in range(planes.shape[0])], np.float32)
    return cast(da.Array, da.zeros_like(planes) + fill[:, None, None, None])


def _aligned(data: Any, member: Member, plan: BlockPlan) -> da.Array:
    """A cube's own Dask array on the grid's channels, one chunk a block of channels."""
    array = da.asarray(data)
    nz = plan.shape[0]
    first = max(member.first_channel, 0)
    last = min(member.first_channel + nz, member.n_channels)
    before = max(-member.first_channel, 0)
    after = nz - before - (last - first)
    pieces = [array[first:last].astype(np.float32)]
    shape = array.shape[1:]
    if before:
        pieces.insert(0, da.full((before, *shape), np.nan, dtype=np.float32))
    if after:
        pieces.append(da.full((after, *shape), np.nan, dtype=np.float32))
    joined = pieces[0] if len(pieces) == 1 else da.concatenate(pieces)
    return cast(da.Array, joined.rechunk({0: plan.chunks[0], 1: -1, 2: -1}))


def _make(
    number: Any,
    weights: Any,
    level: Any,
    *arrays: Any,
    spec: TileSpec,
    inside: tuple[int, ...],
    direct: tuple[bool, ...],
) -> Any:
    """Adapt :func:`make_block` to blocks of Dask."""
    lazy = iter(arrays)
    pairs = [
        None
        if own
        else (
            np.ascontiguousarray(next(lazy), np.float32),
            np.ascontiguousarray(next(lazy), np.float32),
        )
        for own in direct
    ]
    chosen = list(inside)
    out = np.empty((1, 1, 1), dtype=object)
    out[0, 0, 0] = make_block(
        int(np.asarray(number).ravel()[0]),
        spec,
        np.asarray(weights)[chosen],
        None if level is None else np.asarray(level)[chosen],
        pairs,
    )
    return out


def _planes_of(results: Any) -> Any:
    made: BlockResult = np.asarray(results).ravel()[0]
    return made.planes


def _lazy_levels(
    plan: BlockPlan, cubes: Sequence[xr.Dataset], members: Sequence[Member], options: StackOptions
) -> da.Array | None:
    """Background and floor of all exposures, float32 (exposure, 2, wavelength), if asked for.

    All exposures in files share a task for each run of channels.
    """
    percent = options.mask.faintest_percent
    if not (options.subtract_background or percent):
        return None
    wanted = {"background": options.subtract_background, "percent": percent}
    files = [n for n, member in enumerate(members) if member.source is not None]
    others = [n for n, member in enumerate(members) if member.source is None]
    parts = []
    if files:
        direct = tuple(members[n] for n in files)
        parts.append(
            da.map_blocks(
                _levels_of_files, da.arange(plan.n_blocks[0], chunks=1), members=direct,
                depth=plan.chunks[0][0], n_channels=plan.shape[0], **wanted, dtype=np.float32,
                new_axis=(0, 1), chunks=((len(files),), (2,), plan.chunks[0]),
                meta=np.empty((0, 0, 0), np.float32),
            )
        )  # fmt: skip
    for n in others:
        array = _aligned(cubes[n]["flux"].data, members[n], plan)
        parts.append(
            da.map_blocks(
                _levels_of, array, member=members[n], **wanted, drop_axis=(1, 2), new_axis=(0, 1),
                dtype=np.float32, chunks=((1,), (2,), plan.chunks[0]),
                meta=np.empty((0, 0, 0), np.float32),
            )
        )  # fmt: skip
    joined = parts[0] if len(parts) == 1 else da.concatenate(parts)
    if files and others:
        joined = joined[np.argsort(files + others)]
    return cast(da.Array, joined.rechunk({0: -1, 1: -1}))


def _levels_of_files(
    number: Any, *, members: tuple[Member, ...], depth: int, n_channels: int, background: bool,
    percent: float,
) -> Any:  # fmt: skip
    """Background and floor of a run of channels of exposures in files, a channel at a time."""
    start = int(np.asarray(number).ravel()[0]) * depth
    size = min(depth, n_channels - start)
    out = np.zeros((len(members), 2, size), np.float32)
    out[:, 1] = -np.inf
    whole = slice(None)
    for n, member in enumerate(members):
        assert member.source is not None
        for channel in np.flatnonzero(member.present(start, size)):
            own = start + int(channel) + member.first_channel
            frame = member.source.read((slice(own, own + 1), whole, whole), "flux")
            found = _levels_of(frame, member=member, background=background, percent=percent)
            out[n, :, channel] = found[0, :, 0]
    return out


def _levels_of(flux: Any, *, member: Member, background: bool, percent: float) -> Any:
    """Background and floor of a run of channels, float32 (1, 2, wavelength).

    Masks are read here, in the task.
    """
    masked = None
    if member.mask is not None:
        masked = member_mask(member.mask, member.header_sky, member.frame_shape, member.source)
    out = np.zeros((1, 2, len(flux)), np.float32)
    out[0, 1] = -np.inf
    if background:
        out[0, 0] = levels.channel_background(flux, masked)
    if percent:
        # The kernel keeps what lies above the floor; the percentile itself stays.
        floor = levels.channel_floor(flux, masked, percent)
        out[0, 1] = np.nextafter(floor, np.float32(-np.inf))
    return out
