"""Write a stack to a store: resumable, in one pass over the blocks, swapped in when whole."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from musedask.blocks import Stack
from musedask.cube import sky_of
from musedask.errors import FileError, InputError
from musedask.megacube import swap
from musedask.megacube.durable import for_each
from musedask.megacube.images import write_images
from musedask.megacube.layout import (
    STORE_VERSION,
    Layout,
    check_stack,
    read_description,
)
from musedask.megacube.metadata import add_attributes, build_key, prepare, with_labels
from musedask.megacube.reading import open_group
from musedask.megacube.regions import Region, read_region
from musedask.megacube.shards import (
    Shape,
    sync_files,
    sync_folders,
    write_atomically,
    write_error,
)
from musedask.megacube.tasks import Receipt, write_block
from musedask.noise import noise_attrs
from musedask.progress import Progress, Ticker
from musedask.tasks import compute_each
from musedask.wording import counted, data_size

log = logging.getLogger(__name__)

_MEASURING = 2
"""Statistics whose noise is measured at a time; half of it is waiting for the disk."""


@dataclass(frozen=True)
class WriteReport:
    """What a call of :func:`write_megacube` did."""

    path: Path
    """The store."""
    n_blocks: int
    """Blocks that exposures touch."""
    n_made: int
    """Blocks computed by this call."""
    n_linked: int
    """Blocks taken over, unchanged, from the finished store or a build that was given up."""
    n_found: int
    """Blocks that an earlier call with the same stack had already made."""
    bytes_written: int
    """By the blocks computed in this call."""
    seconds: float
    """Wall time."""

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.n_made} of {counted(self.n_blocks, 'block')} made, "
            f"{self.n_linked} unchanged, {self.n_found} already there; "
            f"{data_size(self.bytes_written)} in {self.seconds:.0f} s"
        )


def write_megacube(
    stack: Stack,
    path: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    overwrite_grid: bool = False,
) -> WriteReport:
    """Compute a stack and write it as a Zarr store; goes on where an earlier call was cut short.

    Blocks that the store already holds unchanged are linked, not computed.
    The store appears under its name when it is whole; until then one that was
    there before stays as it is. Runs on the active Dask client, or in threads.

    Parameters
    ----------
    stack
        From :func:`musedask.stack`.
    path
        The store, usually ``NAME.zarr``, in a folder that all workers see.
    progress
        Called with blocks done, blocks to do and seconds left.
    overwrite_grid
        Replace a store of another grid, instead of refusing.

    Returns
    -------
    WriteReport
        How many of how many blocks were made.

    Raises
    ------
    InputError
        If the stack is empty, or the store has another grid.
    FileError
        If the store cannot be written (a full disk, no permission, another
        builder), or something else has its name.
    """
    started = time.monotonic()
    check_stack(stack)
    final = Path(os.path.abspath(path))
    if not final.parent.is_dir():
        raise FileError(f"{final.parent}: no such folder; make it first")
    stack = with_labels(stack)
    build = build_key(stack)
    folder = swap.building_folder(final, build)
    layout = Layout.of_plan(stack.plan, folder)
    n_blocks = len(stack.plan.keys)
    with swap.locked(final), _spoken(final):
        swap.recover(final, build)
        held = _check_present(stack, layout, final, overwrite_grid=overwrite_grid)
        if held.get("build") == build:
            log.info("%s: already holds this stack", final)
            return WriteReport(final, n_blocks, 0, 0, n_blocks, 0, time.monotonic() - started)
        others = swap.other_builds(final, build)
        _check_exposures(stack, layout, (folder, final, *others))
        if not folder.exists():
            _prepare(stack, layout, final, build)
        else:
            swap.sweep_partials(folder)
        n_found = len(_done(stack, layout))
        for source in (final, *others):
            _link_unchanged(stack, layout, source)
        done = _done(stack, layout)
        n_linked = len(done) - n_found
        todo = [block for block in sorted(stack.plan.keys) if block not in done]
        blocks = counted(n_blocks, "block")
        log.info("%s: %d of %s to make, %d linked", final, len(todo), blocks, n_linked)
        size = _compute(stack, layout, todo, progress)
        _finish(stack, layout, final)
        for leftover in others:
            swap.discard(leftover)
    seconds = time.monotonic() - started
    return WriteReport(final, n_blocks, len(todo), n_linked, n_found, size, seconds)


@contextmanager
def _spoken(final: Path) -> Iterator[None]:
    """Turn the system's errors about the store into ours."""
    try:
        yield
    except OSError as err:
        if isinstance(err, FileError):
            raise
        raise write_error(final, err) from err


def _check_present(
    stack: Stack, layout: Layout, final: Path, *, overwrite_grid: bool
) -> dict[str, Any]:
    """What the store under the final name says of itself; empty if there is none.

    Raises
    ------
    FileError, InputError
        If it is not a store of ours, or has another grid.
    """
    if not os.path.lexists(final):
        return {}
    held = read_description(final)
    if held is None:
        raise FileError(
            f"{final}: exists and is not a mega-cube of musedask; choose another name or remove it"
        )
    if overwrite_grid or held.get("store") != STORE_VERSION:
        return held
    before = open_group(final, str(held["methods"][0]))
    now = stack[layout.methods[0]]
    difference = _grid_difference(before, now)
    if difference:
        raise InputError(
            f"{final}: the store has another grid than the stack ({difference}); its grid is "
            f"binding: stack onto CubeGrid.from_cube(open_megacube({final.name!r})"
            f"[{layout.methods[0]!r}]), give CubeGrid.enclosing a larger pad= from the start, "
            "write to another store, or replace this one with overwrite_grid=True"
        )
    return held


def _grid_difference(before: xr.Dataset, now: xr.Dataset) -> str:
    """In what two grids differ, or nothing."""
    sizes = [tuple(cube.sizes[axis] for axis in ("wavelength", "y", "x")) for cube in (before, now)]
    if sizes[0] != sizes[1]:
        return f"{sizes[0]} voxels along wavelength, y, x, now {sizes[1]}"
    step = sky_of(before).lattice_step(sky_of(now), (before.sizes["y"], before.sizes["x"]))
    if step != (0, 0):
        return "its pixels lie elsewhere on the sky" if step is None else f"moved by {step} pixels"
    waves = [np.asarray(cube["wavelength"].values, float) for cube in (before, now)]
    width = abs(waves[0][-1] - waves[0][0]) / max(waves[0].size - 1, 1) or 1.25
    # The wavelength of a channel is a median over the exposures: it moves a little with them.
    if abs(waves[0][0] - waves[1][0]) > 0.5 * width:
        return f"it starts at {waves[0][0]:.2f} Angstrom, now {waves[1][0]:.2f}"
    return ""


def _prepare(stack: Stack, layout: Layout, final: Path, build: str) -> None:
    """Make the building folder; it has its name only once all metadata are in it."""
    preparing = swap.beside(final, "preparing")
    swap.discard(preparing)
    prepare(stack, layout.moved(preparing), build)
    preparing.rename(layout.folder)


def _check_exposures(stack: Stack, layout: Layout, sources: tuple[Path, ...]) -> None:
    """Look at the exposures, before anything is written, if there is a block to make."""
    known: set[str] = set()
    for source in sources:
        if source.is_dir() and read_description(source) is not None:
            known.update(layout.moved(source).done_keys().values())
    if not known.issuperset(stack.plan.keys.values()):
        for_each(lambda check: check(), stack.checks)


def _done(stack: Stack, layout: Layout) -> set[Shape]:
    """The blocks that are done; a marker that lost its content in a power cut is none."""
    keys = stack.plan.keys
    return {block for block, key in layout.done_keys().items() if keys.get(block) == key}


def _link_unchanged(stack: Stack, layout: Layout, source: Path) -> None:
    """Take over the blocks that another store or build holds with the same key."""
    held = read_description(source) if source.is_dir() else None
    if held is None or held.get("store") != STORE_VERSION:
        return
    mine = {"shape": layout.shape, "block": layout.block, "inner": layout.inner}
    if any(held[key] != list(value) for key, value in mine.items()):
        return
    theirs = layout.moved(source)
    for slot in layout.slots:
        if not Path(source, slot.method, slot.variable, "zarr.json").exists():
            return
    done = _done(stack, layout)
    held_keys = theirs.done_keys()
    wanted = [b for b, key in stack.plan.keys.items() if b not in done and held_keys.get(b) == key]
    for block in wanted:
        for ours, other in zip(layout.files(block), theirs.files(block), strict=True):
            _link(other, ours)
    # All names are on the disk before the first marker says so.
    sync_folders(path.parent for block in wanted for path in layout.files(block))
    for block in wanted:
        write_atomically(layout.marker(block), [bytes.fromhex(stack.plan.keys[block])])


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it; a file that is not there is all fill."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        return
    except OSError:
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
        shutil.copyfile(source, partial)
        sync_files([partial])
        partial.replace(target)


def _compute(stack: Stack, layout: Layout, todo: list[Shape], progress: Progress | None) -> int:
    """Make the blocks that are missing; gives the number of bytes written."""
    ticker = Ticker(progress, len(todo))
    ticker.tell()
    if not todo:
        return 0
    write: Any = write_block  # Dask's types know only functions of its own arrays
    receipts = stack.results.map_blocks(
        write, layout, dtype=object, meta=np.empty((0, 0, 0), object),
        name=f"write-megacube-{uuid.uuid4().hex}",  # an effect, never to be shared or remembered
    )  # fmt: skip
    # Optimised as a whole: reading, kernel and writing become one task a block.
    delayed = receipts.to_delayed(optimize_graph=True)
    tasks = [delayed[block] for block in todo]
    made = compute_each(tasks, ticker, "a block was not made", "[cluster.stack]")
    return sum(_size(receipt) for receipt in made)


def _size(receipt: Any) -> int:
    made: Receipt = receipt.item()
    return made.size


def _finish(stack: Stack, layout: Layout, final: Path) -> None:
    """Images, the noise, and the swap; all of it can be done again."""
    folder = Path(layout.folder)
    missing = set(stack.plan.keys) - _done(stack, layout)
    if missing:
        raise FileError(
            f"{folder}: {len(missing)} of {counted(len(stack.plan.keys), 'block')} not there "
            f"after all were made, {min(missing)} first; do all workers see this folder?"
        )
    swap.sweep_partials(folder)
    with ThreadPoolExecutor(_MEASURING, thread_name_prefix="noise") as pool:
        noise = _noise(stack, layout, pool)
        write_images(stack, layout)
        add_attributes(layout, {method: found.result() for method, found in noise.items()})
    _sync_markers(stack, layout)
    swap.swap(folder, final)


def _sync_markers(stack: Stack, layout: Layout) -> None:
    """Put the markers of all blocks on the disk; whoever wrote anything else has done so."""
    for_each(lambda block: sync_files([layout.marker(block)]), stack.plan.keys)
    sync_folders([Path(layout.folder, "blocks")])


def _noise(
    stack: Stack, layout: Layout, pool: ThreadPoolExecutor
) -> dict[str, Future[dict[str, float]]]:
    """How the noise of each statistic that has a variance compares with it."""
    slots = {(slot.method, slot.variable): slot for slot in layout.slots}

    def read(method: str, region: Region) -> tuple[Any, Any]:
        flux, variance = (slots[method, variable] for variable in ("flux", "variance"))
        return read_region(layout, flux, region), read_region(layout, variance, region)

    return {
        method: pool.submit(noise_attrs, stack[method], partial(read, method))
        for method in layout.methods_with_flux
        if (method, "variance") in slots
    }
