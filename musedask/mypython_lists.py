"""The paired lists of mypython and CubEx: ``cubeall.in``, ``maskall.in``, ``regionsall.in``.

One file name a line, the i-th lines of the lists belong together. CubeCombine
reads them as its ``-list`` and ``-masklist``, mypython's ``combine_cubes`` as
``cubes``, ``masks`` and ``regions``. A mask (CubEx's SliceEdgeMask) is 0 where
it is bad; what is inside of a region is bad as well.
"""

from __future__ import annotations

import os
from pathlib import Path

from astropy.table import Table

from musedask.errors import InputError
from musedask.exposure_making import make_exposure_table
from musedask.exposures import check_exposure_table
from musedask.files import read_text
from musedask.progress import Progress

BESIDE_MASKS = "beside-masks"
_NOTHING = ("none", "-", '""', "''")


def read_mypython_lists(
    cubes: str | os.PathLike[str],
    masks: str | os.PathLike[str] | None = None,
    regions: str | os.PathLike[str] | None = None,
    *,
    measure: bool = False,
    progress: Progress | None = None,
) -> Table:
    """Read paired lists as an exposure table.

    Parameters
    ----------
    cubes
        List of the exposure cubes.
    masks
        List of their FITS masks, 0 is bad.
    regions
        List of DS9 region files to mask; ``None`` or ``-`` on a line for an
        exposure without one (in ``masks`` too). Or ``"beside-masks"``: what
        later versions of mypython do, ``X.reg`` where it stands beside the mask ``X.fits``.
    measure, progress
        As in :func:`musedask.exposure_making.make_exposure_table`.

    Returns
    -------
    Table
        An exposure table, its rows in the order of the lists.

    Raises
    ------
    FileError
        If a list, or a mask or region file that it names, is not there, or no
        cube can be read.
    InputError
        If a list is empty or the lists differ in length.
    """
    names = _read_list(cubes)
    if "" in names:
        raise InputError(f"{cubes}: entry {names.index('') + 1} names no cube")
    table = make_exposure_table(names, measure=measure, progress=progress)
    if masks is not None:
        table["mask"] = _paired(masks, cubes, len(names))
    if regions == BESIDE_MASKS:
        if masks is None:
            raise InputError(f"regions={BESIDE_MASKS!r} needs a list of masks, and there is none")
        table["regions"] = [_beside(str(mask)) for mask in table["mask"]]
    elif regions is not None:
        table["regions"] = _paired(regions, cubes, len(names))
    return check_exposure_table(table, what=str(cubes))


def _read_list(path: str | os.PathLike[str]) -> list[str]:
    """File names of a list, absolute, relative ones from the list's folder; empty for none."""
    name = Path(path)
    lines = read_text(name).splitlines()
    # mypython reads with numpy.loadtxt: blank lines and what follows a # do not count.
    entries = [line.split("#")[0].strip() for line in lines]
    entries = [entry for entry in entries if entry]
    if not entries:
        raise InputError(f"{name}: no entries in this list; expected one file name a line")
    folder = name.absolute().parent
    return [
        "" if entry.lower() in _NOTHING else os.path.normpath(folder / entry) for entry in entries
    ]


def _paired(path: str | os.PathLike[str], cubes: str | os.PathLike[str], size: int) -> list[str]:
    """Entries of a list that has to be as long as that of the cubes."""
    entries = _read_list(path)
    if len(entries) != size:
        raise InputError(
            f"{path} has {len(entries)} entries and {cubes} has {size}: the lists are paired line "
            "by line; write None for an exposure without one"
        )
    return entries


def _beside(mask: str) -> str:
    """The region file beside a mask, if there is one."""
    region = Path(mask).with_name(Path(mask).name.split(".fits")[0] + ".reg") if mask else None
    return str(region) if region is not None and os.path.isfile(region) else ""
