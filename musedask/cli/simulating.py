"""Commands that make skies with known truth, and show what musedask does with them."""

from __future__ import annotations

from pathlib import Path

import click

from musedask import console
from musedask.cli.options import A_FOLDER, computing, verbose


@click.group()
def simulate() -> None:
    """Make exposures of a known sky."""


@simulate.command("exposures")
@click.argument("folder", type=A_FOLDER)
@click.option("--count", type=click.IntRange(1), default=8, show_default=True)
@click.option("--full-size", is_flag=True, help="Fields of 300 x 304 spaxels, 3 GB each.")
@click.option("--survey", is_flag=True, help="A pointing for every eight exposures; faster noise.")
@click.option("--seed", default=0, show_default=True, help="Equal seeds give equal files.")
@click.option("--overwrite", is_flag=True, help="Replace exposures that are there.")
@verbose
def simulated_exposures(
    folder: Path, count: int, full_size: bool, survey: bool, seed: int, overwrite: bool
) -> None:
    """Write cubes as the pipeline does, with the truth beside them.

    Their headers are wrong by known pointing errors: truth.ecsv has the offsets
    that put them right.
    """
    from musedask.simulation import simulate_exposures

    truth = simulate_exposures(
        folder, count, full_size=full_size, survey_set=survey, seed=seed, overwrite=overwrite
    )
    click.echo(f"{folder}: {len(truth.paths)} exposures; their offsets are in truth.ecsv")


@click.command()
@click.argument("folder", type=A_FOLDER, default=Path("demo"))
@click.option("--threads", type=click.IntRange(1), help="Threads in this process; all cores else.")
@verbose
def demo(folder: Path, threads: int | None) -> None:
    """See it work on real data, without your own.

    Observes a real sky again several times, stacks the exposures, compares with
    the truth and leaves pictures, FITS files and numbers in FOLDER.
    """
    from musedask import demo as demonstration  # simulation and plots only if asked for

    with (
        computing(threads, None),
        console.compilation_said(),
        console.progress_bar("demo") as bar,
    ):
        report = demonstration.run(folder, bar, console.say)
    click.echo(report)
