"""Jobs of the science exposures: from pixel tables to a cube of each, and their alignment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from musedask.reduction.frames import Frame
from musedask.reduction.jobs import Input, Job, ProductInput
from musedask.reduction.planning.calibration_jobs import inputs_of, later_job, pixel_tables
from musedask.reduction.planning.chain import SKY_RULE, Chain, basic_calibrations, take
from musedask.reduction.planning.picking import Taken
from musedask.reduction.planning.sequences import Sequence
from musedask.reduction.recipes import RECIPES
from musedask.reduction.rules import RULES, Rule, field_of, is_ao

WHITE = "white"
"""The filter that the pipeline makes by itself."""
MODELLED = ("model", "subtract-model")
"""Sky methods that need the line spread function."""


def scipost_calibrations(chain: Chain, exposure: Sequence) -> Taken:
    """What muse_scipost of an exposure takes, whichever cube it makes."""
    return chain.once(("scipost", exposure), lambda: _scipost_calibrations(chain, exposure))


def _scipost_calibrations(chain: Chain, exposure: Sequence) -> Taken:
    geometry = basic_calibrations(chain, exposure).source("GEOMETRY_TABLE")
    rules = _scipost_rules(chain, exposure)
    taken = take(
        chain, RECIPES["muse_scipost"], rules, exposure, chain.ifus(exposure),
        geometry if isinstance(geometry, Frame) else None,
    )  # fmt: skip
    sky = taken.source(SKY_RULE.tag)
    if isinstance(sky, Sequence) and sky.is_raw:
        # Its lines were fitted together with its continuum: those of the kit are not for it.
        picks = tuple(pick for pick in taken.picks if pick.tag != "SKY_LINES")
        return replace(taken, picks=picks)
    return taken


def _scipost_rules(chain: Chain, exposure: Sequence) -> list[Rule]:
    """The rules for what this exposure takes under this configuration."""
    config, sky = chain.config, sky_method(chain, exposure)
    raman = config.raman and is_ao(exposure.first.mode)
    lsf = sky in MODELLED or raman
    used = {
        "LSF_PROFILE": lsf,
        "SKY_LINES": sky in MODELLED,
        "SKY_CONTINUUM": sky == "subtract-model",
        "FILTER_LIST": set(config.filters) != {WHITE},
        "AUTOCAL_FACTORS": config.autocalib == "user",
        "RAMAN_LINES": raman,
        "OUTPUT_WCS": False,
    }
    rules = [rule for rule in RULES["scipost"] if used.get(rule.tag, True)]
    needed = ("FILTER_LIST", "AUTOCAL_FACTORS")
    rules = [replace(r, optional=r.optional and r.tag not in needed) for r in rules]
    return [SKY_RULE if rule.tag == SKY_RULE.tag else rule for rule in rules]


def sky_method(chain: Chain, exposure: Sequence) -> str:
    """How the sky of an exposure is subtracted; a SKY exposure keeps its own."""
    return "none" if exposure.tag == "SKY" else chain.config.sky


def scipost_job(
    chain: Chain, exposure: Sequence, stage: str = "scipost", extra: tuple[Input, ...] = ()
) -> Job:
    """The job that makes the cube of an exposure.

    Parameters
    ----------
    chain
        The plan in the making.
    exposure
        An OBJECT, or a SKY that becomes a cube as well.
    stage
        ``scipost``, or ``final`` for the cube on the final grid.
    extra
        Further inputs: the offset and the grid of a final cube.
    """
    recipe, frame = RECIPES["muse_scipost"], exposure.first
    taken, ifus = scipost_calibrations(chain, exposure), chain.ifus(exposure)
    chain.remember(exposure, taken)
    planned = _scipost_parameters(chain, exposure, stage)
    made = ("PIXTABLE_REDUCED",) if "individual" in planned["save"] else ()
    return chain.add(
        Job(
            recipe=recipe.name,
            stage=stage,
            inputs=(
                *pixel_tables(chain, exposure, "PIXTABLE_OBJECT"),
                *inputs_of(chain, taken, ifus),
                *_sky_lines(chain, taken),
                *extra,
            ),
            parameters=chain.parameters(recipe, **planned),
            ifus=ifus,
            version=chain.version,
            products=recipe.products + made,
            title=f"{stage} {frame.tag} {frame.date_obs} {frame.target}".rstrip(),
            frames=(frame.date_obs,),
            reasons=taken.reasons,
        )
    )


def _sky_lines(chain: Chain, taken: Taken) -> tuple[Input, ...]:
    sky = taken.source(SKY_RULE.tag)
    if isinstance(sky, Sequence) and sky.is_raw:
        return (ProductInput("SKY_LINES", later_job(chain, sky).key),)
    return ()


def _scipost_parameters(chain: Chain, exposure: Sequence, stage: str) -> dict[str, str]:
    config, method = chain.config, sky_method(chain, exposure)
    save = ["cube"]
    if stage == "scipost":
        save += ["individual"] if config.final == "combine" and exposure.tag == "OBJECT" else []
        save += ["skymodel"] if method == "model" else []
        save += ["autocal"] if config.autocalib == "deepfield" else []
    return {
        "save": ",".join(save),
        "filter": ",".join(config.filters),
        "skymethod": method,
        "autocalib": config.autocalib,
    }


Group = tuple[str, ...]
"""What exposures are put together by: a target, a pointing..."""


def alignment_groups(exposures: Iterable[Sequence]) -> Mapping[Group, tuple[Sequence, ...]]:
    """Exposures that are aligned with one another: those of a target, in one field (WFM, NFM)."""
    groups: dict[Group, list[Sequence]] = defaultdict(list)
    for exposure in exposures:
        groups[exposure.first.target, field_of(exposure.first.mode)].append(exposure)
    return {group: tuple(members) for group, members in groups.items()}


def align_job(chain: Chain, group: Group, jobs: Iterable[Job]) -> Job:
    """The job that measures offsets between the images of exposures, in the first filter."""
    recipe, jobs = RECIPES["muse_exp_align"], tuple(jobs)
    images = [ProductInput("IMAGE_FOV", job.key, filter=chain.config.filters[0]) for job in jobs]
    return chain.add(
        Job(
            recipe=recipe.name,
            stage=recipe.stage,
            inputs=tuple(images),
            parameters=chain.parameters(recipe),
            version=chain.version,
            products=recipe.products,
            title=" ".join(("align", *filter(None, group))),
            frames=tuple(date for job in jobs for date in job.frames),
        )
    )
