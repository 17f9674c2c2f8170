"""Commands from exposure cubes to a mega-cube and its export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import musedask
from musedask import console
from musedask.cli import clustering
from musedask.cli.options import (
    A_FILE,
    A_PATH,
    check_new,
    computing,
    louder,
    names,
    ranges,
    verbose,
)
from musedask.console import SectionedCommand, option_of
from musedask.errors import InputError
from musedask.wording import counted

if TYPE_CHECKING:
    from musedask.stack_job import StackJob

OFFSET_FORMATS = ("ecsv", "offset_list", "pymusepipe", "cosmos", "mypython")
METHODS = ("median", "mean", "clipped", "clipped_mpdaf")
RESAMPLINGS = ("exact", "bilinear", "nearest", "lanczos3")
WEIGHTS = ("exptime", "noise", "given", "equal")
MASK_SENSES = ("good", "bad")
DUPLICATES = ("error", "first", "last", "keep")
FLUX_PER = ("auto", "spaxel", "native")


@click.command()
@click.argument("files", nargs=-1, type=A_FILE)
@click.option("-o", "--output", type=A_FILE, default=Path("exposures.ecsv"), show_default=True,
              help="The table to write.")  # fmt: skip
@click.option("--list", "cube_list", type=A_FILE, help="File of cubes, one a line (mypython's "
              "cubeall.in), instead of FILES.")  # fmt: skip
@click.option("--mask-list", type=A_FILE, help="Their masks, line by line (maskall.in).")
@click.option("--region-list", type=A_FILE, help="Their regions, line by line (regionsall.in).")
@click.option("--no-measure", is_flag=True, help="Headers only: do not measure the sky.")
@click.option("--overwrite", is_flag=True, help="Replace the table.")
@verbose
def exposures(
    files: tuple[Path, ...],
    output: Path,
    cube_list: Path | None,
    mask_list: Path | None,
    region_list: Path | None,
    no_measure: bool,
    overwrite: bool,
) -> None:
    """Make a table of exposures, to edit and to stack.

    The table has a row for each cube with what is known of it; the column
    "use" says whether the exposure goes into stacks.
    """
    if (cube_list is None) == (not files):
        raise click.UsageError("give either FILES or --list")
    if cube_list is None and (mask_list or region_list):
        raise click.UsageError("--mask-list and --region-list go with --list")
    check_new(output, overwrite)
    from musedask.exposure_making import make_exposure_table
    from musedask.exposures import write_exposure_table
    from musedask.mypython_lists import read_mypython_lists

    console.say("reading headers" if no_measure else "reading headers and measuring the sky")
    with console.progress_bar("exposures", "files") as bar:
        if cube_list is None:
            table = make_exposure_table(files, measure=not no_measure, progress=bar)
        else:
            table = read_mypython_lists(
                cube_list, mask_list, region_list, measure=not no_measure, progress=bar
            )
    write_exposure_table(table, output, overwrite=overwrite)
    n_used = int(sum(table["use"]))
    click.echo(f"{output}: {counted(len(table), 'exposure')}, {n_used} of them used")


_files = option_of("Files")
_what = option_of("What is computed")
_grid = option_of("The grid")
_masks = option_of("What is left out of each exposure")
_decisions = option_of("If something does not fit together")
_running = option_of("Running")


@click.command(cls=SectionedCommand)
@click.argument("exposures", nargs=-1, required=True, metavar="EXPOSURE... | TABLE.ecsv | RUN")
@_files("-o", "--output", required=True, type=A_PATH, metavar="NAME.zarr",
        help="The mega-cube to make, or to bring up to date.")  # fmt: skip
@_files("--offsets", type=A_FILE, help="Offsets, exposure minus reference; without them the "
        "headers are taken as right.")  # fmt: skip
@_files("--offsets-format", type=click.Choice(OFFSET_FORMATS),
        help="Where the file's content does not tell.")  # fmt: skip
@_what("--methods", callback=names, metavar="NAME,...", default="median", show_default=True,
       help=f"Of {', '.join(METHODS)}, with commas; add _odd or _even to a name for every "
       "other exposure only.")  # fmt: skip
@_what("--weights", type=click.Choice(WEIGHTS), default="exptime", show_default=True,
       help="Of the means; 'given' is the table's column. A median takes none.")  # fmt: skip
@_what("--clip", default=5.0, show_default=True, metavar="SIGMA", help="Width of 'clipped'.")
@_what("--resampling", type=click.Choice(RESAMPLINGS), default="exact", show_default=True,
       help="'exact' is weighted by area; lanczos3 rings around cosmic rays.")  # fmt: skip
@_what("--subtract-background", is_flag=True,
       help="Subtract each exposure's median in each channel.")  # fmt: skip
@_what("--flux-per", type=click.Choice(FLUX_PER), default="auto", show_default=True,
       help="For which area exposures state flux, if their spaxels are not MUSE's.")  # fmt: skip
@_grid("--lambda", "between", callback=ranges, metavar="LOW-HIGH",
       help="These wavelengths only (Angstrom): 7000-7100 is a quick preview.")  # fmt: skip
@_grid("--wavelengths", default="common", show_default=True, metavar="AXIS",
       help="'common' to all, 'nominal' (4749.9 + 1.25 i), or FIRST:STEP:SIZE.")  # fmt: skip
@_grid("--overlap", is_flag=True, help="What all exposures share, not all that any covers.")
@_grid("--refcube", type=A_FILE, help="FITS cube whose grid is taken.")
@_grid("--pixel", type=click.FloatRange(0, min_open=True), metavar="ARCSEC",
       help="Spaxel of the grid, if not the exposures'.")  # fmt: skip
@_grid("--pad", type=click.IntRange(0), default=4, show_default=True, metavar="SPAXELS",
       help="Room around the union, for offsets that change.")  # fmt: skip
@_masks("--regions", type=A_FILE, help="DS9 regions to mask in every exposure.")
@_masks("--mask", type=A_FILE, help="FITS mask for every exposure.")
@_masks("--mask-sense", type=click.Choice(MASK_SENSES), default="good", show_default=True,
        help="What a value other than 0 means in FITS masks.")  # fmt: skip
@_masks("--mask-lambda", callback=ranges, metavar="LOW-HIGH", multiple=True,
        help="Wavelengths to mask (Angstrom); may be given several times.")  # fmt: skip
@_masks("--border", type=click.IntRange(0), default=0, show_default=True, metavar="SPAXELS",
        help="Width of a rim of each exposure's field to mask.")  # fmt: skip
@_masks("--keep-notch", is_flag=True, help="Do not mask the gap of the AO laser.")
@_masks("--faintest", type=click.FloatRange(0, 100, max_open=True), default=0.0,
        metavar="PERCENT", help="Mask the faintest of each slice; biases the sky.")  # fmt: skip
@_decisions("--duplicates", type=click.Choice(DUPLICATES), default="error", show_default=True,
            help="Cubes of one DATE-OBS: refuse, use one, or keep all.")  # fmt: skip
@_decisions("--allow-missing-offsets", is_flag=True, help="Exposures without an offset stay as "
            "they are; offsets without an exposure do not matter.")  # fmt: skip
@_decisions("--allow-failed-offsets", is_flag=True, help="Use offsets of grade F.")
@_decisions("--replace-grid", is_flag=True, help="Replace a mega-cube of another grid.")
@_running("--dry-run", is_flag=True, help="Say what would be read, made and needed; do nothing.")
@_running("--threads", type=click.IntRange(1), help="In this process; all cores otherwise.")
@_running("--scheduler", metavar="ADDRESS", help="A running Dask scheduler, instead of threads.")
@_running("--site", metavar="NAME", help="Where Dask runs, of your sites; a RUN's own otherwise.")
@_running("--in-job", is_flag=True, help="Run this very command as a job of SLURM.")
@_running("--performance", type=A_FILE, metavar="FILE.html",
          help="Write Dask's report of what took how long; with --site.")  # fmt: skip
@click.option("-v", "--verbose", cls=console.SectionedOption, section="Running", count=True,
              expose_value=False, callback=louder,
              help="Say what is being done; -vv says more.")  # fmt: skip
def stack(**given: Any) -> None:
    """Stack exposures into a mega-cube.

    EXPOSURES are FITS cubes, one table of them that 'musedask exposures' made, or
    the folder of a reduction: then RUN/tables/exposures.ecsv says which are used.
    A run that was stopped goes on when the same command is given again. After a
    change of offsets or exposures only the blocks that it touches are made anew.

    \b
    musedask stack one.fits two.fits --offsets offsets.ecsv -o deep.zarr
    musedask stack exposures.ecsv --methods median,mean,clipped -o deep.zarr
    musedask stack exposures.ecsv --lambda 7000-7100 -o preview.zarr
    """
    from musedask import stack_job
    from musedask.config import ClusterConfig

    job = _job(given)
    if given["dry_run"]:
        click.echo(stack_job.estimate(job, given["threads"]))
        return
    where = clustering.cluster_for(given["exposures"], given["site"])
    if given["in_job"]:
        clustering.submitted(where or ClusterConfig())
        return
    with (
        computing(given["threads"], given["scheduler"], where),
        clustering.performance_of(given["performance"]),
        console.compilation_said(),
        console.progress_bar("stack") as bar,
    ):
        report = stack_job.run(job, bar)
    click.echo(report)


def _job(given: dict[str, Any]) -> StackJob:
    """What the options say, as one value; options that contradict are a UsageError."""
    from musedask.masks import ExposureMask
    from musedask.stack_job import StackJob, exposures_of
    from musedask.stacking import Clipping, StackOptions

    try:
        options = StackOptions(
            methods=given["methods"],
            resampling=given["resampling"],
            weights=given["weights"],
            clipping=Clipping(nsigma=given["clip"]),
            mask=ExposureMask(
                regions=given["regions"], mask=given["mask"], border_pix=given["border"],
                wavelengths=tuple(given["mask_lambda"]), notch=not given["keep_notch"],
                faintest_percent=given["faintest"], mask_sense=given["mask_sense"],
            ),
            subtract_background=given["subtract_background"],
            flux_per=given["flux_per"],
        )  # fmt: skip
        return StackJob(
            exposures=exposures_of(given["exposures"]), output=given["output"],
            offsets=given["offsets"], offsets_format=given["offsets_format"],
            refcube=given["refcube"], overlap=given["overlap"],
            pixel_arcsec=given["pixel"], pad=given["pad"],
            wavelengths=given["wavelengths"], between=given["between"], options=options,
            allow_missing=given["allow_missing_offsets"],
            allow_failed=given["allow_failed_offsets"],
            duplicates=given["duplicates"], overwrite_grid=given["replace_grid"],
        )  # fmt: skip
    except InputError as err:
        raise click.UsageError(console.in_options(str(err))) from err


@click.command()
@click.argument("megacube", type=A_PATH)
@click.argument("output", type=A_FILE)
@click.option("--group", help="Statistic to export; needed if there are several.")
@click.option("--lambda", "between", callback=ranges, metavar="LOW-HIGH",
              help="These wavelengths only (Angstrom).")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the FITS file.")
@verbose
def export(
    megacube: Path,
    output: Path,
    group: str | None,
    between: tuple[float, float] | None,
    overwrite: bool,
) -> None:
    """Write a mega-cube as FITS.

    One statistic goes into one file, which mpdaf, QFitsView and DS9 open.

    \b
    musedask export deep.zarr deep.fits --group median
    musedask export deep.zarr part.fits --group mean --lambda 6800-6900
    """
    store = musedask.open_megacube(megacube)
    if group is None and len(store) > 1:
        raise click.UsageError(f"say which with --group: {', '.join(store)}")
    cube = store[group or next(iter(store))]
    if between is not None:
        waves = cube["wavelength"].values
        cube = cube.sel(wavelength=slice(*between))
        if not cube.sizes["wavelength"]:
            raise InputError(
                f"--lambda {between[0]:g}-{between[1]:g}: no channel; {megacube} reaches from "
                f"{waves[0]:.2f} to {waves[-1]:.2f} Angstrom in {counted(len(waves), 'channel')}"
            )
    with console.progress_bar("export", "MB") as bar:
        path = musedask.export_fits(cube, output, overwrite=overwrite, progress=bar)
    click.echo(path)


@click.command()
@click.argument("file", type=A_PATH)
@verbose
def info(file: Path) -> None:
    """Say what a file is.

    FILE is an exposure, a table of exposures or of offsets, a mega-cube, or a
    FITS export of one. Reads headers and tables only.
    """
    from musedask.info import describe

    click.echo(describe(file))
