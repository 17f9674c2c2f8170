"""What a file is, in a few lines: exposure, table, mega-cube, run."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from musedask.errors import FileError, InputError, MusedaskError
from musedask.files import as_file_error, opened, read_text
from musedask.wording import counted

# Each kind of file needs libraries that take a second to import: its function imports them.
if TYPE_CHECKING:
    import xarray as xr

_FITS_ENDS = (".fits", ".fit", ".fits.gz", ".fits.fz", ".fit.gz")
_BUILDING = ".building"
_NEED_EXPOSURES = {
    "cosmos": "goes by the names of the exposures",
    "mypython": "goes by the order of the exposures",
    "offset_list": "has differences of RA, for which the declination is needed",
    "pymusepipe": "has differences of RA, for which the declination is needed",
}
"""Format of offsets -> why it may not be readable by itself."""


def describe(path: str | Path) -> str:
    """Describe any file that musedask knows; reads headers, tables and metadata only.

    Raises
    ------
    FileError
        If there is no such file, or it cannot be read.
    InputError
        If it is none that musedask knows.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        if list(path.parent.glob(f"{path.name}.*{_BUILDING}")):
            from musedask.megacube import open_megacube

            open_megacube(path)  # raises, and says what became of the store
        raise FileError(f"{path}: no such file; check the path")
    start = _start(path)
    if not start:
        raise FileError(f"{path}: is empty (0 bytes); copy or make it again")
    if start.startswith(b"# %ECSV"):
        return _table(path)
    if path.name.lower().endswith(_FITS_ENDS) or start.startswith(b"SIMPLE  ="):
        return _fits(path)
    if path.suffix == ".ecsv":
        raise InputError(f"{path}: not an ECSV table: its first line is not # %ECSV")
    return _offsets(path)


def _start(path: Path) -> bytes:
    """The first bytes of a file."""
    with opened(path) as file:
        return file.read(200)


def _folder(path: Path) -> str:
    import numpy as np

    from musedask.grid import CubeGrid
    from musedask.megacube import megacube_info, open_megacube
    from musedask.megacube.damage import damage_as_error
    from musedask.megacube.layout import read_description
    from musedask.run_text import is_run, run_summary

    if is_run(path):
        return run_summary(path)
    if read_description(path) is None:
        with as_file_error(str(path)):
            names = os.listdir(path)
        cubes = sum(1 for name in names if name.lower().endswith(_FITS_ENDS))
        hint = f"; it holds {counted(cubes, 'FITS file')}, give one of them" if cubes else ""
        raise FileError(f"{path}: a folder, but not a mega-cube of musedask{hint}")
    if path.name.endswith(_BUILDING):
        return _build(path)
    with damage_as_error(path):
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


def _build(path: Path) -> str:
    """A store on its way: what is there of it."""
    from musedask.megacube.layout import Layout, read_description

    held = read_description(path) or {}
    shape, block, inner = (
        (int(held[key][0]), int(held[key][1]), int(held[key][2]))
        for key in ("shape", "block", "inner")
    )
    n_done = len(Layout(str(path.absolute()), shape, block, inner, ()).done_keys())
    return (
        f"Mega-cube under way or interrupted, {path.name}: {', '.join(held['methods'])}\n"
        f"  made: {n_done} of {counted(held['blocks'], 'block')}; the command that began it goes on"
    )


def _table(path: Path) -> str:
    """An ECSV is a table of offsets, of a reduction, or of exposures: the columns tell."""
    if "ra_offset_arcsec" in read_text(path, errors="replace"):
        return _offsets(path)
    import numpy as np

    from musedask.exposures import read_exposure_table
    from musedask.offset_text import frequencies
    from musedask.run_text import reduction_table_text

    if (text := reduction_table_text(path)) is not None:
        return text
    table = read_exposure_table(path, must_exist=False)
    used = table[np.asarray(table["use"], bool)]
    missing = [name for name in used["path"] if not Path(name).is_file()]
    lines = [
        f"Exposure table {path.name}: {len(used)} of {counted(len(table), 'exposure')} used, "
        f"{float(np.nansum(used['exptime'])) / 3600:.2f} h",
        f"  modes: {frequencies(used['mode'], 'unknown')}",
        f"  pointings: {frequencies(used['pointing'], 'unnamed')}",
    ]
    if missing:
        lines.append(f"  files that are not there: {len(missing)}, the first: {missing[0]}")
    return "\n".join(lines)


def _offsets(path: Path) -> str:
    from musedask.offset_formats import recognise
    from musedask.offset_text import offsets_summary, offsets_text
    from musedask.offsets import OffsetTable

    try:
        table = OffsetTable.read(path)
    except InputError as err:
        if "exposures=" not in str(err):
            raise
        kind = recognise(path)
        return (
            f"Offsets {path.name} ({kind}): this format {_NEED_EXPOSURES[kind]}\n"
            "  to see what it does to yours: "
            f"musedask stack EXPOSURE... --offsets {path} -o NAME.zarr --dry-run"
        )
    return f"Offsets {path.name}: {offsets_summary(table)}\n{offsets_text(table)}"


def _fits(path: Path) -> str:
    from musedask.cube import sky_of, spectral_of
    from musedask.fits import open_cube
    from musedask.fits.hdus import describe_non_fits

    try:
        cube = open_cube(path)
    except MusedaskError as cube_error:
        start = _start(path)
        if not start.startswith((b"SIMPLE  =", b"\x1f\x8b")):
            raise FileError(describe_non_fits(start, str(path))) from None
        try:
            return _offsets(path)
        except (MusedaskError, ValueError, OSError):
            raise cube_error from None
    spectral = spectral_of(cube)
    sky = sky_of(cube)
    ra, dec = sky.to_sky((cube.sizes["x"] - 1) / 2, (cube.sizes["y"] - 1) / 2)
    exptime = float(cube["exptime"].values)
    facts = [
        cube.attrs["catg"] or "no PRO CATG",
        str(cube["mode"].values) or "unknown mode",
        f"DATE-OBS {cube['date_obs'].values or 'unknown'}",
        f"{exptime:g} s" if math.isfinite(exptime) else "no EXPTIME",
    ]
    lines = [
        f"Cube {path.name}: {', '.join(facts)}",
        f"  {counted(spectral.size, 'channel')} of {spectral.first_angstrom:.2f} to "
        f"{spectral.last_angstrom:.2f} Angstrom ({spectral.medium}, {spectral.frame}), "
        f"{cube.sizes['y']} x {cube.sizes['x']} spaxels of "
        f"{sky.pixel_area_arcsec2**0.5:.4g} arcsec",
        f"  centre RA {float(ra):.5f} DEC {float(dec):+.5f}; flux in {cube['flux'].attrs['units']}",
        *_carried(cube),
        *_combined(cube),
    ]
    return "\n".join(lines)


def _combined(cube: xr.Dataset) -> list[str]:
    """What an exported mega-cube is made of."""
    header = cube.attrs["primary_header"]
    number = re.search(r"^NFILES  = +(\d+)", header, re.MULTILINE)
    statistic = re.search(r"^HIERARCH MUSEDASK STATISTIC = '(\w+)", header, re.MULTILINE)
    if number is None or statistic is None:
        return []
    return [f"  {statistic[1]} of {counted(int(number[1]), 'exposure')}, from a mega-cube"]


_CARRIED = ("carried_ra_deg", "carried_dec_deg", "carried_flux_scale", "carried_rotation_deg")


def _carried(cube: xr.Dataset) -> list[str]:
    """What the pipeline has corrected already, if anything."""
    found = [
        f"{key.removeprefix('carried_')} {float(cube[key].values):g}"
        for key in _CARRIED
        if key in cube.coords
    ]
    return [f"  applied already: {', '.join(found)}"] if found else []
