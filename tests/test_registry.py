"""The registry: packs found lazily, looked up by name, and apart from each other when one fails."""

from __future__ import annotations

import textwrap
import threading
import types
from contextlib import suppress

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

import mfcore as mf
from mfcore.errors import (
    AmbiguousNameError,
    PackError,
    QuarantineWarning,
    RegistryError,
    UndeclaredFunctionError,
    UnknownNameError,
)
from mfcore.registry import Registry
from mfcore.versions import version_in_range

# Fake packs: entry points that count how often they are loaded


class Dist:
    def __init__(self, name, version="1.0", requires=None):
        self.name, self.version, self.requires = name, version, requires


class EntryPoint:
    group = "mfcore"

    def __init__(self, name, provided, dist=None, requires=None):
        self.name, self.value = name, f"{name}.pack"
        self.dist = Dist(dist or f"{name}-dist", requires=requires)
        self.provided = provided
        self.loads = 0

    def load(self):
        self.loads += 1
        if isinstance(self.provided, BaseException):
            raise self.provided
        return self.provided


def named(name, **options):
    body = {"__annotations__": {"x": mf.Node}, "forward": staticmethod(lambda x: x * 1.0)}
    return mf.operation(**options)(type(name, (mf.Node,), body))


def plugin(**hooks):
    """Return a plugin whose hooks return what is given, or call it."""
    module = types.ModuleType("plugin")
    for hook, result in hooks.items():

        def implementation(result=result):
            return result() if callable(result) else result

        setattr(module, hook, mf.hookimpl(implementation))
    return module


def packs(*entry_points, **options):
    scans = []

    def scan():
        scans.append(1)
        return entry_points

    found = Registry(
        entry_points=scan, autoload=True, **{"disabled": (), "strict": False, **options}
    )
    found.scans = scans
    return found


A, B = named("Alpha"), named("Beta")


@pytest.fixture
def alpha():
    return EntryPoint("alpha", plugin(mf_operations=[A]))


@pytest.fixture
def beta():
    return EntryPoint("beta", plugin(mf_operations=[B]))


def status(registry):
    return {pack.name: pack.status for pack in registry.packs() if pack.name != "mfcore"}


# Finding


def test_nothing_is_scanned_before_the_first_look_up_and_then_once(alpha):
    registry = packs(alpha)
    assert registry.scans == []

    registry.operation("alpha.Alpha")
    registry.operation("Alpha")
    registry.packs()

    assert registry.scans == [1]
    assert alpha.loads == 1


def test_the_provider_of_a_pack_is_known_before_it_is_imported(alpha, beta):
    registry = packs(beta, alpha)

    found = registry.packs()

    assert [pack.name for pack in found] == ["alpha", "beta", "mfcore"]
    first = found[0]
    assert (first.distribution, first.version, first.entry_point) == (
        "alpha-dist",
        "1.0",
        "alpha.pack",
    )
    assert (first.status, first.origin) == ("found", "alpha-dist 1.0")
    assert alpha.loads == beta.loads == 0


def test_a_qualified_name_loads_one_pack_only(alpha, beta):
    registry = packs(alpha, beta)

    assert registry.operation("beta.Beta") is B
    assert (alpha.loads, beta.loads) == (0, 1)
    assert status(registry) == {"alpha": "found", "beta": "loaded"}


def test_a_short_name_is_looked_for_in_all_packs(alpha, beta):
    registry = packs(alpha, beta)

    assert registry.operation("Alpha") is A
    assert (alpha.loads, beta.loads) == (1, 1)


def test_everything_of_one_kind_is_listed_by_qualified_name(alpha, beta):
    registry = packs(beta, alpha)

    assert list(registry.all("operation")) == ["alpha.Alpha", "beta.Beta"]
    assert registry.all("optimizer") == registry.all("tracer") == {}
    assert list(registry.all("engine")) == ["mfcore.reference"]
    assert [pack.status for pack in registry.load()] == ["loaded"] * 3
    assert repr(registry) == "<Registry of mfcore, alpha, beta>"


def test_every_kind_is_provided_by_a_hook_and_looked_up_by_name():
    class Tracer:
        name = "spy"

    class Drawer:
        name = "ink"
        suffixes = (".ink",)

        def draw(self, graph, run=None):
            return ""

    class Engine(mf.Engine):
        name = "warp"

        def compile(self, graph):
            raise NotImplementedError

    @mf.optimizer
    class Walk:
        @staticmethod
        def update(parameter, gradient):
            return parameter

    @attrs.frozen
    class Fade:
        def __call__(self, step):
            return 1.0 / (step + 1)

    everything = plugin(
        mf_operations=[A], mf_optimizers=(Walk,), mf_schedules=[Fade], mf_engines=iter([Engine]),
        mf_tracers={Tracer}, mf_drawers=(Drawer,), mf_commands=["train"],
    )  # fmt: skip
    registry = packs(EntryPoint("rich", everything))

    assert registry.operation("rich.Alpha") is registry.operation("Alpha") is A
    assert registry.optimizer("rich.Walk") is registry.optimizer("Walk") is Walk
    assert registry.schedule("rich.Fade") is registry.schedule("Fade") is Fade
    assert registry.engine("rich.warp") is registry.engine("warp") is Engine
    assert registry.tracer("rich.spy") is registry.tracer("spy") is Tracer
    assert registry.drawer("rich.ink") is registry.drawer("ink") is Drawer
    assert registry.commands() == ["train"]
    assert registry.provider(A).name == "rich"
    assert registry.provider(B) is None


def test_a_hook_may_return_nothing():
    silent = EntryPoint("silent", plugin(mf_operations=None, mf_commands=None))
    registry = packs(silent, EntryPoint("without_hooks", object()))

    assert registry.all("operation") == {}
    assert registry.commands() == []
    assert set(status(registry).values()) == {"loaded"}


# Unknown and ambiguous names


@pytest.mark.parametrize(
    "name", ["Alfa", "alpha.Alfa", "alpa.Alpha", "", ".", "Alpha.", "mfcore.Alpha"]
)
def test_an_unknown_name_is_an_error(alpha, name):
    with pytest.raises(UnknownNameError, match="no enabled pack provides an operation"):
        packs(alpha).operation(name)


def test_an_unknown_name_suggests_what_is_close(alpha):
    with pytest.raises(UnknownNameError, match=r"'Alfa'; did you mean Alpha\?"):
        packs(alpha).operation("Alfa")
    with pytest.raises(UnknownNameError, match=r"did you mean alpha\.Alpha"):
        packs(alpha).operation("alpha.Alhpa")
    with pytest.raises(UnknownNameError, match=r"an engine 'refrence'; did you mean .*reference"):
        packs().engine("refrence")


def test_a_short_name_of_two_packs_is_ambiguous_and_the_error_lists_both(alpha):
    other = named("Alpha")
    registry = packs(alpha, EntryPoint("gamma", plugin(mf_operations=[other])))

    with pytest.raises(AmbiguousNameError) as caught:
        registry.operation("Alpha")

    assert "alpha.Alpha (alpha-dist 1.0), gamma.Alpha (gamma-dist 1.0)" in str(caught.value)
    assert isinstance(caught.value, RegistryError)
    assert registry.operation("alpha.Alpha") is A
    assert registry.operation("gamma.Alpha") is other


def test_one_class_provided_by_two_packs_is_not_ambiguous(alpha):
    registry = packs(alpha, EntryPoint("gamma", plugin(mf_operations=[A])))

    assert registry.operation("Alpha") is A


def test_one_module_behind_two_entry_points_does_not_stop_the_others(alpha, beta):
    again = EntryPoint("again", alpha.provided)
    registry = packs(alpha, beta, again)

    with pytest.warns(QuarantineWarning, match="already registered"):
        assert registry.operation("Beta") is B
    assert registry.operation("Alpha") is A


# Two distributions with one pack name


def test_of_two_distributions_with_one_pack_name_neither_wins(alpha, beta):
    rival = EntryPoint("alpha", plugin(mf_operations=[named("Rival")]), dist="evil-twin")
    registry = packs(rival, alpha, beta)

    assert status(registry) == {"alpha": "conflict", "beta": "found"}
    with pytest.raises(UnknownNameError) as caught:
        registry.operation("alpha.Alpha")
    for origin in ("alpha-dist 1.0 (alpha.pack)", "evil-twin 1.0 (alpha.pack)"):
        assert origin in str(caught.value)
        assert origin in registry.problems()
    assert registry.operation("Beta") is B
    assert alpha.loads == rival.loads == 0


def test_a_pack_cannot_take_the_name_of_the_core_or_of_a_registered_plugin_in_silence(alpha, beta):
    impostor = EntryPoint("mfcore", plugin(mf_operations=[named("Fake")]))
    registry = packs(impostor, alpha, beta)
    registry.register(plugin(mf_operations=[named("Mine")]), "alpha")

    assert registry.operation("Beta") is B
    assert registry.operation("alpha.Mine").__name__ == "Mine"
    conflicts = [p for p in registry.packs() if p.status == "conflict"]
    assert [(p.name, p.distribution) for p in conflicts] == [
        ("alpha", "alpha-dist"),
        ("mfcore", "mfcore-dist"),
    ]
    assert "pack mfcore (mfcore-dist 1.0) is conflict: a pack named 'mfcore'" in registry.problems()
    assert impostor.loads == alpha.loads == 0
    assert mf.Registry(autoload=False).engine("mfcore.reference").name == "reference"


# Broken packs


def raising(error):
    def hook():
        raise error

    return hook


def half_way():
    yield A
    raise RuntimeError("half way")


@mf.hookimpl
def mf_operations(unknown_argument):
    return []


@mf.hookimpl
def mf_no_such_hook():
    return []


def module_of(function):
    module = types.ModuleType("broken")
    setattr(module, function.__name__, function)
    return module


class Nameless(mf.Engine):
    def compile(self, graph):
        raise NotImplementedError


class WithoutSuffixes:
    name = "ink"

    def draw(self, graph, run=None):
        return ""


class Undecorated(A):
    pass


@mf.optimizer
class Step:
    @staticmethod
    def update(parameter, gradient):
        return parameter


@attrs.frozen
class Resting:
    rate: float = 0.1


class UndecoratedStep(Step):
    pass


BROKEN = {
    "ImportError": (ImportError("no module named numpyy"), "ImportError: no module named numpyy"),
    "SyntaxError": (SyntaxError("invalid syntax"), "SyntaxError: invalid syntax"),
    "SystemExit": (SystemExit(3), "SystemExit: 3"),
    "hook that raises": (plugin(mf_operations=raising(KeyError("lost"))), "KeyError: 'lost'"),
    "hook that exits": (plugin(mf_engines=raising(SystemExit(1))), "SystemExit: 1"),
    "hook that raises half way": (plugin(mf_operations=half_way), "RuntimeError: half way"),
    "later hook that raises": (
        plugin(mf_operations=[A], mf_tracers=raising(OSError("late"))), "OSError: late"),
    "unknown argument": (module_of(mf_operations), "unknown_argument"),
    "unknown hook": (module_of(mf_no_such_hook), "mf_no_such_hook"),
    "a number": (plugin(mf_operations=3), "int"),
    "a string": (plugin(mf_operations="Alpha"), "not a class decorated with @operation"),
    "a class": (plugin(mf_operations=lambda: A), "not iterable"),
    "an instance": (plugin(mf_operations=[A(1.0)]), "not a class decorated with @operation"),
    "no operation": (plugin(mf_operations=[A, int]), "<class 'int'>, which is not"),
    "a leaf": (plugin(mf_operations=[mf.Input]), "not a class decorated with @operation"),
    "an operation that was not decorated": (
        plugin(mf_operations=[Undecorated]), "not a class decorated with @operation"),
    "no optimizer": (plugin(mf_optimizers=[A]), "not a class decorated with @optimizer"),
    "an optimizer that was not decorated": (
        plugin(mf_optimizers=[UndecoratedStep]), "not a class decorated with @optimizer"),
    "a schedule that is a function": (plugin(mf_schedules=[float.hex]), "@attrs.frozen"),
    "a schedule that cannot be called": (
        plugin(mf_schedules=[Resting]), "a method `__call__"),
    "no engine": (plugin(mf_engines=[A]), "not a subclass of mfcore.Engine"),
    "an engine without name": (
        plugin(mf_engines=[Nameless]), "not a subclass of mfcore.Engine with a name"),
    "a tracer without name": (plugin(mf_tracers=[int]), "class attribute `name`"),
    "a drawer without suffixes": (plugin(mf_drawers=[WithoutSuffixes]), "class attributes `name` and `suffixes`"),
    "two of one name": (plugin(mf_operations=[A, named("Alpha")]), "two operations named 'Alpha'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_pack_is_quarantined_whole_and_everything_else_works(case, beta):
    provided, reason = BROKEN[case]
    registry = packs(EntryPoint("broken", provided), beta)

    with pytest.warns(QuarantineWarning, match=r"pack broken \(broken-dist 1\.0\) was quarantined"):
        assert registry.operation("Beta") is B

    pack = next(p for p in registry.packs() if p.name == "broken")
    assert pack.status == "quarantined"
    assert not pack.enabled
    assert pack.provides == {}
    assert reason in pack.reason
    assert "Traceback (most recent call last)" in pack.traceback
    assert list(registry.all("operation")) == ["beta.Beta"]
    assert not registry.plugins.has_plugin("broken")
    with pytest.raises(UnknownNameError) as caught:
        registry.operation("Alpha")
    assert pack.traceback.rstrip() in str(caught.value)


def test_a_broken_pack_is_loaded_once_and_warned_of_once(beta):
    broken = EntryPoint("broken", ImportError("no"))
    registry = packs(broken, beta)
    with pytest.warns(QuarantineWarning):
        registry.load()

    registry.load()
    registry.operation("Beta")

    assert broken.loads == 1


def test_its_traceback_is_in_the_error_for_an_undeclared_function_too():
    registry = packs(EntryPoint("broken", ImportError("no such thing")))
    with pytest.warns(QuarantineWarning):
        registry.load()

    with mf.registry.using(registry), pytest.raises(UndeclaredFunctionError) as caught:
        np.exp(mf.Input("x"))

    assert "ImportError: no such thing" in str(caught.value)
    assert "Traceback" in str(caught.value)


def test_a_keyboard_interrupt_is_not_swallowed(beta):
    registry = packs(EntryPoint("slow", KeyboardInterrupt()), beta)

    with pytest.raises(KeyboardInterrupt):
        registry.load()
    assert registry.operation("beta.Beta") is B


@pytest.mark.parametrize("case", ["ImportError", "SystemExit", "a number", "unknown hook"])
def test_strict_raises_instead(case, beta):
    registry = packs(EntryPoint("broken", BROKEN[case][0]), beta, strict=True)

    with pytest.raises(PackError, match=r"pack broken \(broken-dist 1\.0\)") as caught:
        registry.operation("Beta")
    assert caught.value.__cause__ is not None


def test_strict_raises_for_conflicts_and_wrong_versions_each_time(alpha, beta):
    twice = packs(alpha, EntryPoint("alpha", None, dist="twin"), beta, strict=True)
    old = packs(EntryPoint("old", None, requires=["mfcore<0.1"]), strict=True)

    for registry, message in ((twice, "pack alpha: several"), (old, "pack old: it was made for")):
        for _ in range(2):
            with pytest.raises(PackError, match=message):
                registry.packs()


@pytest.mark.parametrize(
    "returned",
    [raising(RuntimeError("oh")), raising(SystemExit(2)), 3],
    ids=["an error", "an exit", "a number"],
)
def test_commands_that_fail_quarantine_their_pack_only(returned, beta):
    good = EntryPoint("good", plugin(mf_commands=["serve"]))
    broken = EntryPoint("broken", plugin(mf_operations=[A], mf_commands=returned))
    registry = packs(broken, good, beta)

    with pytest.warns(QuarantineWarning, match="broken"):
        assert registry.commands() == ["serve"]

    assert status(registry)["broken"] == "quarantined"
    assert list(registry.all("operation")) == ["beta.Beta"]
    assert registry.commands() == ["serve"]


# Registering in code


def test_a_plugin_registered_in_code_is_a_pack():
    registry = Registry(autoload=False)

    pack = registry.register(plugin(mf_operations=[A]), "mine")

    assert (pack.status, pack.origin) == ("loaded", "registered in code")
    assert registry.operation("mine.Alpha") is registry.operation("Alpha") is A
    with pytest.raises(PackError, match="'mine' is there already"):
        registry.register(plugin(), "mine")


@pytest.mark.parametrize(
    "case", ["hook that raises", "a number", "unknown argument", "unknown hook"]
)
def test_a_broken_plugin_cannot_be_registered_and_leaves_no_trace(case):
    registry = Registry(autoload=False)

    with pytest.raises(PackError, match="'mine' cannot be registered"):
        registry.register(BROKEN[case][0], "mine")
    assert [pack.name for pack in registry.packs()] == ["mfcore"]
    registry.register(plugin(mf_operations=[A]), "mine")
    assert registry.operation("Alpha") is A


def test_a_plugin_registered_later_is_found_by_functions_too():
    registry = Registry(autoload=False)
    with mf.registry.using(registry):
        x = mf.Input("x")
        with pytest.raises(UndeclaredFunctionError):
            np.cbrt(x)
        Root = named("Root", ufunc=np.cbrt)
        registry.register(plugin(mf_operations=[Root]), "roots")

        assert isinstance(np.cbrt(x), Root)


def test_a_function_that_two_packs_declare_is_ambiguous():
    one, other = named("One", ufunc=np.cbrt), named("Other", ufunc=np.cbrt)
    registry = packs(
        EntryPoint("a", plugin(mf_operations=[one])), EntryPoint("b", plugin(mf_operations=[other]))
    )
    with mf.registry.using(registry):
        x = mf.Input("x")
        with pytest.raises(AmbiguousNameError, match=r"cbrt on nodes.*a\.One, b\.Other"):
            np.cbrt(x)
        registry.disable("a")
        assert isinstance(np.cbrt(x), other)


# Disabling


@pytest.mark.parametrize("name", ["alpha", "ALPHA", "alpha-dist", "alpha_dist", "Alpha.Dist"])
def test_packs_are_disabled_by_pack_or_distribution(alpha, beta, name):
    registry = packs(alpha, beta, disabled=[name])

    assert status(registry)["alpha"] == "disabled"
    with pytest.raises(UnknownNameError, match=r"pack alpha \(alpha-dist 1\.0\) is disabled"):
        registry.operation("Alpha")
    with pytest.raises(UnknownNameError, match="is disabled"):
        registry.operation("alpha.Alpha")
    assert registry.operation("Beta") is B
    assert alpha.loads == 0


@pytest.mark.parametrize("loaded", [False, True])
def test_disable_works_before_and_after_loading(loaded):
    Root = named("Root", ufunc=np.cbrt)
    heard = []

    class Listener:
        @mf.hookimpl
        def mf_operations(self):
            return [Root]

        @mf.hookimpl
        def mf_commands(self):
            return ["command"]

        @mf.hookimpl
        def mf_sort_start(self):
            heard.append(1)

    registry = packs(EntryPoint("gone", Listener()))
    with mf.registry.using(registry):
        if loaded:
            assert isinstance(np.cbrt(mf.Input()), Root)
            mf.Graph(mf.Input())
            assert heard == [1]
        heard.clear()

        registry.disable("gone")

        assert status(registry)["gone"] == "disabled"
        assert registry.all("operation") == {}
        assert registry.commands() == []
        with pytest.raises(UndeclaredFunctionError):
            np.cbrt(mf.Input())
        mf.Graph(mf.Input())
        assert heard == []


def test_disabling_one_of_two_resolves_an_ambiguity(alpha):
    other = named("Alpha")
    registry = packs(alpha, EntryPoint("gamma", plugin(mf_operations=[other])))
    registry.load()

    registry.disable("alpha")

    assert registry.operation("Alpha") is other


def test_without_autoload_nothing_is_scanned(alpha):
    registry = Registry(entry_points=lambda: pytest.fail("scanned"), autoload=False)

    assert [pack.name for pack in registry.packs()] == ["mfcore"]
    with pytest.raises(UnknownNameError):
        registry.operation("Alpha")
    assert registry.engine("reference").name == "reference"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("MINIFLOW_DISABLE", "alpha, beta-dist", {"alpha": "disabled", "beta": "disabled"}),
        ("MINIFLOW_DISABLE", "", {"alpha": "found", "beta": "found"}),
        ("MINIFLOW_AUTOLOAD", "0", {}),
        ("MINIFLOW_AUTOLOAD", "1", {"alpha": "found", "beta": "found"}),
    ],
)
def test_the_environment_disables_packs(monkeypatch, alpha, beta, variable, value, expected):
    for name in ("MINIFLOW_DISABLE", "MINIFLOW_AUTOLOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)

    registry = Registry(entry_points=lambda: [alpha, beta])

    assert status(registry) == expected


@pytest.mark.parametrize(("value", "strict"), [("1", True), ("0", False)])
def test_the_environment_makes_strict(monkeypatch, value, strict):
    monkeypatch.setenv("MINIFLOW_STRICT", value)

    assert Registry(autoload=False).strict is strict


# Which core a pack was made for

RANGES = [
    ("mfcore>=0.1,<0.2", True),
    ("mfcore", True),
    ("mfcore >= 0.1", True),
    ("mfcore (>=0.1,<0.2)", True),
    ("MFCore>=0.1", True),
    ("mfcore[fast]>=0.1", True),
    ("mfcore==0.1.*", True),
    ("mfcore==0.*", True),
    ("mfcore~=0.1.0", True),
    ("mfcore>=0.2", False),
    ("mfcore<0.1", False),
    ("mfcore==9.*", False),
    ("MFCORE>=9", False),
    ("mfcore[fast]>=9", False),
    ("mfcore (>=9)", False),
    ("mfcore!=0.1.*", False),
    ("mfcore>=9; python_version>'3'", False),
    ("mfcore>=9; extra == 'dev'", True),
    ("mfcore-extras>=9", True),
    ("mfcorex>=9", True),
    ("numpy>=9", True),
]


@pytest.mark.parametrize(("requirement", "fits"), RANGES)
def test_a_pack_made_for_another_core_is_not_loaded_and_why_is_said(
    monkeypatch, beta, requirement, fits
):
    monkeypatch.setattr(mf, "__version__", "0.1.0")
    entry_point = EntryPoint("made", plugin(mf_operations=[A]), requires=["numpy", requirement])
    registry = packs(entry_point, beta)

    assert status(registry)["made"] == ("found" if fits else "incompatible")
    assert registry.operation("Beta") is B
    if not fits:
        assert entry_point.loads == 0
        with pytest.raises(
            UnknownNameError, match=r"made for mfcore .*, and this is mfcore 0\.1\.0"
        ):
            registry.operation("made.Alpha")


RELEASES = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(
    lambda parts: ".".join(map(str, parts))
)
LONG_RELEASES = st.lists(st.integers(0, 3), min_size=2, max_size=4).map(
    lambda parts: ".".join(map(str, parts))
)
SPECIFIERS = st.one_of(
    st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), RELEASES).map("".join),
    st.tuples(st.sampled_from(["==", "!="]), RELEASES, st.just(".*")).map("".join),
    LONG_RELEASES.map("~={}".format),
)


@given(RELEASES, st.lists(SPECIFIERS, max_size=3), st.sampled_from([",", " , "]))
def test_ranges_mean_what_packaging_says(version, specifiers, comma):
    expected = SpecifierSet(",".join(specifiers)).contains(version)

    assert version_in_range(version, comma.join(specifiers)) == expected


# Registries apart from each other, and threads


def test_registries_are_apart_from_each_other(alpha, beta):
    one, other = packs(alpha), packs(beta)

    one.disable("alpha")
    other.register(plugin(mf_operations=[A]), "alpha")

    assert one.all("operation") == {}
    assert list(other.all("operation")) == ["alpha.Alpha", "beta.Beta"]


def test_using_a_registry_nests_and_ends_with_its_block_even_on_errors():
    one, other = Registry(autoload=False), Registry(autoload=False)
    before = mf.registry.current()

    with mf.registry.using(one) as given:
        assert given is one is mf.registry.current()
        with suppress(ZeroDivisionError), mf.registry.using(other):
            assert mf.registry.current() is other
            raise ZeroDivisionError
        assert mf.registry.current() is one
    assert mf.registry.current() is before


def test_other_threads_do_not_see_the_registry_in_use():
    seen = []
    with mf.registry.using(Registry(autoload=False)) as registry:
        thread = threading.Thread(target=lambda: seen.append(mf.registry.current()))
        thread.start()
        thread.join()

    assert seen[0] is not registry


def test_the_first_look_up_may_come_from_many_threads_at_once():
    for _ in range(20):
        entry_points = [
            EntryPoint(f"p{i}", plugin(mf_operations=[named(f"Op{i}")])) for i in range(8)
        ]
        registry = packs(*entry_points)
        start = threading.Barrier(8)
        found, failed = [], []

        def look_up(i, registry=registry, start=start, found=found, failed=failed):
            start.wait()
            try:
                name = f"Op{i}" if i % 2 else f"p{i}.Op{i}"
                found.append(registry.operation(name).__name__)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=look_up, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failed == []
        assert sorted(found) == [f"Op{i}" for i in range(8)]
        assert registry.scans == [1]
        assert {e.loads for e in entry_points} == {1}


# Real distributions, in a process of their own


def install(folder, name, source, *, pack=None, requires=(), version="1.0"):
    """Write a distribution with one pack, as an installer leaves it."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(metadata) + "\n")
    (info / "entry_points.txt").write_text(f"[mfcore]\n{pack or module} = {module}\n")


OPERATION = """
import mfcore as mf

@mf.operation
class {name}(mf.Node):
    x: mf.Node

    @staticmethod
    def forward(x):
        return x * 2.0

@mf.hookimpl
def mf_operations():
    return [{name}]
"""

LOOK = """
import sys, warnings
import mfcore as mf
registry = mf.registry.Registry(strict=False)
assert "good_pack" not in sys.modules
found = {p.name: p for p in registry.packs()}
print({n: found[n].status for n in sorted(found) if n not in ("mfcore",) and "_pack" in n})
assert "good_pack" not in sys.modules, "imported before it was needed"
"""


def test_installed_distributions_are_found_and_imported_when_needed(tmp_path, fresh_python):
    install(tmp_path, "good-pack", OPERATION.format(name="Double"), requires=["mfcore>=0.1"])

    printed = fresh_python(
        LOOK
        + textwrap.dedent("""
        pack = found["good_pack"]
        print(pack.origin, pack.entry_point)
        Double = registry.operation("good_pack.Double")
        print(pack.status, [m for m in sys.modules if m.startswith("mfops")])
        x = mf.Input("x")
        with mf.registry.using(registry):
            print(float(mf.Session(Double(x), engine="mfcore.reference").run({x: 4})["double_1"]))
        """),
        tmp_path,
    )

    assert printed.splitlines() == [
        "{'good_pack': 'found'}",
        "good-pack 1.0 good_pack",
        "loaded []",
        "8.0",
    ]


def test_broken_installed_packs_are_quarantined_with_their_traceback(tmp_path, fresh_python):
    install(tmp_path, "good-pack", OPERATION.format(name="Double"))
    install(tmp_path, "bad1-pack", "import not_there_at_all\n")
    install(tmp_path, "bad2-pack", "def f(:\n")
    install(tmp_path, "bad3-pack", "raise SystemExit(1)\n")
    install(tmp_path, "old-pack", OPERATION.format(name="Old"), requires=["mfcore>=9"])

    printed = fresh_python(
        LOOK
        + textwrap.dedent("""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            registry.operation("Double")
        print(sorted(w.category.__name__ for w in caught))
        problems = registry.problems()
        for text in ("not_there_at_all", "def f(:", "SystemExit: 1", "made for mfcore >=9"):
            assert text in problems, problems
        assert problems.count("Traceback (most recent call last)") == 3
        """),
        tmp_path,
        MINIFLOW_DISABLE="mftrace,mfoptim,miniflow-suite",
    )

    assert printed.splitlines()[-1] == str(["QuarantineWarning"] * 3)
    assert "'old_pack': 'incompatible'" in printed


def test_two_installed_distributions_with_one_pack_name_are_a_conflict(tmp_path, fresh_python):
    install(tmp_path, "good-pack", OPERATION.format(name="Double"))
    install(tmp_path, "one-twin", OPERATION.format(name="One"), pack="twin_pack")
    install(tmp_path, "other-twin", OPERATION.format(name="Other"), pack="twin_pack")

    printed = fresh_python(
        LOOK + "print(found['twin_pack'].reason)\nregistry.operation('good_pack.Double')\n",
        tmp_path,
    )

    first, reason = printed.splitlines()
    assert first == "{'good_pack': 'found', 'twin_pack': 'conflict'}"
    assert reason.endswith("one-twin 1.0 (one_twin), other-twin 1.0 (other_twin)")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MINIFLOW_DISABLE": "good-pack"}, "{'good_pack': 'disabled'}"),
        ({"MINIFLOW_AUTOLOAD": "0"}, "{}"),
    ],
)
def test_the_environment_reaches_a_program(tmp_path, fresh_python, environment, expected):
    install(tmp_path, "good-pack", OPERATION.format(name="Double"))

    program = LOOK.replace('found["good_pack"]', "None")

    assert fresh_python(program, tmp_path, **environment).strip() == expected


def test_a_pack_that_uses_nodes_while_it_is_imported_is_loaded_whole(tmp_path, fresh_python):
    eager = """
    import numpy as np
    import mfcore as mf

    try:
        np.cbrt(mf.Input("x"))
    except TypeError:
        pass
    HALF = mf.Input("x") * 0.5
    """
    install(
        tmp_path,
        "eager-pack",
        textwrap.dedent(eager)
        + OPERATION.format(name="Root").replace("@mf.operation", "@mf.operation(ufunc=np.cbrt)"),
    )

    printed = fresh_python(
        """
import numpy as np, mfcore as mf
mf.registry.current().operation("eager_pack.Root")
x = mf.Input("x")
print(type(x + 1).__name__, type(np.cbrt(x)).__name__)
print({p.name: p.status for p in mf.registry.current().packs()}["eager_pack"])
""",
        tmp_path,
        MINIFLOW_DISABLE="mftrace,mfoptim,miniflow-suite",
    )

    assert printed.split() == ["Add", "Root", "loaded"]
