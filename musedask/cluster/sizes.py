"""How many cores and how much memory there are: for this process, not for the whole machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from musedask.config import ClusterConfig
from musedask.errors import InputError

GIB = 1 << 30
_MIB = 1 << 20
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 1 << 10, "mi": _MIB, "gi": GIB, "ti": 1 << 40}
_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use: affinity, control group and SLURM's allocation counted."""
    import dask.system

    found = min(dask.system.CPU_COUNT, len(os.sched_getaffinity(0)))
    return max(1, min(found, allocated_cores() or found))


def allocated_cores(environment: Mapping[str, str] = os.environ) -> int | None:
    """Cores of the SLURM job that this process belongs to; None if it belongs to none."""
    if "SLURM_JOB_ID" not in environment:
        return None
    return _number(environment.get("SLURM_CPUS_ON_NODE"))


def allocated_memory(environment: Mapping[str, str] = os.environ) -> int | None:
    """Bytes of the SLURM job that this process belongs to; None if it has no limit."""
    if "SLURM_JOB_ID" not in environment:
        return None
    if whole := _number(environment.get("SLURM_MEM_PER_NODE")):
        return whole * _MIB
    each, number = _number(environment.get("SLURM_MEM_PER_CPU")), allocated_cores(environment)
    return each * number * _MIB if each and number else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() and int(text) else None


def memory_of(config: ClusterConfig) -> int:
    """Bytes that jobs on this machine may have in all.

    Raises
    ------
    InputError
        If the configuration's size is none.
    """
    return bytes_of(config.memory) if config.memory else machine_memory()


def machine_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of memory of this machine or, where that is less, of this group or SLURM job."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _limits(cgroup):
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        found = min(found, limit)
    return min(found, allocated_memory() or found)


def _limits(cgroup: Path) -> Iterator[Path]:
    """Files with the limits of this process's control group and of those above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        number, controllers, own = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            top = cgroup if number == "0" else cgroup / "memory"
            name = "memory.max" if number == "0" else "memory.limit_in_bytes"
            parts = [part for part in own.split("/") if part and part != ".."]
            yield from (top.joinpath(*parts[:n], name) for n in range(len(parts) + 1))


def bytes_of(text: str) -> int:
    """Read a size such as ``16 GiB``.

    Raises
    ------
    InputError
        If it is none.

    Examples
    --------
    >>> bytes_of("16 GiB") == 16 * 1024**3
    True
    >>> bytes_of("1.5GB")
    1500000000
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]i?)?b?\s*", text, re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
    if not size:
        raise InputError(f"[cluster] memory = {text!r} is no size; write it like '16 GiB'")
    return size
