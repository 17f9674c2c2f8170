"""Targets of the alignment: its readers with the files that they read."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from random import Random

import numpy as np

from fuzz.alignment_seeds import MATERIAL, SHAPE, SKY
from fuzz.fits_damage import damaged_fits
from fuzz.odd_files import put_odd_file
from fuzz.seeds import DATES
from fuzz.target import Target, copy, of_files
from fuzz.text_damage import damaged_json, damaged_text, damaged_xml
from musedask.alignment.catalogue import read_catalogue
from musedask.alignment.filters import find_filter
from musedask.alignment.image_files import read_image
from musedask.alignment.material import read_material
from musedask.alignment.opening import open_exposure
from musedask.alignment.reference import open_reference
from musedask.alignment.review.decisions import read_decisions
from musedask.alignment.review.journal import Journal, Step
from musedask.errors import MissingError

_IMAGES = ("image.fits", "image_hst.fits", "image_in_primary.fits")
_PACKED = ("image.fits.gz", "image.fits.fz")
_CATALOGUES = ("catalogue.txt", "catalogue.csv", "catalogue.ecsv")


def _read_filter(path: Path) -> None:
    """A filter, and what it does to the channels of a cube."""
    found = find_filter(path)
    weights = found.weights(np.linspace(4750.0, 9350.0, 50), 1.25)
    if not np.isfinite(weights).all():
        raise AssertionError("a weight is not finite")
    _ = found.integral


def _read_catalogue(path: Path) -> None:
    read_catalogue(path).at(2020.0)


def _read_image(path: Path) -> None:
    """An image, and what measuring asks of it."""
    image = read_image(path)
    _ = image.pixel_arcsec, image.arcsec_per_pixel, str(image)


def _read_reference(path: Path) -> None:
    """A reference around a field; that it does not touch the field is no error of the file."""
    reference = open_reference(path)
    try:
        reference.near(SKY, SHAPE, 1.0, 2020.0, 0.2)
    except MissingError:
        return


def _read_material(path: Path) -> None:
    """A folder of what was compared, with its images."""
    for entry in read_material(path):
        entry.read()


def _read_journal(path: Path) -> None:
    """A journal, twice: the second time nothing is new; and a step is added where it ends."""
    journal = Journal(path)
    journal.refresh()
    journal.refresh()
    steps = journal.steps(DATES[0])
    if steps:
        last = steps[-1]
        journal.add(Step(last.key, "accepted", "me", last.when, last.after, last.after))
        again = Journal(path)
        again.refresh()
        if len(again.steps(DATES[0])) != len(steps) + 1:
            raise AssertionError("a step that was added is not there")


def _damaged_material(rng: Random, seeds: Path, folder: Path) -> Path:
    """One file of the folder damaged; at times its sum is made to fit, as by another program."""
    path = folder / MATERIAL
    copy(seeds / MATERIAL, path)
    (record,), (images,) = path.glob("*.json"), path.glob("*.fits")
    kind = rng.random()
    if kind < 0.04:
        one = rng.choice((record, images, path / "other.json"))
        one.unlink(missing_ok=True)
        put_odd_file(rng, one)
    elif kind < 0.5:
        record.write_bytes(damaged_json(rng, record.read_bytes()))
    else:
        images.write_bytes(damaged_fits(rng, images.read_bytes()))
        if kind < 0.95:
            document = json.loads(record.read_bytes())
            document["crc32"] = zlib.crc32(images.read_bytes())
            record.write_text(json.dumps(document), encoding="utf-8")
    return path


ALIGNMENT: tuple[Target, ...] = (
    Target("filter, text", of_files(damaged_text, "filter.txt", "filter.csv"), _read_filter),
    Target("filter, ECSV", of_files(damaged_text, "filter.ecsv"), _read_filter),
    Target("filter, FITS", of_files(damaged_fits, "filter.fits"), _read_filter),
    Target("catalogue, text", of_files(damaged_text, *_CATALOGUES[:2]), _read_catalogue),
    Target("catalogue, ECSV", of_files(damaged_text, "catalogue.ecsv"), _read_catalogue),
    Target("catalogue, VOTable", of_files(damaged_xml, "catalogue.vot"), _read_catalogue),
    Target(
        "catalogue, FITS",
        of_files(damaged_fits, "catalogue.fits", "catalogue.fits.gz"),
        _read_catalogue,
    ),
    Target("image", of_files(damaged_fits, *_IMAGES), _read_image, weight=6),
    Target("image, packed", of_files(damaged_fits, *_PACKED), _read_image),
    Target("cube or image", of_files(damaged_fits, *_IMAGES, "cube0.fits"), open_exposure),
    Target(
        "reference, image", of_files(damaged_fits, *_IMAGES, *_PACKED), _read_reference, weight=6
    ),
    Target("reference, catalogue", of_files(damaged_text, *_CATALOGUES), _read_reference),
    Target(
        "reference, FITS catalogue",
        of_files(damaged_fits, "catalogue.fits", "catalogue.fits.gz"),
        _read_reference,
    ),
    Target("what was compared", _damaged_material, _read_material, weight=6),
    Target("decisions of a review", of_files(damaged_json, "review.json"), read_decisions),
    Target(
        "journal of a review",
        of_files(damaged_text, "journal.jsonl"),
        _read_journal,
        may_write=("journal.jsonl",),
    ),
)
"""In the order of the report."""
