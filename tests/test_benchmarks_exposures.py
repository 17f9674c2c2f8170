"""Exposures for benchmarks: distinct, the same each time, and never more than the disk may hold."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.exposures import (
    date_obs,
    dither_pix,
    field_of,
    grid_header,
    kind_of,
    make_exposures,
    make_room,
    used_bytes,
)
from benchmarks.jobs import DataSpec
from musedask import CubeGrid, FileError, open_exposures

SPEC = DataSpec(3, 20, 40)
LIMIT = 1 << 30


def test_each_exposure_has_bytes_of_its_own_and_the_same_each_time(tmp_path):
    paths = make_exposures(SPEC, tmp_path / "a", LIMIT)
    again = make_exposures(SPEC, tmp_path / "b", LIMIT)
    contents = [path.read_bytes() for path in paths]
    assert len(set(contents)) == 3
    assert contents == [path.read_bytes() for path in again]


def test_more_exposures_of_a_kind_are_added_to_those_that_are_there(tmp_path):
    first = make_exposures(replace(SPEC, n_exposures=2), tmp_path, LIMIT)
    before = [path.stat().st_mtime_ns for path in first]
    more = make_exposures(SPEC, tmp_path, LIMIT)
    assert more[:2] == first
    assert [path.stat().st_mtime_ns for path in first] == before
    assert kind_of(SPEC) != kind_of(replace(SPEC, n_channels=21))
    assert kind_of(SPEC) != kind_of(replace(SPEC, content="empty"))


def test_noise_is_as_its_variance_says_with_holes_hits_and_a_border(tmp_path):
    (path,) = make_exposures(DataSpec(1, 20, 80), tmp_path, LIMIT)
    with fits.open(path) as hdus:
        flux, variance = (hdus[name].data.astype(float) for name in ("DATA", "STAT"))
    inside = field_of(DataSpec(1, 20, 80))
    assert np.isnan(flux[:, ~inside]).all()
    np.testing.assert_array_equal(np.isnan(flux), np.isnan(variance))
    field, spread = flux[:, inside], variance[:, inside]
    assert 0.002 < np.isnan(field).mean() < 0.004
    assert 0.002 < (field > 900).mean() < 0.004
    with np.errstate(invalid="ignore"):
        deviations = ((field - 5) / np.sqrt(spread))[field < 900]
    assert abs(deviations.std() - 1) < 0.02
    assert (spread[np.isfinite(spread)] >= 70).all()


@pytest.mark.parametrize("geometry", ["shift", "turn", "diamond"])
def test_exposures_lie_on_the_grid_that_all_peers_share(geometry, tmp_path):
    spec = replace(SPEC, geometry=geometry, n_fields=2, n_exposures=4)
    cubes = open_exposures(make_exposures(spec, tmp_path, LIMIT))
    grid = CubeGrid.from_header(grid_header(spec))
    assert grid.shape[0] == spec.n_channels
    # A turned frame reaches over the grid with its corners.
    reach = CubeGrid.enclosing(cubes, pad=0)
    assert abs(reach.nx - grid.nx) < (32 if geometry == "turn" else 16)
    for n, cube in enumerate(cubes):
        assert str(cube["date_obs"].values) == date_obs(n)
    assert len({date_obs(n) for n in range(2000)}) == 2000
    assert len({dither_pix(n) for n in range(96)}) == 96
    assert all(abs(v) < 7 and v % 1 != 0 for n in range(1000) for v in dither_pix(n))


def test_a_field_turned_by_45_degrees_is_as_large_as_an_upright_one():
    upright, turned = DataSpec(1, 1, 320), DataSpec(1, 1, 450, "diamond")
    assert abs(field_of(turned).sum() / field_of(upright).sum() - 1) < 0.03
    assert not field_of(turned)[0, 0]


def test_empty_exposures_take_no_room(tmp_path):
    spec = DataSpec(2, 3681, 64, content="empty")
    make_exposures(spec, tmp_path, LIMIT)
    assert used_bytes(tmp_path) < 1 << 20
    assert not np.any(fits.getdata(next(tmp_path.rglob("exposure_0001.fits")), "DATA")[::500])


def test_flat_exposures_have_a_variance_and_half_the_size(tmp_path):
    spec = DataSpec(1, 400, 64, content="flat")
    (path,) = make_exposures(spec, tmp_path, LIMIT)
    assert used_bytes(tmp_path) < 0.6 * path.stat().st_size
    assert not np.any(fits.getdata(path, "DATA"))
    assert (fits.getdata(path, "STAT") == 1).all()


def test_the_kinds_that_were_not_used_for_longest_make_room(tmp_path):
    specs = [replace(SPEC, n_channels=n) for n in (16, 17, 18)]
    for age, spec in enumerate(specs):
        make_exposures(spec, tmp_path, LIMIT)
        os.utime(tmp_path / kind_of(spec), (1000 + age, 1000 + age))
    size = used_bytes(tmp_path)
    removed = make_room(tmp_path, 0, size - 1, {kind_of(specs[0])})
    assert removed == [kind_of(specs[1])]
    assert {p.name for p in tmp_path.iterdir()} == {kind_of(specs[0]), kind_of(specs[2])}


def test_data_that_do_not_fit_are_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(FileError, match="--disk-gb"):
        make_exposures(SPEC, tmp_path, 1000)
    assert not list(tmp_path.rglob("*.fits"))
