"""The verb: exposure cubes, offsets and a grid into lazy deep cubes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial

import dask.array as da
import numpy as np
import xarray as xr

from musedask.blocks import Slot, Stack
from musedask.cube import FLUX_UNITS, make_cube, name_of
from musedask.errors import InputError, MusedaskWarning
from musedask.fits import check_variance
from musedask.grid import CubeGrid
from musedask.masks import ExposureMask
from musedask.offsets import OffsetTable
from musedask.spectral import RESIDUAL_WARNING_ANGSTROM
from musedask.stacking.arrays import lazy_stack
from musedask.stacking.options import StackOptions
from musedask.stacking.plan import members_of, plan_blocks
from musedask.stacking.provenance import exposure_table, stack_attrs, statistic_attrs
from musedask.stacking.statistics import Clipping, MpdafClipping, rules_array, slots_of
from musedask.stacking.weights import Weights, exposure_weights
from musedask.wording import counted

logger = logging.getLogger(__name__)


def stack(
    cubes: Sequence[xr.Dataset],
    offsets: OffsetTable | None = None,
    grid: CubeGrid | None = None,
    *,
    methods: Sequence[str] = ("median",),
    resampling: str = "exact",
    weights: Weights = "exptime",
    clipping: Clipping | None = None,
    mpdaf_clipping: MpdafClipping | None = None,
    mask: ExposureMask | None = None,
    subtract_background: bool = False,
    flux_per: str = "auto",
    allow_missing: bool = False,
    allow_failed: bool = False,
) -> Stack:
    """Stack exposures onto a grid; lazy: nothing but headers and masks is looked at.

    Every exposure is cut to the grid's channels, resampled in the plane of the
    sky and combined voxel by voxel. Where an exposure's lattice and the grid's
    agree up to whole pixels, its values are copied bit for bit.

    Parameters
    ----------
    cubes
        Exposure cubes (:func:`musedask.open_exposures`), also changed ones.
    offsets
        Exposure minus reference; None if the headers are right.
    grid
        Where to; by default :meth:`CubeGrid.enclosing`.
    methods, resampling, weights, clipping, mpdaf_clipping, mask, subtract_background, flux_per
        As in :class:`StackOptions`.
    allow_missing
        Take an exposure without a row in ``offsets`` as it is.
    allow_failed
        Use offsets of grade F.

    Returns
    -------
    Stack
        method -> lazy cube on the grid: ``flux`` and ``variance`` (float32, the
        exposures' unit per spaxel of the grid), ``n_exposures`` and
        ``exposure_time``. :func:`musedask.write_megacube` makes all of them in
        one pass, and so does computing several at once with ``dask.compute``;
        computing variables one at a time costs a pass each.

    Raises
    ------
    InputError
        If there are no cubes, they differ in unit, step, medium or frame, two
        have one DATE-OBS, or none touches the grid.
    MissingError
        If an exposure has no row in ``offsets``.
    """
    options = StackOptions(
        tuple(methods), resampling, weights, clipping or Clipping(),
        mpdaf_clipping or MpdafClipping(), mask or ExposureMask(), subtract_background, flux_per,
    )  # fmt: skip
    return stack_with(
        cubes, offsets, grid, options, allow_missing=allow_missing, allow_failed=allow_failed
    )


def stack_with(
    cubes: Sequence[xr.Dataset],
    offsets: OffsetTable | None,
    grid: CubeGrid | None,
    options: StackOptions,
    *,
    allow_missing: bool = False,
    allow_failed: bool = False,
) -> Stack:
    """Stack with options that are a value already; see :func:`stack`."""
    ordered = _in_order(cubes)
    units = _common_units(ordered)
    if grid is None:
        grid = CubeGrid.enclosing(
            ordered, offsets, allow_missing=allow_missing, allow_failed=allow_failed
        )
    found = members_of(
        ordered, offsets, grid, options, allow_missing=allow_missing, allow_failed=allow_failed
    )
    ordered = [ordered[n] for n in found]
    weighing = exposure_weights(ordered, tuple(found.values()), options.weights)
    members = weighing.members
    _note_weights(options)
    slots = slots_of(options.methods, (member.exptime for member in members))
    rules = tuple(float(rule) for rule in rules_array(options.clipping, options.mpdaf_clipping))
    plan, specs = plan_blocks(grid, members, slots, rules, options, weighing.facts)
    planes, results = lazy_stack(plan, specs, ordered, members, options, weighing.measured)
    table, wavelengths = exposure_table(ordered, members, grid, offsets, weighing)
    _warn_of_residuals(table)
    cubes_out = {}
    for method in options.methods:
        variables = {
            slot.variable: _output(planes, slot) for slot in slots if slot.method == method
        }
        cube = make_cube(
            variables, grid.sky, grid.spectral, units=units, wavelengths=wavelengths,
            attrs=statistic_attrs(method, options, ordered),
        )  # fmt: skip
        cubes_out[method] = cube.assign_coords(table.coords)
    # A cube that was changed may have been given another flux and variance: only files count.
    checks = tuple(partial(check_variance, m.source) for m in members if m.source is not None)
    return Stack(cubes_out, plan, results, table, stack_attrs(grid, options), checks)


def _output(planes: da.Array, slot: Slot) -> da.Array:
    """A variable of a statistic out of the planes of all."""
    plane: da.Array = planes[slot.plane]
    if slot.factor != 1:
        plane = da.multiply(plane, slot.factor, dtype=np.float64).astype(np.float32)
    return plane.astype(np.uint16) if slot.variable == "n_exposures" else plane


def _in_order(cubes: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Exposures by DATE-OBS, which is also the order of summation."""
    if not len(cubes):
        raise InputError("no exposures to stack: at least one is needed")
    dates = [
        str(cube.coords["date_obs"].values) if "date_obs" in cube.coords else "" for cube in cubes
    ]
    if len(cubes) > 1:
        for n, date in enumerate(dates):
            if not date:
                raise InputError(
                    f"{name_of(cubes[n], f'cube {n}')} has no coordinate date_obs, by which "
                    "exposures are told apart: add it with .assign_coords(date_obs=...)"
                )
            first = dates.index(date)
            if first != n:
                raise InputError(
                    f"{name_of(cubes[first])} and {name_of(cubes[n])} have one DATE-OBS, {date}: "
                    "use one of them (two halves or reprocessings of one exposure are not two)"
                )
    return [cubes[n] for n in np.argsort(dates, kind="stable")]


def _common_units(cubes: Sequence[xr.Dataset]) -> str:
    """The unit that all have."""
    found = [str(cube["flux"].attrs.get("units", FLUX_UNITS)) for cube in cubes]
    for cube, units in zip(cubes, found, strict=True):
        if units != found[0]:
            raise InputError(
                f"{name_of(cube)}: BUNIT {units}, {name_of(cubes[0])} has {found[0]}: "
                "reduce both with the same flux calibration, or leave one out"
            )
    return found[0]


def _note_weights(options: StackOptions) -> None:
    if options.weights not in ("equal", "exptime") and any(
        method.startswith("median") for method in options.methods
    ):
        logger.info("a median takes no weights: they are used by the other statistics only")


def _warn_of_residuals(table: xr.Dataset) -> None:
    residuals: Mapping[str, float] = dict(
        zip(table["exposure"].values, table["exposure_residual"].values, strict=True)
    )
    large = {n: r for n, r in residuals.items() if abs(r) > RESIDUAL_WARNING_ANGSTROM}
    if large:
        listed = ", ".join(f"{name} {value:+.2f}" for name, value in list(large.items())[:8])
        more = f" and {len(large) - 8} more" if len(large) > 8 else ""
        warnings.warn(
            f"wavelengths of {len(large)} of {counted(len(residuals), 'exposure')} are off the "
            f"grid by more than {RESIDUAL_WARNING_ANGSTROM} Angstrom ({listed}{more}): lines are "
            "broadened a little; cubes made with an OUTPUT_WCS of one CRVAL3 have no such residual",
            MusedaskWarning,
            stacklevel=3,
        )
