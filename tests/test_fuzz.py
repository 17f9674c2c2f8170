"""A short campaign of damaged input, and a campaign that is seen to find what is wrong.

The long one is ``make fuzz``; what it found is kept in the tests of the readers.
"""

from __future__ import annotations

import signal
import warnings

import pytest

from fuzz import campaign
from fuzz.campaign import in_turn, run_campaign
from fuzz.case import random_of, run_case
from fuzz.damage import damaged
from fuzz.fits_damage import damaged_fits, joined, split
from fuzz.target import Target
from fuzz.targets import BY_NAME, TARGETS
from fuzz.text_damage import damaged_json, damaged_text, damaged_xml
from musedask.errors import FileError, MusedaskWarning

QUICK = tuple(t for t in TARGETS if t.name not in ("musedask stack", "musedask info STORE"))
"""Without the kernels of a stack, which may have to be compiled."""


def test_a_short_campaign_has_no_findings():
    cases = [case for case, _ in zip(in_turn(QUICK), range(600), strict=False)]
    report = run_campaign(cases, 20, seconds=400, processes=1)
    said = [f"{one[0].target} {one[0].number}: {one[0].what}\n{one[0].detail}"
            for one in report.findings.values()]  # fmt: skip
    assert not said, "\n".join(said)
    assert report.n_cases == 600
    assert set(report.outcomes) == {target.name for target in QUICK}


@pytest.mark.parametrize("change", [damaged, damaged_fits, damaged_text, damaged_json, damaged_xml])
def test_damage_is_the_same_for_the_same_seed_and_another_for_others(change):
    seed = b'{"a": [1, 2, {"b": "x y"}], "c": "<a b=\'1\'>?>"}' * (
        1 if change is damaged_json else 9
    )
    made = [change(random_of(1, "a", n), seed) for n in range(40)]
    assert made == [change(random_of(1, "a", n), seed) for n in range(40)]
    assert len(set(made)) > 20


def test_headers_are_taken_apart_and_put_together():
    unit = joined([b"SIMPLE  =                    T".ljust(80), b"NAXIS   =                    0"])
    data = b"\1" * 2880
    extension = joined([b"XTENSION= 'IMAGE   '"])
    parts = split(unit + data + extension)
    assert [(len(cards), body) for cards, body in parts] == [(2, data), (1, b"")]
    assert b"".join(joined(cards) + body for cards, body in parts) == unit + data + extension


def prepare(rng, seeds, folder):
    (folder / "input").write_bytes(rng.randbytes(10))
    return folder / "input"


def raises(error):
    def read(path):
        raise error

    return read


def warns(path, category=RuntimeWarning, times=1):
    for n in range(times):
        warnings.warn(f"{path} {n}", category, stacklevel=1)


def leaves_open(path, kept=[]):  # noqa: B006
    kept.append(path.open("rb"))


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda path: None, ""),
        (lambda path: raises(FileError(f"{path}: bad"))(path), ""),
        (raises(KeyError("a")), "traceback"),
        (raises(SystemExit(1)), "traceback"),
        (raises(MemoryError()), "traceback"),
        (raises(FileError("something is bad")), "unnamed"),
        (warns, "warning"),
        (lambda path: warns(path, MusedaskWarning), ""),
        (lambda path: warns(path, MusedaskWarning, 20), "flood"),
        (lambda path: path.with_name("product").touch(), "wrote"),
        (lambda path: path.write_bytes(b"other"), "wrote"),
        (lambda path: path.chmod(0o600), "wrote"),
        (leaves_open, "left open"),
    ],
)
def test_a_reader_that_does_wrong_is_found_out(read, kind, tmp_path):
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    verdict = run_case(Target("wrong", prepare, read), 1, 1, tmp_path, tmp_path)
    assert verdict.kind == kind
    assert verdict.outcome == ("finding" if kind else verdict.outcome)
    assert not (tmp_path / "case").exists()


def test_a_reader_that_never_raises_may_not_raise(tmp_path):
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    target = Target("wrong", prepare, raises(FileError("input")), never_raises=True)
    assert run_case(target, 1, 1, tmp_path, tmp_path).kind == "raises"


CHILD = """
import os, sys, time
for line in sys.stdin:
    number = int(line.split()[0])
    if number == 1: os.kill(os.getpid(), {crash})
    if number == 2: time.sleep(1000)
    print('{{"outcome": "result"}}', flush=True)
"""


def test_crashes_and_hangs_are_findings_and_the_campaign_goes_on(tmp_path, monkeypatch):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(crash=int(signal.SIGBUS)))
    popen = campaign.subprocess.Popen

    def started(command, **options):
        return popen([command[0], str(script)], **options)

    monkeypatch.setattr(campaign.subprocess, "Popen", started)
    monkeypatch.setattr(campaign, "_seeds", lambda folder: folder)
    monkeypatch.setattr(campaign, "CASE_S", 2.0)
    monkeypatch.setattr(campaign, "START_S", 8.0)
    report = run_campaign([("x", n) for n in range(5)], 0, seconds=100, processes=2)
    assert report.outcomes["x"] == {"result": 3, "finding": 2}
    assert {kind for _, kind, _ in report.findings} == {"crash", "hang"}
    assert any("SIGBUS" in what for _, _, what in report.findings)


def test_each_target_has_its_turn():
    one_turn = sum(target.weight for target in TARGETS)
    names = [name for (name, _), _ in zip(in_turn(TARGETS), range(one_turn), strict=False)]
    assert set(names) == set(BY_NAME)
