"""Imports: each module alone and without warnings, nothing that costs, no pack that needs another."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import sys
from pathlib import Path

import pytest

import mfcore as mf

ROOT = Path(__file__).parents[1]
SOURCES = {
    source.name: source
    for source in sorted(ROOT.glob("*/src/*"))
    if (source / "__init__.py").exists()
}
MODULES = {
    ".".join(file.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for source in SOURCES.values()
    for file in sorted(source.rglob("*.py"))
    if file.name != "__main__.py"
}
ALLOWED = {
    "mfcore": set(),
    "mfcore_pytest": {"mfcore"},
    "mfops_basic": {"mfcore"},
    "mfops_nn": {"mfcore", "mfops_basic"},
    "mfoptim": {"mfcore"},
    "mftrace": {"mfcore"},
    "mfjit": {"mfcore", "mfops_basic"},
    "miniflow": {"mfcore", "mfops_basic", "mfops_nn", "mfoptim", "mftrace"},
}
"""Which of this repository's packages each one may import (the house rules of the design)."""


def imported(file):
    """The modules that a file imports: (name, whether when it is itself imported)."""
    found = []

    def walk(node, now):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for other in child.body:
                    walk(ast.Module([other], []), now=False)
                for other in child.orelse:
                    walk(ast.Module([other], []), now)
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, now) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{file}: relative import"
                found.append((child.module, now))
            walk(child, now and not isinstance(child, ast.FunctionDef))

    walk(ast.parse(file.read_text(encoding="utf-8")), now=True)
    return found


def package(name):
    return name.partition(".")[0]


def test_the_packages_of_the_repository_are_those_of_the_design():
    assert set(SOURCES) == set(ALLOWED)


@pytest.mark.parametrize("name", ALLOWED)
def test_packages_import_each_other_only_as_the_design_says(name):
    files = [file for module, file in MODULES.items() if package(module) == name]
    used = {package(module) for file in files for module, _ in imported(file)} & set(ALLOWED)

    assert files
    assert used - {name} <= ALLOWED[name]


def test_the_core_imports_numpy_pluggy_attrs_and_the_standard_library_only():
    files = [file for module, file in MODULES.items() if package(module) == "mfcore"]
    files.remove(MODULES["mfcore.hatch"])  # a plugin that hatchling imports, and nobody else
    files.remove(MODULES["mfcore.testing.strategies"])  # for those who have hypothesis
    used = {package(module) for file in files for module, _ in imported(file)}

    standard = {*sys.stdlib_module_names, "annotationlib"}  # the latter from Python 3.14 on
    assert used - standard == {"mfcore", "numpy", "pluggy", "attrs"}


ALONE = """
import importlib, json, sys
failed = {}
for name in NAMES:
    for loaded in [m for m in sys.modules if m.partition(".")[0] in PACKAGES]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""


@pytest.mark.parametrize("name", ALLOWED)
def test_every_module_imports_first_of_all_and_without_warnings(fresh_python, name):
    names = [module for module in MODULES if package(module) == name]
    program = ALONE.replace("NAMES", repr(names)).replace("PACKAGES", repr(sorted(ALLOWED)))

    assert json.loads(fresh_python(program)) == {}


LOADED = """
import sys
import numpy
before = set(sys.modules)
import {name}
print(*sorted(set(sys.modules) - before))
"""


def test_importing_the_core_imports_nothing_else(fresh_python):
    loaded = fresh_python(LOADED.format(name="mfcore")).split()

    assert set(loaded) - {"__future__"} == {"mfcore"}


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("mfcore.session", {"mfops_basic", "mfops_nn", "mfoptim", "mftrace", "miniflow"}),
        ("mfops_basic", {"mfops_nn", "mfoptim", "mftrace", "miniflow"}),
        ("mfops_nn", {"mfoptim", "mftrace", "miniflow"}),
    ],
)
def test_importing_loads_no_pack_scans_nothing_and_makes_no_registry(fresh_python, name, never):
    program = LOADED.format(name=name) + (
        "import mfcore.in_use\nassert mfcore.in_use._default is None\n"
    )
    loaded = set(fresh_python(program).split())

    assert not {package(module) for module in loaded} & never
    assert not any(module.endswith(".pack") for module in loaded)


SCANS = """
import mfcore.installed as installed
def scanned(*args, **kwargs):
    raise AssertionError("scanned")
installed.entry_points = scanned
import mfcore as mf
import mfops_basic, mfops_nn
x = mf.Input("x")
node = mfops_nn.Sigmoid(mfops_basic.Exp(x))
graph = mf.Graph(node)
print(len(graph))
try:
    x + 1
except AssertionError as error:
    print(error)
"""


def test_building_graphs_by_classes_scans_nothing_and_the_first_operator_does(fresh_python):
    assert fresh_python(SCANS).split() == ["3", "scanned"]


# The public names


@pytest.mark.parametrize("name", mf.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(mf, name) is not None
    assert name in dir(mf)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mfcore' has no attribute 'Sesion'"):
        mf.Sesion  # noqa: B018 - asking fails


def test_a_star_import_gives_the_public_names():
    namespace = {}
    exec("from mfcore import *", namespace)

    assert set(mf.__all__) <= set(namespace)


@pytest.mark.parametrize(
    "first", ["Session", "Graph", "Input", "optimizer", "operation", "registry"]
)
def test_the_decorators_are_found_whatever_was_imported_before(fresh_python, first):
    program = f"""
import mfcore as mf
mf.{first}
import mfcore.operation, mfcore.optimizer, mfcore.session
from mfcore import operation, optimizer
print(operation.__name__, type(operation).__name__, type(mf.operation).__name__)
print(optimizer.__name__, type(optimizer).__name__, type(mf.optimizer).__name__)
print(mf.registry.current.__name__, mf.errors.MiniFlowError.__name__, mf.hookspecs.PROJECT)
from mfcore.operation import spec_of
import mfops_nn
"""
    assert fresh_python(program).split() == [
        *("operation", "function", "function", "optimizer", "function", "function"),
        *("current", "MiniFlowError", "mfcore"),
    ]


@pytest.mark.parametrize("name", ALLOWED)
def test_packages_are_typed_and_state_their_version(name):
    assert (SOURCES[name] / "py.typed").exists()
    if name != "mfcore_pytest":  # a part of the distribution mfcore
        assert importlib.import_module(name).__version__


# Documentation in the code


@pytest.mark.parametrize(
    "name", [m for m in MODULES if package(m) in ("mfcore", "mfops_basic", "mfops_nn")]
)
@pytest.mark.usefixtures("core_packs")
def test_the_examples_of_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name))

    assert result.failed == 0


EXAMPLES = ["mfcore.graph", "mfcore.operation", "mfcore.optimizer", "mfcore.session"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_main_modules_have_examples(name):
    tests = doctest.DocTestFinder().find(importlib.import_module(name))

    assert any(test.examples for test in tests)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_in_its_first_line_what_it_is_for(name):
    docstring = ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8")))

    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":", "?"))
