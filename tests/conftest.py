"""What all tests share: caches inside the project, hypothesis profiles, tools that must be there.

Environment: ``CI=true`` makes a missing tool a failure instead of a skip;
``MUSEDASK_CAMPAIGN=full`` runs the long campaigns whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import dask.config
import pytest
import slurm_site
from browser import chromium_is_missing
from hypothesis import settings

ROOT = Path(__file__).parent.parent
FULL_CAMPAIGN = os.environ.get("MUSEDASK_CAMPAIGN") == "full"

# Set before anything imports numba or matplotlib; processes that tests start inherit it.
assert "numba" not in sys.modules
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / ".cache" / "matplotlib"))
os.environ["MPLBACKEND"] = "Agg"

# No deadline: the first call of a numba kernel compiles it.
settings.register_profile("short", deadline=None, max_examples=30, derandomize=True)
settings.register_profile("full", deadline=None, max_examples=500)
settings.load_profile("full" if FULL_CAMPAIGN else "short")


@cache
def _esorex_is_missing() -> str:
    """Say what is missing, or nothing."""
    if shutil.which("esorex") is None:
        return "esorex is not installed (Debian package esorex)"
    with tempfile.TemporaryDirectory() as folder:  # where esorex leaves its log
        listing = subprocess.run(
            ["esorex", "--recipes"], cwd=folder, capture_output=True, text=True, check=False
        )
    if "muse_scipost" not in listing.stdout:
        return "esorex finds no MUSE recipes (Debian package cpl-plugin-muse)"
    return ""


def _slurm_is_missing() -> str:
    return slurm_site.missing()


MISSING: dict[str, Callable[[], str]] = {
    "real_browser": chromium_is_missing,
    "real_esorex": _esorex_is_missing,
    "real_slurm": _slurm_is_missing,
}
"""Marker -> function that says what its tests lack on this machine."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) is None:
            continue
        if reason := missing():
            if os.environ.get("CI") == "true":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Unpacked files go to a folder of this run, never to the user's cache."""
    os.environ["MUSEDASK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _same_scheduler() -> Iterator[None]:
    """No test leaves a scheduler behind, which the tests of other files would compute on."""
    before = dask.config.get("scheduler", None)
    yield
    assert dask.config.get("scheduler", None) == before


@pytest.fixture(scope="session")
def campaign() -> Callable[[int, int], int]:
    """``campaign(short, full)`` is the number of repetitions of a long campaign."""
    return lambda short, full: full if FULL_CAMPAIGN else short


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_site.SlurmSite]:
    """A real SLURM of two nodes, for the tests of one file."""
    with pytest.MonkeyPatch.context() as patch:
        # dask-jobqueue writes its defaults where Dask's configuration is.
        patch.setenv("DASK_CONFIG", str(tmp_path_factory.mktemp("dask")))
        # Workers take tasks from the tests' modules.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        with slurm_site.slurm_site() as found:
            yield found


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install a stub that behaves as told; give the folder in which it notes its calls."""
    import stub_esorex

    from musedask.reduction.job import esorex

    here = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
    monkeypatch.delenv("MUSEDASK_ESOREX", raising=False)

    def install(**behaviour: object) -> Path:
        stub_esorex.install(here, **behaviour)
        return here

    yield install
    esorex._stopping.clear()
