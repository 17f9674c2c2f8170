"""Where SLURM's commands are called: the one place of the package that starts them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from musedask.errors import ClusterError, MissingError

ANSWER_S = 30.0
"""A controller that is busy answers late; one that is dead does so after ten seconds."""


def call(command: Sequence[str], given: str | None = None) -> str:
    """Run a command of SLURM and give what it writes.

    Parameters
    ----------
    command
        The program and its arguments; no shell sees them.
    given
        Text for its standard input.

    Raises
    ------
    MissingError
        If this machine has no such program.
    ClusterError
        If it fails; in SLURM's words.
    """
    try:
        answer = subprocess.run(
            list(command), input=given, stdin=None if given is not None else subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=ANSWER_S, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise MissingError(
            f"{command[0]} is not in PATH: this machine is no client of SLURM; log in to one "
            "that is, or choose another kind of [cluster]"
        ) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"{command[0]} has not answered for {ANSWER_S:g} s: does SLURM's controller run?"
        ) from None
    if answer.returncode:
        raise ClusterError(f"{command[0]}: {words_of(answer.stderr) or 'failed without a word'}")
    # sbatch --test-only says that a job would be accepted on its standard error.
    return answer.stdout or answer.stderr


def words_of(text: str) -> str:
    """What SLURM complains of, in one line and without the name of the command."""
    lines = (line.strip() for line in text.splitlines())
    bare = (line.partition("error: ")[2] or line for line in lines if line)
    return "; ".join(dict.fromkeys(bare))
