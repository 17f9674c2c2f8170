"""What a reduction leaves to say: jobs by recipe, what failed and why, warnings, cubes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from musedask.reduction.jobs import Job
from musedask.reduction.running.following import Count
from musedask.reduction.running.outcome import Outcome
from musedask.wording import counted

WARNINGS_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class ReductionReport:
    """What a reduction did; its text is for people."""

    folder: Path
    """The run."""
    jobs: tuple[Job, ...]
    """The plan's jobs."""
    outcomes: Mapping[str, Outcome]
    """What became of them, by key; empty of those that a dry run would start."""
    counts: Mapping[str, Count]
    """Jobs by recipe."""
    notes: tuple[str, ...] = ()
    """What a user should know: notes of the plan."""
    problems: tuple[str, ...] = ()
    """What could not be planned after a part of the jobs was done, and why."""
    cubes: tuple[Path, ...] = ()
    """Links to the exposure cubes."""
    combined: tuple[Path, ...] = ()
    """Links to the combined cubes."""
    sky_cubes: tuple[Path, ...] = ()
    """Links to the cubes of SKY exposures."""
    tables: tuple[Path, ...] = ()
    """Tables of the run."""
    seconds: float = 0.0
    """Wall time."""
    seconds_left: float = 0.0
    """What a dry run expects the rest to take."""
    dry_run: bool = False
    """Whether nothing was started."""

    @property
    def ok(self) -> bool:
        """Whether no job failed or was blocked, and all could be planned."""
        bad = any(one.state in ("failed", "blocked") for one in self.outcomes.values())
        return not bad and not self.problems

    @property
    def failed(self) -> tuple[tuple[Job, Outcome], ...]:
        """Jobs that failed themselves."""
        return tuple(
            (job, self.outcomes[job.key])
            for job in self.jobs
            if job.key in self.outcomes and self.outcomes[job.key].state == "failed"
        )

    @property
    def warnings(self) -> tuple[tuple[Job, tuple[str, ...]], ...]:
        """Jobs that were run now and warned of something."""
        found = ((job, self.outcomes.get(job.key)) for job in self.jobs)
        return tuple((job, one.warnings) for job, one in found if one is not None and one.warnings)

    @property
    def n_run(self) -> int:
        """Jobs that were run now, and are done."""
        return sum(count.done for count in self.counts.values())

    def __str__(self) -> str:
        nothing_new = all(one.state == "before" for one in self.outcomes.values())
        table = "" if nothing_new and not self.n_waiting else count_table(self.counts)
        parts = [self._headline(), table]
        parts += [f"note: {note}" for note in self.notes]
        parts += [f"failed: {problem}" for problem in self.problems]
        parts += [_warned(self.warnings), *(_failed(job, one) for job, one in self.failed)]
        made = (("exposure", self.cubes), ("combined", self.combined), ("sky", self.sky_cubes))
        for what, links in made:
            if links:
                parts.append(f"{counted(len(links), f'{what} cube')} in {links[0].parent}")
        if self.tables:
            names = ", ".join(path.name for path in self.tables)
            parts.append(f"tables in {self.tables[0].parent}: {names}")
        return "\n".join(part for part in parts if part)

    @property
    def n_waiting(self) -> int:
        """Jobs that have not ended: those that a dry run would start."""
        return len(self.jobs) - len(self.outcomes)

    def _headline(self) -> str:
        total, before = len(self.jobs), sum(count.before for count in self.counts.values())
        if self.dry_run:
            time = f", about {spoken(self.seconds_left)}" if self.n_waiting else ""
            return (
                f"{self.folder}: {self.n_waiting} of {counted(total, 'job')} to run{time}; "
                f"{before} {'is' if before == 1 else 'are'} done"
            )
        if before == total:
            which = "the one job is" if total == 1 else f"all {total} jobs are"
            return f"{self.folder}: {which} done already"
        bad = sum(one.state == "failed" for one in self.outcomes.values())
        stopped = sum(one.state == "blocked" for one in self.outcomes.values())
        text = f"{self.folder}: {counted(self.n_run, 'job')} done in {spoken(self.seconds)}"
        text += f", {before} were done before" if before else ""
        text += f", {bad} failed" if bad else ""
        return text + (f", {stopped} wait for failed ones" if stopped else "")


def count_table(counts: Mapping[str, Count]) -> str:
    """Jobs by recipe as a table."""
    head = ("recipe", "jobs", "done", "before", "running", "waiting", "failed", "blocked")
    rows: list[tuple[str, ...]] = [head]
    for recipe, one in counts.items():
        numbers = (one.total, one.done, one.before, one.running, one.waiting, one.failed)
        rows.append((recipe, *(str(n or "-") for n in (*numbers, one.blocked))))
    used = [0, 1, *(n for n in range(2, len(head)) if any(row[n] != "-" for row in rows[1:]))]
    wide = {n: max(len(row[n]) for row in rows) for n in used}
    return "\n".join(
        "  ".join(row[n].ljust(wide[n]) if n == 0 else row[n].rjust(wide[n]) for n in used)
        for row in rows
    )


def _warned(warnings: tuple[tuple[Job, tuple[str, ...]], ...]) -> str:
    lines = [f"warning: {job.title}: {text}" for job, texts in warnings for text in alike(texts)]
    if len(lines) > WARNINGS_SHOWN:
        rest = len(lines) - WARNINGS_SHOWN
        lines[WARNINGS_SHOWN:] = [f"warning: and {rest} more; each job's log has its own"]
    return "\n".join(lines)


def alike(texts: Iterable[str]) -> Iterator[str]:
    """Put lines together that differ in numbers only, such as those of 24 IFUs.

    Examples
    --------
    >>> list(alike(["IFU 1 is dark", "it is late", "IFU 22 is dark"]))
    ['IFU 1 is dark (and 1 more like it)', 'it is late']
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(re.sub(r"\d+", "#", " ".join(text.split())), []).append(text)
    for group in groups.values():
        more = f" (and {len(group) - 1} more like it)" if len(group) > 1 else ""
        yield f"{group[0]}{more}"


def _failed(job: Job, outcome: Outcome) -> str:
    """What failed, why, and where to look."""
    tried = f" (tried {outcome.attempts} times)" if outcome.attempts > 1 else ""
    lines = [f"failed: {job.title or job.recipe}{tried}: {outcome.reason}"]
    named = (("log", outcome.log), ("folder", outcome.scratch), ("repeat", outcome.repeat))
    lines += [f"  {what:7s} {path}" for what, path in named if path]
    return "\n".join(lines)


def spoken(seconds: float) -> str:
    """A time for people.

    Examples
    --------
    >>> spoken(8.04), spoken(75), spoken(5000)
    ('8.0 s', '1 min 15 s', '1 h 23 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
