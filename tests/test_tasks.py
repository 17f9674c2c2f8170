"""Independent pieces of work: in order, told of, wherever Dask runs."""

from __future__ import annotations

import dask.array as da
import pytest

import musedask as md
from musedask.tasks import active_client, map_tasks


def square(number: int) -> int:
    return number * number


def fails_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_results_are_in_the_order_of_the_items_and_progress_is_told():
    told = []
    assert map_tasks(square, range(7), lambda *one: told.append(one)) == [
        0, 1, 4, 9, 16, 25, 36,
    ]  # fmt: skip
    assert [done for done, _, _ in told] == list(range(8))
    assert {total for _, total, _ in told} == {7}


def test_no_items_are_no_work():
    assert map_tasks(square, []) == []


def test_items_that_dask_would_take_apart_come_whole():
    lazy = da.arange(4, chunks=2)
    ((kind,),) = map_tasks(lambda item: (type(item["a"]).__name__,), [{"a": lazy}])
    assert kind == "Array"


def test_a_failure_is_raised():
    with pytest.raises(ValueError, match="three"):
        map_tasks(fails_at_three, range(5))


def test_the_client_that_is_in_charge_does_the_work():
    assert active_client() is None
    with md.open_cluster("local"):
        assert active_client() is not None
        assert map_tasks(square, range(4)) == [0, 1, 4, 9]
        with pytest.raises(ValueError, match="three"):
            map_tasks(fails_at_three, range(5))
    assert active_client() is None
