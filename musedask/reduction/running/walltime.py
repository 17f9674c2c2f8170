"""Jobs that take longer than a worker lasts: they would be begun again and again."""

from __future__ import annotations

from collections.abc import Sequence

from musedask.errors import InputError
from musedask.reduction.jobs import Job
from musedask.reduction.running.following import Durations
from musedask.reduction.running.report import spoken


def walltime_note(todo: Sequence[Job], durations: Durations, walltime_s: float) -> str:
    """Say which job may be too long; "" if none is.

    Parameters
    ----------
    todo
        Jobs that are to be run.
    durations
        What they take.
    walltime_s
        For how long a worker is there.

    Raises
    ------
    InputError
        If jobs of its kind are known to have taken longer than that.
    """
    longest = max(todo, key=durations, default=None)
    if longest is None or durations(longest) <= walltime_s:
        return ""
    text = (
        f"{longest.title or longest.recipe} takes about {spoken(durations(longest))}, and a "
        f"worker's walltime is {spoken(walltime_s)}"
    )
    advice = "give a longer walltime in [cluster.options], or more cores"
    if durations.taken.get((longest.recipe, longest.stage)):
        raise InputError(f"{text}: it would never be done; {advice}")
    return f"{text}: if that is so it will never be done; {advice}"
