"""Writes ``hooks.md``, the page of all hooks, from ``mfcore/hookspecs.py``."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from mfcore import hookspecs

PAGE = Path(__file__).with_name("hooks.md")

INTRODUCTION = """\
# Hooks

<!-- Written by `python docs/generate_hooks.py` from `mfcore/hookspecs.py`: change it there. -->

{about}

```python
import mfcore as mf


class Spy:
    @mf.hookimpl
    def mf_forward_finish(self, node, value):
        print(node, value.shape)


with mf.tracing(Spy()):
    session.run(feeds)
```
"""


def page() -> str:
    """Return the page as Markdown: for each hook its signature and what its docstring says."""
    source = inspect.getsource(hookspecs)
    tree = ast.parse(source)
    parts = [INTRODUCTION.format(about=_markdown(ast.get_docstring(tree)))]
    section = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            heading = _section(source.splitlines(), node)
            if heading != section:
                section = heading
                parts.append(f"## {section}\n")
            parts.append(f"### `{node.name}`\n\n```python\n{signature(node)}\n```\n")
            parts.append(f"{_markdown(ast.get_docstring(node))}\n")
    return "\n".join(parts)


def signature(function: ast.FunctionDef) -> str:
    """Return a function's signature as its source has it, without ``def``."""
    assert function.returns is not None
    return f"{function.name}({ast.unparse(function.args)}) -> {ast.unparse(function.returns)}"


def _section(lines: list[str], function: ast.FunctionDef) -> str:
    """Return the comment line nearest above a function that starts in the first column."""
    above = lines[: function.decorator_list[0].lineno]
    return next(line[2:] for line in reversed(above) if line.startswith("# "))


def _markdown(docstring: str | None) -> str:
    return (docstring or "").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
