"""ESO's muse_exp_combine on pixel tables that are made on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks.exposures import CENTRE_DEG, PIXEL_DEG, date_obs
from benchmarks.jobs import Array, Comparison, Job, Place, Prepared, UnavailableError

_UNITS = "10**(-20)*erg/s/cm**2/Angstrom"
_FLUX = 7.0


def exp_combine(job: Job, place: Place) -> Prepared:
    """Drizzle pixel tables of a constant sky into a cube; the recipe has no median."""
    program = shutil.which("esorex")
    if program is None or not _has_recipe(program):
        raise UnavailableError("esorex or the MUSE recipes are missing (esorex, cpl-plugin-muse)")
    n, side = int(job.options["exposures"]), int(job.options["side"])
    channels = int(job.options["channels"])
    tables = [place.scratch / f"table{i}.fits" for i in range(n)]
    for i, path in enumerate(tables):
        _write_table(path, i, side, channels)
    frames = place.scratch / "frames.sof"
    frames.write_text("".join(f"{path} PIXTABLE_REDUCED\n" for path in tables))
    out = place.scratch / "out"
    out.mkdir()

    def run() -> Path:
        subprocess.run(
            [program, f"--output-dir={out}", f"--log-dir={out}", "--suppress-prefix=TRUE",
             "muse_exp_combine", "--filter=", str(frames)],
            cwd=out, env=_clean_environment(), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return out / "DATACUBE_FINAL.fits"

    def compare(path: Path) -> Comparison:
        with fits.open(path) as hdus:
            values = np.asarray(hdus["DATA"].data, float)
        finite = values[np.isfinite(values)]
        off = np.abs(finite - _FLUX).max() / (1e-3 * _FLUX) if finite.size else np.inf
        enough = finite.size > 0.5 * side**2 * channels
        return Comparison(
            finite.size, float(off) if enough else np.inf, "0.001 of the value", "a constant sky"
        )

    n_values = n * side**2 * channels
    per_exposure = {"exposures": float(n), "pixels": float(n_values)}
    return Prepared(run, compare, n_values, tuple(tables), metrics=lambda _: per_exposure)


def _has_recipe(program: str) -> bool:
    run = subprocess.run([program, "--recipes"], capture_output=True, text=True, check=False)
    return "muse_exp_combine" in run.stdout


def _clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("ESOREX_", "MUSE_"))}


def _write_table(path: Path, n: int, side: int, channels: int) -> None:
    """A PIXTABLE_REDUCED in image format, ``side`` x ``side`` spaxels of one flux."""
    columns = _columns(side, channels)
    primary = fits.PrimaryHDU()
    primary.header.update(_cards(n, columns))
    hdus: list[Any] = [primary]
    for name, (values, unit) in columns.items():
        hdu = fits.ImageHDU(values.reshape(-1, 1))
        hdu.header["EXTNAME"] = name  # the recipe wants it in lower case
        if unit:
            hdu.header["BUNIT"] = unit
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)


def _columns(side: int, channels: int) -> dict[str, tuple[Array, str]]:
    """Name -> values and unit; native spherical coordinates of the TAN projection."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) * np.radians(PIXEL_DEG)
    phi = np.arctan2(-x, -y).ravel()  # east is left
    theta = (np.arctan2(1, np.hypot(x, y)) - np.pi / 2).ravel()
    slices = np.arange(side * side) // side % 48 + 1
    origin = (1 << 24) | (100 << 11) | (1 << 6) | slices
    size = side * side * channels
    wavelengths = 4750 + 1.25 * np.arange(channels)
    return {
        "xpos": (np.repeat(phi.astype(np.float32), channels), "rad"),
        "ypos": (np.repeat(theta.astype(np.float32), channels), "rad"),
        "lambda": (np.tile(wavelengths.astype(np.float32), side * side), "Angstrom"),
        "data": (np.full(size, _FLUX, np.float32), _UNITS),
        "dq": (np.zeros(size, np.int32), ""),
        "stat": (np.ones(size, np.float32), f"({_UNITS})**2"),
        "origin": (np.repeat(origin.astype(np.int32), channels), ""),
    }


def _cards(n: int, columns: Mapping[str, tuple[Array, str]]) -> dict[str, Any]:
    """What the recipe asks of a pixel table that was positioned and calibrated."""
    cards: dict[str, Any] = {
        "INSTRUME": "MUSE", "OBJECT": "BENCHMARK", "RA": CENTRE_DEG[0], "DEC": CENTRE_DEG[1],
        "EXPTIME": 900.0, "DATE-OBS": date_obs(n), "MJD-OBS": 58849.0 + n / 24,
        "RADESYS": "FK5", "EQUINOX": 2000.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg", "CUNIT2": "deg", "CRPIX1": 0.0, "CRPIX2": 0.0, "CRVAL1": 0.0,
        "CRVAL2": 0.0, "CD1_1": -PIXEL_DEG, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": PIXEL_DEG,
    }  # fmt: skip
    table: dict[str, Any] = {
        "TYPE": "GEOFULL", "MERGED": 1, "DAR CORRECT": 7000.0, "FLUXCAL": True, "RVCORR": 0.0,
        "SKYSUB": True, "WCS": "projected (intermediate)", "LIMITS IFU LOW": 1,
        "LIMITS IFU HIGH": 1, "LIMITS SLICE LOW": 1, "LIMITS SLICE HIGH": 48,
    }  # fmt: skip
    for axis, name in (("X", "xpos"), ("Y", "ypos"), ("LAMBDA", "lambda")):
        values = columns[name][0]
        table[f"LIMITS {axis} LOW"] = float(values.min())
        table[f"LIMITS {axis} HIGH"] = float(values.max())
    own = {"INS MODE": "WFM-NOAO-N", "PRO CATG": "PIXTABLE_REDUCED", "INS DROT POSANG": 0.0}
    own |= {f"DRS MUSE PIXTABLE {key}": value for key, value in table.items()}
    return cards | {f"HIERARCH ESO {key}": value for key, value in own.items()}
