"""Exposures that are no shift of the tile: each pixel from those that its geometry names."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kernel, kernel
from musedask.stacking.kernels import column
from musedask.stacking.kernels.interpolating import if_valid, lanczos_weights, settle
from musedask.stacking.kernels.lanes import transpose, weigh
from musedask.stacking.kernels.layout import (
    BILINEAR,
    BORDER,
    EXACT,
    LANCZOS_TAPS,
    LANES,
    NEAREST,
    STRIP_ROWS,
)
from musedask.stacking.kernels.loading import bring_rows, load_row, mask_row
from musedask.stacking.kernels.memory import address_of, floats_at, line_of


@kernel
def _load_frames(source, row, start, present, masks, background, floor, room, lines, frame):
    """A whole frame in up to LANES channels from ``start`` on, which lie side by side.

    Parameters
    ----------
    present, background, floor : (channel,)
        Of these channels.
    room : uint32 (LANES, 3, word)
        Takes the rows as they are read.
    lines : float32 (3, LANES, x)
        Takes a row of all channels; 0 where there is no channel, and LANES pixels longer.
    frame : float32 (pixel, 3, LANES)
        Filled with flux, variance and validity (1 or 0), 0 where missing and in
        a border around the frame.
    """  # fmt: skip
    ny, nx = row[column.NY], row[column.NX]
    swap = row[column.SWAP] != 0
    masked = row[column.QUALITY] != 0 or row[column.MASK] >= 0
    homes = address_of(lines[0]), address_of(lines[1]), address_of(lines[2])
    step = 4 * lines.shape[2]
    width = nx + 2 * BORDER
    frame[: (row[column.READ_LO] + BORDER) * width] = np.float32(0.0)
    frame[(row[column.READ_HI] + BORDER) * width : (ny + 2 * BORDER) * width] = np.float32(0.0)
    lines[:] = np.float32(0.0)
    found = np.zeros((LANES, 3), np.int64)
    for first in range(row[column.READ_LO], row[column.READ_HI], STRIP_ROWS):
        last = min(first + STRIP_ROWS, row[column.READ_HI])
        for c in range(present.shape[0]):
            if present[c]:
                found[c] = bring_rows(source, row, start + c, first, last, room[c])
        for y in range(first, last):
            for c in range(present.shape[0]):
                if present[c]:
                    at = 4 * y * nx
                    f, v, m = homes[0] + c * step, homes[1] + c * step, homes[2] + c * step
                    load_row(
                        found[c, 0] + at, found[c, 1] + at, nx, swap, background[c], floor[c],
                        f, v,
                    )  # fmt: skip
                    if masked:
                        mask_row(found[c, 2] + at, y * nx, nx, row, masks, f, v)
                    _mark_valid(v, nx, m)
            line = frame[(y + BORDER) * width : (y + BORDER + 1) * width]
            line[:BORDER] = np.float32(0.0)
            _interleave(lines, nx, address_of(line) + 4 * 3 * LANES * BORDER)
            line[nx + BORDER :] = np.float32(0.0)


@fast_kernel
def _mark_valid(variance, n, validity):
    """1 where there is a variance, else 0; both lie at addresses."""
    v, m = floats_at(variance, n), floats_at(validity, n)
    for i in range(n):
        m[i] = if_valid(np.float32(1.0), v[i])


@kernel
def _interleave(lines, nx, target):
    """From (part, channel, x) to (x, part, channel), LANES pixels at a time.

    ``target`` is an address; up to LANES - 1 pixels behind the last are 0, as in ``lines``.
    """
    pixel = 4 * 3 * LANES
    for part in range(3):
        source = address_of(lines) + 4 * part * LANES * lines.shape[2]
        for x in range(0, nx, LANES):
            transpose(
                source + 4 * x, 4 * lines.shape[2], target + pixel * x + 4 * part * LANES, pixel
            )


@kernel
def _part_channels(source, n, lines):
    """From (x, part, channel) at an address to (part, channel, x)."""
    pixel = 4 * 3 * LANES
    for part in range(3):
        target = address_of(lines) + 4 * part * LANES * lines.shape[2]
        for x in range(0, n, LANES):
            transpose(
                source + pixel * x + 4 * part * LANES, pixel, target + 4 * x, 4 * lines.shape[2]
            )


@fast_kernel
def _pixels_around(kind, width, px, py, lanczos, six, indices, weights):
    """List the pixels of a bordered frame around a point, by the weights of a kind.

    Gives their number; none if the point is NaN.
    """
    if not (px == px and py == py):
        return 0
    one = np.float32(1.0)
    if kind == NEAREST:
        y, x = np.floor(py + np.float32(0.5)), np.floor(px + np.float32(0.5))
        indices[0] = (np.int64(y) + BORDER) * width + np.int64(x) + BORDER
        weights[0] = one
        return 1
    ix = np.int64(np.floor(px))
    iy = np.int64(np.floor(py))
    fx = px - np.float32(ix)
    fy = py - np.float32(iy)
    at = (iy + BORDER) * width + ix + BORDER
    if kind == BILINEAR:
        indices[0], weights[0] = at, (one - fx) * (one - fy)
        indices[1], weights[1] = at + 1, fx * (one - fy)
        indices[2], weights[2] = at + width, (one - fx) * fy
        indices[3], weights[3] = at + width + 1, fx * fy
        return 4
    lanczos_weights(lanczos, fx, six[0])
    lanczos_weights(lanczos, fy, six[1])
    for j in range(LANCZOS_TAPS):
        for i in range(LANCZOS_TAPS):
            k = j * LANCZOS_TAPS + i
            indices[k] = at + (j - 2) * width + i - 2
            weights[k] = six[1, j] * six[0, i]
    return LANCZOS_TAPS**2


@kernel
def _gather_frames(frame, row, pixel_map, pointers, indices, weights, lanczos, scale, out):
    """Resample an exposure onto its part of the tile, any geometry, in up to LANES channels.

    ``pixel_map`` float32 (2, rows, columns): frame coordinates x, y of the
    part's pixels, NaN where they lie off the frame. ``out`` float32 (2,
    channel, y, x): flux and variance.
    """
    kind = row[column.KIND]
    width = row[column.NX] + 2 * BORDER
    first, n_cols = row[column.COL_LO], row[column.COL_HI] - row[column.COL_LO]
    six = np.empty((2, LANCZOS_TAPS), np.float32)
    own_indices = np.empty(LANCZOS_TAPS**2, np.int32)
    own_weights = np.empty(LANCZOS_TAPS**2, np.float32)
    line = np.zeros((n_cols + LANES, 3, LANES), np.float32)
    lines = np.empty((3, LANES, n_cols + LANES), np.float32)
    i = 0
    for y in range(row[column.ROW_LO], row[column.ROW_HI]):
        for x in range(n_cols):
            index, weight = address_of(own_indices), address_of(own_weights)
            if kind == EXACT:
                index = address_of(indices) + 4 * pointers[i]
                weight = address_of(weights) + 4 * pointers[i]
                n = pointers[i + 1] - pointers[i]
            else:
                n = _pixels_around(
                    kind, width, pixel_map[0, i], pixel_map[1, i], lanczos, six, own_indices,
                    own_weights,
                )  # fmt: skip
            weigh(address_of(frame), index, weight, n, address_of(line) + 4 * 3 * LANES * x)
            i += 1
        _part_channels(address_of(line), n_cols, lines)
        for c in range(out.shape[1]):
            settle(
                line_of(lines[0], c, 0, n_cols), line_of(lines[1], c, 0, n_cols),
                line_of(lines[2], c, 0, n_cols), scale,
                line_of(out[0, c], y, first, n_cols), line_of(out[1, c], y, first, n_cols),
            )  # fmt: skip


@kernel
def _rooms_to_gather(table):
    """Room for :func:`_load_frames`: rows as they are read, a row, and the largest frame."""
    longest = 0
    n_pixels = 0
    for e in range(table.shape[0]):
        if table[e, column.GATHERED] >= 0:
            longest = max(longest, table[e, column.NX])
            height, width = table[e, column.NY] + 2 * BORDER, table[e, column.NX] + 2 * BORDER
            n_pixels = max(n_pixels, height * width)
    return (
        np.empty((LANES, 3, STRIP_ROWS * longest), np.uint32),
        np.empty((3, LANES, longest + LANES), np.float32),
        np.empty((n_pixels, 3, LANES), np.float32),
    )


@kernel
def gather_all(
    sources, table, present, background, floor, scale, masks, maps, pointers, indices,
    table_weights, lanczos, gathered,
):  # fmt: skip
    """Resample the exposures that are no shift of the tile: their whole frames, all channels."""
    room, lines, frame = _rooms_to_gather(table)
    n_channels = present.shape[1]
    for e in range(table.shape[0]):
        row = table[e]
        if row[column.GATHERED] < 0:
            continue
        n_cols = row[column.COL_HI] - row[column.COL_LO]
        part = n_cols * (row[column.ROW_HI] - row[column.ROW_LO])
        m_at, t_at = row[column.MAP_AT], row[column.TABLE_AT]
        for c in range(0, n_channels, LANES):
            _load_frames(
                sources[e], row, c, present[e, c : c + LANES], masks,
                background[e, c : c + LANES], floor[e, c : c + LANES], room, lines, frame,
            )  # fmt: skip
            _gather_frames(
                frame, row,
                maps[:, m_at : m_at + part] if row[column.KIND] != EXACT else maps[:, :0],
                pointers[t_at : t_at + part + 1] if row[column.KIND] == EXACT else pointers[:0],
                indices, table_weights, lanczos, scale[e],
                gathered[:, row[column.GATHERED], c : min(c + LANES, n_channels)],
            )  # fmt: skip
