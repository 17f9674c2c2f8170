"""What several commands share: types of arguments, how they are read, where Dask computes."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musedask import console
from musedask.errors import FileError

if TYPE_CHECKING:
    from musedask.config import ClusterConfig

A_FILE = click.Path(dir_okay=False, path_type=Path)
A_FOLDER = click.Path(file_okay=False, path_type=Path)
A_PATH = click.Path(path_type=Path)


def ranges(ctx: click.Context, param: click.Parameter, given: Any) -> Any:
    """Read ``7000-7100``, once or, of an option that repeats, several times."""
    return tuple(map(_range, given)) if isinstance(given, tuple) else given and _range(given)


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        found = float(low), float(high)
    except ValueError:
        found = math.nan, math.nan
    if not all(map(math.isfinite, found)):
        raise click.BadParameter(f"{text!r} is not a range such as 7000-7100 (Angstrom)")
    if found[0] > found[1]:
        raise click.BadParameter(f"{text!r}: the first wavelength is above the second")
    return found


def names(ctx: click.Context, param: click.Parameter, given: str) -> tuple[str, ...]:
    """Split at the commas."""
    return tuple(name.strip() for name in given.split(",") if name.strip())


def louder(ctx: click.Context, param: click.Parameter, count: int) -> None:
    """Set the log up, if the option is given or nobody has before."""
    if count or ctx.parent is None:
        console.set_up_log(count)


verbose = click.option(
    "-v", "--verbose", count=True, expose_value=False, callback=louder,
    help="Say what is being done; -vv says more.",
)  # fmt: skip


def check_new(output: Path, overwrite: bool) -> None:
    """Complain before the work, not after it."""
    if not output.absolute().parent.is_dir():
        raise FileError(f"{output.absolute().parent}: no such folder; make it first")
    if output.exists() and not overwrite:
        raise FileError(f"{output}: exists; give --overwrite to replace it, or another name")


def computing(
    threads: int | None, scheduler: str | None, where: ClusterConfig | None = None
) -> AbstractContextManager[Any]:
    """Where Dask runs while a command computes."""
    if where is not None and where.kind != "threads" and not (threads or scheduler):
        from musedask.cluster import open_cluster

        return open_cluster(where, "stack")
    if scheduler is not None:
        from musedask.cluster.connecting import connect

        return connect(scheduler, f"--scheduler {scheduler}")
    import dask.config

    chosen: dict[str, Any] = {"scheduler": "threads"}
    return dask.config.set(chosen | ({"num_workers": threads} if threads else {}))
