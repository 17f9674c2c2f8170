"""What was compared, kept beside the offsets: a folder of images that a person can review.

``NAME.alignment/`` lies beside ``NAME.ecsv``. In it each exposure has ``EXPOSURE.fits`` with
the images and ``EXPOSURE.json`` with the measurement; the latter is written last and says what
the former has to be, so that a pair that does not belong together is noticed.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from musedask.alignment.image import FieldImage
from musedask.alignment.json_files import json_text, read_json
from musedask.alignment.measurement import Measurement, SourceOffset
from musedask.errors import FileError, InputError, MissingError
from musedask.files import read_bytes
from musedask.fits.small import fits_of
from musedask.offsets import date_key
from musedask.run import name_for_people
from musedask.sky import SkyProjection
from musedask.whole_files import write_whole

FORMAT = "musedask alignment material"
VERSION = 1
SUFFIX = ".alignment"
_ARRAYS = ("flux", "variance", "coverage")


@dataclass(frozen=True)
class MaskedCircle:
    """A part of the sky that a person left out."""

    ra_deg: float
    """RA of its centre in the reference, degrees."""
    dec_deg: float
    """DEC of its centre in the reference, degrees."""
    radius_arcsec: float
    """Its radius."""

    def __post_init__(self) -> None:
        good = np.isfinite(self.ra_deg) and abs(self.dec_deg) <= 90.0
        if not good or not 0.0 < self.radius_arcsec <= 3600.0:
            raise InputError(
                f"a masked circle at ({self.ra_deg}, {self.dec_deg}) of {self.radius_arcsec} "
                "arcsec: expected a position on the sky and a radius above 0 and up to 3600"
            )


@dataclass(frozen=True, eq=False)
class Compared:
    """An exposure and its reference as they were compared, and what was measured.

    Raises
    ------
    InputError
        If the reference is not on the exposure's lattice with the same margin all around.
    """

    measurement: Measurement
    """What came out."""
    exposure: FieldImage
    """Background subtracted, resolution matched; variance NaN where it was left out."""
    reference: FieldImage
    """Brought to the exposure's scale, resolution and units, on its lattice with a margin."""
    masked: tuple[MaskedCircle, ...] = ()
    """What a person left out."""

    def __post_init__(self) -> None:
        (ny, nx), (rows, columns) = self.exposure.shape, self.reference.shape
        margin = self.margin
        step = self.reference.projection.lattice_step(self.exposure.projection, (rows, columns))
        if (rows - ny, columns - nx) != (2 * margin, 2 * margin) or margin < 0:
            raise InputError(
                f"{self.exposure}: the reference has {rows} x {columns} pixels for an exposure "
                f"of {ny} x {nx}; it needs the same whole margin on all sides"
            )
        if step != (-margin, -margin):
            raise InputError(
                f"{self.exposure}: the reference is not on the exposure's lattice with a margin "
                f"of {margin} pixels (it is {step} away)"
            )

    @property
    def margin(self) -> int:
        """Pixels by which the reference reaches beyond the exposure."""
        return (self.reference.shape[0] - self.exposure.shape[0]) // 2

    @property
    def key(self) -> str:
        """What its row of an offset table is found by."""
        return date_key(self.measurement.date_obs)


@dataclass(frozen=True)
class Entry:
    """One exposure of a folder; its images are read when they are asked for."""

    path: Path
    """The JSON file."""
    measurement: Measurement
    """What was measured."""
    masked: tuple[MaskedCircle, ...]
    """What a person left out."""
    projection: SkyProjection
    """Where the exposure's file puts its pixels."""
    shape: tuple[int, int]
    """Rows and columns of the exposure."""
    carried_arcsec: tuple[float, float]
    """Offset, east and north, that the file's WCS has already had subtracted."""

    @property
    def key(self) -> str:
        """What its row of an offset table is found by."""
        return date_key(self.measurement.date_obs)

    def read(self) -> Compared:
        """Read the images.

        Raises
        ------
        FileError
            If they are not there, or not those that the measurement was made of.
        """
        return _read_compared(self)


@dataclass(frozen=True)
class Material:
    """What a folder holds, in the order of the dates."""

    folder: Path
    """The folder."""
    entries: tuple[Entry, ...]
    """One for each exposure."""

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, date_obs: str) -> Entry:
        """Give the entry of an exposure.

        Raises
        ------
        MissingError
            If there is none.
        """
        key = date_key(date_obs)
        for entry in self.entries:
            if entry.key == key:
                return entry
        raise MissingError(
            f"{self.folder}: has no images of the exposure with DATE-OBS {key}; measure it "
            "again with 'musedask align'"
        )


def material_folder(offsets: str | os.PathLike[str]) -> Path:
    """The folder that belongs to an offset table."""
    path = Path(offsets)
    return path.with_name(path.stem + SUFFIX)


def write_material(folder: str | os.PathLike[str], compared: Iterable[Compared]) -> None:
    """Add exposures to a folder, or replace them in it, each whole or not at all.

    Parameters
    ----------
    folder
        Made if it is not there.
    compared
        Taken one at a time, so that they need not all be in memory.

    Raises
    ------
    FileError
        If a file cannot be written.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise FileError(f"{path}: cannot be made: {err.strerror or err}") from err
    for one in compared:
        _write_compared(path, one)


def read_material(folder: str | os.PathLike[str]) -> Material:
    """Read what a folder holds; the images are left where they are.

    Raises
    ------
    FileError
        If the folder or a file in it cannot be read, or is not what it should be.
    MissingError
        If it has no exposure.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileError(f"{path}: no such folder; 'musedask align' makes it beside the offsets")
    entries = [_read_entry(file) for file in sorted(path.glob("*.json"))]
    if not entries:
        raise MissingError(f"{path}: holds no exposure; 'musedask align' fills it")
    return Material(path, tuple(sorted(entries, key=lambda entry: entry.key)))


def _write_compared(folder: Path, one: Compared) -> None:
    name = name_for_people(one.key, one.measurement.name)
    content = _fits_bytes(one)
    write_whole(folder / f"{name}.fits", content)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "fits": f"{name}.fits",
        "crc32": zlib.crc32(content),
        "measurement": measurement_record(one.measurement),
        "masked": [vars(circle) for circle in one.masked],
        "exposure": _facts(one.exposure),
        "reference": _facts(one.reference),
    }
    write_whole(folder / f"{name}.json", json_text(record).encode())


def measurement_record(measurement: Measurement) -> dict[str, Any]:
    """The measurement as JSON takes it."""
    return vars(measurement) | {"sources": [vars(source) for source in measurement.sources]}


def _facts(image: FieldImage) -> dict[str, Any]:
    """All of an image but its arrays."""
    record = {f.name: getattr(image, f.name) for f in fields(image) if f.name not in _ARRAYS}
    return record | {"projection": image.projection.mapping, "shape": image.shape}


def _fits_bytes(one: Compared) -> bytes:
    units = [fits.PrimaryHDU()]
    for name, image in (("EXPOSURE", one.exposure), ("REFERENCE", one.reference)):
        for what in _ARRAYS:
            array = getattr(image, what)
            if array is not None:
                header = fits.Header(list(image.projection.cards))
                if image.units and what != "coverage":
                    header["BUNIT"] = image.units if what == "flux" else f"({image.units})**2"
                extension = name if what == "flux" else f"{name}_{what.upper()}"
                units.append(fits.ImageHDU(np.asarray(array, np.float32), header, name=extension))
    with io.BytesIO() as buffer:
        fits.HDUList(units).writeto(buffer)
        return buffer.getvalue()


def _read_entry(path: Path) -> Entry:
    record = read_json(path, FORMAT, VERSION)
    facts = built(_Facts, record.get("exposure"), f"{path}: exposure")
    masked = listed(record.get("masked"), f"{path}: masked")
    return Entry(
        path,
        measurement_of(record.get("measurement"), f"{path}: measurement"),
        tuple(built(MaskedCircle, one, f"{path}: masked") for one in masked),
        _projection(facts.projection, f"{path}: exposure"),
        _shape(facts.shape, f"{path}: exposure"),
        (facts.carried_ra_arcsec, facts.carried_dec_arcsec),
    )


def measurement_of(record: Any, where: str) -> Measurement:
    """Take a measurement from JSON.

    Raises
    ------
    FileError
        If it is none.
    """
    if not isinstance(record, Mapping):
        raise FileError(f"{where} is {record!r}, expected an object")
    sources = tuple(
        built(SourceOffset, one, f"{where}: sources")
        for one in listed(record.get("sources"), f"{where}: sources")
    )
    reasons = tuple(map(str, listed(record.get("reasons"), f"{where}: reasons")))
    whole = {**record, "sources": sources, "reasons": reasons}
    measurement: Measurement = built(Measurement, whole, where)
    return measurement


def listed(value: Any, where: str) -> list[Any]:
    """Check that a value of JSON is a list.

    Raises
    ------
    FileError
        If it is none.
    """
    if not isinstance(value, list):
        raise FileError(f"{where} is {value!r}, expected a list")
    return value


def built(kind: type[Any], record: Any, where: str) -> Any:
    """Make a dataclass of what JSON gave; null is NaN.

    Raises
    ------
    FileError
        If a key is missing, unknown, or has a value of another type.
    """
    if not isinstance(record, Mapping):
        raise FileError(f"{where} is {record!r}, expected an object")
    known = {field.name: field for field in fields(kind)}
    for key in record:
        if key not in known:
            raise FileError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")
    given = {}
    for key, value in record.items():
        kind_of = str(known[key].type)
        if kind_of == "float":
            value = np.nan if value is None else value
        if kind_of in _TYPES and (
            not isinstance(value, _TYPES[kind_of]) or (kind_of != "bool" and value is True)
        ):
            raise FileError(f"{where}: {key} is {value!r}, expected {kind_of}")
        given[key] = _double(value) if kind_of == "float" else value
    try:
        return kind(**given)
    except (TypeError, InputError) as err:
        raise FileError(f"{where}: {err}") from None


def _double(number: int | float) -> float:
    """A number of JSON, which may have more digits than a float takes."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """All of an image but its arrays, as the JSON file has it."""

    projection: Any
    shape: Any
    name: str
    date_obs: str
    band: str
    units: str
    fwhm_arcsec: float
    ra_deg: float
    dec_deg: float
    carried_ra_arcsec: float
    carried_dec_arcsec: float
    path: str


_TYPES: dict[str, Any] = {"float": (int, float), "int": int, "str": str, "bool": bool}


def _read_compared(entry: Entry) -> Compared:
    record = read_json(entry.path, FORMAT, VERSION)
    name = str(record.get("fits"))
    if not re.fullmatch(r"[\w.:+-]+\.fits", name, re.ASCII):
        raise FileError(f"{entry.path}: fits = {name!r} is no name of a file in its folder")
    path = entry.path.with_name(name)
    content = read_bytes(path)
    if zlib.crc32(content) != record.get("crc32"):
        raise FileError(
            f"{path}: is not the file that {entry.path.name} was written with (crc32); measure "
            "this exposure again with 'musedask align'"
        )
    with fits_of(content, str(path)) as units:
        images = [
            _image(units, which, record.get(which), f"{entry.path}: {which}")
            for which in ("exposure", "reference")
        ]
    measurement = measurement_of(record.get("measurement"), f"{entry.path}: measurement")
    try:
        return Compared(measurement, images[0], images[1], entry.masked)
    except InputError as err:
        raise FileError(f"{entry.path}: {err}") from None


def _image(units: fits.HDUList, which: str, record: Any, where: str) -> FieldImage:
    facts = vars(built(_Facts, record, where))
    arrays = {}
    for what in _ARRAYS:
        extension = which.upper() if what == "flux" else f"{which}_{what}".upper()
        if extension in units:
            arrays[what] = np.asarray(units[extension].data, np.float32)
    shape = _shape(facts.pop("shape"), where)
    if "flux" not in arrays or arrays["flux"].shape != shape:
        raise FileError(f"{where}: shape is {shape}, which the FITS file has not")
    facts["projection"] = _projection(facts["projection"], where)
    try:
        return FieldImage(**facts | arrays)
    except InputError as err:
        raise FileError(f"{where}: {err}") from None


def _projection(cards: Any, where: str) -> SkyProjection:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            projection = SkyProjection.from_cards(cards)
            if SkyProjection.from_wcs(projection.wcs).mapping.keys() - cards.keys():
                raise ValueError("cards are missing")
    except Exception as err:  # astropy raises what it likes on cards that make no WCS
        raise FileError(f"{where}: projection is {cards!r}: {err}") from None
    return projection


def _shape(value: Any, where: str) -> tuple[int, int]:
    whole = isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value)
    if not whole or min(value) < 1:
        raise FileError(f"{where}: shape is {value!r}, expected the numbers of rows and columns")
    return value[0], value[1]
