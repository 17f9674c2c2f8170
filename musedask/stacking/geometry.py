"""How each exposure's pixels fall on a tile of the grid: computed once, used for every channel.

Numbers in, arrays out. Whether an exposure can be copied, streamed (nearly a
pure shift) or has to be gathered is decided once for its whole frame, so that
the result does not depend on how the grid is cut into tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from musedask.stacking.kernels import column
from musedask.stacking.kernels import layout as k
from musedask.stacking.overlap import overlap_table

Floats = np.ndarray[Any, np.dtype[np.float64]]
ToFrame = Callable[[Any, Any], tuple[Floats, Floats]]
"""Grid pixel coordinates (x, y), 0-based, to those of an exposure's frame."""

RESAMPLINGS = ("exact", "bilinear", "nearest", "lanczos3")
COPY_TOLERANCE_PIX = 1e-3
SHIFT_TOLERANCE_PIX = 1e-3
EXACT_DRIFT = 1e-3
"""Up to this rotation or change of scale the overlap of two pixels is bilinear's
weights to better than 5e-4 (they differ at second order in the overlap's corners)."""
STREAM_DRIFT = 1e-2
"""Up to this, whole rows are streamed with weights that change along them."""
_REACH_PIX = 0.99
_THREADS = 4
_OVERLAPS_A_PIXEL = 6
"""Pixels of a frame that a turned pixel of its size overlaps at most."""


@dataclass(frozen=True)
class Footprint:
    """Where an exposure lies on the grid, and which way of resampling serves it."""

    kind: int
    """One of the kinds of :mod:`musedask.stacking.kernels`."""
    rows: tuple[int, int]
    """First and last plus one grid row that it can touch."""
    columns: tuple[int, int]
    """The same for columns."""
    shift: tuple[int, int] = (0, 0)
    """Whole pixels (y, x) from grid to frame, for copies."""

    def part(self, y_lo: int, y_hi: int, x_lo: int, x_hi: int) -> tuple[int, int, int, int] | None:
        """The part of a tile that it touches (rows, columns of the grid), or None."""
        a, b = max(self.rows[0], y_lo), min(self.rows[1], y_hi)
        c, d = max(self.columns[0], x_lo), min(self.columns[1], x_hi)
        return (a, b, c, d) if a < b and c < d else None


def footprint(
    to_frame: ToFrame,
    to_grid: ToFrame,
    frame_shape: tuple[int, int],
    grid_shape: tuple[int, int],
    resampling: str,
) -> Footprint | None:
    """Classify the mapping between an exposure's frame and the grid.

    Parameters
    ----------
    to_frame, to_grid
        The mapping and its inverse, pixel coordinates (x, y).
    frame_shape, grid_shape
        (ny, nx) of the exposure and of the whole grid.
    resampling
        One of :data:`RESAMPLINGS`.

    Returns
    -------
    Footprint or None
        None if the exposure does not touch the grid.
    """
    box = _bounding_box(to_grid, frame_shape, grid_shape)
    if box is None:
        return None
    (y_lo, y_hi), (x_lo, x_hi) = box
    # From edge to edge, so that a turn shows also where the grid is one pixel wide.
    x, y = np.meshgrid(
        np.linspace(x_lo - 0.5, x_hi - 0.5, 9), np.linspace(y_lo - 0.5, y_hi - 0.5, 9)
    )
    frame_x, frame_y = to_frame(x, y)
    shift_x, shift_y = frame_x - x, frame_y - y
    mean_x, mean_y = float(np.mean(shift_x)), float(np.mean(shift_y))
    spread = max(np.ptp(shift_x), np.ptp(shift_y)) / 2
    off_whole = max(np.abs(shift_x - round(mean_x)).max(), np.abs(shift_y - round(mean_y)).max())
    whole = (round(mean_y), round(mean_x))
    if off_whole < COPY_TOLERANCE_PIX:
        return Footprint(k.COPY, box[0], box[1], whole)
    if resampling == "nearest":
        same = spread < 0.5 - max(abs(mean_x - whole[1]), abs(mean_y - whole[0]))
        return Footprint(k.COPY if same else k.NEAREST, box[0], box[1], whole)
    drift = _drift(shift_x, shift_y, x, y)
    straight = _bend(shift_x) < SHIFT_TOLERANCE_PIX and _bend(shift_y) < SHIFT_TOLERANCE_PIX
    if resampling == "lanczos3":
        streams = straight and drift < EXACT_DRIFT
        return Footprint(k.DRIFT_LANCZOS if streams else k.LANCZOS, box[0], box[1])
    if resampling == "bilinear":
        streams = straight and drift < STREAM_DRIFT
        return Footprint(k.DRIFT if streams else k.BILINEAR, box[0], box[1])
    return Footprint(k.DRIFT if straight and drift < EXACT_DRIFT else k.EXACT, box[0], box[1])


def _bounding_box(
    to_grid: ToFrame, frame_shape: tuple[int, int], grid_shape: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Grid rows and columns that a frame can touch."""
    ny, nx = frame_shape
    xs, ys = np.linspace(-0.5, nx - 0.5, 33), np.linspace(-0.5, ny - 0.5, 33)
    edge_x = np.concatenate([xs, xs, np.full(33, -0.5), np.full(33, nx - 0.5)])
    edge_y = np.concatenate([np.full(33, -0.5), np.full(33, ny - 0.5), ys, ys])
    grid_x, grid_y = to_grid(edge_x, edge_y)
    if not np.all(np.isfinite(grid_x)):
        return None
    y_lo = max(int(np.floor(grid_y.min() - 0.51)), 0)
    y_hi = min(int(np.ceil(grid_y.max() + 0.51)) + 1, grid_shape[0])
    x_lo = max(int(np.floor(grid_x.min() - 0.51)), 0)
    x_hi = min(int(np.ceil(grid_x.max() + 0.51)) + 1, grid_shape[1])
    return ((y_lo, y_hi), (x_lo, x_hi)) if y_lo < y_hi and x_lo < x_hi else None


def _drift(shift_x: Floats, shift_y: Floats, x: Floats, y: Floats) -> float:
    """Largest change of the shift for a pixel along either axis."""
    steps = []
    for shift in (shift_x, shift_y):
        for axis, at in ((1, x), (0, y)):
            distance = np.diff(at, axis=axis)
            change = np.diff(shift, axis=axis)
            steps.append(np.abs(change[distance > 0] / distance[distance > 0]).max(initial=0.0))
    return float(max(steps))


def _bend(shift: Floats) -> float:
    """How far the shift along a row is from linear."""
    line = np.linspace(0.0, 1.0, shift.shape[1])
    straight = shift[:, :1] + (shift[:, -1:] - shift[:, :1]) * line
    return float(np.abs(shift - straight).max())


def drift_rows(to_frame: ToFrame, found: Footprint, y_lo: int, y_hi: int, x_lo: int) -> Floats:
    """Shift of each row of a tile and its slope along the row.

    Returns
    -------
    float64 (y_hi - y_lo, 4)
        Frame x minus tile x at tile column 0, its change a column, and the
        same for y against the tile's row. Rows outside the footprint are 0.
        The line runs through the ends of the whole footprint's row, so that it
        does not depend on the tile.
    """
    rows = np.arange(max(found.rows[0], y_lo), min(found.rows[1], y_hi))
    first, last = found.columns[0], max(found.columns[1] - 1, found.columns[0] + 1)
    out = np.zeros((y_hi - y_lo, 4))
    x_first, y_first = to_frame(np.full(rows.size, first), rows)
    x_last, y_last = to_frame(np.full(rows.size, last), rows)
    at = rows - y_lo
    # Coefficients are of float32's size, so that equal geometry gives equal weights
    # on every tile in spite of the last bits of the projection.
    slope_x = np.round((x_last - x_first) / (last - first) - 1.0, 10)
    slope_y = np.round((y_last - y_first) / (last - first), 10)
    out[at, 0] = np.round(x_first - first, 7) + slope_x * (x_lo - first) + x_lo
    out[at, 1] = slope_x
    out[at, 2] = np.round(y_first - rows, 7) + slope_y * (x_lo - first) + y_lo
    out[at, 3] = slope_y
    return out


@dataclass(frozen=True)
class TileGeometry:
    """Everything that the kernel needs to know of a tile's geometry."""

    exposures: tuple[int, ...]
    """Indices of the exposures that touch the tile."""
    table: np.ndarray[Any, np.dtype[np.int64]]
    """The kernel's table, with the columns of geometry filled in."""
    drift: Floats
    maps: np.ndarray[Any, np.dtype[np.float32]]
    pointers: np.ndarray[Any, np.dtype[np.int64]]
    indices: np.ndarray[Any, np.dtype[np.int32]]
    weights: np.ndarray[Any, np.dtype[np.float32]]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(
            a.nbytes for a in (self.drift, self.maps, self.pointers, self.indices, self.weights)
        )


def tile_geometry(
    mappings: Sequence[ToFrame],
    footprints: Sequence[Footprint | None],
    frame_shapes: Sequence[tuple[int, int]],
    tile: tuple[int, int, int, int],
) -> TileGeometry:
    """Geometry of all exposures that touch a tile (y_lo, y_hi, x_lo, x_hi)."""
    y_lo, y_hi, x_lo, _ = tile
    parts = {
        e: part
        for e, found in enumerate(footprints)
        if found is not None and (part := found.part(*tile)) is not None
    }
    table = np.full((len(parts), column.N_COLUMNS), -1, dtype=np.int64)
    drift = np.zeros((len(parts), y_hi - y_lo, 4))
    maps: list[Any] = []
    tables: list[tuple[Any, Any, Any]] = []
    map_at = table_at = entries = gathered = 0
    turned = _gathered_pixels(mappings, footprints, frame_shapes, parts)
    for n, (e, (a, b, c, d)) in enumerate(parts.items()):
        found = footprints[e]
        assert found is not None
        row = table[n]
        row[[column.KIND, column.NY, column.NX]] = found.kind, *frame_shapes[e]
        row[[column.ROW_LO, column.ROW_HI]] = a - y_lo, b - y_lo
        row[[column.COL_LO, column.COL_HI]] = c - x_lo, d - x_lo
        row[[column.SHIFT_Y, column.SHIFT_X]] = found.shift[0] + y_lo, found.shift[1] + x_lo
        rows = _rows_read(mappings[e], (a, b, c, d), frame_shapes[e][0])
        row[[column.READ_LO, column.READ_HI]] = rows
        if found.kind in (k.DRIFT, k.DRIFT_LANCZOS):
            drift[n] = drift_rows(mappings[e], found, y_lo, y_hi, x_lo)
        elif found.kind == k.EXACT:
            row[column.GATHERED], row[column.TABLE_AT] = gathered, table_at
            pointers, indices, weights = turned[e]
            tables.append((pointers + entries, indices, weights))
            table_at, entries, gathered = (
                table_at + pointers.size,
                entries + indices.size,
                gathered + 1,
            )
        elif found.kind != k.COPY:
            row[column.GATHERED], row[column.MAP_AT] = gathered, map_at
            maps.append(turned[e])
            map_at, gathered = map_at + maps[-1].shape[1], gathered + 1
    return TileGeometry(
        tuple(parts),
        table,
        drift,
        _joined(maps, np.float32, (2, 0), axis=1),
        _joined([t[0] for t in tables], np.int64, (0,)),
        _joined([t[1] for t in tables], np.int32, (0,)),
        _joined([t[2] for t in tables], np.float32, (0,)),
    )


def _gathered_pixels(
    mappings: Sequence[ToFrame],
    footprints: Sequence[Footprint | None],
    frame_shapes: Sequence[tuple[int, int]],
    parts: Mapping[int, tuple[int, int, int, int]],
) -> dict[int, Any]:
    """Of each exposure that is gathered the table of overlaps, or the map of its pixels.

    Several at a time: while they are made the other threads of a process wait for this tile.
    """
    found = {e: footprints[e] for e in parts}
    work = {
        e: _overlaps if f.kind == k.EXACT else _pixel_map
        for e, f in found.items()
        if f is not None and f.kind not in (k.COPY, k.DRIFT, k.DRIFT_LANCZOS)
    }
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="geometry") as pool:
        made = {
            e: pool.submit(make, mappings[e], parts[e], frame_shapes[e]) for e, make in work.items()
        }
    return {e: future.result() for e, future in made.items()}


def _rows_read(to_frame: ToFrame, part: tuple[int, int, int, int], n_rows: int) -> tuple[int, int]:
    """Rows of the frame that a part of the tile can need, with room for the widest kernel."""
    a, b, c, d = part
    along_y, along_x = np.linspace(a - 1, b, 17), np.linspace(c - 1, d, 17)
    x = np.concatenate([along_x, along_x, np.full(17, c - 1.0), np.full(17, float(d))])
    y = np.concatenate([np.full(17, a - 1.0), np.full(17, float(b)), along_y, along_y])
    _, rows = to_frame(x, y)
    if not np.all(np.isfinite(rows)):
        return 0, n_rows
    room = k.BORDER + 2
    low = int(np.clip(np.floor(rows.min()) - room, 0, n_rows - 1))
    high = int(np.clip(np.ceil(rows.max()) + room + 1, low + 1, n_rows))
    return low, high


def _joined(pieces: list[Any], dtype: Any, empty: tuple[int, ...], axis: int = 0) -> Any:
    return np.concatenate(pieces, axis=axis) if pieces else np.zeros(empty, dtype)


def _pixel_map(to_frame: ToFrame, part: tuple[int, int, int, int], shape: tuple[int, int]) -> Any:
    """Frame coordinates of the part's pixels, float32 (2, pixels); NaN a pixel off the frame."""
    a, b, c, d = part
    y, x = np.mgrid[a:b, c:d]
    frame_x, frame_y = to_frame(x.ravel(), y.ravel())
    # Less than a pixel off: whether enough of the weight is on the frame shows in the kernel,
    # as where rows are streamed; its taps then end within the frame's border.
    off = (
        (frame_x < -_REACH_PIX)
        | (frame_x > shape[1] - 1 + _REACH_PIX)
        | (frame_y < -_REACH_PIX)
        | (frame_y > shape[0] - 1 + _REACH_PIX)
    )
    out = np.array([frame_x, frame_y], dtype=np.float32)
    out[:, off | ~np.isfinite(frame_x)] = np.nan
    return out


def _overlaps(
    to_frame: ToFrame, part: tuple[int, int, int, int], shape: tuple[int, int]
) -> tuple[Any, Any, Any]:
    """Pointers, indices and weights of the part's pixels, by the overlap of areas."""
    a, b, c, d = part
    y, x = np.mgrid[a : b + 1, c : d + 1]
    corner_x, corner_y = to_frame(x.ravel() - 0.5, y.ravel() - 0.5)
    corner_x = np.ascontiguousarray(corner_x.reshape(x.shape))
    corner_y = np.ascontiguousarray(corner_y.reshape(x.shape))
    pointers = np.zeros((b - a) * (d - c) + 1, np.int64)
    n, room = _OVERLAPS_A_PIXEL * (pointers.size - 1), 0
    while n > room:  # once, unless the grid's pixels are larger than the frame's
        room = n
        indices, weights = np.empty(room, np.int32), np.empty(room, np.float32)
        n = overlap_table(corner_x, corner_y, *shape, k.BORDER, pointers, indices, weights)
    return pointers, indices[:n].copy(), weights[:n].copy()


def lanczos_table() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Lanczos-3 weights, float32 (LANCZOS_PHASES + 1, 6), each row adding up to 1.

    Row p is for a point p / LANCZOS_PHASES right of the third of six pixels.
    """
    phase = np.linspace(0.0, 1.0, k.LANCZOS_PHASES + 1)[:, None]
    distance = np.arange(-2, 4)[None, :] - phase
    weights = np.sinc(distance) * np.sinc(distance / 3.0) * (np.abs(distance) < 3)
    normalised: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalised.astype(np.float32)
