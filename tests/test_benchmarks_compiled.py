"""Nothing is compiled or loaded while a job is timed: what a warm-up reaches, and who sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
from numba import njit

from benchmarks.compiled import names, origins, signatures
from benchmarks.jobs import DataSpec, Job
from benchmarks.peers import family
from benchmarks.peers.compiling import kinds
from benchmarks.records import COUNTED
from benchmarks.runner import Settings, compile_beforehand, in_words, measure
from benchmarks.suites import BENCHMARKS

ROOT = Path(__file__).parent.parent
OURS = {
    name: [job for case in cases("tiny") for job in case if family(job.peer) == "musedask"]
    for name, cases in BENCHMARKS.items()
}
ALL = list(chain.from_iterable(OURS.values()))

WARM = """
import json, sys
from pathlib import Path
from benchmarks.jobs import Job
from benchmarks.peers.compiling import compile_all
jobs = map(Job.from_json, json.loads(sys.argv[1]))
print(json.dumps(sorted(compile_all(jobs, Path(sys.argv[2]), Path(sys.argv[3])))))
"""
"""Prints all that is compiled after the warm-ups."""

TIMED = """
import json, sys, tempfile
from pathlib import Path
from benchmarks.compiled import signatures
from benchmarks.exposures import make_exposures
from benchmarks.jobs import Job, Place
from benchmarks.peers import load
for job in map(Job.from_json, json.loads(sys.argv[1])):
    with tempfile.TemporaryDirectory(dir=sys.argv[3]) as own:
        files = make_exposures(job.data, Path(sys.argv[3], "files"), 1 << 32) if job.data else ()
        load(job.peer)(job, Place(files, Path(sys.argv[2]), Path(own))).run()
print(json.dumps(sorted(signatures())))
"""
"""Prints all that is compiled after what is timed, without a warm-up."""


def ran(code: str, jobs: list[Job], folder: Path, cache: Path | None = None) -> set[str]:
    """What a process prints that is given jobs, a folder of stores and one of its own."""
    (folder / "files").mkdir(exist_ok=True)
    (folder / "stores").mkdir(exist_ok=True)
    own = {} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}
    text = json.dumps([job.to_json() for job in jobs])
    run = subprocess.run(
        [sys.executable, "-c", code, text, folder / "stores", folder], cwd=ROOT,
        env=os.environ | own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


def timed(jobs: list[Job]) -> list[Job]:
    """All that are timed, each way once; graphs are planned, and workers do what threads do."""
    left_out = ("musedask-graph", "musedask-compilation", "musedask-processes")
    chosen = {}
    for job in jobs:
        ways = {k: v for k, v in job.options.items() if k in ("resampling", "methods")}
        data = job.data and (job.data.geometry, job.data.content, job.data.n_channels)
        chosen[job.peer, str(ways), data] = job
    return [job for (peer, *_), job in chosen.items() if peer not in left_out]


@pytest.mark.parametrize("suites", [("stacking",), ("scaling", "export", "reading")])
def test_what_is_timed_needs_nothing_that_was_not_compiled_beforehand(suites, tmp_path):
    jobs = [job for name in suites for job in OURS[name]]
    ready = ran(WARM, jobs, tmp_path)
    needed = ran(TIMED, timed(jobs), tmp_path)
    assert ready
    assert not needed - ready, names(needed - ready)


@pytest.mark.slow
def test_after_compiling_beforehand_no_job_adds_to_an_empty_cache(tmp_path, campaign, monkeypatch):
    if not campaign(0, 1):
        pytest.skip("compiles everything, a minute or two: MUSEDASK_CAMPAIGN=full")
    cache = tmp_path / "numba"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    said: list[str] = []
    compile_beforehand(ALL, Settings("all", "tiny", tmp_path, tmp_path), said.append)
    before = set(cache.rglob("*.nbc"))
    ran(TIMED, timed(ALL), tmp_path)
    assert len(said) == 1
    assert before
    assert set(cache.rglob("*.nbc")) == before


def test_a_fault_while_compiling_is_said_and_left_to_the_job_that_has_it(tmp_path):
    said: list[str] = []
    broken = Job("case", "musedask", "broken", DataSpec(2, 8, 40), {"resampling": "cubic"})
    compile_beforehand([broken], Settings("stacking", "tiny", tmp_path, tmp_path), said.append)
    assert "not all was compiled (status 1)" in said[-1]
    assert "cubic" in said[-1]


class TestKinds:
    job = Job("case", "musedask", "label", DataSpec(12, 64, 320), {"resampling": "exact"})

    def test_what_changes_no_code_makes_no_other_kind(self):
        series = [replace(self.job, data=DataSpec(n, 64, 320), label=str(n)) for n in (6, 12, 48)]
        others = [
            replace(
                self.job, peer="musedask-processes", options={**self.job.options, "processes": 2}
            ),
            replace(self.job, peer="musedask-compilation", cache="any"),
            replace(self.job, options={**self.job.options, "role": "most", "once": True}),
        ]
        assert len(kinds([self.job, *series, *others])) == 1

    @pytest.mark.parametrize(
        "other",
        [
            replace(job, peer="musedask-kernel"),
            replace(job, options={"resampling": "lanczos3"}),
            replace(job, options={**job.options, "methods": ["mean"]}),
            replace(job, data=DataSpec(12, 8, 320)),
            replace(job, data=DataSpec(12, 64, 320, "diamond")),
            replace(job, data=DataSpec(12, 64, 320, content="flat")),
        ],
        ids=lambda other: f"{other.peer} {other.options} {other.data}",
    )
    def test_what_may_change_code_is_another_kind(self, other):
        assert len(kinds([self.job, other])) == 2

    def test_all_of_the_suites_are_of_a_kind(self):
        found = kinds(ALL)
        assert {job.peer for job in found} == {
            job.peer
            for job in ALL
            if job.peer not in ("musedask-processes", "musedask-compilation")
        }
        assert len(found) < len(ALL)


class TestSignatures:
    @pytest.fixture
    def module(self, monkeypatch):
        """A module of the package with a compiled function, which another one has imported."""

        @njit
        def double(x):
            return 2 * x

        home, other = ModuleType("musedask.made_up"), ModuleType("musedask.other")
        double.__module__ = home.__name__
        home.double = other.double = double
        monkeypatch.setitem(sys.modules, home.__name__, home)
        monkeypatch.setitem(sys.modules, other.__name__, other)
        return home

    def test_a_function_is_there_once_for_each_type_that_it_was_called_with(self, module):
        before, known = signatures(), origins()
        assert not any("made_up" in one for one in before)
        module.double(1)
        module.double(1.0)
        new = signatures() - before
        assert sorted(one.rpartition("double")[2] for one in new) == ["(float64,)", "(int64,)"]
        (name,) = names(new)
        assert name.startswith("made_up.")
        assert name.endswith("double")
        assert origins() == (known[0], known[1] + 2)

    def test_those_of_others_are_not_looked_at(self, monkeypatch):
        @njit
        def triple(x):
            return 3 * x

        elsewhere = ModuleType("musedasks")
        triple.__module__ = elsewhere.__name__
        elsewhere.triple = triple
        monkeypatch.setitem(sys.modules, elsewhere.__name__, elsewhere)
        triple(1)
        assert not any("triple" in one for one in signatures())


@pytest.mark.parametrize(
    ("name", "late"), [("compiles_late", ("made_up.double",)), ("compiles_early", ())]
)
def test_what_the_warm_up_did_not_reach_is_told(name, late, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    job = Job("case", f"stand_in_peers:{name}", name)
    record = measure(job, 0, Settings("stacking", "tiny", tmp_path, tmp_path))
    assert record.state == COUNTED, record.reason
    assert record.late == late
    assert ("meanwhile: made_up.double" in in_words(record)) == bool(late)
