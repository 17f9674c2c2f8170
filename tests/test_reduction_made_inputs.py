"""Files that are made for one job, in the form that the pipeline takes."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from astropy.io import fits
from esorex_jobs import DATES, GRID, grid, offsets

from musedask.errors import InputError
from musedask.reduction.job.made_inputs import made_file, offset_rows
from musedask.reduction.jobs import MadeInput


def approximately(cards):
    """A card has room for 15 digits."""
    return {k: pytest.approx(v, rel=1e-13) if isinstance(v, float) else v for k, v in cards.items()}


def test_a_header_becomes_a_cube_without_data():
    content = made_file(grid())
    assert len(content) == 2880
    header = fits.Header.fromstring(content[:2880])
    assert {key: header[key] for key in GRID} == approximately(GRID)
    assert list(header)[:6] == ["SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3"]
    assert header["ESO PRO CATG"] == "OUTPUT_WCS"


def test_a_header_may_leave_out_what_every_file_has_and_come_in_any_order():
    cards = [
        str(fits.Card(k, v)).rstrip() for k, v in GRID.items() if k not in ("SIMPLE", "BITPIX")
    ]
    made = MadeInput("OUTPUT_WCS", "header", "\n".join(reversed(cards)) + "\n\nEND\n")
    header = fits.Header.fromstring(made_file(made)[:2880])
    assert list(header)[:3] == ["SIMPLE", "BITPIX", "NAXIS"]
    assert {key: header[key] for key in GRID} == approximately(GRID)


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"CTYPE3": "FREQ"}, "CTYPE3 = 'FREQ'"), ({"CTYPE3": None}, "CTYPE3 = None"),
     ({"NAXIS": 2}, "three axes"), ({"NAXIS3": None}, "three axes"), ({"NAXIS1": 0}, "three axes"),
     ({"CRVAL2": None}, "no number for CRVAL2"), ({"CD3_3": "1.25"}, "no number for CD3_3")],
)  # fmt: skip
def test_a_grid_that_the_pipeline_would_ignore_is_an_error(changed, says):
    with pytest.raises(InputError, match=says):
        made_file(grid(**changed))


def test_a_card_that_cannot_be_read_is_shown():
    made = MadeInput("OUTPUT_WCS", "header", f"{grid().text}\nCRVAL1  = 12..5")
    with pytest.raises(InputError, match=r"CRVAL1  = 12\.\.5"):
        made_file(made)


def test_offsets_become_the_table_that_the_pipeline_takes():
    made = offsets((DATES[0], 1e-4, -2.5e-4, "nan"), (DATES[1], 0, 1.25e-17, 1.5))
    with fits.open(io.BytesIO(made_file(made))) as hdus:
        assert hdus[0].header["ESO PRO CATG"] == "OFFSET_LIST"
        columns, table = hdus[1].columns, hdus[1].data
        assert [(c.name, c.format, c.unit) for c in columns] == [
            ("DATE_OBS", "23A", None), ("RA_OFFSET", "D", "deg"), ("DEC_OFFSET", "D", "deg"),
            ("FLUX_SCALE", "D", None),
        ]  # fmt: skip
        assert list(table["DATE_OBS"]) == list(DATES[:2])
        np.testing.assert_array_equal(table["RA_OFFSET"], [1e-4, 0.0])
        np.testing.assert_array_equal(table["DEC_OFFSET"], [-2.5e-4, 1.25e-17])
        np.testing.assert_array_equal(table["FLUX_SCALE"], [math.nan, 1.5])


def test_equal_inputs_are_equal_files():
    made = offsets((DATES[0], 1e-4, -2.5e-4, "nan"))
    assert made_file(made) == made_file(made)


@pytest.mark.parametrize(
    ("row", "says"),
    [((DATES[0], "nan", 0, 1), "has no offset"), ((DATES[0], 0, "inf", 1), "has no offset"),
     (("2020-01-01T00:00:00", 0, 0, 1), "not like 2014-12-08T03:12:45.123"),
     (("2020-01-01T00:00:00.1234", 0, 0, 1), "not like"), ((DATES[0], 0, 0), "is not DATE_OBS"),
     ((DATES[0], "a", 0, 1), "is not DATE_OBS"), ((DATES[0], 0, 0, 1, 1), "is not DATE_OBS")],
)  # fmt: skip
def test_a_row_that_would_match_nothing_is_an_error(row, says):
    with pytest.raises(InputError, match=says):
        made_file(offsets((DATES[1], 0, 0, 1), row))


def test_an_exposure_has_one_row_and_a_table_has_some():
    with pytest.raises(InputError, match=f"{DATES[0]} has two rows"):
        made_file(offsets((DATES[0], 0, 0, 1), (DATES[0], 0, 0, 1)))
    with pytest.raises(InputError, match="has no row"):
        offset_rows(offsets())


def test_an_unknown_form_is_an_error():
    with pytest.raises(InputError, match="'table' is no form"):
        made_file(MadeInput("OFFSET_LIST", "table", ""))
