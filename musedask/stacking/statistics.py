"""Which statistics a stack makes, their parameters, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from musedask.blocks import Slot
from musedask.errors import InputError
from musedask.stacking.kernels import layout as k
from musedask.stacking.kernels.networks import median_network

METHODS = ("median", "mean", "clipped", "clipped_mpdaf")
HALVES = ("", "_odd", "_even")
_KINDS = {
    "median": k.MEDIAN, "mean": k.MEAN, "clipped": k.CLIPPED, "clipped_mpdaf": k.CLIPPED_MPDAF,
}  # fmt: skip

# Variance of the median of n standard normal values, times n: integrals over the
# joint density of the middle order statistics (David & Nagaraja, Order Statistics, ch. 3).
_C_N = (
    1.0, 1.0, 1.346, 1.1928, 1.4342, 1.2885, 1.4731, 1.3454, 1.4949, 1.3833, 1.5088, 1.4102,
    1.5184, 1.4304, 1.5254, 1.446, 1.5308, 1.4585, 1.535, 1.4687, 1.5385, 1.4773, 1.5413, 1.4845,
    1.5437, 1.4906, 1.5457, 1.496, 1.5474, 1.5007, 1.5489, 1.5048, 1.5503, 1.5085, 1.5514, 1.5117,
    1.5525, 1.5147, 1.5534, 1.5174, 1.5543, 1.5198, 1.5551, 1.522, 1.5558, 1.5241, 1.5564, 1.5259,
    1.557, 1.5276, 1.5575, 1.5292, 1.558, 1.5307, 1.5585, 1.5321, 1.5589, 1.5334, 1.5593, 1.5346,
    1.5597, 1.5357, 1.5601, 1.5368,
)  # fmt: skip


@dataclass(frozen=True)
class Clipping:
    """Rejection around the median: ``|f - median| > width`` is left out of the mean.

    ``width^2 = nsigma^2 max(var, mad^2) + (fraction median)^2 + (peak p)^2 + (wing r)^2``

    ``var`` is the value's own variance from STAT; ``mad`` is 1.4826 times the
    median absolute deviation where at least ``fewest_for_mad`` values are
    valid, else 0. ``p`` and ``r`` tell stars from hits: a hit is in one
    exposure only, a star also in the image of the medians around it. With each
    pixel of that image the mean of 3 x 3, ``p`` is how far the pixel stands
    above its surroundings (the lower of the means of the two pairs of opposite
    corners 3 pixels off) and ``r`` is the range within 2 pixels. A smooth
    level has neither, so hits on it go as on blank sky.

    Of two values the lower one stands for the median, since hits only add, and
    the sum of both variances for ``var``: the higher one goes or none.

    Measured (tests/test_campaign_clipping.py): of good values with errors
    spread by 2 less than 1 in 10 000 goes, at n = 2 to 48. Of hits on blank
    sky of 10 sigma 84 % go at n = 2, at least 93 % from n = 3 on, of 15 sigma 99 %.
    Stars of peak S/N 3 to 1000 in exposures of seeing 0.5 to 1.2 arcsec lose
    at most 0.3 % against the mean, also where one exposure differs most from
    all others; without ``p`` and ``r`` they lose up to 30 %. The price: within about
    3 pixels of a star hits fainter than 8 times its peak may stay, within about 6
    pixels those fainter than the peak. Reaches are in pixels of the grid, meant
    for at least 2 pixels a FWHM and not much more than 6.
    """

    nsigma: float = 5.0
    """Width in units of the noise."""
    fraction: float = 0.3
    """Share of the median by which exposures may differ: clouds, flux calibration."""
    peak: float = 8.0
    """Share of ``p``: an exposure of the best seeing among bad ones is 5 times higher in
    the core of a star."""
    wing: float = 3.0
    """Share of ``r``: an exposure of bad seeing has flux where the others have none yet."""
    fewest_for_mad: int = 8
    """With fewer values a MAD rejects good ones: STAT alone decides."""


@dataclass(frozen=True)
class MpdafClipping:
    """The rejection of ``mpdaf.obj.CubeList.combine``, with its parameters and defaults."""

    nmax: int = 2
    """Iterations at most."""
    nclip: tuple[float, float] = (5.0, 5.0)
    """Width below and above the median in units of sigma."""
    nstop: int = 2
    """An iteration that would leave fewer values is undone."""
    mad: bool = True
    """Sigma from the MAD, or from the standard deviation."""
    var: str = "propagate"
    """``propagate``: sum(var) / n^2; ``stat_one``: the square of that sigma of the n values
    that are left; ``stat_mean``: the same over n - 1. The latter two are missing at n = 1."""


def rules_array(clipping: Clipping, mpdaf: MpdafClipping) -> np.ndarray[Any, Any]:
    """Both clippings' parameters as the kernel takes them.

    Raises
    ------
    InputError
        If a parameter is out of its range.
    """
    shares = (clipping.fraction, clipping.peak, clipping.wing)
    if not (clipping.nsigma > 0 and min(shares) >= 0 and clipping.fewest_for_mad >= 3):
        raise InputError(
            f"{clipping}: nsigma > 0, fraction, peak and wing >= 0, fewest_for_mad >= 3 are needed"
        )
    if mpdaf.nmax < 0 or min(mpdaf.nclip) <= 0 or mpdaf.nstop < 1:
        raise InputError(f"{mpdaf}: nmax >= 0, nclip > 0, nstop >= 1 are needed")
    variances = ("propagate", "stat_mean", "stat_one")
    if mpdaf.var not in variances:
        raise InputError(f"{mpdaf}: var has to be one of {', '.join(variances)}")
    return np.array(
        [
            clipping.nsigma, clipping.fraction, clipping.fewest_for_mad, clipping.peak,
            clipping.wing,
            mpdaf.nmax, *mpdaf.nclip, mpdaf.nstop, float(mpdaf.mad), variances.index(mpdaf.var),
        ],
        dtype=np.float64,
    )  # fmt: skip


def split_method(name: str) -> tuple[str, str]:
    """``median_odd`` -> (``median``, ``_odd``).

    Raises
    ------
    InputError
        If there is no such statistic.
    """
    for half in ("_odd", "_even", ""):
        if name.endswith(half) and name.removesuffix(half) in METHODS:
            return name.removesuffix(half), half
    raise InputError(
        f"no statistic {name!r}: there are {', '.join(METHODS)}, each also with _odd and _even"
    )


def slots_of(methods: Sequence[str], exptimes: Iterable[float] = ()) -> tuple[Slot, ...]:
    """Lay out the planes of the outputs.

    Mean and median of the same exposures share their planes of number and time,
    and exposures that all have one exposure time need none for it.
    """
    if not methods:
        raise InputError(f"no methods: ask for one or more of {', '.join(METHODS)}")
    if len(set(methods)) != len(methods):
        raise InputError(f"methods {list(methods)}: one is asked for twice")
    common = set(exptimes)
    factor = common.pop() if len(common) == 1 else None
    slots: list[Slot] = []
    shared: dict[str, int] = {}
    n_planes = 0
    for name in methods:
        statistic, half = split_method(name)
        slots += [Slot(name, "flux", n_planes), Slot(name, "variance", n_planes + 1)]
        n_planes += 2
        pools = statistic in ("mean", "median")
        counted = shared.get(half) if pools else None
        if counted is None:
            counted = n_planes
            n_planes += 2 if factor is None else 1
            if pools:
                shared[half] = counted
        slots.append(Slot(name, "n_exposures", counted))
        slots.append(
            Slot(name, "exposure_time", counted + 1)
            if factor is None
            else Slot(name, "exposure_time", counted, factor)
        )
    return tuple(slots)


@dataclass(frozen=True)
class Combination:
    """The statistics of one tile as arrays for the kernel."""

    selections: np.ndarray[Any, np.dtype[np.int64]]
    sizes: np.ndarray[Any, np.dtype[np.int64]]
    networks: np.ndarray[Any, np.dtype[np.int64]]
    network_ends: np.ndarray[Any, np.dtype[np.int64]]
    steps: np.ndarray[Any, np.dtype[np.int64]]
    step_ends: np.ndarray[Any, np.dtype[np.int64]]
    untouched: tuple[tuple[int, float], ...]
    """Planes of those halves of which the tile has no exposure at all, and what fills
    them: NaN for flux and variance, 0 for number and time."""


def combination(slots: Sequence[Slot], ranks: Sequence[int]) -> Combination:
    """Arrange the statistics of a tile by selection of exposures.

    Parameters
    ----------
    slots
        Layout of the planes, from :func:`slots_of`.
    ranks
        Rank by DATE-OBS, among all exposures of the stack, of those that touch
        the tile: the first, third... are odd.
    """
    planes: dict[str, dict[str, int]] = {}
    for slot in slots:
        planes.setdefault(slot.method, {})[slot.variable] = slot.plane
    chosen = {
        "": list(range(len(ranks))),
        "_odd": [i for i, rank in enumerate(ranks) if rank % 2 == 0],
        "_even": [i for i, rank in enumerate(ranks) if rank % 2 == 1],
    }
    by_half: dict[str, list[tuple[int, ...]]] = {}
    untouched: list[tuple[int, float]] = []
    for name, at in planes.items():
        statistic, half = split_method(name)
        if chosen[half]:
            variables = ("flux", "variance", "n_exposures", "exposure_time")
            by_half.setdefault(half, []).append((_KINDS[statistic], *(at[v] for v in variables)))
        else:
            untouched += [(at["flux"], np.nan), (at["variance"], np.nan)]
            untouched += [(at["n_exposures"], 0.0), (at["exposure_time"], 0.0)]
    halves = list(by_half)
    width = max((len(chosen[half]) for half in halves), default=1)
    selections = np.zeros((len(halves), width), np.int64)
    for n, half in enumerate(halves):
        selections[n, : len(chosen[half])] = chosen[half]
    sizes = np.array([len(chosen[half]) for half in halves], np.int64)
    nets = [median_network(int(size)) for size in sizes]
    steps = [np.array(by_half[half], np.int64) for half in halves]
    return Combination(
        selections,
        sizes,
        np.concatenate([*nets, np.zeros((0, 2), np.int64)]),
        np.cumsum([0, *(len(net) for net in nets)]),
        np.concatenate([*steps, np.zeros((0, 5), np.int64)]),
        np.cumsum([0, *(len(step) for step in steps)]),
        tuple(untouched),
    )


@cache
def median_variance_factors(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """c_0 to c_n: variance of a median of Gaussian values relative to the mean's.

    Tabled up to 64; beyond, ``pi/2 (1 - 0.4297/n)`` for odd and
    ``pi/2 (1 - 1.4003/n)`` for even n, which continue the table to 3e-4.
    """
    known = [0.0, *_C_N]
    beyond = [np.pi / 2 * (1 - (0.4297 if m % 2 else 1.4003) / m) for m in range(len(known), n + 1)]
    return np.array((known + beyond)[: n + 1], np.float32)


@cache
def median_spread_factors(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """a_0 to a_n: how the variance of a median grows where errors are unequal.

    It is ``c_n n / (sum 1/sigma)^2 (1 + a_n d^2)`` with d the scatter of 1/sigma over
    its mean: the density of a median at its centre depends on sum 1/sigma alone,
    its curvature on the scatter too. Fitted to Monte Carlo of errors that
    spread by 2: right to 4 % at n = 3, 3 % at 4, 1.5 % from 5 on, where without a_n
    it is 11 % low at n = 3 and 4. Two values have a closed form, see
    the kernel.
    """
    number = np.maximum(np.arange(n + 1), 1.0)
    growth = np.where(number % 2 == 1, 2.15 / number, 2.2 / number + 6.2 / number**2)
    return np.where(np.arange(n + 1) < 3, 0.0, growth).astype(np.float32)


@cache
def median_factors(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Both factors of a median's variance as the kernel takes them, float32 (2, n + 1)."""
    return np.stack([median_variance_factors(n), median_spread_factors(n)])
