"""What a check has to look at, and what it says: the nouns of the checks of a job."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from musedask.reduction.job.log import LogSummary
from musedask.reduction.job.products import Made
from musedask.reduction.job.sof import SofLine
from musedask.reduction.jobs import Job


@dataclass(frozen=True)
class Complaint:
    """Something that is wrong with what a job took or made."""

    check: str
    """Name of the check; a user who wants to go on all the same tolerates it by this name."""
    text: str
    """What is wrong and what to do."""
    excuse: str = ""
    """Tag of a calibration: whoever goes without that one tolerates this."""
    is_warning: bool = False
    """Whether it is only to be told."""

    def is_tolerated(self, tolerated: Collection[str]) -> bool:
        """Whether the user wants to go on all the same."""
        return self.is_warning or self.check in tolerated or self.excuse in tolerated


@dataclass(frozen=True)
class Evidence:
    """What is known of a job whose esorex has ended with status 0."""

    job: Job
    """The job."""
    lines: tuple[SofLine, ...]
    """Its SOF."""
    listed: tuple[str, ...]
    """Names of the files that esorex says it has made."""
    made: tuple[Made, ...]
    """The products that are there."""
    log: LogSummary
    """esorex's log."""

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Parameters that were given."""
        return dict(self.job.parameters)

    def of(self, *tags: str) -> tuple[Made, ...]:
        """Products of these PRO CATG."""
        return tuple(made for made in self.made if made.product.tag in tags)

    def inputs(self, *tags: str) -> tuple[SofLine, ...]:
        """Lines of the SOF with these tags."""
        return tuple(line for line in self.lines if line.tag in tags)
