"""What a file is, in a few lines: exposure, table of exposures or offsets, mega-cube."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from musedask.cube import sky_of, spectral_of
from musedask.errors import FileError, MusedaskError
from musedask.exposures import read_exposure_table
from musedask.fits import open_cube
from musedask.grid import CubeGrid
from musedask.megacube import megacube_info, open_megacube
from musedask.offsets import OffsetTable


def describe(path: str | Path) -> str:
    """Describe any file that musedask knows; reads headers, tables and metadata only.

    Raises
    ------
    FileError
        If there is no such file, or it is none that musedask knows.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path}: no such file")
    if path.is_dir():
        return _megacube(path)
    if path.suffix == ".ecsv":
        return _table(path)
    if _is_fits(path):
        return _fits(path)
    return _offsets(path)


def _is_fits(path: Path) -> bool:
    return any(path.name.endswith(end) for end in (".fits", ".fits.gz", ".fits.fz", ".fit"))


def _megacube(path: Path) -> str:
    store = open_megacube(path)
    exposures = store.exposures
    time = float(exposures["exposure_exptime"].sum())
    grid = CubeGrid.from_cube(store[store.methods[0]])
    residual = float(np.abs(exposures["exposure_residual"]).max())
    return (
        f"{megacube_info(path)}\n"
        f"  {grid!r}\n"
        f"  {time / 3600:.2f} h in all; wavelengths of the exposures within "
        f"{residual:.2f} Angstrom of the channels"
    )


def _table(path: Path) -> str:
    """An ECSV is a table of offsets or of exposures: the columns tell."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if "ra_offset_arcsec" in text:
        return _offsets(path)
    table = read_exposure_table(path)
    used = table[np.asarray(table["use"], bool)]
    modes = _counted(used["mode"], "unknown")
    fields = _counted(used["pointing"], "unnamed")
    return (
        f"Exposure table {path.name}: {len(used)} of {len(table)} exposures are used, "
        f"{float(np.nansum(used['exptime'])) / 3600:.2f} h\n"
        f"  modes: {modes}\n"
        f"  pointings: {fields}"
    )


def _offsets(path: Path) -> str:
    table = OffsetTable.read(path)
    size = [float(np.hypot(row.ra_offset_arcsec, row.dec_offset_arcsec)) for row in table]
    grades = _counted([row.grade for row in table], "ungraded")
    methods = _counted([row.method for row in table], "unknown")
    return (
        f"Offsets {path.name}: {len(size)} exposures, up to {np.nanmax(size):.3f} arcsec\n"
        f"  methods: {methods}\n"
        f"  grades: {grades}"
    )


def _counted(values: Iterable[str], unnamed: str) -> str:
    """``3 A, 1 C``."""
    return ", ".join(f"{n} {value or unnamed}" for value, n in Counter(values).items())


def _fits(path: Path) -> str:
    try:
        cube = open_cube(path)
    except MusedaskError as cube_error:
        try:
            return _offsets(path)
        except (MusedaskError, ValueError):
            raise cube_error from None
    spectral = spectral_of(cube)
    sky = sky_of(cube)
    ra, dec = sky.to_sky((cube.sizes["x"] - 1) / 2, (cube.sizes["y"] - 1) / 2)
    carried = [
        f"{key.removeprefix('carried_')} {float(cube[key].values):g}"
        for key in ("carried_ra_deg", "carried_dec_deg", "carried_flux_scale")
        if key in cube.coords
    ]
    lines = [
        f"Cube {path.name}: {cube.attrs.get('catg') or 'no PRO CATG'}, "
        f"{cube['mode'].values or 'unknown mode'}, "
        f"DATE-OBS {cube['date_obs'].values or 'unknown'}, {float(cube['exptime'].values):g} s",
        f"  {spectral.size} channels of {spectral.first_angstrom:.2f} to "
        f"{spectral.last_angstrom:.2f} Angstrom ({spectral.medium}, {spectral.frame}), "
        f"{cube.sizes['y']} x {cube.sizes['x']} spaxels of "
        f"{sky.pixel_area_arcsec2**0.5:.4g} arcsec",
        f"  centre RA {float(ra):.5f} DEC {float(dec):+.5f}; flux in {cube['flux'].attrs['units']}",
    ]
    if carried:
        lines.append(f"  the pipeline has applied: {', '.join(carried)}")
    return "\n".join(lines)
