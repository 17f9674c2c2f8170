"""The demo from end to end: observe, stack, export, compare, draw."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from musedask import stack_job
from musedask.demo.comparison import compare_with_truth
from musedask.demo.exposures import demo_exposures
from musedask.demo.pictures import white_light_pngs
from musedask.errors import MusedaskError
from musedask.fits import export_fits
from musedask.megacube import open_megacube
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
            )
        )
        return (
            "Abell 478 observed again eight times, stacked, and compared with the truth:\n\n"
            + "\n".join(lines)
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
    return DemoReport(folder, numbers, time.monotonic() - started)


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
