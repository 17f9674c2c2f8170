"""The process in which cases are tried, one after the other: it may hang, or be killed by one.

It reads ``NUMBER TARGET`` from stdin, a line each, and answers each with a line of JSON.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

MEMORY = 6 << 30
"""Bytes of address space: libraries and their threads take two gigabytes of it."""


def main() -> None:
    """Answer until stdin is closed."""
    seed, seeds, work = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for name in ("home", "here"):
        (work / name).mkdir()
    os.environ.update(HOME=str(work / "home"), MUSEDASK_CACHE=str(work / "cache"))
    terminal = os.open(work / "terminal", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    faulthandler.enable(terminal)

    # All that readers import when they are called, so that no case pays for it.
    import musedask.cli.stacking
    import musedask.grid
    import musedask.stack_job
    import musedask.stacking.stack  # noqa: F401
    from fuzz.case import limit_memory, run_case
    from fuzz.targets import BY_NAME

    limit_memory(MEMORY)
    for line in sys.stdin:
        number, _, name = line.strip().partition(" ")
        verdict = run_case(BY_NAME[name], seed, int(number), seeds, work)
        answers.write(json.dumps(asdict(verdict)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
