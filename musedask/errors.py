"""The errors and the warning that musedask raises on purpose.

Each error is also the builtin that fits, so that ``except ValueError`` keeps
working, and says three things: what was asked, what was found (file, keyword,
value) and what to do about it.
"""

from __future__ import annotations

LONGEST_MESSAGE = 5000
"""Characters of an error's text: errors quote what files hold, which may be anything."""


class MusedaskError(Exception):
    """Base of everything that musedask raises on purpose.

    Its text can be shown on any terminal: what is not printable in it is
    escaped, and of a very long one the middle is left out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2
            text = f"{text[:half]} ... {text[-half:]}"
        return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class InputError(MusedaskError, ValueError):
    """An argument, a header card or a table entry that cannot be used."""


class FileError(MusedaskError, OSError):
    """A file that cannot be read or written, or is not what it should be."""


class MissingError(MusedaskError, LookupError):
    """Something that was asked for by name and is not there."""


class ClusterError(MusedaskError, RuntimeError):
    """Where Dask runs, work cannot go on: no worker comes, or the scheduler has gone."""


class MusedaskWarning(UserWarning):
    """Something that a user should know of, while the work goes on."""
