"""Exposures made on the spot: distinct files of stated content, kept and used again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks.jobs import Array, DataSpec
from musedask.errors import FileError

DATA_VERSION = 1
"""Raise it when equal specifications give other bytes."""
PIXEL_DEG = 0.2 / 3600.0
CENTRE_DEG = (150.1, 2.2)
TURN_DEG = 37.0
MARGIN_PIX = 8
"""Missing pixels around a field in its frame, as the pipeline leaves them."""
REACH_PIX = 12
"""By how much the grid is wider than a frame on each side."""
FIELD_STEP_PIX = 310
FIRST_ANGSTROM, STEP_ANGSTROM = 4749.890625, 1.25
HOLE_SHARE, HIT_SHARE = 0.003, 0.003
_BYTES_PER_VOXEL = {"noise": 8, "flat": 4, "empty": 0}
_RUN = 16
"""Channels written at a time."""
_ROOM = 2 << 30
"""Bytes that are left free on the disk."""


def date_obs(n: int) -> str:
    """DATE-OBS of the n-th exposure."""
    when = datetime(2020, 1, 1) + n * timedelta(hours=1)
    return when.isoformat(timespec="milliseconds")


def dither_pix(n: int) -> tuple[float, float]:
    """Shift of the n-th exposure (x, y): fractions of a pixel, within 6 pixels."""
    return (7 * n) % 11 - 5 + 0.13 + 0.07 * (n % 9), (5 * n) % 11 - 5 + 0.21 + 0.05 * (n % 11)


def axis_cards(crpix: tuple[float, float], turn_deg: float = 0.0) -> dict[str, Any]:
    """A TAN projection about the centre of all fields, with a wavelength axis."""
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": CENTRE_DEG[0], "CRVAL2": CENTRE_DEG[1], "CRPIX1": crpix[0], "CRPIX2": crpix[1],
        "CD1_1": -PIXEL_DEG * cos, "CD1_2": PIXEL_DEG * sin,
        "CD2_1": PIXEL_DEG * sin, "CD2_2": PIXEL_DEG * cos,
        "CTYPE3": "AWAV", "CUNIT3": "Angstrom", "CRVAL3": FIRST_ANGSTROM, "CRPIX3": 1.0,
        "CD3_3": STEP_ANGSTROM, "CD1_3": 0.0, "CD2_3": 0.0, "CD3_1": 0.0, "CD3_2": 0.0,
    }  # fmt: skip


def exposure_cards(spec: DataSpec, n: int) -> dict[str, Any]:
    """Axes of the n-th exposure: one CRVAL for all, so that shifts lie in CRPIX alone."""
    middle = (spec.side + 1) / 2
    x, y = dither_pix(n)
    field = n % spec.n_fields
    columns = int(np.ceil(np.sqrt(spec.n_fields)))
    step = FIELD_STEP_PIX * spec.side / 320
    crpix = (middle - x - field % columns * step, middle - y - field // columns * step)
    return axis_cards(crpix, TURN_DEG if spec.geometry == "turn" else 0.0)


def grid_header(spec: DataSpec) -> fits.Header:
    """The grid that every peer stacks onto: north up, around all fields of upright frames.

    Turned lattices are stacked onto the same grid as upright ones, whose corners they leave empty.
    """
    columns = int(np.ceil(np.sqrt(spec.n_fields)))
    rows = -(-spec.n_fields // columns)
    step = FIELD_STEP_PIX * spec.side / 320
    size = spec.side + 2 * REACH_PIX
    nx, ny = (int(np.ceil(size + (n - 1) * step)) for n in (columns, rows))
    header = _image_header((spec.n_channels, ny, nx), axis_cards(((size + 1) / 2,) * 2))
    header["EXTNAME"], header["SPECSYS"] = "DATA", "BARYCENT"
    return header


def make_exposures(
    spec: DataSpec, folder: Path, limit_bytes: int, keep: set[str] | None = None
) -> tuple[Path, ...]:
    """Make the exposures that are not there yet.

    Parameters
    ----------
    spec
        What they are to be.
    folder
        Holds a folder for each kind of data.
    limit_bytes
        Kinds of data that have not been used for longest are removed to stay below this.
    keep
        Kinds that are not removed.

    Raises
    ------
    FileError
        If the disk has no room for them, or the limit is too low.
    """
    home = folder / kind_of(spec)
    home.mkdir(parents=True, exist_ok=True)
    os.utime(home)
    paths = tuple(home / f"exposure_{n:04d}.fits" for n in range(spec.n_exposures))
    missing = [n for n, path in enumerate(paths) if not path.exists()]
    if missing:
        needed = len(missing) * _BYTES_PER_VOXEL[spec.content] * spec.n_voxels // spec.n_exposures
        make_room(folder, needed, limit_bytes, {home.name, *(keep or set())})
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            list(pool.map(lambda n: _write(spec, n, paths[n]), missing))
        (home / "kind.json").write_text(json.dumps(asdict(spec)) + "\n")
    return paths


def kind_of(spec: DataSpec) -> str:
    """Name of the folder: all but the number of exposures, of which the n-th is always the same."""
    facts = {k: v for k, v in asdict(spec).items() if k != "n_exposures"}
    digest = hashlib.sha256(json.dumps([DATA_VERSION, facts], sort_keys=True).encode())
    return f"{spec.geometry}_{spec.n_channels}x{spec.side}_{digest.hexdigest()[:10]}"


def used_bytes(folder: Path) -> int:
    """Room that a folder takes on the disk; holes in files take none."""
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file())


def make_room(folder: Path, needed: int, limit: int, keep: set[str]) -> list[str]:
    """Remove kinds of data that are not to be kept, the longest unused first; tell which.

    Raises
    ------
    FileError
        If that is not enough.
    """
    removed = []
    kinds = sorted((k for k in folder.iterdir() if k.is_dir()), key=lambda k: k.stat().st_mtime)
    candidates = [kind for kind in kinds if kind.name not in keep]
    while used_bytes(folder) + needed > limit or _free(folder) < needed + _ROOM:
        if not candidates:
            raise FileError(
                f"{folder}: the benchmark's data take {needed / 1e9:.1f} GB more; "
                f"{_free(folder) / 1e9:.1f} GB are free and the limit is {limit / 1e9:.0f} GB: "
                "raise --disk-gb, choose a smaller --size, or give another --work"
            )
        removed.append(candidates[0].name)
        shutil.rmtree(candidates.pop(0))
    return removed


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _image_header(shape: tuple[int, int, int], cards: dict[str, Any]) -> fits.Header:
    header = fits.ImageHDU(np.zeros((1, 1, 1), ">f4"), fits.Header(cards)).header
    for axis, size in zip((3, 2, 1), shape, strict=True):
        header[f"NAXIS{axis}"] = size
    header["BUNIT"] = "10**(-20)*erg/s/cm**2/Angstrom"
    return header


def _write(spec: DataSpec, n: int, path: Path) -> None:
    # Here, since the processes of jobs find their files made: its room takes a second to import.
    from musedask.simulation.cube_file import CubeFile

    shape = (spec.n_channels, spec.side, spec.side)
    primary = fits.PrimaryHDU().header
    primary.update({
        "INSTRUME": "MUSE", "DATE-OBS": date_obs(n), "EXPTIME": 900.0, "SPECSYS": "BARYCENT",
        "RA": CENTRE_DEG[0], "DEC": CENTRE_DEG[1], "HIERARCH ESO INS MODE": "WFM-NOAO-N",
        "HIERARCH ESO PRO CATG": "DATACUBE_FINAL",
    })  # fmt: skip
    primary["EXTEND"] = True
    data, stat = (_image_header(shape, exposure_cards(spec, n)) for _ in range(2))
    data["EXTNAME"], stat["EXTNAME"] = "DATA", "STAT"
    with CubeFile(path, (primary, data, stat), shape) as file:
        if spec.content == "noise":
            for first, flux, variance in _runs(spec, n):
                file.write_flux(first, flux)
                file.write_variance(first, variance)
        elif spec.content == "flat":
            file.write_variance(0, np.ones(shape, np.float32))


def _runs(spec: DataSpec, n: int) -> Iterator[tuple[int, Array, Array]]:
    """Flux and variance in runs of channels: noise as the variance says, holes and hits."""
    rng = np.random.Generator(np.random.SFC64([spec.side, spec.n_channels, n]))
    missing = ~field_of(spec)
    for first in range(0, spec.n_channels, _RUN):
        shape = (min(_RUN, spec.n_channels - first), spec.side, spec.side)
        variance = rng.random(shape, np.float32) * np.float32(60.0) + np.float32(70.0)
        flux = rng.standard_normal(shape, np.float32) * np.sqrt(variance) + np.float32(5.0)
        for share, value in ((HIT_SHARE, 1000.0), (HOLE_SHARE, np.nan)):
            at = rng.integers(0, flux.size, int(share * flux.size))
            flux.ravel()[at] = value
        variance[np.isnan(flux)] = np.nan
        flux[:, missing] = np.nan
        variance[:, missing] = np.nan
        yield first, flux, variance


def field_of(spec: DataSpec) -> Array:
    """Which spaxels of a frame see the sky, bool (y, x)."""
    at = np.arange(spec.side) - (spec.side - 1) / 2
    y, x = np.meshgrid(at, at, indexing="ij")
    if spec.geometry == "diamond":
        return np.asarray(np.abs(x) + np.abs(y) < spec.side / 2 - MARGIN_PIX * np.sqrt(2.0))
    half = spec.side / 2 - MARGIN_PIX
    return np.asarray((np.abs(x) < half) & (np.abs(y) < half))
