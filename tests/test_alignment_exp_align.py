"""Relative offsets beside those of the real muse_exp_align, on the same IMAGE_FOV files."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from musedask.alignment.measure import measure_offsets
from musedask.simulation.fields import (
    FieldExposure,
    FieldExposureSpec,
    SimulatedImage,
    draw_case,
    galaxies,
    observe_exposure,
    points,
)
from musedask.simulation.fields.scene import scattered

pytestmark = [pytest.mark.real_esorex, pytest.mark.slow]

AGREE_ARCSEC = 0.02
RA, DEC = 200.0, -35.0
Offsets = np.ndarray[Any, np.dtype[np.float64]]


def field_of_stars(seed: int) -> tuple[FieldExposure, ...]:
    """Four exposures of a clean field that muse_exp_align is made for."""
    rng = np.random.default_rng(seed)
    stars = points(*scattered(rng, RA, DEC, 56.0, 20), rng.uniform(18.5, 22.0, 20))
    scene = galaxies(rng, RA, DEC, 116.0).joined(stars)
    specs = [
        FieldExposureSpec(
            fwhm_arcsec=float(rng.uniform(0.6, 1.1)),
            rotator_deg=90.0 * i + float(rng.uniform(-3, 3)),
            ra_offset_arcsec=float(rng.uniform(-8, 8)),
            dec_offset_arcsec=float(rng.uniform(-8, 8)),
            exptime_s=1800.0,
            date_obs=f"2026-03-01T0{i}:00:00.000",
            name=f"exposure_{i}",
        )
        for i in range(4)
    ]
    return tuple(observe_exposure(scene, spec, RA, DEC, rng) for spec in specs)


def write_image_fov(path: Path, image: SimulatedImage, number: int) -> None:
    """As esorex writes it: an empty primary HDU, and DATA; no variance."""
    primary = fits.PrimaryHDU()
    primary.header.update({
        "INSTRUME": "MUSE", "OBJECT": "FIELD", "RA": image.ra_deg, "DEC": image.dec_deg,
        "EXPTIME": 900.0, "DATE-OBS": image.date_obs, "MJD-OBS": 61000.0 + number / 24,
    })  # fmt: skip
    primary.header["HIERARCH ESO PRO CATG"] = "IMAGE_FOV"
    primary.header["HIERARCH ESO INS MODE"] = "WFM-NOAO-N"
    data = fits.ImageHDU(image.flux, name="DATA")
    data.header.update(image.projection.mapping)
    data.header["BUNIT"] = image.units
    fits.HDUList([primary, data]).writeto(path)


def written(folder: Path, exposures: Sequence[FieldExposure]) -> list[Path]:
    paths = [folder / f"IMAGE_FOV_{i:04d}.fits" for i in range(len(exposures))]
    for number, (path, exposure) in enumerate(zip(paths, exposures, strict=True)):
        write_image_fov(path, exposure.image, number)
    return paths


def exp_align(paths: Sequence[Path]) -> tuple[int, dict[str, tuple[float, float]]]:
    """Status of muse_exp_align, and DATE-OBS -> offset (degrees) as it wrote them."""
    folder = paths[0].parent
    (folder / "in.sof").write_text("".join(f"{path} IMAGE_FOV\n" for path in paths))
    status = subprocess.run(
        ["esorex", "muse_exp_align", "in.sof"], cwd=folder, capture_output=True, check=False
    ).returncode
    if status or not (folder / "OFFSET_LIST.fits").is_file():
        return status, {}
    rows = fits.getdata(folder / "OFFSET_LIST.fits", 1)
    return status, {
        str(row["DATE_OBS"]).strip(): (float(row["RA_OFFSET"]), float(row["DEC_OFFSET"]))
        for row in rows
    }


def relative(offsets: Any) -> Offsets:
    """Float64 (exposure, axis) minus those of the first exposure."""
    values = np.asarray(offsets, float)
    return values - values[0]


def truth(exposures: Sequence[FieldExposure]) -> Offsets:
    return relative([(e.truth.ra_offset_arcsec, e.truth.dec_offset_arcsec) for e in exposures])


def from_exp_align(
    found: dict[str, tuple[float, float]], exposures: Sequence[FieldExposure]
) -> Offsets:
    """In arcseconds on the sky."""
    degrees = np.array([found[e.image.date_obs] for e in exposures])
    cos = np.cos(np.radians([e.image.dec_deg for e in exposures]))
    return relative(3600.0 * degrees * np.stack([cos, np.ones_like(cos)], axis=1))


def from_musedask(paths: Sequence[Path], exposures: Sequence[FieldExposure]) -> Offsets:
    table = measure_offsets([str(path) for path in paths])
    rows = {row.date_obs: row for row in table}
    own = [rows[e.image.date_obs] for e in exposures]
    assert {row.grade for row in own} <= {"A", "B"}, [(row.grade, row.note) for row in own]
    return relative([(row.ra_offset_arcsec, row.dec_offset_arcsec) for row in own])


@pytest.mark.parametrize(
    "exposures",
    [
        pytest.param(lambda: field_of_stars(0), id="stars and galaxies"),
        pytest.param(lambda: field_of_stars(1), id="others"),
        pytest.param(lambda: draw_case(0, "crowded", 2).exposures, id="cluster"),
    ],
)
def test_relative_offsets_are_those_of_muse_exp_align(exposures, tmp_path):
    made = exposures()
    paths = written(tmp_path, made)
    status, found = exp_align(paths)
    assert status == 0
    theirs, ours = from_exp_align(found, made), from_musedask(paths, made)
    assert np.abs(truth(made)).max() > 3.0
    np.testing.assert_allclose(ours, theirs, atol=AGREE_ARCSEC)
    np.testing.assert_allclose(ours, truth(made), atol=AGREE_ARCSEC)


def test_where_muse_exp_align_gives_up_offsets_are_found(tmp_path):
    """Seven galaxies, hot spaxels and bad edges: it finds no five sources in one of the images."""
    made = draw_case(0, "field", 4).exposures
    paths = written(tmp_path, made)
    status, found = exp_align(paths)
    assert status != 0
    assert found == {}
    np.testing.assert_allclose(from_musedask(paths, made), truth(made), atol=AGREE_ARCSEC)


def test_where_muse_exp_align_is_wrong_and_says_nothing_offsets_are_right(tmp_path):
    """It ends with status 0 and is 11 arcsec off in one exposure."""
    made = draw_case(3, "field", 4).exposures
    paths = written(tmp_path, made)
    status, found = exp_align(paths)
    assert status == 0
    assert np.abs(from_exp_align(found, made) - truth(made)).max() > 5.0
    np.testing.assert_allclose(from_musedask(paths, made), truth(made), atol=AGREE_ARCSEC)
