"""Manifests: look-ups import only what is used, and what a manifest says wrongly hides nothing."""

from __future__ import annotations

import json
import sys
import textwrap

import numpy as np
import pytest
from click.testing import CliRunner

import mfcore as mf
from mfcore import manifest
from mfcore.errors import AmbiguousNameError, DefinitionError, QuarantineWarning, UnknownNameError
from mfcore.registry import KINDS, Registry
from miniflow.cli import main

OPERATION = """
import numpy as np
import mfcore as mf

@mf.operation{declared}
class {name}(mf.Node):
    x: mf.Node

    @staticmethod
    def forward(x):
        return x * 2.0
"""

PACK = """
import mfcore as mf
{imports}

@mf.hookimpl
def mf_operations():
    return [{names}]
"""


class Installed:
    """A folder on the path in which packs are written as installers leave them."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, name, operations, *, more="", distribution=None, listed=None, **changes):
        """Write a pack of operations, each in a module of its own, and its manifest.

        Parameters
        ----------
        operations : dict
            By name: the arguments of the decorator.
        more : str
            What the pack's module says besides.
        listed : dict, optional
            What the manifest says of operations; ``False`` for no manifest.
        **changes
            What the manifest says otherwise.
        """
        package = self.folder / name
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        for operation, declared in operations.items():
            source = OPERATION.format(name=operation, declared=declared and f"({declared})")
            (package / f"{operation.lower()}.py").write_text(source)
        imports = "\n".join(f"from {name}.{o.lower()} import {o}" for o in operations)
        source = PACK.format(imports=imports, names=", ".join(operations))
        (package / "pack.py").write_text(source + textwrap.dedent(more))
        info = self.folder / f"{distribution or name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {distribution or name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mfcore]\n{name} = {name}.pack\n")
        if listed is not False:
            said = {
                "operation": {o: f"{name}.{o.lower()}:{o}" for o in operations},
                "functions": {
                    o: [f"numpy:{d.partition('np.')[2]}"] for o, d in operations.items() if d
                },
                "listens": False,
                **({} if listed is None else {"operation": listed}),
            }
            content = {"format": 1, "version": "1.0", "packs": {name: said}, **changes}
            (info / "miniflow.json").write_text(json.dumps(content))

    def registry(self, **options):
        """Return a registry of these packs alone."""
        from mfcore import installed

        path, sys.path = sys.path, [str(self.folder)]
        try:
            found = list(installed.entry_points("mfcore"))
        finally:
            sys.path = path
        options = {"autoload": True, "packs": None, "disabled": (), "strict": False, **options}
        return Registry(entry_points=lambda: found, **options)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIFLOW_PACKS", raising=False)
    yield Installed(tmp_path)
    for name in [n for n in sys.modules if n not in before and n.startswith("made_")]:
        del sys.modules[name]


def imported():
    """The modules of made packs that are imported, packages apart."""
    return {name for name in sys.modules if name.startswith("made_") and "." in name}


@pytest.mark.parametrize("name", ["made_a.Alpha", "Alpha"])
def test_a_look_up_imports_the_module_of_the_operation_alone(installed, name):
    installed.write("made_a", {"Alpha": "", "Other": ""})
    installed.write("made_b", {"Beta": ""})
    registry = installed.registry()

    found = registry.operation(name)

    assert found.__name__ == "Alpha"
    assert imported() == {"made_a.alpha"}
    assert registry.provider(found).name == "made_a"
    assert registry.operation(name) is found


def test_a_numpy_function_imports_the_module_of_its_operation_alone(installed):
    installed.write("made_a", {"Alpha": "ufunc=np.cbrt", "Other": "ufunc=np.sqrt"})
    installed.write("made_b", {"Beta": "function=np.linalg.inv"})
    registry = installed.registry()

    with mf.registry.using(registry):
        node = np.cbrt(mf.Input("x"))

    assert type(node).__name__ == "Alpha"
    assert imported() == {"made_a.alpha"}
    with mf.registry.using(registry):
        assert type(np.linalg.inv(mf.Input("x"))).__name__ == "Beta"
    assert imported() == {"made_a.alpha", "made_b.beta"}


def test_all_operations_are_listed_without_importing_the_packs_themselves(installed):
    installed.write("made_a", {"Alpha": "", "Other": ""})

    assert list(installed.registry().all("operation")) == ["made_a.Alpha", "made_a.Other"]
    assert imported() == {"made_a.alpha", "made_a.other"}


def test_loading_the_pack_later_gives_the_same_classes(installed):
    installed.write("made_a", {"Alpha": "ufunc=np.cbrt"})
    registry = installed.registry()
    found = registry.operation("Alpha")

    registry.load()

    assert "made_a.pack" in sys.modules
    assert registry.operation("Alpha") is found
    assert registry.operation_for(np.cbrt) is found


def test_a_name_of_two_manifests_is_ambiguous_and_qualified_names_work(installed):
    installed.write("made_a", {"Same": "ufunc=np.cbrt"})
    installed.write("made_b", {"Same": "ufunc=np.cbrt"})
    registry = installed.registry()

    with pytest.raises(AmbiguousNameError, match=r"made_a\.Same .* made_b\.Same"):
        registry.operation("Same")
    with pytest.raises(AmbiguousNameError, match=r"cbrt .* made_a\.Same, made_b\.Same"):
        registry.operation_for(np.cbrt)
    assert registry.operation("made_a.Same") is not registry.operation("made_b.Same")
    registry.disable("made_b")
    assert registry.operation("Same") is registry.operation("made_a.Same")
    assert registry.operation_for(np.cbrt) is registry.operation("made_a.Same")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"format": 2}, "it is of format 2, not 1"),
        ({"version": "0.9"}, "it is of version '0.9', not 1.0"),
        ({"packs": {}}, "it does not name the pack made_a"),
        ({"packs": []}, "packs must be an object"),
        ({"packs": {"made_a": {"operation": []}}}, "operation must be an object"),
        ({"listed": {"Alpha": "made_a"}}, "must be given as module:qualname"),
        ({"listed": {"Alpha": 3}}, "must be given as module:qualname"),
        ({"packs": {"made_a": {"functions": {"Alpha": 3}}}}, "functions must be lists"),
        ({"packs": {"made_a": {}}}, "does not say whether the pack listens"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_passed_over_and_verify_says_why(
    installed, options, reason
):
    installed.write("made_a", {"Alpha": ""}, **options)
    registry = installed.registry()

    assert registry.operation("Alpha").__name__ == "Alpha"

    (pack,) = [pack for pack in registry.packs() if pack.name == "made_a"]
    assert pack.status == "loaded"
    (problem,) = manifest.verify(pack)
    assert reason in problem


@pytest.mark.parametrize(
    ("listed", "difference"),
    [
        ({}, "operation Alpha is left out (made_a.alpha:Alpha)"),
        (
            {"Alpha": "made_a.gone:Alpha"},
            "operation Alpha is said to be made_a.gone:Alpha, and is made_a.alpha:Alpha",
        ),
        (
            {"Alpha": "made_a.alpha:mf"},
            "operation Alpha is said to be made_a.alpha:mf, and is made_a.alpha:Alpha",
        ),
        (
            {"Alpha": "made_a.alpha:Alpha", "More": "made_a.alpha:Alpha"},
            "operation More is said to be made_a.alpha:Alpha, and the pack has none",
        ),
    ],
)
@pytest.mark.parametrize("name", ["made_a.Alpha", "Alpha"])
def test_what_a_manifest_says_wrongly_hides_nothing_and_is_found_by_verify(
    installed, listed, difference, name
):
    installed.write("made_a", {"Alpha": "ufunc=np.cbrt"}, listed=listed)
    registry = installed.registry()

    assert registry.operation(name).__name__ == "Alpha"
    with pytest.raises(UnknownNameError):
        registry.operation("More")
    registry.load()

    (pack,) = [pack for pack in registry.packs() if pack.name == "made_a"]
    assert manifest.verify(pack) == [f"the manifest of pack made_a: {difference}"]


def test_functions_that_a_manifest_leaves_out_are_found_and_verify_says_so(installed):
    said = {"operation": {"Alpha": "made_a.alpha:Alpha"}, "functions": {}, "listens": False}
    installed.write("made_a", {"Alpha": "ufunc=np.cbrt"}, packs={"made_a": said})
    registry = installed.registry()

    assert registry.operation_for(np.cbrt) is registry.operation("made_a.Alpha")

    (pack,) = [pack for pack in registry.packs() if pack.name == "made_a"]
    assert manifest.verify(pack) == [
        "the manifest of pack made_a: the functions of Alpha is left out (numpy:cbrt)"
    ]


def test_functions_that_a_manifest_claims_wrongly_are_not_taken(installed):
    said = {
        "operation": {"Alpha": "made_a.alpha:Alpha"},
        "functions": {"Alpha": ["numpy:cbrt"]},
        "listens": False,
    }
    installed.write("made_a", {"Alpha": ""}, packs={"made_a": said})
    installed.write("made_b", {"Beta": "ufunc=np.cbrt"})
    registry = installed.registry()

    assert registry.operation_for(np.cbrt) is registry.operation("made_b.Beta")
    registry.disable("made_b")
    assert registry.operation_for(np.cbrt) is None


def test_a_broken_pack_with_a_manifest_is_quarantined_when_it_is_needed(installed):
    installed.write("made_a", {"Alpha": ""})
    installed.write("made_b", {"Beta": ""})
    (installed.folder / "made_a" / "alpha.py").write_text("1 / 0\n")
    registry = installed.registry()

    assert registry.operation("Beta").__name__ == "Beta"
    with (
        pytest.warns(QuarantineWarning, match="made_a"),
        pytest.raises(UnknownNameError, match="ZeroDivisionError: division by zero"),
    ):
        registry.operation("made_a.Alpha")
    assert registry.operation("Beta").__name__ == "Beta"


LISTENS = """
heard = []

@mf.hookimpl
def mf_sort_start():
    heard.append(1)
"""


def test_a_pack_that_listens_is_loaded_as_one_without_manifest_is(installed):
    said = {"operation": {"Alpha": "made_a.alpha:Alpha"}, "listens": True}
    installed.write("made_a", {"Alpha": ""}, more=LISTENS, packs={"made_a": said})
    installed.write("made_b", {"Beta": ""})
    registry = installed.registry()

    registry.operation("Beta")

    with mf.registry.using(registry):
        mf.Graph(mf.Input("x"))
    assert sys.modules["made_a.pack"].heard == [1]


@pytest.mark.parametrize(
    "name", ["mfcore", "mfops_basic", "mfops_nn", "mfoptim", "mftrace", "mfjit"]
)
def test_the_manifest_written_for_a_pack_of_this_repository_is_right(name):
    registry = Registry(disabled=())
    registry.load()
    (pack,) = [pack for pack in registry.packs() if pack.name == name]
    assert manifest.verify(pack) == []
    pack._read = {"miniflow.json": manifest.write(pack)}.get

    assert manifest.read(pack) == manifest.describe(pack)
    assert manifest.verify(pack) == []
    for kind, by_name in manifest.describe(pack).provides.items():
        for provided in by_name:
            assert manifest.read(pack).resolve(kind, provided) is pack.provides[kind][provided]


def test_what_is_said_of_the_core_before_it_is_imported_is_right():
    registry = Registry(autoload=False)
    (core,) = registry.packs()
    assert core.status == "found"

    registry.load()

    assert core.status == "loaded"
    assert manifest.describe(core) == manifest.OF_THE_CORE


def test_every_function_of_this_repositorys_operations_is_found_again(core_registry):
    for pack in core_registry.load():
        found = {}
        for function, name in manifest.describe(pack).declared():
            found.setdefault(name, []).append(function)
        assert found == {
            name: list(operation.__operation__.declared)
            for name, operation in pack.provides["operation"].items()
            if operation.__operation__.declared
        }


def test_what_cannot_be_imported_by_name_cannot_be_described():
    @mf.operation
    class Local(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x * 1.0

    registry = Registry(autoload=False)
    plugin = type("Plugin", (), {"mf_operations": staticmethod(mf.hookimpl(lambda: [Local]))})
    pack = registry.register(plugin, "mine")

    with pytest.raises(DefinitionError, match="operation Local of pack mine is not"):
        manifest.describe(pack)


@pytest.mark.parametrize("editable", [True, False])
def test_an_editable_installation_does_not_go_by_a_manifest(installed, editable):
    installed.write("made_a", {"Alpha": "", "Other": ""})
    source = {"url": "file:///made_a", "dir_info": {"editable": editable}}
    info = installed.folder / "made_a-1.0.dist-info"
    (info / "direct_url.json").write_text(json.dumps(source))
    registry = installed.registry()

    registry.operation("made_a.Alpha")

    assert imported() == ({"made_a.pack", "made_a.other"} if editable else set()) | {"made_a.alpha"}
    (pack,) = [pack for pack in registry.load() if pack.name == "made_a"]
    assert manifest.verify(pack) == []


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "{}", '{"dir_info": null}', '{"dir_info": {}}']
)
def test_who_says_nothing_of_editable_is_not(installed, text):
    installed.write("made_a", {"Alpha": "", "Other": ""})
    (installed.folder / "made_a-1.0.dist-info" / "direct_url.json").write_text(text)

    installed.registry().operation("made_a.Alpha")

    assert imported() == {"made_a.alpha"}


# What is read, and when

READS = """
import os, sys
read = []

def hear(event, arguments):
    if event in ("open", "os.listdir", "os.scandir"):
        path = os.path.relpath(str(arguments[0]), FOLDER)
        if not path.startswith("..") and (".dist-info" in path or path == "pyproject.toml"):
            read.append(path)

def said(step):
    print(step, *sorted(read))
    read.clear()

os.chdir(FOLDER)
sys.path.insert(0, FOLDER)
sys.addaudithook(hear)
import numpy as np
import mfcore as mf
import mfops_nn, mfoptim
x = mf.Input("x")
said("imports")
registry = mf.Registry(packs=["made_a", "made_b"])
said("made")
registry.operation("made_a.Alpha")
said("qualified")
registry.operation("Beta")
said("short")
with mf.registry.using(registry):
    np.cbrt(x)
for name in ("made_a.Alpha", "Alpha", "Beta", "made_b.Beta"):
    registry.operation(name)
registry.packs(), registry.all("operation"), registry.load()
said("later")
"""


def test_nothing_is_read_at_import_and_each_file_once_after(installed, fresh_python):
    installed.write("made_a", {"Alpha": "ufunc=np.cbrt"})
    installed.write("made_b", {"Beta": ""})
    installed.write("made_c", {"Gamma": ""})
    (installed.folder / "pyproject.toml").write_text("[tool.other]\n")

    printed = fresh_python(READS.replace("FOLDER", repr(str(installed.folder))))

    said = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    entry_points = {f"made_{i}-1.0.dist-info/entry_points.txt" for i in "abc"}
    metadata = {f"made_{i}-1.0.dist-info/METADATA" for i in "abc"}
    assert said["imports"] == said["made"] == said["later"] == []
    scanned, manifests = set(said["qualified"]), {f for f in said["short"] if "miniflow" in f}
    assert scanned >= {"pyproject.toml"} | entry_points | metadata
    assert not any("made_b" in f or "made_c" in f for f in scanned - entry_points - metadata)
    assert "made_b-1.0.dist-info/miniflow.json" in manifests
    assert not any("made_a" in f or "made_c" in f for f in manifests)
    everything = said["qualified"] + said["short"]
    assert len(everything) == len(set(everything))


# The command


@pytest.fixture
def miniflow():
    def run(registry, *arguments):
        with mf.registry.using(registry):
            return CliRunner().invoke(main, arguments, catch_exceptions=False)

    return run


def test_the_command_writes_a_manifest_that_is_then_gone_by(installed, miniflow):
    installed.write("made_a", {"Alpha": "ufunc=np.cbrt", "Other": ""}, listed=False)

    assert miniflow(installed.registry(), "manifest", "Made-A").exit_code == 0
    (installed.folder / "miniflow.json").rename(
        installed.folder / "made_a-1.0.dist-info" / "miniflow.json"
    )

    registry = installed.registry()
    registry.operation("made_a.Alpha")
    assert [pack.status for pack in registry.packs() if pack.name == "made_a"] == ["found"]
    registry.load()
    (pack,) = [pack for pack in registry.packs() if pack.name == "made_a"]
    assert manifest.read(pack) == manifest.describe(pack)
    assert manifest.describe(pack) == manifest.Manifest(
        {
            **{kind: {} for kind in KINDS},
            "operation": {"Alpha": "made_a.alpha:Alpha", "Other": "made_a.other:Other"},
        },
        {"Alpha": ("numpy:cbrt",)},
        listens=False,
    )


def test_one_manifest_is_written_for_all_packs_of_a_distribution(installed, miniflow):
    installed.write("made_a", {"Alpha": ""}, listed=False)
    installed.write("made_b", {"Beta": ""}, listed=False)
    (installed.folder / "made_b-1.0.dist-info" / "entry_points.txt").unlink()
    info = installed.folder / "made_a-1.0.dist-info"
    (info / "entry_points.txt").write_text("[mfcore]\nmade_a = made_a.pack\nmade_b = made_b.pack\n")

    assert miniflow(installed.registry(), "manifest", "made_a").exit_code == 0

    text = (installed.folder / "miniflow.json").read_text()
    assert {name: said["operation"] for name, said in json.loads(text)["packs"].items()} == {
        "made_a": {"Alpha": "made_a.alpha:Alpha"},
        "made_b": {"Beta": "made_b.beta:Beta"},
    }
    (info / "miniflow.json").write_text(text)
    registry = installed.registry()
    assert registry.operation("Beta").__name__ == "Beta"
    assert {pack.status for pack in registry.packs()} == {"found"}


def test_the_place_where_hatchling_puts_it_is_read_too(installed):
    installed.write("made_a", {"Alpha": "", "Other": ""})
    info = installed.folder / "made_a-1.0.dist-info"
    (info / "extra_metadata").mkdir()
    (info / "miniflow.json").rename(info / "extra_metadata" / "miniflow.json")

    installed.registry().operation("made_a.Alpha")

    assert imported() == {"made_a.alpha"}


def test_the_command_refuses_what_it_cannot_describe(installed, miniflow):
    installed.write("made_a", {"Alpha": ""}, listed=False)
    (installed.folder / "made_a" / "alpha.py").write_text("1 / 0\n")
    registry = installed.registry()

    unknown = miniflow(registry, "manifest", "made_z")
    broken = miniflow(registry, "manifest", "made_a")
    nowhere = miniflow(registry, "manifest", "mfcore", "-o", "no/such/folder.json")

    assert unknown.exit_code == broken.exit_code == 2
    assert "there is no pack 'made_z'; there are made_a, mfcore" in unknown.stderr
    assert "pack made_a is quarantined: ZeroDivisionError" in broken.stderr
    assert nowhere.exit_code == 1
    assert "cannot be written: No such file" in nowhere.stderr
    assert not (installed.folder / "miniflow.json").exists()


def test_a_manifest_that_is_wrong_is_a_problem_to_the_doctor(installed, miniflow):
    installed.write("made_a", {"Alpha": ""}, listed={"Alpha": "made_a.gone:Alpha"})

    result = miniflow(installed.registry(), "packs", "doctor", "--json")

    (problem,) = json.loads(result.stdout)["problems"]
    assert problem == {
        "what": "the manifest of pack made_a: operation Alpha is said to be made_a.gone:Alpha, "
        "and is made_a.alpha:Alpha",
        "mend": ["python -m pip install --upgrade made_a"],
        "pack": "made_a",
        "traceback": "",
    }
    assert result.exit_code == 1


# Many packs


@pytest.fixture
def fifty(installed):
    """Fifty packs of ten operations each; one is broken, and two clash in name and function."""
    for i in range(50):
        operations = {f"Op{i}x{k}": "" for k in range(10)}
        if i in (7, 8):
            operations |= {"Clash": "ufunc=np.cbrt"}
        installed.write(f"made_{i}", operations)
    (installed.folder / "made_5" / "pack.py").write_text("raise RuntimeError('broken')\n")
    (installed.folder / "made_5" / "op5x0.py").write_text("raise RuntimeError('broken')\n")
    return installed


@pytest.mark.parametrize("name", ["made_33.Op33x4", "Op33x4"])
def test_the_first_look_up_among_fifty_packs_imports_one_module(fifty, name):
    registry = fifty.registry()

    assert registry.operation(name).__name__ == "Op33x4"
    assert imported() == {"made_33.op33x4"}


def test_one_broken_pack_and_two_that_clash_change_nothing_for_the_rest(fifty):
    registry = fifty.registry()

    with pytest.raises(AmbiguousNameError, match=r"made_7\.Clash .* made_8\.Clash"):
        registry.operation("Clash")
    with pytest.raises(AmbiguousNameError):
        registry.operation_for(np.cbrt)
    assert imported() == {"made_7.clash", "made_8.clash"}
    with pytest.warns(QuarantineWarning, match="made_5"):
        found = registry.all("operation")

    rest = {f"made_{i}.Op{i}x{k}" for i in range(50) if i != 5 for k in range(10)}
    assert set(found) == rest | {"made_7.Clash", "made_8.Clash"}
    assert {pack.name for pack in registry.packs() if not pack.enabled} == {"made_5"}
    assert {registry.operation(name.partition(".")[2]) for name in rest} == {
        found[name] for name in rest
    }


def test_two_distributions_of_one_pack_name_among_fifty_are_left_out_alone(fifty):
    fifty.write("made_9", {}, distribution="rogue", listed=False)
    registry = fifty.registry()

    assert registry.operation("Op10x0").__name__ == "Op10x0"
    with pytest.raises(UnknownNameError, match="conflict"), pytest.warns(QuarantineWarning):
        registry.operation("made_9.Op9x0")
