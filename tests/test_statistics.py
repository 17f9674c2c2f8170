"""The numbers behind the statistics: sorting networks, c_n, layout of planes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import stacking_reference as ref
from hypothesis import given
from hypothesis import strategies as st

from musedask.errors import InputError
from musedask.stacking.kernels.networks import median_network, middle_ranks
from musedask.stacking.levels import channel_background, channel_floor, typical_variance
from musedask.stacking.statistics import (
    combination,
    median_variance_factors,
    slots_of,
    split_method,
)


def run_network(values: list[float]) -> list[float]:
    out = list(values)
    for i, j in median_network(len(values)):
        if out[i] > out[j]:
            out[i], out[j] = out[j], out[i]
    return out


class TestNetwork:
    @pytest.mark.parametrize("n", range(1, 15))
    def test_middle_ranks_are_in_place_for_all_inputs_of_zeros_and_ones(self, n: int) -> None:
        # Knuth's principle: a network that sorts all of these sorts everything.
        middle = middle_ranks(n)
        for values in itertools.product((0.0, 1.0), repeat=n):
            found, wanted = run_network(list(values)), sorted(values)
            assert [found[i] for i in middle] == [wanted[i] for i in middle]

    @given(st.lists(st.floats(-1e6, 1e6), min_size=15, max_size=70))
    def test_middle_ranks_are_in_place_for_many_values(self, values: list[float]) -> None:
        n = len(values)
        found, wanted = run_network(values), sorted(values)
        assert found[n // 2] == wanted[n // 2]
        assert found[(n - 1) // 2 + (1 if n % 2 else 0)] == wanted[(n - 1) // 2 + (n % 2)]

    def test_it_is_smaller_than_a_whole_sort(self) -> None:
        assert len(median_network(12)) < 41  # Batcher's merge sort of 12 has 41
        assert median_network(1).shape == (0, 2)


class TestMedianFactors:
    @pytest.mark.parametrize("n", [*range(1, 17), 24, 33, 48, 64])
    def test_are_those_of_the_order_statistics(self, n: int) -> None:
        np.testing.assert_allclose(median_variance_factors(n)[n], ref.median_factor(n), rtol=1e-4)

    @pytest.mark.parametrize("n", [65, 66, 100, 301])
    def test_beyond_the_table_they_follow_the_same_law(self, n: int) -> None:
        np.testing.assert_allclose(median_variance_factors(n)[n], ref.median_factor(n), rtol=5e-4)

    def test_go_to_half_of_pi(self) -> None:
        assert abs(median_variance_factors(5000)[5000] - np.pi / 2) < 1e-3
        assert median_variance_factors(3).shape == (4,)


class TestLayout:
    def test_mean_and_median_of_the_same_exposures_share_their_counts(self) -> None:
        slots = {(s.method, s.variable): s.plane for s in slots_of(
            ("median", "mean", "clipped", "mean_odd", "median_odd"))}  # fmt: skip
        shared = "n_exposures", "exposure_time"
        for key in shared:
            assert slots["median", key] == slots["mean", key]
            assert slots["mean_odd", key] == slots["median_odd", key]
            others = {slots["mean", key], slots["clipped", key], slots["mean_odd", key]}
            assert len(others) == 3
        assert sorted(set(slots.values())) == list(range(max(slots.values()) + 1))
        own = [p for (_, key), p in slots.items() if key not in shared]
        assert len(own) == len(set(own))

    @pytest.mark.parametrize("name", ["median_odds", "odd", "", "_odd", "Mean", "mean_odd_even"])
    def test_an_unknown_statistic_is_an_error(self, name: str) -> None:
        with pytest.raises(InputError, match="no statistic"):
            split_method(name)

    def test_halves_go_by_rank_among_all_exposures(self) -> None:
        made = combination(slots_of(("mean", "mean_odd", "mean_even")), [0, 2, 3, 7, 8])
        chosen = [s[:n].tolist() for s, n in zip(made.selections, made.sizes, strict=True)]
        assert chosen == [[0, 1, 2, 3, 4], [0, 1, 4], [2, 3]]
        assert made.untouched == ()

    def test_a_tile_without_a_half_says_what_fills_its_planes(self) -> None:
        slots = slots_of(("median", "mean_even", "median_even"))
        made = combination(slots, [0, 4])
        filled = dict(made.untouched)
        for slot in slots:
            if slot.method != "median":
                zero = slot.variable in ("n_exposures", "exposure_time")
                assert filled[slot.plane] == 0 if zero else np.isnan(filled[slot.plane])


class TestLevels:
    def test_background_floor_and_noise_ignore_what_is_missing_or_masked(self) -> None:
        flux = np.array([[[1, 2, 9], [4, np.nan, 7]], [[np.nan] * 3] * 2], np.float32)
        masked = np.array([[False, False, True], [False, False, False]])
        np.testing.assert_array_equal(channel_background(flux, masked), [3, 0])
        np.testing.assert_array_equal(channel_background(flux, None), [4, 0])
        np.testing.assert_array_equal(channel_floor(flux, masked, 50.0), [3, -np.inf])
        assert typical_variance(flux, masked) == 3
        assert np.isnan(typical_variance(flux[1:], None))
