"""What recipes have made, as digests of the data: headers have the time in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from astropy.io import fits

from benchmarks.jobs import Comparison

Contents = Mapping[str, tuple[str, int]]
"""Name of a product -> SHA-256 of all its data, and the number of values."""
_UNTOLD = "PIXTABLE_"
"""Intermediate products, most of the bytes; cubes are made of them."""
_PIECE = 1 << 24


def contents(folders: Mapping[str, Path]) -> dict[str, tuple[str, int]]:
    """Look at the products of jobs, pixel tables left out.

    Parameters
    ----------
    folders
        Key of a job -> the folder of its products.
    """
    return {
        f"{key}/{path.name}": content(path)
        for key, folder in folders.items()
        for path in sorted(folder.glob("*.fits"))
        if not path.name.startswith(_UNTOLD)
    }


def content(path: Path) -> tuple[str, int]:
    """SHA-256 of the data of all extensions, as they are on disk, and the number of values."""
    digest, n_values = hashlib.sha256(), 0
    with fits.open(path, memmap=True) as hdus, path.open("rb") as file:
        for hdu in hdus:
            size = int(hdu.size)
            digest.update(f"{hdu.name} {size} ".encode())
            file.seek(hdu.fileinfo()["datLoc"])
            for start in range(0, size, _PIECE):
                digest.update(file.read(min(_PIECE, size - start)))
            n_values += size * 8 // abs(int(hdu.header["BITPIX"]))
    return digest.hexdigest(), n_values


def compared(found: Contents, wanted: Contents, against: str) -> Comparison:
    """All of them bit for bit; any that differs, is missing or is too many is infinitely wrong."""
    names = sorted(found.keys() | wanted.keys())
    other = [name for name in names if found.get(name) != wanted.get(name)]
    n_values = sum(n for _, n in wanted.values())
    differ = f", of which {', '.join(other)} differ" if other else ""
    return Comparison(n_values, float("inf") if other else 0.0, "the same bits", against + differ)
