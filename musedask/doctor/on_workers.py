"""A worker that really starts, and what it is like where it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from musedask.cluster import Cluster, ends_of, open_cluster
from musedask.config import ClusterConfig
from musedask.doctor.finding import Finding, bad, doubtful, good
from musedask.doctor.places import pipeline
from musedask.doctor.probe import Probe, look
from musedask.errors import MusedaskError


def examine_workers(
    config: ClusterConfig, folder: Path, token: str, here: Probe, wait_s: float
) -> Iterator[Finding]:
    """Start a worker as a reduction would, and let it look around.

    Parameters
    ----------
    config
        Where.
    folder
        Where work is to be done.
    token
        File in the folder by which the worker knows that it sees the same one.
    here
        What this machine is like.
    wait_s
        How long to wait for a worker.
    """
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(open_cluster(replace(config, workers=1), "reduce"))
            there = _probed(cluster, folder, token, wait_s)
        except MusedaskError as err:
            yield bad("worker", str(err), "mend what stands there; 'musedask doctor' looks again")
            return
        if there is None:
            yield doubtful(
                "worker", f"none has come in {wait_s:.0f} s: the queue is long, or it cannot start",
                "look at 'squeue --me'; give doctor more time with --wait",
            )  # fmt: skip
            return
        yield good("worker", f"came on {there.host} and works")
        yield from _compared(there, here, folder)
        yield from _dashboard(cluster)


def _probed(cluster: Cluster, folder: Path, token: str, wait_s: float) -> Probe | None:
    """What a worker sees; None if none comes in time."""
    future = cluster.client.submit(look, folder, token, pure=False)
    end = time.monotonic() + wait_s
    for ended in ends_of([future]):
        if ended is None and time.monotonic() > end:
            future.cancel()
            return None
    found: Probe = future.result()
    return found


def _compared(there: Probe, here: Probe, folder: Path) -> Iterator[Finding]:
    """What differs between a worker's machine and this one, and must not."""
    yield from pipeline(there, f"on {there.host}")
    if there.pipeline and here.pipeline and there.pipeline != here.pipeline:
        yield bad(
            "versions", f"{there.pipeline} on {there.host}, {here.pipeline} here",
            "one version everywhere: job_script_prologue in [cluster.options] can load it",
        )  # fmt: skip
    other = {
        name: (version, here.versions.get(name, "none"))
        for name, version in there.versions.items()
        if version != here.versions.get(name)
    }
    for name, (theirs, ours) in other.items():
        yield bad(
            "versions", f"{name} {theirs} on {there.host}, {ours} here",
            "one environment everywhere: python in [cluster.options] names it",
        )  # fmt: skip
    if not there.sees:
        yield bad(
            "shared", f"{folder} is not the same on {there.host} as here",
            "keep the run on a file system that all nodes share",
        )  # fmt: skip
    elif there.not_writable:
        yield bad(
            "shared", f"{folder} on {there.host}: {there.not_writable}",
            "keep the run where nodes can write",
        )  # fmt: skip
    else:
        speed = f"{there.bytes_per_s / 1e6:.0f} MB/s"
        yield good("shared", f"{there.host} sees {folder}, and writes there with {speed}")


def _dashboard(cluster: Cluster) -> Iterator[Finding]:
    if cluster.kind == "address" or not cluster.dashboard:
        return
    try:
        with urlopen(cluster.dashboard, timeout=10):
            yield good("dashboard", f"answers; from elsewhere: {cluster.tunnel}")
    except (URLError, OSError) as err:
        yield doubtful(
            "dashboard", f"{cluster.dashboard} does not answer: {err}",
            "it is not needed for the work; [cluster] dashboard = false switches it off",
        )  # fmt: skip
