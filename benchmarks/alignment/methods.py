"""Who measures: musedask, and what others use today, each on the same images.

A method is a function from a case to what it found. The others are helped
where they do not help themselves: the reference comes to them on the
exposure's lattice, smoothed to the exposure's true seeing by a Gaussian.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import ndimage, spatial

from musedask.alignment.image import FieldImage
from musedask.alignment.measuring import measure_against
from musedask.simulation.fields import FieldCase, SimulatedImage
from musedask.sky import SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

NEIGHBOUR_ARCSEC = 2.0
_SIGMA_PER_FWHM = 1.0 / math.sqrt(8.0 * math.log(2.0))


@dataclass(frozen=True)
class Found:
    """What a method says."""

    east: float = math.nan
    """Offset, arcsec."""
    north: float = math.nan
    """The same to the north."""
    east_error: float = math.nan
    """As stated."""
    north_error: float = math.nan
    """As stated."""
    grade: str = ""
    """As stated; empty if there is none."""
    reasons: str = ""
    """Why it is not better."""


def field_image(image: SimulatedImage) -> FieldImage:
    """A simulated image as a file of it would be read; the seeing is not told."""
    return FieldImage(
        flux=image.flux, variance=image.variance, projection=image.projection, name=image.name,
        date_obs=image.date_obs, band=image.band, units=image.units, ra_deg=image.ra_deg,
        dec_deg=image.dec_deg,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class WholeReference:
    """A reference image that is all there."""

    image: FieldImage
    """It."""
    name: str = "reference"
    """For people."""
    frame: str = "reference"
    """Of its positions."""
    kind: str = "reference"
    """Not a catalogue."""
    band: str = ""
    """Not told."""

    def near(
        self,
        projection: SkyProjection,
        shape: tuple[int, int],
        margin_arcsec: float,
        epoch: float | None,
        pixel_arcsec: float,
    ) -> FieldImage:
        """All of it."""
        return self.image


def musedask(case: FieldCase) -> Found:
    """``measure_against``, with no parameter set."""
    compared = measure_against(
        field_image(case.exposure.image), WholeReference(field_image(case.reference))
    )
    m = compared.measurement
    return Found(
        m.ra_offset_arcsec, m.dec_offset_arcsec, m.ra_error_arcsec, m.dec_error_arcsec, m.grade,
        "; ".join(m.reasons),
    )  # fmt: skip


def phase(case: FieldCase) -> Found:
    """scikit-image's phase cross-correlation, to a hundredth of a spaxel."""
    from skimage.registration import phase_cross_correlation

    pair = matched(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shift, _, _ = phase_cross_correlation(
            pair.filled_reference, pair.filled_exposure, upsample_factor=100
        )
    return pair.found(-shift[1], -shift[0])


def phase_masked(case: FieldCase) -> Found:
    """The same with masks for what has no value; whole spaxels."""
    from skimage.registration import phase_cross_correlation

    pair = matched(case)
    shift, _, _ = phase_cross_correlation(
        pair.filled_reference, pair.filled_exposure, reference_mask=pair.reference_known,
        moving_mask=pair.exposure_known, overlap_ratio=0.5,
    )  # fmt: skip
    return pair.found(-shift[1], -shift[0])


def flow(case: FieldCase) -> Found:
    """Optical flow (iterative Lucas-Kanade), its median where the reference is bright."""
    from skimage.registration import optical_flow_ilk

    pair = matched(case)
    top = np.nanpercentile(pair.exposure[pair.exposure_known], 99.5)
    scaled = [np.clip(i / top, -1, 2) for i in (pair.filled_reference, pair.filled_exposure)]
    dy, dx = optical_flow_ilk(*scaled, radius=7, num_warp=10)
    bright = pair.exposure_known & (scaled[0] > np.quantile(scaled[0][pair.reference_known], 0.98))
    return pair.found(float(np.median(dx[bright])), float(np.median(dy[bright])))


def sources(case: FieldCase) -> Found:
    """DAOFIND in both images, the nearest neighbour within 2 arcsec, median after clipping."""
    from photutils.detection import DAOStarFinder

    pair = matched(case)
    width = case.exposure.truth.fwhm_arcsec / pair.pixel_arcsec
    places = []
    for image, known in (
        (pair.filled_exposure, pair.exposure_known),
        (pair.filled_reference, pair.reference_known),
    ):
        noise = 1.4826 * float(np.median(np.abs(image[known])))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = DAOStarFinder(threshold=5.0 * noise, fwhm=width)(image, mask=~known)
        if table is None:
            return Found(reasons="no source was found")
        names = [n for n in ("x_centroid", "xcentroid") if n in table.colnames]
        names += [n for n in ("y_centroid", "ycentroid") if n in table.colnames]
        places.append(np.column_stack([np.asarray(table[name], float) for name in names]))
    distance, nearest = spatial.cKDTree(places[1]).query(places[0])
    close = np.asarray(distance < NEIGHBOUR_ARCSEC / pair.pixel_arcsec)
    if close.sum() < 3:
        return Found(reasons=f"{int(close.sum())} pairs within 2 arcsec")
    shifts = _clipped((places[0] - places[1][nearest])[close])
    found = pair.found(*np.median(shifts, axis=0))
    error = 1.2533 * shifts.std(axis=0, ddof=1).mean() / math.sqrt(len(shifts))
    stated = float(error * pair.pixel_arcsec)
    return Found(found.east, found.north, stated, stated)


def _clipped(shifts: Floats) -> Floats:
    """Without what is more than three sigma off, five times over."""
    for _ in range(5):
        off = np.abs(shifts - np.median(shifts, axis=0))
        kept = (off <= 3 * shifts.std(axis=0)).all(axis=1)
        if kept.all() or kept.sum() < 3:
            break
        shifts = shifts[kept]
    return shifts


@dataclass(frozen=True, eq=False)
class Pair:
    """Exposure and reference on the exposure's lattice, without their sky."""

    exposure: Floats
    """Float64 (y, x), NaN where there is none."""
    reference: Floats
    """Float64 (y, x), NaN where there is none."""
    arcsec_per_pixel: Floats
    """From (x, y) to (east, north)."""

    @property
    def exposure_known(self) -> Bools:
        """Where the exposure has values."""
        return np.asarray(np.isfinite(self.exposure))

    @property
    def reference_known(self) -> Bools:
        """Where the reference has values."""
        return np.asarray(np.isfinite(self.reference))

    @property
    def filled_exposure(self) -> Floats:
        """Float64 (y, x), 0 where there is none."""
        return np.nan_to_num(self.exposure)

    @property
    def filled_reference(self) -> Floats:
        """Float64 (y, x), 0 where there is none."""
        return np.nan_to_num(self.reference)

    @property
    def pixel_arcsec(self) -> float:
        """Side of a spaxel."""
        return math.sqrt(abs(float(np.linalg.det(self.arcsec_per_pixel))))

    def found(self, dx: float, dy: float) -> Found:
        """The offset of an exposure that is displaced by so many spaxels."""
        east, north = self.arcsec_per_pixel @ (dx, dy)
        return Found(float(east), float(north))


def matched(case: FieldCase) -> Pair:
    """Bring the reference to the exposure's lattice and seeing, simply."""
    exposure, reference = case.exposure.image, case.reference
    pixel = math.sqrt(reference.projection.pixel_area_arcsec2)
    kernel = math.sqrt(max(0.0, exposure.fwhm_arcsec**2 - reference.fwhm_arcsec**2))
    smooth = ndimage.gaussian_filter(
        np.nan_to_num(reference.flux).astype(float), kernel * _SIGMA_PER_FWHM / pixel, truncate=4.0
    )
    smooth[~np.isfinite(reference.flux)] = np.nan
    ny, nx = exposure.flux.shape
    y, x = np.mgrid[:ny, :nx]
    at_x, at_y = reference.projection.to_pixel(*exposure.projection.to_sky(x, y))
    there = np.asarray(
        ndimage.map_coordinates(smooth, [at_y, at_x], order=1, cval=np.nan), float
    ) * (exposure.projection.pixel_area_arcsec2 / pixel**2)
    here: Floats = exposure.flux.astype(float)
    return Pair(
        here - np.nanmedian(here), there - np.nanmedian(there),
        field_image(exposure).arcsec_per_pixel,
    )  # fmt: skip


METHODS: Mapping[str, Callable[[FieldCase], Found]] = {
    "musedask": musedask,
    "phase": phase,
    "phase-masked": phase_masked,
    "flow": flow,
    "sources": sources,
}
"""Name -> method; another one is another line here."""


_NEEDS = {"phase": "skimage", "phase-masked": "skimage", "flow": "skimage", "sources": "photutils"}


def missing_for(name: str) -> str:
    """The package that a method needs and that is not installed; empty if all is there."""
    package = _NEEDS.get(name, "")
    return package if package and find_spec(package) is None else ""
