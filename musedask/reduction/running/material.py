"""What a plan is made from: the frames of a run, esorex's version, and what the user set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from musedask.errors import FileError, InputError
from musedask.offsets import ExposureKey, OffsetTable
from musedask.progress import Progress
from musedask.reduction.finding.calselector import CalSelections, selections
from musedask.reduction.finding.scan import find_frames
from musedask.reduction.frames import Frame, FrameList
from musedask.reduction.job.installation import installation, remembered_installation
from musedask.reduction.job.parameters import Schema, schemas
from musedask.reduction.jobs import Plan
from musedask.reduction.planning.final_jobs import BY_MUSEDASK, BY_PIPELINE, IN_HEADERS
from musedask.reduction.planning.plan import plan_reduction
from musedask.run import Run

if TYPE_CHECKING:
    from musedask.grid import CubeGrid

ENCLOSING = "enclosing"
INVENTORY = "inventory.json"
OF_ESOREX = "esorex"


@dataclass(frozen=True)
class Placed:
    """Where exposures of one field lie, and on what grid their final cubes do."""

    offsets: OffsetTable | None = None
    """Offsets; None where the headers are right, or nothing is known yet."""
    footprints: Mapping[str, CubeGrid] | None = None
    """First 23 characters of DATE-OBS -> grid of the cube before any offset."""
    grid: CubeGrid | None = None
    """The final grid."""


@dataclass(frozen=True)
class Material:
    """All that planning needs; read once."""

    run: Run
    """The run."""
    frames: FrameList
    """Its frames."""
    selections: CalSelections
    """What the archive's CalSelector chose, where it was asked."""
    version: str
    """Version of the MUSE pipeline."""
    schemas: dict[str, Schema]
    """Recipe -> its parameters, of recipes that the user set any for."""
    offsets: OffsetTable | None
    """Offsets that are known; None where they will be measured, or headers are right."""
    grid: CubeGrid | None
    """Final grid that the user gave."""

    def plan(self, first: str | None = None, last: str | None = None) -> Plan:
        """The plan, as far as it can be made now.

        Raises
        ------
        MusedaskError
            If a calibration is missing, or the configuration does not fit.
        """
        return self._planned(self.frames, first, last, Placed(self.offsets, None, self.grid))

    def final_plan(
        self, placed: Placed, exposures: Iterable[str], first: str | None, last: str | None
    ) -> Plan:
        """The plan with the final cubes of some exposures, whose places are known.

        Parameters
        ----------
        placed
            Where they lie.
        exposures
            Their DATE-OBS.
        first, last
            Stages.
        """
        wanted = set(exposures)
        kept = tuple(f for f in self.frames if f.tag != "OBJECT" or f.date_obs in wanted)
        return self._planned(replace(self.frames, frames=kept), first, last, placed)

    def _planned(
        self, frames: FrameList, first: str | None, last: str | None, placed: Placed
    ) -> Plan:
        return plan_reduction(
            frames,
            self.run.config.reduction,
            offsets=placed.offsets,
            footprints=placed.footprints,
            grid=placed.grid,
            version=self.version,
            first=first,
            last=last,
            selections=self.selections,
            schemas=self.schemas,
        )


def read_material(
    run: Run, *, progress: Progress | None = None, call_esorex: bool = True
) -> Material:
    """Read headers, offsets and what esorex says of itself.

    Parameters
    ----------
    run
        The run.
    progress
        Whom to tell how many headers have been read.
    call_esorex
        Whether esorex may be asked for its version again, if that is known from before.

    Raises
    ------
    MusedaskError
        If a folder or a file cannot be used, or esorex is not installed.
    """
    config = run.config.reduction
    try:
        run.state.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise FileError(f"{run.state}: cannot be made: {err.strerror or err}") from err
    frames = find_frames(
        [*run.raw, *run.static], inventory=run.state / INVENTORY, progress=progress
    )
    remember = run.state / OF_ESOREX
    known = None if call_esorex else remembered_installation(remember)
    return Material(
        run,
        frames,
        selections(frames),
        (known or installation(remember)).muse,
        schemas([name for name, _ in config.recipes], remember),
        _offsets(run, frames),
        _grid(run),
    )


def _offsets(run: Run, frames: FrameList) -> OffsetTable | None:
    """The table that the user gave, or that 'musedask align' has made."""
    config = run.config.reduction
    if config.final == "none" or config.offsets in (BY_PIPELINE, IN_HEADERS):
        return None
    path = run.path(config.offsets)
    if config.offsets == BY_MUSEDASK:
        if not run.offsets.exists():
            return None
        path = run.offsets
    try:
        return OffsetTable.read(path, list(map(key_of, frames.science)))
    except (FileError, InputError) as err:
        raise type(err)(f"[reduction] offsets = {config.offsets!r}: {err}") from err


def _grid(run: Run) -> CubeGrid | None:
    """The grid that the user gave."""
    given = run.config.reduction.grid
    if run.config.reduction.final == "none" or given == ENCLOSING:
        return None
    from musedask.grid import CubeGrid  # it needs xarray and astropy: half a second

    return CubeGrid.from_file(run.path(given))


def key_of(frame: Frame) -> ExposureKey:
    """What readers of offset files need to know of a raw frame."""
    return ExposureKey(
        frame.date_obs,
        frame.name.removesuffix(".fz").removesuffix(".gz").removesuffix(".fits"),
        frame.ra_deg,
        frame.dec_deg,
        frame.path,
    )
