"""The page from the course to MiniFlow: both sides of every line run, and give the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import mfcore as mf
import miniflow

PAGE = (Path(__file__).parents[1] / "docs" / "from-the-course.md").read_text(encoding="utf-8")
PARTS = re.compile(r"```python\n(?P<block>[\s\S]*?)```|^\|(?P<row>.*)\|$", re.MULTILINE)
LINE = re.compile(r"`([^`]*)`")


def run(code, variables):
    """Run a line or block; return the value of an expression, else ``None``."""
    try:
        expression = ast.parse(code, mode="eval")
    except SyntaxError:
        exec(compile(code, "from-the-course.md", "exec"), variables)
        return None
    return eval(compile(expression, "from-the-course.md", "eval"), variables)


def by_name(value, variables):
    """Nodes as the names of the variables that hold them, so that both sides compare."""
    names = {id(node): name for name, node in variables.items()}
    if isinstance(value, (list, tuple)) and all(id(node) in names for node in value):
        return [names[id(node)] for node in value]
    return value


def lines():
    """Each line of the page in order: what runs in the course, what runs here."""
    turn = 0
    for part in PARTS.finditer(PAGE):
        if part["block"]:
            yield (part["block"], "") if turn % 2 == 0 else ("", part["block"])
            turn += 1
        else:
            _, *codes = (LINE.fullmatch(cell.strip()) for cell in part["row"].split("|"))
            if any(codes):
                yield tuple(code[1] if code else "" for code in codes)


def test_both_sides_of_every_line_run_and_agree(capsys):
    course, here = {"__name__": "course"}, {"__name__": "here"}
    compared = 0

    for old, new in lines():
        was = run(old, course) if old else None
        now = run(new, here) if new else None
        if old and was is not None:
            compared += 1
            was, now = by_name(was, course), by_name(now, here)
            if isinstance(was, (list, str)):
                assert now == was, (old, new)
            else:
                np.testing.assert_allclose(now, was, rtol=1e-12, err_msg=f"{old} / {new}")
    printed = capsys.readouterr().out

    assert compared >= 16
    assert here["f"] is not course["f"]
    assert len(here["history"].loss) == 5
    assert "backward" in printed.lower()  # DEBUG was on for the last graph
    assert here["svg"].startswith("<svg")
    with here["sort"]:
        mf.Graph(here["f"])
    assert "remove p -> s" in capsys.readouterr().out.replace("add_1", "s")


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in miniflow.__all__ if name != "np"),
        *("value", "gradients", "inbound_nodes", "outbound_nodes", "feed_dict"),
        *("DEBUG", "T_DEBUG"),
    ],
)
def test_every_name_of_the_course_is_on_the_page(name):
    assert re.search(rf"\b{name}\b", PAGE)
