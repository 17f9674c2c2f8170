"""From frames and a configuration to a checked graph of jobs; nothing is read or written."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from musedask.config import ReductionConfig
from musedask.errors import InputError
from musedask.offsets import OffsetTable, date_key
from musedask.reduction.finding.calselector import CalSelection, CalSelections
from musedask.reduction.frames import Frame
from musedask.reduction.job.parameters import Schema, check_parameters
from musedask.reduction.jobs import STAGES, FileInput, Job, Plan
from musedask.reduction.planning.association import Association
from musedask.reduction.planning.calibration_jobs import basic_jobs, inputs_of
from musedask.reduction.planning.chain import Chain, basic_calibrations
from musedask.reduction.planning.choices import Choices, known_role
from musedask.reduction.planning.final_jobs import BY_PIPELINE, Alignment, combine_jobs, final_jobs
from musedask.reduction.planning.lacking import Lacking
from musedask.reduction.planning.picking import Shelf
from musedask.reduction.planning.science_frames import check_dates, science_frames
from musedask.reduction.planning.science_jobs import (
    align_job,
    alignment_groups,
    scipost_calibrations,
    scipost_job,
)
from musedask.reduction.planning.sequences import (
    Sequence,
    product_sequences,
    raw_sequences,
    role_of,
    time_order,
)
from musedask.reduction.planning.static_tables import StaticTables
from musedask.reduction.recipes import recipe_of
from musedask.reduction.rules import Rule

if TYPE_CHECKING:
    from musedask.grid import CubeGrid


def plan_reduction(
    frames: Iterable[Frame],
    config: ReductionConfig,
    *,
    offsets: OffsetTable | None = None,
    footprints: Mapping[str, CubeGrid] | None = None,
    grid: CubeGrid | None = None,
    version: str = "",
    first: str | None = None,
    last: str | None = None,
    selections: Iterable[CalSelection] = (),
    schemas: Mapping[str, Schema] | None = None,
) -> Plan:
    """Plan a reduction: which recipe is called with which files, in which order.

    The plan depends on the arguments alone. What is known only when the first
    cubes are there (offsets, footprints, the grid) is given to a second call,
    whose plan has all jobs of the first, with the same keys, and more.

    Parameters
    ----------
    frames
        Raw frames, static tables and products, as :func:`find_frames` gives them;
        their order does not matter.
    config
        What to do.
    offsets
        Offsets of the exposures, where they are known already.
    footprints
        DATE-OBS -> grid of that exposure's cube before any offset. Exposures
        that are not in it get no final cube.
    grid
        The final grid.
    version
        Version of the pipeline: another one makes other products.
    first, last
        Stages, of :data:`STAGES`. Jobs of stages after ``last`` are not in the
        plan, and what only they need may be missing. Jobs of stages before
        ``first`` are not in it either: those whose products are needed stand in
        ``plan.earlier``, and have to be done.
    selections
        The archive's own associations (CalSelector): they go before the rules, and
        the user's choices before them.
    schemas
        Recipe -> its parameters, to check the user's against.

    Returns
    -------
    Plan
        Jobs by stage, those of a stage by the exposures that need them.

    Raises
    ------
    MissingError
        If calibrations are missing; names each, and the frames that need it.
    InputError
        If there is no exposure, or the configuration contradicts itself or the frames.
    """
    span = _span(first, last)
    _check_recipes(config, schemas)
    frames = tuple(sorted(frames, key=time_order))
    check_dates(frames)
    chosen, notes = science_frames(frames, config)
    chain, doubts = _chain(frames, config, version, selections)
    planner = _Planner(chain, STAGES[span.stop - 1], Lacking(_allowed(config)))
    found = {date_key(key): value for key, value in (footprints or {}).items()}
    planner.plan(chosen, offsets, None if footprints is None else found, grid)
    if config.sky_cubes:
        skies, more = science_frames(frames, config, "SKY")
        notes += more
        planner.plan_skies(skies)
    planner.lacking.check()
    notes += (*doubts, *planner.notes(), *_unused(frames, chain))
    return _plan(chain.jobs.values(), span, notes)


@dataclass(eq=False)
class _Planner:
    """Goes through the exposures, as far as the last stage."""

    chain: Chain
    last: str
    lacking: Lacking

    def reaches(self, stage: str) -> bool:
        return STAGES.index(stage) <= STAGES.index(self.last)

    def plan(
        self,
        frames: Iterable[Frame],
        offsets: OffsetTable | None,
        footprints: Mapping[str, CubeGrid] | None,
        grid: CubeGrid | None,
    ) -> None:
        """Plan the cubes of exposures, their alignment, and what is made with that."""
        exposures = [Sequence("OBJECT", (frame,)) for frame in frames]
        self.note_absent_ifus(exposures)
        jobs = {e: job for e in exposures if (job := self.cube(e)) is not None}
        if not self.reaches("align"):
            return
        groups, aligned = self.align(jobs)
        alignment = Alignment(offsets, footprints, grid, groups, aligned)
        making = {"cubes": ("final", final_jobs), "combine": ("combine", combine_jobs)}
        stage, make = making.get(self.chain.config.final, ("", final_jobs))
        if stage and self.reaches(stage):
            for exposure, lack in make(self.chain, tuple(jobs), alignment):
                self.lacking.refuse(exposure, [lack])

    def cube(self, exposure: Sequence) -> Job | None:
        """Plan an exposure as far as its cube; None if it does not get there."""
        chain, ifus = self.chain, self.chain.ifus(exposure)
        if not ifus:
            chain.notes[f"{exposure.label} has none of the IFUs to reduce: left out"] = None
            return None
        basic = basic_calibrations(chain, exposure)
        later = scipost_calibrations(chain, exposure)
        lacks = [*basic.missing] if self.reaches("scibasic") else []
        lacks += [*later.missing] if self.reaches("scipost") else []
        if self.lacking.refuse(exposure, lacks):
            return None
        if not basic.missing and not later.missing:
            return scipost_job(chain, exposure)
        # The last stage comes before what is missing would be needed.
        for taken in (basic, later):
            inputs_of(chain, taken, ifus)
            for lack in taken.missing:
                chain.notes[f"later stages will lack: {lack.text}"] = None
        if not basic.missing:
            basic_jobs(chain, exposure)
        return None

    def note_absent_ifus(self, exposures: Iterable[Sequence]) -> None:
        """Say which exposures have not all the IFUs that others have."""
        own = {exposure: set(self.chain.ifus(exposure)) for exposure in exposures}
        every = set(self.chain.config.ifus).union(*own.values())
        for exposure, ifus in own.items():
            if ifus and ifus != every:
                absent = ", ".join(map(str, sorted(every - ifus)))
                self.chain.notes[f"{exposure.label} has no data of IFU {absent}"] = None

    def plan_skies(self, frames: Iterable[Frame]) -> None:
        """Plan cubes of SKY exposures."""
        known = {s.first.path: s for s in self.chain.shelf.association.of_role("SKY")}
        for frame in frames:
            self.cube(known[frame.path])

    def align(
        self, jobs: Mapping[Sequence, Job]
    ) -> tuple[tuple[tuple[Sequence, ...], ...], tuple[Job | None, ...]]:
        """Plan the measurement of offsets, target by target."""
        if self.chain.config.offsets != BY_PIPELINE:
            return (), ()
        groups = alignment_groups(jobs)
        found: list[Job | None] = []
        for group, members in groups.items():
            if len(members) > 1:
                found.append(align_job(self.chain, group, [jobs[member] for member in members]))
            else:
                found.append(None)
                name = " ".join(filter(None, group))
                self.chain.notes[
                    f"{members[0].label} is the only exposure of {name}: it is not aligned"
                ] = None
        return tuple(groups.values()), tuple(found)

    def notes(self) -> Iterable[str]:
        yield from self.chain.notes
        for (_, text), names in self.chain.without.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"{text}; {', '.join(names[:3])}{more}: reduced without it"
        yield from self.lacking.notes()
        for choice in self.chain.shelf.choices.unused():
            yield (
                f"[[reduction.choose]] {choice.tag} = {choice.file!r} for {choice.frames}: "
                "nothing in this plan asks for it"
            )


def _span(first: str | None, last: str | None) -> range:
    """Places of the first and (after) the last stage."""
    for name, stage in (("first", first), ("last", last)):
        if stage is not None and stage not in STAGES:
            near = difflib.get_close_matches(stage, STAGES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the stages are {', '.join(STAGES)}"
            raise InputError(f"{name} = {stage!r}: there is no such stage; {hint}")
    low = 0 if first is None else STAGES.index(first)
    high = len(STAGES) - 1 if last is None else STAGES.index(last)
    if low > high:
        raise InputError(f"first = {first!r} comes after last = {last!r}: {', '.join(STAGES)}")
    return range(low, high + 1)


def _check_recipes(config: ReductionConfig, schemas: Mapping[str, Schema] | None) -> None:
    for name, parameters in config.recipes:
        recipe_of(name)
        if schemas is not None and name in schemas:
            check_parameters(name, parameters, schemas[name])


def _allowed(config: ReductionConfig) -> frozenset[str]:
    return frozenset(known_role(tag, "[reduction] allow_missing") for tag in config.allow_missing)


def _chain(
    frames: tuple[Frame, ...],
    config: ReductionConfig,
    version: str,
    selections: Iterable[CalSelection],
) -> tuple[Chain, tuple[str, ...]]:
    """Sort the calibrations, ready to be picked; give what is odd about them, too."""
    windows = dict(config.windows)
    by_role = {known_role(tag, "[reduction.windows]"): days for tag, days in windows.items()}
    archive = CalSelections(tuple(selections))
    raw, doubts = raw_sequences(frames)

    def window(rule: Rule) -> float | None:
        return windows.get(rule.tag, by_role.get(role_of(rule.tag), rule.days))

    def of_archive(user: Sequence, role: str) -> tuple[str, ...]:
        selection = archive.of(user.first) if len(archive) else None
        calibrations = selection.calibrations if selection else ()
        return tuple(file.name for file in calibrations if role_of(file.category) == role)

    shelf = Shelf(
        Association(raw, product_sequences(frames)),
        StaticTables(frames),
        Choices(config.choose, frames),
        of_archive,
        window,
        frozenset() if config.lsf else frozenset({"LSF_PROFILE"}),
    )
    return Chain(config, shelf, version), doubts


def _unused(frames: Iterable[Frame], chain: Chain) -> Iterable[str]:
    """Say how many raw frames of which tag no job takes."""
    used = {
        item.path
        for job in chain.jobs.values()
        for item in job.inputs
        if isinstance(item, FileInput)
    }
    left = Counter(f.tag for f in frames if f.kind == "raw" and f.path not in used)
    if left:
        counts = ", ".join(f"{number} {tag}" for tag, number in sorted(left.items()))
        yield f"raw frames that nothing needs: {counts}"


def _plan(jobs: Iterable[Job], span: range, notes: tuple[str, ...]) -> Plan:
    """Put the jobs in the order of the stages, and cut out those that were asked for."""
    ordered = sorted(jobs, key=lambda job: STAGES.index(job.stage))
    chosen = tuple(job for job in ordered if STAGES.index(job.stage) in span)
    needed = {need for job in chosen for need in job.needs}
    earlier = tuple(
        job for job in ordered if job.key in needed and STAGES.index(job.stage) < span.start
    )
    return Plan(chosen, tuple(dict.fromkeys(notes)), earlier)
