"""Numbers with their nouns and units, and texts that fit, for reports and errors."""

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


def data_size(n_bytes: float) -> str:
    """Give a number of bytes in the unit that suits it.

    Examples
    --------
    >>> data_size(3.21e9), data_size(1.2e6), data_size(0)
    ('3.21 GB', '1.2 MB', '0.0 MB')
    """
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def readable(text: str, longest: int = 1000) -> str:
    r"""Give a text that a terminal can show: what is not printable escaped, the middle left out.

    For what files hold and errors quote.

    Examples
    --------
    >>> readable("abc" * 10, longest=12)
    'abcabc ... bcabc'
    >>> readable("a bell: " + chr(7))
    'a bell: \\x07'
    """
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]} ... {text[len(text) - half + 1 :]}"
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
