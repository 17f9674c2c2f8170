"""A plan in words: what is done, with which calibrations and why, and every SOF."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from musedask.reduction.jobs import STAGES, FileInput, Job, MadeInput, Plan, ProductInput
from musedask.reduction.planning.estimate import Estimate
from musedask.reduction.planning.science_frames import EXPOSURES


def plan_text(plan: Plan, estimate: Estimate | None = None, *, sof: bool = False) -> str:
    """Describe a plan.

    Parameters
    ----------
    plan
        The plan.
    estimate
        What it will cost, to be told as well.
    sof
        Whether each job's SOF and parameters are listed.
    """
    parts = ["\n".join(_summary(plan)), "\n".join(_exposures(plan))]
    if sof:
        parts.append("\n".join(_jobs(plan)))
    if estimate is not None:
        parts.append(f"Estimate\n{_indented(str(estimate))}")
    if plan.notes:
        parts.append("Notes\n" + "\n".join(f"  {note}" for note in plan.notes))
    return "\n\n".join(part for part in parts if part)


def _summary(plan: Plan) -> Iterator[str]:
    yield f"Plan of {_count(len(plan), 'job')}"
    yield f"  {'stage':<10}{'recipe':<18}{'jobs':>6}{'IFUs':>6}{'inputs':>8}"
    for stage in STAGES:
        jobs = plan.of_stage(stage)
        if jobs:
            ifus = {ifu for job in jobs for ifu in job.ifus}
            inputs = sum(len(job.inputs) for job in jobs)
            yield (
                f"  {stage:<10}{jobs[0].recipe:<18}{len(jobs):>6}{len(ifus) or '':>6}{inputs:>8}"
            )
    if plan.earlier:
        stages = ", ".join(dict.fromkeys(job.stage for job in plan.earlier))
        yield f"  {_count(len(plan.earlier), 'job')} of earlier stages must be done ({stages})"


def _exposures(plan: Plan) -> Iterator[str]:
    """Each exposure, and why it has the calibrations that it has."""
    reasons: dict[str, dict[str, None]] = defaultdict(dict)
    titles: dict[str, str] = {}
    for job in plan:
        if len(job.frames) == 1 and job.recipe != "muse_exp_combine":
            raw = next((i for i in job.inputs if isinstance(i, FileInput)), None)
            if raw is not None and raw.tag in EXPOSURES:
                titles[job.frames[0]] = f"{raw.tag} {raw.path.rpartition('/')[2]}"
            reasons[job.frames[0]].update(dict.fromkeys(job.reasons))
    if reasons:
        yield "Exposures and their calibrations"
    for date in sorted(reasons):
        yield f"  {titles.get(date, date)}"
        yield from (f"    {reason}" for reason in reasons[date])


def _jobs(plan: Plan) -> Iterator[str]:
    yield "Jobs"
    for job in plan:
        parameters = " ".join(f"--{name}={value}" for name, value in job.parameters)
        yield f"  {job.title}"
        yield f"    {job.recipe} {parameters}".rstrip()
        yield f"    products in {job.folder}"
        yield from (f"    {line}" for line in sof_lines(plan, job))


def sof_lines(plan: Plan, job: Job) -> Iterator[str]:
    """The SOF of a job, as far as the names of files are known before it runs."""
    for item in job.inputs:
        if isinstance(item, FileInput):
            yield f"{item.path} {item.tag}"
        elif isinstance(item, ProductInput):
            maker = plan.by_key.get(item.job)
            folder = maker.folder if maker is not None else item.job
            which = f"[{item.filter}]" if item.filter else ""
            yield f"{folder}/{item.tag}{which} {item.used_as or item.tag}"
        elif isinstance(item, MadeInput):
            lines = item.text.count("\n") + 1
            yield f"(written for this job, {_count(lines, 'line')}) {item.tag}"


def calplan_text(plan: Plan) -> str:
    """Give the plan as a table of raw files: each exposure, and all files that calibrate it.

    Calibrations of calibrations are among them; the files that nothing needs are not.
    """
    files = files_behind(plan)
    lines = [f"{'file':<40}{'tag':<20}calibrates"]
    for date in sorted(files):
        by_tag: dict[str, list[str]] = defaultdict(list)
        for item in files[date]:
            by_tag[item.tag].append(item.path.rpartition("/")[2])
        of_sky = [(tag, name) for tag in EXPOSURES for name in by_tag.get(tag, ()) if date in name]
        own = of_sky[0] if of_sky else next((tag, by_tag[tag][0]) for tag in by_tag)
        lines.append(f"{own[1]:<40}{own[0]:<20}")
        for tag in sorted(by_tag):
            lines += [f"  {name:<38}{tag:<20}{own[1]}" for name in sorted(by_tag[tag])
                      if (tag, name) != own]  # fmt: skip
    return "\n".join(lines)


def files_behind(plan: Plan) -> Mapping[str, tuple[FileInput, ...]]:
    """All files that the cube (or the response, the sky) of an exposure comes from.

    Returns
    -------
    Mapping
        DATE-OBS of the exposure -> files, each once.
    """
    last: dict[str, Job] = {}
    for job in plan:
        if len(job.frames) == 1:
            last[job.frames[0]] = job
    return {date: tuple(_files(plan, job)) for date, job in last.items()}


def _files(plan: Plan, job: Job) -> Iterable[FileInput]:
    found: dict[FileInput, None] = {}
    waiting, seen = [job], {job.key}
    while waiting:
        for item in waiting.pop().inputs:
            if isinstance(item, FileInput):
                found[item] = None
            elif isinstance(item, ProductInput) and item.job not in seen:
                seen.add(item.job)
                if item.job in plan.by_key:
                    waiting.append(plan.by_key[item.job])
    return found


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")
