"""The set of frames of a job: found, unchanged, and in a form that esorex can read."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from esorex_jobs import DATES, given, offsets
from finished_jobs import finish

from musedask.errors import FileError, InputError, MissingError
from musedask.reduction.job.sof import prepare_sof, sof_text
from musedask.reduction.jobs import FileInput, Job, ProductInput


@pytest.fixture
def scratch(tmp_path):
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def raw(folder, *names):
    """Files of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(b"x" * 10)
    return paths


def job_of(*inputs):
    return Job(recipe="muse_bias", stage="bias", inputs=inputs, title="bias IFU 1")


def test_the_sof_has_absolute_paths_and_tags_in_the_order_of_the_inputs(tmp_path, scratch):
    paths = raw(tmp_path, "MUSE.2020-01-01T00:00:00.000.fits", "b.fits.fz")
    lines = prepare_sof(job_of(*(given("BIAS", p) for p in paths)), tmp_path / "products", scratch)
    assert (scratch / "frames.sof").read_text() == f"{paths[0]} BIAS\n{paths[1]} BIAS\n"
    assert sof_text(lines) == (scratch / "frames.sof").read_text()
    assert [line.source for line in lines] == [str(path) for path in paths]
    assert not any(line.is_link or line.is_made for line in lines)


def test_a_path_with_whitespace_gets_a_link_with_a_clean_name(tmp_path, scratch):
    one, two = (
        raw(tmp_path / "my night", "a b.fits")[0],
        raw(tmp_path / "other night", "a b.fits")[0],
    )
    lines = prepare_sof(
        job_of(given("BIAS", one), given("BIAS", two)), tmp_path / "products", scratch
    )
    assert [line.path for line in lines] == ["inputs/1/a_b.fits", "inputs/2/a_b.fits"]
    for line, path in zip(lines, (one, two), strict=True):
        assert os.path.realpath(scratch / line.path) == str(path)
        assert line.is_link
        assert line.source == str(path)


def test_a_file_that_is_made_lies_in_the_scratch_folder(tmp_path, scratch):
    (line,) = prepare_sof(job_of(offsets((DATES[0], 0, 0, "nan"))), tmp_path / "products", scratch)
    assert line.path == "OFFSET_LIST.fits"
    assert line.is_made
    assert (scratch / "OFFSET_LIST.fits").stat().st_size > 2880


@pytest.mark.parametrize("change", ["size", "time", "gone"])
def test_a_raw_file_that_is_not_the_planned_one_is_an_error(tmp_path, scratch, change):
    (path,) = raw(tmp_path, "a.fits")
    job = job_of(given("BIAS", path))
    if change == "size":
        status = path.stat()
        path.write_bytes(b"x" * 11)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    says = "no such file" if change == "gone" else "has changed since the plan was made"
    with pytest.raises(FileError, match=says) as caught:
        prepare_sof(job, tmp_path / "products", scratch)
    assert str(path) in str(caught.value)


def test_products_are_found_by_the_key_of_their_job_and_their_category(tmp_path, scratch):
    products = tmp_path / "products"
    flat = finish(products, "muse_flat", {"flat-01.fits": ("MASTER_FLAT", 1),
                                          "trace-01.fits": ("TRACE_TABLE", 1)})  # fmt: skip
    tables = finish(products, "muse_scibasic", {
        "t1.fits": ("PIXTABLE_SKY", 1), "t2.fits": ("PIXTABLE_SKY", 2)})  # fmt: skip
    job = job_of(
        ProductInput("TRACE_TABLE", flat.key),
        ProductInput("PIXTABLE_SKY", tables.key, used_as="PIXTABLE_OBJECT"),
        ProductInput("MASTER_FLAT", flat.key),
    )
    lines = prepare_sof(job, products, scratch)
    assert [(line.tag, os.path.relpath(line.path, products)) for line in lines] == [
        ("TRACE_TABLE", f"muse_flat/{flat.key}/trace-01.fits"),
        ("PIXTABLE_OBJECT", f"muse_scibasic/{tables.key}/t1.fits"),
        ("PIXTABLE_OBJECT", f"muse_scibasic/{tables.key}/t2.fits"),
        ("MASTER_FLAT", f"muse_flat/{flat.key}/flat-01.fits"),
    ]
    assert {line.job for line in lines} == {flat.key, tables.key}


def test_an_image_is_taken_by_its_filter(tmp_path, scratch):
    products = tmp_path / "products"
    images = {"i1.fits": ("IMAGE_FOV", None, "white"), "i2.fits": ("IMAGE_FOV", None, "Cousins_R")}
    cube = finish(products, "muse_scipost", images)
    item = ProductInput("IMAGE_FOV", cube.key, filter="Cousins_R")
    (line,) = prepare_sof(job_of(item), products, scratch)
    assert line.path.endswith("/i2.fits")
    with pytest.raises(MissingError, match="IMAGE_FOV in Johnson_V"):
        prepare_sof(job_of(replace(item, filter="Johnson_V")), products, scratch)


def test_what_a_job_has_not_made_is_missing_unless_it_is_optional(tmp_path, scratch):
    products = tmp_path / "products"
    star = finish(products, "muse_standard", {"r.fits": ("STD_RESPONSE", None)})
    item = ProductInput("STD_TELLURIC", star.key)
    with pytest.raises(MissingError, match=r"needs STD_TELLURIC of muse_standard.*has made none"):
        prepare_sof(job_of(item), products, scratch)
    response = ProductInput("STD_RESPONSE", star.key)
    lines = prepare_sof(job_of(replace(item, optional=True), response), products, scratch)
    assert [line.tag for line in lines] == ["STD_RESPONSE"]


@pytest.mark.parametrize("fault", ["never run", "deleted", "cut off"])
def test_a_needed_job_without_its_products_is_missing(tmp_path, scratch, fault):
    products = tmp_path / "products"
    bias = finish(products, "muse_bias", {"b.fits": ("MASTER_BIAS", 1)})
    key = "0" * 16 if fault == "never run" else bias.key
    if fault == "deleted":
        (bias.folder / "b.fits").unlink()
    if fault == "cut off":
        (bias.folder / "b.fits").write_bytes(b"")
    with pytest.raises(MissingError, match=f"products of job {key} are not there"):
        prepare_sof(job_of(ProductInput("MASTER_BIAS", key)), products, scratch)


def test_an_identity_of_another_form_is_not_compared(tmp_path, scratch):
    (path,) = raw(tmp_path, "a.fits")
    lines = prepare_sof(
        job_of(FileInput("BIAS", str(path), "static")), tmp_path / "products", scratch
    )
    assert lines[0].identity == "static"


def test_a_made_input_that_cannot_be_made_is_an_error(tmp_path, scratch):
    with pytest.raises(InputError, match="has no offset"):
        prepare_sof(job_of(offsets((DATES[0], "nan", 0, 1))), tmp_path / "products", scratch)
