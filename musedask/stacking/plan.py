"""Cutting a stack into blocks, and what each block is made of; reads headers and masks only."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import dask.base
import numpy as np
import xarray as xr

from musedask.blocks import BlockPlan, Slot
from musedask.cube import sky_of, spectral_of
from musedask.errors import InputError, MusedaskWarning
from musedask.fits import direct_source
from musedask.grid import CubeGrid
from musedask.masks import ExposureMask, identity, masked_channels, own_mask
from musedask.offsets import OffsetTable
from musedask.placement import Placement, place
from musedask.sky import SkyProjection
from musedask.stacking.block import KERNEL_VERSION, TileSpec, mapping
from musedask.stacking.geometry import footprint
from musedask.stacking.kernels.layout import HALO
from musedask.stacking.members import Member
from musedask.stacking.options import StackOptions
from musedask.stacking.statistics import split_method
from musedask.wording import counted

TILE_PIX = 480
"""Side of a tile at most: one field of MUSE is one tile, turned by 45 degrees as well. Tiles
side by side read the rows of a frame that they share twice."""
BLOCK_BYTES = 192 << 20
"""Planes of a block at most: what a task holds of its results."""
DEEPEST_BLOCK = 64
INNER_PIX = 48
"""Side of a chunk inside a shard, about: what a spectrum has to read."""
NATIVE_ARCSEC = {"NFM": 0.025, "WFM": 0.2}


def members_of(
    cubes: Sequence[xr.Dataset],
    offsets: OffsetTable | None,
    grid: CubeGrid,
    options: StackOptions,
    *,
    allow_missing: bool,
    allow_failed: bool,
) -> dict[int, Member]:
    """Describe the exposures that touch the grid, by their index among the cubes.

    Raises
    ------
    InputError
        If none touches the grid, or a cube does not fit the schema or the grid's channels.

    Warns
    -----
    MusedaskWarning
        If some do not touch it.
    """
    members: dict[int, Member] = {}
    missed = []
    for index, cube in enumerate(cubes):
        placed = place(cube, offsets, allow_missing=allow_missing, allow_failed=allow_failed)
        member = _member(cube, placed, grid, options, len(members))
        if member is None:
            missed.append(placed.name)
        else:
            members[index] = member
    if not members:
        raise InputError(
            f"no exposure touches the grid {grid!r}: use CubeGrid.enclosing, or check the offsets"
        )
    if missed:
        more = f" and {len(missed) - 5} more" if len(missed) > 5 else ""
        warnings.warn(
            f"{len(missed)} of {counted(len(cubes), 'exposure')} not on the grid and left out: "
            f"{', '.join(missed[:5])}{more}",
            MusedaskWarning,
            stacklevel=3,
        )
    return members


def _member(
    cube: xr.Dataset, placed: Placement, grid: CubeGrid, options: StackOptions, rank: int
) -> Member | None:
    found = footprint(
        mapping(grid.sky, placed.sky), mapping(placed.sky, grid.sky), placed.shape,
        (grid.ny, grid.nx), options.resampling,
    )  # fmt: skip
    channel, _ = grid.spectral.locate(spectral_of(cube, placed.name), placed.name)
    if found is None or channel >= grid.spectral.size or channel + cube.sizes["wavelength"] <= 0:
        return None
    source = direct_source(cube)
    direct = source is not None and source.is_direct
    mask = own_mask(cube, options.mask)
    spatial = mask.regions or mask.mask or mask.border_pix
    names = (cube["flux"].data.name, cube["variance"].data.name) if _is_lazy(cube) else (
        dask.base.tokenize(cube["flux"].values, cube["variance"].values),
    )  # fmt: skip
    return Member(
        name=placed.name,
        date_obs=placed.date_obs,
        source=source if direct else None,
        identity=_identity(source) if direct else names,
        sky=placed.sky,
        header_sky=sky_of(cube),
        frame_shape=placed.shape,
        footprint=found,
        first_channel=-channel,
        n_channels=cube.sizes["wavelength"],
        absent=_absent(cube, mask, channel),
        scale=placed.flux_scale * _area_factor(cube, placed, grid, options.flux_per),
        weight=float("nan"),
        exptime=_exptime(cube, placed.name),
        mask=mask if spatial else None,
        mask_identity=identity(mask) if spatial else (),
        rank=rank,
    )


def _is_lazy(cube: xr.Dataset) -> bool:
    return all(hasattr(cube.variables[key].data, "dask") for key in ("flux", "variance"))


def _identity(source: Any) -> tuple[Any, ...]:
    parts = [source.flux, source.variance] + ([source.quality] if source.quality else [])
    return tuple(part.identity for part in parts)


def _absent(cube: xr.Dataset, mask: ExposureMask, channel: int) -> tuple[tuple[int, int], ...]:
    """Runs of the grid's channels that the mask takes from this exposure."""
    mode = str(cube["mode"].values) if "mode" in cube.coords else ""
    masked = masked_channels(mask, cube["wavelength"].values, mode)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], masked, [False]]).astype(int)))
    return tuple(
        (int(a) + channel, int(b) + channel) for a, b in zip(edges[::2], edges[1::2], strict=True)
    )


def _exptime(cube: xr.Dataset, name: str) -> float:
    value = float(cube["exptime"].values) if "exptime" in cube.coords else float("nan")
    if not (np.isfinite(value) and value > 0):
        raise InputError(
            f"{name}: EXPTIME = {value:g}: the exposure time per voxel needs a positive number; "
            "set it in the exposure table or with .assign_coords(exptime=...)"
        )
    return value


def _area_factor(cube: xr.Dataset, placed: Placement, grid: CubeGrid, flux_per: str) -> float:
    """Area of the grid's spaxel over the area for which the exposure states its flux."""
    mode = str(cube["mode"].values) if "mode" in cube.coords else ""
    native = NATIVE_ARCSEC["NFM" if mode.startswith("NFM") else "WFM"] ** 2
    own = placed.sky.pixel_area_arcsec2
    differs = abs(own / native - 1.0) > 0.02
    per_native = flux_per == "native" or (flux_per == "auto" and differs and bool(mode))
    if flux_per == "auto" and per_native:
        warnings.warn(
            f"{placed.name}: its spaxel of {own**0.5:.4g} arcsec is not MUSE's own of "
            f"{native**0.5:g} arcsec ({mode}); the pipeline states flux per native spaxel, and so "
            "it is read; say flux_per='spaxel' if it is per spaxel of the cube",
            MusedaskWarning,
            stacklevel=4,
        )
    factor = grid.sky.pixel_area_arcsec2 / (native if per_native and differs else own)
    # The pipeline writes 5.5556e-05 deg for 0.2 arcsec: rounding is not a change of scale.
    return 1.0 if abs(factor - 1.0) < 3e-4 else factor


def plan_blocks(
    grid: CubeGrid,
    members: Sequence[Member],
    slots: Sequence[Slot],
    rules: tuple[float, ...],
    options: StackOptions,
    weight_facts: Sequence[Any],
) -> tuple[BlockPlan, dict[tuple[int, int], TileSpec]]:
    """Cut the grid into blocks; which exposures touch each tile; keys.

    Returns
    -------
    plan
        For the store.
    specs
        (j, i) of a tile -> what its tasks need; only tiles that are touched.
    """
    n_planes = max(slot.plane for slot in slots) + 1
    (tile_y, inner_y), (tile_x, inner_x) = _cut(grid.ny), _cut(grid.nx)
    depth = int(np.clip(BLOCK_BYTES // (4 * n_planes * tile_y * tile_x), 8, DEEPEST_BLOCK))
    depth = min(1 << (depth.bit_length() - 1), grid.spectral.size)
    chunks = tuple(
        _sizes(n, size) for n, size in zip(grid.shape, (depth, tile_y, tile_x), strict=True)
    )
    specs: dict[tuple[int, int], TileSpec] = {}
    touching: dict[tuple[int, int], tuple[int, ...]] = {}
    keys: dict[tuple[int, int, int], str] = {}
    common = _key_of_all(grid.sky, slots, rules, options)
    halves = any(split_method(slot.method)[1] for slot in slots)
    halo = HALO if any(split_method(slot.method)[0] == "clipped" for slot in slots) else 0
    for j in range(len(chunks[1])):
        for i in range(len(chunks[2])):
            y_lo, x_lo = j * tile_y, i * tile_x
            tile = (y_lo, y_lo + chunks[1][j], x_lo, x_lo + chunks[2][i])
            padded = _padded(tile, halo, grid)
            inside = [n for n, m in enumerate(members) if m.footprint.part(*padded) is not None]
            touching[j, i] = tuple(inside)
            if not inside:
                continue
            specs[j, i] = TileSpec(
                grid.sky, tile, padded, tuple(members[n] for n in inside), tuple(slots), rules,
                depth, (depth, inner_y, inner_x), grid.spectral.size,
            )  # fmt: skip
            facts = {
                n: repr((members[n].key_facts(), weight_facts[n], halves and members[n].rank % 2))
                for n in inside
            }
            for block in range(len(chunks[0])):
                start, size = block * depth, chunks[0][block]
                if any(members[n].present(start, size).any() for n in inside):
                    keys[block, j, i] = _key(common, (start, size, *tile), inside, facts)
    return (
        BlockPlan(chunks, (depth, inner_y, inner_x), tuple(slots), keys, touching),  # type: ignore[arg-type]
        specs,
    )


def _padded(
    tile: tuple[int, int, int, int], halo: int, grid: CubeGrid
) -> tuple[int, int, int, int]:
    """A tile with the pixels around it that a clipping looks at, as far as the grid goes."""
    y_lo, y_hi, x_lo, x_hi = tile
    return (
        max(y_lo - halo, 0), min(y_hi + halo, grid.ny),
        max(x_lo - halo, 0), min(x_hi + halo, grid.nx),
    )  # fmt: skip


def _cut(n: int) -> tuple[int, int]:
    """Side of tiles and of the chunks inside, so that little reaches over the edge."""
    n_tiles = -(-n // TILE_PIX)
    per_tile = max(1, round(n / n_tiles / INNER_PIX))
    inner = -(-n // (n_tiles * per_tile))
    return inner * per_tile, inner


def _sizes(n: int, size: int) -> tuple[int, ...]:
    return tuple(min(size, n - start) for start in range(0, n, size))


def _key_of_all(
    sky: SkyProjection, slots: Sequence[Slot], rules: tuple[float, ...], options: StackOptions
) -> str:
    facts = (
        KERNEL_VERSION, sky.cards, tuple(slots), rules, options.resampling,
        options.subtract_background, options.mask.faintest_percent,
    )  # fmt: skip
    return repr(facts)


def _key(common: str, region: tuple[int, ...], inside: Sequence[int], facts: dict[int, str]) -> str:
    """All exposures of the tile enter, since the block's white-light images are theirs."""
    digest = hashlib.sha256(common.encode())
    digest.update(repr(region).encode())
    for n in inside:
        digest.update(facts[n].encode())
    return digest.hexdigest()[:32]
