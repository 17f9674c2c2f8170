"""Groups and arrays of Zarr v3: their metadata, and the chunks of small arrays.

zarr-python and xarray take two milliseconds for each array that they make, and
a store has fifty of them with its labels. Tests hold what is made here against
what those two make.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numcodecs.vlen import VLenUTF8  # type: ignore[import-untyped]
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]

from musedask.errors import InputError

Document = dict[str, Any]

_LABEL_LEVEL = 0
_NAN_FILL = "AAAAAAAA+H8="
"""NaN as xarray writes ``_FillValue``: a float64 in base 64."""


@dataclass(frozen=True)
class Codecs:
    """What becomes of an array's values on their way into a file."""

    level: int | None = None
    """Zstandard level; None leaves the bytes as they are."""
    inner: tuple[int, ...] | None = None
    """Chunks inside a shard; None if a file is one chunk."""

    def document(self, dtype: str) -> list[Document]:
        """The codecs in metadata."""
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        if dtype == "string":
            first: Document = {"name": "vlen-utf8", "configuration": {}}
        else:
            first = little if np.dtype(dtype).itemsize > 1 else {"name": "bytes"}
        codecs: list[Document] = [first]
        if self.level is not None:
            zstd = {"level": self.level, "checksum": False}
            codecs.append({"name": "zstd", "configuration": zstd})
        if self.inner is None:
            return codecs
        sharding = {
            "chunk_shape": list(self.inner),
            "codecs": codecs,
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        return [{"name": "sharding_indexed", "configuration": sharding}]


@dataclass(frozen=True)
class Nodes:
    """The groups and arrays of a store that is about to be made."""

    documents: dict[str, Document] = field(default_factory=dict)
    """Path in the store -> metadata; the root's path is empty."""
    chunks: dict[str, bytes] = field(default_factory=dict)
    """Path of a file in the store -> its content."""

    def add_group(self, path: str, attributes: Mapping[str, Any]) -> None:
        """Add a group."""
        self.documents[path] = {
            "attributes": plain(attributes), "zarr_format": 3, "node_type": "group",
        }  # fmt: skip

    def add_array(
        self,
        path: str,
        shape: Sequence[int],
        dtype: str,
        chunks: Sequence[int],
        dims: Sequence[Hashable],
        codecs: Codecs,
        fill: float | str = 0,
        attributes: Mapping[str, Any] | None = None,
        separator: str = ".",
    ) -> None:
        """Add an array without a chunk.

        Parameters
        ----------
        path
            Of the array, in the store.
        shape, dtype, dims
            The array; its type is a name of numpy's, or ``string``.
        chunks
            Shape of what one file holds.
        codecs
            How it holds it.
        fill
            Value of what was never written.
        attributes
            Of the array.
        separator
            Between the numbers in a chunk's name. A point makes files side by side: no
            folders to make, so none that a late worker could revive.
        """
        self.documents[path] = {
            "shape": list(shape),
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
            "fill_value": "NaN" if fill != fill else fill,
            "codecs": codecs.document(dtype),
            "attributes": plain(attributes or {}),
            **({"dimension_names": [str(dim) for dim in dims]} if dims else {}),
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }

    def add_labels(self, group: str, labels: xr.Dataset) -> None:
        """Add coordinates (and small variables) as a group, as xarray would write them."""
        others = sorted(str(name) for name in labels.coords if name not in labels.dims)
        named = {"coordinates": " ".join(others)} if others else {}
        self.add_group(group, {**labels.attrs, **named})
        for name, variable in labels.variables.items():
            self._add_label(f"{group}/{name}", variable)

    def _add_label(self, path: str, variable: xr.Variable) -> None:
        """Add an array with its one chunk."""
        values, attributes = variable.values, dict(variable.attrs)
        kind = values.dtype.kind
        if kind not in "UOTbiuf":
            raise InputError(
                f"the label {path} is of type {values.dtype}: it takes numbers or texts"
            )
        is_text = kind in "UOT"
        fill: float | str = "" if is_text else {"f": np.nan, "b": False}.get(kind, 0)
        if kind == "f":
            attributes["_FillValue"] = _NAN_FILL
        dtype = "string" if is_text else values.dtype.name
        shape = values.shape
        self.add_array(
            path, shape, dtype, shape, variable.dims, Codecs(_LABEL_LEVEL), fill, attributes, "/"
        )
        if is_text:
            packed = VLenUTF8().encode(values.astype(object).ravel())
        else:
            packed = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        self.chunks["/".join([path, "c", *["0"] * values.ndim])] = bytes(
            Zstd(level=_LABEL_LEVEL).encode(packed)
        )

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Path and content of all files; the root's metadata hold those of all others.

        Consolidated metadata are no part of the Zarr v3 specification; xarray
        reads them, and a reader that does not know them loses nothing.
        """
        gathered = {
            path: _consolidated(document, {}) if document["node_type"] == "group" else document
            for path, document in sorted(self.documents.items())
            if path
        }
        for path, document in self.documents.items():
            if path:
                yield f"{path}/zarr.json", as_json(document)
        yield from self.chunks.items()
        yield "zarr.json", as_json(_consolidated(self.documents[""], gathered))


def _consolidated(group: Document, metadata: Mapping[str, Document]) -> Document:
    """A group's metadata with those of the nodes in it."""
    return {
        "attributes": group["attributes"],
        "zarr_format": 3,
        "consolidated_metadata": {
            "kind": "inline", "must_understand": False, "metadata": metadata,
        },
        "node_type": "group",
    }  # fmt: skip


def as_json(document: Document) -> bytes:
    """A document as it stands in a file."""
    return json.dumps(document, indent=2).encode()


def plain(value: Any) -> Any:
    """What JSON can hold of attributes: numpy scalars and arrays as numbers and lists.

    Raises
    ------
    InputError
        For anything that is none of numbers, texts, lists and dictionaries.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InputError(f"attribute {value!r} of type {type(value).__name__} cannot be stored: "
                     "use numbers, texts, lists and dictionaries of them")  # fmt: skip
