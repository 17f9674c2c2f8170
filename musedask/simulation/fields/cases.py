"""Cases of alignment, drawn by number: a reference, exposures of the field, and the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from musedask.errors import InputError
from musedask.simulation.fields.blemishes import Blemishes
from musedask.simulation.fields.exposure import FieldExposure, FieldExposureSpec, observe_exposure
from musedask.simulation.fields.image import SimulatedImage
from musedask.simulation.fields.reference import ReferenceSpec, observe_reference
from musedask.simulation.fields.scene import Scene, cluster, galaxies, points, scattered

Kind = Literal["field", "crowded", "empty", "mover", "satellite", "half"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""``field``: galaxies and a few stars; ``crowded``: a globular cluster; ``empty``: nothing
brighter than I = 27; ``mover``: as empty, with a bright star that has moved; ``satellite``: as
empty, with a trail; ``half``: a field of which the reference covers less than half."""
_SCENE_ARCSEC = 118.0
_EMPTY_MAG = 27.0


@dataclass(frozen=True, eq=False)
class FieldCase:
    """What is given to whoever aligns, and what is true."""

    seed: int
    """Its number."""
    kind: Kind
    """What it is like."""
    scene: Scene
    """What there is."""
    reference: SimulatedImage
    """The image that is right."""
    exposures: tuple[FieldExposure, ...]
    """One or more."""

    @property
    def exposure(self) -> FieldExposure:
        """The first one."""
        return self.exposures[0]

    @property
    def holds_enough(self) -> bool:
        """Whether five or more galaxies brighter than I = 24 are in the first exposure."""
        return self.exposure.truth.n_bright >= 5


def draw_case(seed: int, kind: Kind = "field", n_exposures: int = 1) -> FieldCase:
    """Draw a case; the same number gives the same case.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    ra, dec = float(rng.uniform(0, 360)), float(np.degrees(np.arcsin(rng.uniform(-0.9, 0.5))))
    scene = _scene(rng, kind, ra, dec)
    reference = observe_reference(scene, _reference_spec(rng, kind), ra, dec, rng)
    specs = [_exposure_spec(rng, kind, seed, i) for i in range(n_exposures)]
    exposures = tuple(observe_exposure(scene, s, ra, dec, rng, reference) for s in specs)
    return FieldCase(seed, kind, scene, reference, exposures)


def _scene(rng: np.random.Generator, kind: Kind, ra: float, dec: float) -> Scene:
    if kind == "crowded":
        scene = cluster(rng, ra, dec, int(rng.integers(800, 2500)))
        return scene.joined(galaxies(rng, ra, dec, _SCENE_ARCSEC, 0.5))
    if kind in ("empty", "mover", "satellite"):
        faint = galaxies(rng, ra, dec, _SCENE_ARCSEC, 1.0, brightest_mag=_EMPTY_MAG)
        if kind != "mover":
            return faint
        where = scattered(rng, ra, dec, 40.0, 1)
        star = points(*where, rng.uniform(16.5, 20.0))
        return faint.joined(star.with_motion(0, *_step(rng, 0.3, 1.5)))
    density = 10.0 ** rng.uniform(-0.6, 0.3)
    scene = galaxies(rng, ra, dec, _SCENE_ARCSEC, density)
    n_stars = int(rng.poisson(6)) + 1
    # More faint stars than bright ones.
    magnitude = 25.0 - 6.0 * rng.random(n_stars) ** 1.5
    stars = points(*scattered(rng, ra, dec, _SCENE_ARCSEC, n_stars), magnitude)
    chance = rng.random(2)
    if chance[0] < 0.3:
        where = scattered(rng, ra, dec, 45.0, 1)
        mover = points(*where, rng.uniform(17.0, 21.0))
        stars = stars.joined(mover.with_motion(0, *_step(rng, 0.1, 1.2)))
    if chance[1] < 0.15:
        where = scattered(rng, ra, dec, 45.0, 1)
        variable = points(*where, rng.uniform(18.0, 23.0))
        stars = stars.joined(variable.with_motion(0, 0.0, 0.0, float(rng.uniform(-2, 2))))
    return scene.joined(stars)


def _step(rng: np.random.Generator, least: float, most: float) -> tuple[float, float]:
    """A displacement in any direction, (east, north)."""
    size, angle = rng.uniform(least, most), rng.uniform(0, 2 * np.pi)
    return float(size * np.sin(angle)), float(size * np.cos(angle))


def _reference_spec(rng: np.random.Generator, kind: Kind) -> ReferenceSpec:
    spec = ReferenceSpec(
        pixel_arcsec=float(rng.choice([0.03, 0.05, 0.06], p=[0.1, 0.7, 0.2])),
        angle_deg=float(rng.uniform(0, 360)),
        depth_mag=float(rng.uniform(26.8, 28.3)),
    )
    if kind == "half":
        return replace(
            spec,
            cut_arcsec=float(rng.uniform(-10, -2)),
            cut_angle_deg=float(rng.uniform(0, 360)),
        )
    return spec


def _exposure_spec(
    rng: np.random.Generator, kind: Kind, seed: int, number: int
) -> FieldExposureSpec:
    largest = 15.0 if rng.random() < 0.5 else 3.0
    east, north = _step(rng, 0.0, largest)
    return FieldExposureSpec(
        fwhm_arcsec=float(rng.uniform(0.5, 1.2)),
        beta=float(rng.uniform(2.0, 4.0)),
        ellipticity=float(rng.uniform(0.0, 0.08)),
        exptime_s=float(rng.uniform(900.0, 3600.0)),
        band=str(rng.choice(["white", "I"])),
        rotator_deg=float(rng.uniform(0, 360)),
        is_turned=bool(rng.random() < 0.25),
        ra_offset_arcsec=east,
        dec_offset_arcsec=north,
        dither_arcsec=_step(rng, 0.0, 1.0),
        transparency=float(rng.uniform(0.85, 1.05)),
        background=float(rng.normal(0, 0.5)),
        stated_variance=float(1.0 / rng.uniform(1.0, 1.17) ** 2),
        blemishes=_blemishes(rng, kind),
        date_obs=f"2026-01-{1 + seed % 28:02d}T{number // 60:02d}:{number % 60:02d}:00.{seed:03d}"[
            :23
        ],
        name=f"{kind}_{seed:05d}_{number:02d}",
    )


def _blemishes(rng: np.random.Generator, kind: Kind) -> Blemishes:
    chance = rng.random(4)
    trail = chance[2] < 0.1 or kind == "satellite"
    return Blemishes(
        edge_sigma=float(rng.uniform(5, 60)) if chance[0] < 0.4 else 0.0,
        slices_sigma=float(rng.uniform(0, 0.15)),
        gradient_sigma=float(rng.uniform(0.5, 6)) if chance[1] < 0.3 else 0.0,
        gradient_deg=float(rng.uniform(0, 360)),
        trail_sigma=float(10.0 ** rng.uniform(0.7, 1.9)) if trail else 0.0,
        trail_deg=float(rng.uniform(0, 180)),
        trail_arcsec=float(rng.uniform(-20, 20)),
        n_hot=int(rng.integers(0, 6)) if chance[3] < 0.5 else 0,
    )
