"""The demo's exposures: the real sky of Abell 478, observed again eight times."""

from __future__ import annotations

import os
from pathlib import Path

from astropy.io import fits

from musedask.offsets import OffsetTable
from musedask.simulation.abell478 import (
    HST_FILE,
    HST_MINUS_MUSE_ARCSEC,
    mpdaf_data,
    real_noise,
    real_sky,
)
from musedask.simulation.exposure import ExposureSpec
from musedask.simulation.sets import observe_all
from musedask.sky import SkyProjection

CENTRE_DEG = (63.35527, 10.46649)
"""Between the central galaxy and the compact source north of it (RA, DEC)."""
FIELD = (60, 60)
"""Height and width of each exposure's field: 12 arcseconds."""
SEED = 478

_ROWS = (
    # mode, first Angstrom, channels, dither E N, angle, offset E N, seeing, flux scale, phase
    ("WFM-NOAO-N", 4749.89, 3681, (0.0, 0.0), 0.0, (0.0, 0.0), 0.80, 1.0, (0.0, 0.0)),
    ("WFM-NOAO-N", 4750.12, 3682, (0.9, -0.6), 90.0, (0.31, -0.47), 0.76, 1.0, (0.2, -0.4)),
    ("WFM-AO-N", 4700.02, 3721, (-0.7, 0.9), 180.0, (-0.84, 0.22), 0.74, 1.04, (-0.3, 0.1)),
    ("WFM-AO-N", 4699.81, 3722, (0.5, 1.1), 270.0, (0.13, 0.78), 0.77, 1.0, (0.4, 0.3)),
    ("WFM-NOAO-E", 4600.05, 3801, (-1.1, -0.4), 0.0, (-0.25, -0.36), 0.88, 1.12, (0.1, 0.5)),
    ("WFM-NOAO-N", 4749.93, 3681, (0.2, 0.3), 45.0, (2.35, -1.62), 0.85, 1.0, (-0.1, 0.2)),
    ("WFM-NOAO-N", 4749.78, 3681, (-0.4, -1.0), 90.0, (0.56, 0.41), 0.92, 1.0, (0.3, -0.2)),
    ("WFM-NOAO-N", 4750.07, 3682, (1.0, 0.4), 180.0, (-0.48, -0.19), 0.83, 1.07, (-0.5, -0.3)),
)


def demo_specs() -> list[ExposureSpec]:
    """Describe the eight exposures: all modes' lengths, one field at 45 degrees."""
    return [
        ExposureSpec(
            name=f"a478_{i}",
            date_obs=f"2024-11-{7 + i:02d}T0{1 + i % 7}:1{i}:24.{137 * i % 1000:03d}",
            ra_deg=CENTRE_DEG[0],
            dec_deg=CENTRE_DEG[1],
            dither_arcsec=dither,
            rotation_deg=angle,
            ra_offset_arcsec=offset[0],
            dec_offset_arcsec=offset[1],
            seeing_arcsec=seeing,
            flux_scale=scale,
            mode=mode,
            first_angstrom=first,
            n_channels=n_channels,
            phase=phase,
            margin=1,
            lost_fraction=0.005,
            hits_per_megavoxel=20.0,
        )
        for i, (mode, first, n_channels, dither, angle, offset, seeing, scale, phase) in enumerate(
            _ROWS, 1
        )
    ]


def demo_exposures(
    folder: str | os.PathLike[str], *, overwrite: bool = False
) -> tuple[list[Path], OffsetTable]:
    """Write the demo's exposures and the truth beside them.

    Parameters
    ----------
    folder
        Where they go; made if it is not there. About 1.2 GB.
    overwrite
        Whether existing exposures may be replaced.

    Returns
    -------
    paths
        The eight cubes.
    offsets
        What puts them right: the true offsets and flux scales.

    Raises
    ------
    MissingError
        If mpdaf, whose wheel has the real data, is not installed.
    FileError
        If a file exists or cannot be written.
    """
    truth = observe_all(
        real_sky(), demo_specs(), folder, shape=FIELD, seed=SEED, noise=real_noise(),
        target="Abell 478", overwrite=overwrite,
    )  # fmt: skip
    return truth.paths, truth.offsets


def write_hst_image(path: Path) -> None:
    """Write the HST image of the field, on the frame in which the true offsets are 0.

    Raises
    ------
    MissingError
        If mpdaf, whose wheel has it, is not installed.
    """
    with fits.open(mpdaf_data(HST_FILE), memmap=False) as hdus:
        image = hdus["SCI"].data
        projection = SkyProjection.from_header(hdus["SCI"].header, HST_FILE)
    cards = projection.moved(*HST_MINUS_MUSE_ARCSEC).cards
    fits.writeto(path, image, fits.Header(list(cards)), overwrite=True)
