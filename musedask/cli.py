"""The command line: each command reads its arguments and calls one verb."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click
import dask
import dask.config

import musedask
from musedask import console, stack_job
from musedask.errors import MusedaskError
from musedask.exposures import make_exposure_table, write_exposure_table
from musedask.info import describe
from musedask.masks import MASK_SENSES, ExposureMask
from musedask.mypython_lists import read_mypython_lists
from musedask.offset_formats import OFFSET_FORMATS
from musedask.stacking import Clipping, StackOptions
from musedask.stacking.geometry import RESAMPLINGS
from musedask.stacking.statistics import METHODS

EXISTING = click.Path(exists=False, dir_okay=False, path_type=Path)
STOPPED = 130


class _Range(click.ParamType[tuple[float, float]]):
    """A range of wavelengths: ``7000-7100``."""

    name = "LOW-HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        """Split at the hyphen."""
        if isinstance(value, tuple):
            return value[0], value[1]
        low, _, high = str(value).partition("-")
        try:
            found = float(low), float(high)
        except ValueError:
            self.fail(f"{value!r} is not a range such as 7000-7100 (Angstrom)", param, ctx)
        if found[0] > found[1]:
            self.fail(f"{value!r}: the first wavelength is above the second", param, ctx)
        return found


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(musedask.__version__, prog_name="musedask")
@click.option("-v", "--verbose", count=True, help="Say what is being done; twice for more.")
def cli(verbose: int) -> None:
    r"""From VLT/MUSE exposure cubes to one deep mega-cube.

    \b
    A first stack of three exposures whose headers are right:
      musedask stack one.fits two.fits three.fits -o deep.zarr
      musedask export deep.zarr deep.fits --group median

    Results go to stdout, log and progress to stderr. The exit status is 0, 1 if
    something failed, 2 if the command was not understood.
    """
    console.set_up_log(verbose)


@cli.command()
@click.argument("files", nargs=-1, type=EXISTING)
@click.option("-o", "--output", type=EXISTING, default=Path("exposures.ecsv"), show_default=True,
              help="The table to write.")  # fmt: skip
@click.option("--list", "cube_list", type=EXISTING, help="File of cubes, one a line (mypython's "
              "cubeall.in), instead of FILES.")  # fmt: skip
@click.option("--mask-list", type=EXISTING, help="Their masks, line by line (maskall.in).")
@click.option("--region-list", type=EXISTING, help="Their regions, line by line (regionsall.in).")
@click.option("--no-measure", is_flag=True, help="Headers only: do not measure the sky.")
@click.option("--overwrite", is_flag=True, help="Replace the table.")
def exposures(
    files: tuple[Path, ...],
    output: Path,
    cube_list: Path | None,
    mask_list: Path | None,
    region_list: Path | None,
    no_measure: bool,
    overwrite: bool,
) -> None:
    """Make the exposure table of some cubes, to edit and to give to stack."""
    if (cube_list is None) == (not files):
        raise click.UsageError("give either FILES or --list")
    if cube_list is None:
        if mask_list or region_list:
            raise click.UsageError("--mask-list and --region-list go with --list")
        table = make_exposure_table(files, measure=not no_measure)
    else:
        table = read_mypython_lists(cube_list, mask_list, region_list, measure=not no_measure)
    write_exposure_table(table, output, overwrite=overwrite)
    n_used = int(sum(table["use"]))
    click.echo(f"{output}: {len(table)} exposures, {n_used} of them used")


@cli.command()
@click.argument("exposures", nargs=-1, required=True, metavar="EXPOSURE... | TABLE.ecsv")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path),
              help="The mega-cube to make, usually NAME.zarr.")  # fmt: skip
@click.option("--offsets", type=EXISTING, help="Offsets, exposure minus reference; else the "
              "headers are taken as right.")  # fmt: skip
@click.option(
    "--offsets-format", type=click.Choice(OFFSET_FORMATS), help="Where the content does not tell."
)
@click.option("--methods", default="median", show_default=True,
              help=f"With commas: {', '.join(METHODS)}; each also _odd or _even.")  # fmt: skip
@click.option("--resampling", type=click.Choice(RESAMPLINGS), default="exact", show_default=True)
@click.option("--weights", type=click.Choice(["exptime", "noise", "given", "equal"]),
              default="exptime", show_default=True, help="Weights of the means.")  # fmt: skip
@click.option("--clip", default=5.0, show_default=True, help="Width of 'clipped' in sigma.")
@click.option("--wavelengths", default="common", show_default=True,
              help="common, nominal, or FIRST:STEP:SIZE in Angstrom.")  # fmt: skip
@click.option("--lambda", "between", type=_Range(), help="Stack a part only, as a preview.")
@click.option("--refcube", type=EXISTING, help="FITS cube whose grid is taken.")
@click.option("--overlap", is_flag=True, help="Only what all exposures share.")
@click.option("--pixel", type=float, help="Spaxel of the grid in arcsec, if not the exposures'.")
@click.option("--pad", type=click.IntRange(0), default=4, show_default=True,
              help="Pixels around the union.")  # fmt: skip
@click.option("--border", type=click.IntRange(0), default=0, show_default=True,
              help="Mask so many spaxels along the edge of each exposure's field.")  # fmt: skip
@click.option("--regions", type=EXISTING, help="DS9 regions to mask in every exposure.")
@click.option("--mask", type=EXISTING, help="FITS mask for every exposure.")
@click.option("--mask-sense", type=click.Choice(MASK_SENSES), default="good", show_default=True,
              help="What a value other than 0 means in FITS masks.")  # fmt: skip
@click.option(
    "--mask-lambda", type=_Range(), multiple=True, help="Wavelengths to mask; repeatable."
)
@click.option("--keep-notch", is_flag=True, help="Do not mask the gap of the AO laser.")
@click.option("--faintest", type=click.FloatRange(0, 100, max_open=True), default=0.0,
              help="Mask the faintest per cent of each slice; biases the sky.")  # fmt: skip
@click.option("--subtract-background", is_flag=True,
              help="Subtract each exposure's median in each channel.")  # fmt: skip
@click.option("--flux-per", type=click.Choice(["auto", "spaxel", "native"]), default="auto",
              show_default=True, help="Area for which the exposures state their flux.")  # fmt: skip
@click.option("--allow-missing-offsets", is_flag=True, help="Exposures without an offset stay as "
              "they are; offsets without an exposure do not matter.")  # fmt: skip
@click.option("--allow-failed-offsets", is_flag=True, help="Use offsets of grade F.")
@click.option("--duplicates", type=click.Choice(["error", "first", "last", "keep"]),
              default="error", show_default=True, help="Cubes of one DATE-OBS.")  # fmt: skip
@click.option("--replace-grid", is_flag=True, help="Replace a mega-cube of another grid.")
@click.option("--threads", type=click.IntRange(1), help="Threads in this process; all cores else.")
@click.option("--scheduler", help="Address of a running Dask scheduler to use instead of threads.")
@click.option("--dry-run", is_flag=True, help="Say what would be read and written; do nothing.")
def stack(**given: Any) -> None:
    r"""Stack exposures into a mega-cube; goes on where it was stopped.

    \b
    musedask stack one.fits two.fits --offsets offsets.ecsv -o deep.zarr
    musedask stack exposures.ecsv --methods median,mean,clipped -o deep.zarr
    musedask stack exposures.ecsv --lambda 7000-7100 -o preview.zarr
    """
    job = _job(given)
    if given["dry_run"]:
        click.echo(stack_job.estimate(stack_job.prepare(job)))
        return
    with _computing(given["threads"], given["scheduler"]), console.progress_bar("stack") as bar:
        report = stack_job.run(job, bar)
    click.echo(report)


def _job(given: dict[str, Any]) -> stack_job.StackJob:
    options = StackOptions(
        methods=tuple(name.strip() for name in given["methods"].split(",") if name.strip()),
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
    return stack_job.StackJob(
        exposures=given["exposures"], output=given["output"], offsets=given["offsets"],
        offsets_format=given["offsets_format"], refcube=given["refcube"],
        overlap=given["overlap"], pixel_arcsec=given["pixel"], pad=given["pad"],
        wavelengths=given["wavelengths"], between=given["between"], options=options,
        allow_missing=given["allow_missing_offsets"], allow_failed=given["allow_failed_offsets"],
        duplicates=given["duplicates"], overwrite_grid=given["replace_grid"],
    )  # fmt: skip


def _computing(threads: int | None, scheduler: str | None) -> Any:
    """Where Dask runs while a command computes."""
    if scheduler is not None:
        from distributed import Client  # a second that only those who ask for it pay

        return Client(scheduler)
    chosen: dict[str, Any] = {"scheduler": "threads"}
    return dask.config.set(chosen | ({"num_workers": threads} if threads else {}))


@cli.command()
@click.argument("megacube", type=click.Path(path_type=Path))
@click.argument("output", type=EXISTING)
@click.option("--group", default=None, help="Statistic to export; needed if there are several.")
@click.option("--lambda", "between", type=_Range(), help="Export a part only.")
@click.option("--overwrite", is_flag=True, help="Replace the FITS file.")
def export(
    megacube: Path,
    output: Path,
    group: str | None,
    between: tuple[float, float] | None,
    overwrite: bool,
) -> None:
    """Write one statistic of a mega-cube as a FITS file that mpdaf opens."""
    store = musedask.open_megacube(megacube)
    if group is None and len(store) > 1:
        raise click.UsageError(f"say which with --group: {', '.join(store)}")
    cube = store[group or next(iter(store))]
    if between is not None:
        cube = cube.sel(wavelength=slice(*between))
    with console.progress_bar("export") as bar:
        path = musedask.export_fits(cube, output, overwrite=overwrite, progress=bar)
    click.echo(path)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def info(file: Path) -> None:
    """Say what a file is: an exposure, a table of exposures or offsets, or a mega-cube."""
    click.echo(describe(file))


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("demo"))
@click.option("--threads", type=click.IntRange(1), help="Threads in this process; all cores else.")
def demo(folder: Path, threads: int | None) -> None:
    """Run the main job on real data observed again, and compare with the truth."""
    from musedask import demo as demonstration  # simulation and plots only if asked for

    with _computing(threads, None), console.progress_bar("demo") as bar:
        report = demonstration.run(folder, bar, console.say)
    click.echo(report)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with 0, 1 (failed), 2 (usage) or 130 (interrupted)."""
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        cli.main(arguments, prog_name="musedask", standalone_mode=False)
    except click.ClickException as err:
        err.show()
        sys.exit(err.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("musedask: stopped; the same command goes on from here", err=True)
        sys.exit(STOPPED)
    except MusedaskError as err:
        click.echo(f"musedask: {err}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _interrupted(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
