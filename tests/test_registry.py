"""The registry: finding packs, telling them apart, and surviving broken ones."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

import mfcore as mf
from mfcore.errors import AmbiguousNameError, PackError, QuarantineWarning, UnknownNameError
from mfcore.registry import version_in_range


@attrs.define
class Distribution:
    name: str
    version: str = "1.0"
    requires: list[str] = attrs.field(factory=list)


@attrs.define
class EntryPoint:
    name: str
    dist: Distribution
    load: Callable[[], object]
    value: str = "somewhere.pack"
    group: str = "mfcore"


def operation(name: str, **options: Any) -> type[mf.Node]:
    def forward(x: Any) -> Any:
        return x * 1

    namespace = {"__annotations__": {"x": mf.Node}, "forward": staticmethod(forward)}
    return mf.operation(**options)(type(name, (mf.Node,), namespace))


def plugin(*operations: type[mf.Node]) -> object:
    module = types.SimpleNamespace()

    @mf.hookimpl
    def mf_operations() -> list[type[mf.Node]]:
        return list(operations)

    module.mf_operations = mf_operations
    return module


def pack(name: str, *operations: type[mf.Node], distribution: str = "", **about: Any) -> EntryPoint:
    dist = Distribution(distribution or name.replace("_", "-"), **about)
    return EntryPoint(name, dist, lambda: plugin(*operations))


def registry(*entry_points: EntryPoint, **options: Any) -> mf.Registry:
    return mf.Registry(entry_points=lambda: entry_points, autoload=True, disabled=(), **options)


Cube, Other = operation("Cube"), operation("Other")


def test_nothing_is_scanned_before_the_first_look_up() -> None:
    scans = []
    packs = mf.Registry(
        autoload=True, disabled=(), entry_points=lambda: scans.append(1) or [pack("mfops_a", Cube)]
    )

    assert scans == []
    packs.operation("Cube")
    packs.operation("mfops_a.Cube")
    assert scans == [1]


def test_a_pack_s_origin_is_known_before_it_is_imported() -> None:
    def never() -> object:
        raise AssertionError("imported")

    packs = registry(EntryPoint("mfops_a", Distribution("mfops-a", "2.5"), never))

    found = packs.packs()

    assert [(p.name, p.status) for p in found] == [("mfcore", "loaded"), ("mfops_a", "found")]
    assert found[1].origin == "mfops-a 2.5"
    assert found[1].entry_point == "somewhere.pack"


def test_a_qualified_name_loads_one_pack() -> None:
    packs = registry(pack("mfops_a", Cube), pack("mfops_b", Other))

    assert packs.operation("mfops_b.Other") is Other
    assert {p.name: p.status for p in packs.packs()}["mfops_a"] == "found"


def test_a_short_name_of_two_packs_is_ambiguous_and_lists_both() -> None:
    packs = registry(pack("mfops_a", Cube), pack("mfops_b", operation("Cube")))

    with pytest.raises(AmbiguousNameError, match=r"mfops_a\.Cube .* mfops_b\.Cube"):
        packs.operation("Cube")
    assert packs.operation("mfops_a.Cube") is Cube


def test_one_class_given_by_two_packs_is_not_ambiguous() -> None:
    packs = registry(pack("mfops_a", Cube), pack("mfops_b", Cube))

    assert packs.operation("Cube") is Cube


def test_two_distributions_with_one_pack_name_are_a_conflict_that_nobody_wins() -> None:
    packs = registry(
        pack("mfops_a", Cube, distribution="first"),
        pack("mfops_a", Other, distribution="second"),
        pack("mfops_b", operation("Third")),
    )

    statuses = {p.name: p.status for p in packs.load()}

    assert statuses == {"mfcore": "loaded", "mfops_a": "conflict", "mfops_b": "loaded"}
    with pytest.raises(UnknownNameError, match=r"first 1.0 .* second 1.0"):
        packs.operation("mfops_a.Cube")


def broken(error: BaseException) -> Callable[[], object]:
    def load() -> object:
        raise error

    return load


@attrs.define
class WrongHook:
    @mf.hookimpl
    def mf_operations(self, unheard_of: int) -> list[type]:
        return []


@attrs.define
class Rubbish:
    @mf.hookimpl
    def mf_operations(self) -> list[Any]:
        return [Cube, int]


@pytest.mark.parametrize(
    ("load", "shown"),
    [
        (broken(ImportError("no module zzz")), "no module zzz"),
        (broken(SyntaxError("bad line")), "bad line"),
        (broken(SystemExit(3)), "SystemExit"),
        (WrongHook, "unheard_of"),
        (Rubbish, "not a class decorated with @operation"),
    ],
)
def test_a_broken_pack_is_quarantined_whole_and_its_traceback_is_shown(
    load: Callable[[], object], shown: str
) -> None:
    packs = registry(
        EntryPoint("mfops_broken", Distribution("mfops-broken"), load), pack("mfops_a", Other)
    )

    with pytest.warns(QuarantineWarning, match="mfops_broken"):
        packs.load()

    bad = next(p for p in packs.packs() if p.name == "mfops_broken")
    assert bad.status == "quarantined"
    assert bad.provides == {}
    assert packs.operation("Other") is Other
    with pytest.raises(UnknownNameError, match="Traceback") as caught:
        packs.operation("Missing")
    assert shown in str(caught.value)


def test_strict_mode_raises_what_quarantine_would_hide() -> None:
    load = broken(ImportError("no module zzz"))
    packs = registry(EntryPoint("mfops_broken", Distribution("b"), load), strict=True)

    with pytest.raises(PackError, match="no module zzz"):
        packs.load()


def test_a_pack_made_for_another_core_is_not_loaded_and_says_why() -> None:
    packs = registry(
        pack("mfops_old", Cube, requires=["numpy>=2", "mfcore<0.1 ; python_version>'3'"])
    )

    with pytest.raises(UnknownNameError, match=r"made for mfcore <0\.1, and this is mfcore"):
        packs.operation("mfops_old.Cube")


@pytest.mark.parametrize(
    ("version", "specifiers", "within"),
    [
        ("0.1.0", ">=0.1,<0.2", True),
        ("0.2.0", ">=0.1,<0.2", False),
        ("1.4.2", "~=1.4", True),
        ("2.0", "~=1.4", False),
        ("1.4.2", "==1.4.*", True),
        ("1.5", "==1.4.*", False),
        ("1.0", "!=1.0", False),
        ("1.10", ">1.9", True),
        ("1.0", "", True),
    ],
)
def test_api_ranges_compare_release_numbers(version: str, specifiers: str, within: bool) -> None:
    assert version_in_range(version, specifiers) is within


def test_disabled_packs_are_left_out_by_code_and_by_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_code = registry(pack("mfops_a", Cube))
    in_code.operation("Cube")
    in_code.disable("mfops-a")
    monkeypatch.setenv("MINIFLOW_DISABLE", "mfops_a, other")
    by_environment = mf.Registry(entry_points=lambda: [pack("mfops_a", Cube)])

    for packs in (in_code, by_environment):
        with pytest.raises(UnknownNameError, match="mfops_a .* is disabled"):
            packs.operation("Cube")


def test_without_autoload_only_registered_plugins_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MINIFLOW_AUTOLOAD", "0")
    packs = mf.Registry(entry_points=lambda: [pack("mfops_a", Cube)])
    packs.register(plugin(Other), "mine")

    assert set(packs.all("operation")) == {"mine.Other"}
    with pytest.raises(PackError, match="there already"):
        packs.register(plugin(Cube), "mine")


def test_a_function_declared_twice_is_ambiguous_and_lists_both() -> None:
    first, second = operation("First", ufunc=np.cbrt), operation("Second", ufunc=np.cbrt)
    packs = registry(pack("mfops_a", first), pack("mfops_b", second))

    with (
        mf.registry.using(packs),
        pytest.raises(AmbiguousNameError, match=r"mfops_a\.First, mfops_b\.Second"),
    ):
        np.cbrt(mf.Input("x"))


def test_a_registry_in_use_is_left_behind_with_its_block() -> None:
    packs = registry(pack("mfops_a", operation("Only", ufunc=np.cbrt)))

    with mf.registry.using(packs):
        node = np.cbrt(mf.Input("x"))

    assert type(node).__name__ == "Only"
    assert mf.registry.current() is not packs


def test_an_unknown_name_suggests_close_ones() -> None:
    with pytest.raises(UnknownNameError, match="did you mean Cube"):
        registry(pack("mfops_a", Cube)).operation("Cubes")
