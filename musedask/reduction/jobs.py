"""The nouns of a plan: what one call of esorex takes and makes, before anything runs.

A job is known by its content. Its key is a hash of the recipe, the pipeline's
version, the parameters and the inputs; an input that another job makes counts
with that job's key. So one changed frame changes the keys of all that depends
on it, and of nothing else, and a finished job is found by its key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from musedask.errors import InputError

KEY_LENGTH = 16
"""Hexadecimal digits of a key: no two of a billion jobs will share one."""
STAGES = (
    "bias",
    "dark",
    "flat",
    "wavecal",
    "lsf",
    "twilight",
    "scibasic",
    "standard",
    "sky",
    "scipost",
    "align",
    "final",
    "combine",
)
"""In the order of the chain: ``first=`` and ``last=`` name these."""


@dataclass(frozen=True)
class FileInput:
    """A file that is there before the run: a raw frame or a static table."""

    tag: str
    """Tag in the SOF."""
    path: str
    """Absolute path."""
    identity: str
    """What changes with its content (:attr:`Frame.identity`)."""

    @property
    def content(self) -> tuple[str, ...]:
        """What of it enters the key: not the path."""
        return "file", self.tag, self.identity


@dataclass(frozen=True)
class ProductInput:
    """What another job of the plan makes."""

    tag: str
    """Its PRO CATG there."""
    job: str
    """Key of the job that makes it."""
    used_as: str = ""
    """Tag in the SOF, if it is another (PIXTABLE_SKY as PIXTABLE_OBJECT)."""
    optional: bool = False
    """Whether the SOF goes without it if the job made none (STD_TELLURIC)."""
    filter: str = ""
    """Only the product of this filter, where the job makes one for each (IMAGE_FOV)."""

    @property
    def content(self) -> tuple[str, ...]:
        """What of it enters the key."""
        return "product", self.tag, self.job, self.used_as, self.filter


@dataclass(frozen=True)
class MadeInput:
    """A small file that is written into the scratch folder just before the job runs."""

    tag: str
    """Tag in the SOF: ``OUTPUT_WCS`` or ``OFFSET_LIST``."""
    form: str
    """How ``text`` becomes a file: ``header`` (cards, a line each, of a cube without data) or
    ``offset_list`` (a line each: DATE_OBS, RA_OFFSET and DEC_OFFSET in degrees, FLUX_SCALE,
    with blanks between; ``nan`` for no scale)."""
    text: str
    """The content, in a canonical form."""

    @property
    def content(self) -> tuple[str, ...]:
        """What of it enters the key."""
        return "made", self.tag, self.form, self.text


Input = FileInput | ProductInput | MadeInput


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of esorex."""

    recipe: str
    """``muse_bias``..."""
    stage: str
    """One of :data:`STAGES`."""
    inputs: tuple[Input, ...]
    """The SOF, in its order; a product of several files (one an IFU) is one input."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Recipe parameters that are not the recipe's defaults, by name."""
    ifu: int | None = None
    """Its IFU, for a recipe that runs on one; it is among the parameters as ``nifu``."""
    ifus: tuple[int, ...] = ()
    """IFUs whose data it holds: for estimates and checks."""
    version: str = ""
    """Version of the MUSE pipeline."""
    products: tuple[str, ...] = ()
    """PRO CATG of what it has to make."""
    title: str = field(default="", compare=False)
    """What it is, for people: ``bias 2021-03-04 IFU 7``."""
    frames: tuple[str, ...] = field(default=(), compare=False)
    """DATE-OBS of the exposures (OBJECT, SKY, STD) it is for, where it is for some."""
    reasons: tuple[str, ...] = field(default=(), compare=False)
    """Why each calibration was chosen, a line each."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InputError(f"{self.title or self.recipe}: a job without any input")
        if self.stage not in STAGES:
            raise InputError(f"{self.stage!r} is no stage; the stages are {', '.join(STAGES)}")

    @cached_property
    def key(self) -> str:
        """Hash of the content."""
        content = [
            self.recipe,
            self.version,
            sorted(self.parameters),
            [item.content for item in self.inputs],
            self.products,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:KEY_LENGTH]

    @property
    def folder(self) -> str:
        """Where its products lie, below the run's folder of products."""
        return f"{self.recipe}/{self.key}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the jobs whose products it takes, each once, in order."""
        found = (item.job for item in self.inputs if isinstance(item, ProductInput))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Plan:
    """Jobs in an order in which they could run, each once.

    Raises
    ------
    InputError
        If a job comes twice, or before one that it needs.
    """

    jobs: tuple[Job, ...]
    """What a job needs stands before it, or among ``earlier``."""
    notes: tuple[str, ...] = ()
    """What a user should know before it runs: warnings of the association."""
    earlier: tuple[Job, ...] = ()
    """Jobs of stages before the first that was asked for: they are not run, and their products
    have to be there."""

    def __post_init__(self) -> None:
        known = {job.key for job in self.earlier}
        for job in self.jobs:
            if job.key in known:
                raise InputError(f"{job.title}: the plan has this job twice (key {job.key})")
            for need in job.needs:
                if need not in known:
                    raise InputError(f"{job.title}: needs job {need}, which is not before it")
            known.add(job.key)

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    @cached_property
    def by_key(self) -> Mapping[str, Job]:
        """Key -> job, with the earlier ones."""
        return {job.key: job for job in (*self.earlier, *self.jobs)}

    def of_stage(self, *stages: str) -> tuple[Job, ...]:
        """Jobs of these stages."""
        return tuple(job for job in self.jobs if job.stage in stages)
