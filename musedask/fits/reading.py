"""Exposure cubes out of FITS files, lazily: nothing but headers is read."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from astropy.table import Row, Table

from musedask.cube import make_cube
from musedask.errors import FileError, InputError, MusedaskWarning
from musedask.fits.hdus import FitsFile, Hdu
from musedask.fits.header import (
    CubeHdus,
    carried,
    cube_units,
    find_hdus,
    sky_projection,
    spectral_axis,
)
from musedask.fits.source import CHUNK_CHANNELS, FitsCube, FitsSource, Floats32, good_variance
from musedask.fits.unpack import open_fits, plain_stem
from musedask.sky import SkyProjection
from musedask.wording import counted

_LOG = logging.getLogger(__name__)
ENCODING = "fits"
"""Key of a cube's ``encoding`` under which its :class:`FitsCube` stands."""
_PIPELINE_DATE = 23
"""Characters of DATE-OBS that the pipeline compares."""

PathLike = str | os.PathLike[str]
Duplicates = Literal["error", "first", "last", "keep"]


def open_exposures(
    exposures: PathLike | Table | Iterable[PathLike], *, duplicates: Duplicates = "error"
) -> list[xr.Dataset]:
    """Open exposure cubes lazily; reads headers only and computes nothing.

    Packed files (``.fits.gz``, ``.fits.fz``) are unpacked into a cache first,
    see :mod:`musedask.fits.unpack`. Whether STAT can be used needs data: see
    :func:`check_variance`.

    Parameters
    ----------
    exposures
        FITS files; or an exposure table, or the path of one (``.ecsv``), of
        which rows with ``use`` False are left out. A table's ``mask``,
        ``regions``, ``weight`` and ``pointing`` become the scalar coordinates
        ``mask_file``, ``regions_file``, ``weight`` and ``pointing`` where
        they are set; its ``mode`` and ``exptime`` win over the header's.
    duplicates
        What to do with several cubes of one DATE-OBS (halves of an exposure,
        reprocessings): ``error``; take the ``first`` or the ``last`` of them;
        or ``keep`` all, the second with ``#2`` after its ``date_obs`` and so
        on. The DATE-OBS proper is the part before ``#``.

    Returns
    -------
    cubes
        A cube of the schema of :mod:`musedask.cube` for each, in the order given.

    Raises
    ------
    FileError
        If a file cannot be read, or is no cube with a variance.
    InputError
        If there are no files, a header cannot be used, DATE-OBS is missing or
        doubled, or the units are mixed.
    """
    if duplicates not in ("error", "first", "last", "keep"):
        raise InputError(
            f"duplicates = {duplicates!r}, expected 'error', 'first', 'last' or 'keep'"
        )
    cubes = [_open(path, chosen) for path, chosen in _listed(exposures)]
    for cube in cubes:
        if not str(cube["date_obs"].values):
            raise InputError(
                f"{cube.attrs['path']}: there is no DATE-OBS, by which offsets find an exposure; "
                "add the card, or fill the column date_obs of an exposure table"
            )
    _check_units(cubes)
    return _without_duplicates(cubes, duplicates)


def open_cube(path: PathLike) -> xr.Dataset:
    """Open one cube lazily; reads headers only and computes nothing.

    Parameters
    ----------
    path
        A FITS file with flux and variance (see :func:`musedask.fits.header.find_hdus`).

    Returns
    -------
    cube
        ``flux`` and ``variance``, float32 (wavelength, y, x), lazy, in chunks
        of 32 channels. Scalar coordinates: ``name``, ``date_obs`` (empty if
        there is none), ``exptime`` (s, NaN if there is none), ``mode``,
        ``ra_deg`` and ``dec_deg`` (the header's RA, DEC; the field's centre
        if it has none) and, where the pipeline has applied offsets,
        ``carried_ra_deg`` (of the coordinate, not times cos dec),
        ``carried_dec_deg`` and ``carried_flux_scale``, or pymusepipe a
        rotation, ``carried_rotation_deg``. Attributes:
        ``primary_header`` (text), ``path``, ``catg`` (PRO CATG).

    Raises
    ------
    FileError, InputError
        As :func:`open_exposures`.
    """
    return _open(path, {})


def _open(path: PathLike, chosen: dict[str, Any]) -> xr.Dataset:
    """Open one cube; ``chosen`` is what an exposure table says, by the names of its columns."""
    file = open_fits(path)
    label = file.label
    hdus = find_hdus(file)
    sky = sky_projection(hdus.flux, label)
    spectral = spectral_axis(hdus, label)
    source = FitsCube(
        _source(file, hdus.flux),
        _source(file, hdus.variance),
        None if hdus.quality is None else _source(file, hdus.quality),
        os.path.abspath(label),
    )
    cube = make_cube(
        {
            "flux": _lazy(source, "flux", source.flux_name),
            "variance": _lazy(source, "variance", source.variance_name),
        },
        sky,
        spectral,
        units=cube_units(hdus, label),
        scalars=_scalars(hdus, sky, label, chosen),
        attrs={
            "path": os.path.abspath(label),
            "catg": hdus.word("ESO PRO CATG"),
            "primary_header": hdus.primary.text,
        },
    )
    cube.encoding[ENCODING] = FitsCube(
        source.flux, source.variance, source.quality, source.label, _fingerprint(cube)
    )
    return cube


def direct_source(cube: xr.Dataset) -> FitsCube | None:
    """The file behind a cube, if the cube is still exactly what was opened; computes nothing.

    Encodings survive arithmetic, so they alone prove nothing: the names of
    the Dask arrays and all coordinates of the axes have to be the first ones.

    Returns
    -------
    source
        None for a cube that was changed, selected from, loaded or not opened from FITS.
    """
    source = cube.encoding.get(ENCODING)
    if not isinstance(source, FitsCube):
        return None
    for key, name in (("flux", source.flux_name), ("variance", source.variance_name)):
        variable = cube.variables.get(key)
        data = None if variable is None else variable.data
        if variable is None or not isinstance(data, da.Array) or data.name != name:
            return None
        if variable.dims != ("wavelength", "y", "x") or data.shape != source.flux.shape:
            return None
    return source if _fingerprint(cube) == source.axes else None


def check_variance(cube: FitsCube, n_channels: int = 8) -> float:
    """Make sure that the variance of a cube can be used; reads a few channels.

    :func:`open_exposures` reads headers only, so whoever is about to compute
    with exposures calls this for each of them first.

    Parameters
    ----------
    cube
        A cube as it was opened, ``cube.encoding["fits"]``.
    n_channels
        How many channels to look at, evenly spread.

    Returns
    -------
    bad_fraction
        Share of the voxels with finite flux and good quality whose variance
        is not finite or not positive; 0, with a warning, if there is no flux.

    Raises
    ------
    FileError
        If it is above one half, or the file has changed.
    """
    nz = cube.flux.shape[0]
    n_bad = n_all = 0
    flux, variance = cube.flux.open(), cube.variance.open()
    quality = None if cube.quality is None else cube.quality.open()
    for channel in np.unique(np.linspace(0, nz - 1, n_channels + 2)[1:-1].round().astype(int)):
        used = np.isfinite(cube.flux.values(flux[channel]))
        if cube.quality is not None and quality is not None:
            used &= cube.quality.values(quality[channel]) == 0
        with np.errstate(over="ignore", under="ignore"):
            values = cube.variance.values(variance[channel]).astype(np.float32, copy=False)
        n_all += int(np.count_nonzero(used))
        n_bad += int(np.count_nonzero(used & ~good_variance(values)))
    if not n_all:
        warnings.warn(
            f"{cube.label or cube.flux.path}: no flux in any of the channels that were looked at; "
            "it adds nothing to a stack: leave it out, or make it again",
            MusedaskWarning,
            stacklevel=2,
        )
    fraction = n_bad / n_all if n_all else 0.0
    if fraction > 0.5:
        raise FileError(
            f"{cube.label or cube.flux.path}: STAT is zero, negative or not finite in "
            f"{100 * fraction:.0f} % of the voxels that have flux; without a variance the cube "
            "cannot be stacked: make it again, or leave it out"
        )
    return fraction


def _source(file: FitsFile, hdu: Hdu) -> FitsSource:
    """Where the array of an HDU lies."""
    nz, ny, nx = hdu.shape
    numbers = {}
    for key, default in (("BSCALE", 1.0), ("BZERO", 0.0)):
        value = hdu.get(key)
        if value is not None and not isinstance(value, int | float):
            raise InputError(f"{file.label}: {key} = {value!r} in {hdu.name}, expected a number")
        numbers[key] = default if value is None else float(value)
    blank = hdu.get("BLANK") if ">i" in hdu.dtype or ">u" in hdu.dtype else None
    return FitsSource(
        path=file.path,
        offset=hdu.offset,
        shape=(nz, ny, nx),
        dtype=hdu.dtype,
        bscale=numbers["BSCALE"],
        bzero=numbers["BZERO"],
        blank=blank if isinstance(blank, int) else None,
        size=file.size,
        mtime_ns=file.mtime_ns,
        header_hash=file.header_hash,
    )


def _lazy(source: FitsCube, which: Literal["flux", "variance"], name: str) -> da.Array:
    """A Dask array that reads ``which`` when it is computed."""
    nz, ny, nx = source.flux.shape
    depths = [CHUNK_CHANNELS] * (nz // CHUNK_CHANNELS)
    depths += [nz % CHUNK_CHANNELS] if nz % CHUNK_CHANNELS else []
    array: da.Array = da.map_blocks(
        partial(_read_block, source, which),  # in a partial: Dask takes a dataclass apart
        chunks=(tuple(depths), (ny,), (nx,)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
        name=name,
    )
    return array


def _read_block(
    source: FitsCube,
    which: Literal["flux", "variance"],
    block_id: tuple[int, int, int] = (0, 0, 0),
) -> Floats32:
    """One chunk of a lazy array: float32 (wavelength, y, x)."""
    start = block_id[0] * CHUNK_CHANNELS
    stop = min(start + CHUNK_CHANNELS, source.flux.shape[0])
    return source.read((slice(start, stop), slice(None), slice(None)), which)


def _fingerprint(cube: xr.Dataset) -> str:
    """Hash of what places a cube: wavelengths, pixels and the cards of the sky."""
    if not {"wavelength", "y", "x", "wcs"} <= set(cube.coords):
        return "incomplete"
    digest = hashlib.sha256()
    for key in ("wavelength", "y", "x", "wcs"):
        coord = cube.variables[key]
        digest.update(
            repr((key, coord.dims, str(coord.dtype), sorted(coord.attrs.items()))).encode()
        )
        digest.update(np.ascontiguousarray(coord.values).tobytes())
    return digest.hexdigest()


def _scalars(
    hdus: CubeHdus, sky: SkyProjection, label: str, chosen: dict[str, Any]
) -> dict[str, Any]:
    """Scalar coordinates of an exposure from its headers and its row in a table."""
    date_obs = _date_obs(hdus.word("DATE-OBS"), str(chosen.get("date_obs") or ""), label)
    exptime = chosen.get("exptime")
    ra_deg, dec_deg = hdus.number("RA"), hdus.number("DEC")
    if not (math.isfinite(ra_deg) and math.isfinite(dec_deg)):
        _, ny, nx = hdus.flux.shape
        ra_deg, dec_deg = (float(v) for v in sky.to_sky((nx - 1) / 2, (ny - 1) / 2))
    scalars: dict[str, Any] = {
        "name": plain_stem(label),
        "date_obs": date_obs,
        "exptime": hdus.number("EXPTIME") if exptime is None else float(exptime),
        "mode": str(chosen.get("mode") or hdus.word("ESO INS MODE")),
        "ra_deg": ra_deg,
        "dec_deg": dec_deg,
    }
    applied = carried(hdus, date_obs)
    optional = {
        "carried_ra_deg": applied.ra_deg,
        "carried_dec_deg": applied.dec_deg,
        "carried_flux_scale": applied.flux_scale,
        "carried_rotation_deg": applied.rotation_deg,
        "mask_file": chosen.get("mask"),
        "regions_file": chosen.get("regions"),
        "weight": chosen.get("weight"),
        "pointing": chosen.get("pointing"),
    }
    return scalars | {key: value for key, value in optional.items() if value is not None}


def _date_obs(in_header: str, in_table: str, label: str) -> str:
    """DATE-OBS, to which a table may add what tells two cubes of one exposure apart."""
    if in_header and in_table and not in_table.startswith(in_header[:19]):
        raise InputError(
            f"{label}: the exposure table says date_obs {in_table}, the file's DATE-OBS is "
            f"{in_header}; correct the row, or make the table again with musedask exposures"
        )
    return in_table or in_header


def _listed(exposures: PathLike | Table | Iterable[PathLike]) -> list[tuple[str, dict[str, Any]]]:
    """Path and chosen values of each exposure that is to be used."""
    if isinstance(exposures, str | os.PathLike):
        if Path(exposures).suffix.lower() == ".ecsv":
            from musedask.exposures import read_exposure_table  # it opens cubes itself

            return _rows(read_exposure_table(exposures), os.fspath(exposures))
        exposures = [exposures]
    if isinstance(exposures, Table):
        return _rows(exposures, "the exposure table")
    if not isinstance(exposures, Iterable):
        raise InputError(f"{exposures!r} is no list of FITS files and no exposure table")
    listed = [(os.fspath(path), dict[str, Any]()) for path in exposures]
    if not listed:
        raise InputError("no exposures: give at least one FITS file or an exposure table")
    return listed


def _rows(table: Table, label: str) -> list[tuple[str, dict[str, Any]]]:
    """Path and chosen values of each row whose ``use`` is not False."""
    if "path" not in table.colnames:
        raise InputError(f"{label}: there is no column path; its columns are {table.colnames}")
    rows = [row for row in table if _cell(row, "use") is not False]
    if not rows:
        raise InputError(
            f"{label}: not one of its {counted(len(table), 'row')} is to be used; "
            "set use to True in some"
        )
    keys = ("date_obs", "mode", "exptime", "pointing", "mask", "regions", "weight")
    listed = []
    for row in rows:
        path = _cell(row, "path")
        if path is None:
            raise InputError(f"{label}: row {row.index + 1} has no path; fill it or remove the row")
        chosen = {key: value for key in keys if (value := _cell(row, key)) is not None}
        for key in ("exptime", "weight"):
            value = chosen.get(key, 1.0)
            if isinstance(value, str) or not (math.isfinite(value) and value > 0):
                raise InputError(
                    f"{label}: {key} = {value!r} of {path}: expected a positive number "
                    "(leave the cell empty for the default; use = False leaves a row out)"
                )
        listed.append((str(path), chosen))
    return listed


def _cell(row: Row, key: str) -> Any:
    """A table's value as a Python value; None where it is masked, empty or NaN."""
    if key not in row.colnames:
        return None
    value = row[key]
    if value is np.ma.masked or np.ma.is_masked(value):
        return None
    value = getattr(value, "value", value)  # a quantity
    value = value.item() if isinstance(value, np.generic | np.ndarray) else value
    if isinstance(value, str):
        return value.strip() or None
    return None if isinstance(value, float) and math.isnan(value) else value


def _check_units(cubes: Sequence[xr.Dataset]) -> None:
    """Raise an InputError that names the files if their flux units differ."""
    by_units: dict[str, list[str]] = {}
    for cube in cubes:
        by_units.setdefault(cube["flux"].attrs["units"], []).append(cube.attrs["path"])
    if len(by_units) > 1:
        lines = "\n".join(f"  {units}: {', '.join(paths)}" for units, paths in by_units.items())
        raise InputError(f"the exposures have different flux units; use those of one:\n{lines}")


def _without_duplicates(cubes: list[xr.Dataset], duplicates: Duplicates) -> list[xr.Dataset]:
    """Apply the choice for cubes of one DATE-OBS."""
    by_date: dict[str, list[int]] = {}
    for i, cube in enumerate(cubes):
        by_date.setdefault(str(cube["date_obs"].values), []).append(i)
    doubled = {date: found for date, found in by_date.items() if len(found) > 1}
    if not doubled:
        return cubes
    lines = "\n".join(
        f"  {date}: {', '.join(cubes[i].attrs['path'] for i in found)}"
        for date, found in doubled.items()
    )
    if duplicates == "error":
        raise InputError(
            f"several cubes have one DATE-OBS:\n{lines}\nset use = False for all but one in an "
            "exposure table, or choose duplicates='first', 'last' or 'keep' (all of them)"
        )
    _LOG.warning("several cubes have one DATE-OBS, duplicates=%r:\n%s", duplicates, lines)
    if duplicates == "keep":
        cubes = list(cubes)
        for date, found in doubled.items():
            for n, i in enumerate(found[1:], start=2):
                cubes[i] = cubes[i].assign_coords(date_obs=f"{date}#{n}")
        return cubes
    dropped = {
        i
        for found in doubled.values()
        for i in (found[1:] if duplicates == "first" else found[:-1])
    }
    return [cube for i, cube in enumerate(cubes) if i not in dropped]
