from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import dask
import dask.array as da
import distributed
import fake_stack as fake
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import FULL_CAMPAIGN
from fake_stack import FIELDS, SLOTS, Field, expected, fake_stack
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr_arrays import sharded_array

from musedask.blocks import cut
from musedask.cube import check_cube
from musedask.errors import FileError, InputError, MissingError
from musedask.megacube import (
    direct,
    megacube_info,
    open_megacube,
    swap,
    tasks,
    write_megacube,
    writing,
)
from musedask.megacube.layout import codec_of
from musedask.megacube.shards import ShardCodec, write_atomically, write_together
from musedask.uncached import ALIGNMENT

SHAPE = (10, 11, 13)
MOVED = (*FIELDS[:2], Field("c", slice(2, 5), slice(0, 8), 7.0, 4))
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _fresh_counters():
    fake.CALLS.clear()
    fake.FAIL.clear()
    fake.ALIVE[:] = 0, 0


def whole(variable, plane, planes):
    values = planes[plane]
    return values if variable in ("flux", "variance") else np.nan_to_num(values)


def assert_holds(store, fields, shape=SHAPE):
    planes = expected(shape, fields)
    for slot in SLOTS:
        cube = xr.open_zarr(store, group=slot.method)
        got = cube[slot.variable].values
        assert got.dtype == {"n_exposures": "uint16"}.get(slot.variable, "float32")
        np.testing.assert_array_equal(got, whole(slot.variable, slot.plane, planes))


def tree(store):
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(store).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Hashes of what undisturbed builds of the two stacks hold."""
    trees = {}
    for name, fields in (("plain", FIELDS), ("moved", MOVED)):
        store = tmp_path_factory.mktemp("straight") / "s.zarr"
        write_megacube(fake_stack(fields=fields), store)
        trees[name] = tree(store)
    return trees


def beside(folder):
    """Everything in a folder but the stores themselves."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith((".zarr", ".lock")))


@pytest.fixture
def synced(monkeypatch):
    """Inode -> time of change at the moment when it was put on the disk, whatever its name then."""
    found = {}
    real = os.fsync

    def fsync(descriptor):
        real(descriptor)
        status = os.fstat(descriptor)
        found[status.st_ino] = status.st_mtime_ns

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def unsynced(paths, synced):
    known = [(path, path.stat()) for path in paths]
    return [path for path, now in known if synced.get(now.st_ino) != now.st_mtime_ns]


# What a store holds


def test_plain_xarray_reads_every_value_of_every_output_in_the_schemas_types(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    assert_holds(tmp_path / "m.zarr", FIELDS)


def test_labels_and_attributes_come_back_identical(tmp_path):
    stack = fake_stack()
    write_megacube(stack, tmp_path / "m.zarr")
    store = open_megacube(tmp_path / "m.zarr")
    assert list(store) == ["median", "mean"]
    for method in store:
        check_cube(store[method])
        xr.testing.assert_identical(store[method].compute(), stack[method].compute())
    xr.testing.assert_identical(store.exposures, stack.exposures)


def test_labels_that_are_not_computed_yet_are_computed_once(tmp_path):
    made = []

    def measure(n):
        made.append(n)
        return np.arange(3.0)

    stack, plain = fake_stack(), fake_stack()
    lazy = da.from_delayed(dask.delayed(measure)(1), (3,), np.float64)
    for labelled, weights in ((stack, lazy), (plain, np.arange(3.0))):
        added = {"exposure_weight": ("exposure", weights)}
        labelled.exposures.coords.update(added)
        for cube in labelled.values():
            cube.coords.update(added)
    write_megacube(stack, tmp_path / "m.zarr")
    assert made == [1]
    write_megacube(plain, tmp_path / "p.zarr")
    assert tree(tmp_path / "m.zarr") == tree(tmp_path / "p.zarr")


def test_reading_in_threads_leaves_their_common_warnings_alone(tmp_path, monkeypatch):
    write_megacube(fake_stack(), tmp_path / "s.zarr")
    cube = next(iter(open_megacube(tmp_path / "s.zarr").values()))
    # Two threads that set and restore what is done with warnings mix it up for good.
    monkeypatch.setattr("musedask.megacube.damage.warnings", None)
    cube["flux"].data.compute(scheduler="threads", num_workers=2)


def test_white_images_are_the_means_over_all_channels(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    images = open_megacube(tmp_path / "m.zarr").images.compute()
    flux = expected(SHAPE, FIELDS)
    for method, plane in (("median", 0), ("mean", 4)):
        with np.errstate(invalid="ignore"):
            n = np.isfinite(flux[plane]).sum(0)
            average = np.nansum(flux[plane].astype(float), 0) / np.where(n, n, np.nan)
        np.testing.assert_allclose(images[method].values, average, rtol=1e-6)
    for n, field in enumerate(FIELDS):
        lone = expected(SHAPE, (field,))[0][: field.last].astype(float).mean(0)
        np.testing.assert_allclose(images["exposures"].values[n], lone, rtol=1e-6)
    assert list(images["exposure"].values) == ["a", "b", "c"]


def test_white_images_weigh_a_block_by_the_channels_that_it_has(tmp_path):
    fields = (Field("short", slice(0, 6), slice(0, 10), 1.0, 6),)
    write_megacube(fake_stack(fields=fields), tmp_path / "m.zarr")
    image = open_megacube(tmp_path / "m.zarr").images["mean"].values
    lone = expected(SHAPE, fields)[4][:6].astype(float).mean(0)
    np.testing.assert_allclose(image, lone, rtol=1e-6)


def test_metadata_stand_in_the_order_of_their_names(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    root = json.loads((tmp_path / "m.zarr" / "zarr.json").read_text())
    names = list(root["consolidated_metadata"]["metadata"])
    assert names == sorted(names)
    assert "median/flux" in names


def test_blocks_that_no_exposure_touches_and_shards_of_nan_have_no_file(tmp_path):
    late = (Field("late", slice(0, 5), slice(0, 5), 1.0, 4),)
    write_megacube(fake_stack(fields=late), tmp_path / "m.zarr")
    assert sum(fake.CALLS.values()) == 3
    names = [p.name for p in (tmp_path / "m.zarr" / "median" / "flux").iterdir()]
    assert sorted(names) == ["c.0.0.0", "zarr.json"]
    assert_holds(tmp_path / "m.zarr", late)


def test_summary_names_what_there_is(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    info = megacube_info(tmp_path / "m.zarr")
    assert info.shape == SHAPE
    assert info.n_exposures == 3
    assert info.wavelengths_angstrom == (4750.0, 4750 + 9 * 1.25)
    assert info.size_bytes == sum(
        p.stat().st_size for p in (tmp_path / "m.zarr").rglob("*") if p.is_file()
    )
    assert "median, mean" in repr(open_megacube(tmp_path / "m.zarr"))
    assert info.attrs == {"software": "musedask test"}


def test_zarr_lists_the_store_without_complaint(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    root = zarr.open_group(tmp_path / "m.zarr", use_consolidated=False, mode="r")
    names = {name for name, _ in root.members()}
    assert names == {"median", "mean", "exposures", "images", "blocks"}
    done = np.asarray(root["blocks"][:])
    stack = fake_stack()
    for block in np.ndindex(*stack.plan.n_blocks):
        assert bytes(done[block]).hex() == stack.plan.keys.get(block, "0" * 32)


def test_a_method_that_is_not_there_is_named_with_those_that_are(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    with pytest.raises(MissingError, match=r"no 'clipped'.*median, mean"):
        open_megacube(tmp_path / "m.zarr")["clipped"]


# One call a block


def test_each_block_is_made_once_and_let_go_before_the_next(tmp_path):
    stack = fake_stack()
    seen = []
    with dask.config.set(scheduler="threads", num_workers=2):
        report = write_megacube(
            stack, tmp_path / "m.zarr", progress=lambda *state: seen.append(state)
        )
    assert dict.fromkeys(stack.plan.keys, 1) == fake.CALLS
    assert fake.ALIVE[0] == 0
    assert 1 <= fake.ALIVE[1] <= 2
    n = len(stack.plan.keys)
    assert (report.n_blocks, report.n_made, report.n_linked, report.n_found) == (n, n, 0, 0)
    assert [state[:2] for state in seen] == [(i, n) for i in range(n + 1)]
    assert np.isnan(seen[0][2])
    assert seen[-1][2] == 0


def test_the_same_stack_again_makes_nothing(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    before = tree(tmp_path / "m.zarr")
    fake.CALLS.clear()
    report = write_megacube(fake_stack(), tmp_path / "m.zarr")
    assert not fake.CALLS
    assert report.n_made == 0
    assert tree(tmp_path / "m.zarr") == before


def test_a_dask_client_makes_each_block_once_and_the_same_bytes(tmp_path):
    stack = fake_stack()
    write_megacube(stack, tmp_path / "threads.zarr")
    fake.CALLS.clear()
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        write_megacube(stack, tmp_path / "client.zarr")
    assert dict.fromkeys(stack.plan.keys, 1) == fake.CALLS
    assert fake.ALIVE[1] <= 2
    assert tree(tmp_path / "client.zarr") == tree(tmp_path / "threads.zarr")


def test_after_a_failure_only_missing_blocks_are_made_and_the_bytes_are_the_same(
    tmp_path, straight
):
    stack = fake_stack()
    fake.FAIL["at"] = (1, 0, 0)
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        dask.config.set(scheduler="synchronous"),
    ):
        write_megacube(stack, tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()
    with pytest.raises(FileError, match="not finished yet"):
        open_megacube(tmp_path / "m.zarr")
    made = set(fake.CALLS)
    assert made
    fake.CALLS.clear()
    fake.FAIL.clear()
    report = write_megacube(stack, tmp_path / "m.zarr")
    assert dict.fromkeys(set(stack.plan.keys) - made, 1) == fake.CALLS
    assert report.n_found == len(made)
    assert tree(tmp_path / "m.zarr") == straight["plain"]
    assert beside(tmp_path) == []


# Changes


@pytest.mark.parametrize("linking", [True, False])
def test_a_changed_exposure_rebuilds_only_the_blocks_that_it_touches(
    tmp_path, linking, monkeypatch, straight
):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    (tmp_path / "kept").mkdir()
    for path in (tmp_path / "m.zarr").rglob("*.*"):
        if path.is_file():
            os.link(path, tmp_path / "kept" / str(path.relative_to(tmp_path)).replace("/", "#"))
    kept = tree(tmp_path / "kept")
    fake.CALLS.clear()
    if not linking:
        monkeypatch.setattr(os, "link", _refuse)
    stack = fake_stack(fields=MOVED)
    changed = {b for b, key in stack.plan.keys.items() if key != fake_stack().plan.keys[b]}
    assert 0 < len(changed) < len(stack.plan.keys)
    report = write_megacube(stack, tmp_path / "m.zarr")
    assert dict.fromkeys(changed, 1) == fake.CALLS
    assert report.n_made == len(changed)
    assert report.n_linked == len(stack.plan.keys) - len(changed)
    assert_holds(tmp_path / "m.zarr", MOVED)
    # Files that the old and the new store share were not written through.
    assert tree(tmp_path / "kept") == kept
    assert tree(tmp_path / "m.zarr") == straight["moved"]


def _refuse(*_):
    raise PermissionError(1, "Operation not permitted")


def test_unchanged_blocks_share_their_bytes_on_disk(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    shard = tmp_path / "m.zarr" / "median" / "flux" / "c.0.1.0"
    before = shard.stat().st_ino
    write_megacube(fake_stack(fields=MOVED), tmp_path / "m.zarr")
    assert shard.stat().st_ino == before


def test_links_that_were_cut_short_are_made_again(tmp_path, monkeypatch):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    shard = tmp_path / "m.zarr" / "median" / "flux" / "c.0.1.0"
    before = shard.stat().st_ino
    real = writing.write_atomically

    def write(path, pieces):
        if path.name == "c.0.1.0.0":
            raise KeyboardInterrupt
        return real(path, pieces)

    monkeypatch.setattr(writing, "write_atomically", write)
    with pytest.raises(KeyboardInterrupt):
        write_megacube(fake_stack(fields=MOVED), tmp_path / "m.zarr")
    monkeypatch.undo()
    write_megacube(fake_stack(fields=MOVED), tmp_path / "m.zarr")
    assert shard.stat().st_ino == before
    assert_holds(tmp_path / "m.zarr", MOVED)


def test_a_change_of_labels_alone_makes_no_block(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    fake.CALLS.clear()
    write_megacube(fake_stack(attrs={"software": "newer"}), tmp_path / "m.zarr")
    assert not fake.CALLS
    assert megacube_info(tmp_path / "m.zarr").attrs == {"software": "newer"}
    assert_holds(tmp_path / "m.zarr", FIELDS)


def test_blocks_of_a_build_that_was_given_up_are_used_and_it_is_swept(tmp_path):
    fake.FAIL["at"] = (2, 0, 0)
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        dask.config.set(scheduler="synchronous"),
    ):
        write_megacube(fake_stack(), tmp_path / "m.zarr")
    fake.FAIL.clear()
    fake.CALLS.clear()
    assert len(beside(tmp_path)) == 1
    report = write_megacube(fake_stack(fields=MOVED), tmp_path / "m.zarr")
    assert report.n_linked > 0
    assert_holds(tmp_path / "m.zarr", MOVED)
    assert beside(tmp_path) == []


def test_a_shard_that_becomes_empty_goes(tmp_path):
    file = tmp_path / "c.0"
    codec = ShardCodec((1, 2, 2), "<f4", np.nan)
    write_atomically(file, codec.encode(np.ones((1, 1, 1, 1, 2, 2), np.float32), (1, 2, 2)))
    assert file.exists()
    write_atomically(file, codec.encode(np.full((1, 1, 1, 1, 2, 2), np.nan, np.float32), (1, 2, 2)))
    assert list(tmp_path.iterdir()) == []


# The grid of a store


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (10, 12, 13)}, "10, 11, 13.*10, 12, 13"),
        ({"first": 4751.25}, "4750.00 Angstrom, now 4751.25"),
    ],
)
def test_another_grid_under_the_same_name_is_an_error_that_names_pad(tmp_path, changes, words):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    before = tree(tmp_path / "m.zarr")
    with pytest.raises(InputError, match=f"{words}.*pad="):
        write_megacube(fake_stack(**changes), tmp_path / "m.zarr")
    assert tree(tmp_path / "m.zarr") == before
    write_megacube(fake_stack(**changes), tmp_path / "m.zarr", overwrite_grid=True)
    assert_holds(tmp_path / "m.zarr", FIELDS, changes.get("shape", SHAPE))


def test_wavelengths_may_move_within_their_channel(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    fake.CALLS.clear()
    write_megacube(fake_stack(first=4750.1), tmp_path / "m.zarr")
    assert not fake.CALLS
    assert open_megacube(tmp_path / "m.zarr")["mean"]["wavelength"].values[0] == 4750.1


def test_other_blocks_on_the_same_grid_replace_the_store(tmp_path):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    report = write_megacube(fake_stack(block=(6, 6, 8)), tmp_path / "m.zarr")
    assert report.n_linked == 0
    assert_holds(tmp_path / "m.zarr", FIELDS)


# What may go wrong


def test_what_is_no_mega_cube_is_neither_replaced_nor_opened(tmp_path):
    (tmp_path / "m.zarr").mkdir()
    with pytest.raises(FileError, match="not a mega-cube"):
        write_megacube(fake_stack(), tmp_path / "m.zarr")
    with pytest.raises(FileError, match="not a mega-cube"):
        open_megacube(tmp_path / "m.zarr")
    with pytest.raises(FileError, match="no such store"):
        open_megacube(tmp_path / "n.zarr")
    with pytest.raises(FileError, match="no such folder"):
        write_megacube(fake_stack(), tmp_path / "no" / "m.zarr")


def test_a_second_builder_is_refused(tmp_path):
    with (
        swap.locked(tmp_path / "m.zarr"),
        pytest.raises(FileError, match="another process is building"),
    ):
        write_megacube(fake_stack(), tmp_path / "m.zarr")
    write_megacube(fake_stack(), tmp_path / "m.zarr")


def test_a_late_worker_of_a_finished_build_finds_no_folder(tmp_path):
    stack = fake_stack()
    layout = writing.Layout.of_plan(stack.plan, tmp_path / "m.zarr.0.building")
    result = stack.results.blocks[0, 0, 0].compute()
    with pytest.raises(FileError, match="its folder is gone"):
        writing.write_block(result, layout, (0, 0, 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("renames", range(6))
def test_a_swap_cut_short_at_any_rename_is_taken_up(
    tmp_path, monkeypatch, renames, exchange, straight
):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    stack = fake_stack(fields=MOVED)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    if not exchange:
        monkeypatch.setattr(swap, "_exchanged", lambda *_: False)
    elif not swap._exchanged(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot exchange two folders")
    (tmp_path / "one").rmdir()
    (tmp_path / "two").rmdir()
    real, left = swap._rename, [renames]

    def rename(source, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(source, target)

    monkeypatch.setattr(swap, "_rename", rename)
    try:
        write_megacube(stack, tmp_path / "m.zarr")
        finished = True
    except KeyboardInterrupt:
        finished = False
    assert finished or renames < 5
    assert not exchange or (tmp_path / "m.zarr").exists()
    if (tmp_path / "m.zarr").exists():
        held = tuple(open_megacube(tmp_path / "m.zarr")["mean"]["flux"].values[0, 3, 3:4])
        assert held in (
            (expected(SHAPE, FIELDS)[4, 0, 3, 3],),
            (expected(SHAPE, MOVED)[4, 0, 3, 3],),
        )
    monkeypatch.setattr(swap, "_rename", real)
    fake.CALLS.clear()
    write_megacube(stack, tmp_path / "m.zarr")
    assert not fake.CALLS
    assert_holds(tmp_path / "m.zarr", MOVED)
    assert tree(tmp_path / "m.zarr") == straight["moved"]
    assert beside(tmp_path) == []


SCRIPT = """
import sys, fake_stack, dask
from musedask.megacube import write_megacube
dask.config.set(scheduler="threads", num_workers=2)
write_megacube(fake_stack.fake_stack(delay=float(sys.argv[2])), sys.argv[1])
"""


def start(store, delay=0.05, **keywords):
    paths = f"{HERE}{os.pathsep}{HERE.parent}"
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(store), str(delay)],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def test_killed_at_random_moments_a_build_ends_with_the_same_bytes(tmp_path, straight):
    rng = np.random.default_rng(1)
    for _ in range(10 if FULL_CAMPAIGN else 3):
        process = start(tmp_path / "m.zarr")
        # Wait for the build itself, not for Python to start.
        while process.poll() is None and not list(tmp_path.glob("m.zarr*")):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    assert tree(tmp_path / "m.zarr") == straight["plain"]
    assert beside(tmp_path) == []


def test_a_full_disk_is_one_clear_error_and_leaves_the_store_as_it_was(tmp_path):
    write_megacube(fake_stack(fields=MOVED), tmp_path / "m.zarr")
    before = tree(tmp_path / "m.zarr")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))

    process = start(tmp_path / "m.zarr", 0, preexec_fn=limit)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "musedask.errors.FileError" in errors.splitlines()[-1]
    assert "make room and run again" in errors.splitlines()[-1]
    assert tree(tmp_path / "m.zarr") == before
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    assert_holds(tmp_path / "m.zarr", FIELDS)
    assert not list(tmp_path.rglob("*.partial"))


def test_two_builds_give_the_same_bytes_whatever_their_place(tmp_path, straight):
    write_megacube(fake_stack(), tmp_path / "n.zarr")
    assert tree(tmp_path / "n.zarr") == straight["plain"]


def test_a_blocks_files_are_on_the_disk_before_its_marker(tmp_path, monkeypatch, synced):
    real, seen = tasks.write_atomically, []

    def write(path, pieces):
        if path.name.startswith("c.") and path.parent.name == "blocks":
            block = path.name.removeprefix("c.").removesuffix(".0")
            files = list(path.parents[1].glob(f"*/*/c.{block}"))
            files += [path.parent / ".white" / block]
            folders = {file.parent for file in files}
            seen.append((len(files), unsynced([*files, *folders], synced)))
        return real(path, pieces)

    monkeypatch.setattr(tasks, "write_atomically", write)
    with dask.config.set(scheduler="synchronous"):
        write_megacube(fake_stack(), tmp_path / "m.zarr")
    assert len(seen) == len(fake_stack().plan.keys)
    assert min(n for n, _ in seen) > 1
    assert [late for _, late in seen if late] == []


def test_links_are_on_the_disk_before_their_markers(tmp_path, monkeypatch, synced):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    real, late = writing.write_atomically, []

    def write(path, pieces):
        folders = [p.parent for p in path.parents[1].glob("*/*/zarr.json")]
        folders = [f for f in folders if any(f.glob("c.*.*.*"))]
        late.extend(unsynced(folders, synced))
        return real(path, pieces)

    monkeypatch.setattr(writing, "write_atomically", write)
    report = write_megacube(fake_stack(fields=MOVED), tmp_path / "m.zarr")
    assert report.n_linked > 0
    assert late == []


@pytest.mark.parametrize("step", ["preparing", "incoming"])
def test_all_is_on_the_disk_before_a_folder_gets_its_name(tmp_path, monkeypatch, synced, step):
    real, late = Path.rename, []

    def rename(self, target):
        if step in (self.name.rpartition(".")[2], Path(target).name.rpartition(".")[2]):
            paths = [self, *self.rglob("*")]
            late.append((len(paths), unsynced(paths, synced)))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    assert late[0][0] > 100
    assert late[0][1] == []


@pytest.mark.parametrize("content", [b"", bytes(16)])
def test_a_marker_that_lost_its_content_is_none(tmp_path, straight, content):
    fake.FAIL["at"] = (1, 0, 0)
    with pytest.raises(RuntimeError), dask.config.set(scheduler="synchronous"):
        write_megacube(fake_stack(), tmp_path / "m.zarr")
    fake.FAIL.clear()
    (folder,) = tmp_path.glob("m.zarr.*.building")
    markers = sorted((folder / "blocks").glob("c.*.*.*.0"))
    markers[0].write_bytes(content)
    fake.CALLS.clear()
    report = write_megacube(fake_stack(), tmp_path / "m.zarr")
    assert report.n_found == len(markers) - 1
    assert tree(tmp_path / "m.zarr") == straight["plain"]


def test_exposures_are_looked_at_before_the_first_block_and_only_if_there_is_one_to_make(tmp_path):
    asked = []

    def refuse():
        asked.append(sum(fake.CALLS.values()))
        raise FileError("bad.fits: STAT is zero")

    with pytest.raises(FileError, match="bad"):
        write_megacube(replace(fake_stack(), checks=(refuse,)), tmp_path / "m.zarr")
    assert asked == [0]
    assert not (tmp_path / "m.zarr").exists()
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    relabelled = replace(fake_stack(attrs={"software": "another"}), checks=(refuse,))
    assert write_megacube(relabelled, tmp_path / "m.zarr").n_made == 0
    assert len(asked) == 1


def test_nothing_of_dasks_cluster_is_imported_until_it_is_needed():
    code = (
        "import sys, musedask.megacube, musedask.fits, musedask.stack_job\n"
        "assert 'distributed' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", ["c.0.0.0", "0.0.0", "c.0.0.0.0"])
def test_a_block_is_not_done_before_all_its_files_are_there(tmp_path, monkeypatch, name):
    real = Path.replace

    def replace_file(self, target):
        if Path(target).name == name:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace_file)
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="synchronous"):
        write_megacube(fake_stack(), tmp_path / "m.zarr")
    (folder,) = tmp_path.glob("m.zarr.*.building")
    assert not (folder / "blocks" / "c.0.0.0.0").exists()
    assert not list(folder.rglob("*.partial"))


# Shards


def test_files_that_are_written_together_take_turns_and_hold_their_own(tmp_path):
    asked = []

    def pieces(name, n):
        for number in range(n):
            asked.append(f"{name}{number}")
            yield f"{name}{number} ".encode()

    (tmp_path / "none").write_bytes(b"of before")
    contents = {
        (tmp_path / name,): pieces(name, n) for name, n in (("a", 3), ("none", 0), ("b", 2))
    }
    assert write_together(contents) == 15
    assert asked == ["a0", "b0", "a1", "b1", "a2"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a": b"a0 a1 a2 ",
        "b": b"b0 b1 ",
    }


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_files_of_the_same_content_are_files_of_their_own_and_encoded_once(tmp_path, size):
    def pieces():
        for number in range(3):
            yield memoryview(bytes([number]) * size)

    paths = tmp_path / "a", tmp_path / "b"
    assert write_together({paths: pieces()}) == 6 * size
    wanted = b"".join(bytes([number]) * size for number in range(3))
    assert [path.read_bytes() == wanted for path in paths] == [True, True]
    assert len({path.stat().st_ino for path in paths}) == 2


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_disk_that_fills_up_is_told_of_the_file_it_was_about(tmp_path, monkeypatch, size):
    real = os.pwrite

    def pwrite(descriptor, data, offset):
        if "/b." in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "no room")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    (tmp_path / "b").write_bytes(b"of before")
    contents = {(tmp_path / name,): [bytes(size), bytes(size)] for name in "abc"}
    with pytest.raises(FileError, match=r"/b: cannot be written .*full"):
        write_together(contents)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_bytes() == b"of before"


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_zarr_python_reads_our_shards(data):
    inner = tuple(data.draw(st.integers(1, 4)) for _ in range(3))
    shard = tuple(n * data.draw(st.integers(1, 3)) for n in inner)
    shape = tuple(data.draw(st.integers(1, n)) for n in shard)
    level = data.draw(st.sampled_from([None, 1]))
    dtype, fill = data.draw(st.sampled_from([("<f4", np.nan), ("<u2", 0), ("<f4", 0.0)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = np.where(
        rng.random(shape) < data.draw(st.sampled_from([0.0, 0.1, 1.0])),
        rng.integers(0, 500, shape), np.nan,
    ).astype(np.float32)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        codec = ShardCodec(inner, dtype, fill, level)
        array = sharded_array(folder, "a", shape, shard, codec)
        (parts,) = cut(values[None], inner)
        write_atomically(Path(folder, "a", "c.0.0.0"), codec.encode(parts, shard))
        want = np.where(np.isnan(values), fill, values).astype(dtype)
        np.testing.assert_array_equal(array[:], want)


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("factor", [1.0, 903.7])
def test_values_are_stored_times_a_factor(tmp_path, level, factor):
    codec = ShardCodec((2, 3, 4), "<f4", 0.0, level)
    number = np.random.default_rng(3).integers(0, 300, (4, 6, 8)).astype(np.float32)
    number[0, :3, :4] = np.nan
    (parts,) = cut(number[None], codec.inner)
    array = sharded_array(tmp_path, "a", number.shape, number.shape, codec)
    pieces = codec.encode(parts, number.shape, factor)
    write_atomically(tmp_path / "a" / "c.0.0.0", pieces)
    np.testing.assert_array_equal(
        array[:], np.nan_to_num(number.astype(float) * factor).astype("f4")
    )


@settings(deadline=None)
@given(st.data())
def test_bands_read_the_same_as_zarr_python(data):
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(3))
    inner = tuple(data.draw(st.integers(1, 3)) for _ in range(3))
    block = tuple(n * data.draw(st.integers(1, 3)) for n in inner)
    variable = data.draw(st.sampled_from(["flux", "n_exposures"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = np.where(rng.random(shape) < 0.5, 0, rng.integers(0, 9, shape))
    codec = codec_of(variable, inner)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        sharded_array(folder, None, shape, block, codec)[:] = values
        # An inner chunk's height of all columns, or several, or less than one.
        row_bytes = inner[0] * inner[1] * shape[2] * np.dtype(codec.dtype).itemsize
        patch.setattr(direct, "_BAND_BYTES", data.draw(st.integers(0, 3)) * row_bytes)
        stored = direct.StoredArray(folder, variable, "", shape, block, inner)
        # Each plane may begin anywhere between two multiples of the alignment.
        phases = (inner[0] + 1) * ALIGNMENT
        assert stored.band_bytes <= max(direct._BAND_BYTES, row_bytes) + phases
        got = np.full(shape, 99, codec.dtype)
        room = data.draw(st.sampled_from([None, np.full(stored.band_bytes + 3, 77, np.uint8)]))
        for k, j in np.ndindex(*stored.n_rows):
            for region, band in stored.bands(k, j, room):
                assert band.dtype == np.dtype(codec.dtype).newbyteorder(">")
                assert room is None or np.shares_memory(band, room)
                got[region] = band
        np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("variable", ["flux", "n_exposures"])
@pytest.mark.parametrize("size", [3, 120, -1])
def test_a_shard_that_was_cut_short_is_an_error_that_names_it(tmp_path, variable, size):
    write_megacube(fake_stack(), tmp_path / "m.zarr")
    path = tmp_path / "m.zarr" / "median" / variable / "c.0.0.0"
    os.truncate(path, size % path.stat().st_size)
    stored = direct.stored_array(open_megacube(tmp_path / "m.zarr")["median"], variable)
    with pytest.raises(FileError, match=r"c\.0\.0\.0: is damaged"):
        list(stored.bands(0, 0))
