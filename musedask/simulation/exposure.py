"""What is asked of a simulated exposure, and which of its spaxels see the sky."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from musedask.errors import InputError
from musedask.masks import AO_NOTCH
from musedask.offsets import Offset
from musedask.simulation.noise import REAL_CORRELATION, WHITE
from musedask.simulation.psf import Psf
from musedask.sky import SkyProjection
from musedask.spectral import NOMINAL_FIRST_ANGSTROM, NOMINAL_SIZE, SpectralAxis

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

MODE_START_ANGSTROM = {
    "WFM-NOAO-N": 4750.0, "WFM-NOAO-E": 4600.0, "WFM-AO-N": 4700.0, "WFM-AO-E": 4600.0,
    "NFM-AO-N": 4750.0,
}  # fmt: skip
"""INS MODE -> where the pipeline cuts the spectra, before the barycentric correction."""
_LARGEST_SPEED = 3e-4
"""|v / c| of the barycentric correction is below 1e-4; this leaves room for round numbers."""
NOISES = {"correlated": REAL_CORRELATION, "white": WHITE, "none": WHITE}
BANDS_ANGSTROM = (5500.0, 8500.0)
"""Refraction moves the footprint: blue of the first wavelength one edge of the field is lost,
red of the second the opposite one."""
_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, kw_only=True)
class ExposureSpec:
    """One exposure, as it is to be: where it points, how it fails, what it is called.

    Raises
    ------
    InputError
        If a value cannot be.
    """

    name: str
    """Stem of its file."""
    date_obs: str
    """DATE-OBS, unique in a set."""
    ra_deg: float
    """RA of the target, degrees."""
    dec_deg: float
    """DEC of the target, degrees."""
    exptime_s: float = 900.0
    """Exposure time: variance goes as its inverse."""
    dither_arcsec: tuple[float, float] = (0.0, 0.0)
    """East and north, on the sky, from the target to the pointing in the header."""
    rotation_deg: float = 0.0
    """Position angle of the field (north through east). The cube stays north-up, as the
    pipeline makes it: the turned field lies inside it, with NaN corners."""
    ra_offset_arcsec: float = 0.0
    """How far the header's WCS is wrong: exposure minus truth, east, on the sky."""
    dec_offset_arcsec: float = 0.0
    """The same to the north."""
    rotation_error_deg: float = 0.0
    """Position angle by which the header's WCS is turned too far, about the array's centre."""
    seeing_arcsec: float = 0.8
    """Full width at half maximum of the point-spread function."""
    moffat_beta: float | None = 2.8
    """Its Moffat exponent, None for a Gaussian."""
    flux_scale: float = 1.0
    """What the exposure has to be multiplied by (as OFFSET_LIST's FLUX_SCALE)."""
    background: float = 0.0
    """Constant that the exposure has too much, in its own units."""
    mode: str = "WFM-NOAO-N"
    """ESO INS MODE. In the AO modes the range of the laser's notch filter is NaN."""
    first_angstrom: float = NOMINAL_FIRST_ANGSTROM
    """Wavelength of the first channel: the mode's start times (1 + v/c)."""
    n_channels: int = NOMINAL_SIZE
    """Channels of 1.25 Angstrom."""
    pixel_arcsec: float = 0.2
    """Size of a spaxel."""
    phase: tuple[float, float] = (0.0, 0.0)
    """By how much of a spaxel (x, y) the pointing is off the centre of the array."""
    margin: int = 0
    """Width of the NaN border around the field, spaxels."""
    edge_spaxels: int = 1
    """Width of the bad rim of the field: variance four times as high, one side of it lost in
    the blue and the other in the red. 0 for none."""
    lost_fraction: float = 0.0
    """Fraction of the field's spaxels without data."""
    hits_per_megavoxel: float = 0.0
    """Cosmic rays that the pipeline missed; about 50 if it looked for none in 900 s."""
    noise: str = "correlated"
    """``correlated`` like the real one, ``white`` or ``none``; STAT is written all the same."""
    noise_over_stat: float = 1.0
    """Real noise is 1.1 to 1.2 times what STAT says; 1 makes STAT the truth."""

    def __post_init__(self) -> None:
        what = f"exposure {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise InputError(f"{what}: a name has letters, digits, '.', '_', '+' and '-' only")
        if self.mode not in MODE_START_ANGSTROM:
            raise InputError(
                f"{what}: mode {self.mode!r}, known are {', '.join(MODE_START_ANGSTROM)}"
            )
        if abs(self.barycentric_ratio - 1) > _LARGEST_SPEED:
            raise InputError(
                f"{what}: first_angstrom {self.first_angstrom} is too far from where {self.mode} "
                f"starts ({MODE_START_ANGSTROM[self.mode]}): the barycentric shift is within 0.5"
            )
        if self.noise not in NOISES:
            raise InputError(f"{what}: noise {self.noise!r}, known are {', '.join(NOISES)}")
        for key in ("exptime_s", "flux_scale", "pixel_arcsec", "n_channels", "noise_over_stat"):
            if not (np.isfinite(getattr(self, key)) and getattr(self, key) > 0):
                raise InputError(f"{what}: {key} is {getattr(self, key)}, it has to be positive")
        for key in ("margin", "edge_spaxels", "hits_per_megavoxel"):
            if not getattr(self, key) >= 0:
                raise InputError(f"{what}: {key} is {getattr(self, key)}, it cannot be negative")
        if not 0 <= self.lost_fraction < 1:
            raise InputError(f"{what}: lost_fraction is {self.lost_fraction}, expected 0 to 1")
        if max(abs(part) for part in self.phase) > 0.5:
            raise InputError(f"{what}: phase {self.phase}, expected at most half a spaxel")
        self.offset  # noqa: B018  (checks date_obs and the position)

    @property
    def psf(self) -> Psf:
        """The seeing."""
        return Psf(self.seeing_arcsec, self.moffat_beta)

    @property
    def barycentric_ratio(self) -> float:
        """1 + v / c, as the first wavelength tells."""
        return self.first_angstrom / MODE_START_ANGSTROM[self.mode]

    @property
    def spectral(self) -> SpectralAxis:
        """The wavelength axis."""
        return SpectralAxis(self.first_angstrom, size=self.n_channels, frame="BARYCENT")

    @property
    def start(self) -> datetime:
        """DATE-OBS as a time."""
        return datetime.fromisoformat(self.date_obs)

    @property
    def pointing_deg(self) -> tuple[float, float]:
        """RA and DEC of the header: the target and the dither."""
        plane = SkyProjection.north_up(self.ra_deg, self.dec_deg, 1.0)
        ra, dec = plane.to_sky(-self.dither_arcsec[0], self.dither_arcsec[1])
        return float(ra) % 360.0, float(dec)

    @property
    def offset(self) -> Offset:
        """The row of an offset table that puts the exposure right."""
        ra, dec = self.pointing_deg
        return Offset(
            date_obs=self.date_obs, name=self.name, ra_deg=ra, dec_deg=dec,
            ra_offset_arcsec=self.ra_offset_arcsec, dec_offset_arcsec=self.dec_offset_arcsec,
            ra_error_arcsec=0.0, dec_error_arcsec=0.0, rotation_deg=self.rotation_error_deg,
            flux_scale=self.flux_scale, flux_scale_error=0.0, background=0.0 - self.background,
            grade="A", method="simulation",
        )  # fmt: skip

    def generator(self, seed: int, purpose: str) -> np.random.Generator:
        """Random numbers that depend on the seed, the exposure and what they are for."""
        digest = hashlib.sha256(f"{self.name} {self.date_obs} {purpose}".encode()).digest()
        sequence = np.random.SeedSequence([seed, int.from_bytes(digest[:16], "big")])
        return np.random.Generator(np.random.SFC64(sequence))


@dataclass(frozen=True)
class Footprint:
    """An exposure's array: its size, its place, and which spaxels are in the field."""

    spec: ExposureSpec
    """The exposure."""
    field: tuple[int, int]
    """Height and width of the field along its own axes, spaxels."""

    def __post_init__(self) -> None:
        if min(self.field) < 3:
            raise InputError(
                f"a field of {self.field} spaxels: it needs 3 at least along each axis"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the north-up array that holds the field and its margin."""
        angle = np.radians(self.spec.rotation_deg)
        cos, sin = abs(float(np.cos(angle))), abs(float(np.sin(angle)))
        height, width = self.field
        border = 2 * self.spec.margin
        # The tolerance keeps a turn by 90 degrees from growing by a spaxel.
        ny = int(np.ceil(height * cos + width * sin - 1e-6)) + border
        nx = int(np.ceil(width * cos + height * sin - 1e-6)) + border
        return ny, nx

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the value, not what was worked out from it."""
        return {"spec": self.spec, "field": self.field}

    @cached_property
    def projection(self) -> SkyProjection:
        """What the header says."""
        ny, nx = self.shape
        x, y = (nx - 1) / 2 + self.spec.phase[0], (ny - 1) / 2 + self.spec.phase[1]
        return SkyProjection.north_up(*self.spec.pointing_deg, self.spec.pixel_arcsec, x, y)

    @cached_property
    def true_projection(self) -> SkyProjection:
        """Where the spaxels really are."""
        spec = self.spec
        ny, nx = self.shape
        return self.projection.moved(
            spec.ra_offset_arcsec, spec.dec_offset_arcsec, spec.rotation_error_deg,
            dec_deg=spec.pointing_deg[1], about=((nx - 1) / 2, (ny - 1) / 2),
        )  # fmt: skip

    def field_coordinates(self) -> tuple[Floats, Floats]:
        """Position along the field's own x and y from its centre, spaxels, two (y, x)."""
        cards = self.projection.mapping
        ny, nx = self.shape
        dx = np.arange(nx)[None, :] - (float(cards["CRPIX1"]) - 1)
        dy = np.arange(ny)[:, None] - (float(cards["CRPIX2"]) - 1)
        angle = np.radians(self.spec.rotation_deg)
        # North-up, x runs west: a turn through east is counter-clockwise in the picture.
        return dx * np.cos(angle) + dy * np.sin(angle), -dx * np.sin(angle) + dy * np.cos(angle)

    def inside(self) -> Bools:
        """Spaxels whose centre is in the field, bool (y, x)."""
        u, v = self.field_coordinates()
        return np.asarray((np.abs(u) < self.field[1] / 2) & (np.abs(v) < self.field[0] / 2))

    def rim(self) -> Bools:
        """The bad rim of the field, bool (y, x)."""
        u, v = self.field_coordinates()
        height, width = self.field
        within = self.spec.edge_spaxels
        depth = np.minimum(width / 2 - np.abs(u), height / 2 - np.abs(v))
        return np.asarray(self.inside() & (depth < within))

    def bands(self) -> Bools:
        """Spaxels in the field in the blue, between, and in the red, bool (3, y, x)."""
        inside = self.inside()
        _, v = self.field_coordinates()
        edge = self.field[0] / 2 - self.spec.edge_spaxels
        lost = self.rim()
        return np.stack([inside & ~(lost & (v > edge)), inside, inside & ~(lost & (v < -edge))])

    def band_of(self, wavelengths: Floats) -> Any:
        """Which of the three :meth:`bands` each wavelength is in, int (wavelength,)."""
        return np.searchsorted(BANDS_ANGSTROM, wavelengths, side="right")

    def in_notch(self, wavelengths: Floats) -> Bools:
        """Channels that the notch filter of the AO modes blocks, bool (wavelength,)."""
        low, high = AO_NOTCH.get(self.spec.mode, (np.inf, -np.inf))
        return np.asarray((wavelengths >= low) & (wavelengths <= high))
