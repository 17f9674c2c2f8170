"""One thing is singular; none and many are plural."""

from __future__ import annotations

import pytest

from musedask.wording import counted


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 blocks"), (1, "1 block"), (2, "2 blocks"), (101, "101 blocks")]
)
def test_only_one_is_singular(number: int, said: str) -> None:
    assert counted(number, "block") == said


def test_a_plural_of_its_own_is_used_for_all_but_one() -> None:
    assert [counted(n, "entry", "entries") for n in (1, 2)] == ["1 entry", "2 entries"]
