"""What goes wrong in an exposure: cosmic rays, lost spaxels, slices of unequal depth.

Numerics: arrays in, arrays out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Records = np.ndarray[Any, np.dtype[np.void]]

HIT_DTYPE = np.dtype(
    [("channel", "<i4"), ("y", "<i4"), ("x", "<i4"), ("flux", "<f4"), ("hit", "<i4")]
)
"""A voxel that a cosmic ray has struck: where, how much flux it added, and which ray."""
_LONGEST = 6
_LEAK = 0.15
_SLICES_PER_STACK = 75
_TEXTURE = 0.08


def cosmic_rays(
    rng: np.random.Generator,
    n_channels: int,
    shape: tuple[int, int],
    per_megavoxel: float,
    sigma: Floats32,
) -> Records:
    """Draw tracks of cosmic rays.

    A ray is a straight track on a detector, whose columns are a cube's x and
    whose rows its wavelengths: one to six voxels in one row y, with a weak leak
    into the rows beside it, as resampling makes. Its strength is 20 to 2000
    sigma, weak ones more numerous.

    Parameters
    ----------
    rng
        Random numbers.
    n_channels, shape
        Size of the cube, (ny, nx).
    per_megavoxel
        Rays per million voxels.
    sigma
        Noise of each channel, float32 (wavelength,).

    Returns
    -------
    hits
        Records of :data:`HIT_DTYPE` in order of channel, each voxel once.
    """
    ny, nx = shape
    n = int(rng.poisson(per_megavoxel * 1e-6 * n_channels * ny * nx))
    strength = 20.0 * 100.0 ** (rng.random(n) ** 2)
    length = rng.integers(1, _LONGEST + 1, n)
    angle = rng.uniform(0, np.pi, n)
    start = [rng.integers(size, size=n) for size in (n_channels, ny, nx)]
    along = np.arange(_LONGEST)
    channel = start[0][:, None] + np.rint(along * np.sin(angle)[:, None]).astype(int)
    x = start[2][:, None] + np.rint(along * np.cos(angle)[:, None]).astype(int)
    used = along < length[:, None]
    parts = []
    for dy, share in ((0, 1.0), (-1, _LEAK), (1, _LEAK)):
        y = np.broadcast_to(start[1][:, None] + dy, x.shape)
        keep = used & (channel >= 0) & (channel < n_channels) & (x >= 0) & (x < nx)
        keep &= (y >= 0) & (y < ny)
        rows = np.zeros(int(keep.sum()), HIT_DTYPE)
        rows["channel"], rows["y"], rows["x"] = channel[keep], y[keep], x[keep]
        rows["hit"] = np.broadcast_to(np.arange(n)[:, None], x.shape)[keep]
        rows["flux"] = share * strength[rows["hit"]] * sigma[rows["channel"]]
        parts.append(rows)
    return _each_once(np.concatenate(parts), shape)


def _each_once(hits: Records, shape: tuple[int, int]) -> Records:
    """Sort by voxel; of several rays in one voxel keep the strongest."""
    place = (hits["channel"].astype(np.int64) * shape[0] + hits["y"]) * shape[1] + hits["x"]
    order = np.lexsort((-hits["flux"], place))
    _, first = np.unique(place[order], return_index=True)
    return np.asarray(hits[order][first])


def lost_spaxels(rng: np.random.Generator, inside: Bools, fraction: float) -> Any:
    """Choose spaxels of the field without data, int (n, 2) of (y, x), in order."""
    where = np.argwhere(inside)
    n = round(fraction * len(where))
    return where[np.sort(rng.permutation(len(where))[:n])]


def slice_texture(rng: np.random.Generator, u: Any, v: Any, field: tuple[int, int]) -> Floats32:
    """Relative variance of each spaxel, float32 (y, x): slices differ by 8 %, as in real STAT.

    Parameters
    ----------
    rng
        Random numbers.
    u, v
        Position along the field's x and y from its centre, spaxels, (y, x).
    field
        Height and width of the field.
    """
    height, width = field
    row = np.clip(np.floor(v + height / 2), 0, height - 1).astype(int)
    stack = np.clip(np.floor((u + width / 2) / _SLICES_PER_STACK), 0, None).astype(int)
    factors = 1.0 + _TEXTURE * rng.standard_normal((height, int(stack.max()) + 1))
    return np.asarray(np.clip(factors, 0.7, 1.3)[row, stack], np.float32)
