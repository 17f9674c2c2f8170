"""mpdaf: cubes of one shape as they lie, without resampling."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks import reference
from benchmarks.exposures import grid_header
from benchmarks.jobs import (
    Array,
    Comparison,
    Job,
    Place,
    Prepared,
    UnavailableError,
    compare_values,
    worst_of,
)

Reference = Callable[[Array], Array]


def median(job: Job, place: Place) -> Prepared:
    """``CubeList.median``: DATA and a count; the dithers are not looked at."""
    cube_list = _imported().CubeList

    def run() -> Any:
        return cube_list(_names(place.exposures)).median()[0].data

    return _prepared(job, place, run, reference.median, "median, float64")


def combine(job: Job, place: Place) -> Prepared:
    """``CubeList.combine`` with MAD: DATA, STAT and a count; the dithers are not looked at."""
    cube_list = _imported().CubeList

    def run() -> Any:
        return cube_list(_names(place.exposures)).combine(mad=True)[0].data

    wanted = reference.mad_clipped_mean
    return _prepared(job, place, run, wanted, "mean clipped by MAD, float64")


def pycombine(job: Job, place: Place) -> Prepared:
    """``CubeMosaic.pycombine`` with MAD, onto the grid of all peers, by whole pixels."""
    mosaic = _imported().CubeMosaic
    if find_spec("fitsio") is None:
        raise UnavailableError("fitsio is not installed, which CubeMosaic.pycombine needs")
    assert job.data is not None
    header = grid_header(job.data)
    output = _empty_cube(place.scratch / "grid.fits", header)
    grid = (header["NAXIS2"], header["NAXIS1"])

    def run() -> Any:
        return mosaic(_names(place.exposures), str(output)).pycombine(mad=True)[0].data

    def wanted(values: Array) -> Array:
        return reference.mad_clipped_mean(_placed(values, place.exposures, header))

    return _prepared(job, place, run, wanted, "mean of whole-pixel shifts, clipped by MAD", grid)


def _imported() -> Any:
    try:
        from mpdaf import obj
    except ImportError as err:
        raise UnavailableError("mpdaf is not installed") from err
    warnings.simplefilter("ignore")
    logging.getLogger("mpdaf").setLevel(logging.ERROR)
    return obj


def _names(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths]


def _prepared(
    job: Job, place: Place, run: Callable[[], Any], wanted: Reference, against: str,
    shape: tuple[int, int] | None = None,
) -> Prepared:  # fmt: skip
    data = job.data
    assert data is not None

    def compare(cube: Any) -> Comparison:
        found: Array = np.ma.filled(np.ma.asarray(cube, float), np.nan)
        results = []
        for window in reference.windows(data.n_channels, shape or (data.side, data.side)):
            values = wanted(reference.frames(place.exposures, window.channel))
            results.append(
                compare_values(
                    found[window.channel][window.slices], values[window.slices],
                    rtol=1e-5, atol=1e-4, against=against,
                )
            )  # fmt: skip
        return worst_of(*results)

    return Prepared(run, compare, data.n_voxels, place.exposures)


def _empty_cube(path: Path, header: fits.Header) -> Path:
    """A cube of zeros that takes no room: mpdaf wants a file for its grid."""
    from musedask.simulation.cube_file import CubeFile

    shape = (header["NAXIS3"], header["NAXIS2"], header["NAXIS1"])
    stat = header.copy()
    stat["EXTNAME"] = "STAT"
    primary = fits.PrimaryHDU().header
    primary["EXTEND"] = True
    with CubeFile(path, (primary, header, stat), shape):
        pass
    return path


def _placed(values: Array, files: Sequence[Path], header: fits.Header) -> Array:
    """Frames on the grid, shifted by the nearest whole pixels."""
    out = np.full((len(values), header["NAXIS2"], header["NAXIS1"]), np.nan)
    for n, path in enumerate(files):
        own = fits.getheader(path, "DATA")
        y, x = (int(np.rint(header[key] - own[key])) for key in ("CRPIX2", "CRPIX1"))
        ny, nx = values[n].shape
        out[n, y : y + ny, x : x + nx] = values[n]
    return out
