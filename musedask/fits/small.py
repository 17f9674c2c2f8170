"""Masks and tables: small FITS files that astropy reads, whole and from memory."""

from __future__ import annotations

import gzip
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning

from musedask.errors import FileError, MusedaskError
from musedask.files import read_bytes
from musedask.fits.hdus import BLOCK, read_headers
from musedask.wording import readable

_GZIP = b"\x1f\x8b"
_MOST = 1 << 30
"""Bytes that a gzip file may unpack to: a mask has one value a spaxel."""


@contextmanager
def small_fits(path: str | os.PathLike[str]) -> Iterator[fits.HDUList]:
    """Open a small FITS file, packed or not, from memory; whatever fails inside is a FileError.

    Its headers are walked before astropy sees them, which with a wrong NAXIS
    would look for as many cards as that says.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileError
        If it cannot be read or is damaged; also for what astropy raises inside
        the block, where it parses cards and columns that it had left alone.
    """
    with fits_of(read_bytes(path), os.fspath(path)) as hdus:
        yield hdus


@contextmanager
def fits_of(content: bytes, label: str) -> Iterator[fits.HDUList]:
    """Open what :func:`small_fits` opens, if its bytes have been read already.

    Raises
    ------
    FileError
        As there; it names ``label``.
    """
    try:
        if content.startswith(_GZIP):
            content = _unpacked(content)
        last = read_headers(io.BytesIO(content), len(content), label)[-1]
        # What follows the last HDU was not walked, and is not for astropy, either.
        content = content[: last.offset + -(-last.nbytes // BLOCK) * BLOCK]
        with warnings.catch_warnings():
            # A file that is cut off is only a warning to astropy; what is odd is less.
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", VerifyWarning)
            # From memory, since astropy leaves a damaged file open.
            with fits.open(io.BytesIO(content)) as hdus:
                yield hdus
    except MusedaskError:
        raise
    except Exception as err:  # astropy raises what it likes on damaged files
        why = readable(" ".join(str(err).split()), 300)
        raise FileError(
            f"{label}: this FITS file is damaged: {why}; copy or make it again"
        ) from err


def _unpacked(content: bytes) -> bytes:
    """What a gzip file holds."""
    with gzip.open(io.BytesIO(content)) as packed:
        found = packed.read(_MOST + 1)
    if len(found) > _MOST:
        raise ValueError(f"it unpacks to more than {_MOST >> 20} MB")
    return found
