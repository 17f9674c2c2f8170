"""``python -m benchmarks``: run benchmarks, make a report of them, estimate a large build."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.alignment.command import alignment
from benchmarks.exposures import used_bytes
from benchmarks.guest_memory import touch_memory
from benchmarks.model import Cluster, estimate, measured_rates
from benchmarks.peers import PEERS, family
from benchmarks.records import read_records
from benchmarks.reduction.cases import BENCHMARK as REDUCTION
from benchmarks.reduction.cases import reduction
from benchmarks.report import write_report
from benchmarks.runner import Settings, run_cases
from benchmarks.suites import BENCHMARKS, SIZES, chosen
from benchmarks.targets import once_without_target
from musedask.errors import MusedaskError

_REPEATS = {"tiny": 1, "small": 3, "full": 5}
_LONG_S = 5.0
"""At sizes that have to be quick what takes longer is measured once: its ratio is far off."""
_DEFAULT_WORK = Path(".cache", "benchmarks")
_TIMEOUT_S = {"tiny": 3600.0, "small": 3600.0, "full": math.inf}
_APART = {REDUCTION: reduction}
"""Benchmarks that take too long to be among all."""


class _Commands(click.Group):
    """Says what cannot be done in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except MusedaskError as err:
            raise click.ClickException(str(err)) from err


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure musedask beside others that do the same, on data made on the spot.

    Each job runs in a process of its own; jobs of a case take turns, round by round; a
    result that differs from a plain float64 reference does not count.
    """


def _run(names: tuple[str, ...], **options: Any) -> None:
    size, work, output = options["size"], options["work"], options["output"]
    work.mkdir(parents=True, exist_ok=True)
    peers = _peers(options["peers"])
    memory = touch_memory(click.echo) if options["touch"] else {}
    failed = False
    for name in names:
        settings = Settings(
            name, size, work.resolve(), output, options["repeats"] or _REPEATS[size],
            math.inf if size == "full" else _LONG_S, int(options["disk_gb"] * 1e9),
            _TIMEOUT_S[size], memory,
        )  # fmt: skip
        cases = chosen((BENCHMARKS | _APART)[name](size), peers)
        if size != "full":
            cases = once_without_target(name, cases)
        records = run_cases(cases, settings, click.echo)
        failed = failed or any(record.state in ("wrong", "failed") for record in records)
    click.echo(f"data      {work} ({used_bytes(work) / 1e9:.2f} GB, kept for the next run)")
    click.echo(f"report    {write_report(read_records(output), output)}")
    if failed:
        sys.exit(1)


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known = set(PEERS) | {family(peer) for peer in PEERS}
    for name in names:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(sorted(known))}", param_hint="--peers"
            )
    return names


def _command(name: str, names: tuple[str, ...], about: str) -> click.Command:
    def run(**options: Any) -> None:
        _run(names, **options)

    path = click.Path(path_type=Path, file_okay=False)
    return click.Command(
        name,
        callback=run,
        help=about,
        params=[
            click.Option(["--size"], type=click.Choice(SIZES), default="small",
                         help="tiny: seconds, checks that it works; small: minutes; full: hours."),
            click.Option(["--peers"], default="", metavar="NAME,...",
                         help="Only these peers or families of peers, beside musedask."),
            click.Option(["--repeats"], type=click.IntRange(1), help="Rounds over each case."),
            click.Option(["--output", "-o"], type=path, default=_DEFAULT_WORK / "results",
                         help="Folder of the records and the report."),
            click.Option(["--work"], type=path, default=_DEFAULT_WORK,
                         help="Folder of data that are made once and kept."),
            click.Option(["--touch/--no-touch"], default=True,
                         help="Use most of the free memory once before anything is timed: new to "
                         "a virtual machine, it costs its first user seconds a GiB."),
            click.Option(["--disk-gb"], type=click.FloatRange(0), default=60.0,
                         help="Most that the data may take; old ones are removed."),
        ],
    )  # fmt: skip


def _first_line(function: Any) -> str:
    return str(function.__doc__).partition("\n")[0]


for _name, _cases in (BENCHMARKS | _APART).items():
    main.add_command(_command(_name, (_name,), _first_line(_cases)))
main.add_command(
    _command(
        "all",
        tuple(BENCHMARKS),
        f"{', '.join(BENCHMARKS)}, one after the other; {', '.join(_APART)} and alignment take "
        "longer, and are measured by their own names alone.",
    )
)
main.add_command(alignment)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def report(folder: Path) -> None:
    """Make the report of a folder of records again."""
    click.echo(write_report(read_records(folder), folder))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--cores", default=32, help="Cores of a node.")
@click.option("--node-gbs", default=2.0, help="GB/s that a node reads and writes.")
@click.option("--system-gbs", default=20.0, help="GB/s that the file system gives to all.")
def model(folder: Path, cores: int, node_gbs: float, system_gbs: float) -> None:
    """Say what a COSMOS build takes on 1, 10 and 100 nodes, from measured rates."""
    cluster = Cluster(cores, node_gbs * 1e9, system_gbs * 1e9)
    click.echo(estimate(measured_rates(read_records(folder)), cluster))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
