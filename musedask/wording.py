"""Numbers with their nouns, for reports and errors."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Give a number and its noun.

    Parameters
    ----------
    number
        How many.
    noun
        The noun for one.
    plural
        The noun for any other number; with an ``s`` by default.

    Examples
    --------
    >>> counted(1, "exposure"), counted(2, "exposure"), counted(0, "exposure")
    ('1 exposure', '2 exposures', '0 exposures')
    >>> counted(12, "entry", "entries")
    '12 entries'
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
