"""Packed FITS files (``.fits.gz``, ``.fits.fz``), unpacked once into a cache.

Packed bytes have no random access: each block of wavelengths would unpack the
whole file again. So a file is unpacked once, next to nothing is kept in
memory, and the copy is found again by the file's path, size and time. A copy
that nobody has opened for ``$MUSEDASK_CACHE_DAYS`` days (30 by default) goes
when another file is unpacked; at any time the folder may be emptied by hand.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import logging
import math
import os
import re
import shutil
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from musedask.errors import FileError, InputError, MusedaskError
from musedask.files import as_file_error, opened
from musedask.fits.hdus import BLOCK, FitsFile, Hdu, read_fits, walk_headers
from musedask.quiet import quiet
from musedask.wording import data_size, readable

_LOG = logging.getLogger(__name__)
_GZIP = b"\x1f\x8b"
_COPY = re.compile(r"-[0-9a-f]{24}\.fits$")
"""How names of copies end: nothing else in the folder is ours."""
_LONGEST_STEM = 100
"""Characters of a file's name that its copy keeps: names end at 255 bytes."""
_PIECE = 1 << 22
_SPARE = 64 << 20
"""Bytes that stay free on the disk of the cache."""
_SLAB_BYTES = 32 << 20
_DAYS = 30.0
"""Age at which copies go, if the environment does not say."""
_DROPPED = ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM")
"""Cards that no longer hold for unpacked data."""


def cache_folder() -> Path:
    """Where unpacked copies lie: ``$MUSEDASK_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("MUSEDASK_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "musedask"


def plain_stem(path: str | os.PathLike[str]) -> str:
    """Name of a FITS file without its folder and without ``.fits``, ``.fits.gz``, ``.fits.fz``."""
    return re.sub(r"(?i)(\.(fits|fit|fts))?(\.(gz|fz))?$", "", Path(path).name)


def open_fits(path: str | os.PathLike[str]) -> FitsFile:
    """Read the headers of a FITS file, packed or not; unpacks a packed one at first.

    Raises
    ------
    FileError
        If it cannot be read, is no whole FITS file, or the cache is too small for it.
    """
    label = os.fspath(path)
    with opened(path, label) as file:
        is_gzip = file.read(2) == _GZIP
    if is_gzip:
        plain = _unpacked(Path(path), label, _gunzip, _gunzipped_size)
        found = read_fits(plain, label)
    else:
        found = read_fits(path, label)
    if any(hdu.is_compressed for hdu in found.hdus):
        packed = found
        plain = _unpacked(
            Path(packed.path),
            label,
            lambda _, out: _funpack(packed, out),
            lambda _: sum(_funpacked_size(hdu) for hdu in packed.hdus),
        )
        found = read_fits(plain, label)
    return found


def read_first_headers(path: str | os.PathLike[str], count: int) -> list[Hdu]:
    """Read the first headers of a FITS file, packed or not; nothing is unpacked into the cache.

    Raises
    ------
    FileError
        If the file cannot be read, or is no whole FITS file as far as these headers go.
    """
    label = os.fspath(path)
    with _damage(label), opened(path, label) as file:
        is_gzip = file.read(2) == _GZIP
        file.seek(0)
        if not is_gzip:
            size = os.fstat(file.fileno()).st_size
            return list(islice(walk_headers(file, size, label), count))
        with gzip.open(file) as stream:
            return list(islice(walk_headers(stream, None, label), count))


def _unpacked(
    path: Path,
    label: str,
    unpack: Callable[[Path, BinaryIO], None],
    measure: Callable[[Path], int],
) -> Path:
    """The unpacked copy of a file, made if it is not there yet.

    Processes that want the same copy at the same time wait for one of them.
    The copy has the time of the packed file, so that unpacking again, after
    the cache was emptied, changes nothing.
    """
    with as_file_error(label):
        status = os.stat(path)
    key = repr((os.path.abspath(path), status.st_size, status.st_mtime_ns))
    digest = hashlib.sha256(key.encode()).hexdigest()[:24]
    folder = cache_folder()
    target = folder / f"{plain_stem(label)[:_LONGEST_STEM]}-{digest}.fits"
    with _space(label, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_suffix(".lock")):
            if target.exists():
                _LOG.debug("%s: found unpacked in %s", label, target)
                return target
            _sweep(folder)
            size = measure(path)
            _check_space(folder, size, label)
            _LOG.warning(
                "%s: packed files are unpacked once: %s into %s", label, data_size(size), target
            )
            _write_copy(path, label, target, unpack, (status.st_atime_ns, status.st_mtime_ns))
    return target


def _sweep(folder: Path) -> None:
    """Remove copies that nobody has opened for long; each lock tells when its copy was."""
    oldest = time.time() - 86400.0 * _days()
    for lock in folder.glob("*.lock"):
        copy = lock.with_suffix(".fits")
        # What cannot be removed now goes another time.
        with suppress(OSError):
            if _COPY.search(copy.name) and lock.stat().st_mtime < oldest:
                _LOG.info("%s: not opened for %g days, removed", copy, _days())
                copy.unlink(missing_ok=True)
                lock.unlink()


def _days() -> float:
    """Days that a copy is kept after it was last opened."""
    given = os.environ.get("MUSEDASK_CACHE_DAYS", "")
    try:
        days = float(given) if given else _DAYS
    except ValueError:
        days = math.nan
    if not days > 0:
        raise InputError(f"MUSEDASK_CACHE_DAYS is {given!r}: give a number of days above 0")
    return days


def _write_copy(
    path: Path,
    label: str,
    target: Path,
    unpack: Callable[[Path, BinaryIO], None],
    times_ns: tuple[int, int],
) -> None:
    """Unpack under a temporary name, see that it is FITS, and give it its name."""
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as out:  # with the user's umask, which mkstemp would not heed
            unpack(path, out)
            out.flush()
            os.fsync(out.fileno())
        read_fits(temporary, label)
        os.utime(temporary, ns=times_ns)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _space(label: str, folder: Path) -> Iterator[None]:
    """Turn what goes wrong while unpacking into a FileError that says where."""
    try:
        with _damage(label):
            yield
    except FileError:
        raise
    except OSError as err:
        raise FileError(
            f"{label}: cannot be unpacked into {folder}: {err.strerror or err}; make room or set "
            "MUSEDASK_CACHE to a folder on a larger disk"
        ) from err


@contextmanager
def _damage(label: str) -> Iterator[None]:
    """Turn what unpacking raises for a damaged file into a FileError; other OSErrors stay."""
    try:
        yield
    except MusedaskError:
        raise
    except Exception as err:  # astropy raises what it likes on damaged files
        if isinstance(err, OSError) and not isinstance(err, gzip.BadGzipFile):
            raise
        raise FileError(
            f"{label}: cannot be unpacked, it is damaged or cut off ({readable(str(err), 300)}); "
            "copy or download it again"
        ) from err


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock; it goes with the process, however that ends.

    To be opened for writing gives the file the time of now: that of the last
    use of the copy, whose own time is the packed file's.
    """
    with open(path, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path, size: int, label: str) -> None:
    """Raise a FileError if the cache's disk has no room for ``size`` bytes."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise FileError(
            f"{label}: unpacked it needs {data_size(size)}, {folder} has {data_size(free)} "
            "free; make room or set MUSEDASK_CACHE to a folder on a larger disk"
        )


def _gunzip(path: Path, out: BinaryIO) -> None:
    """Unpack a gzip file piece by piece."""
    with gzip.open(path, "rb") as packed:
        shutil.copyfileobj(packed, out, _PIECE)


def _gunzipped_size(path: Path) -> int:
    """Size of a gzip file's content, as its last four bytes say.

    They count modulo 4 GiB (RFC 1952); the smallest size that is not below
    the packed one is taken, since noise hardly packs.
    """
    packed = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, packed - 4))
        tail = file.read(4)
    size = int(struct.unpack("<I", tail)[0])
    while size < packed - (1 << 16):
        size += 1 << 32
    return size


def _funpacked_size(hdu: Hdu) -> int:
    """Bytes that an HDU of a packed file takes when it is unpacked."""
    header = len(hdu.raw) + 2 * BLOCK
    if not hdu.is_compressed:
        return header + hdu.nbytes + BLOCK
    values = abs(_whole(hdu, "ZBITPIX")) // 8
    for axis in range(1, _whole(hdu, "ZNAXIS") + 1):
        values *= _whole(hdu, f"ZNAXIS{axis}")
    return header + values + BLOCK


def _whole(hdu: Hdu, key: str) -> int:
    """A card of a compressed image that has to be a whole number."""
    value = hdu.get(key)
    if type(value) is not int:
        raise ValueError(f"{key} = {value!r} in HDU {hdu.index}")
    return value


def _funpack(file: FitsFile, out: BinaryIO) -> None:
    """Unpack each compressed image of a file, a few channels at a time; copy the others."""
    was_primary = any(hdu.is_compressed and hdu.get("ZSIMPLE") is True for hdu in file.hdus)
    # Opened here, since astropy leaves a damaged file open.
    silent = quiet(VerifyWarning, AstropyUserWarning, RuntimeWarning)
    with silent, open(file.path, "rb") as packed, fits.open(
        packed, memmap=True, do_not_scale_image_data=True
    ) as hdulist:  # fmt: skip
        for hdu in file.hdus:
            if hdu.is_compressed:
                _write_image(hdulist[hdu.index], out)
            elif not (hdu.index == 0 and was_primary):  # funpack leaves that empty one out, too
                _copy_hdu(file.path, hdu, out)


def _write_image(hdu: fits.CompImageHDU, out: BinaryIO) -> None:
    """Write one compressed image as a plain one."""
    header = hdu.header.copy()
    for key in _DROPPED:
        header.remove(key, ignore_missing=True)
    out.write(header.tostring().encode("ascii"))
    shape = hdu.shape
    dtype = np.dtype({8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}[
        header["BITPIX"]
    ])  # fmt: skip
    plane = int(np.prod(shape[1:])) * dtype.itemsize
    depth = max(1, _SLAB_BYTES // max(plane, 1))
    for start in range(0, shape[0], depth):
        part = hdu.section[start : min(start + depth, shape[0])]
        out.write(np.ascontiguousarray(part, dtype=dtype).data)
    _fill_block(out, shape[0] * plane)


def _copy_hdu(path: str, hdu: Hdu, out: BinaryIO) -> None:
    """Copy an HDU that is not compressed as it stands."""
    with open(path, "rb") as file:
        file.seek(hdu.start)
        left = hdu.offset + hdu.nbytes - hdu.start
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise EOFError("the file ended early")
            out.write(piece)
            left -= len(piece)
    _fill_block(out, hdu.nbytes)


def _fill_block(out: BinaryIO, nbytes: int) -> None:
    """Fill the last block after ``nbytes`` of data."""
    out.write(bytes(-nbytes % BLOCK))
