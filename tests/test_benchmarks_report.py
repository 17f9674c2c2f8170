"""Ratios, targets, the report and the model say what the records say."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
from made_records import made

from benchmarks.model import (
    COSMOS,
    LARGE,
    Build,
    Cluster,
    Rates,
    duration,
    estimate,
    measured_rates,
)
from benchmarks.ratios import Side, Spread, newest, ratio
from benchmarks.records import FAILED, UNAVAILABLE, WRONG
from benchmarks.reduction.cases import reduction
from benchmarks.report import write_report
from benchmarks.suites import BENCHMARKS, SIZES, chosen
from benchmarks.targets import MET, MISSED, TARGETS, UNKNOWN, Target, once_without_target
from musedask import MissingError

OURS = Side("stacking", "peers", "musedask", "wall_s")
PEER = Side("stacking", "peers", "mpdaf-median", "wall_s")


class TestRatios:
    def test_only_what_was_measured_in_one_round_is_compared(self):
        records = [made("musedask", 1.0), made("mpdaf-median", 10.0),
                   made("musedask", 2.0, repeat=1), made("mpdaf-median", 40.0, repeat=1),
                   made("mpdaf-median", 999.0, repeat=2),
                   made("musedask", 5.0, repeat=2, run="other"),
                   made("musedask", 4.0, repeat=3),
                   made("mpdaf-median", 60.0, repeat=3)]  # fmt: skip
        assert ratio(PEER, OURS, records) == Spread(15.0, 10.0, 20.0, 3)

    def test_what_was_measured_once_stands_beside_all_rounds_of_the_other(self):
        ours = [made("musedask", wall, repeat=n) for n, wall in enumerate((4.0, 1.0, 2.0))]
        peer = made("mpdaf-median", 40.0)
        assert ratio(PEER, OURS, [*ours, peer]) == Spread(20.0, 10.0, 40.0, 3)
        assert ratio(OURS, PEER, [*ours, peer]) == Spread(0.05, 0.025, 0.1, 3)
        assert ratio(PEER, OURS, [*ours, replace(peer, run="other")]).n == 0

    def test_what_is_wrong_does_not_count(self):
        records = [made("musedask", 1.0), made("mpdaf-median", 10.0, state=WRONG)]
        assert ratio(PEER, OURS, records).n == 0
        assert math.isnan(ratio(PEER, OURS, records).middle)

    def test_a_role_finds_a_job_as_its_label_does(self):
        record = made("48 exposures", 2.0, options={"role": "most"})
        assert replace(OURS, name="most").matches(record)
        assert replace(OURS, name="48 exposures").matches(record)
        assert not OURS.matches(record)

    def test_the_newest_run_is_the_one_that_counts(self):
        old, new = made("musedask", 9.0, run="a"), made("musedask", 1.0, run="b")
        other = made("musedask", 5.0, run="a", size="full")
        assert newest([new, old, other]) == [new, other]


class TestTargets:
    def test_at_least_and_at_most(self):
        up = Target("up", "at least", 10.0, PEER, OURS)
        down = Target("down", "at most", 10.0, PEER, OURS)
        for factor, verdicts in ((9.9, (MISSED, MET)), (10.1, (MET, MISSED))):
            records = [made("musedask", 1.0), made("mpdaf-median", factor)]
            assert (
                up.verdict(up.measured(records)),
                down.verdict(down.measured(records)),
            ) == verdicts
        assert up.verdict(up.measured([made("musedask", 1.0)])) == UNKNOWN

    def test_each_target_is_measured_by_a_job_of_the_benchmarks(self):
        jobs = {
            (benchmark, job.case, name)
            for benchmark, cases in {**BENCHMARKS, "reduction": reduction}.items()
            for case in cases("full")
            for job in case
            for name in (job.label, job.options.get("role"))
        }
        for target in TARGETS:
            for side in (target.above, target.below):
                if side is not None:
                    assert (side.benchmark, side.case, side.name) in jobs, target.text

    def test_at_a_quick_size_what_no_target_needs_is_measured_once(self):
        once = {
            (name, job.case, job.label)
            for name, cases in BENCHMARKS.items()
            for case in once_without_target(name, cases("small"))
            for job in case
            if job.options.get("once")
        }
        assert {label for _, case, label in once if case == "peers"} == {
            "mpdaf-pycombine", "cosmos-adaptive", "reproject-coadd", "reference"
        }  # fmt: skip
        labels = {label for name, case, label in once if (name, case) == ("scaling", "exposures")}
        assert labels == {"6 exposures", "24 exposures"}  # 12 is the base, 48 the most
        assert {label for _, case, label in once if case == "export"} == {"floor-write"}
        assert not any(case in ("cold", "ways") for _, case, _ in once)
        # Memory and numbers of tasks are held to targets, but do not differ from round to round.
        assert {case for _, case, _ in once} >= {"wavelengths", "area", "graph", "whole"}
        assert ("reading", "reading", "fits") in once
        assert ("reading", "reading", "store") not in once


class TestSuites:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_labels_tell_the_jobs_of_a_case_apart(self, name, size):
        for case in BENCHMARKS[name](size):
            assert len({job.label for job in case}) == len(case) > 0
            assert len({job.case for job in case}) == 1

    @pytest.mark.parametrize("size", SIZES)
    def test_a_series_has_a_base_and_a_most(self, size):
        for case in BENCHMARKS["scaling"](size):
            roles = [job.options.get("role") for job in case]
            if case[0].case in ("exposures", "wavelengths", "area", "graph"):
                assert roles[-1] == "most"
                assert roles.count("base") == roles.count("most") == 1

    def test_peers_are_chosen_by_name_and_family_beside_musedask(self):
        (case,) = chosen(BENCHMARKS["stacking"]("tiny"), ("reference", "mpdaf"))
        names = [job.peer for job in case]
        assert names == [
            "musedask",
            "mpdaf-median",
            "mpdaf-combine",
            "mpdaf-pycombine",
            "reference",
        ]
        (case,) = chosen(BENCHMARKS["export"]("tiny"), ("mpdaf",))
        assert [job.peer for job in case] == ["musedask-export", "mpdaf-write"]
        everything = BENCHMARKS["stacking"]("tiny")
        assert chosen(everything, ()) == everything


class TestReport:
    records = (
        made("musedask", 1.0), made("mpdaf-median", 12.0), made("musedask", 1.0, repeat=1),
        made("mpdaf-median", 14.0, repeat=1), made("xarray-dask", 4.0, others_cpu_s=3.0),
        made("swarp", 1.0, state=UNAVAILABLE, reason="SWarp | is not\ninstalled"),
        made("cosmos-interp", 1.0, state=FAILED, reason="ended with status 1"),
        made("6 exposures", 1.0, case="exposures", benchmark="scaling"),
        made("12 exposures", 1.2, case="exposures", benchmark="scaling", options={"role": "base"}),
        made("48 exposures", 1.3, case="exposures", benchmark="scaling", options={"role": "most"}),
    )  # fmt: skip

    def test_the_page_has_ratios_with_their_spread_and_what_is_missing(self, tmp_path):
        path = write_report(self.records, tmp_path)
        lines = path.read_text().splitlines()
        assert "| mpdaf CubeList.median, wall | at least 10 x | 13 x (12 to 14) | met |" in lines
        dask = [line for line in lines if line.startswith("| xarray + Dask")]
        assert dask == [
            "| xarray + Dask graph of the same, wall | at least 8 x | 4 x (4 to 4) | **not met** |"
        ]
        (mpdaf,) = [line for line in lines if line.startswith("| mpdaf-median |")]
        assert mpdaf.split(" | ")[5] == "13 (12 to 14)"
        assert any(line.startswith("| xarray-dask * |") for line in lines)
        assert any(
            line.startswith("| swarp | unavailable: SWarp / is not installed |") for line in lines
        )
        assert any(
            line.startswith("| cosmos-interp | failed: ended with status 1 |") for line in lines
        )
        assert "Some CPU, 2 cores" in path.read_text()

    def test_targets_of_a_benchmark_that_was_not_run_are_left_out(self, tmp_path):
        text = write_report(self.records, tmp_path).read_text()
        assert "| mpdaf CubeList.median, cpu |" in text
        assert "nothing to do" not in text
        again = made("musedask", 2.0, benchmark="reduction", case="again")
        assert "| a second reduction, nothing to do | at most 5 s | 2 s | met |" in (
            write_report([*self.records, again], tmp_path).read_text()
        )

    def test_what_compiled_or_loaded_while_it_was_timed_is_marked_and_named(self, tmp_path):
        late = made("floor-read", 1.0, late=("stacking.kernels.f",))
        lines = write_report([*self.records, late], tmp_path).read_text().splitlines()
        assert any(line.startswith("| floor-read ! |") for line in lines)
        assert [line for line in lines if "(marked with !)" in line] == [
            "- 1 of them loaded or compiled code while they were timed (marked with !): "
            "peers: floor-read."
        ]
        assert "marked with !" not in write_report(self.records, tmp_path).read_text()

    def test_what_memory_cost_that_was_new_is_told(self, tmp_path):
        machine = {"cpu": "Some CPU", "cores": 2, "memory_gib": 24.0, "system": "Linux 6"}
        runs = [
            made(name, 1.0, machine={**machine, "touched_gib": 13.0, "touch_s_per_gib": seconds})
            for name, seconds in (("musedask", 0.5), ("mpdaf-median", 1.5), ("swarp", 0.25))
        ]
        text = write_report(runs, tmp_path).read_text()
        assert "- First use of a GiB of memory, beforehand: 0.5 s (0.25 to 1.5)" in text
        assert text.count("Some CPU") == 1
        assert "First use" not in write_report(self.records, tmp_path).read_text()

    def test_only_the_last_run_is_told(self, tmp_path):
        old = [made("musedask", 77.0, run="run0"), made("mpdaf-median", 1.0, run="run0")]
        text = write_report([*old, *self.records], tmp_path).read_text()
        assert text == write_report(self.records, tmp_path).read_text()

    def test_benchmarks_stand_in_the_order_in_which_they_are_run(self, tmp_path):
        text = write_report(self.records[::-1], tmp_path).read_text()
        assert text.index("### stacking: peers") < text.index("### scaling: exposures")

    def test_each_table_has_rows_as_wide_as_its_head(self, tmp_path):
        lines = write_report(self.records, tmp_path).read_text().splitlines()
        width = 0
        for line in lines:
            width = (width or line.count("|")) if line.startswith("|") else 0
            assert line.count("|") == width

    def test_plots_are_pictures_and_are_shown(self, tmp_path):
        text = write_report(self.records, tmp_path).read_text()
        for name in ("peers_small.png", "scaling_small.png"):
            assert f"({name})" in text
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

    def test_times_of_the_tiny_size_are_held_to_no_target(self, tmp_path):
        tiny = [replace(record, size="tiny") for record in self.records]
        text = write_report(tiny, tmp_path).read_text()
        assert "not met" not in text
        assert "mean nothing" in text

    def test_nothing_half_written_is_left(self, tmp_path):
        write_report(self.records, tmp_path)
        assert not list(tmp_path.glob("*.partial"))


class TestModel:
    rates = Rates(in_s=5e-9, out_s=0.0, task_s=1e-3, read_share=1.0, start_s=5.0, size="full")
    ample = Cluster(32, 1e15, 1e15)

    def test_a_cosmos_build_has_the_size_that_it_has(self):
        assert COSMOS.n_voxels == 295 * 3681 * 320 * 320
        assert COSMOS.bytes_in == 8 * COSMOS.n_voxels
        assert COSMOS.bytes_out == 3 * 14 * 17 * 3681 * 320 * 320

    def test_processors_bound_where_files_cost_nothing(self):
        found = duration(LARGE, self.rates, self.ample, 1)
        assert found.bound == "processors"
        assert math.isclose(found.compute_s, LARGE.n_voxels * 5e-9 / 32, rel_tol=0.01)
        assert duration(LARGE, self.rates, self.ample, 10).compute_s < 0.12 * found.compute_s

    def test_the_file_system_bounds_where_it_is_slow_and_then_nodes_do_not_help(self):
        slow = Cluster(32, 2e9, 4e9)
        ten, hundred = (duration(COSMOS, self.rates, slow, n) for n in (10, 100))
        assert ten.bound == hundred.bound == "file system"
        wanted = (COSMOS.bytes_in + COSMOS.bytes_out) / 4e9
        assert math.isclose(ten.files_s, wanted)
        assert math.isclose(hundred.files_s, wanted)
        assert math.isclose(duration(COSMOS, self.rates, slow, 1).files_s, 2 * wanted)

    def test_no_more_cores_than_tasks_are_of_use(self):
        one = Build("one block", 12, 1, 32)
        assert one.n_tasks == 1
        found = [duration(one, self.rates, self.ample, n).compute_s for n in (1, 100)]
        assert found[0] == found[1] == one.n_voxels * 5e-9

    def test_the_last_wave_of_tasks_is_waited_for(self):
        build = Build("33 tasks", 12, 33, 16)
        assert build.n_tasks == 33
        found = duration(build, self.rates, self.ample, 1)
        assert math.isclose(found.compute_s, build.n_voxels * 5e-9 / 33 * 2)

    def test_what_comes_out_costs_too(self):
        rates = replace(self.rates, in_s=0.0, out_s=1e-6)
        build = Build("one block", 12, 1, 32)
        assert duration(build, rates, self.ample, 1).compute_s == 32 * 320**2 * 1e-6

    @staticmethod
    def scaling_records(size, in_s, out_s):
        """Of an invented machine: a second whatever is done, and so much a voxel."""
        records = []
        sizes = {("exposures", "base"): (12, 16), ("exposures", "most"): (48, 16),
                 ("wavelengths", "base"): (6, 64), ("wavelengths", "most"): (6, 256)}  # fmt: skip
        for (case, role), (n, channels) in sizes.items():
            voxels, out = n * channels * 1000, channels * 1100
            records.append(
                made(f"{n} {channels}", 1.0, size=size, benchmark="scaling", case=case,
                     options={"role": role}, n_voxels=voxels, start_s=4.0,
                     cpu_s=1.0 + in_s * voxels + out_s * out, metrics={"voxels_out": float(out)},
                     traffic={"asked_read": 5_000_000 + 12 * voxels})
            )  # fmt: skip
        graph = {"plan_s": 0.3, "optimise_s": 0.1, "blocks": 58.0}
        records.append(made("100", 1.0, size=size, benchmark="scaling", case="graph",
                            options={"role": "most"}, metrics=graph))  # fmt: skip
        return records

    def test_rates_are_what_the_machine_of_the_largest_size_does(self):
        records = [*self.scaling_records("small", 9e-7, 9e-7),
                   *self.scaling_records("full", 5e-7, 2e-6)]  # fmt: skip
        found = measured_rates(records)
        wanted = Rates(5e-7, 2e-6, 0.4 / 58, 1.5, 4.0, "full")
        for name, value in asdict(wanted).items():
            assert getattr(found, name) == (value if name == "size" else pytest.approx(value)), name
        assert "| 100 |" in estimate(found, self.ample)

    def test_without_scaling_there_is_no_model(self):
        with pytest.raises(MissingError, match="scaling"):
            measured_rates([made("musedask", 1.0)])
        half = [r for r in self.scaling_records("full", 5e-7, 2e-6) if r.job.case != "wavelengths"]
        with pytest.raises(MissingError, match="scaling"):
            measured_rates(half)
        with pytest.raises(MissingError, match="small or full"):
            measured_rates(self.scaling_records("tiny", 5e-7, 2e-6))
