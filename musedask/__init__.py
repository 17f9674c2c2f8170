"""From nights of VLT/MUSE exposures to one deep mega-cube."""

from importlib.metadata import PackageNotFoundError, version

from musedask.errors import FileError, InputError, MissingError, MusedaskError, MusedaskWarning
from musedask.exposure_making import make_exposure_table
from musedask.exposures import read_exposure_table, write_exposure_table
from musedask.fits import export_fits, open_cube, open_exposures
from musedask.grid import CubeGrid
from musedask.masks import ExposureMask
from musedask.megacube import open_megacube, write_megacube
from musedask.offsets import Offset, OffsetTable
from musedask.stacking import Clipping, MpdafClipping, StackOptions, stack

try:
    __version__ = version("musedask")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

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
    "StackOptions",
    "export_fits",
    "make_exposure_table",
    "open_cube",
    "open_exposures",
    "open_megacube",
    "read_exposure_table",
    "stack",
    "write_exposure_table",
    "write_megacube",
]
