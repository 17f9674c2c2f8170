"""Files filled in any order hold every byte in its place, whatever way it went there."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from musedask import uncached
from musedask.fits import pieces
from musedask.fits.pieces import PiecewiseFile, runs
from musedask.fits.product import Extension
from musedask.uncached import ALIGNMENT, bypass_cache, laid_out

LEAST = 2 * ALIGNMENT


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    """Two pages are enough to go past the cache."""
    monkeypatch.setattr(pieces, "_LEAST_BYTES", LEAST)


@pytest.fixture
def writes(monkeypatch):
    """All writes: whether past the cache, offset, address, length."""
    real, seen = os.pwrite, []

    def pwrite(descriptor, data, offset):
        address = np.frombuffer(data, np.uint8).ctypes.data if len(data) else 0
        seen.append((uncached.bypasses_cache(descriptor), offset, address, len(data)))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return seen


@pytest.fixture
def direct(tmp_path):
    """Only where the disk takes writes past the cache."""
    with (tmp_path / "probe").open("wb") as file:
        if not bypass_cache(file.fileno()):
            pytest.skip("this file system knows no writing past the cache")
        try:
            os.pwrite(file.fileno(), uncached.aligned_room(ALIGNMENT).data, 0)
        except OSError:
            pytest.skip("this file system refuses to write past the cache")
    (tmp_path / "probe").unlink()


def some_bytes(size, offset):
    """Bytes in phase with their place in a file."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    values = laid_out(room, (1, size), np.dtype(np.uint8), offset)[0]
    values[:] = np.random.default_rng([size, offset]).integers(1, 256, size, np.uint8)
    return values


OFFSETS = [0, 1, 2880, ALIGNMENT - 1, ALIGNMENT, 3 * ALIGNMENT + 17]
SIZES = [0, 1, LEAST - 1, LEAST, LEAST + 1, 5 * ALIGNMENT, 7 * ALIGNMENT + 1000]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [0, 1, 100])
def test_bytes_arrive_where_they_belong_and_nowhere_else(tmp_path, offset, size, shift):
    data = some_bytes(size, offset + shift)
    with PiecewiseFile(tmp_path / "a") as file:
        file.write(data.data, offset)
        file.set_size(offset + size + 3)
        file.finish()
    expected = bytes(offset) + data.tobytes() + bytes(3)
    assert (tmp_path / "a").read_bytes() == expected


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("size", SIZES)
def test_all_whole_pages_of_a_long_piece_go_past_the_cache(tmp_path, writes, offset, size):
    with PiecewiseFile(tmp_path / "a") as file:
        file.write(some_bytes(size, offset).data, offset)
    past = [(at, address, n) for bypasses, at, address, n in writes if bypasses]
    assert all(value % ALIGNMENT == 0 for write in past for value in write)
    first, last = -(-offset // ALIGNMENT), (offset + size) // ALIGNMENT
    whole = max(0, last - first) * ALIGNMENT if size >= LEAST else 0
    assert sum(n for *_, n in past) == whole
    assert sum(n for *_, n in writes) == size


def test_neighbours_written_at_once_do_not_harm_each_other(tmp_path):
    rng = np.random.default_rng(5)
    edges = np.cumsum(rng.integers(1, 6 * ALIGNMENT, 200))
    parts = [(int(a), some_bytes(int(b - a), int(a))) for a, b in pairwise(edges)]
    rng.shuffle(parts)
    with PiecewiseFile(tmp_path / "a") as file, ThreadPoolExecutor(4) as pool:
        file.set_size(int(edges[-1]))
        list(pool.map(lambda part: file.write(part[1].data, part[0]), parts))
    expected = np.zeros(edges[-1], np.uint8)
    for at, data in parts:
        expected[at : at + data.size] = data
    assert (tmp_path / "a").read_bytes() == expected.tobytes()


def refuse(monkeypatch, number):
    """A disk that refuses what bypasses the cache; how often it was asked."""
    real, asked = os.pwrite, []

    def pwrite(descriptor, data, offset):
        if uncached.bypasses_cache(descriptor):
            asked.append(offset)
            raise OSError(number, "refused")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return asked


@pytest.mark.usefixtures("direct")
def test_a_piece_out_of_phase_does_not_keep_others_from_going_past_the_cache(tmp_path, writes):
    with PiecewiseFile(tmp_path / "a") as file:
        for at, shift in ((0, 1), (4 * ALIGNMENT, 0)):
            file.write(some_bytes(4 * ALIGNMENT, at + shift).data, at)
    assert [bypasses for bypasses, *_ in writes] == [False, True]


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_disk_that_refuses_is_asked_once(tmp_path, monkeypatch, number):
    asked = refuse(monkeypatch, number)
    parts = [(at, some_bytes(4 * ALIGNMENT, at)) for at in (5, 5 + 4 * ALIGNMENT)]
    with PiecewiseFile(tmp_path / "a") as file:
        for at, data in parts:
            file.write(data.data, at)
    content = (tmp_path / "a").read_bytes()
    assert content == bytes(5) + b"".join(data.tobytes() for _, data in parts)
    assert asked == [ALIGNMENT]


@pytest.mark.usefixtures("direct")
def test_other_errors_are_no_refusal(tmp_path, monkeypatch):
    refuse(monkeypatch, errno.ENOSPC)
    with PiecewiseFile(tmp_path / "a") as file, pytest.raises(OSError, match="refused"):
        file.write(some_bytes(4 * ALIGNMENT, 0).data, 0)


@pytest.mark.parametrize("missing", ["flag", "descriptor"])
def test_without_it_all_goes_through_the_cache_and_the_disk_is_told_to_start(
    tmp_path, monkeypatch, writes, missing
):
    told, real = [], os.open
    monkeypatch.setattr(pieces, "send_to_disk", lambda _, *part: told.append(part))

    def refused(path, flags, *mode):
        if not flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "not again")
        return real(path, flags, *mode)

    if missing == "flag":
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
    else:
        monkeypatch.setattr(os, "open", refused)
    data = some_bytes(9 * ALIGNMENT, 7)
    with PiecewiseFile(tmp_path / "a") as file:
        file.write(data.data, 7)
        file.send(7, data.size)
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == bytes(7) + data.tobytes()
    assert [write[0] for write in writes] == [False]
    assert told == [(7, data.size)]


@pytest.mark.usefixtures("direct")
def test_what_is_on_the_disk_already_needs_no_advice(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(pieces, "send_to_disk", lambda *part: told.append(part))
    with PiecewiseFile(tmp_path / "a") as file:
        file.write(some_bytes(9 * ALIGNMENT, 7).data, 7)
        file.send(7, 9 * ALIGNMENT)
    assert told == []


def test_a_write_that_takes_a_part_is_gone_on_with(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:ALIGNMENT], at))
    data = some_bytes(6 * ALIGNMENT + 5, 3)
    with PiecewiseFile(tmp_path / "a") as file:
        file.write(data.data, 3)
    assert (tmp_path / "a").read_bytes() == bytes(3) + data.tobytes()


@pytest.mark.parametrize("limit", [5 * ALIGNMENT, 5 * ALIGNMENT + 100])
def test_a_limit_of_the_size_is_told_as_such(tmp_path, limit):
    """What the limit leaves of a piece may be unaligned: that is no refusal to be passed over."""
    script = (
        "import sys, test_fits_pieces as t\n"
        "with t.PiecewiseFile(t.Path(sys.argv[1])) as file:\n"
        "    file.write(t.some_bytes(40 * t.ALIGNMENT, 7).data, 7)\n"
    )
    here = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")],
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "File too large" in run.stderr.splitlines()[-1]


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "a").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        PiecewiseFile(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"kept"


def test_no_descriptor_is_left_open(tmp_path):
    before = set(os.listdir("/dev/fd"))
    with PiecewiseFile(tmp_path / "a") as file:
        file.write(some_bytes(9 * ALIGNMENT, 1).data, 1)
        assert len(os.listdir("/dev/fd")) > len(before)
    assert set(os.listdir("/dev/fd")) == before


# Runs

SHAPE = (4, 9, 11)
START = 2880


def image(dtype):
    return Extension("DATA", "flux", dtype, b"", SHAPE)


def gathered(dtype, region, block):
    """The bytes of the file that the runs of a block make, those never touched as 0xAA."""
    content = np.full(START + int(np.prod(SHAPE)) * np.dtype(dtype).itemsize, 0xAA, np.uint8)
    for run, offset in runs(image(dtype), region, block, START):
        assert (content[offset : offset + len(run)] == 0xAA).all()
        content[offset : offset + len(run)] = np.frombuffer(run, np.uint8)
    return content


@pytest.mark.parametrize(("dtype", "source"), [(">f4", "<f4"), (">f4", ">f4"), (">i2", "<u2"),
                                               (">i4", ">u2")])  # fmt: skip
@pytest.mark.parametrize(
    "region",
    [
        (slice(0, 4), slice(0, 9), slice(0, 11)),
        (slice(1, 3), slice(0, 9), slice(0, 11)),
        (slice(1, 4), slice(2, 7), slice(0, 11)),
        (slice(0, 2), slice(2, 9), slice(3, 8)),
    ],
)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("buffer", [1, 100, 1 << 20])
def test_runs_are_the_block_in_the_form_of_the_file(
    monkeypatch, dtype, source, region, order, buffer
):
    monkeypatch.setattr(pieces, "_BUFFER_BYTES", buffer)
    whole = np.random.default_rng(1).integers(1, 30000, SHAPE).astype(source)
    found = gathered(dtype, region, whole[region].copy(order))
    expected = np.full(found.size, 0xAA, np.uint8)
    values = expected[START:].view(dtype).reshape(SHAPE)
    values[region] = whole[region]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("source", ["<f4", ">f4"])
@pytest.mark.parametrize("shift", [0, 4])
def test_runs_as_wide_as_the_image_are_in_phase(source, shift):
    room = np.empty(10**5, np.uint8)
    block = laid_out(room, SHAPE, np.dtype(source), START + shift)
    block[...] = 1.0
    region = (slice(0, 4), slice(0, 9), slice(0, 11))
    for run, offset in runs(image(">f4"), region, block, START):
        assert uncached.in_phase(np.frombuffer(run, np.uint8), offset)


def test_what_is_ready_is_one_run_and_not_copied():
    block = laid_out(np.zeros(10**5, np.uint8), SHAPE, np.dtype(">f4"), START)
    region = (slice(0, 4), slice(0, 9), slice(0, 11))
    ((run, offset),) = runs(image(">f4"), region, block, START)
    assert np.shares_memory(np.frombuffer(run, np.uint8), block)
    assert (len(run), offset) == (block.nbytes, START)


def test_what_is_in_phase_but_not_in_order_is_put_in_order():
    nz, ny, nx = SHAPE
    block = laid_out(np.zeros(10**5, np.uint8), (nz, nx, ny), np.dtype(">f4"), START)
    block = block.transpose(0, 2, 1)
    block[...] = np.arange(block.size).reshape(SHAPE)
    found = gathered(">f4", (slice(0, nz), slice(0, ny), slice(0, nx)), block)
    np.testing.assert_array_equal(found[START:].view(">f4"), np.arange(block.size))
