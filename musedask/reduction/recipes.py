"""The pipeline's recipes as rows of a table: what each takes, makes and costs.

Tags and products are those of ``esorex --man-page`` (MUSE pipeline 2.8.7). The
costs were measured with one thread on simulated frames of the full spectral
range, and are for estimates alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from musedask.errors import InputError
from musedask.reduction.jobs import FileInput, Job


@dataclass(frozen=True)
class Resources:
    """What a call costs: a part that is always there, and a part for each unit.

    The units of a recipe that runs on one IFU are its raw frames; those of the
    others are IFUs, times exposures where several are put together.
    """

    seconds: float
    """CPU time, seconds."""
    seconds_each: float
    """CPU time of a unit, seconds."""
    gib: float
    """Memory, GiB."""
    gib_each: float
    """Memory of a unit, GiB."""
    megabytes: float
    """Products, MB; of a whole recipe for each IFU."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe of the pipeline, as the chain uses it."""

    name: str
    """``muse_bias``..."""
    stage: str
    """Stage of the chain that it belongs to; muse_scipost serves two."""
    raw: tuple[str, ...]
    """Tags of which one is what the recipe works on."""
    minimum: int = 1
    """How many of them it needs."""
    required: tuple[str, ...] = ()
    """Calibrations without which it fails, or makes something that is not wanted."""
    optional: tuple[str, ...] = ()
    """Calibrations that it can do without."""
    dispensable: tuple[str, ...] = ()
    """Those of the required ones without which it runs all the same, if the user says so."""
    products: tuple[str, ...] = ()
    """PRO CATG of what it always makes; a star stands for the tag of its exposure."""
    per_ifu: bool = False
    """Whether it runs on one IFU at a time."""
    defaults: tuple[tuple[str, str], ...] = ()
    """Parameters that differ from the recipe's own defaults; a user may set them."""
    planned: tuple[str, ...] = ()
    """Parameters that follow from the plan: a user sets them through ``[reduction]``."""
    resources: Resources
    """What a call costs."""

    @property
    def takes(self) -> tuple[str, ...]:
        """All calibrations."""
        return self.required + self.optional

    def units(self, job: Job) -> int:
        """How many times the costs of a unit come up in a job."""
        if self.per_ifu:
            return sum(isinstance(i, FileInput) and i.tag in self.raw for i in job.inputs)
        exposures = len(job.frames) if self.name == "muse_exp_combine" else 1
        return len(job.ifus) * exposures

    def seconds(self, job: Job) -> float:
        """CPU time of a job, seconds, about."""
        return self.resources.seconds + self.resources.seconds_each * self.units(job)

    def gib(self, job: Job) -> float:
        """Memory of a job, GiB, about."""
        return self.resources.gib + self.resources.gib_each * self.units(job)

    def megabytes(self, job: Job) -> float:
        """Size of a job's products, MB, about."""
        each = self.resources.megabytes
        if "PIXTABLE_REDUCED" in job.products:
            each += PIXEL_TABLE_MB
        return each * (1 if self.per_ifu else max(1, len(job.ifus)))


PIXEL_TABLE_MB = 376.0
"""A pixel table of one IFU over the full spectral range."""
_BASIC = ("BADPIX_TABLE",)
_IFU = ("nifu", "merge")

_TABLE = (
    Recipe(
        name="muse_bias", stage="bias", raw=("BIAS",), minimum=3, optional=_BASIC,
        products=("MASTER_BIAS",), per_ifu=True, planned=_IFU,
        resources=Resources(1.0, 2.7, 0.27, 0.19, 202.0),
    ),
    Recipe(
        name="muse_dark", stage="dark", raw=("DARK",), minimum=3,
        required=("MASTER_BIAS",), optional=_BASIC,
        products=("MASTER_DARK",), per_ifu=True, planned=_IFU,
        resources=Resources(2.0, 3.1, 0.29, 0.19, 202.0),
    ),
    Recipe(
        name="muse_flat", stage="flat", raw=("FLAT",), minimum=3,
        required=("MASTER_BIAS",), optional=("MASTER_DARK", *_BASIC),
        products=("MASTER_FLAT", "TRACE_TABLE"), per_ifu=True, planned=_IFU,
        resources=Resources(4.0, 3.1, 0.27, 0.19, 202.0),
    ),
    # The pipeline's manual page advises against MASTER_FLAT and MASTER_DARK here.
    Recipe(
        name="muse_wavecal", stage="wavecal", raw=("ARC",), minimum=3,
        required=("MASTER_BIAS", "TRACE_TABLE", "LINE_CATALOG"), optional=_BASIC,
        products=("WAVECAL_TABLE",), per_ifu=True, planned=_IFU,
        resources=Resources(2.0, 2.4, 0.21, 0.19, 0.1),
    ),
    Recipe(
        name="muse_lsf", stage="lsf", raw=("ARC", "ARC_LSF"), minimum=3,
        required=("MASTER_BIAS", "MASTER_FLAT", "TRACE_TABLE", "WAVECAL_TABLE", "LINE_CATALOG"),
        optional=_BASIC, products=("LSF_PROFILE",), per_ifu=True, planned=_IFU,
        resources=Resources(18.0, 3.5, 0.67, 0.19, 0.9),
    ),
    Recipe(
        name="muse_twilight", stage="twilight", raw=("SKYFLAT",), minimum=3,
        required=(
            "MASTER_BIAS", "MASTER_FLAT", "TRACE_TABLE", "WAVECAL_TABLE", "GEOMETRY_TABLE",
        ),
        optional=("ILLUM", "MASTER_DARK", "VIGNETTING_MASK", *_BASIC),
        products=("DATACUBE_SKYFLAT", "TWILIGHT_CUBE"),
        resources=Resources(1.0, 28.0, 0.9, 0.4, 0.9),
    ),
    Recipe(
        name="muse_scibasic", stage="scibasic", raw=("OBJECT", "SKY", "STD"),
        required=(
            "MASTER_BIAS", "MASTER_FLAT", "TRACE_TABLE", "WAVECAL_TABLE", "GEOMETRY_TABLE",
        ),
        optional=("ILLUM", "MASTER_DARK", "TWILIGHT_CUBE", *_BASIC),
        products=("PIXTABLE_*",), per_ifu=True, planned=_IFU,
        defaults=(("saveimage", "FALSE"),),
        resources=Resources(2.0, 7.8, 0.9, 0.41, PIXEL_TABLE_MB),
    ),
    Recipe(
        name="muse_standard", stage="standard", raw=("PIXTABLE_STD",),
        required=("EXTINCT_TABLE", "STD_FLUX_TABLE"),
        optional=("TELLURIC_REGIONS", "FILTER_LIST"),
        products=("DATACUBE_STD", "STD_FLUXES", "STD_RESPONSE"),
        resources=Resources(25.0, 12.0, 0.05, 0.6, 107.0),
    ),
    Recipe(
        name="muse_create_sky", stage="sky", raw=("PIXTABLE_SKY",),
        required=("EXTINCT_TABLE", "STD_RESPONSE", "LSF_PROFILE", "SKY_LINES"),
        optional=("STD_TELLURIC", "SKY_CONTINUUM", "SKY_MASK"),
        dispensable=("EXTINCT_TABLE", "STD_RESPONSE"),
        products=("SKY_SPECTRUM", "SKY_LINES", "SKY_CONTINUUM"),
        resources=Resources(0.5, 21.0, 0.05, 0.62, 0.8),
    ),
    Recipe(
        name="muse_scipost", stage="scipost", raw=("PIXTABLE_OBJECT",),
        required=("EXTINCT_TABLE", "STD_RESPONSE", "ASTROMETRY_WCS"),
        optional=(
            "STD_TELLURIC", "OFFSET_LIST", "FILTER_LIST", "OUTPUT_WCS", "AUTOCAL_FACTORS",
            "RAMAN_LINES", "SKY_LINES", "SKY_CONTINUUM", "LSF_PROFILE", "SKY_MASK",
        ),
        dispensable=("EXTINCT_TABLE", "STD_RESPONSE", "ASTROMETRY_WCS"),
        products=("DATACUBE_FINAL", "IMAGE_FOV"),
        planned=("save", "filter", "skymethod", "autocalib"),
        resources=Resources(1.0, 40.0, 0.05, 0.97, 107.0),
    ),
    Recipe(
        name="muse_exp_align", stage="align", raw=("IMAGE_FOV",), minimum=2,
        products=("OFFSET_LIST", "SOURCE_LIST", "PREVIEW_FOV"),
        resources=Resources(0.1, 0.0, 0.1, 0.0, 0.1),
    ),
    Recipe(
        name="muse_exp_combine", stage="combine", raw=("PIXTABLE_REDUCED",), minimum=2,
        optional=("OFFSET_LIST", "FILTER_LIST", "OUTPUT_WCS"),
        products=("DATACUBE_FINAL", "IMAGE_FOV"), planned=("save", "filter"),
        resources=Resources(1.0, 21.0, 0.05, 0.83, 120.0),
    ),
)  # fmt: skip
RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _TABLE})
"""Name -> recipe, in the order of the chain."""
TIMES_ALLOWED = 50.0
"""What a job may take, of what its recipe is known to take: a slow disk, a slow machine, many
jobs at a time."""
SECONDS_ALLOWED = 6 * 3600.0
"""What every job may take."""
SETTINGS_FOR: Mapping[str, str] = MappingProxyType(
    {
        "nifu": "ifus",
        "merge": "nothing: products are kept by IFU",
        "save": "final",
        "filter": "filters",
        "skymethod": "sky",
        "autocalib": "autocalib",
    }
)
"""Parameter that the plan sets -> key of ``[reduction]`` that decides it."""


def recipe_of(name: str) -> Recipe:
    """Give a recipe by its name.

    Raises
    ------
    InputError
        If the chain has no such recipe; names the nearest.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(RECIPES)}"
        raise InputError(f"[reduction.{name}]: the chain has no recipe {name!r}; {hint}")
    return RECIPES[name]


def seconds_allowed(job: Job, hours: float) -> float:
    """Seconds that a job may take before it is ended.

    muse_wavecal, for one, never ends and says nothing if no line of its catalogue
    is as bright as the faintest one that it has detected.

    Parameters
    ----------
    job
        The job.
    hours
        What the user allows; 0 for a limit by the recipe.
    """
    if hours > 0:
        return 3600.0 * hours
    return max(SECONDS_ALLOWED, TIMES_ALLOWED * recipe_of(job.recipe).seconds(job))


def parameters_for(
    recipe: Recipe,
    given: tuple[tuple[str, str], ...],
    planned: Mapping[str, str],
) -> tuple[tuple[str, str], ...]:
    """Put the plan's, the user's and the chain's own parameters of a job together.

    Parameters
    ----------
    recipe
        The recipe.
    given
        What the user gave in ``[reduction.<recipe>]``.
    planned
        What the plan sets.

    Returns
    -------
    tuple
        Pairs of name and value, sorted by name.

    Raises
    ------
    InputError
        If the user's value contradicts the plan's; says which setting decides it.
    """
    merged = dict(recipe.defaults) | dict(planned)
    for name, value in given:
        if name not in recipe.planned:
            merged[name] = value
        elif _agrees(name, value, planned.get(name)):
            if name in planned:
                merged[name] = value
        else:
            wanted = planned.get(name, "its default")
            raise InputError(
                f"[reduction.{recipe.name}] {name} = {value!r}: the plan sets it to {wanted!r}; "
                f"it follows from [reduction] {SETTINGS_FOR[name]}"
            )
    return tuple(sorted(merged.items()))


def _agrees(name: str, value: str, planned: str | None) -> bool:
    """Whether a user's value says what the plan says; of ``save`` it may say more."""
    if planned is None:
        return name == "merge" and value.upper() == "FALSE"
    if name == "save":
        return set(_items(planned)) <= set(_items(value))
    return _items(value) == _items(planned)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]
