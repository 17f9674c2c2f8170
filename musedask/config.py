"""musedask.toml -> frozen values; a key that nobody reads is an error, not a surprise."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from musedask.errors import FileError, InputError, MissingError
from musedask.files import read_text
from musedask.wording import readable

CONFIG_NAME = "musedask.toml"
SKY_METHODS = ("model", "subtract-model", "simple", "none")
AUTOCALIBRATIONS = ("none", "deepfield", "user")
FINALS = ("none", "cubes", "combine")
COMBINE_BY = ("target", "pointing", "all")
CLUSTERS = ("threads", "local", "slurm", "address")
CLUSTER_STAGES = ("reduce", "scipost", "stack", "client")
Parameters = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A calibration that the user chose instead of the association's own choice."""

    frames: str
    """For which frames: a DATE-OBS, a file's name, a night (``2021-03-04``), a tag, or ``*``."""
    tag: str
    """Tag of what is chosen: ``ILLUM``, ``BIAS``, ``GEOMETRY_TABLE``, ``STD``..."""
    file: str
    """A file's name or path, or a TPL START for a sequence; ``none`` to go without."""


@dataclass(frozen=True, kw_only=True)
class ReductionConfig:
    """``[reduction]``: which steps are done, and how."""

    raw: tuple[str, ...] = ("raw",)
    """Folders with raw frames (and CalSelector XML), relative to the run's folder."""
    static: tuple[str, ...] = ("static",)
    """Folders with the calibration kit's tables."""
    modes: tuple[str, ...] = ()
    """INS MODEs to reduce; all if empty."""
    targets: tuple[str, ...] = ()
    """OBS TARG NAMEs to reduce; all if empty."""
    ifus: tuple[int, ...] = ()
    """IFUs to reduce; those that the frames have if empty."""
    dark: bool = False
    """Whether MASTER_DARKs are made and used."""
    lsf: bool = True
    """Whether LSF_PROFILEs are made from the arcs; else they have to lie with the static tables."""
    twilight: bool = True
    """Whether TWILIGHT_CUBEs are made and used."""
    illum: bool = True
    """Whether ILLUMs are used."""
    filters: tuple[str, ...] = ("white",)
    """Filters of the images that are made of each exposure."""
    sky: str = "model"
    """How the sky is subtracted: ``model``, ``subtract-model`` (from the nearest SKY
    exposure), ``simple`` or ``none``."""
    sky_cubes: bool = False
    """Whether SKY exposures become cubes too, without subtraction of their sky."""
    autocalib: str = "none"
    """Self-calibration of the slices: ``none``, ``deepfield``, or ``user`` (AUTOCAL_FACTORS)."""
    raman: bool = True
    """Whether the laser's Raman lines are removed from AO exposures."""
    offsets: str = "exp_align"
    """Where the exposures point: ``exp_align`` (measured by muse_exp_align), ``measured`` (by
    ``musedask align``), ``headers`` (they are right), or a table of offsets, relative to the
    run's folder."""
    reference: str = ""
    """Image or catalogue that ``measured`` offsets are measured against, relative to the run's
    folder; among the exposures alone if empty."""
    final: str = "none"
    """What is made with the offsets: ``cubes`` (each exposure again, resampled once onto its
    cut-out of one grid), ``combine`` (muse_exp_combine of reduced pixel tables), or ``none``."""
    combine_by: str = "target"
    """What goes into one combined cube: exposures of one ``target``, one ``pointing`` (OB), or
    ``all``."""
    grid: str = "enclosing"
    """Grid of the final cubes: ``enclosing``, or a FITS file that has it."""
    wavelengths: str = "nominal"
    """Wavelengths of the final cubes: ``nominal`` or ``common``."""
    allow_missing: tuple[str, ...] = ()
    """Tags of required calibrations without which a frame is reduced all the same."""
    tolerate: tuple[str, ...] = ()
    """Names of checks of products whose complaints are warnings, not failures."""
    windows: tuple[tuple[str, float], ...] = ()
    """Tag -> days by which a calibration may be away, where not the pipeline's own rule."""
    choose: tuple[Choice, ...] = ()
    """Calibrations that the user chose; the last one that fits counts."""
    recipes: tuple[tuple[str, Parameters], ...] = ()
    """Recipe -> its parameters, as texts: the tables ``[reduction.muse_scipost]``..."""
    attempts: int = 2
    """How often a job that fails is tried."""
    hours_per_job: float = 0.0
    """Hours after which a job is ended that is not done; 0 for a limit by its recipe."""

    def __post_init__(self) -> None:
        _one_of("sky", self.sky, SKY_METHODS)
        _one_of("autocalib", self.autocalib, AUTOCALIBRATIONS)
        _one_of("final", self.final, FINALS)
        _one_of("combine_by", self.combine_by, COMBINE_BY)
        if self.reference and self.offsets != "measured":
            raise InputError(
                f"[reduction] reference = {self.reference!r} is for offsets = 'measured', and "
                f"offsets = {self.offsets!r}: change one of them"
            )
        if self.attempts < 1:
            raise InputError(f"[reduction] attempts = {self.attempts}: at least 1")
        if not self.hours_per_job >= 0:
            raise InputError(
                f"[reduction] hours_per_job = {self.hours_per_job}: a number of hours, 0 for a "
                "limit by the recipe, or inf for none"
            )
        for ifu in self.ifus:
            if not 1 <= ifu <= 24:
                raise InputError(f"[reduction] ifus: {ifu} is none; MUSE has IFUs 1 to 24")
        if self.final == "cubes" and self.wavelengths not in ("nominal", "common"):
            raise InputError(
                f"[reduction] wavelengths = {self.wavelengths!r}: 'nominal' or 'common'"
            )

    def parameters_of(self, recipe: str) -> Parameters:
        """Parameters that the user gave for a recipe."""
        return dict(self.recipes).get(recipe, ())


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """``[cluster]``: where Dask runs."""

    kind: str = "threads"
    """``threads`` in this process, ``local`` processes, ``slurm``, or the ``address`` of a
    scheduler."""
    workers: int = 0
    """How many jobs run at once, as far as memory allows; 0 for as many as there are cores."""
    memory: str = ""
    """Memory that may be used in all (``"16 GiB"``), what the machine has if empty; for
    ``slurm``, memory of each SLURM job."""
    cores: int = 0
    """Cores of each SLURM job, or threads of each ``local`` process that stacks; 0 for one."""
    address: str = ""
    """Address of a Dask scheduler, for ``address``."""
    site: str = ""
    """Name of a site: of a file NAME.toml with a table ``[cluster]``, or of a section of the
    Dask configuration's ``jobqueue``."""
    interface: str = ""
    """Network interface by which SLURM's nodes reach this machine; any if empty."""
    tls: bool = True
    """Whether connections are encrypted and open to nobody else."""
    dashboard: bool = True
    """Whether Dask's dashboard is there: on this machine only, at an address that is secret."""
    folder: str = ""
    """Where logs of SLURM's jobs, and keys, are: seen from all nodes; ``logs/slurm`` of the
    run if empty."""
    options: tuple[tuple[str, Any], ...] = ()
    """``[cluster.options]``: further keyword arguments of dask-jobqueue's SLURMCluster."""
    site_options: tuple[tuple[str, Any], ...] = ()
    """``[cluster.options]`` of the site's file: what Dask's own configuration says of the site
    counts more."""
    stages: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    """``[cluster.reduce]``, ``[cluster.scipost]``, ``[cluster.stack]``, ``[cluster.client]``:
    which keys differ there."""

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, CLUSTERS, "cluster")
        if self.workers < 0:
            raise InputError(f"[cluster] workers = {self.workers}: a number of jobs, or 0")
        if self.cores < 0:
            raise InputError(f"[cluster] cores = {self.cores}: a number of cores, or 0")
        if (self.kind == "address") != bool(self.address):
            raise InputError("[cluster] kind = 'address' and address = '...' go together")

    def of_stage(self, stage: str) -> ClusterConfig:
        """What it is for a stage: ``scipost`` begins with what ``reduce`` has.

        Parameters
        ----------
        stage
            ``reduce``, ``scipost`` (and all after it that esorex does), ``stack``; "" for none.
        """
        changed: dict[str, Any] = {}
        options = dict(self.options)
        for name in ("reduce", "scipost") if stage == "scipost" else (stage,):
            keys = dict(dict(self.stages).get(name, ()))
            options |= dict(keys.pop("options", ()))
            changed |= keys
        return replace(self, **changed, options=tuple(options.items()), stages=())


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole musedask.toml."""

    reduction: ReductionConfig = field(default_factory=ReductionConfig)
    """``[reduction]``."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """``[cluster]``."""


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a musedask.toml.

    Raises
    ------
    FileError
        If the file cannot be read or is no TOML.
    InputError
        If a key is unknown or a value cannot be; both name the file.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise FileError(f"{path}: there is no such file; 'musedask init' makes one")
    try:
        given = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as err:  # ValueError: TOMLDecodeError, and endless numbers
        raise FileError(f"{path}: is no TOML file: {readable(str(err))}") from None
    try:
        return config_of(given)
    except InputError as err:
        raise InputError(f"{path}: {readable(str(err))}") from None


def config_of(given: Mapping[str, Any]) -> Config:
    """Turn the content of a musedask.toml into values.

    Raises
    ------
    InputError
        If a key is unknown or a value cannot be.
    """
    _known(given, ("reduction", "cluster"))
    reduction = dict(_table(given.get("reduction", {}), "reduction"))
    recipes = {name: reduction.pop(name) for name in list(reduction) if name.startswith("muse_")}
    windows = _table(reduction.pop("windows", {}), "reduction.windows")
    choose = reduction.pop("choose", [])
    if not isinstance(choose, list):
        raise InputError("[[reduction.choose]] is an array of tables: write it with two brackets")
    return Config(
        reduction=ReductionConfig(
            **_fields(ReductionConfig, reduction, "reduction"),
            windows=tuple((tag, _days(tag, days)) for tag, days in windows.items()),
            choose=tuple(
                Choice(**_fields(Choice, _table(row, "reduction.choose"), "reduction.choose"))
                for row in choose
            ),
            recipes=tuple((name, _parameters(name, table)) for name, table in recipes.items()),
        ),
        cluster=cluster_config(_table(given.get("cluster", {}), "cluster")),
    )


def cluster_config(given: Mapping[str, Any]) -> ClusterConfig:
    """Turn the table ``[cluster]`` into values, over those of the site that it names.

    Raises
    ------
    InputError
        If a key is unknown or a value cannot be.
    FileError
        If the site's file cannot be used.
    MissingError
        If there is no such site.
    """
    name = given.get("site", "")
    site = site_table(name) if isinstance(name, str) and name else {}
    merged = {**site, **given}
    below = _table(site.get("options", {}), "cluster.options")
    options = _table(given.get("options", {}), "cluster.options")
    stages = {}
    for stage in CLUSTER_STAGES:
        keys = {**site.get(stage, {}), **_table(merged.pop(stage, {}), f"cluster.{stage}")}
        if keys:
            stages[stage] = _stage_keys(stage, keys)
    merged.pop("options", None)
    config = ClusterConfig(
        **_fields(ClusterConfig, merged, "cluster", hidden=("stages", "site_options")),
        options=tuple(options.items()),
        site_options=tuple(below.items()),
        stages=tuple(stages.items()),
    )
    for stage in stages:
        config.of_stage(stage)  # complains of what cannot be, now
    return config


def _stage_keys(stage: str, given: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    where = f"cluster.{stage}"
    given = dict(given)
    options = _table(given.pop("options", {}), f"{where}.options")
    keys = _fields(ClusterConfig, given, where, hidden=("stages", "site_options", "site"))
    return (*keys.items(), ("options", tuple(options.items())))


def site_table(name: str) -> Mapping[str, Any]:
    """Table ``[cluster]`` of a site.

    ``threads`` and ``local`` are sites that need no file. Files are looked for in the folder
    that MUSEDASK_SITES names, else in ``~/.config/musedask``.

    Raises
    ------
    FileError
        If its file cannot be used.
    MissingError
        If neither a file nor Dask's configuration knows the site.
    """
    if name in ("threads", "local"):
        return {"kind": name}
    path = site_folder() / f"{name}.toml"
    if Path(name).name != name:
        raise InputError(f"[cluster] site = {name!r}: the name of a site, not a path")
    if path.is_file():
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise FileError(f"{path}: is no TOML file: {err}") from None
        _known(given, ("cluster",))
        return {"kind": "slurm", **_table(given.get("cluster", {}), "cluster")}
    import dask.config

    if dask.config.get(f"jobqueue.{name}", default=None):
        return {"kind": "slurm"}
    raise MissingError(
        f"[cluster] site = {name!r}: there is neither {path} nor a section jobqueue.{name} in "
        "Dask's configuration; write one of them (configs/ has examples), or leave it out"
    )


def site_folder() -> Path:
    """Where the files of sites are."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    own = os.environ.get("MUSEDASK_SITES") or os.path.join(base, "musedask")
    return Path(own).expanduser()


def _fields(
    kind: type, given: Mapping[str, Any], where: str, hidden: Iterable[str] = ()
) -> dict[str, Any]:
    """Check names and types of a table against a dataclass."""
    types = get_type_hints(kind)
    _known(given, [f.name for f in fields(kind) if f.name not in hidden], where)
    missing = [
        f.name for f in fields(kind)
        if f.default is MISSING and f.default_factory is MISSING and f.name not in given
    ]  # fmt: skip
    if missing:
        raise InputError(f"[{where}] has no {missing[0]}; give it")
    return {key: _value(types[key], value, f"[{where}] {key}") for key, value in given.items()}


def _value(kind: Any, given: Any, what: str) -> Any:
    """A value of a field's type; lists become tuples."""
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if not isinstance(given, list):
            raise InputError(f"{what} = {given!r}: a list is wanted")
        return tuple(_value(item, one, what) for one in given)
    # In Python True is an int; in a configuration it is not, and an int is a number as well.
    if kind is float and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    if not isinstance(given, kind) or (kind is int and isinstance(given, bool)):
        words = {str: "a text in quotes", int: "a whole number", bool: "true or false",
                 float: "a number"}  # fmt: skip
        raise InputError(f"{what} = {given!r}: {words[kind]} is wanted")
    return given


def _known(given: Iterable[str], names: Iterable[str], where: str = "") -> None:
    names, place = list(names), f"[{where}]" if where else "the top level"
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise InputError(f"{place} has no key {key!r}; {hint}")


def _table(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise InputError(f"[{where}] = {given!r}: a table is wanted")
    return given


def _days(tag: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        raise InputError(f"[reduction.windows] {tag} = {given!r}: a number of days is wanted")
    return float(given)


def _parameters(recipe: str, given: Any) -> Parameters:
    """Recipe parameters as esorex takes them on its command line."""
    found = []
    for name, value in _table(given, f"reduction.{recipe}").items():
        if isinstance(value, bool):
            text = str(value).upper()
        elif isinstance(value, list):
            text = ",".join(map(str, value))
        elif isinstance(value, int | float | str):
            text = str(value)
        else:
            raise InputError(f"[reduction.{recipe}] {name} = {value!r}: a text or a number")
        found.append((name, text))
    return tuple(found)


def _one_of(key: str, value: str, allowed: tuple[str, ...], where: str = "reduction") -> None:
    if value not in allowed:
        raise InputError(f"[{where}] {key} = {value!r}: one of {', '.join(allowed)}")
