"""The compiled heart: resample a few channels of many exposures and combine them.

One call of :func:`stack_slab` takes the bytes of all exposures that touch a
tile, for a few channels, and fills the output planes. It goes strip by strip
of output rows, so that what it works on stays in the processor's cache; inside
a strip it swaps bytes, masks, resamples and combines without ever making an
array of (exposure, y, x).

Bounds are checked by the callers in :mod:`musedask.stacking.block` and
:mod:`musedask.stacking.geometry`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from musedask.compiling import kept_kernel, kernel, sources_in
from musedask.stacking.kernels import column
from musedask.stacking.kernels.clipping import clip_behind, rows_behind, stages_of
from musedask.stacking.kernels.combining import combine_strip
from musedask.stacking.kernels.filling import fill_all
from musedask.stacking.kernels.gathering import gather_all
from musedask.stacking.kernels.layout import STRIP_ROWS
from musedask.stacking.kernels.memory import address_of, copy_rows
from musedask.stacking.kernels.shifting import MARGIN
from musedask.stacking.kernels.storing import store_rows

VERSION = sources_in(Path(__file__).parent)


@kernel
def _rooms(table, tx, run):
    """Room for the rows and the run of pixels that are worked on.

    Returns
    -------
    scratch : float32 (2 x (y, x), and (5, x)), uint32 (3, word)
        Flux and variance of an exposure's rows, sums along one row and weights, and
        the rows as they are read.
    work : float32 and float64
        A run's values, numbers, centres, limits and sums.
    """
    rows = STRIP_ROWS + 2 * MARGIN
    width = tx + 2 * MARGIN
    scratch = (
        np.empty((rows, width), np.float32),
        np.empty((rows, width), np.float32),
        np.empty((5, width), np.float32),
        np.empty((3, rows * table[:, column.NX].max()), np.uint32),
    )
    work = (
        np.empty((table.shape[0] + 1, run), np.float32),
        np.empty(run, np.float32),
        np.empty(run, np.float32),
        np.empty((3, run), np.float32),
        np.empty((5, run), np.float64),
    )
    return scratch, work


@kept_kernel
def stack_slab(
    sources, table, present, background, floor, scale, weights, times, masks,
    drift, maps, pointers, indices, table_weights, lanczos,
    selections, sizes, networks, network_ends, c_n, steps, step_ends, rules,
    padded, targets, inner, first, white, white_n, gathered, run, version=VERSION,
):  # fmt: skip
    """Stack a few channels of one tile.

    Parameters
    ----------
    sources : int64 (exposure, 3, 2)
        Where the first of these channels' flux, variance and quality lie: an
        open file and the offset in it, or -1 and an address. 4-byte words, C
        order (channel, y, x). Of a file the rows of a strip are read when they
        are needed: they stay in the cache of the processor.
    table : int64 (exposure, N_COLUMNS)
        Kind of geometry, frame shape, flags, and the part of the tile touched.
    present : bool (exposure, channel)
        Whether the exposure has that channel.
    background, floor : float32 (exposure, channel)
        Subtracted from the flux; flux not above ``floor`` is missing.
    scale : float32 (exposure,)
        Factor on the flux.
    weights, times : float64 (exposure,)
        Weight in the means; exposure time in seconds.
    masks : uint8 (any,)
        Spatial masks of the exposures one after the other, not 0 = missing.
    drift : float64 (exposure, y, 4)
        Frame x minus tile x at tile column 0 and its slope along the row; the same for y.
    maps, pointers, indices, table_weights
        Gathering geometry of the exposures one after the other.
    lanczos : float32 (LANCZOS_PHASES + 1, 6)
        Weights by phase.
    selections, sizes, networks, network_ends, steps, step_ends
        Exposures of each selection, its sorting network, its statistics.
    c_n : float32 (2, n + 1)
        Variance of the median of n values of equal errors relative to the mean's, and
        how it grows with the squared scatter of 1/sigma.
    rules : float64 (rule,)
        Parameters of the clippings.
    padded : int64 (4,)
        Rows and columns of the tile, and the row and column in it at which the
        planes begin: a clipping needs HALO pixels more on each side than it
        makes, where the grid goes on. The geometry above is that of the tile.
    targets : int64 (plane,)
        Addresses of the planes, float32, each cut into parts: filled from channel ``first`` on.
    inner : int64 (3,)
        Voxels of a part along wavelength, y, x. Each lies in one piece, those along x
        follow one another, then those along y; the last reach over the edge.
    white, white_n : float32, uint8 (exposure, y, x)
        Sum over channels and their number, added to; up to 255 channels.
    gathered : float32 (2, gathered exposure, channel, y, x)
        Room for the flux and variance on the tile of the exposures that are no shift of it.
    run : int
        Pixels that are combined at a time.
    version : int
        Not to be given: what is left out is a part of the types by which numba's cache
        finds a function, here those of this package.
    """
    n_exposures = table.shape[0]
    n_channels = present.shape[1]
    ty, tx, _, _ = padded
    size = white.shape[1], white.shape[2]
    # A clipped mean comes `lag` rows behind the others, when the rows below it are there.
    lag, stages = stages_of(steps, targets.shape[0])
    held = lag * tx
    values = np.empty((n_exposures, held + STRIP_ROWS * tx), np.float32)
    variances = np.empty((n_exposures, held + STRIP_ROWS * tx), np.float32)
    outs = np.empty((targets.shape[0], held + STRIP_ROWS * tx), np.float32)
    behind = rows_behind(lag, n_channels, n_exposures, sizes.shape[0], tx)
    scratch, work = _rooms(table, tx, run)
    gather_all(
        sources, table, present, background, floor, scale, masks, maps, pointers, indices,
        table_weights, lanczos, gathered,
    )  # fmt: skip
    to, to_step = address_of(outs) + 4 * held, outs.strides[0]
    for s_lo in range(0, ty, STRIP_ROWS):
        s_hi = min(s_lo + STRIP_ROWS, ty)
        n_pixels = (s_hi - s_lo) * tx
        for c in range(n_channels):
            if lag:
                copy_rows(behind[0][0, c], 0, values, 0, held)
                copy_rows(behind[0][1, c], 0, variances, 0, held)
            columns = fill_all(
                sources, table, present[:, c], c, masks, gathered, drift, lanczos,
                background[:, c], floor[:, c], scale, s_lo, s_hi, scratch, values, variances,
                held, padded, white, white_n,
            )  # fmt: skip
            for k in range(sizes.shape[0]):
                members = selections[k, : sizes[k]]
                network = networks[network_ends[k] : network_ends[k + 1]]
                combine_strip(
                    values, variances, weights, times, members, network, c_n,
                    steps[step_ends[k] : step_ends[k + 1]], rules, held, (s_hi - s_lo, tx),
                    columns if lag == 0 else (0, tx), run, work, to, to_step, behind[2][c, k],
                )  # fmt: skip
            store_rows(
                outs, lag, s_lo, s_hi, padded, size, stages, 1, targets, inner, first + c
            )  # fmt: skip
            if lag:
                a, b, at = clip_behind(
                    values, variances, weights, times, selections, sizes, networks, network_ends,
                    steps, step_ends, rules, s_lo, s_hi, padded, run, work, to - 4 * held,
                    to_step, c, behind,
                )  # fmt: skip
                store_rows(outs, at, a, b, padded, size, stages, 2, targets, inner, first + c)
                copy_rows(values, n_pixels, behind[0][0, c], 0, held)
                copy_rows(variances, n_pixels, behind[0][1, c], 0, held)
