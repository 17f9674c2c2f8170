"""DS9 region files as masks on an exposure's pixels.

Shapes with an area are taken: circle, ellipse, box, annulus, polygon, in image
(or physical) pixels, icrs, fk5, fk4, galactic or ecliptic coordinates. Text,
comments and display properties mean nothing here; whatever else is in the file
is an error that names its line, since a shape that is dropped in silence is a
defect that stays in the stack.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.utils.exceptions import AstropyUserWarning
from regions import CircleSkyRegion, PixCoord, PixelRegion, Region, Regions, SkyRegion

from musedask.errors import FileError, InputError
from musedask.files import read_text
from musedask.sky import SkyProjection
from musedask.wording import readable

Bools = np.ndarray[Any, np.dtype[np.bool_]]

_FRAMES = ("image", "icrs", "fk5", "j2000", "fk4", "b1950", "galactic", "ecliptic")
_OTHER_FRAMES = ("linear", "amplifier", "detector", "tile", "wcs")
_AREAS = ("circle", "ellipse", "box", "annulus", "polygon")
_NO_AREA = ("point", "line", "vector", "ruler", "compass", "projection", "segment")
_MOST_NUMBERS = 5000
"""Parameters of a shape: to read a number as a coordinate takes a tenth of a millisecond."""
_STATEMENT = re.compile(r"([+-]?)\s*([a-z]+[a-z0-9]*)(.*)")
# No pattern that looks from each bracket to the end of a line that may be long.
_QUOTED = re.compile(r"""\{[^{}]*\}|'[^']*'|"[^"]*\"""")
_INCLUDE = re.compile(r"\binclude\s*=\s*([01])")


@dataclass(frozen=True)
class RegionShape:
    """One shape of a region file."""

    frame: str
    """Coordinate system, as DS9 calls it, in lower case."""
    text: str
    """The shape as DS9 writes it, in lower case without blanks: ``circle(10,20,3)``."""
    excluded: bool
    """Whether the shape has a minus sign before it."""
    line: int
    """Line of the file, from 1."""


@dataclass(frozen=True)
class RegionFile:
    """The shapes of a DS9 region file."""

    path: str
    """Where it was read from; for error messages."""
    shapes: tuple[RegionShape, ...]
    """At least one."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> RegionFile:
        """Read a region file and check every shape in it.

        Raises
        ------
        FileError
            If the file cannot be read.
        InputError
            If there is no shape in it, or a line that is not understood or
            not supported; the message names file and line.
        """
        try:
            text = read_text(path, errors="replace")
        except FileError as err:
            raise FileError(
                f"{err} (the region file; correct the path or clear it in the exposure table)"
            ) from err
        shapes: list[RegionShape] = []
        frame = ""
        for number, line in enumerate(text.splitlines(), start=1):
            frame = _read_line(line, frame, number, str(path), shapes)
        if not shapes:
            raise InputError(
                f"{path}: no shape in this region file; draw one, or leave the file out"
            )
        for shape in shapes:
            _region_of(shape, str(path))
        return cls(str(path), tuple(shapes))

    @property
    def checksum(self) -> str:
        """64 hexadecimal digits that change where the shapes do.

        Colours, comments, and the order of the shapes do not enter.
        """
        content = sorted({(s.frame, s.text, s.excluded) for s in self.shapes})
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def inside(self, sky: SkyProjection, shape: tuple[int, int]) -> Bools:
        """Pixels whose centre lies in the described area, bool of shape (y, x).

        As in DS9 and funtools the area is the union of all shapes without a
        sign, less all shapes with a minus, in whatever order they stand; if
        all of them have a minus, it is everything but them.

        Parameters
        ----------
        sky
            Projection of the exposure, as its header has it.
        shape
            (ny, nx) of the exposure.
        """
        area = np.full(shape, all(s.excluded for s in self.shapes))
        for shape_in in (s for s in self.shapes if not s.excluded):
            area |= self._covered(shape_in, sky, shape)
        for shape_out in (s for s in self.shapes if s.excluded):
            area &= ~self._covered(shape_out, sky, shape)
        return area

    def _covered(self, one: RegionShape, sky: SkyProjection, shape: tuple[int, int]) -> Bools:
        """Pixels that one shape covers, bool (y, x)."""
        area = np.zeros(shape, dtype=bool)
        try:
            for region in _region_of(one, self.path):
                area |= _covered(region, sky, shape)
        except InputError:
            raise
        except Exception as err:  # of numbers that no pixel can have, the packages raise anything
            raise InputError(
                f"{self.path}, line {one.line}: {readable(one.text, 200)!r} cannot be drawn "
                f"({readable(str(err), 200)}); correct its numbers"
            ) from err
        return area

    def circles(self) -> list[tuple[float, float, float]]:
        """ICRS position (degrees) and radius (arcsec) of each shape, all circles on the sky.

        Raises
        ------
        InputError
            If a shape is something else; the message names file and line.
        """
        found: list[tuple[float, float, float]] = []
        for shape in self.shapes:
            (region, *_) = _region_of(shape, self.path)
            if not isinstance(region, CircleSkyRegion) or shape.excluded:
                raise InputError(
                    f"{self.path}, line {shape.line}: {shape.text!r} is no circle on the sky; only "
                    "those can be given here: save the regions as circles in fk5 or icrs"
                )
            centre = region.center.icrs
            found.append(
                (
                    float(centre.ra.deg),
                    float(centre.dec.deg),
                    float(region.radius.to_value("arcsec")),
                )
            )
        return found


def _read_line(line: str, frame: str, number: int, path: str, shapes: list[RegionShape]) -> str:
    """Add the shapes of one line; return the coordinate system after it."""
    line = line.strip().lower()
    if line.startswith("#"):
        composite = re.match(r"#\s*([+-]?)composite\b", line)
        if composite and (composite[1] == "-" or "0" in _INCLUDE.findall(line)):
            raise InputError(
                f"{path}, line {number}: a composite that is excluded as a whole is not "
                "supported; dissolve it in DS9 (Region, Composite Region, Dissolve)"
            )
        return frame
    if not line or line.startswith("global"):
        return frame
    body, _, properties = line.partition("#")
    statements = [part.strip(" |\t") for part in body.split(";") if part.strip(" |\t")]
    included = _INCLUDE.findall(_QUOTED.sub("", properties))
    for i, statement in enumerate(statements):
        match = _STATEMENT.fullmatch(statement)
        sign, word, rest = match.groups() if match else ("", "", "")
        if word in (*_FRAMES, "physical") and not rest.strip():
            # No MUSE product has the LTV and LTM cards that would make them differ.
            frame = "image" if word == "physical" else word
        elif word in _AREAS:
            excluded = sign == "-"
            if included and i == len(statements) - 1:
                excluded = included[-1] == "0"  # the property wins over the sign
            shapes.append(_shape(word, rest, frame, excluded, number, path))
        elif word != "text":
            raise InputError(f"{path}, line {number}: {_why_not(word, statement)}")
    return frame


def _why_not(word: str, statement: str) -> str:
    """Say why a statement is no use for a mask."""
    if word in _NO_AREA:
        return f"a {word} has no area to mask; draw one of {', '.join(_AREAS)} instead"
    if word in ("panda", "epanda", "bpanda"):
        return f"the shape {word} is not supported; draw one of {', '.join(_AREAS)} instead"
    if word in _OTHER_FRAMES or re.fullmatch(r"wcs[0a-z]?", word):
        return (
            f"the coordinate system {word!r} is not supported; save the regions as fk5, icrs "
            "or image"
        )
    return (
        f"{statement[:60]!r} is not understood; expected a DS9 region file as DS9 itself saves it"
    )


def _shape(word: str, rest: str, frame: str, excluded: bool, number: int, path: str) -> RegionShape:
    """Make a shape, with its number of parameters checked."""
    if not frame:
        raise InputError(
            f"{path}, line {number}: no coordinate system before this {word}; add a line with "
            "image, fk5 or icrs above it"
        )
    values = [value for value in re.split(r"[\s,()]+", rest) if value]
    n = len(values)
    if word in ("box", "ellipse") and n >= 4 and n % 2 == 0:
        values.append("0")  # DS9 takes a missing angle as 0
        n += 1
    if endless := [value for value in values if not _is_finite(value)]:
        raise InputError(f"{path}, line {number}: {endless[0]!r} is no number of a {word}")
    if n > _MOST_NUMBERS:
        raise InputError(
            f"{path}, line {number}: a {word} of {n} parameters, more than {_MOST_NUMBERS}; draw "
            "several smaller shapes"
        )
    good = {
        "circle": n == 3,
        "polygon": n >= 6 and n % 2 == 0,
        "annulus": n >= 4,
        "box": n >= 5,
        "ellipse": n >= 5,
    }[word]
    if not good:
        raise InputError(
            f"{path}, line {number}: {n} parameters do not make a {word}; write it as DS9 does"
        )
    return RegionShape(frame, f"{word}({','.join(values)})", excluded, number)


def _is_finite(text: str) -> bool:
    """Whether a parameter is no infinity and no NaN; sexagesimal ones are neither."""
    try:
        return math.isfinite(float(text.rstrip("\"'dpri")))
    except ValueError:
        return True


def _region_of(shape: RegionShape, path: str) -> list[Region]:
    """Have the regions package make its objects; an annulus with n rings gives n - 1."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)
            found = list(Regions.parse(f"{shape.frame}\n{shape.text}", format="ds9"))
    except Exception as err:
        raise InputError(
            f"{path}, line {shape.line}: {readable(shape.text, 200)!r} is not understood "
            f"({readable(str(err), 200)}); "
            "write it as DS9 does"
        ) from err
    if not found:
        what = readable(shape.text, 200)
        raise InputError(f"{path}, line {shape.line}: {what!r} gives no region")
    return found


def _covered(region: Region, sky: SkyProjection, shape: tuple[int, int]) -> Bools:
    """Pixels of the frame whose centre is inside a region, bool (y, x)."""
    covered = np.zeros(shape, dtype=bool)
    if isinstance(region, SkyRegion):
        corners = region.vertices if hasattr(region, "vertices") else region.center
        if not _projects(corners, sky):
            return covered
        region = region.to_pixel(sky.wcs)
    assert isinstance(region, PixelRegion)
    # Only the frame's part of the bounding box: a region may be larger than the sky.
    box = region.bounding_box
    x0, x1 = max(box.ixmin, 0), min(box.ixmax, shape[1])
    y0, y1 = max(box.iymin, 0), min(box.iymax, shape[0])
    if x0 < x1 and y0 < y1:
        y, x = np.mgrid[y0:y1, x0:x1].astype(np.float64)
        covered[y0:y1, x0:x1] = region.contains(PixCoord(x, y))
    return covered


def _projects(positions: SkyCoord, sky: SkyProjection) -> bool:
    """Whether positions lie on the projection's side of the sky."""
    icrs = positions.icrs
    x, y = sky.to_pixel(icrs.ra.deg, icrs.dec.deg)
    return bool(np.all(np.isfinite(x)) and np.all(np.isfinite(y)))
