"""How much a channel changes from pixel to pixel: what a clipping must not take for outliers."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kernel
from musedask.stacking.kernels.layout import HALO

PAIR_REACH = 3
RANGE_REACH = 2


@fast_kernel
def _smooth_rows(image, top, n_rows, scratch, out):
    """Means of 3 x 3 of rows [top, top + n_rows); missing pixels are left out."""
    width = image.shape[1]
    zero = np.float32(0.0)
    one = np.float32(1.0)
    column = scratch[0]
    number = scratch[1]
    for r in range(n_rows):
        a, b, c = image[top + r - 1], image[top + r], image[top + r + 1]
        for x in range(width):
            column[x] = (
                (a[x] if a[x] == a[x] else zero)
                + (b[x] if b[x] == b[x] else zero)
                + (c[x] if c[x] == c[x] else zero)
            )
            number[x] = (
                (one if a[x] == a[x] else zero)
                + (one if b[x] == b[x] else zero)
                + (one if c[x] == c[x] else zero)
            )
        inner = out[r, 1 : width - 1]
        left, right = column[: width - 2], column[2:]
        n_left, n_right = number[: width - 2], number[2:]
        middle, n_middle = column[1 : width - 1], number[1 : width - 1]
        for x in range(width - 2):
            inner[x] = (left[x] + middle[x] + right[x]) / (n_left[x] + n_middle[x] + n_right[x])


@fast_kernel
def _higher(a, b):
    """The larger value; ``b`` if ``a`` is missing."""
    return a if a > b else b


@fast_kernel
def _lower(a, b):
    """The smaller value; ``b`` if ``a`` is missing."""
    return a if a < b else b


@fast_kernel
def _range_along(s, high, low):
    """Largest and smallest of five neighbours along a row; the outputs are four shorter."""
    n = high.shape[0]
    a, b, c, d, e = s[:n], s[1 : n + 1], s[2 : n + 2], s[3 : n + 3], s[4 : n + 4]
    inf = np.float32(np.inf)
    for x in range(n):
        high[x] = _higher(a[x], _higher(b[x], _higher(c[x], _higher(d[x], _higher(e[x], -inf)))))
        low[x] = _lower(a[x], _lower(b[x], _lower(c[x], _lower(d[x], _lower(e[x], inf)))))


@fast_kernel
def _pair(a, b):
    """The mean of two values, or the one that there is."""
    both = np.float32(0.5) * (a + b)
    return both if both == both else (a if a == a else b)


@fast_kernel
def find_structure(image, top, n_rows, rules, rooms, edge):
    """How far exposures of different seeing may differ, squared, from an image of the centres.

    ``(fraction c)^2 + (peak p)^2 + (wing r)^2`` where c is the pixel's own
    centre, p how far its mean of 3 x 3 stands above that of its surroundings
    (the lower of the two means of opposite corners, 3 pixels off) and r the range of
    the 3 x 3 means within 2 pixels.

    Parameters
    ----------
    image : float32 (row, HALO + x + HALO)
        Centres of the clipping, NaN where missing and around the tile.
    top, n_rows : int
        Rows of ``image`` to do; there are HALO rows on either side of them.
    edge : float32 (n_rows * x,)
        Filled.
    """
    n = image.shape[1] - 2 * HALO
    d = PAIR_REACH
    smooth, scratch, high, low = rooms
    fraction = np.float32(rules[1] * rules[1])
    peak = np.float32(rules[3] * rules[3])
    wing = np.float32(rules[4] * rules[4])
    zero = np.float32(0.0)
    _smooth_rows(image, top - d, n_rows + 2 * d, scratch, smooth)
    side = HALO - RANGE_REACH
    for r in range(n_rows + 2 * RANGE_REACH):
        _range_along(smooth[r + d - RANGE_REACH, side : n + 2 * HALO - side], high[r], low[r])
    for r in range(n_rows):
        own = image[top + r, HALO : HALO + n]
        out = edge[r * n : (r + 1) * n]
        h0, h1, h2, h3, h4 = high[r], high[r + 1], high[r + 2], high[r + 3], high[r + 4]
        l0, l1, l2, l3, l4 = low[r], low[r + 1], low[r + 2], low[r + 3], low[r + 4]
        s = smooth[r + d, HALO : HALO + n]
        a = smooth[r, HALO - d : HALO - d + n]
        b = smooth[r, HALO + d : HALO + d + n]
        c = smooth[r + 2 * d, HALO - d : HALO - d + n]
        e = smooth[r + 2 * d, HALO + d : HALO + d + n]
        # Few arrays in a loop: the compiler has to see that they do not overlap.
        for x in range(n):
            out[x] = _higher(h0[x], _higher(h1[x], _higher(h2[x], _higher(h3[x], h4[x]))))
        for x in range(n):
            out[x] -= _lower(l0[x], _lower(l1[x], _lower(l2[x], _lower(l3[x], l4[x]))))
        falling, rising = scratch[0, :n], scratch[1, :n]
        for x in range(n):
            falling[x] = _pair(a[x], e[x])
        for x in range(n):
            rising[x] = _pair(b[x], c[x])
        for x in range(n):
            lower = falling[x] if falling[x] < rising[x] or rising[x] != rising[x] else rising[x]
            above = s[x] - lower
            above = above if above > zero else zero
            out[x] = fraction * own[x] * own[x] + peak * above * above + wing * out[x] * out[x]
