"""Installed packs: found where ``importlib.metadata`` finds them, with the same names."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile

import pytest

from mfcore.installed import entry_points


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder in which distributions are installed."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "missing"), str(tmp_path)])
    return tmp_path


def install(folder, name, text, version="1.0", kind="dist-info", requires=()):
    info = folder / f"{name}-{version}.{kind}"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join([*lines, "", "Name: of the description"]))
    (info / "entry_points.txt").write_text(text)


def seen(found):
    return sorted((e.name, e.value, e.dist.name, e.dist.version) for e in found)


TEXTS = {
    "one": "[mfcore]\nalpha = alpha.pack\n",
    "object": "[mfcore]\nalpha=alpha.pack:plugin.inner\n",
    "several": "[mfcore]\nalpha = alpha.pack\nbeta = beta\n",
    "other groups": "[console_scripts]\nmfcore = a:b\n\n[mfcore]\nalpha = alpha\n[other]\nx = y\n",
    "comments": "# mfcore\n[mfcore]\n# beta = beta\n\n  alpha =  alpha\n",
    "another group": "[mfcore.more]\nalpha = alpha\n",
    "none": "",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_entry_points_are_those_of_importlib_metadata(folder, text):
    install(folder, "Some_dist", text)
    install(folder, "other", "[mfcore]\ngamma = gamma\n", version="2.0.1")

    found = entry_points("mfcore")

    assert seen(found) == seen(importlib.metadata.entry_points(group="mfcore"))


def test_of_one_distribution_the_first_on_the_path_counts(folder, monkeypatch):
    (folder / "second").mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), str(folder / "second"), str(folder)])
    install(folder, "some_pack", "[mfcore]\nalpha = first\n")
    install(folder / "second", "Some.Pack", "[mfcore]\nalpha = second\n", version="0.9")

    (found,) = entry_points("mfcore")

    assert (found.value, found.dist.version) == ("first", "1.0")


def test_what_a_distribution_requires_is_read_up_to_its_description(folder):
    install(folder, "some", TEXTS["one"], requires=["mfcore>=0.1,<0.2", 'rich; extra == "x"'])

    (found,) = entry_points("mfcore")

    assert found.dist.requires == ["mfcore>=0.1,<0.2", 'rich; extra == "x"']
    assert found.dist.name == "some"


def test_loading_gives_the_module_or_the_object_in_it(folder):
    text = "[mfcore]\nmodule = os.path\nobject = os:path.join [extra]\n"
    install(folder, "some", text)

    loaded = {e.name: e.load() for e in entry_points("mfcore")}

    assert loaded == {"module": sys.modules["os.path"], "object": sys.modules["os.path"].join}


def test_distributions_in_zip_files_are_left_to_importlib_metadata(folder, monkeypatch):
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        archive.writestr("some-1.0.dist-info/METADATA", "Name: some\nVersion: 1.0\n")
        archive.writestr("some-1.0.dist-info/entry_points.txt", TEXTS["one"])
    monkeypatch.setattr(sys, "path", [str(folder), str(folder / "packed.zip")])
    install(folder, "other", "[mfcore]\ngamma = gamma\n")

    assert [e.name for e in sorted(entry_points("mfcore"))] == ["alpha", "gamma"]


def test_eggs_are_left_to_importlib_metadata(folder):
    install(folder, "some", TEXTS["one"], kind="egg-info")
    (folder / "some-1.0.egg-info" / "PKG-INFO").write_text("Name: some\nVersion: 1.0\n")

    (found,) = entry_points("mfcore")

    assert isinstance(found, importlib.metadata.EntryPoint)
    assert found.name == "alpha"


def test_importers_that_find_distributions_themselves_are_asked(folder, monkeypatch):
    class Importer:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return None

        @staticmethod
        def find_distributions(context):
            return [importlib.metadata.Distribution.at(folder / "hidden" / "some-1.0.dist-info")]

    (folder / "hidden").mkdir()
    install(folder / "hidden", "some", TEXTS["one"])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Importer])

    assert [e.name for e in entry_points("mfcore")] == ["alpha"]


def test_a_distribution_without_metadata_has_no_name(folder):
    install(folder, "some", TEXTS["one"])
    (folder / "some-1.0.dist-info" / "METADATA").unlink()

    (found,) = entry_points("mfcore")

    assert (found.dist.name, found.dist.version, found.dist.requires) == ("", "", [])


def test_a_file_that_is_no_text_stops_nobody(folder):
    install(folder, "some", TEXTS["one"])
    install(folder, "other", "[mfcore]\ngamma = gamma\n")
    broken = folder / "some-1.0.dist-info"
    (broken / "METADATA").write_bytes(b"Name: some\nAuthor: Zo\xeb\nVersion: 1.0\n\n")
    (broken / "entry_points.txt").write_bytes(b"# Zo\xeb\n[mfcore]\nalpha = alpha\n")

    found = sorted(entry_points("mfcore"), key=lambda e: e.name)

    assert [(e.name, e.dist.name, e.dist.version) for e in found] == [
        ("alpha", "some", "1.0"),
        ("gamma", "other", "1.0"),
    ]
