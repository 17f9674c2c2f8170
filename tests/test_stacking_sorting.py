"""Middle ranks of values side by side, whatever their number and however many are missing."""

from __future__ import annotations

import numpy as np
import pytest

from musedask.stacking.kernels.layout import FEW
from musedask.stacking.kernels.networks import median_network
from musedask.stacking.kernels.sorting import middle_of, sort_around, sort_run

ROOM = 48
"""Pixels of a row of the work space."""
START = 5
"""Where the run begins: not on a boundary of any register."""


def sample(n: int, length: int) -> np.ndarray:
    """Values of more exposures than are chosen, with ties, zeros of both signs and gaps."""
    rng = np.random.default_rng(100 * n + length)
    values = rng.integers(-4, 5, (n + 2, START + length + 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] *= -0.0
    values[rng.random(values.shape) < rng.uniform(0, 1, values.shape[1])] = np.nan
    return values


def medians(values: np.ndarray) -> np.ndarray:
    return np.array([np.median(v[~np.isnan(v)]) if np.isfinite(v).any() else np.nan
                     for v in values.T])  # fmt: skip


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 43])
@pytest.mark.parametrize("n", range(1, FEW + 3))
def test_the_median_of_a_run_is_that_of_each_pixels_values(n: int, length: int) -> None:
    values = sample(n, length)
    chosen = np.random.default_rng(n).permutation(n + 2)[:n].astype(np.int64)
    inside = values[chosen, START : START + length]
    work = np.full((n + 1, ROOM), np.nan, np.float32)
    number = np.full(ROOM, -1, np.float32)
    out = np.full(ROOM, -7, np.float32)
    sort_run(values, chosen, median_network(n), START, length, work, number)
    middle_of(work, n, length, number, out)
    np.testing.assert_array_equal(number[:length], (~np.isnan(inside)).sum(axis=0))
    np.testing.assert_array_equal(out[:length], medians(inside))
    assert (number[length:] == -1).all()
    assert (out[length:] == -7).all()

    centre = out[:length].copy()
    sort_around(values, chosen, median_network(n), START, length, centre, work)
    middle_of(work, n, length, number, out)
    np.testing.assert_array_equal(out[:length], medians(abs(inside - centre)))
