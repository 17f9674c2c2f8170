"""A run: a folder with a configuration, and what the reduction makes in it.

========================  ========================================================
``musedask.toml``         the configuration
``raw/``, ``static/``     raw frames and static tables, unless they lie elsewhere
``products/RECIPE/KEY/``  what each finished job made, with its log
``cubes/``                links to the exposure cubes, named for people; in ``sky/`` those of
                          the sky, in ``combined/`` what was combined of several
``tables/``               exposures, offsets, quality measures, used frames
``logs/``                 a log of each reduction
``scratch/``              jobs at work, and what failed ones left
``.musedask/``            inventory, plan, locks, failures: musedask's own notes
========================  ========================================================
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from musedask.config import CONFIG_NAME, Config, read_config
from musedask.errors import FileError, MissingError
from musedask.files import read_json
from musedask.locks import try_lock
from musedask.run_template import TEMPLATE
from musedask.whole_files import appearing

logger = logging.getLogger(__name__)

LONGEST_NAME = 60
_HELD = "reduce.lock"
_TRIES = 5


@dataclass(frozen=True)
class Run:
    """A folder with a configuration; the folders in it are made when they are needed."""

    folder: Path
    """Absolute path."""
    config: Config = field(default_factory=Config)
    """What its musedask.toml says."""

    @property
    def products(self) -> Path:
        """Where the products of finished jobs lie."""
        return self.folder / "products"

    @property
    def scratch(self) -> Path:
        """Where jobs work."""
        return self.folder / "scratch"

    @property
    def logs(self) -> Path:
        """Where reductions write what they did."""
        return self.folder / "logs"

    @property
    def cubes(self) -> Path:
        """Links to the exposure cubes."""
        return self.folder / "cubes"

    @property
    def combined(self) -> Path:
        """Links to the combined cubes."""
        return self.cubes / "combined"

    @property
    def sky_cubes(self) -> Path:
        """Links to the cubes of SKY exposures."""
        return self.cubes / "sky"

    @property
    def unplaced_cubes(self) -> Path:
        """Links to cubes of exposures whose measured offset failed, where others are placed."""
        return self.cubes / "unplaced"

    @property
    def tables(self) -> Path:
        """Exposures, offsets, quality measures, used frames."""
        return self.folder / "tables"

    @property
    def exposure_table(self) -> Path:
        """The exposure table, which its user edits."""
        return self.tables / "exposures.ecsv"

    @property
    def offsets(self) -> Path:
        """Offsets that ``musedask align`` measures, and that people may correct."""
        return self.tables / "offsets.ecsv"

    @property
    def state(self) -> Path:
        """Notes of musedask's own."""
        return self.folder / ".musedask"

    def path(self, given: str | os.PathLike[str]) -> Path:
        """A path of the configuration: relative ones start at the run's folder."""
        return self.folder / Path(given).expanduser()

    @property
    def raw(self) -> tuple[Path, ...]:
        """Folders with raw frames."""
        return tuple(map(self.path, self.config.reduction.raw))

    @property
    def static(self) -> tuple[Path, ...]:
        """Folders with static tables."""
        return tuple(map(self.path, self.config.reduction.static))

    def exposures(self) -> tuple[Path, ...]:
        """Finished exposure cubes, by target and date: final ones where they were asked for.

        Raises
        ------
        MissingError
            If there is none yet, or one of them has gone.
        """
        found = tuple(sorted(self.cubes.glob("*.fits"))) if self.cubes.is_dir() else ()
        for link in found:
            if not link.exists():
                raise MissingError(
                    f"{link}: the cube that it points to has gone ({os.readlink(link)}); "
                    "'musedask reduce' makes it again"
                )
        if not found:
            raise MissingError(
                f"{self.cubes}: no exposure cube is finished; 'musedask reduce' makes them, "
                "'musedask status' says how far it is"
            )
        return found


def open_run(folder: str | os.PathLike[str] = ".") -> Run:
    """Read the configuration of a run.

    Raises
    ------
    FileError
        If there is no such folder, or it has no musedask.toml.
    InputError
        If the configuration cannot be used.
    """
    path = Path(folder).absolute()
    if path.name == CONFIG_NAME and path.is_file():
        path = path.parent
    if not path.is_dir():
        raise FileError(f"{path}: no such folder; 'musedask init {folder}' makes a run")
    if not (path / CONFIG_NAME).is_file():
        raise FileError(
            f"{path}: is no run of musedask (it has no {CONFIG_NAME}); 'musedask init {folder}' "
            "makes it one"
        )
    config = read_config(path / CONFIG_NAME)
    # SLURM's nodes see the run's folder: the output of its jobs goes there.
    folder = str(path / (Path(config.cluster.folder or "logs/slurm").expanduser()))
    return Run(path, replace(config, cluster=replace(config.cluster, folder=folder)))


def init_run(
    folder: str | os.PathLike[str],
    *,
    raw: tuple[str | os.PathLike[str], ...] = (),
    static: tuple[str | os.PathLike[str], ...] = (),
) -> Run:
    """Make a folder a run: write a musedask.toml with every key explained.

    Parameters
    ----------
    folder
        Made if it is not there.
    raw, static
        Folders with raw frames and with static tables; ``raw/`` and ``static/`` in the
        run's folder, which are made, if none are given.

    Raises
    ------
    FileError
        If it is a run already, a given folder is not there, or it cannot be written.
    """
    path = Path(folder).absolute()
    for given in (*raw, *static):
        if not Path(given).is_dir():
            raise FileError(f"{given}: no such folder; give the one with the FITS files")
    text = TEMPLATE.replace('raw = ["raw"]', f"raw = {_listed(raw, 'raw')}")
    text = text.replace('static = ["static"]', f"static = {_listed(static, 'static')}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, elsewhere in (("raw", raw), ("static", static)):
            if not elsewhere:
                (path / name).mkdir(exist_ok=True)
    except OSError as err:
        raise FileError(f"{err.filename or path}: cannot be made: {err.strerror}") from err
    write_new(path / CONFIG_NAME, text)
    return open_run(path)


def _listed(given: tuple[str | os.PathLike[str], ...], name: str) -> str:
    # JSON's strings are TOML's.
    paths = [str(Path(one).absolute()) for one in given] or [name]
    return json.dumps(paths, ensure_ascii=False)


def write_new(path: Path, text: str) -> None:
    """Write a file that must not be there yet; it is whole or not there.

    Raises
    ------
    FileError
        If it is there, or cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.link(partial, path)
    except FileExistsError:
        raise FileError(f"{path}: exists; edit it, or remove it first") from None
    except OSError as err:
        raise FileError(f"{path}: cannot be written: {err.strerror or err}") from err
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write or replace a file in one step, with the folders above it.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise FileError(f"{path}: cannot be written: {err.strerror or err}") from err
    with appearing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def name_for_people(*parts: str) -> str:
    """Join texts from headers to a file's name that cannot lead anywhere else."""
    clean = (re.sub(r"[^\w.:+-]+", "-", part, flags=re.ASCII).strip("-.") for part in parts)
    return "_".join(part[:LONGEST_NAME] for part in clean if part) or "unnamed"


def refresh_links(folder: Path, wanted: Mapping[str, Path]) -> None:
    """Make a folder hold exactly these relative links; files that are no links stay.

    Each link is replaced in one step: who reads a name finds the old or the new file.

    Raises
    ------
    FileError
        If the folder cannot be written to, or a name is taken by a file of somebody's own.
    """
    if not wanted and not folder.is_dir():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in wanted.items():
            _refresh(folder / name, os.path.relpath(target, folder))
        for path in folder.iterdir():
            if path.is_symlink() and path.name not in wanted:
                path.unlink(missing_ok=True)
    except FileError:
        raise
    except OSError as err:
        raise FileError(f"{err.filename or folder}: cannot be written: {err.strerror}") from err


def _refresh(link: Path, target: str) -> None:
    if link.is_symlink() and os.readlink(link) == target:
        return
    if os.path.lexists(link) and not link.is_symlink():
        raise FileError(f"{link}: is no link of musedask; move it elsewhere, its name is needed")
    partial = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
    partial.symlink_to(target)
    partial.replace(link)


@dataclass(frozen=True)
class Holder:
    """Who works on a run."""

    host: str
    """Name of the machine."""
    pid: int
    """Process there."""
    session: str
    """What tells this reduction from others."""
    since: float
    """Seconds since 1970."""

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {when}"


@contextmanager
def held(run: Run) -> Iterator[Holder]:
    """Hold the right to reduce a run; the system lets go of it when this process dies.

    Raises
    ------
    FileError
        If another process holds it, or the folder cannot be written to.
    """
    path = run.state / _HELD
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as err:
        raise FileError(f"{path}: cannot be written: {err.strerror}") from err
    try:
        if not _lock(descriptor, path):
            raise FileError(
                f"{run.folder}: is being reduced already by {_read_holder(path) or 'another'}; "
                "wait until it has ended, or stop it; 'musedask status' says how far it is"
            )
        holder = Holder(socket.gethostname(), os.getpid(), uuid.uuid4().hex, time.time())
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(vars(holder)).encode(), 0)
        yield holder
        os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Take the lock; who only looks whether it is held has it for an instant, too."""
    for attempt in range(_TRIES):
        if try_lock(descriptor, path, "run one reduction at a time"):
            return True
        if attempt < _TRIES - 1:
            time.sleep(0.1)
    return False


def holder_of(run: Run) -> Holder | None:
    """Who reduces the run at this moment, if anybody."""
    path = run.state / _HELD
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        # A shared lock for an instant: refused only while somebody has the exclusive one.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read_holder(path)
    finally:
        os.close(descriptor)
    return None


def _read_holder(path: Path) -> Holder | None:
    try:
        return Holder(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None
