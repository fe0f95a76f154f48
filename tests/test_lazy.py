"""Packages whose names are imported when they are first used."""

from __future__ import annotations

import importlib
import sys

import pytest

INIT = """
from mfcore.lazy import lazy_names

__all__ = ["Dense", "fit"]

lazy_names(__name__, {"lazypack.layers": ["Dense"], "lazypack.fit": ["fit"]})
"""


@pytest.fixture
def lazypack(tmp_path, monkeypatch):
    """A package of two modules, one of which shares its name with what is in it."""
    folder = tmp_path / "lazypack"
    folder.mkdir()
    (folder / "__init__.py").write_text(INIT)
    (folder / "layers.py").write_text("class Dense: ...\n")
    (folder / "fit.py").write_text("def fit(): ...\n\n\nother = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("lazypack")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazypack"]:
        del sys.modules[name]


def test_importing_the_package_imports_none_of_its_modules(lazypack):
    assert [name for name in sys.modules if name.startswith("lazypack.")] == []


def test_a_name_imports_the_module_that_it_is_in_and_no_other(lazypack):
    from lazypack import Dense

    assert Dense.__module__ == "lazypack.layers"
    assert "lazypack.fit" not in sys.modules
    assert lazypack.Dense is Dense


def test_a_name_that_a_module_shares_is_the_object_whatever_is_imported_first(lazypack):
    from lazypack.fit import other

    assert other == 1
    assert lazypack.fit.__name__ == "fit"
    assert callable(lazypack.fit)


def test_modules_are_attributes_too(lazypack):
    assert lazypack.layers.Dense is lazypack.Dense


def test_a_star_import_gives_all_names(lazypack):
    namespace = {}
    exec("from lazypack import *", namespace)

    assert namespace["Dense"] is lazypack.Dense
    assert callable(namespace["fit"])


def test_names_are_listed_before_they_are_used(lazypack):
    assert {"Dense", "fit"} <= set(dir(lazypack))


def test_an_unknown_name_is_an_attribute_error(lazypack):
    with pytest.raises(AttributeError, match="module 'lazypack' has no attribute 'Dens'"):
        lazypack.Dens  # noqa: B018 - asking fails
    with pytest.raises(ImportError, match="Dens"):
        from lazypack import Dens  # noqa: F401
