"""Values out of raw cards are astropy's own, or left to astropy."""

from __future__ import annotations

import math

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from musedask.fits.cards import CARD, NotPlain, plain_value
from musedask.fits.hdus import Hdu

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.none(),
)
KEYS = st.sampled_from(["RA", "DATE-OBS", "EXTNAME", "ESO DPR CATG", "ESO DPR TYPE", "ESO DPR"])


def raw_of(*cards: str) -> bytes:
    return "".join(card.ljust(CARD) for card in cards).encode("ascii")


def hdu_of(raw: bytes) -> Hdu:
    return Hdu(0, raw, 0, 0)


@given(st.lists(st.tuples(KEYS, VALUES, TEXTS), max_size=6), KEYS)
def test_a_card_that_astropy_wrote_has_the_value_that_astropy_reads(cards, wanted):
    images = []
    for key, value, comment in cards:
        name = f"HIERARCH {key}" if key.startswith("ESO") else key
        images.append(fits.Card(name, value, comment[:10]).image)
    raw = "".join(images).encode("ascii")
    expected = fits.Header.fromstring(raw.decode()).get(wanted)
    if isinstance(expected, fits.card.Undefined):
        expected = None
    found = hdu_of(raw).get(wanted)
    assert found == (expected.strip() if isinstance(expected, str) else expected)
    assert type(found) is (str if isinstance(expected, str) else type(expected))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70), KEYS)
def test_whatever_stands_in_a_card_it_is_astropys_value_or_not_plain(rest, key):
    start = f"HIERARCH {key} " if key.startswith("ESO") else key.ljust(8)
    raw = raw_of((start + rest)[:CARD])
    try:
        value = plain_value(raw, key)
    except NotPlain:
        return
    if value is None:
        assert "=" not in rest.lstrip()[:1]
    else:
        expected = fits.Header.fromstring(raw.decode()).get(key)
        assert value == expected or math.isclose(value, expected)


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("EXTNAME = 'CHAN01  '           / name", "CHAN01"),
        ("EXTNAME = 'it''s'", "it's"),
        ("EXTNAME = ''", ""),
        ("EXTNAME =                    T / yes", True),
        ("EXTNAME =                   -7", -7),
        ("EXTNAME =              2.5E-03 / small", 0.0025),
    ],
)
def test_plain_cards_are_read(card, value):
    assert plain_value(raw_of("RA      = 1", card), "EXTNAME") == value


@pytest.mark.parametrize(
    "card", ["EXTNAME =", "EXTNAME = 'open", "EXTNAME = 1.5D3", "EXTNAME = (1, 2)", "EXTNAME =5"]
)
def test_others_are_left_to_astropy(card):
    with pytest.raises(NotPlain):
        plain_value(raw_of(card), "EXTNAME")


def test_a_long_text_goes_on_in_the_next_cards():
    raw = raw_of("OBJECT  = 'one &'", "CONTINUE  'two'")
    assert hdu_of(raw).get("OBJECT") == "one two"


def test_a_name_within_another_card_or_longer_name_is_not_taken():
    raw = raw_of(
        "COMMENT EXTNAME = 'wrong'",
        "HIERARCH ESO DPR CATGX = 'longer'",
        "HIERARCH ESO DPR CATG LONG = 'longer'",
        "HIERARCH ESO DPR CATG = 'CALIB'",
        "EXTNAME = 'first'",
        "EXTNAME = 'second'",
    )
    assert plain_value(raw, "ESO DPR CATG") == "CALIB"
    assert plain_value(raw, "EXTNAME") == "first"
    assert plain_value(raw, "ESO DPR") is None
    assert plain_value(raw, "EXTNAM") is None
