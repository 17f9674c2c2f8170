"""A lock is had by one, and where a file system has none that is said."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from musedask.errors import FileError
from musedask.locks import try_lock


@pytest.fixture
def file(tmp_path):
    """A file that is open twice."""
    path = tmp_path / "lock"
    both = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]
    yield path, both
    for descriptor in both:
        os.close(descriptor)


def test_a_lock_is_held_by_one_until_it_lets_go(file):
    path, (one, other) = file
    assert try_lock(one, path, "")
    assert not try_lock(other, path, "")
    fcntl.flock(one, fcntl.LOCK_UN)
    assert try_lock(other, path, "")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_one_is_warned_and_goes_on(file, number, monkeypatch, caplog):
    path, (one, _) = file

    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    assert try_lock(one, path, "do it alone")
    (said,) = caplog.messages
    assert said.startswith(f"{path}: no lock possible (")
    assert said.endswith(": do it alone")


def test_any_other_failure_is_an_error(file, monkeypatch):
    path, (one, _) = file

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(FileError, match="lock: cannot be locked: Input/output error"):
        try_lock(one, path, "")
