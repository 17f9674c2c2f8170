"""The rules of the house, walked by ast: which room may import which, and what no room may hold.

Every rule is a function from a :class:`House` to complaints. The package has to
have none, and a made-up house that breaks each rule once has to be caught.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

import musedask

PACKAGE = Path(musedask.__file__).parent

STAGES = (
    "alignment",
    "cleaning",
    "extraction",
    "reduction",
    "report",
    "simulation",
    "stacking",
)
"""Rooms that stand side by side and meet in the nouns of the top level."""
CALLERS = ("", "__main__", "align_job", "cli", "demo", "doctor", "stack_job")
"""The only rooms that know the stages, and that nobody else knows; "" is the package itself."""
KNOW_SIMULATION = ("cli", "demo")
NUMERICS = (
    "collapsing",
    "kernels",
    "geometry",
    "overlap",
    "registration",
    "resampling",
    "statistics",
)
"""Modules of a stage, by name, that take arrays and give arrays."""
NOT_FOR_NUMERICS = ("dask", "distributed", "xarray", "zarr", "astropy.io", "logging")
NAMELESS = ("common", "core", "helpers", "misc", "tools", "util", "utils")
FORBIDDEN_IMPORTS = (
    "pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal",
    # They follow entities and document types; musedask's one reader of XML refuses both.
    "xml.dom", "xml.etree", "xml.sax", "lxml",
)  # fmt: skip
FORBIDDEN_CALLS = (
    "eval", "exec", "compile", "os.chdir", "os.system", "os.popen", "os.chmod", "os.umask",
    "os.execv", "os.execvp", "os.spawnv", "tempfile.mktemp", "yaml.load", "yaml.unsafe_load",
)  # fmt: skip
FORBIDDEN_KEYWORDS = ("shell", "allow_pickle")
"""Of calls, unless they are False."""

MODULE_LINES, CLASS_LINES, FUNCTION_LINES = 500, 250, 60
"""Functions and classes without their docstring."""
LONG_BUT_RIGHT: dict[str, str] = {}
"""Module, or module:function, or module:class, that may be longer -> the reason."""


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    """Dotted, without the package: ``stacking.kernels``; "" is the package itself."""
    text: str
    is_package: bool

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


@dataclass(frozen=True)
class House:
    """All modules of a package called musedask."""

    modules: tuple[Module, ...]
    long_but_right: frozenset[str] = frozenset()

    @classmethod
    def from_folder(cls, folder: Path, long_but_right: Iterable[str] = ()) -> House:
        modules = []
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules.append(Module(name, path.read_text(encoding="utf-8"), is_package))
        return cls(tuple(modules), frozenset(long_but_right))

    def imports(self, module: Module) -> Iterator[str]:
        """Absolute dotted names of all that a module imports, anywhere in it."""
        names = {f"musedask.{m.name}".rstrip(".") for m in self.modules}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = _base(module, node)
                for alias in node.names:
                    child = f"{base}.{alias.name}"
                    yield child if child in names else base

    def inner(self, module: Module) -> Iterator[str]:
        """What a module imports of its own package, named as in :attr:`Module.name`."""
        for name in self.imports(module):
            head, _, rest = name.partition(".")
            if head == "musedask":
                yield rest


def _base(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of what stands between ``from`` and ``import``."""
    if not node.level:
        return node.module or ""
    parts = ["musedask", *(module.name.split(".") if module.name else [])]
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _is_one_of(name: str, roots: Iterable[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


# --- the rules ---------------------------------------------------------------------------------


def nouns_know_no_stage(house: House) -> Iterator[str]:
    for module in house.modules:
        if module.room not in (*STAGES, *CALLERS):
            for name in house.inner(module):
                if _is_one_of(name, STAGES):
                    yield f"{module.name} imports the stage {name}"


def stages_stand_side_by_side(house: House) -> Iterator[str]:
    for module in house.modules:
        if module.room in STAGES:
            for name in house.inner(module):
                if name.partition(".")[0] in STAGES and name.partition(".")[0] != module.room:
                    yield f"{module.name} imports the stage {name}"


def only_demo_and_cli_simulate(house: House) -> Iterator[str]:
    for module in house.modules:
        if module.room not in (*KNOW_SIMULATION, "simulation"):
            for name in house.inner(module):
                if _is_one_of(name, ("simulation",)):
                    yield f"{module.name or 'musedask'} imports {name}"


def nobody_imports_the_callers(house: House) -> Iterator[str]:
    """The package's own names, the demo and the command line are for those above or outside."""
    for module in house.modules:
        for name in house.inner(module):
            room = name.partition(".")[0]
            if room == "cli" and module.room not in ("cli", "__main__"):
                yield f"{module.name} imports the command line"
            elif room == "" and module.room not in CALLERS:
                yield f"{module.name} imports musedask itself: name the module"
            elif room in CALLERS and module.room not in CALLERS:
                yield f"{module.name} imports {name}, which stands above it"


def errors_import_nothing(house: House) -> Iterator[str]:
    for module in house.modules:
        if module.name == "errors":
            yield from (f"errors imports {n}" for n in house.imports(module) if n != "__future__")


def numerics_know_arrays_only(house: House) -> Iterator[str]:
    for module in house.modules:
        if module.room in STAGES and module.name.rpartition(".")[2] in NUMERICS:
            for name in house.imports(module):
                if _is_one_of(name, NOT_FOR_NUMERICS):
                    yield f"{module.name} imports {name}"


def print_is_for_the_command_line(house: House) -> Iterator[str]:
    for module in house.modules:
        if module.room != "cli":
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Call) and _dotted(node.func) == "print":
                    yield f"{module.name}:{node.lineno} prints"


def nothing_dangerous(house: House) -> Iterator[str]:
    for module in house.modules:
        for name in house.imports(module):
            if _is_one_of(name, FORBIDDEN_IMPORTS):
                yield f"{module.name} imports {name}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                if _dotted(node.func) in FORBIDDEN_CALLS:
                    yield f"{module.name}:{node.lineno} calls {_dotted(node.func)}"
                for keyword in node.keywords:
                    is_on = getattr(keyword.value, "value", True)
                    if keyword.arg in FORBIDDEN_KEYWORDS and is_on:
                        yield f"{module.name}:{node.lineno} uses {keyword.arg}=True"
            elif isinstance(node, ast.ImportFrom) and node.module == "os":
                for alias in node.names:
                    if f"os.{alias.name}" in FORBIDDEN_CALLS:
                        yield f"{module.name}:{node.lineno} imports os.{alias.name}"


def names_say_what(house: House) -> Iterator[str]:
    for module in house.modules:
        if set(module.name.split(".")) & set(NAMELESS):
            yield f"{module.name} is named after nothing"


def things_are_short(house: House) -> Iterator[str]:
    for what, size, limit in _sizes(house):
        if size > limit and not _excused(house, what):
            yield f"{what} has {size} lines, more than {limit}"


def excuses_are_needed(house: House) -> Iterator[str]:
    long = [what for what, size, limit in _sizes(house) if size > limit]
    for excuse in house.long_but_right:
        if excuse not in long:
            yield f"{excuse} needs no excuse any more"


def _excused(house: House, what: str) -> bool:
    """A module that may be long may have long functions too."""
    return bool({what, what.partition(":")[0]} & house.long_but_right)


def _sizes(house: House) -> Iterator[tuple[str, int, int]]:
    """(name, number of lines, limit) of each module, class and function."""
    for module in house.modules:
        yield module.name, len(module.text.splitlines()), MODULE_LINES
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                size = (node.end_lineno or 0) - node.lineno + 1 - len(docstring.splitlines())
                limit = CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES
                yield f"{module.name}:{node.name}", size, limit


RULES: tuple[Callable[[House], Iterator[str]], ...] = (
    nouns_know_no_stage,
    stages_stand_side_by_side,
    only_demo_and_cli_simulate,
    nobody_imports_the_callers,
    errors_import_nothing,
    numerics_know_arrays_only,
    print_is_for_the_command_line,
    nothing_dangerous,
    names_say_what,
    things_are_short,
    excuses_are_needed,
)

# --- the package -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house() -> House:
    return House.from_folder(PACKAGE, LONG_BUT_RIGHT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule, house):
    assert {m.name for m in house.modules} >= {"", "errors", "stacking"}, "the walk found no house"
    assert list(rule(house)) == []


def test_each_public_name_is_documented():
    for name in getattr(musedask, "__all__", ()):
        value = getattr(musedask, name)
        if callable(value) or inspect.ismodule(value):
            assert _has_docstring(value), f"musedask.{name} has no docstring"


def _has_docstring(value: object) -> bool:
    text = value.__doc__ or ""
    # A dataclass without a docstring gets its signature for one.
    return bool(text) and not text.startswith(f"{getattr(value, '__name__', '')}(")


def test_a_signature_is_no_docstring():
    assert not _has_docstring(dataclass(type("Bare", (), {"__annotations__": {"x": int}})))
    assert not _has_docstring(lambda: None)
    assert _has_docstring(House)


# --- the rules themselves ----------------------------------------------------------------------

LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
LONG_CLASS = "class C:\n" + "    x = 1\n" * CLASS_LINES
LONG_DOCSTRING = 'def f():\n    """\n' + "    text\n" * 100 + '    """\n    return 1\n'

BROKEN = [
    (nouns_know_no_stage, "cube", "from musedask.stacking import geometry"),
    (nouns_know_no_stage, "cube", "import musedask.stacking.geometry"),
    (nouns_know_no_stage, "fits.reading", "def f():\n    from ..alignment import images"),
    (nouns_know_no_stage, "cube", "from musedask import stacking"),
    (stages_stand_side_by_side, "stacking.stack", "from musedask.alignment.images import x"),
    (stages_stand_side_by_side, "report.page", "from ..stacking import geometry"),
    (only_demo_and_cli_simulate, "", "from musedask.simulation import observe"),
    (only_demo_and_cli_simulate, "alignment.images", "import musedask.simulation"),
    (nobody_imports_the_callers, "cube", "from musedask.cli import main"),
    (nobody_imports_the_callers, "demo", "from musedask import cli"),
    (nobody_imports_the_callers, "cube", "from musedask.demo import run"),
    (nobody_imports_the_callers, "cube", "from musedask.stack_job import StackJob"),
    (nobody_imports_the_callers, "stacking.stack", "from ..stack_job import StackJob"),
    (nobody_imports_the_callers, "cube", "import musedask as md"),
    (nobody_imports_the_callers, "cube", "from musedask import stack"),
    (nobody_imports_the_callers, "stacking.stack", "from .. import stack"),
    (errors_import_nothing, "errors", "import os"),
    (errors_import_nothing, "errors", "from musedask.cube import x"),
    (numerics_know_arrays_only, "stacking.geometry", "import dask.array as da"),
    (numerics_know_arrays_only, "stacking.kernels", "from astropy.io import fits"),
    (numerics_know_arrays_only, "alignment.registration", "import logging"),
    (numerics_know_arrays_only, "stacking.geometry", "def f():\n    import xarray"),
    (print_is_for_the_command_line, "cube", "print(1)"),
    (nothing_dangerous, "cube", "import os\nos.chdir('x')"),
    (nothing_dangerous, "cube", "from os import chdir"),
    (nothing_dangerous, "cube", "import subprocess as s\ns.run('x', shell=True)"),
    (nothing_dangerous, "cube", "from pickle import loads"),
    (nothing_dangerous, "cube", "from xml.etree import ElementTree"),
    (nothing_dangerous, "cube", "import xml.etree.ElementTree as et"),
    (nothing_dangerous, "cube", "import numpy as np\nnp.load('x', allow_pickle=True)"),
    (nothing_dangerous, "cube", "import yaml\nyaml.load('x')"),
    (nothing_dangerous, "cli", "eval('1')"),
    (names_say_what, "utils", ""),
    (names_say_what, "stacking.core", ""),
    (things_are_short, "cube", "x = 1\n" * (MODULE_LINES + 1)),
    (things_are_short, "cube", LONG_FUNCTION),
    (things_are_short, "cube", LONG_CLASS),
]

KEPT = {
    "": "from musedask.stacking import stack\nfrom musedask.errors import MusedaskError",
    "errors": "from __future__ import annotations",
    "cube": "from musedask.errors import InputError\nfrom musedask import quiet\nimport xarray",
    "quiet": "import subprocess\nsubprocess.run(['x'], shell=False)",
    "sky": "x = 1\n" * MODULE_LINES,
    "fits": "from musedask.fits.reading import x\nfrom .reading import y",
    "fits.reading": "from musedask.cube import x",
    "stacking": "from musedask.stacking.stack import stack",
    "stacking.stack": "import dask\nfrom . import geometry\nfrom ..cube import x",
    "stacking.geometry": LONG_DOCSTRING,
    "simulation.observe": "from musedask import cube",
    "demo": "import musedask as md\nfrom musedask.simulation import observe\nimport musedask.fits",
    "stack_job": "from musedask.stacking import stack",
    "cli": "import musedask.demo\nprint(1)\nfrom musedask.simulation import observe",
    "__main__": "from musedask.cli import main",
}


def _built(folder: Path, texts: dict[str, str], long_but_right: Iterable[str] = ()) -> House:
    """Lay a package out on disk; a name with others below it is a package."""
    for name, text in texts.items():
        path = folder.joinpath(*name.split(".")) if name else folder
        is_package = not name or any(other.startswith(f"{name}.") for other in texts)
        path = path / "__init__.py" if is_package else path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return House.from_folder(folder, long_but_right)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_house_gives_no_complaint(rule, tmp_path):
    assert list(rule(_built(tmp_path, KEPT))) == []


@pytest.mark.parametrize(("rule", "name", "text"), BROKEN)
def test_one_bad_module_in_a_sound_house_is_caught(rule, name, text, tmp_path):
    assert len(list(rule(_built(tmp_path, {**KEPT, name: text})))) == 1


def test_each_rule_is_seen_to_fire():
    assert {rule for rule, _, _ in BROKEN} | {excuses_are_needed} == set(RULES)


def test_a_long_module_can_be_excused_until_it_is_short(tmp_path):
    long = {**KEPT, "cube": "x = 1\n" * MODULE_LINES + LONG_FUNCTION}
    assert list(things_are_short(_built(tmp_path / "long", long, ["cube"]))) == []
    assert list(excuses_are_needed(_built(tmp_path / "long", long, ["cube"]))) == []
    assert len(list(excuses_are_needed(_built(tmp_path / "short", KEPT, ["cube"])))) == 1


def test_every_public_name_can_be_imported_and_no_other():
    import musedask

    assert {name for names in musedask._HOMES.values() for name in names} == set(musedask.__all__)
    assert all(getattr(musedask, name) is not None for name in musedask.__all__)
    assert set(musedask.__all__) <= set(dir(musedask))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        musedask.nothing_of_the_kind  # noqa: B018
