"""Exposures of full geometry that take little room on the disk, and a stack of them, measured.

Run as a program in a process of its own: ``full_geometry.py FOLDER COUNT FIELDS METHODS``
prints the peak resident memory of the process tree (mapped pages included), in MiB.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from astropy.io import fits
from exposure_cubes import date

from musedask import CubeGrid, open_exposures, stack, write_megacube

SHAPE = (3681, 320, 320)
FIRST_REAL, N_REAL = 1000, 96
"""Channels whose STAT is there; everywhere else the file is a hole, which reads as 0."""


def write_exposure(path: Path, n: int, n_fields: int) -> None:
    """A cube of flux 0 whose variance is 1 in some channels."""
    step = np.array([0.2, 0.2]) / 3600.0
    field = np.array([n % n_fields % 2, n % n_fields // 2]) * 62.0 / 3600.0
    dither = np.array([(7 * n) % 11 - 5, (5 * n) % 13 - 6]) * 0.3 * step[0]
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": 150.0 + field[0] + dither[0], "CRVAL2": 2.0 + field[1] + dither[1],
        "CRPIX1": 160.5, "CRPIX2": 160.5, "CD1_1": -step[0], "CD2_2": step[1],
        "CD1_2": 0.0, "CD2_1": 0.0, "CTYPE3": "AWAV", "CUNIT3": "Angstrom", "CRVAL3": 4750.0,
        "CRPIX3": 1.0, "CD3_3": 1.25, "BUNIT": "10**(-20)*erg/s/cm**2/Angstrom",
    }  # fmt: skip
    primary = fits.PrimaryHDU()
    primary.header["DATE-OBS"] = date(n)
    primary.header["EXPTIME"] = 600.0
    primary.header["SPECSYS"] = "BARYCENT"
    with path.open("wb") as file:
        file.write(primary.header.tostring().encode())
        for name in ("DATA", "STAT"):
            header = fits.ImageHDU(np.zeros((1, 1, 1), ">f4"), fits.Header(cards), name).header
            for axis, size in zip((3, 2, 1), SHAPE, strict=True):
                header[f"NAXIS{axis}"] = size
            file.write(header.tostring().encode())
            start = file.tell()
            frame = 4 * SHAPE[1] * SHAPE[2]
            if name == "STAT":
                file.seek(start + FIRST_REAL * frame)
                file.write(np.ones((N_REAL, *SHAPE[1:]), ">f4").tobytes())
            nbytes = SHAPE[0] * frame
            file.truncate(start + nbytes + -nbytes % 2880)
            file.seek(0, os.SEEK_END)


def resident_mib() -> float:
    """Memory of this process and its children, pages of mapped files included."""
    me = psutil.Process()
    return sum(p.memory_info().rss for p in (me, *me.children(recursive=True))) / 2**20


def main(folder: Path, count: int, n_fields: int, methods: tuple[str, ...]) -> None:
    """Stack, and print the peak."""
    n_files = min(count, 12)
    paths = [folder / f"{n_fields}_{n}.fits" for n in range(n_files)]
    for n, path in enumerate(paths):
        if not path.exists():
            write_exposure(path, n, n_fields)
    cubes = []
    for n in range(count):  # beyond the twelfth a file stands for a second exposure, mapped again
        (cube,) = open_exposures([paths[n % n_files]])
        again = cube.assign_coords(date_obs=date(n), name=f"exp{n}")
        again.encoding = cube.encoding
        cubes.append(again)
    grid = CubeGrid.enclosing(cubes)
    part = grid.spectral.cropped(FIRST_REAL, N_REAL)
    peak = [0.0]

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], resident_mib())
            time.sleep(0.03)

    threading.Thread(target=watch, daemon=True).start()
    lazy = stack(cubes, None, CubeGrid(grid.sky, part, grid.ny, grid.nx), methods=methods)
    # The files are sparse: their STAT is a hole, which a real stack refuses.
    lazy = replace(lazy, checks=())
    write_megacube(lazy, folder / f"stack_{count}_{n_fields}.zarr")
    print(peak[0])  # noqa: T201 - for the test that started this program


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), tuple(sys.argv[4].split(",")))
