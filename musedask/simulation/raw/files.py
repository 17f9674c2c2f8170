"""Raw frames as files: extension by extension, under their final name only when whole."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from musedask.simulation.raw.detector import RAW_SHAPE
from musedask.simulation.raw.faults import damage
from musedask.whole_files import appearing

BLOCK = 2880
_DATA_BYTES = 2 * RAW_SHAPE[0] * RAW_SHAPE[1]
_PADDED_BYTES = -(-_DATA_BYTES // BLOCK) * BLOCK
Image = np.ndarray[Any, Any]
Extension = tuple[bytes, Image | None]
"""A header, and its data, uint16 (y, x), or None for a chip without."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write to a temporary name beside ``path``, which gets its name at the end.

    Raises
    ------
    FileError
        If it cannot be written; nothing is left behind then.
    """
    with appearing(path) as partial, open(partial, "wb+") as file:
        yield file


def write_frame(
    path: Path, primary: bytes, extensions: Iterable[Extension], *, compress: str = "",
    fault: str = "",
) -> None:  # fmt: skip
    """Write a raw frame, one extension in memory at a time.

    Parameters
    ----------
    path
        The final name, suffixes included.
    primary
        The primary header.
    extensions
        Headers and data.
    compress
        ``gz``, ``fz`` or nothing.
    fault
        Damage to do to the file: see :func:`musedask.simulation.raw.faults.damage`.
    """
    with whole_file(path) as file:
        if compress == "gz":
            # Without name and time, which would make equal files differ.
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                _write(packed, primary, extensions)
        elif compress == "fz":
            _write(file, primary, ((_packed(*one), None) for one in extensions))
        else:
            _write(file, primary, extensions)
        damage(file, fault)


def _write(file: Any, primary: bytes, extensions: Iterable[Extension]) -> None:
    file.write(primary)
    for header, data in extensions:
        file.write(header)
        if data is not None:
            # BZERO = 32768 turns unsigned into signed: the highest bit is flipped.
            file.write((data ^ np.uint16(0x8000)).astype(">u2").data)
            file.write(bytes(_PADDED_BYTES - _DATA_BYTES))


def _packed(header: bytes, data: Image | None) -> bytes:
    """An extension packed by Rice's method, header and data."""
    if data is None:
        return header
    cards = fits.Header.fromstring(header.decode("ascii"))
    hdu = fits.CompImageHDU(data, cards, compression_type="RICE_1")
    content = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(content)
    return content.getvalue()[BLOCK:]


def write_headers(path: Path, primary: bytes, headers: Iterable[bytes], *, fault: str = "") -> None:
    """Write a raw frame with holes in place of its data: full size, almost no disk.

    Headers of dead chips, which have no data, are followed by none.
    """
    with whole_file(path) as file:
        file.write(primary)
        for header in headers:
            file.write(header)
            if b"NAXIS1" in header:
                file.seek(_PADDED_BYTES, os.SEEK_CUR)
        file.truncate()
        damage(file, fault)
