"""A mega-cube into a FITS file: musedask as a stream, mpdaf from memory."""

from __future__ import annotations

import logging
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks.jobs import (
    Comparison,
    Job,
    Place,
    Prepared,
    UnavailableError,
    compare_values,
    worst_of,
)


def musedask_export(job: Job, place: Place) -> Prepared:
    """``export_fits`` of a store: DATA, STAT, EXPMAP and TEXPMAP."""
    from benchmarks.peers.stores import noise_store
    from musedask import export_fits, open_megacube

    channels, side = int(job.options["channels"]), int(job.options["side"])
    # Elsewhere: what making it takes would count as memory of the export.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        store = pool.submit(noise_store, place, channels, side).result()
    output = place.scratch / "deep.fits"

    def run() -> Path:
        return export_fits(open_megacube(store)["median"], output)

    def compare(path: Path) -> Comparison:
        cube = open_megacube(store)["median"]
        return _compare_files(path, cube, {"DATA": "flux", "STAT": "variance"})

    warm = place.scratch / "warm.fits"
    return Prepared(
        run, compare, channels * side**2, tuple(p for p in store.rglob("*") if p.is_file()),
        lambda: export_fits(open_megacube(store)["median"].isel(wavelength=slice(0, 1)), warm),
        _size_of,
    )  # fmt: skip


def mpdaf_write(job: Job, place: Place) -> Prepared:
    """``Cube.write`` of DATA and STAT; reading them into memory beforehand is not timed."""
    try:
        from mpdaf.obj import Cube
    except ImportError as err:
        raise UnavailableError("mpdaf is not installed") from err
    from benchmarks.peers.stores import noise_file

    warnings.simplefilter("ignore")
    logging.getLogger("mpdaf").setLevel(logging.ERROR)
    channels, side = int(job.options["channels"]), int(job.options["side"])
    source = noise_file(place, channels, side)
    cube = Cube(str(source))
    assert cube.data is not None  # reads it
    assert cube.var is not None
    output = place.scratch / "deep.fits"

    def run() -> Path:
        cube.write(str(output), savemask="nan")
        return output

    def compare(path: Path) -> Comparison:
        with fits.open(source, memmap=True) as hdus:
            images = {"DATA": hdus["DATA"].data, "STAT": hdus["STAT"].data}
            return _compare_files(path, images, {"DATA": "DATA", "STAT": "STAT"})

    return Prepared(run, compare, channels * side**2, (source,), metrics=_size_of)


def _size_of(path: Path) -> dict[str, float]:
    return {"bytes": float(path.stat().st_size)}


def _compare_files(path: Path, source: Any, names: dict[str, str]) -> Comparison:
    """The first, a middle and the last channel, value by value."""
    with fits.open(path, memmap=True) as hdus:
        n_channels = hdus["DATA"].shape[0]
        return worst_of(
            *(
                compare_values(
                    np.asarray(hdus[extension].data[channel], float),
                    np.asarray(source[name][channel], float),
                    rtol=1e-7, atol=0.0, against=f"{name} of what was written",
                )
                for extension, name in names.items()
                for channel in (0, n_channels // 2, n_channels - 1)
            )
        )  # fmt: skip
