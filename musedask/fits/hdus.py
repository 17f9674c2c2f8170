"""The headers of a FITS file and where its data lie, without reading any data.

The blocks are walked here and not by astropy, so that opening a thousand cubes
costs a few milliseconds each and a broken file gives one clear error.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from typing import Any, BinaryIO

from astropy.io import fits
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from musedask.errors import FileError
from musedask.files import as_file_error as as_file_error
from musedask.files import opened
from musedask.fits.cards import CARD, NotPlain, plain_value
from musedask.quiet import quiet

BLOCK = 2880
_END = b"END".ljust(CARD)
_MAX_BLOCKS = 4000
"""144 thousand cards: more than the cube of a thousand combined exposures has."""
_MOST_AXES = 999
"""Axes, and columns of a table, that the FITS standard allows; astropy looks for any number."""
_STRUCTURE = re.compile(rb"(Z?NAXIS\d{0,3}|BITPIX|PCOUNT|GCOUNT|TFIELDS|THEAP) *= *(\d{1,70})?")
_BITPIX = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True, eq=False)
class Hdu:
    """One header, and where its data lie."""

    index: int
    """0 for PRIMARY."""
    raw: bytes
    """The header's cards as they stand in the file, up to but without END."""
    start: int
    """Byte of the file at which the header starts."""
    offset: int
    """Byte of the file at which the data start."""

    @cached_property
    def text(self) -> str:
        """The header's cards, 80 characters each, separated by newlines."""
        plain = self.raw.decode("ascii", errors="replace").replace("\ufffd", "?")
        return "\n".join(plain[i : i + CARD] for i in range(0, len(plain), CARD))

    @cached_property
    def header(self) -> fits.Header:
        """The header for astropy; reading a broken card raises its VerifyError."""
        with quiet(VerifyWarning, AstropyUserWarning):
            return fits.Header.fromstring(self.text, sep="\n")

    def get(self, key: str) -> Any:
        """Value of a card, None if it is missing, undefined or cannot be parsed."""
        try:
            value = plain_value(self.raw, key)
        except NotPlain:
            value = self._parsed(key)
        return value.strip() if isinstance(value, str) else value

    def _parsed(self, key: str) -> Any:
        """What astropy makes of a card."""
        with quiet(VerifyWarning, AstropyUserWarning):
            try:
                value = self.header.get(key)
            except (VerifyError, ValueError):
                return None
        return None if isinstance(value, fits.card.Undefined) else value

    @cached_property
    def name(self) -> str:
        """EXTNAME in capitals; empty if there is none."""
        return str(self.get("EXTNAME") or "").upper()

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data in numpy's order; empty if there are none."""
        n_axes = self._integer("NAXIS")
        if n_axes > _MOST_AXES:
            raise ValueError(f"NAXIS = {n_axes} in HDU {self.index}")
        return tuple(self._integer(f"NAXIS{i}") for i in range(n_axes, 0, -1))

    @property
    def dtype(self) -> str:
        """Type of the data as they stand in the file, as numpy writes it: ``>f4``..."""
        return _BITPIX[self._integer("BITPIX")]

    @cached_property
    def nbytes(self) -> int:
        """Length of the data without what fills their last block."""
        self._check_structure()
        if not self.shape:
            return 0
        pcount, gcount = (
            self._integer(key) if self.get(key) is not None else default
            for key, default in (("PCOUNT", 0), ("GCOUNT", 1))
        )
        return abs(self._integer("BITPIX")) // 8 * gcount * (pcount + math.prod(self.shape))

    @property
    def is_image(self) -> bool:
        """Whether it is an image (or cube) that is not compressed."""
        return self.index == 0 or self.get("XTENSION") in ("IMAGE", "IUEIMAGE")

    @property
    def is_compressed(self) -> bool:
        """Whether it is an image that is packed into a table (``.fits.fz``)."""
        return self.get("XTENSION") == "BINTABLE" and self.get("ZIMAGE") is True

    def _check_structure(self) -> None:
        """Raise a ValueError for counts beyond the standard, and for second cards of the structure.

        Of two cards astropy may take the other one than :meth:`get`.
        """
        seen = set()
        for match in _STRUCTURE.finditer(self.raw):
            if match.start() % CARD:
                continue
            name, number = match[1].decode(), match[2]
            if name in ("NAXIS", "TFIELDS", "ZNAXIS") and number and int(number) > _MOST_AXES:
                raise ValueError(f"{name} = {int(number)} in HDU {self.index}")
            if name in seen:
                raise ValueError(f"{name} comes twice in HDU {self.index}")
            seen.add(name)

    def _integer(self, key: str) -> int:
        value = self.get(key)
        # In Python True is an int, too.
        if type(value) is not int or (key != "BITPIX" and value < 0):
            raise ValueError(f"{key} = {value!r} in HDU {self.index}")
        if key == "BITPIX" and value not in _BITPIX:
            raise ValueError(f"BITPIX = {value} in HDU {self.index}")
        return value


@dataclass(frozen=True, eq=False)
class FitsFile:
    """The headers of a file, and the state in which they were read."""

    path: str
    """Absolute path of the file whose bytes are read (not packed)."""
    label: str
    """The file that the user gave, for messages."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Time of last change, nanoseconds."""
    hdus: tuple[Hdu, ...]
    """All of the file's headers, PRIMARY first."""
    header_hash: str
    """SHA-256 of all headers, hexadecimal."""


def read_headers(file: BinaryIO, size: int, label: str) -> tuple[Hdu, ...]:
    """Read all headers of an open file or stream that is not packed.

    Raises
    ------
    FileError
        If it is not FITS, empty or shorter than its headers say.
    """
    return tuple(walk_headers(file, size, label))


def read_primary(stream: BinaryIO | BufferedIOBase, label: str) -> Hdu:
    """Read the PRIMARY header at the start of a stream that need not be able to seek.

    Raises
    ------
    FileError
        If it is not FITS, or ends inside its header.
    """
    begin = stream.read(BLOCK)
    if not begin.startswith(b"SIMPLE  ="):
        raise FileError(describe_non_fits(begin, label))
    return _read_header(stream, 0, 0, label, begin)


def hash_of(hdus: Iterable[Hdu]) -> str:
    """SHA-256 of headers, hexadecimal."""
    digest = hashlib.sha256()
    for hdu in hdus:
        digest.update(hdu.raw)
    return digest.hexdigest()


def read_fits(path: str | os.PathLike[str], label: str | None = None) -> FitsFile:
    """Read the headers of a FITS file that is not packed as a whole; reads no data.

    Parameters
    ----------
    path
        The file.
    label
        What to call it in errors; the path by default.

    Raises
    ------
    FileError
        If it is missing, unreadable, not FITS, empty or shorter than its headers say.
    """
    label = label or os.fspath(path)
    with opened(path, label) as file:
        status = os.fstat(file.fileno())
        hdus = read_headers(file, status.st_size, label)
    return FitsFile(
        os.path.abspath(path), label, status.st_size, status.st_mtime_ns, hdus, hash_of(hdus)
    )


def describe_non_fits(start: bytes, label: str) -> str:
    """Say what a file is that does not begin as FITS does, from its first bytes."""
    if not start:
        return f"{label}: is empty (0 bytes); copy or download it again"
    head = start.lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            f"{label}: is a web page (HTML), not FITS: a download that failed or needs a login; "
            "download it again"
        )
    for magic, kind in ((b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"PK", "zip"), (b"\x1f\x9d", "Z")):
        if start.startswith(magic):
            return f"{label}: is packed with {kind}, which is not read; unpack it first"
    return (
        f"{label}: is not FITS: it starts with {start[:20]!r} instead of SIMPLE; "
        "check the path or get the file again"
    )


def walk_headers(file: BinaryIO | gzip.GzipFile, size: int | None, label: str) -> Iterator[Hdu]:
    """The headers of an open file one after the other; ``size`` is None where it is not known."""
    position = index = 0
    while size is None or position < size:
        file.seek(position)
        begin = file.read(10)
        if position == 0 and not begin.startswith(b"SIMPLE  ="):
            raise FileError(describe_non_fits(begin + file.read(BLOCK), label))
        if position and not begin.startswith(b"XTENSION"):
            return  # "special records" that the standard allows after the last HDU
        file.seek(position)
        hdu = _read_header(file, index, position, label)
        yield hdu
        try:
            nbytes = hdu.nbytes
        except ValueError as err:
            raise FileError(
                f"{label}: has a broken header: {err}; make it again or repair that card"
            ) from None
        if size is not None and hdu.offset + nbytes > size:
            raise FileError(
                f"{label}: is cut off: HDU {hdu.index} ({hdu.name or 'no name'}) ends at byte "
                f"{hdu.offset + nbytes}, the file has {size}; copy or download it again"
            )
        position, index = hdu.offset + -(-nbytes // BLOCK) * BLOCK, index + 1
    if index == 0:
        raise FileError(describe_non_fits(b"", label))


def _end_of(block: bytes) -> int:
    """Where the END card stands in a block of cards; -1 if there is none."""
    at = block.find(_END)
    while at > 0 and at % CARD:
        at = block.find(_END, at + 1)
    return at


def _read_header(
    file: BinaryIO | BufferedIOBase, index: int, start: int, label: str, begin: bytes = b""
) -> Hdu:
    """The header that begins at ``start``; the file stands there, or a block (``begin``) on."""
    blocks: list[bytes] = []
    while len(blocks) < _MAX_BLOCKS:
        block = begin or file.read(BLOCK)
        begin = b""
        if len(block) < BLOCK:
            raise FileError(
                f"{label}: is cut off inside a header (no END before byte {start}+"
                f"{len(blocks) * BLOCK + len(block)}); copy or download it again"
            )
        at = _end_of(block)
        if at >= 0:
            raw = b"".join([*blocks, block[:at]])
            return Hdu(index, raw, start, start + (len(blocks) + 1) * BLOCK)
        blocks.append(block)
    raise FileError(f"{label}: a header has no END card; make or download the file again")
