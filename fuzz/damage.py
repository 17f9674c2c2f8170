"""Damage that knows nothing of what a file holds: flipped bits, lost and doubled parts."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Damage = Callable[[Random, bytes], bytes]
_LONGEST = 4096


def damaged(rng: Random, data: bytes) -> bytes:
    """One to three of the kinds of damage, one after the other."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(_KINDS)(rng, data)
    return data


def flipped(rng: Random, data: bytes) -> bytes:
    """Some bits are others: one, or one in a thousand bytes."""
    if not data:
        return data
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 1 + len(data) // 1000))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(rng: Random, data: bytes) -> bytes:
    """The end is missing; mostly a part of any size, at times a few bytes, at times all."""
    kind = rng.random()
    if kind < 0.1:
        return b""
    if kind < 0.3:
        return data[: max(0, len(data) - rng.randint(1, 16))]
    return data[: rng.randint(0, len(data))]


def part(rng: Random, data: bytes) -> slice:
    """Any part that is not too long."""
    start = rng.randint(0, len(data))
    return slice(start, min(len(data), start + rng.randint(1, _LONGEST)))


def without_part(rng: Random, data: bytes) -> bytes:
    """A part is missing, and what follows moves up."""
    gone = part(rng, data)
    return data[: gone.start] + data[gone.stop :]


def overwritten(rng: Random, data: bytes) -> bytes:
    """A part is zeros, ones or noise, as after a disk's failure."""
    bad = part(rng, data)
    size = len(data[bad])
    filling = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))
    return data[: bad.start] + filling + data[bad.stop :]


def doubled(rng: Random, data: bytes) -> bytes:
    """A part comes twice."""
    again = part(rng, data)
    return data[: again.stop] + data[again] + data[again.stop :]


def moved(rng: Random, data: bytes) -> bytes:
    """A part stands elsewhere."""
    gone = part(rng, data)
    left = data[: gone.start] + data[gone.stop :]
    at = rng.randint(0, len(left))
    return left[:at] + data[gone] + left[at:]


def longer(rng: Random, data: bytes) -> bytes:
    """Something follows the end."""
    return data + rng.choice((bytes(rng.randint(1, 3000)), rng.randbytes(100), b"\n", b"END"))


_KINDS: tuple[Damage, ...] = (
    flipped, flipped, cut, cut, without_part, overwritten, doubled, moved, longer,
)  # fmt: skip
