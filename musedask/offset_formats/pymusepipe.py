"""pymusepipe's offset table: an OFFSET_LIST with a rotation, a background and its own numbers.

Beside the pipeline's columns (:mod:`musedask.offset_formats.offset_list`; the
pipeline ignores the others) pymusepipe's ``align_pipe.py``
(``save_fits_offset_table``) writes ``TPL_START`` (text of 19 characters),
``IEXPO_OBS`` and ``DATASET_OBS`` (integers; of the exposure in its template, and
of the OB), ``BACKGROUND``, ``ROTANGLE`` (degrees) and some for information. It
finds rows by ``MJD_OBS``, which has to equal the header's MJD-OBS to the last
digit, and after it by ``DATE_OBS``; pixel tables are found by the three numbers.

It applies a rotation by turning an image's CD matrix by minus ROTANGLE (mpdaf's
``WCS.rotate``), which adds ROTANGLE to the position angle: the opposite of
``rotation_deg``. In pixel tables it adds ROTANGLE to ``ESO INS DROT POSANG`` and
keeps the old value as ``ESO INS DROT POSANG ORIG``.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from musedask.errors import MusedaskWarning
from musedask.offset_formats.matching import by_date
from musedask.offset_formats.offset_list import (
    as_file,
    doubles,
    load,
    mjd,
    musedask_columns,
    pipeline_columns,
    row_of,
    text,
)
from musedask.offsets import ExposureLike, Offset, OffsetTable
from musedask.quiet import quiet
from musedask.wording import counted

_WANTED = (
    "MJD-OBS", "ESO TPL START", "MUSEPIPE_IEXPO", "MUSEPIPE_DATASET", "MUSEPIPE_POINTING",
)  # fmt: skip
_MJD_DIGITS = 8
"""Decimals of MJD-OBS in ESO's headers."""


def read(path: Path, exposures: Sequence[ExposureLike] | None) -> OffsetTable:
    """Read pymusepipe's offset table, rotation and background included.

    Raises
    ------
    FileError, InputError
        As :func:`musedask.offset_formats.offset_list.read`.
    """
    columns, data = load(path)
    if "RA_CROSS_OFFSET" in columns and not {"TPL_START", "ROTANGLE"} & set(columns):
        warnings.warn(
            f"{path}: written by an early pymusepipe, which did not divide RA_OFFSET by cos(dec). "
            "It is read as the pipeline reads it, as a difference of coordinates: check the "
            "offsets on the sky, or make the table again",
            MusedaskWarning,
            stacklevel=5,
        )

    def number(key: str, index: int) -> float:
        return float(data[key][index]) if key in columns else math.nan

    return OffsetTable(
        tuple(
            replace(
                row_of(data, i, columns, exposures, "pymusepipe"),
                # pymusepipe's angle is what has to be added to the position angle.
                rotation_deg=0.0 - number("ROTANGLE", i),
                background=number("BACKGROUND", i),
            )
            for i in range(len(data))
        )
    )


def dump(table: OffsetTable, exposures: Sequence[ExposureLike] | None) -> bytes:
    """Give an offset table that pymusepipe and the pipeline take.

    MJD_OBS, TPL_START, IEXPO_OBS and DATASET_OBS are those of the exposures'
    headers. Without them MJD_OBS is computed from DATE_OBS, with a warning,
    and the others are empty or 0. A background or rotation that is unknown is
    written as 0 and a flux scale as 1, as pymusepipe does: it would calculate
    with a NaN.

    Raises
    ------
    InputError
        As :func:`musedask.offset_formats.offset_list.dump`.
    """
    cards = [_cards(row, exposures) for row in table]
    of_pipeline = {column.name: column for column in pipeline_columns(table, exposures)}
    of_pipeline["MJD_OBS"] = doubles("MJD_OBS", _mjds(table, cards), "d")
    of_pipeline["FLUX_SCALE"] = doubles("FLUX_SCALE", [row.applied_scale for row in table], None)
    return as_file(
        [
            *(of_pipeline.pop(key) for key in ("DATE_OBS", "MJD_OBS")),
            text("TPL_START", [str(card.get("ESO TPL START", ""))[:19] for card in cards]),
            _integers("IEXPO_OBS", [card.get("MUSEPIPE_IEXPO") for card in cards]),
            _integers(
                "DATASET_OBS",
                [card.get("MUSEPIPE_DATASET", card.get("MUSEPIPE_POINTING")) for card in cards],
            ),
            *of_pipeline.values(),
            doubles("BACKGROUND", [_or_zero(row.background) for row in table], None),
            doubles("ROTANGLE", [0.0 - row.applied_rotation_deg for row in table], "deg"),
            *musedask_columns(table, exposures),
        ]
    )


def _cards(row: Offset, exposures: Sequence[ExposureLike] | None) -> dict[str, object]:
    """What the exposure's primary header says of itself; empty if it is not known."""
    exposure = by_date(row.date_obs, exposures)
    found: dict[str, object] = {}
    with quiet(VerifyWarning, AstropyUserWarning):
        header = fits.Header.fromstring(getattr(exposure, "primary_header", ""), sep="\n")
        for key in _WANTED:
            # A card that cannot be parsed is as good as none.
            with contextlib.suppress(KeyError, VerifyError, ValueError):
                found[key] = header[key]
    return found


def _mjds(table: OffsetTable, cards: list[dict[str, object]]) -> list[float]:
    """MJD-OBS of the headers; of DATE_OBS, with a warning, where a header is not known."""
    found = [card.get("MJD-OBS") for card in cards]
    unknown = sum(not isinstance(value, int | float) for value in found)
    if unknown:
        warnings.warn(
            f"pymusepipe finds rows by MJD-OBS to the last digit, and for {unknown} of "
            f"{counted(len(table), 'row')} it is computed from DATE_OBS: give exposures= whose "
            "headers have it, or compare MJD_OBS with them",
            MusedaskWarning,
            stacklevel=6,
        )
    return [
        float(value) if isinstance(value, int | float) else round(mjd(row.key), _MJD_DIGITS)
        for row, value in zip(table, found, strict=True)
    ]


def _integers(name: str, values: list[object]) -> fits.Column:
    """A column of integers, 0 where there is none."""
    known = [value if isinstance(value, int) else 0 for value in values]
    return fits.Column(name, "J", array=np.array(known, dtype=np.int32))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
