"""All targets: every reader of musedask with the files that it reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import xarray as xr

import musedask as md
from fuzz.alignment_targets import ALIGNMENT
from fuzz.damage import damaged
from fuzz.fits_damage import damaged_fits
from fuzz.odd_files import damaged_store, damaged_tree
from fuzz.seeds import DATES, SHAPE
from fuzz.target import Target, copy, copy_as_it_is, of_files, of_folder
from fuzz.text_damage import damaged_json, damaged_text, damaged_xml
from musedask.cube import sky_of, spectral_of
from musedask.ds9_regions import RegionFile
from musedask.errors import FileError
from musedask.exposures import read_exposure_table
from musedask.files import read_text
from musedask.fits.hdus import read_primary
from musedask.fits.reading import ENCODING, check_variance, open_cube
from musedask.info import describe
from musedask.masks import read_mask_image
from musedask.megacube import megacube_info, open_megacube
from musedask.megacube.direct import stored_array
from musedask.mypython_lists import read_mypython_lists
from musedask.offsets import ExposureKey, OffsetTable
from musedask.reduction.finding.calselector import read_calselector, selections
from musedask.reduction.finding.headers import frame_of, read_facts
from musedask.reduction.finding.inventory import read_inventory
from musedask.reduction.finding.pymusepipe_files import import_pymusepipe
from musedask.reduction.finding.scan import find_frames
from musedask.reduction.job.log import parse_log
from musedask.reduction.job.record import read_record
from musedask.reduction.running.exposure_memory import Memory
from musedask.reduction.running.notes import Notes
from musedask.reduction.running.plan_file import read_plan
from musedask.reduction.tables.qc import quality
from musedask.run import Run, holder_of, open_run
from musedask.sky import SkyProjection

_EXPOSURES = tuple(
    ExposureKey(date, f"cube{n}", 63.355417, 10.46556) for n, date in enumerate(DATES)
)
_CUBES = ("cube0.fits", "cube2.fits", "cube_in_primary.fits")
_TEXTS = (
    "offsets.ecsv",
    "offsets.txt",
    "radecoffsets.txt",
    "manualoffsets.txt",
    "exposures.ecsv",
    "regions.reg",
    "musedask.toml",
    "rc.dic",
)
_BINARIES = (
    "cube0.fits",
    "cube.fits.gz",
    "mask.fits",
    "offset_list.fits",
    "pymusepipe.fits",
    "raw/object.fits",
)


def _read_cube(path: Path) -> None:
    """Open a cube, and compute a little of it."""
    _use(open_cube(path))


def _use(cube: xr.Dataset) -> None:
    sky_of(cube).to_sky(0.0, 0.0)
    spectral_of(cube)
    check_variance(cube.encoding[ENCODING])
    n_all = int(np.prod([cube.sizes[axis] for axis in cube["flux"].dims]))
    if n_all < 10_000_000:
        cube["flux"].isel(wavelength=slice(0, 2)).compute(scheduler="synchronous")
        cube["variance"].isel(wavelength=-1).compute(scheduler="synchronous")


def _read_changing_cube(path: Path) -> None:
    """A cube whose file is cut, replaced or lost after it was opened: a map of it would kill."""
    kind, path = path.name, path.parent / "cube0.fits"
    cube = open_cube(path)
    if kind == "lost":
        path.unlink()
    elif kind.isdigit():
        os.truncate(path, int(kind))
    else:
        path.write_bytes(path.read_bytes()[::-1])
    _use(cube)


def _changing_cube(rng: Random, seeds: Path, folder: Path) -> Path:
    copy(seeds / "cube0.fits", folder / "cube0.fits")
    size = (folder / "cube0.fits").stat().st_size
    return folder / rng.choice(("lost", "other", str(rng.randrange(size)), str(size - 1)))


def _read_headers(path: Path) -> None:
    facts = read_facts(path)
    status = path.lstat()
    frame_of(str(path), facts, status.st_size, status.st_mtime_ns)


_SKY = SkyProjection.north_up(63.355417, 10.46556, 0.2, 6.2, 5.7)


def _read_regions(path: Path) -> None:
    file = RegionFile.read(path)
    file.inside(_SKY, SHAPE[1:])
    _ = file.checksum


def _read_offsets(name: str | None = None) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        table = OffsetTable.read(path, _EXPOSURES, format=name)
        return repr(table), table.merged_with(table), _EXPOSURES[0].date_obs in table

    return read


def _read_exposures(path: Path) -> None:
    read_exposure_table(path, must_exist=False)
    for cube in md.open_exposures(path):
        _use(cube)


def _read_lists(path: Path) -> None:
    folder, masks = path.parent, path.parent / "maskall.in"
    regions = folder / "regionsall.in"
    read_mypython_lists(folder / "cubeall.in", masks, regions)


def _read_run(path: Path) -> None:
    run = open_run(path.parent)
    holder_of(run)
    _ = run.raw, run.static


def _read_pymusepipe(path: Path) -> None:
    import_pymusepipe(path.parent / "rc.dic", path.parent / "calib_tables.dic")


def _read_tree(path: Path) -> None:
    """Find the frames of a folder, twice: the second time with an inventory."""
    inventory = path.parent / "inventory.json"
    for _ in range(2):
        frames = find_frames(path, inventory=inventory)
        selections(frames)


def _read_with_inventory(path: Path) -> None:
    known, _ = read_inventory(path)
    for facts_path, (state, facts) in known.items():
        frame_of(facts_path, facts, state.size, state.mtime_ns)


def _read_store(path: Path) -> None:
    """Open a mega-cube and read all of it, through Dask and without."""
    store = open_megacube(path)
    megacube_info(path)
    _ = store.exposures, store.images
    for cube in store.values():
        cube["flux"].isel(wavelength=0).compute(scheduler="synchronous")
        array = stored_array(cube, "variance")
        for k, j in np.ndindex(array.n_rows) if array else ():
            for _region, _values in array.bands(k, j) if array else ():
                pass


def _read_log(path: Path) -> None:
    summary = parse_log(read_text(path, errors="replace"))
    _ = summary.warnings, summary.errors


def _read_notes(path: Path) -> None:
    """The notes of a run, wherever one of them lies."""
    folder = path.parent
    notes = Notes(folder)
    for kind in ("running", "failed"):
        (folder / kind).mkdir()
        copy_as_it_is(path, folder / kind / "key.json")
    copy_as_it_is(path, folder / "reduce.lock")
    _ = notes.running(), notes.failures(), notes.failure("key")
    Memory.of(_RunAt(folder))


class _RunAt(Run):
    """A run whose notes lie in its folder itself."""

    @property
    def state(self) -> Path:
        """Where the notes lie."""
        return self.folder


def _read_record(path: Path) -> None:
    record = read_record(path.parent)
    if record is None:
        return
    record.products_of("MASTER_BIAS")
    inside = (record.folder / product.file for product in record.products)
    if any(path.parent not in Path(os.path.normpath(file)).parents for file in inside):
        raise AssertionError("a product lies outside its job's folder")


def _read_quality(path: Path) -> None:
    if not path.is_file():
        raise FileError(f"{path}: is no file")
    with path.open("rb") as file:
        raw = read_primary(file, str(path)).raw
    for tag in ("MASTER_BIAS", "DATACUBE_FINAL", "WAVECAL_TABLE"):
        quality(raw, tag)


def _command(*arguments: str) -> Callable[[Path], object]:
    """A command of the command line, in this process; PATH is the path, OUT a new name."""

    def run(path: Path) -> None:
        from musedask.cli import cli

        given = [
            str(path) if word == "PATH" else word.replace("FOLDER", str(path.parent))
            for word in arguments
        ]
        cli.main(given, prog_name="musedask", standalone_mode=False)

    return run


def _with_cubes(rng: Random, seeds: Path, folder: Path) -> Path:
    """A table of exposures whose first cube is damaged."""
    for name in ("exposures.ecsv", "cube1.fits", "cube2.fits", "mask.fits", "regions.reg"):
        copy(seeds / name, folder / name)
    one = rng.choice(("cube0.fits", "mask.fits", "regions.reg"))
    copy(seeds / "cube0.fits", folder / "cube0.fits")
    change = damaged_text if one == "regions.reg" else damaged_fits
    (folder / one).write_bytes(change(rng, (seeds / one).read_bytes()))
    return folder / "exposures.ecsv"


def _any_file(rng: Random, seeds: Path, folder: Path) -> Path:
    """Any seed, under its own name or another one's."""
    name, other = rng.choice(_TEXTS + _BINARIES), rng.choice(_TEXTS + _BINARIES)
    path = folder / Path(name if rng.random() < 0.8 else other).name
    text = name in _TEXTS and rng.random() < 0.8
    change = damaged_text if text else damaged_fits if rng.random() < 0.8 else damaged
    path.write_bytes(change(rng, (seeds / name).read_bytes()))
    return path


_BESIDE = ("cube0.fits", "cube1.fits", "cube2.fits", "mask.fits", "regions.reg")
TARGETS: tuple[Target, ...] = (
    Target("cube", of_files(damaged_fits, *_CUBES), _read_cube, weight=8),
    Target(
        "cube, changed while open", _changing_cube, _read_changing_cube, may_write=("cube0.fits",)
    ),
    Target(
        "cube, packed", of_files(damaged_fits, "cube.fits.gz", "cube.fits.fz"), _read_cube, weight=6
    ),
    Target(
        "raw frame",
        of_files(damaged_fits, "raw/object.fits", "raw/flat.fits.gz", "cube.fits.fz"),
        _read_headers,
        never_raises=True,
        weight=6,
    ),
    Target(
        "facts of an exposure",
        of_files(damaged_fits, *_CUBES, "cube.fits.gz"),
        md.make_exposure_table,
    ),
    Target(
        "mask",
        of_files(
            damaged_fits, "mask.fits", "mask_in_extension.fits", "mask.fits.gz", "mask.fits.fz"
        ),
        read_mask_image,
        weight=6,
    ),
    Target(
        "regions",
        of_files(damaged_text, "regions.reg", "regions_image.reg"),
        _read_regions,
        weight=6,
    ),
    Target("offsets, ECSV", of_files(damaged_text, "offsets.ecsv"), _read_offsets()),
    Target(
        "offsets, OFFSET_LIST",
        of_files(damaged_fits, "offset_list.fits", "offset_list.fits.gz"),
        _read_offsets(),
        weight=6,
    ),
    Target(
        "offsets, pymusepipe",
        of_files(damaged_fits, "pymusepipe.fits"),
        _read_offsets("pymusepipe"),
    ),
    Target(
        "offsets, COSMOS",
        of_files(damaged_text, "offsets.txt", "manualoffsets.txt"),
        _read_offsets("cosmos"),
    ),
    Target(
        "offsets, manual beside COSMOS",
        of_files(damaged_text, "manualoffsets.txt", beside=("offsets.txt",)),
        lambda path: OffsetTable.read(path.parent / "offsets.txt", _EXPOSURES),
    ),
    Target("offsets, mypython", of_files(damaged_text, "radecoffsets.txt"), _read_offsets()),
    Target("offsets, told by content", _any_file, _read_offsets()),
    Target(
        "exposure table",
        of_files(damaged_text, "exposures.ecsv", beside=_BESIDE),
        _read_exposures,
        weight=6,
    ),
    Target(
        "lists of mypython",
        of_files(
            damaged_text,
            "cubeall.in",
            "maskall.in",
            "regionsall.in",
            beside=("cubeall.in", "maskall.in", "regionsall.in", *_BESIDE),
        ),
        _read_lists,
    ),
    Target("configuration", of_files(damaged_text, "musedask.toml"), _read_run, weight=6),
    Target(
        "pymusepipe's files",
        of_files(damaged_text, "rc.dic", "calib_tables.dic", beside=("rc.dic", "calib_tables.dic")),
        _read_pymusepipe,
    ),
    Target(
        "CalSelector's XML",
        of_files(damaged_xml, "raw/calselector.xml"),
        read_calselector,
        weight=6,
    ),
    Target(
        "folder of frames",
        of_folder("raw", damaged_tree),
        _read_tree,
        may_write=("inventory.json",),
        weight=6,
    ),
    Target(
        "inventory",
        of_files(damaged_json, "inventory.json"),
        _read_with_inventory,
        never_raises=True,
    ),
    Target(
        "record of a job", of_files(damaged_json, "job.json", beside=("mask.fits",)), _read_record
    ),
    Target("plan", of_files(damaged_json, "plan.json"), read_plan),
    Target(
        "notes of a run",
        of_files(
            damaged_json, "running.json", "failure.json", "memory.json", called="exposures.json"
        ),
        _read_notes,
        never_raises=True,
        may_write=("running*", "failed*", "reduce.lock", "exposures.json"),
    ),
    Target("log of esorex", of_files(damaged_text, "esorex.log"), _read_log),
    Target(
        "quality measures", of_files(damaged_fits, "cube0.fits", "raw/bias.fits"), _read_quality
    ),
    Target("mega-cube", of_folder("store.zarr", damaged_store), _read_store, weight=1),
    Target("musedask info", _any_file, describe, weight=6),
    Target("musedask info STORE", of_folder("store.zarr", damaged_store), describe, weight=1),
    Target(
        "musedask stack",
        _with_cubes,
        _command("stack", "PATH", "-o", "FOLDER/deep.zarr"),
        may_write=("deep.zarr*", ".deep.zarr.lock"),
        weight=1,
    ),
    Target(
        "musedask export",
        of_folder("store.zarr", damaged_store),
        _command("export", "PATH", "FOLDER/deep.fits", "--group", "median"),
        may_write=("deep.fits",),
        weight=1,
    ),
    *ALIGNMENT,
)
"""In the order of the report."""
BY_NAME: dict[str, Target] = {target.name: target for target in TARGETS}
