"""The command line: each command reads its arguments and calls one verb.

What takes long to import is imported inside the commands, and the choices of
options stand in them as plain texts (a test holds them to the library's).
"""

from __future__ import annotations

import os
import sys

import click

import musedask
from musedask import console
from musedask.cli import aligning, clustering, reducing, reviewing, simulating, stacking
from musedask.cli.options import verbose

STOPPED = 130
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
COMMANDS: tuple[click.Command, ...] = (
    reducing.init,
    reducing.frames,
    reducing.plan,
    clustering.doctor,
    reducing.reduce,
    reducing.status,
    stacking.exposures,
    aligning.align,
    reviewing.review,
    stacking.stack,
    stacking.export,
    stacking.info,
    simulating.simulate,
    simulating.demo,
    reducing.from_pymusepipe,
)
"""In the order of their use, which is that of the help."""


@click.group(cls=console.OrderedGroup, context_settings=CONTEXT)
@click.version_option(musedask.__version__, prog_name="musedask")
@verbose
def cli() -> None:
    """From VLT/MUSE raw frames to one deep mega-cube.

    \b
    From raw frames to exposure cubes, with ESO's pipeline:
      musedask init mudf --raw /data/raw --static /data/calib
      musedask plan mudf
      musedask reduce mudf
    \b
    From exposure cubes, if their headers are right:
      musedask stack one.fits two.fits three.fits -o deep.zarr
      musedask export deep.zarr deep.fits
    \b
    With many of them, some to be left out, and offsets to be measured:
      musedask exposures night*/DATACUBE_FINAL*.fits -o exposures.ecsv
      (edit exposures.ecsv: the column "use", masks, weights)
      musedask align exposures.ecsv --reference hst.fits -o offsets.ecsv
      musedask review offsets.ecsv
      musedask stack exposures.ecsv --offsets offsets.ecsv -o deep.zarr

    Results go to stdout, log and progress to stderr. The exit status is 0, 1 if
    something failed, 2 if the command was not understood, 130 if it was stopped.
    """


for command in COMMANDS:
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with 0, 1 (failed), 2 (usage) or 130 (interrupted)."""
    console.stop_on_signals()
    try:
        given = sys.argv[1:] if arguments is None else arguments
        cli.main(given, prog_name="musedask", standalone_mode=False, obj=tuple(given))
        sys.stdout.flush()
    except click.ClickException as err:
        err.show()
        sys.exit(err.exit_code)
    except (KeyboardInterrupt, click.Abort):
        console.say("musedask: stopped; the same command goes on from here, or begins again")
        sys.stdout.flush()
        # At once: the blocks under way in threads are not worth waiting for.
        os._exit(STOPPED)
    except BrokenPipeError:  # who reads our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as err:
        console.say_failure(err)
        sys.exit(1)
