"""One thing is singular; none and many are plural."""

from __future__ import annotations

import pytest

from musedask.wording import counted, data_size


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 blocks"), (1, "1 block"), (2, "2 blocks"), (101, "101 blocks")]
)
def test_only_one_is_singular(number: int, said: str) -> None:
    assert counted(number, "block") == said


def test_a_plural_of_its_own_is_used_for_all_but_one() -> None:
    assert [counted(n, "entry", "entries") for n in (1, 2)] == ["1 entry", "2 entries"]


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [(0, "0.0 MB"), (2_450_000, "2.5 MB"), (99_000_000, "99.0 MB"), (100_000_000, "0.10 GB"),
     (3.2e12, "3200.00 GB")],
)  # fmt: skip
def test_small_and_large_sizes_both_can_be_read(n_bytes: float, said: str) -> None:
    assert data_size(n_bytes) == said
