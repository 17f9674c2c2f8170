"""Exposures that change or fail while the kernel reads them: an error that names the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from exposure_cubes import file_cube

from musedask import stack
from musedask.errors import FileError
from musedask.stacking import block

SHAPE = (6, 20, 24)


def values(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.standard_normal(SHAPE).astype(np.float32), np.ones(SHAPE, np.float32)


def cubes(folder: Path) -> list[xr.Dataset]:
    return [file_cube(folder, *values(n), n) for n in range(2)]


@pytest.fixture
def lazy(tmp_path: Path) -> xr.DataArray:
    """The mean of two exposures, not computed."""
    return stack(cubes(tmp_path), methods=["mean"])["mean"]["flux"]


def cube_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.fits"))


@pytest.mark.parametrize("left", [0.3, 0.9], ids=["within DATA", "within STAT"])
def test_an_exposure_that_is_cut_short_while_it_is_read_is_named(
    left: float, lazy: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = cube_paths(tmp_path)[1]
    announce = block._Sources.announce

    def cut_after_the_check(sources: block._Sources, lo: int, hi: int) -> None:
        announce(sources, lo, hi)  # has opened and checked all
        os.truncate(victim, int(left * victim.stat().st_size))

    monkeypatch.setattr(block._Sources, "announce", cut_after_the_check)
    with pytest.raises(FileError, match=f"{victim.name}: was cut short while it was read"):
        lazy.compute()


def test_an_exposure_that_the_system_cannot_read_is_an_error(
    lazy: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_slab = block._Sources.of_slab

    def with_a_folder(sources: block._Sources, lo: int) -> np.ndarray:
        found = of_slab(sources, lo)
        folder = os.open(tmp_path, os.O_RDONLY)
        sources._files["a folder"] = folder
        found[0, 0, 0] = folder  # pread refuses
        return found

    monkeypatch.setattr(block._Sources, "of_slab", with_a_folder)
    with pytest.raises(FileError, match=r"cannot be read; check the disk"):
        lazy.compute()


def test_all_files_are_closed_after_a_block_and_after_an_error(
    lazy: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def opened() -> set[str]:
        return {
            os.readlink(f"/proc/self/fd/{n}")
            for n in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{n}")
        }

    lazy.compute()
    assert not {os.fspath(path) for path in cube_paths(tmp_path)} & opened()
    monkeypatch.setattr(block, "stack_slab", lambda *_: (_ for _ in ()).throw(EOFError("early")))
    with pytest.raises(FileError):
        lazy.compute()
    assert not {os.fspath(path) for path in cube_paths(tmp_path)} & opened()


def test_more_exposures_than_may_be_open_at_once_are_an_error_that_says_so(
    lazy: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refused(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(block._Sources, "_open", refused)
    with pytest.raises(FileError, match=r"2 exposures of a block are open at once.*ulimit -n"):
        lazy.compute()


@pytest.mark.parametrize("cached", [True, False], ids=["in the page cache", "on the disk"])
def test_the_system_is_told_of_what_comes_only_where_it_has_to_be_read(
    cached: bool, lazy: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in cube_paths(tmp_path):
        path.read_bytes()
    told = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *advice: told.append(advice))
    if not cached:

        def would_wait(*_: object) -> int:
            raise BlockingIOError(errno.EAGAIN, "not there yet")

        monkeypatch.setattr(os, "preadv", would_wait)
    lazy.compute()
    parts = 0 if cached else 2 * len(cube_paths(tmp_path))
    assert [advice[3] for advice in told] == [os.POSIX_FADV_WILLNEED] * parts
    assert all(advice[2] == 4 * np.prod(SHAPE) for advice in told)
