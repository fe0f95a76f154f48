"""The page on writing a pack, followed word by word in an environment of its own."""

from __future__ import annotations

import os
import re
import site
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "writing-a-pack.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Reader:
    """Somebody who follows the page: types its commands, edits files, runs its programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = folder / ".environment"
        venv.create(environment, with_pip=False)
        # All that the tests run with, without installing it again.
        (packages,) = environment.glob("lib/python*/site-packages")
        shared = "".join(f"import site; site.addsitedir({p!r})\n" for p in site.getsitepackages())
        (packages / "shared.pth").write_text(shared, encoding="utf-8")
        self.programs = environment / "bin"
        for name in ("pip", "miniflow"):
            script = self.programs / name
            script.write_text(f'#!/bin/sh\nexec "{self.programs}/python" -m {name} "$@"\n')
            script.chmod(0o755)

    def run(self, *command: str) -> str:
        """Run a command as the page has it; pip builds with what there is, from no index."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MINIFLOW_")}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={
                **inherited,
                "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
                "MINIFLOW_CACHE_DIR": str(self.folder / ".cache"),
                "PIP_NO_BUILD_ISOLATION": "false",  # pip reads it as: without isolation
                "PIP_NO_DEPS": "1",
                "PIP_NO_INDEX": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def edit(self, source: str) -> bool:
        """Make the change that a block describes; return whether it describes one."""
        first, _, rest = source.partition("\n")
        if match := re.fullmatch(r"# append to (\S+)", first):
            path = self.folder / match[1]
            path.write_text(path.read_text("utf-8") + "\n\n" + rest, encoding="utf-8")
        elif match := re.fullmatch(r"# in (\S+)", first):
            path, lines = self.folder / match[1], rest.splitlines(keepends=True)
            old, new = ("".join(x[1:] for x in lines if x[0] in kept) for kept in (" -", " +"))
            text = path.read_text("utf-8")
            assert text.count(old) == 1
            path.write_text(text.replace(old, new), encoding="utf-8")
        else:
            return False
        return True


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_the_page_works_word_by_word(reader: Reader) -> None:
    printed, shown = "", []

    for language, source in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "text":
            assert printed == source
        elif language in ("python", "toml", "diff") and not reader.edit(source):
            printed = reader.run("python", "-W", "error", "-c", source)
        elif language == "sh":
            shown.append(reader.run("sh", "-e", "-c", source))

    made, as_generated, changed, checked, trained, _, listed = shown
    assert "Barron" in made
    assert "mfops_mine.Squareplus ." in as_generated
    assert "mfops_mine.LogCosh ." in changed
    assert re.search(r"mfops_mine.LogCosh +\d+ +- ", checked)
    assert "Signum" in trained
    sources, wheel = sorted((reader.folder / "mfops_mine" / "dist").iterdir(), reverse=True)
    assert sources.name == "mfops_mine-0.1.0.tar.gz"
    assert wheel.name == "mfops_mine-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        (manifest,) = [name for name in archive.namelist() if name.endswith("miniflow.json")]
        assert b"mfops_mine.operations:LogCosh" in archive.read(manifest)
    assert "mfops_mine" in listed
    assert "2 operations: LogCosh, Squareplus" in listed
