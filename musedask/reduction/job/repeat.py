"""A shell script that repeats a job by hand, with esorex alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence

from musedask.reduction.job.esorex import PRODUCTS, SCRUBBED
from musedask.reduction.job.sof import SOF_NAME, SofLine, sof_text
from musedask.reduction.jobs import Job

SCRIPT_NAME = "repeat.sh"
_END = "END-OF-SOF"


def repeat_script(job: Job, lines: Sequence[SofLine], command: Sequence[str], cores: int) -> str:
    """Give the script; it runs in an empty folder and needs no more than a shell and esorex.

    Parameters
    ----------
    job
        The job, for the comment.
    lines
        Its SOF; files that were made for it lie beside the script.
    command
        The call of esorex, the executable first.
    cores
        Threads that it may use.
    """
    return "\n".join(_script(job, lines, command, cores)) + "\n"


def _script(
    job: Job, lines: Sequence[SofLine], command: Sequence[str], cores: int
) -> Iterator[str]:
    title = " ".join(job.title.split())
    yield "#!/bin/sh"
    yield f"# {job.recipe}: {title} (job {job.key})" if title else f"# {job.recipe} (job {job.key})"
    yield f"# Run it in an empty folder: what it makes is then in {PRODUCTS}/ there."
    yield "set -eu"
    yield 'here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)'
    yield 'if [ -n "$(ls -A)" ]; then'
    yield '    echo "$PWD is not empty: run this in an empty folder" >&2'
    yield "    exit 2"
    yield "fi"
    yield f"mkdir {PRODUCTS}"
    for line in lines:
        if line.is_link:
            yield f"mkdir -p {shlex.quote(os.path.dirname(line.path))}"
            yield f"ln -s {shlex.quote(line.source)} {shlex.quote(line.path)}"
        elif line.is_made:
            yield f'ln -s "$here"/{shlex.quote(line.path)} {shlex.quote(line.path)}'
    yield f"cat > {SOF_NAME} <<'{_END}'"
    yield sof_text(lines) + _END
    names = "|".join(name.rstrip("_") for name in SCRUBBED)
    yield f"for name in $(env | cut -d= -f1 | grep -E '^({names})_' || true); do"
    yield '    unset "$name"'
    yield "done"
    yield f'export HOME="$PWD" LC_ALL=C OMP_NUM_THREADS={cores}'
    yield f"exec {shlex.join(command)}"
