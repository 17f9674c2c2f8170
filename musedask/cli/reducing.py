"""Commands from raw frames to exposure cubes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musedask import console
from musedask.cli import clustering
from musedask.cli.options import A_FILE, A_FOLDER, verbose

if TYPE_CHECKING:
    from musedask.align_job import AlignReport
    from musedask.reduction.running.report import ReductionReport

STAGES = (
    "bias", "dark", "flat", "wavecal", "lsf", "twilight", "scibasic", "standard", "sky",
    "scipost", "align", "final", "combine",
)  # fmt: skip
A_STAGE = click.Choice(STAGES)

the_run = click.argument("run", type=A_FOLDER, default=Path("."), metavar="[RUN]")
first = click.option(
    "--first", type=A_STAGE, metavar="STAGE",
    help=f"Begin with this stage of {', '.join(STAGES)}; what comes before it has to be done.",
)  # fmt: skip
last = click.option("--last", type=A_STAGE, metavar="STAGE", help="End with this stage.")


@click.command()
@click.argument("folder", type=A_FOLDER)
@click.option("--raw", multiple=True, type=A_FOLDER, metavar="DIR",
              help="Where the raw frames lie; may be given several times.")  # fmt: skip
@click.option("--static", multiple=True, type=A_FOLDER, metavar="DIR",
              help="Where the static tables lie.")  # fmt: skip
@verbose
def init(folder: Path, raw: tuple[Path, ...], static: tuple[Path, ...]) -> None:
    """Make a folder for a reduction.

    Writes FOLDER/musedask.toml, in which every choice is explained. The raw
    frames stay where they are; without the options they are looked for in
    FOLDER/raw and FOLDER/static.

    \b
    musedask init mudf --raw /data/mudf/raw --static /data/muse/calib
    """
    from musedask.run import init_run

    run = init_run(folder, raw=raw, static=static)
    click.echo(f"{run.folder / 'musedask.toml'}: look through it, then 'musedask plan {folder}'")


@click.command()
@click.argument("folders", nargs=-1, type=A_FOLDER, metavar="[RUN | DIR...]")
@verbose
def frames(folders: tuple[Path, ...]) -> None:
    """Say which frames there are, and what is missing.

    Reads the headers of all FITS files below each DIR. For a folder with a
    musedask.toml it looks where that says.
    """
    from musedask.reduction.finding.frame_report import frame_report
    from musedask.reduction.finding.scan import find_frames

    given = folders or (Path("."),)
    places, inventory = _places(given)
    with console.progress_bar("headers", "files") as bar:
        found = find_frames(places, inventory=inventory, progress=bar)
    click.echo(frame_report(found, shutil.get_terminal_size((100, 24)).columns))


def _places(given: tuple[Path, ...]) -> tuple[list[Path], Path | None]:
    """Folders to search, and the run's inventory if a run is given."""
    from musedask.config import CONFIG_NAME
    from musedask.run import open_run

    if len(given) > 1 or not (given[0] / CONFIG_NAME).is_file():
        return list(given), None
    from musedask.reduction.running.material import INVENTORY

    run = open_run(given[0])
    run.state.mkdir(exist_ok=True)
    return [*run.raw, *run.static], run.state / INVENTORY


@click.command()
@the_run
@click.option("--sof", is_flag=True, help="List the SOF and the parameters of each job.")
@click.option("--calplan", is_flag=True, help="A table of exposures and their calibrations only.")
@first
@last
@verbose
def plan(
    run: Path, sof: bool, calplan: bool, first: str | None, last: str | None
) -> None:  # fmt: skip
    """Say what a reduction would do; runs nothing.

    Which calibrations each exposure gets and why, how many jobs there are, and
    what they need in time, memory and disk. A missing calibration is an error
    that names the exposures it is missing for.
    """
    from musedask.reduction.planning.estimate import estimate
    from musedask.reduction.planning.plan_text import calplan_text, plan_text
    from musedask.reduction.running.reduce import plan_run
    from musedask.run import open_run

    opened = open_run(run)
    with console.progress_bar("headers", "files") as bar:
        planned, durations = plan_run(opened, first=first, last=last, progress=bar)
    if calplan:
        click.echo(calplan_text(planned))
    else:
        click.echo(plan_text(planned, estimate(planned, durations.by_recipe), sof=sof))


@click.command()
@the_run
@first
@last
@click.option("--dry-run", is_flag=True, help="Say how many jobs would run; run none.")
@click.option("--retry", is_flag=True, help="Try again what failed as often as it is allowed to.")
@click.option("--workers", type=click.IntRange(1), metavar="N",
              help="Jobs at a time, instead of what musedask.toml says.")  # fmt: skip
@clustering.site
@clustering.in_job
@verbose
def reduce(
    run: Path,
    first: str | None,
    last: str | None,
    dry_run: bool,
    retry: bool,
    workers: int | None,
    site: str | None,
    in_job: bool,
) -> None:
    """Make exposure cubes of raw frames.

    Runs the jobs that are not done yet; each is done once, whatever happens in
    between. A job that fails keeps only those waiting that need it. Afterwards
    the cubes are in RUN/cubes, under the names of target and date.

    With offsets = "measured" exposures without an offset are aligned as by
    'musedask align RUN', and then final cubes are made. What 'musedask review' or
    'musedask align --set' changes afterwards, the next 'musedask reduce' takes up.

    \b
    musedask reduce mudf --last scipost
    musedask reduce mudf --workers 8
    musedask reduce mudf --site mycluster --in-job
    """
    if in_job:
        from musedask.run import open_run

        clustering.submitted(clustering.on_site(open_run(run), site).config.cluster)
        return
    asked: dict[str, Any] = {"site": site, "first": first, "last": last}
    asked |= {"dry_run": dry_run, "retry": retry}
    report = _reduced(run, workers, **asked)
    aligned = None if dry_run else _aligned(run, report, last, site)
    if aligned is not None:
        click.echo(f"{aligned}\n")
        report = _reduced(run, workers, **asked)
    click.echo(report)
    if not report.ok or (aligned is not None and aligned.failed):
        sys.stdout.flush()
        sys.exit(1)


def _aligned(
    run: Path, report: ReductionReport, last: str | None, site: str | None
) -> AlignReport | None:
    """Measure the offsets that a reduction waits for; None if there are none."""
    if last not in (None, "align", "final", "combine") or not report.cubes:
        return None
    from musedask.run import open_run

    opened = clustering.on_site(open_run(run), site)
    if opened.config.reduction.offsets != "measured":
        return None
    from musedask import align_job
    from musedask.cluster import open_cluster

    job = align_job.job_after_reduction(opened, ok=report.ok)
    if job is None:
        return None
    with (
        open_cluster(opened.config.cluster),
        console.compilation_said(),
        console.progress_bar("align", "exposures") as bar,
    ):
        return align_job.run(job, bar)


def _reduced(run: Path, workers: int | None, site: str | None, **given: Any) -> Any:
    from dataclasses import replace

    from musedask.cli.showing import reduction_shown
    from musedask.reduction.running.reduce import reduce
    from musedask.run import open_run

    opened = clustering.on_site(open_run(run), site)
    if workers is not None:
        config = opened.config
        cluster = replace(config.cluster, workers=workers)
        opened = replace(opened, config=replace(config, cluster=cluster))
    with reduction_shown() as show:
        return reduce(opened, show=show, **given)


@click.command()
@the_run
@click.option("--tables", is_flag=True, help="Write the tables of what is done, as at its end.")
@verbose
def status(run: Path, tables: bool) -> None:
    """Say how far a reduction is, in whichever process.

    Jobs by recipe and by exposure, what runs at this moment, what failed and
    why, what is stale, and how long it will still take.

    A reduction writes tables at its end: RUN/tables/qc.ecsv has the quality
    measures of the products, used_frames.ecsv what each job was made from, and
    exposures.ecsv is what 'musedask stack RUN' takes: it can be edited.
    """
    from musedask.reduction.running.status import status_of
    from musedask.reduction.running.tables import write_tables_of
    from musedask.run import open_run

    opened = open_run(run)
    click.echo(status_of(opened))
    if tables:
        click.echo(f"\n{write_tables_of(opened)}")


@click.command("import-pymusepipe")
@click.argument("rc", type=A_FILE)
@click.argument("calib", type=A_FILE)
@click.option("-o", "--output", type=A_FILE, help="File to write; stdout without it.")
@verbose
def from_pymusepipe(rc: Path, calib: Path, output: Path | None) -> None:
    """Make a musedask.toml of pymusepipe's files.

    RC is rc.dic, CALIB is calib_tables.dic. What is not taken over stands in
    comments, with the reason.
    """
    from musedask.reduction.finding.pymusepipe_files import import_pymusepipe
    from musedask.run import write_new

    text = import_pymusepipe(rc, calib)
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        write_new(output.absolute(), text)
        click.echo(output)
