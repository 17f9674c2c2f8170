"""``python -m fuzz``: a campaign, or one case again."""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import click

from fuzz.campaign import Report, in_turn, run_campaign
from fuzz.target import Target

_DETAIL = 1500


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Damaged input for every reader of musedask.

    Each case has to end in a result or in one error of musedask that names the file:
    never in a hang, a crash, another exception, a flood of warnings or a written product.
    """


@main.command()
@click.option("--seconds", default=600.0, show_default=True, help="Time for the campaign.")
@click.option("--cases", default=0, help="Cases after which it ends; 0 for no limit.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random numbers.")
@click.option("--first", default=0, show_default=True, help="Number of the first case.")
@click.option("--processes", default=2, show_default=True, help="Cases that are tried at once.")
@click.option("--only", "only", multiple=True, metavar="TARGET", help="This target; several times.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="File for the report.")
def run(only: tuple[str, ...], **options: Any) -> None:
    """Try cases until the time is up; the exit status is 1 if there are findings."""
    targets = _chosen(only)
    cases = in_turn(targets, options["first"])
    if options["cases"]:
        cases = islice(cases, options["cases"])
    report = run_campaign(
        cases, options["seed"], seconds=options["seconds"], processes=options["processes"],
        tell=lambda now: click.echo(f"{now.n_cases} cases, {len(now.findings)} findings", err=True),
    )  # fmt: skip
    click.echo(_table(report, options["seed"]))
    for (target, kind, what), found in report.findings.items():
        click.echo(f"\n{target}: {kind}: {what} ({len(found)} times)")
        click.echo(
            f"  again: python -m fuzz one --seed {options['seed']} '{target}' {found[0].number}"
        )
        click.echo("  " + found[0].detail[-_DETAIL:].replace("\n", "\n  "))
    if options["record"]:
        options["record"].write_text(json.dumps(report.outcomes, indent=1), encoding="utf-8")
    sys.exit(1 if report.findings else 0)


@main.command()
@click.argument("target")
@click.argument("number", type=int)
@click.option("--seed", default=0, show_default=True, help="Seed of the campaign.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the damaged input.")
def one(target: str, number: int, seed: int, keep: Path | None) -> None:
    """Try one case again, in a process of its own; or keep its input and try nothing."""
    (chosen,) = _chosen((target,))
    if keep is None:
        report = run_campaign([(target, number)], seed, seconds=60, processes=1)
        click.echo(_table(report, seed))
        for found in report.findings.values():
            click.echo(f"{found[0].kind}: {found[0].what}\n{found[0].detail}")
        sys.exit(1 if report.findings else 0)
    from fuzz.case import random_of
    from fuzz.seeds import make_seeds

    keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        make_seeds(Path(folder, "seeds"))
        path = chosen.prepare(random_of(seed, target, number), Path(folder, "seeds"), keep)
    click.echo(path)


def _chosen(names: tuple[str, ...]) -> tuple[Target, ...]:
    from fuzz.targets import BY_NAME, TARGETS

    for name in names:
        if name not in BY_NAME:
            raise click.BadParameter(f"{name!r} is not one of: {'; '.join(BY_NAME)}")
    return tuple(BY_NAME[name] for name in names) or TARGETS


def _table(report: Report, seed: int) -> str:
    lines = [f"{'reader':32}{'cases':>8}{'results':>9}{'errors':>8}{'findings':>10}"]
    for name, counter in report.outcomes.items():
        numbers = counter.total(), counter["result"], counter["error"], counter["finding"]
        lines.append("{:32}{:8d}{:9d}{:8d}{:10d}".format(name, *numbers))
    lines.append(f"{report.n_cases} cases of seed {seed}, {len(report.findings)} findings")
    return "\n".join(lines)


if __name__ == "__main__":
    main(prog_name="python -m fuzz")
