"""Files are read whole, or refused by name before they can keep anybody waiting."""

from __future__ import annotations

import os
import threading

import pytest

from musedask.errors import FileError
from musedask.files import opened, read_bytes, read_json, read_text
from musedask.wording import readable


def test_texts_and_bytes_are_those_of_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one\r\ntwo\rthree\n\xc3\xa9")
    assert read_bytes(path) == b"one\r\ntwo\rthree\n\xc3\xa9"
    assert read_text(path) == "one\ntwo\nthree\né"
    path.write_bytes(b'{"a": [1, 2]}')
    assert read_json(path) == {"a": [1, 2]}


def test_a_pipe_is_refused_at_once(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    said = []

    def read():
        with pytest.raises(FileError, match=r"pipe: is no regular file"):
            read_bytes(path)
        said.append(True)

    thread = threading.Thread(target=read, daemon=True)  # it would wait for ever
    thread.start()
    thread.join(20)
    assert said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
        (lambda path: path.symlink_to(path.name), "Too many levels"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"\xff"), r"no text in UTF-8 \(byte 0\)"),
    ],
)
def test_what_is_no_text_is_an_error_that_names_it(make, said, tmp_path):
    make(tmp_path / "odd")
    with pytest.raises(FileError, match=rf"odd: .*{said}"):
        read_text(tmp_path / "odd")
    with pytest.raises(FileError, match=rf"my table: .*{said}"):
        read_text(tmp_path / "odd", "my table")


@pytest.mark.parametrize("text", ["", "{", "nan nan", "[" * 100_000, '"\xff'])
def test_what_is_no_json_is_an_error_however_deep(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileError, match=r"a\.json: is no JSON"):
        read_json(tmp_path / "a.json")


def test_an_error_inside_the_block_names_the_file(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(FileError, match=r"a: cannot be read: oh"), opened(tmp_path / "a"):
        raise OSError("oh")


def test_quoted_texts_are_printable_and_of_bounded_length():
    assert readable("é\n plain") == "é\n plain"
    assert readable("\x1b[31m\x00\u2028") == r"\x1b[31m\x00\u2028"
    long = readable("a" * 500 + "b" * 500_000, 100)
    assert (len(long), long[:3], long[-3:]) == (104, "aaa", "bbb")
