"""What may stand under a file's name instead of a file, and folders that lead astray."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from fuzz.damage import damaged
from fuzz.fits_damage import damaged_fits


def put_odd_file(rng: Random, path: Path) -> None:
    """Put something at a path that opens, if at all, in another way than a file."""
    rng.choice(_ODD)(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    # The name of a socket has to be short; if it is not, there is nothing in its place.
    with suppress(OSError), socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("a pipe"))
    path.symlink_to("a pipe")


def _unreadable(path: Path) -> None:
    with path.open("xb") as file:
        file.write(b"SIMPLE  =")
    path.chmod(0)


_ODD: tuple[Callable[[Path], None], ...] = (
    _folder, _pipe, _socket, _link_to("nowhere"), _link_to_itself, _link_to_pipe,
    _link_to("/dev/zero"),
    _link_to("/dev/null"), _link_to("."), _unreadable,
)  # fmt: skip
_NAMES = (
    "a b.fits", "new\nline.fits", "-rf.fits", "\x1b[31m.fits", "qu'ote\".fits", "é.fits", ".fits",
    "..fits",
    "%s.fits", "CAPITALS.FITS", "x" * 240 + ".fits", "a.fits.gz", "a.fits.fz", "a.fits.Z",
    "$(id).fits",
    "association.xml", "musedask.toml", "\udcff.fits", "a\tb.fits", "#.fits",
)  # fmt: skip


def damaged_tree(rng: Random, root: Path) -> None:
    """Damage a folder of frames in one to six ways."""
    for _ in range(rng.choice((1, 2, 3, 6))):
        # What one kind has made may stand in another one's way.
        with suppress(OSError):
            rng.choice(_KINDS)(rng, root)


def _any_file(rng: Random, root: Path) -> Path:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return rng.choice(files) if files else root / "new.fits"


def _any_folder(rng: Random, root: Path) -> Path:
    folders = [root, *sorted(p for p in root.rglob("*") if p.is_dir() and not p.is_symlink())]
    return rng.choice(folders)


def _odd_name(rng: Random, root: Path) -> None:
    shutil.copy(_any_file(rng, root), _any_folder(rng, root) / rng.choice(_NAMES))


def _odd_content(rng: Random, root: Path) -> None:
    path = _any_file(rng, root)
    if path.exists():
        change = damaged_fits if path.name.endswith((".fits", ".gz")) else damaged
        path.write_bytes(change(rng, path.read_bytes()))


def _odd_kind(rng: Random, root: Path) -> None:
    put_odd_file(
        rng, _any_folder(rng, root) / rng.choice(("odd.fits", "odd.xml", "odd.fits.gz", "odd"))
    )


def _replaced(rng: Random, root: Path) -> None:
    path = _any_file(rng, root)
    path.unlink(missing_ok=True)
    put_odd_file(rng, path)


def _loop(rng: Random, root: Path) -> None:
    folder = _any_folder(rng, root)
    target = rng.choice((".", "..", str(root), "loop"))
    (folder / "loop").symlink_to(target)


def _hard_link(rng: Random, root: Path) -> None:
    os.link(_any_file(rng, root), _any_folder(rng, root) / "again.fits")


def _deep(rng: Random, root: Path) -> None:
    folder = root.joinpath(*["deep"] * rng.choice((5, 100, 400)))
    folder.mkdir(parents=True)
    shutil.copy(_any_file(rng, root), folder / "deep.fits")


def _many(rng: Random, root: Path) -> None:
    for n in range(60):
        (root / f"empty{n}.fits").touch()


def _closed(rng: Random, root: Path) -> None:
    folder = root / "closed"
    folder.mkdir()
    shutil.copy(_any_file(rng, root), folder / "closed.fits")
    folder.chmod(0)


def _moved(rng: Random, root: Path) -> None:
    folder = root / rng.choice((".hidden", "store.zarr", "products", "below"))
    folder.mkdir()
    os.replace(_any_file(rng, root), folder / "moved.fits")


_KINDS: tuple[Callable[[Random, Path], None], ...] = (
    _odd_name, _odd_name, _odd_content, _odd_content, _odd_kind, _odd_kind, _replaced, _loop,
    _hard_link, _deep, _many, _closed, _moved,
)  # fmt: skip


def damaged_store(rng: Random, root: Path) -> None:
    """Damage a Zarr store: its metadata, its shards, its markers; or lose some of them."""
    from fuzz.text_damage import damaged_json

    files = sorted(path for path in root.rglob("*") if path.is_file())
    metadata = [path for path in files if path.name == "zarr.json"]
    shards = [path for path in files if path.name.startswith("c.")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.random()
        path = root / "zarr.json" if rng.random() < 0.4 else rng.choice(metadata)
        if kind < 0.55 and path.exists():
            with suppress(ValueError):
                path.write_bytes(damaged_json(rng, path.read_bytes()))
        elif kind < 0.75:
            path = rng.choice(shards)
            if path.exists():
                path.write_bytes(damaged(rng, path.read_bytes()))
        elif kind < 0.9:
            rng.choice(files).unlink(missing_ok=True)
        else:
            path = rng.choice(files)
            path.unlink(missing_ok=True)
            with suppress(FileExistsError):
                put_odd_file(rng, path)
