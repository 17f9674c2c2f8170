"""One job from its inputs to its finished folder: the unit that Dask runs, and resumes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from musedask.errors import FileError, InputError
from musedask.reduction.job.checks import check_job
from musedask.reduction.job.complaints import Complaint, Evidence
from musedask.reduction.job.esorex import LOG as LOG_NAME
from musedask.reduction.job.esorex import (
    OPTIONS,
    PRODUCTS,
    PRODUCTS_LIST,
    Call,
    call_esorex,
    executable,
    recipe_options,
)
from musedask.reduction.job.failure import (
    JobError,
    call_failed,
    checks_failed,
    failed,
    log_file,
    read_log,
)
from musedask.reduction.job.folder import (
    RunFolders,
    fresh_scratch,
    publish,
    sweep,
    write_last,
    writing,
)
from musedask.reduction.job.input_checks import check_inputs
from musedask.reduction.job.installation import Installation, installation
from musedask.reduction.job.lock import held
from musedask.reduction.job.products import find_products
from musedask.reduction.job.record import (
    RECORD_NAME,
    JobRecord,
    UsedFile,
    read_record,
    record_text,
)
from musedask.reduction.job.repeat import SCRIPT_NAME, repeat_script
from musedask.reduction.job.sof import SOF_NAME, SofLine, prepare_sof, sof_text
from musedask.reduction.jobs import Job

logger = logging.getLogger(__name__)

WAIT_S = 24 * 3600.0
"""How long to wait for another process that runs the same job."""


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One attempt at a job."""

    job: Job
    """The job."""
    number: int
    """Which attempt it is."""
    scratch: Path
    """Where it runs."""
    final: Path
    """Where its products end."""
    cores: int
    """Threads that esorex may use."""
    tolerate: tuple[str, ...]
    """Checks and tags whose complaints are only warnings."""
    installed: Installation
    """What runs it."""
    started: str
    """UTC."""


def run_job(
    job: Job,
    folders: RunFolders,
    *,
    cores: int = 1,
    attempt: int = 1,
    timeout_s: float | None = None,
    tolerate: Collection[str] = (),
    wait_s: float = WAIT_S,
) -> JobRecord:
    """Run a job unless it is finished; give its record.

    Parameters
    ----------
    job
        What to run. The jobs that it needs have to be finished.
    folders
        Where its products and its scratch folder go.
    cores
        Threads that esorex may use.
    attempt
        Which attempt this is, from 1: it goes into names and records.
    timeout_s
        Seconds after which esorex is ended; None for no limit.
    tolerate
        Names of checks, or tags of calibrations, whose complaints are only
        warnings to this user.
    wait_s
        Seconds to wait for another process that runs the same job.

    Raises
    ------
    JobError
        If esorex fails, or a check of what it has made does.
    MissingError
        If esorex, or a product of another job, is not there.
    FileError
        If a file is missing or is not what it should be, or a disk is full.
    InputError
        If the job cannot be run as it is.
    StoppedError
        If the run ends in the meantime.
    """
    final = folders.final(job)
    if (record := read_record(final)) is not None:
        return record
    with held(folders.lock(job), wait_s) as lock:
        # Whoever held the lock before may have done it.
        if (record := read_record(final)) is not None:
            return record
        one = _Attempt(
            job=job, number=attempt, final=final, cores=cores, tolerate=tuple(tolerate),
            installed=_installation_for(job), scratch=fresh_scratch(job, folders, attempt),
            started=_now(),
        )  # fmt: skip
        try:
            record = _run(one, folders, lock, timeout_s)
        except JobError:
            raise
        except BaseException:
            # The error says all; what is in the folder would not tell more.
            shutil.rmtree(one.scratch, ignore_errors=True)
            raise
        _tidy(job, folders)
    return record


def _installation_for(job: Job) -> Installation:
    """What is installed here, checked to be what the job was planned for."""
    found = installation()
    if job.version not in ("", found.muse):
        raise InputError(
            f"{job.title or job.recipe}: was planned for version {job.version} of the MUSE "
            f"pipeline, and {socket.gethostname()} has {found.muse}: plan again, or install one "
            "version on all hosts"
        )
    return found


def _run(one: _Attempt, folders: RunFolders, lock: int, timeout_s: float | None) -> JobRecord:
    """From the inputs to the final folder."""
    lines = prepare_sof(one.job, folders.products, one.scratch)
    warnings = list(_input_warnings(one, lines))
    arguments = (*OPTIONS, one.job.recipe, *_parameters(one.job), SOF_NAME)
    script = repeat_script(one.job, lines, (executable(), *recipe_options(), *arguments), one.cores)
    with writing(one.scratch / SCRIPT_NAME):
        (one.scratch / SCRIPT_NAME).write_text(script, encoding="utf-8")
    call = call_esorex(
        arguments, one.scratch, cores=one.cores, timeout_s=timeout_s, keep_open=(lock,)
    )
    if call.status != 0:
        raise call_failed(one.job, call, timeout_s)
    evidence = _evidence(one, lines, call)
    warnings += _product_warnings(one, evidence, call)
    record = _record(one, evidence, call, warnings)
    _stage(one, lines, record)
    publish(one.scratch / PRODUCTS, one.final)
    return record


def _parameters(job: Job) -> Iterator[str]:
    return (f"--{name}={value}" for name, value in job.parameters)


def _input_warnings(one: _Attempt, lines: tuple[SofLine, ...]) -> Iterator[str]:
    """Complaints about the inputs that the user tolerates; the others are raised."""
    for complaint in check_inputs(one.job, lines, one.scratch):
        if not complaint.is_tolerated(one.tolerate):
            raise InputError(
                f"{one.job.title or one.job.recipe}: [{complaint.check}] {complaint.text}"
            )
        yield _text(complaint)


def _product_warnings(one: _Attempt, evidence: Evidence, call: Call) -> list[str]:
    """What the user should know of the products; raises what they must not be."""
    complaints = check_job(evidence, one.scratch)
    if wrong := [c for c in complaints if not c.is_tolerated(one.tolerate)]:
        raise checks_failed(one.job, call, wrong, evidence.log)
    told = [_text(complaint) for complaint in complaints]
    return told + [w for w in evidence.log.warnings if not any(w in text for text in told)]


def _text(complaint: Complaint) -> str:
    return f"[{complaint.check}] {complaint.text}"


def _evidence(one: _Attempt, lines: tuple[SofLine, ...], call: Call) -> Evidence:
    """What there is to know after the end of esorex."""
    log = read_log(one.scratch)
    try:
        made = find_products(one.scratch / PRODUCTS)
        listing = json.loads((one.scratch / PRODUCTS_LIST).read_text(encoding="utf-8"))
        listed = tuple(os.path.basename(entry["name"]) for entry in listing)
    except FileError as err:
        raise failed(one.job, call, str(err), log) from err
    except (OSError, ValueError, KeyError, TypeError) as err:
        reason = f"esorex ended with status 0 and has not said what it made: {err}"
        raise failed(one.job, call, reason, log) from err
    return Evidence(one.job, lines, listed, made, log)


def _record(one: _Attempt, evidence: Evidence, call: Call, warnings: Sequence[str]) -> JobRecord:
    job = one.job
    return JobRecord(
        folder=one.final,
        key=job.key,
        recipe=job.recipe,
        stage=job.stage,
        title=job.title,
        ifu=job.ifu,
        frames=job.frames,
        parameters=job.parameters,
        inputs=tuple(
            UsedFile(line.tag, _lasting(one, line), line.identity, line.job)
            for line in evidence.lines
        ),
        products=tuple(made.product for made in evidence.made),
        pipeline=one.installed.muse,
        esorex=one.installed.esorex,
        cpl=one.installed.cpl,
        musedask=_musedask_version(),
        command=call.command,
        cores=one.cores,
        wall_s=round(call.wall_s, 3),
        cpu_s=round(call.cpu_s, 3),
        peak_memory=call.peak_memory,
        host=socket.gethostname(),
        attempt=one.number,
        started=one.started,
        ended=_now(),
        warnings=tuple(warnings),
    )


def _lasting(one: _Attempt, line: SofLine) -> str:
    """Where a file of the SOF is after the job."""
    return str(one.final / line.path) if line.is_made else line.source


def _stage(one: _Attempt, lines: Sequence[SofLine], record: JobRecord) -> None:
    """Put beside the products what belongs to them, the record last."""
    staged = one.scratch / PRODUCTS
    with writing(staged):
        os.replace(log_file(one.scratch), staged / LOG_NAME)
        os.replace(one.scratch / SCRIPT_NAME, staged / SCRIPT_NAME)
        for line in lines:
            if line.is_made:
                os.replace(one.scratch / line.path, staged / line.path)
        lasting = [replace(line, path=_lasting(one, line)) for line in lines]
        (staged / SOF_NAME).write_text(sof_text(lasting), encoding="utf-8")
    write_last(staged / RECORD_NAME, record_text(record))


def _tidy(job: Job, folders: RunFolders) -> None:
    """Remove what the attempts have left; a job that is done does not fail for that."""
    try:
        sweep(job, folders)
    except FileError as err:
        logger.warning("%s", err)


def _musedask_version() -> str:
    try:
        return metadata.version("musedask")
    except metadata.PackageNotFoundError:
        return "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
