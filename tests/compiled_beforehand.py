"""Compile the kernels of a stack once, for all tests that begin at the same time after it.

Each of them would do it, and so would what they start with a time limit.
"""

from __future__ import annotations

import conftest  # noqa: F401 - it says where compiled code is kept
from exposure_cubes import grid_of, memory_cube, noise, tan_cards

from musedask import stack
from musedask.console import compilation_said

SHAPE = 1, 8, 8

if __name__ == "__main__":
    cube = memory_cube(*noise(SHAPE, 1), cards=tan_cards())
    with compilation_said():
        stack([cube], None, grid_of(tan_cards(), SHAPE), methods=("median",))["median"].compute()
