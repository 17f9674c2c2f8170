"""The calls of esorex of a plan as a shell script: no musedask, one after the other.

It is what people write by hand: lists of frames with the names that the recipes give to
their products, and esorex with all its cores.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from musedask.reduction.jobs import FileInput, Job, MadeInput, Plan, ProductInput

_HEAD = """\
#!/bin/sh
# {count} calls of esorex, one after the other.
set -eu
out={out}
# take JOB PRODUCT TAG: lines of a list of frames, for products of an earlier call.
take() {{
    for file in "$out/$1/$2"[-_.]*fits; do
        if [ -e "$file" ]; then echo "$file $3"; else return 1; fi
    done
}}
"""


def shell_script(plan: Plan, out: Path, esorex: str) -> str:
    """Give the script; the products of a job end in a folder named by its key in ``out``.

    Parameters
    ----------
    plan
        Jobs that take files and products of one another, and nothing that is made for them.
    out
        Where it works: absolute.
    esorex
        The program.
    """
    head = _HEAD.format(count=len(plan), out=shlex.quote(str(out)))
    return head + "".join("\n".join(_call(job, esorex)) + "\n" for job in plan)


def _call(job: Job, esorex: str) -> Iterator[str]:
    yield f"\n# {job.title}"
    yield f'mkdir "$out"/{job.key}'
    yield f'cd "$out"/{job.key}'
    yield "{"
    yield from (f"    {_lines(item)}" for item in job.inputs)
    yield "} > frames.sof"
    parameters = [f"--{name}={value}" for name, value in job.parameters]
    yield shlex.join(
        [esorex, "--suppress-prefix=TRUE", "--log-dir=.", "--output-dir=.", job.recipe,
         *parameters, "frames.sof"]
    )  # fmt: skip


def _lines(item: FileInput | ProductInput | MadeInput) -> str:
    """The command that prints the lines of an input."""
    if isinstance(item, FileInput):
        return f"echo {shlex.quote(f'{item.path} {item.tag}')}"
    if isinstance(item, ProductInput):
        without = " || true" if item.optional else ""
        return f"take {item.job} {item.tag} {item.used_as or item.tag}{without}"
    raise TypeError(f"{item.tag} is made by musedask for its job: no script has it")
