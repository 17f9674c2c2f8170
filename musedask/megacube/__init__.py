"""Cubes into Zarr, resumable, and out of it."""

from musedask.megacube.reading import MegaCube, MegaCubeInfo, megacube_info, open_megacube
from musedask.megacube.writing import WriteReport, write_megacube

__all__ = [
    "MegaCube",
    "MegaCubeInfo",
    "WriteReport",
    "megacube_info",
    "open_megacube",
    "write_megacube",
]
