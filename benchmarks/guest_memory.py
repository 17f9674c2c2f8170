"""Memory that the host has to provide: touched once, before anything is timed.

A virtual machine is given its memory as it first uses it. A page that no process ever used costs
its first user, a plain write into the page cache as well, up to a second or two a GiB; the same
job is ten times as fast once the machine has been used for a while, whatever was measured first
looks slow, and ratios come out by the order of the jobs. So most of the free memory is used once,
by a process that ends at once: its pages go back to this machine, not to the host.
"""

from __future__ import annotations

import contextlib
import mmap
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from musedask.cluster.sizes import GIB, machine_memory

_ROOT = Path(__file__).resolve().parent.parent
_SHARE = 0.6
"""Of what can be had: others on the machine need some too."""
_MOST = 16 * GIB
_PIECE = 2 << 20
"""A huge page: the host provides it in one go."""


def touch_memory(say: Callable[[str], None], n_bytes: int | None = None) -> dict[str, float]:
    """Use free memory once, in a process of its own.

    Parameters
    ----------
    say
        Told what goes on, a line at a time.
    n_bytes
        How much; by default 60 % of what can be had, at most 16 GiB.

    Returns
    -------
    dict
        ``touched_gib`` and ``touch_s_per_gib``, for the records: far above the 0.1 to 0.3 s
        of memory that was used before where the host had to provide it. Empty if it
        cannot be told how much there is, or the process was ended for want of memory.
    """
    wanted = free_bytes() if n_bytes is None else n_bytes
    if wanted < _PIECE:
        say("memory    left as it is: it cannot be told how much is free")
        return {}
    say(f"memory    touching {wanted / GIB:.1f} GiB: new to a virtual machine, it would cost "
        "whoever uses it first")  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.guest_memory", str(wanted)],
        cwd=_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode != 0:
        say(f"memory    not touched (status {run.returncode}): {run.stderr.strip()[-200:]}")
        return {}
    seconds = round(float(run.stdout) * GIB / wanted, 3)
    say(f"memory    {seconds:.2f} s for a GiB")
    return {"touched_gib": round(wanted / GIB, 3), "touch_s_per_gib": seconds}


def free_bytes(meminfo: Path = Path("/proc/meminfo"), whole: int | None = None) -> int:
    """How much is touched: most of what is free here, in whole pieces; 0 if it cannot be told.

    Parameters
    ----------
    meminfo
        The kernel's account.
    whole
        What this process may have at most; by default what its control group may.
    """
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return 0
    kib = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    limit = machine_memory() if whole is None else whole
    wanted = int(_SHARE * min(kib[0] * 1024, limit)) if kib else 0
    return min(wanted, _MOST) // _PIECE * _PIECE


def touched(n_bytes: int) -> float:
    """Write to every page of new memory and return it; the seconds that it took."""
    zeros = bytes(_PIECE)
    with mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        with contextlib.suppress(OSError):  # a kernel without huge pages
            area.madvise(mmap.MADV_HUGEPAGE)
        started = time.perf_counter()
        for start in range(0, n_bytes, _PIECE):
            area[start : start + _PIECE] = zeros[: n_bytes - start]
        return time.perf_counter() - started


if __name__ == "__main__":
    # Should memory run out after all, this is the process to be ended.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    print(touched(int(sys.argv[1])))
