"""Nights made on the spot and kept, runs that reduce them, and what a script makes of them.

It takes memory to make them, which is not a reduction's: :func:`prepared` works elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from benchmarks.jobs import Job, Place, UnavailableError
from benchmarks.reduction.nights import NightSpec
from benchmarks.reduction.script import shell_script
from musedask.config import CONFIG_NAME
from musedask.errors import MissingError
from musedask.reduction.job.esorex import SCRUBBED, executable
from musedask.reduction.job.installation import installation
from musedask.reduction.jobs import Plan
from musedask.run import Run, open_run

NIGHT_VERSION = 1
"""Raise it when equal specifications give other frames."""
_SHORT_CHAIN = 'twilight = false\nlsf = false\nsky = "simple"\n'
_QUICK_RECIPES = '[reduction.muse_bias]\ncombine = "average"\n'


@dataclass(frozen=True)
class Night:
    """What is to be reduced."""

    spec: NightSpec
    """How it was asked for."""
    folder: Path
    """Its frames."""
    configuration: str
    """The musedask.toml that reduces it."""
    plan: Plan
    """Calls of esorex."""
    reference: Path
    """What a shell script with the same calls makes of it, as
    :mod:`benchmarks.reduction.products` keeps it."""


def prepared(job: Job, place: Place) -> Night:
    """Give the night of a job, with what is made once and kept.

    Raises
    ------
    UnavailableError
        If esorex or the MUSE recipes are missing.
    """
    check_installed()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_night, NightSpec.from_options(job.options), place).result()


def check_installed() -> None:
    """Raise an UnavailableError that says what is missing of the pipeline."""
    try:
        installation()
    except MissingError as err:
        raise UnavailableError(str(err)) from err


def kept_night(spec: NightSpec, stores: Path) -> Path:
    """Folder with ``raw`` and ``static``; made if it is not there."""
    facts = json.dumps([NIGHT_VERSION, asdict(spec)], sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:10]
    name = f"{spec.n_nights}x{len(spec.ifus)}_{spec.n_exposures}_{digest}"
    final = stores / "nights" / name
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=final.parent))
        try:
            _simulate(spec, partial)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return final


def _simulate(spec: NightSpec, folder: Path) -> None:
    from musedask.simulation.raw import RawSpec, simulate_raw  # takes a second to import

    frames = RawSpec(
        ifus=spec.ifus, n_exposures=spec.n_exposures, n_nights=spec.n_nights,
        headers_only=spec.content == "headers", with_sky=False,
        n_twilight=0 if spec.chain == "short" else 3,
    )  # fmt: skip
    if spec.last == "bias":
        frames = replace(frames, n_flat=0, n_arc=0, with_illum=False, with_std=False)
    simulate_raw(folder, frames)


def make_run(folder: Path, night: Path, spec: NightSpec) -> Run:
    """Make a folder a run that reduces a night."""
    folder.mkdir()
    (folder / CONFIG_NAME).write_text(configuration(night, spec))
    return open_run(folder)


def configuration(night: Path, spec: NightSpec) -> str:
    """The musedask.toml."""
    places = [f"{key} = [{json.dumps(os.fspath(night / key))}]" for key in ("raw", "static")]
    chain = _SHORT_CHAIN if spec.chain == "short" else ""
    recipes = _QUICK_RECIPES if spec.recipes == "quick" else ""
    if spec.recipes == "short":
        from musedask.demo.night import SHORT_RECIPES  # takes a second to import

        recipes = SHORT_RECIPES
    return "\n".join(["[reduction]", *places, chain, recipes])


def run_script(plan: Plan, out: Path) -> Path:
    """Write the script and run it, without what a user's environment would change."""
    out.mkdir()
    script = out / "reduce.sh"
    script.write_text(shell_script(plan, out, executable()))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(SCRUBBED)}
    subprocess.run(
        ["sh", script], env={**kept, "HOME": os.fspath(out)}, check=True, stdout=subprocess.DEVNULL
    )
    return out


def _night(spec: NightSpec, place: Place) -> Night:
    from musedask.reduction.running.material import read_material

    folder = kept_night(spec, place.stores)
    with tempfile.TemporaryDirectory(dir=place.scratch) as own:
        plan = read_material(make_run(Path(own, "run"), folder, spec)).plan(last=spec.last or None)
    return Night(
        spec, folder, configuration(folder, spec), plan, _reference(folder, plan, place.scratch)
    )


def _reference(night: Path, plan: Plan, scratch: Path) -> Path:
    """What the script makes; run once for a plan."""
    keys = hashlib.sha256(" ".join(job.key for job in plan).encode()).hexdigest()[:10]
    path = night / f"script_{keys}"
    if not path.exists():
        from benchmarks.reduction.products import keep

        with tempfile.TemporaryDirectory(dir=scratch) as own:
            out = run_script(plan, Path(own, "out"))
            keep({job.key: out / job.key for job in plan}, path)
    return path
