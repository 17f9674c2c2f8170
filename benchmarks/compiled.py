"""What numba has compiled or loaded in this process, whatever the functions are called."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

_PACKAGE = "musedask"


def signatures() -> frozenset[str]:
    """Functions that are ready to run, each with its types: ``module.function(types)``.

    Nothing is imported for it: a process without numba has none.
    """
    return frozenset(
        f"{function.__module__}.{function.__qualname__}{types}"
        for function in _functions()
        for types in function.signatures
    )


def names(found: Iterable[str]) -> list[str]:
    """The functions of signatures, without types and without the package."""
    return sorted({one.partition("(")[0].removeprefix(f"{_PACKAGE}.") for one in found})


def origins() -> tuple[int, int]:
    """How many signatures came from the cache on disk, and how many were compiled."""
    stats = [function.stats for function in _functions()]
    loaded = sum(sum(one.cache_hits.values()) for one in stats)
    return loaded, sum(sum(one.cache_misses.values()) for one in stats)


def _functions() -> Iterator[Any]:
    """Compiled functions of the modules that are imported, each once."""
    if "numba" not in sys.modules:
        return
    from numba.core.dispatcher import Dispatcher

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE:
            for value in vars(module).values():
                if isinstance(value, Dispatcher) and value.__module__ == name:
                    yield value
