"""The verb of the alignment: exposures in, offsets out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from musedask.alignment.filters import Filter
from musedask.alignment.image import FieldImage
from musedask.alignment.material import MaskedCircle, write_material
from musedask.alignment.measurement import Alignment, Measurement
from musedask.alignment.measuring import (
    BLUE,
    RED,
    MeasureOptions,
    measure_against,
)
from musedask.alignment.reference import Reference, open_reference
from musedask.alignment.reference_band import REFERENCE, filter_like
from musedask.errors import InputError, MusedaskWarning
from musedask.offsets import OffsetTable, date_key
from musedask.progress import Progress
from musedask.tasks import map_tasks

if TYPE_CHECKING:
    from astropy.table import Table

ExposureLike = xr.Dataset | FieldImage | str | os.PathLike[str]
Exclusion = str | tuple[float, float]


@dataclass(frozen=True, eq=False)
class Seen:
    """An exposure through the filters that count."""

    image: FieldImage
    """What is compared with the reference."""
    companions: dict[str, FieldImage]
    """The blue and the red image, where there are such."""


def measure_offsets(
    exposures: Iterable[ExposureLike],
    reference: str | os.PathLike[str] | FieldImage | Table | None = None,
    **options: Any,
) -> OffsetTable:
    """Measure where exposures really point; computes.

    As :func:`align`, which says what the options are, and gives more than the
    table: what each source says, and the images that were compared.
    """
    return align(exposures, reference, **options).offsets


def align(
    exposures: Iterable[ExposureLike],
    reference: str | os.PathLike[str] | FieldImage | Table | None = None,
    *,
    filters: Sequence[str | Filter] | str = ("white",),
    exclude: Iterable[Exclusion] | str = (),
    max_offset_arcsec: float = 20.0,
    rotation: bool = False,
    relative: bool = True,
    flux_scales: bool = False,
    masks: Iterable[MaskedCircle] = (),
    mask_sense: str = "good",
    progress: Progress | None = None,
    material: str | os.PathLike[str] | None = None,
) -> Alignment:
    """Measure the offsets of exposures, each with its error and a grade; computes.

    Each exposure is one Dask task, on the cluster whose client is active, else in
    threads. With a reference offsets are absolute. Exposures for which that gives
    nothing good (it does not reach them, say), and all if there is no reference, are
    compared with one another, and one system is solved for them all.

    Parameters
    ----------
    exposures
        Lazy cubes, files (cubes, or images such as IMAGE_FOV), or images.
    reference
        An image of any telescope, a catalogue, or their file, as
        :func:`musedask.alignment.reference.open_reference` takes them; None to
        compare exposures with one another only.
    filters
        What cubes are seen through; the first one is compared. ``reference`` is the one
        that is most like the reference's, where its header names that
        (:func:`musedask.alignment.reference_band.filter_like`).
    exclude
        Wavelengths that are left out of it, as of
        :func:`musedask.alignment.collapse.collapse`.
    max_offset_arcsec
        Largest offset along an axis that is looked for.
    rotation
        Whether rotations are measured.
    relative
        Whether exposures may be compared with one another, if there is a reference.
    flux_scales
        Whether all exposures are compared in flux with one another
        (:func:`musedask.alignment.flux_scales.with_flux_scales`); otherwise only those whose
        offsets are relative.
    masks
        Circles on the sky that do not count: a star that moved.
    mask_sense
        As of :func:`musedask.alignment.collapse.collapse`.
    progress
        Told how many exposures are done.
    material
        Folder for the images that were compared, for the review.

    Raises
    ------
    InputError
        If there is no exposure, one has no DATE-OBS, or two have the same.
    FileError
        If a file cannot be read.
    """
    given = list(exposures)
    if not given:
        raise InputError("no exposures: give lazy cubes, files or images")
    if reference is None and not relative:
        raise InputError("without a reference exposures can only be compared with one another")
    options = MeasureOptions(
        max_offset_arcsec=max_offset_arcsec, rotation=rotation, masks=tuple(masks)
    )
    chosen = (filters,) if isinstance(filters, str) else tuple(filters)
    against = None if reference is None else open_reference(reference)
    chosen = tuple(_like(against) if one == REFERENCE else one for one in chosen)
    look = partial(see, filters=chosen, exclude=exclude, mask_sense=mask_sense)
    folder = None if material is None else Path(material)
    outcomes = map_tasks(
        partial(_measured, look=look, reference=against, options=options, folder=folder),
        given, progress,
    )  # fmt: skip
    _check_keys([image for image, _ in outcomes])
    found = tuple(measurement for _, measurement in outcomes)
    if relative and len(given) > 1 and any(one.grade in "CF" for one in found):
        from musedask.alignment.relative import with_relative

        found = with_relative([image for image, _ in outcomes], found, options, folder)
    if flux_scales or any("relative" in one.method for one in found):
        from musedask.alignment.flux_scales import with_flux_scales

        images = [image for image, _ in outcomes]
        found = with_flux_scales(images, found, options.masks, everywhere=flux_scales)
    return Alignment(found)


def _like(reference: Reference | None) -> Filter:
    """The filter that is most like the reference's; white light, with a warning, if none is."""
    if reference is None:
        raise InputError(
            f"filter {REFERENCE!r}: there is no reference whose filter it could be; name a filter"
        )
    found = filter_like(reference.band)
    if found.is_white and reference.band.lower() != found.name:
        said = f"its filter {reference.band} is not" if reference.band else "it names no filter"
        warnings.warn(
            f"{reference.name}: {said}{' one that MUSE sees' if reference.band else ''}, so white "
            "light is compared; name a filter if another one is more like it",
            MusedaskWarning,
            stacklevel=3,
        )
    return found


def see(
    exposure: ExposureLike,
    filters: Sequence[str | Filter] = ("white",),
    exclude: Iterable[Exclusion] | str = (),
    mask_sense: str = "good",
) -> Seen:
    """Make the images of an exposure, or take the one that it is; computes.

    Parameters
    ----------
    exposure
        A lazy cube, a file, or an image.
    filters, exclude, mask_sense
        As in :func:`align`.
    """
    if isinstance(exposure, FieldImage):
        return Seen(exposure, {})
    if not isinstance(exposure, xr.Dataset):
        from musedask.alignment.opening import open_exposure

        return see(open_exposure(exposure), filters, exclude, mask_sense)
    from musedask.alignment.collapse import collapse_lazily

    ends = exposure["wavelength"].values[[0, -1]]
    bands = [
        band for band in (BLUE, RED)
        if ends[0] < float(band.split("-")[0]) + 200 and ends[1] > float(band.split("-")[1]) - 200
    ]  # fmt: skip
    # Both or none: a single one has nothing to be compared with.
    wanted = [*filters[:1], *(bands if len(bands) == 2 else ())]
    lazy = collapse_lazily(exposure, wanted, exclude=exclude, mask_sense=mask_sense)
    # This is within a task, whose core it is; others measure other exposures.
    image, *others = lazy.compute(scheduler="synchronous")
    return Seen(image, dict(zip(bands, others, strict=False)))


def _measured(
    exposure: ExposureLike,
    look: Any,
    reference: Reference | None,
    options: MeasureOptions,
    folder: Path | None,
) -> tuple[FieldImage, Measurement]:
    """Measure one exposure: the whole of a task."""
    seen: Seen = look(exposure)
    image = seen.image
    if reference is None:
        nothing = Measurement(
            date_obs=image.date_obs, name=image.name, path=image.path, ra_deg=image.ra_deg,
            dec_deg=image.dec_deg, method="relative", band=image.band,
        )  # fmt: skip
        return image, nothing
    compared = measure_against(image, reference, options, seen.companions)
    if folder is not None:
        write_material(folder, [compared])
    return image, compared.measurement


def _check_keys(images: Sequence[FieldImage]) -> None:
    """Raise an InputError unless each exposure has a DATE-OBS of its own."""
    known: dict[str, FieldImage] = {}
    for image in images:
        if not image.date_obs:
            raise InputError(f"{image}: there is no DATE-OBS, by which offsets are found; add it")
        other = known.setdefault(date_key(image.date_obs), image)
        if other is not image:
            raise InputError(
                f"{image} and {other} have one DATE-OBS, {image.date_obs}: an exposure has one "
                "offset; give each exposure once"
            )


__all__ = ["Seen", "align", "measure_offsets", "see"]
