"""ECSV as people and damage leave it: read as it says, or refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from astropy.table import Table

from musedask.errors import InputError
from musedask.wording import readable

_LONGEST_HEADER = 100_000
"""Characters: a column takes a hundred, and YAML that is nested deeply takes minutes to read."""


def table_of_ecsv(text: str, *, ignored: Iterable[type[Warning]] = ()) -> Table:
    """Make a table of the text of an ECSV file.

    Parameters
    ----------
    text
        The file's.
    ignored
        Warnings of astropy that are not taken for errors.

    Raises
    ------
    InputError
        If it is none, or has a column that astropy would read in another way than it says.
    """
    header = sum(len(line) for line in text.splitlines() if line.startswith("#"))
    if header > _LONGEST_HEADER:
        raise InputError(f"its header has {header} characters, more than {_LONGEST_HEADER}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for category in ignored:
                warnings.simplefilter("ignore", category)
            return Table.read(text, format="ascii.ecsv")
    except Exception as err:  # astropy raises whatever its YAML and CSV readers do
        raise InputError(readable(f"{type(err).__name__}: {err}")) from err
