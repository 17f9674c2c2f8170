"""Planes into the parts in which they are stored."""

from __future__ import annotations

from musedask.compiling import kernel
from musedask.stacking.kernels.memory import copy_bytes, place_of


@kernel
def store_rows(outs, at, lo, hi, padded, size, stages, stage, targets, inner, channel):
    """Rows [lo, hi) of the tile to their places in the parts of a stage's planes.

    They lie in ``outs`` from row ``at`` on; ``size`` is that of the planes, y and x.
    """
    _, tx, first_y, first_x = padded
    height, width = size
    wide = inner[2]
    part = 4 * inner[0] * inner[1] * wide
    for y in range(max(lo, first_y), min(hi, first_y + height)):
        row = 4 * _row_in_parts(inner, size, channel, y - first_y)
        for i in range(targets.shape[0]):
            if stages[i] == stage:
                source, to = place_of(outs, i, (at + y - lo) * tx + first_x), targets[i] + row
                for x in range(0, width, wide):
                    copy_bytes(to, source + 4 * x, 4 * min(wide, width - x))
                    to += part


@kernel
def _row_in_parts(inner, size, channel, y):
    """Number of a row's first voxel in a plane that is cut into parts of ``inner`` voxels."""
    deep, high, wide = inner
    n_y, n_x = -(-size[0] // high), -(-size[1] // wide)
    part = ((channel // deep) * n_y + y // high) * n_x
    return ((part * deep + channel % deep) * high + y % high) * wide
