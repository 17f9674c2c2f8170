"""Options and commands about where Dask runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musedask.cli.options import A_FILE, A_FOLDER, verbose

if TYPE_CHECKING:
    from musedask.config import ClusterConfig
    from musedask.run import Run

OPTIONS_HERE = ("--in-job",)

site = click.option("--site", metavar="NAME",
                    help="Where Dask runs, instead of what musedask.toml says: threads, local, "
                    "or a site of yours.")  # fmt: skip
in_job = click.option(
    "--in-job", is_flag=True, help="Run this very command as a job of SLURM, for days if need be."
)
performance = click.option("--performance", type=A_FILE, metavar="FILE.html",
                           help="Write Dask's report of what took how long.")  # fmt: skip


def on_site(run: Run, name: str | None) -> Run:
    """A run with another place for Dask, if one is named."""
    if name is None:
        return run
    return replace(run, config=replace(run.config, cluster=cluster_of(name, run)))


def cluster_of(name: str, run: Run | None = None) -> ClusterConfig:
    """The configuration of a site, with its logs in the run's folder."""
    from musedask.config import cluster_config

    config = cluster_config({"site": name})
    if run is not None and not config.folder:
        config = replace(config, folder=str(run.logs / "slurm"))
    return config


def cluster_for(exposures: Sequence[str], name: str | None) -> ClusterConfig | None:
    """Where to stack: on the site that is named, or where the run says, if one is given."""
    from musedask.config import CONFIG_NAME
    from musedask.run import open_run

    runs = [path for path in exposures if Path(path, CONFIG_NAME).is_file()]
    run = open_run(runs[0]) if runs else None
    if name is not None:
        return cluster_of(name, run)
    return run.config.cluster if run is not None else None


def submitted(config: ClusterConfig) -> None:
    """Submit the command that is running as a job, and say where it goes on."""
    from musedask.cluster.client_job import submit_client

    arguments = [word for word in given() if word not in OPTIONS_HERE]
    number, log = submit_client(config, arguments)
    click.echo(f"SLURM job {number} runs it; all that it says goes to {log}")


def given() -> Sequence[str]:
    """Arguments of the command line as they were given."""
    found = click.get_current_context().find_root().obj
    return list(found) if found is not None else sys.argv[1:]


def performance_of(path: Path | None) -> AbstractContextManager[Any]:
    """Write Dask's report of the block, if one is wanted."""
    if path is None:
        return nullcontext()
    from musedask.cluster.performance import performance_report

    return performance_report(path)


@click.command()
@click.argument("run", type=A_FOLDER, required=False, metavar="[RUN]")
@site
@click.option("--wait", type=click.FloatRange(1), default=300.0, show_default=True,
              metavar="SECONDS", help="How long to wait for a worker.")  # fmt: skip
@verbose
def doctor(run: Path | None, site: str | None, wait: float) -> None:
    """Look whether a place is fit for a reduction.

    Recipes and versions, the disk, SLURM's partition, walltime and memory, and a
    worker that really starts: what it sees of the run's folder. Each line says
    what to do. The exit status is 1 if something has to be mended.

    \b
    musedask doctor mudf
    musedask doctor --site mycluster
    """
    from musedask.config import CONFIG_NAME, ClusterConfig
    from musedask.doctor.examination import examine
    from musedask.doctor.finding import summary
    from musedask.run import open_run

    folder = run or Path(".")
    opened = open_run(folder) if run is not None or (folder / CONFIG_NAME).is_file() else None
    if opened is not None:
        opened = on_site(opened, site)
    config = cluster_of(site, opened) if site else ClusterConfig()
    if opened is not None:
        config = opened.config.cluster
    findings = []
    for one in examine(config, opened, folder, wait):
        findings.append(one)
        click.echo(one)
    click.echo(summary(findings))
    if any(one.level == "error" for one in findings):
        sys.stdout.flush()
        sys.exit(1)
