"""The folder of what was compared: it comes back as it was, and damage is noticed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from compared_fields import MARGIN, made_compared

from musedask.alignment.json_files import json_text
from musedask.alignment.material import (
    Compared,
    MaskedCircle,
    material_folder,
    read_material,
    write_material,
)
from musedask.errors import FileError, InputError, MissingError


@pytest.fixture(scope="module")
def compared():
    return made_compared()


@pytest.fixture
def folder(tmp_path, compared):
    write_material(tmp_path / "o.alignment", [compared])
    return tmp_path / "o.alignment"


def the_json(folder):
    (path,) = folder.glob("*.json")
    return path


def changed(folder, **keys):
    path = the_json(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_everything_comes_back(folder, compared):
    (entry,) = read_material(folder)
    back = entry.read()
    for which in ("exposure", "reference"):
        was, now = getattr(compared, which), getattr(back, which)
        for what in ("flux", "variance"):
            np.testing.assert_array_equal(getattr(was, what), getattr(now, what))
        assert now.projection == was.projection
        assert (now.name, now.units, now.date_obs) == (was.name, was.units, was.date_obs)
    assert repr(back.measurement) == repr(compared.measurement)  # NaN is not equal to itself
    assert back.margin == MARGIN
    assert entry.key == "2021-03-04T05:00:07.123"


def test_a_failed_one_and_its_masks_come_back(tmp_path):
    mask = MaskedCircle(53.1, -27.7, 1.5)
    failed = replace(made_compared(grade="F"), masked=(mask,))
    write_material(tmp_path, [failed])
    entry = read_material(tmp_path).find(failed.measurement.date_obs)
    assert np.isnan(entry.measurement.ra_offset_arcsec)
    assert entry.measurement.reasons == failed.measurement.reasons
    assert entry.masked == entry.read().masked == (mask,)


def test_an_exposure_is_replaced_and_others_stay(folder):
    write_material(folder, [made_compared(1), made_compared(0, (1.0, 1.0))])
    offsets = [entry.measurement.ra_offset_arcsec for entry in read_material(folder)]
    assert offsets == [1.0, 0.6]
    assert not [path for path in folder.iterdir() if "partial" in path.name]


def test_the_images_are_fits_with_the_exposures_wcs(folder, compared):
    (path,) = folder.glob("*.fits")
    with fits.open(path) as units:
        assert [unit.name for unit in units[1:]] == ["EXPOSURE", "EXPOSURE_VARIANCE", "REFERENCE"]
        assert units["EXPOSURE"].header["CRPIX1"] == compared.exposure.projection.mapping["CRPIX1"]
        assert units["EXPOSURE_VARIANCE"].header["BUNIT"].endswith("**2")


def test_images_of_another_measurement_are_refused(folder):
    (path,) = folder.glob("*.fits")
    content = bytearray(path.read_bytes())
    content[-3000] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="crc32"):
        next(iter(read_material(folder))).read()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"format": "other"}, "is no musedask alignment material"),
        ({"version": 99}, "version is 99"),
        ({"masked": 3}, "masked is 3"),
        ({"masked": [{"ra_deg": 1.0}]}, "masked: .*dec_deg"),
        ({"masked": [{"ra_deg": 1.0, "dec_deg": "x", "radius_arcsec": 1.0}]}, "dec_deg is 'x'"),
        ({"measurement": {"date_obs": "x", "sources": [], "reasons": [], "no": 1}}, "key 'no'"),
        ({"measurement": None}, "measurement is None"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(folder, keys, words):
    changed(folder, **keys)
    with pytest.raises(FileError, match=words) as caught:
        read_material(folder)
    assert str(the_json(folder)) in str(caught.value)


@pytest.mark.parametrize("name", ["../x.fits", "/etc/x.fits", "a/b.fits", None])
def test_a_file_elsewhere_is_never_opened(folder, name):
    changed(folder, fits=name)
    with pytest.raises(FileError, match="no name of a file in its folder"):
        next(iter(read_material(folder))).read()


def test_no_json_and_no_folder_and_no_exposure(tmp_path, folder):
    with pytest.raises(FileError, match="no such folder"):
        read_material(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="holds no exposure"):
        read_material(tmp_path / "empty")
    the_json(folder).write_text("{")
    with pytest.raises(FileError, match="is no JSON"):
        read_material(folder)


def test_an_exposure_that_is_not_there_is_missing(folder):
    with pytest.raises(MissingError, match="2001-01-01T00:00:00"):
        read_material(folder).find("2001-01-01T00:00:00")


def test_a_reference_elsewhere_is_refused(compared):
    reference = compared.reference
    moved = replace(reference, projection=reference.projection.shifted(1, 0))
    with pytest.raises(InputError, match="not on the exposure's lattice"):
        Compared(compared.measurement, compared.exposure, moved)
    cut = replace(reference, flux=reference.flux[:-1])
    with pytest.raises(InputError, match="same whole margin"):
        Compared(compared.measurement, compared.exposure, cut)


@pytest.mark.parametrize("values", [(float("nan"), 0, 1), (0, 91, 1), (0, 0, 0), (0, 0, 4000)])
def test_a_circle_lies_on_the_sky(values):
    with pytest.raises(InputError):
        MaskedCircle(*values)


def test_the_folder_lies_beside_the_offsets(tmp_path):
    assert material_folder(tmp_path / "offsets.ecsv") == tmp_path / "offsets.alignment"


def test_json_knows_no_nan():
    assert json_text({"a": [float("nan"), np.float32(1.5)]}) == '{"a": [null, 1.5]}'
