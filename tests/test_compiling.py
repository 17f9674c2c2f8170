"""Kernels that are kept on disk: never old ones, and the same code in each process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from numba.core.dispatcher import Dispatcher
from test_benchmark_kernels import SPEC, block_of

import musedask
from musedask.compiling import sources_in
from musedask.stacking.kernels.slab import VERSION, stack_slab

ROOT = Path(__file__).parents[1]
INNER = """
from musedask.compiling import fast_kernel

@fast_kernel
def factor(x):
    return 2.0 * x
"""
OUTER = """
from pathlib import Path
import sys
from musedask.compiling import kept_kernel, sources_in
from pair.inner import factor

VERSION = sources_in(Path(__file__).parent)

@kept_kernel
def twice(x, version=VERSION):
    return factor(x)

if __name__ == "__main__":
    from pair.outer import twice
    print(twice(1.5), sum(twice.stats.cache_hits.values()))
"""


def kernels() -> Iterator[Dispatcher]:
    """All compiled functions of the package, each once."""
    for module in walk_packages(musedask.__path__, "musedask."):
        found = import_module(module.name)
        yield from (one for one in vars(found).values()
                    if isinstance(one, Dispatcher) and one.__module__ == module.name)  # fmt: skip


def test_an_edit_of_any_module_changes_the_number_of_the_sources(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 1")
    numbers = [sources_in(tmp_path)]
    (tmp_path / "notes.txt").write_text("nothing of theirs")
    assert sources_in(tmp_path) == numbers[0]
    (tmp_path / "a.py").write_text("x = 2")
    numbers.append(sources_in(tmp_path))
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    numbers.append(sources_in(tmp_path))
    (tmp_path / "c.py").unlink()
    numbers.append(sources_in(tmp_path))
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 << 63 for number in numbers)


def test_a_kept_kernel_is_compiled_once_and_anew_when_what_it_calls_was_edited(
    tmp_path: Path,
) -> None:
    package = tmp_path / "pair"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text(INNER)
    (package / "outer.py").write_text(OUTER)
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }  # fmt: skip

    def answer() -> str:
        return subprocess.run(
            [sys.executable, "-m", "pair.outer"], env=environment, text=True, check=True,
            stdout=subprocess.PIPE, timeout=120,
        ).stdout.strip()  # fmt: skip

    assert [answer(), answer()] == ["3.0 0", "3.0 1"]
    (package / "inner.py").write_text(INNER.replace("2.0", "4.0"))
    assert [answer(), answer()] == ["6.0 0", "6.0 1"]


def test_what_the_stack_keeps_calls_no_kernel_outside_itself(tmp_path: Path) -> None:
    """Else the process that compiles it gives other last bits than those that load it."""
    spec = replace(SPEC, n_exposures=2, n_channels=1)
    make, _, _ = block_of(tmp_path, spec, ("median",), "bilinear")
    make()
    folder = Path(stack_slab.stats.cache_path)
    kept = max(folder.glob("slab.stack_slab-*.nbc"), key=lambda path: path.stat().st_mtime_ns)
    machine_code = kept.read_bytes().partition(b"\x7fELF")[2].partition(b"BC\xc0\xde")[0]
    names = set(re.findall(rb"\0(_ZN8musedask[\w.$]+)", machine_code))
    assert any(b"stack_slab" in name for name in names)
    assert not [name for name in names if b"stack_slab" not in name]


def test_only_what_python_calls_is_kept_and_the_rest_is_put_into_it() -> None:
    found = {f"{one.__module__}.{one.__name__}": one for one in kernels()}
    assert len(found) > 100
    kept = {name for name, one in found.items() if one.stats.cache_path is not None}
    inside = {name for name, one in found.items() if one.targetoptions.get("forceinline")}
    assert kept | inside == set(found)
    several = {name for name in kept if name.startswith("musedask.stacking.kernels.")}
    assert several == {"musedask.stacking.kernels.slab.stack_slab"}
    assert stack_slab.py_func.__defaults__ == (VERSION,)
    assert sources_in(ROOT / "musedask" / "stacking" / "kernels") == VERSION


@pytest.mark.parametrize("name", ["njit", "jit", "vectorize", "guvectorize"])
def test_numba_compiles_by_way_of_one_module(name: str) -> None:
    using = re.compile(rf"from numba import .*\b{name}\b|numba\.{name}\b")
    assert {path.name for path in (ROOT / "musedask").rglob("*.py")
            if using.search(path.read_text())} <= {"compiling.py"}  # fmt: skip
