"""A cube file written in runs of channels: bounded memory, whole under its name or not there."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from astropy.io import fits

from musedask.errors import FileError

Floats32 = np.ndarray[Any, np.dtype[np.float32]]
_BLOCK = 2880


class CubeFile:
    """PRIMARY + DATA + STAT, float32; use it in a ``with`` block.

    What is not written reads as 0 and takes no room on the disk. The file gets
    its name when the block ends; an exception removes what was written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        headers: tuple[fits.Header, fits.Header, fits.Header],
        shape: tuple[int, int, int],
        *,
        overwrite: bool = False,
    ) -> None:
        """Make the temporary file; ``headers`` are those of PRIMARY, DATA and STAT.

        Raises
        ------
        FileError
            If ``path`` exists already, or its folder cannot be written.
        """
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise FileError(f"{self.path} exists: choose another name, or overwrite=True")
        self._channel_bytes = 4 * shape[1] * shape[2]
        data_bytes = -(-shape[0] * self._channel_bytes // _BLOCK) * _BLOCK
        texts = [header.tostring().encode("ascii") for header in headers]
        self._data = len(texts[0]) + len(texts[1])
        stat_header = self._data + data_bytes
        self._stat = stat_header + len(texts[2])
        self._partial = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.partial")
        try:
            self._file = self._partial.open("xb", buffering=0)
        except OSError as err:
            raise FileError(f"{self.path}: cannot write into this folder: {err}") from err
        self._write(0, texts[0] + texts[1])
        self._write(stat_header, texts[2])
        self._file.truncate(self._stat + data_bytes)

    def write_flux(self, first: int, values: Floats32) -> None:
        """Write a run of DATA from channel ``first`` on, float32 (wavelength, y, x)."""
        self._write(self._data + first * self._channel_bytes, values.astype(">f4"))

    def write_variance(self, first: int, values: Floats32) -> None:
        """Write a run of STAT from channel ``first`` on, float32 (wavelength, y, x)."""
        self._write(self._stat + first * self._channel_bytes, values.astype(">f4"))

    def _write(self, position: int, content: Any) -> None:
        view = memoryview(content).cast("B")
        try:
            while len(view):
                written = os.pwrite(self._file.fileno(), view, position)
                position, view = position + written, view[written:]
        except OSError as err:
            self._discard()
            raise FileError(f"{self.path}: cannot be written: {err}") from err

    def _discard(self) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> CubeFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
            return
        self._file.close()
        os.replace(self._partial, self.path)
