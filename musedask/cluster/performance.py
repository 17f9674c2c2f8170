"""Dask's own report of what took how long, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    try:
        import bokeh  # noqa: F401
    except ImportError:
        raise MissingError(
            f"{path.name}: Dask draws its report with the package bokeh, which is not installed; "
            "pip install 'musedask[dashboard]'"
        ) from None
    from distributed import performance_report as report

    with report(filename=str(path)):
        yield
