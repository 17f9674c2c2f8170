"""The second search opens nothing; what changed is read again; a broken inventory costs nothing."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_headers import content, write

from musedask.reduction.finding import scan
from musedask.reduction.finding.headers import HeaderFacts
from musedask.reduction.finding.inventory import (
    FileState,
    default_inventory,
    read_inventory,
    write_inventory,
)
from musedask.reduction.finding.scan import find_frames


@pytest.fixture
def opened(monkeypatch):
    """Paths of the files that were opened, in no order."""
    paths = []
    real = scan.read_facts
    monkeypatch.setattr(scan, "read_facts", lambda path: paths.append(path) or real(path))
    return paths


@pytest.fixture
def night(tmp_path):
    folder = tmp_path / "raw"
    for second in range(4):
        write(folder / f"{second}.fits", {"DATE-OBS": f"2016-01-02T03:04:0{second}.000"})
    return folder


def searched(night, opened):
    """What a search finds, and the names of the files that it opened."""
    opened.clear()
    found = find_frames(night, inventory=night.parent / "state" / "inventory.json")
    return found, sorted(os.path.basename(path) for path in opened)


def test_the_second_search_opens_no_file_and_finds_the_same(night, opened):
    first, read = searched(night, opened)
    assert len(read) == 4
    second, read = searched(night, opened)
    assert read == []
    assert second == first
    assert repr(second.frames) == repr(first.frames)


def touch(path):
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def grow(path):
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(content(ifus=(1, 2, 3)))
    os.utime(path, ns=times)


def replace_with_the_same_size_and_time(path):
    status, other = path.stat(), path.with_name("other")
    other.write_bytes(content({"DATE-OBS": "2016-01-02T03:04:09.000"}))
    assert other.stat().st_size == status.st_size
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize("change", [touch, grow, replace_with_the_same_size_and_time])
def test_a_changed_file_is_read_again_and_no_other(night, opened, change):
    searched(night, opened)
    change(night / "2.fits")
    found, read = searched(night, opened)
    assert read == ["2.fits"]
    assert found.frames == find_frames(night).frames
    assert searched(night, opened)[1] == []


def test_new_files_are_read_and_vanished_ones_forgotten(night, opened):
    searched(night, opened)
    (night / "0.fits").unlink()
    write(night / "9.fits", {"DATE-OBS": "2016-01-02T03:04:09.000"})
    found, read = searched(night, opened)
    assert read == ["9.fits"]
    assert [frame.name for frame in found] == ["1.fits", "2.fits", "3.fits", "9.fits"]
    kept = json.loads((night.parent / "state" / "inventory.json").read_text())["files"]
    assert sorted(map(os.path.basename, kept)) == ["1.fits", "2.fits", "3.fits", "9.fits"]


def test_a_vanished_file_alone_is_forgotten_too(night, opened):
    searched(night, opened)
    (night / "0.fits").unlink()
    searched(night, opened)
    kept = json.loads((night.parent / "state" / "inventory.json").read_text())["files"]
    assert sorted(map(os.path.basename, kept)) == ["1.fits", "2.fits", "3.fits"]


def test_a_search_of_another_folder_keeps_what_is_known_of_the_first(night, opened):
    searched(night, opened)
    other = night.with_name("raw2")
    write(other / "x.fits")
    find_frames(other, inventory=night.parent / "state" / "inventory.json")
    assert searched(night, opened)[1] == []


def test_what_cannot_be_read_is_tried_again(night, opened):
    (night / "bad.fits").write_bytes(b"")
    searched(night, opened)
    assert searched(night, opened)[1] == ["bad.fits"]


def test_nothing_new_writes_nothing(night, opened):
    searched(night, opened)
    path = night.parent / "state" / "inventory.json"
    before = path.stat().st_ino, path.stat().st_mtime_ns
    searched(night, opened)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    assert os.listdir(path.parent) == ["inventory.json"], "no partial file stays"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "broken"),
        (b"{", "broken"),
        (b"\xff\xfe\x00", "broken"),
        (b"[]", "broken"),
        (b"null", "broken"),
        (b"[" * 100000, "broken"),
        (b'{"format": "something else"}', "broken"),
        (b'{"format": "musedask inventory", "version": 99}', "another version"),
    ],
)
def test_a_broken_inventory_is_told_and_all_is_read(night, opened, content, word):
    first, _ = searched(night, opened)
    path = night.parent / "state" / "inventory.json"
    path.write_bytes(content)
    found, read = searched(night, opened)
    assert len(read) == 4
    assert found.frames == first.frames
    assert len(found.notes) == 1
    assert str(path) in found.notes[0]
    assert word in found.notes[0]
    assert searched(night, opened)[0].notes == (), "it was made anew"


def test_other_cards_are_another_version(night, opened):
    searched(night, opened)
    path = night.parent / "state" / "inventory.json"
    given = json.loads(path.read_text())
    given["wanted"].pop()
    path.write_text(json.dumps(given))
    found, read = searched(night, opened)
    assert len(read) == 4
    assert "another version" in found.notes[0]


def test_an_inventory_that_cannot_be_written_is_told(night, opened):
    (night.parent / "state").write_text("a file where a folder should be")
    found, _ = searched(night, opened)
    assert len(found) == 4
    assert any("cannot be written" in note for note in found.notes)


ENTRIES = {
    "/raw/a.fits": (FileState(10, 20, 30), HeaderFacts({"RA": 1.5, "OBJECT": "x"}, (1, 2), "ab")),
    "/raw/b.fits.gz": (FileState(1, 2, 3), HeaderFacts({}, None, "cd")),
}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "deep" / "inventory.json"
    assert write_inventory(path, ENTRIES) == ""
    assert read_inventory(path) == (ENTRIES, "")
    assert read_inventory(tmp_path / "none.json") == ({}, "")


@pytest.mark.parametrize(
    "entry",
    [
        ["10", 20, 30, [1], "ab", {}],
        [10, 20.5, 30, [1], "ab", {}],
        [10, 20, True, [1], "ab", {}],
        [10, 20, 30, ["1"], "ab", {}],
        [10, 20, 30, [1], None, {}],
        [10, 20, 30, [1], "ab", {"RA": None}],
        [10, 20, 30, [1], "ab", {"RA": [1]}],
        [10, 20, 30, [1], "ab", []],
        [10, 20, 30, 1, "ab", {}],
        [10, 20, 30],
        "entry",
        None,
    ],
)
def test_an_entry_of_other_types_breaks_an_inventory(tmp_path, entry):
    path = tmp_path / "inventory.json"
    write_inventory(path, ENTRIES)
    given = json.loads(path.read_text())
    given["files"]["/raw/a.fits"] = entry
    path.write_text(json.dumps(given))
    entries, note = read_inventory(path)
    assert entries == {}
    assert "broken" in note


@given(st.data())
def test_an_inventory_that_is_broken_at_random_raises_nothing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("inventory") / "inventory.json"
    write_inventory(path, ENTRIES)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    noise = data.draw(
        st.one_of(st.binary(max_size=3), st.sampled_from([b"null", b'"', b"-1", b"]"]))
    )
    path.write_bytes(whole[:at] + noise + whole[at + data.draw(st.integers(0, 40)) :])
    entries, note = read_inventory(path)
    assert bool(note) != bool(entries)
    for state, facts in entries.values():
        assert all(type(n) is int for n in (state.size, state.mtime_ns, state.inode))
        assert isinstance(facts.header_hash, str)
        assert all(isinstance(key, str) for key in facts.cards)


def test_folders_have_an_inventory_of_their_own_in_the_cache(tmp_path):
    one, two = default_inventory([tmp_path]), default_inventory([tmp_path, tmp_path / "b"])
    assert one != two
    assert one == default_inventory([str(tmp_path) + "/"])
    assert one.is_relative_to(os.environ["MUSEDASK_CACHE"])
