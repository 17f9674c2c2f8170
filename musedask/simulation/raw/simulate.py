"""A folder of raw frames and static tables with known truth: what ``simulate raw`` makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from musedask.errors import FileError
from musedask.progress import Progress, Ticker
from musedask.simulation.raw import faults as wrong
from musedask.simulation.raw.exposing import STANDARD, raw_image
from musedask.simulation.raw.files import Extension, write_frame, write_headers
from musedask.simulation.raw.headers import extension_header, primary_header
from musedask.simulation.raw.night import STANDARD_DEG, RawFrame, plan_frames
from musedask.simulation.raw.optics import IFUS, SPAXEL_ARCSEC, Optics, make_optics
from musedask.simulation.raw.scene import make_sources, standard_place
from musedask.simulation.raw.spec import RawSpec
from musedask.simulation.raw.spectra import standard_star
from musedask.simulation.raw.static_tables import write_static_tables
from musedask.simulation.raw.truth import (
    RAW_FOLDER,
    STATIC_FOLDER,
    RawTruth,
    file_name,
    write_raw_truth,
)
from musedask.simulation.sky import PointSource, Spectrum
from musedask.sky import SkyProjection

_CURVE = np.arange(4300.0, 9801.0, 10.0)
"""Where the standard star's spectrum is given, Angstrom."""
Fields = Mapping[str, tuple[PointSource, ...]]


@dataclass(frozen=True, eq=False)
class _Studio:
    """All that is the same for every frame."""

    spec: RawSpec
    """What is asked for."""
    optics: Mapping[int, Optics]
    """IFU -> its optics, of those with light on them."""
    dead: frozenset[int]
    """IFUs with an extension but no data."""
    fields: Fields
    """Target -> its sources, the standard star among them."""
    folder: Path
    """Where the raw frames go."""


def simulate_raw(
    folder: str | os.PathLike[str],
    spec: RawSpec | None = None,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> RawTruth:
    """Write raw frames to ``folder/raw``, static tables to ``folder/static``, and the truth.

    ``folder/truth.json`` is written last: where it is, all is there.

    Parameters
    ----------
    folder
        Made if it is not there; ``raw`` and ``static`` in it have to be new or empty.
    spec
        What to make: two exposures of one IFU and their calibrations by default.
    workers
        Frames that are made at the same time, in threads; each takes 0.3 GB.
    progress
        Is told how many frames are done.

    Raises
    ------
    FileError
        If there are files already, or the folders cannot be written.
    InputError
        If the frames do not fit into the nights.
    MissingError
        If a fault is asked for that has no frame to happen to.
    """
    spec = spec or RawSpec()
    flaws = spec.parsed_faults
    frames = wrong.apply_to_plan(plan_frames(spec), flaws)
    dead = wrong.dead_ifus(flaws, spec.extensions) | (set(spec.extensions) - set(spec.ifus))
    base = Path(folder)
    raw, static = _new_folder(base / RAW_FOLDER), _new_folder(base / STATIC_FOLDER)
    optics = {
        ifu: make_optics(ifu, _placed(spec), spec.geometry, spec.seed) for ifu in _placed(spec)
    }
    lit = [optics[ifu] for ifu in sorted(spec.ifus)]
    fields = {
        name: make_sources(lit, spec.n_sources, number, spec.seed)
        for number, name in enumerate(spec.targets)
    }
    star = _standard(lit, spec)
    tables = write_static_tables(
        static, spec, list(optics.values()), (star.ra_deg, star.dec_deg), wrong.static_faults(flaws)
    )
    studio = _Studio(
        spec, {one.ifu: one for one in lit}, frozenset(dead), {**fields, STANDARD: (star,)}, raw
    )
    ticker = Ticker(progress, len(frames))
    ticker.tell()
    _run([partial(_make, studio, frame) for frame in frames], workers, ticker)
    truth = RawTruth(base, spec, tuple(frames), fields, tables)
    write_raw_truth(truth)
    return truth


def _placed(spec: RawSpec) -> list[int]:
    """IFUs in the geometry table: all 24 where their places do not depend on the others."""
    return list(range(1, IFUS + 1)) if spec.geometry == "real" else sorted(spec.ifus)


def _standard(lit: list[Optics], spec: RawSpec) -> PointSource:
    """The standard star, where the first IFU sees it."""
    plane = SkyProjection.north_up(*STANDARD_DEG, SPAXEL_ARCSEC)
    ra, dec = plane.to_sky(*standard_place(lit, spec.geometry))
    flux = 1e20 * standard_star(_CURVE)
    points = tuple(zip(_CURVE.tolist(), flux.tolist(), strict=True))
    return PointSource(float(ra), float(dec), Spectrum(points))


def _new_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        is_empty = next(path.iterdir(), None) is None
    except OSError as err:
        raise FileError(f"{path}: cannot be made: {err.strerror or err}") from err
    if not is_empty:
        raise FileError(
            f"{path}: has files in it, which would mix with the simulated ones; give another "
            "folder or remove it"
        )
    return path


def _run(jobs: list[Callable[[], None]], workers: int, ticker: Ticker) -> None:
    """Run all jobs in threads; the first that fails stops those that have not begun."""
    with ThreadPoolExecutor(max(1, workers)) as executor:
        waiting: set[Future[None]] = {executor.submit(job) for job in jobs}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                ticker.step(len(done))
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _make(studio: _Studio, frame: RawFrame) -> None:
    """Write one frame."""
    spec, path = studio.spec, studio.folder / file_name(frame, studio.spec)
    primary = primary_header(frame, spec)
    if frame.fault == "bad-header":
        primary = wrong.garbled(primary)
    ifus = spec.extensions[:-1] if frame.fault == "missing-ifu" else spec.extensions
    if spec.headers_only:
        headers = (_header(studio, frame, ifu) for ifu in ifus)
        write_headers(path, primary, headers, fault=frame.fault)
    else:
        images = (_extension(studio, frame, ifu) for ifu in ifus)
        write_frame(path, primary, images, compress=spec.compress, fault=frame.fault)


def _header(studio: _Studio, frame: RawFrame, ifu: int) -> bytes:
    return extension_header(ifu, is_live=ifu not in studio.dead, has_gain=frame.fault != "no-gain")


def _extension(studio: _Studio, frame: RawFrame, ifu: int) -> Extension:
    header = _header(studio, frame, ifu)
    if ifu in studio.dead:
        return header, None
    spec = studio.spec
    image = raw_image(frame, studio.optics[ifu], studio.fields, spec.seeing_arcsec, spec.seed)
    return header, image
