"""VOTables, the XML of astronomical archives: read as long as all is in the file itself."""

from __future__ import annotations

import io
from typing import Any
from xml.parsers import expat

from astropy.table import Table

from musedask.errors import InputError

_DEEPEST = 100


def table_of_votable(content: bytes) -> Table:
    """Make a table of what a VOTable file holds.

    Raises
    ------
    InputError
        If it has a document type, data in another place (astropy would fetch
        them), or more rows than bytes.
    ExpatError, Exception
        What XML's parser and astropy raise where it is no VOTable.
    """
    _Check(len(content)).parse(content)
    return Table.read(io.BytesIO(content), format="votable")


class _Check:
    """A walk through the elements, in which nothing is kept."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes, self.depth = n_bytes, 0

    def parse(self, content: bytes) -> None:
        """Raise if an element is not to be read."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._doctype
        parser.Parse(content, True)

    def _doctype(self, *given: Any) -> None:
        raise InputError("it has a document type, which no VOTable needs")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise InputError(f"its elements are nested more than {_DEEPEST} deep")
        element = name.rpartition(":")[2].upper()
        if element == "STREAM" and "href" in attributes:
            raise InputError("its data lie in another place; save it with the data in it")
        rows = attributes.get("nrows", "0")
        if not rows.isdecimal() or len(rows) > 15 or int(rows) > self.n_bytes:
            raise InputError(f"nrows = {rows!r} in a file of {self.n_bytes} bytes")

    def _end(self, name: str) -> None:
        self.depth -= 1
