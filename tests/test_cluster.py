"""Where Dask runs: sizes by cores and memory, this process, processes, an address, SLURM."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from http.client import HTTPException
from importlib.util import find_spec
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import dask.config
import distributed
import psutil
import pytest
from distributed.comm.core import CommClosedError

from musedask.cluster import (
    GIB,
    bytes_of,
    cores,
    ends_of,
    machine_memory,
    memory_of,
    open_cluster,
    open_now,
    worker_end,
)
from musedask.cluster.performance import performance_report
from musedask.cluster.sizes import allocated_cores, allocated_memory
from musedask.cluster.slurm import slurm_options
from musedask.config import ClusterConfig, cluster_config
from musedask.errors import ClusterError, FileError, InputError, MissingError


def listening():
    """Ports on which this process and its children listen."""
    here = psutil.Process()
    return [
        connection.laddr.port
        for one in (here, *here.children(recursive=True))
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


def process_id():
    return os.getpid()


def test_threads_are_in_this_process_and_as_many_as_asked_for():
    with open_cluster(ClusterConfig(workers=3)) as cluster:
        assert open_now() is cluster
        assert cluster.client.submit(process_id).result() == os.getpid()
        assert sum(cluster.client.nthreads().values()) == cluster.workers == 3
    assert open_now() is None


def test_without_numbers_it_is_what_the_machine_has():
    with open_cluster(ClusterConfig(memory="1 GiB")) as cluster:
        assert (cluster.workers, cluster.memory) == (cores(), GIB)
    with open_cluster() as cluster:
        assert (cluster.workers, cluster.memory) == (cores(), machine_memory())


def test_processes_run_one_job_at_a_time_and_listen_to_this_machine_only():
    with open_cluster(ClusterConfig(kind="local", workers=2)) as cluster:
        assert sorted(cluster.client.nthreads().values()) == [1, 1]
        addresses = [*cluster.client.nthreads(), cluster.client.scheduler.address]
        assert all(address.startswith("tls://127.0.0.1:") for address in addresses)
        assert cluster.client.submit(process_id).result() != os.getpid()


async def report_for_ever(dask_worker):
    """Let a worker be about to tell the scheduler that it lives, on a connection that never is."""
    dask_worker.rpc.available.clear()
    dask_worker.rpc._connect = lambda addr, timeout=None: asyncio.sleep(60)
    asyncio.get_running_loop().create_task(dask_worker.heartbeat())


def test_a_worker_that_is_stopped_while_it_reports_says_nothing(capfd):
    with open_cluster(ClusterConfig(kind="local", workers=1)) as cluster:
        cluster.client.run(report_for_ever)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("wanted", ["this_is_for_a_test", ["this_is_for_a_test"]])
def test_what_dasks_configuration_loads_into_workers_is_loaded(tmp_path, monkeypatch, wanted):
    (tmp_path / "this_is_for_a_test.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with (
        dask.config.set({"distributed.worker.preload": wanted}),
        open_cluster(ClusterConfig(kind="local", workers=1)) as cluster,
    ):
        (loaded,) = cluster.client.run(lambda: "this_is_for_a_test" in sys.modules).values()
    assert loaded


def test_what_else_a_worker_has_to_say_is_not_lost():
    closing, other = CommClosedError("ConnectionPool closing."), CommClosedError("in <TCP>: Stream")
    for error, said in ((closing, False), (other, True), (ValueError("closing"), True)):
        record = logging.LogRecord("distributed.worker", 40, "", 1, "", (), (None, error, None))
        assert worker_end.is_worth_saying(record) is said
    assert worker_end.is_worth_saying(logging.LogRecord("x", 40, "", 1, "", (), None))


def test_a_scheduler_elsewhere_is_used_by_its_address():
    with open_cluster(ClusterConfig(kind="local", workers=2, tls=False)) as cluster:
        address = cluster.client.scheduler.address
        with open_cluster(ClusterConfig(kind="address", address=address)) as other:
            assert open_now() is other
            assert sorted(other.client.nthreads().values()) == [1, 1]
            assert other.memory is None
            other.check()
        assert open_now() is cluster


def test_a_scheduler_that_has_gone_is_an_error_and_not_a_failure_of_each_task():
    theirs = distributed.LocalCluster(n_workers=1, host="127.0.0.1", dashboard_address=None)
    config = ClusterConfig(kind="address", address=theirs.scheduler_address)
    with theirs, open_cluster(config) as ours:
        futures = [ours.client.submit(time.sleep, 60, pure=False) for _ in range(3)]
        theirs.close()
        with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:\d+ does not answer"):
            list(ends_of(futures))


@pytest.mark.parametrize("kind", ["threads", "local"])
def test_pages_of_dask_are_found_only_by_who_knows_their_address(kind):
    with open_cluster(ClusterConfig(kind=kind, workers=1)) as cluster:
        parts = urlsplit(cluster.dashboard)
        assert parts.hostname == "127.0.0.1"
        assert len(parts.path) > 20
        assert f"-L {parts.port}:127.0.0.1:{parts.port} " in cluster.tunnel
        secret = parts.path.removesuffix("/status")
        with urlopen(f"http://{parts.netloc}{secret}/json/counts.json") as answer:
            assert answer.status == 200
        pages = 0
        for port in listening():
            for path in (
                "/",
                "/status",
                "/json/counts.json",
                "/info/main/workers.html",
                "/metrics",
            ):
                try:
                    urlopen(f"http://127.0.0.1:{port}{path}", timeout=5)
                except HTTPError as err:
                    if err.code != 404:
                        raise
                    pages += 1
                except (OSError, HTTPException):  # not HTTP at all
                    break
                else:
                    pytest.fail(f"{path} is there for everybody")
    assert pages == 5 * 2  # scheduler and worker


def test_who_has_no_keys_cannot_submit_work_to_local_processes():
    with open_cluster(ClusterConfig(kind="local", workers=1)) as cluster:
        address = cluster.client.scheduler.address
        for tried in (address, address.replace("tls:", "tcp:")):
            stranger = ClusterConfig(kind="address", address=tried)
            with pytest.raises(InputError, match="no Dask scheduler"), open_cluster(stranger):
                pass


@pytest.mark.parametrize("kind", ["threads", "local"])
def test_nobody_on_another_machine_can_reach_it(kind):
    with open_cluster(ClusterConfig(kind=kind, workers=1)):
        here = psutil.Process()
        found = [
            connection.laddr.ip
            for one in (here, *here.children(recursive=True))
            for connection in one.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    assert set(found) == {"127.0.0.1"}


def test_nobody_at_an_address_is_an_error_that_names_it(monkeypatch):
    config = ClusterConfig(kind="address", address="tcp://127.0.0.1:1")
    monkeypatch.setattr("musedask.cluster.connecting.CONNECT_S", 0.5)
    wanted = r"tcp://127\.0\.0\.1:1.*no Dask scheduler"
    with pytest.raises(InputError, match=wanted), open_cluster(config):
        pass
    assert open_now() is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("16 GiB", 16 * GIB), ("16GiB", 16 * GIB), ("1.5 GB", 1_500_000_000), ("500 mb", 500_000_000),
     ("2 TiB", 2048 * GIB), ("1234", 1234), ("7k", 7000)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text, size):
    assert bytes_of(text) == size
    assert memory_of(ClusterConfig(memory=text)) == size


@pytest.mark.parametrize("text", ["much", "-1 GiB", "GiB", "0 GiB", "1 XiB", "1,5 GB", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match=r"memory = .*'16 GiB'"):
        bytes_of(text)


def test_the_smallest_limit_of_the_control_groups_counts(tmp_path, monkeypatch):
    whole = machine_memory(tmp_path)
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_memory(tmp_path) == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert machine_memory(tmp_path) == 1_000_000
    (tmp_path / "memory.max").write_text(f"{2 * whole}\n")
    assert machine_memory(tmp_path) == whole


def test_a_site_of_slurm_is_laid_under_what_the_run_says():
    site = {"jobqueue": {"mysite": {"queue": "long", "job-extra-directives": ["-A x"], "cores": 4}}}
    config = ClusterConfig(
        kind="slurm", site="mysite", memory="4 GiB", options=(("walltime", "08:00:00"),)
    )
    with dask.config.set(site):
        options = slurm_options(config)
    wanted = {
        "queue": "long", "cores": 4, "processes": 1, "memory": "4GiB", "walltime": "08:00:00",
        "job_extra_directives": ["-A x", "--no-requeue", "--nodes=1"],
    }  # fmt: skip
    assert {key: options[key] for key in wanted} == wanted
    with pytest.raises(MissingError, match=r"jobqueue\.elsewhere"):
        cluster_config({"site": "elsewhere"})


# --- sites, stages and SLURM's allocations -----------------------------------------------------


def test_a_user_s_dask_configuration_wins_over_a_site_s_file_and_the_run_over_both(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MUSEDASK_SITES", str(tmp_path))
    (tmp_path / "big.toml").write_text(
        '[cluster]\nworkers = 7\nmemory = "4 GiB"\n[cluster.options]\nqueue = "file"\n'
        'walltime = "1:00:00"\naccount = "file"\n'
    )
    given = {"site": "big", "memory": "9 GiB", "options": {"account": "run"}}
    with dask.config.set({"jobqueue.big": {"walltime": "2:00:00", "account": "yaml"}}):
        config = cluster_config(given)
        options = slurm_options(config)
    assert (config.kind, config.workers) == ("slurm", 7)
    wanted = {"memory": "9GiB", "queue": "file", "walltime": "2:00:00", "account": "run"}
    assert {key: options[key] for key in wanted} == wanted


def test_threads_and_local_are_sites_without_a_file():
    assert cluster_config({"site": "local", "workers": 3}).kind == "local"
    with open_cluster("threads") as cluster:
        assert cluster.kind == "threads"


@pytest.mark.parametrize(
    ("text", "says", "error"),
    [("[cluster", "is no TOML", FileError), ("[other]", "has no key 'other'", InputError),
     ("[cluster]\nworker = 3", "'workers'", InputError)],
)  # fmt: skip
def test_a_site_s_file_that_cannot_be_used_is_named(text, says, error, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSEDASK_SITES", str(tmp_path))
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(error, match=says):
        cluster_config({"site": "bad"})
    with pytest.raises(InputError, match="not a path"):
        cluster_config({"site": "../bad"})


def test_each_stage_has_its_own_keys_over_the_common_ones():
    config = cluster_config({
        "kind": "slurm", "workers": 2, "options": {"queue": "all", "walltime": "1:00:00"},
        "reduce": {"workers": 9, "cores": 4, "options": {"queue": "many"}},
        "scipost": {"memory": "99 GiB"},
        "stack": {"cores": 8},
    })  # fmt: skip
    plain, reduce, scipost, stack = map(config.of_stage, ("", "reduce", "scipost", "stack"))
    assert (plain.workers, reduce.workers, scipost.workers, stack.workers) == (2, 9, 9, 2)
    assert scipost.memory == "99 GiB"
    assert dict(scipost.options) == {"queue": "many", "walltime": "1:00:00"}
    assert dict(stack.options) == {"queue": "all", "walltime": "1:00:00"}
    # esorex: one job a worker, with its cores; stacking: a thread for each.
    many = slurm_options(reduce, "reduce")
    wide = slurm_options(stack, "stack")
    assert [many[key] for key in ("cores", "job_cpu")] == [1, 4]
    assert [wide[key] for key in ("cores", "job_cpu")] == [8, 8]


@pytest.mark.parametrize(
    ("table", "says"),
    [({"reduce": {"worker": 1}}, r"\[cluster\.reduce\].*'workers'"),
     ({"stack": {"cores": -1}}, "cores = -1"), ({"stack": 3}, r"\[cluster\.stack\] = 3"),
     ({"reduce": {"stages": []}}, "no key 'stages'"), ({"site_options": []}, "no key")],
)  # fmt: skip
def test_stages_that_cannot_be_are_refused_before_anything_is_opened(table, says):
    with pytest.raises(InputError, match=says):
        cluster_config(table)


@pytest.mark.parametrize("value", ["a; rm -rf x", "$(id)", "a\nb", "`id`"])
def test_no_value_becomes_a_command_in_the_script_of_a_job(value):
    for key in ("queue", "account", "walltime", "job_name"):
        with pytest.raises(InputError, match=key):
            slurm_options(ClusterConfig(kind="slurm", options=((key, value),)))
    with pytest.raises(InputError, match="folder"):
        slurm_options(ClusterConfig(kind="slurm", folder=value))


def test_inside_a_job_of_slurm_only_what_it_has_counts(monkeypatch):
    whole = machine_memory()
    inside = {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "1", "SLURM_MEM_PER_CPU": "300"}
    for name, value in inside.items():
        monkeypatch.setenv(name, value)
    assert (cores(), machine_memory()) == (1, 300 << 20)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "500")
    assert machine_memory() == 500 << 20
    assert allocated_memory({**inside, "SLURM_CPUS_ON_NODE": "3"}) == 900 << 20
    assert allocated_memory({"SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "0"}) is None
    assert allocated_cores({"SLURM_CPUS_ON_NODE": "3"}) is None
    monkeypatch.delenv("SLURM_JOB_ID")
    assert machine_memory() == whole


def test_a_report_of_performance_is_a_page_or_says_what_it_needs(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    with open_cluster(ClusterConfig(workers=1)):
        if find_spec("bokeh") is not None:
            with performance_report(path):
                pass
            assert "<html" in path.read_text()
        monkeypatch.setattr("musedask.cluster.performance.find_spec", lambda name: None)
        wanted = r"bokeh.*musedask\[dashboard\]"
        with pytest.raises(MissingError, match=wanted), performance_report(path):
            pass
