"""Dask's own report of what took how long, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from musedask.errors import MissingError


@contextmanager
def performance_report(path: Path) -> Iterator[None]:
    """Write what the Dask client that is in charge does inside the block.

    Raises
    ------
    MissingError
        If bokeh is not installed.
    """
    if find_spec("bokeh") is None:
        raise MissingError(
            f"{path.name}: Dask draws its report with the package bokeh, which is not installed; "
            "pip install 'musedask[dashboard]'"
        )
    from distributed import performance_report as report

    with report(filename=str(path)):
        yield
