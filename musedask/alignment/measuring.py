"""One exposure against one reference: images in, a measurement out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Mappings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from musedask.alignment.flux_ratios import APERTURE_ARCSEC, Aligned, flux_ratio
from musedask.alignment.grading import Evidence, grade
from musedask.alignment.image import FieldImage
from musedask.alignment.material import Compared, MaskedCircle
from musedask.alignment.measurement import Measurement, SourceOffset
from musedask.alignment.reference import Reference
from musedask.alignment.registration.background import level_and_sigma
from musedask.alignment.registration.lattices import Mapping, Matched, binned
from musedask.alignment.registration.matching import FineImage, Seeing
from musedask.alignment.registration.preparing import prepare, prepared
from musedask.alignment.registration.refining import refined_again
from musedask.alignment.registration.registered import Registered
from musedask.alignment.registration.registering import (
    FIRST_SEEING_ARCSEC,
    Search,
    register,
    register_matched,
)
from musedask.errors import InputError, MissingError
from musedask.sky import SkyProjection

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

BLUE, RED = "4800-5800", "8000-9200"
"""Bands (Angstrom) whose offsets are compared."""
FINEST_ARCSEC = 0.08
"""A reference of smaller pixels is binned: seeing needs no more."""
_STRAIGHT_PIXELS = 0.05
_CLEAR_SN = 5.0
"""Signal to noise from which a source is counted."""
_UNSURE_WINGS = 0.6
"""One-sigma error of the light beyond the aperture, as a share of it: Moffat functions of
exponents 2 to 4 differ by so much from the one that is taken."""
_FLOOR_ARCSEC = {"catalogue": 0.005}
"""What is added to the error, an axis: a catalogue does not say how sources are blended."""


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """How an exposure is measured."""

    max_offset_arcsec: float = 20.0
    """Largest offset along an axis that is looked for."""
    rotation: bool = False
    """Whether a rotation is measured."""
    masks: tuple[MaskedCircle, ...] = ()
    """Parts of the sky that do not count: a star that moved, a satellite."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.max_offset_arcsec <= 300.0:
            raise InputError(
                f"max_offset_arcsec = {self.max_offset_arcsec}: expected 0.5 to 300 arcsec"
            )


def measure_against(
    image: FieldImage,
    reference: Reference,
    options: MeasureOptions | None = None,
    companions: Mappings[str, FieldImage] | None = None,
) -> Compared:
    """Measure the offset of one exposure.

    Parameters
    ----------
    image
        The exposure through the filter that is most like the reference's.
    reference
        What it is compared with.
    options
        How.
    companions
        Images of the same exposure through :data:`BLUE` and :data:`RED`, by these
        names, where the refraction is to be checked.

    Returns
    -------
    Compared
        A measurement that failed has grade F, no offset, and the reason.
    """
    options = options or MeasureOptions()
    blank = _blank(image, reference, options)
    try:
        near = reference.near(
            image.projection, image.shape, options.max_offset_arcsec + 5.0,
            _epoch(image), image.pixel_arcsec,
        )  # fmt: skip
    except MissingError:
        return _failed(blank, f"{reference.name} does not reach the field")
    masked = without(near, options.masks)
    if masked is None:
        return _failed(blank, f"all of {reference.name} around it is masked")
    fine, mapping = _fine(masked, mapping_between(image, masked.projection))
    variance = None if image.variance is None else image.variance.astype(float)
    exposure = prepare(image.flux.astype(float), variance, image.arcsec_per_pixel)
    search = Search(largest_arcsec=options.max_offset_arcsec, rotation=options.rotation)
    found = register(exposure, fine, mapping, search)
    if found is None:
        return _failed(blank, f"nothing in it agrees with {reference.name} anywhere")
    return _compared(blank, found, near.fwhm_arcsec, options, companions or {})


def measure_again(compared: Compared, masked: Sequence[MaskedCircle]) -> Compared:
    """Measure once more from what was kept, without some parts of the sky.

    Parameters
    ----------
    compared
        Exposure and reference as they were compared.
    masked
        All parts that do not count, those of ``compared`` included if they still hold.
    """
    circles = tuple(masked)
    before = replace(compared.measurement, reasons=(), sources=())
    image = compared.exposure
    reference = without(compared.reference, circles)
    if reference is None or not np.any(reference.flux[np.isfinite(reference.flux)] != 0):
        failed = before.failed("nothing is left to compare it with")
        return replace(compared, measurement=failed, masked=circles)
    there = reference.flux.astype(float)
    seeing = before.fwhm_arcsec if math.isfinite(before.fwhm_arcsec) else FIRST_SEEING_ARCSEC
    matched = Matched(there, np.zeros(there.shape), compared.margin, seeing)
    variance = np.ones(image.shape) if image.variance is None else image.variance.astype(float)
    exposure = prepared(image.flux.astype(float), variance, image.arcsec_per_pixel)
    found = register_matched(exposure, matched)
    if found is None:
        failed = before.failed("nothing in it agrees with the reference anywhere")
        return replace(compared, measurement=failed, masked=circles)
    largest = (compared.margin - 2) * image.pixel_arcsec
    again = measurement_of(image, before, found, _blue_red_of(before), largest)
    return replace(compared, measurement=again, masked=circles)


def without(image: FieldImage, circles: Sequence[MaskedCircle]) -> FieldImage | None:
    """The image with NaN in some circles of the sky; None if nothing is left."""
    if not circles:
        return image
    masked = np.zeros(image.shape, bool)
    for circle in circles:
        masked |= _inside(image, circle)
    flux = np.where(masked, np.float32(np.nan), image.flux)
    return replace(image, flux=flux) if np.isfinite(flux).any() else None


def _inside(image: FieldImage, circle: MaskedCircle) -> Bools:
    x, y = (float(value) for value in image.projection.to_pixel(circle.ra_deg, circle.dec_deg))
    if not (math.isfinite(x) and math.isfinite(y)):
        return np.zeros(image.shape, bool)
    dy, dx = np.ogrid[: image.shape[0], : image.shape[1]]
    east, north = np.einsum(
        "ij,jyx->iyx", image.arcsec_per_pixel, np.stack(np.broadcast_arrays(dx - x, dy - y))
    )
    return np.asarray(np.hypot(east, north) <= circle.radius_arcsec)


def _blank(image: FieldImage, reference: Reference, options: MeasureOptions) -> Compared:
    """What is known before anything is measured."""
    margin = _margin(image, options)
    empty = np.zeros((image.shape[0] + 2 * margin, image.shape[1] + 2 * margin), np.float32)
    measurement = Measurement(
        date_obs=image.date_obs,
        name=image.name,
        path=image.path,
        ra_deg=image.ra_deg,
        dec_deg=image.dec_deg,
        method=reference.kind,
        frame=reference.frame,
        band=image.band,
    )
    there = FieldImage(
        flux=empty, projection=image.projection.shifted(-margin, -margin),
        name=reference.name, band=image.band, units=image.units,
    )  # fmt: skip
    return Compared(measurement, image, there, options.masks)


def _margin(image: FieldImage, options: MeasureOptions) -> int:
    return math.ceil(options.max_offset_arcsec / image.pixel_arcsec - 1e-6) + 2


def _failed(blank: Compared, reason: str) -> Compared:
    return replace(blank, measurement=blank.measurement.failed(reason))


def _epoch(image: FieldImage) -> float | None:
    """Julian year of the exposure; None if its date is not known."""
    from astropy.time import Time

    if not image.date_obs:
        return None
    try:
        return float(Time(image.date_obs, scale="utc").jyear)
    except ValueError:
        return None


def mapping_between(image: FieldImage, reference: SkyProjection) -> Mapping:
    """Where the exposure's pixels lie in the reference; between tangent planes that is linear."""
    ny, nx = image.shape
    x, y = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, n - 1, 7) for n in (nx, ny))))
    there = np.column_stack(reference.to_pixel(*image.projection.to_sky(x, y)))
    design = np.column_stack([np.ones_like(x), x, y])
    solution = np.linalg.lstsq(design, there, rcond=None)[0]
    worst = float(np.abs(design @ solution - there).max())
    step = math.sqrt(abs(float(np.linalg.det(solution[1:]))))
    if not worst <= _STRAIGHT_PIXELS * step:
        raise InputError(
            f"{image}: its pixels do not lie evenly in the reference (up to {worst / step:.2f} "
            "spaxels off): one of the two WCS is distorted or wrong; give a rectified image"
        )
    return Mapping(np.asarray(solution[0], float), np.array(solution[1:].T, float))


def _fine(near: FieldImage, mapping: Mapping) -> tuple[FineImage, Mapping]:
    """Make a reference ready; one that is sampled more finely than seeing needs is binned."""
    whole = FineImage.of(near.flux, near.pixel_arcsec, mapping.matrix)
    return binned(whole, mapping, int(FINEST_ARCSEC / near.pixel_arcsec + 1e-6))


def _compared(
    blank: Compared,
    found: Registered,
    reference_fwhm: float,
    options: MeasureOptions,
    companions: Mappings[str, FieldImage],
) -> Compared:
    """Put a registration into the words of the sky."""
    exposure, image = found.exposure, blank.exposure
    before = _calibrated(
        replace(blank.measurement, fwhm_arcsec=_fwhm(found, reference_fwhm)), found
    )
    blue_red = _blue_red(found, companions)
    measurement = measurement_of(image, before, found, blue_red, options.max_offset_arcsec)
    seen = replace(
        image,
        flux=np.where(exposure.usable, exposure.image, np.nan).astype(np.float32),
        variance=np.where(exposure.usable, exposure.sigma**2, np.nan).astype(np.float32),
        coverage=None,
    )
    scaled = (found.amplitude * found.matched.image).astype(np.float32)
    margin = found.matched.margin
    reference = replace(
        blank.reference, flux=scaled, projection=image.projection.shifted(-margin, -margin)
    )
    return Compared(measurement, seen, reference, options.masks)


def _fwhm(found: Registered, reference_fwhm: float) -> float:
    """FWHM of a point source in the exposure, arcseconds, without the spaxel's width."""
    seeing = found.matched.seeing_arcsec
    if seeing <= 0 and not math.isfinite(reference_fwhm):
        return math.nan
    native = reference_fwhm if math.isfinite(reference_fwhm) else 0.0
    return math.sqrt(max(0.0, math.copysign(seeing**2, seeing) + native**2))


def _calibrated(before: Measurement, found: Registered) -> Measurement:
    """Add flux scale and background: reference = scale (exposure + background), a pixel."""
    if before.method == "catalogue":  # its sources have been given one flux
        return before
    ratio, error = _ratio_to_reference(found)
    level = float(np.nanmedian(found.matched.background))
    usable = found.exposure.usable
    noise = float(np.median(found.exposure.sigma[usable])) / math.sqrt(float(usable.sum()))
    return replace(
        before,
        flux_scale=1.0 / ratio,
        flux_scale_error=error / ratio**2,
        background=ratio * level - found.exposure.level,
        background_error=math.hypot(noise, error * level if math.isfinite(error) else 0.0),
    )


def _ratio_to_reference(found: Registered) -> tuple[float, float]:
    """Flux of the exposure over that of the reference, and its error.

    In apertures: the amplitudes of the fits rest on the sources' cores, which say as much
    of the seeing. The wings of the seeing that the reference was smoothed by are not known.
    """
    exposure, seeing = found.exposure, abs(found.matched.seeing_arcsec)
    ny, nx = exposure.image.shape
    model = found.matched.displaced(found.shift, (ny, nx))
    both = exposure.usable & np.isfinite(model)
    noise = float(np.median(exposure.sigma[exposure.usable])), level_and_sigma(model[both])[1]
    if not min(noise) > 0:
        return found.amplitude, found.amplitude_error
    one, other = (
        Aligned(np.where(both, image, np.nan), own)
        for image, own in zip((exposure.image, model), noise, strict=True)
    )
    ratio, error = flux_ratio(one, other, exposure.pixel)
    if not math.isfinite(ratio):
        return found.amplitude, found.amplitude_error
    return ratio, math.hypot(error, ratio * _UNSURE_WINGS * Seeing(seeing).beyond(APERTURE_ARCSEC))


def _blue_red(found: Registered, companions: Mappings[str, FieldImage]) -> tuple[float, float]:
    """Distance of the offsets of the blue and the red image and its error, arcseconds."""
    if BLUE not in companions or RED not in companions:
        return math.nan, math.nan
    places, covariance = [], np.zeros((2, 2))
    for band in (BLUE, RED):
        image = companions[band]
        variance = None if image.variance is None else image.variance.astype(float)
        exposure = prepare(image.flux.astype(float), variance, image.arcsec_per_pixel)
        again = refined_again(exposure, found)
        if again is None:
            return math.nan, math.nan
        places.append(again.agreement.place)
        covariance += again.agreement.covariance
    distance = float(np.hypot(*(places[0] - places[1])))
    return distance, math.sqrt(float(np.trace(covariance)) / 2.0)


def _blue_red_of(measurement: Measurement) -> tuple[float, float]:
    return measurement.blue_red_arcsec, measurement.blue_red_error_arcsec


def measurement_of(
    image: FieldImage,
    before: Measurement,
    found: Registered,
    blue_red: tuple[float, float],
    largest_arcsec: float,
) -> Measurement:
    """Complete what is known of an exposure by its offset, sources and grade."""
    east, north = total_offset(image, found.offset_arcsec)
    floor = _FLOOR_ARCSEC.get(before.method, 0.0)
    errors = np.sqrt(np.diag(found.agreement.covariance) + floor**2)
    evidence = _evidence(found, blue_red, largest_arcsec)
    if "relative" in before.method:
        # Another exposure promises its hot spaxels and bad edges as well.
        evidence = replace(evidence, seen=1.0)
    letter, reasons = grade(evidence)
    handed = -math.copysign(1.0, float(np.linalg.det(image.arcsec_per_pixel)))
    turned = math.isfinite(found.rotation_error_rad)
    measured = replace(
        before,
        ra_offset_arcsec=east,
        dec_offset_arcsec=north,
        ra_error_arcsec=float(errors[0]),
        dec_error_arcsec=float(errors[1]),
        rotation_deg=handed * math.degrees(found.rotation_rad) if turned else math.nan,
        rotation_error_deg=math.degrees(found.rotation_error_rad),
        n_sources=evidence.n_agreeing,
        signal_to_noise=evidence.signal_to_noise,
        correlation_before=found.correlation(np.zeros(2)),
        correlation_after=found.correlation(found.shift),
        blue_red_arcsec=blue_red[0],
        blue_red_error_arcsec=blue_red[1],
        grade=letter,
        reasons=reasons,
        sources=tuple(_source_offsets(image, found)),
    )
    if letter != "F":
        return measured
    return replace(measured.failed(reasons[0]), reasons=reasons)


def total_offset(image: FieldImage, shift_arcsec: Floats) -> tuple[float, float]:
    """Offset relative to the raw header, of what is left relative to the file's WCS."""
    return (
        float(shift_arcsec[0]) * _east_ratio(image) + image.carried_ra_arcsec,
        float(shift_arcsec[1]) + image.carried_dec_arcsec,
    )


def _east_ratio(image: FieldImage) -> float:
    """Offsets take cos(dec) at the header's pointing, not at the middle of the field."""
    if not math.isfinite(image.dec_deg):
        return 1.0
    ny, nx = image.shape
    _, dec = image.projection.to_sky((nx - 1) / 2.0, (ny - 1) / 2.0)
    return math.cos(math.radians(image.dec_deg)) / math.cos(math.radians(float(dec)))


def _evidence(found: Registered, blue_red: tuple[float, float], largest_arcsec: float) -> Evidence:
    """What the grade rests on."""
    belongs, clear = found.belongs, found.fits.signal_to_noise > _CLEAR_SN
    agreeing = belongs > 0.5
    error = np.where(found.fits.amplitude_error > 0, found.fits.amplitude_error, np.inf)
    promised = found.amplitude / error > _CLEAR_SN
    seen = agreeing & clear
    usable = found.exposure.usable
    ny, nx = usable.shape
    covered = np.isfinite(found.matched.displaced(found.shift, (ny, nx)))[usable]
    told = found.fits.signal_to_noise[agreeing]
    return Evidence(
        error_arcsec=float(np.sqrt(np.diag(found.agreement.covariance)).max()),
        n_agreeing=int(seen.sum()),
        n_disagreeing=int(((found.fits.strength > _CLEAR_SN) & ~agreeing).sum()),
        effective=found.agreement.effective,
        signal_to_noise=float(np.sqrt((told**2).sum())),
        scatter_arcsec=found.agreement.scatter,
        significance=found.peak.significance,
        rival=found.rival,
        seen=float((promised & agreeing).sum()) / max(1, int(promised.sum())),
        overlap=float(covered.mean()),
        spread_arcsec=_spread(found, seen),
        blue_red_arcsec=blue_red[0],
        blue_red_error_arcsec=blue_red[1],
        offset_arcsec=float(np.abs(found.exposure.arcsec @ found.shift).max()),
        largest_arcsec=largest_arcsec,
    )


def _reason(found: Registered, i: int) -> str:
    """Why a source does not count."""
    seen = found.asked[i] or found.fits.strength[i] > _CLEAR_SN
    return "outlier" if seen else "imprecise"


def _spread(found: Registered, seen: Bools) -> float:
    """Root mean square distance of sources from their middle, arcseconds."""
    places = np.column_stack([found.sources.x, found.sources.y])[seen] @ found.exposure.arcsec.T
    return float(np.sqrt(places.var(axis=0).sum())) if len(places) else 0.0


def _source_offsets(image: FieldImage, found: Registered) -> Iterator[SourceOffset]:
    """The single sources, the strongest first."""
    shifts, covariances = found.source_shifts, found.source_covariances
    x, y = found.sources.x - found.shift[0], found.sources.y - found.shift[1]
    ra, dec = image.projection.to_sky(x, y)
    belongs, noise = found.belongs, found.fits.signal_to_noise
    for i in np.argsort(-noise, kind="stable"):
        if not found.fits.good[i]:
            continue
        east, north = total_offset(image, shifts[i])
        ratio = 1.0 / float(found.fits.amplitude[i])
        yield SourceOffset(
            ra_deg=float(ra[i]), dec_deg=float(dec[i]), x=float(x[i]), y=float(y[i]),
            ra_offset_arcsec=east, dec_offset_arcsec=north,
            ra_error_arcsec=math.sqrt(covariances[i, 0, 0]),
            dec_error_arcsec=math.sqrt(covariances[i, 1, 1]),
            flux_ratio=ratio,
            flux_ratio_error=float(found.fits.amplitude_error[i]) * ratio**2,
            signal_to_noise=float(noise[i]),
            used=bool(belongs[i] > 0.5),
            reason="" if belongs[i] > 0.5 else _reason(found, int(i)),
        )  # fmt: skip
