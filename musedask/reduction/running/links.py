"""Links with names for people to the cubes of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from musedask.offsets import date_key
from musedask.reduction.frames import Frame
from musedask.reduction.job.record import JobRecord
from musedask.reduction.jobs import Job
from musedask.run import Run, name_for_people, refresh_links

CUBE = "DATACUBE_FINAL"


def link_cubes(
    run: Run,
    jobs: Iterable[Job],
    records: Mapping[str, JobRecord],
    frames: Iterable[Frame],
    *,
    unplaced: Collection[str] = (),
) -> tuple[Path, ...]:
    """Make the run's folders of links show the cubes of a plan; give those of exposures.

    An exposure has one link: to its cube on the final grid where such are
    planned, else to the one from before. One that is not finished has none.

    Parameters
    ----------
    run
        The run.
    jobs
        The plan's jobs.
    records
        Of those that are finished, by key.
    frames
        The run's frames: they know the targets.
    unplaced
        First 23 characters of the DATE-OBS of exposures without a usable offset, whose
        links lie in a folder of their own.

    Raises
    ------
    FileError
        If a folder cannot be written to.
    """
    known = {frame.date_obs: frame for frame in frames if frame.tag in ("OBJECT", "SKY")}
    jobs = list(jobs)
    final = {job.frames for job in jobs if job.stage == "final"}
    exposures: dict[str, Path] = {}
    skies: dict[str, Path] = {}
    apart: dict[str, Path] = {}
    combined: dict[str, Path] = {}
    for job in jobs:
        cubes = records[job.key].products_of(CUBE) if job.key in records else ()
        if job.stage == "combine":
            name = name_for_people(job.title.removeprefix("combine "))
            combined.update(_named(name, cubes))
        elif job.stage == "final" or (job.stage == "scipost" and job.frames not in final):
            frame = known.get(job.frames[0])
            into = skies if frame is not None and frame.tag == "SKY" else exposures
            if into is exposures and date_key(job.frames[0]) in unplaced:
                into = apart
            target = frame.target if frame is not None else ""
            into.update(_named(name_for_people(target, job.frames[0]), cubes))
    refresh_links(run.cubes, exposures)
    refresh_links(run.sky_cubes, skies)
    refresh_links(run.unplaced_cubes, apart)
    refresh_links(run.combined, combined)
    return tuple(run.cubes / name for name in sorted(exposures))


def _named(name: str, cubes: tuple[Path, ...]) -> dict[str, Path]:
    """File name -> cube; a recipe that makes several numbers them."""
    if len(cubes) == 1:
        return {f"{name}.fits": cubes[0]}
    return {f"{name}_{n}.fits": cube for n, cube in enumerate(cubes, 1)}
