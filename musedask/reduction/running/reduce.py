"""The reduction of a run: scan, plan, run what is not done, place the exposures, run the rest."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from musedask.cluster import cores
from musedask.errors import MusedaskError
from musedask.progress import Progress
from musedask.reduction.frames import Frame
from musedask.reduction.jobs import Job, Plan
from musedask.reduction.planning.final_jobs import (
    BY_MUSEDASK,
    PLANNED_LATER,
    failed_dates,
    unmeasured,
)
from musedask.reduction.rules import field_of
from musedask.reduction.running.attempt import RunJob
from musedask.reduction.running.carrying import Carrier
from musedask.reduction.running.following import Durations, Show
from musedask.reduction.running.links import CUBE, link_cubes
from musedask.reduction.running.material import Material, Placed, key_of, read_material
from musedask.reduction.running.report import ReductionReport
from musedask.reduction.running.tables import Tables, dates_of, write_tables
from musedask.run import Run, held, name_for_people
from musedask.wording import counted


def reduce(
    run: Run,
    *,
    first: str | None = None,
    last: str | None = None,
    dry_run: bool = False,
    retry: bool = False,
    show: Show | None = None,
    progress: Progress | None = None,
    run_one: RunJob | None = None,
) -> ReductionReport:
    """Reduce the raw frames of a run, as far as that is not done already.

    Runs on the cluster that is open (:func:`musedask.open_cluster`), or else on
    the one of the run's configuration. A job that fails does not keep others
    from being done; look at ``ok`` and ``failed`` of the report.

    Parameters
    ----------
    run
        The run.
    first, last
        Stages (``bias``, ``scibasic``, ``scipost``...) between which jobs are run.
    dry_run
        Plan, and look for what is done; start nothing.
    retry
        Try jobs again that failed as often as the configuration allows.
    show
        Whom to show how far it is.
    progress
        Whom to tell how many headers have been read.
    run_one
        What runs a job instead of :func:`musedask.reduction.job.run.run_job`; for tests.

    Raises
    ------
    MusedaskError
        If the run cannot be planned, or another process reduces it.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        holder = None if dry_run else stack.enter_context(held(run))
        carrier = Carrier(run, holder, stack, run_one, retry, show)
        material = read_material(run, progress=progress, call_esorex=not dry_run)
        _carry_out_all(carrier, material, first, last)
        cubes: tuple[Path, ...] = ()
        tables = Tables(run.tables)
        if not dry_run:
            cubes = link_cubes(
                run, carrier.jobs.values(), carrier.records, material.frames,
                unplaced=_unplaced(material),
            )  # fmt: skip
            tables = _tables(carrier, material)
        now = carrier.snapshot(run.config.cluster.workers or cores())
        return ReductionReport(
            folder=run.folder,
            jobs=tuple(carrier.jobs.values()),
            outcomes=carrier.outcomes,
            counts=now.counts,
            notes=tuple(carrier.notes),
            problems=tuple(carrier.problems),
            cubes=cubes,
            combined=() if dry_run else tuple(sorted(run.combined.glob("*.fits"))),
            sky_cubes=() if dry_run else tuple(sorted(run.sky_cubes.glob("*.fits"))),
            tables=tuple(tables.folder / name for name in tables.names),
            seconds=time.monotonic() - started,
            seconds_left=now.seconds_left,
            dry_run=dry_run,
        )


def plan_run(
    run: Run,
    *,
    first: str | None = None,
    last: str | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, Durations]:
    """Plan a reduction as a dry run does, and find out what jobs of it took before.

    Final cubes are in the plan, by the pointings of the raw headers as long as
    offsets are not known; the keys of these will be others.

    Raises
    ------
    MusedaskError
        If the run cannot be planned.
    """
    with ExitStack() as stack:
        carrier = Carrier(run, None, stack)
        material = read_material(run, progress=progress, call_esorex=False)
        _carry_out_all(carrier, material, first, last)
        return carrier.plan, carrier.durations


def _carry_out_all(
    carrier: Carrier, material: Material, first: str | None, last: str | None
) -> None:
    plan = material.plan(first, last)
    carrier.carry_out(plan)
    if _makes_final_cubes(material, last):
        base = plan if first is None else material.plan(None, last)
        _carry_out_final(carrier, material, base, first, last)


def _makes_final_cubes(material: Material, last: str | None) -> bool:
    return material.run.config.reduction.final == "cubes" and last in (None, "final", "combine")


def _unplaced(material: Material) -> frozenset[str]:
    """DATE-OBS of exposures that lie apart: among final cubes they would be in the wrong place."""
    config = material.run.config.reduction
    if config.offsets != BY_MUSEDASK or config.final != "cubes":
        return frozenset()
    return frozenset() if "OFFSET_LIST" in config.allow_missing else failed_dates(material.offsets)


def _tables(carrier: Carrier, material: Material) -> Tables:
    """Write the run's tables; that they cannot be written undoes no job."""
    run, records = material.run, list(carrier.records.values())
    tables = Tables(run.tables)
    try:
        tables = write_tables(run, records, dates_of(material.frames))
    except MusedaskError as err:
        carrier.problems.append(str(err))
    carrier.notes |= dict.fromkeys(tables.notes)
    return tables


@dataclass(frozen=True)
class _Field:
    """Exposures whose final cubes share a grid: of one target, in the wide or the narrow field."""

    name: str
    frames: tuple[Frame, ...]
    jobs: tuple[Job, ...]
    """The jobs that make their cubes before any offset, exposure by exposure."""
    align: Job | None
    """The job that measures their offsets, if one does."""


def _fields(plan: Plan, frames: Iterable[Frame]) -> list[_Field]:
    known = {frame.date_obs: frame for frame in frames}
    aligning = {date: job for job in plan.of_stage("align") for date in job.frames}
    found: dict[tuple[str, str], list[Job]] = {}
    for job in plan.of_stage("scipost"):
        frame = known.get(job.frames[0])
        if frame is not None and frame.tag == "OBJECT":
            found.setdefault((frame.target, field_of(frame.mode)), []).append(job)
    return [
        _Field(
            " ".join(filter(None, name)),
            tuple(known[job.frames[0]] for job in jobs),
            tuple(jobs),
            aligning.get(jobs[0].frames[0]),
        )
        for name, jobs in found.items()
    ]


def _carry_out_final(
    carrier: Carrier, material: Material, base: Plan, first: str | None, last: str | None
) -> None:
    """Plan and run the cubes on the final grids.

    Parameters
    ----------
    carrier
        Knows which cubes are there.
    material
        What plans are made from.
    base
        The whole plan up to the alignment.
    first, last
        Stages that were asked for.
    """
    carrier.look(base.jobs)
    fields = _fields(base, material.frames)
    plans: list[Plan] = []
    without: dict[str, None] = {}
    for one in fields:
        why = _obstacle(carrier, material, one)
        if why:
            without[f"{one.name}: no cubes on the final grid, since {why}"] = None
            continue
        dates = [frame.date_obs for frame in one.frames]
        try:
            plans.append(material.final_plan(_placed(carrier, material, one), dates, first, last))
        except MusedaskError as err:
            # Other fields go on, and the cubes that are there get their links.
            carrier.problems.append(f"{one.name}: its final cubes cannot be planned: {err}")
    if plans:
        # Where there are several fields, the notes of each plan would call the others left out.
        alone = len(fields) == 1
        kept = () if alone else (note for note in base.notes if note != PLANNED_LATER)
        carrier.notes = dict.fromkeys(kept)
        carrier.carry_out(together(plans, keep_notes=alone))
    carrier.notes |= without


def _obstacle(carrier: Carrier, material: Material, one: _Field) -> str:
    """Why exposures cannot be placed; a dry run places them about."""
    if carrier.holder is None:
        return ""
    if not any(job.key in carrier.records for job in one.jobs):
        return "none of its cubes is done"
    if one.align is not None and one.align.key not in carrier.records:
        return "its exposures are not aligned"
    if material.run.config.reduction.offsets == BY_MUSEDASK:
        missing = unmeasured(one.frames, material.offsets)
        if missing:
            return (
                f"the offsets of {len(missing)} of {counted(len(one.frames), 'exposure')} are not "
                f"measured: 'musedask align {material.run.folder}' does that"
            )
    return ""


def together(plans: Sequence[Plan], *, keep_notes: bool = True) -> Plan:
    """One plan of several, with each job once."""
    jobs = {job.key: job for plan in plans for job in plan.jobs}
    earlier = {job.key: job for plan in plans for job in plan.earlier if job.key not in jobs}
    notes = dict.fromkeys(note for plan in plans for note in plan.notes) if keep_notes else ()
    return Plan(tuple(jobs.values()), tuple(notes), tuple(earlier.values()))


def _placed(carrier: Carrier, material: Material, one: _Field) -> Placed:
    """Where exposures lie: by their cubes, or, before a dry run could know, by raw headers."""
    # It opens cubes: whoever makes none need not wait for what that takes.
    from musedask.reduction.running.placing import keep_offsets, place_exposures, placed_about

    done = [job for job in one.jobs if job.key in carrier.records]
    aligned = one.align is None or one.align.key in carrier.records
    if carrier.holder is None and not (aligned and len(done) == len(one.jobs)):
        return placed_about(one.frames, material.offsets, material.grid)
    cubes = [path for job in done for path in carrier.records[job.key].products_of(CUBE)]
    measured = None
    if one.align is not None:
        measured = carrier.records[one.align.key].products_of("OFFSET_LIST")[0]
    exposures = [key_of(frame) for frame in one.frames]
    placed = place_exposures(material.run, cubes, exposures, measured, material.offsets)
    if carrier.holder is not None and measured is not None and placed.offsets is not None:
        name = name_for_people("offsets", one.name)
        keep_offsets(placed.offsets, material.run.tables / f"{name}.ecsv")
    return placed
