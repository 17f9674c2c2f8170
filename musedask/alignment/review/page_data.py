"""What the page is told: the exposures, what was measured and decided, the mosaic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import musedask.alignment.review.decisions as decided
from musedask.alignment.image import FieldImage
from musedask.alignment.json_files import json_text
from musedask.alignment.material import measurement_record
from musedask.alignment.review.images import half_floats, noise_of
from musedask.alignment.review.overview import Overview
from musedask.alignment.review.session import Review
from musedask.offsets import Offset

LONGEST_SIDE = 1400
"""Pixels of the page's mosaic; a larger one is binned."""


def script(name: str, record: Any) -> bytes:
    """Data as a script, which a page may load from a server and from a file alike."""
    return f"review.deliver({json_text(name)}, {json_text(record)});\n".encode("ascii")


def summary(review: Review, mode: str) -> dict[str, Any]:
    """All exposures, worst first."""
    table = review.table()
    rows = [table.find(key) for key in review.keys if key in table]
    return {
        "format": decided.FORMAT,
        "version": decided.VERSION,
        "mode": mode,
        "table": review.path.name,
        "folder": str(review.path.parent),
        "who": review.who,
        "exposures": [exposure_record(review, row, i) for i, row in enumerate(rows)],
    }


def exposure_record(review: Review, row: Offset, index: int) -> dict[str, Any]:
    """One exposure: its row, its version, what was measured, what was decided."""
    entry = review.entry(row.key)
    measurement = review.measurement(row)
    return {
        "index": index,
        "key": row.key,
        "name": row.name,
        "row": decided.row_record(row),
        "version": decided.row_version(row),
        "measured": measurement_record(measurement) if measurement else None,
        "masked": [vars(circle) for circle in review.masked(row)],
        "corners": _corners(entry) if entry else None,
        "carried": entry.carried_arcsec if entry else (0.0, 0.0),
        "history": [
            {"action": step.action, "who": step.who, "when": step.when}
            for step in review.history(row)
        ],
    }


def _corners(entry: Any) -> list[list[float]]:
    """RA and DEC of the corners, as the header has them, around the field."""
    ny, nx = entry.shape
    x = [-0.5, nx - 0.5, nx - 0.5, -0.5]
    y = [-0.5, -0.5, ny - 0.5, ny - 0.5]
    ra, dec = entry.projection.to_sky(x, y)
    return [[float(one), float(other)] for one, other in zip(ra, dec, strict=True)]


def mosaic_record(overview: Overview) -> dict[str, Any]:
    """The mosaic and the reference on its pixels, north up."""
    ny, nx = overview.mosaic.shape
    binned = math.ceil(max(nx, ny) / LONGEST_SIDE)
    mosaic = _binned(overview.mosaic, binned)
    reference = np.full_like(mosaic, np.nan)
    if overview.reference is not None:
        reference = _binned(overview.reference, binned)
    unit = noise_of(FieldImage(flux=mosaic, projection=overview.mosaic.projection))
    ra, dec = overview.mosaic.projection.to_sky((nx - 1) / 2.0, (ny - 1) / 2.0)
    bright = np.nanpercentile(mosaic, 99.7) / unit
    difference = mosaic - reference
    return {
        "nx": mosaic.shape[1],
        "ny": mosaic.shape[0],
        "pixel": binned * overview.mosaic.pixel_arcsec,
        "centre": [float(ra), float(dec)],
        # Where that is in the pixels of the page's mosaic.
        "at": [((nx - 1) / 2.0 - (binned - 1) / 2.0) / binned,
               ((ny - 1) / 2.0 - (binned - 1) / 2.0) / binned],
        "unit": unit,
        "units": overview.mosaic.units,
        "levels": [-1.5, max(10.0, float(bright))],
        "exposures": overview.n_exposures,
        "rms": float(np.sqrt(np.nanmean(difference**2))) if np.isfinite(difference).any() else None,
        "mosaic": half_floats(mosaic, unit),
        "reference": half_floats(reference, unit),
    }  # fmt: skip


def _binned(image: FieldImage, size: int) -> Any:
    if size == 1:
        return image.flux
    ny, nx = image.shape
    padded = np.full((-(-ny // size) * size, -(-nx // size) * size), np.nan, np.float32)
    padded[:ny, :nx] = image.flux
    cells = padded.reshape(padded.shape[0] // size, size, -1, size)
    known = np.isfinite(cells).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        return np.where(known > 0, np.nansum(cells, axis=(1, 3)) / np.maximum(known, 1), np.nan)
