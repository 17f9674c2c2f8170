"""The table of recipes against the pipeline's own words."""

from __future__ import annotations

import re
import subprocess

import pytest

from musedask.errors import InputError
from musedask.reduction.job.parameters import schema_of
from musedask.reduction.jobs import STAGES, FileInput, Job, ProductInput
from musedask.reduction.recipes import (
    RECIPES,
    SETTINGS_FOR,
    parameters_for,
    recipe_of,
    seconds_allowed,
)
from musedask.reduction.rules import RULES


@pytest.mark.real_esorex
@pytest.mark.parametrize("name", RECIPES)
def test_tags_products_and_parameters_are_those_of_the_pipeline(name):
    recipe = RECIPES[name]
    page = subprocess.run(
        ["esorex", "--log-dir=/tmp", "--man-page", name], capture_output=True, text=True, check=True
    ).stdout
    # muse_scibasic can also take images that are reduced already, which the chain does not.
    page = page.partition('for raw frame tag "REDUCED"')[0]
    inputs = dict(re.findall(r"^ {3}([A-Z_]+) +(?:raw|calib) +([Y.])", page, re.MULTILINE))
    products = set(re.findall(r"^ {3}([A-Z_]+) +(?:final|interm)", page, re.MULTILINE))
    assert set(recipe.raw) <= set(inputs)
    assert set(recipe.takes) <= set(inputs)
    # What the pipeline calls required is required here, and the raw tags are.
    required = {tag for tag, mark in inputs.items() if mark == "Y"}
    assert required <= set(recipe.required) | set(recipe.raw)
    if name != "muse_scibasic":
        assert set(recipe.products) <= products
    parameters = schema_of(name)
    assert {key for key, _ in recipe.defaults} <= set(parameters)
    assert set(recipe.planned) <= set(parameters)
    assert ("nifu" in parameters) == recipe.per_ifu


def test_recipes_stand_in_the_order_of_the_stages():
    places = [STAGES.index(recipe.stage) for recipe in RECIPES.values()]
    assert places == sorted(places)
    assert {r.stage for r in RECIPES.values()} == set(STAGES) - {"final"}


def test_what_the_plan_sets_has_a_setting():
    for recipe in RECIPES.values():
        assert set(recipe.planned) <= set(SETTINGS_FOR)


def test_what_can_be_dispensed_with_is_required_otherwise():
    for recipe in RECIPES.values():
        assert set(recipe.dispensable) <= set(recipe.required)
        assert not set(recipe.required) & set(recipe.optional)


def test_each_calibration_that_is_taken_has_a_rule():
    ruled = {rule.tag for rules in RULES.values() for rule in rules}
    by_plan = {"OFFSET_LIST"}
    for recipe in RECIPES.values():
        assert set(recipe.takes) <= ruled | by_plan, recipe.name


def test_an_unknown_recipe_is_an_error_that_names_the_nearest():
    assert recipe_of("muse_flat").stage == "flat"
    with pytest.raises(InputError, match="did you mean 'muse_flat'"):
        recipe_of("muse_flats")


def test_parameters_come_from_plan_user_and_chain_in_this_order():
    scibasic = RECIPES["muse_scibasic"]
    assert parameters_for(scibasic, (), {"nifu": "3"}) == (("nifu", "3"), ("saveimage", "FALSE"))
    given = (("saveimage", "TRUE"), ("crop", "FALSE"), ("nifu", "3"), ("merge", "false"))
    assert parameters_for(scibasic, given, {"nifu": "3"}) == (
        ("crop", "FALSE"), ("nifu", "3"), ("saveimage", "TRUE"),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"nifu = '4': the plan sets it to '3'.*ifus"):
        parameters_for(scibasic, (("nifu", "4"),), {"nifu": "3"})


def test_a_job_may_take_much_more_than_it_is_known_to_take_or_what_the_user_says():
    inputs = tuple(FileInput("BIAS", f"/b{n}.fits", "") for n in range(3))
    short = Job(recipe="muse_bias", stage="bias", inputs=inputs)
    assert seconds_allowed(short, 0.0) == 6 * 3600
    assert seconds_allowed(short, 0.25) == 900
    assert seconds_allowed(short, float("inf")) == float("inf")
    long = Job(recipe="muse_scipost", stage="scipost", ifus=tuple(range(1, 25)),
               inputs=(ProductInput("PIXTABLE_OBJECT", "0"),))  # fmt: skip
    assert seconds_allowed(long, 0.0) == pytest.approx(50 * (1 + 24 * 40))
    assert seconds_allowed(long, 1.0) == 3600
