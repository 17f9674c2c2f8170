"""Small files by the dozen, on the disk when a call returns.

A disk takes a while to answer for each file; several are asked at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from musedask.megacube.shards import sync_files, sync_folders, write_atomically

THREADS = 4
Item = TypeVar("Item")


def for_each(work: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Do work on each item, in some threads; the first failure is raised, and ends it."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="megacube") as pool:
        try:
            for _ in pool.map(work, items):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def write_durably(path: Path, content: bytes) -> None:
    """Write a file in one step and put its content on the disk, but not yet its name.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    write_atomically(path, [content])
    sync_files([path])


def write_tree(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files (name below the folder, content), and put them and their names on the disk.

    Raises
    ------
    FileError
        If one cannot be written.
    """
    contents = {folder / name: content for name, content in files}
    inside = {parent for path in contents for parent in path.parents if parent != folder.parent}
    folders = sorted(parent for parent in inside if parent.is_relative_to(folder))
    for parent in folders:
        parent.mkdir(exist_ok=True)
    for_each(lambda item: write_durably(*item), contents.items())
    for_each(lambda parent: sync_folders([parent]), folders)
