"""Wavelength axes: whole channels, honest residuals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musedask.errors import InputError
from musedask.spectral import SpectralAxis, common_axis, nominal_axis

LENGTHS = {"N": (4750.0, 3681), "N2": (4750.0, 3682), "AO": (4700.0, 3721), "AO2": (4700.0, 3722),
           "E": (4600.0, 3801)}  # fmt: skip


def muse_axis(name: str, velocity_km_s: float = 0.0) -> SpectralAxis:
    """What the pipeline makes of a night: the start moves with the barycentric velocity."""
    first, size = LENGTHS[name]
    return SpectralAxis(first * (1 + velocity_km_s / 299792.458), 1.25, size, frame="BARYCENT")


class TestAxis:
    def test_wavelengths_and_ends(self) -> None:
        axis = SpectralAxis(4750.0, 1.25, 5)
        np.testing.assert_array_equal(axis.wavelengths, [4750, 4751.25, 4752.5, 4753.75, 4755])
        assert axis.last_angstrom == 4755
        assert axis.cropped(2, 2).wavelengths.tolist() == [4752.5, 4753.75]
        assert axis.between(4751.0, 4753.75).wavelengths.tolist() == [4751.25, 4752.5, 4753.75]
        assert (axis.ctype, replace(axis, medium="vacuum").ctype) == ("AWAV", "WAVE")

    def test_nothing_between_two_channels_is_an_error_that_says_what_there_is(self) -> None:
        with pytest.raises(InputError, match=r"between 4750\.5 and 4751 .* 4750\.00 to 4755\.00"):
            SpectralAxis(4750.0, 1.25, 5).between(4750.5, 4751.0)

    @given(start=st.integers(-50, 50), off=st.floats(-0.6, 0.6))
    def test_locating_gives_the_nearest_channel_and_what_is_left(
        self, start: int, off: float
    ) -> None:
        axis = SpectralAxis(4750.0)
        other = SpectralAxis(4750.0 + 1.25 * start + off)
        channel, residual = axis.locate(other)
        assert channel == start
        assert abs(residual - off) < 1e-9

    @given(start=st.integers(-50, 50))
    def test_half_a_channel_goes_the_same_way_wherever_it_is(self, start: int) -> None:
        axis = SpectralAxis(4749.9)
        other = SpectralAxis(4749.9 + 0.625 + 1.25 * start)
        assert axis.locate(other)[0] == start
        assert other.locate(axis)[0] == -start - 1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"step_angstrom": 1.0}, "night1: step of 1 Angstrom, the others have 1.25"),
            ({"medium": "vacuum"}, r"night1: wavelengths in vacuum \(CTYPE3 WAVE\)"),
            ({"frame": "HELIOCEN"}, "night1: SPECSYS HELIOCEN, the others unknown"),
        ],
    )
    def test_other_kinds_are_refused_by_name(self, change: dict[str, object], message: str) -> None:
        axis = SpectralAxis(4750.0)
        other = replace(axis, **change)
        for refuse in (
            lambda: axis.locate(other, "night1"),
            lambda: common_axis([axis, other], ["night0", "night1"]),
        ):
            with pytest.raises(InputError, match=message):
                refuse()

    def test_a_step_with_the_rounding_of_a_header_is_the_same(self) -> None:
        axis = SpectralAxis(4750.0)
        assert axis.locate(replace(axis, step_angstrom=1.25 * (1 + 5e-6)))[0] == 0
        with pytest.raises(InputError, match="step"):
            axis.locate(replace(axis, step_angstrom=1.25 * (1 + 2e-5)))


class TestNominal:
    def test_is_the_established_grid_in_the_frame_of_the_cubes(self) -> None:
        axis = nominal_axis(muse_axis("AO", -20.0))
        assert (axis.first_angstrom, axis.step_angstrom, axis.size) == (4749.9, 1.25, 3681)
        assert axis.frame == "BARYCENT"
        assert abs(axis.last_angstrom - (4749.9 + 1.25 * 3680)) < 1e-9

    @pytest.mark.parametrize(("name", "channel"), [("N", 0), ("N2", 0), ("AO", -40), ("E", -120)])
    def test_every_length_falls_on_it(self, name: str, channel: int) -> None:
        axis = muse_axis(name)
        found, residual = nominal_axis(axis).locate(axis)
        assert found == channel
        assert abs(residual - 0.1) < 1e-9

    def test_another_step_is_refused(self) -> None:
        with pytest.raises(InputError, match="step"):
            nominal_axis(SpectralAxis(4750.0, 1.0))


class TestCommon:
    def test_all_lengths_together_share_the_channels_of_the_shortest(self) -> None:
        axes = [muse_axis(name) for name in LENGTHS]
        common = common_axis(axes)
        assert common.first_angstrom == 4750.0
        assert common.size == 3681

    def test_one_axis_is_its_own_common_axis(self) -> None:
        axis = muse_axis("AO2", 12.0)
        common = common_axis([axis])
        assert abs(common.first_angstrom - axis.first_angstrom) < 1e-9
        assert common.size == axis.size

    @given(
        st.lists(
            st.tuples(st.sampled_from(sorted(LENGTHS)), st.floats(-30.0, 30.0)),
            min_size=1,
            max_size=12,
        )
    )
    def test_every_exposure_has_every_common_channel(self, nights: list[tuple[str, float]]) -> None:
        axes = [muse_axis(name, velocity) for name, velocity in nights]
        common = common_axis(axes)
        found = [common.locate(axis) for axis in axes]
        for axis, (channel, residual) in zip(axes, found, strict=True):
            assert channel <= 0
            assert channel + axis.size >= common.size
            assert abs(residual) <= 0.625 + 1e-5
        # It is the longest such axis.
        assert max(channel for channel, _ in found) == 0
        ends = [c + a.size for a, (c, _) in zip(axes, found, strict=True)]
        assert min(ends) == common.size
        assert common.size >= 3681 - 3

    @given(st.permutations([4749.54, 4749.7, 4750.0, 4750.1, 4750.47, 4750.2]))
    def test_the_order_of_exposures_does_not_matter(self, starts: list[float]) -> None:
        found = common_axis([SpectralAxis(first) for first in starts])
        assert found == common_axis([SpectralAxis(first) for first in sorted(starts)])

    def test_phases_that_straddle_half_a_channel_have_small_residuals(self) -> None:
        # A median of starts modulo the step would lie between the two groups, far from both.
        starts = [4750.0 + 0.6, 4750.0 + 0.62, 4750.0 + 0.64, 4750.0 + 0.66]
        common = common_axis([SpectralAxis(first) for first in starts])
        residuals = [common.locate(SpectralAxis(first))[1] for first in starts]
        assert max(np.abs(residuals)) < 0.04
        assert abs(np.median(residuals)) < 1e-9

    def test_axes_apart_are_refused_by_name(self) -> None:
        blue, red = SpectralAxis(4750.0, size=10), SpectralAxis(4800.0, size=10)
        with pytest.raises(InputError, match="red and blue share no wavelength"):
            common_axis([blue, red], ["blue", "red"])
        with pytest.raises(InputError, match="no cubes"):
            common_axis([])
