"""The demo's first part: a night of raw frames, from the pipeline's recipes to a mega-cube."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from musedask import align_job, stack_job
from musedask.cluster import open_cluster
from musedask.config import CONFIG_NAME
from musedask.demo.raw_comparison import (
    SourceFound,
    compare_with_raw_truth,
    offset_error_spaxels,
)
from musedask.errors import FileError, MusedaskError
from musedask.fits import export_fits, open_cube
from musedask.megacube import open_megacube
from musedask.progress import Progress
from musedask.reduction.job.installation import installation
from musedask.reduction.running.reduce import reduce
from musedask.run import Run, open_run, write_new
from musedask.simulation.raw import RawSpec, RawTruth, read_raw_truth, simulate_raw
from musedask.stacking import StackOptions

if TYPE_CHECKING:
    from musedask.reduction.running.following import Show
    from musedask.reduction.running.report import ReductionReport

logger = logging.getLogger(__name__)

Bar = Callable[[str, str], AbstractContextManager["Progress | None"]]
"""(what, unit) -> a context that gives whom to tell how far it has come."""
Shown = Callable[[], AbstractContextManager["Show | None"]]
"""A context that gives whom to show how far the reduction is."""
NIGHT = RawSpec(n_exposures=2)
"""One detector, and two exposures of one field, the second one pointing wrong."""
SHORT_RECIPES = """\
[reduction.muse_standard]
profile = "circle"
lambdamin = 6000
lambdamax = 7000

[reduction.muse_scipost]
lambdamin = 6000
lambdamax = 7000
"""
"""Parameters with which the longest recipes take seconds for a detector."""
CONFIG = f"""\
# A night of simulated raw frames. The wavelengths are cut so that it takes minutes.
[reduction]
raw = ["raw"]
static = ["static"]
offsets = "measured"
reference = "catalogue.ecsv"
final = "cubes"
wavelengths = "common"

{SHORT_RECIPES}"""


CATALOGUE = "catalogue.ecsv"
"""Where stars and galaxies of the field really are."""


@dataclass(frozen=True)
class NightReport:
    """What became of the raw frames, and how that compares with what was simulated."""

    folder: Path
    """Everything lies in it."""
    n_frames: int
    """Raw frames."""
    n_jobs: int
    """Calls of esorex, now or earlier."""
    offset_error_spaxels: float
    """Largest error of an offset between two exposures, along one axis."""
    sources: tuple[SourceFound, ...]
    """Isolated sources in the stack."""
    seconds: float
    """Wall time."""

    def __str__(self) -> str:
        flux = [source.flux_ratio for source in self.sources]
        place = [
            max(abs(source.east_spaxels), abs(source.north_spaxels)) for source in self.sources
        ]
        lines = [abs(error) for source in self.sources for error in source.line_errors_angstrom]
        rows = [
            ("offsets", f"right to {self.offset_error_spaxels:.3f} spaxel"),
            ("positions", f"right to {max(place):.3f} spaxel, {len(place)} isolated sources"),
            ("flux / true flux", f"{min(flux):.3f} to {max(flux):.3f}"),
            ("emission lines", f"right to {max(lines):.3f} Angstrom"),
        ]
        where = [
            ("cubes", "the exposure cubes"),
            ("megacube.zarr", "the mega-cube for xarray"),
            ("mean.fits", "the mega-cube for mpdaf, QFitsView, DS9"),
            ("musedask.toml", "how they were reduced; try 'musedask plan', 'musedask status'"),
        ]
        return "\n".join([
            f"{self.n_frames} raw frames, simulated, reduced by {self.n_jobs} calls of esorex, "
            "stacked, and compared with the truth:",
            "",
            *(f"  {title:<18}{text}" for title, text in rows),
            "",
            f"Look at ({self.seconds:.0f} s in all):",
            *(f"  {self.folder / name!s:<40} {what}" for name, what in where),
        ])  # fmt: skip


def run_night(
    folder: Path,
    *,
    bar: Bar = lambda what, unit: nullcontext(),
    shown: Shown = nullcontext,
    say: Callable[[str], None] = logger.info,
) -> NightReport:
    """Simulate raw frames in a folder, reduce and stack them; what is done already is kept.

    Parameters
    ----------
    folder
        Made if it is not there; takes about 4 GB.
    bar
        Opened around the simulation and the stack, to show how far they have come.
    shown
        Opened around the reduction, for the same.
    say
        Told what is being done.

    Raises
    ------
    MissingError
        If esorex or the recipes of the MUSE pipeline are not installed.
    MusedaskError
        If the folder cannot be written, or a recipe fails.
    """
    started = time.monotonic()
    installation()  # or complain before the work
    truth = _raw_frames(folder, bar, say)
    write_catalogue(truth, folder / CATALOGUE)
    if not (folder / CONFIG_NAME).exists():
        write_new(folder / CONFIG_NAME, CONFIG)
    run = open_run(folder)
    say("reducing them with the recipes of ESO's MUSE pipeline")
    with open_cluster(run.config.cluster):
        report = _reduced(run, shown)
        align = align_job.job_after_reduction(run, ok=report.ok)
        if align is not None:
            say("measuring where the exposures point, and reducing them onto one grid")
            with bar("align", "exposures") as progress:
                align_job.run(align, progress)
            report = _reduced(run, shown)
    say("stacking the exposures")
    store = folder / "megacube.zarr"
    job = stack_job.StackJob(
        exposures=tuple(str(path) for path in report.cubes), output=store,
        options=StackOptions(methods=("mean",)),
    )  # fmt: skip
    with bar("stack", "blocks") as progress:
        stack_job.run(job, progress)
    export_fits(open_megacube(store)["mean"], folder / "mean.fits", overwrite=True)
    return _report(folder, truth, report, time.monotonic() - started)


def write_catalogue(truth: RawTruth, path: Path) -> None:
    """Write the true positions of the sources, as a survey of the sky would have them."""
    from astropy.table import Table

    table = Table(
        {
            "ra": [source.ra_deg for source in truth.sources],
            "dec": [source.dec_deg for source in truth.sources],
        },
        units={"ra": "deg", "dec": "deg"},
    )
    table.write(path, format="ascii.ecsv", overwrite=True)


def _reduced(run: Run, shown: Shown) -> ReductionReport:
    with shown() as show:
        report = reduce(run, show=show)
    if not report.ok:
        raise FileError(f"the reduction of the demo's raw frames failed:\n{report}")
    return report


def _raw_frames(folder: Path, bar: Bar, say: Callable[[str], None]) -> RawTruth:
    """The frames: those that an earlier demo left whole, or new ones."""
    try:
        truth = read_raw_truth(folder)
        if truth.spec == NIGHT and all(truth.path(frame).is_file() for frame in truth.frames):
            say("using the raw frames of an earlier demo")
            return truth
    except MusedaskError:
        pass
    say("simulating a night of raw frames")
    with bar("raw frames", "files") as progress:
        return simulate_raw(folder, NIGHT, progress=progress)


def _report(folder: Path, truth: RawTruth, reduced: ReductionReport, seconds: float) -> NightReport:
    return NightReport(
        folder=folder,
        n_frames=len(truth.frames),
        n_jobs=len(reduced.jobs),
        offset_error_spaxels=offset_error_spaxels(map(open_cube, reduced.cubes), truth),
        sources=compare_with_raw_truth(open_cube(folder / "mean.fits"), truth),
        seconds=seconds,
    )
