"""Folders as users have them: trees, links, loops, copies, packed files and thousands of files."""

from __future__ import annotations

import gzip
import os
import shutil

import pytest
from raw_headers import content, primary, write

from musedask.errors import FileError, InputError
from musedask.reduction.finding import scan
from musedask.reduction.finding.scan import find_frames
from musedask.reduction.frames import Frame


def dated(second, minute=0):
    return {"DATE-OBS": f"2016-01-02T03:{minute:02d}:{second:02d}.000"}


def names(found):
    return [frame.name for frame in found]


@pytest.mark.parametrize("tree", ["NGC1/P01/Raw", "NGC1/OB001/Raw", "NGC1/OB1/Raw", "a/b/c/d", "."])
def test_trees_of_other_tools_work_as_they_are(tmp_path, tree):
    write(tmp_path / tree / "MUSE.1.fits", dated(1))
    found = find_frames(tmp_path)
    assert [frame.path for frame in found] == [os.path.normpath(tmp_path / tree / "MUSE.1.fits")]
    assert found.folders == (str(tmp_path),)


def test_frames_come_in_the_order_of_date_obs_and_others_last(tmp_path):
    write(tmp_path / "c.fits", dated(1))
    write(tmp_path / "a.fits", dated(3))
    write(tmp_path / "z" / "b.fits", dated(2))
    (tmp_path / "0.fits").write_text("<html>")
    assert names(find_frames(tmp_path)) == ["c.fits", "b.fits", "a.fits", "0.fits"]


def test_a_list_is_asked_by_tag_and_by_kind(tmp_path):
    write(tmp_path / "o.fits", dated(1))
    bias = {"ESO DPR CATG": "CALIB", "ESO DPR TYPE": "BIAS"}
    write(tmp_path / "b1.fits", dated(2) | bias)
    write(tmp_path / "b2.fits", dated(3) | bias)
    (tmp_path / "bad.fits").write_text("")
    found = find_frames(tmp_path)
    assert names(found.of_tag("BIAS")) == ["b1.fits", "b2.fits"]
    assert names(found.of_tag("OBJECT", "BIAS", "DARK")) == ["o.fits", "b1.fits", "b2.fits"]
    assert names(found.science) == ["o.fits"]
    assert names(found.of_kind("unreadable")) == ["bad.fits"]
    assert len(found) == 4
    assert found[0].tag == "OBJECT"
    assert repr(found) == "FrameList of 4 files (2 BIAS, 1 OBJECT, 1 unreadable)"
    assert str(found).splitlines()[0] == "4 files"


@pytest.mark.parametrize(
    "name", ["a.fits", "a.fit", "a.FITS", "a.fits.gz", "a.fts.fz", "a.fits.Z", "a.fits.bz2"]
)
def test_all_endings_of_fits_files_are_seen(tmp_path, name):
    raw = content()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    (tmp_path / "a.fits.txt").write_text("no FITS file")
    (tmp_path / "notes.txt").write_text("no FITS file")
    assert names(find_frames(tmp_path)) == [name]


def test_a_single_file_can_be_given(tmp_path):
    path = write(tmp_path / "a.fits")
    write(tmp_path / "b.fits")
    assert names(find_frames([path])) == ["a.fits"]


def test_hidden_things_stores_and_a_runs_own_folders_are_left_out(tmp_path):
    write(tmp_path / "raw" / "a.fits", dated(1))
    for second, place in enumerate((".snapshot", "deep.zarr/median", "scratch/x", "products/y"), 2):
        write(tmp_path / place / "b.fits", dated(second))
    write(tmp_path / "raw" / ".a.fits.part.fits", dated(9))
    seen = set(names(find_frames(tmp_path)))
    assert seen == {"a.fits", "b.fits"}
    assert len(find_frames(tmp_path)) == 3, "it is no run: scratch and products are the user's own"
    (tmp_path / "musedask.toml").write_text("")
    assert names(find_frames(tmp_path)) == ["a.fits"]
    assert names(find_frames(tmp_path / "products")) == ["b.fits"], "asked for by name"


def test_links_in_a_loop_come_to_an_end(tmp_path):
    write(tmp_path / "raw" / "a.fits")
    (tmp_path / "raw" / "again").symlink_to(tmp_path)
    (tmp_path / "raw" / "self").symlink_to(tmp_path / "raw" / "self")
    found = find_frames(tmp_path)
    assert names(found) == ["a.fits"]
    assert found.notes == (), "no folder is searched twice"


def test_a_linked_folder_is_searched(tmp_path):
    write(tmp_path / "disk" / "a.fits")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "night").symlink_to(tmp_path / "disk")
    assert [frame.path for frame in find_frames(tmp_path / "raw")] == [
        str(tmp_path / "raw" / "night" / "a.fits")
    ]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_counts_once_and_the_file_itself_is_kept(tmp_path, link):
    path = write(tmp_path / "b.fits")
    link(path, tmp_path / "c.fits")
    os.symlink(path, tmp_path / "a.fits")
    found = find_frames(tmp_path)
    assert names(found) == ["b.fits"]
    assert len(found.notes) == 2
    assert all("is a link to" in note and "b.fits" in note for note in found.notes)


def test_a_copy_counts_once(tmp_path, monkeypatch):
    # Raw frames have a GB: equal headers have to do.
    monkeypatch.setattr(scan.filecmp, "cmp", None)
    path = write(tmp_path / "a.fits", dated(1))
    shutil.copy(path, tmp_path / "b.fits")
    write(tmp_path / "c.fits", dated(2))
    found = find_frames(tmp_path)
    assert names(found) == ["a.fits", "c.fits"]
    assert found.notes == (f"{tmp_path}/b.fits: is a copy of {path}; it counts once",)


def test_a_plain_file_is_preferred_to_its_packed_copy(tmp_path):
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(content()))
    write(tmp_path / "b.fits")
    found = find_frames(tmp_path)
    assert names(found) == ["b.fits"]
    assert "a.fits.gz: is a copy of" in found.notes[0]


def test_two_different_frames_of_one_date_are_both_kept_and_told(tmp_path):
    write(tmp_path / "a.fits", ifus=(1,))
    write(tmp_path / "b.fits", ifus=(1, 2))
    write(tmp_path / "c.fits", {"EXPTIME": 901.0}, ifus=(1, 2))
    found = find_frames(tmp_path)
    assert names(found) == ["a.fits", "b.fits", "c.fits"]
    assert len(found.notes) == 2
    assert "one DATE-OBS" in found.notes[0]


def test_equal_headers_do_not_make_static_tables_copies(tmp_path):
    table = primary({"ESO PRO CATG": "LINE_CATALOG"})
    for name, values in (("a", b"1"), ("b", b"2"), ("c", b"2")):
        (tmp_path / f"{name}.fits").write_bytes(table + values * 2880)
    found = find_frames(tmp_path)
    assert names(found) == ["a.fits", "b.fits"]
    assert len(found.notes) == 1


def test_products_of_the_ifus_are_no_copies(tmp_path):
    for ifu in (1, 2):
        cards = {"ESO PRO CATG": "MASTER_BIAS", "EXTNAME": f"CHAN{ifu:02d}"}
        write(tmp_path / f"MASTER_BIAS-{ifu:02d}.fits", cards, ifus=())
    found = find_frames(tmp_path)
    assert [frame.ifus for frame in found] == [(1,), (2,)]
    assert found.notes == ()


def test_broken_links_and_pipes_are_unreadable_and_nobody_waits(tmp_path):
    write(tmp_path / "a.fits")
    (tmp_path / "gone.fits").symlink_to(tmp_path / "nowhere.fits")
    os.mkfifo(tmp_path / "pipe.fits")
    found = find_frames(tmp_path)
    reasons = {frame.name: frame.reason for frame in found.of_kind("unreadable")}
    assert reasons.keys() == {"gone.fits", "pipe.fits"}
    assert "leads to nothing" in reasons["gone.fits"]
    assert "no regular file" in reasons["pipe.fits"]


def test_no_fits_file_at_all_is_an_error_that_names_the_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileError, match=f"{tmp_path}.*no FITS file"):
        find_frames(tmp_path)
    with pytest.raises(FileError, match="none"):
        find_frames([tmp_path / "none"])
    with pytest.raises(InputError, match="at least one"):
        find_frames([])


def test_one_empty_folder_of_several_does_not_matter(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "full" / "a.fits")
    assert len(find_frames([tmp_path / "empty", tmp_path / "full"])) == 1


def test_a_folder_given_twice_or_within_another_counts_once(tmp_path):
    write(tmp_path / "raw" / "a.fits")
    assert len(find_frames([tmp_path, tmp_path / "raw", str(tmp_path)])) == 1


def test_xml_files_are_remembered(tmp_path):
    write(tmp_path / "a.fits")
    (tmp_path / "b.XML").write_text("")
    assert find_frames(tmp_path).xml_files == (str(tmp_path / "b.XML"),)


def test_progress_counts_the_files_that_are_read(tmp_path):
    for second in range(5):
        write(tmp_path / f"{second}.fits", dated(second))
    told = []
    find_frames(tmp_path, progress=lambda done, total, left: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_the_order_of_folders_changes_nothing(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    for second in range(4):
        write((one if second % 2 else two) / f"{second}.fits", dated(second))
    assert find_frames([one, two]).frames == find_frames([two, one]).frames


def test_thousands_of_files_are_read_one_block_each_way(tmp_path, monkeypatch):
    """Each file is opened once, and only its headers are read."""
    opened = []
    real = scan.read_facts
    monkeypatch.setattr(scan, "read_facts", lambda path: opened.append(path) or real(path))
    for n in range(2000):
        write(tmp_path / f"{n % 7}" / f"{n}.fits", dated(n % 60, n // 60), ifus=(1,))
    found = find_frames(tmp_path)
    assert len(found) == 2000
    assert len(opened) == len(set(opened)) == 2000
    dates = [frame.date_obs for frame in found]
    assert dates == sorted(dates)
    assert all(isinstance(frame, Frame) and frame.tag == "OBJECT" for frame in found)
