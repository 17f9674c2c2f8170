"""A run of pixels between the frame's: bilinear and Lanczos at constant phases."""

from __future__ import annotations

import numpy as np

from musedask.compiling import fast_kernel
from musedask.stacking.kernels.layout import LANCZOS_PHASES, LANCZOS_TAPS
from musedask.stacking.kernels.memory import fill, floats_at, place_of

HALF = np.float32(0.5 - 1e-5)
"""A voxel is kept where this much of its weight was valid; a hair below one half,
so that a pixel exactly half covered does not depend on rounding."""


@fast_kernel
def if_valid(weight, variance):
    """The weight of a pixel, 0 if it is missing."""
    zero = np.float32(0.0)
    return weight if variance > zero else zero


@fast_kernel
def _blend(f0, f1, v0, v1, i, x, y, scale):
    """Bilinear flux and variance between pixels i and i + 1 of two rows, NaN where missing."""
    one = np.float32(1.0)
    nan = np.float32(np.nan)
    a = (one - x) * (one - y)
    b = x * (one - y)
    c = (one - x) * y
    d = x * y
    weight = if_valid(a, v0[i]) + if_valid(b, v0[i + 1])
    weight += if_valid(c, v1[i]) + if_valid(d, v1[i + 1])
    flux = a * f0[i] + b * f0[i + 1] + c * f1[i] + d * f1[i + 1]
    variance = a * a * v0[i] + b * b * v0[i + 1] + c * c * v1[i] + d * d * v1[i + 1]
    factor = scale / weight
    good = weight >= HALF
    return flux * factor if good else nan, variance * factor * factor if good else nan


@fast_kernel
def steady_run(f, v, step, n, x, y, scale, to_f, to_v):
    """Bilinear along a run of ``n`` pixels whose fractions are the same everywhere.

    ``f``, ``v``, ``to_f`` and ``to_v`` are addresses; of the inputs a
    pixel more than ``n`` is read, and the next row lies ``step`` bytes on. A
    pixel's two rows are blended once, for itself and for the pixel before it.
    """
    f0, v0 = floats_at(f, n + 1), floats_at(v, n + 1)
    f1, v1 = floats_at(f + step, n + 1), floats_at(v + step, n + 1)
    out_f, out_v = floats_at(to_f, n), floats_at(to_v, n)
    one = np.float32(1.0)
    nan = np.float32(np.nan)
    a, b = one - y, y
    c, d = one - x, x
    a2, b2, c2, d2 = a * a, b * b, c * c, d * d
    flux = a * f0[0] + b * f1[0]
    variance = a2 * v0[0] + b2 * v1[0]
    weight = if_valid(a, v0[0]) + if_valid(b, v1[0])
    for i in range(n):
        next_flux = a * f0[i + 1] + b * f1[i + 1]
        next_variance = a2 * v0[i + 1] + b2 * v1[i + 1]
        next_weight = if_valid(a, v0[i + 1]) + if_valid(b, v1[i + 1])
        whole = c * weight + d * next_weight
        factor = scale / whole
        good = whole >= HALF
        out_f[i] = (c * flux + d * next_flux) * factor if good else nan
        out_v[i] = (c2 * variance + d2 * next_variance) * factor * factor if good else nan
        flux, variance, weight = next_flux, next_variance, next_weight


@fast_kernel
def bilinear_run(f, v, step, n, fx, dfx, fy, dfy, skipped, scale, to_f, to_v):
    """The same where the fractions change linearly along the run.

    ``fx`` and ``fy`` are those ``skipped`` pixels before the first.
    """
    f0, v0 = floats_at(f, n + 1), floats_at(v, n + 1)
    f1, v1 = floats_at(f + step, n + 1), floats_at(v + step, n + 1)
    out_f, out_v = floats_at(to_f, n), floats_at(to_v, n)
    before = np.int32(skipped)
    for i in range(n):
        t = np.float32(np.int32(i) + before)  # from 32 bits it is a float in one instruction
        x = fx + dfx * t
        y = fy + dfy * t
        out_f[i], out_v[i] = _blend(f0, f1, v0, v1, i, x, y, scale)


@fast_kernel
def lanczos_run(f, v, step, n, wx, wy, scale, to_f, to_v, acc):
    """The same over six rows and columns whose weights are the same everywhere."""
    sum_f, sum_v, sum_m = place_of(acc, 0, 0), place_of(acc, 1, 0), place_of(acc, 2, 0)
    fill(sum_f, n, np.float32(0.0))
    fill(sum_v, n, np.float32(0.0))
    fill(sum_m, n, np.float32(0.0))
    for j in range(LANCZOS_TAPS):
        for i in range(LANCZOS_TAPS):
            at = j * step + 4 * i
            _add_tap(f + at, v + at, n, wx[i] * wy[j], sum_f, sum_v, sum_m)
    settle(
        floats_at(sum_f, n), floats_at(sum_v, n), floats_at(sum_m, n), scale,
        floats_at(to_f, n), floats_at(to_v, n),
    )  # fmt: skip


@fast_kernel
def _add_tap(f, v, n, w, sum_f, sum_v, sum_m):
    """Add a tap's values times its weight to the sums of a run; all lie at addresses."""
    flux, variance = floats_at(f, n), floats_at(v, n)
    af, av, am = floats_at(sum_f, n), floats_at(sum_v, n), floats_at(sum_m, n)
    w2 = w * w
    for p in range(n):
        af[p] += w * flux[p]
        av[p] += w2 * variance[p]
        am[p] += if_valid(w, variance[p])


@fast_kernel
def lanczos_weights(lanczos, phase, out):
    """Lanczos weights at a phase in [0, 1], linear between the table's rows."""
    at = np.float32(phase) * np.float32(LANCZOS_PHASES)
    k = min(np.int64(at), LANCZOS_PHASES - 1)
    t = at - np.float32(k)
    for i in range(LANCZOS_TAPS):
        out[i] = lanczos[k, i] + t * (lanczos[k + 1, i] - lanczos[k, i])


@fast_kernel
def settle(flux, variance, weight, scale, out_f, out_v):
    """Renormalise over the weight that was valid; NaN below one half."""
    nan = np.float32(np.nan)
    for x in range(out_f.shape[0]):
        factor = scale / weight[x]
        out_f[x] = flux[x] * factor if weight[x] >= HALF else nan
        out_v[x] = variance[x] * factor * factor if weight[x] >= HALF else nan
