"""Commands that make skies with known truth, and show what musedask does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from musedask import console
from musedask.cli.options import A_FOLDER, computing, verbose
from musedask.errors import MissingError
from musedask.wording import counted


@click.group()
def simulate() -> None:
    """Make raw frames or exposures of a known sky."""


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
    n_paths = counted(len(truth.paths), "exposure")
    click.echo(f"{folder}: {n_paths}; their offsets are in truth.ecsv")


MODES = ("WFM-NOAO-N", "WFM-NOAO-E", "WFM-AO-N", "WFM-AO-E", "NFM-AO-N")
ABSENT = ("missing", "dead")


def _ifus(ctx: click.Context, param: click.Parameter, given: str) -> tuple[int, ...]:
    """Read ``1,13`` or ``1-24``."""
    found: list[int] = []
    for part in given.split(","):
        low, _, high = part.strip().partition("-")
        if not (low.isdecimal() and (not high or high.isdecimal())):
            raise click.BadParameter(f"{part!r} is no IFU; write 1,13 or 1-24")
        found += range(int(low), int(high or low) + 1)
    return tuple(found)


@simulate.command("raw")
@click.argument("folder", type=A_FOLDER)
@click.option("--count", type=click.IntRange(0), default=2, show_default=True,
              help="Exposures of science, in all.")  # fmt: skip
@click.option("--ifus", callback=_ifus, default="1", show_default=True, metavar="LIST",
              help="Detectors with data: 1,13 or 1-24. Twilights need 1.")  # fmt: skip
@click.option("--absent", type=click.Choice(ABSENT), default="missing", show_default=True,
              help="The other detectors: no extension, or a dead chip.")  # fmt: skip
@click.option("--geometry", type=click.Choice(("compact", "real")), default="compact",
              show_default=True, help="Where the slices of an IFU lie on the sky.")  # fmt: skip
@click.option("--mode", type=click.Choice(MODES), default="WFM-NOAO-N", show_default=True,
              help="INS MODE of the headers.")  # fmt: skip
@click.option("--exptime", "exptime_s", type=click.FloatRange(0, min_open=True), default=900.0,
              show_default=True, metavar="SECONDS", help="Of an exposure.")  # fmt: skip
@click.option("--night", default="2024-02-10", show_default=True, metavar="DATE",
              help="Evening of the first night.")  # fmt: skip
@click.option("--nights", type=click.IntRange(1), default=1, show_default=True,
              help="Nights that the exposures are shared out over.")  # fmt: skip
@click.option("--target", "targets", multiple=True, default=("SIMFIELD",), show_default=True,
              help="Field; may be given several times.")  # fmt: skip
@click.option("--no-sky", is_flag=True, help="No SKY frame.")
@click.option("--no-std", is_flag=True, help="No standard star.")
@click.option("--no-illum", is_flag=True, help="No ILLUM frames.")
@click.option("--darks", type=click.IntRange(0), default=0, show_default=True,
              help="DARK frames a night; a recipe needs three.")  # fmt: skip
@click.option("--compress", type=click.Choice(("", "gz", "fz")), default="",
              help="Pack the files: gz or fz.", metavar="KIND")  # fmt: skip
@click.option("--headers-only", is_flag=True, help="Headers and holes: thousands in seconds.")
@click.option("--fault", "faults", multiple=True, metavar="KIND:TAG[:N]",
              help="What is to be wrong: missing:ILLUM, truncated:BIAS:2, wrong-mode:OBJECT, "
              "dead-ifu:13...; may be given several times.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Equal seeds give equal files.")
@verbose
def simulated_raw(
    folder: Path, count: int, no_sky: bool, no_std: bool, no_illum: bool, darks: int, nights: int,
    **given: Any,
) -> None:  # fmt: skip
    """Write raw frames and static tables, with the truth beside them.

    A night of VLT/MUSE as the archive has it: FOLDER/raw and FOLDER/static, and
    truth.json with the sources and pointing errors. FOLDER can be made a run:

    \b
    musedask simulate raw night
    musedask init night
    musedask reduce night
    """
    from musedask.simulation import RawSpec, simulate_raw

    spec = RawSpec(
        n_exposures=count, with_sky=not no_sky, with_std=not no_std, with_illum=not no_illum,
        n_dark=darks, n_nights=nights, **given,
    )  # fmt: skip
    with console.progress_bar("raw frames", "files") as bar:
        truth = simulate_raw(folder, spec, progress=bar)
    n_frames = counted(len(truth.frames), "raw frame")
    click.echo(f"{folder}: {n_frames}; the truth is in truth.json")


@click.command()
@click.argument("folder", type=A_FOLDER, default=Path("demo"))
@click.option("--threads", type=click.IntRange(1), help="Threads in this process; all cores else.")
@click.option("--only-stack", is_flag=True, help="Without raw frames: needs no pipeline.")
@verbose
def demo(folder: Path, threads: int | None, only_stack: bool) -> None:
    """See it work, without data of your own.

    Simulates raw frames, reduces them with ESO's pipeline and stacks the
    cubes; then observes a real sky again several times and stacks that. Both
    are compared with the truth; pictures, FITS files and numbers are left in
    FOLDER.
    """
    from musedask import demo as demonstration  # simulation and plots only if asked for

    if not only_stack:
        click.echo(f"{_night(folder / 'night')}\n")
    with (
        computing(threads, None),
        console.compilation_said(),
        console.progress_bar("demo") as bar,
    ):
        report = demonstration.run(folder, bar, console.say)
    click.echo(report)


def _night(folder: Path) -> object:
    """Run the demo's first part; what became of it."""
    from musedask import demo as demonstration
    from musedask.cli.showing import reduction_shown

    try:
        with console.compilation_said():
            return demonstration.run_night(
                folder, bar=console.progress_bar, shown=reduction_shown, say=console.say
            )
    except MissingError as err:
        return f"The part with raw frames is left out: {err}"
