"""A file under its name is whole, and nothing else is left, whatever happens."""

from __future__ import annotations

import os

import pytest

from musedask.errors import FileError
from musedask.whole_files import appearing, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_no_name_before_it_is_whole(tmp_path):
    with appearing(tmp_path / "a.txt") as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert names(tmp_path) == [partial.name]
        assert partial.name.startswith("."), "a pattern like *.txt must not find it"
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_two_who_write_one_file_do_not_meet(tmp_path):
    with appearing(tmp_path / "a") as one, appearing(tmp_path / "a") as other:
        one.write_text("1")
        other.write_text("2")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "1", "the one that ended last"


@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [
        (OSError(28, "No space left on device"), FileError, "a: cannot be written: No space left"),
        (OSError("odd"), FileError, "a: cannot be written: odd"),
        (FileError("b: is damaged"), FileError, "^b: is damaged$"),
        (ValueError("3"), ValueError, "3"),
        (KeyboardInterrupt("^C"), KeyboardInterrupt, "C"),
    ],
)
def test_after_an_error_what_was_there_stays_and_nothing_else(tmp_path, error, raised, text):
    (tmp_path / "a").write_text("old")

    def write_badly():
        with appearing(tmp_path / "a") as partial:
            partial.write_text("ne")
            raise error

    with pytest.raises(raised, match=text):
        write_badly()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileError, match="a: cannot be written"), appearing(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_an_error_with_its_name(tmp_path):
    with pytest.raises(FileError, match=r"gone/a: cannot be written: No such file"):
        write_whole(tmp_path / "gone" / "a", b"1")


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    happened = []
    sync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda number: happened.append("sync") or sync(number))
    monkeypatch.setattr(
        type(tmp_path),
        "replace",
        lambda self, to: happened.append(self.read_bytes()) or replace(self, to),
    )
    write_whole(tmp_path / "a", b"0123")
    assert happened == ["sync", b"0123"]
    assert (tmp_path / "a").read_bytes() == b"0123"
