"""Open a store: its cubes, its exposures, its images, and a summary."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from musedask.cube import DIMS, check_cube
from musedask.errors import FileError, MissingError
from musedask.megacube.damage import damage_as_error, lazily, open_labelled
from musedask.megacube.direct import remember, stored_arrays
from musedask.megacube.layout import read_description
from musedask.wording import counted, data_size

_ORDER = ("flux", "variance", "n_exposures", "exposure_time")


@dataclass(frozen=True)
class MegaCube(Mapping[str, xr.Dataset]):
    """Deep cubes by the name of their statistic, as they lie in a store; all lazy."""

    path: Path
    """The store."""
    methods: tuple[str, ...]
    """Names of the statistics."""

    def __getitem__(self, method: str) -> xr.Dataset:
        if method not in self.methods:
            raise MissingError(
                f"{self.path}: no {method!r} in this mega-cube, it has {', '.join(self.methods)}"
            )
        return open_group(self.path, method)

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __len__(self) -> int:
        return len(self.methods)

    @property
    def exposures(self) -> xr.Dataset:
        """What went in: a row of dimension ``exposure`` each, in memory."""
        with damage_as_error(self.path / "exposures"):
            return _with_texts(open_labelled(self.path, "exposures").load())

    @property
    def images(self) -> xr.Dataset:
        """White-light images of the exposures (exposure, y, x) and of each statistic, lazy."""
        held = _described(self.path)
        images = open_labelled(self.path, "images")
        sizes = {"exposure": 1, "y": held["block"][1], "x": held["block"][2]}
        images = lazily(images, self.path, "images", held["build"], sizes)
        return _labels_loaded(images, self.path / "images")

    def __repr__(self) -> str:
        return str(megacube_info(self.path))


def open_megacube(path: str | os.PathLike[str]) -> MegaCube:
    """Open a store as a mapping of lazy cubes; reads metadata and coordinates alone.

    Raises
    ------
    FileError
        If there is no store, or it is not a mega-cube of musedask.
    """
    store = Path(os.path.abspath(path))
    return MegaCube(store, tuple(_described(store)["methods"]))


def open_group(path: Path, method: str) -> xr.Dataset:
    """One statistic of a store, lazily, in Dask chunks of one block."""
    held = _described(path)
    chunks = dict(zip(DIMS, held["block"], strict=True))
    cube = open_labelled(path, method)
    ordered = {name: cube[name] for name in _ORDER if name in cube.data_vars}
    cube = xr.Dataset(ordered, coords=cube.coords, attrs=cube.attrs)
    arrays = stored_arrays(cube, path / method, held)
    readers = {name: array.read for name, array in arrays.items()}
    cube = lazily(cube, path, method, held["build"], chunks, readers)
    cube = _labels_loaded(cube, path / method)
    with damage_as_error(path / method):
        check_cube(cube, str(path / method))
    if any(list(cube[name].shape) != held["shape"] for name in cube.data_vars):
        raise FileError(
            f"{path / method}: the store is damaged: its arrays have not the shape "
            f"{held['shape']}; copy it again, or remove it and build it again"
        )
    remember(cube, arrays)
    return cube


@dataclass(frozen=True)
class MegaCubeInfo:
    """A summary of a store."""

    path: Path
    """The store."""
    methods: tuple[str, ...]
    """Names of the statistics."""
    variables: tuple[str, ...]
    """Variables of each."""
    shape: tuple[int, int, int]
    """Voxels along wavelength, y, x."""
    wavelengths_angstrom: tuple[float, float]
    """First and last channel."""
    n_exposures: int
    """Exposures that went in."""
    block: tuple[int, int, int]
    """Voxels of a block along wavelength, y, x."""
    n_blocks: int
    """Blocks that exposures touch."""
    size_bytes: int
    """On disk."""
    attrs: Mapping[str, Any]
    """Provenance of the whole."""

    def __str__(self) -> str:
        nz, ny, nx = self.shape
        low, high = self.wavelengths_angstrom
        return (
            f"Mega-cube {self.path.name}: {', '.join(self.methods)}\n"
            f"  {counted(self.n_exposures, 'exposure')}, {counted(nz, 'channel')} of "
            f"{low:.2f} to {high:.2f} Angstrom, {ny} x {nx} spaxels\n"
            f"  {', '.join(self.variables)} in {counted(self.n_blocks, 'block')} of "
            f"{' x '.join(map(str, self.block))}, {data_size(self.size_bytes)}"
        )


def megacube_info(path: str | os.PathLike[str]) -> MegaCubeInfo:
    """Say what a store holds, from its metadata.

    Raises
    ------
    FileError
        If it is not a mega-cube.
    """
    store = open_megacube(path)
    held = _described(store.path)
    cube = store[store.methods[0]]
    waves = cube["wavelength"].values
    shape = tuple(int(cube.sizes[axis]) for axis in ("wavelength", "y", "x"))
    root = open_labelled(store.path, "").attrs
    size = sum(item.stat().st_size for item in store.path.rglob("*") if item.is_file())
    return MegaCubeInfo(
        path=store.path,
        methods=store.methods,
        variables=tuple(str(name) for name in cube.data_vars),
        shape=(shape[0], shape[1], shape[2]),
        wavelengths_angstrom=(float(waves[0]), float(waves[-1])),
        n_exposures=int(store.exposures.sizes["exposure"]),
        block=(held["block"][0], held["block"][1], held["block"][2]),
        n_blocks=held["blocks"],
        size_bytes=size,
        attrs={key: value for key, value in root.items() if key != "musedask"},
    )


def _described(path: Path) -> dict[str, Any]:
    """What a store says of itself.

    Raises
    ------
    FileError
        If there is none.
    """
    held = read_description(path)
    if held is not None:
        return held
    if path.is_file():
        raise FileError(
            f"{path}: is a file, and a mega-cube is a folder, usually NAME.zarr; open_exposures "
            "opens FITS cubes"
        )
    if path.exists():
        raise FileError(f"{path}: not a mega-cube of musedask; write_megacube makes one")
    building = [found.name for found in path.parent.glob(f"{path.name}.*.building")]
    if building:
        raise FileError(
            f"{path}: not finished yet ({building[0]} is under way or was interrupted); "
            "run the same stack again, it goes on where it stopped"
        )
    if any(path.with_name(f"{path.name}.{end}").exists() for end in ("incoming", "outgoing")):
        raise FileError(f"{path}: its replacement was interrupted; run the same stack again")
    raise FileError(f"{path}: no such store")


def _labels_loaded(cube: xr.Dataset, folder: Path) -> xr.Dataset:
    """Bring the coordinates, which are small, into memory."""
    with damage_as_error(folder):
        loaded = {name: coord.load() for name, coord in cube.coords.items()}
        return _with_texts(cube.assign_coords(loaded))


def _with_texts(labels: xr.Dataset) -> xr.Dataset:
    """Give texts numpy's fixed-width type, which everything understands."""
    texts = {
        name: (variable.dims, np.array(variable.values.tolist(), dtype="U"), variable.attrs)
        for name, variable in labels.variables.items()
        if variable.dtype.kind in "OT"
    }
    coords = {name: text for name, text in texts.items() if name in labels.coords}
    others = {name: text for name, text in texts.items() if name not in labels.coords}
    return labels.assign_coords(coords).assign(others)
