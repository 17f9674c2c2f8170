"""Many small files at a time, and what becomes of a failure among them."""

from __future__ import annotations

import os

import pytest

from musedask.errors import FileError
from musedask.megacube.durable import THREADS, for_each, write_tree


def test_work_is_done_once_for_each_item():
    done = []
    for_each(done.append, range(100))
    assert sorted(done) == list(range(100))


def test_the_first_failure_in_order_is_raised_and_ends_the_rest():
    done = []

    def work(n):
        done.append(n)
        if n in (3, 5):
            raise ValueError(n)

    with pytest.raises(ValueError, match="3"):
        for_each(work, range(10_000))
    assert len(done) < 10_000


def test_a_tree_holds_its_files_and_replaces_those_that_were_there(tmp_path):
    folder = tmp_path / "store"
    write_tree(folder, [("a.json", b"1"), ("x/y/c", b"22"), ("x/z", b"333")])
    write_tree(folder, [("x/z", b"4")])
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files == {"a.json": b"1", "x/y/c": b"22", "x/z": b"4"}


def test_files_and_folders_are_on_the_disk(tmp_path, monkeypatch):
    synced, real = {}, os.fsync

    def fsync(descriptor):
        real(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_mtime_ns

    monkeypatch.setattr(os, "fsync", fsync)
    write_tree(tmp_path / "s", [(f"{n}/c/0", b"x") for n in range(3 * THREADS)])
    paths = [tmp_path / "s", *(tmp_path / "s").rglob("*")]
    assert len(paths) == 1 + 9 * THREADS
    assert all(synced.get(p.stat().st_ino) == p.stat().st_mtime_ns for p in paths)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "in the way").mkdir()
    with pytest.raises(FileError, match="b: cannot be written"):
        write_tree(tmp_path, [("a", b"1"), ("b", b"2")])
