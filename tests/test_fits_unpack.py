from __future__ import annotations

import gzip
import logging
import os
import shutil
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from fits_files import PRIMARY_CARDS, SHAPE, WCS_CARDS, arrays, write_cube

from musedask.errors import FileError, InputError
from musedask.fits import open_cube
from musedask.fits.unpack import cache_folder, plain_stem


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MUSEDASK_CACHE", str(folder))
    return folder


def gzipped(path, target, level=6):
    with open(path, "rb") as plain, gzip.open(target, "wb", compresslevel=level) as packed:
        shutil.copyfileobj(plain, packed)
    return target


def fpacked(path, target, kind="GZIP_2", **options):
    """Pack the extensions of a cube, or its PRIMARY as fpack does."""
    with fits.open(path) as hdus:
        in_primary = hdus[0].data is not None
        packed = [fits.PrimaryHDU(header=None if in_primary else hdus[0].header)]
        packed += [
            fits.CompImageHDU(hdu.data, hdu.header, compression_type=kind, **options)
            for hdu in (hdus if in_primary else hdus[1:])
        ]
        fits.HDUList(packed).writeto(target)
    return target


def copies(cache):
    return sorted(p for p in cache.iterdir() if p.suffix == ".fits")


def test_gzip_is_unpacked_once_and_said(tmp_path, cache, caplog):
    flux, _ = arrays()
    path = gzipped(write_cube(tmp_path / "a.fits"), tmp_path / "night 1.fits.gz")
    with caplog.at_level(logging.INFO):
        cube = open_cube(path)
    assert "night 1.fits.gz" in caplog.text
    assert "0.0 MB" in caplog.text
    np.testing.assert_array_equal(cube.flux.values, flux)
    assert str(cube.name.values) == "night 1"
    assert cube.attrs["path"] == str(path)
    [copy] = copies(cache)
    inode = copy.stat().st_ino
    caplog.clear()
    assert open_cube(path).encoding["fits"] == cube.encoding["fits"]
    assert [p.stat().st_ino for p in copies(cache)] == [inode]
    assert not caplog.records
    assert not list(cache.glob(".*.part"))


def test_unpacking_again_after_the_cache_was_emptied_changes_nothing(tmp_path, cache):
    path = gzipped(write_cube(tmp_path / "a.fits"), tmp_path / "a.fits.gz")
    before = open_cube(path).encoding["fits"]
    shutil.rmtree(cache)
    with pytest.raises(FileError, match="no such file"):
        before.flux.check()
    after = open_cube(path).encoding["fits"]
    assert after.flux.identity == before.flux.identity
    assert after.flux_name == before.flux_name


def test_a_changed_file_of_the_same_size_is_unpacked_anew(tmp_path, cache):
    path = gzipped(write_cube(tmp_path / "a.fits"), tmp_path / "a.fits.gz", level=0)
    size = path.stat().st_size
    open_cube(path)
    flux, _ = arrays(seed=5)
    gzipped(write_cube(tmp_path / "a.fits", data=flux), path, level=0)
    os.utime(path, ns=(5, 5))
    assert path.stat().st_size == size
    np.testing.assert_array_equal(open_cube(path).flux.values, flux)
    assert len(copies(cache)) == 2


@pytest.mark.parametrize("kind", ["GZIP_1", "GZIP_2"])
@pytest.mark.parametrize("in_primary", [False, True])
def test_lossless_fpack_gives_the_same_cube(tmp_path, cache, kind, in_primary):
    flux, variance = arrays()
    flux[0, 0, 0] = np.nan
    quality = np.zeros(SHAPE, np.uint16)
    quality[3, 3, 3] = 9
    path = write_cube(
        tmp_path / "a.fits", data=flux, stat=variance, dq=quality, in_primary=in_primary
    )
    packed = fpacked(path, tmp_path / "b.fits.fz", kind, quantize_level=0.0)
    plain, cube = open_cube(path), open_cube(packed)
    for key in ("flux", "variance"):
        np.testing.assert_array_equal(cube[key].values, plain[key].values)
    assert np.isnan(cube.flux.values).sum() == 2
    assert cube.wcs.attrs == plain.wcs.attrs
    assert str(cube.name.values) == "b"
    assert str(cube.date_obs.values) == str(plain.date_obs.values)
    with fits.open(copies(cache)[0]) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus][-2:] == ["STAT", "DQ"]


def test_rice_gives_what_astropy_gives(tmp_path, cache):
    flux, variance = arrays((40, 5, 64))  # shorter rows are not quantised
    flux[:, 0] = np.nan
    path = write_cube(tmp_path / "a.fits", data=flux, stat=variance)
    packed = fpacked(path, tmp_path / "a.fits.fz", "RICE_1")
    with fits.open(packed) as hdus:
        want = hdus["DATA"].data
    assert not np.array_equal(want, flux, equal_nan=True)  # lossy
    np.testing.assert_array_equal(open_cube(packed).flux.values, want)


def test_checksums_of_the_packed_image_are_not_kept(tmp_path, cache):
    path = write_cube(tmp_path / "a.fits", data=arrays((40, 5, 64))[0], stat=arrays((40, 5, 64))[1])
    with fits.open(path) as hdus:
        hdus.writeto(tmp_path / "b.fits", checksum=True)
    open_cube(fpacked(tmp_path / "b.fits", tmp_path / "b.fits.fz", "RICE_1"))  # lossy
    with fits.open(copies(cache)[0], checksum=True) as hdus:  # a wrong one is a warning
        assert "CHECKSUM" not in hdus["DATA"].header
        hdus.verify("exception")


def test_fpack_is_known_by_its_content(tmp_path, cache):
    path = fpacked(write_cube(tmp_path / "a.fits"), tmp_path / "b.fits", quantize_level=0.0)
    np.testing.assert_array_equal(open_cube(path).flux.values, arrays()[0])


def test_fpack_within_gzip(tmp_path, cache):
    path = fpacked(write_cube(tmp_path / "a.fits"), tmp_path / "b.fits", quantize_level=0.0)
    cube = open_cube(gzipped(path, tmp_path / "c.fits.gz"))
    np.testing.assert_array_equal(cube.flux.values, arrays()[0])
    assert str(cube.name.values) == "c"


def test_fpack_is_unpacked_in_slabs(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("musedask.fits.unpack._SLAB_BYTES", 3 * 5 * 6 * 4)
    depths = []
    section = fits.CompImageHDU.section.fget
    monkeypatch.setattr(
        fits.CompImageHDU,
        "section",
        property(lambda self: _Recorder(section(self), depths)),
    )
    packed = fpacked(write_cube(tmp_path / "a.fits"), tmp_path / "a.fits.fz", quantize_level=0.0)
    np.testing.assert_array_equal(open_cube(packed).flux.values, arrays()[0])
    assert max(depths) == 3


class _Recorder:
    def __init__(self, section, depths):
        self.section, self.depths = section, depths

    def __getitem__(self, index):
        part = self.section[index]
        self.depths.append(part.shape[0])
        return part


def test_many_threads_unpack_once(tmp_path, cache, caplog):
    path = gzipped(write_cube(tmp_path / "a.fits"), tmp_path / "a.fits.gz")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(open_cube(path).encoding["fits"]))
        for _ in range(8)
    ]
    with caplog.at_level(logging.INFO):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len([r for r in caplog.records if "unpacked once" in r.message]) == 1


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda raw: raw[: len(raw) // 2], "damaged or cut off"),
        (lambda raw: raw[:-1000] + bytes(1000), "damaged or cut off"),
        (lambda _: gzip.compress(b"<!DOCTYPE html><html>"), "web page"),
        (lambda _: gzip.compress(b""), "is empty"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-5760]), "is cut off"),
        (lambda _: b"\x1f\x8b", "damaged or cut off"),
    ],
)
def test_damage_is_one_error_that_names_the_packed_file(tmp_path, cache, damage, found):
    path = gzipped(write_cube(tmp_path / "a.fits"), tmp_path / "odd.fits.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileError, match=rf"odd\.fits\.gz: .*{found}"):
        open_cube(path)
    assert not copies(cache)
    assert not list(cache.glob(".*"))


def test_a_cache_without_room_is_said_before_anything_is_written(tmp_path, cache, monkeypatch):
    path = gzipped(write_cube(tmp_path / "a.fits"), tmp_path / "odd.fits.gz")
    monkeypatch.setattr(
        "musedask.fits.unpack.shutil.disk_usage", lambda _: SimpleNamespace(free=64 << 20)
    )
    with pytest.raises(FileError, match=r"odd\.fits\.gz: unpacked it needs .*MUSEDASK_CACHE"):
        open_cube(path)
    assert not copies(cache)


def test_a_cache_that_cannot_be_made_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MUSEDASK_CACHE", str(tmp_path / "file"))
    path = gzipped(write_cube(tmp_path / "a.fits"), tmp_path / "a.fits.gz")
    with pytest.raises(FileError, match=r"a\.fits\.gz: .*MUSEDASK_CACHE"):
        open_cube(path)


def test_the_users_cache_folder_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("MUSEDASK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "musedask"


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("x/ADP.2016-06-01T12:34:56.789.fits", "ADP.2016-06-01T12:34:56.789"),
        ("a.fits.gz", "a"),
        ("a.FITS.FZ", "a"),
        ("a.fit", "a"),
        ("a.b", "a.b"),
    ],
)
def test_a_name_is_the_original_without_its_endings(path, stem):
    assert plain_stem(path) == stem


def test_cards_survive_packing(tmp_path, cache):
    path = gzipped(write_cube(tmp_path / "a.fits"), tmp_path / "a.fits.gz")
    header = fits.Header.fromstring(open_cube(path).attrs["primary_header"], sep="\n")
    for key, value in PRIMARY_CARDS.items():
        assert header[key.removeprefix("HIERARCH ")] == value
    assert WCS_CARDS["CRVAL3"] == float(open_cube(path).wavelength[0])


def aged(cache, stem, days):
    """Make the last use of a copy as old as that."""
    (lock,) = cache.glob(f"{stem}-*.lock")
    then = time.time() - 86400 * days
    os.utime(lock, (then, then))


def stems(cache):
    return [copy.name.rpartition("-")[0] for copy in copies(cache)]


def test_copies_that_nobody_opens_go_when_another_file_is_unpacked(tmp_path, cache):
    plain = write_cube(tmp_path / "a.fits")
    packed = {name: gzipped(plain, tmp_path / f"{name}.fits.gz") for name in "abc"}
    cache.mkdir()
    for name in ("mine.fits", "mine.lock", "notes-0123.fits", "notes-0123.lock"):
        (cache / name).write_text("not from musedask")
        os.utime(cache / name, (0, 0))
    open_cube(packed["a"])
    open_cube(packed["b"])
    aged(cache, "a", 31)
    aged(cache, "b", 29)
    open_cube(packed["c"])
    assert stems(cache) == ["b", "c", "", "notes"]
    assert not list(cache.glob("a-*"))


def test_opening_a_copy_keeps_it(tmp_path, cache):
    plain = write_cube(tmp_path / "a.fits")
    first, second = (gzipped(plain, tmp_path / f"{name}.fits.gz") for name in "ab")
    open_cube(first)
    aged(cache, "a", 40)
    open_cube(first)
    open_cube(second)
    assert stems(cache) == ["a", "b"]


def test_the_environment_says_how_long_copies_stay(tmp_path, cache, monkeypatch):
    plain = write_cube(tmp_path / "a.fits")
    first, second, third = (gzipped(plain, tmp_path / f"{name}.fits.gz") for name in "abc")
    open_cube(first)
    aged(cache, "a", 40)
    monkeypatch.setenv("MUSEDASK_CACHE_DAYS", "50")
    open_cube(second)
    assert stems(cache) == ["a", "b"]
    for wrong in ("soon", "-1", "0", "nan"):
        monkeypatch.setenv("MUSEDASK_CACHE_DAYS", wrong)
        with pytest.raises(InputError, match=f"MUSEDASK_CACHE_DAYS is '{wrong}'"):
            open_cube(third)
