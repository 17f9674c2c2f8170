"""CalSelector's associations (``*.xml``): which calibrations ESO's archive chose for which file.

Such a file is a nest of ``association`` elements. Each has ``mainFiles`` (the
files that are reduced together) and ``associatedFiles``, which hold further
associations: the calibrations, with their own calibrations in them.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.parsers import expat

from musedask.errors import FileError, InputError
from musedask.files import opened
from musedask.fits.unpack import plain_stem
from musedask.reduction.frames import Frame, FrameList

MAX_BYTES = 32 << 20
"""The association of a long programme has some hundred kB."""
MAX_DEPTH = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*")
_ROOT = "association"


@dataclass(frozen=True)
class CalFile:
    """A file as an association names it."""

    category: str
    """Its tag: ``BIAS``, ``OBJECT``, ``MASTER_BIAS``..."""
    name: str
    """Its name in the archive, mostly without ``.fits``: ``MUSE.2016-01-02T03:04:05.678``."""


@dataclass(frozen=True)
class CalSelection:
    """The calibrations that the archive chose for files that are reduced together."""

    main: tuple[CalFile, ...]
    """These files."""
    calibrations: tuple[CalFile, ...]
    """What was chosen for them. Where a category is chosen for them and again for one of their
    calibrations, only the former is listed."""
    path: str = ""
    """The XML file."""
    is_complete: bool = True
    """Whether the archive found all that its rules ask for."""

    def of_category(self, *categories: str) -> tuple[CalFile, ...]:
        """Calibrations of these categories."""
        return tuple(file for file in self.calibrations if file.category in categories)


@dataclass(frozen=True)
class CalSelections:
    """All selections that lie in some folders."""

    selections: tuple[CalSelection, ...] = ()
    """In the order of their files."""
    notes: tuple[str, ...] = ()
    """Which XML files could not be used, and why."""

    def __iter__(self) -> Iterator[CalSelection]:
        return iter(self.selections)

    def __len__(self) -> int:
        return len(self.selections)

    @cached_property
    def _by_name(self) -> Mapping[str, CalSelection]:
        found: dict[str, CalSelection] = {}
        for selection in self.selections:
            for file in selection.main:
                # The longest counts where a file is part of several: the archive's associations
                # of single calibrations lack what only science needs.
                known = found.get(plain_stem(file.name))
                if known is None or len(selection.calibrations) > len(known.calibrations):
                    found[plain_stem(file.name)] = selection
        return found

    def of(self, frame: Frame) -> CalSelection | None:
        """Give the selection for a frame, None if there is none; goes by the file's name."""
        return self._by_name.get(plain_stem(frame.path))


def selections(frames: FrameList) -> CalSelections:
    """Read the associations that lie beside frames; other XML files are passed over.

    A file that claims to be an association and cannot be used gives a note.
    """
    found: list[CalSelection] = []
    notes = []
    for path in frames.xml_files:
        try:
            found.extend(read_calselector(path))
        except (FileError, InputError) as err:
            notes.append(f"{err}: it is not used")
    return CalSelections(tuple(found), tuple(notes))


def read_calselector(path: str | os.PathLike[str]) -> tuple[CalSelection, ...]:
    """Read an association of CalSelector.

    Parameters
    ----------
    path
        The XML file.

    Returns
    -------
    tuple of CalSelection
        One for each level that has calibrations, the science files' first;
        empty for an XML file of another kind.

    Raises
    ------
    FileError
        If it cannot be read, is too large, or is no well-formed XML.
    InputError
        If it has a document type or entities (an association has none), or a
        name in it is not that of a file in a folder.
    """
    path = Path(path)
    with opened(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FileError(f"{path}: has more than {MAX_BYTES >> 20} MB: it is no association")
    reader = _Reader(path)
    try:
        reader.parse(content)
    except (expat.ExpatError, LookupError, ValueError) as err:  # the latter: of an odd encoding
        if isinstance(err, InputError):
            raise
        raise FileError(f"{path}: is no XML: {err}; download it again") from None
    return tuple(reader.selections())


@dataclass(eq=False)
class _Node:
    """One association while it is read."""

    complete: bool
    main: list[CalFile] = field(default_factory=list)
    below: list[_Node] = field(default_factory=list)


class _Other(Exception):  # noqa: N818
    """It is XML of another kind."""


class _Reader:
    """Turns the events of the parser into a tree of associations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.roots: list[_Node] = []
        self.open: list[_Node] = []
        self.elements: list[str] = []

    def parse(self, content: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._document_type
        parser.EntityDeclHandler = self._refuse
        try:
            parser.Parse(content, True)
        except _Other:
            self.roots = []

    def selections(self) -> Iterator[CalSelection]:
        waiting = deque(self.roots)
        while waiting:
            node = waiting.popleft()
            waiting.extend(node.below)
            calibrations = tuple(_nearest(node.below))
            if node.main and calibrations:
                yield CalSelection(tuple(node.main), calibrations, str(self.path), node.complete)

    def _document_type(self, name: str, *_: Any) -> None:
        if not _is_association(name):
            raise _Other
        self._refuse()

    def _refuse(self, *_: Any) -> None:
        raise InputError(
            f"{self.path}: has a document type or entities, which an association never has; "
            "remove the file"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self.elements and not _is_association(name):
            raise _Other
        self.elements.append(name)
        if len(self.elements) > MAX_DEPTH:
            raise InputError(f"{self.path}: is nested more than {MAX_DEPTH} deep; remove it")
        if name == _ROOT:
            complete = attributes.get("complete", "true").strip().lower()
            node = _Node(complete not in ("false", "no", "0"))
            (self.open[-1].below if self.open else self.roots).append(node)
            self.open.append(node)
        elif name == "file" and self.open:
            self._add(attributes)

    def _add(self, attributes: dict[str, str]) -> None:
        """Take a file: of mainFiles, or one that stands among associatedFiles by itself."""
        category = attributes.get("category", "").strip().upper()
        name = attributes.get("name", "").strip()
        if not category or _NAME.fullmatch(name) is None or ".." in name:
            raise InputError(
                f"{self.path}: names a file {name!r} of category {category!r}, expected the name "
                "of a file without a folder; download the association again"
            )
        file = CalFile(category, name)
        lists = [
            element for element in self.elements if element in ("mainFiles", "associatedFiles")
        ]
        if lists[-1:] == ["associatedFiles"]:
            self.open[-1].below.append(_Node(True, [file]))
        else:
            self.open[-1].main.append(file)

    def _end(self, name: str) -> None:
        if self.elements.pop() == _ROOT:
            self.open.pop()


def _is_association(name: str) -> bool:
    """Whether an XML file whose outermost element has this name can be CalSelector's."""
    return _ROOT in name.lower()


def _nearest(below: Iterable[_Node]) -> Iterator[CalFile]:
    """Files of associations, level by level; a category of an upper level hides those below."""
    known: set[str] = set()
    level = list(below)
    while level:
        files = dict.fromkeys(file for node in level for file in node.main)
        yield from (file for file in files if file.category not in known)
        known |= {file.category for file in files}
        level = [deeper for node in level for deeper in node.below]
