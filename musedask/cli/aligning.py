"""The command from exposures to a table of offsets."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musedask import console
from musedask.cli.options import A_FILE, check_new, computing, louder, names, ranges
from musedask.console import SectionedCommand, option_of
from musedask.errors import FileError, InputError
from musedask.masks import MASK_SENSES

if TYPE_CHECKING:
    from musedask.align_job import AlignJob
    from musedask.offsets import OffsetTable
    from musedask.run import Run

FLUX_SCALES = ("none", "relative")

_files = option_of("Files")
_how = option_of("How it is measured")
_people = option_of("What people decide (nothing is measured then)")
_running = option_of("Running")


@click.command(cls=SectionedCommand)
@click.argument("exposures", nargs=-1, metavar="EXPOSURE... | TABLE.ecsv | RUN")
@_files("-o", "--output", type=A_FILE, metavar="NAME.ecsv",
        help="The table to make or to bring up to date; by default that of RUN.")  # fmt: skip
@_files("--reference", type=click.Path(path_type=Path), metavar="FILE",
        help="Image of any telescope, or a catalogue; without it exposures are aligned with one "
        "another.")  # fmt: skip
@_files("--export", multiple=True, type=A_FILE, metavar="FILE", help="Write the table in another "
        "format, too: NAME.fits is an OFFSET_LIST, offsets.txt the COSMOS routine's.")  # fmt: skip
@_files("--overwrite", is_flag=True, help="Replace files that are exported.")
@_how("--filter", "filters", callback=names, default="white", show_default=True,
      metavar="NAME,...", help="Filter that cubes are seen through: white, Johnson_V, Cousins_R, "
      "SDSS_i..., LOW-HIGH in Angstrom, a file, or 'reference', one like its own.")  # fmt: skip
@_how("--max-offset", type=click.FloatRange(0, min_open=True), default=20.0, show_default=True,
      metavar="ARCSEC", help="How far is looked, along each axis.")  # fmt: skip
@_how("--rotation", is_flag=True, help="Measure a rotation, too.")
@_how("--flux-scale", type=click.Choice(FLUX_SCALES), default="none", show_default=True,
      help="'relative' lets exposures agree in flux with one another.")  # fmt: skip
@_how("--relative/--no-relative", default=True, show_default=True,
      help="Compare exposures with one another, too, if there is a reference.")  # fmt: skip
@_how("--mask", "masks", type=A_FILE, metavar="FILE", help="DS9 circles on the sky that do not "
      "count: a moving star, a satellite.")  # fmt: skip
@_how("--mask-sense", type=click.Choice(MASK_SENSES), default="good", show_default=True,
      help="What a value other than 0 means in the FITS masks of TABLE.ecsv.")  # fmt: skip
@_how("--exclude-lambda", "exclude", callback=ranges, metavar="LOW-HIGH", multiple=True,
      help="Wavelengths to leave out (Angstrom); may be given several times.")  # fmt: skip
@_how("--exclude-sky", is_flag=True, help="Leave out the lines and bands of the night sky.")
@_people("--set", "given", nargs=3, type=(str, float, float), multiple=True,
         metavar="NAME EAST NORTH", help="Offset of an exposure (name or DATE-OBS), arcsec on "
         "the sky, exposure minus reference; it wins over all that is measured.")  # fmt: skip
@_people("--note", default="", metavar="TEXT", help="Why, with --set.")
@_people("--apply", "review", type=A_FILE, metavar="REVIEW.json",
         help="Bring in what was decided on the review page.")  # fmt: skip
@_running("--threads", type=click.IntRange(1), help="In this process; all cores otherwise.")
@_running("--scheduler", metavar="ADDRESS", help="A running Dask scheduler, instead of threads.")
@click.option("-v", "--verbose", cls=console.SectionedOption, section="Running", count=True,
              expose_value=False, callback=louder,
              help="Say what is being done; -vv says more.")  # fmt: skip
def align(**given: Any) -> None:
    """Measure where exposures point.

    EXPOSURES are FITS cubes or images (IMAGE_FOV) of exposures, a table that
    'musedask exposures' made, or the folder of a reduction. The offsets go into a
    table with errors and grades, A to C, or F for failed. One that is there
    already is brought up to date; what people have set or decided stays. What was
    compared lies beside it for 'musedask review'.

    The exit status is 1 if an exposure has no usable offset.

    \b
    musedask align DATACUBE_FINAL*.fits --reference hst.fits -o offsets.ecsv
    musedask align -o offsets.ecsv --set EXP_4 0.62 -1.31 --note "by eye, clouds"
    musedask align -o offsets.ecsv --apply review.json --export offset_list.fits
    """
    from musedask import align_job
    from musedask.errors import MusedaskError

    found = align_job.run_of(given["exposures"])
    output = given["output"] or (found.offsets if found is not None else None)
    if output is None:
        raise click.UsageError("give the table with -o NAME.ecsv")
    decides = bool(given["given"] or given["review"])
    if not decides and not given["exposures"] and not given["export"]:
        raise click.UsageError("give exposures to measure, or --set, --apply or --export")
    if given["given"] and given["review"]:
        raise click.UsageError("--set and --apply: one after the other")
    for path in given["export"]:
        check_new(path, given["overwrite"])
    failed: tuple[str, ...] = ()
    if decides or not given["exposures"]:
        table = _decided(output, found, given) if decides else _existing(output)
    else:
        table, failed = _measured(_job(given, output, found), found, given)
    try:
        for path in given["export"]:
            table.write(path, overwrite=given["overwrite"])
            click.echo(path)
    except MusedaskError as err:
        if not failed:
            raise
        console.say_failure(err)
    if failed:
        console.say(f"musedask: no usable offset for {', '.join(failed)}")
        sys.stdout.flush()
        sys.exit(1)


def _job(given: dict[str, Any], output: Path, run: Run | None) -> AlignJob:
    """What the options say, as one value; options that contradict are a UsageError."""
    from musedask.align_job import AlignJob, job_of_run

    exclude = (*given["exclude"], *(("lines", "oh") if given["exclude_sky"] else ()))
    options = {
        "filters": given["filters"], "exclude": exclude, "rotation": given["rotation"],
        "max_offset_arcsec": given["max_offset"], "flux_scale": given["flux_scale"],
        "relative": given["relative"], "masks": given["masks"], "output": output,
        "mask_sense": given["mask_sense"],
    }  # fmt: skip
    try:
        if run is None:
            return AlignJob(
                exposures=given["exposures"], reference=given["reference"], **options
            )  # fmt: skip
        job = job_of_run(run)
        assert job is not None
        return replace(job, reference=given["reference"] or job.reference, **options)
    except InputError as err:
        raise click.UsageError(console.in_options(str(err))) from err


def _measured(
    job: AlignJob, run: Run | None, given: dict[str, Any]
) -> tuple[OffsetTable, tuple[str, ...]]:
    """Measure; give the table and the names of exposures that failed."""
    from musedask import align_job

    with (
        _place(run, given),
        console.compilation_said(),
        console.progress_bar("align", "exposures") as bar,
    ):
        report = align_job.run(job, bar)
    click.echo(report)
    return report.table, report.failed


def _place(run: Run | None, given: dict[str, Any]) -> AbstractContextManager[Any]:
    """Where Dask runs: a run says it itself, unless the options do."""
    if run is None or given["threads"] or given["scheduler"]:
        return computing(given["threads"], given["scheduler"])
    from musedask.cluster import open_cluster

    return open_cluster(run.config.cluster)


def _existing(output: Path) -> OffsetTable:
    from musedask.offsets import OffsetTable

    if not output.exists():
        raise FileError(f"{output}: no such table; give exposures, and it is measured")
    return OffsetTable.read(output, format="ecsv")


def _decided(output: Path, run: Run | None, given: dict[str, Any]) -> OffsetTable:
    """Bring in what a person says, and write the table."""
    from musedask import align_job
    from musedask.alignment.by_hand import GivenOffset
    from musedask.offset_text import offsets_summary

    if given["review"]:
        table = align_job.apply_review(output, given["review"])
    else:
        offsets = [GivenOffset(*one) for one in given["given"]]
        files = align_job.files_of_run(run) if run is not None else given["exposures"]
        table = align_job.set_offsets(output, offsets, files, note=given["note"])
    click.echo(f"{output}: {offsets_summary(table)}")
    return table
