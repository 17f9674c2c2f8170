"""All exposures at their offsets: one mosaic, the reference beside it, and files of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from musedask.alignment.image import FieldImage
from musedask.alignment.image_files import write_image
from musedask.alignment.material import Compared, Entry, Material
from musedask.alignment.mosaic import aligned, make_mosaic
from musedask.alignment.review.images import noise_of
from musedask.errors import FileError, MissingError
from musedask.offsets import Offset, OffsetTable
from musedask.run import name_for_people

MOSAIC_NAME = "mosaic.fits"
REFERENCE_NAME = "mosaic_reference.fits"
DIFFERENCE_NAME = "mosaic_difference.fits"
ALIGNED_FOLDER = "aligned"


@dataclass(frozen=True)
class Overview:
    """The mean of all aligned exposures, and of what each was compared with."""

    mosaic: FieldImage
    """Mean of the exposures, north up."""
    reference: FieldImage | None
    """Mean of the references, on the same pixels; None where there is none."""
    n_exposures: int
    """How many are in it."""

    @property
    def difference(self) -> FieldImage | None:
        """Exposures minus reference; None if they have no pixel in common."""
        if self.reference is None:
            return None
        flux = self.mosaic.flux - self.reference.flux
        if not np.isfinite(flux).any():
            return None
        return replace(self.mosaic, flux=flux, variance=None, coverage=None, name="difference")


def usable(material: Material, table: OffsetTable) -> tuple[tuple[Entry, Offset], ...]:
    """The exposures that have images and an offset that did not fail."""
    pairs = ((entry, table.find(entry.key)) for entry in material if entry.key in table)
    return tuple((entry, row) for entry, row in pairs if row.is_finite and not row.is_failed)


def make_overview(pairs: Sequence[tuple[Entry, Offset]], folder: Path) -> Overview:
    """Put all exposures together where their offsets place them.

    Parameters
    ----------
    pairs
        From :func:`usable`.
    folder
        Where ``aligned/*.fits``, ``mosaic.fits``, that of the reference and the
        difference are written.

    Raises
    ------
    MissingError
        If there is no exposure.
    FileError
        If an image cannot be read, or a file cannot be written.
    InputError
        If the exposures do not go together in one image.
    """
    if not pairs:
        raise MissingError("no exposure has an offset that can be used: there is no mosaic yet")
    try:
        (folder / ALIGNED_FOLDER).mkdir(exist_ok=True)
    except OSError as err:
        raise FileError(f"{folder}: cannot be written: {err.strerror or err}") from err
    files: list[Path] = []
    references: list[FieldImage] = []
    for entry, row in pairs:
        compared = entry.read()
        name = name_for_people(compared.key, compared.measurement.name)
        file = folder / ALIGNED_FOLDER / f"{name}.fits"
        files.append(write_image(file, aligned(compared.exposure, row), overwrite=True))
        references.extend(_reference(compared))
    mosaic = make_mosaic(files)
    reference = make_mosaic(references, like=mosaic) if references else None
    overview = Overview(mosaic, reference, len(pairs))
    named = {MOSAIC_NAME: mosaic, REFERENCE_NAME: reference, DIFFERENCE_NAME: overview.difference}
    for name, image in named.items():
        if image is not None:
            write_image(folder / name, image, overwrite=True)
        else:
            (folder / name).unlink(missing_ok=True)
    return overview


def _reference(compared: Compared) -> tuple[FieldImage, ...]:
    """What is under the exposure, with the exposure's weight; nothing where there is nothing.

    With one weight for both the difference of the means is the mean of the differences.
    """
    ny, nx = compared.exposure.shape
    margin = compared.margin
    flux = compared.reference.flux[margin : margin + ny, margin : margin + nx]
    if not np.isfinite(flux).any():
        return ()
    variance = np.full(flux.shape, noise_of(compared.exposure) ** 2, np.float32)
    exposure = compared.exposure
    image = replace(exposure, flux=flux, variance=variance, coverage=None, name="reference")
    return (image,)
