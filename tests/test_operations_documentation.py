"""The examples in the two packs' docstrings and READMEs give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import mfops_basic
import mfops_nn

PACKS = [mfops_basic, mfops_nn]
MODULES = [
    f"{pack.__name__}.{module.name}"
    for pack in PACKS
    for module in pkgutil.iter_modules(pack.__path__)
]
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_give_what_they_say(name: str) -> None:
    module = importlib.import_module(name)

    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.__name__)
def test_a_pack_has_examples(pack: object) -> None:
    modules = [importlib.import_module(n) for n in MODULES if n.startswith(f"{pack.__name__}.")]

    assert sum(doctest.testmod(module).attempted for module in modules) > 10


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.__name__)
def test_the_readme_s_program_prints_what_it_says(
    pack: object, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / pack.__name__ / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)

    exec(compile(program, "README.md", "exec"), {})

    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.__name__)
def test_the_readme_names_every_operation(pack: object) -> None:
    text = (ROOT / pack.__name__ / "README.md").read_text(encoding="utf-8")
    summarised = {"Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual"}
    summarised |= {"LogicalAnd", "LogicalOr", "LogicalXor", "LogicalNot"}

    missing = {name for name in pack.OPERATIONS if f"`{name}" not in text}

    assert missing <= summarised
