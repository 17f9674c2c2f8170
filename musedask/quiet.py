"""Silence for warnings that are known and answered for, one class at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(*categories: type[Warning]) -> Iterator[None]:
    """Ignore these categories of warnings inside the block."""
    with warnings.catch_warnings():
        for category in categories:
            warnings.simplefilter("ignore", category)
        yield
