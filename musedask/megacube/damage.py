"""What xarray and zarr-python make of a damaged store, as one error that names it."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from musedask.errors import FileError, MusedaskError
from musedask.files import read_json
from musedask.megacube.regions import Region, basic_part
from musedask.megacube.shards import Array
from musedask.wording import readable

Read = Callable[[Region], Array]
"""Reads a box of an array."""

_LONGEST_AXIS = 10_000_000
"""Values along an axis of a store; a mosaic of the whole sky would have fewer."""


@contextmanager
def damage_as_error(what: Path | str) -> Iterator[None]:
    """Turn whatever is raised, or warned of, while a store is opened into a FileError.

    zarr-python has no base of its own for the errors of broken metadata: they
    are KeyErrors, TypeErrors and others, of any layer. Not for threads, which
    share one list of what is done with warnings.
    """
    with _raised_as_error(what), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def _raised_as_error(what: Path | str) -> Iterator[None]:
    """The same of what is raised alone, in any thread."""
    try:
        yield
    except MusedaskError:
        raise
    except Exception as err:
        why = readable(f"{type(err).__name__}: {err}", 300)
        raise FileError(
            f"{what}: the store is damaged ({why}); copy it again, or remove it and build it again"
        ) from err


class StoredVariable:
    """A variable of a store for Dask: damage is a FileError, when it is read and not before."""

    def __init__(self, variable: xr.Variable, folder: Path, read: Read | None) -> None:
        self.variable, self.folder, self.read = variable, folder, read
        self.shape, self.dtype, self.ndim = variable.shape, variable.dtype, variable.ndim

    def __getitem__(self, part: Any) -> Any:
        """Read a part: an integer or a slice for each axis."""
        with _raised_as_error(self.folder):
            if self.read is None:
                return self.variable[part].to_numpy()
            return basic_part(self.read, self.shape, part).astype(self.dtype, copy=False)


def open_labelled(path: Path, group: str) -> xr.Dataset:
    """Open a group of a store, with nothing read but its coordinates' metadata.

    Raises
    ------
    FileError
        If it is damaged.
    """
    with damage_as_error(path / group):
        _check_sizes(path, group)
        return xr.open_dataset(
            str(path), group=group, engine="zarr", consolidated=True, chunks=None, cache=False
        )


def _check_sizes(path: Path, group: str) -> None:
    """Raise a ValueError for an axis that cannot be one, and for files that are none.

    Opening reads the labels of each axis.
    """
    document = read_json(path / "zarr.json")
    held = document["consolidated_metadata"]["metadata"]
    for name, array in held.items():
        shape = array.get("shape", [])
        if str(name).rpartition("/")[0] == group and len(shape) == 1 and shape[0] > _LONGEST_AXIS:
            raise ValueError(f"{name} has {shape[0]} values")
    odd = next(_odd_files(path / group, depth=3), None)
    if odd is not None:  # reading a pipe would wait for ever
        raise ValueError(f"{odd} is no file")


def _odd_files(folder: Path, depth: int) -> Iterator[str]:
    """What is neither file nor folder: of a group, its arrays, and the folders of their chunks."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if depth > 1:
                    yield from _odd_files(Path(entry.path), depth - 1)
            elif not entry.is_file():
                yield entry.path


def lazily(
    dataset: xr.Dataset, path: Path, group: str, build: str, chunks: Mapping[str, int],
    readers: Mapping[str, Read] = MappingProxyType({}),
) -> xr.Dataset:  # fmt: skip
    """The same Dataset, its variables as Dask arrays.

    Parameters
    ----------
    dataset
        As :func:`open_labelled` gave it.
    path, group
        Where it lies.
    build
        What the store was made of: arrays of equal names hold the same.
    chunks
        Size of a chunk along each dimension; whole where there is none.
    readers
        What reads boxes of variables; others are left to zarr-python, which takes
        ten times as long over the few values of each chunk that a spectrum has.
    """
    found = {}
    for name, array in dataset.data_vars.items():
        folder = path / group / str(name)
        token = hashlib.sha256(repr((str(folder), build, sorted(chunks.items()))).encode())
        data = da.from_array(
            StoredVariable(array.variable, folder, readers.get(str(name))),
            chunks=tuple(chunks.get(str(dim), -1) for dim in array.dims),
            name=f"musedask-stored-{token.hexdigest()[:32]}",
            meta=np.empty((0,) * array.ndim, array.dtype),
            asarray=False,
        )
        found[name] = (array.dims, data, array.attrs)
    return dataset.assign(found)
