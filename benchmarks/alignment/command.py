"""``python -m benchmarks alignment``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.alignment.campaign import run_campaign
from benchmarks.alignment.merits import merits
from benchmarks.alignment.methods import METHODS, missing_for
from benchmarks.alignment.outcomes import OURS, Outcome, read_outcomes
from benchmarks.alignment.page import by_method, targets, write_page
from benchmarks.suites import SIZES

_DEFAULT_OUTPUT = Path(".cache", "benchmarks", "results", "alignment")


@click.command()
@click.option(
    "--size",
    type=click.Choice(SIZES),
    default="small",
    help="tiny: 9 cases, checks that it works; small: 90; full: 1000.",
)
@click.option(
    "--methods",
    default=",".join(METHODS),
    show_default=True,
    metavar="NAME,...",
    help="Who measures.",
)
@click.option("--processes", type=click.IntRange(1), default=2, help="Cases at a time.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    default=_DEFAULT_OUTPUT,
    help="Folder of the outcomes and the page.",
)
@click.option("--report", "again", is_flag=True,
              help="Only make the page of outcomes that are there.")  # fmt: skip
def alignment(size: str, methods: str, processes: int, output: Path, again: bool) -> None:
    """Offsets of simulated exposures, whose truth is known, by musedask and others."""
    path = output / f"alignment_{size}.jsonl"
    outcomes = read_outcomes(path) if again else _run(size, methods, path, processes)
    click.echo(f"report    {write_page(outcomes, size, output)}")
    own = by_method(outcomes).get(OURS)
    if own and size != "tiny":
        missed = [t for t in targets(merits(own)) if not t[2] <= t[1] <= t[3]]
        for words, value, least, most in missed:
            click.echo(f"not met   {words}: {value:.4g}, expected {least:g} to {most:g}")
        if missed:
            sys.exit(1)


def _run(size: str, methods: str, path: Path, processes: int) -> list[Outcome]:
    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise click.BadParameter(
            f"{', '.join(unknown) or 'nothing'}: expected some of {', '.join(METHODS)}",
            param_hint="--methods",
        )
    there = [name for name in names if not missing_for(name)]
    for name in names:
        if name not in there:
            click.echo(f"{name:14} left out: {missing_for(name)} is not installed")
    if not there:
        raise click.ClickException("no method is left: pip install 'musedask[benchmark]'")
    return run_campaign(size, there, path, processes, click.echo)
