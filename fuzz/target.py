"""What a target of the campaign is: a reader, what it reads, and how that is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz.damage import Damage
from fuzz.odd_files import put_odd_file

Prepare = Callable[[Random, Path, Path], Path]
"""(rng, folder of the seeds, empty folder) -> the path in that folder that the reader gets."""
_ODD = 0.02
"""Share of cases in which something else than a file stands under its name."""


@dataclass(frozen=True)
class Target:
    """A reader and its damaged input."""

    name: str
    """In reports and on the command line."""
    prepare: Prepare
    """Puts the damaged input of a case into a folder."""
    read: Callable[[Path], object]
    """Reads it as far as musedask does."""
    never_raises: bool = False
    """Whether the reader promises to take whatever comes."""
    may_write: tuple[str, ...] = ()
    """Patterns of what it may leave beside its input."""
    weight: int = 4
    """How often it has its turn."""


def of_files(
    change: Damage, *names: str, beside: tuple[str, ...] = (), called: str = ""
) -> Prepare:
    """One of some seeds, damaged.

    Parameters
    ----------
    change
        The damage.
    names
        The seeds, each of which is taken as often.
    beside
        Seeds that lie beside it, whole.
    called
        The name that it has instead of its own.
    """

    def prepare(rng: Random, seeds: Path, folder: Path) -> Path:
        seed = seeds / rng.choice(names)
        path = folder / (called or seed.name)
        for other in beside:
            copy(seeds / other, folder / other)
        path.unlink(missing_ok=True)
        if rng.random() < _ODD:
            put_odd_file(rng, path)
        else:
            path.write_bytes(change(rng, seed.read_bytes()))
        return path

    return prepare


def of_folder(name: str, change: Callable[[Random, Path], None], called: str = "") -> Prepare:
    """A folder among the seeds, damaged."""

    def prepare(rng: Random, seeds: Path, folder: Path) -> Path:
        path = folder / (called or name)
        copy(seeds / name, path)
        change(rng, path)
        return path

    return prepare


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def copy_as_it_is(source: Path, target: Path) -> None:
    """Copy a file; of what is none, link to it."""
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        target.symlink_to(source)


def everything_below(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    """Name, mode, size and time of change of all below a folder; links are not followed."""
    waiting = [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            status = path.lstat()
            if path.is_dir() and not path.is_symlink():
                waiting.append(path)
                yield str(path.relative_to(folder)), status.st_mode, 0, 0
            else:
                yield (
                    str(path.relative_to(folder)),
                    status.st_mode,
                    status.st_size,
                    status.st_mtime_ns,
                )
