"""The demo from end to end: observe, stack, export, compare, draw."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from musedask import align_job, stack_job
from musedask.demo.comparison import compare_with_truth
from musedask.demo.exposures import demo_exposures, write_hst_image
from musedask.demo.pictures import white_light_pngs
from musedask.errors import MusedaskError
from musedask.fits import export_fits
from musedask.megacube import open_megacube
from musedask.offset_text import frequencies
from musedask.progress import Progress
from musedask.simulation.truth import OFFSETS_FILE, read_truth
from musedask.stacking import StackOptions

logger = logging.getLogger(__name__)

METHODS = ("median", "mean", "clipped")


@dataclass(frozen=True)
class DemoReport:
    """Where the demo's results are, and how they compare with the truth."""

    folder: Path
    """Everything lies in it."""
    numbers: dict[str, dict[str, float]]
    """Statistic -> numbers of :func:`compare_with_truth`."""
    aligned: str
    """How the offsets that were measured compare with the true ones."""
    seconds: float
    """Wall time."""

    def __str__(self) -> str:
        rows = [
            ("flux / true flux", "flux_ratio", "{:.4f}"),
            ("noise / stated noise", "pull_rms", "{:.3f}"),
            ("median error [sigma]", "residual_sigma", "{:+.3f}"),
            ("PSF FWHM [arcsec]", "psf_fwhm_arcsec", "{:.3f}"),
            ("  of the true mean", "psf_fwhm_true_arcsec", "{:.3f}"),
            ("position error [arcsec]", "position_error_arcsec", "{:.3f}"),
            ("cosmic-ray hits", "hits", "{:.0f}"),
            ("  of them left", "hits_left", "{:.0f}"),
            ("counts that are right", "counts_equal", "{:.6f}"),
        ]
        lines = [" " * 26 + "".join(f"{method:>12}" for method in self.numbers)]
        lines += [
            f"{title:<26}"
            + "".join(f"{form.format(found[key]):>12}" for found in self.numbers.values())
            for title, key, form in rows
        ]
        where = "\n".join(
            f"  {self.folder / name!s:<40} {what}"
            for name, what in (
                ("demo.png", "one exposure, the median, the coverage"),
                ("median.fits", "the mega-cube for mpdaf, QFitsView, DS9"),
                ("megacube.zarr", "the mega-cube for xarray"),
                ("exposures", "the exposures, their offsets and the truth"),
                ("measured.ecsv", "their offsets as measured; try 'musedask info'"),
            )
        )
        return (
            "Abell 478 observed again eight times, stacked, and compared with the truth:\n\n"
            + "\n".join(lines)
            + f"\n\n{self.aligned}"
            + f"\n\nLook at ({self.seconds:.0f} s in all):\n{where}"
        )


def run(
    folder: Path, progress: Progress | None = None, say: Callable[[str], None] = logger.info
) -> DemoReport:
    """Run the demo in a folder; exposures that are there already are used again.

    Parameters
    ----------
    folder
        Made if it is not there; takes about 2 GB.
    progress
        Told how far the stack has come.
    say
        Told what is being done.

    Raises
    ------
    MissingError
        If mpdaf (the real data) or matplotlib (the pictures) is not installed.
    FileError
        If the folder cannot be written.
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    exposures = _exposures(folder / "exposures", say)
    say("stacking: median, mean and clipped mean with variance and coverage")
    store = folder / "megacube.zarr"
    job = stack_job.StackJob(
        exposures=tuple(str(path) for path in exposures),
        output=store,
        offsets=folder / "exposures" / OFFSETS_FILE,
        options=StackOptions(methods=METHODS),
    )
    stack_job.run(job, progress)
    say("exporting to FITS")
    products = {name: folder / f"{name}.fits" for name in METHODS}
    for name, path in products.items():
        export_fits(open_megacube(store)[name], path, overwrite=True)
    say("comparing with the truth")
    truth = read_truth(folder / "exposures")
    numbers = {name: compare_with_truth(path, truth) for name, path in products.items()}
    white_light_pngs(exposures[0], products["median"], folder)
    say("measuring the offsets again, against the HST image of the field")
    aligned = _aligned(folder, exposures)
    return DemoReport(folder, numbers, aligned, time.monotonic() - started)


def _aligned(folder: Path, exposures: list[Path]) -> str:
    """Measure the offsets, and say how right they are.

    The stack is made with the true ones: it is to show what stacking does.
    """
    write_hst_image(folder / "hst.fits")
    job = align_job.AlignJob(
        exposures=tuple(map(str, exposures)), output=folder / "measured.ecsv",
        reference=folder / "hst.fits",
    )  # fmt: skip
    found = align_job.run(job).table
    truth = read_truth(folder / "exposures").offsets
    errors = [
        math.hypot(
            row.ra_offset_arcsec - truth.find(row.date_obs).ra_offset_arcsec,
            row.dec_offset_arcsec - truth.find(row.date_obs).dec_offset_arcsec,
        )
        for row in found
        if row.is_finite
    ]
    grades = frequencies(sorted(row.grade for row in found), "")
    if not errors:
        return f"No offset could be measured against the HST image (grades {grades})."
    return (
        f"Offsets measured against the HST image: right to {statistics.median(errors):.3f} arcsec, "
        f"the worst to {max(errors):.3f} (grades {grades})."
    )


def _exposures(folder: Path, say: Callable[[str], None]) -> list[Path]:
    """The exposures: those that an earlier demo left whole, or new ones."""
    try:
        paths = list(read_truth(folder).paths)
        if all(path.is_file() for path in paths):
            say("using the exposures of an earlier demo")
            return paths
    except (MusedaskError, OSError):
        pass
    say("observing the sky again: eight exposures of 3681 to 3801 channels")
    return demo_exposures(folder, overwrite=True)[0]
