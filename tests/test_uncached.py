"""Files past the page cache hold what was written, wherever and however it goes there."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest

from musedask import uncached
from musedask.uncached import (
    ALIGNMENT,
    UncachedFile,
    aligned_room,
    bypass_cache,
    in_phase,
    laid_out,
    write_all,
)

ROOM = 2 * ALIGNMENT


@pytest.fixture(autouse=True)
def small_rooms(monkeypatch):
    """Rooms of two pages, of this test alone."""
    monkeypatch.setattr(uncached, "_ROOM_BYTES", ROOM)
    monkeypatch.setattr(uncached, "_kept", threading.local())


@pytest.fixture
def refused(monkeypatch):
    """A disk that refuses what bypasses the cache, as those do that align otherwise."""
    real, seen = os.pwrite, []

    def pwrite(descriptor, data, offset):
        bypasses = uncached.bypasses_cache(descriptor)
        seen.append(bypasses)
        if bypasses:
            raise OSError(errno.EINVAL, "aligned otherwise")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return seen


def some_bytes(size):
    return np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()


def write(path, content, step):
    """Write in pieces that all lie in the same memory, one after the other."""
    piece = bytearray(step)
    with UncachedFile(path) as file:
        for start in range(0, len(content), step):
            part = content[start : start + step]
            piece[: len(part)] = part
            file.write(memoryview(piece)[: len(part)])
        return file.finish()


@pytest.mark.parametrize("step", [1000, ROOM, 3 * ROOM + 7])
@pytest.mark.parametrize(
    "size",
    [0, 1, ALIGNMENT, ROOM - 1, ROOM, ROOM + 1, 2 * ROOM, 5 * ROOM + ALIGNMENT, 7 * ROOM - 3],
)
def test_a_file_holds_all_pieces_in_order_and_not_a_byte_more(tmp_path, size, step):
    content = some_bytes(size)
    assert write(tmp_path / "a", content, step) == size
    assert (tmp_path / "a").read_bytes() == content


@pytest.mark.parametrize("skew", [0, 8, ALIGNMENT - 1])
@pytest.mark.parametrize("sizes", [
    (3 * ROOM,), (3 * ROOM + 5, 100), (5, 3 * ROOM), (ROOM, ROOM, ROOM + 1, ROOM),
    (ALIGNMENT, 4 * ROOM), (4 * ROOM, 7, 4 * ROOM + 9, 4 * ROOM),
])  # fmt: skip
def test_pieces_that_last_are_the_same_file(tmp_path, sizes, skew):
    pieces = []
    for size in sizes:
        piece = aligned_room(skew + size)[skew:]
        piece[:] = np.frombuffer(some_bytes(size), np.uint8)
        pieces.append(piece)
    with UncachedFile(tmp_path / "a") as file:
        for piece in pieces:
            file.write(piece.data, lasts=True)
        assert file.finish() == sum(sizes)
    assert (tmp_path / "a").read_bytes() == b"".join(bytes(piece) for piece in pieces)


@pytest.mark.parametrize(("lasts", "skew", "is_copied"), [
    (True, 0, False), (True, 8, True), (False, 0, True),
])  # fmt: skip
def test_only_what_lasts_and_lies_as_in_the_file_is_written_from_where_it_lies(
    tmp_path, monkeypatch, lasts, skew, is_copied
):
    room = aligned_room(skew + 3 * ROOM + 5)
    real, copied = os.pwrite, []

    def pwrite(descriptor, data, offset):
        if len(data) > 5:  # what is left is too short for the disk to take it directly
            copied.append(not np.shares_memory(np.frombuffer(data, np.uint8), room))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with UncachedFile(tmp_path / "a") as file:
        file.write(room[skew:].data, lasts=lasts)
        file.finish()
    assert set(copied[:1]) == {is_copied}
    assert (tmp_path / "a").read_bytes() == bytes(room[skew:])


def test_a_disk_that_refuses_gets_everything_through_the_cache(tmp_path, refused):
    content = some_bytes(5 * ROOM + 11)
    write(tmp_path / "a", content, 999)
    assert (tmp_path / "a").read_bytes() == content
    assert refused.count(True) == 1  # asked once, and not again


def test_a_system_without_it_gets_everything_through_the_cache(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_DIRECT")
    content = some_bytes(3 * ROOM + 5)
    write(tmp_path / "a", content, 1234)
    assert (tmp_path / "a").read_bytes() == content


def test_only_what_does_not_fit_a_room_bypasses_the_cache(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(uncached, "bypass_cache", lambda *_, **__: asked.append(1))
    write(tmp_path / "small", some_bytes(ROOM - 1), 500)
    assert not asked
    write(tmp_path / "large", some_bytes(4 * ROOM), 500)
    assert asked == [1]


def test_the_flag_is_set_and_taken_back(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        if not bypass_cache(file.fileno()):
            assert not uncached.bypasses_cache(file.fileno())  # a file system that cannot
            return
        assert uncached.bypasses_cache(file.fileno())
        bypass_cache(file.fileno(), wanted=False)
        assert not uncached.bypasses_cache(file.fileno())


def test_a_write_that_takes_a_part_is_gone_on_with(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:ALIGNMENT], at))
    content = some_bytes(4 * ROOM + 1)
    write(tmp_path / "a", content, 777)
    assert (tmp_path / "a").read_bytes() == content


def test_an_error_of_the_disk_is_told_before_the_file_counts_as_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="no room"):
        write(tmp_path / "a", some_bytes(2 * ROOM), 100)
    with pytest.raises(OSError, match="no room"):
        write(tmp_path / "b", some_bytes(10), 100)


def test_other_errors_of_alignment_are_no_excuse(tmp_path, monkeypatch):
    """EINVAL of a file that goes through the cache is an error like any other."""

    def invalid(*_):
        raise OSError(errno.EINVAL, "invalid")

    monkeypatch.setattr(os, "pwrite", invalid)
    with (tmp_path / "a").open("wb") as file, pytest.raises(OSError, match="invalid"):
        write_all(file.fileno(), b"1", 0)


def test_no_thread_outlives_its_file(tmp_path):
    before = threading.active_count()
    write(tmp_path / "a", some_bytes(9 * ROOM), 5000)
    assert threading.active_count() == before


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "a").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        UncachedFile(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"kept"


# Places in memory


@pytest.mark.parametrize("offset", [0, 4, 2880, 4 * ALIGNMENT - 4, 10**10])
@pytest.mark.parametrize("pitch", [None, 60, 2 * ALIGNMENT, 9 * ALIGNMENT - 8])
@pytest.mark.parametrize("skew", [0, 64])
def test_parts_lie_in_memory_as_in_the_file_and_apart(offset, pitch, skew):
    shape = (5, 3, 5)
    room = aligned_room(skew + 5 * 60 + 6 * ALIGNMENT)[skew:]
    array = laid_out(room, shape, np.dtype(">f4"), offset, pitch)
    for n, part in enumerate(array):
        assert part.flags.c_contiguous
        assert in_phase(part, offset + n * (60 if pitch is None else pitch))
    assert array.flags.c_contiguous or pitch not in (None, 60)
    values = np.arange(75).reshape(shape)
    array[...] = values
    np.testing.assert_array_equal(array, values)
    assert np.shares_memory(array, room)


def test_phases_differ_by_less_than_the_alignment():
    room = aligned_room(2 * ALIGNMENT)
    assert in_phase(room, 3 * ALIGNMENT)
    assert in_phase(room[5:], ALIGNMENT + 5)
    assert not in_phase(room[5:], ALIGNMENT)


def test_a_room_too_small_is_an_error():
    with pytest.raises((TypeError, ValueError), match="strides"):
        laid_out(aligned_room(ALIGNMENT), (3, ALIGNMENT), np.dtype(np.uint8), 0, ALIGNMENT + 1)
