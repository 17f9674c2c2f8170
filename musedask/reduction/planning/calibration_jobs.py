"""Jobs of the calibrations, and what a job takes of them."""

from __future__ import annotations

from collections.abc import Iterable

from musedask.reduction.frames import Frame
from musedask.reduction.jobs import FileInput, Input, Job, ProductInput
from musedask.reduction.planning.chain import (
    AFTER_BASIC,
    STEPS,
    Chain,
    basic_calibrations,
    calibrations,
    later_calibrations,
)
from musedask.reduction.planning.picking import Pick, Taken
from musedask.reduction.planning.sequences import Sequence, role_of
from musedask.reduction.recipes import RECIPES


def file_inputs(frames: Iterable[Frame], tag: str = "") -> tuple[FileInput, ...]:
    """Files as inputs, under their own tag or another."""
    return tuple(FileInput(tag or frame.tag, frame.path, frame.identity) for frame in frames)


def inputs_of(chain: Chain, taken: Taken, ifus: tuple[int, ...]) -> tuple[Input, ...]:
    """The calibrations of a call as inputs; makes the jobs that they come from.

    Parameters
    ----------
    chain
        The plan in the making.
    taken
        The calibrations.
    ifus
        IFUs of the call: of what is made by IFU it takes these.
    """
    geometry = taken.source("GEOMETRY_TABLE")
    found = [
        item
        for pick in taken.picks
        for item in _inputs(chain, pick, ifus, geometry if isinstance(geometry, Frame) else None)
    ]
    # A product with all IFUs in one file comes up once for each.
    return tuple(dict.fromkeys(found))


def _inputs(
    chain: Chain, pick: Pick, ifus: tuple[int, ...], geometry: Frame | None
) -> Iterable[Input]:
    source, role = pick.source, role_of(pick.tag)
    if isinstance(source, Frame):
        return file_inputs([source], pick.tag)
    if not source.is_raw or role == "ILLUM":
        whole = role in ("ILLUM", "SKYFLAT", *AFTER_BASIC)
        files = [source.files(pick.tag, ifu) for ifu in ((None,) if whole else ifus)]
        return [item for some in files for item in file_inputs(some)]
    if role in AFTER_BASIC:
        job = later_job(chain, source)
        return [ProductInput(pick.tag, job.key, optional=pick.tag == "STD_TELLURIC")]
    if role == "SKYFLAT":
        return [ProductInput(pick.tag, calibration_job(chain, role, source, None, geometry).key)]
    jobs = [calibration_job(chain, role, source, ifu) for ifu in ifus]
    return [ProductInput(pick.tag, job.key) for job in jobs]


def calibration_job(
    chain: Chain, role: str, sequence: Sequence, ifu: int | None, geometry: Frame | None = None
) -> Job:
    """The job that makes a calibration from raw frames, of one IFU or (twilight) of all."""
    key = ("job", role, sequence, ifu, geometry and geometry.path)
    return chain.once(key, lambda: _calibration_job(chain, role, sequence, ifu, geometry))


def _calibration_job(
    chain: Chain, role: str, sequence: Sequence, ifu: int | None, geometry: Frame | None
) -> Job:
    recipe = RECIPES[STEPS[role][0]]
    taken = calibrations(chain, role, sequence, geometry)
    chain.remember(sequence, taken)
    ifus = chain.ifus(sequence) if ifu is None else (ifu,)
    planned = {} if ifu is None else {"nifu": str(ifu)}
    where = "" if ifu is None else f" IFU {ifu}"
    return chain.add(
        Job(
            recipe=recipe.name,
            stage=recipe.stage,
            inputs=(*file_inputs(sequence.frames), *inputs_of(chain, taken, ifus)),
            parameters=chain.parameters(recipe, **planned),
            ifu=ifu,
            ifus=ifus,
            version=chain.version,
            products=recipe.products,
            title=f"{recipe.stage} {sequence.first.template_start or sequence.label}{where}",
            reasons=taken.reasons,
        )
    )


def basic_jobs(chain: Chain, exposure: Sequence) -> tuple[Job, ...]:
    """The jobs that make the pixel tables of an exposure, one an IFU."""
    return chain.once(("basic jobs", exposure), lambda: _basic_jobs(chain, exposure))


def _basic_jobs(chain: Chain, exposure: Sequence) -> tuple[Job, ...]:
    recipe, frame = RECIPES["muse_scibasic"], exposure.first
    taken = basic_calibrations(chain, exposure)
    chain.remember(exposure, taken)
    raw = file_inputs(exposure.frames)
    return tuple(
        chain.add(
            Job(
                recipe=recipe.name,
                stage=recipe.stage,
                inputs=(*raw, *inputs_of(chain, taken, (ifu,))),
                parameters=chain.parameters(recipe, nifu=str(ifu)),
                ifu=ifu,
                ifus=(ifu,),
                version=chain.version,
                products=(f"PIXTABLE_{frame.tag}",),
                title=f"scibasic {frame.tag} {frame.date_obs} IFU {ifu}",
                frames=(frame.date_obs,),
                reasons=taken.reasons,
            )
        )
        for ifu in chain.ifus(exposure)
    )


def pixel_tables(chain: Chain, exposure: Sequence, used_as: str = "") -> tuple[ProductInput, ...]:
    """The pixel tables of an exposure as inputs."""
    tag = f"PIXTABLE_{exposure.tag}"
    used_as = "" if used_as == tag else used_as
    return tuple(ProductInput(tag, job.key, used_as) for job in basic_jobs(chain, exposure))


def later_job(chain: Chain, exposure: Sequence) -> Job:
    """The job that makes a response of a STD, or the sky's spectrum of a SKY exposure."""
    return chain.once(("later job", exposure), lambda: _later_job(chain, exposure))


def _later_job(chain: Chain, exposure: Sequence) -> Job:
    recipe, frame = RECIPES[AFTER_BASIC[exposure.tag][0]], exposure.first
    taken, ifus = later_calibrations(chain, exposure), chain.ifus(exposure)
    chain.remember(exposure, taken)
    return chain.add(
        Job(
            recipe=recipe.name,
            stage=recipe.stage,
            inputs=(*pixel_tables(chain, exposure), *inputs_of(chain, taken, ifus)),
            parameters=chain.parameters(recipe),
            ifus=ifus,
            version=chain.version,
            products=recipe.products,
            title=f"{recipe.stage} {frame.date_obs}",
            frames=(frame.date_obs,),
            reasons=taken.reasons,
        )
    )
