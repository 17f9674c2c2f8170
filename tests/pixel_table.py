"""Reduced MUSE pixel tables, small enough that muse_exp_combine takes them in a second."""

from __future__ import annotations

import os
import subprocess

import numpy as np
from astropy.io import fits

UNITS = "10**(-20)*erg/s/cm**2/Angstrom"
PIXEL_DEG = 0.2 / 3600


def write_pixel_table(path, ra_deg, dec_deg, date_obs, flux=1.0, size=30, n_channels=12):
    """A PIXTABLE_REDUCED in image format: ``size`` x ``size`` spaxels of one flux."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * np.radians(PIXEL_DEG)
    x = -x  # east is left
    radius = np.hypot(x, y)
    # Native spherical coordinates of the TAN projection, the pole at the origin.
    phi = np.arctan2(x, -y).ravel()
    theta = (np.arctan2(1, radius) - np.pi / 2).ravel()
    slices = np.arange(size * size) // size % 48 + 1
    origin = (1 << 24) | (100 << 11) | (1 << 6) | slices
    n = size * size * n_channels
    columns = {
        "xpos": (np.repeat(phi, n_channels), "f4", "rad"),
        "ypos": (np.repeat(theta, n_channels), "f4", "rad"),
        "lambda": (np.tile(4750 + 1.25 * np.arange(n_channels), size * size), "f4", "Angstrom"),
        "data": (np.full(n, flux), "f4", UNITS),
        "dq": (np.zeros(n), "i4", None),
        "stat": (np.ones(n), "f4", f"({UNITS})**2"),
        "origin": (np.repeat(origin, n_channels), "i4", None),
    }
    primary = fits.PrimaryHDU()
    header = primary.header
    header.update({
        "INSTRUME": "MUSE", "OBJECT": "TEST", "RA": ra_deg, "DEC": dec_deg, "EXPTIME": 100.0,
        "DATE-OBS": date_obs, "MJD-OBS": 58849.0, "RADESYS": "FK5", "EQUINOX": 2000.0,
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRPIX1": 0.0, "CRPIX2": 0.0, "CRVAL1": 0.0, "CRVAL2": 0.0,
        "CD1_1": -PIXEL_DEG, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": PIXEL_DEG,
    })  # fmt: skip
    table = {
        "TYPE": "GEOFULL", "MERGED": 1, "DAR CORRECT": 7000.0, "FLUXCAL": True, "RVCORR": 0.0,
        "SKYSUB": True, "WCS": "projected (intermediate)", "LIMITS IFU LOW": 1,
        "LIMITS IFU HIGH": 1, "LIMITS SLICE LOW": 1, "LIMITS SLICE HIGH": 48,
    }  # fmt: skip
    for axis, name in (("X", "xpos"), ("Y", "ypos"), ("LAMBDA", "lambda")):
        values = columns[name][0].astype(np.float32)
        table[f"LIMITS {axis} LOW"] = float(values.min())
        table[f"LIMITS {axis} HIGH"] = float(values.max())
    cards = {"INS MODE": "WFM-NOAO-N", "PRO CATG": "PIXTABLE_REDUCED", "INS DROT POSANG": 0.0}
    cards.update({f"DRS MUSE PIXTABLE {key}": value for key, value in table.items()})
    for key, value in cards.items():
        header[f"HIERARCH ESO {key}"] = value
    hdus = [primary]
    for name, (values, dtype, unit) in columns.items():
        hdu = fits.ImageHDU(values.astype(dtype).reshape(-1, 1))
        hdu.header["EXTNAME"] = name  # in lower case, or the recipe does not find it
        if unit:
            hdu.header["BUNIT"] = unit
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)


def combine_pixel_tables(folder, dates, *calibrations, dec_deg=-60.2):
    """Run muse_exp_combine on one pixel table a date, with (path, tag) beside; give its cube."""
    lines = []
    for n, date in enumerate(dates, start=1):
        path = folder / f"table{n}.fits"
        write_pixel_table(path, 150.1, dec_deg, date)
        lines.append(f"{path} PIXTABLE_REDUCED")
    lines += [f"{path} {tag}" for path, tag in calibrations]
    (folder / "frames.sof").write_text("\n".join(lines) + "\n")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ESOREX_", "MUSE_"))}
    run = subprocess.run(
        ["esorex", f"--output-dir={folder}", f"--log-dir={folder}", "--suppress-prefix=TRUE",
         "muse_exp_combine", "--filter=", str(folder / "frames.sof")],
        cwd=folder, env={**clean, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    for complaint in ("No valid headers for OUTPUT_WCS", "OFFSET_LIST has unexpected format"):
        assert complaint not in run.stdout + run.stderr
    return folder / "DATACUBE_FINAL.fits"
