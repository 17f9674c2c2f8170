"""The command line as a user meets it: exposures to give to it, and what it answers."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fits_files import write_cube

from musedask.cli import main

ROOT = Path(__file__).parent.parent
SHAPE = (12, 20, 24)
PIXEL_DEG = 0.2 / 3600.0
RA, DEC = 30.1, -60.0
TARGET = {"RA": RA, "DEC": DEC}


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str


def command(*arguments: Any) -> Answer:
    """Run ``musedask ARGUMENTS`` in this process, from the arguments to the exit status."""
    out, err = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return Answer(status, out.getvalue(), err.getvalue())


def succeeded(*arguments: Any) -> Answer:
    """Run a command that has to succeed."""
    answer = command(*arguments)
    assert answer.status == 0, answer.err
    return answer


def process(*arguments: Any, **rest: Any) -> subprocess.Popen[str]:
    """Start ``python -m musedask.cli ARGUMENTS`` as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **rest.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "musedask.cli", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **rest,
    )  # fmt: skip


def date(n: int) -> str:
    """DATE-OBS of the n-th exposure."""
    return f"2020-01-{1 + n // 24:02d}T{n % 24:02d}:00:00.000"


def tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def values(n: int, shape: tuple[int, int, int] = SHAPE) -> tuple[Any, Any]:
    """Flux and variance of the n-th exposure, float32."""
    rng = np.random.default_rng(100 + n)
    variance = rng.uniform(40.0, 160.0, shape).astype(np.float32)
    return rng.normal(5.0, np.sqrt(variance)).astype(np.float32), variance


def expose(
    folder: Path, n: int, *, flux: Any = None, variance: Any = None, x: float = 0.0, y: float = 0.0,
    first: float = 4750.0, shape: tuple[int, int, int] = SHAPE, exptime: float = 900.0,
    primary: dict[str, Any] | None = None, wcs: dict[str, Any] | None = None, stat: Any = None,
) -> Path:  # fmt: skip
    """Write the n-th exposure; its header puts the field x, y spaxels further on the sky."""
    own_flux, own_variance = values(n, shape)
    return write_cube(
        folder / f"exp{n}.fits",
        data=own_flux if flux is None else flux,
        stat=stat if stat is not None else own_variance if variance is None else variance,
        primary={"DATE-OBS": date(n), "EXPTIME": exptime, **TARGET, **(primary or {})},
        wcs={
            "CRVAL1": RA, "CRVAL2": DEC, "CRPIX1": 9.0 - x, "CRPIX2": 8.0 - y, "CRVAL3": first,
            "CD1_1": -PIXEL_DEG, "CD2_2": PIXEL_DEG, **(wcs or {}),
        },
    )  # fmt: skip


def at_first_progress(action: Callable[[], None]) -> Callable[[int, int, float], None]:
    """A progress that acts once, when all is planned and nothing is computed yet."""
    done: list[int] = []

    def progress(_done: int, _total: int, _left: float) -> None:
        if not done:
            done.append(1)
            action()

    return progress
