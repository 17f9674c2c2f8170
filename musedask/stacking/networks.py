"""Sorting networks for medians."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np


@cache
def median_network(n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Compare-exchange pairs that bring the middle ranks of n values into place.

    Batcher's odd-even merge sort (Knuth, TAOCP 3, 5.3.4), without the pairs
    that only concern ranks which a median with missing values does not read:
    n/2 - 1 and n/2 of an even n, (n - 1)/2 and (n + 1)/2 of an odd one.

    Returns
    -------
    int64 (pair, 2)
        After a pair (i, j) the smaller value is at i.
    """
    pairs = []
    p = 1
    while p < n:
        step = p
        while step >= 1:
            pairs += [
                (i, i + step)
                for start in range(step % p, n - step, 2 * step)
                for i in range(start, min(start + step, n - step))
                if i // (2 * p) == (i + step) // (2 * p)
            ]
            step //= 2
        p *= 2
    middle = set(middle_ranks(n))
    kept = []
    for pair in reversed(pairs):
        if middle & set(pair):
            middle |= set(pair)
            kept.append(pair)
    return np.array(kept[::-1], np.int64).reshape(-1, 2)


def middle_ranks(n: int) -> tuple[int, int]:
    """The ranks that a median of up to n values reads, once the missing ones are on both sides."""
    return ((n - 1) // 2, n // 2) if n % 2 == 0 else (n // 2, min(n // 2 + 1, n - 1))
