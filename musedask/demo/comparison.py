"""A stack against the truth, in numbers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize

from musedask.demo.cubes import CubeLike, ReadableCube, readable
from musedask.demo.expectation import ExpectedRun, expected_runs
from musedask.errors import InputError
from musedask.simulation.abell478 import (
    COMPACT_SOURCE_DEG,
    GALAXY_DEG,
    HALPHA_WINDOW_ANGSTROM,
    real_sky,
)
from musedask.simulation.psf import Psf
from musedask.simulation.sky import Sky
from musedask.simulation.truth import Truth, read_truth
from musedask.sky import ARCSEC_PER_DEG

Floats = np.ndarray[Any, np.dtype[np.float64]]

WHITE_ANGSTROM = (7200.0, 9200.0)
"""Where the picture is made in which the point-spread function is measured."""
APERTURE_ARCSEC = 1.5
LEFT_OVER_SIGMA = 5.0
"""A struck voxel that is still this high above the truth has not been cleaned."""
ENOUGH_EXPOSURES = 3
"""Of fewer no statistic can tell which one was struck."""
_EDGES = np.linspace(-12.0, 12.0, 4801)


def compare_with_truth(
    cube: CubeLike, truth: Truth | str | os.PathLike[str], sky: Sky | None = None
) -> dict[str, float]:
    """Compare a stack of the demo's exposures with what it should be.

    Parameters
    ----------
    cube
        The stack: an exported FITS file, or a cube.
    truth
        The exposures that went in, or their folder.
    sky
        What they observed; by default Abell 478.

    Returns
    -------
    numbers
        ``voxels``: how many were compared, away from edges, lost spaxels and hits.
        ``residual_sigma``: median of (stack - truth) / sigma.
        ``pull_rms``: its width, from the quartiles, and ``pull_rms_plain``, the plain rms
        of all within 12 sigma; 1 if the variance were right and resampling hid nothing.
        ``flux_ratio``, ``flux_ratio_error``: flux over true flux, weighted.
        ``psf_fwhm_arcsec``, ``psf_fwhm_true_arcsec``: of the compact source in the stack and
        in the mean truth, which lacks the blur of resampling; ``position_error_arcsec``:
        between the two.
        ``line_flux_ratio``, ``line_shift_angstrom``: of Halpha + [NII] in the galaxy.
        ``hits``: struck voxels that three exposures or more see; ``hits_left``: those of
        them that are still 5 sigma high.
        ``counts_checked``: voxels whose number of exposures is beyond doubt, ``counts_equal``:
        the fraction where it is right; ``counts_outside``: voxels anywhere whose number
        cannot be. (NaN without counts.)

    Raises
    ------
    InputError
        If the cube and the exposures have no voxel in common.
    """
    known = truth if isinstance(truth, Truth) else read_truth(truth)
    there = real_sky() if sky is None else sky
    source = readable(cube)
    tally = _Tally(source)
    struck = _struck_voxels(source, known)
    for run in expected_runs(source, known, there):
        tally.add(run, struck[(struck[:, 0] >= run.first) & (struck[:, 0] < run.last)])
    if tally.voxels == 0:
        raise InputError(f"{source.label}: no voxel in common with the exposures of the truth")
    return {**tally.numbers(), **_shape_numbers(tally), **_line_numbers(tally)}


@dataclass(eq=False)
class _Tally:
    """Sums over the runs of channels."""

    cube: ReadableCube
    voxels: int = 0
    histogram: Any = field(default_factory=lambda: np.zeros(_EDGES.size - 1, np.int64))
    sums: Floats = field(default_factory=lambda: np.zeros(4))
    """Of pull^2, of their number, and of f t / var and t^2 / var."""
    counts: Any = field(default_factory=lambda: np.zeros(3, np.int64))
    has_counts: bool = False
    hits: Any = field(default_factory=lambda: np.zeros(2, np.int64))

    def __post_init__(self) -> None:
        shape = self.cube.shape
        self.white = np.zeros((3, *shape))
        self.spectra = np.zeros((2, self.cube.wavelengths.size))
        self.aperture = self._distance_arcsec(*GALAXY_DEG) < APERTURE_ARCSEC

    def _distance_arcsec(self, ra: float, dec: float) -> Floats:
        yy, xx = np.mgrid[: self.cube.shape[0], : self.cube.shape[1]]
        at_ra, at_dec = self.cube.projection.to_sky(xx, yy)
        east = (at_ra - ra) * np.cos(np.radians(dec)) * ARCSEC_PER_DEG
        return np.asarray(np.hypot(east, (at_dec - dec) * ARCSEC_PER_DEG))

    def add(self, run: ExpectedRun, struck: Any) -> None:
        """Take a run of channels in; ``struck`` are its struck voxels (channel, y, x)."""
        flux, variance, counts = self.cube.read(run.first, run.last)
        clear = np.broadcast_to((run.least == run.most) & (run.least > 0), flux.shape).copy()
        both = np.isfinite(flux) & np.isfinite(run.flux) & (variance > 0)
        if counts is not None:
            self._add_counts(run, counts)
        pull = np.zeros(flux.shape, np.float32)
        np.divide(flux - run.flux, np.sqrt(variance), out=pull, where=both)
        at = struck[:, 0] - run.first, struck[:, 1], struck[:, 2]
        seen = both[at] & (run.least[at[1], at[2]] >= ENOUGH_EXPOSURES)
        self.hits += int(seen.sum()), int((seen & (pull[at] > LEFT_OVER_SIGMA)).sum())
        clear[at] = False
        use = clear & both
        pulls = pull[use].astype(float)
        self.voxels += pulls.size
        self.histogram += np.histogram(pulls, _EDGES.size - 1, (_EDGES[0], _EDGES[-1]))[0]
        near = pulls[np.abs(pulls) < _EDGES[-1]]
        true, weight = run.flux[use].astype(float), 1.0 / variance[use].astype(float)
        products = (flux[use] * true * weight).sum(), (true * true * weight).sum()
        self.sums += (near @ near, near.size, *products)
        self._add_pictures(run, flux, both)

    def _add_counts(self, run: ExpectedRun, counts: Any) -> None:
        sure = np.broadcast_to(run.least == run.most, counts.shape)
        outside = (counts < run.least) | (counts > run.most)
        self.counts += int(sure.sum()), int((sure & ~outside).sum()), int(outside.sum())
        self.has_counts = True

    def _add_pictures(self, run: ExpectedRun, flux: Any, both: Any) -> None:
        waves = self.cube.wavelengths[run.first : run.last]
        red = (waves >= WHITE_ANGSTROM[0]) & (waves <= WHITE_ANGSTROM[1])
        stack, true = np.where(both, flux, 0)[red], np.where(both, run.flux, 0)[red]
        self.white += np.stack([part.sum(axis=0, dtype=float) for part in (stack, true, both[red])])
        self.spectra[0, run.first : run.last] = np.where(both, flux, 0)[:, self.aperture].sum(1)
        self.spectra[1, run.first : run.last] = np.where(both, run.flux, 0)[:, self.aperture].sum(1)

    def numbers(self) -> dict[str, float]:
        """What the sums say."""
        below = np.cumsum(self.histogram) / max(1, self.histogram.sum())
        low, middle, high = np.interp((0.25, 0.5, 0.75), below, _EDGES[1:])
        checked, equal, outside = (float(n) for n in self.counts)
        known = self.has_counts
        return {
            "voxels": float(self.voxels),
            "residual_sigma": float(middle),
            "pull_rms": float((high - low) / 1.348980),
            "pull_rms_plain": float(np.sqrt(self.sums[0] / max(1.0, self.sums[1]))),
            "flux_ratio": float(self.sums[2] / self.sums[3]),
            "flux_ratio_error": float(1.0 / np.sqrt(self.sums[3])),
            "hits": float(self.hits[0]),
            "hits_left": float(self.hits[1]),
            "counts_checked": checked if known else np.nan,
            "counts_equal": equal / checked if known and checked else np.nan,
            "counts_outside": outside if known else np.nan,
        }


def _struck_voxels(cube: ReadableCube, truth: Truth) -> Any:
    """Voxels of the grid nearest to each struck voxel, int (n, 3) of (channel, y, x), each once."""
    parts = [np.zeros((0, 3), np.int64)]
    for observation in truth:
        hits, footprint = observation.hits, observation.footprint
        own = footprint.spec.spectral.wavelengths[hits["channel"]]
        step = float(np.diff(cube.wavelengths[:2])[0]) if cube.wavelengths.size > 1 else 1.25
        channel = np.rint((own - cube.wavelengths[0]) / step)
        x, y = cube.projection.to_pixel(*footprint.true_projection.to_sky(hits["x"], hits["y"]))
        valid = observation.valid[footprint.band_of(own), hits["y"], hits["x"]]
        valid &= ~footprint.in_notch(own)
        parts.append(np.stack([channel, np.rint(y), np.rint(x)], axis=1).astype(np.int64)[valid])
    voxels = np.unique(np.concatenate(parts), axis=0)
    size = (cube.wavelengths.size, *cube.shape)
    return voxels[np.all((voxels >= 0) & (voxels < size), axis=1)]


def _shape_numbers(tally: _Tally) -> dict[str, float]:
    """Width and place of the compact source, in the stack and in the truth."""
    keys = ("psf_fwhm_arcsec", "psf_fwhm_true_arcsec", "position_error_arcsec")
    n = tally.white[2]
    distance = tally._distance_arcsec(*COMPACT_SOURCE_DEG)
    if distance.min() > 1.0 or np.any(n[distance < 2.0] == 0):
        return dict.fromkeys(keys, float("nan"))
    images = np.divide(tally.white[:2], n, out=np.zeros_like(tally.white[:2]), where=n > 0)
    pixel = float(np.sqrt(tally.cube.projection.pixel_area_arcsec2))
    (fwhm, x, y), (true_fwhm, true_x, true_y) = (
        _fitted_source(image, distance < 2.0, pixel) for image in images
    )
    error = float(np.hypot(x - true_x, y - true_y)) * pixel
    return dict(zip(keys, (fwhm, true_fwhm, error), strict=True))


def _fitted_source(image: Floats, near: Any, pixel_arcsec: float) -> tuple[float, float, float]:
    """Fit a Moffat of beta 2.8 on a slope: FWHM (arcsec), x and y (pixels)."""
    yy, xx = np.nonzero(near)
    values = image[near]
    x0, y0 = xx.mean(), yy.mean()

    def residuals(p: Floats) -> Floats:
        radius2 = ((xx - x0 - p[0]) ** 2 + (yy - y0 - p[1]) ** 2) * pixel_arcsec**2
        shape = Psf(float(np.clip(p[2], 0.2, 5.0))).density(radius2)
        design = np.stack([shape, np.ones(shape.size), xx - x0, yy - y0], axis=1)
        return np.asarray(design @ np.linalg.lstsq(design, values)[0] - values)

    found = optimize.least_squares(residuals, [0.0, 0.0, 0.9], diff_step=[1e-3, 1e-3, 1e-3]).x
    return float(found[2]), float(found[0] + x0), float(found[1] + y0)


def _line_numbers(tally: _Tally) -> dict[str, float]:
    """Flux and place of Halpha + [NII] in the galaxy's aperture, against the truth."""
    waves = tally.cube.wavelengths
    low, high = HALPHA_WINDOW_ANGSTROM
    inside = (waves >= low) & (waves <= high)
    beside = ((waves > low - 45) & (waves < low)) | ((waves > high) & (waves < high + 45))
    if inside.sum() < 40 or beside.sum() < 20 or not tally.aperture.any():
        return {"line_flux_ratio": float("nan"), "line_shift_angstrom": float("nan")}
    found = []
    for spectrum in tally.spectra:
        slope, level = np.polyfit(waves[beside] - low, spectrum[beside], 1)
        line = (spectrum - level - slope * (waves - low))[inside]
        found.append((line.sum(), (line * waves[inside]).sum() / line.sum()))
    (flux, centre), (true_flux, true_centre) = found
    return {
        "line_flux_ratio": float(flux / true_flux),
        "line_shift_angstrom": float(centre - true_centre),
    }
