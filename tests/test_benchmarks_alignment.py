"""The benchmark of the alignment: its figures, its page, and the methods beside ours."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.alignment import command, methods
from benchmarks.alignment.campaign import NUMBERS, cases_of, measured, run_campaign
from benchmarks.alignment.merits import merits
from benchmarks.alignment.methods import Found, Pair
from benchmarks.alignment.outcomes import Outcome, read_outcomes
from benchmarks.alignment.page import targets, write_page
from musedask.errors import FileError
from musedask.simulation.fields import draw_case

TRUE = Outcome(
    method="musedask", kind="field", seed=0, true_east=1.0, true_north=-2.0, east_limit=0.01,
    north_limit=0.02, n_bright=7, fwhm=0.8, grade="A", east=1.0, north=-2.0, east_error=0.02,
    north_error=0.04, cpu_s=1.0, wall_s=1.0,
)  # fmt: skip


def off(east: float, north: float, **changed: object) -> Outcome:
    return replace(TRUE, east=1.0 + east, north=-2.0 + north, **changed)  # type: ignore[arg-type]


def test_figures_are_those_of_the_definition():
    found = merits([off(0.03, 0.02), off(-0.01, 0.02), off(0.01, -0.04)])
    assert found.bias == pytest.approx((0.01, 0.0))
    assert found.scatter == pytest.approx((np.std([3, -1, 1]) / 100, np.std([2, 2, -4]) / 100))
    root = np.sqrt([(9 + 1 + 1) / 3, (4 + 4 + 16) / 3]) / 100
    assert found.over_limit == pytest.approx(tuple(root / [0.01, 0.02]))
    assert found.pulls["A"] == pytest.approx(tuple(root / [0.02, 0.04]))
    assert np.isnan(found.pulls["B"]).all()
    assert (found.n, found.n_usable, found.n_wrong) == (3, 3, 0)


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (off(0.0, 0.0), (1, 1, 0)),
        (off(0.15, 0.15), (1, 1, 1)),  # 0.21 arcsec: the distance counts, not an axis
        (off(0.19, 0.0), (1, 1, 0)),
        (off(5.0, 0.0, grade="C"), (1, 0, 0)),
        (off(5.0, 0.0, grade=""), (1, 1, 1)),
        (off(np.nan, np.nan, grade=""), (1, 0, 0)),
        (off(np.nan, np.nan, grade="F"), (1, 0, 0)),
        (off(0.0, 0.0, n_bright=4), (0, 0, 0)),
        (off(5.0, 0.0, n_bright=4), (0, 0, 1)),
        (off(0.0, 0.0, kind="crowded", n_bright=0), (1, 1, 0)),
        (off(5.0, 0.0, kind="empty"), (0, 0, 1)),
    ],
)
def test_what_is_usable_and_what_is_wrong(outcome, counts):
    found = merits([outcome])
    assert (found.n, found.n_usable, found.n_wrong) == counts
    assert found.n_all == 1


def test_clusters_do_not_count_against_the_photon_limit():
    found = merits([off(0.01, 0.02), off(0.1, 0.1, kind="crowded", east_limit=1e-5)])
    assert found.over_limit == pytest.approx((1.0, 1.0))


def test_a_target_that_is_missed_is_told(tmp_path):
    exact = {"east_limit": 0.02, "north_limit": 0.02, "east_error": 0.02, "north_error": 0.02}
    good = [
        off(0.02 * sign, 0.02 * sign, seed=i, grade=grade, **exact)
        for i, (sign, grade) in enumerate([(1, "A"), (-1, "A"), (1, "B"), (-1, "B")])
    ]
    assert all(least <= value <= most for _, value, least, most in targets(merits(good)))
    assert "not met" not in write_page(good, "tiny", tmp_path).read_text()
    bad = [*good, off(0.5, 0.0, seed=9, reasons="two|three")]
    page = write_page(bad, "tiny", tmp_path).read_text()
    assert "20.00% of 5" in page
    assert (
        "| wrong by more than 0.2 arcsec and graded A or B | 0.2 | 0 to 0.005 | **not met** |"
        in page
    )
    assert "| field 9 | A | 0.500, 0.000 | 7 | two/three |" in page
    assert (tmp_path / "alignment_tiny.png").read_bytes().startswith(b"\x89PNG")


def test_an_outcome_comes_back_as_it_was(tmp_path):
    path = tmp_path / "outcomes.jsonl"
    there = [TRUE, off(np.nan, np.inf, grade="F", reasons="nothing")]
    path.write_text("".join(outcome.to_json() + "\n" for outcome in there))
    one, other = read_outcomes(path)
    assert one == TRUE
    assert np.isnan(other.east)
    assert np.isinf(other.north)
    assert "NaN" not in path.read_text()
    path.write_text(json.dumps({"method": "x"}))
    with pytest.raises(FileError, match=r"outcomes\.jsonl: no outcomes"):
        read_outcomes(path)


def test_a_full_campaign_has_a_thousand_cases_of_all_kinds():
    assert len(set(cases_of("full"))) == len(cases_of("full")) == 1000
    assert all(set(numbers) == set(NUMBERS["full"]) for numbers in NUMBERS.values())


def test_a_method_that_raises_has_failed_and_the_others_go_on(monkeypatch, tmp_path):
    def broken(case):
        raise RuntimeError("no such thing")

    monkeypatch.setitem(methods.METHODS, "broken", broken)
    monkeypatch.setitem(methods.METHODS, "still", lambda case: Found(0.0, 0.0))
    bad, good = measured(("field", 3), ["broken", "still"])
    assert (bad.grade, bad.reasons) == ("F", "RuntimeError: no such thing")
    assert good.is_usable
    assert good.true_east == draw_case(3).exposure.truth.ra_offset_arcsec


@pytest.fixture
def _two_cases(monkeypatch):
    """A size of two cases, and methods that cost nothing."""
    monkeypatch.setitem(NUMBERS, "tiny", {"field": 1, "empty": 1})
    monkeypatch.setitem(methods.METHODS, "musedask", lambda case: Found(0.0, 0.0, 1.0, 1.0, "C"))
    monkeypatch.setitem(methods.METHODS, "phase", lambda case: Found(1.0, 0.0))


@pytest.mark.usefixtures("_two_cases")
def test_all_methods_see_all_cases_in_order(tmp_path):
    said: list[str] = []
    path = tmp_path / "a" / "b.jsonl"
    found = run_campaign("tiny", ["musedask", "phase"], path, 1, said.append)
    assert [(o.kind, o.method) for o in found] == [
        ("field", "musedask"), ("field", "phase"), ("empty", "musedask"), ("empty", "phase"),
    ]  # fmt: skip
    assert read_outcomes(path) == found
    assert said[-1] == "2 of 2 cases"


@pytest.mark.usefixtures("_two_cases")
def test_the_command_measures_leaves_out_what_is_missing_and_makes_the_page_again(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(command, "missing_for", lambda n: "skimage" if n == "phase" else "")
    options = ["alignment", "--size", "tiny", "-o", str(tmp_path), "--processes", "1"]
    result = CliRunner().invoke(main, [*options, "--methods", "musedask,phase"])
    assert result.exit_code == 0, result.output
    assert "phase          left out: skimage is not installed" in result.output
    page = tmp_path / "alignment_tiny.md"
    assert "| empty | 0 | 0 | 1 | 0 | 0 |" in page.read_text()
    page.unlink()
    result = CliRunner().invoke(main, [*options, "--report"])
    assert result.exit_code == 0, result.output
    assert page.is_file()
    result = CliRunner().invoke(main, [*options, "--methods", "phase"])
    assert "no method is left" in result.output
    assert result.exit_code != 0
    result = CliRunner().invoke(main, [*options, "--methods", "magic"])
    assert "magic: expected some of musedask, phase" in result.output
    assert result.exit_code != 0


# --- the others --------------------------------------------------------------------------------


def test_an_exposure_displaced_to_the_right_is_west_of_the_reference_where_north_is_up():
    pair = Pair(np.zeros((2, 2)), np.zeros((2, 2)), 0.2 * np.array([[-1.0, 0.0], [0.0, 1.0]]))
    found = pair.found(5.0, 2.0)
    assert (found.east, found.north) == pytest.approx((-1.0, 0.4))


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("phase", 0.1),
        ("phase-masked", 0.2),
        ("flow", 0.1),
        ("sources", 0.05),
    ],
)
def test_each_method_finds_a_small_offset_of_a_cluster(name, within):
    """Stars by the hundred and no edge that matters: what each of them is made for."""
    case = draw_case(0, "crowded")
    truth = case.exposure.truth
    moved = case.exposure.image.projection.moved(
        truth.ra_offset_arcsec - 0.3, truth.dec_offset_arcsec + 0.2,
        dec_deg=case.exposure.image.dec_deg,
    )  # fmt: skip
    image = replace(case.exposure.image, projection=moved)
    case = replace(case, exposures=(replace(case.exposure, image=image),))
    found = methods.METHODS[name](case)
    assert found.east == pytest.approx(0.3, abs=within)
    assert found.north == pytest.approx(-0.2, abs=within)
