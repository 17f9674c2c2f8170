"""How a task finds its voxels in a FITS file: small values, opened anew each time.

A memory map never enters a Dask graph: Dask would read all of it to name it,
and pickle it as a copy. What enters is a :class:`FitsCube`, a few hundred bytes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from musedask.errors import FileError, InputError
from musedask.files import as_file_error

Slices = tuple[slice, slice, slice]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

CHUNK_CHANNELS = 32
"""Depth of the chunks of a lazy cube: 13 MB for a frame of 320 x 320."""
_SLAB_VOXELS = 1 << 18
"""Voxels that are worked on at once: they and what is made of them fit a processor's cache."""
_READER_VERSION = 1
"""Raise it when :meth:`FitsCube.read` gives other values for the same bytes."""


@dataclass(frozen=True)
class FitsSource:
    """Where the array of one HDU lies, and the state of its file when it was opened."""

    path: str
    """Absolute path of the file; for a packed one, its unpacked copy."""
    offset: int
    """Byte of the file at which the array starts."""
    shape: tuple[int, int, int]
    """Channels, rows, columns: (wavelength, y, x)."""
    dtype: str
    """Type in the file's own byte order, ``>f4`` for a cube of the pipeline."""
    bscale: float = 1.0
    """What the stored values are multiplied by..."""
    bzero: float = 0.0
    """... and what is added then."""
    blank: int | None = None
    """Stored integer that stands for a missing value."""
    size: int = 0
    """Length of the file, bytes."""
    mtime_ns: int = 0
    """Last change of the file, nanoseconds; that of the packed file for an unpacked copy."""
    header_hash: str = ""
    """SHA-256 of all headers of the file, hexadecimal."""

    @property
    def identity(self) -> tuple[int, int, str, int]:
        """What tells these bytes from others, wherever the file lies."""
        return self.size, self.mtime_ns, self.header_hash, self.offset

    @property
    def nbytes(self) -> int:
        """Length of the array in the file."""
        nz, ny, nx = self.shape
        return nz * ny * nx * np.dtype(self.dtype).itemsize

    @property
    def is_scaled(self) -> bool:
        """Whether the stored values are not the values."""
        return self.bscale != 1.0 or self.bzero != 0.0 or self.blank is not None

    def check(self) -> None:
        """Make sure that the file is still the one that was opened.

        A map of a file that has been cut short kills the process that reads
        it, so this comes first each time.

        Raises
        ------
        FileError
            If the file is gone, was changed, or is shorter than its header says.
        """
        with as_file_error(self.path):
            status = os.stat(self.path)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
            raise FileError(
                f"{self.path}: has changed since it was opened (now {status.st_size} bytes, "
                f"then {self.size}); open the exposures again"
            )
        if self.offset + self.nbytes > status.st_size:
            raise FileError(
                f"{self.path}: is cut off: its array ends at byte {self.offset + self.nbytes}, "
                f"the file has {status.st_size}; copy or download it again"
            )

    def open(self) -> np.memmap[Any, np.dtype[Any]]:
        """Map the array, read-only, as it stands in the file; let go of it after use."""
        self.check()
        with as_file_error(self.path):
            return np.memmap(
                self.path, np.dtype(self.dtype), mode="r", offset=self.offset, shape=self.shape
            )

    def read(self, slices: Slices) -> np.ndarray[Any, np.dtype[Any]]:
        """Values of a part in native byte order: floats stay, scaled integers become float64."""
        return self.values(self.open()[slices])

    def values(self, stored: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
        """What stored numbers mean; a copy, so that a map can be let go of."""
        native = np.array(stored, dtype=stored.dtype.newbyteorder("="))
        if not self.is_scaled:
            return native
        values: np.ndarray[Any, np.dtype[Any]] = native * np.float64(self.bscale) + self.bzero
        if self.blank is not None:
            values[native == self.blank] = np.nan
        return values


@dataclass(frozen=True)
class FitsCube:
    """An exposure cube in a file: its flux, its variance and perhaps its quality."""

    flux: FitsSource
    """DATA."""
    variance: FitsSource
    """STAT, a variance."""
    quality: FitsSource | None = None
    """DQ: whatever is not 0 there is bad."""
    label: str = ""
    """The file that the user gave, for messages."""
    axes: str = ""
    """Hash of the coordinates with which it was opened."""

    @property
    def is_direct(self) -> bool:
        """Whether a kernel may take the bytes themselves.

        Flux and variance are big-endian float32 and quality, if there is one,
        big-endian int32 of the same shape, all without scaling.
        """
        plain = [(self.flux, ">f4"), (self.variance, ">f4")]
        if self.quality is not None:
            plain.append((self.quality, ">i4"))
        return all(
            s.dtype == dtype and not s.is_scaled and s.shape == self.flux.shape
            for s, dtype in plain
        )

    @property
    def flux_name(self) -> str:
        """Name of the Dask array of the flux; the same for the same file in the same state."""
        return f"musedask-flux-{self._token}"

    @property
    def variance_name(self) -> str:
        """Name of the Dask array of the variance."""
        return f"musedask-variance-{self._token}"

    @property
    def _token(self) -> str:
        parts = [_READER_VERSION, CHUNK_CHANNELS]
        described = repr((parts, self.flux, self.variance, self.quality))
        return hashlib.sha256(described.encode()).hexdigest()[:32]

    def read(self, slices: Slices, which: Literal["flux", "variance"]) -> Floats32:
        """Read a part of the flux or of the variance.

        A voxel is missing, in both, where its flux is not finite, its
        variance is not finite or not positive, or its quality is not 0.

        Parameters
        ----------
        slices
            Part of (wavelength, y, x).
        which
            ``flux`` or ``variance``.

        Returns
        -------
        values
            Native float32 (wavelength, y, x), in the file's units (the
            variance in their square); NaN is missing.

        Raises
        ------
        FileError
            If the file is gone or has changed since it was opened.
        """
        if which not in ("flux", "variance"):
            raise InputError(f"which = {which!r}: a cube has flux and variance")
        sources = (self.flux, self.variance, self.quality)
        maps = [None if source is None else source.open()[slices] for source in sources]
        values = np.empty(maps[0].shape, np.float32)  # type: ignore[union-attr]
        _, ny, nx = values.shape
        depth = max(1, _SLAB_VOXELS // max(1, ny * nx))
        for start in range(0, values.shape[0], depth):
            part = slice(start, start + depth)
            flux, variance, quality = (
                None if source is None or stored is None else source.values(stored[part])
                for source, stored in zip(sources, maps, strict=True)
            )
            self._combine(values[part], which, flux, variance, quality)
        return values

    @staticmethod
    def _combine(out: Floats32, which: str, flux: Any, variance: Any, quality: Any) -> None:
        """Fill ``out`` with the flux or the variance of a few channels, NaN where it is missing."""
        with np.errstate(over="ignore", under="ignore"):  # such values end as missing
            flux = flux.astype(np.float32, copy=False)
            variance = variance.astype(np.float32, copy=False)
        good = good_variance(variance)
        good &= np.isfinite(flux)
        if quality is not None:
            good &= quality == 0
        out[...] = np.nan
        np.copyto(out, flux if which == "flux" else variance, where=good)


def good_variance(variance: Floats32) -> Bools:
    """Where a variance can be one: finite and positive."""
    good: Bools = variance > 0
    good &= variance < np.inf
    return good
