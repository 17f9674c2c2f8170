"""Sets of exposures: a few small ones, a few of full size, or a survey of many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from musedask.errors import FileError, InputError
from musedask.simulation.exposure import MODE_START_ANGSTROM, ExposureSpec, Footprint
from musedask.simulation.noise import REAL_CORRELATION, NoiseModel, NoisePool
from musedask.simulation.observe import Content, Observation, observe
from musedask.simulation.sky import AnalyticSky, Sky, deep_field
from musedask.simulation.truth import Truth, write_truth
from musedask.sky import SkyProjection

FULL_FIELD = (300, 304)
"""Height and width of MUSE's wide field, spaxels."""
FULL_MARGIN = 8
FIELD_DEG = (150.1, 2.2)
"""Where the simulated fields lie (RA, DEC)."""
_FIELD_ARCSEC = 60.0
_AU_SPEED_RATIO = 1.0e-4
"""v / c of the Earth's orbit."""
_KINDS = (("WFM-NOAO-N", 3681), ("WFM-NOAO-N", 3682), ("WFM-AO-N", 3721), ("WFM-AO-N", 3722),
          ("WFM-NOAO-N", 3681), ("WFM-NOAO-E", 3801))  # fmt: skip


def survey(
    n_exposures: int,
    n_pointings: int = 1,
    *,
    centre_deg: tuple[float, float] = FIELD_DEG,
    seed: int = 0,
    **common: Any,
) -> list[ExposureSpec]:
    """Plan the exposures of a survey: pointings side by side, each dithered and turned.

    Exposures of a pointing are turned by 90 degrees from one to the next, are
    dithered by up to an arcsecond, and have pointing errors of 0.4" rms,
    seeing of 0.55 to 1.1", transparency of 0.85 to 1, barycentric shifts of a
    year, and the lengths that real cubes have.

    Parameters
    ----------
    n_exposures
        How many, over all pointings in turn.
    n_pointings
        How many fields, on a square of fields a minute of arc apart.
    centre_deg
        RA and DEC of the middle.
    seed
        Equal seeds give equal plans.
    common
        Values of :class:`ExposureSpec` that are the same for all.

    Raises
    ------
    InputError
        If there are no exposures, or fewer than pointings.
    """
    if not 1 <= n_pointings <= n_exposures:
        raise InputError(
            f"{n_exposures} exposures of {n_pointings} pointings: at least one pointing is "
            "needed, and an exposure for each"
        )
    rng = np.random.default_rng(seed)
    plane = SkyProjection.north_up(*centre_deg, _FIELD_ARCSEC)
    side = int(np.ceil(np.sqrt(n_pointings)))
    start = datetime(2024, 1, 10, 1, 0, 0, 500_000)
    specs = []
    for i in range(n_exposures):
        pointing = i % n_pointings
        row, column = divmod(pointing, side)
        ra, dec = plane.to_sky(column - (side - 1) / 2, row - (side - 1) / 2)
        when = start + timedelta(days=3.1 * (i // n_pointings), minutes=17.5 * pointing)
        mode, n_channels = _KINDS[i % len(_KINDS)]
        speed = _AU_SPEED_RATIO * np.sin(2 * np.pi * when.timetuple().tm_yday / 365.25)
        spec = ExposureSpec(
            name=f"exposure_{i:04d}",
            date_obs=when.isoformat(timespec="milliseconds"),
            ra_deg=float(ra),
            dec_deg=float(dec),
            dither_arcsec=_pair(rng.uniform(-1.0, 1.0, 2)),
            rotation_deg=90.0 * ((i // n_pointings) % 4),
            ra_offset_arcsec=round(float(rng.normal(0, 0.4)), 4),
            dec_offset_arcsec=round(float(rng.normal(0, 0.4)), 4),
            seeing_arcsec=round(float(rng.uniform(0.55, 1.1)), 3),
            flux_scale=round(1 / float(rng.uniform(0.85, 1.0)), 4),
            mode=mode,
            first_angstrom=round(MODE_START_ANGSTROM[mode] * (1 + float(speed)), 4),
            n_channels=n_channels,
            phase=_pair(rng.uniform(-0.5, 0.5, 2)),
            lost_fraction=0.003,
            hits_per_megavoxel=5.0,
        )
        specs.append(replace(spec, **common))
    return specs


def _pair(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    return round(float(values[0]), 4), round(float(values[1]), 4)


def observe_all(
    sky: Sky,
    specs: Sequence[ExposureSpec],
    folder: str | os.PathLike[str],
    *,
    shape: tuple[int, int] = (60, 60),
    seed: int = 0,
    noise: NoiseModel | None = None,
    reuse_noise: bool = False,
    content: Content = "full",
    target: str = "SIMFIELD",
    workers: int = 2,
    overwrite: bool = False,
) -> Truth:
    """Write a set of exposures and the truth beside them.

    Parameters
    ----------
    sky, specs, shape, seed, noise, content, target, overwrite
        As for :func:`musedask.simulation.observe.observe`; the files are called
        ``NAME.fits``.
    folder
        Made if it is not there.
    reuse_noise
        Take the noise of all exposures of one shape from one pool: faster.
    workers
        Exposures that are made at the same time.

    Raises
    ------
    InputError
        If there are no exposures, or two share a name or a DATE-OBS.
    FileError
        If a file exists (unless ``overwrite``) or cannot be written.
    """
    names = [spec.name for spec in specs]
    if not specs or len(set(names)) < len(names):
        raise InputError(f"exposures {names}: give at least one, each with a name of its own")
    base = Path(folder)
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise FileError(f"{base}: cannot be made: {err}") from err
    pools = _pools(specs, shape, seed) if reuse_noise else {}

    def make(spec: ExposureSpec) -> Observation:
        return observe(
            sky, spec, base / f"{spec.name}.fits", shape=shape, seed=seed, noise=noise,
            pool=pools.get(Footprint(spec, shape).shape), content=content, target=target,
            overwrite=overwrite,
        )  # fmt: skip

    with ThreadPoolExecutor(max(1, workers)) as executor:
        observations = list(executor.map(make, specs))
    return write_truth(observations, base)


def _pools(
    specs: Sequence[ExposureSpec], field: tuple[int, int], seed: int
) -> dict[tuple[int, int], NoisePool]:
    if any(spec.noise != "correlated" for spec in specs):
        raise InputError("a pool of noise is correlated: reuse_noise=False for another noise")
    shapes = sorted({Footprint(spec, field).shape for spec in specs})
    rng = np.random.Generator(np.random.SFC64(seed))
    return {shape: NoisePool(rng, shape, REAL_CORRELATION) for shape in shapes}


def simulate_exposures(
    folder: str | os.PathLike[str],
    count: int = 8,
    *,
    full_size: bool = False,
    survey_set: bool = False,
    seed: int = 0,
    content: Content = "full",
    overwrite: bool = False,
) -> Truth:
    """Make a set of exposures of an invented field: what ``musedask simulate`` does.

    Parameters
    ----------
    folder
        Where the cubes ``exposure_0000.fits``... and the truth go.
    count
        How many exposures.
    full_size
        Fields of 300 x 304 spaxels (3 GB each) instead of 60 x 60 (0.1 GB).
    survey_set
        A pointing for every eight exposures instead of one for all, and noise
        that is used again, which is faster.
    seed
        Equal seeds give equal files.
    content
        ``full``, ``flux_holes`` or ``holes``; the latter two for tests of scaling.
    overwrite
        Whether existing files may be replaced.
    """
    n_pointings = -(-count // 8) if survey_set else 1
    field = FULL_FIELD if full_size else (60, 60)
    specs = survey(count, n_pointings, seed=seed, margin=FULL_MARGIN if full_size else 0)
    return observe_all(
        invented_sky(n_pointings, field, seed), specs, folder, shape=field, seed=seed,
        reuse_noise=survey_set, content=content, overwrite=overwrite,
    )  # fmt: skip


def invented_sky(
    n_pointings: int, field: tuple[int, int] = FULL_FIELD, seed: int = 0
) -> AnalyticSky:
    """Scatter sources over all pointings of a :func:`survey`: 60 per square arcminute."""
    side = int(np.ceil(np.sqrt(n_pointings)))
    reach = (side - 1) * _FIELD_ARCSEC / 2 + max(field) * 0.2 / 2
    radius = float(np.sqrt(2.0) * reach)
    n_sources = max(25, int(60 * np.pi * (radius / 60.0) ** 2))
    return deep_field(*FIELD_DEG, radius, n_sources=n_sources, seed=seed)
