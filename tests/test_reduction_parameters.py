"""Parameters of recipes: what esorex says of them, and what does not fit."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musedask.errors import InputError, MissingError
from musedask.reduction.job import parameters
from musedask.reduction.job.parameters import Parameter, check_parameters, schema_of, schemas

SCHEMA = {
    p.name: p
    for p in (
        Parameter("nifu", "int", "0", low=-1, high=24),
        Parameter("ovscignore", "int", "3"),
        Parameter("hsigma", "double", "3"),
        Parameter("merge", "bool", "FALSE"),
        Parameter("combine", "string", "sigclip", choices=("average", "median", "sigclip")),
        Parameter("rsearch", "string", "30.,4.,2.,0.8"),
    )
}


@pytest.mark.parametrize(
    ("name", "value"),
    [("nifu", "-1"), ("nifu", "24"), ("nifu", "+3"), ("hsigma", "-1.5e3"), ("hsigma", "3"),
     ("hsigma", ".5"), ("merge", "TRUE"), ("merge", "false"), ("combine", "median"),
     ("rsearch", "4.,2."), ("rsearch", ""), ("ovscignore", "1000000")],
)  # fmt: skip
def test_what_esorex_takes_is_taken(name, value):
    check_parameters("muse_bias", [(name, value)], SCHEMA)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("nifu", "25", "between -1 and 24"), ("nifu", "-2", "between -1 and 24"),
     ("nifu", "1.0", "whole number"), ("nifu", "1_0", "whole number"), ("nifu", "", "whole"),
     ("hsigma", "3,5", "a number"), ("hsigma", "nan", "a number"), ("hsigma", "inf", "a number"),
     ("merge", "True", "TRUE or FALSE"), ("merge", "1", "TRUE or FALSE"),
     ("merge", "yes", "TRUE or FALSE"), ("combine", "sigclp", "did you mean 'sigclip'"),
     ("combine", "Median", "average, median, sigclip"), ("nif", "1", "did you mean 'nifu'"),
     ("xyz", "1", "it has combine, hsigma, merge"), ("--nifu", "1", "did you mean 'nifu'")],
)  # fmt: skip
def test_what_does_not_fit_is_an_error_with_a_way_out(name, value, says):
    with pytest.raises(InputError, match=says) as caught:
        check_parameters("muse_bias", [(name, value)], SCHEMA)
    assert "muse_bias" in str(caught.value)
    assert name in str(caught.value)


def test_a_bound_on_one_side_is_named():
    one_sided = {"x": Parameter("x", "int", "1", low=0), "y": Parameter("y", "int", "1", high=9)}
    with pytest.raises(InputError, match="at least 0"):
        check_parameters("r", [("x", "-1")], one_sided)
    with pytest.raises(InputError, match="at most 9"):
        check_parameters("r", [("y", "10")], one_sided)


def test_a_parameter_is_given_once():
    with pytest.raises(InputError, match=r"nifu is given twice, as '1' and '2'"):
        check_parameters("muse_bias", [("nifu", "1"), ("nifu", "2")], SCHEMA)


@given(st.integers(-50, 50))
def test_a_whole_number_fits_if_it_is_in_the_range(value):
    fits = -1 <= value <= 24
    try:
        check_parameters("muse_bias", [("nifu", str(value))], SCHEMA)
    except InputError:
        assert not fits
    else:
        assert fits


@pytest.mark.real_esorex
def test_schemas_of_the_real_recipes_have_types_ranges_choices_and_hidden_parameters(tmp_path):
    found = schemas(["muse_bias", "muse_scipost", "muse_illum"], tmp_path)
    bias, scipost = found["muse_bias"], found["muse_scipost"]
    assert (bias["nifu"].kind, bias["nifu"].low, bias["nifu"].high) == ("int", -1, 24)
    assert bias["merge"].default == "FALSE"
    assert scipost["skymethod"].choices == ("none", "subtract-model", "model", "simple")
    assert scipost["crsigma"].kind == "double"
    assert scipost["raman_width"].default == "20"  # hidden
    assert found["muse_illum"] == {}
    assert "drizzle" in scipost["resample"].choices
    for schema in found.values():
        # What a recipe does by itself must be allowed to be said.
        check_parameters("any", [(p.name, p.default) for p in schema.values()], schema)


@pytest.mark.real_esorex
def test_a_kept_schema_is_read_without_esorex_and_a_broken_one_is_asked_anew(tmp_path, monkeypatch):
    first = schema_of("muse_bias", tmp_path)
    (kept,) = tmp_path.glob("muse_bias-*.json")
    with monkeypatch.context() as patch:
        patch.setattr(parameters, "_answer", lambda recipe: pytest.fail("asked again"))
        assert schema_of("muse_bias", tmp_path) == first
    kept.write_text("[{")
    assert schema_of("muse_bias", tmp_path) == first


@pytest.mark.real_esorex
def test_an_unknown_recipe_is_missing():
    with pytest.raises(MissingError, match="muse_bais"):
        schema_of("muse_bais")


@pytest.mark.real_esorex
@pytest.mark.parametrize("value", ["TRUE", "false", "True", "yes", "1"])
def test_esorex_takes_the_booleans_that_are_taken_here(tmp_path, value):
    run = subprocess.run(
        ["esorex", f"--create-config={tmp_path / 'x.json'}", "muse_bias", f"--merge={value}"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert (run.returncode == 0) == (SCHEMA["merge"].complaint(value) == "")
