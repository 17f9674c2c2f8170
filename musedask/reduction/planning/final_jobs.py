"""Jobs that use the offsets: cubes on the final grid, or combined cubes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from musedask.errors import InputError, MissingError
from musedask.offsets import Offset, OffsetTable, date_key
from musedask.reduction.frames import Frame
from musedask.reduction.jobs import Input, Job, ProductInput
from musedask.reduction.planning.calibration_jobs import file_inputs
from musedask.reduction.planning.chain import Chain
from musedask.reduction.planning.final_inputs import cut_out, offset_list, output_wcs
from musedask.reduction.planning.picking import Lack
from musedask.reduction.planning.science_jobs import Group, scipost_calibrations, scipost_job
from musedask.reduction.planning.sequences import Sequence as Exposure
from musedask.reduction.planning.sequences import role_of
from musedask.reduction.recipes import RECIPES
from musedask.reduction.rules import field_of

if TYPE_CHECKING:
    from musedask.grid import CubeGrid

BY_PIPELINE, BY_MUSEDASK, IN_HEADERS = "exp_align", "measured", "headers"
"""Values of ``[reduction] offsets``; any other is a table."""
PLANNED_LATER = (
    "the cubes on the final grid are planned when the cubes that come before them are done"
)


@dataclass(frozen=True)
class Alignment:
    """Where exposures point, and how the final cubes are to lie."""

    offsets: OffsetTable | None = None
    """Offsets, where they are known."""
    footprints: Mapping[str, CubeGrid] | None = None
    """First 23 characters of DATE-OBS -> grid of the exposure's cube before any offset."""
    grid: CubeGrid | None = None
    """The final grid."""
    groups: tuple[tuple[Exposure, ...], ...] = ()
    """Exposures that are aligned with one another."""
    jobs: tuple[Job | None, ...] = ()
    """The job that aligns each group; None where it has one exposure."""

    def measured_by(self, exposures: Iterable[Exposure]) -> Job | None:
        """The one job that measures the offsets of all these exposures, if there is one."""
        wanted = set(exposures)
        for group, job in zip(self.groups, self.jobs, strict=True):
            if wanted <= set(group):
                return job
        return None

    def is_alone(self, exposure: Exposure) -> bool:
        """Whether there is nothing to align an exposure with."""
        return any(group == (exposure,) for group in self.groups)


def final_jobs(
    chain: Chain, exposures: Sequence[Exposure], alignment: Alignment
) -> list[tuple[Exposure, Lack]]:
    """Make the jobs of the cubes on the final grid; give what is missing for them.

    The pipeline applies neither a rotation nor a failed offset.
    """
    lacks: list[tuple[Exposure, Lack]] = []
    for exposure in _with_offsets(chain, exposures, alignment):
        try:
            row = _row_of(chain, exposure, alignment)
        except MissingError as err:
            lacks.append((exposure, Lack("OFFSET_LIST", str(err))))
            continue
        if alignment.grid is None or alignment.footprints is None:
            continue
        footprint = alignment.footprints.get(date_key(exposure.first.date_obs))
        if footprint is None:
            chain.notes[f"{exposure.label} has no cube to place on the final grid: left out"] = None
            continue
        part = cut_out(alignment.grid, footprint, row, exposure.first)
        extra = () if row is None else (offset_list([(row, exposure.first)]),)
        scipost_job(chain, exposure, "final", (*extra, output_wcs(part)))
    if alignment.grid is None or alignment.footprints is None:
        chain.notes[PLANNED_LATER] = None
    return lacks


def _row_of(chain: Chain, exposure: Exposure, alignment: Alignment) -> Offset | None:
    """The offset of an exposure, None where its header is right.

    Raises
    ------
    MissingError
        If it has none that can be used.
    """
    source, frame, table = chain.config.offsets, exposure.first, alignment.offsets
    if source == IN_HEADERS or table is None:
        return None
    if source == BY_PIPELINE and alignment.is_alone(exposure) and frame.date_obs not in table:
        return None
    try:
        row = table.find(frame.date_obs, frame.name)
        if row.is_failed or not row.is_finite:
            why = f" ({row.why})" if row.why else ""
            raise MissingError(
                f"the offset of {frame.name} has grade F{why}: set it by hand ('musedask align "
                "--set', 'musedask review')"
            )
    except MissingError:
        if "OFFSET_LIST" in {role_of(tag) for tag in chain.config.allow_missing}:
            chain.notes[f"{frame.name} has no offset: it stays where its header puts it"] = None
            return None
        raise
    if row.applied_rotation_deg:
        chain.notes[
            f"{frame.name}: its offset has a rotation of {row.rotation_deg:g} deg, which the "
            "pipeline cannot apply"
        ] = None
    return row


def unmeasured(frames: Iterable[Frame], offsets: OffsetTable | None) -> list[Frame]:
    """Frames that have no row, not even a failed one, in a table of measured offsets."""
    return [frame for frame in frames if offsets is None or frame.date_obs not in offsets]


def failed_dates(offsets: OffsetTable | None) -> frozenset[str]:
    """First 23 characters of the DATE-OBS of exposures whose offset failed."""
    return frozenset(row.key for row in offsets or () if row.is_failed or not row.is_finite)


def _with_offsets(
    chain: Chain, exposures: Sequence[Exposure], alignment: Alignment
) -> list[Exposure]:
    """Exposures that can be placed: of measured offsets some may have failed, or be to come.

    An offset that the user gave must not be missing; one that could not be
    measured leaves its exposure out, and the others go on.
    """
    if chain.config.offsets != BY_MUSEDASK or alignment.offsets is None:
        return list(exposures)
    kept: list[Exposure] = []
    allowed = "OFFSET_LIST" in {role_of(tag) for tag in chain.config.allow_missing}
    for exposure in exposures:
        date = exposure.first.date_obs
        if date not in alignment.offsets:
            chain.notes[f"{exposure.label} is placed when its offset is measured"] = None
        elif not allowed and date_key(date) in failed_dates(alignment.offsets):
            why = alignment.offsets.find(date).why
            chain.notes[
                f"{exposure.label} is left out: its offset has grade F{why and f' ({why})'}"
            ] = None
        else:
            kept.append(exposure)
    return kept


def combine_groups(how: str, exposures: Iterable[Exposure]) -> Mapping[Group, list[Exposure]]:
    """Exposures that go into one cube: of one target or pointing and INS MODE, or all.

    Raises
    ------
    InputError
        If ``all`` are of the wide and of the narrow field.
    """
    groups: dict[Group, list[Exposure]] = defaultdict(list)
    for exposure in exposures:
        frame = exposure.first
        keys = {
            "target": (frame.target, frame.mode),
            "pointing": (frame.target, f"OB {frame.ob_id}", frame.mode),
            "all": ("all",),
        }
        groups[keys[how]].append(exposure)
    for group, members in groups.items():
        fields = {field_of(member.first.mode) for member in members}
        if len(fields) > 1:
            raise InputError(
                f"[reduction] combine_by = {how!r}: {' '.join(group)} has exposures of "
                f"{' and '.join(sorted(fields))}, whose pixels differ; give modes = [...]"
            )
    return groups


def combine_jobs(
    chain: Chain, exposures: Sequence[Exposure], alignment: Alignment
) -> list[tuple[Exposure, Lack]]:
    """Make the jobs of the combined cubes; give what is missing for them."""
    lacks: list[tuple[Exposure, Lack]] = []
    if chain.config.grid != "enclosing" and alignment.grid is None:
        chain.notes["the combined cubes are planned when their grid is known"] = None
        return lacks
    own = chain.config.offsets == BY_MUSEDASK
    for group, members in combine_groups(chain.config.combine_by, exposures).items():
        name = " ".join(filter(None, group))
        if own and unmeasured((member.first for member in members), alignment.offsets):
            chain.notes[f"the combined cube of {name} is planned when its offsets are known"] = None
            continue
        members = _with_offsets(chain, members, alignment)
        if len(members) < 2:
            only = f"one exposure, {members[0].label}" if members else "no exposure"
            chain.notes[f"{name} has {only}: there is nothing to combine it with"] = None
            continue
        found = _offsets_of(chain, members, alignment)
        if found is None:
            chain.notes[f"the combined cube of {name} is planned when its offsets are known"] = None
        elif isinstance(found, Lack):
            lacks += [(member, found) for member in members]
        else:
            _combine_job(chain, name, members, found, alignment)
    return lacks


def _offsets_of(
    chain: Chain, members: list[Exposure], alignment: Alignment
) -> tuple[Input, ...] | Lack | None:
    """The OFFSET_LIST of a combined cube; None if it is not known yet."""
    if chain.config.offsets == IN_HEADERS:
        return ()
    if chain.config.offsets == BY_PIPELINE:
        job = alignment.measured_by(members)
        if job is not None:
            return (ProductInput("OFFSET_LIST", job.key),)
    if alignment.offsets is None:
        return None
    rows: list[tuple[Offset, Frame]] = []
    for member in members:
        try:
            row = _row_of(chain, member, alignment)
        except MissingError as err:
            return Lack("OFFSET_LIST", str(err))
        if row is not None:
            rows.append((row, member.first))
    return (offset_list(rows),) if rows else ()


def _combine_job(
    chain: Chain,
    name: str,
    members: list[Exposure],
    offsets: tuple[Input, ...],
    alignment: Alignment,
) -> Job:
    recipe, config = RECIPES["muse_exp_combine"], chain.config
    tables = [scipost_job(chain, member).key for member in members]
    filters = scipost_calibrations(chain, members[0]).source("FILTER_LIST")
    grid = alignment.grid if config.grid != "enclosing" else None
    ifus = sorted({ifu for member in members for ifu in chain.ifus(member)})
    return chain.add(
        Job(
            recipe=recipe.name,
            stage=recipe.stage,
            inputs=(
                *(ProductInput("PIXTABLE_REDUCED", key) for key in tables),
                *offsets,
                *(file_inputs([filters], "FILTER_LIST") if isinstance(filters, Frame) else ()),
                *((output_wcs(grid),) if grid is not None else ()),
            ),
            parameters=chain.parameters(recipe, save="cube", filter=",".join(config.filters)),
            ifus=tuple(ifus),
            version=chain.version,
            products=recipe.products,
            title=f"combine {name}",
            frames=tuple(member.first.date_obs for member in members),
        )
    )
