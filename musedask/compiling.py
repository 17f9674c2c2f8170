"""How kernels are compiled: into one function, which numba's cache finds by all their sources.

What is called from Python takes all that it calls into itself. A kernel that
stayed a function of its own would be there twice in the process that compiles
it, by itself and inside what calls it, in code that differs in the last bits
of its results: that process takes the first, every later one the second.

Numba knows what it keeps on disk by the file of the function that Python
calls: after an edit of what this one calls in another file it would run the
old code. Where there are several files, :func:`sources_in` their folder is an
argument that is left out, by which numba looks its functions up too.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from numba import njit

KEEPS_NAN = {"contract", "reassoc", "nsz", "arcp"}
"""The fast-math flags that keep NaN and infinity meaningful."""
IN_ORDER = KEEPS_NAN - {"reassoc"}
"""The same for sums whose order is kept: a value of 0 anywhere in them changes no bit."""

kernel: Any = partial(njit, nogil=True, error_model="numpy", forceinline=True)
"""Decorates what other kernels call."""
fast_kernel: Any = partial(kernel, fastmath=KEEPS_NAN)
ordered_kernel: Any = partial(kernel, fastmath=IN_ORDER)

kept_kernel: Any = partial(njit, nogil=True, error_model="numpy", cache=True)
"""Decorates what Python calls: compiled once per machine."""
fast_kept_kernel: Any = partial(kept_kernel, fastmath=KEEPS_NAN)


def sources_in(folder: Path) -> int:
    """A number of 63 bits for the modules of a folder, and this one: an edit changes it."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(folder.glob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.name} {len(content)}\n".encode() + content)
    return int.from_bytes(found.digest()[:8], "big") >> 1
