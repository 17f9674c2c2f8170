"""``job.json``: what is written is what is read, and nothing else is a finished job."""

from __future__ import annotations

import json
import logging

import pytest
from finished_jobs import a_record, finish
from hypothesis import given
from hypothesis import strategies as st

from musedask.errors import FileError, MissingError
from musedask.reduction.job.record import (
    FORMAT,
    Product,
    find_record,
    read_record,
    record_text,
)

FILES = {
    "b-01.fits": ("MASTER_BIAS", 1),
    "b-02.fits": ("MASTER_BIAS", 2),
    "w.fits": ("IMAGE_FOV", None, "white"),
    "r.fits": ("IMAGE_FOV", None, "Cousins_R"),
}


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = finish(tmp_path, "muse_bias", FILES)
    assert read_record(record.folder) == record
    assert read_record(str(record.folder)) == record


@given(
    st.builds(
        a_record,
        st.just("/run/products/muse_bias/0123456789abcdef"),
        title=st.text(),
        ifu=st.none() | st.integers(1, 24),
        parameters=st.lists(st.tuples(st.text(), st.text())).map(tuple),
        warnings=st.lists(st.text()).map(tuple),
        wall_s=st.floats(0, 1e9),
    )
)
def test_the_text_of_a_record_holds_all_but_its_folder(record):
    content = json.loads(record_text(record))
    assert content.pop("format") == FORMAT
    assert content["title"] == record.title
    assert content["warnings"] == list(record.warnings)
    assert content["wall_s"] == record.wall_s
    assert "folder" not in content


def test_products_are_found_by_category_ifu_and_filter(tmp_path):
    record = finish(tmp_path, "muse_bias", FILES)

    def names(*args, **kwargs):
        found = record.products_of(*args, **kwargs)
        assert all(path.is_file() and path.is_absolute() for path in found)
        return [path.name for path in found]

    assert names("MASTER_BIAS") == ["b-01.fits", "b-02.fits"]
    assert names("MASTER_BIAS", ifu=2) == ["b-02.fits"]
    assert names("IMAGE_FOV", filter="Cousins_R") == ["r.fits"]
    assert names("IMAGE_FOV", 1) == []
    assert names("MASTER_DARK") == []


def test_a_folder_that_is_moved_keeps_its_products(tmp_path):
    record = finish(tmp_path / "here", "muse_bias", FILES)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = read_record(tmp_path / "there" / "muse_bias" / record.key)
    assert moved.products_of("MASTER_BIAS", 1)[0].read_bytes() == b"b-01.fits"


def test_there_is_no_record_where_nothing_is(tmp_path):
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "nothing") is None


@pytest.mark.parametrize("fault", ["gone", "longer", "shorter"])
def test_a_job_is_finished_only_with_all_its_products_whole(tmp_path, fault):
    record = finish(tmp_path, "muse_bias", FILES)
    path = record.folder / "r.fits"
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(b"r.fitsss" if fault == "longer" else b"r.fit")
    assert read_record(record.folder) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "null", '{"format": 1, "x": 2}'])
def test_a_file_that_is_no_record_counts_as_none_and_is_logged(tmp_path, text, caplog):
    record = finish(tmp_path, "muse_bias", FILES)
    (record.folder / "job.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert read_record(record.folder) is None
    assert "is no record of a job" in caplog.text


def test_a_record_of_another_form_is_none(tmp_path):
    record = finish(tmp_path, "muse_bias", FILES)
    content = json.loads((record.folder / "job.json").read_text())
    (record.folder / "job.json").write_text(json.dumps(content | {"format": FORMAT + 1}))
    assert read_record(record.folder) is None


def test_a_record_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "job.json").mkdir()
    with pytest.raises(FileError, match=r"job\.json: is a folder"):
        read_record(tmp_path)


def test_a_job_is_found_by_its_key_alone(tmp_path):
    record = finish(tmp_path, "muse_bias", FILES)
    finish(tmp_path, "muse_flat", {"f.fits": ("MASTER_FLAT", 1)})
    assert find_record(tmp_path, record.key) == record
    with pytest.raises(MissingError, match="products of job 1234"):
        find_record(tmp_path, "1234")


def test_the_size_of_each_product_is_kept(tmp_path):
    record = finish(tmp_path, "muse_bias", FILES)
    assert record.products[0] == Product(
        "b-01.fits", "MASTER_BIAS", 1, "", "", 9, "md5 of b-01.fits"
    )
