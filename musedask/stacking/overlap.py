"""Areas in which the pixels of two grids overlap: the weights of the ``exact`` resampling.

Compiled and called from Python only. No compiled function of another file is
called here or calls these, and the border comes as an argument: numba's cache
does not notice an edit elsewhere.
"""

from __future__ import annotations

import numpy as np

from musedask.compiling import kept_kernel, kernel


@kernel
def _clip_polygon(xs, ys, n, axis, limit, sign, out_x, out_y):
    """Keep the side ``sign * (coordinate - limit) >= 0`` of a polygon (Sutherland-Hodgman)."""
    m = 0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        a = (xs[i] if axis == 0 else ys[i]) - limit
        b = (xs[j] if axis == 0 else ys[j]) - limit
        a *= sign
        b *= sign
        if a >= 0:
            out_x[m] = xs[i]
            out_y[m] = ys[i]
            m += 1
        if (a >= 0) != (b >= 0):
            t = a / (a - b)
            out_x[m] = xs[i] + t * (xs[j] - xs[i])
            out_y[m] = ys[i] + t * (ys[j] - ys[i])
            m += 1
    return m


@kernel
def _range_of_four(values):
    """Smallest and largest of the first four."""
    low = min(min(values[0], values[1]), min(values[2], values[3]))
    high = max(max(values[0], values[1]), max(values[2], values[3]))
    return low, high


@kernel
def _polygon_area(xs, ys, n):
    area = 0.0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        area += (xs[i] - xs[0]) * (ys[j] - ys[0]) - (xs[j] - xs[0]) * (ys[i] - ys[0])
    return abs(area) / 2


@kept_kernel
def overlap_table(corner_x, corner_y, ny, nx, border, pointers, indices, weights):
    """Areas in which output pixels overlap the pixels of a frame.

    Parameters
    ----------
    corner_x, corner_y : float64 (rows + 1, columns + 1)
        Frame coordinates (0-based centres) of the corners of the output pixels.
    ny, nx : int
        Shape of the frame.
    border : int
        Pixels around it in the bordered frame that ``indices`` point into.
    pointers : int64 (rows * columns + 1,)
        Filled: where each output pixel's entries start.
    indices, weights : int32, float32
        Filled as far as they reach: index into the bordered frame, and share of the
        output pixel's area; the shares of a pixel inside the frame add up to 1.

    Returns
    -------
    int
        Number of entries; some are lost if it is above the size of ``indices``.
    """
    rows, cols = corner_x.shape[0] - 1, corner_x.shape[1] - 1
    width = nx + 2 * border
    ax, ay = np.empty(16), np.empty(16)
    bx, by = np.empty(16), np.empty(16)
    cx, cy = np.empty(16), np.empty(16)
    dx, dy = np.empty(20), np.empty(20)
    n = 0
    for r in range(rows):
        for q in range(cols):
            pointers[r * cols + q] = n
            ax[0], ay[0] = corner_x[r, q], corner_y[r, q]
            ax[1], ay[1] = corner_x[r, q + 1], corner_y[r, q + 1]
            ax[2], ay[2] = corner_x[r + 1, q + 1], corner_y[r + 1, q + 1]
            ax[3], ay[3] = corner_x[r + 1, q], corner_y[r + 1, q]
            low_x, high_x = _range_of_four(ax)
            low_y, high_y = _range_of_four(ay)
            if not (high_x > -0.5 and low_x < nx - 0.5 and high_y > -0.5 and low_y < ny - 0.5):
                continue
            total = _polygon_area(ax, ay, 4)
            for i in range(
                max(np.int64(np.floor(low_x + 0.5)), 0),
                min(np.int64(np.floor(high_x + 0.5)), nx - 1) + 1,
            ):
                m = _clip_polygon(ax, ay, 4, 0, i - 0.5, 1.0, bx, by)
                m = _clip_polygon(bx, by, m, 0, i + 0.5, -1.0, cx, cy)
                if m < 3:
                    continue
                for j in range(
                    max(np.int64(np.floor(low_y + 0.5)), 0),
                    min(np.int64(np.floor(high_y + 0.5)), ny - 1) + 1,
                ):
                    k = _clip_polygon(cx, cy, m, 1, j - 0.5, 1.0, bx, by)
                    share = _area_below(bx, by, k, j + 0.5, dx, dy) / total
                    if share > 1e-7:
                        if n < indices.size:
                            indices[n] = (j + border) * width + i + border
                            weights[n] = share
                        n += 1
    pointers[rows * cols] = n
    return n


@kernel
def _area_below(xs, ys, n, limit, out_x, out_y):
    """Area of the part of a polygon below ``y = limit``; the last two take its corners."""
    if n < 3:
        return 0.0
    m = _clip_polygon(xs, ys, n, 1, limit, -1.0, out_x, out_y)
    return _polygon_area(out_x, out_y, m) if m > 2 else 0.0
