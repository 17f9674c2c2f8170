"""Damage to the cards of FITS headers, so that a reader comes past the first of them."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from itertools import pairwise
from random import Random

from fuzz.damage import damaged

BLOCK, CARD = 2880, 80
_END = b"END".ljust(CARD)
_HEADER = re.compile(rb"SIMPLE  =|XTENSION=")
VALUES = (
    b"T", b"F", b"0", b"1", b"-1", b"2", b"3", b"8", b"-32", b"999", b"2147483647", b"-2147483648",
    b"4294967296", b"9223372036854775807", b"99999999999999999999999", b"1.5", b"-1E-320", b"1E39",
    b"1E308", b"1E400", b"NAN", b"'NaN'", b"INF", b"1D5", b"0x10", b"(1.0, 2.0)", b"",
    b"/ no value",
    b"''", b"'", b"'open", b"'a''b'", b"'T'", b"T F", b"'  '", b"'../../../../tmp/evil'",
    b"'/etc/passwd'", b"'a/b'", b"'.'", b"'\x1b[31m'", b"'\xe9\xff'", b"'DATA'", b"'STAT'",
    b"'long&'", b"89.99999", b"-90", b"90.0", b"360", b"1e-300", b"'" + b"x" * 66 + b"'",
)  # fmt: skip
"""What stands behind the equals sign of a damaged card."""
CELESTIAL = (
    b"'RA---TAN'", b"'DEC--TAN'", b"'RA---SIN'", b"'DEC--ZPN'", b"'RA---TAN-SIP'", b"'GLON-CAR'",
    b"'AWAV'", b"'WAVE'", b"'AWAV-LOG'", b"'FREQ'", b"'VOPT'", b"'deg'", b"'arcsec'", b"'nm'",
    b"'Angstrom'", b"'furlong'", b"'10**(-20)*erg/s/cm**2/Angstrom'", b"'10**(999)*erg'",
    b"'count'",
)  # fmt: skip
KEYS = (
    b"SIMPLE", b"XTENSION", b"BITPIX", b"NAXIS", b"NAXIS1", b"NAXIS2", b"NAXIS3", b"NAXIS4",
    b"PCOUNT", b"GCOUNT", b"GROUPS", b"EXTEND", b"BSCALE", b"BZERO", b"BLANK", b"BUNIT", b"EXTNAME",
    b"TFIELDS", b"TFORM1", b"TTYPE1", b"TDIM1", b"THEAP", b"ZIMAGE", b"ZCMPTYPE", b"ZBITPIX",
    b"ZNAXIS", b"ZNAXIS1", b"ZTILE1", b"ZSIMPLE", b"ZNAME1", b"ZVAL1", b"DATE-OBS", b"EXPTIME",
    b"RA", b"DEC", b"MJD-OBS", b"CTYPE1", b"CTYPE2", b"CTYPE3", b"CUNIT1", b"CUNIT3", b"CRVAL1",
    b"CRVAL2", b"CRVAL3", b"CRPIX1", b"CRPIX3", b"CD1_1", b"CD1_2", b"CD2_2", b"CD3_3", b"CD1_3",
    b"PC1_1", b"CDELT1", b"CDELT3", b"PV2_1", b"PV1_0", b"LONPOLE", b"LATPOLE", b"EQUINOX",
    b"RADESYS",
    b"EPOCH", b"WCSAXES", b"CROTA2", b"A_ORDER", b"SPECSYS", b"CONTINUE", b"HISTORY", b"END", b"",
    b"HIERARCH ESO INS MODE", b"HIERARCH ESO PRO CATG", b"HIERARCH ESO DPR CATG",
    b"HIERARCH ESO TPL NEXP", b"HIERARCH ESO DRS MUSE OFFSET1 DRA",
    b"HIERARCH ESO DRS MUSE FLUX SCALE1", b"HIERARCH ESO INS DROT POSANG",
)  # fmt: skip
Cards = list[bytes]


def damaged_fits(rng: Random, data: bytes) -> bytes:
    """A FITS file whose headers, and at times whose bytes, are damaged."""
    if data.startswith(b"\x1f\x8b"):
        if rng.random() < 0.5:
            return damaged(rng, data)
        try:
            plain = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):  # it is damaged already
            return damaged(rng, data)
        packed = gzip.compress(damaged_fits(rng, plain), 1, mtime=0)
        return damaged(rng, packed) if rng.random() < 0.2 else packed
    kind = rng.random()
    if kind < 0.2:
        return damaged(rng, data)
    units = split(data)
    if not units:
        return damaged(rng, data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        n = rng.randrange(len(units))
        cards, body = units[n]
        rng.choice(_KINDS)(rng, cards)
        units[n] = cards, body
    if rng.random() < 0.1:
        rng.shuffle(units)
    if rng.random() < 0.05:
        units.append(rng.choice(units))
    out = b"".join(joined(cards) + body for cards, body in units)
    return damaged(rng, out) if kind > 0.9 else out


def split(data: bytes) -> list[tuple[Cards, bytes]]:
    """Cards, without END, and data of each unit; what is found at the begin of a block."""
    starts = [at for at in range(0, len(data), BLOCK) if _HEADER.match(data, at)]
    units = []
    for start, stop in pairwise([*starts, len(data)]):
        cards: Cards = []
        at = start
        while at < stop and data[at : at + CARD] != _END:
            cards.append(data[at : at + CARD])
            at += CARD
        after = start + -(-(at + CARD - start) // BLOCK) * BLOCK
        units.append((cards, data[after:stop]))
    return units


def joined(cards: Cards) -> bytes:
    """A header's blocks; a card that is None-like (empty) leaves END out."""
    text = b"".join(card[:CARD].ljust(CARD) for card in cards)
    if not (cards and cards[-1] == b""):
        text += _END
    return text.ljust(-(-len(text) // BLOCK) * BLOCK)


def _card(key: bytes, value: bytes) -> bytes:
    name = key if b" " in key else key.ljust(8)
    return name + b"= " + value


def _other_value(rng: Random, cards: Cards) -> None:
    n = rng.randrange(len(cards))
    key, sign, _ = cards[n].partition(b"=")
    if sign:
        cards[n] = _card(key.strip(), rng.choice(VALUES))


def _known_card(rng: Random, cards: Cards) -> None:
    """A card that readers ask for has an odd value, wherever it stands."""
    key = rng.choice(KEYS)
    card = _card(key, rng.choice(VALUES if rng.random() < 0.8 else CELESTIAL))
    name = key if b" " in key else key.ljust(8)
    for n, old in enumerate(cards):
        if old.startswith(name):
            cards[n] = card
            return
    cards.insert(rng.randint(0, len(cards)), card)


def _axes(rng: Random, cards: Cards) -> None:
    sizes = (b"0", b"-5", b"1", b"1000000", b"2147483647", b"9223372036854775807", b"'4'", b"4.0")
    for n, card in enumerate(cards):
        if card.startswith(b"NAXIS") and rng.random() < 0.5:
            cards[n] = _card(card[:8].strip(), rng.choice(sizes))


def _doubled(rng: Random, cards: Cards) -> None:
    card = rng.choice(cards)
    key = card.partition(b"=")[0].strip()
    cards.insert(rng.randint(0, len(cards)), rng.choice((card, _card(key, rng.choice(VALUES)))))


def _lost(rng: Random, cards: Cards) -> None:
    if len(cards) > 1:
        del cards[rng.randrange(len(cards))]


def _moved(rng: Random, cards: Cards) -> None:
    if len(cards) > 1:
        cards.insert(rng.randrange(len(cards)), cards.pop(rng.randrange(len(cards))))


def _renamed(rng: Random, cards: Cards) -> None:
    n = rng.randrange(len(cards))
    cards[n] = rng.choice(KEYS).ljust(8) + cards[n][8:]


def _continued(rng: Random, cards: Cards) -> None:
    n = rng.randrange(len(cards))
    key = cards[n].partition(b"=")[0].strip()
    cards[n] = _card(key, b"'begin&'")
    more = rng.choice((b"CONTINUE  'and end'", b"CONTINUE", b"CONTINUE  '&'", b"CONTINUE= 5"))
    cards[n + 1 : n + 1] = [more] * rng.choice((1, 2, 40))


def _foreign(rng: Random, cards: Cards) -> None:
    """Bytes that no header may have."""
    n = rng.randrange(len(cards))
    card = bytearray(cards[n].ljust(CARD))
    for _ in range(rng.randint(1, 8)):
        card[rng.randrange(len(card))] = rng.choice((0, 9, 10, 13, 27, 127, 0xE9, 0xFF))
    cards[n] = bytes(card)


def _endless(rng: Random, cards: Cards) -> None:
    cards.append(b"")


def _blanks(rng: Random, cards: Cards) -> None:
    filling = rng.choice((b" ", b"COMMENT x", b"HIERARCH a b c", b"HIERARCH = 1", b"= 1", b"\0"))
    cards.extend([filling.ljust(CARD)] * rng.choice((1, 36, 400)))


_KINDS: tuple[Callable[[Random, Cards], None], ...] = (
    _other_value, _other_value, _known_card, _known_card, _known_card, _axes, _doubled, _lost,
    _moved, _renamed, _continued, _foreign, _endless, _blanks,
)  # fmt: skip
