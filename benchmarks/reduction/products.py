"""What recipes have made, compared with what a script made: the data, for headers have the time.

All bits have to be the same, but for the variances of cubes: muse_scipost (2.8.7) adds them up
in an order that depends on the number of its threads, which changed one of 170 by up to 1e-5.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.jobs import Array, Comparison, compare_values, worst_of

AGAINST = "a shell script's products"
RTOL = 1e-4
"""Of a variance."""
_UNTOLD = "PIXTABLE_"
"""Intermediate products, most of the bytes; cubes are made of them."""
_CUBES, _VARIANCE = "DATACUBE_", "STAT"
_DIGESTS = "digests.json"
_PIECE = 1 << 24


def keep(folders: Mapping[str, Path], reference: Path) -> None:
    """Make the folder of the reference: digests of products, and variances of cubes.

    Parameters
    ----------
    folders
        Key of a job -> the folder of its products.
    reference
        Appears when it is whole.
    """
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=reference.parent))
    (partial / _DIGESTS).write_text(json.dumps(digests(folders)))
    for name, values in variances(folders):
        np.save(partial / name, values)
    partial.rename(reference)


def compared(folders: Mapping[str, Path], reference: Path) -> Comparison:
    """Any that differs, is missing or is too many is infinitely wrong, and is named."""
    wanted = json.loads((reference / _DIGESTS).read_text())
    found = digests(folders)
    names = sorted(found.keys() | wanted.keys())
    other = [name for name in names if found.get(name) != wanted.get(name)]
    differ = f", of which {', '.join(other)} differ" if other else ""
    bits = Comparison(
        sum(n for _, n in wanted.values()), float("inf") if other else 0.0, "the same bits",
        AGAINST + differ,
    )  # fmt: skip
    if other:
        return bits
    return worst_of(
        bits,
        *(
            compare_values(
                values, np.load(reference / f"{name}.npy", mmap_mode="r"), rtol=RTOL, atol=0.0,
                against=AGAINST,
            )
            for name, values in variances(folders)
        ),
    )  # fmt: skip


def digests(folders: Mapping[str, Path]) -> dict[str, list[str | int]]:
    """Product -> SHA-256 of its data and the number of values; without pixel tables."""
    return {f"{key}/{path.name}": list(digest(path)) for key, path in _products(folders)}


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 of the data of all extensions, as they are on disk, and the number of values.

    Of the variances of a cube only where there are some.
    """
    found, n_values = hashlib.sha256(), 0
    with fits.open(path, memmap=True) as hdus, path.open("rb") as file:
        for hdu in hdus:
            size = int(hdu.size)
            found.update(f"{hdu.name} {size} ".encode())
            if _is_variance(path, hdu):
                found.update(np.isfinite(hdu.data).tobytes())
                continue
            file.seek(hdu.fileinfo()["datLoc"])
            for start in range(0, size, _PIECE):
                found.update(file.read(min(_PIECE, size - start)))
            n_values += size * 8 // abs(int(hdu.header["BITPIX"]))
    return found.hexdigest(), n_values


def variances(folders: Mapping[str, Path]) -> Iterator[tuple[str, Array]]:
    """Name and variances of each cube."""
    for key, path in _products(folders):
        with fits.open(path, memmap=True) as hdus:
            for hdu in hdus:
                if _is_variance(path, hdu):
                    yield f"{key}_{path.stem}", hdu.data


def _is_variance(path: Path, hdu: fits.hdu.base._BaseHDU) -> bool:
    return path.name.startswith(_CUBES) and hdu.name == _VARIANCE


def _products(folders: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for key, folder in folders.items():
        for path in sorted(folder.glob("*.fits")):
            if not path.name.startswith(_UNTOLD):
                yield key, path
