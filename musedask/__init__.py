"""From nights of VLT/MUSE exposures to one deep mega-cube."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musedask.alignment.measure import align, measure_offsets
    from musedask.cluster import open_cluster
    from musedask.errors import FileError, InputError, MissingError, MusedaskError, MusedaskWarning
    from musedask.exposure_making import make_exposure_table
    from musedask.exposures import read_exposure_table, write_exposure_table
    from musedask.fits import export_fits, open_cube, open_exposures
    from musedask.grid import CubeGrid
    from musedask.masks import ExposureMask
    from musedask.megacube import open_megacube, write_megacube
    from musedask.offsets import Offset, OffsetTable
    from musedask.reduction.finding.scan import find_frames
    from musedask.reduction.planning.plan import plan_reduction
    from musedask.reduction.running.reduce import reduce
    from musedask.run import Run, init_run, open_run
    from musedask.stacking import Clipping, MpdafClipping, StackOptions, stack

try:
    __version__ = version("musedask")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

_HOMES = {
    "alignment.measure": ("align", "measure_offsets"),
    "cluster": ("open_cluster",),
    "errors": ("FileError", "InputError", "MissingError", "MusedaskError", "MusedaskWarning"),
    "exposure_making": ("make_exposure_table",),
    "exposures": ("read_exposure_table", "write_exposure_table"),
    "fits": ("export_fits", "open_cube", "open_exposures"),
    "grid": ("CubeGrid",),
    "masks": ("ExposureMask",),
    "megacube": ("open_megacube", "write_megacube"),
    "offsets": ("Offset", "OffsetTable"),
    "reduction.planning.plan": ("plan_reduction",),
    "reduction.running.reduce": ("reduce",),
    "reduction.finding.scan": ("find_frames",),
    "run": ("Run", "init_run", "open_run"),
    "stacking": ("Clipping", "MpdafClipping", "StackOptions", "stack"),
}
"""Module -> public names; imported when asked for, so that a command starts at once."""

__all__ = [
    "Clipping",
    "CubeGrid",
    "ExposureMask",
    "FileError",
    "InputError",
    "MissingError",
    "MpdafClipping",
    "MusedaskError",
    "MusedaskWarning",
    "Offset",
    "OffsetTable",
    "Run",
    "StackOptions",
    "align",
    "export_fits",
    "find_frames",
    "init_run",
    "make_exposure_table",
    "measure_offsets",
    "open_cluster",
    "open_cube",
    "open_exposures",
    "open_megacube",
    "open_run",
    "plan_reduction",
    "read_exposure_table",
    "reduce",
    "stack",
    "write_exposure_table",
    "write_megacube",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"musedask.{module}"), name)
    raise AttributeError(f"module 'musedask' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names for completion."""
    return [*globals(), *__all__]
