"""Columns of the table of exposures that Python hands to the kernels."""

from __future__ import annotations

(KIND, NY, NX, SWAP, QUALITY, MASK, SHIFT_Y, SHIFT_X, ROW_LO, ROW_HI, COL_LO, COL_HI,
 MAP_AT, TABLE_AT, GATHERED, READ_LO, READ_HI) = range(17)  # fmt: skip
N_COLUMNS = 17
