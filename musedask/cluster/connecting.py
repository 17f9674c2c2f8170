"""A client of a scheduler that somebody else has started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from musedask.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 15.0


def connect(address: str, asked: str) -> Client:
    """Connect to a scheduler, and compute there from now on.

    Parameters
    ----------
    address
        Of the scheduler: ``tcp://host:8786``.
    asked
        The option that gave it, for the error.

    Raises
    ------
    InputError
        If no scheduler answers there.
    """
    from distributed import Client

    try:
        # A client is where Dask computes before it is connected. One that fails gives that
        # back only when it is collected, and by then to whoever has no client any more.
        Client(address, timeout=CONNECT_S, set_as_default=False).close()
        return Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as err:
        raise InputError(
            f"{asked}: no Dask scheduler answers there ({err}); start one, or leave it out to "
            "compute here"
        ) from err
