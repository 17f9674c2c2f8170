"""One value out of the raw cards of a header, without parsing the others.

A raw MUSE frame has some five thousand cards in 25 headers, of which musedask
wants a dozen each: astropy parses them all, in 30 ms a file. Here a card is
found by its bytes, and read here only if it is plain; whatever is not is left
to astropy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

CARD = 80
_PLAIN = re.compile(
    rb"= {1,20}(?:"
    rb"'((?:[ -&(-~]|'')*)'"
    rb"|([TF])"
    rb"|([+-]?\d{1,18})"
    rb"|([+-]?\d{1,17}\.\d{0,17}(?:E[+-]?\d{1,3})?)"
    rb") *(?:/[ -~]*)?"
)
"""Value of a card that needs no judgement: a text, T or F, an integer, a number."""


class NotPlain(Exception):  # noqa: N818
    """The card has to be read by astropy."""


def plain_value(raw: bytes, key: str) -> Any:
    """Value of the first card of a name, None if there is no such card.

    Parameters
    ----------
    raw
        Cards of a header, 80 bytes each, without END.
    key
        Its name without ``HIERARCH``: ``EXTNAME``, ``ESO DPR CATG``.

    Raises
    ------
    NotPlain
        If the card is there and its value is not of the plain kinds: long
        strings over several cards, undefined or broken values.
    """
    name = key.upper().encode("ascii", errors="replace")
    is_short = len(name) <= 8 and b" " not in name
    start = name.ljust(8) if is_short else b"HIERARCH " + name
    at = raw.find(start)
    while at >= 0:
        rest = raw[at + len(start) : at - at % CARD + CARD].lstrip(b" ")
        # Else it stands within another card, or is the beginning of a longer name.
        if at % CARD == 0 and rest[:1] == b"=":
            if raw[at + CARD : at + CARD + 8] == b"CONTINUE":
                raise NotPlain
            return _value(rest)
        at = raw.find(start, at + 1)
    return None


def plain_values(raw: bytes, beginning: str) -> Iterator[tuple[str, Any]]:
    """Name and value of each plain card of a hierarchy, in their order; others are left out.

    Parameters
    ----------
    raw
        Cards of a header, 80 bytes each, without END.
    beginning
        How their names begin, without ``HIERARCH``: ``ESO QC``. It is not part of the names
        that are given.
    """
    start = b"HIERARCH " + beginning.upper().encode("ascii") + b" "
    for at in range(0, len(raw), CARD):
        if raw.startswith(start, at):
            name, sign, rest = raw[at + len(start) : at + CARD].partition(b"=")
            try:
                value = _value((sign + rest).rstrip())
            except NotPlain:
                continue
            yield name.decode("ascii", errors="replace").strip(), value


def _value(rest: bytes) -> Any:
    """Value of a card from its equals sign on."""
    match = _PLAIN.fullmatch(rest)
    if match is None:
        raise NotPlain
    text, logical, integer, number = match.groups()
    if text is not None:
        return text.decode("ascii").replace("''", "'").rstrip()
    if logical is not None:
        return logical == b"T"
    return int(integer) if integer is not None else float(number)
