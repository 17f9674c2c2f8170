"""Clipped means come some rows behind the others: rows kept until those below them are there."""

from __future__ import annotations

import numpy as np

from musedask.compiling import kernel
from musedask.stacking.kernels.combining import clip_run
from musedask.stacking.kernels.layout import CLIPPED, HALO, STRIP_ROWS
from musedask.stacking.kernels.structure import PAIR_REACH, RANGE_REACH, find_structure


@kernel
def stages_of(steps, n_planes):
    """Rows by which clipped means come later (0 if there are none), and each plane's stage."""
    lag = 0
    stages = np.zeros(n_planes, np.int64)
    for s in range(steps.shape[0]):
        late = steps[s, 0] == CLIPPED
        lag = HALO if late else lag
        for i in range(1, 5):
            stages[steps[s, i]] = 2 if late else 1
    return lag, stages


@kernel
def rows_behind(lag, n_channels, n_exposures, n_selections, tx):
    """What a clipped mean needs of rows that have gone by, for each channel of the slab.

    Returns
    -------
    rows : float32 (2, channel, exposure, pixel)
        Flux and variance of the last ``lag`` rows.
    images : float32 (channel, selection, row, column)
        Centres of the clipping, from ``2 lag`` rows above the strip to ``lag``
        below it, NaN where missing and in margins of ``lag``.
    centres : float32 (channel, selection, 2, pixel)
        The same centres and the numbers of values, where the values lie.
    rooms, edge
        Room for :func:`find_structure`.
    """
    n_kept = n_channels if lag else 0
    rows = lag + STRIP_ROWS if lag else 0
    width = tx + 2 * lag
    nan = np.float32(np.nan)
    return (
        np.full((2, n_kept, n_exposures, lag * tx), nan, np.float32),
        np.full((n_kept, n_selections, rows + 2 * lag, width), nan, np.float32),
        np.full((n_channels, n_selections, 2, rows * tx), nan, np.float32),
        (
            np.empty((rows + 2 * PAIR_REACH, width), np.float32),
            np.empty((2, width), np.float32),
            np.empty((rows + 2 * RANGE_REACH, tx), np.float32),
            np.empty((rows + 2 * RANGE_REACH, tx), np.float32),
        ),
        np.empty(rows * tx, np.float32),
    )


@kernel
def clip_behind(
    values, variances, weights, times, selections, sizes, networks, network_ends,
    steps, step_ends, rules, s_lo, s_hi, padded, run, work, to, to_step, c, behind,
):  # fmt: skip
    """Clipped means of the rows of channel ``c`` whose surroundings are complete now.

    ``to`` is the address of HALO rows above the strip. Returns the first and last plus one of
    these rows, and how many rows they begin after ``to``.
    """  # fmt: skip
    _, images, all_centres, rooms, edge = behind
    ty, tx = padded[0], padded[1]
    lag = HALO
    rows = s_hi - s_lo
    ready_lo = max(s_lo - lag, 0)
    ready_hi = ty if s_hi == ty else s_hi - lag
    at = ready_lo - (s_lo - lag)
    n_rows = ready_hi - ready_lo
    for k in range(sizes.shape[0]):
        own_steps = steps[step_ends[k] : step_ends[k + 1]]
        if not _clips(own_steps):
            continue
        image = images[c, k]
        centres = all_centres[c, k]
        for y in range(rows):
            image[2 * lag + y, lag : lag + tx] = centres[0, (lag + y) * tx : (lag + y + 1) * tx]
        image[2 * lag + rows :] = np.float32(np.nan)
        find_structure(image, lag + at, n_rows, rules, rooms, edge)
        members = selections[k, : sizes[k]]
        network = networks[network_ends[k] : network_ends[k + 1]]
        end = (at + n_rows) * tx
        for p in range(at * tx, end, run):
            clip_run(
                values, variances, weights, times, members, network, own_steps, rules,
                p, min(run, end - p), work, to + 4 * p, to_step, centres, edge, at * tx,
            )  # fmt: skip
        for i in range(2):
            centres[i, : lag * tx] = centres[i, rows * tx : (rows + lag) * tx]
        for y in range(2 * lag):
            image[y] = image[rows + y]
    return ready_lo, ready_hi, at


@kernel
def _clips(steps):
    return (steps[:, 0] == CLIPPED).any()
