"""A record is a line of JSON and comes back as it was."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import made

from benchmarks.jobs import DataSpec, Job
from benchmarks.records import Record, append, read_records
from musedask import FileError, MissingError

numbers = st.floats(0, 1e9)
texts = st.text(max_size=20)


@given(wall=numbers, repeat=st.integers(0, 9), reason=texts, load=st.tuples(numbers, numbers),
       metrics=st.dictionaries(texts, numbers, max_size=3), geometry=st.sampled_from(["shift", "turn"]))  # fmt: skip # noqa: E501
def test_a_record_comes_back_from_its_line(wall, repeat, reason, load, metrics, geometry):
    data = DataSpec(3, 4, 5, geometry)
    record = made("x", wall, repeat=repeat, reason=reason, load=load, metrics=metrics, data=data,
                  compile_s=1.5, start_s=2.5, cached_share=1.0, late=(reason,))  # fmt: skip
    line = record.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == record


def test_what_was_not_measured_is_null_and_comes_back_as_nan():
    line = made("x", math.nan).to_json()
    assert json.loads(line)["wall_s"] is None
    assert math.isnan(Record.from_json(line).wall_s)
    assert math.isnan(Record.from_json(line).compile_s)


def test_an_infinite_difference_is_still_json():
    line = made("x", 1.0, comparison={"largest": math.inf}).to_json()
    assert json.loads(line, parse_constant=lambda text: pytest.fail(text))


def test_files_are_read_in_order_and_lines_are_added(tmp_path):
    for name, walls in (("b", (3.0,)), ("a", (1.0, 2.0))):
        for wall in walls:
            append(tmp_path / f"{name}.jsonl", made("x", wall))
    assert [record.wall_s for record in read_records(tmp_path)] == [1.0, 2.0, 3.0]


def test_a_line_that_is_no_record_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, made("x", 1.0))
    with path.open("a") as file:
        file.write('{"half": \n')
    with pytest.raises(FileError, match=r"a\.jsonl:2"):
        read_records(tmp_path)


def test_no_records_are_an_error(tmp_path):
    with pytest.raises(MissingError, match="python -m benchmarks"):
        read_records(tmp_path)


def test_times_are_divided_by_what_they_are_for():
    record = made("x", 3.0, n_voxels=2_000_000, peak_rss=3 << 29,
                  metrics={"valid_share": 0.5, "bytes": 4e6, "tasks": 7.0})  # fmt: skip
    assert record.value("wall_s") == 3.0
    assert record.value("wall_per_gvox") == 1500.0
    assert record.value("cpu_per_gvox") == 3000.0
    assert record.value("wall_per_valid_gvox") == 3000.0
    assert record.value("wall_per_gbyte") == 750.0
    assert record.value("peak_gib") == 1.5
    assert record.value("tasks") == 7.0
    assert math.isnan(record.value("nothing_of_the_kind"))
    assert math.isnan(made("x", 3.0, n_voxels=0).value("wall_per_gvox"))


def test_a_job_comes_back_from_its_text():
    job = Job("case", "peer", "label", DataSpec(2, 3, 4), {"threads": 2}, "cold")
    assert Job.from_json(job.to_json()) == job
    assert Job.from_json(Job("c", "p", "l").to_json()) == Job("c", "p", "l")
